"""docs/where.md names files and names that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line
    for line in (ROOT / "docs" / "where.md").read_text().splitlines()
    if line.startswith("| ") and re.search("`(zeroshot|benchmarks)/", line)
]


def test_where_has_twenty_rows_or_more():
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_where_names_what_exists(row):
    place = row.split("|")[2]
    files = re.findall(r"`((?:zeroshot|benchmarks)/[\w/.]+)`", place)
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    assert files
    for name in re.findall(r"`(\w+)`", place):
        assert re.search(rf"^\s*(def|class) {name}\b", texts[0], re.MULTILINE), name
