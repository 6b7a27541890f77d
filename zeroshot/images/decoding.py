"""One image, in any form, to RGB; JPEGs at reduced scale where that is as good."""

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile

from zeroshot.errors import ArtifactError
from zeroshot.images.files import FORMATS
from zeroshot.per_process import PerProcess

__all__ = [
    "MAX_PIXELS",
    "ImageRefusedError",
    "decode",
    "decoding_identity",
    "max_bytes",
    "max_pixels",
    "pixel_limit",
]

MAX_PIXELS = 89_478_485
"""Largest image, in pixels, unless the environment variable ``ZEROSHOT_MAX_PIXELS``
says otherwise: Pillow's default limit, a quarter of a GiB as RGB. A small file can
claim to be far larger and fill the memory (a "decompression bomb")."""

BYTES_PER_PIXEL, BYTES_OF_FILE = 5, 32 << 20
"""What decoding may take for each pixel of the limit, and for the file: Pillow keeps
RGB in 4 bytes, and grey in 1 beside the 4 of the RGB that is made of it."""

PIXELS = "3"  # changes whenever this module makes other pixels of the same file

# libjpeg decodes at 1/2, 1/4 or 1/8 in a fraction of the time. What it gives is not
# what averaging all pixels gives, and the difference shrinks with what is left to
# average: with 4 times the wanted size, a pixel differs by 0.7 of 255 levels (mean of
# 1000 photographs), with 2 times by 1.4, with once by 4.6 (benchmarks/features.py). A
# photograph of 12 megapixels is read for 224 x 224 in 0.4 of the time.
ENOUGH = 4

ORIENTATION = 0x0112  # EXIF 2.32
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITE_IS_ZERO = (262, 0)  # TIFF 6.0: tag PhotometricInterpretation, and its value
ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 278, 322, 323  # TIFF 6.0
BITS_PER_SAMPLE = 258

# Bytes that a decoder takes for each pixel and band while it works, beside the pixels
# that Pillow keeps; measured with images of 16 megapixels. The others take a few lines.
WHILE_DECODING = {"AVIF": 4.0, "JPEG2000": 5.2, "WEBP": 4.2}
COEFFICIENT = 2  # bytes; libjpeg keeps one a pixel and band, unless there is one scan

# libjpeg passes over the whole image for each scan of a JPEG, also for an empty one of
# 18 bytes (some 0.3 ns a pixel and band). Encoders write about 10; libtiff and the
# fuzzers of libjpeg-turbo stop at 100 and 500.
MOST_SCANS = 100
SCANS_OF_THE_LARGEST = 16  # where an image has as many pixels as are allowed
MOST_SEGMENTS = 20_000  # of a JPEG: 64 kB each, 1.3 GB
# Anything but a stuffed byte, a restart or a fill byte, which stand within scans.
SEGMENT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
WITHIN_SCANS = {0x00, 0xFF, *range(0xD0, 0xD8)}
SCAN, END_OF_IMAGE = 0xDA, 0xD9  # ITU-T T.81, table B.1
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}

# Decoders of Pillow that are written in Python: 0.3 to 1 microsecond a sample, or a run
# of two bytes.
SLOW_DECODERS = {
    "bmp_rle": "run-length encoded BMP",
    "ppm": "PPM of that depth",
    "ppm_plain": "PPM of text",
}
MOST_SLOW_SAMPLES = 4_000_000
PPM_HEADER = 65_536  # read by Pillow byte by byte
PPM_COMMENTS = 100  # in a PPM of text; each costs a copy of a megabyte

STRIP = 1 << 18  # pixels that are converted at a time

SMALL = 16 << 20  # bytes for which no thread has to wait: 4 megapixels
LEAST_TRIMMED = 64 << 20  # bytes

# A PIL image loads itself on first use, which two threads must not do at once.
_PIL_LOCK = PerProcess(threading.Lock)

Image.init()  # once, before threads go through its formats
OWN_FORMATS = tuple(name for name in FORMATS if name in Image.OPEN)
"""Those of `FORMATS` that this Pillow was built with."""


class ImageRefusedError(Exception):
    """Carries the reason why one image is refused."""


def max_pixels() -> int:
    """Return how many pixels an image may have.

    ``ZEROSHOT_MAX_PIXELS`` where that is set, else `MAX_PIXELS`. A limit above Pillow's
    own raises that too, for the whole process. Raises ArtifactError if the variable is
    no positive whole number.
    """
    named = os.environ.get("ZEROSHOT_MAX_PIXELS")
    if not named:
        return MAX_PIXELS
    limit = 0
    with suppress(ValueError):
        limit = int(named.replace("_", ""))
    if limit < 1:
        raise ArtifactError(
            f"Expected a positive whole number of pixels in ZEROSHOT_MAX_PIXELS. Got "
            f"{named!r:.80}. Correct or unset it; the default is {MAX_PIXELS}."
        )
    if limit > (Image.MAX_IMAGE_PIXELS or limit):
        Image.MAX_IMAGE_PIXELS = limit
    return limit


def pixel_limit() -> int:
    """Return how many pixels an image may have for it to be decoded at all.

    Less than `max_pixels` where Pillow's own limit was lowered: it refuses images of
    more than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    limit = min(max_pixels(), 1 << 62)
    own = Image.MAX_IMAGE_PIXELS
    return limit if own is None else min(limit, 2 * int(own))


def max_bytes() -> int:
    """Return how many bytes the images that are being decoded may take, all threads.

    No image may need more alone, its file included. It is `BYTES_PER_PIXEL` for each of
    `max_pixels`, no less where that was lowered, and `BYTES_OF_FILE`.
    """
    return BYTES_PER_PIXEL * max(max_pixels(), MAX_PIXELS) + BYTES_OF_FILE


def decoding_identity() -> str:
    """Return what decides, beside an image's file, which pixels are made of it.

    Another version of this module or of Pillow, the formats that are taken, also those
    that a plugin taught it, broken files that Pillow was told to accept. Features are
    stored under it, but for `pixel_limit`, which each row keeps.
    """
    plugins = sorted(f"{name} {module}" for name, module in _plugins().items())
    truncated = bool(ImageFile.LOAD_TRUNCATED_IMAGES)
    return (
        f"{PIXELS}, {' '.join(FORMATS)}, Pillow {PIL.__version__}, truncated "
        f"{truncated}, {plugins}"
    )


def _plugins() -> dict[str, str]:
    """Return formats that the program has taught Pillow, and the module of each.

    Such as ``pillow_heif``, once it is registered: it is decoded as ours are.
    """
    return {
        name: factory.__module__
        for name, (factory, _) in Image.OPEN.copy().items()
        if not factory.__module__.startswith("PIL.")
    }


def decode(
    source: object,
    finish: Callable[[Image.Image | NDArray[np.uint8]], NDArray[np.uint8]],
    wanted: int | None = None,
) -> NDArray[np.uint8]:
    """Decode one image to RGB and return what ``finish`` makes of it.

    ``finish``: is given an array where the source is one, else a PIL image; meanwhile
    the image counts among the `max_bytes`, for which other threads may have to wait.
    ``wanted``: longer side, in pixels, of what the image will be brought to: a JPEG
    that is more than 8 times as large on both sides may be decoded at a reduced scale,
    of which at least 4 times as much is left. Raises ImageRefusedError if it is of a
    form, type, range or size that is not taken; almost any exception, of Pillow, if it
    is broken.
    """
    if isinstance(source, np.ndarray):
        return finish(_rgb_of_array(source))
    if isinstance(source, Image.Image):
        _check_format(source)
        with _PIL_LOCK(), _decoded(source) as rgb:
            return finish(rgb)
    if not isinstance(source, bytes):
        raise ImageRefusedError("Pass a path, bytes, a PIL image or an array.")
    if not source:
        raise ImageRefusedError("It is empty (0 bytes).")
    max_pixels()  # before Pillow looks at its own limit
    check_file_size(len(source))
    _check_ppm(source)
    n_scans = _count_scans(source)
    with _open(source) as image:
        _check_scans(n_scans, image)
        _check_slow(image, len(source))
        with _decoded(image, source, wanted, n_scans) as rgb:
            return finish(rgb)


def _open(content: bytes) -> Image.Image:
    with suppress(PIL.UnidentifiedImageError):
        return Image.open(BytesIO(content), formats=OWN_FORMATS)
    with suppress(PIL.UnidentifiedImageError):
        return Image.open(BytesIO(content), formats=[*_plugins()])
    found = [
        name
        for name, (_, accepts) in Image.OPEN.copy().items()
        if name not in OWN_FORMATS and accepts and accepts(content[:16]) is True
    ]
    what = "no image format that is taken"
    if found:
        what = f"of the format {found[0]}, which is not taken"
    raise ImageRefusedError(
        f"Its content is {what}. Convert it to one of {', '.join(OWN_FORMATS)}."
    )


def check_file_size(n_bytes: int) -> None:
    """Refuse what is too large for a file of one image."""
    if n_bytes > SMALL and n_bytes > max_bytes():
        raise ImageRefusedError(
            f"It has {n_bytes} bytes, over the limit of {max_bytes()} for a file. "
            f"{_RAISE_THE_LIMIT}"
        )


_RAISE_THE_LIMIT = (
    "Make it smaller, or raise the limit with ZEROSHOT_MAX_PIXELS, the most pixels of "
    f"an image: there are {BYTES_PER_PIXEL} bytes for each of them."
)


def _check_format(image: Image.Image) -> None:
    """Refuse an image that a file of another format would yet be read for."""
    if image.format not in (None, "MPO", *OWN_FORMATS, *_plugins()):  # MPO: a JPEG
        raise ImageRefusedError(
            f"It comes from a file of the format {image.format}, which is not taken. "
            f"Pass image.copy() if you trust that file."
        )


def _check_ppm(content: bytes) -> None:
    """Refuse a PPM over whose header or comments Pillow would spend minutes."""
    if content[:1] != b"P":
        return
    if len(content) > PPM_HEADER:
        head = re.sub(rb"#[^\r\n]*", b"", content[:PPM_HEADER])
        if len(head.split(None, 3)) < 4:
            raise ImageRefusedError(f"It has no PPM header in {PPM_HEADER} bytes.")
    if content[1:2] in (b"1", b"2", b"3") and content.count(b"#") > PPM_COMMENTS:
        raise ImageRefusedError(f"It is a PPM with over {PPM_COMMENTS} comments.")


def _count_scans(content: bytes) -> int:
    """Return for how many scans libjpeg passes over a JPEG; 1 for what is none.

    Where there are few, those of pictures that follow the first may be among them.
    """
    if not content.startswith(b"\xff\xd8"):
        return 1
    n_scans, place, n_bands = 0, 2, 0
    is_counted, is_progressive = False, False
    for _ in range(MOST_SEGMENTS):
        # Most follow one another, which is quicker to see than to search for.
        mark, kind = content[place : place + 2] if place + 2 <= len(content) else (0, 0)
        if mark != 0xFF or kind in WITHIN_SCANS:
            segment = SEGMENT.search(content, place)
            if segment is None:
                return n_scans
            place, kind = segment.start(), segment[0][1]
        if kind == END_OF_IMAGE:
            return n_scans
        if kind in FRAMES:
            is_progressive = kind in PROGRESSIVE
            n_bands = int.from_bytes(content[place + 9 : place + 10])
        elif kind == SCAN:
            n_scans += 1
            if not is_progressive and content[place + 4 : place + 5] == bytes(
                [n_bands]
            ):
                return 1  # all that is there is in it
            if not is_counted:  # quicker than to go from one to the next
                n_more = content.count(b"\xff\xda", place + 2)
                if n_more < SCANS_OF_THE_LARGEST:
                    return 1 + n_more
                is_counted = True
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    raise ImageRefusedError(f"It is a JPEG of more than {MOST_SEGMENTS} segments.")


def _check_scans(n_scans: int, image: Image.Image) -> None:
    if n_scans <= SCANS_OF_THE_LARGEST:
        return
    width, height = image.size
    most = SCANS_OF_THE_LARGEST * max_pixels() // max(1, width * height)
    most = min(MOST_SCANS, max(most, SCANS_OF_THE_LARGEST))
    if n_scans > most:
        raise ImageRefusedError(
            f"It is a JPEG of {n_scans} scans, over the limit of {most} for {width} x "
            f"{height} pixels. Save it anew."
        )


def _check_slow(image: Image.Image, n_bytes: int) -> None:
    for decoder, *_ in getattr(image, "tile", ()):
        n_samples = image.size[0] * image.size[1] * len(image.getbands())
        if (
            decoder in SLOW_DECODERS
            and max(n_samples, n_bytes // 2) > MOST_SLOW_SAMPLES
        ):
            raise ImageRefusedError(
                f"It is a {SLOW_DECODERS[decoder]}, which is decoded slowly, of more "
                f"than {MOST_SLOW_SAMPLES} samples. Save it in another format."
            )


def _rgb_of_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise ImageRefusedError(
            "One image has shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)."
            + " Channels come last: use np.moveaxis(image, 0, -1)." * first
        )
    _check_size(array.shape[1], array.shape[0])
    if array.dtype.kind == "f":
        array = _bytes_of_unit(array)
    elif array.dtype.kind in "iub":
        array = bytes_of_whole(array)
    else:
        raise ImageRefusedError("Convert it to uint8 (0..255) or float (0..1).")
    if array.shape[2] == 4:
        image = Image.fromarray(np.ascontiguousarray(array))
        return np.array(_in_tiles(image, _on_white))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


@contextmanager
def _decoded(
    image: Image.Image,
    content: bytes = b"",
    wanted: int | None = None,
    n_scans: int = 1,
) -> Iterator[Image.Image]:
    """Load an image and yield it as RGB, once there is room for it."""
    _check_size(*image.size)
    full = image.size
    if wanted is not None and image.format == "JPEG":
        image.draft(None, (ENOUGH * wanted, ENOUGH * wanted))
    # What Pillow knows of a PNG's orientation before it is loaded is not all.
    turn = None if image.format == "PNG" else _turn(image)
    needed = len(content) + _bytes_needed(image, full, n_scans, turned=turn is not None)
    _check_memory(needed)
    with _ROOM().taken(needed) if needed > SMALL else nullcontext():
        image.load()
        if image.format == "PNG" and (turn := _turn(image)) is not None:
            _check_memory(len(content) + _bytes_needed(image, full, 1, turned=True))
        # Pillow turns these grey values itself, but not those of 16 bits and floats.
        tag, zero = WHITE_IS_ZERO
        is_white_zero = getattr(image, "tag_v2", {}).get(tag) == zero
        upright = image
        if turn is not None and image.format != "TIFF":  # turns itself when loaded
            upright = image.transpose(turn)
        rgb = _rgb(upright, is_white_zero=is_white_zero)
        try:
            yield rgb
        finally:
            # Before there is room for others. The image of a caller stays as it is.
            if needed > LEAST_TRIMMED:
                for made in (rgb, upright, image):
                    if content or made is not image:
                        made.close()
                _give_back()


def _bytes_needed(
    image: Image.Image, full: tuple[int, int], n_scans: int, *, turned: bool
) -> int:
    """Return the most bytes that an image takes while it is loaded and made RGB.

    ``full``: its size before a JPEG is scaled down.
    """
    n_bands, own = len(image.getbands()), _bytes_of(image.mode)
    loading = own + WHILE_DECODING.get(image.format or "", 0) * n_bands
    n_pixels = image.size[0] * image.size[1]
    more = _strip_bytes(image)
    if n_scans > 1 or "progressive" in image.info:
        more += COEFFICIENT * n_bands * full[0] * full[1]
    is_rgb = image.mode == "RGB" and "transparency" not in image.info
    converting = own * (2 if turned else 1) + (0 if is_rgb else 4)
    return int(max(loading * n_pixels + more, converting * n_pixels))


def _bytes_of(mode: str) -> int:
    """Return how many bytes Pillow keeps for a pixel."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _strip_bytes(image: Image.Image) -> int:
    """Return how large the strips or tiles of a TIFF are; libtiff unpacks one."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0
    width, height = image.size
    n_rows = min(_number(tags.get(ROWS_PER_STRIP), height), max(width, height))
    of_strip = max(width, height) * n_rows
    of_tile = _number(tags.get(TILE_WIDTH), 0) * _number(tags.get(TILE_LENGTH), 0)
    bits = tags.get(BITS_PER_SAMPLE, (8,))
    n_bits = sum(bits) if isinstance(bits, tuple) else 8
    return (of_tile or min(of_strip, width * height)) * max(8, n_bits) // 8


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _check_memory(n_bytes: int) -> None:
    if n_bytes > SMALL and n_bytes > max_bytes():
        raise ImageRefusedError(
            f"Decoding it takes {n_bytes / 1e6:.0f} MB, over the limit of "
            f"{max_bytes() / 1e6:.0f} MB. {_RAISE_THE_LIMIT}"
        )


def _give_back() -> None:
    """Return memory that is free to the system, where the C library has to be asked.

    glibc keeps what a thread frees for that thread: eight of them, one after the other,
    would hold eight images. Takes a millisecond.
    """
    with suppress(AttributeError, OSError, TypeError):  # not on macOS, Windows, musl
        ctypes.CDLL(None).malloc_trim(0)


class _Room:
    """Memory for decoding, which threads share."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, n_bytes: int) -> Iterator[None]:
        """Wait until there is room, or nobody else in it; hold it for the block."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._taken or self._taken + n_bytes <= max_bytes()
            )
            self._taken += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= n_bytes
                self._changed.notify_all()


_ROOM = PerProcess(_Room)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how an image has to be turned to stand upright."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # broken EXIF makes no broken pixels
        return None
    return UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _rgb(image: Image.Image, *, is_white_zero: bool) -> Image.Image:
    """Return a loaded image as RGB; transparent pixels become white."""
    if image.mode[0] in "IF":
        return _in_tiles(image, _grey_of_numbers(image, is_white_zero))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _in_tiles(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_tiles(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Return an image as RGB, converted part by part: temporaries stay small."""
    width, height = image.size
    columns = min(width, STRIP)
    rows = max(1, STRIP // columns)
    rgb = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = (left, top, min(left + columns, width), min(top + rows, height))
            rgb.paste(convert(image.crop(box)), box)
    return rgb


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _grey_of_numbers(
    image: Image.Image, is_white_zero: bool
) -> Callable[[Image.Image], Image.Image]:
    """Return what makes 8-bit grey of parts of an image of 16 bits or of floats."""
    transparent = image.info.get("transparency")
    is_16_bit = image.mode not in ("I", "F")
    if not is_16_bit:
        low, high = image.getextrema()
        if image.mode == "F":
            _check_unit(float(low), float(high))  # type: ignore[arg-type]
        else:
            is_16_bit = _check_whole(int(low), int(high))  # type: ignore[arg-type]

    def convert(part: Image.Image) -> Image.Image:
        values = np.asarray(part)
        if part.mode == "F":
            grey = _bytes_of_unit(values)
        else:
            grey = bytes_of_whole(values, is_16_bit=is_16_bit)
        if is_white_zero:
            grey = 255 - grey
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        return Image.fromarray(grey)

    return convert


def _check_size(width: int, height: int) -> None:
    if width * height == 0:
        raise ImageRefusedError("It has no pixels.")
    if width * height > max_pixels():
        raise ImageRefusedError(
            f"It has {width} x {height} pixels, over the limit of {max_pixels()}. "
            f"Make it smaller, or raise the limit with ZEROSHOT_MAX_PIXELS."
        )


def bytes_of_whole(
    values: NDArray[Any], *, is_16_bit: bool = False
) -> NDArray[np.uint8]:
    """Scale whole numbers to 8 bits: 0..255 as they are, 0..65535 down.

    All are of 16 bits where one is above 255, or where the file says so. The values may
    be of several images. A bool is black or white.
    """
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8, copy=False)
    # An array that was broadcast has no more values than it has memory for.
    stored = values[tuple(slice(0, 1 if n == 0 else None) for n in values.strides)]
    if values.dtype == np.bool_:
        scaled = np.where(stored, np.uint8(255), np.uint8(0))
    elif _check_whole(int(stored.min()), int(stored.max())) or is_16_bit:
        scaled = _scaled(stored, lambda part: (part.astype(np.uint32) + 128) // 257)
    else:
        scaled = stored.astype(np.uint8)
    return scaled if values is stored else np.broadcast_to(scaled, values.shape)


def _check_whole(low: int, high: int) -> bool:
    """Tell whether whole numbers are of 16 bits; refuse those of more."""
    if low < 0 or high > 65535:
        raise ImageRefusedError(
            f"Whole numbers: expected 0..255 (8 bits) or 0..65535 (16 bits), got "
            f"{low} to {high}: scale them to uint8."
        )
    return high > 255


def _bytes_of_unit(values: NDArray[Any]) -> NDArray[np.uint8]:
    # The smallest of values with a NaN is NaN.
    _check_unit(float(values.min()), float(values.max()))
    return _scaled(values, lambda part: np.rint(part * 255))


def _check_unit(low: float, high: float) -> None:
    """Refuse floats outside of 0 to 1."""
    if not np.isfinite((low, high)).all():
        raise ImageRefusedError("It holds NaN or infinity.")
    if low < 0 or high > 1:
        found = f"max {high:.4g}" if high > 1 else f"min {low:.4g}"
        raise ImageRefusedError(
            f"Floats: expected 0..1, got {found}: use uint8 for 0..255."
        )


def _scaled(
    values: NDArray[Any], scale: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.uint8]:
    """Return what ``scale`` makes of values, part by part: temporaries stay small."""
    scaled = np.empty(values.shape, np.uint8)
    operands: Any = np.nditer(
        [values, scaled],
        ["external_loop", "buffered", "zerosize_ok"],
        [["readonly"], ["writeonly"]],
        buffersize=STRIP,
    )
    with operands as parts:
        for part, result in parts:
            result[...] = scale(part)
    return scaled
