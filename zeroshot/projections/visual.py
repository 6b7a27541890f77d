"""From words to visual prototypes: a map of labels into the space of images."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs
from sklearn.utils.validation import check_is_fitted

from zeroshot.arrays import rows_times, unit_rows
from zeroshot.projections.base import Float32, Floats, Int64, Integers
from zeroshot.projections.closed_form import solve
from zeroshot.projections.estimator import POSITIVE, MomentsProjection, Rules
from zeroshot.projections.moments import Moments, TrainingSet
from zeroshot.projections.trained import reciprocal_ranks

__all__ = ["Visual", "VisualRules"]

Float64 = NDArray[np.float64]

# What is tried on folds, the defaults first: the first is kept unless another is better
# by more than its standard error over classes.
GAMMAS, ALPHAS, WEIGHTS = (2.0, 1.0, 4.0), (0.1, 0.03, 0.3), (1.0, 0.1, 10.0)
MIN_CLASSES = 6  # of the user's own, to choose on
MOST_IMAGES = 2000  # that are looked at when choosing
MOST_ROWS = 6000  # prototypes that are learnt from: their kernel is inverted, 2 s
MOST_TO_CHOOSE = 2500  # above so many rows the defaults are taken
# The word counts as much as so many images, and for more where it has a near relative
# among the other prototypes: this over the variance of the prediction, at least 1.
IMAGES_PER_WORD = 0.5

AUTO = (lambda v: v == "auto" or POSITIVE[0](v), "> 0, or 'auto'")
VisualRules: Rules = (
    ("gamma", AUTO),
    ("alpha", AUTO),
    ("pretrained_weight", AUTO),
)


class Visual(MomentsProjection):
    """Kernel ridge regression from word vectors to visual prototypes.

    Images stay where their (prepared) features are, labels are mapped to them: there a
    label is near fewer things than an image is among words, which are hubs [1]_ [2]_.
    Prototypes of known classes are the rows of the backbone's own classifier and, for
    classes with images, their mean and their row of a linear discriminant, each of unit
    length. The prototype of a word is ``k(t)' (K + N)^-1 P`` with the kernel
    ``exp(-gamma ||t - s||^2)``, prototypes P, and noise N: ``alpha`` for a row of the
    classifier, the larger of that and 1 / images for other classes.

    A class of n images lies at ``kappa v + n p``: v is what the other classes predict
    for its word, p its own prototype, and kappa the images that a word is worth.

    Parameters
    ----------
    gamma : float or "auto", default="auto"
        Of the kernel, > 0. ``"auto"`` here and below: the best of three values when
        each seen class is predicted without its images and its namesake among the
        pretrained ones, if there are 6 classes or more; else 2.
    alpha : float or "auto", default="auto"
        Noise, > 0; 0.1.
    pretrained_weight : float or "auto", default="auto"
        What the backbone's classes count for against the user's, > 0: their noise is
        divided by it; 1.
    normalize : bool, default=True
        Take signed square roots of the features, of unit length and centred.

    Attributes
    ----------
    gamma_, alpha_, pretrained_weight_ : float
        The values in effect.
    centres_ : ndarray of shape (n_prototypes, dim_text), float32
        Words of the prototypes.
    dual_coef_ : ndarray of shape (n_prototypes, dim_visual), float32
        ``(K + N)^-1 P``.
    owners_ : ndarray of shape (n_prototypes,), int
        The user's class that each prototype is of, by image or name, or -1.
    inverse_ : ndarray of shape (n_prototypes, n_owned), float32
        Columns of ``(K + N)^-1`` of the prototypes that have an owner.
    class_points_ : ndarray of shape (n_classes, dim_visual), float32
    class_shares_ : ndarray of shape (n_classes,), float32
        What the word counts for in each: ``kappa / (kappa + n)``.

    References
    ----------
    .. [1] Zhang, Xiang and Gong, "Learning a Deep Embedding Model for Zero-Shot
       Learning", CVPR 2017.
    .. [2] Changpinyo, Chao and Sha, "Predicting Visual Exemplars of Unseen Classes for
       Zero-Shot Learning", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> T = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> visual = Visual(normalize=False)
    >>> visual = visual.fit(np.eye(2), np.array([0, 1]), class_embeddings=T)
    >>> visual.transform_labels(T).argmax(axis=1)
    array([0, 1])
    """

    hub_correction = 0.125
    temperature = 0.045  # 0.035 to 0.05 are best on seen classes (docs/defaults.md)
    _rules: Rules = VisualRules
    gamma: Any
    alpha: Any
    pretrained_weight: Any
    gamma_: float
    alpha_: float
    pretrained_weight_: float
    centres_: Float32
    dual_coef_: Float32
    owners_: Int64
    inverse_: Float32
    class_points_: Float32
    class_shares_: Float32

    def __init__(
        self,
        *,
        gamma: float | Literal["auto"] = "auto",
        alpha: float | Literal["auto"] = "auto",
        pretrained_weight: float | Literal["auto"] = "auto",
        normalize: bool = True,
    ) -> None:
        self.gamma = gamma
        self.alpha = alpha
        self.pretrained_weight = pretrained_weight
        self.normalize = normalize

    @property
    def choices_(self) -> dict[str, Any]:
        """What ``"auto"`` stands for: parameters of a clone that chooses nothing."""
        names = [name for name, _ in VisualRules]
        return {name: getattr(self, f"{name}_") for name in names}

    def transform_labels(self, class_embeddings: Floats) -> Float32:
        """Map word vectors to visual prototypes.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length.

        Returns
        -------
        points : ndarray of shape (m, dim_visual), float32
            Of unit length.
        """
        return self._visual_labels(class_embeddings)

    def transform_labels_without(
        self, class_embeddings: Floats, left_out: Iterable[Integers]
    ) -> Iterator[Float32]:
        """Map word vectors to visual prototypes, each time without some classes.

        See `zeroshot.projections.SupportsLeavingOut`. With B the prototypes left out, Q
        the inverse and D the dual coefficients, these become ``D - Q_B (Q_BB)^-1 D_B``.
        The mean of the images and the other prototypes stay as they are.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length.
        left_out : iterable of ndarray of int
            Classes, as rows of what `fit` got, that are left out together.

        Yields
        ------
        points : ndarray of shape (m, dim_visual), float32
            Of unit length.
        """
        check_is_fitted(self)
        m, dual = len(class_embeddings), self.dual_coef_
        kernel = np.empty((0, len(dual)), np.float32)
        if m:
            found = _kernel(class_embeddings, self.centres_, self.gamma_)
            kernel = found.astype(np.float32)
        points = kernel @ dual
        owned = np.flatnonzero(self.owners_ >= 0)
        for classes in left_out:
            is_out = np.isin(self.owners_[owned], classes)
            B, columns = owned[is_out], self.inverse_[:, is_out]
            yield unit_rows(
                points - kernel @ columns @ np.linalg.solve(columns[B], dual[B])
            )

    def _visual_labels(self, class_embeddings: Floats) -> Float32:
        check_is_fitted(self)
        if len(class_embeddings) == 0:
            return np.empty((0, self.dual_coef_.shape[1]), np.float32)
        kernel = _kernel(class_embeddings, self.centres_, self.gamma_)
        points: Float32 = unit_rows(
            rows_times(kernel.astype(np.float32), self.dual_coef_)
        )
        return points

    def _learn(self, given: TrainingSet) -> None:
        prototypes = _prototypes(given.moments)
        has_images, has_word = given.moments.counts > 0, given.has_word
        known = given.known[: MOST_ROWS // 2]
        task = _Task.of(prototypes, given, known)
        self._choose(task, given, known)
        gamma, alpha, weight = self.gamma_, self.alpha_, self.pretrained_weight_
        inverse, dual = task.solved(gamma, alpha, weight)
        self.centres_, self.dual_coef_ = task.words, dual.astype(np.float32)
        named = np.append(known, -1)[task.class_of]
        self.owners_ = np.concatenate([known, named]).astype(np.int64)
        self.inverse_ = inverse[:, self.owners_ >= 0].astype(np.float32)
        points = np.zeros_like(prototypes, np.float32)
        points[has_images] = prototypes[has_images]
        # What the word of a class counts for, beside its images.
        share = has_word.astype(np.float64)
        silent = np.flatnonzero(has_word & ~has_images)
        if len(silent):
            points[silent] = self._visual_labels(given.T[silent])
        if len(known):
            # What the others predict for a class, from one inverse of all: the formula
            # of leave-one-out for kernel ridge.
            own = np.arange(len(known))
            diagonal = np.diag(inverse)[own]
            others = unit_rows(prototypes[known] - dual[own] / diagonal[:, None])
            variance = 1 / diagonal - task.noise(alpha, weight)[own]
            kappa = np.maximum(1, IMAGES_PER_WORD / np.maximum(variance, 0.02))
            counts = given.moments.counts[known]
            share[known] = kappa / (kappa + counts)
            blend = kappa[:, None] * others + counts[:, None] * prototypes[known]
            points[known] = unit_rows(blend)
        self.class_shares_ = share.astype(np.float32)
        self.class_points_ = points

    def _choose(
        self, task: "_Task", given: TrainingSet, known: NDArray[np.intp]
    ) -> None:
        """Set the parameters in effect; those chosen once stay for more images."""
        grids = {"gamma": GAMMAS, "alpha": ALPHAS, "pretrained_weight": WEIGHTS}
        fixed = {name: getattr(self, name) for name in grids}
        chosen = {
            name: getattr(self, f"{name}_", grid[0]) if fixed[name] == "auto" else None
            for name, grid in grids.items()
        }
        values = {n: float(fixed[n] if c is None else c) for n, c in chosen.items()}
        is_new = not hasattr(self, "gamma_")
        if not task.has_pretrained:
            del grids["pretrained_weight"]
        wanted = [n for n in grids if fixed[n] == "auto"]
        if (
            wanted
            and is_new
            and len(known) >= MIN_CLASSES
            and len(task.words) <= MOST_TO_CHOOSE
        ):
            rows = np.flatnonzero(np.isin(given.y, known))
            rows = rows[:: max(1, len(rows) // MOST_IMAGES)]
            points = unit_rows(self._prepare(given.X[rows]))
            truth = np.searchsorted(known, given.y[rows])
            best = task.accuracies(points, truth, **values)
            for name in wanted:
                for value in grids[name][1:]:
                    found = task.accuracies(points, truth, **values | {name: value})
                    gain = found - best
                    error = gain.std() / np.sqrt(len(gain))
                    if gain.mean() > error:
                        best, values[name] = found, value
        for name, value in values.items():
            setattr(self, f"{name}_", value)

    def _map(self, X: Float32) -> Float32:
        return X


class _Task:
    """Prototypes with words: first the user's classes, then the backbone's."""

    def __init__(
        self, words: Float32, prototypes: Float64, counts: Int64, class_of: Any
    ) -> None:
        self.words = words
        self.prototypes = prototypes
        self.counts = counts  # images of the user's classes
        self.class_of = class_of  # of the backbone's: which of these each names, or -1

    @classmethod
    def of(
        cls, prototypes: Float64, given: TrainingSet, known: NDArray[np.intp]
    ) -> "_Task":
        words, rows, pretrained = given.T[known], prototypes[known], given.pretrained
        class_of = np.empty(0, np.intp)
        if pretrained is not None:
            step = -(-len(pretrained.weights) // (MOST_ROWS - len(known)))
            some = slice(None, None, step)
            words = np.concatenate([words, pretrained.class_embeddings[some]])
            rows = np.concatenate([rows, pretrained.rows[some]])
            place = {c: i for i, c in enumerate(known.tolist())}
            named = pretrained.class_of[some].tolist()
            class_of = np.array([place.get(c, -1) for c in named], np.intp)
        return cls(words, rows, given.moments.counts[known], class_of)

    @property
    def has_pretrained(self) -> bool:
        return len(self.class_of) > 0

    def noise(self, alpha: float, weight: float) -> Float64:
        own = np.maximum(alpha, 1 / self.counts)
        return np.concatenate([own, np.full(len(self.class_of), alpha / weight)])

    def solved(
        self, gamma: float, alpha: float, weight: float, *, single: bool = False
    ) -> tuple[Any, Any]:
        """Return ``(K + N)^-1`` and that times the prototypes.

        ``single``: in float32, which is enough to choose by.
        """
        kernel = _kernel(self.words, self.words, gamma)
        kernel[np.diag_indices_from(kernel)] += self.noise(alpha, weight)
        prototypes = self.prototypes
        if single:
            kernel = kernel.astype(np.float32)
        factorise, invert = get_lapack_funcs(("potrf", "potri"), (kernel,))
        # A third of the time of solving for the columns of the identity.
        inverse, failed = invert(factorise(kernel, lower=1, overwrite_a=1)[0], lower=1)
        if failed:
            raise ValueError(
                f"Expected noise that makes the kernel of {len(kernel)} words "
                f"invertible. Got alpha={alpha!r}. Give a larger alpha."
            )
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        # The product alone takes as long as the inverse, in float64.
        return inverse, inverse.astype(np.float32) @ prototypes.astype(np.float32)

    def accuracies(
        self,
        points: Float32,
        truth: NDArray[np.intp],
        *,
        gamma: float,
        alpha: float,
        pretrained_weight: float,
    ) -> Float64:
        """Return the mean of 1 / rank of each class among the user's, (n_classes,).

        Each is predicted from the others, without its images and its namesakes. From
        one inverse: ``P_B - (Q_BB)^-1 D_B`` for the rows B left out, with Q the
        inverse and D the dual coefficients.
        """
        inverse, dual = self.solved(gamma, alpha, pretrained_weight, single=True)
        n = len(self.counts)
        predicted = np.empty((n, self.prototypes.shape[1]))
        for c in range(n):
            B = np.r_[c, n + np.flatnonzero(self.class_of == c)]
            left = self.prototypes[B] - np.linalg.solve(inverse[np.ix_(B, B)], dual[B])
            predicted[c] = left[0]
        scores = points @ unit_rows(predicted).T.astype(np.float32)
        return reciprocal_ranks(scores, truth)


def _kernel(a: Floats, b: Floats, gamma: float) -> Float64:
    """Return ``exp(-gamma ||s - t||^2)`` for rows s and t, (len(a), len(b)).

    Not scikit-learn's `rbf_kernel`, whose import takes longer than a prediction.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    kernel: Float64 = np.exp(-gamma * np.maximum(squares, 0))
    return kernel


def _prototypes(moments: Moments) -> Float64:
    """Return a prototype of each class, (n_classes, dim), of unit length.

    It is the mean of its images and its row of the linear discriminant, both of unit
    length, together. The covariance within classes is shrunk half-way to a sphere: 0.3
    to 10 times as much differ by 0.01 (docs/defaults.md). Means alone are as good for
    few images, and worse for many.
    """
    means, n = moments.means, int(moments.counts.sum())
    rows: Float64 = unit_rows(means)
    if n > np.count_nonzero(moments.counts):  # one image each says nothing of within
        scatter = moments.gram - (means.T * moments.counts) @ means
        sphere = float(np.trace(scatter)) / len(scatter)
        if sphere > 1e-12:
            rows = unit_rows(rows + unit_rows(solve(scatter, sphere, means.T).T))
    return rows
