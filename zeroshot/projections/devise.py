"""The DeViSE projection: a map trained so that an image's own label ranks first."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize as unit_rows
from sklearn.utils import check_random_state

from zeroshot.progress import progress_bar
from zeroshot.projections.estimator import ProjectionEstimator
from zeroshot.tensorflow_import import import_keras, import_tensorflow

__all__ = ["DeViSE"]

MARGIN = 0.1  # Frome et al. 2013, section 3.3
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (dim_in, dim_out) and bias (dim_out,) of a dense layer."""


class DeViSE(ProjectionEstimator):
    """The DeViSE projection: linear map (or small network) with the hinge rank loss.

    For an image with features v and label y, the loss of the map M is the sum over the
    other classes j of ``max(0, margin - t_y . M v + t_j . M v)`` [1]_. The Keras
    write-up of DeViSE trains ``1 - cos(t_y, M v)`` instead, with a hidden layer; that
    variant is ``DeViSE(loss="cosine", hidden=(1024,), dropout=0.3)``.

    Training needs TensorFlow; a trained projection is plain arrays, and `transform`
    is NumPy.

    Parameters
    ----------
    loss : {"rank", "cosine"}, default="rank"
        The paper's hinge rank loss, or one minus the cosine to the true class.
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
    weight_decay : float, default=0.3
        Strength of the penalty ``weight_decay / 2 * ||M||^2`` beside the rank loss of
        an image, >= 0. Without it the map forgets what unseen classes need within two
        epochs. Chosen on class-disjoint folds of seen classes
        (``benchmarks/choose_defaults.py``). Not used with the cosine loss, which does
        not see the length of M.
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
        Centre the features on their training mean and make them unit length.
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

    kernels_: list[NDArray[np.float32]]
    biases_: list[NDArray[np.float32]]
    n_epochs_: int
    history_: dict[str, list[float]]

    def __init__(
        self,
        *,
        loss: Literal["rank", "cosine"] = "rank",
        margin: float = MARGIN,
        negatives: Literal["all", "first-violator"] = "all",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        weight_decay: float = 0.3,
        learning_rate: float = 0.002,
        batch_size: int = 128,
        epochs: int = 30,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 10,
        normalize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.loss = loss
        self.margin = margin
        self.negatives = negatives
        self.hidden = hidden
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.normalize = normalize
        self.random_state = random_state

    def _fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        self._check_parameters()
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        classes = np.unique(y)
        n_held_out = round(self.validation_fraction * len(classes))
        self.history_ = {}
        self.n_epochs_ = self.epochs
        # A ranking of one class says nothing, so two must be held out, and two kept.
        if self.early_stopping and 2 <= n_held_out <= len(classes) - 2:
            held_out = random.permutation(classes)[:n_held_out]
            scores, errors = self._validation_scores(X, y, T, held_out, seed)
            self.history_["validation_mrr"] = scores
            self.n_epochs_ = _last_good_epoch(scores, errors)
        with progress_bar("training DeViSE", self.n_epochs_) as advance:

            def after_epoch(loss: float, _: list[Layer]) -> bool:
                advance(1, f"loss {loss:.3f}")
                return True

            layers, self.history_["loss"] = self._train(
                X, y, T, self.n_epochs_, seed, after_epoch
            )
        self.kernels_ = [kernel for kernel, _ in layers]
        self.biases_ = [bias for _, bias in layers]

    def _map(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return _forward(list(zip(self.kernels_, self.biases_, strict=True)), X)

    def _check_parameters(self) -> None:
        for name, allowed in (
            ("loss", ("rank", "cosine")),
            ("negatives", ("all", "first-violator")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Expected {name} to be one of {allowed}. Got "
                    f"{getattr(self, name)!r}."
                )
        for name, fits, wanted in (
            ("margin", lambda v: 0 < v < math.inf, "> 0"),
            ("dropout", lambda v: 0 <= v < 1, "in [0, 1)"),
            ("weight_decay", lambda v: 0 <= v < math.inf, ">= 0"),
            ("learning_rate", lambda v: 0 < v < math.inf, "> 0"),
            ("batch_size", _is_count, "as a whole number >= 1"),
            ("epochs", _is_count, "as a whole number >= 1"),
            ("validation_fraction", lambda v: 0 < v < 1, "in (0, 1)"),
            ("patience", _is_count, "as a whole number >= 1"),
            ("hidden", lambda v: all(map(_is_count, v)), "as a list of widths >= 1"),
        ):
            value = getattr(self, name)
            try:
                is_right = fits(value)
            except TypeError:  # of a kind that cannot be compared
                is_right = False
            if not is_right:
                raise ValueError(f"Expected {name} {wanted}. Got {value!r}.")

    def _validation_scores(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
        held_out: NDArray[np.int64],
        seed: int,
    ) -> tuple[list[float], list[float]]:
        """Train without the held-out classes; return their score after each epoch.

        Second comes the standard error of each score over the held-out classes.
        """
        is_held_out = np.isin(y, held_out)
        kept = np.unique(y[~is_held_out])
        X_held_out = X[is_held_out]
        y_held_out = np.searchsorted(np.sort(held_out), y[is_held_out])
        T_held_out = unit_rows(T[np.sort(held_out)])
        scores: list[float] = []
        errors: list[float] = []
        with progress_bar("choosing epochs", self.epochs) as advance:

            def after_epoch(loss: float, layers: list[Layer]) -> bool:
                points = _forward(layers, X_held_out)
                ranks = _reciprocal_ranks(points @ T_held_out.T, y_held_out)
                scores.append(float(ranks.mean()))
                errors.append(float(ranks.std() / math.sqrt(len(ranks))))
                advance(1, f"held-out classes: mean reciprocal rank {scores[-1]:.3f}")
                return len(scores) - 1 - int(np.argmax(scores)) < self.patience

            self._train(
                X[~is_held_out],
                np.searchsorted(kept, y[~is_held_out]),
                T[kept],
                self.epochs,
                seed,
                after_epoch,
            )
        return scores, errors

    def _train(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
        epochs: int,
        seed: int,
        after_epoch: Callable[[float, list[Layer]], bool],
    ) -> tuple[list[Layer], list[float]]:
        """Train a head until `after_epoch` says False; return its layers and losses."""
        tf, keras = import_tensorflow(), import_keras()
        n, dim_visual = X.shape
        head = _build_head(
            dim_visual, self.hidden, T.shape[1], self.dropout, seed, self.loss
        )
        variables = head.trainable_variables
        kernels = [v for v in variables if v.path.endswith("kernel")]
        steps = math.ceil(n / self.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate, steps * epochs
        )
        optimizer = keras.optimizers.Adam(schedule)
        optimizer.build(variables)
        weight_decay = self.weight_decay if self.loss == "rank" else 0.0
        tensors = tf.constant(X), tf.constant(y), tf.constant(T)

        # One compiled call an epoch over tensors in memory: 2 to 3 times the speed of
        # `model.fit` (measured), which feeds batches from Python. The tensors are
        # arguments, because TensorFlow never lets go of what a function closes over.
        @tf.function
        def run_epoch(
            order: Any, epoch: Any, features: Any, labels: Any, class_embeddings: Any
        ) -> Any:
            total = 0.0
            for step in tf.range(steps):
                rows = order[step * self.batch_size : (step + 1) * self.batch_size]
                wanted = tf.gather(labels, rows)
                with tf.GradientTape() as tape:
                    points = head(tf.gather(features, rows), training=True)
                    losses = self._losses(
                        tf,
                        points,
                        wanted,
                        class_embeddings,
                        tf.stack([seed, epoch * steps + step]),
                    )
                    penalty = tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
                    loss = tf.reduce_mean(losses) + weight_decay * penalty
                gradients = tape.gradient(loss, variables)
                optimizer.apply_gradients(zip(gradients, variables, strict=True))
                total += tf.reduce_sum(losses)
            return total / n

        random = np.random.default_rng(seed)
        history: list[float] = []
        for epoch in range(epochs):
            order = tf.constant(random.permutation(n))
            history.append(float(run_epoch(order, tf.constant(epoch), *tensors)))
            if not math.isfinite(history[-1]):
                raise ValueError(
                    f"Expected a finite loss. Got {history[-1]} in epoch {epoch + 1}. "
                    f"Lower learning_rate={self.learning_rate!r} or weight_decay="
                    f"{self.weight_decay!r}."
                )
            if not after_epoch(history[-1], _dense_layers(head)):
                break
        return _dense_layers(head), history

    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        """Return the loss of each image of a batch, without the weight penalty."""
        if self.loss == "cosine":
            own = tf.gather(T, wanted)
            return 1 - tf.reduce_sum(tf.math.l2_normalize(points, axis=1) * own, axis=1)
        scores = tf.matmul(points, T, transpose_b=True)
        true_scores = tf.gather(scores, wanted, axis=1, batch_dims=1)
        is_wrong = 1 - tf.one_hot(wanted, tf.shape(T)[0])
        hinge = is_wrong * tf.nn.relu(self.margin - true_scores[:, None] + scores)
        if self.negatives == "first-violator":
            # The first violator of a random order is the one of smallest priority.
            priority = tf.random.stateless_uniform(tf.shape(hinge), seed)
            first = tf.argmin(tf.where(hinge > 0, priority, 2.0), axis=1)
            return tf.gather(hinge, first, axis=1, batch_dims=1)
        return tf.reduce_sum(hinge, axis=1)


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and bool(value >= 1)


def _build_head(
    dim_visual: int,
    hidden: Sequence[int],
    dim_text: int,
    dropout: float,
    seed: int,
    loss: str,
) -> Any:
    """Return the trainable head as a Keras model."""
    keras = import_keras()
    head = keras.Sequential([keras.Input((dim_visual,))])
    for number, width in enumerate(hidden):
        initial = keras.initializers.GlorotUniform(seed + number)
        if dropout:
            head.add(keras.layers.Dropout(dropout, seed=seed + number))
        head.add(keras.layers.Dense(width, "relu", kernel_initializer=initial))
        head.add(keras.layers.BatchNormalization())
    # The paper's map is a plain matrix, without bias. Its rank loss is convex, so it
    # starts at zero; a cosine has no gradient there.
    random = keras.initializers.GlorotUniform(seed + len(hidden))
    head.add(
        keras.layers.Dense(
            dim_text,
            use_bias=bool(hidden),
            kernel_initializer="zeros" if loss == "rank" and not hidden else random,
        )
    )
    return head


def _dense_layers(head: Any) -> list[Layer]:
    """Return the head as dense layers; batch norm goes into the layer behind it."""
    layers: list[Layer] = []
    scale, shift = np.float32(1), np.float32(0)
    for layer in head.layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            gamma, beta, mean, variance = layer.get_weights()
            scale = gamma / np.sqrt(variance + layer.epsilon)
            shift = beta - mean * scale
        elif kind == "Dense":
            kernel, *bias = layer.get_weights()
            shifted = np.broadcast_to(shift, kernel.shape[0]) @ kernel
            scaled = np.broadcast_to(scale, kernel.shape[0])[:, None] * kernel
            layers.append((scaled, shifted + (bias[0] if bias else 0)))
            scale, shift = np.float32(1), np.float32(0)
    return layers


def _forward(layers: list[Layer], X: NDArray[np.float32]) -> NDArray[np.float32]:
    for number, (kernel, bias) in enumerate(layers):
        X = X @ kernel + bias
        if number < len(layers) - 1:
            X = np.maximum(X, 0)
    return X


def _reciprocal_ranks(
    scores: NDArray[np.float32], true_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return for each class the mean of 1 / rank of the true class.

    Smoother than accuracy over the few classes that early stopping can hold out.
    """
    true_scores = np.take_along_axis(scores, true_index[:, None], axis=1)
    reciprocal = 1.0 / (scores >= true_scores).sum(axis=1)
    means: NDArray[np.float64] = np.bincount(
        true_index, weights=reciprocal
    ) / np.bincount(true_index)
    return means


def _last_good_epoch(scores: list[float], errors: list[float]) -> int:
    """Return the number of the last epoch within one standard error of the best.

    With few held-out classes the best epoch is a matter of luck (on Caltech it was
    the 4th to 15th of 30, and cost 9 points); a difference within the error is none.
    """
    best = int(np.argmax(scores))
    good = np.flatnonzero(np.asarray(scores) >= scores[best] - errors[best])
    return int(good[-1]) + 1
