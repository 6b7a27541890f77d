"""A joint model, refined on images of one's own, and never worse for it on folds."""

import math
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.arrays import unit_rows
from zeroshot.projections.base import Float32, Floats, Int64, Integers
from zeroshot.projections.closed_form import solve
from zeroshot.projections.estimator import MomentsProjection, Rule, Rules
from zeroshot.projections.identity import JointScores
from zeroshot.projections.moments import Moments, TrainingSet
from zeroshot.projections.trained import reciprocal_ranks

__all__ = ["Joint"]

Float64 = NDArray[np.float64]

# What is tried, each kept where it is better than the one before by more than its
# standard error over classes. 0 first: the joint model as it is.
STRENGTHS = (0.0, 0.001, 0.01, 0.1, 1.0)
IMAGE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
# Where no image can be left out to choose by: every class has one at most.
UNCHECKED_IMAGE_WEIGHT = 0.5
IMAGES_PER_WORD = 1.0  # a class of n images has n / (n + this) of the weight of many
MIN_CLASSES = 6  # to choose a map on
N_FOLDS = 5
MOST_IMAGES = 2000  # that are looked at when choosing

NOT_NEGATIVE: Rule = (
    lambda v: v == "auto" or (isinstance(v, Real) and 0 <= float(v) < math.inf),
    ">= 0, or 'auto'",
)


class Joint(JointScores, MomentsProjection):
    """Keep a joint model's space, and refine it as far as that helps on folds.

    Images of unit length are mapped by ridge regression towards the identity: with x
    and t from their means over the classes (text and images lie in different corners of
    the space [2]_), and t scaled to the length that class means have,
    ``min |D|^2 + strength |x + x D - t|^2`` over D, ``D = strength (strength X'X +
    I)^-1 X'(T - X)``: Tikhonov regularisation with a prior mean [1]_. The point of a
    class with images is its text and, weighted, the mean of its images less the mean of
    all classes: so its scores stay comparable with those of labels that are text alone.

    Parameters
    ----------
    strength : float or "auto", default="auto"
        What an image counts for against the prior; 0 keeps the identity. ``"auto"``:
        the best on class-disjoint folds of the seen classes, 0 unless another is better
        by more than its standard error, or there are fewer than 6 classes.
    image_weight : float or "auto", default="auto"
        What the images of a class count for beside its text; 0 for nothing. ``"auto"``:
        the best when each image is left out of its own class; 0.5 where all classes
        have a single one.
    logit_scale, logit_bias : float or None, default=None
        As in `Identity`.

    Attributes
    ----------
    strength_, image_weight_ : float
        The values in effect.
    center_ : ndarray of shape (dim,), float32
        Mean of the class means.
    coef_ : ndarray of shape (dim, dim), float32
        D, zeros for the identity.
    class_points_ : ndarray of shape (n_classes, dim), float32
    class_shares_ : ndarray of shape (n_classes,), float32
        1: correction for hubs, where one is set, is that of the text.

    References
    ----------
    .. [1] Tarantola, "Inverse Problem Theory", SIAM 2005, section 3.2 (least squares
       with a prior mean).
    .. [2] Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal
       Contrastive Representation Learning", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> joint = Joint(strength=0, image_weight=0)
    >>> joint = joint.fit(X, np.arange(3), class_embeddings=X)
    >>> np.array_equal(joint.transform(X), X)
    True
    """

    _rules: Rules = (
        ("strength", NOT_NEGATIVE),
        ("image_weight", NOT_NEGATIVE),
        *JointScores._rules,
    )
    strength_: float
    image_weight_: float
    center_: Float32
    coef_: Float32
    class_points_: Float32
    class_shares_: Float32

    def __init__(
        self,
        *,
        strength: float | Literal["auto"] = "auto",
        image_weight: float | Literal["auto"] = "auto",
        logit_scale: float | None = None,
        logit_bias: float | None = None,
    ) -> None:
        self.strength = strength
        self.image_weight = image_weight
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias

    @property
    def choices_(self) -> dict[str, Any]:
        """What ``"auto"`` stands for: parameters of a clone that chooses nothing."""
        return {"strength": self.strength_, "image_weight": self.image_weight_}

    def fit(  # type: ignore[override]  # a joint model has no classes of its own
        self, X: Floats, y: Integers, *, class_embeddings: Floats
    ) -> Self:
        """Learn how far to refine the space, and where the classes' images lie.

        Parameters
        ----------
        X : ndarray of shape (n, dim)
            Vectors of images, of any length.
        y : ndarray of shape (n,), int
            For each image its row of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim)
            Vectors of the classes' texts.

        Returns
        -------
        self : Joint
        """
        return super().fit(X, y, class_embeddings=class_embeddings)

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
        X, y, T = super()._checked(
            X, y, class_embeddings, reset=reset, least=least, wordless=wordless
        )
        self._check_lengths(X, T)
        unit: Float32 = unit_rows(X)
        return unit, y, T

    def _learn(self, given: TrainingSet) -> None:
        moments, known = given.moments, given.known
        if not hasattr(self, "strength_"):  # chosen once, and kept for more images
            self.strength_ = self._chosen_strength(given)
            self.image_weight_ = self._chosen_weight(given)
        center, D = _map_of(moments, given.T, known, self.strength_)
        self.center_, self.coef_ = center.astype(np.float32), D.astype(np.float32)
        words = np.where(given.has_word[:, None], given.T, _mean_word(given))
        shifts = moments.means - center
        weights = self.image_weight_ * _trust(moments.counts)
        # Of a class without a word, the images are all that is known.
        weights[~given.has_word] = 1
        points = unit_rows(words) + weights[:, None] * (shifts + shifts @ D)
        self.class_points_ = unit_rows(points).astype(np.float32)
        self.class_shares_ = np.ones(len(points), np.float32)

    def _map(self, X: Float32) -> Float32:
        points: Float32 = unit_rows(X)
        if self.coef_.any():
            points += (points - self.center_) @ self.coef_
        return points

    def _chosen_strength(self, given: TrainingSet) -> float:
        """Return the best strength on class-disjoint folds."""
        if self.strength != "auto":
            return float(self.strength)
        known = given.known
        if len(known) < MIN_CLASSES:
            return 0.0
        folds = np.random.default_rng(0).permutation(np.arange(len(known)) % N_FOLDS)
        parts: dict[float, list[Float64]] = {value: [] for value in STRENGTHS}
        for fold in range(N_FOLDS):
            new = known[folds == fold]
            is_new = np.isin(given.y, new)
            rows = np.flatnonzero(is_new)
            rows = rows[:: max(1, len(rows) * N_FOLDS // MOST_IMAGES)]
            X, truth = given.X[rows], np.searchsorted(known, given.y[rows])
            rest = given.moments.without(
                given.X[is_new], given.y[is_new], normalize=False
            )
            others = known[folds != fold]
            for value in STRENGTHS:
                center, D = _map_of(rest, given.T, others, value)
                points = X + (X - center.astype(np.float32)) @ D.astype(np.float32)
                # Among all labels: of a few left out alone, most are right anyway.
                scores = (points @ given.T[known].T).astype(np.float32)
                ranks = reciprocal_ranks(scores, truth)
                parts[value].append(ranks[folds == fold])
        return _best({value: np.concatenate(part) for value, part in parts.items()})

    def _chosen_weight(self, given: TrainingSet) -> float:
        """Return the best weight when each image is left out of its own class."""
        if self.image_weight != "auto":
            return float(self.image_weight)
        known, counts = given.known, given.moments.counts
        several = known[counts[known] > 1]
        if len(known) < 2:
            return 0.0
        if len(several) < 2:
            return UNCHECKED_IMAGE_WEIGHT
        rows = np.flatnonzero(np.isin(given.y, several))
        rows = rows[:: max(1, len(rows) // MOST_IMAGES)]
        task = _LeftOut.of(given, known, rows)
        return _best({value: task.ranks(value) for value in IMAGE_WEIGHTS})


class _LeftOut:
    """Images of seen classes, each scored as if it had not been learnt from."""

    def __init__(self, X: Float32, truth: Any, T: Float32, moments: Moments) -> None:
        self.X, self.truth, self.T = X, truth, T
        self.trust = _trust(moments.counts)
        self.means = moments.means
        n = moments.counts[truth][:, None]
        self.own_trust = _trust(n - 1)
        self.own = (moments.means[truth] * n - X) / (n - 1)
        # The mean of all class means moves with that of the image's own class.
        self.center = self.means.mean(axis=0)
        self.centers = self.center + (self.own - self.means[truth]) / len(T)

    @classmethod
    def of(cls, given: TrainingSet, known: Any, rows: Any) -> "_LeftOut":
        moments = given.moments
        some = Moments(moments.counts[known], moments.sums[known], moments.gram)
        truth = np.searchsorted(known, given.y[rows])
        return cls(given.X[rows], truth, given.T[known], some)

    def ranks(self, weight: float) -> Float64:
        """Return the mean of 1 / rank of each class, (n_classes,)."""
        trust = weight * self.trust
        lengths = np.linalg.norm(
            self.T + trust[:, None] * (self.means - self.center), axis=1
        )
        along = np.einsum("ij,ij->i", self.X, self.centers)[:, None]
        scores = self.X @ self.T.T + trust * (self.X @ self.means.T - along)
        scores /= lengths
        own = self.T[self.truth] + weight * self.own_trust * (self.own - self.centers)
        rows = np.arange(len(self.X))
        scores[rows, self.truth] = np.einsum("ij,ij->i", self.X, unit_rows(own))
        found = reciprocal_ranks(scores.astype(np.float32), self.truth)
        with_images: Float64 = found[np.unique(self.truth)]
        return with_images


def _best(results: dict[float, Float64]) -> float:
    """Return the value that is kept, of results (n_classes,) of each."""
    kept, best = next(iter(results.items()))
    for value, found in results.items():
        gain = found - best
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            kept, best = value, found
    return kept


def _map_of(
    moments: Moments, T: Float32, known: NDArray[np.intp], strength: float
) -> tuple[Float64, Float64]:
    """Return the mean of the class means, and D of `Joint`."""
    dim = moments.sums.shape[1]
    with_images = moments.counts > 0
    center: Float64 = moments.means[with_images].mean(axis=0)
    if not strength or len(known) < 2:
        return center, np.zeros((dim, dim))
    counts, sums = moments.counts[known], moments.sums[known]
    n, total = moments.counts.sum(), moments.sums.sum(axis=0)
    cross = np.outer(center, total)
    gram = np.tril(moments.gram) + np.tril(moments.gram, -1).T
    gram = gram - cross - cross.T + n * np.outer(center, center)
    shifts = sums / counts[:, None] - center
    words = T[known] - T[known].mean(axis=0, dtype=np.float64)
    words *= np.linalg.norm(shifts) / max(float(np.linalg.norm(words)), 1e-12)
    wanted = (shifts * counts[:, None]).T @ words
    return center, solve(gram, 1 / strength, wanted - gram)


def _mean_word(given: TrainingSet) -> Float64:
    mean: Float64 = given.T[given.has_word].mean(axis=0, dtype=np.float64)
    return mean


def _trust(counts: Any) -> Float64:
    """Return the share of the weight of many images that so many have."""
    share: Float64 = counts / (counts + IMAGES_PER_WORD)
    return share
