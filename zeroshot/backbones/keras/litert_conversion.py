"""A Keras network converted to LiteRT (TensorFlow Lite): the fastest route on a CPU.

It is run by Google's stand-alone runtime, so a converted network needs no TensorFlow,
whose import takes longer than many photographs. Its float32 kernels compute what Keras
computes, to rounding; `convert` checks that on photographs before a conversion is kept.
"""

import hashlib
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.keras.network import Network
from zeroshot.cores import n_threads
from zeroshot.per_process import PerProcess
from zeroshot.storage.cache import cache_root, replace_file
from zeroshot.tensorflow_import import import_tensorflow, stderr_set_aside

__all__ = [
    "ConversionError",
    "LiteRTNetwork",
    "convert",
    "converted_file",
    "interpreter_of",
    "photographs",
    "read_converted",
]

MOST_INTERPRETERS = 4  # each holds the weights once more
LARGE_MODEL = 256 << 20  # bytes; of such a one there is one interpreter
# Of a feature, relative to the largest one of its image. 1e-4 is promised of any image,
# these are four.
TOLERANCE = 2e-5
LOWEST_COSINE = 0.9  # quantised; MobileNetV2 has 0.95 at worst on 30 photographs
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
REFUSED = b"refused: "  # stands in the place of a model that could not be converted


class ConversionError(Exception):
    """A network cannot be converted, or gives other features then; says why."""


class LiteRTNetwork:
    """A converted network as a function from images to features.

    Threads may share it, and forked processes: each makes its own interpreters.

    Images go through one at a time: that is as fast as batches
    (``benchmarks/inference_routes.py``), no shape is ever planned anew, and an image's
    features are the same bits whatever the others are. A few interpreters share the
    cores and the images of a batch. A single one on all cores waits at every layer for
    the slowest, 8 to 13 % of the time with MobileNetV2 on 2 cores, and longer while
    images are decoded beside it.

    ``model``: a LiteRT file with one image of shape (1, height, width, 3) as input.
    ``size``: height and width, where the file leaves them open. ``output``: number of
    the output.
    """

    def __init__(
        self, model: bytes, size: tuple[int, int] | None = None, output: int = 0
    ) -> None:
        self._runners = PerProcess(lambda: _Runners(model, size))
        first = self._runners().interpreters[0]
        self._input = first.get_input_details()[0]["index"]
        self._output = first.get_output_details()[output]["index"]

    def __call__(self, images: NDArray[Any]) -> NDArray[Any]:
        """Compute the output for a batch of at least one image, of the input's type."""
        results: list[Any] = [None] * len(images)
        places = iter(range(len(images)))  # each thread takes the next that is left

        def compute(interpreter: Any) -> None:
            for i in places:
                interpreter.set_tensor(self._input, images[i : i + 1])
                interpreter.invoke()
                results[i] = interpreter.get_tensor(self._output)

        runners = self._runners()
        with runners.lock:
            working = [
                runners.pool.submit(compute, one) for one in runners.interpreters
            ]
            try:
                for one in working:
                    one.result()
            finally:  # Ctrl-C: nothing of this batch may run on beside the next
                deque(places, maxlen=0)
                wait(working)
        return np.concatenate(results)


class _Runners:
    """The interpreters of one process, and the threads that they run in."""

    def __init__(self, model: bytes, size: tuple[int, int] | None) -> None:
        threads = n_threads()
        n = min(threads, MOST_INTERPRETERS) if len(model) < LARGE_MODEL else 1
        share = threads // n
        self.interpreters = [interpreter_of(model, share, size) for _ in range(n)]
        self.pool = ThreadPoolExecutor(n, thread_name_prefix="zeroshot-network")
        self.lock = threading.Lock()


def interpreter_of(
    model: bytes, threads: int = 1, size: tuple[int, int] | None = None
) -> Any:
    """Return an interpreter of a LiteRT file, which one thread at a time may run.

    ``size``: height and width of its images, where the file leaves them open. Raises
    ValueError, RuntimeError as LiteRT raises them, if it is no such file or needs what
    LiteRT lacks.
    """
    with stderr_set_aside():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=model, num_threads=threads)
        if size is not None:
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, (1, *size, 3))
        interpreter.allocate_tensors()
    return interpreter


def converted_file(fingerprint: str) -> Path:
    """Return where the conversion is kept of the backbone that has a fingerprint.

    It is of one version of TensorFlow and of LiteRT. There may be no such file.
    """
    key = f"{fingerprint} {version('tensorflow')} {version('ai-edge-litert')}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return cache_root() / "networks" / f"{name}.tflite"


def read_converted(path: Path) -> LiteRTNetwork | None:
    """Return the kept conversion, or None where there is none or it is damaged.

    Raises ConversionError if what is kept is the reason why there can be none.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, model = content[:32], content[32:]
    if hashlib.sha256(model).digest() != digest:
        return None
    if model.startswith(REFUSED):
        raise ConversionError(model.removeprefix(REFUSED).decode())
    return LiteRTNetwork(model)


def convert(network: Network, path: Path, *, quantised: bool = False) -> LiteRTNetwork:
    """Convert a network, compare its features with Keras' and keep it.

    The comparison is on photographs: on noise a network's features say little. What is
    kept may be the reason why it can never be converted; what may pass, such as a full
    disk, is not. A cache that cannot be written is no error, and two processes may do
    this at once.

    ``quantised``: to int8, with the ranges that the photographs need. Raises
    ConversionError if TensorFlow cannot convert it, or features of a photograph differ:
    any by more than 2e-5 of that photograph's largest one; quantised, if their cosine
    is below 0.9.
    """
    images = photographs(network.input_size)
    expected = network(images)
    try:
        model = _litert_model(network, images if quantised else None)
        converted = LiteRTNetwork(model)
        got = converted(images)
    except Exception as error:  # the converter and the interpreter raise many kinds
        reason = f"{type(error).__name__}: {error}"[:300]
        if getattr(error, "errors", None):  # a ConverterError: operations that it lacks
            _keep(path, REFUSED + reason.encode())
        raise ConversionError(reason) from error
    if reason := (_cosine_fault if quantised else _fault)(got, expected):
        _keep(path, REFUSED + reason.encode())
        raise ConversionError(reason)
    _keep(path, model)
    return converted


def photographs(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return four photographs that every installation has: (4, *size, 3) uint8."""
    height, width = size
    folder = files("skimage.data")  # a package: its wheel holds them, none is fetched
    images = []
    for name in PHOTOGRAPHS:
        with folder.joinpath(name).open("rb") as file, Image.open(file) as image:
            images.append(np.asarray(image.convert("RGB").resize((width, height))))
    return np.stack(images)


def _litert_model(network: Network, ranges: NDArray[np.uint8] | None) -> bytes:
    tf = import_tensorflow()
    # The converter does not find the variables of a Keras 3 model by itself, and would
    # write a network without weights.
    owner = tf.Module()
    owner.weights = [weight.value for weight in network.model.weights]
    with stderr_set_aside(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own, of its converter
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [network.compiled], owner
        )
        if ranges is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([i[None]] for i in ranges)
        model: bytes = converter.convert()
    return model


def _fault(got: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    """Return what is wrong with features, or nothing."""
    largest = np.abs(expected).max(axis=1)
    difference = np.abs(got - expected).max(axis=1)
    if (difference <= TOLERANCE * largest).all():  # not so where one is NaN
        return ""
    worst = float((difference / np.maximum(largest, 1e-30)).max())
    return f"its features differ by {worst:.1e} of the largest one."


def _cosine_fault(got: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(((got * expected).sum(axis=1) / np.maximum(lengths, 1e-30)).min())
    if worst >= LOWEST_COSINE:
        return ""
    return f"the cosine of its features to the exact ones is {worst:.2f}."


def _keep(path: Path, content: bytes) -> None:
    with suppress(OSError), replace_file(path) as temporary:  # else again next time
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
