"""The DeViSE projection: a map trained so that an image's own label ranks first."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from zeroshot.projections.estimator import COUNT
from zeroshot.projections.trained import (
    MARGIN,
    TrainedProjection,
    hinges,
    reciprocal_ranks,
)

__all__ = ["DeViSE", "reciprocal_ranks"]

LOSSES = ("rank", "cosine", "mse")
NEGATIVES = ("all", "first-violator")


class DeViSE(TrainedProjection):
    """The DeViSE projection: linear map (or small network) with the hinge rank loss.

    For an image with features v and label y, the loss of the map M is the sum over the
    other classes j of ``max(0, margin - t_y . M v + t_j . M v)`` [1]_. The Keras
    write-up of DeViSE trains ``1 - cos(t_y, M v)`` instead, with a hidden layer; that
    variant is ``DeViSE(loss="cosine", hidden=(1024,), dropout=0.3)``.

    Training needs TensorFlow; a trained projection is plain arrays, and `transform`
    is NumPy.

    Parameters
    ----------
    loss : {"rank", "cosine", "mse"}, default="rank"
        The paper's hinge rank loss, one minus the cosine to the true class, or the mean
        squared error to its vector (of which the paper says that it ranks badly).
    margin : float, default=0.1
        Margin of the rank loss, > 0; 0.1 in the paper.
    negatives : {"all", "first-violator"}, default="all"
        Wrong classes that count in the rank loss: all of them, or, as the paper does to
        save time, the first in random order that violates the margin.
    hidden : sequence of int, default=()
        Widths of hidden layers (dropout, dense, ReLU, batch normalisation each). Empty
        is the paper's linear map.
    dropout : float, default=0.0
        Share of inputs dropped before each hidden layer, in [0, 1).
    weight_decay : float, default=1.0
        Strength of the penalty ``weight_decay / 2 * ||M||^2`` beside the rank loss of
        an image, >= 0. Without it the map forgets what unseen classes need within two
        epochs. Chosen on class-disjoint folds of seen classes
        (``benchmarks/choose_defaults.py``). Not used with the cosine loss, which does
        not see the length of M, nor with the squared error: that would be `Ridge`.
    learning_rate : float, default=0.002
        Of Adam, decayed to 0 over the epochs along a cosine.
    batch_size : int, default=128
        Images per step.
    epochs : int, default=30
        Most passes over the images.
    early_stopping : bool, default=True
        Choose the number of epochs on held-out classes: train on the others, watch the
        mean reciprocal rank among the held-out ones, then train on all classes until
        the last epoch that was within one standard error of the best. Needs two
        held-out classes (8 in all by default); with fewer all epochs are run.
    validation_fraction : float, default=0.2
        Share of the classes that early stopping holds out.
    patience : int, default=10
        Epochs without a better validation score after which to stop.
    normalize : bool, default=True
        Take signed square roots of the features, centred and made unit length.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out classes, initial weights, order and dropout.

    Attributes
    ----------
    kernels_, biases_ : list of ndarray, float32
        Of each dense layer, shapes (dim_in, dim_out) and (dim_out,); ReLU between.
        Batch normalisation is folded in.
    n_epochs_ : int
        Epochs of the final training.
    history_ : dict of str to list of float
        ``"loss"`` per epoch of the final training; ``"validation_mrr"`` (mean
        reciprocal rank, per class) per epoch of the one before, if there was one.

    References
    ----------
    .. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> devise = DeViSE(normalize=False, random_state=0)
    >>> devise.fit(X, np.arange(3), class_embeddings=np.eye(3)).transform(X).argmax(1)
    array([0, 1, 2])
    """

    _rules = (
        ("loss", (LOSSES.__contains__, f"to be one of {LOSSES}")),
        ("negatives", (NEGATIVES.__contains__, f"to be one of {NEGATIVES}")),
        ("hidden", (lambda v: all(map(COUNT[0], v)), "as a list of widths >= 1")),
        ("dropout", (lambda v: 0 <= v < 1, "in [0, 1)")),
        *TrainedProjection._rules,
    )

    def __init__(
        self,
        *,
        loss: Literal["rank", "cosine", "mse"] = "rank",
        margin: float = MARGIN,
        negatives: Literal["all", "first-violator"] = "all",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        weight_decay: float = 1.0,
        learning_rate: float = 0.002,
        batch_size: int = 128,
        epochs: int = 30,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 10,
        normalize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            margin=margin,
            weight_decay=weight_decay,
            learning_rate=learning_rate,
            batch_size=batch_size,
            epochs=epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            normalize=normalize,
            random_state=random_state,
        )
        self.loss = loss
        self.negatives = negatives
        self.hidden = hidden
        self.dropout = dropout

    def _starts_at_zero(self) -> bool:
        # A cosine has no gradient at zero.
        return super()._starts_at_zero() and self.loss != "cosine"

    def _decay(self) -> float:
        # A cosine does not see the length of the map; a squared error would be Ridge.
        return self.weight_decay if self.loss == "rank" else 0.0

    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        if self.loss != "rank":
            own = tf.gather(T, wanted)
            if self.loss == "mse":
                return tf.reduce_mean(tf.square(points - own), axis=1)
            return 1 - tf.reduce_sum(tf.math.l2_normalize(points, axis=1) * own, axis=1)
        if self.negatives == "first-violator":
            hinge = hinges(tf, points, wanted, T, self.margin)
            # The first violator of a random order is the one of smallest priority.
            priority = tf.random.stateless_uniform(tf.shape(hinge), seed)
            first = tf.argmin(tf.where(hinge > 0, priority, 2.0), axis=1)
            return tf.gather(hinge, first, axis=1, batch_dims=1)
        # The own class would add the margin, whatever the points: cheaper than a mask.
        own_scores = tf.reduce_sum(points * tf.gather(T, wanted), axis=1)
        scores = tf.matmul(points, T, transpose_b=True)
        hinge = tf.nn.relu(scores + (self.margin - own_scores)[:, None])
        return tf.reduce_sum(hinge, axis=1) - self.margin
