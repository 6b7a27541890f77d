import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from zeroshot.backbones.base import BackboneCard
from zeroshot.backbones.color_hog import ColorHOG
from zeroshot.errors import (
    InvalidImageError,
    PartialCoverageWarning,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.features import extract_features, iter_features
from zeroshot.features.store import BATCH_ROWS
from zeroshot.images import as_image_list, fit_image, read_image
from zeroshot.shapes import make_shapes


class MeanColor:
    """Mean of each channel; counts what it is given."""

    name = "mean-color"
    dim = 3
    input_size = (8, 8)

    def __init__(self, fingerprint="mean-color", resize="crop"):
        self.fingerprint = fingerprint
        self.card = BackboneCard(resize=resize)
        self.batches = []

    def embed(self, images):
        self.batches.append(len(images))
        return images.mean(axis=(1, 2), dtype=np.float32)


def plain(n, start=0):
    """Give n different images of one color each, and their mean colors."""
    colors = np.array([(i % 256, i // 256, 7) for i in range(start, start + n)])
    images = [np.full((8, 8, 3), color, np.uint8) for color in colors]
    return images, colors.astype(np.float32)


def write_images(folder: Path, n: int) -> list[Path]:
    folder.mkdir()
    images, _ = plain(n)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return [Path(file) for file in as_image_list(folder)]


@pytest.mark.parametrize("batch_size", [1, 3, 32, 100])
@pytest.mark.parametrize("cache", [True, False])
def test_extract_features_rows_are_in_order(batch_size, cache):
    images, colors = plain(71)
    backbone = MeanColor()
    result = extract_features(images, backbone, batch_size=batch_size, cache=cache)
    np.testing.assert_array_equal(result.matrix, colors)
    assert result.matrix.dtype == np.float32
    assert result.errors == {}
    assert max(backbone.batches) <= batch_size
    assert len(backbone.batches) == -(-71 // batch_size)


def test_extract_features_finds_what_changed_amid_many_that_are_stored(tmp_path):
    # Enough that chunks have grown, in which contents are not kept but read again.
    paths = write_images(tmp_path / "images", 1300)
    _, colors = plain(1300)
    order = [int(path.stem) for path in paths]
    expected = colors[order]
    extract_features(paths, MeanColor())
    images, new = plain(3, start=3000)
    for place, image, color in zip((640, 641, 1250), images, new, strict=True):
        Image.fromarray(image).save(paths[place])
        expected[place] = color
    paths[900].write_text("no image")
    expected[900] = np.nan
    backbone = MeanColor()
    with pytest.warns(PartialCoverageWarning, match="position 900"):
        result = extract_features(paths, backbone, on_error="nan")
    np.testing.assert_array_equal(result.matrix, expected)
    assert list(result.errors) == [900]
    assert sum(backbone.batches) == 3  # nothing else is computed again


def test_extract_features_no_images_gives_no_rows():
    backbone = MeanColor()
    assert extract_features([], backbone).matrix.shape == (0, 3)
    assert backbone.batches == []


def test_extract_features_paths_equal_reading_each(tmp_path):
    rng = np.random.default_rng(0)
    tmp_path = tmp_path / "images"
    tmp_path.mkdir()
    for i in range(9):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    for resize in ("crop", "squash"):
        backbone = MeanColor(resize, resize)
        expected = backbone.embed(
            np.stack(
                [
                    fit_image(read_image(p), (8, 8), resize)
                    for p in as_image_list(tmp_path)
                ]
            )
        )
        result = extract_features(tmp_path, backbone, batch_size=4)
        np.testing.assert_array_equal(result.matrix, expected)


def test_extract_features_same_content_is_embedded_once(tmp_path):
    paths = write_images(tmp_path / "images", 3)
    copies = [*paths, paths[0].read_bytes(), str(paths[1]), paths[2]]
    backbone = MeanColor()
    result = extract_features(copies, backbone, cache=False)
    assert backbone.batches == [3]
    np.testing.assert_array_equal(result.matrix[:3], result.matrix[3:])


def test_extract_features_second_time_comes_from_the_cache(tmp_path):
    paths = write_images(tmp_path / "images", 5)
    first = extract_features(paths, MeanColor())
    for path in paths:  # other names, same content
        path.rename(path.with_suffix(".jpg"))
    backbone = MeanColor()
    again = extract_features(tmp_path / "images", backbone)
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert backbone.batches == []
    images, _ = plain(7)
    extract_features([*as_image_list(tmp_path / "images"), *images], backbone)
    assert backbone.batches == [7]  # arrays and files have keys of their own


def test_extract_features_other_fingerprint_is_computed_anew():
    images, _ = plain(5)
    extract_features(images, MeanColor("one"))
    backbone = MeanColor("two")
    extract_features(images, backbone)
    assert backbone.batches == [5]


def test_extract_features_without_cache_leaves_no_file(cache_folder):
    extract_features(plain(5)[0], MeanColor(), cache=False)
    assert list(cache_folder.rglob("*")) == []


def test_extract_features_of_many_images_are_found_in_any_order():
    n = 2 * BATCH_ROWS + 5
    images, colors = plain(n)
    extract_features(images, MeanColor(), batch_size=300)
    backbone = MeanColor()
    order = np.random.default_rng(0).permutation(n)
    result = extract_features([images[i] for i in order], backbone)
    np.testing.assert_array_equal(result.matrix, colors[order])
    assert backbone.batches == []


def test_extract_features_bad_image_raises_the_first(tmp_path):
    images, _ = plain(40)
    images[33] = tmp_path / "missing.png"
    images[20] = b"junk"
    with pytest.raises(InvalidImageError, match="at position 20") as caught:
        extract_features(images, MeanColor(), batch_size=4)
    assert caught.value.index == 20


def test_extract_features_on_error_nan_keeps_rows_aligned(tmp_path):
    images, colors = plain(40)
    bad = {
        3: b"junk",
        4: None,
        33: tmp_path / "missing.png",
        39: np.zeros((2, 2), complex),
    }
    for index, image in bad.items():
        images[index] = image
    for _ in range(2):  # computed, then cached
        with pytest.warns(PartialCoverageWarning, match=r"4 of.*position 3.*missing"):
            result = extract_features(images, MeanColor(), batch_size=8, on_error="nan")
        assert set(result.errors) == set(bad)
        assert "missing.png" in result.errors[33]
        assert np.isnan(result.matrix[list(bad)]).all()
        good = np.setdiff1d(np.arange(40), list(bad))
        np.testing.assert_array_equal(result.matrix[good], colors[good])


def test_extract_features_all_bad_gives_nan_without_computing():
    backbone = MeanColor()
    with pytest.warns(PartialCoverageWarning, match="2 of 2 images"):
        result = extract_features([b"", b"x"], backbone, on_error="nan")
    assert np.isnan(result.matrix).all()
    assert backbone.batches == []


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"on_error": "ignore"}])
def test_extract_features_wrong_option_raises(wrong):
    with pytest.raises(ValueError, match="Expected batch_size >= 1"):
        extract_features([], MeanColor(), **wrong)


@pytest.mark.parametrize(
    ("returned", "match"),
    [
        (lambda n: np.zeros((n, 4), np.float32), r"\(5, 3\).*\(5, 4\)"),
        (lambda n: np.zeros((n - 1, 3), np.float32), r"\(4, 3\)"),
        (lambda n: np.zeros((n, 3)), "float64"),
        (lambda n: [[0.0] * 3] * n, "'list'"),
        (lambda n: np.full((n, 3), np.nan, np.float32), "NaN.*5 of 5"),
    ],
)
def test_extract_features_broken_backbone_is_named(returned, match, cache_folder):
    class Broken(MeanColor):
        name = "broken-one"

        def embed(self, images):
            return returned(len(images))

    with pytest.raises(PluginContractError, match=match) as caught:
        extract_features(plain(5)[0], Broken())
    assert "'broken-one'" in str(caught.value)
    assert list(cache_folder.rglob("*.sqlite")) == []


def test_extract_features_interrupted_keeps_what_is_done():
    class Interrupted(MeanColor):
        def embed(self, images):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().embed(images)

    images, colors = plain(40)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Interrupted(), batch_size=8)
    assert threading.active_count() == threads
    backbone = MeanColor()
    result = extract_features(images, backbone, batch_size=8)
    assert backbone.batches == [8, 8]
    np.testing.assert_array_equal(result.matrix, colors)


def test_extract_features_reads_ahead_but_not_too_far(tmp_path):
    paths = write_images(tmp_path / "images", 200)

    class Watching(MeanColor):
        def embed(self, images):
            # Were all files read before the first batch, none would be missed.
            for path in paths[100:]:
                path.unlink(missing_ok=True)
            return super().embed(images)

    with pytest.warns(PartialCoverageWarning, match="And 95 more"):
        result = extract_features(paths, Watching(), batch_size=8, on_error="nan")
    assert sorted(result.errors) == list(range(100, 200))


def test_extract_features_names_every_kind_of_bad_image(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    good, cut = tmp_path / "good.jpg", tmp_path / "cut.jpg"
    noise.save(good)
    cut.write_bytes(good.read_bytes()[:-900])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    # A bomb by its header alone: 60000 x 60000 pixels in 26 bytes.
    (tmp_path / "bomb.jpg").write_bytes(b"P5 60000 60000 255\n" + bytes(7))
    Image.new("RGB", (200, 100)).save(tmp_path / "large.png")
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "10000")
    reasons = {
        "cut.jpg": "truncated",
        "text.jpg": "no image format",
        "empty.jpg": "empty",
        "folder.jpg": "a folder",
        "missing.jpg": "no such file",
        "bomb.jpg": "bomb|pixels",
        "large.png": "200 x 100 pixels.*ZEROSHOT_MAX_PIXELS",
    }
    if os.geteuid() != 0:  # root may read everything
        (tmp_path / "secret.jpg").write_bytes(good.read_bytes())
        (tmp_path / "secret.jpg").chmod(0)
        reasons["secret.jpg"] = "[Pp]ermission"
    paths = [good, *(tmp_path / name for name in reasons), good]
    with pytest.warns(PartialCoverageWarning, match="cut.jpg.*And"):
        result = extract_features(paths, MeanColor(), on_error="nan")
    assert list(result.errors) == list(range(1, len(paths) - 1))
    for (name, reason), got in zip(
        reasons.items(), result.errors.values(), strict=True
    ):
        assert name in got
        assert re.search(reason, got), got
    monkeypatch.delenv("ZEROSHOT_MAX_PIXELS")
    extract_features([tmp_path / "large.png"], MeanColor())


def test_extract_features_on_error_skip_leaves_rows_out_and_tells_which(tmp_path):
    images, colors = plain(2500)
    bad = [0, 7, 1500, 2499]
    for index in bad:
        images[index] = b"junk"
    with pytest.warns(PartialCoverageWarning, match="4 of 2500 images.*left out"):
        result = extract_features(images, MeanColor(), on_error="skip")
    kept = np.setdiff1d(np.arange(2500), bad)
    np.testing.assert_array_equal(result.positions, kept)
    np.testing.assert_array_equal(result.matrix, colors[kept])
    assert sorted(result.errors) == bad


def test_extract_features_generator_equals_list():
    images, colors = plain(1100)
    result = extract_features(iter(images), MeanColor(), batch_size=7)
    np.testing.assert_array_equal(result.matrix, colors)
    assert extract_features(iter([]), MeanColor()).matrix.shape == (0, 3)


def test_iter_features_reads_a_generator_no_further_than_needed():
    images, colors = plain(5000)
    taken = []

    def generate():
        for i, image in enumerate(images):
            taken.append(i)
            yield image

    backbone = MeanColor()
    blocks = iter_features(generate(), backbone, batch_size=10, cache=False)
    assert taken == []
    first = next(blocks)
    np.testing.assert_array_equal(first.matrix, colors[:1024])
    assert len(taken) < 1024 + 100
    blocks.close()
    assert len(taken) < 1024 + 100
    assert set(backbone.batches) == {10}


def test_iter_features_blocks_follow_one_another():
    images, colors = plain(3000)
    images[2000] = b"junk"
    blocks = list(iter_features(images, MeanColor(), batch_size=300, on_error="nan"))
    assert [len(block.matrix) for block in blocks] == [1024, 1024, 952]
    positions = np.concatenate([block.positions for block in blocks])
    np.testing.assert_array_equal(positions, np.arange(3000))
    assert [list(block.errors) for block in blocks] == [[], [2000], []]
    matrix = np.concatenate([block.matrix for block in blocks])
    assert np.isnan(matrix[2000]).all()
    good = np.delete(positions, 2000)
    np.testing.assert_array_equal(matrix[good], colors[good])


def test_iter_features_left_early_keeps_what_is_done():
    images, _ = plain(3000)
    blocks = iter_features(images, MeanColor(), batch_size=8)
    next(blocks)
    blocks.close()
    backbone = MeanColor()
    extract_features(images, backbone)
    assert sum(backbone.batches) <= 3000 - 1024


@pytest.mark.parametrize("cache", [True, False])
def test_extract_features_every_batch_but_the_last_is_full(cache):
    images, _ = plain(2000)
    extract_features(images[::3], MeanColor(), cache=cache)
    backbone = MeanColor()
    extract_features(images, backbone, batch_size=33, cache=cache)
    assert set(backbone.batches[:-1]) == {33}


GROWTH = r"""
import re, sys
from pathlib import Path
import numpy as np
from zeroshot.features import iter_features
from tests.test_features import MeanColor

def generate(n):
    for i in range(n):
        image = np.zeros((64, 64, 3), np.uint8)
        image[0, 0] = i % 256, i // 256 % 256, i // 65536
        yield image

def run(n):
    for block in iter_features(generate(n), MeanColor(), cache=len(sys.argv) > 1):
        pass
    # Not ru_maxrss: that of a process is at least its parent's when it was started.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

small = run(2_000)
grown = run(7_000) - small
assert grown < 5_000, grown
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("options", [(), ("cache",)])
def test_iter_features_memory_does_not_grow_with_the_images(options):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run(
        [sys.executable, "-c", GROWTH, *options], check=True, env=environment
    )


def test_extract_features_from_a_damaged_database_are_computed_again(cache_folder):
    images, colors = plain(5)
    extract_features(images, MeanColor())
    (database,) = cache_folder.rglob("*.sqlite")
    database.write_bytes(database.read_bytes()[:50])
    backbone = MeanColor()
    with pytest.warns(ZeroShotWarning, match=database.name):
        result = extract_features(images, backbone)
    np.testing.assert_array_equal(result.matrix, colors)
    assert backbone.batches == [5]
    extract_features(images, backbone)  # no warning any more
    assert backbone.batches == [5]


def test_extract_features_flipped_bits_in_rows_are_computed_again(cache_folder):
    images, colors = plain(5)
    extract_features(images, MeanColor())
    (database,) = cache_folder.rglob("*.sqlite")
    content = database.read_bytes()
    place = content.index(colors[0].tobytes())
    database.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    backbone = MeanColor()
    with pytest.warns(ZeroShotWarning, match=database.name):
        result = extract_features(images, backbone)
    np.testing.assert_array_equal(result.matrix, colors)
    assert backbone.batches == [1]


@pytest.mark.parametrize("change", [{"dim": 4}, {"input_size": (9, 9)}])
def test_extract_features_of_another_shape_are_computed_anew(change):
    class Wide(MeanColor):
        def embed(self, images):
            return np.zeros((len(images), self.dim), np.float32)

    images, _ = plain(5)
    extract_features(images, MeanColor())
    backbone = Wide()
    vars(backbone).update(change)
    assert (extract_features(images, backbone).matrix == 0).all()


def photograph(folder: Path, size=(40, 30)) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    path = folder / "photograph.jpg"
    Image.fromarray(noise).save(path)
    return path


def test_extract_features_of_a_truncated_file_are_no_answer_when_that_is_an_error(
    tmp_path, monkeypatch
):
    path = photograph(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        extract_features([path], MeanColor())
        backbone = MeanColor()
        extract_features([path], backbone)
        assert backbone.batches == []  # stored
    with pytest.raises(InvalidImageError, match="truncated"):
        extract_features([path], MeanColor())


@pytest.mark.parametrize("whose", ["ours", "Pillow's"])
def test_extract_features_of_an_image_over_the_limit_are_no_answer(
    tmp_path, monkeypatch, whose
):
    path = photograph(tmp_path)
    extract_features([path], MeanColor())
    with monkeypatch.context() as patch:
        if whose == "ours":
            patch.setenv("ZEROSHOT_MAX_PIXELS", "1000")
        else:
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
        with pytest.raises(InvalidImageError, match="limit"):
            extract_features([path], MeanColor())
    backbone = MeanColor()
    extract_features([path], backbone)  # nor is it forgotten
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**9)
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "1_000_000_000")
    extract_features([path], backbone)
    assert backbone.batches == []


def test_extract_features_of_a_plugins_format_are_no_answer_without_the_plugin(
    tmp_path, monkeypatch
):
    path = photograph(tmp_path)
    path.write_bytes(b"new format" + path.read_bytes())

    def opened(file, name):
        return Image.open(io.BytesIO(file.read()[10:]))

    def accept(start):
        return start.startswith(b"new format")

    with monkeypatch.context() as patch:
        patch.setattr(Image, "ID", [*Image.ID, "NEW"])
        patch.setattr(Image, "OPEN", {**Image.OPEN, "NEW": (opened, accept)})
        extract_features([path], MeanColor())
    with pytest.raises(InvalidImageError, match="no image format"):
        extract_features([path], MeanColor())


def test_extract_features_unwritable_cache_warns_once_and_works(cache_folder):
    (cache_folder / "features").write_text("a file where a folder should be")
    images, colors = plain(BATCH_ROWS + 5)
    with pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE") as caught:
        result = extract_features(images, MeanColor())
    assert len(caught) == 1
    np.testing.assert_array_equal(result.matrix, colors)


SLOW_RUN = """
import sys, time
import numpy as np
from zeroshot.features import extract_features, iter_features
from tests.test_features import MeanColor, plain

class Slow(MeanColor):
    def embed(self, images):
        if len(self.batches) == 3:
            print("ready", flush=True)
            time.sleep(60)
        return super().embed(images)

extract_features(plain(40)[0], Slow(), batch_size=8)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_extract_features_killed_leaves_a_sound_cache(number, cache_folder):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(number)
        process.wait(20)
        assert time.monotonic() - started < 10
    backbone = MeanColor()
    result = extract_features(plain(40)[0], backbone, batch_size=8)
    np.testing.assert_array_equal(result.matrix, plain(40)[1])
    kept = 24 if number == signal.SIGINT else 0
    assert sum(backbone.batches) == 40 - kept


def test_extract_features_color_hog_imports_no_tensorflow():
    code = (
        "import sys, numpy as np; from zeroshot.features import extract_features; "
        "from zeroshot.backbones import ColorHOG; "
        "extract_features(np.zeros((2, 64, 64, 3), np.uint8), ColorHOG()); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_extract_features_real_photographs(real_data):
    folder = real_data / "images" / "caltech-classes" / "pizza"
    result = extract_features(folder, ColorHOG(), batch_size=7)
    files = as_image_list(folder)
    pixels = np.stack([fit_image(read_image(path), (64, 64)) for path in files])
    np.testing.assert_array_equal(result.matrix, ColorHOG().embed(pixels))


def test_extract_features_drawn_shapes_equal_embedding_them():
    images, _ = make_shapes(1)
    result = extract_features(images, ColorHOG())
    np.testing.assert_array_equal(result.matrix, ColorHOG().embed(images))
