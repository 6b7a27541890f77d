"""The fastText ``.bin`` model, memory-mapped: dictionary, word rows and n-gram buckets.

The layout and the hashing follow fastText 0.9.3 (``fasttext.cc``, ``args.cc``,
``dictionary.cc``, ``densematrix.cc``). Little-endian, packed without gaps:

- magic, version: int32 each; the training arguments: 12 int32 and a float64;
- dictionary: entries, words, labels: int32 each; tokens, pruned: int64 each; for each
  entry its bytes, a zero byte, count int64, type int8 (0 word, 1 label); then the
  pruned n-grams as pairs of int32 (bucket, row);
- one byte: quantised or not; rows, columns: int64 each; the float32 rows: one for each
  word, then one for each n-gram bucket. (The output layer that follows is not needed.)
"""

import mmap
import struct
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.indexed_rows import scan_records
from zeroshot.embeddings.vectors.token_index import TokenIndex, cached_index
from zeroshot.embeddings.vectors.vector_file import FASTTEXT_MAGIC
from zeroshot.embeddings.vectors.vector_layout import MOST_DIMS
from zeroshot.errors import ArtifactError

__all__ = ["FastTextModel", "ngram_buckets"]

VERSIONS = (11, 12)
SUPERVISED = 3  # args.h, model_name::sup
END_OF_SENTENCE = b"</s>"

_HEAD = struct.Struct("<ii12id")
_DICTIONARY = struct.Struct("<3i2q")
_SHAPE = struct.Struct("<?2q")
_AFTER_WORD = 1 + 8 + 1  # zero byte, count, type


class FastTextModel:
    """A memory-mapped ``.bin`` file; the dictionary is indexed, never loaded.

    Parameters
    ----------
    path : Path
        The file that the user named; for messages, and to keep the index under.
    source : Path
        The same unpacked: starts with fastText's magic number.

    Raises
    ------
    ArtifactError
        If its version is unknown or its header impossible.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self._source = source
        with source.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _, version, *arguments = self._unpack(_HEAD, 0)
        if self._bytes[:4] != FASTTEXT_MAGIC or version not in VERSIONS:
            self._fail(
                f"a model of version {VERSIONS[0]} or {VERSIONS[1]}", f"{version}"
            )
        self.dim, kind = arguments[0], arguments[7]
        self.bucket, self.minn, self.maxn = arguments[8:11]
        if version == 11 and kind == SUPERVISED:
            self.maxn = 0  # as fasttext.cc does: such old models have no n-grams
        self._entries, self.n_words, n_labels, _, self._n_pruned = self._unpack(
            _DICTIONARY, _HEAD.size
        )
        if not (
            1 <= self.dim <= MOST_DIMS
            and 0 <= self.n_words <= self._entries
            and self._entries == self.n_words + n_labels
            and self._entries * _AFTER_WORD <= len(self._bytes)
            and -1 <= self._n_pruned <= len(self._bytes) // 8
            and (self.maxn <= 0 or self.bucket > 0)
        ):
            self._fail(
                "a possible header",
                f"dim {self.dim}, {self._entries} entries, {self.n_words} words, "
                f"{n_labels} labels, {self.bucket} buckets",
            )

    def words(self) -> Iterator[bytes]:
        """Yield the words of the dictionary (no labels), most frequent first.

        Raises
        ------
        ArtifactError
            If the dictionary is broken.
        """
        at = int(self._index.offsets[0])
        for end in self._index.offsets[1 : self.n_words + 1].tolist():
            yield self._bytes[at : end - _AFTER_WORD]
            at = end

    def rows_of(self, words: Collection[bytes]) -> dict[bytes, int]:
        """Return the matrix rows of those words that the dictionary has.

        Raises
        ------
        ArtifactError
            If the dictionary is broken.
        """
        rows: dict[bytes, int] = {}
        for row, word in self._index.candidates(list(words)):
            at, end = self._index.offsets[row : row + 2].tolist()
            if row < self.n_words and self._bytes[at : end - _AFTER_WORD] == word:
                rows.setdefault(word, row)
        return rows

    def vectors(self, words: Collection[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the vectors of words; those of which it has no part are left out.

        The mean, in float32 as in fastText, of the word's row (where the dictionary has
        it) and of the rows of its n-grams, each as often as it occurs.

        Raises
        ------
        ArtifactError
            If the file is broken or a vector is not finite.
        """
        if not words:
            return {}
        known = self.rows_of(words)
        matrix = self._tables[0]
        found = {}
        for word in words:
            rows = [known[word]] if word in known else []
            if word != END_OF_SENTENCE:
                rows += self._ngram_rows(word)
            if not rows:
                continue
            share = np.float32(1 / len(rows))
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                vector = matrix[rows].sum(axis=0, dtype=np.float32) * share
            if not np.isfinite(vector).all():
                self._fail(f"finite numbers for {word!r}", "NaN or infinity")
            found[word] = vector
        return found

    def _ngram_rows(self, word: bytes) -> list[int]:
        buckets = ngram_buckets(word, self.minn, self.maxn, self.bucket)
        pruned = self._tables[1]
        if pruned is not None:
            buckets = [pruned[bucket] for bucket in buckets if bucket in pruned]
        return [self.n_words + bucket for bucket in buckets]

    @cached_property
    def _index(self) -> TokenIndex:
        return cached_index(self.path, self._source, "fasttext-bin", self._scan)

    def _scan(self) -> TokenIndex:
        def fail(entry: int, at: int, rest: bytes) -> NoReturn:
            self._fail(
                f"{self._entries} words and labels", f"{entry} (broken at byte {at})"
            )

        start = _HEAD.size + _DICTIONARY.size
        with self._source.open("rb", buffering=0) as raw:
            raw.seek(start)
            shape = b"\0", _AFTER_WORD - 1, self._entries
            hashes, sizes, _ = scan_records(raw, start, *shape, fail)
        return TokenIndex.from_scan(hashes, sizes, start)

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float32], dict[int, int] | None]:
        """The rows, and for a pruned dictionary the row of each n-gram bucket."""
        at = int(self._index.offsets[-1])
        pruned = None
        if self._n_pruned >= 0:
            end = at + 8 * self._n_pruned
            if end > len(self._bytes):
                self._fail(f"{self._n_pruned} pruned n-grams", "the end of the file")
            pairs = np.frombuffer(self._bytes, "<i4", 2 * self._n_pruned, at).reshape(
                -1, 2
            )
            pruned = {int(bucket): int(row) for bucket, row in pairs}
            at = end
        quantised, n_rows, dim = self._unpack(_SHAPE, at)
        if quantised:
            raise ArtifactError(
                f"Expected a fastText .bin model. Got '{self.path}', which is "
                f"quantised (.ftz) and not supported. Name the .bin it was made from."
            )
        n_ngrams = self.bucket if self.maxn > 0 else 0
        if pruned is not None:
            n_ngrams = max(pruned.values(), default=-1) + 1
            if min(pruned.values(), default=0) < 0:
                self._fail("pruned n-grams with rows from 0 on", "a negative row")
        if dim != self.dim or n_rows < self.n_words + n_ngrams:
            self._fail(
                f"at least {self.n_words + n_ngrams} rows of {self.dim} numbers",
                f"{n_rows} rows of {dim}",
            )
        at += _SHAPE.size
        if at + 4 * n_rows * dim > len(self._bytes):
            self._fail(
                f"{4 * n_rows * dim} bytes of vectors from byte {at} on",
                f"{len(self._bytes) - at}",
            )
        matrix = np.frombuffer(self._bytes, "<f4", n_rows * dim, at).reshape(
            n_rows, dim
        )
        return matrix, pruned

    def _unpack(self, layout: struct.Struct, at: int) -> tuple[int, ...]:
        if at + layout.size > len(self._bytes):
            self._fail(f"{layout.size} bytes at byte {at}", f"{len(self._bytes) - at}")
        return layout.unpack_from(self._bytes, at)

    def _fail(self, expected: str, got: str) -> NoReturn:
        raise ArtifactError(
            f"Expected {expected} in the fastText model '{self.path}'. Got {got}. The "
            f"file is truncated, damaged or of another version: fetch it again."
        )


def ngram_buckets(word: bytes, minn: int, maxn: int, bucket: int) -> list[int]:
    """Return the buckets of the character n-grams of ``<word>``, in fastText's order.

    FNV-1a in 32 bits over the bytes taken as *signed*, as ``Dictionary::hash`` does; an
    n-gram starts and ends at the border of a UTF-8 character; ``<`` and ``>`` alone are
    none.

    Parameters
    ----------
    word : bytes
        UTF-8.
    minn, maxn : int
        Least and greatest number of characters; none if ``maxn`` is 0.
    bucket : int
        Number of buckets.

    Returns
    -------
    buckets : list of int
        With repetitions, in [0, bucket).
    """
    framed = b"<" + word + b">"
    borders = [i for i, byte in enumerate(framed) if byte & 0xC0 != 0x80]
    borders.append(len(framed))
    n_characters = len(borders) - 1
    buckets = []
    for first in range(n_characters):
        hashed = 2166136261
        for last in range(first, min(first + maxn, n_characters)):
            for byte in framed[borders[last] : borders[last + 1]]:
                signed = byte | 0xFFFFFF00 if byte >= 0x80 else byte
                hashed = ((hashed ^ signed) * 16777619) & 0xFFFFFFFF
            alone = first == last and (first == 0 or last == n_characters - 1)
            if last - first + 1 >= minn and not alone:
                buckets.append(hashed % bucket)
    return buckets
