import csv
import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import zeroshot
from zeroshot.cli import app
from zeroshot.cli.label_lists import short_names
from zeroshot.datasets import load_images, make_shapes, shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.escaping import unescaped
from zeroshot.splits import hold_out_classes

COMMANDS = ("demo", "fit", "predict", "evaluate", "backbones", "projections")
GROUPS = {
    "embeddings": ("list", "info", "download", "lookup", "nearest", "train"),
    "labels": ("check",),
    "cache": ("list", "verify", "clear"),
}
GROUPED = [(group, name) for group, names in GROUPS.items() for name in names]
COLORS, SHAPES = ["red", "green", "blue"], ["star", "ring", "square"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def error_of(*arguments):
    """Run a command that fails; return the one line that it says."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def in_shell(*arguments, **variables):
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zeroshot", *map(str, arguments)],
        capture_output=True,
        text=True,
        # Importing TensorFlow sets this, and with it more is printed, not less.
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        | variables,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine classes of four images: a folder with one sub-folder per class."""
    root = tmp_path_factory.mktemp("photos")
    images, labels = make_shapes(4, colors=COLORS, shapes=SHAPES)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


def write_vectors(path):
    words, matrix = shape_attributes()
    rows = zip(words, matrix.tolist(), strict=True)
    path.write_text("".join(f"{w},{','.join(map(str, row))}\n" for w, row in rows))
    return path


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp("vectors") / "words.csv")


@pytest.fixture(scope="module")
def options(vectors):
    return ["--backbone", "color-hog", "--embeddings", vectors, "-p", "ridge"]


@pytest.fixture(scope="module")
def model(photos, options, tmp_path_factory):
    """Trained on all but "red star"."""
    out = tmp_path_factory.mktemp("models") / "model"
    held_out = ("--unseen-labels", "red star", "--no-cache")
    succeed("fit", photos, *options, *held_out, "--out", out)
    return out


@pytest.fixture
def red_star(photos):
    return sorted((photos / "red star").iterdir())[0]


# The application as a whole.


def test_help_names_every_command():
    text = succeed("--help").stdout
    assert all(command in text for command in (*COMMANDS, *GROUPS))


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_every_command(group):
    text = succeed(group, "--help").stdout
    assert all(command in text for command in GROUPS[group])


@pytest.mark.parametrize("command", [*((name,) for name in COMMANDS), *GROUPED])
def test_help_of_a_command_has_an_example(command):
    example = f"Example: zeroshot {' '.join(command)}"
    assert example in succeed(*command, "--help").stdout


def test_version_is_that_of_the_package():
    assert succeed("--version").stdout == f"zeroshot {zeroshot.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fit"],
        ["fit", "photos", "--backbone", "color-hog"],
        ["labels", "check", "--embeddings", "random"],
        ["labels", "okapi", "--embeddings", "random"],
        ["embeddings", "glove.txt"],
        ["embeddings", "lookup", "--embeddings", "random"],
        ["embeddings", "train", "corpus.txt", "-o", "a.bin", "--epochs", "0"],
        ["cache", "clear", "--yes"],
        ["evaluate", "photos", "--backbone", "color-hog"],
        ["predict", "model", "a.png", "--top-k", "0"],
        ["predict", "model", "a.png", "--reject", "2"],
        ["predict", "model", "a.png", "--seen-penalty", "nan"],
        ["predict", "model", "a.png", "--format", "xml"],
        ["evaluate", "photos", "--splits", "0"],
        ["demo", "--seed", "-1"],
        [
            *("fit", "photos", "-b", "color-hog", "-e", "random", "-o", "model"),
            *("--hold-out", "0.2", "--unseen-labels", "cat"),
        ],
        ["fit", "-b", "mobilenet-v2", "-e", "random", "-o", "model"],
        [
            *("fit", "-b", "mobilenet-v2", "-e", "random", "-o", "model"),
            *("--pretrained", "conse", "--reject", "auto"),
        ],
    ],
)
def test_wrong_usage_exits_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


def test_wrong_usage_in_a_shell_exits_2_without_traceback():
    done = in_shell("fit", "--batch-size", "0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_error_in_a_shell_is_one_line_and_exits_1(tmp_path):
    done = in_shell("predict", tmp_path / "nothing", "a.png")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "nothing") in done.stderr


def test_warning_is_one_line_on_stderr_without_file_name(vectors):
    result = succeed("labels", "check", "shiny star", "-e", vectors)
    assert "shiny star" in result.stdout
    assert result.stderr.startswith("warning: 1 of 1 labels")
    assert result.stderr.count("\n") == 1
    assert ".py" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["projections"], ["projections", "-f", "json"]])
def test_output_to_a_full_disk_is_one_line_and_exits_1(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Expected a place for the results")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_output_to_a_reader_that_left_is_quiet_and_exits_141(form):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "zeroshot", "backbones", "-f", form],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_output_in_any_encoding_tells_names_apart(encoding, vectors, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("café ☃: red\nstar\n", encoding="utf-8")
    arguments = ("labels", "check", labels, "-e", vectors)
    environment = {"PYTHONIOENCODING": encoding}
    assert "star" in in_shell(*arguments, **environment).stdout
    done = in_shell(*arguments, "-f", "json", **environment)
    entries = json.loads(done.stdout)["entries"]
    assert [entry["label"] for entry in entries] == ["café ☃", "star"]


@pytest.mark.parametrize("wrong", ["a\0b", "x" * 5000, "a\udcff"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "?", "-b", "color-hog", "-e", "random", "-o", "model"],
        ["fit", "photos", "-b", "?", "-e", "random", "-o", "model"],
        ["fit", "photos", "-b", "color-hog", "-e", "?", "-o", "model"],
        ["fit", "photos", "-b", "color-hog", "-e", "glove:?", "-o", "model"],
        ["predict", "?", "photo.png"],
        ["predict", "model", "?.npz"],
        ["evaluate", "?", "-b", "color-hog", "-e", "random"],
        ["embed", "?", "-b", "color-hog", "-o", "features.npz"],
        ["embed", "photos", "-b", "color-hog", "-o", "?/features.npz"],
        ["labels", "check", "-e", "random", "--labels-file", "?"],
        ["backbones", "?"],
        ["embeddings", "info", "?"],
    ],
)
def test_arguments_that_name_nothing_are_one_line_and_exit_1(arguments, wrong):
    line = error_of(*(part.replace("?", wrong) for part in arguments))
    assert "Expected" in line


def test_fine_tune_without_a_value_exits_2(photos, options, tmp_path):
    result = run("fit", photos, *options, "--fine-tune", "", "-o", tmp_path / "model")
    assert result.exit_code == 2


# Names that hold anything: what a terminal obeys, markup, formulas, no UTF-8.

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


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupt_exits_130_without_traceback():
    code = """
import sys, time
from zeroshot.cli import app
@app.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)
sys.argv = ["zeroshot", "wait"]
app()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("zeroshot backbones mobilenet-v", "mobilenet-v2"),
        ("zeroshot fit photos --projection ", "ridge"),
        ("zeroshot embeddings info gl", "glove"),
        ("zeroshot embeddings download glove.6B.3", "glove.6B.300d"),
    ],
)
def test_completion_offers_registered_names(line, name):
    words = len(line.split(" ")) - 1
    done = subprocess.run(
        [sys.executable, "-m", "zeroshot"],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "_ZEROSHOT_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(words),
        },
    )
    assert name in done.stdout.split()


# fit


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


# predict


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


def test_predict_needs_a_model_or_a_backbone_with_embeddings(red_star, tmp_path):
    assert "Expected a bundle" in error_of("predict", red_star, "-b", "mobilenet-v2")
    vectors = write_vectors(tmp_path / "words.csv")
    # No model comes first: color-hog is asked for a classifier of its own.
    message = error_of("predict", red_star, "-b", "color-hog", "-e", vectors)
    assert "'color-hog', which has none" in message


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
    succeed("fit", *parts, "--pretrained", "conse", "--out", tmp_path / "model")
    through = succeed("predict", tmp_path / "model", emu, *labels)
    assert through.stdout == direct.stdout


def test_predict_without_labels_chooses_among_the_seen_ones(model, red_star):
    result = succeed("predict", model, red_star, "-k", "99", "-f", "json")
    labels = [label["label"] for label in json.loads(result.stdout)[0]["ranked"]]
    assert sorted(labels) == sorted(zeroshot.load(model).classes_)


def test_predict_prints_a_table_for_people(model, red_star):
    result = succeed("predict", model, red_star, "-l", "red star,blue ring", "-k", "1")
    header, _, row = (line for line in result.stdout.splitlines() if line.strip())
    assert header.split() == ["image", "label", "probability", "score", "seen"]
    assert str(red_star) in row
    assert "red star" in row
    assert row.split()[-1] == "no"


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
    assert {row["seen"] for row in rows if row["label"] == "red star"} == {"False"}


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


# evaluate


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


# labels, backbones, embeddings, projections


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
    assert {"name": name, "distribution": "zeroshot"} in rows
    assert rows == sorted(rows, key=lambda row: row["name"])
    listed = succeed(command, "-f", "csv").stdout
    assert listed.splitlines()[0] == "name,distribution"
    assert f"{name},zeroshot" in listed
    assert name in succeed(command).stdout


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


# Lists of labels.


def test_short_names_are_the_first_where_unambiguous():
    labels = ["goldfish, Carassius auratus", "crane, bird", "crane, machine", "emu"]
    assert list(short_names(labels).values()) == ["goldfish", *labels[1:3], "emu"]


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
