"""Encoders of phrases and templates on the command line."""

import json

import numpy as np
import pytest
from cli_runs import error_of, run, succeed
from encoder_folders import save_static

import zeroshot
from zeroshot.datasets import make_shapes
from zeroshot.embeddings import StaticEncoder
from zeroshot.labels import embed_labels, with_templates

PHOTO, DRAWING = "a photo of a {}.", "the {} in snow"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "static"
    save_static(folder)
    return f"static:{folder}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folders of drawn shapes, three of each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("drawn")
    images, labels = make_shapes(3, colors=["red", "green"], random_state=0)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(image).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def model(encoder, drawn, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "model"
    succeed(
        *("fit", drawn, "-b", "color-hog", "-e", encoder, "-p", "ridge", "-o", out),
        *("--template", PHOTO, "--template", DRAWING),
    )
    return out


def test_fit_keeps_the_templates_and_predict_uses_them(model, encoder, drawn):
    loaded = zeroshot.load(model)
    assert loaded.templates == [PHOTO, DRAWING]
    provider = with_templates(StaticEncoder(encoder[7:]), [PHOTO, DRAWING])
    expected, _ = embed_labels(loaded.seen_classes_.tolist(), provider)
    np.testing.assert_array_equal(loaded.class_embeddings_, expected)
    folder = drawn / "red star"
    shown = succeed("predict", model, folder, "-l", "red fox,okapi", "-f", "json")
    ranked = loaded.rank(folder, ["red fox", "okapi"])
    got = [result["ranked"] for result in json.loads(shown.stdout)]
    assert got == [[label._asdict() for label in each] for each in ranked]


@pytest.mark.parametrize("command", ["predict", "sort"])
def test_a_model_has_templates_of_its_own(model, drawn, tmp_path, command):
    more = ["--out", tmp_path / "sorted"] if command == "sort" else []
    result = run(command, model, drawn, "-l", "a,b", "--template", PHOTO, *more)
    assert result.exit_code == 2
    assert "--template cannot go with a model" in result.stderr


def test_evaluate_takes_a_named_set_of_templates(encoder, drawn):
    options = ("-b", "color-hog", "-e", encoder, "-p", "ridge", "--splits", 1)
    shown = succeed(
        "evaluate", drawn, *options, "--template", "imagenet-7", "-f", "json"
    )
    assert json.loads(shown.stdout)["settings"]["templates"] == "imagenet-7"


def test_labels_check_says_how_phrases_are_encoded(encoder):
    bare = succeed("labels", "check", "red_fox", "okapi", "-e", encoder)
    assert "encoded  red fox" in bare.stdout
    put = succeed(
        *("labels", "check", "red fox", "okapi", "-e", encoder, "--template", PHOTO),
        *("-f", "json"),
    )
    entries = json.loads(put.stdout)["entries"]
    assert [entry["how"] for entry in entries] == ["encoded", "encoded"]


def test_embeddings_info_says_that_it_encodes_phrases(encoder):
    shown = succeed("embeddings", "info", encoder, "-f", "json")
    facts = json.loads(shown.stdout)
    assert facts["encodes phrases"] is True
    assert facts["first words"] is None


@pytest.mark.parametrize(
    ("embeddings", "template", "told"),
    [
        ("random", PHOTO, "Leave the templates out"),
        (None, "a photo", "'imagenet-7', 'imagenet-80'"),
    ],
)
def test_templates_that_cannot_be_used_are_one_line(
    encoder, embeddings, template, told
):
    line = error_of(
        *("labels", "check", "fox", "ox", "-e", embeddings or encoder),
        *("--template", template),
    )
    assert told in line
