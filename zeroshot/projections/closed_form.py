"""Projections with a closed-form solution."""

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.linalg.blas import dgemm, dsymm, sgemm, ssyrk
from scipy.sparse import csr_matrix
from sklearn.base import clone

from zeroshot.projections.estimator import ProjectionEstimator

__all__ = ["ESZSL", "SAE", "Ridge", "fit_together"]


class _ClosedForm(ProjectionEstimator):
    """A linear map that is found from sums over the images."""

    coef_: NDArray[np.float32]

    def _fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        self._solve_for(*self._moments(X, y, len(T)), y, T)

    @abstractmethod
    def _solve_for(
        self,
        gram: NDArray[np.float32],
        sums: NDArray[np.float64],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        """Find ``coef_`` from what `_moments` returned."""

    def _map(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return X @ self.coef_

    def _moments(
        self, X: NDArray[np.float32], y: NDArray[np.int64], n_classes: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return ``X'X`` of the prepared features (lower triangle), and class sums.

        The sum of the features of each class, (n_classes, dim_visual), is ``X'Y``
        without the product. Class sums are float32 within a block of rows, float64
        between blocks; the symmetric product takes half the time of a general one.
        """
        dim = X.shape[1]
        gram = np.zeros((dim, dim), np.float32, order="F")
        sums = np.zeros((n_classes, dim))
        for block, classes in self._prepared_blocks(X, y):
            gram = ssyrk(1.0, block.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
            columns = np.arange(len(classes))
            ones = np.ones(len(classes), np.float32)
            shape = (n_classes, len(classes))
            sums += csr_matrix((ones, (classes, columns)), shape=shape) @ block
        return gram, sums


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
        Take the signed square root of the features, centre them on their training mean
        and make them unit length.

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

    def _solve_for(
        self,
        gram: NDArray[np.float32],
        sums: NDArray[np.float64],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        _check_positive(alpha=self.alpha)
        self.coef_ = _solve(gram, self.alpha, _product(sums.T, T)).astype(np.float32)


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
        Take the signed square root of the features, centre them on their training mean
        and make them unit length.

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

    def __init__(
        self, *, alpha: float = 10.0, alpha_text: float = 10.0, normalize: bool = True
    ) -> None:
        self.alpha = alpha
        self.alpha_text = alpha_text
        self.normalize = normalize

    def _solve_for(
        self,
        gram: NDArray[np.float32],
        sums: NDArray[np.float64],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        _check_positive(alpha=self.alpha, alpha_text=self.alpha_text)
        S = T[np.unique(y)].astype(np.float64)
        visual = _solve(gram, self.alpha, _product(sums.T, T))
        textual = _product(S.T, S)
        self.coef_ = _solve(textual, self.alpha_text, visual.T).T.astype(np.float32)


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
        Take the signed square root of the features, centre them on their training mean
        and make them unit length.

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

    def _solve_for(
        self,
        gram: NDArray[np.float32],
        sums: NDArray[np.float64],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        _check_positive(alpha=self.alpha)
        counts = np.bincount(y, minlength=len(T))
        A = _product(T.T * counts, T)
        a, U = eigh(A)
        b, V = eigh(gram, driver="evd")
        # Where both eigenvalues are 0, C is 0 too, and so is W.
        scale = a.clip(0)[:, None] + self.alpha * b.clip(0)[None, :]
        smallest = np.finfo(np.float32).eps * scale.max()
        inverse = np.where(scale > smallest, 1 / np.maximum(scale, smallest), 0)
        inverse = inverse.astype(np.float32)

        def solved(right: NDArray[np.float64]) -> NDArray[np.float64]:
            turned = _product(_product(U.T, right).astype(np.float32), V)
            return _product(U, _product(turned * inverse, V.T))

        # Eigenvectors in float32 take half the time of float64, and after one step of
        # refinement W is as near to the exact one.
        right = (1 + self.alpha) * _product(T.T, sums)
        W = solved(right)
        WB = dsymm(1.0, gram, W, side=1, lower=1)
        W += solved(right - _product(A, W) - self.alpha * WB)
        self.coef_ = W.T.astype(np.float32)


def fit_together(
    projections: Sequence[Ridge | ESZSL | SAE],
    X: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    *,
    class_embeddings: NDArray[np.floating[Any]],
) -> list[Ridge | ESZSL | SAE]:
    """Fit several on the same images, in one pass over these.

    ``projections``: of one ``normalize``; cloned. ``X``, ``y``, ``class_embeddings``:
    as for `Ridge.fit`. Returns fitted: the same as from a `fit` of each.
    """
    fitted = [clone(projection) for projection in projections]
    first = fitted[0]
    checked, index, T = first._checked(X, y, class_embeddings)
    gram, sums = first._moments(checked, index, len(T))
    for projection in fitted:
        projection.mean_, projection.n_features_in_ = first.mean_, first.n_features_in_
        projection._solve_for(gram, sums, index, T)
    return fitted


def _solve(
    gram: NDArray[np.floating[Any]], alpha: float, right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``(gram + alpha I)^-1 right``; reads the lower triangle of gram only."""
    left = gram.astype(np.float64)
    left[np.diag_indices_from(left)] += alpha
    # Half the time of `solve`, which also estimates the condition.
    factor = cho_factor(left, lower=True, overwrite_a=True, check_finite=False)
    solved: NDArray[np.float64] = cho_solve(factor, right, check_finite=False)
    return solved


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return ``a @ b`` from SciPy's BLAS, where the equations are solved too.

    NumPy brings a BLAS of its own, whose threads go on spinning for a moment after a
    product: an equation solved then takes twice as long.
    """
    single = a.dtype == b.dtype == np.float32
    product: NDArray[Any] = (sgemm if single else dgemm)(1.0, a, b)
    return product


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not (isinstance(value, Real) and 0 < value < np.inf):
            raise ValueError(f"Expected {name} > 0. Got {value!r}.")
