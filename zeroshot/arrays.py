"""What scikit-learn does to a matrix, where predictions do it in many threads.

scikit-learn's own functions change the filters of warnings for a moment, which are
those of all threads: of two at once, one leaves its own behind.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_times", "unit_rows", "validated"]

# OpenBLAS multiplies matrices of fewer products, and single rows, by other routines,
# which add up in another order.
FEW_PRODUCTS = 10**6


def validated(estimator: Any, X: Any, *, least: int = 1) -> NDArray[np.float32]:
    """Return a matrix for a fitted estimator, or refuse it as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Its ``n_features_in_`` and ``feature_names_in_`` are what X is compared with.
    X : array-like of shape (n, n_features)
    least : int, default=1
        Rows that there must be.

    Returns
    -------
    X : ndarray of shape (n, n_features), float32
    """
    is_plain = (
        type(X) is np.ndarray
        and X.dtype in (np.float32, np.float64)
        and X.ndim == 2
        and X.shape[1] == getattr(estimator, "n_features_in_", None)
        and len(X) >= least
        and not hasattr(estimator, "feature_names_in_")
    )
    if is_plain:
        with np.errstate(over="ignore"):
            matrix: NDArray[np.float32] = X.astype(np.float32, copy=False)
        if np.isfinite(matrix).all():
            return matrix
    from sklearn.utils.validation import validate_data  # not loaded by a listing

    checked: NDArray[np.float32] = validate_data(
        estimator, X, dtype=np.float32, reset=False, ensure_min_samples=least
    )
    return checked


def unit_rows(X: Any) -> Any:
    """Return rows at unit length, zeros as they are; there may be none.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Finite.

    Returns
    -------
    unit : ndarray of shape (n, dim)
    """
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return X / lengths


def rows_times(
    X: NDArray[np.float32],
    matrix: NDArray[np.float32],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return ``X @ matrix``, a row of which does not depend on how many there are.

    So an image scores the same, bit for bit, alone and among others, in one process and
    in parts on many machines.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
    matrix : ndarray of shape (dim, m), float32
    out : ndarray of shape (n, m), float32, optional
        Where the product is written to.

    Returns
    -------
    product : ndarray of shape (n, m), float32
    """
    if not isinstance(X, np.ndarray):  # a value of a file that is being written
        return X @ matrix
    least = max(2, FEW_PRODUCTS // max(1, matrix.size) + 1)
    if not 0 < len(X) < least or not matrix.size:
        return np.matmul(X, matrix, out=out)
    padded = np.zeros((least, X.shape[1]), X.dtype)
    padded[: len(X)] = X
    product: NDArray[np.float32] = (padded @ matrix)[: len(X)]
    if out is None:
        return product
    out[:] = product
    return out
