"""Classifiers in ONNX files, made here; the oracle are the arrays that they hold."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from head_cases import (
    BIAS,
    CLASSES,
    EMBED,
    KERNEL,
    NAMES,
    agrees,
    features_of,
    images_of,
)
from scipy.special import log_softmax

from zeroshot import registry
from zeroshot.backbones import ONNXModel
from zeroshot.errors import (
    InvalidImageError,
    MissingExtraError,
    NoClassifierError,
    PluginContractError,
)
from zeroshot.testing import check_backbone

DENSE = {
    "gemm": (["Gemm out kernel bias"], {"kernel": KERNEL}, {}),
    "transposed": (["Gemm out kernel bias"], {"kernel": KERNEL.T}, {"transB": 1}),
    "scaled": (["Gemm out kernel bias"], {"kernel": KERNEL / 2, "bias": BIAS * 4},
               {"alpha": 2.0, "beta": 0.25}),
    "product": (["MatMul out kernel", "Add last bias"], {"kernel": KERNEL}, {}),
    "no bias": (["MatMul out kernel"], {"kernel": KERNEL}, {}),
    "dropped": (["Dropout out", "Identity last", "Gemm last kernel bias",
                 "Flatten last"], {"kernel": KERNEL}, {}),
    "convolved": (["Conv pooled kernel bias", "Flatten last"],
                  {"kernel": KERNEL.T[:, :, None, None]}, {}),
    "softmax": (["Gemm out kernel bias", "Softmax last"], {"kernel": KERNEL}, {}),
}  # fmt: skip
DEEPER = {
    "two layers": (["Gemm out kernel bias", "Relu last", "MatMul last square"],
                   {"kernel": KERNEL, "square": np.eye(4, dtype=np.float32)[::-1]}, {}),
    "scores": (["Gemm out kernel bias", "Mul last bias", "Softmax last"],
               {"kernel": KERNEL}, {}),
}  # fmt: skip


def save_onnx(path: Path, way, *, outputs=("out", "logits"), shape=("n", 3, 16, 16)):
    """Write mean colour times EMBED, and what ``way`` says; "last" is the last made."""
    from onnx import helper, numpy_helper, save

    lines, arrays, options = way
    nodes = [
        helper.make_node("Conv", ["image", "embed"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["out"]),
    ]
    for i, line in enumerate(lines):
        kind, *inputs = line.split()
        inputs = [f"made{i - 1}" if each == "last" else each for each in inputs]
        made = "logits" if i == len(lines) - 1 else f"made{i}"
        own = options if kind == "Gemm" else {}
        nodes.append(helper.make_node(kind, inputs, [made], **own))
    arrays = {"embed": EMBED.T[:, :, None, None], "bias": BIAS} | arrays
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [
            numpy_helper.from_array(np.ascontiguousarray(a), n)
            for n, a in arrays.items()
        ],
    )
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def onnx_model(path, **options):
    given = {"scaling": "unit", "output": "out", "logits": "logits", "classes": CLASSES}
    return ONNXModel(path, **given | options)


@pytest.mark.parametrize("way", DENSE)
def test_onnx_dense_layer_is_found_however_it_is_written(tmp_path, way):
    pytest.importorskip("onnxruntime")
    backbone = onnx_model(save_onnx(tmp_path / "m.onnx", DENSE[way]))
    head, images = backbone.classifier_head(), images_of()
    assert head.class_names == NAMES
    agrees(head.weights, KERNEL)
    bias = 0 * BIAS if way == "no bias" else BIAS
    agrees(head.bias, bias)
    logits = backbone.logits(images)
    np.testing.assert_array_equal(logits, backbone.embed(images) @ head.weights + bias)
    agrees(logits, features_of(images) @ KERNEL + bias)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("way", DEEPER)
@pytest.mark.parametrize("batch", ["n", 2])
def test_onnx_of_more_layers_has_logits_alone(tmp_path, way, batch):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "m.onnx", DEEPER[way], shape=(batch, 3, 16, 16))
    backbone, images = onnx_model(path), images_of()
    head = backbone.classifier_head()
    assert (head.class_names, head.weights, head.bias) == (NAMES, None, None)
    dense = features_of(images) @ KERNEL + BIAS
    expected = {
        "two layers": np.maximum(dense, 0)[:, ::-1],
        "scores": log_softmax(dense * BIAS, axis=1),
    }[way]
    agrees(backbone.logits(images), expected)
    assert backbone.logits(images[:0]).shape == (0, 4)
    with pytest.raises(InvalidImageError):
        backbone.logits(images[:, :9])
    check_backbone(backbone)


def test_onnx_of_a_sigmoid_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    way = (["Gemm out kernel bias", "Sigmoid last"], {"kernel": KERNEL}, {})
    backbone = onnx_model(save_onnx(tmp_path / "m.onnx", way))
    with pytest.raises(PluginContractError, match="do not sum to 1, as a sigmoid"):
        backbone.logits(images_of())


def test_classifier_options_change_the_spec_and_not_the_fingerprint(
    tmp_path, monkeypatch
):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    save_onnx(tmp_path / "m.onnx", DENSE["gemm"])
    Path("names & more.txt").write_text("\n".join(CLASSES))
    named = onnx_model("m.onnx", classes="names & more.txt")
    plain = onnx_model("m.onnx", logits=None, classes=None)
    assert named.fingerprint == plain.fingerprint
    classes = f"{tmp_path}/names%20%26%20more.txt"
    assert named.spec == (
        f"onnx:{tmp_path}/m.onnx?output=out&scaling=unit&logits=logits&classes={classes}"
    )
    again = registry.resolve_backbone(named.spec)
    assert (again.spec, again.fingerprint) == (named.spec, named.fingerprint)
    assert again.classifier_head().class_names == NAMES
    assert onnx_model("m.onnx").spec is None  # a list, which no string can name
    known = onnx_model("m.onnx", classes="imagenet-1k").spec
    assert known.endswith("&logits=logits&classes=imagenet-1k")
    with pytest.raises(NoClassifierError, match=r"names none.*logits=NAME&classes="):
        plain.classifier_head()


def test_classifier_options_that_do_not_fit_raise(tmp_path):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "m.onnx", DENSE["gemm"])
    for options, lacking in (
        ({"classes": None}, "classes"),
        ({"logits": None}, "logits"),
    ):
        backbone = onnx_model(path, **options)
        for ask in (backbone.classifier_head, lambda b=backbone: b.fingerprint):
            with pytest.raises(PluginContractError, match=f"Got no {lacking}="):
                ask()
    with pytest.raises(PluginContractError, match=r"'logit'; it has.*Say logits="):
        onnx_model(path, logits="logit").classifier_head()
    with pytest.raises(PluginContractError, match=r"list of 4 names .* Got 1000"):
        onnx_model(path, classes="imagenet-1k").classifier_head()
    with pytest.raises(PluginContractError, match="Got 3"):
        onnx_model(path, classes=CLASSES[:3]).logits(images_of())


@pytest.mark.parametrize("outputs", [("logits",), ("out", "logits")])
def test_classifier_taken_for_the_features_is_refused(tmp_path, outputs):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "m.onnx", DENSE["gemm"], outputs=outputs)
    backbone = onnx_model(path, output=None if len(outputs) == 1 else "logits")
    advice = "Name another output" if len(outputs) == 2 else "Export the network again"
    with pytest.raises(PluginContractError, match=f"its output 'logits'. {advice}"):
        backbone.classifier_head()


def test_onnx_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "m.onnx", DENSE["gemm"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError) as caught:
        onnx_model(path).classifier_head()
    assert onnx_model(path).embed(images_of()).shape == (3, 5)
    extra = re.search(r"pip install 'zeroshot\[(\w+)\]'", str(caught.value))[1]
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    needs = tomllib.loads(text)["project"]["optional-dependencies"][extra]
    assert any(re.match("onnx>", need) for need in needs)
