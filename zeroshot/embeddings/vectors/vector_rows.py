"""The rows of a vector file, found by an index of their tokens: a seek for each."""

from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.token_index import TokenIndex, cached_index
from zeroshot.embeddings.vectors.vector_cache import Source, unpacked_file
from zeroshot.embeddings.vectors.vector_file import BLOCK
from zeroshot.embeddings.vectors.vector_layout import (
    LONGEST_ROW,
    RowError,
    fail_row,
    recognise_layout,
)
from zeroshot.embeddings.vectors.vector_scan import scan_rows
from zeroshot.errors import ArtifactError

__all__ = ["BLOCK_WORDS", "VectorRows", "as_tokens"]

BLOCK_WORDS = 4096  # 5 MB of vectors of 300 numbers


class VectorRows:
    """The rows of one file; it is unpacked and indexed when they are first needed.

    Each call opens the file anew, so threads and forked processes share no position in
    it. Raises ArtifactError, at once if the file at ``path`` (absolute) is no file of
    word vectors; messages name the file and the line or row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout = recognise_layout(path)
        self.dim, self.form = self._layout.dim, self._layout.form

    def __len__(self) -> int:
        return len(self._index.keys)

    def find(self, words: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of those words that the file has.

        Of a word that it has twice this is the first row, as in gensim.

        Raises ArtifactError if the file or a wanted row is broken, or a number not
        finite.
        """
        wanted: dict[bytes, list[str]] = {}
        for token, word in as_tokens(words).items():
            wanted.setdefault(self._plain(token), []).append(word)
        heads: dict[bytes, list[bytes]] = {}
        for token in wanted:
            heads.setdefault(self._layout.head(token), []).append(token)
        found: dict[str, NDArray[np.float32]] = {}
        if not heads:
            return found
        offsets = self._index.offsets
        with self._source.opened() as file:
            for row, head in self._index.candidates(list(heads)):
                at, end = offsets[row : row + 2].tolist()
                file.seek(at)
                record = self._record(file.read(min(end - at, 2 * LONGEST_ROW)))
                try:
                    token = self._plain(self._layout.token(record))
                    if token in heads[head] and wanted[token][0] not in found:
                        vector = self._layout.vector(record)
                        found |= dict.fromkeys(wanted[token], vector)
                except RowError as error:
                    self._fail(row, record, error)
        return found

    def words(self) -> Iterator[str]:
        """Yield every word once, in the order of the file.

        Raises ArtifactError if a row has another length.
        """
        for block in self._blocks():
            for word, _, _ in block:
                yield word

    def blocks(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield every word once and its vector, some thousand at once.

        Raises ArtifactError if a row is broken.
        """
        for block in self._blocks():
            vectors = np.empty((len(block), self._layout.dim), dtype=np.float32)
            for vector, (_, row, record) in zip(vectors, block, strict=True):
                try:
                    vector[:] = self._layout.vector(record)
                except RowError as error:
                    self._fail(row, record, error)
            if block:
                yield [word for word, _, _ in block], vectors

    @cached_property
    def _source(self) -> Source:
        return unpacked_file(self._path)

    @cached_property
    def _index(self) -> TokenIndex:
        source = self._source
        scan = partial(scan_rows, source, self._layout)
        return cached_index(source, self.form, scan)

    def _plain(self, token: bytes) -> bytes:
        return token.removeprefix(self._layout.prefix)

    def _record(self, content: bytes) -> bytes:
        # Blank lines may follow a line.
        return content if self._layout.binary else content.split(b"\n", 1)[0]

    def _blocks(self) -> Iterator[list[tuple[str, int, bytes]]]:
        """Yield words, rows and records, some thousand at once."""
        offsets, repeated = self._index.offsets, self._index.repeated_rows()
        seen = set()
        size = int(offsets[-1] - offsets[0]) // max(1, len(self)) + 1
        step = min(BLOCK_WORDS, 16 * BLOCK // size + 1)
        with self._source.opened() as file:
            for first in range(0, len(self), step):
                ends = offsets[first : first + step + 1].tolist()
                file.seek(ends[0])
                content = file.read(ends[-1] - ends[0])
                block = []
                for row, (at, end) in enumerate(pairwise(ends), start=first):
                    record = self._record(content[at - ends[0] : end - ends[0]])
                    try:
                        token = self._plain(self._layout.token(record))
                    except RowError as error:
                        self._fail(row, record, error)
                    if row in repeated:  # its hash; of a million rows, hundreds
                        if token in seen:
                            continue
                        seen.add(token)
                    block.append(
                        (token.decode("utf-8", "surrogateescape"), row, record)
                    )
                yield block

    def _fail(self, row: int, record: bytes, error: RowError) -> NoReturn:
        layout = self._layout
        at = int(self._index.offsets[row])
        if layout.binary:
            word = record[: -4 * layout.dim - 1].lstrip(b"\n")[:99]
            raise ArtifactError(
                f"Expected {layout.dim} float32 of plausible size for "
                f"{word.decode('utf-8', 'replace')!r} at byte {at} of '{self._path}' "
                f"(row {row + 1}). Got {error}. The file is damaged, of another type "
                f"of numbers, or a word in it holds a space: save it again as text, or "
                f"with underscores for spaces."
            ) from error
        number, left = layout.first_line, at - layout.start
        with self._source.opened() as file:
            file.seek(layout.start)
            while left and (block := file.read(min(left, BLOCK))):
                number += block.count(b"\n")
                left -= len(block)
        fail_row(self._path, f"line {number}", layout.dim, error)


def as_tokens(words: Iterable[str]) -> dict[bytes, str]:
    """Return the bytes that stand for words in a file, and for each its word.

    A byte that is no UTF-8 is a lone surrogate in a word (``"surrogateescape"``).
    Words that no file can hold are left out: with other surrogates, or with
    surrogates that spell UTF-8.
    """
    tokens = {}
    for word in words:
        try:
            token = word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            continue
        if token.decode("utf-8", "surrogateescape") == word:
            tokens[token] = word
    return tokens
