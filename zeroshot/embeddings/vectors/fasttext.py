"""fastText: the ``.bin`` model with subwords, and ``.vec`` text without.

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
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import check_words
from zeroshot.embeddings.vectors.token_index import TokenIndex, cached_index
from zeroshot.embeddings.vectors.vector_cache import unpacked_file
from zeroshot.embeddings.vectors.vector_file import (
    FASTTEXT_MAGIC,
    is_fasttext,
    open_file,
)
from zeroshot.embeddings.vectors.vector_layout import MOST_DIMS, RowError
from zeroshot.embeddings.vectors.vector_rows import BLOCK_WORDS, VectorRows, as_tokens
from zeroshot.embeddings.vectors.vector_scan import Scan, scan_records
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import ArtifactError

__all__ = ["FastText", "FastTextModel"]

VERSIONS = (11, 12)
SUPERVISED = 3  # args.h, model_name::sup
LONGEST_NGRAM = 30  # characters; fastText's default is 6
END_OF_SENTENCE = b"</s>"

_HEAD = struct.Struct("<ii12id")
_DICTIONARY = struct.Struct("<3i2q")
_SHAPE = struct.Struct("<?2q")
_AFTER_WORD = 1 + 8 + 1  # zero byte, count, type


class FastText(WordVectors):
    """fastText vectors: a ``.bin`` model with subwords, or ``.vec`` text without.

    Which of the two it is, is recognised by content. A ``.bin`` is memory-mapped: a
    lookup reads only the rows and n-gram buckets that it needs, found by an index of
    the dictionary in the cache.

    The vector of a word of the dictionary is the mean of its row and of the rows of its
    character n-grams; that of any other word is the mean of its n-grams alone, and it
    counts as not found where it has none. Supervised models are read too; their labels
    are no words. Quantised models (``.ftz``) are refused.

    Parameters
    ----------
    path : str or path-like
        The file, such as ``cc.en.300.bin``; a packed one is unpacked into the cache.

    References
    ----------
    .. [1] Bojanowski et al., "Enriching Word Vectors with Subword Information",
       TACL 2017.

    Examples
    --------
    >>> vectors = FastText("cc.en.300.bin")
    >>> vectors.lookup(["zebra", "zebraish"])  # doctest: +SKIP
    """

    name = "fasttext"

    def in_vocabulary(self, words: Sequence[str]) -> NDArray[np.bool_]:
        """Return which words have a vector of their own, not composed from n-grams.

        Parameters
        ----------
        words : sequence of str

        Returns
        -------
        known : ndarray of shape (n,), bool
            For ``.vec`` the same as ``found`` of `lookup`.
        """
        words = check_words(words)
        self._check_unchanged()

        def stored() -> set[str] | None:
            rows = self._rows
            return rows.stored(words) if isinstance(rows, FastTextModel) else None

        known = self._healed(stored)
        if known is None:
            return self.lookup(words)[1]
        return np.array([word in known for word in words], dtype=np.bool_)

    @cached_property
    def _rows(self) -> "VectorRows | FastTextModel":
        self._check_unchanged()
        kind = FastTextModel if is_fasttext(self._file) else VectorRows
        return kind(self._file)


class FastTextModel:
    """A memory-mapped ``.bin`` file; the dictionary is indexed, never loaded.

    ``path`` is absolute; the file may be packed. Raises ArtifactError, at once if its
    version is unknown or its header impossible.
    """

    form = "fasttext-bin"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = source = unpacked_file(path)
        self._bytes: mmap.mmap | bytes
        if isinstance(source.content, bytes):
            self._bytes = source.content
        else:
            with open_file(source.content) as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _, version, *arguments = self._unpack(_HEAD, 0)
        if self._bytes[:4] != FASTTEXT_MAGIC or version not in VERSIONS:
            self._fail(f"a model of version {' or '.join(map(str, VERSIONS))}", version)
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
            and self.maxn <= LONGEST_NGRAM
        ):
            self._fail(
                "a possible header",
                f"dim {self.dim}, {self._entries} entries, {self.n_words} words, "
                f"{n_labels} labels, {self.bucket} buckets, n-grams of {self.maxn}",
            )

    def __len__(self) -> int:
        return self.n_words

    def words(self) -> Iterator[str]:
        """Yield the words of the dictionary (no labels), most frequent first."""
        for first in range(0, self.n_words, BLOCK_WORDS):
            last = min(first + BLOCK_WORDS, self.n_words)
            ends = self._index.offsets[first : last + 1].tolist()
            content = self._read(ends[0], ends[-1])
            for at, end in pairwise(ends):
                word = content[at - ends[0] : end - ends[0] - _AFTER_WORD]
                yield word.decode("utf-8", "surrogateescape")

    def blocks(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield all words (no labels) and vectors, some thousand at once."""
        words = self.words()
        while some := list(islice(words, BLOCK_WORDS)):
            vectors = self.find(some)
            yield list(vectors), np.array(list(vectors.values()))

    def stored(self, words: Iterable[str]) -> set[str]:
        """Return those words that the dictionary has."""
        tokens = as_tokens(words)
        return {tokens[token] for token in self._rows_of(tokens)}

    def find(self, words: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of words; those of which it has no part are left out.

        The mean, in float32 as in fastText, of the word's row (where the dictionary has
        it) and of the rows of its n-grams, each as often as it occurs.
        """
        tokens = as_tokens(words)
        if not tokens:
            return {}
        known = self._rows_of(tokens)
        matrix, start = self._tables[0], self._tables[2]
        found = {}
        for token, word in tokens.items():
            rows = [known[token]] if token in known else []
            if token != END_OF_SENTENCE:
                rows += self._ngram_rows(token)
            if not rows:
                continue
            for row in rows:
                self._check(start + row * matrix[0].nbytes, matrix[0].nbytes)
            share = np.float32(1 / len(rows))
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                vector = matrix[rows].sum(axis=0, dtype=np.float32) * share
            if not np.isfinite(vector).all():
                self._fail(f"finite numbers for {word!r}", "NaN or infinity")
            found[word] = vector
        if isinstance(self._bytes, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            # Else each row that is ever read, and the pages around it, count as ours.
            self._bytes.madvise(mmap.MADV_DONTNEED)
        return found

    def _rows_of(self, tokens: Collection[bytes]) -> dict[bytes, int]:
        rows: dict[bytes, int] = {}
        for row, token in self._index.candidates(list(tokens)):
            at, end = self._index.offsets[row : row + 2].tolist()
            if row < self.n_words and self._read(at, end - _AFTER_WORD) == token:
                rows.setdefault(token, row)
        return rows

    def _ngram_rows(self, word: bytes) -> list[int]:
        buckets = _ngram_buckets(word, self.minn, self.maxn, self.bucket)
        pruned = self._tables[1]
        if pruned is not None:
            buckets = [pruned[bucket] for bucket in buckets if bucket in pruned]
        return [self.n_words + bucket for bucket in buckets]

    @cached_property
    def _index(self) -> TokenIndex:
        return cached_index(self._source, self.form, self._scan)

    def _scan(self) -> Scan:
        start, length = _HEAD.size + _DICTIONARY.size, _AFTER_WORD - 1
        with self._source.opened() as raw:
            raw.seek(start)
            try:
                return scan_records(
                    raw, start, b"\0", length, self._entries, lambda _, words: words
                )
            except RowError as error:
                self._fail(f"{self._entries} words and labels", error)

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float32], dict[int, int] | None, int]:
        """The rows; of a pruned dictionary the row of each bucket; where rows begin."""
        at = int(self._index.offsets[-1])
        pruned = None
        if self._n_pruned >= 0:
            end = at + 8 * self._n_pruned
            if end > len(self._bytes):
                self._fail(f"{self._n_pruned} pruned n-grams", "the end of the file")
            pairs = np.frombuffer(self._read(at, end), "<i4")
            pruned = dict(pairs.reshape(-1, 2).tolist())
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
            expected = f"{4 * n_rows * dim} bytes of vectors from byte {at} on"
            self._fail(expected, len(self._bytes) - at)
        matrix = np.frombuffer(self._bytes, "<f4", n_rows * dim, at)
        return matrix.reshape(n_rows, dim), pruned, at

    def _unpack(self, layout: struct.Struct, at: int) -> tuple[int, ...]:
        if at + layout.size > len(self._bytes):
            self._fail(f"{layout.size} bytes at byte {at}", len(self._bytes) - at)
        return layout.unpack(self._read(at, at + layout.size))

    def _read(self, at: int, end: int) -> bytes:
        self._check(at, end - at)
        return self._bytes[at:end]

    def _check(self, at: int, n: int) -> None:
        """Compare bytes with the checksums of a copy; a user's own file has none."""
        if self._source.sums is not None:
            if self._source.size != len(self._bytes):  # to read beyond it is a crash
                raise self._source.damaged()
            self._source.check(self._bytes, at, at + n, 0)

    def _fail(self, expected: str, got: object) -> NoReturn:
        raise ArtifactError(
            f"Expected {expected} in the fastText model '{self.path}'. Got {got}. The "
            f"file is truncated, damaged or of another version: fetch it again."
        )


def _ngram_buckets(word: bytes, minn: int, maxn: int, bucket: int) -> list[int]:
    """Return the buckets of the character n-grams of ``<word>``, in fastText's order.

    FNV-1a in 32 bits over the bytes taken as *signed*, as ``Dictionary::hash`` does; an
    n-gram starts and ends at the border of a UTF-8 character; ``<`` and ``>`` alone are
    none.

    ``word``: UTF-8. ``minn``, ``maxn``: least and greatest number of characters; none
    if ``maxn`` is 0. ``bucket``: number of buckets. Returns buckets: with repetitions,
    in [0, bucket).
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
