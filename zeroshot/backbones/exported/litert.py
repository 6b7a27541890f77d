"""LiteRT (TensorFlow Lite) files as backbones."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.keras.litert_conversion import LiteRTNetwork, interpreter_of
from zeroshot.backbones.model_file import ModelFile, Run, choose, pooled, size_of
from zeroshot.errors import ArtifactError, PluginContractError

__all__ = ["LiteRTModel"]

TYPES = (np.float32, np.uint8, np.int8)


class LiteRTModel(ModelFile):
    """A network in a LiteRT file (``.tflite``), of floats or quantised.

    Where input or output are quantised to 8 bits, pixels are scaled first and then
    quantised as the file says, and features come back as float32.

    Parameters
    ----------
    path : path
        The file.
    output : str, optional
        Name of the output that holds the features, (n, dim) or a feature map that is
        averaged over its positions; needed where there are several.
    scaling : str
        What the network expects of pixels: ``"tf"`` (-1 to 1), ``"unit"`` (0 to 1),
        ``"identity"`` (0 to 255), ``"torch"`` or ``"caffe"``; see
        `zeroshot.backbones.keras.network.Scaling`. For a quantised network, what it
        expected before.
    input_size : int or (int, int), optional
        Height and width, in pixels; required where the network leaves it open.
    resize : {"crop", "squash"}, default="crop"
        How the core brings an image to size.
    logits : str, optional
        Name of the output that holds the scores of the classes that the network was
        trained on, before or after the softmax.
    classes : "imagenet-1k", path or sequence of str, optional
        The names of those classes, in the order of the scores: ImageNet-1k in its usual
        order, a UTF-8 text file with one class on each line, or such lines; several
        names of a class are separated by commas. Needed with ``logits``.

    Notes
    -----
    The spec string is ``"litert:"``, the path and options as in a URL:
    ``"litert:/mobilenet.tflite?scaling=tf"``, with
    ``"&logits=scores&classes=imagenet-1k"`` where the file has its classifier.
    """

    NAME = "litert"
    FILE = "a .tflite file"

    def _read(self) -> tuple[Run, tuple[int, int]]:
        content = self._file_content()
        try:
            interpreter = interpreter_of(content)
        except Exception as error:  # ValueError and RuntimeError, also for what it runs
            raise ArtifactError(
                f"Expected a LiteRT model. Got '{self._shown}', which TensorFlow "
                f"cannot load: {error}. Check the file."
            ) from error
        inputs = interpreter.get_input_details()
        if len(inputs) != 1 or inputs[0]["dtype"] not in TYPES:
            kinds = [f"{i['name']}: {np.dtype(i['dtype'])}" for i in inputs]
            raise PluginContractError(
                f"Expected a network with one input, RGB images of float32, uint8 or "
                f"int8. Got '{self._shown}' with {', '.join(kinds)}. Use one for "
                f"images."
            )
        shape = [None if n < 0 else int(n) for n in inputs[0]["shape_signature"]]
        size = size_of(shape, self._input_size, self._shown)
        outputs = interpreter.get_output_details()
        places = {output["name"]: i for i, output in enumerate(outputs)}
        self._outputs = list(places)
        output = choose("output", self._outputs, self.output, option=self._option)
        place = places[output]
        network = LiteRTNetwork(content, size, place)

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            result = network(_quantised(pixels, inputs[0]))
            return pooled(_dequantised(result, outputs[place]))

        return run, size

    def _file_content(self) -> bytes:
        content = self._file().read_bytes()
        # Operations of TensorFlow itself write files, too. Those of LiteRT compute.
        if found := re.search(rb"Flex[A-Z][A-Za-z0-9]+\0", content):
            name = found[0].strip(b"\0").decode()
            raise ArtifactError(
                f"Expected a LiteRT model that only computes. Got '{self._shown}', "
                f"whose operation '{name}' is one of TensorFlow itself, which may do "
                f"anything. Convert it with TFLITE_BUILTINS alone."
            )
        return content

    def _constants(self, n: int) -> Iterable[NDArray[Any]]:
        interpreter = interpreter_of(self._file_content())
        for tensor in interpreter.get_tensor_details():
            if n in tensor["shape"] and tensor["dtype"] == np.float32:
                with suppress(ValueError):  # not a constant, and nothing computed yet
                    yield interpreter.get_tensor(tensor["index"])


def _quantised(pixels: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """Return pixels as the input wants them: q = round(x / scale) + zero point."""
    kind = tensor["dtype"]
    scale, zero = tensor["quantization"]
    if kind == np.float32:
        return pixels
    limits = np.iinfo(kind)
    whole = np.round(pixels / scale if scale else pixels) + zero
    return np.asarray(np.clip(whole, limits.min, limits.max), kind)


def _dequantised(result: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    scale, zero = tensor["quantization"]
    if result.dtype == np.float32 or not scale:
        scale, zero = 1, 0
    return np.asarray((result.astype(np.float32) - zero) * np.float32(scale))
