"""Names that hold anything: what a terminal obeys, markup, formulas, no UTF-8."""

import csv
import io
import json
import os

import numpy as np
import pytest
from cli_runs import COLORS, SHAPES, succeed
from PIL import Image

import zeroshot
from zeroshot.datasets import make_shapes
from zeroshot.escaping import unescaped

HOSTILE = ["=1+1\x1b[31mred", "[red]x", "<script>", "a\nb|c", "\udcff"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    images, labels = make_shapes(3, colors=COLORS[:2], shapes=SHAPES)
    names = dict(zip(np.unique(labels), HOSTILE, strict=False))
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        if label in names:
            folder = root / names[label]
            folder.mkdir(exist_ok=True)
            image = Image.fromarray(pixels)
            image.save(folder / f"=\udcff\x1b[1m{number}.png", "PNG")
    return root


@pytest.fixture(scope="module")
def hostile_model(hostile, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "model"
    succeed("fit", hostile, "-b", "color-hog", "-e", "random", "-o", out)
    return out


def test_fit_on_hostile_names_saves_them_all(hostile_model):
    labels = zeroshot.load(hostile_model).classes_.tolist()
    assert sorted(labels) == sorted(HOSTILE)
    card = (hostile_model / "README.md").read_text(encoding="utf-8")
    assert not any(raw in card for raw in ("\x1b", "<script>", "[red]", "b|c"))


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_predict_shows_hostile_names_and_never_writes_them_raw(
    hostile, hostile_model, form
):
    done = succeed("predict", hostile_model, hostile, "-k", 1, "-f", form)
    assert "\x1b" not in done.stdout
    if form == "table":
        assert "[red]x" in done.stdout
        assert "a\\x0ab|c" in done.stdout
        return
    if form == "json":
        rows = json.loads(done.stdout)
        paths, labels = ([row[k] for row in rows] for k in ("image", "prediction"))
    else:
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        paths = [unescaped(row["image"]) for row in rows]
        labels = [unescaped(row["prediction"].removeprefix("'")) for row in rows]
        assert not any(row["prediction"].startswith("=") for row in rows)
    assert all(os.path.isfile(path) for path in paths)
    assert len(paths) == 15
    assert set(labels) <= set(HOSTILE)


def test_predict_of_a_model_explains_and_evaluates_hostile_names(
    hostile, hostile_model, tmp_path
):
    page = tmp_path / "page.html"
    for arguments in (
        ("predict", hostile_model, hostile, "--explain", "-k", 1),
        ("labels", "check", *HOSTILE, "-e", "random"),
        (
            "evaluate",
            hostile,
            *f"-b color-hog -e random --splits 1 --html {page}".split(),
        ),
    ):
        done = succeed(*arguments)
        assert "\x1b" not in done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "\x1b" not in text
