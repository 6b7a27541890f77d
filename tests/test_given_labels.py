"""Labels as they are given: accepted forms in Python, in text and in files."""

import contextlib
import enum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroshot.embeddings import Attributes
from zeroshot.errors import ArtifactError, LabelError, ZeroShotError
from zeroshot.labels import check_candidates, embed_labels, parse_labels, read_labels

# --- in Python


@pytest.mark.parametrize(
    "labels",
    [
        ["okapi", "zebra"],
        ("okapi", "zebra"),
        np.array(["okapi", "zebra"]),
        {"okapi": ["forest giraffe"], "zebra": []},
        dict.fromkeys(["okapi", "zebra"]).keys(),
    ],
)
def test_check_candidates_any_ordered_form_gives_a_list(labels):
    assert check_candidates(labels) == ["okapi", "zebra"]


def test_check_candidates_numbers_are_labels():
    assert check_candidates(np.array([3, 1])) == [3, 1]


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("okapi", r"\['okapi'\]"),
        (b"okapi", r"\[b'okapi'\]"),
        ([], "at least one label"),
        ({}, "at least one label"),
        (None, "Got None of type 'NoneType'"),
        (7, "Got 7"),
        ({"a", "b"}, r"Got a set of 2. Write sorted\(labels\)"),
        (["a", "b", "a", "c", "b", "a"], r"'a' \(3 times\), 'b' \(2 times\)"),
        (["a", ["b"]], r"Got \['b'\] \(a list: other names go .*\) at position 1"),
        (np.array([["a", "b"]]), r"shape \(1, 2\)"),
        (np.array("okapi"), r"shape \(\)"),
        ([("okapi", ["forest giraffe"])], r"a tuple: other names go into a mapping"),
        ([("okapi", "zebra"), ("gnu", "emu")], "strings or numbers"),
        ([{"okapi": []}], "a dict"),
        ([Color.RED], "a Color"),
        ([object()], "a object"),
        ([np.datetime64("2020-01-01")], "a datetime64"),
        (iter([]), r"read already. Write list\(labels\)"),
        (["a", None], "missing value"),
        (["a", float("nan")], "missing value"),
        (["a", ""], "no text"),
        (["a", " \t"], "no text"),
        ([b"a"], "bytes, not text"),
    ],
)
def test_check_candidates_unusable_is_a_label_error(labels, message):
    with pytest.raises(LabelError, match=message):
        check_candidates(labels)


def test_check_candidates_pandas_na_is_a_missing_value():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(LabelError, match="missing value"):
        check_candidates(pandas.Series(["a", pandas.NA], dtype="string"))


def test_check_candidates_many_repeats_are_shortened():
    with pytest.raises(LabelError, match="and 20 more") as caught:
        check_candidates([*range(30), *range(30)])
    assert len(str(caught.value)) < 400


def test_check_candidates_table_is_refused_with_its_column_named():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"label": ["okapi", "zebra"], "n": [1, 2]})
    with pytest.raises(LabelError, match=r"table\['label'\]"):
        check_candidates(table)
    assert check_candidates(table["label"]) == ["okapi", "zebra"]
    assert check_candidates(table["label"].astype("category")) == ["okapi", "zebra"]


def test_check_candidates_open_file_is_refused(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("okapi\n")
    with file.open() as opened, pytest.raises(LabelError, match="read_labels"):
        check_candidates(opened)


def test_check_candidates_generator_is_read_once():
    assert check_candidates(word for word in ("okapi", "zebra")) == ["okapi", "zebra"]


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ({"okapi": "forest giraffe"}, r"Write \['forest giraffe'\]"),
        ({0: "zebra", 1: "okapi"}, r"label '0'. Got 'zebra'. Write \['zebra'\]"),
        ({"zebra": 0, "okapi": 1}, r"Write list\(labels\)"),
        ({"zebra": None}, "it may be empty"),
    ],
)
def test_embed_labels_mapping_of_other_things_says_what_to_write(labels, advice):
    with pytest.raises(LabelError, match=advice):
        embed_labels(labels, Attributes(["zebra", "okapi"], np.eye(2)))


# --- in text and files


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("okapi", {"okapi": []}),
        (" okapi , zebra", {"okapi": [], "zebra": []}),
        ("okapi: forest giraffe", {"okapi": ["forest giraffe"]}),
        ("okapi: forest giraffe;", {"okapi": ["forest giraffe"]}),
        (
            "okapi: giraffe, bush horse; zebra",
            {"okapi": ["giraffe", "bush horse"], "zebra": []},
        ),
        ("lion, king of beasts; emu", {"lion, king of beasts": [], "emu": []}),
        ("lion, king of beasts;", {"lion, king of beasts": []}),
        ("lion, king of beasts\nemu\n# gnu", {"lion, king of beasts": [], "emu": []}),
        ("#metoo; zebra", {"#metoo": [], "zebra": []}),
        ("3:2 screen, 4:3 screen", {"3:2 screen": [], "4:3 screen": []}),
        (
            '["okapi", "lion, king of beasts"]',
            {"okapi": [], "lion, king of beasts": []},
        ),
        (
            '{"okapi": ["forest giraffe"], "emu": []}',
            {"okapi": ["forest giraffe"], "emu": []},
        ),
        ("[0, 1]", {0: [], 1: []}),
    ],
)
def test_parse_labels_reads_every_form(text, labels):
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a label is empty"),
        ("okapi,,zebra", "Remove the extra comma"),
        ("okapi;;zebra", "Expected a label"),
        (";", "Expected a label"),
        ("\n# okapi\n# zebra\n", "at least one"),
        ("okapi, okapi", "'okapi' more than once"),
        ('{"okapi": [], "okapi": []}', "'okapi' more than once"),
        ("['okapi', 'zebra']", "Use double quotes"),
        ('{"okapi": "forest giraffe"}', r"Write \['forest giraffe'\]"),
        ('[["okapi"], "zebra"]', "a list"),
        ("[null]", "missing value"),
        ("[NaN]", "missing value"),
        ("[]", "at least one label"),
        (
            "okapi: forest giraffe, zebra",
            "Write 'okapi: forest giraffe; zebra', or 'okapi: forest giraffe, zebra;'",
        ),
    ],
)
def test_parse_labels_unclear_text_says_what_to_write(text, message):
    with pytest.raises(LabelError, match=message):
        parse_labels(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '["okapi", "lion, king of beasts"]'),
        ("labels.txt", '["okapi", "lion, king of beasts"]'),
        ("labels.txt", "\ufeff\n  okapi\nlion, king of beasts"),
        ("labels.csv", 'okapi\n"lion, king of beasts"\n'),
        ("labels.csv", 'n,Label\n1,okapi\n2,"lion, king of beasts"\n'),
        ("labels.CSV", "label;n\r\nokapi;1\r\nlion, king of beasts;2\r\n"),
    ],
)
def test_read_labels_reads_every_form_of_file(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert read_labels(file) == {"okapi": [], "lion, king of beasts": []}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "okapi,forest giraffe,bush horse\nemu\n"),
        ("labels.csv", 'label,aliases\nokapi,"forest giraffe, bush horse"\nemu\n'),
        ("labels.json", '{"okapi": ["forest giraffe", "bush horse"], "emu": []}'),
        ("labels.tsv", "okapi\tforest giraffe, bush horse\nemu\n"),
    ],
)
def test_read_labels_reads_other_names(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert read_labels(file) == {"okapi": ["forest giraffe", "bush horse"], "emu": []}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", b"\xff\xfeo\x00k\x00"),
        ("labels.txt", b"# none\n"),
        ("labels.csv", b""),
        ("labels.csv", b"n,label\n1,\n"),
        ("labels.csv", b"x" * 200_000),
        ("labels.json", b'{"okapi": '),
        ("labels.json", b"[" * 100_000),
    ],
)
def test_read_labels_of_a_broken_file_names_it(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises((ArtifactError, LabelError), match=name):
        read_labels(file)


@pytest.mark.parametrize(
    ("line", "label", "aliases"),
    [
        ("okapi", "okapi", []),
        ("okapi:", "okapi", []),
        ("okapi: giraffe, Congo giraffe", "okapi", ["giraffe", "Congo giraffe"]),
        ("okapi\tforest giraffe,", "okapi", ["forest giraffe"]),
        ("goldfish, Carassius auratus", "goldfish, Carassius auratus", []),
        ("3:2 screen", "3:2 screen", []),
        ("c# book", "c# book", []),
    ],
)
def test_read_labels_reads_a_line(tmp_path, line, label, aliases):
    file = tmp_path / "labels.txt"
    file.write_text(f"# comment\n\n  {line}  \n")
    assert read_labels(file) == {label: aliases}


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1)


@given(st.dictionaries(WORDS, st.lists(WORDS), min_size=1))
def test_read_labels_returns_what_was_written(tmp_path_factory, labels):
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    lines = (f"{label}: {', '.join(names)}\n" for label, names in labels.items())
    file.write_text("".join(lines), encoding="utf-8")
    assert read_labels(file) == labels


@given(st.binary())
def test_read_labels_of_any_file_is_labels_or_our_error(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    file.write_bytes(content)
    with contextlib.suppress(ZeroShotError):
        labels = read_labels(file)
        assert labels
        assert all(label.strip() for label in labels)
