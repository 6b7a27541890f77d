"""What the Keras backbones share: pixel scaling and a compiled network."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.spec_options import did_you_mean
from zeroshot.errors import PluginContractError
from zeroshot.tensorflow_import import import_tensorflow

__all__ = [
    "Network",
    "PixelScaling",
    "Scaling",
    "check_scaling",
    "describe_scaling",
    "layers_from",
    "scale_pixels",
]

Scaling = Literal["identity", "tf", "torch", "caffe", "unit"]
"""What a network expects of pixels: ``"identity"`` 0 to 255 as they are; ``"tf"`` -1 to
1; ``"unit"`` 0 to 1; ``"torch"`` 0 to 1, then ImageNet's mean and deviation;
``"caffe"`` BGR, 0 to 255 less ImageNet's mean."""

PixelScaling: TypeAlias = Scaling | Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A `Scaling`, or a function of a batch, which may write into it."""

# keras.src.applications.imagenet_utils, 3.15
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)


def scale_pixels(pixels: Any, scaling: PixelScaling) -> Any:
    """Return scaled pixels from RGB, 0 to 255.

    Unlike Keras' ``preprocess_input`` never in place, unless a function does so.
    """
    if callable(scaling):
        return np.asarray(scaling(pixels), np.float32)
    match scaling:
        case "identity":
            return pixels
        case "tf":
            return pixels / np.float32(127.5) - np.float32(1)
        case "unit":
            return pixels / np.float32(255)
        case "torch":
            return (pixels / np.float32(255) - TORCH_MEAN) / TORCH_DEVIATION
        case "caffe":
            return pixels[..., ::-1] - CAFFE_MEAN_BGR


class Network:
    """A Keras model as one compiled function from images to features.

    The graph holds scaling, the model in inference mode (dropout off, batch norm
    frozen) and, where the model ends in a feature map, its mean over all positions.
    A plain graph call is 1.25 times as fast as ``Model.predict`` (MobileNetV2, 2 cores)
    and draws no progress bar; threads may call it at once. On a CPU
    `zeroshot.backbones.keras.routes` converts it to something faster.

    ``compiled`` is the graph, from uint8 images to features of length ``dim``. Where
    ``scales_outside``, a callable scales the pixels, and the graph takes its float32.
    Raises PluginContractError if the model's output is neither (n, dim) nor (n, height,
    width, dim), or its length is unknown.
    """

    def __init__(
        self, model: Any, input_size: tuple[int, int], scaling: PixelScaling
    ) -> None:
        tf = import_tensorflow()
        self._outside = scaling if callable(scaling) else None
        inside: Scaling = "identity" if callable(scaling) else scaling

        def features(pixels: Any) -> Any:
            pixels = tf.cast(pixels, tf.float32)
            output = model(scale_pixels(pixels, inside), training=False)
            shape: tuple[Any, ...] = tuple(getattr(output, "shape", ()))
            if len(shape) not in (2, 4) or shape[-1] is None:
                raise PluginContractError(
                    f"Expected an output of shape (n, dim) or (n, height, width, dim). "
                    f"Got {shape or type(output).__name__} of model "
                    f"'{model.name}'. Name another layer with layer=."
                )
            output = tf.cast(output, tf.float32)
            return tf.reduce_mean(output, axis=(1, 2)) if len(shape) == 4 else output

        kind = tf.uint8 if self._outside is None else tf.float32
        function = tf.function(features, autograph=False)
        self.compiled = function.get_concrete_function(
            tf.TensorSpec((None, *input_size, 3), kind)
        )
        self.model = model
        self.scales_outside = self._outside is not None
        self.input_size = input_size
        self.dim = int(self.compiled.structured_outputs.shape[-1])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch of at least one image."""
        tf = import_tensorflow()  # which refuses in a forked process
        pixels: NDArray[Any] = images
        if self._outside is not None:  # a copy: the callable may write into it
            pixels = scale_pixels(images.astype(np.float32), self._outside)
        return np.asarray(self.compiled(tf.constant(pixels)).numpy())


def check_scaling(scaling: object) -> None:
    """Raise PluginContractError for an unknown name of a scaling; a callable passes."""
    known = get_args(Scaling)
    if not callable(scaling) and scaling not in known:
        raise PluginContractError(
            f"Expected scaling as one of {', '.join(map(repr, known))} or a function. "
            f"Got {scaling!r}. Choose what the network was trained with."
        )


def describe_scaling(scaling: Any) -> str:
    """Return text that stands for a scaling in a fingerprint.

    Raises PluginContractError if it is a function that text cannot stand for.
    """
    if not callable(scaling):
        return str(scaling)
    source = None
    if inspect.isfunction(scaling) and not scaling.__closure__:
        with suppress(OSError):
            source = inspect.getsource(scaling)
    if source is None:
        raise PluginContractError(
            f"Expected scaling as a plain function from a file, without a closure. Got "
            f"{scaling!r}. Define it at the top level of a module."
        )
    return f"{scaling.__module__}.{scaling.__qualname__}\n{source}"


def layers_from(model: Any, name: str) -> list[Any]:
    """Return the layer of a Keras model that is called so, and all after it.

    Raises PluginContractError if there is none.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise PluginContractError(
            f"Expected the name of a layer of '{model.name}'. Got '{name}'."
            f"{did_you_mean(name, names)} Its last layers: {', '.join(names[-8:])}."
        )
    layers: list[Any] = model.layers[names.index(name) :]
    return layers
