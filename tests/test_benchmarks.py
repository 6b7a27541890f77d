"""Benchmarks follow the package: each can be imported; each writes its own part."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
RESULTS = FOLDER / "results"


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("pages")


def test_every_benchmark_can_be_imported():
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert names
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(f"import {name}" for name in names)],
        capture_output=True,
        text=True,
        cwd=FOLDER,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "below", "until"),
    [
        ("choose_defaults", "## .*", "## "),
        ("features", "## Measured", ""),
        ("fine_tuning", "<!-- table -->", "<!-- end of table -->"),
        ("label_composition", "## .*", "## "),
        ("projections", "<!-- speed: .* -->", "<!-- end of speed -->"),
        ("zero_shot_accuracy", "<!-- Below: .* -->", ""),
    ],
)
def test_write_page_given_what_stands_there_changes_nothing(
    pages, tmp_path, name, below, until
):
    page = Path(shutil.copy(RESULTS / f"{name}.md", tmp_path))
    before = page.read_text("utf-8")
    lines = re.findall(f"^{below}$", before, re.MULTILINE)
    assert lines
    for line in lines:
        text = before.partition(f"{line}\n")[2]
        if until:
            text = re.split(f"^{until}", text, flags=re.MULTILINE)[0]
        pages.write_page(page, text, below=line, until=until)
        assert page.read_text("utf-8") == before


@pytest.mark.parametrize(
    "page", sorted(RESULTS.glob("[a-z]*.md")), ids=lambda p: p.stem
)
def test_page_of_results_opens_with_its_command_and_is_listed(page):
    command = re.match(r"# .+\n\n```sh\n(.+)\n```\n\n", page.read_text("utf-8"))
    assert command
    assert f"python benchmarks/{page.stem}.py" in command[1]
    assert (FOLDER / f"{page.stem}.py").exists()
    assert f"({page.name})" in (RESULTS / "README.md").read_text("utf-8")


def test_page_that_a_benchmark_writes_is_there(pages):
    for script in FOLDER.glob("*.py"):
        for name in re.findall(r'RESULTS / "(\w+)\.md"', script.read_text("utf-8")):
            assert name == script.stem
            assert (RESULTS / f"{name}.md").exists()


def test_write_page_replaces_its_part_or_appends_it(pages, tmp_path):
    page = tmp_path / "page.md"
    pages.write_page(page, "# Page\n\n## One\n\n1\n\n## Two\n\n2\n")
    pages.write_page(page, r"new \1", below="## One", until="## ")
    pages.write_page(page, "\nthree\n\n", below="## Three", until="## ")
    pages.write_page(page, "last", below="## Two", until="## ")
    assert page.read_text("utf-8") == (
        "# Page\n\n## One\n\nnew \\1\n\n## Two\n\nlast\n\n## Three\n\nthree\n"
    )
    pages.write_page(page, "the end", below="## Two")
    assert page.read_text("utf-8").endswith("new \\1\n\n## Two\n\nthe end\n")


def test_markdown_table_is_a_line_for_each_row(pages):
    spread = pages.mean_and_spread([0.25, 0.75])
    table = pages.markdown_table(("method", "top-1"), [("ours", spread)], "---:")
    assert table.splitlines() == [
        "| method | top-1 |",
        "| --- | ---: |",
        "| ours | 0.500 +- 0.250 |",
    ]
