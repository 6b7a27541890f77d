"""Every option of every command, given what nobody means.

``ZEROSHOT_FUZZ=1 pytest tests/test_cli_hostile.py -s`` tries all of them.
"""

import re
import sys
from collections import Counter

import numpy as np
import pytest
import typer
from cli_runs import COLORS, SHAPES, run, succeed
from damage import n_cases
from PIL import Image

from zeroshot.cli import app
from zeroshot.datasets import make_shapes

VALUES = (
    "",
    " ",
    "a\0b",
    "\udcff\x1b[31m\u202e",
    "[red]x[/red]",
    "[/red]",
    "%s%n%(a)s{0}{a}",
    "9" * 4301,
    "-" + "9" * 4301,
    "a" * 5000,
    "a, " * 2000,
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "\uff11\uff12",
    "{" * 3000,
    "[" * 100_000,
    '{"a":' + "9" * 4301 + "}",
    "=1+1",
    "~nobody/x",
    "auto:nan",
    "vocabulary:" + "9" * 4301,
    "keras:/x?size=" + "9" * 4301,
    "glove:" + "a" * 5000,
    "http://",
    "https://[",
    "no/such/../file",
    ".",
    "a:b:c:d+e+f",
    "random?seed=" + "9" * 4301,
)
OUTPUTS = {"out", "html"}  # what is accepted there is written
NEVER = {"install_completion", "show_completion", "help", "workers"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    images, labels = make_shapes(1, colors=COLORS[:2], shapes=SHAPES)
    for pixels, label in zip(images, labels, strict=True):
        (folder / "photos" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "photos" / label / "0.png")
    succeed(
        *("fit", folder / "photos", "-b", "color-hog", "-e", "random", "-p", "ridge"),
        *("-o", folder / "model"),
    )
    return folder


def commands(place):
    """Return a command line that works for each command that may be tried."""
    photos, model = place / "photos", place / "model"
    small = ("-b", "color-hog", "-e", "random", "-p", "ridge")
    return {
        "fit": (photos, *small, "-o", place / "out"),
        "predict": (model, photos, "-l", "red star,okapi"),
        "evaluate": (photos, *small, "--splits", "1"),
        "embed": (photos, "-b", "color-hog", "-o", place / "features.npz"),
        "backbones": (),
        "projections": (),
        "embeddings list": (),
        "embeddings info": ("random",),
        "embeddings lookup": ("zebra", "-e", "random"),
        "embeddings nearest": ("zebra", "-e", "random"),
        "labels check": ("zebra", "-e", "random"),
        "cache list": (),
        "cache verify": (),
    }


def parameters(command):
    """Yield the parameters of a command, as typer has them."""
    found = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    yield from found.params


def cases():
    """Return every (command, option or argument, value), shuffled, the same always."""
    every = []
    for command in commands(__import__("pathlib").Path()):
        for parameter in parameters(command):
            if parameter.name in NEVER or getattr(parameter, "is_flag", False):
                continue
            option = max(parameter.opts, key=len)
            is_option = option.startswith("-")
            for number in range(len(VALUES)):
                every.append((command, option if is_option else None, number))
    order = np.random.default_rng(0).permutation(len(every))
    return [every[i] for i in order]


def test_command_line_of_hostile_values_ends_in_one_clear_line(
    place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    counts = Counter()
    all_cases = cases()
    for command, option, number in all_cases[: n_cases(60, len(all_cases))]:
        value = VALUES[number]
        arguments = [*command.split(), *commands(place)[command]]
        if option is None:
            arguments = [*command.split(), value, *commands(place)[command][1:]]
        elif option.lstrip("-") in OUTPUTS:
            arguments += [option, value.replace("/", "_")]
        else:
            arguments += [option, value]
        done = run(*arguments)
        told = f"{command} {option} {value[:60]!r}: {done.output[-500:]!r}"
        counts[done.exit_code] += 1
        assert done.exit_code in (0, 1, 2, 3), told
        assert "Traceback" not in done.output, told
        raw = re.sub("\x1b\\[[0-9;]*m", "", done.output) if option else done.output
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e\udc80-\udcff]", raw), told
        if done.exit_code == 1:
            lines = [
                line
                for line in done.stderr.splitlines()
                if not line.startswith("warning: ")
            ]
            assert len(lines) == 1, told
            assert lines[0].startswith("error: "), told
    told = f"{counts.total()} command lines, by exit code: {dict(counts)}"
    print(f"\n{told}")  # noqa: T201 - what the large run is for


@pytest.mark.skipif(sys.platform == "win32", reason="NUL in the environment")
@pytest.mark.parametrize(
    "name", ["ZEROSHOT_MAX_PIXELS", "ZEROSHOT_FEATURES_LIMIT", "OMP_NUM_THREADS"]
)
@pytest.mark.parametrize(
    "value", ["9" * 4301, "-1", "nan", "1e999", "\uff11", "%s", "0", "inf", "\x1b[31m"]
)
def test_environment_variable_of_a_hostile_value_is_named_or_used(
    place, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    done = run("predict", place / "model", place / "photos", "-l", "red star,okapi")
    assert done.exit_code in (0, 1)
    assert "\x1b" not in done.output
    if done.exit_code == 1:
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert len(done.stderr) < 500
