"""Every accepted form of image to uint8 RGB; the only place that opens images."""

import os
import threading
from collections.abc import Iterable, Mapping, Set
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from zeroshot.errors import ArtifactError, InvalidImageError
from zeroshot.image_files import IMAGE_SUFFIXES, image_files, read_table

__all__ = [
    "MAX_PIXELS",
    "ImageSource",
    "as_image_list",
    "content_key",
    "fit_image",
    "read_bytes",
    "read_image",
]

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""One image: the path of a file, a file's bytes, a PIL image, or an array of shape
(h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA, uint8 or float in 0..1."""

MAX_PIXELS = 89_478_485
"""Largest image, in pixels: Pillow's default limit, a quarter of a GiB as RGB. A small
file can claim to be far larger and fill the memory (a "decompression bomb")."""

# A PIL image loads itself on first use, which two threads must not do at once.
_PIL_LOCK = threading.Lock()


def as_image_list(images: object) -> list[ImageSource]:
    """Return the images that any accepted form stands for, without opening them.

    Parameters
    ----------
    images : path, bytes, PIL image, array, Series, DataFrame or iterable
        - The path of an image file: that image. Of a folder: all image files below it,
          sorted. Of a ``.csv``: its ``path`` column, else its first column; relative
          paths are relative to the file. A first row whose first cell does not end
          like an image file is the header.
        - A file's bytes or a PIL image: that image.
        - An array of shape (n, h, w, 1 | 3 | 4): n images.
        - An array of shape (h, w, 1 | 3 | 4): one image. Any other (n, h, w): n grey
          images. Where h and the last length are both at most 4 it could be
          either, and is refused.
        - An array of objects or strings, a pandas Series, a DataFrame with a ``path``
          or ``image`` column (or one column only), or any iterable of images.

    Returns
    -------
    sources : list of ImageSource
        Elements are not looked at yet: `read_image` judges each.

    Raises
    ------
    InvalidImageError
        If the form as a whole is none of these, or is ambiguous.
    ArtifactError
        If a folder holds no image file or a CSV cannot be read.
    """
    if isinstance(images, str | Path):
        path = Path(images)
        if images != "" and os.path.isdir(path):  # Path("") is the current folder
            return list(_files_of_folder(path))
        if path.suffix.lower() == ".csv":
            return list(_paths_of_csv(path))
        return [images]
    if isinstance(images, bytes | Image.Image):
        return [images]
    if hasattr(images, "columns") and hasattr(images, "to_numpy"):
        images = _column_of_frame(images)
    if hasattr(images, "to_numpy"):
        images = images.to_numpy()
    if isinstance(images, np.ndarray):
        return _split_array(images)
    if isinstance(images, Mapping | Set) or not isinstance(images, Iterable):
        raise InvalidImageError(
            f"Expected images: a path, a folder, a CSV, bytes, a PIL image, an array, "
            f"or a list of these. Got {_describe(images)}. Pass a list."
        )
    return list(images)


def read_image(
    source: ImageSource, *, index: int | None = None, name: str | None = None
) -> NDArray[np.uint8]:
    """Read one image as 8-bit RGB.

    The EXIF orientation is applied. Transparent pixels are laid on white, because
    cut-out pictures are made for white pages. 16-bit grey values are scaled, not
    clipped; 32-bit integer images (mode ``I``) are taken as 16-bit grey, which is how
    older versions of Pillow open those. Of an animated file the first frame is read;
    of a PIL image the frame it stands at. Colour profiles are ignored.

    Parameters
    ----------
    source : ImageSource
        Neither changed nor kept.
    index : int, optional
        Position of the image in the input, for the error.
    name : str, optional
        What to call the image in the error, such as the path the bytes came from.

    Returns
    -------
    image : ndarray of shape (height, width, 3), uint8
        RGB, 0 to 255, C-contiguous.

    Raises
    ------
    InvalidImageError
        Whatever is wrong with it: missing, empty, truncated, not an image, over
        `MAX_PIXELS`, an array of another shape, type or range. Carries ``index``.
    """
    if name is None:
        name = f"'{source}'" if isinstance(source, str | Path) else _describe(source)
    if isinstance(source, str | Path):
        source = read_bytes(source, index=index)
    try:
        return _decode(source)
    except _Refused as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = "Its content is no image format that Pillow knows."
    # Pillow's readers let many types through: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        reason = f"It is broken or not supported: {error or type(error).__name__}."
    where = "" if index is None else f" at position {index}"
    raise InvalidImageError(
        f"Expected a readable image{where}. Got {name}. {reason}", index
    )


def read_bytes(source: str | Path, *, index: int | None = None) -> bytes:
    """Return the content of an image file.

    Parameters
    ----------
    source : str or Path
        The file.
    index : int, optional
        Position of the image in the input, for the error.

    Returns
    -------
    content : bytes

    Raises
    ------
    InvalidImageError
        If there is no such file, or it may not be read; names it. Carries ``index``.
    """
    path = Path(source)
    try:
        if path.is_file():
            return path.read_bytes()
        reason = "a folder" if path.is_dir() else "not a file"
        if not path.exists():
            reason = "no such file"
    except OSError as error:
        reason = error.strerror or str(error)
    where = "" if index is None else f" at position {index}"
    raise InvalidImageError(
        f"Expected an image file{where}. Got '{source}': {reason}. Check the path.",
        index,
    )


def content_key(source: ImageSource, *, index: int | None = None) -> bytes:
    """Return a digest of an image's content, equal wherever the content is.

    Parameters
    ----------
    source : ImageSource
        For a path, or the bytes of a file: the digest of those bytes. For a PIL image
        or an array: of the pixels as `read_image` gives them.
    index : int, optional
        Position of the image in the input, for the error.

    Returns
    -------
    key : bytes of length 32
        SHA-256.

    Raises
    ------
    InvalidImageError
        If it cannot be read. Bytes are not decoded.
    """
    if isinstance(source, str | Path):
        source = read_bytes(source, index=index)
    if isinstance(source, bytes):
        return sha256(source).digest()
    image = read_image(source, index=index)
    digest = sha256(f"pixels {image.shape}".encode())
    digest.update(image.data)
    return digest.digest()


def fit_image(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    resize: Literal["crop", "squash"] = "crop",
) -> NDArray[np.uint8]:
    """Bring an image to the size that a backbone takes.

    Pillow's bilinear filter is used. It averages over all pixels that a new one covers
    (antialiasing), as most networks' evaluation code does; plain bilinear sampling
    skips pixels of a large photograph.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8
        RGB.
    size : tuple of int
        Wanted height and width, in pixels.
    resize : {"crop", "squash"}, default="crop"
        ``"crop"`` scales the image until it just covers ``size`` and takes the centre.
        ``"squash"`` scales both sides and keeps the whole image.

    Returns
    -------
    fitted : ndarray of shape (height, width, 3), uint8
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    old_height, old_width = image.shape[:2]
    box = (0.0, 0.0, float(old_width), float(old_height))
    if resize == "crop":
        # Crop and scale in one step: a 10000 x 1 strip never becomes a huge image.
        scale = max(height / old_height, width / old_width)
        # A quotient a rounding error too large would stick out of the image.
        kept_width = min(width / scale, old_width)
        kept_height = min(height / scale, old_height)
        left, top = (old_width - kept_width) / 2, (old_height - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
    fitted = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BILINEAR, box=box
    )
    return np.asarray(fitted)


class _Refused(Exception):
    """Carries the reason why one image is refused."""


def _files_of_folder(folder: Path) -> list[Path]:
    files = image_files(folder)
    if not files:
        raise ArtifactError(
            f"Expected a folder with image files ({' '.join(sorted(IMAGE_SUFFIXES))}). "
            f"Got '{folder}', which holds none. Check the path."
        )
    return files


def _paths_of_csv(path: Path) -> list[Path]:
    rows = [row for _, row in read_table(path)]
    column = 0
    if Path(rows[0][0]).suffix.lower() not in IMAGE_SUFFIXES:
        header = [cell.lower() for cell in rows.pop(0)]
        column = header.index("path") if "path" in header else 0
    # A row too short gives the folder itself, which `read_image` refuses.
    cells = (row[column] if len(row) > column else "" for row in rows)
    return [path.parent / cell for cell in cells]


def _column_of_frame(frame: Any) -> Any:
    columns = list(frame.columns)
    named = [c for c in columns if c in ("path", "image")] or columns
    if len(named) != 1:
        raise InvalidImageError(
            f"Expected a DataFrame with one column 'path' or 'image'. Got the columns "
            f"{', '.join(map(repr, columns)) or 'none'}. Pass the column itself."
        )
    return frame[named[0]]


def _split_array(array: NDArray[Any]) -> list[ImageSource]:
    if array.dtype.kind in "OU":
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            return list(array.ravel())
        raise InvalidImageError(
            f"Expected an array of objects with one dimension. Got shape "
            f"{array.shape}. Pass a list of images."
        )
    if array.ndim == 4 and array.shape[-1] in (1, 3, 4):
        return list(array)
    if array.ndim == 3:
        if array.shape[-1] not in (1, 3, 4):
            return list(array)
        if array.shape[1] > 4:
            return [array]
        raise InvalidImageError(
            f"Expected one image or a batch. Got an array of shape {array.shape}, "
            f"which could be either. Pass a list of images."
        )
    advice = "Pass a list of images."
    if array.ndim == 2:
        advice = "Pass [array] for one grey image; features need backbone=None."
    elif array.ndim == 4 and array.shape[1] in (1, 3):
        advice = "Channels come last: use np.moveaxis(images, 1, -1)."
    raise InvalidImageError(
        f"Expected images of shape (n, h, w), (n, h, w, 1), (n, h, w, 3) or "
        f"(n, h, w, 4). Got shape {array.shape}. {advice}"
    )


def _decode(source: object) -> NDArray[np.uint8]:
    if isinstance(source, np.ndarray):
        return _rgb_of_array(source)
    if isinstance(source, Image.Image):
        with _PIL_LOCK:
            return _rgb_of_pil(source)
    if not isinstance(source, bytes):
        raise _Refused("Pass a path, bytes, a PIL image or an array.")
    if not source:
        raise _Refused("It is empty (0 bytes).")
    with Image.open(BytesIO(source)) as image:
        return _rgb_of_pil(image)


def _rgb_of_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise _Refused("One image has shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).")
    if array.size == 0:
        raise _Refused("It has no pixels.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise _Refused(f"It has more than {MAX_PIXELS} pixels.")
    if array.dtype.kind == "f":
        array = _bytes_of_unit(array)
    elif array.dtype != np.uint8:
        raise _Refused("Convert it to uint8 (0..255) or float (0..1).")
    if array.shape[2] == 4:
        return _rgb_of_pil(Image.fromarray(np.ascontiguousarray(array)))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _rgb_of_pil(image: Image.Image) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height == 0:
        raise _Refused("It has no pixels.")
    if width * height > MAX_PIXELS:
        raise _Refused(
            f"It has {width} x {height} pixels, over the limit of {MAX_PIXELS}. "
            f"Make it smaller."
        )
    image.load()
    image = _upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise _Refused(
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
    return np.array(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF makes no broken pixels
        return image


def _bytes_of_unit(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise _Refused("It holds NaN or infinity.")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        found = f"max {high:.4g}" if high > 1 else f"min {low:.4g}"
        raise _Refused(f"Floats: expected 0..1, got {found}: use uint8 for 0..255.")
    scaled: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return scaled


def _describe(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes starting {value[:8]!r}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode '{value.mode}' and size {value.size}"
    return f"{value!r:.80} of type '{kind}'"
