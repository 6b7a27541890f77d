"""What is learnt from: the backbone's own classes, fine-tuning, choices on folds.

In: a backbone and features with labels. Out: what a projection is trained on, or the
projection itself. To add a source of training, write a module beside these.
"""

# For the classifier; no user imports them.
from zeroshot.training.fine_tuning import check_fine_tuning as check_fine_tuning
from zeroshot.training.learning import learn as learn
from zeroshot.training.pretrained import learn_from_head as learn_from_head
from zeroshot.training.targets import Targets as Targets
