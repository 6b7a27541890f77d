"""The classifier of a backbone's pretraining: its classes, its weights, its logits.

Files are made here, with the arrays that they hold as the oracle; Keras is that of
whole networks.
"""

import pickle
import re
import sys
import threading
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from zeroshot import registry
from zeroshot.backbones import (
    CallableBackbone,
    ClassifierHead,
    ColorHOG,
    Concatenated,
    KerasApplication,
    KerasModel,
    LiteRTModel,
    ONNXModel,
    Quantised,
    TFHub,
)
from zeroshot.backbones.base import WeightsFile, head_of, logits_of
from zeroshot.backbones.class_list import class_names
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.backbones.keras.head import with_top
from zeroshot.backbones.keras.table import applications
from zeroshot.errors import (
    ArtifactError,
    InvalidImageError,
    MissingExtraError,
    NoClassifierError,
    PluginContractError,
)
from zeroshot.images import read_fitted
from zeroshot.testing import check_backbone

# Keras 3.15 with NumPy 2.4, whenever it writes weights; TensorFlow's converter.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
]

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((5, 4)).astype(np.float32)  # features to logits
BIAS = RANDOM.standard_normal(4).astype(np.float32)
EMBED = RANDOM.standard_normal((3, 5)).astype(np.float32)  # mean colour to features
CLASSES = ["cat, house cat", "dog", "emu", "okapi"]
NAMES = (("cat", "house cat"), ("dog",), ("emu",), ("okapi",))


def images_of(n: int = 3, size=(16, 16)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), np.uint8)


def features_of(images) -> np.ndarray:
    return (images / 255).mean(axis=(1, 2)) @ EMBED


def agrees(got, expected, rtol=1e-5):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.ptp(expected))


# ------------------------------------------------------------------------ class lists


def test_class_names_of_imagenet_are_in_the_order_of_keras():
    names = class_names("imagenet-1k")
    assert names == tuple(names for _, names in imagenet_classes())
    assert (len(names), names[291][0]) == (1000, "lion")


@pytest.mark.parametrize(
    "content",
    [
        b"cat, house cat\ndog\nemu\nokapi\n",
        b"\xef\xbb\xbfcat,house cat\r\ndog\r\n emu \r\nokapi",
    ],
)
def test_class_names_of_a_file_are_its_lines(tmp_path, content):
    path = tmp_path / "imagenet-1k.txt"
    path.write_bytes(content)
    assert class_names(path) == class_names(str(path)) == class_names(CLASSES) == NAMES
    assert class_names(np.array(CLASSES)) == NAMES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\n\ndog\n", r"Got '\\n' in line 2 of .*no blank ones"),
        (b"cat\ndog\n\n", "in line 3 of"),
        (b"cat\ndog,, hound\n", "in line 2 of"),
        (
            b"cat\ndog\ncat\n",
            "each class once. Got 'cat' in line 1 of .*, and in line 3",
        ),
        (b"cat\nd\0g\n", "in line 2 of"),
        (b"cat\nd\xffg\n", "UTF-8 text.* Got line 2 of"),
        ("cat\ndog\n".encode("utf-16"), "UTF-8 text.* Got line 1 of"),
    ],
)
def test_class_names_of_a_broken_file_name_the_line(tmp_path, content, said):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ArtifactError, match=said):
        class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["cat", "dog", "cat"], "Got 'cat' in item 1 of classes, and in item 3 of"),
        (["cat", ""], "in item 2"),
        (["cat", 7], "Got 7 in item 2"),
        ({"cat", "dog"}, "Got set"),
        (7, "Got int"),
    ],
)
def test_class_names_that_are_no_list_raise(classes, said):
    with pytest.raises(PluginContractError, match=said):
        class_names(classes)


@pytest.mark.parametrize("path", ["imagenet", ".", "/nowhere/names.txt", "a\0b"])
def test_class_names_of_no_file_raise(path):
    with pytest.raises(ArtifactError, match="'imagenet-1k' or a file"):
        class_names(path)


# ------------------------------------------------------------------------------- head


@pytest.mark.parametrize(
    ("names", "weights", "bias", "said"),
    [
        (NAMES[:1], None, None, "two classes or more. Got 1"),
        ((), None, None, "two classes or more. Got 0"),
        ((("cat",), ()), None, None, r"Got \(\)"),
        ((("cat",), ("dog", " ")), None, None, "tuple of texts"),
        (("cat", "dog"), None, None, "Got 'cat'"),
        (NAMES[:3], KERNEL, BIAS, "list of 4 names for a classifier of 4 outputs. Got"),
        (NAMES, KERNEL, BIAS[:3], "list of 3 names .* of 3 outputs. Got 4"),
        (NAMES, KERNEL.T, BIAS, "of 5 outputs. Got 4"),
        (NAMES, KERNEL, None, "Expected bias .* Got None"),
        (NAMES, None, BIAS, "Expected weights .* Got None"),
        (NAMES, KERNEL.astype(float), BIAS, r"Got float64 of shape \(5, 4\)"),
        (NAMES, KERNEL[0], BIAS, r"Got float32 of shape \(4,\)"),
        (NAMES, KERNEL * np.float32(np.nan), BIAS, "finite weights .* Got 20 that"),
    ],
)
def test_head_that_does_not_fit_raises(names, weights, bias, said):
    with pytest.raises(PluginContractError, match=said):
        ClassifierHead(names, weights, bias)


def test_head_without_weights_has_no_logits_of_features():
    with pytest.raises(PluginContractError, match=r"one dense layer.* Got one of 4"):
        ClassifierHead(NAMES, None, None).logits(np.zeros((2, 5), np.float32))


class Older(ColorHOG):
    """A plugin of the older contract: a head, and no method for logits."""

    def __init__(self, rows=None, names=NAMES):
        super().__init__(32)
        self.rows, self.names = rows or self.dim, names

    def classifier_head(self):
        weights = np.random.default_rng(len(self.names)).standard_normal((self.rows, 4))
        return ClassifierHead(
            self.names,
            weights.astype(np.float32)[:, : len(self.names)],
            BIAS[: len(self.names)],
        )


def test_head_of_an_older_plugin_gives_logits_too():
    backbone, images = Older(), images_of(size=(32, 32))
    head = head_of(backbone)
    expected = backbone.embed(images) @ head.weights + BIAS
    np.testing.assert_array_equal(logits_of(backbone, images), expected)


def test_head_of_a_backbone_without_one_or_of_another_width_raises():
    for ask in (head_of, lambda each: logits_of(each, images_of(size=(32, 32)))):
        with pytest.raises(NoClassifierError, match="'color-hog', which has none"):
            ask(ColorHOG(32))
        with pytest.raises(PluginContractError, match="Got weights for 7"):
            ask(Older(rows=7))


# ------------------------------------------------------------------------------- ONNX

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


# ------------------------------------------------------------------------------ Keras


def make_model(*end, seed=0):
    """Build a small network; ``end`` are its layers after the pooled features."""
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    for layer in end:
        x = layer(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:  # the biases too
        if "variance" not in weight.name:
            weight.assign(RANDOM.standard_normal(weight.shape) / 2)
    return model


def dense_ends():
    from keras import layers

    flat = layers.Flatten()
    last = {"name": "predictions"}
    return {
        "linear": (flat, layers.Dense(4, **last)),
        "softmax": (flat, layers.Dropout(0.5), layers.Dense(4, "softmax", **last)),
        "activation": (flat, layers.Dense(4), layers.Activation("softmax", **last)),
        "no bias": (flat, layers.Dense(4, use_bias=False, **last)),
        "convolution": (
            layers.Dropout(0.1),
            layers.Conv2D(4, 1),
            layers.Reshape((4,)),
            layers.Softmax(**last),
        ),
    }


def keras_model(model, **options):
    given = {"layer": "avg_pool", "logits": "predictions", "classes": CLASSES}
    return KerasModel(model, **given | options)


def raw_logits(model, images):
    """Compute what the layer before the softmax gives, by Keras."""
    output = model(images.astype(np.float32), training=False).numpy()
    return np.log(output) if (abs(output.sum(axis=1) - 1) < 1e-5).all() else output


@pytest.mark.parametrize(
    "way", ["linear", "softmax", "activation", "no bias", "convolution"]
)
@pytest.mark.parametrize("layer", ["avg_pool", "conv"])
def test_keras_dense_layer_is_found(way, layer):
    model, images = make_model(*dense_ends()[way]), images_of()
    backbone = keras_model(model, layer=layer)
    head = backbone.classifier_head()
    assert (head.class_names, head.weights.shape) == (NAMES, (6, 4))
    weights = next(each for each in model.layers[::-1] if each.weights).get_weights()
    np.testing.assert_array_equal(head.weights, weights[0].reshape(6, 4))
    np.testing.assert_array_equal(head.bias, [*weights, np.zeros(4)][1])
    logits, expected = backbone.logits(images), raw_logits(model, images)
    np.testing.assert_allclose(
        log_softmax(logits, axis=1), log_softmax(expected, axis=1), atol=1e-4
    )
    np.testing.assert_array_equal(
        logits, backbone.embed(images) @ head.weights + head.bias
    )


def test_keras_of_more_layers_has_logits_alone():
    from keras import layers

    for activation in ("linear", "softmax"):
        model = make_model(
            layers.Flatten(),
            layers.Dense(6, "relu"),
            layers.Dense(4, activation, name="predictions"),
        )
        backbone, images = keras_model(model), images_of()
        assert backbone.classifier_head().weights is None
        logits = backbone.logits(images)
        np.testing.assert_allclose(logits, raw_logits(model, images), atol=1e-4)
        if activation == "softmax":
            np.testing.assert_allclose(softmax(logits, 1).sum(1), 1, rtol=1e-5)
            check_backbone(backbone)


def test_keras_classifier_that_is_not_dense_on_these_features_is_not_taken_for_it():
    from keras import layers

    model = make_model(
        layers.BatchNormalization(),  # between the features and the dense layer
        layers.Flatten(),
        layers.Dense(4, name="predictions"),
    )
    assert keras_model(model).classifier_head().weights is None
    last = keras_model(model, layer=model.layers[-2].name)
    assert last.classifier_head().weights.shape == (6, 4)


def test_keras_file_with_a_classifier_round_trips_by_its_spec(tmp_path):
    model = make_model(*dense_ends()["softmax"])
    model.save(tmp_path / "m.keras")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    spec = (
        f"keras:{tmp_path}/m.keras?layer=avg_pool&logits=predictions"
        f"&classes={tmp_path}/names.txt"
    )
    backbone = registry.resolve_backbone(spec)
    head = backbone.classifier_head()
    again = registry.resolve_backbone(backbone.spec)
    np.testing.assert_array_equal(again.classifier_head().weights, head.weights)
    plain = registry.resolve_backbone(spec.partition("&")[0])
    assert plain.fingerprint == again.fingerprint == backbone.fingerprint
    with pytest.raises(PluginContractError, match=r"'prediction'.*mean 'predictions'"):
        keras_model(tmp_path / "m.keras", logits="prediction").classifier_head()
    unpickled = pickle.loads(pickle.dumps(backbone))
    np.testing.assert_array_equal(unpickled.classifier_head().bias, head.bias)


def test_fine_tuned_keras_model_keeps_the_classifier():
    from keras import layers

    deep = (
        layers.Flatten(),
        layers.Dense(6, "relu"),
        layers.Dense(4, name="predictions"),
    )
    for end in (dense_ends()["softmax"], deep):
        backbone, images = keras_model(make_model(*end)), images_of()
        copy, _ = backbone.trainable_copy()
        for weight in copy.trainable_weights:
            weight.assign(weight * 1.01)
        tuned = backbone.with_weights(backbone.weights_of(copy))
        assert tuned.fingerprint != backbone.fingerprint
        head, own = tuned.classifier_head(), backbone.classifier_head()
        assert head.class_names == own.class_names
        if own.weights is None:  # then the whole network is the untuned one
            agrees(tuned.logits(images), backbone.logits(images))
        else:
            np.testing.assert_array_equal(head.weights, own.weights)
            agrees(tuned.logits(images), own.logits(tuned.embed(images)))
        # A bundle has the tuned network alone, which ends at the features.
        alone = registry.resolve_backbone(tuned.tuned_weights.spec)
        with pytest.raises(NoClassifierError):
            alone.with_weights(tuned.tuned_weights).classifier_head()


def test_logits_in_threads_open_the_network_once():
    from keras import layers

    model = make_model(
        layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(4, name="predictions")
    )
    backbone, images, results = keras_model(model), images_of(), []
    threads = [
        threading.Thread(target=lambda: results.append(backbone.logits(images)))
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 8
    for each in results:
        np.testing.assert_array_equal(each, results[0])


# -------------------------------------------------------------- LiteRT, TF-Hub, int8


def two_outputs(*, relu=False):
    """Return a module of TensorFlow with features and logits, and its function."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.embed = tf.Variable(EMBED)
            self.kernel, self.offset = tf.Variable(KERNEL), tf.Variable(BIAS)

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images):
            features = tf.reduce_mean(images, axis=(1, 2)) @ self.embed
            logits = features @ self.kernel + self.offset
            if relu:
                logits = tf.nn.relu(logits) - 1
            return {"features": features, "logits": logits}

    module = Module()
    return module, module.__call__.get_concrete_function()


def save_litert(path: Path, *, relu=False, quantised=False) -> Path:
    import tensorflow as tf

    module, function = two_outputs(relu=relu)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        pixels = images_of(20) / np.float32(255)
        converter.representative_dataset = lambda: ([p[None]] for p in pixels)
    path.write_bytes(converter.convert())
    return path


def litert_model(path, **options):
    """Make the backbone; converted outputs have numbers for names."""
    names = dict(zip((5, 4), litert_outputs(path), strict=True))
    given = {"scaling": "unit", "output": names[5], "logits": names[4]}
    return LiteRTModel(path, **given | {"classes": CLASSES} | options)


def litert_outputs(path) -> list[str]:
    """Return the names of the outputs, that of 5 features first."""
    from zeroshot.backbones.keras.litert_conversion import interpreter_of

    outputs = interpreter_of(path.read_bytes()).get_output_details()
    return [each["name"] for each in sorted(outputs, key=lambda o: -o["shape"][-1])]


def test_litert_dense_layer_is_found_and_its_spec_round_trips(tmp_path):
    path, images = save_litert(tmp_path / "m.tflite"), images_of()
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    backbone = litert_model(path, classes=tmp_path / "names.txt")
    head = backbone.classifier_head()
    np.testing.assert_array_equal(head.weights, KERNEL)
    np.testing.assert_array_equal(head.bias, BIAS)
    logits = backbone.logits(images)
    np.testing.assert_array_equal(logits, backbone.embed(images) @ KERNEL + BIAS)
    agrees(logits, features_of(images) @ KERNEL + BIAS)
    again = registry.resolve_backbone(backbone.spec)
    np.testing.assert_array_equal(again.logits(images), logits)
    check_backbone(backbone)


@pytest.mark.parametrize("options", [{"relu": True}, {"quantised": True}])
def test_litert_of_more_layers_or_of_bytes_has_logits_alone(tmp_path, options):
    backbone = litert_model(save_litert(tmp_path / "m.tflite", **options))
    images = images_of()
    assert backbone.classifier_head().weights is None
    dense = features_of(images) @ KERNEL + BIAS
    expected = np.maximum(dense, 0) - 1 if options.get("relu") else dense
    agrees(backbone.logits(images), expected, 0.05 if "quantised" in options else 1e-5)


def test_saved_model_has_its_classifier(tmp_path):
    import tensorflow as tf

    module, function = two_outputs()
    folder = str(tmp_path / "module")
    tf.saved_model.save(module, folder, signatures=function)
    backbone = TFHub(folder, output="features", logits="logits", classes=CLASSES)
    np.testing.assert_array_equal(backbone.classifier_head().weights, KERNEL)
    agrees(backbone.logits(images_of()), features_of(images_of()) @ KERNEL + BIAS)
    assert "&logits=logits" not in (backbone.spec or "")  # its classes are a list


def test_quantised_backbone_has_the_classifier_of_the_exact_one():
    exact, images = keras_model(make_model(*dense_ends()["linear"])), images_of()
    backbone = Quantised(exact)
    head = backbone.classifier_head()
    np.testing.assert_array_equal(head.weights, exact.classifier_head().weights)
    agrees(backbone.logits(images), head.logits(backbone.embed(images)))
    with pytest.raises(NoClassifierError):
        Quantised(KerasModel(exact.model, layer="avg_pool")).classifier_head()


# ----------------------------------------------------------------- keras.applications


def save_legacy(model, path: Path) -> Path:
    """Write weights in the form of the files that Keras publishes."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def whole_network(name: str):
    """Keras' own network with random weights and its classifier, less the softmax."""
    import keras

    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, applications()[name].constructor)
    model = make(weights=None, classifier_activation=None)
    for weight in model.weights[-2:]:
        weight.assign(RANDOM.standard_normal(weight.shape) / 10)
    return model


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_application_reads_its_classifier_from_any_file_of_keras(tmp_path, suffix):
    model = whole_network("mobilenet")
    path = tmp_path / f"top{suffix}"
    if suffix == ".h5":
        save_legacy(model, path)
    elif suffix == ".keras":
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_weights)
        model.save(path)
    else:
        model.save_weights(path)
    backbone = KerasApplication("mobilenet", weights=path)
    head = backbone.classifier_head()
    kernel, bias = model.get_weights()[-2:]
    np.testing.assert_array_equal(head.weights, kernel.reshape(1024, 1000))
    np.testing.assert_array_equal(head.bias, bias)
    assert head.class_names == class_names("imagenet-1k")
    small = KerasApplication("mobilenet", weights=path, input_size=64)
    tuned = backbone.with_weights(WeightsFile("backbone.weights.h5", None, b"tuned"))
    for other in (small, tuned):
        np.testing.assert_array_equal(other.classifier_head().weights, head.weights)


@pytest.mark.slow  # 20 s: networks are built and converted
@pytest.mark.parametrize("name", ["mobilenet", "mobilenet-v3-small", "vgg16"])
def test_logits_of_an_application_are_those_of_keras(tmp_path, name):
    from zeroshot.backbones.keras.network import scale_pixels

    model = whole_network(name)
    path = save_legacy(model, tmp_path / "top.h5")
    backbone, images = KerasApplication(name, weights=path), images_of(2, (224, 224))
    linear = backbone.classifier_head().weights is not None
    assert linear == applications()[name].linear_head
    scaled = scale_pixels(images.astype(np.float32), applications()[name].scaling)
    expected = model(scaled, training=False).numpy()
    got = backbone.logits(images)
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    smaller = KerasApplication(name, weights=path, input_size=160)
    assert smaller.logits(images[:, :160, :160]).shape == (2, 1000)


def test_application_of_more_layers_has_logits_alone(tmp_path):
    model = whole_network("mobilenet-v3-small")
    path = save_legacy(model, tmp_path / "top.h5")
    backbone = KerasApplication("mobilenet-v3-small", weights=path)
    head = backbone.classifier_head()
    assert (len(head.class_names), head.weights, head.bias) == (1000, None, None)
    with pytest.raises(InvalidImageError):
        backbone.logits(images_of(1, (64, 64)))


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet-v3-small"])
def test_application_whose_file_lacks_the_classifier_names_the_one_that_has_it(
    tmp_path, name
):
    import keras

    row = applications()[name]
    bare = getattr(keras.applications, row.constructor)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    path = save_legacy(bare, tmp_path / "bare.h5")
    with pytest.raises(ArtifactError) as caught:
        KerasApplication(name, weights=path).classifier_head()
    top = with_top(row)
    for part in (str(path), f"'{top.file}'", top.url, "0 such kernels"):
        assert part in str(caught.value)
    path.write_bytes(b"PK\x03\x04 junk")
    with pytest.raises(ArtifactError, match="that Keras wrote"):
        KerasApplication(name, weights=path).classifier_head()
    with pytest.raises(NoClassifierError, match="its weights are random"):
        KerasApplication(name, weights=None).classifier_head()


def check_top_file_against_keras(name: str, monkeypatch) -> None:
    """Let Keras build with its published weights, but for fetching and reading them."""
    import keras
    from keras.src.utils import file_utils

    seen = {}

    def record_file(fname, origin, file_hash=None, **_):
        seen.update(file=fname, url=origin, hash=file_hash)

    monkeypatch.setattr(file_utils, "get_file", record_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MobileNets, of an open size
        getattr(keras.applications, applications()[name].constructor)()
    row = with_top(applications()[name])
    assert seen == {"file": row.file, "url": row.url, "hash": row.hash}


def test_top_file_of_an_application_is_that_of_keras(monkeypatch):
    check_top_file_against_keras("mobilenet-v3-small", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(applications()))
def test_top_file_of_every_application_is_that_of_keras(name, monkeypatch):
    import keras

    check_top_file_against_keras(name, monkeypatch)
    keras.backend.clear_session()


# ----------------------------------------------------------------------- side by side


def test_concatenated_has_the_classes_that_its_parts_share():
    names = (NAMES[3], ("gnu",), NAMES[1], NAMES[0])
    parts = [Older(), Older(names=names)]
    both, images = Concatenated(parts), images_of(size=(32, 32))
    head = both.classifier_head()
    assert head.class_names == (NAMES[0], NAMES[1], NAMES[3])
    expected = []
    for part, columns in zip(parts, ([0, 1, 3], [3, 2, 0]), strict=True):
        rows = part.classifier_head().weights[:, columns].T.astype(float)
        rows -= rows.mean(axis=0)
        expected.append(rows.T / np.mean([np.linalg.norm(row) for row in rows]))
    np.testing.assert_allclose(head.weights, np.concatenate(expected), atol=1e-6)
    np.testing.assert_array_equal(head.bias, np.zeros(3))
    np.testing.assert_array_equal(
        both.logits(images), both.embed(images) @ head.weights
    )
    check_backbone(both)


class Deeper(Older):
    """A plugin whose classifier is more than one layer."""

    def classifier_head(self):
        return ClassifierHead(NAMES, None, None)


def mean_color(images):
    return images.mean(axis=(1, 2)) / 255


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (ColorHOG(32), "'color-hog' without one"),
        (
            CallableBackbone(mean_color, input_size=32, fingerprint="1", name="mine"),
            "'mine' without one",
        ),
        (
            KerasApplication(weights=None, input_size=32),
            "'mobilenet-v2' without one.*ran",
        ),
        (Deeper(), "'color-hog', whose classifier is more"),
        (Older(names=(NAMES[0], ("gnu",))), "Got 1 in common of 'color-hog' 4, 'color"),
    ],
)
def test_concatenated_with_a_part_that_does_not_fit_names_it(part, said):
    both = Concatenated([Older(), part])
    for ask in (both.classifier_head, lambda: both.logits(images_of(size=(32, 32)))):
        with pytest.raises(NoClassifierError, match=said):
            ask()


# -------------------------------------------------------------------------- real data


def test_real_mobilenet_v2_has_its_classifier(real_data, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    head = registry.resolve_backbone("mobilenet-v2:128").classifier_head()
    assert (head.weights.shape, head.class_names[291][0]) == ((1280, 1000), "lion")


def test_real_onnx_file_has_its_classifier(real_data):
    pytest.importorskip("onnxruntime")
    import onnx

    path = real_data / "onnx" / "efficientnet-lite0.onnx"
    options = "scaling=tf&output=features&logits=logits&classes=imagenet-1k"
    head = registry.resolve_backbone(f"onnx:{path}?{options}").classifier_head()
    own = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(path).graph.initializer
    }
    np.testing.assert_array_equal(head.weights, own["m._fc.weight"].T)
    np.testing.assert_array_equal(head.bias, own["m._fc.bias"])


@pytest.mark.slow  # 15 s: 1000 photographs
def test_real_onnx_file_names_the_classes_of_photographs(real_data):
    path = real_data / "onnx" / "efficientnet-lite0.onnx"
    options = "scaling=tf&output=features&logits=logits&classes=imagenet-1k"
    backbone = registry.resolve_backbone(f"onnx:{path}?{options}")
    ids = [wordnet_id for wordnet_id, _ in imagenet_classes()]
    photographs = sorted((real_data / "images" / "imagenet-sample").glob("*.JPEG"))
    right = []
    for start in range(0, len(photographs), 50):
        some = photographs[start : start + 50]
        images = np.stack([read_fitted(each, (256, 256)) for each in some])
        images = images[:, 16:-16, 16:-16]
        true = [ids.index(each.name.partition("_")[0]) for each in some]
        right += (backbone.logits(images).argmax(axis=1) == true).tolist()
    assert len(right) == 1000
    assert np.mean(right) > 0.86  # 0.867
