"""What is learnt from: the backbone's own classes, fine-tuning, choices on folds.

In: a backbone and features with labels. Out: what a projection is trained on, or the
projection itself. To add a source of training, write a module beside these.
"""
