"""The classifier of a backbone: the contract, side by side, real files."""

import numpy as np
import pytest
from head_cases import BIAS, KERNEL, NAMES, images_of

from zeroshot import registry
from zeroshot.backbones import (
    CallableBackbone,
    ClassifierHead,
    ColorHOG,
    Concatenated,
    KerasApplication,
)
from zeroshot.backbones.base import head_of, logits_of
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.images import read_fitted
from zeroshot.testing import check_backbone


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
