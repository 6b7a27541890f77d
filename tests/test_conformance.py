"""Our own plugins keep their contracts, check by check."""

import gzip

import numpy as np
import pytest

from zeroshot import registry
from zeroshot.backbones import KerasApplication
from zeroshot.embeddings import Attributes
from zeroshot.testing import (
    backbone_checks,
    projection_checks,
    text_embeddings_checks,
)

# Settings under which the small problem of the kit takes a moment only.
QUICK = {name: {"epochs": 15, "early_stopping": False} for name in ("ale", "sje")}
KNOWN = ["zebra", "okapi", "polar_bear"]
UNKNOWN = ["qwxz", "Zebra", ""]


def by_name(checks):
    return pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)


@pytest.fixture(scope="module")
def vector_files(tmp_path_factory):
    """One small table of vectors, in each form that we read."""
    folder = tmp_path_factory.mktemp("vectors")
    rows = np.random.default_rng(0).standard_normal((len(KNOWN), 5)).astype("<f4")
    lines = [
        " ".join([word, *map(str, row)]) for word, row in zip(KNOWN, rows, strict=True)
    ]
    text = "\n".join(lines) + "\n"
    header = f"{len(KNOWN)} 5\n"
    binary = b"".join(
        word.encode() + b" " + row.tobytes() + b"\n"
        for word, row in zip(KNOWN, rows, strict=True)
    )
    (folder / "glove.txt").write_text(text)
    (folder / "glove.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "word2vec.txt").write_text(header + text)
    (folder / "word2vec.bin").write_bytes(header.encode() + binary)
    (folder / "fasttext.vec").write_text(header + text)
    (folder / "attributes.csv").write_text(text.replace(" ", ","))
    return folder


@pytest.mark.parametrize("spec", ["color-hog", "mean-color"])
@by_name(backbone_checks())
def test_light_backbone_keeps_the_contract(spec, check):
    check(registry.resolve_backbone(spec))


@pytest.fixture(scope="module")
def mobilenet():
    """One object for all checks: building the network takes seconds."""
    return KerasApplication("mobilenet-v2", weights=None, input_size=96)


@pytest.mark.slow
@by_name(backbone_checks())
def test_mobilenet_keeps_the_contract(mobilenet, check):
    check(mobilenet)


@pytest.mark.parametrize(
    "spec",
    [
        "glove:glove.txt",
        "glove:glove.txt.gz",
        "word2vec:word2vec.txt",
        "word2vec:word2vec.bin",
        "fasttext:fasttext.vec",
        "attributes:attributes.csv",
        "glove.txt",
    ],
)
@by_name(text_embeddings_checks(known=KNOWN, unknown=UNKNOWN))
def test_embeddings_of_a_file_keep_the_contract(spec, check, vector_files, monkeypatch):
    monkeypatch.chdir(vector_files)
    check(registry.resolve_embeddings(spec))


@by_name(text_embeddings_checks(known=KNOWN, unknown=UNKNOWN))
def test_attributes_in_memory_keep_the_contract(check):
    check(Attributes(KNOWN, np.eye(3) - 0.5))


@by_name(text_embeddings_checks(known=[*KNOWN, *UNKNOWN]))
def test_random_embeddings_keep_the_contract(check):
    check(registry.resolve_embeddings("random"))


@pytest.mark.parametrize("name", registry.names("projections"))
@by_name(projection_checks())
def test_projection_keeps_the_contract(name, check):
    if name in QUICK:
        check(registry.resolve_projection(name).set_params(**QUICK[name]))
    else:
        check(registry.resolve_projection(name))
