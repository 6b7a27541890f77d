"""Class attributes from memory, CSV, .npz and .mat, as others write them."""

import copy
import gzip
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from scipy.sparse import csr_array
from sklearn.base import clone

from zeroshot import ZeroShotClassifier, load
from zeroshot.embeddings import Attributes, TextEmbeddings, open_vectors
from zeroshot.embeddings.attribute_table import recognise_table
from zeroshot.embeddings.base import SupportsVocabulary
from zeroshot.errors import ArtifactError, PluginContractError, ZeroShotError
from zeroshot.registry import spec_of

LABELS = ["zebra", "grizzly+bear", "polar bear", "Zürich, city"]
MATRIX = np.array([[1, 0, 0.5], [0, 1, 0.25], [0, 0, -1], [0.1, 1e-3, 9]], np.float32)


def cells(labels: list[str]) -> np.ndarray:
    held = np.empty((len(labels), 1), dtype=object)
    held[:, 0] = labels
    return held


def write(path: Path, form: str, labels=LABELS, matrix=MATRIX) -> Path:
    frame = pd.DataFrame(np.asarray(matrix, np.float64), index=labels)
    named = frame.set_axis([f"attribute {i}" for i in range(frame.shape[1])], axis=1)
    if form == "csv without header":
        frame.to_csv(path, header=False)
    elif form == "csv with names":
        named.to_csv(path, index_label="class")
    elif form == "csv with numbered header":
        frame.to_csv(path)
    elif form == "semicolons":
        named.to_csv(path, sep=";")
    elif form == "tabs with CRLF and mark":
        named.to_csv(path, sep="\t", lineterminator="\r\n", encoding="utf-8-sig")
    elif form == "packed csv":
        path.write_bytes(gzip.compress(named.to_csv().encode()))
    elif form == "npz":
        with path.open("wb") as file:
            np.savez(file, class_names=labels, class_vectors=matrix)
    elif form == "npz of bytes":
        encoded = [label.encode() for label in labels]
        with path.open("wb") as file:
            np.savez_compressed(file, words=encoded, attributes=matrix, other=1)
    elif form == "mat":
        with path.open("wb") as file:
            savemat(file, {"att": matrix.T, "allclasses_names": cells(labels)})
    return path


FORMS = [
    "csv without header",
    "csv with names",
    "csv with numbered header",
    "semicolons",
    "tabs with CRLF and mark",
    "packed csv",
    "npz",
    "npz of bytes",
    "mat",
]


@pytest.mark.parametrize("form", FORMS)
def test_lookup_every_form_gives_what_was_written(tmp_path, form):
    embeddings = open_vectors(write(tmp_path / "any.ending", form))
    assert isinstance(embeddings, Attributes)
    vectors, found = embeddings.lookup([*LABELS[::-1], "absent", "zebra"])
    np.testing.assert_array_equal(vectors[:4], MATRIX[::-1])
    assert found.tolist() == [True] * 4 + [False, True]
    assert np.isnan(vectors[4]).all()
    assert vectors.dtype == np.float32
    assert list(embeddings.vocabulary()) == LABELS
    assert embeddings.dim == 3
    assert embeddings.fingerprint == Attributes(LABELS, MATRIX).fingerprint
    assert embeddings.spec == f"attributes:{tmp_path / 'any.ending'}"


def test_table_in_memory_does_not_follow_the_callers_arrays():
    labels, matrix = list(LABELS), MATRIX.copy()
    embeddings = Attributes(labels, matrix)
    fingerprint = embeddings.fingerprint
    matrix[:] = 7
    labels.reverse()
    vectors, _ = embeddings.lookup(LABELS)
    np.testing.assert_array_equal(vectors, MATRIX)
    vectors[:] = 7  # the caller's own
    np.testing.assert_array_equal(embeddings.lookup(LABELS)[0], MATRIX)
    assert Attributes(LABELS, MATRIX).fingerprint == fingerprint
    assert spec_of(embeddings) is None
    assert isinstance(embeddings, TextEmbeddings)
    assert isinstance(embeddings, SupportsVocabulary)


def test_fingerprint_sees_labels_numbers_and_order():
    made = [
        Attributes(LABELS, MATRIX),
        Attributes(LABELS[::-1], MATRIX),
        Attributes(LABELS, MATRIX[::-1]),
        Attributes(["zebra", "x", "y", "z"], MATRIX),
    ]
    assert len({embeddings.fingerprint for embeddings in made}) == 4


@pytest.mark.parametrize("form", ["memory", "npz"])
def test_provider_is_its_own_clone_and_pickles(tmp_path, form):
    from_memory = Attributes(LABELS, MATRIX)
    embeddings = (
        from_memory if form == "memory" else Attributes(write(tmp_path / "a", "npz"))
    )
    embeddings.lookup(LABELS)
    assert clone(embeddings) is embeddings
    pickled = pickle.loads(pickle.dumps(embeddings))
    for copied in (pickled, copy.copy(embeddings), copy.deepcopy(embeddings)):
        np.testing.assert_array_equal(copied.lookup(LABELS)[0], MATRIX)
        assert copied.fingerprint == from_memory.fingerprint


@pytest.mark.parametrize("words", ["zebra", [3]])
def test_lookup_anything_but_words_is_refused(words):
    with pytest.raises(PluginContractError):
        Attributes(LABELS, MATRIX).lookup(words)


@pytest.mark.parametrize("form", ["memory", "npz", "csv without header", "mat"])
def test_lookup_label_with_two_vectors_is_an_error_when_asked_for(tmp_path, form):
    labels = ["crane", "zebra", "crane", "zebra"]
    matrix = np.array([[1, 0], [0, 1], [1, 1], [0, 1]], dtype=np.float32)
    if form == "memory":
        embeddings = Attributes(labels, matrix)
    else:
        embeddings = Attributes(write(tmp_path / "twice", form, labels, matrix))
    assert embeddings.lookup(["zebra"])[0].tolist() == [[0, 1]]  # twice the same
    assert list(embeddings.vocabulary()) == ["zebra"]  # what lookup finds
    assert embeddings.nearest([0, 1], k=5) == [("zebra", 1.0)]
    with pytest.raises(ArtifactError, match=r"'crane' \(rows 1, 3\)"):
        embeddings.lookup(["zebra", "crane"])


def test_classifier_with_an_ambiguous_label_in_memory_is_saved_and_loaded(tmp_path):
    labels = ["crane", "zebra", "crane", "okapi", "ibex"]
    words = Attributes(labels, np.random.default_rng(0).normal(size=(5, 3)))
    X = np.random.default_rng(1).normal(size=(20, 4))
    classifier = ZeroShotClassifier(None, words, projection="ridge")
    classifier.fit(X, np.repeat(["zebra", "okapi"], 10)).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    candidates = ["zebra", "okapi", "ibex"]
    expected = classifier.predict(X, candidates).tolist()
    assert loaded.predict(X, candidates).tolist() == expected
    with pytest.raises(ZeroShotError, match="'crane'"):
        loaded.predict(X, ["crane", "ibex"])


@pytest.mark.parametrize(
    ("labels", "matrix", "message"),
    [
        (["a", "b"], [[1, 2], [0, 0]], r"row 2 \('b'\)"),
        (["a", "b"], [[np.nan, 2], [0, 1]], r"finite.*row 1 \('a'\)"),
        (["a", "b"], [[1, 2], [0, 1e39]], r"finite.*row 2 \('b'\)"),
        (["a", "b"], [[1, 2], [3]], "matrix of numbers"),
        (["a", "b"], [["x", "y"], ["z", "w"]], "matrix of numbers"),
        (["a", "b"], [["1", "2"], ["3", "4"]], "matrix of numbers"),
        (["a", "b"], np.array([[1, "2"], [3, 4]], object), r"matrix of numbers.*'O'"),
        (["a", "b"], np.array([[1, None], [3, 4]], object), "matrix of numbers"),
        (["a", "b"], np.array([[1, 2j], [3, 4]]), "matrix of numbers.*complex128"),
        (["a"], np.array([["2020-01-01"]], "M8[D]"), "matrix of numbers.*M8"),
        (["a"], np.ma.array([[1.0, 2.0]], mask=[[0, 1]]), "finite"),
        (["a"], csr_array([[1.0, 2.0]]), "matrix of numbers"),
        (["a", "b", "c"], [[1, 2], [3, 4]], r"\(3, dim\).*\(2, 2\)"),
        (["a", "b"], [1, 2], r"shape \(2,\)"),
        ([], np.empty((0, 3)), r"shape \(0, 3\)"),
        (["a"], np.empty((1, 0)), r"shape \(1, 0\)"),
    ],
)
def test_table_in_memory_that_does_not_fit_is_refused_at_once(labels, matrix, message):
    with pytest.raises(ArtifactError, match=message):
        Attributes(labels, matrix)


@pytest.mark.parametrize(
    "arguments", [(["a"],), ("file.csv", [[1]]), ([1], [[1]]), ([b"a"], [[1]])]
)
def test_provider_wrong_arguments_are_refused(arguments):
    with pytest.raises(PluginContractError):
        Attributes(*arguments)


@pytest.mark.parametrize("argument", [None, ""])
def test_from_spec_without_path_says_how_to_write_it(argument):
    with pytest.raises(PluginContractError, match="'attributes:/path/to/file'"):
        Attributes.from_spec("attributes", argument)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zebra,1,2\nokapi,1\n", "3 cells in line 2.*Got 2"),
        ("class,a,b\nzebra,1,2\n\nokapi,1,x\n", "line 4, column 3.*'x'"),
        ("zebra,1,2\nokapi,0,0\n", r"row 2 \('okapi'\)"),
        ("zebra,1,nan\nokapi,0,1\n", r"finite.*row 1 \('zebra'\)"),
        ("class,a,b\n", "none"),
        ("zebra\nokapi\n", "a label and numbers"),
        ("", "0 bytes"),
        ("<html>", "web page"),
        ("zebra,1," + "9" * 200_000 + "\nokapi,2,3\n", "CSV"),
    ],
)
def test_lookup_broken_csv_names_file_and_place(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=rf"(?s){message}") as caught:
        Attributes(path).lookup(["zebra"])
    assert "table.csv" in str(caught.value)


def test_lookup_csv_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("Zürich,1,2\n".encode("latin-1"))
    with pytest.raises(ArtifactError, match="UTF-8"):
        Attributes(path).lookup(["zebra"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": ["a"], "matrix": [[1.0]]}, "'names', 'matrix'"),
        ({"labels": ["a"]}, "the arrays 'labels'"),
        ({"labels": np.array(["a"], object), "matrix": [[1.0]]}, "pickle"),
        ({"labels": [1], "matrix": [[1.0]]}, "text in 'labels'"),
        ({"labels": ["a"], "matrix": [["x"]]}, "numbers in 'matrix'"),
        ({"labels": ["a"], "matrix": [[1.0], [2.0]]}, r"\(2, 1\)"),
        ({"labels": ["a"], "matrix": [[0.0]]}, "row 1"),
    ],
)
def test_lookup_npz_without_the_arrays_lists_what_is_inside(tmp_path, arrays, message):
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    with pytest.raises(ArtifactError, match=message):
        Attributes(path).lookup(["a"])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"att": MATRIX.T}, "allclasses_names"),
        ({"att": MATRIX.T, "allclasses_names": np.eye(4)}, r"cells|shape"),
        ({"att": MATRIX, "allclasses_names": cells(LABELS)}, "shape"),
        ({"att": "text", "allclasses_names": cells(LABELS)}, "'att'"),
    ],
)
def test_lookup_mat_without_the_variables_names_them(tmp_path, variables, message):
    path = tmp_path / "table.mat"
    savemat(path, variables)
    with pytest.raises(ArtifactError, match=message):
        Attributes(path).lookup(["zebra"])


@pytest.mark.parametrize("position", [145, 176])
def test_lookup_mat_that_crashes_scipy_is_an_error(tmp_path, position):
    path = tmp_path / "table.mat"
    savemat(path, {"att": MATRIX.T, "allclasses_names": cells(LABELS)})
    content = bytearray(path.read_bytes())
    content[position] = 255  # a segmentation fault in SciPy 1.17.1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"table\.mat.*fetch it again"):
        Attributes(path).lookup(["zebra"])


def test_lookup_what_is_no_regular_file_is_refused(tmp_path):
    made = [Path(os.devnull), Path("/dev/zero"), tmp_path / "pipe"]
    os.mkfifo(tmp_path / "pipe")
    for path in made:
        with pytest.raises(ArtifactError, match="a regular file"):
            Attributes(path).lookup(["zebra"])
        with pytest.raises(ArtifactError, match="a regular file"):
            open_vectors(path)
    with pytest.raises(ArtifactError, match="a directory"):
        Attributes(tmp_path).lookup(["zebra"])


def test_lookup_hdf5_is_named(tmp_path):
    path = tmp_path / "table.mat"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ArtifactError, match="HDF5"):
        Attributes(path).lookup(["zebra"])


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(FORMS),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
    st.booleans(),
)
@example("npz", 0.95, 0, False)  # an archive with a member without a name
def test_lookup_cut_or_damaged_file_fails_cleanly(tmp_path, form, at, value, cut):
    path = write(tmp_path / "fuzz", form)
    content = bytearray(path.read_bytes())
    position = int(at * len(content))
    content[position] = value
    path.write_bytes(content[: position + 1] if cut else content)
    try:
        embeddings = Attributes(path)
        vectors, found = embeddings.lookup([*LABELS, "absent"])
    except ZeroShotError:
        return
    assert vectors.shape == (5, embeddings.dim)
    assert np.isfinite(vectors[found]).all()


def test_real_animals_with_attributes_equal_scipys(real_data):
    path = real_data / "zsl" / "AWA2-att_splits.mat"
    embeddings = open_vectors(path)
    expected = loadmat(path)
    names = [cell.item() for cell in expected["allclasses_names"].ravel()]
    vectors, found = embeddings.lookup(names)
    assert (embeddings.name, embeddings.dim, len(names)) == ("attributes", 85, 50)
    assert found.all()
    assert "grizzly+bear" in names
    np.testing.assert_array_equal(vectors, expected["att"].T.astype(np.float32))


def test_real_wiki2vec_archive_opens_and_names_its_ambiguous_label(real_data):
    path = real_data / "vectors" / "wiki2vec-imagenet1k-300d.npz"
    embeddings = open_vectors(path)
    expected = np.load(path)
    names = expected["class_names"].tolist()
    once = [row for row, name in enumerate(names) if names.count(name) == 1]
    vectors, found = embeddings.lookup([names[row] for row in once])
    assert (embeddings.dim, len(once), found.all()) == (300, 998, True)
    np.testing.assert_array_equal(vectors, expected["class_vectors"][once])
    with pytest.raises(ArtifactError, match="'crane'"):
        embeddings.lookup(["crane"])


def test_attributes_line_of_many_tabs_is_judged_in_linear_time(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\t" * 200_000)
    start = time.perf_counter()
    assert recognise_table(path) is None  # minutes, where every tab is a start
    assert time.perf_counter() - start < 5
