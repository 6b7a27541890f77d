"""Projections with a closed-form solution."""

from numbers import Real

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from zeroshot.projections.estimator import ProjectionEstimator

__all__ = ["Ridge"]


class Ridge(ProjectionEstimator):
    """Ridge regression from visual features to the class embeddings.

    Minimises ``||X W - T[y]||^2 + alpha ||W||^2`` over W, in one linear solve:
    ``W = (X'X + alpha I)^-1 X' T[y]``.

    Parameters
    ----------
    alpha : float, default=10.0
        Strength of the penalty, > 0. The default was chosen on class-disjoint folds of
        the seen classes of both real data sets (``benchmarks/choose_defaults.py``).
    normalize : bool, default=True
        Centre the features on their training mean and make them unit length.

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

    coef_: NDArray[np.float32]

    def __init__(self, *, alpha: float = 10.0, normalize: bool = True) -> None:
        self.alpha = alpha
        self.normalize = normalize

    def _fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        if not (isinstance(self.alpha, Real) and 0 < self.alpha < np.inf):
            raise ValueError(f"Expected alpha > 0. Got {self.alpha!r}.")
        # X'T[y] by class sums: one row per class instead of one per image.
        sums = np.zeros((len(T), X.shape[1]), dtype=np.float64)
        np.add.at(sums, y, X)
        gram = (X.T @ X).astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.alpha
        self.coef_ = solve(gram, sums.T @ T, assume_a="pos").astype(np.float32)

    def _map(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return X @ self.coef_
