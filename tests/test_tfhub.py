"""TF-Hub modules written here: the functions that they hold are the oracle."""

import hashlib
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from flaky_server import FlakyServer, Reply

from zeroshot import registry
from zeroshot.backbones import TFHub
from zeroshot.errors import ArtifactError, InvalidImageError, PluginContractError
from zeroshot.testing import check_backbone
from zeroshot.tfhub.handles import module_folder

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

KERNEL = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


def images_of(n: int = 3, side: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, side, side, 3), np.uint8)


def expected_of(images: np.ndarray) -> np.ndarray:
    """What every module here computes of pixels in [0, 1]."""
    return (images / 255).mean(axis=(1, 2)) @ KERNEL


def save_tf2(folder: Path, *, batch=None, side=8, signatures=True) -> Path:
    """Write what `tf.saved_model.save` writes, as most modules of TF2 were."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(KERNEL)

        @tf.function(
            input_signature=[tf.TensorSpec((batch, side, side, 3), tf.float32)]
        )
        def __call__(self, images):
            return tf.reduce_mean(images, axis=(1, 2)) @ self.kernel

    module = Module()
    named = {"serving_default": module.__call__} if signatures else {}
    tf.saved_model.save(module, folder, named)
    return folder


def save_keras(folder: Path) -> Path:
    import keras

    inputs = keras.Input((8, 8, 3))
    dense = keras.layers.Dense(5, use_bias=False)
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    dense.set_weights([KERNEL])
    model.export(folder, verbose=False)
    return folder


def save_tf1(folder: Path, *, hub_format: bool) -> Path:
    """Write what TF1 wrote: a graph, a session's variables, signatures."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 8, 8, 3))
        kernel = v1.get_variable("kernel", initializer=KERNEL)
        features = tf.reduce_mean(images, axis=(1, 2)) @ kernel
        signature = v1.saved_model.signature_def_utils.predict_signature_def(
            {"images": images},
            {"default": features, "map": images[..., :2], "twice": 2 * features},
        )
        named = {"default": signature, "image_feature_vector": signature}
        session.run(v1.global_variables_initializer())
        tags = [] if hub_format else ["serve"]
        builder.add_meta_graph_and_variables(session, tags, named)
        if hub_format:  # the other variant of a module's graph, for fine-tuning
            builder.add_meta_graph(["train"], named)
    builder.save()
    if hub_format:
        (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


def pack(folder: Path, archive: Path, prefix: str = ".") -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, prefix)
    return archive


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    return save_tf2(tmp_path_factory.mktemp("module") / "tf2")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    server = FlakyServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    "save",
    [
        save_tf2,
        lambda folder: save_tf2(folder, signatures=False),
        lambda folder: save_tf2(folder, batch=1),
        lambda folder: save_tf2(folder, batch=2),
        save_keras,
        lambda folder: save_tf1(folder, hub_format=True),
        lambda folder: save_tf1(folder, hub_format=False),
    ],
    ids=["tf2", "tf2-callable", "batch-1", "batch-2", "keras", "tf1-hub", "tf1"],
)
def test_module_of_every_kind_computes_its_features(tmp_path, save):
    backbone = TFHub(save(tmp_path / "module"))
    images = images_of()
    features = backbone.embed(images)
    assert (backbone.dim, backbone.input_size) == (5, (8, 8))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected_of(images), rtol=1e-4, atol=1e-5)


def test_tfhub_keeps_the_contract(module):
    check_backbone(TFHub(module))


def test_output_is_chosen_by_name_and_a_map_is_averaged(tmp_path):
    folder, images = save_tf1(tmp_path / "module", hub_format=True), images_of()
    plain = TFHub(folder).embed(images)
    np.testing.assert_allclose(
        TFHub(folder, output="twice").embed(images), 2 * plain, rtol=1e-5
    )
    np.testing.assert_allclose(
        TFHub(folder, output="map", scaling="identity").embed(images),
        images[..., :2].mean(axis=(1, 2)),
        rtol=1e-5,
    )
    with pytest.raises(PluginContractError, match="it has 'default', 'map', 'twice'"):
        TFHub(folder, output="features").embed(images)
    with pytest.raises(PluginContractError, match=r"one signature.*'default'"):
        TFHub(folder, signature="serve").embed(images)


def test_module_of_open_size_needs_a_size(tmp_path):
    folder = save_tf2(tmp_path / "module", side=None)
    with pytest.raises(PluginContractError, match="Expected input_size"):
        _ = TFHub(folder).input_size
    backbone = TFHub(folder, input_size=(6, 4))
    images = images_of()[:, :6, :4]
    np.testing.assert_allclose(
        backbone.embed(images), expected_of(images), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InvalidImageError):
        backbone.embed(images_of())


def test_other_size_than_the_modules_own_raises(module):
    with pytest.raises(PluginContractError, match="own size"):
        TFHub(module, input_size=16).embed(images_of(1, 16))


def test_relative_folder_is_the_same_module(module, monkeypatch):
    monkeypatch.chdir(module.parent)
    assert TFHub(module.name).fingerprint == TFHub(module).fingerprint
    assert TFHub(module.name).spec == TFHub(module).spec
    monkeypatch.chdir(module)
    assert TFHub(Path()).fingerprint == TFHub(module).fingerprint


@pytest.mark.parametrize("prefix", [".", "mobilenet/1"])
def test_local_archive_equals_its_folder(module, tmp_path, prefix, cache_folder):
    if prefix != ".":
        prefix = prefix.split("/")[0]
    archive = pack(module, tmp_path / "module.tar.gz", prefix)
    packed, plain = TFHub(archive), TFHub(module)
    assert packed.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(packed.embed(images_of()), plain.embed(images_of()))
    assert len([p for p in (cache_folder / "tfhub").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize("path", ["/m.tar.gz", "/google/m/1"])
def test_url_is_fetched_once_and_kept(module, tmp_path, server, path, cache_folder):
    content = pack(module, tmp_path / "m.tar.gz").read_bytes()
    asked = path if path.endswith("gz") else f"{path}?tf-hub-format=compressed"
    # The connection breaks once: what had come is not fetched again.
    url = server.serve(asked, Reply(content, cut=500), Reply(content))
    url = url.partition("?")[0]
    backbone = TFHub(url)
    assert backbone.fingerprint == TFHub(module).fingerprint
    assert backbone.card.weights_url == url
    assert server.ranges(asked) == [None, "bytes=500-"]
    folder = module_folder(url)
    assert folder.parent == cache_folder / "tfhub"
    np.testing.assert_array_equal(
        TFHub(url).embed(images_of()), TFHub(module).embed(images_of())
    )
    assert len(server.requests) == 2
    assert not list(folder.parent.glob("[!.]*.tar.gz*"))


def test_module_that_tensorflow_hub_has_cached_is_used(module, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    url = "https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/feature_vector/5"
    # sha1 of the URL, as `tensorflow_hub` 0.16.1 names it.
    place = tmp_path / "5a2fc00b609485c742fba2c65fadaca6c99a835c"
    place.symlink_to(module)
    assert module_folder(url) == place


def test_modules_of_a_broken_server_raise_and_leave_nothing(
    module, tmp_path, server, cache_folder
):
    content = pack(module, tmp_path / "m.tar.gz").read_bytes()
    for reply, message in [
        (Reply(b"no", status=404), "404"),
        (Reply(b"<html>Log in</html>"), "web page"),
        (Reply(content[:-200]), "whole archive"),
        (Reply(b"no archive at all"), "whole archive"),
    ]:
        url = server.serve("/m.tar.gz", reply)
        with pytest.raises(ArtifactError, match=message):
            _ = TFHub(url).fingerprint
    url = server.serve("/m.tar.gz", Reply(content))
    assert TFHub(url).fingerprint == TFHub(module).fingerprint


KAGGLE = "google/nnlm/tensorFlow2/en-dim50/1"
SECRET = "https://me:hidden@host/m.tar.gz?token=hidden"


@pytest.mark.parametrize(
    ("handle", "address", "shown"),
    [
        (SECRET, SECRET, "https://host/m.tar.gz?..."),
        (KAGGLE, *2 * [f"https://www.kaggle.com/models/{KAGGLE}"]),
        ("gs://bucket/module", "gs://bucket/module", "gs://bucket/module"),
    ],
)
def test_address_without_permission_to_download_raises(
    monkeypatch, cache_folder, handle, address, shown
):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ArtifactError, match="ZEROSHOT_OFFLINE") as caught:
        _ = TFHub(handle).fingerprint
    name = hashlib.sha1(address.encode()).hexdigest()  # as `tensorflow_hub` has it
    assert f"'{shown}' in '{cache_folder / 'tfhub' / name}'" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_module_put_where_the_error_says_is_found(module, monkeypatch, cache_folder):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ArtifactError) as caught:
        _ = TFHub(KAGGLE).fingerprint
    place = str(caught.value).split("' in '")[1].split("'")[0]
    shutil.copytree(module, place)
    assert TFHub(KAGGLE).fingerprint == TFHub(module).fingerprint
    assert TFHub(KAGGLE).spec == f"tfhub:{KAGGLE}?scaling=unit"
    assert TFHub(KAGGLE).card.weights_url.endswith(KAGGLE)


def test_folder_named_like_a_handle_of_kaggle_is_that_folder(
    module, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(module, tmp_path / KAGGLE)
    assert TFHub(KAGGLE).fingerprint == TFHub(module).fingerprint
    assert TFHub(KAGGLE).spec == f"tfhub:{tmp_path / KAGGLE}?scaling=unit"


@pytest.mark.parametrize("start", ["", "https://www.kaggle.com/models/"])
def test_kaggles_models_of_other_frameworks_are_refused(start):
    handle = f"{start}google/gemma/pyTorch/2b-it/2"
    with pytest.raises(ArtifactError, match="of 'pyTorch'"):
        _ = TFHub(handle).fingerprint


def test_file_address_is_its_path(module, tmp_path):
    folder = tmp_path / "with space"
    shutil.copytree(module, folder)
    archive = pack(module, tmp_path / "m #1.tar")
    for path in (folder, archive):
        backbone = TFHub(path.as_uri())
        assert "%20" in path.as_uri()
        assert backbone.fingerprint == TFHub(module).fingerprint
        assert backbone.spec == TFHub(path).spec
    with pytest.raises(ArtifactError, match="on another one"):
        _ = TFHub("file://server/module").fingerprint


def test_module_on_a_file_system_of_tensorflow_is_copied_once(
    module, tmp_path, cache_folder
):
    import tensorflow as tf

    files = tf.io.gfile  # which reads memory as it reads Google's storage
    files.makedirs("ram://m/variables")
    for path in module.rglob("*"):
        if path.is_file():
            files.copy(str(path), f"ram://m/{path.relative_to(module)}")
    files.copy(str(pack(module, tmp_path / "m.tar.gz")), "ram://packed.tar.gz")
    folders = [module_folder(name) for name in ("ram://m", "ram://packed.tar.gz")]
    files.rmtree("ram://m")
    for folder in folders:
        assert folder.parent == cache_folder / "tfhub"
    for name in ("ram://m", "ram://packed.tar.gz"):
        assert TFHub(name).fingerprint == TFHub(module).fingerprint
    for name, said in [("ram://absent", "not exist"), ("ftp://x/y", "'ftp' not impl")]:
        with pytest.raises(ArtifactError, match=said):
            _ = TFHub(name).fingerprint
    assert {path.name for path in (cache_folder / "tfhub").glob("[!.]*")} == {
        *(folder.name for folder in folders),
        f"{folders[1].name}.sha256",
    }


def test_modules_url_keeps_its_secrets(server, capsys):
    secret = TFHub(SECRET)
    assert secret.spec is None
    assert secret.card.weights_url == "https://host/m.tar.gz?..."
    for reply in (Reply(status=404), Reply(b"no archive")):
        url = server.serve("/m.tar.gz?token=hidden", reply)
        with pytest.raises(ArtifactError) as caught:
            module_folder(url.replace("//", "//me:hidden@"))
        assert "/m.tar.gz?..." in str(caught.value)
        assert "hidden" not in str(caught.value) + capsys.readouterr().err


def test_url_wanted_twice_at_once_is_fetched_once(module, tmp_path, server):
    content = pack(module, tmp_path / "m.tar.gz").read_bytes()
    url = server.serve("/m.tar.gz", Reply(content, delay=0.2))
    with ThreadPoolExecutor() as threads:
        # Locks are of files, so two threads are as two processes.
        folders = set(threads.map(module_folder, [url, url]))
    assert folders == {module_folder(url)}
    assert len(server.requests) == 1


def test_archive_that_leads_out_is_refused(tmp_path, cache_folder):
    archive = tmp_path / "m.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil.txt"))
    with pytest.raises(ArtifactError, match="leads out of it"):
        module_folder(str(archive))
    assert not list(cache_folder.rglob("evil.txt"))


def test_what_is_no_module_raises(tmp_path):
    (tmp_path / "text.tar.gz").write_text("no archive")
    broken = tmp_path / "broken"
    broken.mkdir()
    for handle, message in [
        (tmp_path / "absent", "which is none of them"),
        (tmp_path / "text.tar.gz", "whole archive"),
        (broken, "has none"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            _ = TFHub(handle).fingerprint
    (broken / "saved_model.pb").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="TensorFlow cannot load"):
        TFHub(broken).embed(images_of())


def test_modules_of_text_or_several_inputs_raise(tmp_path):
    import tensorflow as tf

    class Text(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, words):
            return tf.zeros((tf.size(words), 5))

    class Two(tf.Module):
        @tf.function(input_signature=2 * [tf.TensorSpec((None, 8, 8, 3), tf.float32)])
        def __call__(self, a, b):
            return tf.reduce_mean(a + b, axis=(1, 2))

    for name, wrong, message in [
        ("text", Text(), "whose input is string"),
        ("two", Two(), "one input"),
    ]:
        tf.saved_model.save(wrong, tmp_path / name, {"serving_default": wrong.__call__})
        with pytest.raises(PluginContractError, match=message):
            TFHub(tmp_path / name).embed(images_of())


def test_fingerprint_changes_with_whatever_changes_features(module, tmp_path):
    def of(folder, **options):
        return TFHub(folder, **options).fingerprint

    different = [
        of(module),
        of(save_keras(tmp_path / "keras")),
        of(module, scaling="tf"),
        of(module, resize="squash"),
        of(module, output="output_0"),
        of(module, signature="serving_default"),
        of(module, input_size=8),
    ]
    assert len(set(different)) == len(different)


def test_spec_string_round_trips(module):
    spec = f"tfhub:{module}?size=8&scaling=tf&resize=squash&output=output_0"
    backbone = registry.resolve_backbone(spec)
    again = registry.resolve_backbone(backbone.spec)
    assert (again.spec, again.fingerprint) == (backbone.spec, backbone.fingerprint)
    assert (again.scaling, again.resize, again.input_size) == ("tf", "squash", (8, 8))
    url = registry.resolve_backbone("tfhub:https://tfhub.dev/google/m/1")
    assert url.spec == "tfhub:https://tfhub.dev/google/m/1?scaling=unit"
    with pytest.raises(PluginContractError, match="options signature, output"):
        registry.resolve_backbone("tfhub:/m?colour=red")


def test_unpickled_module_computes_the_same(module):
    backbone = TFHub(module)
    features = backbone.embed(images_of())
    restored = pickle.loads(pickle.dumps(backbone))
    np.testing.assert_array_equal(restored.embed(images_of()), features)
