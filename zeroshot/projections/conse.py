"""ConSE: the word vectors of the most probable seen classes, averaged."""

from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from zeroshot.arrays import rows_times, unit_rows
from zeroshot.projections.base import (
    Float32,
    Floats,
    Int64,
    Integers,
    PretrainedClasses,
)
from zeroshot.projections.estimator import COUNT, POSITIVE, ProjectionEstimator
from zeroshot.projections.operations import (
    Operations,
    traced_softmax,
    traced_unit_rows,
)

__all__ = ["ConSE"]


class ConSE(ProjectionEstimator):
    """ConSE: a softmax classifier of the seen classes, read in the text space.

    An image becomes the mean of the class embeddings of its ``top`` most probable seen
    classes, weighted by their probabilities. Nothing is learnt about the text space,
    so the classifier that the backbone was trained with will do, too.

    Parameters
    ----------
    top : int, default=10
        Classes that are averaged (T in the paper, which uses 10), at least 1.
    C : float, default=10.0
        Inverse strength of the penalty of the softmax classifier, > 0; see
        scikit-learn's ``LogisticRegression``, which trains it.
    normalize : bool, default=True
        Take signed square roots of the features, centred and made unit length.

    Attributes
    ----------
    coef_ : ndarray of shape (dim_visual, n_classes), float32
    intercept_ : ndarray of shape (n_classes,), float32
        The classifier.
    class_embeddings_ : ndarray of shape (n_classes, dim_text), float32
        Vectors of its classes.
    pretrained_ : list of ndarray
        Weights, bias and vectors of the backbone's own classifier; empty without.

    References
    ----------
    .. [1] Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic
       Embeddings", ICLR 2014, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> X, T = np.eye(2).repeat(3, axis=0), np.eye(2, 3)
    >>> conse = ConSE(normalize=False)
    >>> conse = conse.fit(X, np.array([0, 0, 0, 1, 1, 1]), class_embeddings=T)
    >>> conse.transform(X).argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """

    _rules = (("top", COUNT), ("C", POSITIVE))
    coef_: Float32
    intercept_: Float32
    class_embeddings_: Float32
    pretrained_: list[Float32]

    def __init__(
        self, *, top: int = 10, C: float = 10.0, normalize: bool = True
    ) -> None:
        self.top = top
        self.C = C
        self.normalize = normalize

    def fit(
        self,
        X: Floats,
        y: Integers,
        *,
        class_embeddings: Floats,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn the map.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
            Visual features; there may be none where ``pretrained`` is given.
        y : ndarray of shape (n,), int
            For each image its row of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim_text)
            Of unit length.
        pretrained : PretrainedClasses or None, default=None
            The backbone's own classifier. Without images the map is read off it alone;
            else a point is the mean of what both say, each of unit length.

        Returns
        -------
        self : ConSE
        """
        if pretrained is None or len(X):
            super().fit(X, y, class_embeddings=class_embeddings)
        else:
            self._checked(X, y, class_embeddings, least=0)
            n_features, n_words = pretrained.weights.shape[1], len(class_embeddings[0])
            self.mean_, self.scale_ = np.zeros(n_features, np.float32), 1.0
            self.class_embeddings_ = np.empty((0, n_words), np.float32)
            self.coef_ = np.empty((n_features, 0), np.float32)
            self.intercept_ = np.empty(0, np.float32)
        self.pretrained_ = []
        if pretrained is not None:
            parts = pretrained.weights.T, pretrained.bias, pretrained.class_embeddings
            self.pretrained_ = [np.asarray(part, np.float32) for part in parts]
        return self

    def transform(self, X: Floats) -> Float32:
        """Map features to points in the text space.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)

        Returns
        -------
        points : ndarray of shape (n, dim_text), float32
        """
        points = super().transform(X)
        if self.pretrained_:
            weights, bias, words = self.pretrained_
            logits = rows_times(np.asarray(X, np.float32), weights) + bias
            others = self._mean_of_words(logits, words)
            if len(points):
                points = unit_rows(points) + unit_rows(others)
        return points

    def traced(self, X: Any, operations: Operations) -> Any:
        """Do what `transform` does, in other operations than NumPy's.

        Parameters
        ----------
        X : rows of features, (n, dim_visual)
        operations : Operations

        Returns
        -------
        points : rows, (n, dim_text)
        """
        means = []
        if len(self.class_embeddings_):
            means.append(super().traced(X, operations))
        if self.pretrained_:
            weights, bias, words = self.pretrained_
            logits = X @ weights + bias
            means.append(self._traced_mean_of_words(logits, words, operations))
        unit = [traced_unit_rows(each, operations) for each in means]
        return unit[0] if len(unit) == 1 else unit[0] + unit[1]

    def _traced_map(self, X: Any, operations: Operations) -> Any:
        logits, words = X @ self.coef_ + self.intercept_, self.class_embeddings_
        return self._traced_mean_of_words(logits, words, operations)

    def _traced_mean_of_words(
        self, logits: Any, words: Float32, operations: Operations
    ) -> Any:
        top = min(self.top, len(words))
        weights = traced_softmax(logits, operations)
        best = operations.at_least(logits, operations.largest(logits, top))
        weights = weights * best
        return weights / operations.total(weights) @ words

    def _fit(self, X: Float32, y: Int64, T: Float32) -> None:
        X = self._prepare(X)
        classes = np.unique(y)
        self.class_embeddings_ = T[classes]
        self.coef_ = np.zeros((X.shape[1], len(classes)), np.float32)
        self.intercept_ = np.zeros(len(classes), np.float32)
        if len(classes) == 1:
            return  # there is nothing to tell apart
        from sklearn.linear_model import LogisticRegression

        classifier = LogisticRegression(C=self.C, max_iter=1000).fit(X, y)
        # Of two classes scikit-learn keeps the logit of the second alone.
        fitted = slice(None) if len(classes) > 2 else slice(1, 2)
        self.coef_[:, fitted] = classifier.coef_.T
        self.intercept_[fitted] = classifier.intercept_

    def _map(self, X: Float32) -> Float32:
        logits = rows_times(X, self.coef_) + self.intercept_
        return self._mean_of_words(logits, self.class_embeddings_)

    def _mean_of_words(self, logits: Float32, words: Float32) -> Float32:
        """Return the words of the most probable classes, weighted by probability."""
        top = min(self.top, logits.shape[1])
        if top == 0:
            return np.zeros((len(logits), words.shape[1]), np.float32)
        best = np.argpartition(-logits, top - 1, axis=1)[:, :top]
        logits = np.take_along_axis(logits, best, axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        weights /= weights.sum(axis=1, keepdims=True)
        starts = np.arange(len(logits) + 1) * top
        shape = len(logits), len(words)
        probabilities = csr_matrix((weights.ravel(), best.ravel(), starts), shape=shape)
        points: Float32 = probabilities @ words
        return points
