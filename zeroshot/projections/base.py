"""The contract of a projection from visual features into the word-vector space."""

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float32", "Floats", "Int64", "Integers", "Projection"]

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]
Int64 = NDArray[np.int64]


@runtime_checkable
class Projection(Protocol):
    """A scikit-learn estimator that maps visual features into the text space.

    Implementations inherit ``sklearn.base.BaseEstimator``: parameters are stored
    unchanged by ``__init__`` and are searchable as ``projection__name``.
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
        """Map features to points in the text space.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
            ``n`` may be 0.

        Returns
        -------
        points : ndarray of shape (n, dim_text), float32
            Not normalised; compare by cosine.
        """
