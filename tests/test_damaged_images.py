"""Images that are damaged, and files made to cost much more than their size.

``ZEROSHOT_FUZZ=1 pytest tests/test_damaged_images.py -s`` tries 12,000 damaged files.
"""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter

import numpy as np
import pytest
from damage import flips, mutations, n_cases
from PIL import Image

from zeroshot.errors import ArtifactError, InvalidImageError
from zeroshot.images import as_image_list, read_fitted, read_image

SIZE = (64, 64)
SECONDS = 5.0
MEGABYTES = 500


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photograph(side: int = 60) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((side, side - 7), Image.Resampling.BICUBIC)


def with_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return exif


def samples() -> dict[str, bytes]:
    """Return a small file of every kind that is decoded in another way."""
    image = photograph()
    grey, alpha = image.convert("L"), image.convert("RGBA")
    alpha.putalpha(grey)
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    floats = Image.fromarray(np.asarray(grey, np.float32) / 255)
    return {
        "jpeg": encoded(image, "JPEG", exif=with_exif()),
        "jpeg progressive": encoded(image, "JPEG", progressive=True),
        "jpeg cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "mpo": encoded(image, "MPO", **frames),
        "png": encoded(image, "PNG", exif=with_exif()),
        "png alpha": encoded(alpha, "PNG"),
        "png 16 bits": encoded(sixteen, "PNG"),
        "png palette": encoded(image.convert("P"), "PNG", transparency=3),
        "apng": encoded(image, "PNG", **frames),
        "webp": encoded(image, "WEBP", exif=with_exif()),
        "webp lossless": encoded(alpha, "WEBP", lossless=True),
        "webp animated": encoded(image, "WEBP", **frames),
        "gif": encoded(image, "GIF", **frames),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF", exif=with_exif()),
        "tiff deflate": encoded(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tiff lzw": encoded(grey, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(image, "TIFF", compression="jpeg"),
        "tiff 16 bits": encoded(sixteen, "TIFF"),
        "tiff floats": encoded(floats, "TIFF"),
        "avif": encoded(image, "AVIF", speed=10),
        "jpeg2000": encoded(image, "JPEG2000"),
        "ppm": encoded(image, "PPM"),
        "ppm text": b"P2 2 2 99\n0 50 # a comment\n99 1\n",
        "tga": encoded(image, "TGA", compression="tga_rle"),
    }


def resident(what: str = "VmRSS") -> float:
    """Return the resident memory of this process in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if what in line)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.filterwarnings("ignore")  # Pillow's, of broken tags
def test_read_fitted_of_damaged_files_raises_only_invalid_image_errors():
    files = samples()
    before = resident()
    n_each = -(-n_cases(300, 12_000) // len(files))
    counts, slowest, largest = Counter(), (0.0, ""), (0.0, "")
    for seed, (name, content) in enumerate(files.items()):
        half = n_each // 2
        for damaged in (
            *flips(content, half, seed),
            *mutations(content, n_each - half, seed),
        ):
            start = time.process_time()
            try:
                assert read_fitted(damaged, SIZE).shape == (*SIZE, 3)
                counts["read"] += 1
            except InvalidImageError:
                counts["refused"] += 1
            slowest = max(slowest, (time.process_time() - start, name))
        largest = max(largest, (resident("VmHWM") - before, name))
    print(  # noqa: T201 - the counts are what the large run is for
        f"\n{counts.total()} damaged images: {counts['read']} read, "
        f"{counts['refused']} refused; slowest {slowest[0]:.2f} s ({slowest[1]}); "
        f"memory at most {largest[0]:.0f} MB over the start"
    )
    assert slowest[0] < 2 * SECONDS
    assert largest[0] < MEGABYTES


def png(width: int, height: int, depth: int, color: int, *more: bytes) -> bytes:
    """Return a PNG of zeros: a few kB for 90 megapixels."""
    n_bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = bytes(1 + -(-width * n_bands * depth // 8))
    packed = zlib.compressobj(9)
    parts = [packed.compress(row * 64) for _ in range(height // 64)]
    parts += [packed.compress(row * (height % 64)), packed.flush()]
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", head),
            chunk(b"PLTE", bytes(range(6))) if color == 3 else b"",
            *more,
            chunk(b"IDAT", b"".join(parts)),
            chunk(b"IEND", b""),
        )
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + checksum.to_bytes(4)


def jpeg_of_empty_scans(n: int, side: int) -> bytes:
    """Return a progressive JPEG in which ``n`` scans of a few bytes say nothing."""
    content = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = content.index(b"\xff\xda")
    end = content.index(b"\xff\xc4", start)
    # One code, of one bit: the next 2^14 + 14 more bits blocks end here (EOB14).
    codes = b"\xff\xc4\x00\x14\x10\x01" + bytes(15) + b"\xe0"
    bits = ("0" + "1" * 14) * -(-((side // 8) ** 2) // 32767)
    bits += "1" * (-len(bits) % 8)
    stuffed = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + stuffed
    return content[:end] + codes + scan * n + b"\xff\xd9"


def tiff(tags: list[tuple[int, int, int, int]], more: bytes = b"") -> bytes:
    """Return a TIFF of these tags (number, type, count, value), then more bytes."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + more


def tiff_of(width: int, height: int, **changed: int) -> bytes:
    """Return a TIFF of one deflated strip or tile of zeros."""
    n_unpacked = changed.pop("n_unpacked", 1 << 20)
    content = zlib.compress(bytes(n_unpacked), 9)
    numbers = {
        **{"width": width, "height": height, "bits": 8, "compression": 8},
        **{"photometric": 1, "samples": 1, "rows": height},
        **changed,
    }
    tags = {"width": 256, "height": 257, "bits": 258, "compression": 259}
    tags |= {"photometric": 262, "samples": 277, "rows": 278}
    tags |= {"tile_width": 322, "tile_length": 323}
    is_tiled = "tile_width" in numbers
    if is_tiled:
        del numbers["rows"]
    entries = [(tags[name], 4, 1, value) for name, value in numbers.items()]
    place = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries.append((324 if is_tiled else 273, 4, 1, place))
    entries.append((325 if is_tiled else 279, 4, 1, len(content)))
    return tiff(entries, content)


def gif(width: int, height: int) -> bytes:
    small = bytearray(encoded(Image.new("P", (2, 2)), "GIF"))
    small[6:10] = struct.pack("<HH", width, height)
    return bytes(small)


def bmp_rle(width: int, height: int, runs: bytes) -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 0, 0
    )
    colors = bytes(4 * 256)
    start = 14 + len(head) + len(colors)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, start) + head + colors + runs


def exif_bomb() -> bytes:
    """Return a JPEG whose EXIF tags all point at the same 60 kB."""
    entries = b"".join(
        struct.pack("<HHII", 0x8000 + i, 7, 50_000, 8) for i in range(4_000)
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 4_000) + entries + bytes(4)
    return encoded(photograph(), "JPEG", exif=exif + bytes(10_000))


HUGE = 9459  # squared, the limit of pixels
BOMBS = {
    "png of 16 bits": lambda: png(HUGE, HUGE, 16, 0),
    "png of 16 bits, RGBA": lambda: png(HUGE, HUGE, 16, 6),
    "png, RGBA": lambda: png(7000, 7000, 8, 6),
    "png, grey": lambda: png(HUGE, HUGE, 8, 0),
    "png, thin": lambda: png(80_000_000, 1, 8, 0),
    "png, palette": lambda: png(HUGE, HUGE, 8, 3, chunk(b"tRNS", b"\0")),
    "png, turned": lambda: png(
        HUGE, HUGE, 8, 2, chunk(b"eXIf", with_exif().tobytes()[6:])
    ),
    "png, much text": lambda: png(
        *(9, 9, 8, 0),
        *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))] * 2000,
    ),
    "png, colour profile": lambda: png(
        *(9, 9, 8, 0), chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 28), 9))
    ),
    "jpeg, 10,000 scans": lambda: jpeg_of_empty_scans(10_000, 2000),
    "jpeg, 90 scans": lambda: jpeg_of_empty_scans(90, 8000),
    "jpeg, progressive": lambda: encoded(
        Image.new("RGB", (HUGE, HUGE)), "JPEG", progressive=True
    ),
    "jpeg, segments": lambda: (
        b"\xff\xd8" + b"\xff\xe1\x00\x09Exif\0\0a" * 300_000 + b"\xff\xd9"
    ),
    "jpeg, junk": lambda: b"\xff\xd8\xff\xe0\0\2" + b"a" * 3_000_000,
    "jpeg, exif": exif_bomb,
    "webp": lambda: encoded(Image.new("RGB", (6000, 6000)), "WEBP", method=0),
    "gif": lambda: gif(65_535, 65_535),
    "gif, large canvas": lambda: gif(HUGE, HUGE),
    "tiff, large strip": lambda: tiff_of(64, 64, rows=2**31 - 1, n_unpacked=1 << 28),
    "tiff, large tile": lambda: tiff_of(
        64, 64, tile_width=32_768, tile_length=32_768, n_unpacked=1 << 28
    ),
    "tiff, 16 bits": lambda: tiff_of(9000, 9000, bits=16, n_unpacked=162_000_000),
    "tiff, 500 samples": lambda: tiff_of(9000, 9000, samples=500),
    "tiff, many strips": lambda: tiff_of(9000, 9000, rows=1),
    "tiff, tags": lambda: tiff(
        [(256, 4, 1, 9), (257, 4, 1, 9)]
        + [(1000 + i, 3, 400_000, 8) for i in range(4000)],
        bytes(800_000),
    ),
    "bmp, runs": lambda: bmp_rle(2000, 2000, b"\1\0" * 4_000_000),
    "bmp, ends of lines": lambda: bmp_rle(3000, 3000, b"\0\0" * 3_000_000),
    "bmp, runs of 255": lambda: bmp_rle(HUGE, HUGE, b"\xff\0" * 360_000),
    "ppm of text": lambda: b"P3 3000 3000 9\n" + b"1 " * 27_000_000,
    "ppm, comments": lambda: b"P2 900 900 9\n" + b"#\n" * 500_000,
    "ppm, header": lambda: b"P5 " + b" " * 10_000_000 + b"9 9 255\n" + bytes(81),
    "ppm, comment in header": lambda: b"P5 #" + b" a" * 9_000_000 + b"\n9 9 9\n",
    "ppm of other depth": lambda: b"P6 5000 5000 99\n" + bytes(75_000_000),
    "ppm, long number": lambda: b"P5 " + b"9" * 4300 + b" 9 255\n",
    "avif": lambda: encoded(Image.new("RGB", (6500, 6500)), "AVIF", speed=10),
    "jpeg2000": lambda: encoded(
        Image.new("RGB", (5000, 5000)), "JPEG2000", quality_layers=[1000]
    ),
    "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
}
QUICK = ("png of 16 bits", "jpeg, 10,000 scans", "jpeg, segments", "gif, large canvas")
ALONE = """import sys, time
from zeroshot.errors import InvalidImageError
from zeroshot.images import as_image_list, read_fitted, read_image
from test_damaged_images import BOMBS, resident
content = BOMBS[sys.argv[1]]()
read_fitted(BOMBS["gif"]()[:0] + b"P5 9 9 255 " + bytes(81), (64, 64))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before, start = resident(), time.process_time()
try:
    read_fitted(content, (64, 64))
    became = "read"
except InvalidImageError as error:
    became = "refused: " + str(error)[-150:]
seconds = time.process_time() - start
print(f"{seconds:.2f} {resident('VmHWM') - before:.0f} {len(content)} {became}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in BOMBS
    ],
)
def test_read_fitted_of_a_small_file_of_large_cost_is_read_or_refused_soon(name):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, name],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=__file__.rpartition("/")[0],
    )
    assert run.returncode == 0, run.stderr
    seconds, megabytes, n_bytes, became = run.stdout.split(" ", 3)
    became = became.strip()
    print(f"\n{name}, {n_bytes} bytes: {seconds} s, {megabytes} MB, {became}")  # noqa: T201
    assert float(seconds) < 2 * SECONDS  # of a processor that others may use, too
    assert float(megabytes) < MEGABYTES


# --- what is taken, and what a program's images share


@pytest.mark.parametrize("form", ["EPS", "ICO", "PCX", "PSD", "SGI", "XBM"])
def test_read_image_of_a_format_that_is_not_taken_names_it(form, tmp_path):
    if form == "PSD":
        content = b"8BPS\0\1" + bytes(100)
    else:
        mode = "1" if form == "XBM" else "RGB"
        content = encoded(photograph().convert(mode), form)
    path = tmp_path / "photograph.jpg"
    path.write_bytes(content)
    for source in (path, content, io.BytesIO(content)):
        with pytest.raises(InvalidImageError, match="one of JPEG, PNG") as caught:
            read_image(source)
        assert form in str(caught.value) or form == "XBM"  # which has no signature


def test_read_image_of_eps_starts_no_program(tmp_path, monkeypatch):
    began = tmp_path / "began"
    for name in ("gs", "gswin64c"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch '{began}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    content = encoded(photograph(), "EPS")
    with pytest.raises(InvalidImageError, match="of the format EPS"):
        read_fitted(content, SIZE)
    with (
        Image.open(io.BytesIO(content)) as image,
        pytest.raises(InvalidImageError, match=r"Pass image\.copy\(\) if you trust"),
    ):
        read_fitted(image, SIZE)
    assert not began.exists()


def test_read_image_of_a_copy_of_any_format_is_read():
    with Image.open(io.BytesIO(encoded(photograph(), "PCX"))) as image:
        np.testing.assert_array_equal(
            read_image(image.copy()), np.asarray(photograph())
        )


def test_read_fitted_of_large_images_in_threads_shares_memory(tmp_path):
    code = f"""from concurrent.futures import ThreadPoolExecutor
from test_damaged_images import png, resident, read_fitted
content = png(6000, 6000, 8, 0)
read_fitted(png(9, 9, 8, 0), {SIZE})
before = resident()
with ThreadPoolExecutor(8) as pool:
    images = list(pool.map(lambda _: read_fitted(content, {SIZE}), range(8)))
print(len(images), resident("VmHWM") - before)
"""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=__file__.rpartition("/")[0],
    )
    assert run.returncode == 0, run.stderr
    n, megabytes = run.stdout.split()
    assert n == "8"
    # 180 MB each: two at a time, not eight.
    assert float(megabytes) < MEGABYTES


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_read_image_of_what_is_no_file_of_an_image_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "photograph.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(5 << 30)  # takes no space
    with pytest.raises(InvalidImageError, match=r"not a file|over the limit"):
        read_image(path)
    with path.open("rb" if kind != "pipe" else "r+b", buffering=0) as stream:
        if kind == "device":
            with pytest.raises(InvalidImageError, match="over the limit"):
                read_image(stream)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_, object])
def test_images_of_an_array_that_is_broadcast_take_no_memory(dtype):
    one = np.zeros((1, 1), dtype)
    with pytest.raises(InvalidImageError):
        read_image(np.broadcast_to(one, (10**6, 10**6)))
    many = np.broadcast_to(one[None], (10**6, 1000, 1000))
    if dtype is object:
        return
    images = as_image_list(many[:1000])
    assert read_image(images[999]).shape == (1000, 1000, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="shorter paths, and no links")
def test_as_image_list_of_folders_2000_deep_finds_what_lies_there(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=here)
        below = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("b.png", os.O_CREAT, dir_fd=here))
    os.close(here)
    try:
        assert as_image_list(tmp_path) == [f"{tmp_path}/{'a/' * 1500}b.png"]
    finally:  # `shutil.rmtree`, which pytest calls, goes less deep
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links of Unix")
def test_as_image_list_of_links_that_multiply_is_refused(tmp_path):
    for n in range(16):
        (tmp_path / f"{n}").mkdir()
    for n in range(15):
        for name in "ab":
            (tmp_path / f"{n}" / name).symlink_to(tmp_path / f"{n + 1}")
    with pytest.raises(ArtifactError, match="behind such links"):
        as_image_list(tmp_path / "0")
