import io

import numpy as np
import pytest

from zeroshot.backbones import ColorHOG
from zeroshot.features import extract_features
from zeroshot.progress import progress_bar, say
from zeroshot.storage.large_files import remark
from zeroshot.tensorflow_import import stderr_set_aside


class OnlyWrites:
    def write(self, text):
        raise BrokenPipeError


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stderr", [None, closed(), OnlyWrites()], ids=["none", "closed", "only writes"]
)
def test_work_without_a_usable_stderr_goes_on_silently(stderr, monkeypatch):
    monkeypatch.setattr("sys.stderr", stderr)
    images = [np.full((64, 64, 3), color, np.uint8) for color in (0, 90)]
    assert extract_features(images, ColorHOG()).matrix.shape == (2, 458)
    with progress_bar("something", None) as advance, stderr_set_aside():
        advance(1, note="a note")
        say("a line")
        remark("a remark")


def test_progress_bar_on_a_terminal_says_what_is_done_and_goes(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("images", 2) as advance:
        advance(2)
        say("beside it")
    assert "images" in terminal.getvalue()
    assert "beside it\n" in terminal.getvalue()


def test_progress_bar_within_another_is_not_drawn(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("splits", 2) as advance:
        with progress_bar("labels", 2) as inner:
            inner(2)
        advance(2)
    with progress_bar("images", 1) as advance:
        advance(1)
    assert "splits" in terminal.getvalue()
    assert "labels" not in terminal.getvalue()
    assert "images" in terminal.getvalue()


def test_say_writes_a_line_to_stderr(capsys):
    say("a line")
    assert capsys.readouterr() == ("", "a line\n")
