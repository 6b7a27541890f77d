"""ONNX files as backbones, run by ONNX Runtime, which is an extra."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.model_file import (
    ModelFile,
    Run,
    choose,
    in_batches,
    pooled,
    size_of,
)
from zeroshot.errors import PluginContractError
from zeroshot.storage.onnx_session import (
    import_onnx,
    onnx_content,
    onnx_model,
    onnx_sessions,
)

__all__ = ["TYPES", "ONNXModel"]

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What a network may take pixels as."""


class Layout(NamedTuple):
    """What images a network takes."""

    batch: int | None  # how many; None for any number
    channels_first: bool


class FeatureOutput(NamedTuple):
    """Where a network gives out its features."""

    output: str  # name
    n_axes: int  # 2, or 4 for a map of them


class ONNXModel(ModelFile):
    """A network in an ONNX file, as PyTorch and others write it.

    Images go in as (n, 3, height, width) or (n, height, width, 3), whichever the
    network declares; a network of a fixed batch size gets that. Needs ONNX Runtime:
    ``pip install 'zeroshot[onnx]'``.

    Parameters
    ----------
    path : path
        A file that holds its weights itself.
    output : str, optional
        Name of the output that holds the features, (n, dim) or a feature map that is
        averaged over its positions; needed where there are several.
    scaling : str
        What the network expects of pixels: ``"torch"`` (0 to 1, then ImageNet's mean
        and deviation: most networks from PyTorch), ``"tf"``, ``"unit"``,
        ``"identity"`` or ``"caffe"``; see `zeroshot.backbones.keras.network.Scaling`.
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
    The spec string is ``"onnx:"``, the path and options as in a URL:
    ``"onnx:/resnet.onnx?scaling=torch&size=224&output=features"``, with
    ``"&logits=logits&classes=imagenet-1k"`` where the file has its classifier.
    """

    NAME = "onnx"
    FILE = "an .onnx file"

    _layout: Layout
    _features: FeatureOutput

    def _read(self) -> tuple[Run, tuple[int, int]]:
        own = onnx_sessions(onnx_content(self._file(), self._shown), self._shown)
        session = own()
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES:
            raise PluginContractError(
                f"Expected a network with one input, RGB images. Got '{self._shown}' "
                f"with {', '.join(f'{i.name}: {i.type}' for i in inputs)}. Use one "
                f"for images."
            )
        kind = TYPES[inputs[0].type]
        shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
        channels_first = len(shape) == 4 and shape[1] == 3 and shape[3] != 3
        self._layout = Layout(shape[0] if shape else None, channels_first)
        if channels_first:
            shape = [shape[0], shape[2], shape[3], shape[1]]
        size = size_of(shape, self._input_size, self._shown)
        self._outputs = [each.name for each in session.get_outputs()]
        output = choose("output", self._outputs, self.output, option=self._option)
        place = inputs[0].name

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            if channels_first:
                pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
            result = np.asarray(own().run([output], {place: pixels.astype(kind)})[0])
            self._features = FeatureOutput(output, result.ndim)
            return pooled(result, 1 if channels_first else -1)

        return lambda pixels: in_batches(run, pixels, shape[0]), size

    def opened(self) -> tuple[Any, Layout, FeatureOutput]:
        """Return the file, parsed, and what was found when the network was tried.

        Returns
        -------
        model : onnx.ModelProto
        layout : Layout
        features : FeatureOutput

        Raises
        ------
        ArtifactError, PluginContractError, MissingExtraError
            As ``embed``.
        """
        self.embed(np.zeros((1, *self.input_size, 3), np.uint8))
        content = onnx_content(self._file(), self._shown)
        return onnx_model(content, self._shown), self._layout, self._features

    def _constants(self, n: int) -> Iterable[NDArray[Any]]:
        content = onnx_content(self._file(), self._shown)
        onnx, graph = import_onnx(), onnx_model(content, self._shown).graph
        factors: dict[str, float] = {}
        for node in graph.node:
            if node.op_type == "Gemm":  # alpha A B + beta C
                given = {each.name: each.f for each in node.attribute}
                scale = (1, given.get("alpha", 1), given.get("beta", 1))
                factors |= dict(zip(node.input, scale, strict=False))
        stored = [(each.name, each) for each in graph.initializer]
        for node in graph.node:
            if node.op_type == "Constant":
                stored += [(node.output[0], each.t) for each in node.attribute]
        kinds = onnx.TensorProto
        floats = (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE)
        for name, tensor in stored:
            if n in tensor.dims and tensor.data_type in floats:
                array = onnx.numpy_helper.to_array(tensor)
                yield array * np.float32(factors.get(name, 1))
