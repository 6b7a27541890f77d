"""The command `zeroshot evaluate`."""

import csv
import io
import json

import pytest
from cli_runs import COLORS, SHAPES, error_of, run, succeed

from zeroshot.datasets import load_images
from zeroshot.evaluation import evaluate


def test_evaluate_prints_every_method_in_every_form(photos, options):
    args = ("evaluate", photos, *options, "--splits", "2", "--unseen", "0.34")
    content = json.loads(succeed(*args, "-f", "json").stdout)
    methods = [row["method"] for row in content["rows"]]
    assert methods == ["ridge", "ridge, random vectors", "chance"]
    assert content["settings"]["n_splits"] == 2
    table = succeed(*args).stdout
    assert all(method in table for method in methods)
    rows = list(csv.DictReader(io.StringIO(succeed(*args, "-f", "csv").stdout)))
    assert [row["method"] for row in rows] == methods
    assert float(rows[0]["gzsl_h"]) == content["rows"][0]["gzsl_h"]


def test_evaluate_adapted_with_other_controls_is_that_of_the_interface(photos, vectors):
    args = ("evaluate", photos, "-b", "color-hog", "-e", vectors, "-p", "visual")
    args = (*args, "--splits", "1", "--adapt", "--images-alone", "--unmasked")
    got = json.loads(succeed(*args, "-f", "json").stdout)
    paths, labels = load_images(photos)
    expected = evaluate(
        paths,
        labels,
        "color-hog",
        vectors,
        projection="visual",
        n_splits=1,
        adapt=True,
        controls=("ridge", "random", "images", "unmasked"),
    )
    assert got["settings"]["adapted"]
    assert [r["method"] for r in got["rows"]] == [r["method"] for r in expected.rows]
    assert got["rows"][0]["unseen_top1"] == expected.rows[0]["unseen_top1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "ridge"),
        ("--pretrained-classes", "none"),
        ("--splits", 2),
        ("--softmax",),
    ],
)
def test_evaluate_a_model_refuses_what_training_takes(photos, model, arguments):
    result = run("evaluate", photos, "--model", model, *arguments)
    assert result.exit_code == 2
    assert "cannot go with --model" in result.stderr


def test_evaluate_a_model_measures_its_unseen_classes(photos, model, tmp_path):
    for name in ("red star", "blue ring"):
        (tmp_path / name).symlink_to(photos / name)
    result = succeed("evaluate", tmp_path, "--model", model, "--format", "json")
    settings = json.loads(result.stdout)["settings"]
    assert settings["n_unseen"] == 1


def test_evaluate_writes_a_page_beside_its_table(photos, model, tmp_path):
    for name in ("red star", "blue ring"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).symlink_to(photos / name)
    page = tmp_path / "new" / "report.html"
    args = ("evaluate", tmp_path / "images", "--model", model, "--seen-penalty", "0.25")
    result = succeed(*args, "--html", page, "--format", "json")
    details = json.loads(result.stdout)["details"]
    assert details["seen_penalty"] == 0.25
    assert f"Wrote {page}" in result.stderr
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert '<img src="data:image/jpeg;base64,' in text
    assert run(*args, "--html", tmp_path).exit_code == 2  # a folder


def test_evaluate_a_model_skips_classes_without_a_word_vector_if_asked(
    photos, model, tmp_path
):
    (tmp_path / "red star").symlink_to(photos / "red star")
    (tmp_path / "okapi").symlink_to(photos / "blue ring")
    args = ("evaluate", tmp_path, "--model", model)
    assert "'okapi'" in error_of(*args)
    result = succeed(*args, "--skip-unknown", "-f", "json")
    assert json.loads(result.stdout)["settings"]["n_images"] == 4
    assert result.stderr == "warning: Left out, without a word vector: okapi\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "tree.csv"
    pairs = [(f"{c} {s}", parent) for c in COLORS for s in SHAPES for parent in (c, s)]
    rows = [*pairs, *((word, "anything") for word in (*COLORS, *SHAPES))]
    path.write_text("child,parent\n" + "".join(f"{a},{b}\n" for a, b in rows))
    return path


def test_evaluate_with_a_tree_adds_hierarchical_precision(
    photos, options, model, tree, tmp_path
):
    given = ("--splits", "1", "--unseen", "0.34", "--hierarchy", tree)
    args = ("evaluate", photos, *options, *given)
    ours, _, chance = json.loads(succeed(*args, "-f", "json").stdout)["rows"]
    assert chance["gzsl_unseen_hp2"] == pytest.approx(5 / 9)  # 2 by color, 2 by shape
    assert chance["gzsl_unseen_hp10"] is None
    assert ours["gzsl_unseen_hp2"] > 0.7
    table = succeed("evaluate", photos, "--model", model, "--hierarchy", tree).stdout
    assert "| images of unseen classes | hp@1 " in table
    (tmp_path / "small.csv").write_text("child,parent\nred star,red\nred ring,red\n")
    error = error_of(*args[:-1], tmp_path / "small.csv")
    assert "none for 'blue ring', 'blue square', 'blue star', 'green ring'" in error


def test_evaluate_takes_folders_with_class_names_for_nodes_of_wordnet(
    photos, options, tmp_path
):
    """The names alone would not do: "red" is said of two nodes."""
    images, wordnet = tmp_path / "images", tmp_path / "wordnet"
    images.mkdir()
    wordnet.mkdir()
    for number, color in enumerate(("red", "green", "blue"), start=1):
        (images / f"n{number}").symlink_to(photos / f"{color} star")
    names = tmp_path / "names.tsv"
    names.write_text("n1\tred\nn2\tgreen\nn3\tblue\n")
    (wordnet / "words.txt").write_text("n1\tred\nn2\tgreen\nn3\tblue\nn4\tred\n")
    (wordnet / "imagenet_graph_edges.tsv").write_text("n1\tn5\nn2\tn5\nn3\tn4\n")
    args = ("evaluate", images, *options, "--class-names", names, "--splits", "1")
    result = succeed(*args, "--hierarchy", wordnet, "-f", "json")
    assert json.loads(result.stdout)["settings"]["hierarchy_nodes"] == 5
    (names).write_text("n1\tstar\nn2\tgreen\nn3\tblue\n")
    # ... and a label is that of its own folder, whatever it is called.
    succeed(*args, "--hierarchy", wordnet)
