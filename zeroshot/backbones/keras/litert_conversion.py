"""LiteRT (TensorFlow Lite): Keras networks converted to it, and how its files are run.

They are run by Google's stand-alone runtime, so a converted network needs no
TensorFlow, whose import takes longer than many photographs. Its float32 kernels compute
what Keras computes, to rounding; `zeroshot.backbones.keras.conversion` checks that.
"""

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.cores import n_threads
from zeroshot.per_process import PerProcess
from zeroshot.tensorflow_import import import_tensorflow, stderr_set_aside

__all__ = ["LiteRTNetwork", "interpreter_of", "litert_model"]

MOST_INTERPRETERS = 4  # each holds the weights once more
LARGE_MODEL = 256 << 20  # bytes; of such a one there is one interpreter


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
        free = self._runners().free
        one = free.get()
        self._input = one.get_input_details()[0]["index"]
        self._output = one.get_output_details()[output]["index"]
        free.put(one)

    def __call__(self, images: NDArray[Any]) -> NDArray[Any]:
        """Compute the output for a batch of at least one image, of the input's type."""
        runners = self._runners()
        working = [
            runners.pool.submit(self._compute, runners, images[i : i + 1])
            for i in range(len(images))
        ]
        try:
            return np.concatenate([one.result() for one in working])
        finally:  # Ctrl-C: nothing of this batch may run on beside the next
            for one in working:
                one.cancel()
            wait(working)

    def _compute(self, runners: "_Runners", image: NDArray[Any]) -> NDArray[Any]:
        interpreter = runners.free.get()
        try:
            interpreter.set_tensor(self._input, image)
            interpreter.invoke()
            result: NDArray[Any] = interpreter.get_tensor(self._output)
            return result
        finally:
            runners.free.put(interpreter)


class _Runners:
    """The interpreters of one process, and as many threads that they run in."""

    def __init__(self, model: bytes, size: tuple[int, int] | None) -> None:
        threads = n_threads()
        n = min(threads, MOST_INTERPRETERS) if len(model) < LARGE_MODEL else 1
        self.free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(n):
            self.free.put(interpreter_of(model, threads // n, size))
        self.pool = ThreadPoolExecutor(n, thread_name_prefix="zeroshot-network")


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


def litert_model(
    function: Any, weights: Iterable[Any], ranges: NDArray[np.uint8] | None = None
) -> bytes:
    """Convert a concrete function to a LiteRT file.

    ``weights``: Keras' variables that it reads. ``ranges``: images by which to quantise
    it to int8. Raises what TensorFlow raises: a ConverterError, with a list ``errors``
    of the operations that LiteRT lacks, and many others.
    """
    tf = import_tensorflow()
    # The converter does not find the variables of a Keras 3 model by itself, and would
    # write a network without weights.
    owner = tf.Module()
    owner.weights = [weight.value for weight in weights]
    with stderr_set_aside(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own, of its converter
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
        if ranges is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([i[None]] for i in ranges)
        model: bytes = converter.convert()
    return model
