"""What the Keras backbones share: pixel scaling and a compiled network."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import InvalidImageError, PluginContractError
from zeroshot.tensorflow_import import import_tensorflow

__all__ = [
    "LOADING",
    "Network",
    "Scaling",
    "check_images",
    "check_scaling",
    "digest_of",
    "file_sha256",
    "pair_of",
    "scale_pixels",
]

Scaling = Literal["identity", "tf", "torch", "caffe", "unit"]
"""What a network expects of pixels: ``"identity"`` 0 to 255 as they are; ``"tf"`` -1 to
1; ``"unit"`` 0 to 1; ``"torch"`` 0 to 1, then ImageNet's mean and deviation;
``"caffe"`` BGR, 0 to 255 less ImageNet's mean."""

LOADING = threading.RLock()
"""Held while a network is built, so that threads do not build it twice."""

# keras.src.applications.imagenet_utils, 3.15
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)


def scale_pixels(pixels: Any, scaling: Scaling) -> Any:
    """Return scaled pixels; unlike Keras' ``preprocess_input``, never in place.

    Parameters
    ----------
    pixels : ndarray or tensor of shape (n, height, width, 3), float32
        RGB, 0 to 255.
    scaling : {"identity", "tf", "torch", "caffe", "unit"}
        See `Scaling`.

    Returns
    -------
    scaled : ndarray or tensor of the same shape, float32
    """
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

    Parameters
    ----------
    model : keras.Model
        One input, one output of shape (n, dim) or (n, height, width, dim).
    input_size : tuple of int
        Height and width.
    scaling : str or callable
        See `Scaling`; a callable takes and returns a float32 batch.

    Attributes
    ----------
    dim : int
        Length of a feature vector.
    compiled : tensorflow.types.experimental.ConcreteFunction
        From uint8 images (float32 after a callable) to features.
    model : keras.Model
    input_size : tuple of int
    scales_outside : bool
        Whether a callable scales the pixels, so that the graph is not all there is.

    Raises
    ------
    PluginContractError
        If the output is neither 2-D nor 4-D, or its length is unknown.
    """

    def __init__(
        self,
        model: Any,
        input_size: tuple[int, int],
        scaling: Scaling | Callable[[NDArray[np.float32]], NDArray[np.float32]],
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
        self._constant = tf.constant
        self.dim = int(self.compiled.structured_outputs.shape[-1])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch of at least one image."""
        pixels: NDArray[Any] = images
        if self._outside is not None:  # a copy: the callable may write into it
            pixels = np.asarray(self._outside(images.astype(np.float32)), np.float32)
        features: NDArray[np.float32] = self.compiled(self._constant(pixels)).numpy()
        return features


def check_images(
    images: NDArray[np.uint8], input_size: tuple[int, int], name: str
) -> None:
    """Refuse anything but a uint8 RGB batch of the right size.

    Raises
    ------
    InvalidImageError
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (*input_size, 3):
        height, width = input_size
        raise InvalidImageError(
            f"Expected uint8 RGB images of shape (n, {height}, {width}, 3) for "
            f"'{name}'. Got {images.dtype} of shape {images.shape}. Resize them, or "
            f"use 'zeroshot.features', which does."
        )


def check_scaling(scaling: object) -> None:
    """Refuse an unknown name of a pixel scaling; a callable passes.

    Raises
    ------
    PluginContractError
    """
    known = get_args(Scaling)
    if not callable(scaling) and scaling not in known:
        raise PluginContractError(
            f"Expected scaling as one of {', '.join(map(repr, known))} or a function. "
            f"Got {scaling!r}. Choose what the network was trained with."
        )


def pair_of(input_size: object) -> tuple[int, int]:
    """Return (height, width) from a number of pixels or a pair.

    Raises
    ------
    PluginContractError
        If it is anything else, or not positive.
    """
    pair = input_size if isinstance(input_size, tuple | list) else (input_size,) * 2
    if len(pair) != 2 or not all(_is_positive_int(side) for side in pair):
        raise PluginContractError(
            f"Expected input_size as a positive number of pixels or a pair (height, "
            f"width). Got {input_size!r}. Write input_size=224 or (224, 224)."
        )
    return int(pair[0]), int(pair[1])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(facts: Mapping[str, object]) -> str:
    """Return 32 hexadecimal digits that change with any of the facts (JSON values)."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_positive_int(side: object) -> bool:
    return isinstance(side, int | np.integer) and side is not True and int(side) > 0
