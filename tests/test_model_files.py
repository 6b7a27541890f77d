"""ONNX and LiteRT files: made here, with the functions that they hold as the oracle."""

import re
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from zeroshot import registry
from zeroshot.backbones import LiteRTModel, ONNXModel
from zeroshot.errors import (
    ArtifactError,
    MissingExtraError,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.testing import check_backbone

KERNEL = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])


def images_of(n: int = 3, size=(8, 6)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), np.uint8)


def expected_of(pixels: np.ndarray) -> np.ndarray:
    return pixels.mean(axis=(1, 2)) @ KERNEL


def save_onnx(path: Path, shape, *, channels_first=True, kind=1, outputs=("out",)):
    """Write mean over positions times KERNEL; the feature map is an output too."""
    from onnx import TensorProto, helper, numpy_helper, save

    kernel = KERNEL.T[:, :, None, None]  # a 1 x 1 convolution
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    if not channels_first:
        nodes.append(helper.make_node("Transpose", ["float"], ["x"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Identity", ["float"], ["x"]))
    nodes += [
        helper.make_node("Conv", ["x", "kernel"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shape", "channels_first", "kind"),
    [
        (("n", 3, 8, 6), True, 1),
        ((1, 3, 8, 6), True, 1),
        ((2, 3, 8, 6), True, 1),
        (("n", 8, 6, 3), False, 1),
        ((1, 8, 6, 3), False, 1),
        (("n", 3, 8, 6), True, 10),  # float16
    ],
)
def test_onnx_of_every_layout_computes_its_features(
    tmp_path, shape, channels_first, kind
):
    pytest.importorskip("onnxruntime")
    path = save_onnx(
        tmp_path / "m.onnx", shape, channels_first=channels_first, kind=kind
    )
    backbone, images = ONNXModel(path, scaling="torch"), images_of()
    assert (backbone.dim, backbone.input_size) == (5, (8, 6))
    expected = expected_of((images / 255 - MEAN) / DEVIATION)
    tolerance = 1e-2 if kind == 10 else 1e-5
    features = backbone.embed(images)
    np.testing.assert_allclose(features, expected, rtol=0, atol=tolerance)


def test_onnx_keeps_the_contract(tmp_path):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "m.onnx", ("n", 3, 8, 8))
    check_backbone(ONNXModel(path, scaling="unit"))


def test_onnx_of_open_size_needs_one_and_outputs_are_named(tmp_path):
    pytest.importorskip("onnxruntime")
    path = save_onnx(
        tmp_path / "m.onnx", ("n", 3, "height", "width"), outputs=("out", "map")
    )
    with pytest.raises(PluginContractError, match="Expected input_size"):
        _ = ONNXModel(path, scaling="unit").input_size
    with pytest.raises(PluginContractError, match="it has 'out', 'map'"):
        ONNXModel(path, scaling="unit", input_size=8).embed(images_of(1, (8, 8)))
    images = images_of()
    for output in ("out", "map"):  # the map is averaged, channels first
        backbone = ONNXModel(path, scaling="unit", input_size=(8, 6), output=output)
        np.testing.assert_allclose(
            backbone.embed(images), expected_of(images / 255), rtol=1e-4, atol=1e-5
        )


def test_onnx_files_that_are_no_backbone_raise(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load"):
        ONNXModel(tmp_path / "junk.onnx", scaling="unit").embed(images_of())
    with pytest.raises(ArtifactError, match="is not a file"):
        _ = ONNXModel(tmp_path / "absent.onnx", scaling="unit").fingerprint
    from onnx import helper, save

    graph = helper.make_graph(
        [helper.make_node("Identity", ["tokens"], ["out"])],
        "tokens",
        [helper.make_tensor_value_info("tokens", 1, ("n", 7))],
        [helper.make_tensor_value_info("out", 1, ("n", 7))],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    save(model, tmp_path / "tokens.onnx")
    with pytest.raises(PluginContractError, match=r"shape \(None, 7\)"):
        ONNXModel(tmp_path / "tokens.onnx", scaling="unit").embed(images_of())


def test_onnx_without_its_runtime_says_what_to_install(tmp_path, monkeypatch):
    path = save_onnx(tmp_path / "m.onnx", ("n", 3, 8, 6))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError) as caught:
        ONNXModel(path, scaling="unit").embed(images_of())
    extra = re.search(r"pip install 'zeroshot\[(\w+)\]'", str(caught.value))[1]
    project = tomllib.loads(
        (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    )["project"]
    assert any(
        need.startswith("onnxruntime")
        for need in project["optional-dependencies"][extra]
    )


@pytest.mark.parametrize("backbone", [ONNXModel, LiteRTModel])
def test_scaling_that_is_not_said_or_wrong_raises(tmp_path, backbone):
    for options in ({}, {"scaling": "imagenet"}, {"scaling": np.negative}):
        with pytest.raises(PluginContractError, match="Expected scaling"):
            _ = backbone(tmp_path / "m", **options).fingerprint
    with pytest.raises(PluginContractError, match="resize"):
        _ = backbone(tmp_path / "m", scaling="tf", resize="stretch").fingerprint


def save_litert(path: Path, *, quantised: str | None = None, size=(8, 6)) -> Path:
    """Write mean over positions times KERNEL, of floats or fully quantised."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(KERNEL)

        @tf.function(input_signature=[tf.TensorSpec((None, *size, 3), tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, axis=(1, 2)) @ self.kernel

    module = Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        pixels = images_of(20) / np.float32(127.5) - np.float32(1)
        converter.representative_dataset = lambda: ([p[None]] for p in pixels)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = getattr(tf, quantised)
        converter.inference_output_type = getattr(tf, quantised)
    path.write_bytes(converter.convert())
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")  # of TensorFlow's converter
@pytest.mark.parametrize("quantised", [None, "uint8", "int8"])
def test_litert_of_floats_or_bytes_computes_its_features(tmp_path, quantised):
    path = save_litert(tmp_path / "m.tflite", quantised=quantised)
    backbone, images = LiteRTModel(path, scaling="tf"), images_of()
    assert (backbone.dim, backbone.input_size) == (5, (8, 6))
    features = backbone.embed(images)
    assert features.dtype == np.float32
    expected = expected_of(images / 127.5 - 1)
    step = 0.05 if quantised else 1e-5  # means of noise are near 0, so steps are small
    np.testing.assert_allclose(features, expected, rtol=0, atol=step)
    assert np.ptp(features) > 4 * step


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_litert_keeps_the_contract_and_its_spec_round_trips(tmp_path):
    path = save_litert(tmp_path / "m.tflite", size=(8, 8))
    backbone = registry.resolve_backbone(f"litert:{path}?scaling=tf&resize=squash")
    check_backbone(backbone)
    again = registry.resolve_backbone(backbone.spec)
    assert (again.spec, again.fingerprint) == (backbone.spec, backbone.fingerprint)
    others = [
        LiteRTModel(path, scaling="unit", resize="squash"),
        LiteRTModel(path, scaling="tf"),
        LiteRTModel(path, scaling="tf", input_size=8, resize="squash"),
    ]
    prints = {each.fingerprint for each in [backbone, *others]}
    assert len(prints) == 4


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_output_of_a_classifier_is_warned_of_once(tmp_path, output):
    """Of a softmax by its values, of ImageNet's logits by their number."""
    import tensorflow as tf

    class Classifier(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 6, 3), tf.float32)])
        def __call__(self, images):
            logits = tf.reduce_mean(images, axis=(1, 2)) @ KERNEL
            if output == "probabilities":
                return tf.nn.softmax(logits)
            return tf.tile(logits, (1, 200))

    path, module = tmp_path / "m.tflite", Classifier()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(converter.convert())
    backbone = LiteRTModel(path, scaling="tf")
    said = {"probabilities": "probabilities of 5", "logits": "scores of 1000"}[output]
    with pytest.warns(ZeroShotWarning, match=f"{said} classes.*without its last"):
        backbone.embed(images_of())
    backbone.embed(images_of())  # a warning would be an error here


@pytest.mark.parametrize(
    "options",
    ["scaling=tf&scaling=unit", "scaling=", "size=0", "size=99999", "size=-1", "a=b",
     "size=" + "9" * 4300, "size=\u0662\u0662\u0664", "size=224x", "scaling"],
)  # fmt: skip
def test_spec_with_a_wrong_option_raises(options):
    with pytest.raises(PluginContractError, match="Expected") as caught:
        registry.resolve_backbone(f"onnx:/m.onnx?{options}")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("path", ["~nobody/m.onnx", "/" + "x" * 5000, "/a\0b"])
def test_impossible_path_raises_artifact_error(path):
    backbone = ONNXModel(path, scaling="unit")
    assert backbone.spec.startswith("onnx:")
    with pytest.raises(ArtifactError, match="is not a file"):
        _ = backbone.fingerprint


def test_what_is_no_litert_file_raises(tmp_path):
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="TensorFlow cannot load"):
        LiteRTModel(tmp_path / "junk.tflite", scaling="tf").embed(images_of())
