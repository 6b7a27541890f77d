"""Every accepted form of image to uint8 RGB; the only place that opens images."""

import os
import stat
from collections.abc import Iterable, Mapping, Set
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zeroshot.errors import ArtifactError, InvalidImageError
from zeroshot.images.decoding import ImageRefusedError, decode
from zeroshot.images.files import IMAGE_SUFFIXES, image_files, read_table

__all__ = [
    "ImageSource",
    "as_image_list",
    "content_key",
    "fit_image",
    "image_sources",
    "read_bytes",
    "read_fitted",
    "read_image",
]

# Either flag is missing on some systems. Not blocking: a named pipe is no file, and not
# waited for.
READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""One image: the path of a file, a file's bytes, a PIL image, or an array of shape
(h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA, uint8 or float in 0..1."""


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
    return list(image_sources(images))


def image_sources(images: object) -> Iterable[ImageSource]:
    """Return the images that any accepted form stands for; a generator stays one.

    Parameters
    ----------
    images : path, bytes, PIL image, array, Series, DataFrame or iterable
        As for `as_image_list`.

    Returns
    -------
    sources : iterable of ImageSource
        A list but where ``images`` is another iterable, which is returned as it is.

    Raises
    ------
    InvalidImageError, ArtifactError
        As `as_image_list`.
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
    return images


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
        `zeroshot.images.decoding.max_pixels`, an array of another shape, type or range.
        Carries ``index``.
    """
    return np.array(_open(source, index, name))


def read_fitted(
    source: ImageSource,
    size: tuple[int, int],
    resize: Literal["crop", "squash"] = "crop",
    *,
    index: int | None = None,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Read one image and bring it to the size that a backbone takes.

    As `read_image` and `fit_image`, and faster. The pixels are the same, with one
    exception: a JPEG, given as a path or bytes, that is 8 times as large as ``size`` or
    more on both sides is decoded at a reduced scale. A pixel differs by 0.7 of 255
    levels then, on average.

    Parameters
    ----------
    source : ImageSource
        Neither changed nor kept.
    size : tuple of int
        Wanted height and width, in pixels.
    resize : {"crop", "squash"}, default="crop"
        See `fit_image`.
    index, name : optional
        See `read_image`.

    Returns
    -------
    fitted : ndarray of shape (height, width, 3), uint8

    Raises
    ------
    InvalidImageError
        As `read_image`.
    """
    return _fit(_open(source, index, name, max(size)), size, resize)


def _open(
    source: ImageSource, index: int | None, name: str | None, wanted: int | None = None
) -> Image.Image | NDArray[np.uint8]:
    if name is None:
        name = f"'{source}'" if isinstance(source, str | Path) else _describe(source)
    if isinstance(source, str | Path):
        source = read_bytes(source, index=index)
    try:
        return decode(source, wanted)
    except ImageRefusedError as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = "Its content is no image format that Pillow knows."
    except ArtifactError:  # the limit itself is wrong, and no image
        raise
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
    try:
        # Half the system calls of `open` and `read`: what small files cost.
        file = os.open(source, READ_ONLY)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode):
                content = os.read(file, status.st_size + 1)
                if len(content) == status.st_size:
                    return content
                return Path(source).read_bytes()  # it changes, has no size, or 2 GB
        finally:
            os.close(file)
        reason = "a folder" if stat.S_ISDIR(status.st_mode) else "not a file"
    # ValueError: a null byte in the name
    except (FileNotFoundError, NotADirectoryError, ValueError):
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
    return _fit(image, size, resize)


def _fit(
    image: Image.Image | NDArray[np.uint8],
    size: tuple[int, int],
    resize: Literal["crop", "squash"],
) -> NDArray[np.uint8]:
    height, width = size
    if isinstance(image, np.ndarray):
        if image.shape[:2] == (height, width):
            return np.ascontiguousarray(image)
        image = Image.fromarray(image)
    old_width, old_height = image.size
    box = (0.0, 0.0, float(old_width), float(old_height))
    if resize == "crop":
        # Crop and scale in one step: a 10000 x 1 strip never becomes a huge image.
        scale = max(height / old_height, width / old_width)
        # A quotient a rounding error too large would stick out of the image.
        kept_width = min(width / scale, old_width)
        kept_height = min(height / scale, old_height)
        left, top = (old_width - kept_width) / 2, (old_height - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _files_of_folder(folder: Path) -> list[str]:
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


def _describe(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes starting {value[:8]!r}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode '{value.mode}' and size {value.size}"
    return f"{value!r:.80} of type '{kind}'"
