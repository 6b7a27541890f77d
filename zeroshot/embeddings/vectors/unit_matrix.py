"""All words and their unit vectors as one matrix, kept in the cache, memory-mapped.

Components are int16, a unit vector times 32,767: as small as float16 and twice as
exact near 0.06, a usual size. And as fast as float32: NumPy turns int16 into float32 10
times as fast as float16 (measured over 1M x 300, product with one vector in blocks:
int16 0.05 to 0.07 s, float16 0.4 to 0.6 s, a float32 matrix at once 0.06 s).

A damaged matrix might hide a near word, so it is checked when it is opened: once for
each provider, at 1 GB/s.

The tables in the file: the matrix, row by row; where each word starts, uint64; the
words; one byte, whether these are all words.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_cache import (
    load_tables,
    save_tables,
    warn_uncached,
)
from zeroshot.progress import progress_bar

__all__ = ["SCALE", "UnitMatrix", "Words", "cached_units", "make_units"]

SCALE = 32767  # the greatest int16: a component of a unit vector is at most 1

Blocks = Iterable[tuple[list[str], NDArray[np.float32]]]


class Words(Sequence[str]):
    """Words that lie one after the other in a buffer; decoded one by one."""

    def __init__(self, content: memoryview, starts: NDArray[np.uint64]) -> None:
        self._content = content
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row):  # type: ignore[no-untyped-def]  # int or slice
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        start, end = self._starts[row : row + 2].tolist()
        return bytes(self._content[start:end]).decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class UnitMatrix:
    """Words and their unit vectors, in the order of the file.

    ``matrix`` (n_words, dim) is rounded: each component is off by at most 0.5 /
    `SCALE`. Words whose vector is zero have no direction and are left out.
    """

    words: Sequence[str]
    matrix: NDArray[np.int16]
    complete: bool  # there are no more words

    def has(self, n_words: int | None) -> bool:
        """Return whether the first ``n_words`` words (all if None) are in it."""
        return self.complete or (n_words is not None and n_words <= len(self.words))

    def scores(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of every word with a unit vector; shape (n_words,).

        Each is off by at most ``0.5 / SCALE * abs(unit).sum()``, and float32 rounding.
        """
        n_words, dim = self.matrix.shape
        # 1.8 MB of float32, which stay in the processor's cache. A product of 460,800
        # numbers or more OpenBLAS gives to threads: 2 to 50 times slower, measured.
        n_rows = max(1, 450_000 // dim)
        scores = np.empty(n_words, dtype=np.float32)
        scaled = unit / np.float32(SCALE)

        def score(rows: range) -> None:
            block = np.empty((n_rows, dim), dtype=np.float32)
            for start in rows[::n_rows]:
                end = min(start + n_rows, rows.stop)
                part = block[: end - start]
                np.copyto(part, self.matrix[start:end])
                np.dot(part, scaled, out=scores[start:end])

        n_threads = min(4, os.cpu_count() or 1) if self.matrix.size > 1e7 else 1
        share = -(-n_words // n_threads) or 1
        with ThreadPoolExecutor(n_threads) as pool:
            starts = range(0, n_words, share)
            shares = [range(start, min(start + share, n_words)) for start in starts]
            list(pool.map(score, shares))
        return scores


def make_units(blocks: Blocks, dim: int) -> UnitMatrix:
    """Make the matrix of all words in memory, of words and vectors (n, ``dim``)."""
    words: list[str] = []
    matrices = [np.empty((0, dim), dtype=np.int16)]
    for some, matrix in _scaled(blocks):
        words += some
        matrices.append(matrix)
    return UnitMatrix(words, np.concatenate(matrices), complete=True)


def cached_units(
    path: Path,
    key: bytes,
    dim: int,
    blocks: Callable[[], Blocks],
    n_words: int | None,
    total: int,
) -> UnitMatrix:
    """Return the matrix of the first words from the cache, or build it there.

    It is built in blocks, so in little memory. Where the cache cannot be written, it is
    made in memory and a warning says so.

    ``path``: where it is kept. ``key``: 32 bytes that stand for the content of the
    vector file. ``blocks``: gives blocks of words and vectors; called only where the
    matrix must be built. ``n_words``: how many words are needed, at least; None for
    all. ``total``: how many there are about, for the progress bar.
    """
    units = _load(path, key, dim)
    if units is not None and units.has(n_words):
        return units
    try:
        tables = _tables(blocks(), n_words, total)
        save_tables(path, key, tables)
        if (units := _load(path, key, dim)) is not None:
            return units
    except OSError as error:
        warn_uncached(path.parent, error)
    # Without a place to keep it, or replaced at once by another process.
    return make_units(blocks(), dim)


def _scaled(blocks: Blocks) -> Iterator[tuple[list[str], NDArray[np.int16]]]:
    for words, vectors in blocks:
        exact = vectors.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1)
        some = lengths > 0
        units = exact[some] / lengths[some, None]
        kept = [word for word, keep in zip(words, some.tolist(), strict=True) if keep]
        yield kept, np.rint(units * SCALE).astype(np.int16)


def _tables(
    blocks: Blocks, n_words: int | None, total: int
) -> Iterator[Iterable[object]]:
    most = total if n_words is None else n_words
    starts, content = [0], list[bytes]()
    complete = True

    def matrix() -> Iterator[memoryview]:
        nonlocal complete
        with progress_bar("unit vectors", min(total, most)) as advance:
            for words, rows in _scaled(blocks):
                room = most - len(content)
                if n_words is not None and len(words) > room:
                    words, rows, complete = words[:room], rows[:room], False
                for word in words:
                    content.append(word.encode("utf-8", "surrogatepass"))
                    starts.append(starts[-1] + len(content[-1]))
                advance(len(words))
                yield rows.data
                if not complete:
                    return

    yield matrix()
    yield [np.array(starts, dtype=np.uint64).data]
    yield content
    yield [bytes([complete])]


def _load(path: Path, key: bytes, dim: int) -> UnitMatrix | None:
    tables = load_tables(path, key)
    if tables is None or len(tables) != 4:
        return None
    content, starts, words, complete = tables
    matrix = np.frombuffer(content, np.int16).reshape(-1, dim)
    return UnitMatrix(
        Words(words, np.frombuffer(starts, np.uint64)), matrix, complete[0] == 1
    )
