"""Commands that list: `labels check`, `backbones`, `embeddings`, `projections`."""

import json
import subprocess
import sys

import pytest
from cli_runs import error_of, succeed

from zeroshot.cli.label_lists import short_names


def test_labels_prints_the_report(vectors):
    result = succeed("labels", "check", "red star", "Ring", "-e", vectors)
    assert "2 of 2 labels with no word left out" in result.stdout
    content = json.loads(
        succeed(
            "labels", "check", "red star", "Ring", "-e", vectors, "-f", "json"
        ).stdout
    )
    assert [(e["label"], e["how"]) for e in content["entries"]] == [
        ("red star", "mean"),
        ("Ring", "variant"),
    ]
    rows = succeed("labels", "check", "red star", "-e", vectors, "-f", "csv").stdout
    assert rows == "label,how,words,missing\nred star,mean,red star,\n"


def test_labels_without_a_vector_exit_1_all_at_once(vectors):
    message = error_of("labels", "check", "okapi", "star", "zebrra", "-e", vectors)
    assert "'okapi'" in message
    assert "'zebrra'" in message


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("backbones", "mobilenet-v2"),
        ("projections", "devise"),
    ],
)
def test_listings_name_plugin_and_distribution(command, name):
    rows = json.loads(succeed(command, "-f", "json").stdout)
    found = [row for row in rows if row["name"] == name]
    assert [row["distribution"] for row in found] == ["zeroshot"]
    assert rows == sorted(rows, key=lambda row: row["name"])
    listed = succeed(command, "-f", "csv").stdout
    assert listed.startswith("name,distribution")
    assert f"{name},zeroshot" in listed
    assert name in succeed(command).stdout


def test_listing_says_what_goes_with_what():
    rows = {r["name"]: r for r in json.loads(succeed("backbones", "-f", "json").stdout)}
    assert rows["clip"]["embeddings too"] == "yes"
    assert rows["mobilenet-v2"]["licence"] == "Apache-2.0"
    assert rows["mobilenet-v2"]["numbers"] == 1280
    assert (rows["mobilenet-v2"]["MB"], rows["resnet50"]["MB"]) == (9, 94)
    listed = json.loads(succeed("embeddings", "list", "-f", "json").stdout)["kinds"]
    kinds = {row["name"]: row for row in listed}
    assert kinds["clip"]["backbone too"] == "yes"
    assert kinds["glove"]["backbone too"] is None


def test_listing_imports_no_plugin():
    code = """
import sys
from zeroshot.cli import app
try:
    app(["backbones"])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "mobilenet-v2" in done.stdout
    loaded = set(done.stderr.split())
    plugins = {"color_hog", "keras_applications", "keras_model"}
    assert not loaded & {f"zeroshot.backbones.{plugin}" for plugin in plugins}
    assert not loaded & {"sklearn", "skimage", "tensorflow"}


def test_backbone_in_detail_needs_no_weights():
    content = json.loads(succeed("backbones", "mobilenet-v2:160", "-f", "json").stdout)
    assert content["feature length"] == 1280
    assert content["input size"] == "160 x 160 pixels"
    assert "ImageNet" in content["pretraining"]
    assert content["route"].startswith("not known before the first use")
    assert "Apache-2.0" in succeed("backbones", "mobilenet-v2").stdout


def test_embeddings_in_detail_tell_the_format_of_a_file(vectors):
    content = json.loads(succeed("embeddings", "info", vectors, "-f", "json").stdout)
    assert content["format"] == "attributes"
    assert content["vector length"] == 24
    assert content["first words"][:2] == ["red", "orange"]
    assert "red, orange" in succeed("embeddings", "info", vectors).stdout


@pytest.mark.parametrize(
    ("command", "name", "suggestion"),
    [
        (["backbones"], "mobilnet-v2", "mobilenet-v2"),
        (["embeddings", "info"], "glvoe", "glove"),
        (["embeddings", "info"], "glove.6B.300", "glove.6B.300d"),
        (["embeddings", "download"], "glove.6B.300", "glove.6B.300d"),
    ],
)
def test_unknown_name_gets_a_suggestion(command, name, suggestion):
    assert f"Did you mean '{suggestion}'" in error_of(*command, name)


def test_short_names_are_the_first_where_unambiguous():
    labels = ["goldfish, Carassius auratus", "crane, bird", "crane, machine", "emu"]
    assert list(short_names(labels).values()) == ["goldfish", *labels[1:3], "emu"]
