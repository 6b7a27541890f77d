"""The arrays of a bundle, of which nothing is believed before it is looked at.

They lie in an ``.npz`` file as `numpy.savez` writes it: unpacked, so that arrays take
no more memory than the file has bytes. NumPy's own reader holds what a header declares,
and unpacks 3 GB of zeros from 3 MB.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_kinds", "read_arrays"]

KINDS = "biufU"  # truth values, whole numbers, floats, text
LARGEST_NUMBER = 8  # bytes; long doubles differ between machines


def check_kinds(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError for an array of a kind that a bundle does not hold."""
    for name, array in arrays.items():
        _check_kind(name, array.dtype)


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays in the content of an ``.npz`` file, by name.

    Raises what zipfile and NumPy raise for a broken file, a dozen types; ValueError for
    one that `numpy.savez` would not write, and for arrays of other kinds than numbers
    and text.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("arrays of more bytes than the file has")
        for member in members:
            name = member.filename.removesuffix(".npy")
            is_plain = member.compress_type == zipfile.ZIP_STORED
            if name == member.filename or name in arrays or not is_plain:
                raise ValueError(
                    f"'{member.filename[:80]}', which is packed, twice, or no array"
                )
            arrays[name] = _read_array(name, archive.read(member))
    return arrays


def _read_array(name: str, content: bytes) -> NDArray[Any]:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"array '{name[:80]}' in another version of NumPy's format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    _check_kind(name, dtype)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"array '{name[:80]}' of another size than it declares")
    file.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _check_kind(name: str, dtype: np.dtype[Any]) -> None:
    is_text = dtype.kind == "U" and dtype.itemsize > 0
    if dtype.kind not in KINDS or not (is_text or dtype.itemsize <= LARGEST_NUMBER):
        raise ValueError(f"array '{name[:80]}' of {str(dtype)[:40]}")
