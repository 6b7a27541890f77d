"""A saved classifier: the same elsewhere, and refused where it is not whole."""

import copy
import hashlib
import json
import os
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ClassifierHead, ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    OutOfVocabularyError,
    ZeroShotError,
    ZeroShotWarning,
)
from zeroshot.features import extract_features
from zeroshot.projections import DeViSE, Ridge, Visual
from zeroshot.saving.bundle import record_digest
from zeroshot.shapes import shape_attributes

UNSEEN = ["red star", "blue ring"]
FILES = ["README.md", "arrays.npz", "bundle.json"]


@pytest.fixture(scope="module")
def shapes():
    images, labels = make_shapes(
        6, colors=["red", "green", "blue"], shapes=["star", "ring", "square"]
    )
    return images, labels, ~np.isin(labels, UNSEEN)


@pytest.fixture(scope="module")
def features(shapes):
    images, labels, seen = shapes
    return extract_features(images, ColorHOG(), cache=False).matrix, labels, seen


@pytest.fixture
def vectors(tmp_path):
    """A file of word vectors, whose words are colors and shapes."""
    file = tmp_path / "vectors" / "words.txt"
    file.parent.mkdir()
    words, matrix = shape_attributes()
    lines = (
        " ".join([word, *map(repr, row.tolist())])
        for word, row in zip(words, np.asarray(matrix), strict=True)
    )
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def saved(features, vectors, tmp_path):
    """A classifier on features and its bundle, with the vectors in their file."""
    X, labels, seen = features
    clf = ZeroShotClassifier(None, str(vectors), projection=Ridge(alpha=1.0))
    clf.fit(X[seen], labels[seen])
    clf.save(tmp_path / "model")
    return clf, tmp_path / "model"


def record_of(bundle):
    return json.loads((bundle / "bundle.json").read_text())


def write_record(bundle, record):
    """Write a record as somebody would who knows of its digest."""
    record = {name: value for name, value in record.items() if name != "sha256"}
    signed = record | {"sha256": record_digest(record)}
    (bundle / "bundle.json").write_text(json.dumps(signed))


def in_new_process(code, cwd, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# The same elsewhere.

PREDICT = """
import sys
import numpy as np
import zeroshot
bundle, inputs, answers = sys.argv[1:4]
candidates = sys.argv[4:]
clf = zeroshot.load(bundle)
X = np.load(inputs)
np.savez(
    answers,
    scores=clf.decision_function(X),
    points=clf.transform(X),
    proba=clf.predict_proba(X, candidates),
    labels=clf.predict(X, candidates),
)
assert not {"tensorflow", "keras"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    "projection",
    [
        DeViSE(epochs=3, random_state=0),
        DeViSE(loss="cosine", hidden=(16,), dropout=0.1, epochs=3, random_state=0),
        pytest.param(Ridge(alpha=1.0), marks=pytest.mark.slow),
        pytest.param(Visual(), marks=pytest.mark.slow),
    ],
    ids=["devise", "devise-hidden", "ridge", "visual"],
)
def test_load_elsewhere_predicts_bit_for_bit_without_tensorflow(
    projection, features, vectors, tmp_path, monkeypatch
):
    X, labels, seen = features
    monkeypatch.chdir(vectors.parent)
    clf = ZeroShotClassifier(None, "words.txt", projection=projection)
    clf.fit(X[seen], labels[seen]).save("../model")
    np.save(tmp_path / "X.npy", X)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    in_new_process(
        PREDICT, elsewhere, "../model", "../X.npy", "answers.npz", *UNSEEN, "red ring"
    )
    with np.load(elsewhere / "answers.npz") as file:
        answers = dict(file)
    candidates = [*UNSEEN, "red ring"]
    for name, expected in (
        ("scores", clf.decision_function(X)),
        ("points", clf.transform(X)),
        ("proba", clf.predict_proba(X, candidates)),
        ("labels", clf.predict(X, candidates)),
    ):
        assert answers[name].dtype == expected.dtype
        np.testing.assert_array_equal(answers[name], expected)


def test_load_elsewhere_predicts_images_bit_for_bit(shapes, vectors, tmp_path):
    images, labels, seen = shapes
    clf = ZeroShotClassifier("color-hog", str(vectors), projection="ridge")
    clf.fit(images[seen], labels[seen]).save(tmp_path / "model")
    np.save(tmp_path / "images.npy", images)
    in_new_process(
        PREDICT, tmp_path, "model", "images.npy", "answers.npz", *UNSEEN, "red ring"
    )
    with np.load(tmp_path / "answers.npz") as answers:
        scores = answers["scores"]
    np.testing.assert_array_equal(scores, clf.decision_function(images))


def test_vocabulary_bundle_needs_no_file_and_knows_its_labels_only(
    saved, features, vectors, tmp_path
):
    clf, _ = saved
    X = features[0]
    clf.save(tmp_path / "alone", vocabulary=UNSEEN)
    expected = clf.decision_function(X, [*UNSEEN, "red ring"])
    seen_scores = clf.decision_function(X)
    vectors.unlink()
    loaded = zeroshot.load(tmp_path / "alone")
    np.testing.assert_array_equal(loaded.decision_function(X), seen_scores)
    scores = loaded.decision_function(X, [*UNSEEN, "red ring"])
    np.testing.assert_allclose(scores, expected, atol=2e-3)  # float16 keeps 3 digits
    with pytest.raises(OutOfVocabularyError, match="yellow heart") as caught:
        loaded.predict(X, ["red star", "yellow heart"])
    assert caught.value.labels == ["yellow heart"]


def test_vocabulary_of_a_bare_string_is_refused(saved, tmp_path):
    with pytest.raises(LabelError, match=r"sequence of labels .* Got 'red star'"):
        saved[0].save(tmp_path / "alone", vocabulary="red star")
    assert not (tmp_path / "alone").exists()


def test_vocabulary_of_an_unknown_label_is_refused(saved, tmp_path):
    with pytest.raises(OutOfVocabularyError, match="okapi"):
        saved[0].save(tmp_path / "alone", vocabulary=["okapi"])
    assert not (tmp_path / "alone").exists()


def test_load_with_vectors_that_moved_takes_them_from_embeddings(
    saved, features, vectors
):
    clf, bundle = saved
    X = features[0]
    expected = clf.predict_proba(X, UNSEEN)
    moved = vectors.rename(vectors.with_name("moved.txt"))
    with pytest.raises(ArtifactError, match=r"words\.txt"):
        zeroshot.load(bundle)
    loaded = zeroshot.load(bundle, embeddings=moved)
    np.testing.assert_array_equal(loaded.predict_proba(X, UNSEEN), expected)


def test_every_parameter_survives(features, vectors, tmp_path):
    X, labels, seen = features
    given = {
        "candidate_labels": {"red star": ["scarlet star"], "blue ring": []},
        "seen_penalty": 0.25,
        "temperature": 0.5,
        "reject": -0.5,
        "batch_size": 7,
        "cache": False,
        "on_error": "nan",
        "random_state": 11,
    }
    projection = Ridge(alpha=0.5, normalize=False)
    clf = ZeroShotClassifier(None, str(vectors), projection=projection, **given)
    clf.fit(X[seen], labels[seen]).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    parameters = loaded.get_params()
    assert set(parameters) == set(clf.get_params())
    assert {name: parameters[name] for name in given} == given
    assert parameters["projection__alpha"] == 0.5
    assert parameters["projection__normalize"] is False
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
    assert loaded.n_images_ == clf.n_images_
    assert loaded.n_features_in_ == clf.n_features_in_
    assert loaded.label_report_ == clf.label_report_
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.fit(X[seen], labels[seen]).predict(X).tolist() == (
        clf.predict(X).tolist()
    )


@pytest.mark.parametrize(
    "candidates",
    [["red star", "red ring"], ("red star", "red ring"), np.array(["red star"])],
)
def test_candidates_survive_as_a_list(candidates, saved, features, tmp_path):
    clf, _ = saved
    clf.set_params(candidate_labels=candidates).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.candidate_labels == list(candidates)
    X = features[0]
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))


def test_integer_labels_survive_as_integers(features, tmp_path):
    X, labels, _ = features
    numbers = np.unique(labels, return_inverse=True)[1]
    clf = ZeroShotClassifier(
        None, "random:20", projection="ridge", candidate_labels=np.array([1, 2, 70])
    ).fit(X, numbers)
    clf.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.predict(X).tolist() == clf.predict(X).tolist()
    assert loaded.predict(X).dtype.kind == "i"


def test_history_of_the_training_survives(features, tmp_path):
    X, labels, _ = features
    clf = ZeroShotClassifier(
        None, "random:20", projection=DeViSE(epochs=2, random_state=np.int64(3))
    )
    clf.fit(X, labels).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model").projection_
    assert loaded.history_ == clf.projection_.history_
    assert loaded.n_epochs_ == clf.projection_.n_epochs_
    assert loaded.random_state == 3


def test_random_state_that_is_a_generator_is_saved_as_none(features, tmp_path):
    X, labels, _ = features
    clf = ZeroShotClassifier(
        None,
        "random:20",
        projection=DeViSE(epochs=1, random_state=np.random.RandomState(0)),
        random_state=np.random.RandomState(1),
    )
    clf.fit(X, labels).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.random_state is None
    assert loaded.projection_.random_state is None
    np.testing.assert_array_equal(loaded.transform(X), clf.transform(X))


def test_card_tells_what_the_model_is(saved):
    card = (saved[1] / "README.md").read_text()
    assert f"Seen classes: {'; '.join(saved[0].classes_)}." in card
    assert "`ridge`" in card
    assert "42 images of 7 classes" in card


# Other vectors, another backbone.


def test_load_with_other_vectors_is_refused(saved, vectors):
    _, bundle = saved
    other = vectors.with_name("other.txt")
    first, *rest = vectors.read_text().splitlines(keepends=True)
    word, number, *numbers = first.split()
    other.write_text(" ".join([word, f"{number}1", *numbers]) + "\n" + "".join(rest))
    with pytest.raises(FingerprintMismatchError, match=r"other\.txt"):
        zeroshot.load(bundle, embeddings=other)
    other.replace(vectors)  # the file of training, changed since
    with pytest.raises(FingerprintMismatchError, match=r"words\.txt"):
        zeroshot.load(bundle)


def test_load_of_a_feature_model_with_a_backbone_is_refused(saved):
    with pytest.raises(FingerprintMismatchError, match="color-hog"):
        zeroshot.load(saved[1], backbone="color-hog")


class Unnamed:
    """A backbone that no spec string names, as a Keras model in memory is."""

    name = "unnamed"
    dim = 3

    def __init__(self, size=8):
        self.input_size = (size, size)
        self.fingerprint = f"unnamed-{size}"

    def embed(self, images):
        return images.reshape(len(images), -1, 3).mean(axis=1, dtype=np.float32)

    def __sklearn_clone__(self):
        return self


@pytest.fixture
def with_unnamed(shapes, vectors, tmp_path):
    images, labels, seen = shapes
    clf = ZeroShotClassifier(Unnamed(), str(vectors), projection="ridge")
    clf.fit(images[seen], labels[seen]).save(tmp_path / "unnamed")
    return clf, tmp_path / "unnamed"


def test_load_with_an_object_as_backbone_needs_it_again(with_unnamed, shapes):
    clf, bundle = with_unnamed
    with pytest.raises(ArtifactError, match=r"backbone=.*'unnamed'"):
        zeroshot.load(bundle)
    loaded = zeroshot.load(bundle, backbone=Unnamed())
    images = shapes[0]
    np.testing.assert_array_equal(loaded.transform(images), clf.transform(images))


def test_load_with_another_object_as_backbone_is_refused(with_unnamed):
    with pytest.raises(FingerprintMismatchError, match="unnamed-9"):
        zeroshot.load(with_unnamed[1], backbone=Unnamed(9))


@pytest.mark.parametrize("other", ["color-hog", "color-hog:32"])
def test_backbone_of_another_name_or_size_is_refused_with_the_first_images(
    other, shapes, vectors, tmp_path
):
    images, labels, seen = shapes
    clf = ZeroShotClassifier(ColorHOG(96), str(vectors), projection="ridge")
    clf.fit(images[seen], labels[seen]).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", backbone=other)
    with pytest.raises(FingerprintMismatchError, match="input size"):
        loaded.predict(images[:2])
    assert len(zeroshot.load(tmp_path / "model").predict(images[:2])) == 2


# What is not whole.


@pytest.mark.parametrize("name", ["arrays.npz", "bundle.json"])
def test_missing_file_is_named(name, saved):
    _, bundle = saved
    (bundle / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        zeroshot.load(bundle)


def test_missing_card_does_no_harm(saved):
    clf, bundle = saved
    (bundle / "README.md").unlink()
    assert zeroshot.load(bundle).classes_.tolist() == clf.classes_.tolist()


@pytest.mark.parametrize("name", ["arrays.npz", "bundle.json"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file_is_named(name, share, saved):
    _, bundle = saved
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=name):
        zeroshot.load(bundle)


def test_flipped_byte_of_the_arrays_is_found_wherever_it_is(saved):
    _, bundle = saved
    content = (bundle / "arrays.npz").read_bytes()
    places = np.linspace(0, len(content) - 1, 60).astype(int)
    for place in {*places.tolist(), *range(40)}:
        broken = bytearray(content)
        broken[place] ^= 0xFF
        (bundle / "arrays.npz").write_bytes(broken)
        with pytest.raises(ArtifactError, match=r"arrays\.npz"):
            zeroshot.load(bundle)


@pytest.mark.parametrize(
    "text",
    ["", "null", "3", "[]", "{}", '"x"', "{", "[" * 100_000, '{"format_version": 2}'],
)
def test_record_that_is_no_bundle_is_refused(text, saved):
    _, bundle = saved
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(ArtifactError):
        zeroshot.load(bundle)


def test_record_in_another_encoding_is_refused(saved):
    _, bundle = saved
    (bundle / "bundle.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArtifactError, match=r"bundle\.json"):
        zeroshot.load(bundle)


def paths_within(node, path=()):
    """Yield the way to every value of a record."""
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in children:
        yield (*path, key)
        yield from paths_within(child, (*path, key))


def delete(node, key):
    del node[key]


def replace_by(value):
    def change(node, key):
        node[key] = value

    return change


@pytest.mark.parametrize(
    "change",
    [delete, *map(replace_by, (None, [], {}, "x", -1, 1e9, [[]], {"arrays": 2}))],
    ids=["delete", "null", "list", "dict", "str", "int", "float", "nested", "arrays"],
)
def test_edited_record_loads_whole_or_is_refused_by_our_own_errors(
    change, saved, features
):
    clf, bundle = saved
    X = features[0][:3]
    clf.set_params(candidate_labels={"red ring": ["ring"]}).save(bundle)
    record = record_of(bundle)
    n_refused = 0
    for path in paths_within(record):
        edited = copy.deepcopy(record)
        node = edited
        for key in path[:-1]:
            node = node[key]
        change(node, path[-1])
        write_record(bundle, edited)
        try:
            loaded = zeroshot.load(bundle)
            loaded.predict(X)
            loaded.predict_proba(X, UNSEEN)
        except ZeroShotError:
            n_refused += 1
        except Exception as error:
            pytest.fail(f"{path}: {type(error).__name__}: {error}")
    assert n_refused > 10


@pytest.fixture
def with_pretrained(features, tmp_path):
    """A classifier that has all that can be in a bundle, few of each."""
    X, labels, seen = features
    X = X[:, ::40]
    names = ["green star", "blue square", "red star"]
    rows = np.array([X[labels == name].mean(axis=0) for name in names])
    head = ClassifierHead(
        tuple((name, f"one {name}") for name in names),
        np.float32(rows.T),
        np.zeros(3, np.float32),
    )
    clf = ZeroShotClassifier(
        None,
        Attributes(*shape_attributes()),
        projection=Visual(),
        pretrained_classes=head,
        reject="auto:0.3",
        random_state=0,
    ).fit(X[seen], labels[seen])
    clf.save(tmp_path / "model")
    return clf, tmp_path / "model", X


def test_pretrained_classes_survive(with_pretrained, tmp_path):
    clf, bundle, X = with_pretrained
    loaded = zeroshot.load(bundle)
    assert loaded.pretrained_.names == clf.pretrained_.names
    for name, array in vars(clf.pretrained_.classes).items():
        np.testing.assert_array_equal(getattr(loaded.pretrained_.classes, name), array)
    candidates = [*UNSEEN, "red ring", "Green Star"]
    assert loaded.rank(X, candidates) == clf.rank(X, candidates)
    assert loaded.explain(X[:3], candidates) == clf.explain(X[:3], candidates)
    np.testing.assert_array_equal(
        loaded.standing(X, candidates), clf.standing(X, candidates)
    )
    loaded.save(tmp_path / "again")
    again = zeroshot.load(tmp_path / "again")
    assert again.rank(X, candidates) == clf.rank(X, candidates)


def test_loaded_projection_learns_from_more_images_as_the_saved_one(
    with_pretrained, features
):
    clf, bundle, X = with_pretrained
    loaded = zeroshot.load(bundle)
    labels, seen = features[1:]
    index = np.searchsorted(clf.seen_classes_, labels[seen])
    more = {
        "class_embeddings": clf.class_embeddings_,
        "places": np.arange(len(clf.seen_classes_)),
        "pretrained": clf.pretrained_.classes,
    }
    for each in (clf, loaded):
        each.projection_.partial_fit(X[seen][::2] * 1.1, index[::2], **more)
    for name in ("mean_", "class_points_", "dual_coef_", "counts_", "sums_"):
        np.testing.assert_array_equal(
            getattr(loaded.projection_, name), getattr(clf.projection_, name)
        )


def tried(bundle, X, where):
    """Load and use a bundle; whether it was refused by our own errors."""
    try:
        loaded = zeroshot.load(bundle)
        loaded.predict(X)
        loaded.predict(X, UNSEEN)
        loaded.predict_proba(X, [*UNSEEN, "red ring"])
    except ZeroShotError:
        return True
    except Exception as error:
        pytest.fail(f"{where}: {type(error).__name__}: {error}")
    return False


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "change",
    [delete, *map(replace_by, (None, [], "x", -1, 1e9))],
    ids=["delete", "null", "list", "str", "int", "float"],
)
def test_edited_record_of_what_was_learnt_is_refused_by_our_own_errors(
    change, with_pretrained
):
    _, bundle, X = with_pretrained
    record = record_of(bundle)
    n_refused = 0
    for part in ("pretrained", "projection", "calibration"):
        for path in [(), *paths_within(record[part])]:
            edited = copy.deepcopy(record)
            node = edited
            for key in (part, *path)[:-1]:
                node = node[key]
            change(node, (part, *path)[-1])
            write_record(bundle, edited)
            n_refused += tried(bundle, X[:3], (part, *path))
    assert n_refused > 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edited_arrays_are_refused_by_our_own_errors(with_pretrained):
    _, bundle, X = with_pretrained
    with np.load(bundle / "arrays.npz") as file:
        arrays = dict(file)
    changes = {
        "left out": None,
        "a row too few": lambda array: array[:-1],
        "none": lambda array: array[:0],
        "flat": np.ravel,
        "a column too few": lambda array: array[..., :-1],
        "text": lambda array: array.astype(str),
        "NaN": lambda array: np.full(array.shape, np.nan, np.float32),
    }
    refused = {}
    for name, array in arrays.items():
        for how, change in changes.items():
            edited = {k: v for k, v in arrays.items() if k != name}
            if change is not None:
                edited[name] = change(array)
            np.savez(bundle / "arrays.npz", **edited)
            digest = hashlib.sha256((bundle / "arrays.npz").read_bytes()).hexdigest()
            write_record(bundle, record_of(bundle) | {"arrays_sha256": digest})
            refused[name, how] = tried(bundle, X[:3], (name, how))
    must = [
        name
        for name in arrays
        if name in ("class_embeddings", "vocabulary")
        or name.startswith(("pretrained/", "calibration/"))
        or name.removeprefix("projection/") in ("centres_", "dual_coef_", "mean_")
    ]
    for name in must:
        for how in ("left out", "a row too few"):
            assert refused[name, how], (name, how)


def test_deleted_class_is_refused_though_the_record_is_valid(saved):
    _, bundle = saved
    record = record_of(bundle)
    del record["classes"]["labels"][2]
    write_record(bundle, record)
    with pytest.raises(ArtifactError, match="7 entries for 6 classes"):
        zeroshot.load(bundle)


@pytest.mark.parametrize("version", [1, 3, 99])
def test_other_format_is_refused(saved, version):
    _, bundle = saved
    write_record(bundle, record_of(bundle) | {"format_version": version})
    with pytest.raises(ArtifactError, match=f"format {version}"):
        zeroshot.load(bundle)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty folder"])
def test_load_of_something_else_is_refused(kind, tmp_path):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    elif kind == "empty folder":
        place.mkdir()
    with pytest.raises(ArtifactError, match="place"):
        zeroshot.load(place)


def test_nothing_in_a_bundle_is_a_pickle(saved):
    _, bundle = saved
    assert sorted(os.listdir(bundle)) == FILES
    with zipfile.ZipFile(bundle / "arrays.npz") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert all(content.startswith(b"\x93NUMPY") for content in contents)
    for content in contents:
        with pytest.raises(ValueError, match=r"opcode|pickle"):
            list(pickletools.genops(content))


def test_arrays_of_objects_are_refused_even_with_the_right_checksum(saved, tmp_path):
    _, bundle = saved
    witness = tmp_path / "witness"

    class Payload:
        def __reduce__(self):
            return Path.touch, (witness,)

    np.savez(bundle / "arrays.npz", evil=np.array([Payload()], dtype=object))
    digest = hashlib.sha256((bundle / "arrays.npz").read_bytes()).hexdigest()
    write_record(bundle, record_of(bundle) | {"arrays_sha256": digest})
    with pytest.raises(ArtifactError, match=r"arrays\.npz"):
        zeroshot.load(bundle)
    assert not witness.exists()


# Saving.


def test_save_over_something_else_is_refused_and_leaves_it(saved, tmp_path):
    clf, _ = saved
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "one.jpg").write_text("x")
    for place in (folder, folder / "one.jpg"):
        with pytest.raises(ArtifactError, match=f"'{place}'"):
            clf.save(place)
    assert os.listdir(folder) == ["one.jpg"]
    assert (folder / "one.jpg").read_text() == "x"


def test_save_replaces_an_older_bundle(saved, features):
    clf, bundle = saved
    (bundle / "left-over").write_text("x")
    clf.set_params(temperature=0.7).save(bundle)
    assert sorted(os.listdir(bundle)) == FILES
    assert zeroshot.load(bundle).temperature == 0.7


class Unregistered(Ridge):
    pass


def test_save_of_an_unregistered_projection_is_refused(saved, features):
    clf, bundle = saved
    X, labels, seen = features
    before = {name: (bundle / name).read_bytes() for name in FILES}
    clf.set_params(projection=Unregistered()).fit(X[seen], labels[seen])
    with pytest.raises(ArtifactError, match="'Unregistered'"):
        clf.save(bundle)
    assert {name: (bundle / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    "parameters", [{"candidate_labels": [b"x"]}, {"candidate_labels": [1 + 2j, 3]}]
)
def test_save_of_what_json_cannot_hold_keeps_the_old_bundle(
    parameters, saved, tmp_path
):
    clf, bundle = saved
    before = {name: (bundle / name).read_bytes() for name in FILES}
    with pytest.raises((ArtifactError, LabelError)):
        clf.set_params(**parameters).save(bundle)
    assert {name: (bundle / name).read_bytes() for name in FILES} == before
    assert sorted(os.listdir(tmp_path)) == ["model", "vectors"]


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere"
)
def test_save_where_nothing_may_be_written_is_refused(saved, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(ArtifactError, match="permissions"):
        saved[0].save(locked / "model")


def test_save_below_a_file_is_refused(saved, vectors):
    with pytest.raises(ArtifactError, match="place to write"):
        saved[0].save(vectors / "model")


def test_loaded_classifier_can_be_saved_again(saved, features, tmp_path):
    clf, bundle = saved
    zeroshot.load(bundle).save(tmp_path / "again")
    X = features[0]
    np.testing.assert_array_equal(
        zeroshot.load(tmp_path / "again").predict_proba(X, UNSEEN),
        clf.predict_proba(X, UNSEEN),
    )


def test_attributes_in_memory_are_kept_whole(features, tmp_path):
    X, labels, seen = features
    table = Attributes(*shape_attributes())
    clf = ZeroShotClassifier(None, table, projection="ridge").fit(X[seen], labels[seen])
    clf.save(tmp_path / "first")
    zeroshot.load(tmp_path / "first").save(tmp_path / "second")
    for loaded in (
        zeroshot.load(tmp_path / "second"),
        zeroshot.load(tmp_path / "second", embeddings=table),
    ):
        np.testing.assert_array_equal(
            loaded.decision_function(X, [*UNSEEN, "red ring"]),
            clf.decision_function(X, [*UNSEEN, "red ring"]),
        )


def test_vocabulary_holds_the_candidates_of_the_constructor(features, tmp_path):
    X, labels, seen = features
    clf = ZeroShotClassifier(
        None,
        Attributes(*shape_attributes()),
        projection="ridge",
        candidate_labels=UNSEEN,
    ).fit(X[seen], labels[seen])
    clf.save(tmp_path / "model", vocabulary=[])
    assert set(zeroshot.load(tmp_path / "model").predict(X)) <= set(UNSEEN)


PATHS = ["", "a\0b", "\ud800", "x" * 5000, "%s%n", "\x1b]0;x\x07", "9" * 4300]


@pytest.mark.parametrize("path", PATHS)
def test_load_of_text_that_is_no_path_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="Expected a bundle"):
        zeroshot.load(path)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000, "9" * 4300])
def test_save_to_text_that_is_no_path_is_refused(path, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="place to write"):
        saved[0].save(path)
    assert sorted(os.listdir(tmp_path)) == ["model", "vectors"]


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such files")
@pytest.mark.parametrize("name", ["arrays.npz", "bundle.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_file_of_another_kind_is_refused_unread(kind, name, saved):
    file = saved[1] / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as opened:
            opened.truncate(1 << 40)
    with pytest.raises(ArtifactError, match=r"Expected a bundle|regular file|at most"):
        zeroshot.load(saved[1])


def test_file_above_the_limit_of_the_environment_is_refused(saved, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_MAX_BUNDLE", "1KB")
    with pytest.raises(ArtifactError, match="at most 1024 bytes"):
        zeroshot.load(saved[1])
    monkeypatch.setenv("ZEROSHOT_MAX_BUNDLE", "9" * 4300)
    with pytest.raises(ArtifactError, match="ZEROSHOT_MAX_BUNDLE"):
        zeroshot.load(saved[1])


def test_vocabulary_with_a_class_that_has_no_vector_can_be_loaded(features, tmp_path):
    X, labels, seen = features
    clf = ZeroShotClassifier(None, Attributes(*shape_attributes()), projection="visual")
    with pytest.warns(ZeroShotWarning, match="no word vector"):
        clf.fit(X[seen], labels[seen]).partial_fit(X[:1], ["okapi"])
    candidates = [*UNSEEN, "okapi"]
    clf.set_params(candidate_labels=candidates)
    clf.save(tmp_path / "model", vocabulary=[])
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.predict(X).tolist() == clf.predict(X).tolist()
    assert loaded.predict(X, candidates).tolist() == clf.predict(X, candidates).tolist()


def test_projection_that_would_not_be_loaded_is_not_saved(features, tmp_path):
    X, labels, seen = features
    table = Attributes(*shape_attributes())
    clf = ZeroShotClassifier(None, table, projection=Visual(gamma=1e-9))
    clf.fit(X[seen], labels[seen])
    with pytest.raises(ArtifactError, match=r"loaded again.*gamma"):
        clf.save(tmp_path / "model")
    assert not os.listdir(tmp_path)
