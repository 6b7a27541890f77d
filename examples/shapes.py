# /// script
# requires-python = ">=3.11.4,<3.14"
# dependencies = ["zeroshot"]
# ///
"""Train on some coloured shapes, then name shapes that had no training image.

Offline, in seconds: the images are drawn, and words are described by attributes.
"""

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes

UNSEEN = ["blue ring", "green cross", "red star"]

images, labels = make_shapes(10, random_state=0)
held_out = [label in UNSEEN for label in labels]
train = [not out for out in held_out]

clf = ZeroShotClassifier("color-hog", Attributes(*shape_attributes()), random_state=0)
clf.fit(images[train], labels[train])
print(f"Trained on {len(clf.classes_)} labels; never on {', '.join(UNSEEN)}.")

accuracy = clf.score(images[held_out], labels[held_out], candidate_labels=UNSEEN)
print(f"Right among the {len(UNSEEN)} unseen labels: {accuracy:.2f}")

everything = sorted(set(labels.tolist()))
first = clf.rank(images[held_out][:1], everything, k=3)[0]
print(f"A {labels[held_out][0]} among all {len(everything)} labels:")
for candidate in first:
    seen = "seen" if candidate.seen else "never seen"
    print(f"  {candidate.label:12} {candidate.score:.3f}  {seen}")
