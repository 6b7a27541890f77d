"""One image, in any form, to RGB; JPEGs at reduced scale where that is as good."""

import os
import threading
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile

from zeroshot.errors import ArtifactError

__all__ = [
    "MAX_PIXELS",
    "ImageRefusedError",
    "decode",
    "decoding_identity",
    "max_pixels",
    "pixel_limit",
]

MAX_PIXELS = 89_478_485
"""Largest image, in pixels, unless the environment variable ``ZEROSHOT_MAX_PIXELS``
says otherwise: Pillow's default limit, a quarter of a GiB as RGB. A small file can
claim to be far larger and fill the memory (a "decompression bomb")."""

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

# A PIL image loads itself on first use, which two threads must not do at once.
_PIL_LOCK = threading.Lock()


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
            f"{named!r}. Correct or unset it; the default is {MAX_PIXELS}."
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


def decoding_identity() -> str:
    """Return what decides, beside an image's file, which pixels are made of it.

    Another version of this module or of Pillow, broken files that Pillow was told to
    accept, formats that a plugin taught it. Features are stored under it, but for
    `pixel_limit`, which each row keeps.
    """
    plugins = sorted(
        f"{name} {factory.__module__}"
        for name, (factory, _) in Image.OPEN.items()
        if not factory.__module__.startswith("PIL.")
    )
    truncated = bool(ImageFile.LOAD_TRUNCATED_IMAGES)
    return f"{PIXELS}, Pillow {PIL.__version__}, truncated {truncated}, {plugins}"


def decode(
    source: object, wanted: int | None = None
) -> Image.Image | NDArray[np.uint8]:
    """Decode one image to RGB; to an array where an array was given.

    ``wanted``: longer side, in pixels, of what the image will be brought to: a JPEG
    that is more than 8 times as large on both sides may be decoded at a reduced scale,
    of which at least 4 times as much is left. Raises ImageRefusedError if it is of a
    form, type, range or size that is not taken; almost any exception, of Pillow, if it
    is broken.
    """
    if isinstance(source, np.ndarray):
        return _rgb_of_array(source)
    if isinstance(source, Image.Image):
        with _PIL_LOCK:
            return _rgb_of_pil(source)
    if not isinstance(source, bytes):
        raise ImageRefusedError("Pass a path, bytes, a PIL image or an array.")
    if not source:
        raise ImageRefusedError("It is empty (0 bytes).")
    max_pixels()  # before Pillow looks at its own limit
    with Image.open(BytesIO(source)) as image:
        return _rgb_of_pil(image, wanted)


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
        return np.array(_rgb_of_pil(Image.fromarray(np.ascontiguousarray(array))))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _rgb_of_pil(image: Image.Image, wanted: int | None = None) -> Image.Image:
    _check_size(*image.size)
    if wanted is not None and image.format == "JPEG":
        image.draft(None, (ENOUGH * wanted, ENOUGH * wanted))
    image.load()
    # Pillow turns these grey values itself, but not those of 16 bits and floats.
    tag, zero = WHITE_IS_ZERO
    is_white_zero = getattr(image, "tag_v2", {}).get(tag) == zero
    image = _upright(image)
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "F":
            grey = _bytes_of_unit(values)
        else:
            grey = bytes_of_whole(values, is_16_bit=image.mode != "I")
        if is_white_zero:
            grey = 255 - grey
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = 255
        image = Image.fromarray(grey)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height == 0:
        raise ImageRefusedError("It has no pixels.")
    if width * height > max_pixels():
        raise ImageRefusedError(
            f"It has {width} x {height} pixels, over the limit of {max_pixels()}. "
            f"Make it smaller, or raise the limit with ZEROSHOT_MAX_PIXELS."
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # broken EXIF makes no broken pixels
        return image
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def bytes_of_whole(
    values: NDArray[Any], *, is_16_bit: bool = False
) -> NDArray[np.uint8]:
    """Scale whole numbers to 8 bits: 0..255 as they are, 0..65535 down.

    All are of 16 bits where one is above 255, or where the file says so. The values may
    be of several images. A bool is black or white.
    """
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageRefusedError(
            f"Whole numbers: expected 0..255 (8 bits) or 0..65535 (16 bits), got "
            f"{low} to {high}: scale them to uint8."
        )
    if high <= 255 and not is_16_bit:
        return values.astype(np.uint8)
    scaled = (values.astype(np.uint32) + 128) // 257
    return scaled.astype(np.uint8)


def _bytes_of_unit(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise ImageRefusedError("It holds NaN or infinity.")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        found = f"max {high:.4g}" if high > 1 else f"min {low:.4g}"
        raise ImageRefusedError(
            f"Floats: expected 0..1, got {found}: use uint8 for 0..255."
        )
    scaled: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return scaled
