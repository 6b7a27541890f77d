"""Fixtures that many tests share."""

import os
import signal
from pathlib import Path

# Before NumPy is imported: two runs side by side on two cores, each with two threads of
# linear algebra that wait for each other in a loop, take several times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from cli_runs import COLORS, SHAPES, succeed, write_vectors
from PIL import Image

from zeroshot.datasets import make_shapes

# A background job of a shell ignores Ctrl-C, and so would the programs that tests start
# and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    """Give every test a cache of its own; nobody's real cache is touched."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights, vectors and photographs, or skip the test."""
    named = os.environ.get("ZEROSHOT_DATA")
    if not named:
        pytest.skip("needs real data: set ZEROSHOT_DATA to the folder that holds it")
    return Path(named).resolve()


# For tests of the command line.


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Nine classes of four images: a folder with one sub-folder per class."""
    root = tmp_path_factory.mktemp("photos")
    images, labels = make_shapes(4, colors=COLORS, shapes=SHAPES)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp("vectors") / "words.csv")


@pytest.fixture(scope="session")
def options(vectors):
    return ["--backbone", "color-hog", "--embeddings", vectors, "-p", "ridge"]


@pytest.fixture(scope="session")
def model(photos, options, tmp_path_factory):
    """Trained on all but "red star"."""
    out = tmp_path_factory.mktemp("models") / "model"
    held_out = ("--unseen-labels", "red star", "--no-cache")
    succeed("fit", photos, *options, *held_out, "--out", out)
    return out


@pytest.fixture
def red_star(photos):
    return sorted((photos / "red star").iterdir())[0]
