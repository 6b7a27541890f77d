"""Exported files: run by their own runtimes, compared with the classifier itself."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from cli_runs import error_of, run, succeed, write_vectors
from PIL import Image
from sklearn.base import BaseEstimator

from zeroshot import ZeroShotClassifier
from zeroshot.backbones import (
    CallableBackbone,
    ColorHOG,
    Concatenated,
    KerasApplication,
    KerasModel,
    ONNXModel,
    Quantised,
)
from zeroshot.backbones.keras.conversion import photographs
from zeroshot.backbones.keras.network import scale_pixels
from zeroshot.datasets import make_shapes, shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    LabelError,
    MissingExtraError,
    OutOfVocabularyError,
    PluginContractError,
)
from zeroshot.exporting import export_classifier, export_labels
from zeroshot.projections import DeViSE

pytest.importorskip("onnxruntime")
# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

ROOT = Path(__file__).parents[1]
FORMS = ["onnx", "tflite", "saved-model"]
LABELS = ["red star", "blue ring", "green cross"]
SIZE = (32, 32)


def make_model(*, sine: bool = False):
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SIZE, 3))
    # What a layer keeps beside its weights, tf2onnx by itself takes for an input.
    x = keras.layers.Normalization(mean=[9.0, 0, -9], variance=[2.0, 3, 4])(inputs)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu")(x)
    x = keras.layers.Conv2D(16, 3, strides=2)(x)
    x = keras.ops.sin(1e5 * x) if sine else x  # shows every rounding
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.keras"
    make_model().save(path)
    return path


@pytest.fixture(scope="module")
def shapes():
    return make_shapes(4, random_state=0)


def fitted(backbone, shapes, projection="devise", **parameters):
    parameters = {"cache": False, "random_state": 0} | parameters
    words = Attributes(*shape_attributes())
    clf = ZeroShotClassifier(backbone, words, projection=projection, **parameters)
    return clf.fit(*shapes)


@pytest.fixture(scope="module")
def clf(network, shapes):
    return fitted(KerasModel(network, scaling="caffe"), shapes)


@pytest.fixture(scope="module")
def images():
    """Others than those of training and than those that an export is compared on."""
    return make_shapes(1, size=SIZE[0], random_state=5)[0]


def outputs_of(path: Path, images) -> dict[str, np.ndarray]:
    """Run a file by its runtime."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [each.name for each in session.get_outputs()]
        batches = [images]
        if session.get_inputs()[0].shape[0] == 1:
            batches = [images[i : i + 1] for i in range(len(images))]
        found = [session.run(names, {"image": batch}) for batch in batches]
        return {n: np.concatenate(v) for n, *v in zip(names, *found, strict=True)}
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner("serving_default")
        rows = [runner(image=image[None]) for image in images]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    found = loaded.signatures["serving_default"](image=tf.constant(images))
    return {name: value.numpy() for name, value in found.items()}


def about(path: Path) -> dict:
    return json.loads(Path(f"{path}.json").read_text("utf-8"))


def check(path: Path, clf, images, labels=None):
    outputs = outputs_of(path, images)
    scores = clf.scores(list(images), labels)
    assert outputs["scores"].dtype == outputs["probabilities"].dtype == np.float32
    np.testing.assert_allclose(outputs["scores"], scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        outputs["probabilities"],
        clf.predict_proba(list(images), labels),
        rtol=0,
        atol=1e-3,
    )
    best = outputs["scores"].argmax(axis=1)
    names = np.array(about(path)["labels"])[best]
    assert names.tolist() == clf.predict(list(images), labels).tolist()


@pytest.mark.parametrize("form", FORMS)
def test_file_of_each_form_says_what_the_classifier_says(tmp_path, clf, images, form):
    path = tmp_path / f"shapes.{form}"
    exported = export_classifier(clf, path, LABELS, form=form)
    check(path, clf, images, LABELS)
    assert (exported.path, exported.n_labels, exported.n_images) == (path, 3, 16)
    assert 0 <= exported.difference < 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        path.name,
        f"{path.name}.json",
    ]


@pytest.mark.parametrize(
    ("projection", "form"),
    [
        ("conse", "onnx"),
        ("conse", "tflite"),
        ("ridge", "saved-model"),
        ("visual", "onnx"),
        (DeViSE(visual_weight=0), "tflite"),
        pytest.param(
            DeViSE(hidden=(8,), epochs=1, early_stopping=False),
            "onnx",
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_projection_is_computed_within_the_file(
    tmp_path, network, shapes, images, projection, form
):
    clf = fitted(KerasModel(network), shapes, projection, seen_penalty=0.03)
    path = tmp_path / f"shapes.{form}"
    labels = {"red star": ["crimson star"], "blue ring": [], "circle": []}
    export_classifier(clf, path, labels, form=form)
    check(path, clf, images, labels)
    assert about(path)["seen"] == [True, True, False]


def test_description_tells_what_a_program_must_know(tmp_path, clf):
    path = tmp_path / "shapes.onnx"
    export_classifier(clf, path, LABELS, form="onnx")
    told = about(path)
    assert told["labels"] == LABELS
    assert told["input"]["name"] == "image"
    assert told["input"]["shape"] == ["n", *SIZE, 3]
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["preprocessing"]["resize"] == "crop"
    assert told["backbone"]["fingerprint"] == clf.backbone_.fingerprint
    assert told["embeddings"]["fingerprint"] == clf.embeddings_.fingerprint
    assert told["temperature"] == clf.temperature_
    assert told["reject"] is None
    assert list(told["outputs"]) == ["scores", "probabilities"]


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_file_without_labels_gives_points_for_any_labels(tmp_path, clf, images, form):
    path = tmp_path / f"shapes.{form}"
    exported = export_classifier(clf, path, form=form)
    (point,) = outputs_of(path, images).values()
    np.testing.assert_allclose(np.linalg.norm(point, axis=1), 1, rtol=1e-5)
    other = export_labels(clf, tmp_path / "other.npz", LABELS)
    for file, labels in ((exported.labels, None), (other, LABELS)):
        with np.load(file) as kept:
            scores = point @ kept["points"].T + kept["corrections"]
            names = kept["labels"]
        expected = clf.scores(list(images), labels)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
        assert names[scores.argmax(axis=1)].tolist() == (
            clf.predict(list(images), labels).tolist()
        )
    assert "labels" not in about(path)


@pytest.fixture(scope="module")
def rejecting(network, shapes):
    return fitted(KerasModel(network), shapes, "ridge", reject="auto:0.02")


@pytest.mark.parametrize(
    ("form", "n_labels"),
    [("onnx", 64), ("tflite", 40)],
)
def test_rejection_by_what_is_known_is_in_the_file(
    tmp_path, rejecting, images, form, n_labels
):
    clf, path = rejecting, tmp_path / f"shapes.{form}"
    labels = clf.seen_classes_.tolist()[:n_labels]  # of 64: all that are known
    noise = np.random.default_rng(0).integers(0, 256, (9, *SIZE, 3), np.uint8)
    images = np.concatenate([images, noise])
    export_classifier(clf, path, labels, form=form)
    outputs, reject = outputs_of(path, images), about(path)["reject"]
    np.testing.assert_allclose(
        outputs["standing"][:, 0], clf.standing(list(images), labels), atol=1e-5
    )
    is_rejected = clf.predict(list(images), labels) == "unknown"
    assert 0 < is_rejected.sum() < len(images)
    got = outputs[reject["where_the_largest_of"]].max(axis=1) < reject["is_below"]
    np.testing.assert_array_equal(got, is_rejected)


def test_rejection_by_a_score_needs_no_more_than_scores(tmp_path, clf, images):
    scores = clf.scores(list(images), LABELS).max(axis=1)
    clf.set_params(reject=float(np.median(scores)) + 1e-4, unknown_label="none")
    try:
        path = tmp_path / "shapes.onnx"
        export_classifier(clf, path, LABELS, form="onnx")
        names = clf.predict(list(images), LABELS)
    finally:
        clf.set_params(reject=None, unknown_label="unknown")
    reject = about(path)["reject"]
    assert (reject["answer"], reject["where_the_largest_of"]) == ("none", "scores")
    got = outputs_of(path, images)["scores"].max(axis=1) < reject["is_below"]
    np.testing.assert_array_equal(got, names == "none")


def save_onnx(path, shape, *, channels_first=True, opset=17, pooled=False):
    """Write a convolution of 3 x 3, perhaps of another opset and layout."""
    from onnx import helper, numpy_helper, save

    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)) / 9
    weights = weights.astype(np.float32)
    perms = [] if channels_first else [[0, 3, 1, 2], [0, 2, 3, 1]]
    source = "image" if channels_first else "first"
    nodes = [helper.make_node("Conv", [source, "weights"], ["map"])]
    if perms:
        first = helper.make_node("Transpose", ["image"], ["first"], perm=perms[0])
        last = helper.make_node("Transpose", ["map"], ["last"], perm=perms[1])
        nodes = [first, *nodes, last]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["last"]),
        ]
    output = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info(output, 1, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    ids = [helper.make_opsetid("", opset)]
    save(helper.make_model(graph, opset_imports=ids, ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shape", "options", "scaling"),
    [
        (("n", 3, *SIZE), {}, "torch"),
        ((1, 3, *SIZE), {"pooled": True}, "caffe"),
        (("n", *SIZE, 3), {"channels_first": False}, "tf"),
        (("n", 3, *SIZE), {"opset": 13}, "unit"),
        (("n", 3, *SIZE), {"opset": 11, "pooled": True}, "identity"),
        (("n", 3, "h", "w"), {"opset": 21}, "caffe"),
    ],
)
def test_onnx_network_gets_scaling_before_it_and_labels_behind_it(
    tmp_path, shapes, images, shape, options, scaling
):
    network = save_onnx(tmp_path / "network.onnx", shape, **options)
    backbone = ONNXModel(network, scaling=scaling, input_size=SIZE)
    clf = fitted(backbone, shapes, "conse", reject="auto:0.4")
    path = tmp_path / "shapes.onnx"
    export_classifier(clf, path, LABELS, form="onnx")
    scores = outputs_of(path, images)["scores"]
    np.testing.assert_allclose(scores, clf.scores(list(images), LABELS), atol=1e-5)


def test_onnx_network_that_cannot_be_added_to_is_refused(tmp_path):
    for shape, opset in (((2, 3, *SIZE), 17), (("n", 3, *SIZE), 10)):
        network = save_onnx(tmp_path / "network.onnx", shape, opset=opset)
        clf = unused(ONNXModel(network, scaling="unit"))
        with pytest.raises(PluginContractError, match="opset 11 or newer, for one"):
            export_classifier(clf, tmp_path / "out.onnx", LABELS, form="onnx")
    with pytest.raises(PluginContractError, match="goes into an ONNX file alone"):
        export_classifier(clf, tmp_path / "out.tflite", LABELS, form="tflite")


def mean_color(images):
    return images.mean(axis=(1, 2))


def halved(pixels):
    return pixels / 2


def unused(backbone, projection="ridge"):
    """A classifier whose backbone has seen no image."""
    words = Attributes(*shape_attributes())
    clf = ZeroShotClassifier(backbone, words, projection=projection)
    features = np.eye(4, 4 if backbone is None else backbone.dim)
    return clf.fit(features, ["red star", "blue ring", "red ring", "blue star"])


def test_what_no_file_can_hold_is_refused_with_the_reason(tmp_path, network):
    for backbone, reason in (
        (None, "no network to write"),
        (ColorHOG(), "'color-hog', which is computed by scikit-image"),
        (ColorHOG(), "such as mobilenet-v2 or keras:/model.keras, or onnx:"),
        (Quantised(KerasModel(network)), "which is quantised"),
        (Concatenated([ColorHOG(), ColorHOG()]), "which is several networks"),
        (
            CallableBackbone(mean_color, input_size=8, fingerprint="1"),
            "which is a function of Python",
        ),
        (KerasModel(network, scaling=halved), "where a function of Python does"),
    ):
        with pytest.raises(PluginContractError, match=re.escape(reason)):
            export_classifier(unused(backbone), tmp_path / "x", LABELS, form="onnx")
    assert not list(tmp_path.iterdir())


class Own(BaseEstimator):
    """A projection as a plugin may be: NumPy, and no word of its operations."""

    def fit(self, X, y, *, class_embeddings):
        self.coef_ = np.linalg.pinv(X) @ class_embeddings[y]
        return self

    def transform(self, X):
        return (X @ self.coef_).astype(np.float32)


def test_projection_without_operations_and_unknown_form_are_refused(tmp_path):
    clf, out = unused(ColorHOG(), Own()), tmp_path / "out.onnx"
    with pytest.raises(PluginContractError, match="Got 'Own', which no other program"):
        export_classifier(clf, out, LABELS, form="onnx")
    with pytest.raises(ValueError, match="Expected form as one of"):
        export_classifier(clf, out, LABELS, form="coreml")


def test_network_that_a_converter_changes_leaves_no_file(tmp_path, shapes):
    """The sine of large numbers shows every rounding, which no two programs share."""
    clf = fitted(KerasModel(make_model(sine=True)), shapes, "ridge")
    path = tmp_path / "out.onnx"
    path.write_text("older")
    with pytest.raises(ArtifactError, match="says what the classifier says"):
        export_classifier(clf, path, LABELS, form="onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["out.onnx"]
    assert path.read_text() == "older"


def test_answer_that_json_cannot_hold_is_refused(tmp_path, clf):
    clf.set_params(unknown_label=object(), reject=0.0)
    try:
        with pytest.raises(LabelError, match="strings or numbers"):
            export_classifier(clf, tmp_path / "x.tflite", LABELS, form="tflite")
    finally:
        clf.set_params(unknown_label="unknown", reject=None)
    assert not list(tmp_path.iterdir())


def test_unknown_label_costs_no_conversion(tmp_path, clf):
    with pytest.raises(OutOfVocabularyError):
        export_classifier(clf, tmp_path / "out.onnx", ["qwxyz"], form="onnx")
    assert not list(tmp_path.iterdir())


def test_older_export_is_replaced_and_other_folders_are_not(tmp_path, clf, images):
    path = tmp_path / "shapes.saved-model"
    for labels in (LABELS[:2], LABELS):
        export_classifier(clf, path, labels, form="saved-model")
    check(path, clf, images, LABELS)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    with pytest.raises(ArtifactError, match="holds something else"):
        export_classifier(clf, theirs, LABELS, form="saved-model")
    for place in (theirs, theirs / "file" / "x.tflite"):
        with pytest.raises(ArtifactError, match="Expected a place to write"):
            export_classifier(clf, place, LABELS, form="tflite")
    assert [each.name for each in theirs.iterdir()] == ["file"]


def test_missing_package_is_named_with_its_extra(tmp_path, clf, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingExtraError) as caught:
        export_classifier(clf, tmp_path / "out.onnx", LABELS, form="onnx")
    extra = re.search(r"pip install 'zeroshot\[(\w+)\]'", str(caught.value))[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needs = "".join(project["optional-dependencies"][extra])
    assert all(name in needs for name in ("onnx>", "onnxruntime", "tf2onnx"))


@pytest.fixture(scope="module")
def files(tmp_path_factory, shapes):
    """Pictures of other shapes: upright, turned by EXIF, cut out, grey."""
    folder = tmp_path_factory.mktemp("photos")
    pictures = [Image.fromarray(image).resize((90, 70)) for image in shapes[0][:40:10]]
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures[0].save(folder / "upright.png")
    pictures[1].save(folder / "turned.jpg", exif=exif, quality=95)
    pictures[2].putalpha(pictures[2].convert("L").point(lambda v: 255 * (v < 128)))
    pictures[2].save(folder / "cut out.png")
    pictures[3].convert("L").save(folder / "grey.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_example_names_photographs_without_zeroshot(tmp_path, clf, files, form):
    script = ROOT / "examples" / "without_zeroshot" / f"run_{form}.py"
    path = tmp_path / f"shapes.{form}"
    export_classifier(clf, path, LABELS, form=form)
    blocked = "import sys; sys.modules['zeroshot'] = None; import runpy; "
    program = f"{blocked}runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), *map(str, files)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == list(map(str, files))
    for row, (best,) in zip(rows, clf.rank(files, LABELS, k=1), strict=True):
        assert row[1] == best.label
        assert float(row[2]) == pytest.approx(best.probability, abs=1e-3)


def test_page_shows_the_example():
    script = ROOT / "examples" / "without_zeroshot" / "run_onnx.py"
    code = script.read_text("utf-8").partition("\nabout =")[2]
    assert code in (ROOT / "docs" / "export.md").read_text("utf-8")


def test_command_exports_a_model(tmp_path, network, shapes, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = str(write_vectors(tmp_path / "words.csv"))
    backbone = f"keras:{network}?scaling=tf"
    clf = ZeroShotClassifier(backbone, words, projection="ridge", cache=False)
    clf.fit(*shapes).save("model")
    given = ("model", "--backbone", backbone)
    command = ("export", *given, "--labels", ",".join(LABELS), "--to", "tflite")
    printed = succeed(*command).stdout
    assert re.search(
        r"Wrote model\.tflite \(labels: 3\)\. On 16 .* differ .* by", printed
    )
    assert "Beside it: model.tflite.json" in printed
    check(Path("model.tflite"), clf, images, LABELS)
    out = ("--to", "onnx", "--out", "other.onnx", "--reject", "0.3")
    assert "other.onnx.npz" in succeed("export", *given, *out).stdout
    assert "vector" in error_of("export", *given, "-l", "qwxyz", *out)
    assert "keras:" in error_of("export", "model", *out)
    assert run("export", *given).exit_code == 2
    assert run("export", *given, *out[:-1], "auto").exit_code == 2  # not fitted so


def with_statistics(name):
    """A network of random weights, as far normalised as a trained one.

    Without that, what tells images apart is a thousandth of each feature.
    """
    backbone = KerasApplication(name, weights=None, input_size=96)
    model, scaling = backbone.trainable_copy()
    for layer in model.layers:
        for setting in ("momentum", "rate"):
            if hasattr(layer, setting):
                setattr(layer, setting, 0.0)
    pixels = photographs((96, 96))
    pixels = np.concatenate([pixels, pixels[:, ::-1], 255 - pixels])
    model(scale_pixels(pixels.astype(np.float32), scaling), training=True)
    return backbone.with_weights(backbone.weights_of(model))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["convnext-tiny", "densenet121", "efficientnet-b0", "mobilenet-v3-small"]
)
def test_families_are_exported_or_refused_with_the_reason(tmp_path, shapes, name, form):
    clf = fitted(with_statistics(name), shapes, "ridge")
    path = tmp_path / f"out.{form}"
    if (name, form) == ("convnext-tiny", "onnx"):
        with pytest.raises(PluginContractError, match="tflite or saved-model"):
            export_classifier(clf, path, LABELS, form=form)
        assert not list(tmp_path.iterdir())
        return
    exported = export_classifier(clf, path, LABELS, form=form)
    assert exported.difference < 1e-4
