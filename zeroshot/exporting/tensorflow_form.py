"""LiteRT files and SavedModels: a Keras network and what follows it, in TensorFlow."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.keras.litert_conversion import interpreter_of, litert_model
from zeroshot.backbones.keras.network import Network
from zeroshot.errors import ArtifactError
from zeroshot.exporting.networks import (
    IMAGE,
    Head,
    Run,
    keras_network,
    one_by_one,
)
from zeroshot.tensorflow_import import import_tensorflow, stderr_set_aside

__all__ = ["write_litert", "write_saved_model"]

SIGNATURE = "serving_default"  # what TensorFlow Serving asks for


def write_litert(path: Path, backbone: Backbone, head: Head) -> Run:
    """Write a LiteRT file for one image at a time; return what runs it.

    Raises PluginContractError, ArtifactError as `zeroshot.exporting.onnx_form`.
    """
    network = keras_network(backbone, "tflite")
    function = _traced(network, head, 1)
    try:
        content = litert_model(function, network.model.weights)
        interpreter = interpreter_of(content)
    except Exception as error:  # the converter and the interpreter raise many kinds
        raise ArtifactError(
            f"Expected a network of operations that LiteRT has. Got "
            f"'{backbone.name}': {type(error).__name__}: {str(error)[:300]}. Export to "
            f"saved-model or onnx."
        ) from error
    path.write_bytes(content)
    runner = interpreter.get_signature_runner(SIGNATURE)
    return one_by_one(lambda image: runner(**{IMAGE: image}))


def write_saved_model(path: Path, backbone: Backbone, head: Head) -> Run:
    """Write a SavedModel, a folder; return what runs it.

    Raises PluginContractError as `zeroshot.exporting.networks.keras_network`.
    """
    tf = import_tensorflow()
    network = keras_network(backbone, "saved-model")
    function = _traced(network, head, None)
    module = tf.Module()
    module.weights = [weight.value for weight in network.model.weights]
    with stderr_set_aside(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        tf.saved_model.save(module, str(path), signatures={SIGNATURE: function})
        loaded = tf.saved_model.load(str(path))

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        # Asked of what was loaded: a signature alone does not keep the weights alive.
        outputs = loaded.signatures[SIGNATURE](**{IMAGE: tf.constant(images)})
        return {name: np.asarray(value.numpy()) for name, value in outputs.items()}

    return run


def _traced(network: Network, head: Head, n: int | None) -> Any:
    """Return the concrete function of n images, or of any number."""
    tf = import_tensorflow()
    operations = _TensorFlow(tf)
    function = tf.function(
        lambda image: head(network.compiled(image), operations), autograph=False
    )
    images = tf.TensorSpec((n, *network.input_size, 3), tf.uint8, name=IMAGE)
    return function.get_concrete_function(images)


class _TensorFlow:
    """`zeroshot.projections.operations.Operations` for tensors of TensorFlow."""

    def __init__(self, tf: Any) -> None:
        self._tf = tf

    def absolute(self, x: Any) -> Any:
        return self._tf.abs(x)

    def exp(self, x: Any) -> Any:
        return self._tf.exp(x)

    def log(self, x: Any) -> Any:
        return self._tf.math.log(x)

    def sqrt(self, x: Any) -> Any:
        return self._tf.sqrt(x)

    def maximum(self, x: Any, least: float) -> Any:
        return self._tf.maximum(x, np.float32(least))

    def total(self, x: Any) -> Any:
        return self._tf.reduce_sum(x, axis=1, keepdims=True)

    def largest(self, x: Any, rank: int = 1) -> Any:
        if rank == 1:
            return self._tf.reduce_max(x, axis=1, keepdims=True)
        return self._tf.math.top_k(x, k=rank).values[:, -1:]

    def at_least(self, x: Any, y: Any) -> Any:
        return self._tf.cast(x >= y, self._tf.float32)

    def joined(self, parts: Sequence[Any]) -> Any:
        return self._tf.concat(parts, axis=1)
