"""Arrays of numbers and cells of text from a MATLAB 5 to 7 file.

SciPy's reader is not used because damaged files crash the interpreter in it (1.17.1: a
segmentation fault for 5 of 400 small files with one changed byte).

An element is a tag of two uint32, type and length, and that many bytes, padded to 8; up
to four bytes follow a short tag of two uint16. A matrix is an element whose content are
elements: flags, dimensions, name, then numbers, text, or one matrix for each cell.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError

__all__ = ["read_matlab"]

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, TEXT, NUMBERS = 1, 4, range(6, 16)  # classes of arrays
LARGEST = 1 << 28  # bytes unpacked from one compressed variable, unless more is asked
NUMBER_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}


def read_matlab(
    path: Path, names: Collection[str], *, largest: int = LARGEST
) -> dict[str, NDArray[Any]]:
    """Read variables by name; others are passed over.

    Parameters
    ----------
    path : Path
        MATLAB 5 to 7, compressed or not.
    names : collection of str
    largest : int, default=2**28
        Bytes that a compressed variable may unpack to; a small file can hold zeros
        without end.

    Returns
    -------
    variables : dict of str to ndarray
        Numbers as a matrix in MATLAB's shape; a cell array as a 1-D array of objects,
        column by column, where text is str. Those that the file lacks are left out.

    Raises
    ------
    ArtifactError
        If the file is of another version or damaged.

    References
    ----------
    .. [1] MathWorks, "MAT-File Format", Level 5.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or not content.startswith(b"MATLAB 5"):
        raise ArtifactError(
            f"Expected a MATLAB file of version 5 to 7. Got '{path}', which begins "
            f"with {content[:20]!r}. Save it in MATLAB with the option '-v7'."
        )
    found = {}
    try:
        for kind, element in _elements(memoryview(content)[HEADER:], order):
            if kind == COMPRESSED:
                unpacked = zlib.decompressobj().decompress(element, largest)
                kind, element = next(_elements(memoryview(unpacked), order))
            if kind == MATRIX:
                name, value = _matrix(element, order, names)
                if value is not None:
                    found[name] = value
    except (
        struct.error,
        zlib.error,
        KeyError,
        StopIteration,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise ArtifactError(
            f"Expected a whole MATLAB file. Got '{path}', which ends early or is "
            f"damaged ({type(error).__name__}: {error}). Fetch it again."
        ) from error
    return found


# Memoryviews, not bytes: features are half a gigabyte, and slices of bytes are copies.
def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + 8 <= len(content):
        kind, length = struct.unpack_from(order + "2I", content, at)
        start = at + 8
        if kind >> 16:  # a short element: the length is in the upper half of the type
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            padding = 0 if kind == COMPRESSED else -length % 8
            at = start + length + padding
        if start + length > len(content) or (start == at - 4 and length > 4):
            raise ValueError(f"an element of {length} bytes does not fit")
        yield kind, content[start : start + length]


def _matrix(
    element: memoryview, order: str, names: Collection[str] | None
) -> tuple[str, Any]:
    """Return name and value of a matrix; no value if it is none of ``names``."""
    parts = _elements(element, order)
    (_, flags), (_, sizes), (_, encoded) = next(parts), next(parts), next(parts)
    name = bytes(encoded).decode("latin-1")
    if names is not None and name not in names:
        return name, None
    (kind,) = struct.unpack_from(order + "I", flags)
    kind &= 0xFF
    shape = [int(size) for size in np.frombuffer(sizes, order + "i4")]
    if any(size < 0 for size in shape):
        raise ValueError(f"the shape {shape}")
    if kind == CELL:
        values = [_matrix(cell, order, None)[1] for _, cell in parts]
        if len(values) != math.prod(shape):
            raise ValueError(f"{len(values)} cells for the shape {shape}")
        cells = np.empty(len(values), dtype=object)
        cells[:] = values
        return name, cells
    stored, numbers = next(parts)
    if kind == TEXT:
        encoding = ENCODINGS[stored]
        if encoding == "utf-16":
            encoding += "-le" if order == "<" else "-be"
        return name, bytes(numbers).decode(encoding)
    if kind not in NUMBERS:
        raise ValueError(f"'{name}' is no array of numbers, text or cells")
    flat = np.frombuffer(numbers, order + NUMBER_TYPES[stored])
    return name, flat.reshape(shape, order="F")
