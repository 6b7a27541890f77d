"""Projections trained without some of the seen classes, and what they make of these.

In each of five folds some of the seen classes are left out of training, with all their
images, and a fifth of the images of the others. A projection trained on the rest meets
both for the first time: the left-out classes as the final projection meets unseen ones,
the left-out images as it meets new images of seen classes. Test classes take no part.

The background of rejection comes from ten folds, each without its classes alone.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from zeroshot.progress import progress_bar
from zeroshot.projections.base import Projection
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.rejection import Background

__all__ = ["Folds", "Training", "train_background", "train_on_folds"]

N_FOLDS = 5
# Without a fifth of the classes, images of new ones score too low, and more is accepted
# than the stated rate: up to 5 points on real data, 2 with ten folds (docs/scores.md).
# The seen penalty wants the larger folds: it depends on how many classes are new.
N_BACKGROUND_FOLDS = 10
# The threshold of rejection is a quantile of these: 0.05 comes out as 0.05 +- 0.007.
BACKGROUND_SIZE = 1000


@dataclass(frozen=True)
class Training:
    """Images of training, and how a projection is trained on some of them.

    ``projection``: cloned for each training. ``X``: (n, dim_visual) float32, features.
    ``y``: (n,) int, row of ``class_embeddings`` of each image; every row has an image.
    ``class_embeddings``: (n_classes, dim_text) float32, of unit length.
    ``hub_correction``: as for `LabelSpace`; each training has a space of its own.
    """

    projection: Projection
    X: NDArray[np.float32]
    y: NDArray[np.intp]
    class_embeddings: NDArray[np.float32]
    hub_correction: float

    def fit(self, chosen: NDArray[np.bool_]) -> tuple[LabelSpace, Projection]:
        """Train on some of the images, as if theirs were all the classes.

        ``chosen``: (n,) bool, true for the images to train on.
        """
        # Rows without an image are left out: some projections look at them all.
        classes, rows = np.unique(self.y[chosen], return_inverse=True)
        space = LabelSpace(self.class_embeddings[classes], self.hub_correction)
        fitted = clone(self.projection).fit(
            self.X[chosen], rows, class_embeddings=space.seen
        )
        return space, fitted


@dataclass(frozen=True)
class Folds:
    """Points of images that a projection had not been trained on.

    ``y``: (n,) int, class of each image. ``folds``: (n_classes,) int, fold that a class
    was left out in. ``new``: (n, dim_text) float32, points of the images in the fold of
    their class. ``known``: (n, dim_text) float32, points in the fold that left out the
    image alone, else NaN. ``image_folds``: (n,) int, that fold. ``label_points``:
    (n_folds, n_classes, dim_text + 1) float32, all labels in the `LabelSpace` of each.
    """

    y: NDArray[np.intp]
    folds: NDArray[np.intp]
    new: NDArray[np.float32]
    known: NDArray[np.float32]
    image_folds: NDArray[np.intp]
    label_points: NDArray[np.float32]

    def sample(self, n: int, seed: int) -> "Folds":
        """Return the same of ``n`` images, as many of each class where there are."""
        if len(self.y) <= n:
            return self
        rows = _sample(self.y, n, seed)
        names = ("y", "new", "known", "image_folds")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def train_on_folds(training: Training, seed: int) -> Folds:
    """Leave out a fifth of the classes and of the others' images, five times.

    ``training``: of two classes or more; with fewer than ten, as many folds as pairs of
    them. ``seed``: deals classes and images to the folds.
    """
    y, T = training.y, training.class_embeddings
    random = np.random.default_rng(seed)
    n_folds = min(N_FOLDS, len(T) // 2)
    folds = _deal(len(T), n_folds, random)
    image_folds = np.full(len(y), -1)
    for label in range(len(T)):
        rows = np.flatnonzero(y == label)
        if len(rows) > 1:  # a single image is never left out of its class
            image_folds[rows] = _deal(len(rows), n_folds, random)
    new = np.empty((len(y), T.shape[1]), np.float32)
    known = np.full_like(new, np.nan)
    label_points = np.empty((n_folds, len(T), T.shape[1] + 1), np.float32)
    with progress_bar("calibration folds", n_folds) as advance:
        for fold in range(n_folds):
            is_new = folds[y] == fold
            is_known = ~is_new & (image_folds == fold)
            space, fitted = training.fit(~is_new & ~is_known)
            label_points[fold] = space.label_points(T)
            new[is_new] = fitted.transform(training.X[is_new])
            known[is_known] = fitted.transform(training.X[is_known])
            advance()
    return Folds(y, folds, new, known, image_folds, label_points)


def train_background(training: Training, seed: int) -> Background:
    """Leave out a tenth of the classes, ten times; map a sample of their images.

    ``training``: of two classes or more; with fewer than twenty, as many folds as pairs
    of them. ``seed``: deals classes to the folds and draws the sample.
    """
    y, T = training.y, training.class_embeddings
    n_folds = min(N_BACKGROUND_FOLDS, len(T) // 2)
    folds = _deal(len(T), n_folds, np.random.default_rng(seed))
    sample = _sample(y, BACKGROUND_SIZE, seed)
    points = np.empty((len(sample), T.shape[1]), np.float32)
    with progress_bar("rejection folds", n_folds) as advance:
        for fold in range(n_folds):
            is_new = folds[y] == fold
            _, fitted = training.fit(~is_new)
            rows = is_new[sample]
            points[rows] = fitted.transform(training.X[sample[rows]])
            advance()
    return Background(points, y[sample], folds)


def _sample(y: NDArray[np.intp], n: int, seed: int) -> NDArray[np.intp]:
    """Return rows of some images, as many of each class where there are as many."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(y))
    nth: dict[int, int] = {}
    turn = np.empty(len(y), np.intp)
    for row in order:
        turn[row] = nth[y[row]] = nth.get(y[row], -1) + 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:n])


def _deal(n: int, n_folds: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Return a fold for each of n things, the folds as equal as can be."""
    dealt: NDArray[np.intp] = random.permutation(np.arange(n) % n_folds)
    return dealt
