"""The command line as a whole: help, wrong usage, output, completion."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from cli_runs import error_of, in_shell, run, succeed

import zeroshot

COMMANDS = ("demo", "fit", "predict", "evaluate", "backbones", "projections")
GROUPS = {
    "embeddings": ("list", "info", "download", "lookup", "nearest", "train"),
    "labels": ("check",),
    "cache": ("list", "verify", "clear"),
}
FIT = ("fit", "-b", "mobilenet-v2", "-e", "random", "-o", "model")
GROUPED = [(group, name) for group, names in GROUPS.items() for name in names]


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
        [*FIT],
        ["fit", "photos", *FIT[1:], "--pretrained"],
        [*FIT, "--pretrained", "--reject", "auto"],
        [*FIT, "--pretrained", "--pretrained-classes", "none"],
        [*FIT, "--pretrained", "--hold-out", "0.2"],
        ["fit", "--add", "model"],
        ["fit", "--add", "model", "photos", "--projection", "devise"],
        ["fit", "--add", "model", "photos", "--hold-out", "0.2"],
        ["predict", "model", "a.png", "--adapt", "--multi-label"],
        ["predict", "model", "a.png", "--adapt", "--explain"],
        ["predict", "a.png", *FIT[1:5], "--pretrained-classes", "none"],
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


@pytest.mark.parametrize("command", ["fit", "predict", "sort", "evaluate"])
def test_help_shows_at_most_ten_options_first(command):
    text = succeed(command, "--help").stdout
    panels = re.split(r"^╭─ (.*?) ─+╮$", text, flags=re.MULTILINE)[1:]
    named = dict(zip(panels[::2], panels[1::2], strict=True))
    first = [line for line in named["Options"].splitlines() if line.startswith("│ --")]
    assert 3 <= len(first) <= 11  # ten, and --help
    assert len(named) >= 4


def test_help_shows_the_six_commands_that_most_people_need_first():
    text = succeed("--help").stdout
    first = text.partition("What most people need")[2].partition("╰")[0]
    names = re.findall(r"^│ (\w+)", first, flags=re.MULTILINE)
    assert names == ["demo", "fit", "predict", "sort", "serve", "evaluate"]
