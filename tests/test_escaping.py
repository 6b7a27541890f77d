"""Names that hold anything: read back as they were, and harmless where they are."""

import csv
import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeroshot.escaping import (
    escaped,
    for_csv,
    for_html,
    for_json,
    for_markdown,
    unescaped,
)

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
