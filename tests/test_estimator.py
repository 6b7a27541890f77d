"""The estimator as scikit-learn's users and threads meet it."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.errors import FingerprintMismatchError, LabelError
from zeroshot.evaluation import evaluate_model
from zeroshot.features import extract_features
from zeroshot.saving.bundle import record_digest
from zeroshot.shapes import shape_attributes

EMBEDDINGS = Attributes(*shape_attributes())
UNSEEN = ["red star", "blue ring", "green square"]


@pytest.fixture(scope="module")
def shapes():
    images, labels = make_shapes(6)
    return images, labels, ~np.isin(labels, UNSEEN)


@pytest.fixture(scope="module")
def features(shapes):
    images, labels, seen = shapes
    return extract_features(images, ColorHOG(), cache=False).matrix, labels, seen


def on_features(**parameters):
    return ZeroShotClassifier(None, EMBEDDINGS, projection="ridge", **parameters)


# DataFrames.


def test_names_of_columns_are_remembered_and_compared(features):
    X, labels, seen = features
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    clf = on_features().fit(table[seen], labels[seen])
    assert clf.feature_names_in_.tolist() == table.columns.tolist()
    assert clf.score(table[seen], labels[seen]) > 0.8
    with pytest.raises(ValueError, match="feature names should match"):
        clf.score(table[table.columns[::-1]][seen], labels[seen])


def test_transform_gives_a_table_if_asked(features):
    X, labels, seen = features
    clf = on_features().fit(X[seen], labels[seen]).set_output(transform="pandas")
    table = clf.transform(X[:5])
    assert isinstance(table, pd.DataFrame)
    assert table.columns.tolist() == clf.get_feature_names_out().tolist()
    assert table.columns[0] == "zeroshotclassifier0"
    assert table.shape == (5, EMBEDDINGS.dim)
    clf.predict(X[:5])  # is not confused by it


# Labels of training.


@pytest.mark.parametrize("missing", [pd.NA, None, float("nan"), pd.NaT])
@pytest.mark.parametrize("form", [list, pd.Series, lambda y: np.array(y, object)])
def test_missing_labels_are_named(features, missing, form):
    X, labels, _ = features
    y = labels.tolist()
    y[3] = missing
    with pytest.raises(LabelError, match=r"missing value.* position 3"):
        on_features().fit(X, form(y))


def test_missing_labels_of_a_string_column_are_named(features):
    X, labels, _ = features
    y = pd.Series(labels, dtype="string")
    y[7] = pd.NA
    with pytest.raises(LabelError, match=r"missing value.* position 7"):
        on_features().fit(X, y)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (("red", "star"), r"Got \('red', 'star'\) of type 'tuple' at position 0"),
        (["red"], "of type 'list'"),
        ({"a": 1}, "of type 'dict'"),
        (b"red star", "bytes, not text"),
        (7, "labels of one kind.*'int', 'str'"),
    ],
)
def test_labels_that_are_none_are_named(features, label, message):
    X, labels, _ = features
    with pytest.raises(LabelError, match=message):
        on_features().fit(X, [label, *labels.tolist()[1:]])


def test_tuples_as_all_labels_are_named(features):
    X, labels, _ = features
    with pytest.raises(LabelError, match="of type 'tuple'"):
        on_features().fit(X, [tuple(label.split()) for label in labels])


def test_one_class_is_named_as_it_was_given(features):
    with pytest.raises(LabelError, match="Got one class: 'red star'"):
        on_features().fit(features[0][:4], ["red star"] * 4)


@pytest.mark.parametrize("images", ["a.jpg", ["a.jpg", "b.jpg"], [b"x"]])
def test_images_without_a_backbone_are_named(images):
    with pytest.raises(zeroshot.errors.InvalidImageError, match="Give a backbone"):
        on_features().fit(images, ["red star", "red ring"])


# Parameters.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_error", "bananas"),
        ("on_error", None),
        ("batch_size", -3),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
    ],
)
def test_parameters_are_checked_with_features_too(features, name, value):
    X, labels, seen = features
    with pytest.raises(ValueError, match=f"Expected {name}"):
        on_features(**{name: value}).fit(X[seen], labels[seen])
    clf = on_features().fit(X[seen], labels[seen]).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"Expected {name}"):
        clf.predict(X)


# State.


def test_predicting_leaves_the_classifier_as_it_was(shapes, tmp_path):
    images, labels, seen = shapes
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    clf = ZeroShotClassifier(
        "color-hog", EMBEDDINGS, projection="ridge", on_error="nan"
    ).fit(images[seen], labels[seen])
    before = dict(vars(clf))
    some = [*images[:3], broken]
    with pytest.warns(UserWarning, match="1 of 4 images"):
        clf.predict(some, UNSEEN)
    with pytest.warns(UserWarning, match="1 of 4 images"):
        clf.score(some, [*labels[:3], "red ring"])
    clf.rank(images[:2], UNSEEN)
    clf.explain(images[:2])
    assert vars(clf).keys() == before.keys()
    assert all(vars(clf)[name] is value for name, value in before.items())


def test_points_are_asked_about_many_labels(shapes):
    images, labels, seen = shapes
    clf = ZeroShotClassifier("color-hog", EMBEDDINGS, projection="ridge")
    clf.fit(images[seen], labels[seen])
    points = clf.points(images)
    np.testing.assert_array_equal(points.matrix, clf.transform(images))
    for candidates in (UNSEEN, ["red ring", "blue star"], None):
        np.testing.assert_array_equal(
            clf.predict(points, candidates), clf.predict(images, candidates)
        )
    assert clf.score(points, labels) == clf.score(images, labels)
    other = ZeroShotClassifier("color-hog", EMBEDDINGS, projection="ridge")
    other.fit(images[seen], labels[seen])
    with pytest.raises(FingerprintMismatchError, match="another one"):
        other.predict(points)


@pytest.mark.filterwarnings("ignore::zeroshot.errors.PartialCoverageWarning")
def test_threads_and_forks_get_the_answers_of_one_thread(shapes, tmp_path):
    images, labels, seen = shapes
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    clf = ZeroShotClassifier(
        "color-hog", EMBEDDINGS, projection="ridge", on_error="skip"
    ).fit(images[seen], labels[seen])

    def ask(n):
        some = list(images[n % 9 : n % 9 + 5])
        truth = labels[n % 9 : n % 9 + 5].tolist()
        if n % 2:
            some.insert(n % 5, broken)
            truth.insert(n % 5, "red star")
        names = [f"{colour} {shape}" for colour, shape in PAIRS[n % 4 :: 4]]
        return clf.score(some, truth), clf.predict(some, names).tolist()

    expected = [ask(n) for n in range(18)]
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, [*range(18)] * 4)) == expected * 4
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [
        context.Process(target=lambda: queue.put([ask(n) for n in range(18)]))
        for _ in range(4)
    ]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [expected] * 4
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0


PAIRS = [(c, s) for c in ("red", "green", "blue") for s in ("star", "ring", "square")]


# Files of features.


def test_features_of_another_backbone_are_refused_everywhere(shapes, tmp_path):
    images, labels, _ = shapes
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    zeroshot.export_features(images, "color-hog", ours, labels=labels)
    zeroshot.export_features(images, "color-hog:96", theirs, labels=labels)
    clf = on_features().fit(str(ours), labels)
    clf.save(tmp_path / "model")
    for model in (clf, zeroshot.load(tmp_path / "model")):
        assert model.predict(str(ours)).shape == labels.shape
        for ask in (
            model.predict,
            model.transform,
            lambda X, model=model: model.score(X, labels),
            lambda X, model=model: evaluate_model(model, X, labels),
        ):
            with pytest.raises(FingerprintMismatchError, match="theirs"):
                ask(str(theirs))


# What a bundle names is neither run nor fetched.


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("tfhub:module", "a program"),
        ("keras:model.keras", "a program"),
        ("int8:keras:model.keras", "a program"),
        ("color-hog+tfhub:module", "a program"),
        ("tfhub:https://example.org/module", "fetched from an address"),
        ("onnx:https://example.org/model.onnx", "fetched from an address"),
        ("no-such-plugin", "no installed plugin"),
    ],
)
def test_backbone_that_a_bundle_must_not_name_is_refused(
    shapes, tmp_path, spec, reason
):
    edit_backbone(shapes, tmp_path, spec)
    with pytest.raises(zeroshot.errors.ArtifactError, match=f"{reason}.*backbone="):
        zeroshot.load(tmp_path / "model")
    images = shapes[0]
    named = zeroshot.load(tmp_path / "model", backbone="color-hog")
    assert len(named.predict(images[:2])) == 2


def test_weights_that_a_bundle_names_are_not_downloaded(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    edit_backbone(shapes, tmp_path, "color-hog+mobilenet-v2:96")
    message = r"not on this machine.*backbone='color-hog\+mobilenet-v2:96'.*--backbone"
    with pytest.raises(zeroshot.errors.ArtifactError, match=message):
        zeroshot.load(tmp_path / "model")
    assert not (tmp_path / "keras").exists()


def test_bundle_of_images_decoded_otherwise_is_warned_of(shapes, tmp_path):
    edit_backbone(shapes, tmp_path, "color-hog", pixels="of old")
    with pytest.warns(zeroshot.errors.ZeroShotWarning, match="pixels 'of old'"):
        loaded = zeroshot.load(tmp_path / "model")
    assert len(loaded.predict(shapes[0][:2])) == 2


@pytest.mark.parametrize("spec", ["glove.6B.300d", "https://example.org/glove.txt"])
def test_vectors_that_a_bundle_names_are_not_downloaded(shapes, tmp_path, spec):
    edit_backbone(shapes, tmp_path, "color-hog", embeddings=spec)
    with pytest.raises(zeroshot.errors.ArtifactError, match="embeddings="):
        zeroshot.load(tmp_path / "model")


def edit_backbone(shapes, tmp_path, spec, embeddings=None, **changes):
    images, labels, seen = shapes
    clf = ZeroShotClassifier("color-hog", EMBEDDINGS, projection="ridge")
    clf.fit(images[seen], labels[seen]).save(tmp_path / "model")
    file = tmp_path / "model" / "bundle.json"
    record = json.loads(file.read_text())
    del record["sha256"]
    record["backbone"] |= {"spec": spec, **changes}
    if embeddings is not None:
        record["embeddings"] |= {"spec": embeddings, "vocabulary": None}
    file.write_text(json.dumps(record | {"sha256": record_digest(record)}))
