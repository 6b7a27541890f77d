"""One file of stored features: a header, keys, rows; written once, whole.

::

    8 bytes   "ZSfeat1" and a line feed
    4 bytes   number of rows n, little endian as all that follows
    4 bytes   length of a row, dim
    4 bytes   CRC-32 of keys and rows
    n x 32    keys: SHA-256 of the images' contents
    n x dim   rows, float32
"""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.storage.cache import replace_file

__all__ = [
    "BACKBONE_FILE",
    "KEY_LENGTH",
    "SEGMENT_SUFFIX",
    "DamagedSegmentError",
    "SegmentHeader",
    "check_segment",
    "read_header",
    "read_keys",
    "read_rows",
    "write_segment",
]

SEGMENT_SUFFIX = ".features"
BACKBONE_FILE = "backbone.txt"
"""Beside the segments of a store: the name of its backbone, for people."""

KEY_LENGTH = 32
MAGIC = b"ZSfeat1\n"
HEADER = struct.Struct("<8sIII")
BLOCK = 1 << 20


class DamagedSegmentError(Exception):
    """A segment is not as it was written; says what is wrong."""


class SegmentHeader(NamedTuple):
    """What a segment says of itself.

    Attributes
    ----------
    n_rows : int
    dim : int
        Length of a row.
    checksum : int
        CRC-32 of keys and rows.
    """

    n_rows: int
    dim: int
    checksum: int


def write_segment(path: Path, features: dict[bytes, NDArray[np.float32]]) -> None:
    """Write a segment; it is there whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder is made.
    features : dict of bytes to ndarray of shape (dim,), float32
        At least one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    keys = b"".join(features)
    rows = np.stack(list(features.values())).astype("<f4", copy=False)
    checksum = zlib.crc32(rows.data, zlib.crc32(keys))
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(HEADER.pack(MAGIC, *rows.shape, checksum))
        file.write(keys)
        file.write(rows.data)


def read_header(file: BinaryIO) -> SegmentHeader:
    """Return the header of a segment, whose length must be what it says.

    Parameters
    ----------
    file : binary file
        Left behind the header.

    Returns
    -------
    header : SegmentHeader

    Raises
    ------
    DamagedSegmentError
        If it is no segment, or cut off.
    """
    file.seek(0)
    content = file.read(HEADER.size)
    if len(content) < HEADER.size or not content.startswith(MAGIC):
        raise DamagedSegmentError("it does not begin like a file of features")
    _, n_rows, dim, checksum = HEADER.unpack(content)
    expected = HEADER.size + n_rows * (KEY_LENGTH + 4 * dim)
    size = file.seek(0, 2)
    if size != expected:
        raise DamagedSegmentError(f"it has {size} bytes, not {expected}")
    file.seek(HEADER.size)
    return SegmentHeader(n_rows, dim, checksum)


def read_keys(file: BinaryIO, header: SegmentHeader) -> NDArray[np.bytes_]:
    """Return the keys of a segment.

    Parameters
    ----------
    file : binary file
    header : SegmentHeader

    Returns
    -------
    keys : ndarray of shape (n,), S32
    """
    file.seek(HEADER.size)
    return np.frombuffer(file.read(header.n_rows * KEY_LENGTH), f"S{KEY_LENGTH}")


def read_rows(
    file: BinaryIO, header: SegmentHeader, start: int, stop: int
) -> NDArray[np.float32]:
    """Return neighbouring rows of a segment.

    Parameters
    ----------
    file : binary file
    header : SegmentHeader
    start, stop : int
        0 <= start < stop <= n_rows.

    Returns
    -------
    rows : ndarray of shape (stop - start, dim), float32

    Raises
    ------
    DamagedSegmentError
        If the file was cut meanwhile.
    """
    file.seek(HEADER.size + header.n_rows * KEY_LENGTH + 4 * header.dim * start)
    size = 4 * header.dim * (stop - start)
    content = file.read(size)
    if len(content) != size:
        raise DamagedSegmentError("it was cut off")
    return np.frombuffer(content, "<f4").reshape(-1, header.dim)


def check_segment(file: BinaryIO, dim: int | None = None) -> SegmentHeader:
    """Read a segment once, a MiB at a time, and compare it with its checksum.

    Parameters
    ----------
    file : binary file
    dim : int, optional
        What the length of its rows must be.

    Returns
    -------
    header : SegmentHeader

    Raises
    ------
    DamagedSegmentError
        If it is not as it was written, or of another length.
    """
    header = read_header(file)
    if dim not in (None, header.dim):
        raise DamagedSegmentError(f"its rows have {header.dim} numbers, not {dim}")
    checksum = 0
    for block in _blocks(file):
        checksum = zlib.crc32(block, checksum)
    if checksum != header.checksum:
        raise DamagedSegmentError("its checksum is another")
    return header


def _blocks(file: BinaryIO) -> Iterable[bytes]:
    while block := file.read(BLOCK):
        yield block
