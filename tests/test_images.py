import errno
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot.backbones import ColorHOG
from zeroshot.errors import (
    ArtifactError,
    InvalidImageError,
    PartialCoverageWarning,
)
from zeroshot.escaping import escaped
from zeroshot.features import extract_features
from zeroshot.images import (
    as_image_list,
    content_key,
    fit_image,
    is_feature_matrix,
    read_fitted,
    read_image,
)

# Four corners tell all eight orientations apart.
CORNERS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [9, 9, 9], [255, 255, 255]]],
    np.uint8,
)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def closed_file() -> BytesIO:
    file = BytesIO(b"x")
    file.close()
    return file


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# EXIF 2.32, tag 0x0112: what must be done to the stored pixels to see them upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_exif_orientation_is_applied(orientation, form):
    image = Image.fromarray(CORNERS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = encoded(image, form, exif=exif, **options)
    expected = UPRIGHT[orientation](CORNERS)
    np.testing.assert_array_equal(read_image(content), expected)
    with Image.open(BytesIO(content)) as opened:
        np.testing.assert_array_equal(read_image(opened), expected)


@pytest.mark.parametrize("orientation", [6, 8])
def test_read_image_jpeg_with_exif_is_turned(orientation):
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:16, :32] = 255  # white corner, top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encoded(Image.fromarray(stored), "JPEG", exif=exif))
    assert image.shape == (64, 32, 3)
    right, bottom = (orientation == 6), (orientation == 8)
    corner = image[60 if bottom else 3, 28 if right else 3]
    assert corner.min() > 240
    assert image.mean() == pytest.approx(64, abs=3)


def test_read_image_broken_exif_still_gives_pixels():
    content = encoded(Image.fromarray(CORNERS), "PNG", exif=b"Exif\x00\x00junk")
    np.testing.assert_array_equal(read_image(content), CORNERS)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 255, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),  # 255 * (1 - 0.2)
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("La", (0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (255, 128, 128), (255, 255, 255)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 7, (7, 7, 7)),
        ("I;16", 200, (1, 1, 1)),  # 16 bits, as the mode says
        ("I", 257 * 200, (200, 200, 200)),
        ("I", 200, (200, 200, 200)),
        ("F", 0.2, (51, 51, 51)),
    ],
)
def test_read_image_every_mode_becomes_rgb(mode, value, expected):
    image = read_image(Image.new(mode, (3, 2), value))
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.broadcast_to(expected, (2, 3, 3)))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_read_image_16_bit_file_is_scaled_not_clipped(form):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(values), form))
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]


def test_read_image_mode_i_out_of_range_raises():
    with pytest.raises(InvalidImageError, match=r"0\.\.65535.*-1 to 70000"):
        read_image(Image.fromarray(np.array([[-1, 70000]], np.int32)))


def test_read_image_palette_with_transparency_lies_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    plain = read_image(encoded(image))
    assert plain[0].tolist() == [[200, 0, 0], [0, 0, 200]]
    for transparency in (1, b"\xff\x00"):
        content = encoded(image, transparency=transparency)
        assert read_image(content)[0].tolist() == [[200, 0, 0], [255, 255, 255]]


def test_read_image_rgb_with_transparent_color_lies_on_white():
    content = encoded(Image.new("RGB", (1, 1), (5, 6, 7)), transparency=(5, 6, 7))
    assert read_image(content)[0, 0].tolist() == [255, 255, 255]


def test_read_image_cmyk_jpeg_has_its_colors():
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    np.testing.assert_allclose(read_image(content)[8, 8], (255, 0, 0), atol=6)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_read_image_animation_gives_first_frame(form):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(
        frames[0], form, save_all=True, append_images=frames[1:], **options
    )
    assert read_image(content)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_read_image_arrays_float_equals_uint8(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if shape[-1] == 4:
        array[..., 3] = 255
    image = read_image(array)
    assert image.shape == (2, 3, 3)
    expected = array[..., :3] if array.ndim == 3 else array[..., None]
    np.testing.assert_array_equal(image, np.broadcast_to(expected, (2, 3, 3)))
    np.testing.assert_array_equal(read_image(array.astype(np.float32) / 255), image)
    np.testing.assert_array_equal(read_image(array / 255), image)


def test_read_image_read_only_reversed_array_is_read():
    array = np.full((4, 5, 3), 7, np.uint8)
    array.flags.writeable = False
    image = read_image(array[:, ::-1])
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.full((2, 2, 3), 255.0), r"expected 0\.\.1, got max 255: use uint8"),
        (np.full((2, 2, 3), -0.5), r"expected 0\.\.1, got min -0.5"),
        (np.full((2, 2, 3), np.nan), "NaN"),
        (np.full((2, 2), np.inf), "infinity"),
        (np.full((2, 2), 65536), r"0\.\.65535 \(16 bits\), got 65536 to 65536"),
        (np.full((2, 2), -1), "got -1 to -1"),
        (np.zeros((2, 2), np.complex64), "complex64.*Convert it to uint8"),
        (np.zeros((2, 2, 2), np.uint8), r"\(2, 2, 2\)"),
        (np.zeros((3, 8, 9), np.uint8), r"Channels come last.*moveaxis\(image, 0, -1"),
        ("http://example.org/a.png", "a URL, and nothing is downloaded"),
        ("s3://bucket/a.png", "a URL"),
        (open, "Pass a path"),
        (StringIO("x"), "gives no bytes. Open it with mode 'rb'"),
        (closed_file(), "closed file"),
        (np.zeros((3,), np.uint8), "One image has shape"),
        (np.zeros((0, 2, 3), np.uint8), "no pixels"),
        (None, "Pass a path"),
        (float("nan"), "Pass a path"),
        (b"", "empty"),
        (b"hello", "no image format"),
        (Image.new("RGB", (0, 3)), "no pixels"),
    ],
)
def test_read_image_bad_value_raises_with_index(array, match):
    with pytest.raises(InvalidImageError, match=match) as caught:
        read_image(array, index=3)
    assert caught.value.index == 3
    assert "at position 3" in str(caught.value)


def test_read_image_bad_file_is_named(tmp_path):
    good = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    files = {
        "missing.jpg": "no such file",
        "folder.jpg": "a folder",
        "empty.jpg": "empty",
        "text.jpg": "no image format",
        "cut.jpg": "truncated",
        "a\0b.jpg": "no such file",
        "x" * 5000: "too long",
    }
    (tmp_path / "folder.jpg").mkdir()
    write(tmp_path / "empty.jpg", b"")
    write(tmp_path / "text.jpg", b"not an image")
    write(tmp_path / "cut.jpg", good[: len(good) // 2])
    for name, match in files.items():
        with pytest.raises(InvalidImageError, match=match) as caught:
            read_image(tmp_path / name, index=2)
        assert escaped(name) in str(caught.value)
        assert caught.value.index == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_read_image_unreadable_file_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = write(tmp_path / "a.png", encoded(Image.new("L", (2, 2))))
    path.chmod(0)
    with pytest.raises(InvalidImageError, match=r"a\.png.*[Pp]ermission"):
        read_image(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_read_image_truncated_anywhere_raises_or_is_whole(form):
    image = Image.effect_noise((24, 24), 90).convert("RGB")
    content = encoded(image, form)
    whole = read_image(content)
    for length in range(0, len(content), max(1, len(content) // 40)):
        try:
            cut = read_image(content[:length])
        except InvalidImageError:
            continue
        np.testing.assert_array_equal(cut, whole)


@given(st.binary(max_size=200), st.sampled_from(["PNG", "GIF", "BMP", "TIFF", "PPM"]))
def test_read_image_junk_after_a_header_raises_only_our_error(junk, form):
    header = encoded(Image.new("RGB", (4, 4)), form)[:40]
    try:
        image = read_image(header + junk)
    except InvalidImageError:
        return
    assert image.dtype == np.uint8


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_read_fitted_equals_reading_and_fitting(resize):
    rng = np.random.default_rng(0)
    for shape in ((40, 30, 3), (300, 250, 3), (31, 400)):
        image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        for content in (encoded(image, "JPEG"), encoded(image), image, shape):
            source = np.zeros(shape, np.uint8) if content is shape else content
            expected = fit_image(read_image(source), (32, 48), resize)
            fitted = read_fitted(source, (32, 48), resize)
            np.testing.assert_array_equal(fitted, expected)


@pytest.mark.parametrize("orientation", [1, 6])
def test_read_fitted_of_a_large_jpeg_is_near_full_decoding(orientation):
    image = Image.fromarray(skimage.data.astronaut()).resize((1200, 900))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, "JPEG", quality=95, exif=exif)
    full = fit_image(read_image(content), (64, 64)).astype(int)
    reduced = read_fitted(content, (64, 64)).astype(int)
    assert (reduced != full).any()  # else nothing was decoded at a reduced scale
    assert np.abs(reduced - full).mean() < 1
    assert np.percentile(np.abs(reduced - full), 99) <= 8


def test_limit_of_pixels_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "many")
    with pytest.raises(ArtifactError, match="ZEROSHOT_MAX_PIXELS"):
        read_image(encoded(Image.new("L", (4, 3))))


def test_read_image_over_the_pixel_limit_raises(monkeypatch):
    content = encoded(Image.new("L", (40, 30)))
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "1199")
    with pytest.raises(InvalidImageError, match=r"40 x 30 pixels.*1199"):
        read_image(content)
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "1200")
    assert read_image(content).shape == (30, 40, 3)


def test_read_image_decompression_bomb_raises_quickly():
    # A bomb by its header alone: 60000 x 60000 pixels in 26 bytes.
    content = b"P5 60000 60000 255\n" + bytes(7)
    with pytest.raises(InvalidImageError, match=r"bomb|pixels"):
        read_image(content)


def test_content_key_is_equal_where_the_content_is(tmp_path):
    content = encoded(Image.fromarray(CORNERS))
    path = write(tmp_path / "a.png", content)
    assert content_key(path) == content_key(str(path)) == content_key(content)
    array_key = content_key(CORNERS)
    assert len(array_key) == 32
    assert array_key == content_key(Image.fromarray(CORNERS)) != content_key(content)
    assert array_key != content_key(CORNERS.reshape(3, 2, 3))
    assert array_key != content_key(CORNERS[::-1])


def test_content_key_tells_palettes_apart():
    one, two = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    one.putpalette([255, 0, 0])
    two.putpalette([0, 255, 0])
    assert content_key(one) != content_key(two)


def test_as_image_list_single_forms_give_one(tmp_path):
    image = Image.new("RGB", (2, 2))
    array = np.zeros((9, 9, 3), np.uint8)
    for source in ("a.jpg", Path("a.jpg"), b"abc", image, array, array[..., :1]):
        result = as_image_list(source)
        assert len(result) == 1
        assert result[0] is source


@pytest.mark.parametrize("path", ["", "x" * 5000, "a\0b"])
def test_as_image_list_strange_path_is_left_to_reading(path):
    assert as_image_list(path) == [path]
    with pytest.raises(InvalidImageError):
        read_image(path)


OF_THE_SYSTEM = [
    *("b/@eaDir/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/a.png", "__MACOSX/b/._z.JPG"),
    *("b/._z.JPG", ".ipynb_checkpoints/a.png", "$RECYCLE.BIN/a.png", "Thumbs.db"),
    *("System Volume Information/a.png", "lost+found/a.png", ".AppleDouble/a.png"),
    *(".Trashes/a.png", "#recycle/a.png", ".DS_Store"),
]


def test_as_image_list_folder_gives_sorted_images(tmp_path):
    seen = ["b/z.JPG", "a.png", "notes.txt", "c.tif"]
    for name in [*seen, "b/.hidden.png", ".h/x.png", *OF_THE_SYSTEM]:
        write(tmp_path / name, b"x")
    expected = [tmp_path / name for name in ("a.png", "b/z.JPG", "c.tif")]
    assert (
        as_image_list(tmp_path)
        == as_image_list(str(tmp_path))
        == [str(p) for p in expected]
    )


def test_as_image_list_folder_without_images_raises(tmp_path):
    write(tmp_path / "notes.txt", b"x")
    with pytest.raises(ArtifactError, match="holds none"):
        as_image_list(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,x\n/b.jpg,y\n",
        "path;label\na.png;x\n/b.jpg;y\n",
        "path\tlabel\na.png\tx\n/b.jpg\ty\n",
        "label, Path\nx,a.png\ny,/b.jpg\n",
        "label,image\nx,a.png\ny,/b.jpg\n",
        "file,label\na.png,x\n\n/b.jpg,y",
        "a.png,x\n/b.jpg,y\n",
        "a.png\n/b.jpg\n",
        '"a.png";"x, y"\n/b.jpg;z\n',
        "sep=;\npath;label\na.png;x\n/b.jpg;y\n",
        "\ufeffpath\r\na.png\r\n\r\n/b.jpg\r\n",
    ],
)
def test_as_image_list_table_gives_its_paths(tmp_path, text):
    for name in ("a.png", "b.jpg"):
        write(tmp_path / name, b"x")
    text = text.replace("/b.jpg", str(tmp_path / "b.jpg"))
    path = write(tmp_path / "list.csv", text.encode())
    assert as_image_list(path) == [str(tmp_path / "a.png"), str(tmp_path / "b.jpg")]


def test_as_image_list_table_without_header_keeps_files_of_any_ending(tmp_path):
    for name in ("one", "two.heic"):
        write(tmp_path / name, b"x")
    path = write(tmp_path / "list.csv", b"one\ntwo.heic\n")
    assert as_image_list(path) == [str(tmp_path / "one"), str(tmp_path / "two.heic")]
    path = write(tmp_path / "list.csv", b"photo\none\ntwo.heic\n")
    assert as_image_list(path) == [str(tmp_path / "one"), str(tmp_path / "two.heic")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cat,a.png\ndog,b.png\n", "separated by commas.*'cat', 'a.png'"),
        ("cat;a.png\ndog;b.png\n", "separated by semicolons"),
        ("one\ntwo\n", "Add a header that names the column 'path'"),
        ("path,label\na.png,x\n,y\n", "line 3. Got '', 'y'"),
    ],
)
def test_as_image_list_unclear_table_raises(tmp_path, text, match):
    path = write(tmp_path / "list.csv", text.encode())
    with pytest.raises(ArtifactError, match=match):
        as_image_list(path)


def test_as_image_list_table_of_tabs_keeps_commas(tmp_path):
    write(tmp_path / "a, b.png", b"x")
    path = write(tmp_path / "list.tsv", b"path\tlabel\na, b.png\tx\n")
    assert as_image_list(path) == [str(tmp_path / "a, b.png")]


def test_as_image_list_table_takes_home_and_windows_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    home, deep = write(tmp_path / "home" / "a.png", b"x"), tmp_path / "d" / "b.png"
    write(deep, b"x")
    path = write(tmp_path / "list.csv", b"path\n~/a.png\nd\\b.png\n")
    assert as_image_list(path) == [str(home), str(deep)]
    assert as_image_list("~") == [str(home)]


def test_as_image_list_table_missing_images_are_named_with_their_lines(tmp_path):
    write(tmp_path / "a.png", b"x")
    path = write(tmp_path / "list.csv", b"path\na.png\n\nb.png\nc.png\n")
    match = r"2 of 3 images.*'b\.png' \(line 4\), 'c\.png' \(line 5\)"
    with pytest.warns(PartialCoverageWarning, match=match):
        assert len(as_image_list(path)) == 3


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00", b'path\n"a'])
def test_as_image_list_bad_csv_raises(tmp_path, content):
    path = write(tmp_path / "list.csv", content)
    with pytest.raises(ArtifactError, match=r"list\.csv"):
        as_image_list(path)


def test_as_image_list_missing_csv_raises(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        as_image_list(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("shape", "count", "each"),
    [
        ((5, 8, 9), 5, (8, 9)),
        ((1, 8, 9), 1, (8, 9)),
        ((2, 8, 9), 2, (8, 9)),
        ((5, 64, 64), 5, (64, 64)),
        ((5, 8, 9, 1), 5, (8, 9, 1)),
        ((5, 8, 9, 3), 5, (8, 9, 3)),
        ((5, 8, 9, 4), 5, (8, 9, 4)),
        ((0, 8, 9, 3), 0, None),
        ((8, 9, 3), 1, (8, 9, 3)),
        ((8, 9, 4), 1, (8, 9, 4)),
    ],
)
def test_as_image_list_arrays_are_split(shape, count, each):
    result = as_image_list(np.zeros(shape, np.uint8))
    assert len(result) == count
    assert {image.shape for image in result} == ({each} if each else set())


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((9, 4, 4), "could be either"),
        ((3, 3, 3), "could be either"),
        ((3, 64, 64), r"3 grey images. Use np.moveaxis\(image, 0, -1\)"),
        ((4, 64, 64), "4 grey images"),
        ((64, 64, 2), r"\(64, 64, 2\)"),
        ((64, 64, 13), r"\(64, 64, 13\)"),
        ((5, 1, 64, 64), "Channels come last"),
        ((5, 4, 64, 64), "Channels come last"),
        ((8, 9), "one grey image"),
        ((5, 3, 8, 9), "Channels come last"),
        ((5, 8, 9, 2), r"\(5, 8, 9, 2\)"),
        ((5,), r"\(5,\)"),
        ((), r"\(\)"),
        ((2, 2, 2, 2, 3), "Pass a list"),
    ],
)
def test_as_image_list_unclear_array_raises(shape, match):
    with pytest.raises(InvalidImageError, match=match):
        as_image_list(np.zeros(shape, np.uint8))


def test_as_image_list_columns_and_sequences():
    paths = ["a.png", "b.png"]
    table = pd.DataFrame({"path": paths, "label": ["x", "y"]})
    for form in (
        tuple(paths),
        iter(paths),
        np.array(paths),
        np.array(paths, dtype=object),
        np.array(paths, dtype=object)[:, None],
        pd.Series(paths),
        table,
        table.rename(columns={"path": "image"}),
        table[["path"]].rename(columns={"path": "anything"}),
    ):
        assert as_image_list(form) == paths
    assert as_image_list([]) == []
    assert len(as_image_list(pd.Series([np.zeros((4, 4)), b"x"]))) == 2


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (None, "None"),
        (7, "'int'"),
        ({"a.png": "x"}, "'dict'"),
        ({"a.png"}, "'set'"),
        (pd.DataFrame({"a": [1], "b": [2]}), "'a', 'b'"),
        (pd.DataFrame({"path": [1], "image": [2]}), "'path', 'image'"),
        (np.zeros((2, 2, 2), dtype=object), "one dimension"),
    ],
)
def test_as_image_list_wrong_form_raises(images, match):
    with pytest.raises(InvalidImageError, match=match):
        as_image_list(images)


def test_fit_image_crop_takes_the_centre():
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200  # exactly what a square crop keeps
    fitted = fit_image(image, (20, 20), "crop")
    assert fitted.shape == (20, 20, 3)
    assert fitted[:, 1:-1].min() == 200


@pytest.mark.parametrize(("rule", "left"), [("short-side", 1), ("short-side-even", 2)])
def test_fit_image_short_side_scales_whole_pixels_and_then_crops(rule, left):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)  # 20 x 23: 3 too many

    fitted = fit_image(image, (20, 20), rule, "bicubic")

    scaled = Image.fromarray(image).resize((23, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fitted, np.asarray(scaled)[:, left : left + 20])


def test_fit_image_short_side_of_a_strip_makes_no_huge_image():
    strip = np.zeros((1, 20_000, 3), np.uint8)
    strip[:, 9_000:11_000] = 255

    fitted = fit_image(strip, (224, 224), "short-side", "bicubic")

    assert fitted.shape == (224, 224, 3)
    assert fitted.min() == 255


def test_fit_image_squash_keeps_everything():
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 50:] = 200
    fitted = fit_image(image, (20, 30), "squash")
    assert fitted.shape == (20, 30, 3)
    assert fitted[:, :14].max() == 0
    assert fitted[:, 16:].min() == 200


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_fit_image_averages_all_pixels(resize):
    rng = np.random.default_rng(0)
    image = (rng.integers(0, 2, (640, 640, 1)) * 255).repeat(3, 2).astype(np.uint8)
    fitted = fit_image(image, (8, 8), resize)
    # Each new pixel averages some 80 x 80 old ones: deviation of a mean, 127.5 / 80.
    assert np.abs(fitted.astype(int) - 127.5).max() < 10


def test_fit_image_right_size_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(image, (7, 9)), image)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.sampled_from(["crop", "squash"]),
)
def test_fit_image_any_size_gives_the_size_and_keeps_a_plain_color(old, new, resize):
    image = np.full((*old, 3), (10, 200, 90), np.uint8)
    fitted = fit_image(image, new, resize)
    assert fitted.shape == (*new, 3)
    assert (fitted == (10, 200, 90)).all()


def test_import_images_is_light():
    code = (
        "import sys, zeroshot.images; heavy = {'pandas', 'tensorflow', 'sklearn', "
        "'skimage', 'scipy'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_read_image_real_photographs(real_data):
    files = as_image_list(real_data / "images" / "imagenet-sample")
    assert len(files) == 1000
    for path in files[::25]:
        image = read_image(path)
        with Image.open(path) as opened:
            assert image.shape == (opened.height, opened.width, 3)
            np.testing.assert_array_equal(image, np.asarray(opened.convert("RGB")))


def tiff(values: np.ndarray, photometric: int, sample_format: int = 1) -> bytes:
    """Return a little-endian grey TIFF, written by hand (TIFF 6.0, section 3)."""
    height, width = values.shape
    strip = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = {
        256: width,
        257: height,
        258: values.dtype.itemsize * 8,
        259: 1,  # not compressed
        262: photometric,
        273: 8,  # where the strip begins
        277: 1,
        278: height,
        279: len(strip),
        339: sample_format,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    return header + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("values", "sample_format", "expected"),
    [
        (np.array([[0, 7, 255]], np.uint8), 1, [0, 7, 255]),
        (np.array([[0, 257 * 7, 65535]], np.uint16), 1, [0, 7, 255]),
        (np.array([[0, 0.2, 1]], np.float32), 3, [0, 51, 255]),
    ],
)
def test_read_image_tiff_white_is_zero_is_turned(values, sample_format, expected):
    black = read_image(tiff(values, 1, sample_format))
    white = read_image(tiff(values, 0, sample_format))
    assert black[0, :, 0].tolist() == expected
    assert white[0, :, 0].tolist() == [255 - value for value in expected]


def png(rows: list[bytes], width: int, color: int) -> bytes:
    """Return a PNG of 16 bits a sample, written by hand (PNG 1.2, section 3)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        sum_of = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + sum_of

    head = struct.pack(">IIBBBBB", width, len(rows), 16, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("color", "samples", "expected"),
    [
        (0, (200 * 257,), (200, 200, 200)),
        (2, (3 * 257, 128 * 257, 65535), (3, 128, 255)),
        (4, (9 * 257, 65535), (9, 9, 9)),
        (4, (9 * 257, 0), (255, 255, 255)),
        (6, (3 * 257, 128 * 257, 65535, 65535), (3, 128, 255)),
    ],
)
def test_read_image_png_of_16_bits_is_scaled(color, samples, expected):
    image = read_image(png([struct.pack(f">{len(samples)}H", *samples)], 1, color))
    assert image.shape == (1, 1, 3)
    assert tuple(image[0, 0]) == expected


@pytest.mark.parametrize(
    "dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_read_image_whole_numbers_are_8_or_16_bits_by_their_largest(dtype):
    eight = np.array([[0, 100, 255]])
    assert read_image(eight.astype(dtype))[0, :, 0].tolist() == [0, 100, 255]
    if dtype != np.int16:
        sixteen = (eight * 257).astype(dtype)
        assert read_image(sixteen)[0, :, 0].tolist() == [0, 100, 255]
    if dtype == np.int32:
        for values in (eight, eight * 257):
            content = encoded(Image.fromarray(values.astype(np.int32)), "TIFF")
            assert read_image(content)[0, :, 0].tolist() == [0, 100, 255]


def test_read_image_bools_are_black_and_white():
    assert read_image(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


def test_as_image_list_dark_image_of_a_16_bit_batch_stays_dark():
    batch = np.full((2, 8, 9), 200, np.uint16)
    batch[1] = 200 * 257
    dark, light = (read_image(image) for image in as_image_list(batch))
    assert dark.max() == 1
    assert light.min() == 200


def test_read_image_mpo_gives_first_frame():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_image(content)[8, 8], (255, 0, 0), atol=4)


class Tensor:
    """What a tensor of another library is to NumPy."""

    def __init__(self, values):
        self.values = values
        self.shape, self.ndim = values.shape, values.ndim

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return map(Tensor, self.values)


class Unavailable(Tensor):
    def __array__(self, dtype=None, copy=None):
        raise TypeError("the values lie on another device")


def test_as_image_list_tensors_are_arrays():
    values = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    images = as_image_list(Tensor(values))
    np.testing.assert_array_equal([read_image(image) for image in images], values)
    (image,) = as_image_list(Tensor(values[0]))
    np.testing.assert_array_equal(read_image(image), values[0])
    with pytest.raises(InvalidImageError, match="another device"):
        read_image(Unavailable(values[0]))
    with pytest.raises(InvalidImageError, match="Channels come last"):
        as_image_list(Tensor(np.moveaxis(values, -1, 1)))


def forms_of_a_file(folder: Path, content: bytes) -> list:
    path = write(folder / "one.bin", content)
    archive = folder / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside.png", content)
    (entry,) = (e for e in os.scandir(folder) if e.name == "one.bin")
    return [
        *(str(path), path, entry, content, bytearray(content), memoryview(content)),
        *(BytesIO(content), path.open("rb"), zipfile.Path(archive, "inside.png")),
    ]


def test_as_image_list_every_form_of_a_file_is_one_image(tmp_path):
    content = encoded(Image.fromarray(CORNERS))
    for form in forms_of_a_file(tmp_path, content):
        (image,) = as_image_list(form)
        for _ in range(2):  # an open file is read from its start
            np.testing.assert_array_equal(read_image(image), CORNERS)
            assert content_key(image) == content_key(content)
        if hasattr(form, "close"):
            form.close()


def test_extract_features_forms_of_a_file_in_a_generator_are_equal(tmp_path):
    content = encoded(Image.effect_noise((64, 64), 90))
    forms = forms_of_a_file(tmp_path, content)
    matrix = extract_features((form for form in forms), ColorHOG(), cache=False).matrix
    assert len(matrix) == len(forms)
    assert (matrix == matrix[0]).all()
    for form in forms:
        if hasattr(form, "close"):
            form.close()


def test_read_image_missing_entry_of_an_archive_raises(tmp_path):
    forms_of_a_file(tmp_path, b"x")[7].close()
    missing = zipfile.Path(tmp_path / "images.zip", "other.png")
    with pytest.raises(InvalidImageError, match=r"other\.png"):
        read_image(missing)


class Failing(BytesIO):
    """A file whose reading fails as it would on an unhappy machine."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def read(self, size=-1):
        raise self.error


@pytest.mark.parametrize("on_error", ["raise", "skip", "nan"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), MemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.EMFILE, "Too many open files"), ArtifactError),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ArtifactError),
        (OSError(errno.EIO, "Input/output error"), ArtifactError),
        (OSError(errno.ESTALE, "Stale file handle"), ArtifactError),
    ],
)
def test_extract_features_fault_of_the_machine_leaves_no_image_out(
    error, expected, on_error
):
    images = [np.zeros((9, 9, 3), np.uint8), Failing(error)]
    with pytest.raises(expected):
        extract_features(images, ColorHOG(), cache=False, on_error=on_error)


def in_a_small_machine(code: str, limit: str, tmp_path: Path) -> str:
    """Run code after a limit of the system is set; return what it prints."""
    head = (
        "import resource, sys\nfrom zeroshot.images import read_image\n"
        "from zeroshot.errors import ArtifactError\n"
        "from PIL import Image\nImage.init()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{head}{limit}\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_read_image_without_memory_is_no_broken_image(tmp_path, form):
    # EXIF: turning takes memory, too.
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (3000, 3000))
    write(tmp_path / "a", encoded(image, form, exif=exif))
    limit = (
        "read_image(b'P6 1 1 255 abc')\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * "
        "resource.getpagesize()\n"
    )
    code = (
        "for megabytes in (5, 30, 50, 70, 90, 120, 2000):\n"
        "    size = used + megabytes * 2**20\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        print(read_image('a').shape)\n"
        "    except MemoryError:\n"
        "        print('memory')\n"
    )
    lines = in_a_small_machine(code, limit, tmp_path).splitlines()
    shape = "(3000, 3000, 3)"
    assert set(lines) == {"memory", shape}
    assert (lines[0], lines[-1]) == ("memory", shape)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_read_image_too_many_open_files_is_no_broken_image(tmp_path):
    write(tmp_path / "a", encoded(Image.fromarray(CORNERS)))
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 99))"
    code = "try:\n    read_image('a')\nexcept ArtifactError as e:\n    print(e)"
    assert "Too many open files" in in_a_small_machine(code, limit, tmp_path)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((5, 7)), True),
        (np.zeros((5, 7), np.float16), True),
        (np.zeros((5, 7), bool), True),
        (Tensor(np.zeros((5, 7))), True),
        (scipy.sparse.csr_array(np.zeros((5, 7))), True),
        (pd.DataFrame({"a": [1.0, 2], "b": [3, 4]}), True),
        (pd.DataFrame({"path": ["a.png"], "b": [3]}), False),
        (np.array([["a.png"]]), False),
        (np.array([["a.png"]], dtype=object), False),
        (np.zeros((5, 7, 3)), False),
        (np.zeros((5, 7, 3), np.uint8), False),
        (["a.png"], False),
        (Image.new("L", (5, 7)), False),
        (None, False),
    ],
)
def test_is_feature_matrix_tells_numbers_from_images(X, expected):
    assert is_feature_matrix(X) is expected
