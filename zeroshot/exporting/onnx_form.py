"""ONNX files: written from a Keras network or round an ONNX network, and run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.exported.onnx import ONNXModel
from zeroshot.backbones.keras.network import Network, scale_pixels
from zeroshot.errors import ArtifactError, MissingExtraError, PluginContractError
from zeroshot.exporting.networks import (
    IMAGE,
    Head,
    Run,
    keras_network,
    one_by_one,
)
from zeroshot.exporting.onnx_values import Graph, Value
from zeroshot.tensorflow_import import import_tensorflow, stderr_set_aside

__all__ = ["write_onnx"]

OPSET = 17  # which ONNX Runtime 1.12, of 2022, reads
OLDEST = 11  # of a network that is given; what is added to it needs as much
CPU = "CPUExecutionProvider"
NETWORK = "network/"
EXTRA = "Got no such package. Run: pip install 'zeroshot[export]'"


class _Part(NamedTuple):
    """A model of a network, in a graph that is to be added to it."""

    model: Any
    graph: Graph
    n_before: int  # nodes of the graph before those of the model
    features: Value
    batch: int | None = None  # images it takes; None for any number


def write_onnx(path: Path, backbone: Backbone, head: Head) -> Run:
    """Write a network and what follows it; return what runs the file.

    Raises MissingExtraError if a package is missing; PluginContractError if ONNX cannot
    hold the network; ArtifactError if ONNX Runtime cannot run the file.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the packages onnx and onnxruntime, for ONNX files. {EXTRA}"
        ) from error
    if isinstance(backbone, ONNXModel):
        part = _round_onnx(backbone)
    else:
        part = _of_keras(keras_network(backbone, "onnx"))
    own, graph = part.model.graph, part.graph
    outputs = head(part.features, graph)
    for name, value in outputs.items():
        graph.node("Identity", value, output=name)
    nodes = [*graph.nodes[: part.n_before], *own.node, *graph.nodes[part.n_before :]]
    for field in ("input", "output", "node", "value_info"):
        own.ClearField(field)
    own.node.extend(nodes)
    own.initializer.extend(graph.constants)
    made, kinds, n = onnx.helper.make_tensor_value_info, onnx.TensorProto, part.batch
    own.input.append(made(IMAGE, kinds.UINT8, (n or "n", *backbone.input_size, 3)))
    own.output.extend(made(name, kinds.FLOAT, (n or "n", None)) for name in outputs)
    try:
        path.write_bytes(part.model.SerializeToString())
    except Exception as error:  # of protobuf, above 2 GB
        raise ArtifactError(
            f"Expected network and labels that fit into one ONNX file, of 2 GB. Got "
            f"{error}. Export to saved-model, or fewer labels."
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=[CPU])
    except Exception as error:  # of its own, without a common base
        raise ArtifactError(
            f"Expected a file that ONNX Runtime can run. Got {error}. Export to tflite "
            f"or saved-model."
        ) from error
    names = list(outputs)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, {IMAGE: images}), strict=True))

    return run if part.batch is None else one_by_one(run)


def _of_keras(network: Network) -> _Part:
    """Return a Keras network as a model: from images in its graph to features."""
    tf = import_tensorflow()
    try:
        import tf2onnx
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package tf2onnx, for Keras networks in ONNX files. {EXTRA}"
        ) from error
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    function = tf.function(lambda image: network.compiled(image), autograph=False)
    images = tf.TensorSpec((None, *network.input_size, 3), tf.uint8, name=IMAGE)
    try:
        with _quietly():
            # Frozen first: tf2onnx's own way takes what a layer holds beside its
            # weights for inputs, as a Normalization its mean (EfficientNet B0 to V2).
            frozen = convert_variables_to_constants_v2(
                function.get_concrete_function(images)
            )
            places = frozen.inputs[0].name, frozen.outputs[0].name
            converted = tf2onnx.tfonnx.process_tf_graph(
                frozen.graph,
                opset=OPSET,
                input_names=[places[0]],
                output_names=[places[1]],
            )
            # Not by `tf2onnx.convert`, which keeps a copy of all weights for each step,
            # to go back to: 7 GB for ResNet50.
            converted = tf2onnx.optimizer.optimize_graph(converted, catch_errors=False)
            model = converted.make_model(network.model.name)
    except Exception as error:  # of both, of many kinds
        raise ArtifactError(
            f"Expected a network that tf2onnx can convert. Got "
            f"'{network.model.name}': {type(error).__name__}: {str(error)[:300]}. "
            f"Export to tflite or saved-model."
        ) from error
    _check_operations(model, network.model.name)
    graph = Graph(OPSET)
    graph.node("Identity", Value(graph, IMAGE), output=places[0])
    return _Part(model, graph, 1, Value(graph, places[1]))


@contextmanager
def _quietly() -> Iterator[None]:
    """Drop what TensorFlow and tf2onnx say while they convert."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with stderr_set_aside(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_operations(model: Any, name: str) -> None:
    """Refuse a network with operations that tf2onnx only copied."""
    import onnx

    foreign = {
        node.op_type
        for node in model.graph.node
        if not onnx.defs.has(node.op_type, node.domain)
    }
    if foreign:
        raise PluginContractError(
            f"Expected a network of operations that ONNX has. Got '{name}' with "
            f"{', '.join(sorted(foreign))}, which tf2onnx cannot express. Export to "
            f"tflite or saved-model."
        )


def _round_onnx(backbone: ONNXModel) -> _Part:
    """Return an ONNX network with pixel scaling before it and pooling behind it."""
    import onnx
    from onnx.compose import add_prefix

    if callable(backbone.scaling):
        raise PluginContractError(
            f"Expected a backbone with a named scaling. Got {backbone!r}, where a "
            f"function of Python scales the pixels. Put it into the network."
        )
    model, layout, found = backbone.opened()
    # Its names may be ours: "image", "scores".
    model = add_prefix(model, prefix=NETWORK)
    own = model.graph
    opset = max(each.version for each in model.opset_import if not each.domain)
    if opset < OLDEST or layout.batch not in (None, 1):
        raise PluginContractError(
            f"Expected a network of opset {OLDEST} or newer, for one image or for any "
            f"number. Got {backbone!r} of opset {opset}, for "
            f"{layout.batch or 'any number'}. Export it from its framework again."
        )
    model.ir_version = max(model.ir_version, 4)  # since then constants are no inputs
    graph = Graph(opset)
    pixels: Any = graph.cast(Value(graph, IMAGE), onnx.TensorProto.FLOAT)
    pixels = scale_pixels(pixels, backbone.scaling)
    if layout.channels_first:
        pixels = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])
    weights = {each.name for each in own.initializer}
    (place,) = [each for each in own.input if each.name not in weights]
    kind = place.type.tensor_type.elem_type
    graph.node("Cast", pixels, to=kind, output=place.name)
    n_before = len(graph.nodes)
    features = graph.cast(Value(graph, NETWORK + found.output), onnx.TensorProto.FLOAT)
    if found.n_axes == 4:
        axes = (2, 3) if layout.channels_first else (1, 2)
        features = graph.reduced("ReduceMean", features, axes, keepdims=False)
    return _Part(model, graph, n_before, features, layout.batch)
