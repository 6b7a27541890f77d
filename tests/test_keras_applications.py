"""The networks of keras.applications: Keras itself is the oracle."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from zeroshot import registry
from zeroshot.backbones import Backbone, KerasApplication
from zeroshot.backbones.keras.network import scale_pixels
from zeroshot.backbones.keras.table import Application, applications
from zeroshot.backbones.keras.weights import published_weights
from zeroshot.errors import (
    ArtifactError,
    InvalidImageError,
    PluginContractError,
    UnknownPluginError,
)

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

NO_TOP = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
WITH_TOP = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
SMALL = [
    "convnext-tiny",
    "densenet121",
    "efficientnet-b0",
    "efficientnet-v2-b0",
    "inception-resnet-v2",
    "inception-v3",
    "mobilenet",
    "mobilenet-v3-small",
    "nasnet-mobile",
    "resnet50",
    "resnet50-v2",
    "vgg16",
    "xception",
]


def make_images(n: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def save_legacy(model, path: Path) -> Path:
    """Write weights in the form of the files that Keras publishes."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def random_network(name: str, **options):
    """Keras' own constructor with random weights, also where they start at 0 or 1."""
    import keras

    model = getattr(keras.applications, applications()[name].constructor)(
        weights=None, **options
    )
    random = np.random.default_rng(1)
    for variable in model.weights:
        if variable.dtype == "float32":
            noise = random.uniform(0.9, 1.1, variable.shape)
            variable.assign(np.asarray(variable) * noise)
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> SimpleNamespace:
    """Two weights files of one network, without and with its classifier, and Keras."""
    folder = tmp_path_factory.mktemp("published")
    import keras

    full = random_network("mobilenet-v2")
    save_legacy(full, folder / "with_top.h5")
    bare = keras.Model(full.inputs[0], full.layers[-2].output)
    save_legacy(bare, folder / NO_TOP)
    return SimpleNamespace(
        no_top=folder / NO_TOP, with_top=folder / "with_top.h5", keras=bare
    )


@pytest.fixture(scope="module")
def backbone() -> KerasApplication:
    return KerasApplication("mobilenet-v2", weights=None, input_size=64)


def test_table_names_equal_the_registered_names():
    registered = set(registry.names("backbones"))
    assert set(applications()) <= registered
    assert registry.load("backbones", "resnet50") is KerasApplication


def test_table_constructors_equal_those_of_keras():
    import keras

    theirs = {
        name
        for name, value in vars(keras.applications).items()
        if callable(value) and name[0].isupper()
    }
    ours = [row.constructor for row in applications().values()]
    assert set(ours) == theirs
    assert len(ours) == len(theirs) == 40


@pytest.mark.parametrize("module", sorted({r.module for r in applications().values()}))
def test_scaling_equals_preprocess_input_of_keras(module):
    import keras

    pixels = make_images(2, 8).astype(np.float32)
    before = pixels.copy()
    scaling = {r.scaling for r in applications().values() if r.module == module}.pop()
    theirs = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_array_equal(scale_pixels(pixels, scaling), theirs)
    np.testing.assert_array_equal(pixels, before)


def check_row_against_keras(name: str, monkeypatch) -> None:
    """Let Keras build with its published weights, but for fetching and reading them."""
    import keras
    from keras.src.applications import imagenet_utils
    from keras.src.utils import file_utils

    seen = {}
    obtain = imagenet_utils.obtain_input_shape

    def record_size(*args, **kwargs):
        seen["size"] = kwargs["default_size"]
        return obtain(*args, **kwargs)

    def record_file(fname, origin, file_hash=None, **_):
        seen.update(file=fname, url=origin, hash=file_hash)

    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", record_size)
    monkeypatch.setattr(file_utils, "get_file", record_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_: None)
    row = applications()[name]
    model = getattr(keras.applications, row.constructor)(
        # Of an open size, NASNetLarge would lack layers that its file has.
        input_shape=(row.size, row.size, 3),
        include_top=False,
        pooling="avg",
    )
    seen |= {"dim": model.output_shape[-1], "parameters": model.count_params()}
    assert seen == {key: getattr(row, key) for key in seen}
    no_size = {"size"} if row.module == "mobilenet_v3" else set()  # Keras says none
    wanted = {"size", "file", "url", "hash", "dim", "parameters"}
    assert set(seen) == wanted - no_size


@pytest.mark.parametrize("name", ["mobilenet-v3-small", "vgg16"])
def test_table_row_equals_what_keras_does(name, monkeypatch):
    check_row_against_keras(name, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(applications()))
def test_every_table_row_equals_what_keras_does(name, monkeypatch):
    import keras

    check_row_against_keras(name, monkeypatch)
    keras.backend.clear_session()


def test_facts_without_embedding_import_no_tensorflow(published):
    code = (
        "import sys\n"
        "from zeroshot.backbones import KerasApplication\n"
        f"b = KerasApplication('mobilenet-v2', weights={str(published.no_top)!r})\n"
        "b.dim, b.input_size, b.card, b.fingerprint, b.spec, repr(b)\n"
        "import numpy\n"
        "assert b.embed(numpy.empty((0, 224, 224, 3), 'uint8')).shape == (0, 1280)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_keras_application_keeps_the_contract(backbone):
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.dim) == ("mobilenet-v2", 1280)
    assert backbone.card.resize == "crop"


@pytest.mark.slow
def test_embed_with_weights_path_equals_keras(published):
    from keras.applications.mobilenet_v2 import preprocess_input

    images = make_images(3, 224)
    ours = KerasApplication(weights=published.no_top).embed(images)
    theirs = published.keras(preprocess_input(images.astype(np.float32))).numpy()
    assert (ours.shape, ours.dtype) == ((3, 1280), np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.max())


@pytest.mark.slow  # 15 s: two conversions
def test_embed_with_top_file_equals_no_top_file(published):
    images = make_images(2, 96)
    bare = KerasApplication(weights=published.no_top, input_size=96)
    full = KerasApplication(weights=published.with_top, input_size=96)
    np.testing.assert_allclose(full.embed(images), bare.embed(images), rtol=1e-6)


@pytest.mark.slow
def test_embed_leaves_images_and_keras_settings_alone(backbone):
    import keras

    images = make_images(2)
    before = images.copy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        features = KerasApplication(weights=None, input_size=64).embed(images)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(features, backbone.embed(images), rtol=1e-5)


def test_embed_rows_depend_on_their_own_image_only(backbone):
    images = make_images(5)
    together = backbone.embed(images)
    reverse = backbone.embed(images[::-1])[::-1]
    alone = np.concatenate([backbone.embed(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(reverse, together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 0.01


def test_embed_of_no_images_gives_no_rows(backbone):
    features = backbone.embed(make_images(0))
    assert (features.shape, features.dtype) == ((0, 1280), np.float32)


@pytest.mark.parametrize(
    "images", [make_images(1, 32), make_images(1).astype(float), make_images(1)[0]]
)
def test_embed_of_wrong_batch_raises(backbone, images):
    with pytest.raises(InvalidImageError, match="Expected uint8 RGB images"):
        backbone.embed(images)


@pytest.mark.slow  # 10 s: two conversions
def test_random_weights_are_the_same_each_time(backbone):
    other = KerasApplication("mobilenet-v2", weights=None, input_size=64)
    images = make_images(2)
    np.testing.assert_array_equal(other.embed(images), backbone.embed(images))
    assert other.fingerprint == backbone.fingerprint


@pytest.mark.slow  # 20 s: three networks
def test_efficientnet_file_by_path_equals_imagenet_of_keras(tmp_path, monkeypatch):
    import keras
    from keras.src.utils import file_utils

    options = {"include_top": False, "pooling": "avg", "input_shape": (64, 64, 3)}
    model = random_network("efficientnet-b0", **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance = np.array([[0.485, 0.456, 0.406], [0.05, 0.04, 0.06]])
            layer.set_weights([mean, variance, *layer.get_weights()[2:]])
    path = save_legacy(model, tmp_path / "efficientnetb0_notop.h5")
    # Keras demands the hash of the real file; here it gets ours.
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)
    theirs = keras.applications.EfficientNetB0(**options)
    images = make_images(2)
    ours = KerasApplication("efficientnet-b0", weights=path, input_size=64)
    expected = theirs(images.astype(np.float32)).numpy()
    plain = keras.applications.EfficientNetB0(weights=path, **options)(
        images.astype(np.float32)
    ).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours.embed(images), expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(plain - expected).max() > 1e-3 * scale  # the trap is real


def test_missing_weights_file_raises_artifact_error():
    with pytest.raises(ArtifactError, match=r"'/nowhere/w\.h5', which is not a file"):
        _ = KerasApplication(weights="/nowhere/w.h5").fingerprint


def test_weights_of_another_network_raise_artifact_error(tmp_path, published):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(published.no_top.read_bytes()[:50_000])
    for weights, model, reason in [
        (broken, "mobilenet-v2", "which is broken"),
        (published.no_top, "mobilenet", "which Keras cannot load into it"),
    ]:
        backbone = KerasApplication(model, weights=weights, input_size=64)
        with pytest.raises(ArtifactError, match=reason):
            backbone.embed(make_images(1))


def test_too_small_input_size_raises_naming_the_size():
    backbone = KerasApplication("xception", weights=None, input_size=40)
    with pytest.raises(PluginContractError, match=r"Got \(40, 40\).*trained on 299"):
        backbone.embed(make_images(1, 40))


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "64", (64,), (64, 64, 3)])
def test_malformed_input_size_raises(size):
    with pytest.raises(PluginContractError, match="Expected input_size"):
        _ = KerasApplication(input_size=size).input_size


def test_unknown_model_raises_with_near_names():
    with pytest.raises(UnknownPluginError, match="Did you mean 'mobilenet-v2'"):
        _ = KerasApplication("mobilnet-v2").dim


def test_imagenet_file_in_keras_home_is_used(tmp_path, published, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / NO_TOP).write_bytes(published.no_top.read_bytes())
    named, by_path = KerasApplication(), KerasApplication(weights=published.no_top)
    assert named.fingerprint == by_path.fingerprint
    assert named.card.pretraining.startswith("ImageNet-1k")
    assert by_path.card.pretraining == ""


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """Serve a file 'remote.bin' of 10 bytes on this machine."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "remote.bin").write_bytes(b"0123456789")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


MD5 = "781e5e245d69b566979b86e28d23f2c7"  # of 0123456789


def remote(url: str, md5: str) -> Application:
    """A row of the table whose file is published at an address."""
    row = applications()["resnet50"]
    return replace(row, file="local.bin", url=url, hash=md5)


def test_published_weights_are_downloaded_once_and_announced_on_stderr(
    tmp_path, server, monkeypatch, capfd
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    row = remote(f"{server}/remote.bin", MD5)
    path = published_weights(row)
    assert path == tmp_path / "home" / "models" / "local.bin"
    assert path.read_bytes() == b"0123456789"
    names = {each.name for each in path.parent.iterdir()}
    assert names == {"local.bin", "local.bin.sha256", ".local.bin.lock"}
    said = capfd.readouterr()
    assert said.out == ""
    for part in ("'local.bin'", server, "10 B", "licence: MIT", str(path.parent)):
        assert part in said.err
    (tmp_path / "www" / "remote.bin").unlink()
    assert published_weights(row) == path


def test_published_weights_come_from_the_mirror(tmp_path, server, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEROSHOT_MIRROR", server)
    row = remote("http://127.0.0.1:1/elsewhere/remote.bin", MD5)
    assert published_weights(row).read_bytes() == b"0123456789"


def test_published_weights_of_other_content_are_refused_and_stay(
    tmp_path, server, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    old = tmp_path / "home" / "models" / "local.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"01234")
    with pytest.raises(ArtifactError, match="other content"):
        published_weights(remote(f"{server}/remote.bin", MD5))
    assert old.read_bytes() == b"01234"


def test_failed_download_says_where_to_put_which_file(tmp_path, server, monkeypatch):
    url = f"{server}/remote.bin"  # a file of other content
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / "models" / "local.bin"
    with pytest.raises(ArtifactError) as caught:
        published_weights(remote(url, "0" * 32))
    for part in (url, "'local.bin'", str(place)):
        assert part in str(caught.value)
    assert [each.name for each in place.parent.iterdir()] == [".local.bin.lock"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("resnet50", KerasApplication("resnet50")),
        ("resnet50:160", KerasApplication("resnet50", input_size=160)),
        ("resnet50:160x224", KerasApplication("resnet50", input_size=(160, 224))),
        ("resnet50:none", KerasApplication("resnet50", weights=None)),
        ("resnet50:/a,b.h5", KerasApplication("resnet50", weights="/a,b.h5")),
        (
            "resnet50:160,/a b.h5",
            KerasApplication("resnet50", weights="/a b.h5", input_size=160),
        ),
        (
            "resnet50:160,none",
            KerasApplication("resnet50", weights=None, input_size=160),
        ),
    ],
)
def test_spec_string_round_trips(spec, expected):
    name, colon, argument = spec.partition(":")
    made = KerasApplication.from_spec(name, argument if colon else None)
    assert made.spec == expected.spec == spec
    assert (made.weights, made.input_size) == (expected.weights, expected.input_size)


@given(
    size=st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_spec_of_any_path_and_size_round_trips(size, path):
    backbone = KerasApplication("vgg16", weights=f"/{path}", input_size=size)
    made = KerasApplication.from_spec(*backbone.spec.split(":", 1))
    assert (made.spec, made.input_size) == (backbone.spec, backbone.input_size)


@pytest.mark.parametrize("argument", ["0", "99999", "0x32", "32x0,none", "9" * 4300])
def test_spec_with_a_size_out_of_range_raises(argument):
    with pytest.raises(PluginContractError, match=r"Expected (input_size|a size)"):
        KerasApplication.from_spec("vgg16", argument)


@pytest.mark.parametrize(
    "argument", ["-1", "\u0661\u0666\u0660", "160x", "~nobody/w.h5"]
)
def test_spec_that_is_neither_size_nor_file_raises(argument):
    backbone = KerasApplication.from_spec("vgg16", argument)
    with pytest.raises(ArtifactError, match="which is not a file"):
        _ = backbone.fingerprint


@pytest.mark.parametrize("argument", ["", "160,"])
def test_spec_without_the_promised_part_raises(argument):
    with pytest.raises(PluginContractError, match="Expected a size, weights"):
        KerasApplication.from_spec("vgg16", argument)


def test_relative_weights_path_is_absolute_in_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert KerasApplication(weights="w.h5").spec == f"mobilenet-v2:{tmp_path}/w.h5"


def test_fingerprint_follows_content_not_place(tmp_path):
    first, copy, other = (tmp_path / name for name in ("a.h5", "b.h5", "c.h5"))
    first.write_bytes(b"same")
    copy.write_bytes(b"same")
    other.write_bytes(b"other")

    def of(weights, model="mobilenet-v2", size=None):
        return KerasApplication(model, weights=weights, input_size=size).fingerprint

    assert of(first) == of(copy) == of(str(copy), size=(224, 224))
    different = [of(first), of(other), of(None), of(first, "vgg16"), of(first, size=96)]
    assert len(set(different)) == 5


@pytest.mark.slow
def test_pickle_and_clone_keep_the_backbone_without_the_network(backbone):
    images = make_images(1)
    features = backbone.embed(images)
    stored = pickle.dumps(backbone)
    assert len(stored) < 1000
    restored = pickle.loads(stored)
    assert restored.fingerprint == backbone.fingerprint
    np.testing.assert_array_equal(restored.embed(images), features)
    assert clone(backbone) is backbone


@pytest.mark.slow
def test_embed_in_threads_gives_the_same_features():
    backbone = KerasApplication("mobilenet", weights=None, input_size=32)
    images = make_images(2, 32)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(backbone.embed(images)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_allclose(result, results[0], rtol=1e-5)


@pytest.mark.slow  # 20 s; the golden features are quicker
def test_real_mobilenet_v2_equals_plain_keras_call(real_data):
    import keras
    from keras.applications.mobilenet_v2 import preprocess_input

    weights = real_data / "keras" / "models" / NO_TOP
    images = make_images(2, 224)
    theirs = keras.applications.MobileNetV2(
        include_top=False, pooling="avg", weights=weights
    )(preprocess_input(images.astype(np.float32))).numpy()
    ours = KerasApplication(weights=weights).embed(images)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    with_top = KerasApplication(weights=weights.with_name(WITH_TOP)).embed(images)
    assert np.abs(with_top - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SMALL if n != "efficientnet-b0"])
def test_with_top_file_of_every_family_equals_the_cut_network(name, tmp_path):
    import keras

    row = applications()[name]
    full = random_network(name)
    path = save_legacy(full, tmp_path / "with_top.h5")
    last = full.layers[-1]
    if isinstance(last, keras.layers.Dense) and name != "vgg16":
        cut = last.input
    else:
        cut = [layer for layer in full.layers if "pool" in layer.name][-1].output
    images = make_images(1, row.size)
    scaled = scale_pixels(images.astype(np.float32), row.scaling)
    expected = keras.Model(full.inputs[0], cut)(scaled).numpy()
    if name == "vgg16":
        expected = expected.mean(axis=(1, 2))
    ours = KerasApplication(name, weights=path).embed(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, expected.reshape(1, -1), rtol=0, atol=1e-5 * scale)
