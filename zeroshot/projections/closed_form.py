"""Projections with a closed-form solution."""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.linalg.blas import dgemm, dsymm, sgemm, ssyrk

from zeroshot.arrays import rows_times
from zeroshot.projections.base import Float32, Floats
from zeroshot.projections.estimator import POSITIVE, MomentsProjection, Rules
from zeroshot.projections.moments import TrainingSet

__all__ = ["ESZSL", "SAE", "Ridge", "ridge_map", "solve"]

# How many images a row of the backbone's classifier counts for. 3 to 30 differ by 0.02;
# 1 is far worse (docs/defaults.md).
IMAGES_PER_ROW = 10.0

Float64 = NDArray[np.float64]


class Sums(NamedTuple):
    """What a closed form is found from."""

    gram: Float32  # X'X of the prepared features, its lower triangle
    features: Float64  # (n_classes, dim_visual): X'Y without the product
    counts: NDArray[np.floating[Any]]  # (n_classes,), images
    T: Float32  # class embeddings

    @classmethod
    def of(cls, given: TrainingSet, weight: float = IMAGES_PER_ROW) -> "Sums":
        """Return the sums over images and the rows of the backbone's classifier.

        A row counts as ``weight`` images. Classes without a word vector, NaN, are left
        out.
        """
        moments, has_word = given.moments, given.has_word
        gram, features = moments.gram, moments.sums[has_word]
        counts = moments.counts[has_word].astype(np.float64)
        T = given.T[has_word]
        if given.pretrained is not None:
            rows = given.pretrained.rows
            start = np.asfortranarray(gram)
            gram = ssyrk(weight, rows.T, beta=1.0, c=start, lower=1)
            features = np.concatenate([features, weight * rows])
            counts = np.concatenate([counts, np.full(len(rows), weight)])
            T = np.concatenate([T, given.pretrained.class_embeddings])
        return cls(gram, features, counts, T)


class _ClosedForm(MomentsProjection):
    """A linear map that is found from sums over the images."""

    _rules: Rules = (("alpha", POSITIVE),)
    coef_: Float32

    def _learn(self, given: TrainingSet) -> None:
        self.coef_ = self._solution(Sums.of(given)).astype(np.float32)

    @abstractmethod
    def _solution(self, sums: Sums) -> Float64:
        """Return the map, (dim_visual, dim_text)."""

    def _map(self, X: Float32) -> Float32:
        return rows_times(X, self.coef_)


class Ridge(_ClosedForm):
    """Ridge regression from visual features to the class embeddings.

    Minimises ``||X W - T[y]||^2 + alpha ||W||^2`` over W, in one linear solve:
    ``W = (X'X + alpha I)^-1 X' T[y]``.

    Parameters
    ----------
    alpha : float, default=10.0
        Strength of the penalty, > 0. The default was chosen on class-disjoint folds of
        the seen classes of both real data sets (``benchmarks/choose_defaults.py``).
    normalize : bool, default=True
        Take signed square roots of the features, centred and made unit length.

    Attributes
    ----------
    coef_ : ndarray of shape (dim_visual, dim_text), float32
        The map W.

    References
    ----------
    .. [1] Hoerl and Kennard, "Ridge Regression", Technometrics 12, 1970.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> T = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> ridge = Ridge(alpha=0.01, normalize=False)
    >>> ridge = ridge.fit(X, np.array([0, 0, 1]), class_embeddings=T)
    >>> ridge.transform(X).argmax(axis=1)
    array([0, 0, 1])
    """

    def __init__(self, *, alpha: float = 10.0, normalize: bool = True) -> None:
        self.alpha = alpha
        self.normalize = normalize

    def _solution(self, sums: Sums) -> Float64:
        return ridge_map(sums, self.alpha)


class ESZSL(_ClosedForm):
    """ESZSL, "embarrassingly simple zero-shot learning".

    Learns the compatibility ``x' W t`` of features x and class embedding t, with a
    penalty on either side: ``W = (X'X + alpha I)^-1 X'Y S (S'S + alpha_text I)^-1``,
    where the rows of S are the class embeddings and Y is 1 for an image's own class,
    else 0.

    Parameters
    ----------
    alpha : float, default=10.0
        Strength of the penalty on the visual side (gamma in the paper), > 0.
    alpha_text : float, default=10.0
        Strength of the penalty on the side of the text (lambda in the paper), > 0. Both
        were chosen on class-disjoint folds of the seen classes (docs/defaults.md).
    normalize : bool, default=True
        Take signed square roots of the features, centred and made unit length.

    Attributes
    ----------
    coef_ : ndarray of shape (dim_visual, dim_text), float32
        The map W.

    Notes
    -----
    The paper's Y is -1 instead of 0. On real word vectors, which all point into one
    half of the space, that fails unless the features or the class embeddings are
    centred: top-1 of 0.04 instead of 0.31 to 0.33 on 27 unseen Caltech classes. With
    ``normalize=True``, which centres the features, the two are all but the same.

    References
    ----------
    .. [1] Romera-Paredes and Torr, "An embarrassingly simple approach to zero-shot
       learning", ICML 2015, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> T = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> eszsl = ESZSL(alpha=0.1, alpha_text=0.1, normalize=False)
    >>> eszsl = eszsl.fit(np.eye(2), np.array([0, 1]), class_embeddings=T)
    >>> eszsl.transform(np.eye(2)).argmax(axis=1)
    array([0, 1])
    """

    _rules = (("alpha", POSITIVE), ("alpha_text", POSITIVE))

    def __init__(
        self, *, alpha: float = 10.0, alpha_text: float = 10.0, normalize: bool = True
    ) -> None:
        self.alpha = alpha
        self.alpha_text = alpha_text
        self.normalize = normalize

    def _solution(self, sums: Sums) -> Float64:
        S = sums.T[sums.counts > 0].astype(np.float64)
        visual = ridge_map(sums, self.alpha)
        return solve(_product(S.T, S), self.alpha_text, visual.T).T


class SAE(_ClosedForm):
    """The semantic autoencoder: a map to the text space that can also be inverted.

    Minimises ``||X - T[y] W||^2 + alpha ||X W' - T[y]||^2`` over W of shape
    (dim_text, dim_visual): the class embedding must give the features back. The
    solution satisfies the Sylvester equation ``A W + alpha W B = (1 + alpha) C`` with
    ``A = T[y]'T[y]``, ``B = X'X`` and ``C = T[y]'X``; both are symmetric, so it is
    solved in their eigenvectors.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the encoder against the decoder (lambda in the paper), > 0. Chosen on
        class-disjoint folds of the seen classes (docs/defaults.md).
    normalize : bool, default=True
        Take signed square roots of the features, centred and made unit length.

    Attributes
    ----------
    coef_ : ndarray of shape (dim_visual, dim_text), float32
        The encoder, W transposed.

    References
    ----------
    .. [1] Kodirov et al., "Semantic Autoencoder for Zero-Shot Learning", CVPR 2017,
       equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> sae = SAE(normalize=False)
    >>> sae = sae.fit(np.eye(2), np.array([0, 1]), class_embeddings=np.eye(2, 3))
    >>> sae.transform(np.eye(2)).argmax(axis=1)
    array([0, 1])
    """

    def __init__(self, *, alpha: float = 1.0, normalize: bool = True) -> None:
        self.alpha = alpha
        self.normalize = normalize

    def _solution(self, sums: Sums) -> Float64:
        gram, features, counts, T = sums
        A = _product(T.T * counts, T)
        a, U = eigh(A)
        b, V = eigh(gram, driver="evd")
        # Where both eigenvalues are 0, C is 0 too, and so is W.
        scale = a.clip(0)[:, None] + self.alpha * b.clip(0)[None, :]
        smallest = np.finfo(np.float32).eps * scale.max()
        inverse = np.where(scale > smallest, 1 / np.maximum(scale, smallest), 0)
        inverse = inverse.astype(np.float32)

        def solved(right: Float64) -> Float64:
            turned = _product(_product(U.T, right).astype(np.float32), V)
            return _product(U, _product(turned * inverse, V.T))

        # Eigenvectors in float32 take half the time of float64, and after one step of
        # refinement W is as near to the exact one.
        right = (1 + self.alpha) * _product(T.T, features)
        W = solved(right)
        WB = dsymm(1.0, gram, W, side=1, lower=1)
        W += solved(right - _product(A, W) - self.alpha * WB)
        return W.T


def ridge_map(sums: Sums, alpha: float) -> Float64:
    """Return the map of ridge regression, (dim_visual, dim_text); see `Ridge`."""
    return solve(sums.gram, alpha, _product(sums.features.T, sums.T))


def solve(gram: Floats, alpha: float, right: Float64) -> Float64:
    """Return ``(gram + alpha I)^-1 right``; reads the lower triangle of gram only."""
    left = gram.astype(np.float64)
    left[np.diag_indices_from(left)] += alpha
    # Half the time of `solve`, which also estimates the condition.
    factor = cho_factor(left, lower=True, overwrite_a=True, check_finite=False)
    solved: Float64 = cho_solve(factor, right, check_finite=False)
    return solved


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return ``a @ b`` from SciPy's BLAS, where the equations are solved too.

    NumPy brings a BLAS of its own, whose threads go on spinning for a moment after a
    product: an equation solved then takes twice as long.
    """
    single = a.dtype == b.dtype == np.float32
    product: NDArray[Any] = (sgemm if single else dgemm)(1.0, a, b)
    return product
