"""Arrays of an ``.npz`` that others made: none is larger than the file allows.

NumPy's own reader takes room for what a header claims, and unpacks whatever there is.
"""

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zeroshot.storage.regular_files import open_regular

__all__ = ["ArrayFile", "open_arrays"]

# Features and weights pack to 0.9 of their size, zeros and ones to 0.05.
LARGEST_RATIO, NEVER_A_BOMB = 50, 16 << 20  # the second in bytes
MOST_MEMBERS = 1000
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def open_arrays(path: str | os.PathLike[str]) -> Iterator["ArrayFile"]:
    """Open an ``.npz``.

    Raises ArtifactError if it is no regular file; if it is damaged, now or while the
    block reads, what zipfile, zlib and NumPy raise for that: a dozen types.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        yield ArrayFile(archive, file)


class ArrayFile:
    """The arrays of an open ``.npz``."""

    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO) -> None:
        members, size = archive.infolist(), os.fstat(file.fileno()).st_size
        self._archive, self._file = archive, file
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        if len(self._members) < len(members) or len(members) > MOST_MEMBERS:
            raise ValueError(f"{len(members)} members, not each with its own name")
        limit = max(NEVER_A_BOMB, LARGEST_RATIO * size)
        if sum(info.file_size for info in members) > limit:
            raise ValueError(f"more than {limit} bytes, packed in {size}")

    @property
    def names(self) -> list[str]:
        """Names of the arrays, in the order of the file."""
        return list(self._members)

    @contextmanager
    def opened(
        self, name: str, *, checked: bool = True
    ) -> Iterator[tuple[dict[str, Any], IO[bytes]]]:
        """Open an array: its shape, dtype and order, and the file at its content.

        The archive's checksum is compared where the content is read to its end, unless
        the caller has its own and says so (``checked``): it takes as long as reading.
        """
        info = self._members[name]
        if info.flag_bits & 1 or info.compress_type not in PLAIN:
            raise ValueError(f"'{name}', which needs a password or is packed otherwise")
        with self._archive.open(info) as file:
            if not checked and info.compress_type == zipfile.ZIP_STORED:
                self._file.seek(info.header_offset + 26)
                lengths = struct.unpack("<2H", self._file.read(4))
                self._file.seek(sum(lengths), os.SEEK_CUR)
                file = self._file
            start = file.tell()
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, in_columns, dtype = read(file)
            claimed, held = math.prod(shape) * dtype.itemsize, info.file_size
            if dtype.hasobject:
                raise ValueError(f"'{name}' holds Python objects, which need pickle")
            if (
                min(shape, default=0) < 0
                or claimed != held - (file.tell() - start)
                or (claimed == 0 and 0 not in shape)  # texts of no letter, any number
            ):
                raise ValueError(f"'{name}' of {held} bytes for {dtype}, {shape}")
            order = "F" if in_columns else "C"
            yield {"shape": shape, "dtype": dtype, "order": order}, file

    def read(self, name: str) -> NDArray[Any]:
        """Return an array, read-only, after its checksum was compared."""
        with self.opened(name) as (form, file):
            return np.ndarray(**form, buffer=file.read())
