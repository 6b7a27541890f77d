"""The contract of a projection: images and labels into one space."""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zeroshot.arrays import unit_rows

__all__ = [
    "Float32",
    "Floats",
    "Int64",
    "Integers",
    "PretrainedClasses",
    "Projection",
    "SupportsClassPoints",
    "SupportsLabels",
    "SupportsLeavingOut",
    "SupportsMoments",
    "SupportsPartialFit",
    "fitted",
    "label_points",
]

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class PretrainedClasses:
    """Classes that the backbone was trained on, as a projection learns from them.

    Attributes
    ----------
    class_embeddings : ndarray of shape (m, dim_text), float32
        Their word vectors, of unit length.
    weights : ndarray of shape (m, dim_visual), float32
        Their rows in the backbone's own classifier.
    bias : ndarray of shape (m,), float32
        ``features @ weights.T + bias`` are its logits.
    class_of : ndarray of shape (m,), int
        Row of the user's class of the same name, -1 for none: what is chosen on folds
        leaves both out together.
    """

    class_embeddings: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    class_of: NDArray[np.intp]

    @property
    def rows(self) -> NDArray[np.float32]:
        """Visual prototypes: the weights, centred and of unit length.

        A softmax does not see what all of its rows have in common.
        """
        rows: NDArray[np.float32] = unit_rows(self.weights - self.weights.mean(axis=0))
        return rows

    def without(self, classes: Integers) -> Self | None:
        """Return the same beside some of the user's classes, numbered anew.

        Those that go by the name of another class of the user's are left out.

        Parameters
        ----------
        classes : ndarray of int
            Rows of the user's classes that stay, sorted.

        Returns
        -------
        pretrained : PretrainedClasses or None
            None where none is left.
        """
        kept = (self.class_of < 0) | np.isin(self.class_of, classes)
        if not kept.any():
            return None
        place = np.searchsorted(classes, self.class_of[kept])
        class_of = np.where(self.class_of[kept] < 0, -1, place)
        parts = self.class_embeddings[kept], self.weights[kept], self.bias[kept]
        return type(self)(*parts, class_of)


@runtime_checkable
class Projection(Protocol):
    """A scikit-learn estimator that maps visual features to points beside labels.

    Implementations inherit ``sklearn.base.BaseEstimator``: parameters are stored
    unchanged by ``__init__`` and are searchable as ``projection__name``. One whose
    `fit` takes ``pretrained`` (`PretrainedClasses` or None) learns from the backbone's
    own classes too, and may then be given no image. What else one may have:
    `SupportsLabels`, `SupportsLeavingOut`, `SupportsClassPoints`, `SupportsPartialFit`,
    and attributes: ``hub_correction``, the weight that suits it (0.5 without; see
    `zeroshot.scoring.label_space`), and ``temperature``, what scores are divided by
    (0.07), ``one_space``, true where features and class embeddings must lie in one
    space already, as those of a joint model do; after `fit`, ``choices_``, parameters
    under which a clone makes the same choices without looking (on folds nothing is
    chosen anew).
    """

    def fit(self, X: Floats, y: Integers, *, class_embeddings: Floats) -> Self:
        """Learn the map.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
            Visual features of the training images.
        y : ndarray of shape (n,), int
            For each image its row of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim_text)
            One vector of unit length per seen class.

        Returns
        -------
        self : Projection
        """

    def transform(self, X: Floats) -> Float32:
        """Map features to points.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
            ``n`` may be 0.

        Returns
        -------
        points : ndarray of shape (n, dim), float32
            Not normalised; compare by cosine. ``dim`` is ``dim_text``, unless the
            projection `SupportsLabels`.
        """


@runtime_checkable
class SupportsLabels(Protocol):
    """A projection that maps labels too; without, they stay where their words are."""

    def transform_labels(self, class_embeddings: Floats) -> Float32:
        """Map word vectors to points.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length; ``m`` may be 0. A point depends on its own row only.

        Returns
        -------
        points : ndarray of shape (m, dim), float32
            Compared by cosine with what `Projection.transform` returns.
        """


@runtime_checkable
class SupportsLeavingOut(Protocol):
    """A projection that maps labels as if it had not learnt from some classes."""

    def transform_labels_without(
        self, class_embeddings: Floats, left_out: Iterable[Integers]
    ) -> Iterator[Float32]:
        """Map word vectors to points, each time without some of the classes.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length.
        left_out : iterable of ndarray of int
            Classes, as rows of what `fit` got, that are left out together; so are the
            backbone's classes of their names.

        Yields
        ------
        points : ndarray of shape (m, dim), float32
            What `SupportsLabels.transform_labels` would give.
        """


@runtime_checkable
class SupportsClassPoints(Protocol):
    """A projection that knows its classes by their images as well as by their words.

    Attributes
    ----------
    class_points_ : ndarray of shape (n_classes, dim), float32
        After `fit`: where the images of each class are expected. The point of a label
        that names the class, instead of what `SupportsLabels.transform_labels` gives.

    It may have ``class_shares_``, (n_classes,) float32: what the word counts for in
    each point, in [0, 1].
    """

    class_points_: Float32


@runtime_checkable
class SupportsPartialFit(Protocol):
    """A projection that learns from more images later, as if from all at once."""

    def partial_fit(
        self,
        X: Floats,
        y: Integers,
        *,
        class_embeddings: Floats,
        places: Integers,
        pretrained: PretrainedClasses | None,
    ) -> Self:
        """Learn from further images.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
        y : ndarray of shape (n,), int
            For each image its row of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim_text)
            Of all classes, those before and new ones.
        places : ndarray of shape (n_before,), int
            Row of ``class_embeddings`` of each class before, in their order.
        pretrained : PretrainedClasses or None
            As in `fit`.

        Returns
        -------
        self : Projection
        """


@runtime_checkable
class SupportsMoments(Protocol):
    """A projection that learns from sums over images, wherever the images lie."""

    normalize: bool

    def fit_moments(
        self,
        moments: Any,
        *,
        class_embeddings: Floats,
        images: tuple[Floats, Integers] | None,
        pretrained: PretrainedClasses | None,
    ) -> Self:
        """Learn from sums over images.

        With numbers for its parameters the same as `Projection.fit` on these images, to
        rounding. `DeViSE` leaves its linear map where it starts, as with ``epochs=0``.

        Parameters
        ----------
        moments : zeroshot.projections.moments.Moments
            Of the classes that are the rows of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim_text)
        images : tuple of ndarray of shape (k, dim_visual) and (k,), or None
            Some of the images, and the row of each, for what ``"auto"`` chooses by
            looking at images. None: it takes its defaults.
        pretrained : PretrainedClasses or None
            As in `Projection.fit`.

        Returns
        -------
        self : Projection
        """

    def merge(
        self,
        other: Any,
        *,
        class_embeddings: Floats,
        places: Integers,
        pretrained: PretrainedClasses | None,
    ) -> Self:
        """Learn from the images of another projection, too.

        Parameters
        ----------
        other : Projection
            Fitted, with the same parameters, on all classes of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim_text)
        places : ndarray of shape (n_before,), int
            Row of ``class_embeddings`` of each class of this one.
        pretrained : PretrainedClasses or None
            As in `Projection.fit`.

        Returns
        -------
        self : Projection
        """


def fitted(
    projection: Projection,
    X: Floats,
    y: Integers,
    class_embeddings: Floats,
    pretrained: PretrainedClasses | None,
) -> Projection:
    """Fit a projection, on the backbone's classes too where it can learn from them.

    Parameters
    ----------
    projection : Projection
    X, y, class_embeddings : ndarray
        As for `Projection.fit`.
    pretrained : PretrainedClasses or None

    Returns
    -------
    projection : Projection
        The same, fitted.
    """
    more = {"pretrained": pretrained} if learns_from_pretrained(projection) else {}
    return projection.fit(X, y, class_embeddings=class_embeddings, **more)


def learns_from_pretrained(projection: Projection) -> bool:
    """Tell whether a projection's `fit` takes the backbone's own classes."""
    return "pretrained" in inspect.signature(projection.fit).parameters


def label_points(projection: Projection, class_embeddings: Float32) -> Float32:
    """Return labels as points of unit length in the space of a fitted projection.

    Parameters
    ----------
    projection : Projection
    class_embeddings : ndarray of shape (m, dim_text), float32
        Of unit length.

    Returns
    -------
    points : ndarray of shape (m, dim), float32
    """
    if not isinstance(projection, SupportsLabels):
        return class_embeddings
    points = np.asarray(projection.transform_labels(class_embeddings), np.float32)
    unit: Float32 = unit_rows(points)
    return unit
