"""What projections trained by gradient steps share: the compiled training loop.

The losses that they minimise are `DeViSE`, `SJE` and `ALE`. TensorFlow is imported by
`fit` alone; what is learnt is plain arrays.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from zeroshot.arrays import rows_times, unit_rows
from zeroshot.progress import progress_bar
from zeroshot.projections.base import Float32, Int64
from zeroshot.projections.estimator import COUNT, POSITIVE, ProjectionEstimator, Rules
from zeroshot.projections.operations import Operations, traced_forward
from zeroshot.tensorflow_import import import_keras, import_tensorflow

__all__ = ["Layers", "TrainedProjection", "forward", "hinges", "reciprocal_ranks"]

MARGIN = 0.1  # Frome et al. 2013, section 3.3
BETA_1, BETA_2 = 0.9, 0.999  # of Adam: Kingma and Ba, ICLR 2015

Layers = list[tuple[Float32, Float32]]
"""Kernel (dim_in, dim_out) and bias (dim_out,) of each dense layer."""

Train = Callable[[NDArray[np.intp], int], Iterator[tuple[float, Layers]]]


class TrainedProjection(ProjectionEstimator):
    """Base class: a map trained by Adam on a loss, for as long as held-out classes say.

    Subclasses write `_losses`. What is learnt is described in `DeViSE`.
    """

    _rules: Rules = (
        ("margin", POSITIVE),
        ("weight_decay", (lambda v: 0 <= v < math.inf, ">= 0")),
        ("learning_rate", POSITIVE),
        ("batch_size", COUNT),
        ("epochs", COUNT),
        ("validation_fraction", (lambda v: 0 < v < 1, "in (0, 1)")),
        ("patience", COUNT),
    )
    hidden: Sequence[int] = ()
    dropout: float = 0.0

    kernels_: list[Float32]
    biases_: list[Float32]
    n_epochs_: int
    history_: dict[str, list[float]]

    def __init__(
        self,
        *,
        margin: float = MARGIN,
        weight_decay: float = 0.03,
        learning_rate: float = 0.002,
        batch_size: int = 128,
        epochs: int = 30,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 10,
        normalize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.margin = margin
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.normalize = normalize
        self.random_state = random_state

    def losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        """Return the loss of each image of a batch (n,), without the weight penalty.

        The backbone's last layers are trained with it too (`zeroshot.training`).
        ``tf``: TensorFlow. ``points``: (n, dim_text), images in the text space, not
        normalised. ``wanted``: (n,) int64, for each image its row of ``T``. ``T``:
        (n_classes, dim_text), class embeddings of unit length. ``seed``: (2,) int32,
        for losses that draw at random.
        """
        return self._losses(tf, points, wanted, T, seed)

    @abstractmethod
    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        """Compute `losses`."""

    def weight_penalty(self, tf: Any, kernels: Sequence[Any]) -> Any:
        """Return what is added to the mean loss of a batch for the length of the map.

        ``tf``: TensorFlow. ``kernels``: of the dense layers.
        """
        return self._decay() * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])

    def _decay(self) -> float:
        """Return the strength of the weight penalty."""
        return self.weight_decay

    def _starts_at_zero(self) -> bool:
        """Tell whether the linear map starts as zeros, which suits a convex loss."""
        return not self.hidden

    def _fit(self, X: Float32, y: Int64, T: Float32) -> None:
        X = self._prepare(X)
        seed = self._seed()

        def train(rows: NDArray[np.intp], n: int) -> Iterator[tuple[float, Layers]]:
            kept, index = np.unique(y[rows], return_inverse=True)
            return self._train(X[rows], index, T[kept], n, seed)

        self._train_on_all(train, X, y, T)

    def _seed(self) -> int:
        random = check_random_state(self.random_state)
        return int(random.randint(np.iinfo(np.int32).max))

    @property
    def layers(self) -> Layers:
        """The dense layers of the fitted map."""
        return list(zip(self.kernels_, self.biases_, strict=True))

    def _map(self, X: Float32) -> Float32:
        return forward(self.layers, X)

    def _traced_map(self, X: Any, operations: Operations) -> Any:
        return traced_forward(self.layers, X, operations)

    def _train_on_all(self, train: Train, X: Float32, y: Int64, T: Float32) -> None:
        """Choose the number of epochs on held-out classes, then train on all.

        ``train``: yields the loss and the layers of each of so many epochs, trained on
        those rows of the prepared features ``X``; it may begin with those before the
        first.
        """
        classes = np.unique(y)
        n_held_out = round(self.validation_fraction * len(classes))
        self.history_ = {}
        self.n_epochs_ = self._unwatched_epochs()
        # A ranking of one class says nothing, so two must be held out, and two kept.
        if self.early_stopping and 2 <= n_held_out <= len(classes) - 2:
            order = np.random.default_rng(self._seed()).permutation(classes)
            held_out = np.sort(order[:n_held_out])
            self.n_epochs_ = self._choose_epochs(train, X, y, T, held_out)
        rows = np.arange(len(y))
        self._keep(train(rows, self.n_epochs_), self.n_epochs_)

    def _unwatched_epochs(self) -> int:
        """Return how many are run where no classes can be held out."""
        return self._most_epochs()

    def _most_epochs(self) -> int:
        return self.epochs

    def _keep(self, epochs: Iterator[tuple[float, Layers]], n: int) -> None:
        """Keep the layers after so many epochs."""
        self.history_["loss"] = []
        with progress_bar(f"training {type(self).__name__}", n) as advance:
            for loss, layers in epochs:
                self.kernels_, self.biases_ = map(list, zip(*layers, strict=True))
                if not math.isnan(loss):
                    self.history_["loss"].append(loss)
                    advance(1, f"loss {loss:.3f}")

    def _choose_epochs(
        self, train: Train, X: Float32, y: Int64, T: Float32, held_out: Int64
    ) -> int:
        """Train without the held-out classes, watching how these are ranked.

        Returns the number of the last epoch within one standard error of the best, and
        no worse than the start. With few held-out classes the best epoch is a matter of
        luck (on Caltech it was the 4th to 15th of 30, and cost 9 points); a difference
        within the error is none.
        """
        is_held_out = np.isin(y, held_out)
        X_held_out, T_held_out = X[is_held_out], unit_rows(T[held_out])
        y_held_out = np.searchsorted(held_out, y[is_held_out])
        scores: list[float] = []
        errors: list[float] = []
        first = 1
        most = self._most_epochs()
        with progress_bar("choosing epochs", most) as advance:
            for loss, layers in train(np.flatnonzero(~is_held_out), most):
                points = forward(layers, X_held_out)
                ranks = reciprocal_ranks(points @ T_held_out.T, y_held_out)
                scores.append(float(ranks.mean()))
                errors.append(float(ranks.std() / math.sqrt(len(ranks))))
                if math.isnan(loss):
                    first = 0
                else:
                    advance(1, f"held-out classes: rank {1 / scores[-1]:.2f}")
                best = int(np.argmax(scores))
                if len(scores) - 1 - best >= self.patience:
                    break
        self.history_["validation_mrr"] = scores
        least = scores[best] - errors[best]
        if first == 0:
            least = max(least, scores[0])
        good = np.flatnonzero(np.asarray(scores) >= least)
        return int(good[-1]) + first

    def _train(
        self,
        X: Float32,
        y: Int64,
        T: Float32,
        epochs: int,
        seed: int,
        start: Float32 | None = None,
    ) -> Iterator[tuple[float, Layers]]:
        """Train a new head, its linear map from ``start``, (dim_visual, dim_text).

        Yields the loss and the layers of each epoch.
        """
        tf, keras = import_tensorflow(), import_keras()
        n = len(X)
        head = self._new_head(X.shape[1], T.shape[1], seed)
        if start is not None:
            head.layers[-1].set_weights([start])
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
            order: Any, epoch: Any, features: Any, labels: Any, T: Any
        ) -> Any:
            total = 0.0
            for step in tf.range(steps):
                number = epoch * steps + step
                rows = order[step * self.batch_size : (step + 1) * self.batch_size]
                wanted = tf.gather(labels, rows)
                with tf.GradientTape() as tape:
                    points = head(tf.gather(features, rows), training=True)
                    losses = self.losses(
                        tf, points, wanted, T, tf.stack([seed, number])
                    )
                    loss = tf.reduce_mean(losses) + self.weight_penalty(tf, kernels)
                gradients = tape.gradient(loss, variables)
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
        for epoch in range(epochs):
            order = tf.constant(random.permutation(n))
            loss = float(run_epoch(order, tf.constant(epoch), *tensors))
            if not math.isfinite(loss):
                raise self._diverged(loss)
            yield loss, _dense_layers(head)

    def _diverged(self, loss: float) -> ValueError:
        return ValueError(
            f"Expected a finite loss. Got {loss}. Lower learning_rate="
            f"{self.learning_rate!r} or weight_decay={self.weight_decay!r}."
        )

    def _new_head(self, dim_visual: int, dim_text: int, seed: int) -> Any:
        """Return the trainable head as a Keras model."""
        keras = import_keras()
        head = keras.Sequential([keras.Input((dim_visual,))])
        for number, width in enumerate(self.hidden):
            initial = keras.initializers.GlorotUniform(seed + number)
            if self.dropout:
                head.add(keras.layers.Dropout(self.dropout, seed=seed + number))
            head.add(keras.layers.Dense(width, "relu", kernel_initializer=initial))
            head.add(keras.layers.BatchNormalization())
        initial = keras.initializers.GlorotUniform(seed + len(self.hidden))
        last = keras.layers.Dense(
            dim_text,
            use_bias=bool(self.hidden),  # the papers' map is a plain matrix
            kernel_initializer="zeros" if self._starts_at_zero() else initial,
        )
        head.add(last)
        return head


def hinges(tf: Any, points: Any, wanted: Any, T: Any, margin: float) -> Any:
    """Return ``max(0, margin - t_y . p + t_j . p)`` of each image and wrong class j.

    ``tf``: TensorFlow. ``points``: images in the text space: the p. ``wanted``: row of
    ``T`` of each image's own class: the y. ``T``: class embeddings. An image's own
    class has 0.
    """
    scores = tf.matmul(points, T, transpose_b=True)
    true_scores = tf.gather(scores, wanted, axis=1, batch_dims=1)
    is_wrong = 1 - tf.one_hot(wanted, tf.shape(T)[0])
    return is_wrong * tf.nn.relu(margin - true_scores[:, None] + scores)


def _dense_layers(head: Any) -> Layers:
    """Return the head as dense layers; batch norm goes into the layer behind it."""
    layers: Layers = []
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


def forward(layers: Layers, X: Float32) -> Float32:
    """Return what dense layers with ReLU between them make of features."""
    for number, (kernel, bias) in enumerate(layers):
        X = rows_times(X, kernel) + bias
        if number < len(layers) - 1:
            X = np.maximum(X, 0)
    return X


def reciprocal_ranks(scores: Float32, true_index: Int64) -> NDArray[np.float64]:
    """Return for each class the mean of 1 / rank of the true class, in (0, 1].

    Smoother than accuracy over the few classes that can be held out. ``scores``:
    (n_images, n_classes), higher is better. ``true_index``: (n_images,), column of the
    true class. Ties count as the worst rank; a class without images gets 0.
    """
    true_scores = np.take_along_axis(scores, true_index[:, None], axis=1)
    reciprocal = 1.0 / (scores >= true_scores).sum(axis=1)
    n = scores.shape[1]
    sums = np.bincount(true_index, weights=reciprocal, minlength=n)
    counts = np.bincount(true_index, minlength=n)
    means: NDArray[np.float64] = sums / np.maximum(1, counts)
    return means
