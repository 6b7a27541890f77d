"""One image, in any form, to RGB; JPEGs at reduced scale where that is as good."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile

from zeroshot.images.costs import (
    LEAST_TRIMMED,
    ROOM,
    SMALL,
    ImageRefusedError,
    bytes_needed,
    check_file_size,
    check_memory,
    check_ppm,
    check_scans,
    check_size,
    check_slow,
    count_scans,
    give_back,
    max_pixels,
)
from zeroshot.images.files import FORMATS
from zeroshot.per_process import PerProcess

__all__ = ["decode", "decoding_identity"]


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
STRIP = 1 << 18  # pixels that are converted at a time

# A PIL image loads itself on first use, which two threads must not do at once.
_PIL_LOCK = PerProcess(threading.Lock)

Image.init()  # once, before threads go through its formats
OWN_FORMATS = tuple(name for name in FORMATS if name in Image.OPEN)
"""Those of `FORMATS` that this Pillow was built with."""


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
    check_ppm(source)
    n_scans = count_scans(source)
    with _open(source) as image:
        check_scans(n_scans, image)
        check_slow(image, len(source))
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


def _check_format(image: Image.Image) -> None:
    """Refuse an image that a file of another format would yet be read for."""
    if image.format not in (None, "MPO", *OWN_FORMATS, *_plugins()):  # MPO: a JPEG
        raise ImageRefusedError(
            f"It comes from a file of the format {image.format}, which is not taken. "
            f"Pass image.copy() if you trust that file."
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
    check_size(array.shape[1], array.shape[0])
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
    check_size(*image.size)
    full = image.size
    if wanted is not None and image.format == "JPEG":
        image.draft(None, (ENOUGH * wanted, ENOUGH * wanted))
    # What Pillow knows of a PNG's orientation before it is loaded is not all.
    turn = None if image.format == "PNG" else _turn(image)
    needed = len(content) + bytes_needed(image, full, n_scans, turned=turn is not None)
    check_memory(needed)
    with ROOM().taken(needed) if needed > SMALL else nullcontext():
        image.load()
        if image.format == "PNG" and (turn := _turn(image)) is not None:
            check_memory(len(content) + bytes_needed(image, full, 1, turned=True))
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
                give_back()


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
