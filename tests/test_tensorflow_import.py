"""The quiet import, on a stand-in for TensorFlow that prints like it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOISE = "import os; os.write(2, b'native noise\\n')\n"
PROGRAM = """
import os
from zeroshot.tensorflow_import import import_tensorflow
try:
    print(import_tensorflow().answer)
except ImportError as error:
    print(error)
os.write(2, b'after\\n')
"""


def run(folder: Path, tensorflow: str, **environment: str):
    (folder / "tensorflow.py").write_text(tensorflow)
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_import_is_silent_and_stderr_is_given_back(tmp_path):
    done = run(tmp_path, NOISE + "answer = os.environ['TF_CPP_MIN_LOG_LEVEL']")
    assert (done.stdout, done.stderr) == ("3\n", "after\n")


def test_failing_import_shows_its_noise_and_raises(tmp_path):
    done = run(tmp_path, NOISE + "raise ImportError('broken library')")
    assert (done.stdout, done.stderr) == (
        "broken library\n",
        "native noise\nafter\n",
    )


def test_log_level_of_the_user_is_respected(tmp_path):
    done = run(tmp_path, NOISE + "answer = 42", TF_CPP_MIN_LOG_LEVEL="0")
    assert (done.stdout, done.stderr) == ("42\n", "native noise\nafter\n")


@pytest.mark.slow
def test_real_tensorflow_prints_nothing_up_to_its_first_operation():
    program = (
        "from zeroshot.tensorflow_import import import_keras\n"
        "import_keras().ops.ones((2, 2))"
    )
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
