"""Nothing is learnt: images and labels are in one space already."""

import math
from numbers import Real
from typing import Self

import numpy as np

from zeroshot.projections.base import (
    Float32,
    Floats,
    Int64,
    Integers,
    PretrainedClasses,
)
from zeroshot.projections.estimator import ProjectionEstimator, Rule, Rules

__all__ = ["Identity", "JointScores"]

SCALE: Rule = (
    lambda v: v is None or (isinstance(v, Real) and 0 < float(v) < math.inf),
    "as a number > 0, or None",
)
BIAS: Rule = (
    lambda v: v is None or (isinstance(v, Real) and math.isfinite(v)),
    "as a number, or None",
)


class JointScores(ProjectionEstimator):
    """Base class of projections in the space of a joint model.

    Its logit scale and bias say what a cosine means. Features stay as they are, without
    roots; nothing is taken from a label that is near others: the model was trained to
    be asked by plain cosines.
    """

    hub_correction = 0.0
    one_space = True
    normalize = False
    _rules: Rules = (("logit_scale", SCALE), ("logit_bias", BIAS))
    logit_scale: float | None
    logit_bias: float | None

    @property
    def temperature(self) -> float:  # type: ignore[override]
        """What scores are divided by: 1 / ``logit_scale``; 0.07 where that is None."""
        if self.logit_scale is None:
            return ProjectionEstimator.temperature
        return 1 / float(self.logit_scale)

    def _check_lengths(self, X: Float32, T: Float32) -> None:
        if X.shape[1] != T.shape[1]:
            raise ValueError(
                f"Expected features and class embeddings of one joint model, of one "
                f"length. Got features of {X.shape[1]} and class embeddings of "
                f"{T.shape[1]}. Use a projection that maps one to the other, such as "
                f"'devise'."
            )


class Identity(JointScores):
    """Leave images and labels where a joint model, such as CLIP, has put them.

    Parameters
    ----------
    logit_scale : float or None, default=None
        What the model multiplies cosines with: probabilities are their softmax. In a
        `ZeroShotClassifier` None is the model's own.
    logit_bias : float or None, default=None
        What a model of a sigmoid adds then: so it rates each label by itself.

    Examples
    --------
    >>> import numpy as np
    >>> identity = Identity(logit_scale=100)
    >>> X = np.eye(2, dtype=np.float32)
    >>> identity = identity.fit(X, np.array([0, 1]), class_embeddings=X)
    >>> identity.transform(X)
    array([[1., 0.], [0., 1.]], dtype=float32)
    """

    def __init__(
        self, *, logit_scale: float | None = None, logit_bias: float | None = None
    ) -> None:
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias

    def fit(self, X: Floats, y: Integers, *, class_embeddings: Floats) -> Self:
        """Check that both sides have one length; learn nothing.

        Parameters
        ----------
        X : ndarray of shape (n, dim)
            There may be no image.
        y : ndarray of shape (n,), int
            For each image its row of ``class_embeddings``.
        class_embeddings : ndarray of shape (n_classes, dim)
            There may be no class.

        Returns
        -------
        self : Identity
        """
        X, y, T = self._checked(X, y, class_embeddings, least=0, wordless=True)
        self._fit(X, y, T)
        return self

    def partial_fit(
        self,
        X: Floats,
        y: Integers,
        *,
        class_embeddings: Floats,
        places: Integers,
        pretrained: PretrainedClasses | None = None,
    ) -> Self:
        """Learn nothing from further images either.

        Parameters
        ----------
        X, y, class_embeddings : ndarray
            As in `fit`.
        places, pretrained : object
            Not looked at.

        Returns
        -------
        self : Identity
        """
        return self.fit(X, y, class_embeddings=class_embeddings)

    def _fit(self, X: Float32, y: Int64, T: Float32) -> None:
        self._check_lengths(X, T)
        self.mean_, self.scale_ = np.zeros(X.shape[1], np.float32), 1.0

    def _map(self, X: Float32) -> Float32:
        return X
