"""ConSE: the word vectors of the most probable seen classes, averaged."""

from typing import Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from zeroshot.projections.base import Float32, Floats, Int64
from zeroshot.projections.estimator import COUNT, POSITIVE, ProjectionEstimator

__all__ = ["ConSE"]


class ConSE(ProjectionEstimator):
    """ConSE: a softmax classifier of the seen classes, read in the text space.

    An image becomes the mean of the class embeddings of its ``top`` most probable seen
    classes, weighted by their probabilities. Nothing is learnt about the text space,
    so a classifier that was trained elsewhere will do: `from_classifier`.

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

    def __init__(
        self, *, top: int = 10, C: float = 10.0, normalize: bool = True
    ) -> None:
        self.top = top
        self.C = C
        self.normalize = normalize

    @classmethod
    def from_classifier(
        cls,
        weights: Floats,
        bias: Floats,
        class_embeddings: Floats,
        *,
        top: int = 10,
    ) -> Self:
        """Return the projection of a softmax classifier that is trained already.

        Parameters
        ----------
        weights : ndarray of shape (dim_visual, n_classes)
        bias : ndarray of shape (n_classes,)
            ``features @ weights + bias`` are its logits.
        class_embeddings : ndarray of shape (n_classes, dim_text)
            Vectors of its classes, of unit length.
        top : int, default=10
            As for the class.

        Returns
        -------
        conse : ConSE
            Fitted.
        """
        conse = cls(top=top, normalize=False)
        conse._check_parameters()
        conse.mean_ = np.zeros(len(weights), np.float32)
        conse.n_features_in_ = len(weights)
        conse.coef_ = np.asarray(weights, np.float32)
        conse.intercept_ = np.asarray(bias, np.float32)
        conse.class_embeddings_ = np.asarray(class_embeddings, np.float32)
        return conse

    def _fit(self, X: Float32, y: Int64, T: Float32) -> None:
        X = self._prepare(X)
        classes = np.unique(y)
        self.class_embeddings_ = T[classes]
        self.coef_ = np.zeros((X.shape[1], len(classes)), np.float32)
        self.intercept_ = np.zeros(len(classes), np.float32)
        if len(classes) == 1:
            return  # there is nothing to tell apart
        classifier = LogisticRegression(C=self.C, max_iter=1000).fit(X, y)
        # Of two classes scikit-learn keeps the logit of the second alone.
        fitted = slice(None) if len(classes) > 2 else slice(1, 2)
        self.coef_[:, fitted] = classifier.coef_.T
        self.intercept_[fitted] = classifier.intercept_

    def _map(self, X: Float32) -> Float32:
        logits = X @ self.coef_ + self.intercept_
        top = min(self.top, logits.shape[1])
        best = np.argpartition(-logits, top - 1, axis=1)[:, :top]
        logits = np.take_along_axis(logits, best, axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        weights /= weights.sum(axis=1, keepdims=True)
        starts = np.arange(len(logits) + 1) * top
        shape = len(logits), len(self.class_embeddings_)
        probabilities = csr_matrix((weights.ravel(), best.ravel(), starts), shape=shape)
        points: Float32 = probabilities @ self.class_embeddings_
        return points
