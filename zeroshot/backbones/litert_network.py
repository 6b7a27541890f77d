"""A Keras network converted to LiteRT (TensorFlow Lite): the fastest route on a CPU.

LiteRT is part of TensorFlow. Its float32 kernels compute what Keras computes, to
rounding; `convert` checks that on photographs before a conversion is kept.
"""

import hashlib
import os
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.keras_network import Network
from zeroshot.cache import cache_root, replace_file
from zeroshot.tensorflow_import import import_tensorflow, stderr_set_aside

__all__ = [
    "ConversionError",
    "LiteRTNetwork",
    "convert",
    "converted_file",
    "read_converted",
]

TOLERANCE = 1e-4  # largest difference of a feature, relative to the largest feature
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # in scikit-image's wheel


class ConversionError(Exception):
    """A network cannot be converted, or gives other features then; says why."""


class LiteRTNetwork:
    """A converted network as a function from images to features; threads may share it.

    Images go through one at a time, each on all cores: that is as fast as batches of
    32 (MobileNetV2 and ResNet50 on 2 cores), and no shape is ever planned anew.

    Parameters
    ----------
    model : bytes
        A LiteRT file with one uint8 image of shape (1, height, width, 3) as input.

    Attributes
    ----------
    dim : int
        Length of a feature vector.
    """

    def __init__(self, model: bytes) -> None:
        tf = import_tensorflow()
        with stderr_set_aside(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its module is to move to another package
            self._interpreter = tf.lite.Interpreter(
                model_content=model, num_threads=os.cpu_count()
            )
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        output = self._interpreter.get_output_details()[0]
        self._output, self.dim = output["index"], int(output["shape"][-1])
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8

        Returns
        -------
        features : ndarray of shape (n, dim), float32
        """
        features = np.empty((len(images), self.dim), np.float32)
        with self._lock:
            for i in range(len(images)):
                self._interpreter.set_tensor(self._input, images[i : i + 1])
                self._interpreter.invoke()
                features[i] = self._interpreter.get_tensor(self._output)
        return features


def converted_file(fingerprint: str) -> Path:
    """Return where the conversion of a backbone's network is kept.

    Parameters
    ----------
    fingerprint : str
        Of the backbone; the version of TensorFlow enters too.

    Returns
    -------
    path : Path
        Below `zeroshot.cache.cache_root`; there may be no such file.
    """
    key = f"{fingerprint} {import_tensorflow().__version__}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return cache_root() / "networks" / f"{name}.tflite"


def read_converted(path: Path) -> LiteRTNetwork | None:
    """Return the kept conversion, or None where there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, model = content[:32], content[32:]
    if hashlib.sha256(model).digest() != digest:
        path.unlink(missing_ok=True)
        return None
    return LiteRTNetwork(model)


def convert(network: Network, path: Path) -> LiteRTNetwork:
    """Convert a network, compare its features with Keras' and keep it.

    Parameters
    ----------
    network : Network
        Its own compiled graph is what is converted.
    path : Path
        Where to keep it; a cache that cannot be written is no error.

    Returns
    -------
    converted : LiteRTNetwork

    Raises
    ------
    ConversionError
        If TensorFlow cannot convert it, or a feature of a photograph differs by more
        than 1e-4 of the largest one.
    """
    tf = import_tensorflow()
    try:
        # The converter does not find the variables of a Keras 3 model by itself, and
        # would write a network without weights.
        owner = tf.Module()
        owner.weights = [weight.value for weight in network.model.weights]
        with stderr_set_aside(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own, of its converter
            model = tf.lite.TFLiteConverter.from_concrete_functions(
                [network.compiled], owner
            ).convert()
        converted = LiteRTNetwork(model)
        images = _photographs(network.input_size)
        expected, got = network(images), converted(images)
    except Exception as error:  # the converter raises many kinds
        raise ConversionError(f"{type(error).__name__}: {error}"[:300]) from error
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    if not difference <= TOLERANCE:
        raise ConversionError(f"features differ by {difference:.1e}")
    with suppress(OSError), replace_file(path) as temporary:  # else again next time
        temporary.write_bytes(hashlib.sha256(model).digest() + model)
    return converted


def _photographs(size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image
    from skimage import data

    height, width = size
    return np.stack(
        [
            np.asarray(Image.fromarray(getattr(data, name)()).resize((width, height)))
            for name in PHOTOGRAPHS
        ]
    )
