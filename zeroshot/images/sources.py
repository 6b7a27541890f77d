"""Every accepted form of image to uint8 RGB; the only place that opens images."""

import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.errors import ArtifactError, InvalidImageError
from zeroshot.escaping import shown
from zeroshot.images import decoding
from zeroshot.images.costs import ImageRefusedError, check_file_size, max_pixels
from zeroshot.images.decoding import bytes_of_whole
from zeroshot.images.files import (
    IMAGE_SUFFIXES,
    PATH_COLUMNS,
    TABLE_SUFFIXES,
    OnError,
    image_files,
    raise_machine_fault,
    read_image_table,
)

__all__ = [
    "Filter",
    "ImageSource",
    "Resize",
    "as_image_list",
    "content_key",
    "fit_image",
    "image_sources",
    "is_feature_matrix",
    "read_fitted",
    "read_image",
]

# Either flag is missing on some systems. Not blocking: a named pipe is no file, and not
# waited for.
READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

PART = 1 << 20  # bytes of an open file, of which nobody knows how much it holds

# Longer images are scaled in the part that is kept alone.
LONGEST = 16  # times the short side

# A last length that rather counts bands (of a satellite) than columns of grey images.
MOST_BANDS = 16

# An open file may be in a list twice, and is wound back before it is read. Many locks:
# files of a network are read side by side.
_STREAM_LOCKS = [threading.Lock() for _ in range(61)]

File: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Resize: TypeAlias = Literal["crop", "squash", "short-side", "short-side-even"]
"""How an image becomes the size that a backbone takes: ``"crop"`` scales it until it
just covers the size and takes the centre, to parts of a pixel; ``"squash"`` scales both
sides and keeps the whole image; ``"short-side"``, for squares, scales the short side to
a whole number of pixels and then takes the centre, its offset rounded down as in
transformers, or, ``"short-side-even"``, half to even as in torchvision."""

Filter: TypeAlias = Literal["bilinear", "bicubic"]

ImageSource: TypeAlias = File | Image.Image | NDArray[Any]
"""One image: the path of a file, a file's bytes, an open file, a PIL image, or an array
(or tensor) of shape (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA: floats 0..1,
bools (black, white), or whole numbers 0..255; 0..65535 where one is above 255."""


def as_image_list(images: object, on_error: OnError = "raise") -> list[ImageSource]:
    """Return the images that any accepted form stands for, without opening them.

    Parameters
    ----------
    images : path, bytes, file, PIL image, array, Series, DataFrame or iterable
        Any form that the docstring of `zeroshot.images` lists.
    on_error : {"raise", "skip", "nan"}, default="raise"
        Whether a folder below that cannot be read is an error or a warning.

    Returns
    -------
    sources : list of ImageSource
        Elements are not looked at yet: `read_image` judges each.

    Raises
    ------
    InvalidImageError
        If the form as a whole is none of these, or is ambiguous.
    ArtifactError
        If a folder holds no image file, or it or a table cannot be read.
    """
    return list(image_sources(images, on_error))


def image_sources(images: object, on_error: OnError = "raise") -> Iterable[ImageSource]:
    """Return the images that any accepted form stands for; a generator stays one.

    Parameters
    ----------
    images : path, bytes, file, PIL image, array, Series, DataFrame or iterable
    on_error : {"raise", "skip", "nan"}, default="raise"
        As for `as_image_list`, and the same errors.

    Returns
    -------
    sources : iterable of ImageSource
        A list but where ``images`` is another iterable, which is returned as it is.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(os.path.expanduser(os.fsdecode(images)))
        if images != "" and os.path.isdir(path):  # Path("") is the current folder
            if files := image_files(path, on_error):
                return list(files)
            raise ArtifactError(
                f"Expected a folder with image files "
                f"({' '.join(sorted(IMAGE_SUFFIXES))}). Got '{path}', which holds "
                f"none. Check the path."
            )
        if path.suffix.lower() in TABLE_SUFFIXES:
            return list(read_image_table(path).images())
        return [images]
    if isinstance(images, bytes | bytearray | memoryview | Image.Image):
        return [images]
    if hasattr(images, "columns") and hasattr(images, "to_numpy"):
        images = _column_of_frame(images)
    if hasattr(images, "to_numpy"):
        images = images.to_numpy()
    if hasattr(images, "__array__"):
        if not isinstance(images, np.ndarray) and getattr(images, "ndim", 0) == 4:
            # Of a tensor or an array on disk, which have no common type.
            shape = images.shape  # type: ignore[attr-defined]
            if shape[-1] in (1, 3, 4):  # may be on disk: image by image
                return images  # type: ignore[return-value]
        return _split_array(_as_array(images, None))
    if hasattr(images, "read") or hasattr(images, "read_bytes"):
        return [images]  # type: ignore[list-item]
    if isinstance(images, Mapping | Set) or not isinstance(images, Iterable):
        raise InvalidImageError(
            f"Expected images: a path, a folder, a CSV, bytes, a PIL image, an array, "
            f"or a list of these. Got {_describe(images)}. Pass a list."
        )
    return images


def is_feature_matrix(X: object) -> bool:
    """Tell a matrix of features from images.

    Parameters
    ----------
    X : object
        Whatever was passed for images.

    Returns
    -------
    is_matrix : bool
        True for numbers in two dimensions: an array, tensor or sparse matrix, or a
        DataFrame whose columns all hold numbers. No batch of images has two.
    """
    if hasattr(X, "dtypes") and hasattr(X, "columns"):
        kinds = [getattr(kind, "kind", "O") for kind in X.dtypes]
        return bool(kinds) and all(kind in "fiub" for kind in kinds)
    if getattr(X, "ndim", None) != 2:
        return False
    if not isinstance(X, np.ndarray) and hasattr(X, "__array__"):
        X = np.asarray(X)
    return getattr(getattr(X, "dtype", None), "kind", "O") in "fiub"


def read_image(
    source: ImageSource, *, index: int | None = None, name: str | None = None
) -> NDArray[np.uint8]:
    """Read one image as 8-bit RGB.

    The EXIF orientation is applied. Transparent pixels are laid on white, because
    cut-out pictures are made for white pages. 16-bit grey values are scaled, not
    clipped. Whole numbers of more bits (mode ``I``, arrays) are 8-bit where none is
    above 255, else 16-bit. Of an animated file the first frame is read; of a PIL image
    the frame it stands at; of an open file all from its start, if it can be wound back.
    Colour profiles are ignored.

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
        `zeroshot.images.costs.max_pixels`, an array of another shape, type or range.
        Carries ``index``.
    ArtifactError
        If the machine is at fault: too many open files, a disk or share that fails. A
        ``MemoryError`` stays one.
    """
    return _open(source, index, name, np.array)


def read_fitted(
    source: ImageSource,
    size: tuple[int, int],
    resize: Resize = "crop",
    filter: Filter = "bilinear",
    *,
    index: int | None = None,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Read one image and bring it to the size that a backbone takes.

    As `read_image` and `fit_image`, with the same errors, and faster. The pixels are
    the same, with one exception: a JPEG, given as a path or bytes, that is 8 times as
    large as ``size`` or more on both sides is decoded at a reduced scale. A pixel
    differs by 0.7 of 255 levels then, on average.

    Parameters
    ----------
    source : ImageSource
        Neither changed nor kept.
    size : tuple of int
        Wanted height and width, in pixels.
    resize, filter : str
        See `fit_image`.
    index, name : optional
        See `read_image`.

    Returns
    -------
    fitted : ndarray of shape (height, width, 3), uint8
    """
    return _open(
        source,
        index,
        name,
        lambda image: fit_image(image, size, resize, filter),
        max(size),
    )


def _open(
    source: ImageSource,
    index: int | None,
    name: str | None,
    finish: Callable[[Image.Image | NDArray[np.uint8]], NDArray[np.uint8]],
    wanted: int | None = None,
) -> NDArray[np.uint8]:
    """Return what ``finish`` makes of an image as RGB."""
    name = name or _describe(source)
    plain = _plain(source, index)
    try:
        return decoding.decode(plain, finish, wanted)
    except ImageRefusedError as error:
        reason = str(error)
    except (ArtifactError, MemoryError):  # no fault of the image
        raise
    # Pillow's readers let many types through: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        if _is_out_of_memory(str(error)):
            raise MemoryError(f"Out of memory when reading {name}.") from error
        raise_machine_fault(name, error)
        reason = f"It is broken or not supported: {error or type(error).__name__}."
    raise InvalidImageError(
        f"Expected a readable image{_at(index)}. Got {name}. {reason}", index
    )


def _is_out_of_memory(message: str) -> bool:
    """Tell whether a decoder of Pillow had no memory; they raise an OSError then."""
    # That of WebP says the same of a broken image.
    if message in ("could not create decoder object", "failed to read next frame"):
        try:
            np.empty(4 * max_pixels(), np.uint8)  # nothing is written to it
        except MemoryError:
            return True
    return "out of memory" in message.lower()


def _at(index: int | None) -> str:
    return "" if index is None else f" at position {index}"


def _plain(source: Any, index: int | None) -> Any:
    """Return a file's bytes, a PIL image or an array; what is neither as it is."""
    if isinstance(source, bytes | Image.Image | np.ndarray):
        return source
    if isinstance(source, str | os.PathLike):
        return _file_bytes(os.fsdecode(source), index)
    if isinstance(source, memoryview) and source.ndim > 1:
        return np.asarray(source)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "read") or hasattr(source, "read_bytes"):
        return _read_stream(source, index)
    return _as_array(source, index) if hasattr(source, "__array__") else source


def _read_stream(stream: Any, index: int | None) -> bytes:
    """Return what an open file holds, or an entry of an archive."""
    try:
        if hasattr(stream, "read"):
            with _STREAM_LOCKS[id(stream) % len(_STREAM_LOCKS)]:
                if hasattr(stream, "seekable") and stream.seekable():
                    stream.seek(0)
                return _all_of(stream)
        content = stream.read_bytes()
        if isinstance(content, bytes | bytearray | memoryview):
            return bytes(content)
        reason = "it gives no bytes"
    except ImageRefusedError as error:
        reason = str(error)
    # It is closed or of text; no such entry; no file, but with a method of that name.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_machine_fault(_describe(stream), error)
        reason = str(error)
    raise InvalidImageError(
        f"Expected an open file{_at(index)} with an image. Got {_describe(stream)}: "
        f"{reason}. Open it with mode 'rb', and leave it open.",
        index,
    )


def _all_of(stream: Any) -> bytes:
    """Return what an open file holds, as far as an image may be that large."""
    parts, n_bytes = [], 0
    while part := stream.read(PART):
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError("it gives no bytes")
        n_bytes += len(part)
        check_file_size(n_bytes)
        parts.append(bytes(part))
    return b"".join(parts)


def _as_array(source: Any, index: int | None) -> NDArray[Any]:
    try:
        return np.asarray(source)
    # What tensors of another device, or without values, raise.
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InvalidImageError(
            f"Expected an array{_at(index)}. Got {type(source).__name__}: {error}. "
            f"Convert it with NumPy.",
            index,
        ) from error


def _file_bytes(name: str, index: int | None) -> bytes:
    try:
        # Half the system calls of `open` and `read`: what small files cost.
        place = os.path.expanduser(name) if name.startswith("~") else name
        file = os.open(place, READ_ONLY)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode):
                check_file_size(status.st_size)
                content = os.read(file, status.st_size + 1)
                if len(content) == status.st_size:
                    return content
                with open(place, "rb") as changing:  # or without a size, or 2 GB
                    return _all_of(changing)
        finally:
            os.close(file)
        reason = "a folder" if stat.S_ISDIR(status.st_mode) else "not a file"
    # ValueError: a null byte in the name
    except (FileNotFoundError, NotADirectoryError, ValueError):
        reason = "no such file"
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]{1,20}:/", name):
            reason = "a URL, and nothing is downloaded. Save the image first"
    except ImageRefusedError as error:
        reason = str(error)
    except OSError as error:
        raise_machine_fault(f"'{name}'", error)
        reason = error.strerror or str(error)
    raise InvalidImageError(
        f"Expected an image file{_at(index)}. Got '{name}': {reason}. Check the path.",
        index,
    )


def image_content(
    source: ImageSource, *, index: int | None = None
) -> bytes | NDArray[np.uint8]:
    """Return what tells an image from others: a file's bytes, or its pixels."""
    plain = _plain(source, index)
    return plain if isinstance(plain, bytes) else read_image(plain, index=index)


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
    content = image_content(source, index=index)
    if isinstance(content, bytes):
        return sha256(content).digest()
    digest = sha256(f"pixels {content.shape}".encode())
    digest.update(content.data)
    return digest.digest()


def fit_image(
    image: NDArray[np.uint8] | Image.Image,
    size: tuple[int, int],
    resize: Resize = "crop",
    filter: Filter = "bilinear",
) -> NDArray[np.uint8]:
    """Bring an image to the size that a backbone takes.

    Pillow's filters are used. They average over all pixels that a new one covers
    (antialiasing), as most networks' evaluation code does; plain bilinear sampling
    skips pixels of a large photograph.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8, or PIL image of mode RGB
    size : tuple of int
        Wanted height and width, in pixels.
    resize : {"crop", "squash", "short-side", "short-side-even"}, default="crop"
        See `Resize`.
    filter : {"bilinear", "bicubic"}, default="bilinear"

    Returns
    -------
    fitted : ndarray of shape (height, width, 3), uint8
    """
    height, width = size
    if isinstance(image, np.ndarray):
        if image.shape[:2] == (height, width):
            return np.ascontiguousarray(image)
        image = Image.fromarray(image)
    old_width, old_height = image.size
    kind = Image.Resampling[filter.upper()]
    is_strip = max(image.size) > LONGEST * min(image.size)
    if resize.startswith("short-side") and not is_strip:
        return _short_side(image, size, kind, round_down=resize == "short-side")
    box = (0.0, 0.0, float(old_width), float(old_height))
    if resize != "squash":
        # Crop and scale in one step: a 10000 x 1 strip never becomes a huge image.
        scale = max(height / old_height, width / old_width)
        # A quotient a rounding error too large would stick out of the image.
        kept_width = min(width / scale, old_width)
        kept_height = min(height / scale, old_height)
        left, top = (old_width - kept_width) / 2, (old_height - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
    return np.asarray(image.resize((width, height), kind, box=box))


def _short_side(
    image: Image.Image,
    size: tuple[int, int],
    kind: Image.Resampling,
    *,
    round_down: bool,
) -> NDArray[np.uint8]:
    """Scale and then crop, in two steps: in one, a pixel of 10,000 differs by 1."""
    height, width = size
    # The quotient is cut off, not rounded, in torchvision and in transformers.
    scaled = [int(max(size) * side / min(image.size)) for side in image.size]
    whole = image.resize((scaled[0], scaled[1]), kind)
    left, top = (
        (side - kept) // 2 if round_down else round((side - kept) / 2)
        for side, kept in zip(scaled, (width, height), strict=True)
    )
    return np.asarray(whole.crop((left, top, left + width, top + height)))


def _column_of_frame(frame: Any) -> Any:
    columns = list(frame.columns)
    named = [c for c in columns if c in PATH_COLUMNS] or columns
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
    shape, ndim = array.shape, array.ndim
    try:  # 8 or 16 bits is a question to the whole batch: one image may be dark
        array = bytes_of_whole(array) if array.dtype.kind in "iu" else array
    except ImageRefusedError as error:
        raise InvalidImageError(
            f"Expected images. Got {_describe(array)}. {error}"
        ) from error
    advice = "Pass a list of images."
    if ndim == 4 and shape[-1] in (1, 3, 4):
        return list(array)
    if ndim == 3 and shape[-1] in (1, 3, 4):
        if shape[1] > 4:
            return [array]
        advice = f"It could be either. {advice}"
    elif ndim == 3 and shape[0] in (3, 4):
        advice = (
            f"It could be one image with channels first, or {shape[0]} grey images. "
            f"Use np.moveaxis(image, 0, -1), or pass a list of images."
        )
    elif ndim == 3 and not shape[-1] <= min(MOST_BANDS, shape[1] - 1):
        return list(array)
    elif ndim == 2:
        advice = "Pass [array] for one grey image; features need backbone=None."
    elif ndim == 4 and shape[1] in (1, 3, 4):
        advice = "Channels come last: use np.moveaxis(images, 1, -1)."
    raise InvalidImageError(
        f"Expected images of shape (n, h, w), (n, h, w, 1), (n, h, w, 3) or "
        f"(n, h, w, 4). Got shape {shape}. {advice}"
    )


def _describe(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, str | os.PathLike):
        return f"'{os.fsdecode(value)}'"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes starting {value[:8]!r}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode '{value.mode}' and size {value.size}"
    return f"{shown(value, 80)} of type '{kind}'"
