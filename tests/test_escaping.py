"""Names that hold anything: read back as they were, and harmless where they are."""

import csv
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.escaping import (
    escaped,
    for_csv,
    for_html,
    for_json,
    for_markdown,
    unescaped,
)
from zeroshot.images.picture_sheet import write_result_sheet
from zeroshot.labels import embed_labels
from zeroshot.progress import progress_bar, say

# Bytes that are no UTF-8 are low surrogates in Python; a pair would be a character.
NOT_HIGH = st.characters(categories=None).filter(lambda c: not "\ud800" <= c < "\udc00")
ANYTHING = st.text(NOT_HIGH)
LIKE_ESCAPES = st.text("\\xu0123abcdef\x1b\n\udcff")


@given(ANYTHING | LIKE_ESCAPES)
@example("\\\\x1b")
def test_escaped_of_any_name_is_one_line_and_reads_back(name):
    text = escaped(name)
    assert unescaped(text) == name
    assert len(f"{text}.".splitlines()) == 1
    assert "\x1b" not in text
    text.encode()


@pytest.mark.parametrize(
    "name",
    ["snow leopard", "C:\\photos\\new", "\\\\server\\a", "café ☃ 😀 👩‍🔬", "a'b\"c"],
)
def test_escaped_of_an_ordinary_name_is_the_name(name):
    assert escaped(name) == name


def test_escaped_shows_what_a_terminal_would_obey():
    assert escaped("\x1b]0;title\x07\x9b31m\r\n") == r"\x1b]0;title\x07\x9b31m\x0d\x0a"
    assert escaped("gpj.\u202etxt\udcff\\") == r"gpj.\u202etxt\udcff\\"
    assert escaped(7) == "7"


@given(st.lists(ANYTHING, min_size=2, max_size=2))
def test_csv_of_any_names_is_one_record_without_formulas(names):
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(map(for_csv, names))
    assert written.getvalue().count("\n") == 1
    (row,) = csv.reader(io.StringIO(written.getvalue()))
    for cell, name in zip(row, names, strict=True):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        formula = name.startswith(("=", "+", "-", "@"))
        assert unescaped(cell.removeprefix("'") if formula else cell) == name


def test_csv_leaves_numbers_alone_and_paths_usable():
    assert [for_csv(x) for x in (-1, -0.5, None)] == [-1, -0.5, None]
    assert for_csv("-1") == "'-1"
    assert for_csv("=cmd.png", is_path=True) == "./=cmd.png"


@settings(max_examples=30)
@given(st.recursive(ANYTHING, lambda inner: st.lists(inner)))
def test_json_of_any_names_reads_back_in_every_encoding(content):
    for encoding in ("utf-8", "ascii", "cp1252"):
        text = for_json(content, encoding)
        assert json.loads(text.encode(encoding).decode(encoding)) == content
        assert "\x1b" not in text


def test_markup_is_text():
    assert for_html("<i title='\x1b'>") == "&lt;i title=&#x27;\\x1b&#x27;&gt;"
    assert for_markdown("![a](b) `c` |<i>|") == r"!\[a\](b) \`c\` \|\<i\>\|"
    assert for_markdown("snow_leopard") == "snow_leopard"


@pytest.mark.parametrize(
    "name", ["=1", " =1", "\u00a0+1", "\uff1d1", "\uff0d1", "'=1", "@x", " '-1", "-"]
)
def test_for_csv_text_that_may_be_a_formula_is_text_and_reads_back(name):
    cell = for_csv(name)
    assert cell.startswith("'")
    assert unescaped(cell[1:]) == name


@pytest.mark.parametrize("name", ["'tis", "a=b", " b", "", "1-2", "'"])
def test_for_csv_other_text_stays_as_it_is(name):
    assert for_csv(name) == name


@pytest.mark.parametrize("kind", [ArtifactError, ZeroShotWarning])
def test_errors_and_warnings_show_names_that_do_nothing(kind):
    error = kind("Got '\x1b]0;title\x07\udcff\u202e'.")
    assert str(error) == r"Got '\x1b]0;title\x07\udcff\u202e'."


def test_explanations_and_reports_show_names_that_do_nothing():
    words = RandomEmbeddings(8)
    names = ["\x1b[31mred", "a\nb", "\u202egreen"]
    _, report = embed_labels(names, words)
    X = np.eye(3, 5, dtype=np.float32)
    clf = ZeroShotClassifier(None, words, projection="ridge").fit(X, names)
    for text in (str(report), *map(str, clf.explain(X, k=3))):
        assert not any(raw in text for raw in ("\x1b", "a\nb", "\u202e"))
        assert r"a\x0ab" in text


def test_progress_bar_shows_names_without_markup_or_control(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar("[red]x\x1b]0;t\x07", 1) as advance:
        advance(note="[/nothing]\x1b[5m")
    say("\x1b[31mred")
    assert "\x1b]0;t" not in shown.getvalue()
    assert "\x1b[5m" not in shown.getvalue()
    assert r"\x1b[31mred" in shown.getvalue()


def test_write_sheet_of_labels_that_no_font_has_is_a_picture(tmp_path):
    path = tmp_path / "sheet.png"
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    labels = ["\udcff\x1b[31m", "a\n" * 500]
    write_result_sheet(path, pixels, labels, labels[::-1], title="sheet")
    with Image.open(path) as sheet:
        assert sheet.size[0] > 100
