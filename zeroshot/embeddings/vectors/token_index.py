"""Token to byte offset: the table that turns a lookup into a few seeks.

One scan of a file makes it; the cache keeps it, memory-mapped when it is used. It takes
16 bytes a row, whatever the length of vectors and words:

- keys: uint64 each, sorted: CRC-32 of the token in the high half, its row in the low;
- offsets: uint64 each, in the order of the file, and one more for the end.

CRC-32 is no promise that the token is the right one (of a million tokens some hundred
share theirs with another): who uses a row compares the token that stands at its offset.
"""

import contextlib
import mmap
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.unpacked import Source
from zeroshot.embeddings.vectors.vector_cache import (
    cached_path,
    content_key,
    file_stamp,
    remove_left_over,
    warn_uncached,
)
from zeroshot.storage.cache import replace_file

__all__ = ["TokenIndex", "cached_index"]

# Bytes. A smaller file is scanned in 2 ms, about as long as opening an index takes.
LEAST_KEPT = 4 << 20

_MAGIC = b"zs-token-index2\n"
# Magic; key of the content; number of rows; CRC-32 of all that follows and of these.
_HEADER = struct.Struct("<16s32sQI")
_HEADER_CHECK = struct.Struct("<I")
_START = _HEADER.size + _HEADER_CHECK.size


@dataclass(frozen=True)
class TokenIndex:
    """Rows of a file by their token.

    Parameters
    ----------
    keys : ndarray of shape (n_rows,), uint64
        Sorted; CRC-32 of the token times 2**32, plus the row.
    offsets : ndarray of shape (n_rows + 1,), uint64
        Of each row in the order of the file, and of the end of the last; in bytes.
    """

    keys: NDArray[np.uint64]
    offsets: NDArray[np.uint64]

    @classmethod
    def from_scan(
        cls, hashes: "array[int]", sizes: "array[int]", start: int
    ) -> "TokenIndex":
        """Make an index from what a scan has seen.

        Parameters
        ----------
        hashes : array of uint32
            CRC-32 of every row's token, in the order of the file.
        sizes : array of uint64
            Of every row, in bytes.
        start : int
            Offset of the first row.
        """
        # Row beneath hash: one sort of integers is 3 times as fast as a stable argsort.
        keys = np.frombuffer(hashes, np.uint32).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        offsets = np.empty(len(sizes) + 1, dtype=np.uint64)
        offsets[0] = 0
        np.cumsum(np.frombuffer(sizes, np.uint64), out=offsets[1:])
        offsets += np.uint64(start)
        return cls(keys, offsets)

    def candidates(self, tokens: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Return the rows that may have one of these tokens.

        Returns
        -------
        candidates : list of tuple of int and bytes
            Row and token, sorted: first in the file first.
        """
        hashes = np.array([crc32(token) for token in tokens], dtype=np.uint64)
        first = np.searchsorted(self.keys, hashes << np.uint64(32))
        last = np.searchsorted(
            self.keys, hashes << np.uint64(32) | np.uint64(2**32 - 1), side="right"
        )
        found = []
        for token, low, high in zip(tokens, first.tolist(), last.tolist(), strict=True):
            rows = self.keys[low:high] & np.uint64(2**32 - 1)
            found += [(row, token) for row in rows.tolist()]
        return sorted(found)

    def repeated_rows(self) -> frozenset[int]:
        """Return the rows whose CRC-32 another row has too."""
        hashes = self.keys >> np.uint64(32)
        same = hashes[1:] == hashes[:-1]
        either = np.append(same, False) | np.append(False, same)
        rows = self.keys[either[: len(hashes)]] & np.uint64(2**32 - 1)
        return frozenset(rows.tolist())


def cached_index(
    path: Path, source: Source, form: str, build: Callable[[], TokenIndex]
) -> TokenIndex:
    """Return the index of a file from the cache, or build it and keep it there.

    Two processes may build it at once: each writes a file of its own and renames it.
    Where the cache cannot be written, the index is made anew and a warning says so.

    Parameters
    ----------
    path : Path
        The file that the user named, absolute.
    source : Path or bytes
        The same file unpacked; ``path`` where it is not packed.
    form : str
        What the file was recognised as.
    build : callable
        Scans ``source``.

    Raises
    ------
    ArtifactError
        What ``build`` raises.
    """
    if isinstance(source, bytes):
        return build()
    before = file_stamp(source)
    if before[0] < LEAST_KEPT:
        return build()
    key = content_key(source, form)
    kept = cached_path(path, ".index")
    index = _load(kept, key)
    if index is None:
        index = build()
        # A file that was changed while it was scanned has no index that fits it.
        if file_stamp(source) == before:
            try:
                _save(index, kept, key)
            except OSError as error:
                warn_uncached(kept.parent, error)
    return index


def _save(index: TokenIndex, path: Path, key: bytes) -> None:
    check = crc32(index.offsets.data, crc32(index.keys.data))
    header = _HEADER.pack(_MAGIC, key, len(index.keys), check)
    remove_left_over(path)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(header + _HEADER_CHECK.pack(crc32(header)))
        file.write(index.keys.data)
        file.write(index.offsets.data)


def _load(path: Path, key: bytes) -> TokenIndex | None:
    """Return the index, or None where it is missing, of another content or damaged."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = mapped[: _HEADER.size]
        if len(mapped) < _START or mapped[_HEADER.size : _START] != _HEADER_CHECK.pack(
            crc32(header)
        ):
            return None
        magic, kept_key, n_rows, check = _HEADER.unpack(header)
        if (magic, kept_key, len(mapped)) != (_MAGIC, key, _START + 16 * n_rows + 8):
            return None
        if crc32(memoryview(mapped)[_START:]) != check:
            return None
        table = np.frombuffer(mapped, np.uint64, offset=_START)
        return TokenIndex(table[:n_rows], table[n_rows:])
    return None
