"""Projections trained without some of the seen classes, and what they make of these.

In each of five folds some of the seen classes are left out of training, with all their
images, and a fifth of the images of the others. A projection trained on the rest meets
both for the first time: the left-out classes as the final projection meets unseen ones,
the left-out images as it meets new images of seen classes. Test classes take no part.

The background of rejection comes from ten folds, each without its classes alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from zeroshot.progress import progress_bar
from zeroshot.projections.base import PretrainedClasses, Projection, fitted
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
    ``class_embeddings``: (n_classes, dim_text) float32, of unit length. ``pretrained``:
    the backbone's own classes. ``hub_correction``: as for `LabelSpace`; each training
    has a space of its own.
    """

    projection: Projection
    X: NDArray[np.float32]
    y: NDArray[np.intp]
    class_embeddings: NDArray[np.float32]
    pretrained: PretrainedClasses | None
    hub_correction: float | None

    def fit(self, chosen: NDArray[np.bool_]) -> "Trained":
        """Train on some of the images, as if theirs were all the classes.

        ``chosen``: (n,) bool, true for the images to train on. The backbone's classes
        of the names of the others are left out too.
        """
        # Rows without an image are left out: some projections look at them all.
        classes, rows = np.unique(self.y[chosen], return_inverse=True)
        T, pretrained = self.class_embeddings[classes], self.pretrained
        if pretrained is not None:
            pretrained = pretrained.without(classes)
        model = fitted(clone(self.projection), self.X[chosen], rows, T, pretrained)
        space = LabelSpace.of(model, T, pretrained, self.hub_correction)
        class_of = np.full(len(self.class_embeddings), -1)
        class_of[classes] = np.arange(len(classes))
        labels = space.label_points(self.class_embeddings, class_of)
        return Trained(model, labels, space.pretrained_points)


@dataclass(frozen=True)
class Trained:
    """A projection that was trained on some of the classes.

    ``label_points``: (n_classes, dim + 1) float32, all labels in its `LabelSpace`.
    ``pretrained``: likewise the backbone's own classes that were not left out.
    """

    projection: Projection
    label_points: NDArray[np.float32]
    pretrained: NDArray[np.float32]

    def points(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points of images, of unit length or not, (n, dim) float32."""
        return self.projection.transform(X)


@dataclass(frozen=True)
class Folds:
    """Points of images that a projection had not been trained on.

    ``y``: (n,) int, class of each image. ``folds``: (n_classes,) int, fold that a class
    was left out in. ``new``: (n, dim) float32, points of the images in the fold of
    their class. ``known``: (n, dim) float32, points in the fold that left out the image
    alone, else NaN. ``image_folds``: (n,) int, that fold. ``label_points``: (n_folds,
    n_classes, dim + 1) float32, all labels in the `LabelSpace` of each. ``pretrained``:
    of each fold (n_pretrained, dim + 1) float32, the backbone's classes likewise.
    """

    y: NDArray[np.intp]
    folds: NDArray[np.intp]
    new: NDArray[np.float32]
    known: NDArray[np.float32]
    image_folds: NDArray[np.intp]
    label_points: NDArray[np.float32]
    pretrained: list[NDArray[np.float32]]


def train_on_folds(training: Training, seed: int, most: int) -> Folds:
    """Leave out a fifth of the classes and of the others' images, five times.

    ``training``: of two classes or more; with fewer than ten, as many folds as pairs of
    them. ``seed``: deals classes and images to the folds. ``most``: images whose points
    are returned, as many of each class where there are.
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
    sample = _sample(y, most, seed)
    fold_of, own_fold = folds[y[sample]], image_folds[sample]
    parts: list[tuple[NDArray[np.bool_], NDArray[np.float32]]] = []
    label_points, pretrained = [], []
    with progress_bar("calibration folds", n_folds) as advance:
        for fold in range(n_folds):
            is_new = folds[y] == fold
            is_known = ~is_new & (image_folds == fold)
            trained = training.fit(~is_new & ~is_known)
            label_points.append(trained.label_points)
            pretrained.append(trained.pretrained)
            for rows in (fold_of == fold, (fold_of != fold) & (own_fold == fold)):
                parts.append((rows, trained.points(training.X[sample[rows]])))
            advance()
    new = np.full((len(sample), label_points[0].shape[1] - 1), np.nan, np.float32)
    known = np.full_like(new, np.nan)
    for target, (chosen, points) in zip([new, known] * n_folds, parts, strict=True):
        target[chosen] = points
    labels = np.stack(label_points)
    return Folds(y[sample], folds, new, known, own_fold, labels, pretrained)


def train_background(training: Training, seed: int) -> Background:
    """Leave out a tenth of the classes, ten times; map a sample of their images.

    ``training``: of two classes or more; with fewer than twenty, as many folds as pairs
    of them. ``seed``: deals classes to the folds and draws the sample.
    """
    y, n_classes = training.y, len(training.class_embeddings)
    n_folds = min(N_BACKGROUND_FOLDS, n_classes // 2)
    folds = _deal(n_classes, n_folds, np.random.default_rng(seed))
    sample = _sample(y, BACKGROUND_SIZE, seed)
    parts = []
    with progress_bar("rejection folds", n_folds) as advance:
        for fold in range(n_folds):
            is_new = folds[y] == fold
            rows = sample[is_new[sample]]
            parts.append((rows, training.fit(~is_new).points(training.X[rows])))
            advance()
    rows, points = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(rows)
    return Background(points[order], y[rows[order]], folds)


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
