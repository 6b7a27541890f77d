"""What projections trained by gradient steps share: the compiled training loop.

The losses that they minimise are `DeViSE`, `SJE` and `ALE`. TensorFlow is imported by
`fit` alone; what is learnt is plain arrays.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize as unit_rows
from sklearn.utils import check_random_state

from zeroshot.progress import progress_bar
from zeroshot.projections.estimator import ProjectionEstimator
from zeroshot.tensorflow_import import import_keras, import_tensorflow

__all__ = ["TrainedProjection", "hinges", "reciprocal_ranks"]

BETA_1, BETA_2 = 0.9, 0.999  # of Adam: Kingma and Ba, ICLR 2015

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (dim_in, dim_out) and bias (dim_out,) of a dense layer."""


class TrainedProjection(ProjectionEstimator):
    """Base class: a map trained by Adam on a loss, for as long as held-out classes say.

    Subclasses write `losses`; ``__init__`` must store the parameters named below.

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
    """

    weight_decay: float
    learning_rate: float
    batch_size: int
    epochs: int
    early_stopping: bool
    validation_fraction: float
    patience: int
    random_state: int | np.random.RandomState | None
    hidden: Sequence[int] = ()
    dropout: float = 0.0

    kernels_: list[NDArray[np.float32]]
    biases_: list[NDArray[np.float32]]
    n_epochs_: int
    history_: dict[str, list[float]]

    @abstractmethod
    def losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        """Return the loss of each image of a batch, without the weight penalty.

        ``tf``: tensorFlow. ``points``: images in the text space, not normalised.
        ``wanted``: for each image its row of ``T``. ``T``: class embeddings of unit
        length. ``seed``: for losses that draw at random.
        """

    def weight_penalty(self, tf: Any, kernels: Sequence[Any]) -> Any:
        """Return what is added to the mean loss of a batch for the length of the map.

        ``tf``: tensorFlow. ``kernels``: of the dense layers.
        """
        return self._decay() * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])

    def _decay(self) -> float:
        """Return the strength of the weight penalty."""
        return self.weight_decay

    def _fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        T: NDArray[np.float32],
    ) -> None:
        self._check_parameters()
        X = self._prepare(X)
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
        with progress_bar(f"training {type(self).__name__}", self.n_epochs_) as advance:

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

    def _starts_at_zero(self) -> bool:
        """Tell whether the linear map starts as zeros, which suits a convex loss."""
        return not self.hidden

    def _check_parameters(self) -> None:
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
                ranks = reciprocal_ranks(points @ T_held_out.T, y_held_out)
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
            dim_visual,
            self.hidden,
            T.shape[1],
            self.dropout,
            seed,
            self._starts_at_zero(),
        )
        variables = head.trainable_variables
        kernels = [v for v in variables if v.path.endswith("kernel")]
        steps = math.ceil(n / self.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate, steps * epochs
        )
        moments = [[tf.Variable(tf.zeros_like(v)) for _ in "mv"] for v in variables]
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
                    losses = self.losses(
                        tf,
                        points,
                        wanted,
                        class_embeddings,
                        tf.stack([seed, epoch * steps + step]),
                    )
                    loss = tf.reduce_mean(losses) + self.weight_penalty(tf, kernels)
                gradients = tape.gradient(loss, variables)
                number = epoch * steps + step
                for variable, gradient, (m, v) in zip(
                    variables, gradients, moments, strict=True
                ):
                    # Adam in one pass; that of Keras makes ten, 1 ms more each step.
                    tf.raw_ops.ResourceApplyAdam(
                        var=variable.value.handle,
                        m=m.handle,
                        v=v.handle,
                        beta1_power=BETA_1 ** tf.cast(number + 1, tf.float32),
                        beta2_power=BETA_2 ** tf.cast(number + 1, tf.float32),
                        lr=schedule(number),
                        beta1=BETA_1,
                        beta2=BETA_2,
                        epsilon=1e-7,
                        grad=gradient,
                    )
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


def hinges(tf: Any, points: Any, wanted: Any, T: Any, margin: float) -> Any:
    """Return ``max(0, margin - t_y . p + t_j . p)`` of each image and wrong class j.

    ``tf``: tensorFlow. ``points``: images in the text space: the p. ``wanted``: row of
    ``T`` of each image's own class: the y. ``T``: class embeddings. Returns hinges: 0
    for an image's own class.
    """
    scores = tf.matmul(points, T, transpose_b=True)
    true_scores = tf.gather(scores, wanted, axis=1, batch_dims=1)
    is_wrong = 1 - tf.one_hot(wanted, tf.shape(T)[0])
    return is_wrong * tf.nn.relu(margin - true_scores[:, None] + scores)


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and bool(value >= 1)


def _build_head(
    dim_visual: int,
    hidden: Sequence[int],
    dim_text: int,
    dropout: float,
    seed: int,
    starts_at_zero: bool,
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
    # The papers' map is a plain matrix, without bias.
    random = keras.initializers.GlorotUniform(seed + len(hidden))
    head.add(
        keras.layers.Dense(
            dim_text,
            use_bias=bool(hidden),
            kernel_initializer="zeros" if starts_at_zero else random,
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


def reciprocal_ranks(
    scores: NDArray[np.float32], true_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return for each class the mean of 1 / rank of the true class.

    Smoother than accuracy over the few classes that early stopping can hold out.

    ``scores``: (n_images, n_classes) float32, higher is better. ``true_index``:
    (n_images,) int, column of the true class; every class has an image. Returns means
    (n_classes,): in (0, 1]; ties count as the worst rank.
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
