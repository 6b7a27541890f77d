"""The command `zeroshot predict`."""

import csv
import io
import json
import re

import numpy as np
import pytest
from cli_runs import COLORS, error_of, in_shell, run, succeed, write_vectors
from PIL import Image

import zeroshot
from zeroshot.datasets import make_shapes
from zeroshot.embeddings import Attributes


def test_predict_names_an_unseen_label_as_the_python_interface_does(model, photos):
    folder = photos / "red star"
    candidates = ["red star", "blue ring", "green square"]
    result = succeed(
        *("predict", model, folder, "-l", ", ".join(candidates), "-f", "json")
    )
    got = json.loads(result.stdout)
    ranked = zeroshot.load(model).rank(folder, candidates)
    assert [r["prediction"] for r in got] == ["red star"] * 4
    assert [r["image"] for r in got] == [str(p) for p in sorted(folder.iterdir())]
    assert got[0]["error"] is None
    assert got[0]["ranked"] == [label._asdict() for label in ranked[0]]
    assert [label["seen"] for label in got[0]["ranked"]].count(False) == 1


def test_predict_explains(model, red_star):
    result = succeed("predict", model, red_star, "-l", "red star,red ring", "--explain")
    assert f"{red_star}: red star: " in result.stdout
    assert "vector: mean (red, ring)" in result.stdout
    assert "nearest seen classes: " in result.stdout
    result = succeed(
        *("predict", model, red_star, "-l", "red star", "--explain", "-f", "json")
    )
    (explained,) = json.loads(result.stdout)
    assert explained["vectors"][0]["how"] == "mean"
    assert len(explained["nearest_seen"]) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seen-penalty", "much"),
        ("--temperature", "0"),
        ("--reject", "auto:1.5"),
        ("--reject", "nan"),
        ("--reject", "auto"),  # the model was fitted without
        ("--multi-label",),
        ("--multi-label", "--explain"),
    ],
)
def test_predict_with_scores_that_cannot_be_had_exits_2(model, red_star, arguments):
    result = run("predict", model, red_star, *arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_predict_without_a_model_needs_a_backbone_with_a_classifier(red_star, tmp_path):
    vectors = write_vectors(tmp_path / "words.csv")
    # No model comes first: color-hog is asked for a classifier of its own.
    message = error_of("predict", red_star, "-b", "color-hog", "-e", vectors)
    assert "'color-hog', which has none" in message
    args = ("-b", "color-hog", "-e", vectors, "--pretrained-classes", "nowhere.txt")
    assert "'nowhere.txt'" in error_of("predict", red_star, *args)


@pytest.mark.slow
def test_a_pretrained_classifier_predicts_with_and_without_a_model(
    real_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    vectors = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    emu = real_data / "images" / "caltech-classes" / "emu" / "image_0001.jpg"
    parts = ("-b", "mobilenet-v2", "-e", vectors)
    labels = ("-l", "emu,pagoda,helicopter", "-f", "json")
    direct = succeed("predict", emu, *parts, *labels)
    assert json.loads(direct.stdout)[0]["prediction"] == "emu"
    succeed("fit", *parts, "--pretrained", "--out", tmp_path / "model")
    through = succeed("predict", tmp_path / "model", emu, *labels)
    assert through.stdout == direct.stdout


def test_predict_without_labels_chooses_among_the_seen_ones(model, red_star):
    result = succeed("predict", model, red_star, "-k", "99", "-f", "json")
    labels = [label["label"] for label in json.loads(result.stdout)[0]["ranked"]]
    assert sorted(labels) == sorted(zeroshot.load(model).classes_)


def test_predict_prints_a_table_for_people(model, red_star):
    result = succeed("predict", model, red_star, "-l", "red star,blue ring", "-k", "1")
    header, _, row = (line for line in result.stdout.splitlines() if line.strip())
    assert header.split() == ["image", "label", "probability", "score", "from"]
    assert str(red_star) in row
    assert "red star" in row
    assert row.split()[-1] == "word"


def test_predict_prints_csv_for_programs(model, photos):
    images = [photos / "red star", photos / "blue ring"]
    args = ("-l", "red star,blue ring", "-k", "2", "-f", "csv")
    rows = list(
        csv.DictReader(io.StringIO(succeed("predict", model, *images, *args).stdout))
    )
    assert len(rows) == 16
    assert [row["rank"] for row in rows] == ["1", "2"] * 8
    assert {row["label"] for row in rows if row["rank"] == "1"} == {
        "red star",
        "blue ring",
    }
    assert all(row["prediction"] in row["image"] for row in rows)
    assert {(r["label"], r["seen"], r["basis"]) for r in rows} == {
        ("red star", "False", "word"),
        ("blue ring", "True", "images"),
    }


def test_predict_adapted_is_what_the_python_interface_answers(model, photos):
    images = [photos / "red star", photos / "blue ring"]
    candidates = ["red star", "blue ring", "green square"]
    args = ("predict", model, *images, "-l", ",".join(candidates), "-f", "json")
    got = json.loads(succeed(*args, "--adapt").stdout)
    paths = [str(path) for folder in images for path in sorted(folder.iterdir())]
    ranked = zeroshot.load(model).rank(paths, candidates, adapt=True)
    assert [r["image"] for r in got] == paths
    assert [r["ranked"] for r in got] == [[a._asdict() for a in r] for r in ranked]
    assert got != json.loads(succeed(*args).stdout)


@pytest.mark.parametrize(
    "arguments", [("--projection", "devise"), ("--pretrained-classes", "auto")]
)
def test_predict_with_a_model_refuses_what_the_model_has(model, red_star, arguments):
    result = run("predict", model, red_star, *arguments)
    assert result.exit_code == 2
    assert f"{arguments[0]} cannot go with a model" in result.stderr


def test_predict_reads_labels_and_other_names_from_a_file(model, red_star, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("# figures\nasterisk: no such word, red star\n\nblue ring\n")
    result = succeed(
        "predict", model, red_star, "--labels-file", file, "--format", "json"
    )
    assert json.loads(result.stdout)[0]["prediction"] == "asterisk"


def test_predict_subtracts_the_penalty_from_seen_labels(model, red_star):
    args = ("predict", model, red_star, "-l", "red star,red ring", "-f", "json")
    score = {}
    for penalty in (0, 0.5):
        result = json.loads(succeed(*args, "--seen-penalty", penalty).stdout)
        score[penalty] = {r["label"]: r["score"] for r in result[0]["ranked"]}
    assert score[0]["red star"] == score[0.5]["red star"]
    assert score[0]["red ring"] - score[0.5]["red ring"] == pytest.approx(0.5)


def test_predict_answers_unknown_where_no_label_scores_enough(model, red_star):
    args = ("predict", model, red_star, "-l", "red star,red ring", "--reject", 1)
    content = json.loads(succeed(*args, "-f", "json").stdout)
    assert content[0]["prediction"] == "unknown"
    assert [r["label"] for r in content[0]["ranked"]] == ["red star", "red ring"]
    lines = [line for line in succeed(*args).stdout.splitlines() if line.strip()]
    assert lines[2].split()[-1] == "unknown"


def test_predict_goes_on_after_an_unreadable_image_if_asked(model, red_star, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    args = ("predict", model, broken, red_star, "-l", "red star,blue ring")
    assert "broken.png" in error_of(*args)
    args = (*args, "--on-error", "nan")
    result = succeed(*args, "-f", "json")
    first, second = json.loads(result.stdout)
    assert (first["prediction"], first["ranked"]) == ("unknown", [])
    assert "broken.png" in first["error"]
    assert second["prediction"] == "red star"
    rows = list(csv.DictReader(io.StringIO(succeed(*args, "-f", "csv").stdout)))
    assert [row["error"] != "" for row in rows] == [True, False, False]
    table = succeed(*args)
    assert "unknown" in table.stdout
    assert "It is empty" in table.stdout
    assert table.stderr.startswith("warning: 1 of 2 images cannot be read")
    assert str(broken) in table.stderr
    assert run(*args, "--fail-on-error").exit_code == 3
    assert run(*args, "--fail-on-error").stdout == table.stdout
    whole = succeed("predict", model, red_star, "-l", "red star,blue ring")
    assert "error" not in whole.stdout
    succeed("predict", model, red_star, "--fail-on-error")


def test_predict_leaves_out_an_unreadable_image_if_asked(model, red_star, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    args = ("predict", model, broken, red_star, "--on-error", "skip", "-f", "json")
    result = succeed(*args)
    (only,) = json.loads(result.stdout)
    assert only["image"] == str(red_star)
    assert "are left out" in result.stderr
    assert str(broken) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--labels", "red star,okapi,zebra"], "'okapi', 'zebra'"),
        (["--labels", "red star,red star"], "'red star'"),
        (["--labels", "red star,,blue ring"], "'red star,,blue ring'"),
        (["--labels", ""], "''"),
        (["--labels", "red: star, ring"], "red: star; ring"),
        (["--labels", __file__], "--labels-file"),
        (["--labels", "red star;0,1;0"], "'0'"),
        (["--labels-file", "nowhere.txt"], "nowhere.txt"),
        (["--labels", "red star", "--labels-file", "nowhere.txt"], "nowhere.txt"),
        (["--backbone", "color-hog:32"], "color-hog"),
        (["--embeddings", "random:24"], "random"),
    ],
)
def test_predict_on_bad_labels_or_parts_names_the_culprit(model, arguments, culprit):
    # The image is not there either: labels are looked at first.
    images = ["nowhere.png"] if "--backbone" not in arguments else [model.parent]
    if "--backbone" in arguments:
        Image.new("RGB", (64, 64)).save(model.parent / "grey.png")
    assert culprit in error_of("predict", model, *images, *arguments)


def test_predict_on_a_missing_image_names_it(model):
    assert "'nowhere.png'" in error_of("predict", model, "nowhere.png")


@pytest.mark.parametrize("break_it", ["truncated", "newer", "no json", "no bundle"])
def test_predict_with_a_broken_model_names_it(model, red_star, tmp_path, break_it):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    record, arrays = broken / "bundle.json", broken / "arrays.npz"
    if break_it == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif break_it == "newer":
        content = json.loads(record.read_text()) | {"format_version": 99}
        record.write_text(json.dumps(content))
    elif break_it == "no json":
        record.write_text("{")
    else:
        record.unlink()
    assert str(broken) in error_of("predict", broken, red_star)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_predict_shows_labels_that_are_numbers(form, red_star, tmp_path):
    images, labels = make_shapes(3, colors=COLORS, shapes=["star"])
    ids = np.unique(labels, return_inverse=True)[1]
    words = Attributes(["0", "1", "2"], np.eye(3))
    classifier = zeroshot.ZeroShotClassifier(
        "color-hog", words, projection="ridge", unknown_label=None
    )
    classifier.fit(images, ids).save(tmp_path / "model")
    arguments = ("predict", tmp_path / "model", red_star, "-k", 2, "-f", form)
    printed = succeed(*arguments).stdout
    best = classifier.predict([str(red_star)])[0]
    if form == "json":
        assert json.loads(printed)[0]["prediction"] == best
    else:
        assert re.search(rf"red star/\d+\.png\W+{best}\b", printed)
    rejected = succeed(*arguments, "--reject", "1").stdout
    assert ("null" if form == "json" else "None" if form == "table" else ",,") in (
        rejected
    )


# Real photographs, network and vectors.

SEEN = (
    *(
        "butterfly",
        "camera",
        "crab",
        "cup",
        "dolphin",
        "dragonfly",
        "emu",
        "helicopter",
    ),
    *("laptop", "rooster", "scissors", "starfish", "strawberry", "sunflower"),
)
UNSEEN = ("pigeon", "pizza")


@pytest.mark.slow
def test_real_photographs_are_named_with_labels_never_trained_on(real_data, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (*SEEN, *UNSEEN):
        (photos / name).symlink_to(real_data / "images" / "caltech-classes" / name)
    vectors = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    keras = {"KERAS_HOME": str(real_data / "keras")}
    model = tmp_path / "model"
    done = in_shell(
        *("fit", photos, "-b", "mobilenet-v2", "-e", vectors, "--out", model),
        *("--unseen-labels", ",".join(UNSEEN)),
        **keras,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    images = [photos / name for name in UNSEEN]
    done = in_shell(
        *("predict", model, *images, "--labels", ",".join(UNSEEN), "-f", "json"),
        **keras,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    results = json.loads(done.stdout)
    right = [f"/{result['prediction']}/" in result["image"] for result in results]
    assert np.mean(right) > 0.8
