"""Files of networks that run something, or lead to other files, are refused."""

import io
import json
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from test_model_files import images_of, save_onnx

import zeroshot
from zeroshot import ZeroShotClassifier, registry
from zeroshot.backbones import (
    KerasApplication,
    KerasModel,
    LiteRTModel,
    ONNXModel,
    TFHub,
)
from zeroshot.backbones.keras.model_content import check_model_content
from zeroshot.errors import ArtifactError, ZeroShotError


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small Keras model, as a .keras file."""
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    path = tmp_path_factory.mktemp("network") / "net.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own, with NumPy 2.4
        keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)).save(path)
    return path


def repacked(network, path, change, method=zipfile.ZIP_STORED):
    """Write the file again, with what ``change`` makes of each member's content."""
    with zipfile.ZipFile(network) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def changed_weights(content, change):
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as weights:
        change(weights)
    return file.getvalue()


def outside(weights):
    weights["layers/more"] = h5py.ExternalLink("/etc/other.h5", "/")


def stored_outside(weights):
    weights.create_dataset("more", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(weights):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    weights.create_virtual_dataset("more", layout)


def huge(weights):
    weights.create_dataset("more", (1 << 40,), "f4", chunks=(1024,))


def circle(weights):
    weights["layers/again"] = weights["/"]


@pytest.mark.parametrize("form", ["zip", "h5"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (outside, "leads to another file"),
        (stored_outside, "lie in another file"),
        (virtual, "lie in another file"),
        (huge, "declares many times more"),
    ],
)
def test_weights_that_lead_elsewhere_are_refused(
    form, change, reason, network, tmp_path
):
    def edit(name, content):
        return changed_weights(content, change) if name.endswith(".h5") else content

    path = repacked(network, tmp_path / "net.keras", edit)
    check_model_content(network)
    if form == "zip":
        with pytest.raises(ArtifactError, match=reason):
            KerasModel(path).embed(images_of(1, (8, 8)))
    else:
        with zipfile.ZipFile(path) as archive:
            path = tmp_path / "x.weights.h5"
            path.write_bytes(archive.read("model.weights.h5"))
        with pytest.raises(ArtifactError, match=reason):
            KerasApplication(weights=path, input_size=32).embed(images_of(1, (32, 32)))


def test_groups_in_a_circle_are_walked_once(network, tmp_path):
    def edit(name, content):
        return changed_weights(content, circle) if name.endswith(".h5") else content

    check_model_content(repacked(network, tmp_path / "net.keras", edit))


@pytest.mark.parametrize(
    "layer", ["Lambda", "TFSMLayer", "StringLookup", "TextVectorization", "a>Lambda"]
)
def test_layers_that_run_or_read_are_refused(layer, network, tmp_path):
    def edit(name, content):
        if name != "config.json":
            return content
        config = json.loads(content)
        config["config"]["layers"][1]["class_name"] = layer
        return json.dumps(config).encode()

    path = repacked(network, tmp_path / "net.keras", edit)
    with pytest.raises(
        ArtifactError, match=f"'{layer.removeprefix('a>')}' has code of its own"
    ):
        KerasModel(path).embed(images_of(1, (8, 8)))


def test_file_that_unpacks_to_many_times_its_size_is_refused(network, tmp_path):
    def edit(name, content):
        return content + bytes(80 << 20) if name.endswith(".h5") else content

    path = repacked(network, tmp_path / "net.keras", edit, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArtifactError, match="many times its size"):
        KerasModel(path).embed(images_of(1, (8, 8)))


@pytest.mark.parametrize("deep", [False, True], ids=["graph", "within"])
def test_onnx_with_weights_elsewhere_is_refused_though_they_are_there(
    deep, tmp_path, monkeypatch
):
    import onnx

    path = save_onnx(tmp_path / "m.onnx", ("n", 3, 8, 6))
    model = onnx.load(path)
    kernel = model.graph.initializer[0]
    content = kernel.raw_data
    (tmp_path / "kernel.bin").write_bytes(content)
    kernel.ClearField("raw_data")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="kernel.bin")
    if deep:  # as a constant in a graph of a node's own
        inner = onnx.helper.make_graph([], "inner", [], [], [kernel])
        kernel.ClearField("external_data")
        kernel.data_location = onnx.TensorProto.DEFAULT
        kernel.raw_data = content
        node = onnx.helper.make_node("If", ["image"], ["x9"], then_branch=inner)
        model.graph.node.append(node)
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="'kernel' lies in another file"):
        ONNXModel(path, scaling="unit").embed(images_of())


def test_litert_with_operations_of_tensorflow_is_refused(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\0\0\0\0TFL3....FlexWriteFile\0...")
    with pytest.raises(ArtifactError, match="'FlexWriteFile'"):
        LiteRTModel(path, scaling="unit").embed(images_of())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mobilenet-v2", "weights are not on this machine"),
        ("color-hog+int8:mobilenet-v2:160", "weights are not on this machine"),
        ("mobilenet-v2:160,none", ""),
        ("mobilenet-v2:/no/such.h5", ""),
        ("onnx:/model.onnx?scaling=unit", ""),
        ("litert:/model.tflite?scaling=unit", ""),
        ("onnx://host/share/model.onnx", "an address"),
        ("onnx:\\\\host\\share\\model.onnx", "an address"),
        ("onnx:file:///model.onnx", "an address"),
        ("int8:tfhub:/module", "a program"),
        ("int8:int8:tfhub:/module", "no installed plugin"),
        ("color-hog+tfhub:/module", "a program"),
        ("keras:/model.keras", "a program"),
    ],
)
def test_backbone_of_somebody_elses_spec_is_trusted_where_it_is_data(
    spec, reason, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found = registry.why_untrusted("backbone", spec)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("tfhub:/module", "a program"),
        ("tfhub:google/nnlm/tensorFlow2/en-dim50/1", "a program"),
        ("tfhub:https://tfhub.dev/google/nnlm-en-dim50/2", "an address"),
        ("tfhub:gs://bucket/module", "an address"),
    ],
)
def test_text_module_of_somebody_elses_spec_is_not_trusted(spec, reason):
    assert reason in registry.why_untrusted("embeddings", spec)


def test_published_vectors_of_somebody_elses_spec_are_named_with_the_command():
    reason = registry.why_untrusted("embeddings", "glove.6B.300d")
    assert "zeroshot embeddings download glove.6B.300d" in reason


SECRET = "tfhub:https://me:hidden@127.0.0.1:1/module?token=hidden"


@pytest.mark.parametrize(
    "told",
    [
        lambda: repr(TFHub(SECRET.removeprefix("tfhub:"))),
        lambda: str(TFHub(SECRET.removeprefix("tfhub:")).card),
        lambda: str(registry.spec_of(TFHub(SECRET.removeprefix("tfhub:")))),
        lambda: repr(ZeroShotClassifier(SECRET, SECRET)),
        lambda: registry.resolve_backbone(f"{SECRET}?no=1"),
        lambda: repr(registry.resolve_embeddings(SECRET)),
        lambda: str(registry.spec_of(registry.resolve_embeddings(SECRET))),
        lambda: registry.resolve_embeddings(SECRET).fingerprint,
        lambda: registry.resolve_embeddings(SECRET.removeprefix("tfhub:")),
        lambda: registry.resolve_backbone(SECRET.removeprefix("tfhub:")),
        lambda: registry.resolve_backbone(SECRET.replace("tfhub", "onnx")).fingerprint,
        lambda: zeroshot.load(SECRET),
    ],
)
def test_secrets_of_an_address_are_told_nowhere(told, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")  # a dead server costs 15 s of tries
    try:
        text = told()
    except ZeroShotError as error:
        text = str(error)
    assert "hidden" not in text


def test_np_objects_are_never_loaded(tmp_path):
    # A pickle in place of weights: what `numpy.load` would run, is not asked to.
    path = tmp_path / "weights.h5"
    np.save(path.with_suffix(".npy"), np.array([None], object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)
    with pytest.raises(ArtifactError):
        KerasApplication(weights=path, input_size=32).embed(images_of(1, (32, 32)))
