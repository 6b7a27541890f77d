"""Python functions, and several backbones side by side."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from zeroshot import registry
from zeroshot.backbones import CallableBackbone, ColorHOG, Concatenated
from zeroshot.cli import app
from zeroshot.errors import InvalidImageError, PluginContractError, UnknownPluginError
from zeroshot.features import extract_features
from zeroshot.testing import check_backbone


def images_of(n: int = 3, side: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, side, side, 3), np.uint8)


def mean_color(images):
    return images.mean(axis=(1, 2)) / 255


def test_callable_keeps_the_contract_and_computes():
    backbone = CallableBackbone(mean_color, input_size=16, fingerprint="mean-1")
    check_backbone(backbone)
    images = images_of(2, 16)
    np.testing.assert_allclose(backbone.embed(images), mean_color(images), rtol=1e-6)
    assert (backbone.dim, backbone.input_size) == (3, (16, 16))


def test_callable_serves_the_core():
    backbone = CallableBackbone(mean_color, input_size=16, fingerprint="mean-1")
    images = images_of(4, 16)
    matrix = extract_features(images, backbone, batch_size=3).matrix
    np.testing.assert_allclose(matrix, mean_color(images), rtol=1e-6)


def test_callable_may_write_into_its_argument():
    def wild(images):
        images[:] = 0
        return np.zeros((len(images), 2))

    images = images_of(1, 8)
    before = images.copy()
    CallableBackbone(wild, input_size=8, fingerprint="zeros").embed(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    "function",
    [
        lambda images: np.zeros(len(images)),
        lambda images: np.zeros((len(images) + 1, 2)),
        lambda images: "features",
        lambda images: None,
        lambda images: [[1], [2, 3]],
    ],
)
def test_callable_that_returns_no_rows_raises(function):
    with pytest.raises(PluginContractError, match="Expected"):
        CallableBackbone(function, input_size=8, fingerprint="f").embed(images_of(2, 8))


def test_fingerprint_of_a_callable_is_what_the_user_says():
    def of(fingerprint, **options):
        options = {"input_size": 8} | options
        return CallableBackbone(
            mean_color, fingerprint=fingerprint, **options
        ).fingerprint

    assert of("a") == of("a")
    assert len({of("a"), of("b"), of("a", input_size=9), of("a", resize="squash")}) == 4
    for nothing in ("", None):
        with pytest.raises(PluginContractError, match="Expected fingerprint="):
            of(nothing)


def test_concatenated_keeps_the_contract():
    check_backbone(Concatenated([ColorHOG(64), ColorHOG(32)]))


def test_concatenated_features_are_the_parts_unit_rows_side_by_side():
    images, big, small = images_of(), ColorHOG(64), ColorHOG(32)
    shrunk = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BILINEAR))
            for i in images
        ]
    )
    expected = []
    for part in (big.embed(images), small.embed(shrunk)):
        expected.append([row / np.sqrt((row**2).sum()) for row in part])
    features = Concatenated([big, small]).embed(images)
    np.testing.assert_allclose(features, np.hstack(expected), rtol=1e-5, atol=1e-7)


def test_concatenated_rows_without_any_feature_stay_zero():
    part = CallableBackbone(
        lambda images: images[:, 0, 0].astype(float), input_size=8, fingerprint="corner"
    )
    features = Concatenated([part, part]).embed(np.zeros((2, 8, 8, 3), np.uint8))
    np.testing.assert_array_equal(features, np.zeros((2, 6)))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [ColorHOG()],
        [
            ColorHOG(),
            CallableBackbone(mean_color, input_size=(64, 32), fingerprint="wide"),
        ],
        [
            ColorHOG(),
            CallableBackbone(
                mean_color, input_size=64, fingerprint="whole", resize="squash"
            ),
        ],
    ],
)
def test_parts_that_do_not_fit_raise(parts):
    with pytest.raises(PluginContractError, match="Expected two or more backbones"):
        Concatenated(parts).embed(images_of())


def test_fingerprint_of_concatenated_follows_parts_and_order():
    a, b = ColorHOG(64), ColorHOG(32)
    prints = [Concatenated(p).fingerprint for p in ([a, b], [b, a], [a, a], [a, b, b])]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("spec", ["color-hog+color-hog:32", "color-hog+mean-color"])
def test_spec_with_plus_makes_a_concatenation(spec):
    backbone = registry.resolve_backbone(spec)
    assert isinstance(backbone, Concatenated)
    assert [part.name for part in backbone.parts] == [
        part.partition(":")[0] for part in spec.split("+")
    ]


def test_spec_of_a_concatenation_round_trips():
    backbone = registry.resolve_backbone("color-hog:32+keras:/a+b.keras?size=32")
    assert [part.name for part in backbone.parts] == ["color-hog", "keras"]
    assert backbone.spec == "color-hog:32+keras:/a+b.keras?scaling=identity&size=32x32"
    again = registry.resolve_backbone(backbone.spec)
    assert again.spec == backbone.spec
    assert again.parts[1].model == "/a+b.keras"


def test_spec_with_an_unknown_part_raises_with_near_names():
    with pytest.raises(UnknownPluginError, match="color-hog"):
        registry.resolve_backbone("color-hoggg+resnet50")


def test_command_line_shows_backbones_that_are_made_of_others():
    runner = CliRunner()
    for spec, owners in [
        ("color-hog+mean-color", "zeroshot, zeroshot-mean-color"),
        ("int8:mobilenet-v2:160", "zeroshot"),
    ]:
        done = runner.invoke(app, ["backbones", spec, "-f", "json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["distribution"] == owners


def test_concatenated_refuses_images_of_another_size():
    with pytest.raises(InvalidImageError):
        Concatenated([ColorHOG(64), ColorHOG(32)]).embed(images_of(1, 32))


def test_card_of_concatenated_names_what_each_part_was_trained_on():
    backbone = registry.resolve_backbone("mobilenet-v2:96+resnet50:96+color-hog:96")
    pretraining = backbone.card.pretraining
    assert pretraining == "ImageNet-1k (ILSVRC 2012); nothing (no weights)"
