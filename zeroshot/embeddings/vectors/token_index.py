"""Token to byte offset: the table that turns a lookup into a few seeks.

One scan of a file makes it; the cache keeps it, memory-mapped when it is used. It takes
16 bytes a row, whatever the length of vectors and words:

- keys: uint64 each, sorted: CRC-32 of the token in the high half, its row in the low;
- offsets: uint64 each, in the order of the file, and one more for the end.

CRC-32 is no promise that the token is the right one (of a million tokens some hundred
share theirs with another): who uses a row compares the token that stands at its offset.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_cache import (
    Source,
    cached_path,
    content_key,
    file_stamp,
    load_tables,
    save_tables,
    warn_uncached,
)
from zeroshot.embeddings.vectors.vector_scan import Scan

__all__ = ["TokenIndex", "cached_index"]

# Bytes. A smaller file is scanned in 2 ms, about as long as opening an index takes.
LEAST_KEPT = 4 << 20


@dataclass(frozen=True)
class TokenIndex:
    """Rows of a file by their token; see the head of this module."""

    keys: NDArray[np.uint64]  # (n_rows,)
    offsets: NDArray[np.uint64]  # (n_rows + 1,), in bytes

    @classmethod
    def from_scan(cls, scan: Scan) -> "TokenIndex":
        """Make an index from what a scan has seen."""
        hashes, offsets = scan
        # Row beneath hash: one sort of integers is 3 times as fast as a stable argsort.
        keys = np.frombuffer(hashes, np.uint32).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        return cls(keys, offsets)

    def candidates(self, tokens: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Return the rows that may have one of these tokens, each with the token.

        Sorted: first in the file first.
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
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        rows = self.keys[np.union1d(same, same + 1)] & np.uint64(2**32 - 1)
        return frozenset(rows.tolist())


def cached_index(source: Source, form: str, scan: Callable[[], Scan]) -> TokenIndex:
    """Return the index of a file from the cache, or scan the file and keep it there.

    Two processes may do so at once: each writes a file of its own and renames it. Where
    the cache cannot be written, the index is made anew and a warning says so.

    ``source``: the file unpacked. ``form``: what it was recognised as. ``scan``: scans
    it.
    """
    content = source.content
    if isinstance(content, bytes) or source.size < LEAST_KEPT:
        return TokenIndex.from_scan(scan())
    before = file_stamp(content)
    key = content_key(content, f"index {form}")
    kept = cached_path(source.path, ".index")
    tables = load_tables(kept, key)
    if tables is not None and len(tables) == 2:
        return TokenIndex(*(np.frombuffer(table, np.uint64) for table in tables))
    index = TokenIndex.from_scan(scan())
    # A file that was changed while it was scanned has no index that fits it.
    if file_stamp(content) == before:
        try:
            save_tables(kept, key, [[index.keys.data], [index.offsets.data]])
        except OSError as error:
            warn_uncached(kept.parent, error)
    return index
