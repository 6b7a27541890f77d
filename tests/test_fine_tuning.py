"""Fine-tuning: tiny random networks on drawn shapes; Keras and NumPy as oracles."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import normalize

import zeroshot
from zeroshot import FineTuning, ZeroShotClassifier, make_shapes
from zeroshot.backbones import KerasApplication, KerasModel
from zeroshot.backbones.base import SupportsFineTuning
from zeroshot.backbones.keras.fine_tuning import TrainableEnd
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.projections import DeViSE
from zeroshot.projections.trained import reciprocal_ranks
from zeroshot.saving.bundle import record_digest
from zeroshot.shapes import shape_attributes

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

UNSEEN = ["red star", "blue ring", "green square"]
ALL_EPOCHS = FineTuning(
    layers=2, learning_rate=2e-3, epochs=5, views=2, validation_fraction=0
)


def make_network():
    """Three convolutions with batch norm, of which nothing was ever trained."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(inputs)
    for number, width in enumerate((12, 24, 24)):
        x = keras.layers.Conv2D(width, 3, 2, "same", name=f"conv_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(inputs, x, name="tiny")


@pytest.fixture(scope="module", autouse=True)
def cache_of_module(tmp_path_factory):
    """A cache for what module fixtures fit; they are set up before `cache_folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shapes():
    images, labels = make_shapes(
        10,
        size=32,
        colors=["red", "green", "blue", "yellow"],
        shapes=["star", "ring", "square", "cross"],
    )
    return images, labels, ~np.isin(labels, UNSEEN)


@pytest.fixture(scope="module")
def network():
    return make_network()


def fitted(backbone, shapes, settings, **options):
    images, labels, seen = shapes
    options = {"projection": DeViSE(epochs=20), "random_state": 0} | options
    vectors = Attributes(*shape_attributes())
    classifier = ZeroShotClassifier(backbone, vectors, fine_tune=settings, **options)
    return classifier.fit(images[seen], labels[seen])


@pytest.fixture(scope="module")
def application():
    """A network of keras.applications with random weights, and a copy of its model."""
    backbone = KerasApplication("mobilenet-v2", weights=None, input_size=32)
    return backbone, backbone.trainable_copy()[0]


@pytest.fixture(scope="module")
def frozen(network, shapes):
    return fitted(KerasModel(network), shapes, None)


@pytest.fixture(scope="module")
def tuned(network, shapes):
    return fitted(KerasModel(network), shapes, ALL_EPOCHS)


# What training does.


def test_fine_tuning_lowers_the_loss_and_raises_accuracy(frozen, tuned, shapes):
    images, labels, seen = shapes
    loss = tuned.fine_tuning_.loss
    assert len(loss) == 5
    assert loss[-1] < 0.8 * loss[0]
    before, after = (c.score(images[seen], labels[seen]) for c in (frozen, tuned))
    assert after > before + 0.05


def test_fine_tuning_changes_the_last_layers_only(network, tuned):
    original = {layer.name: layer.get_weights() for layer in network.layers}
    model, _ = tuned.backbone_.trainable_copy()
    assert tuned.fine_tuning_.layers == ("conv_1", "conv_2")
    for layer in model.layers:
        for before, after in zip(
            original[layer.name], layer.get_weights(), strict=True
        ):
            same = np.array_equal(before, after)
            assert same == (layer.name not in tuned.fine_tuning_.layers), layer.name


def test_fine_tuning_leaves_the_original_backbone_alone(network, shapes):
    images = shapes[0]
    backbone = KerasModel(network)
    before = backbone.fingerprint, backbone.embed(images[:4])
    weights = [np.array(w) for w in network.get_weights()]
    classifier = fitted(backbone, shapes, ALL_EPOCHS)
    assert classifier.backbone is backbone
    assert classifier.backbone_ is not backbone
    for old, new in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = KerasModel(network)
    assert again.fingerprint == before[0]
    np.testing.assert_array_equal(again.embed(images[:4]), before[1])
    assert classifier.backbone_.with_weights(None).fingerprint == before[0]


@pytest.mark.slow
def test_fine_tuning_is_deterministic(network, tuned, shapes):
    images = shapes[0]
    again = fitted(KerasModel(network), shapes, ALL_EPOCHS)
    assert again.backbone_fingerprint_ == tuned.backbone_fingerprint_
    np.testing.assert_array_equal(again.transform(images), tuned.transform(images))
    other = fitted(KerasModel(network), shapes, ALL_EPOCHS, random_state=1)
    assert other.backbone_fingerprint_ != tuned.backbone_fingerprint_


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "cosine", "hidden": (9,)},
        pytest.param({"normalize": False}, marks=pytest.mark.slow),
        pytest.param({"negatives": "first-violator"}, marks=pytest.mark.slow),
    ],
)
def test_training_step_descends_the_projections_own_loss(network, shapes, options):
    """One step's loss is that of `DeViSE.losses`, on NumPy's features and points."""
    import tensorflow as tf

    images, labels, seen = shapes
    _, index = np.unique(labels[seen], return_inverse=True)
    T = normalize(np.random.default_rng(0).standard_normal((13, 7))).astype(np.float32)
    backbone = KerasModel(network)
    features = backbone.embed(images[seen])
    devise = DeViSE(epochs=3, random_state=0, early_stopping=False, **options)
    devise.fit(features, index, class_embeddings=T)
    end = TrainableEnd(*backbone.trainable_copy(), 2)
    step, current = end.training_step(
        devise.layers,
        center=(devise.mean_, devise.scale_) if devise.normalize else None,
        class_embeddings=T,
        loss=devise.losses,
        penalty=devise.weight_penalty,
        learning_rate=1e-3,
        train_biases=bool(devise.hidden),
    )
    maps = end.maps(images[seen])
    points = devise.text_points(end.features(maps), devise.layers)
    expected = devise.losses(tf, points, index, tf.constant(T), (3, 0))
    got = step(maps, index, (3, 0))
    assert got == pytest.approx(float(np.mean(expected)), rel=1e-4)
    assert any(
        not np.array_equal(new[0], old)
        for new, old in zip(current(), devise.kernels_, strict=True)
    )


def test_beginning_and_end_together_give_the_backbones_features(network, shapes):
    images = shapes[0]
    backbone = KerasModel(network)
    end = TrainableEnd(*backbone.trainable_copy(), 1)
    assert end.cut == "relu_1"
    features = end.features(end.maps(images))
    np.testing.assert_allclose(
        features, backbone.embed(images), rtol=2e-3, atol=1e-3 * features.max()
    )
    whole = end.maps(images, np.tile(np.float32([0, 0, 1, 1]), (len(images), 1)))
    np.testing.assert_allclose(whole, end.maps(images), rtol=1e-2, atol=1e-2)
    mirrored = end.maps(images, np.tile(np.float32([0, 1, 1, 0]), (len(images), 1)))
    expected = end.maps(np.ascontiguousarray(images[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, expected, rtol=1e-2, atol=1e-2)


def test_tuned_backbone_gives_the_features_that_were_trained(network, shapes):
    images = shapes[0]
    backbone = KerasModel(network, layer="relu_2")
    model, scaling = backbone.trainable_copy()
    end = TrainableEnd(model, scaling, "conv_2")
    for layer in model.layers:
        if layer.name in end.trained:
            layer.set_weights([w * 1.5 for w in layer.get_weights()])
    tuned = backbone.with_weights(backbone.weights_of(model))
    np.testing.assert_allclose(
        tuned.embed(images), model(images.astype("float32")).numpy().mean((1, 2)),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    assert tuned.spec is None
    assert tuned.fingerprint != backbone.fingerprint


# Where a network is cut.


@pytest.mark.parametrize(
    ("layers", "trained", "cut"),
    [
        (1, ["Conv_1"], "block_16_project_BN"),
        (3, ["block_16_depthwise", "block_16_project", "Conv_1"], None),
        ("block_15_project", ["block_15_project", "block_16_expand"], "block_14_add"),
    ],
)
def test_cut_lies_where_one_tensor_passes(application, layers, trained, cut):
    end = TrainableEnd(application[1], "tf", layers)
    assert end.trained[: len(trained)] == trained
    assert cut in (None, end.cut)


def test_all_layers_may_be_trained(network):
    end = TrainableEnd(*KerasModel(network).trainable_copy(), 99)
    assert end.trained == ["conv_0", "conv_1", "conv_2"]
    assert end.map_shape == (32, 32, 3)


def test_layers_of_a_model_inside_are_trained_without_batch_norm(network):
    import keras

    outer = keras.Sequential([keras.Input((32, 32, 3)), network])
    end = TrainableEnd(outer, "identity", 1)
    assert end.trained == ["tiny"]
    assert len(end._variables) == 6  # kernel and bias of three convolutions


@pytest.mark.parametrize("layers", ["conv_9", "drop"])
def test_layer_that_cannot_be_trained_is_refused(network, layers):
    with pytest.raises(PluginContractError, match="Expected"):
        TrainableEnd(*KerasModel(network).trainable_copy(), layers)


# Validation.


def test_fine_tuning_that_does_not_help_keeps_the_backbone(network, frozen, shapes):
    images = shapes[0]
    settings = FineTuning(layers=1, learning_rate=1e-9, epochs=1, views=1)
    with pytest.warns(ZeroShotWarning, match="did not help"):
        classifier = fitted(KerasModel(network), shapes, settings)
    report = classifier.fine_tuning_
    assert not report.used
    assert report.n_epochs == 0
    assert report.tuned_score - report.frozen_score <= report.standard_error
    assert classifier.backbone_fingerprint_ == frozen.backbone_fingerprint_
    np.testing.assert_array_equal(
        classifier.transform(images), frozen.transform(images)
    )


@pytest.mark.slow  # 10 s
def test_validation_classes_are_never_trained_on(network, shapes):
    """The loss of the training that is validated does not depend on their images."""
    images, labels, seen = shapes
    settings = FineTuning(layers=1, learning_rate=1e-9, epochs=1, views=1)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)

    def report_with_noise_for(classes):
        is_noise = np.isin(labels, classes)[:, None, None, None]
        changed = np.where(is_noise, noise, images), labels, seen
        with pytest.warns(ZeroShotWarning, match="did not help"):
            classifier = fitted(KerasModel(network), changed, settings)
        report = classifier.fine_tuning_
        return report, classifier.classes_[list(report.held_out)]

    report, held_out = report_with_noise_for([])
    assert len(held_out) == 3
    changed, again = report_with_noise_for(held_out)
    assert (changed.loss, list(again)) == (report.loss, list(held_out))
    assert changed.frozen_score != report.frozen_score
    kept = np.setdiff1d(np.unique(labels[seen]), held_out)[:1]
    assert report_with_noise_for(kept)[0].loss != report.loss


@pytest.mark.slow
def test_fine_tuning_that_helps_is_validated_on_held_out_classes(network, shapes):
    settings = FineTuning(
        layers=2, learning_rate=3e-3, epochs=4, views=1, validation_fraction=0.3
    )
    report = fitted(KerasModel(network), shapes, settings).fine_tuning_
    assert report.used
    assert report.tuned_score > report.frozen_score + report.standard_error
    assert 1 <= report.n_epochs == len(report.loss) <= 4


# Bundles.

PREDICT = """
import sys
import numpy as np
import zeroshot
clf = zeroshot.load(sys.argv[1])
assert not {"tensorflow", "keras"} & set(sys.modules)
np.savez(
    "answers.npz",
    points=clf.transform(np.load("images.npy")),
    fingerprint=clf.backbone_.fingerprint,
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "object",
        pytest.param("file", marks=pytest.mark.slow),
        pytest.param("application", marks=pytest.mark.slow),
    ],
)
def test_bundle_elsewhere_predicts_the_same_without_the_original_weights(
    kind, network, shapes, tmp_path
):
    images = shapes[0]
    original = tmp_path / "original"
    original.mkdir()
    options = {}
    if kind == "object":
        backbone = KerasModel(network)
    elif kind == "file":
        network.save(original / "net.keras")
        backbone = KerasModel(original / "net.keras", layer="relu_2")
    else:
        made = KerasApplication("mobilenet-v2", weights=None, input_size=32)
        made.trainable_copy()[0].save_weights(original / "x.weights.h5")
        backbone = KerasApplication(
            "mobilenet-v2", weights=original / "x.weights.h5", input_size=32
        )
        options = {"pretrained_classes": None}  # the file has no classifier
    settings = FineTuning(layers=1, epochs=1, views=1, validation_fraction=0)
    classifier = fitted(backbone, shapes, settings, **options)
    classifier.save(tmp_path / "model")
    expected = classifier.transform(images[:5])
    assert classifier.backbone_fingerprint_ != backbone.fingerprint
    for file in original.iterdir():
        file.unlink()
    np.save(tmp_path / "images.npy", images[:5])
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, "model"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz")
    np.testing.assert_array_equal(answers["points"], expected)
    assert answers["fingerprint"] == classifier.backbone_fingerprint_
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.fine_tuning_ == classifier.fine_tuning_
    assert loaded.fine_tune == settings
    loaded.save(tmp_path / "again")  # a loaded one can be saved again, whole
    again = zeroshot.load(tmp_path / "again")
    np.testing.assert_array_equal(again.transform(images[:5]), expected)


def test_changed_weights_in_a_bundle_are_refused(tuned, tmp_path):
    tuned.save(tmp_path / "model")
    file = tmp_path / "model" / "backbone.keras"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"backbone\.keras"):
        zeroshot.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(ArtifactError, match=r"backbone\.keras"):
        zeroshot.load(tmp_path / "model")


def test_bundle_with_another_network_is_refused(tuned, shapes, tmp_path):
    tuned.save(tmp_path / "model")
    with pytest.raises(FingerprintMismatchError, match="fingerprint"):
        zeroshot.load(tmp_path / "model", backbone=zeroshot.backbones.ColorHOG())


def test_bundle_names_no_file_outside_itself(tuned, tmp_path):
    tuned.save(tmp_path / "model")
    file = tmp_path / "model" / "bundle.json"
    (tmp_path / "secret").write_text("x")
    text = file.read_text().replace('"backbone.keras": ', '"../secret": ')
    record = json.loads(text)
    del record["sha256"]
    file.write_text(json.dumps(record | {"sha256": record_digest(record)}))
    with pytest.raises(ArtifactError, match="names of files"):
        zeroshot.load(tmp_path / "model")


@pytest.mark.parametrize("more", ["+tfhub:/module", ".more", "/../other.keras"])
def test_bundle_names_nothing_beside_its_own_network(more, tuned, tmp_path):
    tuned.save(tmp_path / "model")
    file = tmp_path / "model" / "bundle.json"
    record = json.loads(file.read_text())
    del record["sha256"]
    record["backbone"]["weights"]["spec"] = f"keras:backbone.keras{more}"
    file.write_text(json.dumps(record | {"sha256": record_digest(record)}))
    with pytest.raises(ArtifactError, match="is a program"):
        zeroshot.load(tmp_path / "model")


def test_network_with_code_is_refused_before_training(shapes):
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Lambda(lambda pixels: pixels / 255)(inputs)
    x = keras.layers.Conv2D(4, 3)(x)
    with pytest.raises(ArtifactError, match="code of its own"):
        fitted(KerasModel(keras.Model(inputs, x)), shapes, ALL_EPOCHS)


# Plugins stay plugins.


def test_tuned_backbone_can_be_pickled_and_cloned(tuned, shapes):
    images = shapes[0]
    backbone = tuned.backbone_
    assert isinstance(backbone, SupportsFineTuning)
    assert clone(backbone) is backbone
    again = pickle.loads(pickle.dumps(backbone))
    assert again.fingerprint == backbone.fingerprint
    np.testing.assert_array_equal(again.embed(images[:3]), backbone.embed(images[:3]))


def test_tuned_application_keeps_its_card_and_gains_no_classifier(application):
    backbone, model = application
    weights = backbone.weights_of(model)
    assert (weights.name, weights.spec) == (
        "backbone.weights.h5",
        "mobilenet-v2:32,none",
    )
    tuned = backbone.with_weights(weights)
    assert tuned.card == backbone.card
    with pytest.raises(PluginContractError, match="weights are random"):
        tuned.classifier_head()
    other = backbone.with_weights(backbone.weights_of(backbone.trainable_copy()[0]))
    assert other.fingerprint == tuned.fingerprint


@pytest.mark.slow
def test_extra_rescaling_of_efficientnet_survives(shapes):
    backbone = KerasApplication("efficientnet-b0", weights=None, input_size=32)
    tuned = backbone.with_weights(backbone.weights_of(backbone.trainable_copy()[0]))
    images = shapes[0][:3]
    expected = backbone.embed(images)
    np.testing.assert_allclose(
        tuned.embed(images), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


def test_classifier_with_settings_can_be_cloned_and_searched(network):
    classifier = ZeroShotClassifier(KerasModel(network), "random", fine_tune=ALL_EPOCHS)
    copied = clone(classifier)
    assert copied.fine_tune == ALL_EPOCHS
    assert copied.get_params()["fine_tune"] == ALL_EPOCHS
    assert copied.set_params(fine_tune=3).fine_tune == 3
    assert copy.deepcopy(ALL_EPOCHS) == ALL_EPOCHS


# What is refused.


def test_backbone_without_layers_is_refused(shapes):
    with pytest.raises(PluginContractError, match="mobilenet-v2"):
        fitted("color-hog", shapes, "auto")


def test_projection_without_loss_is_refused(network, shapes):
    with pytest.raises(PluginContractError, match="devise"):
        fitted(KerasModel(network), shapes, "auto", projection="ridge")


def test_features_are_refused(network):
    classifier = ZeroShotClassifier(None, "random", fine_tune="auto")
    with pytest.raises(ValueError, match="images"):
        classifier.fit(np.eye(6), list("aabbcc"))


def test_too_few_classes_to_validate_on_are_refused(network, shapes):
    images, labels, _ = shapes
    few = np.isin(labels, ["red ring", "red cross", "blue star"])
    classifier = ZeroShotClassifier(
        KerasModel(network), "random", projection="devise", fine_tune="auto"
    )
    with pytest.raises(LabelError, match="3 classes"):
        classifier.fit(images[few], labels[few])


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 0},
        {"layers": ""},
        {"layers": 1.5},
        {"learning_rate": 0},
        {"epochs": 0},
        {"patience": 0},
        {"views": 0},
        {"smallest_crop": 0},
        {"batch_size": "8"},
        {"validation_fraction": 1},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Expected {next(iter(options))}"):
        FineTuning(**options)


@pytest.mark.parametrize("value", [0, True, 2.5, ["conv"], ""])
def test_values_that_say_no_layers_are_refused(value):
    with pytest.raises(ValueError, match="Expected fine_tune"):
        FineTuning.of(value)


def test_values_that_say_layers():
    assert FineTuning.of(None) is None
    assert FineTuning.of("auto") == FineTuning()
    assert FineTuning.of(3) == FineTuning(layers=3)
    assert FineTuning.of("conv_1") == FineTuning(layers="conv_1")
    assert FineTuning.of(ALL_EPOCHS) is ALL_EPOCHS


def test_reciprocal_ranks_by_hand():
    scores = np.float32([[3, 2, 1], [1, 3, 2], [3, 2, 1], [2, 3, 1], [2, 2, 2]])
    ranks = reciprocal_ranks(scores, np.array([0, 1, 2, 0, 1]))
    np.testing.assert_allclose(ranks, [(1 + 1 / 2) / 2, (1 + 1 / 3) / 2, 1 / 3])
