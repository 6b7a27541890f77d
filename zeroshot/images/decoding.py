"""One image, in any form, to RGB; JPEGs at reduced scale where that is as good."""

import os
import threading
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

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

PIXELS = "2"  # changes whenever this module makes other pixels of the same file

# libjpeg decodes at 1/2, 1/4 or 1/8 in a fraction of the time. What it gives is not
# what averaging all pixels gives, and the difference shrinks with what is left to
# average: with 4 times the wanted size, a pixel differs by 0.7 of 255 levels (mean of
# 1000 photographs), with 2 times by 1.4, with once by 4.6 (benchmarks/features.py). A
# photograph of 12 megapixels is read for 224 x 224 in 0.4 of the time.
ENOUGH = 4

ORIENTATION = 0x0112  # EXIF 2.32

# A PIL image loads itself on first use, which two threads must not do at once.
_PIL_LOCK = threading.Lock()


class ImageRefusedError(Exception):
    """Carries the reason why one image is refused."""


def max_pixels() -> int:
    """Return how many pixels an image may have.

    A limit above Pillow's own raises that too, for the whole process.

    Returns
    -------
    limit : int
        ``ZEROSHOT_MAX_PIXELS`` where that is set, else `MAX_PIXELS`.

    Raises
    ------
    ArtifactError
        If the variable is no positive whole number.
    """
    named = os.environ.get("ZEROSHOT_MAX_PIXELS")
    if not named:
        return MAX_PIXELS
    try:
        limit = int(named.replace("_", ""))
    except ValueError:
        limit = 0
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

    Returns
    -------
    limit : int
        `max_pixels`, or less where Pillow's own limit was lowered: it refuses images of
        more than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    limit = min(max_pixels(), 1 << 62)
    own = Image.MAX_IMAGE_PIXELS
    return limit if own is None else min(limit, 2 * int(own))


def decoding_identity() -> str:
    """Return what decides, beside an image's file, which pixels are made of it.

    Returns
    -------
    identity : str
        Changes whenever they may: another version of this module or of Pillow, broken
        files that Pillow was told to accept, formats that a plugin taught it. Features
        are stored under it, but for `pixel_limit`, which each row keeps.
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
    """Decode one image.

    Parameters
    ----------
    source : bytes, PIL image or ndarray
        Neither changed nor kept.
    wanted : int, optional
        Longer side, in pixels, of what the image will be brought to: a JPEG that is
        more than 8 times as large on both sides may be decoded at a reduced scale, of
        which at least 4 times as much is left.

    Returns
    -------
    image : PIL image of mode RGB, or ndarray of shape (height, width, 3), uint8
        An array where an array was given.

    Raises
    ------
    ImageRefusedError
        If it is of a form, type, range or size that is not taken.
    Exception
        Of almost any kind, of Pillow, if it is broken.
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
        raise ImageRefusedError(
            "One image has shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)."
        )
    if array.size == 0:
        raise ImageRefusedError("It has no pixels.")
    if array.shape[0] * array.shape[1] > max_pixels():
        raise ImageRefusedError(f"It has more than {max_pixels()} pixels.")
    if array.dtype.kind == "f":
        array = _bytes_of_unit(array)
    elif array.dtype != np.uint8:
        raise ImageRefusedError("Convert it to uint8 (0..255) or float (0..1).")
    if array.shape[2] == 4:
        return np.array(_rgb_of_pil(Image.fromarray(np.ascontiguousarray(array))))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _rgb_of_pil(image: Image.Image, wanted: int | None = None) -> Image.Image:
    width, height = image.size
    if width * height == 0:
        raise ImageRefusedError("It has no pixels.")
    if width * height > max_pixels():
        raise ImageRefusedError(
            f"It has {width} x {height} pixels, over the limit of {max_pixels()}. "
            f"Make it smaller, or raise the limit with ZEROSHOT_MAX_PIXELS."
        )
    if wanted is not None and image.format == "JPEG":
        image.draft(None, (ENOUGH * wanted, ENOUGH * wanted))
    image.load()
    image = _upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageRefusedError(
                f"Expected grey values 0..65535 in mode '{image.mode}', got "
                f"{values.min()} to {values.max()}."
            )
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(_bytes_of_unit(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        # `exif_transpose` copies an image that is upright already.
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF makes no broken pixels
        return image


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
