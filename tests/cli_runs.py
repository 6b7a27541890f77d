"""What tests of the command line share: how it is run, and its files."""

import os
import subprocess
import sys

from typer.testing import CliRunner

from zeroshot.cli import app
from zeroshot.datasets import shape_attributes

COLORS, SHAPES = ["red", "green", "blue"], ["star", "ring", "square"]


def run(*arguments, **options):
    arguments = [str(a) for a in arguments]
    return CliRunner().invoke(app, arguments, catch_exceptions=False, **options)


def succeed(*arguments, **options):
    result = run(*arguments, **options)
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


def write_vectors(path):
    words, matrix = shape_attributes()
    rows = zip(words, matrix.tolist(), strict=True)
    path.write_text("".join(f"{w},{','.join(map(str, row))}\n" for w, row in rows))
    return path
