# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["zeroshot"]
# ///
"""Choose `seen_penalty` without looking at the unseen classes.

Seen labels win too often against unseen ones. How much to subtract from their scores
can be learnt from the training classes alone: leave some of them out, call these
unseen, and take the penalty with the best harmonic mean H. Here with drawn shapes,
offline.
"""

import numpy as np

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.features import extract_features
from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.splits import ZeroShotSplit, zero_shot_splits

PENALTIES = np.linspace(0, 0.5, 26)

images, labels = make_shapes(10, colors=["red", "green", "blue", "yellow"])
# Once for all: every fit below works on the same features.
X = extract_features(images, ColorHOG()).matrix
embeddings = Attributes(*shape_attributes())


def measure(X: np.ndarray, y: np.ndarray, split: ZeroShotSplit) -> list[list[float]]:
    """Return seen and unseen per-class accuracy and H, for each penalty."""
    clf = ZeroShotClassifier(None, embeddings, random_state=0)
    clf.fit(X[split.train], y[split.train])
    candidates = [*split.seen.tolist(), *split.unseen.tolist()]
    rows = []
    for penalty in PENALTIES:
        clf.set_params(seen_penalty=float(penalty))
        seen, unseen = (
            per_class_accuracy(y[part], clf.predict(X[part], candidates) == y[part])
            for part in (split.seen_test, split.unseen_test)
        )
        rows.append([seen, unseen, harmonic_mean(seen, unseen)])
    return rows


(outer,) = zero_shot_splits(labels, n_splits=1)
# The inner splits see nothing but images of the seen classes.
X_seen, y_seen = X[outer.train], labels[outer.train]
inner = zero_shot_splits(y_seen, n_splits=2)
h = np.mean([measure(X_seen, y_seen, split) for split in inner], axis=0)[:, 2]
best = int(h.argmax())

result = measure(X, labels, outer)
print(f"{'seen_penalty':>12}  {'seen':>5}  {'unseen':>6}  {'H':>5}")
for row in (0, best):
    seen, unseen, mean = result[row]
    print(f"{PENALTIES[row]:12.2f}  {seen:5.2f}  {unseen:6.2f}  {mean:5.2f}")
