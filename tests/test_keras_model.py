"""Any Keras model as a backbone: small models, Keras itself as the oracle."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from zeroshot.backbones import Backbone, KerasModel
from zeroshot.errors import (
    ArtifactError,
    InvalidImageError,
    PluginContractError,
    ZeroShotWarning,
)

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)


def make_images(n: int = 3, side: int = 16) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, side, side, 3), np.uint8)


def make_model(size=(16, 16), seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*size, 3), name="image")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x), name="small")


@pytest.fixture
def model():
    return make_model()


def scale_in_place(pixels):
    pixels /= 255
    return pixels


def scale_backwards(pixels):
    return 1 - pixels / 255


def test_keras_model_keeps_the_contract(model):
    backbone = KerasModel(model)
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.dim, backbone.input_size) == ("keras", 4, (16, 16))
    assert backbone.spec is None
    assert KerasModel(model, resize="squash").card.resize == "squash"


def test_embed_without_layer_equals_the_models_output(model):
    images = make_images()
    features = KerasModel(model).embed(images)
    expected = model(images.astype(np.float32), training=False).numpy()
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-4)


def test_embed_at_feature_map_equals_its_mean_over_positions(model):
    images = make_images()
    at_map = KerasModel(model, layer="norm").embed(images)
    at_pool = KerasModel(model, layer="avg_pool").embed(images)
    assert at_map.shape == (3, 6)
    np.testing.assert_allclose(at_map, at_pool, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_embed_of_a_file_equals_embed_of_the_object(model, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    model.compile("sgd", "mse")
    model.save(path)
    images = make_images()
    np.testing.assert_array_equal(
        KerasModel(path, layer="avg_pool").embed(images),
        KerasModel(model, layer="avg_pool").embed(images),
    )


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("identity", lambda x: x),
        ("unit", lambda x: x / 255),
        ("tf", lambda x: x / 127.5 - 1),
        (
            "torch",
            lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
        ("caffe", lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        (scale_in_place, lambda x: x / 255),
        (scale_backwards, lambda x: 1 - x / 255),
    ],
)
def test_scaling_reaches_the_network(scaling, expected):
    import keras

    inputs = keras.Input((2, 1, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    images = make_images(2, 2)[:, :, :1]
    before = images.copy()
    features = KerasModel(model, scaling=scaling).embed(images)
    np.testing.assert_allclose(
        features, expected(images.astype(np.float64)).reshape(2, 6), atol=1e-4
    )
    np.testing.assert_array_equal(images, before)


def test_embed_does_not_change_the_callers_model(model):
    config, weights = model.to_json(), model.get_weights()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    outbound = [len(layer._outbound_nodes) for layer in model.layers]
    KerasModel(model, layer="norm").embed(make_images())
    assert model.to_json() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert [len(layer._outbound_nodes) for layer in model.layers] == outbound


def test_embed_of_no_images_gives_no_rows(model):
    features = KerasModel(model).embed(make_images(0))
    assert (features.shape, features.dtype) == ((0, 4), np.float32)


def test_embed_of_wrong_size_raises(model):
    with pytest.raises(InvalidImageError, match=r"\(n, 16, 16, 3\) for 'keras'"):
        KerasModel(model).embed(make_images(1, 8))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_classifier_is_warned_of_with_the_layers_before_it(model, activation):
    import keras

    top = keras.layers.Dense(3, activation=activation, name="top")
    classifier = keras.Model(model.inputs, top(model.layers[-2].output))
    with pytest.warns(ZeroShotWarning, match=f"{activation} of layer 'top'.*avg_pool"):
        KerasModel(classifier).embed(make_images())
    KerasModel(classifier, layer="avg_pool").embed(make_images())


def test_unknown_layer_raises_with_near_names(model):
    with pytest.raises(PluginContractError, match="Did you mean 'avg_pool'"):
        _ = KerasModel(model, layer="avgpool").dim


def test_open_input_size_is_required_and_then_used():
    model = make_model((None, None))
    with pytest.raises(PluginContractError, match="Expected input_size"):
        _ = KerasModel(model).input_size
    backbone = KerasModel(model, input_size=(8, 12))
    assert backbone.input_size == (8, 12)
    assert backbone.embed(np.zeros((1, 8, 12, 3), np.uint8)).shape == (1, 4)


def test_input_size_other_than_the_models_own_raises(model):
    with pytest.raises(PluginContractError, match=r"own size \(16, 16\)"):
        KerasModel(model, input_size=32).embed(make_images(1, 32))


def test_layer_that_is_a_nested_model_raises_with_advice():
    import keras

    inner = make_model()
    inputs = keras.Input((16, 16, 3))
    outer = keras.Model(inputs, keras.layers.Dense(2, name="top")(inner(inputs)))
    with pytest.raises(PluginContractError, match="Build the cut model yourself"):
        _ = KerasModel(outer, layer="small").dim


def test_models_that_are_no_backbone_raise(model):
    import keras

    a, b = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    two_inputs = keras.Model([a, b], keras.layers.Flatten()(a + b))
    grey = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten()])
    sequence = keras.Model(a, keras.layers.Reshape((256, 3))(a))
    two_outputs = keras.Model(a, [keras.layers.Flatten()(a), a])
    unbuilt = keras.Sequential([keras.layers.Flatten()])
    for wrong, message in [
        (two_inputs, "with one input"),
        (grey, r"shape \(None, 16, 16, 1\)"),
        (sequence, r"Got \(None, 256, 3\)"),
        (two_outputs, "Got list"),
        (unbuilt, "not built"),
        (42, "Got 'int'"),
    ]:
        with pytest.raises(PluginContractError, match=message):
            _ = KerasModel(wrong).dim


def test_subclassed_model_works_with_input_size():
    import keras

    @keras.saving.register_keras_serializable("test_keras_model")
    class Mean(keras.Model):
        def call(self, pixels):
            return keras.ops.mean(pixels, axis=(1, 2))

    model, images = Mean(), make_images()
    model(images.astype(np.float32))
    backbone = KerasModel(model, input_size=16)
    np.testing.assert_allclose(
        backbone.embed(images), images.mean(axis=(1, 2)), rtol=1e-5
    )
    assert backbone.fingerprint.startswith("keras-")


@pytest.mark.parametrize("options", [{"scaling": "tensor"}, {"resize": "stretch"}])
def test_unknown_option_value_raises(model, options):
    with pytest.raises(PluginContractError, match=f"Expected {next(iter(options))}"):
        KerasModel(model, **options).embed(make_images())


def test_files_that_are_no_model_raise_artifact_error(tmp_path, model):
    model.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "text.keras").write_text("no zip")
    (tmp_path / "empty.h5").touch()
    for name in ("only.weights.h5", "text.keras", "empty.h5"):
        with pytest.raises(ArtifactError, match=name):
            KerasModel(tmp_path / name).embed(make_images())
    with pytest.raises(ArtifactError, match="is not a file"):
        _ = KerasModel(tmp_path / "absent.keras").fingerprint


def test_file_with_code_is_refused_with_advice(tmp_path):
    import keras

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Lambda(lambda t: t * 2)(inputs)
    keras.Model(inputs, keras.layers.Flatten()(x)).save(tmp_path / "code.keras")
    with pytest.raises(ArtifactError, match="load it yourself"):
        KerasModel(tmp_path / "code.keras").embed(make_images())


def test_fingerprint_of_a_file_imports_no_tensorflow(tmp_path, model):
    path = tmp_path / "model.keras"
    model.save(path)
    code = (
        "import sys\n"
        "from zeroshot.backbones import KerasModel\n"
        f"b = KerasModel({str(path)!r}, input_size=16, layer='avg_pool')\n"
        "b.fingerprint, b.spec, b.card, b.name, b.input_size, repr(b)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_fingerprint_changes_with_whatever_changes_features(tmp_path, model):
    def of(model, **options):
        return KerasModel(model, **options).fingerprint

    assert of(model) == of(make_model())
    first, copy = tmp_path / "first.keras", tmp_path / "copy.keras"
    model.save(first)
    copy.write_bytes(first.read_bytes())
    assert of(first) == of(copy)
    different = [
        of(model),
        of(make_model(seed=1)),
        of(model, layer="norm"),
        of(model, scaling="tf"),
        of(model, scaling=scale_in_place),
        of(model, scaling=scale_backwards),
        of(model, resize="squash"),
        of(first),
        of(first, input_size=16),
    ]
    assert len(set(different)) == len(different)


def test_fingerprint_of_an_indescribable_scaling_raises(model):
    divisor = 255
    for scaling in (lambda x: x / divisor, np.negative):
        with pytest.raises(PluginContractError, match="top level of a module"):
            _ = KerasModel(model, scaling=scaling).fingerprint


@pytest.mark.parametrize("as_file", [True, False])
def test_pickle_and_clone_keep_the_backbone(model, tmp_path, as_file):
    path = tmp_path / "model.keras"
    model.save(path)
    backbone = KerasModel(path if as_file else model, layer="norm", scaling="tf")
    features = backbone.embed(make_images())
    restored = pickle.loads(pickle.dumps(backbone))
    assert restored.fingerprint == backbone.fingerprint
    np.testing.assert_array_equal(restored.embed(make_images()), features)
    assert clone(backbone) is backbone


def test_spec_string_gives_its_options(tmp_path):
    spec = "/m.keras?layer=avg_pool&scaling=tf&size=160x224&resize=squash"
    backbone = KerasModel.from_spec("keras", spec)
    assert (backbone.model, backbone.layer) == ("/m.keras", "avg_pool")
    assert (backbone.scaling, backbone.resize) == ("tf", "squash")
    assert backbone.input_size == (160, 224)
    assert KerasModel.from_spec("keras", "/m.h5?size=96").input_size == (96, 96)
    assert KerasModel.from_spec("keras", "/m.h5").spec == "keras:/m.h5?scaling=identity"


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(
    path=text,
    layer=st.none() | text,
    scaling=st.sampled_from(["identity", "tf", "torch", "caffe", "unit"]),
    size=st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    resize=st.sampled_from(["crop", "squash"]),
)
def test_spec_of_any_path_and_options_round_trips(path, layer, scaling, size, resize):
    backbone = KerasModel(
        f"/{path}", layer=layer, scaling=scaling, input_size=size, resize=resize
    )
    made = KerasModel.from_spec(*backbone.spec.split(":", 1))
    assert made.spec == backbone.spec
    assert (made.layer, made.scaling, made.resize) == (layer, scaling, resize)


@pytest.mark.parametrize(
    "argument",
    [None, "", "?layer=a", "/m.keras?colour=red", "/m.keras?size", "/m?size="],
)
def test_malformed_spec_raises(argument):
    with pytest.raises(PluginContractError, match="Expected"):
        KerasModel.from_spec("keras", argument)
