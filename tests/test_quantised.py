"""Quantised backbones, beside the exact ones that they approximate."""

import pickle
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from zeroshot import evaluate, registry
from zeroshot.backbones import ColorHOG, Concatenated, KerasModel, Quantised
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.errors import PluginContractError
from zeroshot.testing import check_backbone

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)


def make_model():
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    make_model().save(path)
    return path


def crops(n: int) -> np.ndarray:
    """Pieces of a photograph that is not among those that set the ranges."""
    image = Image.open(files("skimage.data") / "ihc.png").convert("RGB")
    random = np.random.default_rng(0)
    return np.stack(
        [
            np.asarray(image.crop((x, y, x + 64, y + 64)).resize((32, 32)))
            for x, y in random.integers(0, 440, (n, 2)).tolist()
        ]
    )


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_quantised_features_are_near_the_exact_ones_and_not_the_same(saved):
    exact = KerasModel(saved, scaling="tf")
    backbone, images = Quantised(exact), crops(10)
    features, expected = backbone.embed(images), exact.embed(images)
    assert features.dtype == np.float32
    assert cosines(features, expected).min() > 0.97
    assert not np.allclose(features, expected, rtol=1e-4)
    assert backbone.fingerprint != exact.fingerprint
    assert (backbone.dim, backbone.input_size) == (exact.dim, exact.input_size)


def test_quantised_backbone_keeps_the_contract(saved):
    check_backbone(Quantised(KerasModel(saved, scaling="tf")))


def test_unpickled_quantised_backbone_gives_the_same_bits(saved):
    backbone, images = Quantised(KerasModel(saved, scaling="tf")), crops(3)
    features = backbone.embed(images)
    restored = pickle.loads(pickle.dumps(backbone))
    np.testing.assert_array_equal(restored.embed(images), features)


@pytest.mark.parametrize(
    "spec", ["int8:mobilenet-v2", "int8:resnet50:160,none", "int8:vgg16+color-hog:224"]
)
def test_spec_names_what_is_quantised_and_round_trips(spec):
    backbone = registry.resolve_backbone(spec)
    assert registry.resolve_backbone(backbone.spec).spec == backbone.spec
    first = backbone.parts[0] if isinstance(backbone, Concatenated) else backbone
    assert isinstance(first, Quantised)
    assert first.exact.spec == spec.removeprefix("int8:").partition("+")[0]


def scale(pixels):
    return pixels / 255


def test_what_cannot_be_quantised_raises():
    for exact in (ColorHOG(), KerasModel(make_model(), scaling=scale)):
        images = np.zeros((1, *exact.input_size, 3), np.uint8)
        with pytest.raises(PluginContractError, match="leave 'int8' out"):
            Quantised(exact).embed(images)


def test_evaluate_reports_what_quantisation_costs(saved):
    images, labels = crops(24), np.repeat(["ant", "bee", "cat", "dog"], 6)
    report = evaluate(
        images,
        labels,
        Quantised(KerasModel(saved, scaling="tf")),
        RandomEmbeddings(8),
        projection="ridge",
        n_splits=1,
        unseen=0.5,
    )
    assert {"ridge", "ridge, exact features"} < set(report.results)
    exact = evaluate(
        images,
        labels,
        KerasModel(saved, scaling="tf"),
        RandomEmbeddings(8),
        projection="ridge",
        n_splits=1,
        unseen=0.5,
    )
    assert report.results["ridge, exact features"] == exact.results["ridge"]
    assert 0.9 < report.settings["cosine_to_exact"]["lowest"] < 1
    assert "approximate exact ones: their cosine is" in str(report)
    assert "cosine_to_exact" not in exact.settings
