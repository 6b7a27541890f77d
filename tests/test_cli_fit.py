"""The command `zeroshot fit`."""

import json
import shutil

import numpy as np
import pytest
from cli_runs import COLORS, SHAPES, error_of, run, succeed, write_vectors

import zeroshot
from zeroshot.datasets import load_images
from zeroshot.splits import hold_out_classes


def test_fit_saves_a_model_of_the_seen_classes(model):
    classifier = zeroshot.load(model)
    labels = {f"{c} {s}" for c in COLORS for s in SHAPES}
    assert set(classifier.classes_) == labels - {"red star"}
    assert classifier.n_images_ == 32


def test_fit_prints_what_was_trained_and_held_out(photos, options, tmp_path):
    _, labels = load_images(photos)
    _, unseen = hold_out_classes(labels, 0.25, 3)
    out = tmp_path / "model"
    result = succeed(
        *("fit", photos, *options, "--out", out, "--hold-out", "0.25", "--seed", "3")
    )
    assert "28 images of 7 classes" in result.stdout
    assert f"Held out, 2 classes: {', '.join(unseen)}\n" in result.stdout
    assert not set(unseen) & set(zeroshot.load(out).classes_)


def test_fit_on_a_table_of_paths_equals_fit_on_the_folder(
    photos, options, model, tmp_path
):
    table = tmp_path / "photos.csv"
    paths, labels = load_images(photos)
    rows = zip(paths, labels, strict=True)
    table.write_text("path,label\n" + "".join(f"{p},{label}\n" for p, label in rows))
    out = tmp_path / "model"
    succeed("fit", table, *options, "--unseen-labels", "red star", "--out", out)
    args = (photos / "red star", "--labels", "red star,blue ring", "-f", "json")
    assert succeed("predict", out, *args).stdout == (
        succeed("predict", model, *args).stdout
    )


def test_fit_replaces_an_older_model(photos, options, tmp_path):
    out = tmp_path / "model"
    succeed("fit", photos, *options, "--out", out)
    succeed("fit", photos, *options, "--unseen-labels", "red star", "--out", out)
    assert "red star" not in zeroshot.load(out).classes_


def test_fit_reads_class_names_and_shows_them_short(options, photos, tmp_path):
    names = tmp_path / "names.tsv"
    rows = [(f"{c} {s}", f"{c} {s}, Figura") for c in COLORS for s in SHAPES]
    names.write_text("".join(f"{folder}\t{label}\n" for folder, label in rows))
    out = tmp_path / "model"
    result = succeed(
        *("fit", photos, *options, "--class-names", names, "--out", out),
        *("--unseen-labels", "red star,blue ring"),
    )
    assert "Held out, 2 classes: blue ring, red star\n" in result.stdout
    assert "red ring, Figura" in zeroshot.load(out).classes_


def test_fit_skips_classes_without_a_word_vector_if_asked(photos, options, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("red star", "blue ring", "green square"):
        (tmp_path / "photos" / name).symlink_to(photos / name)
    (tmp_path / "photos" / "okapi").symlink_to(photos / "red ring")
    args = ("fit", tmp_path / "photos", *options, "--out", tmp_path / "model")
    assert "'okapi'" in error_of(*args)
    result = succeed(*args, "--skip-unknown")
    assert "Left out, without a word vector: okapi\n" in result.stdout
    assert "okapi" not in zeroshot.load(tmp_path / "model").classes_


def test_fit_with_vocabulary_needs_no_vector_file_later(
    photos, tmp_path, red_star, options
):
    vectors = write_vectors(tmp_path / "words.csv")
    words = tmp_path / "words.txt"
    words.write_text("red star\npink heart\n")
    out = tmp_path / "model"
    succeed(
        *("fit", photos, "-b", "color-hog", "-e", vectors, "-p", "ridge"),
        *("--unseen-labels", "red star", "--vocabulary", words, "--out", out),
    )
    vectors.unlink()
    result = succeed("predict", out, red_star, "-l", "red star,pink heart", "-f", "csv")
    assert "red star" in result.stdout
    assert "'cyan heart'" in error_of("predict", out, red_star, "-l", "cyan heart")


def test_fit_leaves_out_unreadable_images_if_asked(photos, options, tmp_path):
    paths, labels = load_images(photos)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    table = tmp_path / "photos.csv"
    rows = [*zip(paths, labels, strict=True), (broken, "red star")]
    table.write_text("path,label\n" + "".join(f"{p},{label}\n" for p, label in rows))
    args = ("fit", table, *options, "--out", tmp_path / "model")
    assert "broken.png" in error_of(*args)
    result = succeed(*args, "--on-error", "nan")
    assert "36 images of 9 classes" in result.stdout
    assert result.stderr.startswith("warning: 1 of 37 images")


def test_fit_refuses_an_occupied_place_before_any_work(photos, options, tmp_path):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    message = error_of("fit", tmp_path / "no-photos", *options, "--out", out)
    assert "precious" in message
    assert [p.name for p in out.iterdir()] == ["letter.txt"]


def test_fit_refuses_a_place_below_a_file_before_any_work(options, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    out = tmp_path / "letter.txt" / "model"
    message = error_of("fit", tmp_path / "no-photos", *options, "--out", out)
    assert "letter.txt' is no folder" in message


def test_fit_refuses_held_out_labels_that_are_not_there(photos, options, tmp_path):
    out = tmp_path / "model"
    args = ("--unseen-labels", "red star,okapi", "--out", out)
    message = error_of("fit", photos, *options, *args)
    assert "'okapi'" in message
    assert "'red star'" not in message
    assert not out.exists()


def bad_inputs(photos, vectors, folder):
    """Return for each case the photos, the backbone, the vectors, and the culprit."""
    text = vectors.read_text()
    ragged = folder / "ragged.txt"
    ragged.write_text("red 1 2 3\ngreen 1 2\n" * 9)
    truncated = folder / "truncated.bin"
    truncated.write_bytes(b"16 24\nred \x00\x00\x80\x3f")
    prose = folder / "prose.txt"
    prose.write_text("It is a truth universally acknowledged,\nthat a single man\n")
    few = folder / "few.csv"
    few.write_text("".join(line for line in text.splitlines(True) if line[0] != "s"))
    single = folder / "single"
    single.mkdir()
    (single / "red star").symlink_to(photos / "red star")
    unreadable = folder / "unreadable"
    unreadable.mkdir()
    (unreadable / "red ring").symlink_to(photos / "red ring")
    (unreadable / "red star").mkdir()
    (unreadable / "red star" / "culprit.png").write_bytes(b"no image")
    header = folder / "header.csv"
    header.write_text("file,class\na.png,red star\n")
    hog = "color-hog"
    return {
        "unknown backbone": (photos, "colour-hog", vectors, "'color-hog'"),
        "unknown embeddings": (photos, hog, "glvoe", "'glove'"),
        "missing vectors": (photos, hog, folder / "none.txt", "none.txt"),
        "ragged vectors": (photos, hog, ragged, "ragged.txt"),
        "truncated vectors": (photos, hog, truncated, "truncated.bin"),
        "no vectors": (photos, hog, prose, "prose.txt"),
        "unknown labels": (photos, hog, few, "'red star' (unknown: 'star')"),
        "single class": (single, hog, vectors, "'red star'"),
        "unreadable image": (unreadable, hog, vectors, "culprit.png"),
        "missing folder": (folder / "nowhere", hog, vectors, "nowhere"),
        "empty folder": (folder / "empty", hog, vectors, "empty"),
        "table without columns": (header, hog, vectors, "'label'"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("unknown backbone", "unknown embeddings", "missing vectors"),
        *("ragged vectors", "truncated vectors", "no vectors", "unknown labels"),
        *("single class", "unreadable image", "missing folder", "empty folder"),
        "table without columns",
    ],
)
def test_fit_on_bad_input_names_the_culprit_and_writes_nothing(
    case, photos, vectors, tmp_path
):
    (tmp_path / "empty").mkdir()
    images, backbone, words, culprit = bad_inputs(photos, vectors, tmp_path)[case]
    before = sorted(tmp_path.iterdir())
    message = error_of(
        *("fit", images, "-b", backbone, "-e", words, "-p", "ridge"),
        *("--out", tmp_path / "model"),
    )
    assert culprit in message
    assert sorted(tmp_path.iterdir()) == before


def test_fit_calibrates_where_asked_and_predict_uses_it(
    photos, options, red_star, tmp_path
):
    out = tmp_path / "model"
    fitted = succeed(
        *("fit", photos, *options, "--unseen-labels", "red star", "--out", out),
        *("--seen-penalty", "auto", "--temperature", "auto", "--reject", "auto:0.2"),
    )
    found = zeroshot.load(out).calibration_
    assert f"seen penalty {found.seen_penalty:.3g} (H {found.h:.2f}" in fitted.stdout
    labels = ("-l", "red star,red ring", "-f", "json")
    (got,) = json.loads(succeed("predict", out, red_star, *labels).stdout)
    loaded = zeroshot.load(out)
    (ranked,) = loaded.rank([str(red_star)], ["red star", "red ring"])
    assert got["ranked"] == [label._asdict() for label in ranked]
    several = succeed("predict", out, red_star, *labels, "--multi-label")
    (got,) = json.loads(several.stdout)
    assert sum(label["probability"] for label in got["ranked"]) != pytest.approx(1)


# The backbone's own classes.


def test_fit_says_why_the_backbones_own_classes_took_no_part(photos, options, tmp_path):
    args = ("fit", photos, *options, "--out", tmp_path / "model")
    result = succeed(*args)
    assert "No pretrained classes take part. " in result.stdout
    assert "'color-hog', which has none" in result.stdout
    assert result.stderr == ""
    result = succeed(*args, "--pretrained-classes", "none")
    assert "pretrained" not in result.stdout


@pytest.mark.slow
def test_fit_learns_from_the_backbones_own_classes(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    vectors = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    for name in ("crab", "emu", "pizza"):
        source = real_data / "images" / "caltech-classes" / name
        (tmp_path / "photos" / name).mkdir(parents=True)
        for image in sorted(source.iterdir())[:4]:
            (tmp_path / "photos" / name / image.name).symlink_to(image)
    args = ("fit", tmp_path / "photos", "-b", "mobilenet-v2", "-e", vectors)
    out = ("--out", tmp_path / "model")
    result = succeed(*args, *out)
    known = zeroshot.load(tmp_path / "model").pretrained_
    assert len(known.names) > 900
    assert f"And on {len(known.names)} classes that mobilenet-v2 was trained on" in (
        result.stdout
    )
    names = tmp_path / "names.txt"
    names.write_text("cock: rooster\nzebra\n")
    succeed(*args, *out, "--pretrained-classes", names)
    known = zeroshot.load(tmp_path / "model").pretrained_
    assert known.names == (("rooster",), ("zebra",))
    result = succeed(*args, *out, "--projection", "sje")
    assert "sje learns nothing from classes of mobilenet-v2's own" in result.stdout
    names.write_text("zebrra\n")
    assert "'zebrra'" in error_of(*args, *out, "--pretrained-classes", names)
    result = succeed(*args[0:1], *args[2:], *out, "--pretrained")
    assert "Trained devise on no image" in result.stdout
    assert len(zeroshot.load(tmp_path / "model").classes_) > 900


# More images of a saved model.


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


def only(photos, folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(photos / name)
    return folder


def test_fit_adds_images_to_a_saved_model_in_its_place(photos, copy, tmp_path):
    more = only(photos, tmp_path / "more", "red star", "blue ring")
    result = succeed("fit", "--add", copy, more)
    assert "Added 8 images of 2 classes: blue ring, red star (new).\n" in result.stdout
    assert "40 images of 9 classes now" in result.stdout
    assert "folds of its first classes did not change" in result.stdout
    assert f"Saved: {copy}\n" in result.stdout
    added = zeroshot.load(copy)
    assert "red star" in added.classes_
    (best, *_) = added.rank([str(next((photos / "red star").iterdir()))])[0]
    assert (best.label, best.basis) == ("red star", "images")


def test_fit_in_two_parts_equals_fit_at_once(photos, options, copy, model, tmp_path):
    more = only(photos, tmp_path / "more", "red star")
    both, whole = tmp_path / "both", tmp_path / "whole"
    before = (copy / "bundle.json").read_bytes()
    result = succeed("fit", "--add", copy, more, "--out", both)
    assert "Added 4 images of 1 class: red star (new).\n" in result.stdout
    assert (copy / "bundle.json").read_bytes() == before
    succeed("fit", photos, *options, "--out", whole)
    parts, at_once = zeroshot.load(both), zeroshot.load(whole)
    np.testing.assert_allclose(
        parts.decision_function(photos / "red star"),
        at_once.decision_function(photos / "red star"),
        atol=1e-4,
    )


def test_fit_adds_a_class_without_a_word_by_its_images(photos, vectors, tmp_path):
    start = only(photos, tmp_path / "start", "red ring", "blue star", "green square")
    out = tmp_path / "model"
    parts = ("-b", "color-hog", "-e", vectors, "-p", "visual")
    succeed("fit", start, *parts, "--out", out)
    more = tmp_path / "more"
    more.mkdir()
    (more / "okapi").symlink_to(photos / "red star")
    result = succeed("fit", "--add", out, more)
    assert "okapi (new)" in result.stdout
    assert result.stderr.startswith("warning: 'okapi'")
    answers = zeroshot.load(out).predict(photos / "red star")
    assert answers.tolist() == ["okapi"] * 4


def test_fit_keeps_the_settings_of_a_model_that_it_adds_to(photos, copy, tmp_path):
    classifier = zeroshot.load(copy).set_params(batch_size=3, on_error="nan")
    classifier.save(copy)
    more = only(photos, tmp_path / "more", "red star")
    succeed("fit", "--add", copy, more, "--batch-size", "5")
    after = zeroshot.load(copy)
    assert (after.batch_size, after.on_error) == (5, "nan")


def test_fit_adds_images_to_a_model_with_a_vocabulary(photos, options, tmp_path):
    words, out = tmp_path / "words.txt", tmp_path / "model"
    words.write_text("red star\n")
    start = only(photos, tmp_path / "start", "red ring", "blue star", "green square")
    succeed("fit", start, *options, "--vocabulary", words, "--out", out)
    more = only(photos, tmp_path / "more", "red star")
    succeed("fit", "--add", out, more)
    assert "red star" in zeroshot.load(out).classes_


@pytest.mark.parametrize(
    "arguments", [("--backbone", "color-hog:32"), ("--embeddings", "random:24")]
)
def test_fit_adds_with_the_parts_of_the_model_only(photos, copy, arguments):
    before = (copy / "bundle.json").read_bytes()
    result = run("fit", "--add", copy, photos, *arguments)
    assert result.exit_code == 2
    assert "those of the model" in result.stderr
    assert (copy / "bundle.json").read_bytes() == before


def test_fit_adds_with_the_parts_named_anew(photos, copy, vectors):
    named = ("--backbone", "color-hog", "--embeddings", vectors)
    succeed("fit", "--add", copy, photos, *named)


def test_fit_that_cannot_add_names_the_culprit_and_changes_nothing(
    photos, copy, vectors, tmp_path
):
    before = (copy / "bundle.json").read_bytes()
    more = tmp_path / "more"
    (more / "red star").mkdir(parents=True)
    (more / "red star" / "culprit.png").write_bytes(b"no image")
    assert "culprit.png" in error_of("fit", "--add", copy, more)
    assert "nowhere" in error_of("fit", "--add", copy, tmp_path / "nowhere")
    assert "no-model" in error_of("fit", "--add", tmp_path / "no-model", photos)
    shutil.rmtree(more / "red star")
    (more / "okapi").symlink_to(photos / "red star")
    assert "'okapi'" in error_of("fit", "--add", copy, more)  # ridge needs its word
    assert (copy / "bundle.json").read_bytes() == before
    parts = ("-b", "color-hog", "-e", vectors, "-p", "sje")
    succeed("fit", photos, *parts, "--out", tmp_path / "sje")
    assert "'SJE'" in error_of("fit", "--add", tmp_path / "sje", photos)
