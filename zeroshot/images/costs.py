"""What decoding an image may cost: pixels, bytes, scans; judged before it is decoded.

A file of some kilobytes can ask for gigabytes or minutes. What it would take is told by
its header, compared with limits, and counted with what other threads decode meanwhile.
"""

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import Image

from zeroshot.errors import ArtifactError
from zeroshot.per_process import PerProcess

__all__ = [
    "LEAST_TRIMMED",
    "MAX_PIXELS",
    "ROOM",
    "SMALL",
    "ImageRefusedError",
    "bytes_needed",
    "check_file_size",
    "check_memory",
    "check_ppm",
    "check_scans",
    "check_size",
    "check_slow",
    "count_scans",
    "give_back",
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

SMALL = 16 << 20  # bytes for which no thread has to wait: 4 megapixels
LEAST_TRIMMED = 64 << 20  # bytes


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


def check_ppm(content: bytes) -> None:
    """Refuse a PPM over whose header or comments Pillow would spend minutes."""
    if content[:1] != b"P":
        return
    if len(content) > PPM_HEADER:
        head = re.sub(rb"#[^\r\n]*", b"", content[:PPM_HEADER])
        if len(head.split(None, 3)) < 4:
            raise ImageRefusedError(f"It has no PPM header in {PPM_HEADER} bytes.")
    if content[1:2] in (b"1", b"2", b"3") and content.count(b"#") > PPM_COMMENTS:
        raise ImageRefusedError(f"It is a PPM with over {PPM_COMMENTS} comments.")


def count_scans(content: bytes) -> int:
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


def check_scans(n_scans: int, image: Image.Image) -> None:
    """Refuse a JPEG of more scans than any encoder makes of an image of its size."""
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


def check_slow(image: Image.Image, n_bytes: int) -> None:
    """Refuse what a decoder of Pillow in Python would take more than seconds for."""
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


def bytes_needed(
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


def check_memory(n_bytes: int) -> None:
    """Refuse an image whose decoding takes more than all may take together."""
    if n_bytes > SMALL and n_bytes > max_bytes():
        raise ImageRefusedError(
            f"Decoding it takes {n_bytes / 1e6:.0f} MB, over the limit of "
            f"{max_bytes() / 1e6:.0f} MB. {_RAISE_THE_LIMIT}"
        )


def give_back() -> None:
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


ROOM = PerProcess(_Room)


def check_size(width: int, height: int) -> None:
    """Refuse an image without pixels, or of too many."""
    if width * height == 0:
        raise ImageRefusedError("It has no pixels.")
    if width * height > max_pixels():
        raise ImageRefusedError(
            f"It has {width} x {height} pixels, over the limit of {max_pixels()}. "
            f"Make it smaller, or raise the limit with ZEROSHOT_MAX_PIXELS."
        )
