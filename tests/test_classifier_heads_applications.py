"""Classifiers of keras.applications; the oracle is Keras, of whole networks."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from head_cases import KERAS_WARNINGS, RANDOM, images_of

from zeroshot.backbones import KerasApplication
from zeroshot.backbones.base import WeightsFile
from zeroshot.backbones.class_list import class_names
from zeroshot.backbones.keras.head import with_top
from zeroshot.backbones.keras.table import applications
from zeroshot.errors import ArtifactError, InvalidImageError, NoClassifierError

pytestmark = KERAS_WARNINGS


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
