"""The last layers of a Keras network, cut off and trained together with a map."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.keras.network import layers_from, scale_pixels
from zeroshot.errors import PluginContractError
from zeroshot.tensorflow_import import import_keras, import_tensorflow

__all__ = ["Layer", "TrainableEnd"]

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (dim_in, dim_out) and bias (dim_out,) of a dense layer of the map."""

Loss = Callable[[Any, Any, Any, Any, Any], Any]
"""From TensorFlow, points, rows of true classes, class embeddings, a seed to losses."""

BATCH = 128  # images whose features are computed at once
FLOAT16_MAX = float(np.finfo(np.float16).max)


class TrainableEnd:
    """A network in two parts: a frozen beginning, and an end to be trained.

    What is trained is exactly the layers asked for. The cut lies at the last place
    before them that a single tensor passes, so that the beginning's output (the "map"
    of an image) is all that training needs. Everything runs in inference mode: dropout
    is off; batch norm keeps its statistics, its scale and its offset.

    ``model``: from scaled pixels to features or a feature map; its weights will change.
    ``layers``: how many of the last layers that have weights (batch norm not counted),
    or the name of the first layer to train. Raises PluginContractError if there is no
    such layer, or the model has no graph that can be cut.

    ``trained`` are the names of the layers that are trained, first to last; ``cut`` is
    that of the last frozen one, empty if none is; ``map_shape`` that of an image's map.
    """

    def __init__(self, model: Any, scaling: Any, layers: int | str) -> None:
        tf, keras = import_tensorflow(), import_keras()
        if not getattr(model, "inputs", None):
            raise PluginContractError(
                f"Expected a Keras model with a graph of layers (functional or "
                f"sequential) to fine-tune. Got '{type(model).__name__}'. Build it "
                f"with keras.Model(inputs, outputs)."
            )
        model.trainable = True  # a user's model may have been frozen
        trained = _layers_to_train(keras, model, layers)
        self.trained = [layer.name for layer in trained]
        self.cut, beginning, self._end = _cut_before(keras, model, trained)
        self.map_shape = tuple(beginning.output.shape[1:])
        if None in self.map_shape:
            size = tuple(model.inputs[0].shape[1:])
            raise PluginContractError(
                f"Expected a model of fixed input size to fine-tune. Got {size} of "
                f"'{model.name}'. Build it with keras.Input of the size of your images."
            )
        self.model = model
        self._scaling = scaling
        self._variables = [w for layer in trained for w in _weights(keras, layer)]
        self._initial = [w.numpy() for w in self._variables]

        # Any number of images: nothing is traced again for a last, smaller batch.
        def compiled(function: Callable[[Any], Any], shape: Sequence[int]) -> Any:
            signature = [tf.TensorSpec((None, *shape))]
            return tf.function(function, input_signature=signature, autograph=False)

        self._beginning_of = compiled(
            lambda pixels: beginning(pixels, training=False), model.inputs[0].shape[1:]
        )
        self._features_of = compiled(self._features, self.map_shape)

    def maps(
        self, images: NDArray[np.uint8], boxes: NDArray[np.float32] | None = None
    ) -> NDArray[np.float16]:
        """Compute the frozen beginning's output.

        ``images``: (n, height, width, 3) uint8, RGB, of the backbone's input size.
        ``boxes``: (n, 4) float32, for each image the part to look at: top, left,
        bottom, right, in [0, 1], scaled to the whole size; mirrored where left > right.
        Returns maps (n, *map_shape) float16: half the memory; the rounding, 5e-4
        relative, is small beside augmentation.
        """
        tf = import_tensorflow()
        pixels: NDArray[np.float32] = images.astype(np.float32)
        if boxes is not None:
            pixels = tf.image.crop_and_resize(
                pixels, boxes, np.arange(len(images)), images.shape[1:3]
            ).numpy()
        maps = self._beginning_of(tf.constant(scale_pixels(pixels, self._scaling)))
        return np.asarray(maps.numpy().clip(-FLOAT16_MAX, FLOAT16_MAX), np.float16)

    def features(self, maps: NDArray[np.float16]) -> NDArray[np.float32]:
        """Compute features (n, dim) from maps, with the end as it is now."""
        tf = import_tensorflow()
        parts = []
        for start in range(0, max(1, len(maps)), BATCH):
            batch = tf.constant(maps[start : start + BATCH], tf.float32)
            parts.append(self._features_of(batch).numpy())
        return np.concatenate(parts)

    def reset(self) -> None:
        """Give the end the weights that it had at first."""
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)

    def training_step(
        self,
        layers: Sequence[Layer],
        *,
        center: tuple[NDArray[np.float32], float] | None,
        class_embeddings: NDArray[np.float32],
        loss: Loss,
        penalty: Callable[[Any, Sequence[Any]], Any],
        learning_rate: float,
        train_biases: bool,
    ) -> tuple[Callable[..., float], Callable[[], list[Layer]]]:
        """Compile one step of training of the end and the map together.

        ``layers``: the map's dense layers, ReLU between them; where training begins.
        ``center``: mean (dim,) float32, subtracted from the signed roots of the
        features, which were made unit length, and what they are then multiplied with;
        None leaves features as they are.
        ``class_embeddings``: (n_classes, dim_text) float32. ``loss``, ``penalty``: the
        projection's own: losses of a batch, and what is added for the kernels.
        ``learning_rate``: of Adam. ``train_biases``: whether the map's biases are
        trained; a linear map has none. Returns step: from maps (n, *map_shape), rows of
        true classes (n,) and the number of the step to the mean loss of the batch
        before the step; current: returns the map's layers as they are.
        """
        tf, keras = import_tensorflow(), import_keras()
        kernels = [keras.Variable(kernel) for kernel, _ in layers]
        biases = [keras.Variable(bias, trainable=train_biases) for _, bias in layers]
        variables = [*self._variables, *kernels, *(biases if train_biases else [])]
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(variables)
        T = tf.constant(class_embeddings)

        def points_of(features: Any) -> Any:
            if center is not None:
                mean, scale = center
                # As `ProjectionEstimator` prepares them; zeros stay zeros. The root's
                # slope grows without bound towards 0, so below 1e-8 there is none.
                root = tf.sqrt(tf.maximum(tf.abs(features), 1e-8)) * tf.sign(features)
                root = tf.math.l2_normalize(root, axis=1, epsilon=1e-30)
                features = (root - mean) * scale
            for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
                features = tf.matmul(features, kernel) + bias
                if number < len(kernels) - 1:
                    features = tf.nn.relu(features)
            return features

        signature = [
            tf.TensorSpec((None, *self.map_shape), tf.float16),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((2,), tf.int32),
        ]

        @tf.function(input_signature=signature, autograph=False)
        def compiled(maps: Any, wanted: Any, seed: Any) -> Any:
            with tf.GradientTape() as tape:
                features = self._features(tf.cast(maps, tf.float32))
                losses = tf.reduce_mean(loss(tf, points_of(features), wanted, T, seed))
                total = losses + penalty(tf, kernels)
            gradients = tape.gradient(total, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return losses

        def step(
            maps: NDArray[np.float16], wanted: NDArray[np.int64], seed: tuple[int, int]
        ) -> float:
            return float(compiled(tf.constant(maps), tf.constant(wanted), seed))

        def current() -> list[Layer]:
            return [
                (kernel.numpy(), bias.numpy())
                for kernel, bias in zip(kernels, biases, strict=True)
            ]

        return step, current

    def _features(self, maps: Any) -> Any:
        tf = import_tensorflow()
        output = self._end(maps, training=False)
        # As in `Network`: a feature map is averaged over its positions.
        return tf.reduce_mean(output, (1, 2)) if len(output.shape) == 4 else output


def _layers_to_train(keras: Any, model: Any, layers: int | str) -> list[Any]:
    """Return the layers to train, without batch norm and layers without weights."""
    all_layers = model.layers
    if isinstance(layers, str):
        all_layers = layers_from(model, layers)
    trainable = [layer for layer in all_layers if _weights(keras, layer)]
    if isinstance(layers, int):
        trainable = trainable[-layers:]
    if not trainable:
        raise PluginContractError(
            f"Expected layers with weights to fine-tune. Got none in '{model.name}' "
            f"from '{layers}' on. Name an earlier layer."
        )
    return trainable


def _weights(keras: Any, layer: Any) -> list[Any]:
    """Return what may be trained of a layer, or of the layers of a model inside."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return []
    inner = getattr(layer, "layers", None)
    if inner is None:
        return list(layer.trainable_weights)
    return [weight for each in inner for weight in _weights(keras, each)]


def _cut_before(keras: Any, model: Any, trained: list[Any]) -> tuple[str, Any, Any]:
    """Cut a model before the trained layers, where one tensor passes; nearest first."""
    first = min(model.layers.index(layer) for layer in trained)
    for layer in reversed(model.layers[:first]):
        try:
            end = keras.Model(layer.output, model.outputs[0])
        except (ValueError, AttributeError):  # other tensors go past this layer
            continue
        if set(map(id, trained)) <= set(map(id, end.layers)):
            return layer.name, keras.Model(model.inputs[0], layer.output), end
    return "", keras.Model(model.inputs[0], model.inputs[0]), model
