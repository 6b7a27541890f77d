import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from zeroshot.cli.demo import hold_out_combinations, run_demo
from zeroshot.errors import ArtifactError
from zeroshot.images.picture_sheet import write_result_sheet


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of `zeroshot demo`, as a new user sees it."""
    folder = tmp_path_factory.mktemp("demo")
    quiet = {"TF_CPP_MIN_LOG_LEVEL", "ZEROSHOT_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "zeroshot", "demo"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in quiet}
        | {"ZEROSHOT_CACHE": str(folder / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def figure(text, line):
    """Return the number that follows a line's title."""
    return float(re.search(rf"^ *{re.escape(line)} +([0-9.]+)", text, re.MULTILINE)[1])


def test_demo_names_labels_never_trained_on(demo):
    text = demo[1].stdout
    assert figure(text, "held-out labels, among the 16 held-out") > 0.9
    assert figure(text, "labels seen in training") > 0.9
    assert figure(text, "held-out labels") > 0.4
    assert figure(text, "chance") == pytest.approx(1 / 16, abs=0.001)


def test_demo_prints_the_harmonic_mean_of_what_it_prints(demo):
    text = demo[1].stdout
    s, u = figure(text, "labels seen in training"), figure(text, "held-out labels")
    h = figure(text, "harmonic mean H of these two")
    assert h == pytest.approx(2 * s * u / (s + u), abs=0.001)


def test_demo_control_falls_to_chance(demo):
    control = figure(demo[1].stdout, "with random vectors for the labels")
    # Five draws of 16 labels: standard deviation 0.027 around 1/16.
    assert abs(control - 1 / 16) < 4 * 0.027


def test_demo_writes_a_picture_and_says_where(demo):
    folder, done = demo
    assert f"Picture sheet: {folder / 'demo-sheet.png'}\n" in done.stdout
    with Image.open(folder / "demo-sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 1000


def test_demo_leaves_nothing_else_behind(demo):
    folder, _ = demo
    assert [p.name for p in folder.iterdir()] == ["demo-sheet.png"]


def test_demo_shows_no_noise_of_tensorflow(demo):
    stderr = demo[1].stderr
    assert stderr == "Drawing shapes and training ...\n"


def test_demo_says_what_to_try_next(demo):
    *_, predict, _, fit = demo[1].stdout.splitlines()
    assert fit.strip().startswith("zeroshot fit ")
    assert predict.strip().startswith("zeroshot predict ")


def test_run_demo_into_a_folder_is_refused_before_any_work(tmp_path):
    with pytest.raises(ArtifactError, match=r"demo-sheet\.png"):
        run_demo(tmp_path)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_hold_out_takes_two_of_every_color_and_shape(seed):
    held_out = hold_out_combinations(seed)
    assert len(set(held_out)) == 16
    words = Counter(word for label in held_out for word in label.split())
    assert set(words.values()) == {2}
    assert len(words) == 16


def test_hold_out_depends_on_the_seed():
    assert hold_out_combinations(0) == hold_out_combinations(0)
    assert hold_out_combinations(0) != hold_out_combinations(1)


# The picture sheet.


def count(sheet, color):
    return int((np.asarray(sheet) == color).all(axis=2).sum())


def test_sheet_frames_right_in_green_and_wrong_in_red(tmp_path):
    images = np.full((3, 16, 16, 3), 200, np.uint8)
    for name, predicted in (("a", "xxx"), ("b", "xyx"), ("c", "yyy")):
        write_result_sheet(
            tmp_path / name, images, list("xxx"), list(predicted), title="t"
        )
    green, red = (20, 140, 60), (205, 30, 40)
    sheets = [Image.open(tmp_path / name) for name in "abc"]
    greens = [count(sheet, green) for sheet in sheets]
    reds = [count(sheet, red) for sheet in sheets]
    frame = 128**2 - 120**2
    assert reds[0] == greens[2] == 0
    assert greens[0] >= 3 * frame
    assert greens[0] - greens[1] >= frame
    assert frame <= reds[1] < 2 * frame
    assert reds[2] >= 3 * frame


def test_sheet_shows_every_image_in_order(tmp_path):
    images = np.zeros((10, 8, 8, 3), np.uint8)
    images[:, :, :, 2] = np.arange(100, 110)[:, None, None]
    labels = [str(n) for n in range(10)]
    write_result_sheet(tmp_path / "sheet.png", images, labels, labels, title="t")
    blues = np.asarray(Image.open(tmp_path / "sheet.png"))
    only_blue = (blues[:, :, :2] == 0).all(axis=2)
    rows = [
        list(dict.fromkeys(blues[y, only_blue[y], 2].tolist()))
        for y in np.flatnonzero(only_blue.any(axis=1))
    ]
    assert list(dict.fromkeys(map(tuple, rows))) == [
        tuple(range(100, 108)),
        (108, 109),
    ]


def test_sheet_that_cannot_be_written_is_our_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    images = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ArtifactError, match="file"):
        write_result_sheet(tmp_path / "file" / "sheet.png", images, "a", "a", title="t")
    assert (tmp_path / "file").read_text() == "in the way"
