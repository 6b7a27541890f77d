"""What our projections share: checked input and prepared features."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from zeroshot.arrays import validated
from zeroshot.projections.base import (
    Float32,
    Floats,
    Int64,
    Integers,
    PretrainedClasses,
)
from zeroshot.projections.moments import (
    BLOCK_ROWS,
    TINY,
    Moments,
    TrainingSet,
    roots,
)
from zeroshot.projections.operations import Operations, traced_unit_rows

__all__ = ["COUNT", "POSITIVE", "MomentsProjection", "ProjectionEstimator", "Rules"]

Rule = tuple[Callable[[Any], object], str]
Rules = tuple[tuple[str, Rule], ...]
"""For each parameter: is a value right, and what does a message say is expected?"""

POSITIVE: Rule = (lambda v: isinstance(v, Real) and 0 < float(v) < math.inf, "> 0")
COUNT: Rule = (
    lambda v: isinstance(v, int | np.integer) and v >= 1,
    "as a whole number >= 1",
)


class ProjectionEstimator(BaseEstimator):
    """Base class: checks the input and prepares the features.

    Prepared are signed square roots, scaled to unit length and centred on their mean in
    training (`zeroshot.projections.moments`). On held-out seen classes that lifts ridge
    from 0.21 to 0.28 (Tiny-ImageNet) and from 0.33 to 0.50 (Caltech; docs/defaults.md):
    pooled ReLU features are skewed, and all point into one corner of the space.
    Subclasses write `_fit` and `_map`, and the rules of their parameters; ``__init__``
    must store ``normalize``.

    Attributes
    ----------
    mean_ : ndarray of shape (dim_visual,), float32
        Mean of the roots of the training features; zeros without ``normalize``.
    scale_ : float
        What the centred roots are multiplied with: their mean square becomes 1.
    n_features_in_ : int
        ``dim_visual``.
    """

    hub_correction = 0.5
    temperature = 0.07
    normalize: bool
    mean_: Float32
    scale_: float
    n_features_in_: int
    _rules: Rules

    def fit(self, X: Floats, y: Integers, *, class_embeddings: Floats) -> Self:
        """Learn the map.

        ``X``: (n, dim_visual), visual features of the training images. ``y``: (n,) int,
        for each image its row of ``class_embeddings``. ``class_embeddings``:
        (n_classes, dim_text), one vector of unit length per seen class. Raises
        ValueError if shapes do not fit together, a value is not finite, ``y`` is not a
        row of ``class_embeddings``, or a parameter is out of range.
        """
        X, y, T = self._checked(X, y, class_embeddings)
        total = np.zeros(X.shape[1])
        for rows in gen_batches(len(X), BLOCK_ROWS) if self.normalize else ():
            total += roots(X[rows]).sum(axis=0, dtype=np.float64)
        empty = np.empty((0, 0), np.float32)
        sums = Moments(np.bincount(y), total[None], empty)
        center = sums.center(normalize=self.normalize, flat=False)
        self.mean_, self.scale_ = center
        self._fit(X, y, T)
        return self

    def _checked(
        self,
        X: Floats,
        y: Integers,
        class_embeddings: Floats,
        *,
        reset: bool = True,
        least: int = 1,
        wordless: bool = False,
    ) -> tuple[Float32, Int64, Float32]:
        """Return what is learnt from, checked.

        ``least``: images there must be. ``wordless``: whether a class may have a row of
        NaN for a word vector.
        """
        X = validate_data(
            self, X, dtype=np.float32, reset=reset, ensure_min_samples=least
        )
        T = check_array(
            class_embeddings,
            dtype=np.float32,
            input_name="class_embeddings",
            ensure_min_samples=least,
            ensure_all_finite="allow-nan" if wordless else True,
        )
        is_nan = np.isnan(T)
        if (is_nan.any(axis=1) != is_nan.all(axis=1)).any():
            raise ValueError(
                "Expected rows of class_embeddings that are finite, or all NaN for a "
                "class without a word vector. Input class_embeddings contains NaN in a "
                "part of a row."
            )
        y = np.asarray(y)
        check_consistent_length(X, y)
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"Expected y as row numbers of class_embeddings, shape (n,), int. Got "
                f"shape {y.shape}, {y.dtype}."
            )
        if len(y) and (y.min() < 0 or y.max() >= len(T)):
            raise ValueError(
                f"Expected y within 0..{len(T) - 1}, the rows of class_embeddings. Got "
                f"{y.min()}..{y.max()}."
            )
        self.check_parameters()
        return X, y.astype(np.int64), T

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        for name, (fits, expected) in self._rules:
            value = getattr(self, name)
            try:
                is_right = fits(value)
            except TypeError:  # of a kind that cannot be compared
                is_right = False
            if not is_right:
                raise ValueError(f"Expected {name} {expected}. Got {value!r}.")

    def transform(self, X: Floats) -> Float32:
        """Map features to points, beside those of labels.

        ``X``: (n, dim_visual), ``n`` may be 0. Returns points (n, dim) float32: not
        normalised; compare by cosine. Raises NotFittedError before `fit`, ValueError if
        ``X`` has another width than in `fit`, or holds NaN or infinity.
        """
        check_is_fitted(self)
        X = validated(self, X, least=0)
        return self._map(self._prepare(X))

    def _prepare(self, X: Float32) -> Float32:
        """Return roots of unit length less their mean in training, scaled."""
        if not self.normalize or len(X) == 0:
            return X
        prepared = roots(X)
        prepared -= self.mean_
        prepared *= np.float32(self.scale_)
        return prepared

    def traced(self, X: Any, operations: Operations) -> Any:
        """Do what `transform` does, in other operations than NumPy's.

        See `zeroshot.projections.operations.SupportsTracing`.
        """
        check_is_fitted(self)
        if self.normalize:
            X = X / operations.sqrt(operations.absolute(X) + TINY)
            X = traced_unit_rows(X, operations) - self.mean_
            X = X * np.float32(self.scale_)
        return self._traced_map(X, operations)

    def _traced_map(self, X: Any, operations: Operations) -> Any:
        """Do what `_map` does; here for one that has operators alone."""
        return self._map(X)

    @abstractmethod
    def _fit(self, X: Float32, y: Int64, T: Float32) -> None:
        """Learn from raw features, to be prepared; ``T`` are the class embeddings."""

    @abstractmethod
    def _map(self, X: Float32) -> Float32:
        """Map prepared features."""


class MomentsProjection(ProjectionEstimator):
    """Base class of those that are found from sums over the images.

    They learn from the backbone's own classes too, and from more images later.
    Subclasses write `_learn` and `_map`.

    Attributes
    ----------
    counts_, sums_, gram_ : ndarray
        `zeroshot.projections.moments.Moments` of the images so far.
    """

    counts_: Int64
    sums_: Any
    gram_: Float32

    def fit(
        self,
        X: Floats,
        y: Integers,
        *,
        class_embeddings: Floats,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn the map, as `ProjectionEstimator.fit`.

        ``pretrained``: the backbone's own classes, to learn from too; then there may be
        no image.
        """
        self._forget()
        least = 1 if pretrained is None else 0
        X, y, T = self._checked(X, y, class_embeddings, least=least, wordless=True)
        moments = Moments.of(X, y, len(T), normalize=self.normalize)
        return self._learn_from(TrainingSet(moments, X, y, T, pretrained))

    def partial_fit(
        self,
        X: Floats,
        y: Integers,
        *,
        class_embeddings: Floats,
        places: Integers,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn from further images; see `zeroshot.projections.SupportsPartialFit`."""
        check_is_fitted(self)
        X, y, T = self._checked(X, y, class_embeddings, reset=False, wordless=True)
        more = Moments.of(X, y, len(T), normalize=self.normalize)
        moments = self._moments.with_more(more, self._checked_places(places, len(T)))
        return self._learn_from(TrainingSet(moments, X, y, T, pretrained))

    def fit_moments(
        self,
        moments: Moments,
        *,
        class_embeddings: Floats,
        images: tuple[Floats, Integers] | None = None,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn from sums over images; see `zeroshot.projections.SupportsMoments`."""
        self._forget()
        dim = len(moments.gram)
        if images is None:
            images = np.empty((0, dim), np.float32), np.empty(0, np.int64)
        X, y, T = self._checked(*images, class_embeddings, least=0, wordless=True)
        if moments.counts.shape != (len(T),) or X.shape[1] != dim:
            raise ValueError(
                f"Expected sums over {len(T)} classes, the rows of class_embeddings, "
                f"and images of {dim} features. Got sums over {len(moments.counts)} "
                f"classes, and images of {X.shape[1]} features."
            )
        self._begin_with_moments()
        return self._learn_from(TrainingSet(moments, X, y, T, pretrained))

    def merge(
        self,
        other: "MomentsProjection",
        *,
        class_embeddings: Floats,
        places: Integers,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn what another did, too; see `zeroshot.projections.SupportsMoments`."""
        check_is_fitted(self)
        check_is_fitted(other)
        n_features = self.n_features_in_
        if (other.n_features_in_, other.normalize) != (n_features, self.normalize):
            raise ValueError(
                f"Expected a projection of {n_features} features, normalize="
                f"{self.normalize}. Got one of {other.n_features_in_}, normalize="
                f"{other.normalize}. Fit both alike."
            )
        nothing = np.empty((0, n_features), np.float32), np.empty(0, np.int64)
        X, y, T = self._checked(
            *nothing, class_embeddings, reset=False, least=0, wordless=True
        )
        if len(other.counts_) != len(T):
            raise ValueError(
                f"Expected another projection of all {len(T)} classes of "
                f"class_embeddings. Got one of {len(other.counts_)}."
            )
        places = self._checked_places(places, len(T))
        moments = self._moments.with_more(other._moments, places)
        return self._learn_from(TrainingSet(moments, X, y, T, pretrained))

    @property
    def _moments(self) -> Moments:
        return Moments(self.counts_, self.sums_, self.gram_)

    def _forget(self) -> None:
        """Forget what an earlier fit has chosen: it is chosen anew."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _begin_with_moments(self) -> None:
        """Decide what needs the images themselves, of which there is a sample only."""

    def _checked_places(self, places: Integers, n: int) -> NDArray[np.intp]:
        """Return the row, of n, of each class before; refuse what is none."""
        before, places = len(self.counts_), np.asarray(places)
        if not (
            places.shape == (before,)
            and np.issubdtype(places.dtype, np.integer)
            and len(np.unique(places)) == len(places)
            and np.isin(places, np.arange(n)).all()
        ):
            raise ValueError(
                f"Expected places as different rows of class_embeddings (0..{n - 1}), "
                f"one for each of the {before} classes before. Got "
                f"{places.tolist()!r}."
            )
        return places.astype(np.intp)

    def _learn_from(self, given: TrainingSet) -> Self:
        n_features, pretrained = given.X.shape[1], given.pretrained
        if pretrained is not None and pretrained.weights.shape[1] != n_features:
            raise ValueError(
                f"Expected a classifier of the features that are learnt from, of "
                f"length {n_features}. Got one of features of length "
                f"{pretrained.weights.shape[1]}. Give that of the same backbone."
            )
        if not given.has_word[given.moments.counts == 0].all():
            raise ValueError(
                "Expected images of each class without a word vector (NaN). Got a "
                "class that has neither."
            )
        if pretrained is None and not given.has_word.any():
            raise ValueError(
                "Expected a class with a word vector. Got class_embeddings of NaN."
            )
        self._learn(self._take(given))
        return self

    def _take(self, given: TrainingSet) -> TrainingSet:
        """Keep the sums of roots; return the same with those of prepared features."""
        self.counts_, self.sums_, self.gram_ = vars(given.moments).values()
        center = given.moments.center(
            normalize=self.normalize, flat=given.pretrained is not None
        )
        self.mean_, self.scale_ = center
        return replace(given, moments=given.moments.centred(*center))

    @abstractmethod
    def _learn(self, given: TrainingSet) -> None:
        """Learn from sums of prepared features.

        The images are raw, for what is chosen on folds.
        """
