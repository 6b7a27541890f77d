"""Word vectors from a file: GloVe, word2vec (text and binary) and fastText .vec."""

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import WordTable
from zeroshot.embeddings.vectors.vector_cache import (
    DamagedCopyError,
    FileStamp,
    cached_path,
    content_key,
    file_stamp,
)
from zeroshot.embeddings.vectors.vector_file import content_fingerprint
from zeroshot.embeddings.vectors.vector_rows import VectorRows
from zeroshot.errors import ArtifactError, ZeroShotWarning

if TYPE_CHECKING:
    from zeroshot.embeddings.vectors.fasttext import FastTextModel
    from zeroshot.embeddings.vectors.unit_matrix import UnitMatrix

__all__ = ["GloVe", "Word2Vec", "WordVectors"]

T = TypeVar("T")

# Found words that a provider remembers: 1,000 labels are read again in 50 ms.
MOST_KNOWN = 2048
MOST_KNOWN_BYTES = 4 << 20


class WordVectors(WordTable):
    """A file of word vectors, read on demand.

    The form (text without or with a header, word2vec binary) and the packing (gzip,
    bzip2, xz, zip with one member) are recognised by content, so every subclass reads
    every form; they differ in their name. Nothing is read before first use. The first
    lookup scans the file (about 0.3 s per GB) and keeps an index of its tokens in the
    cache; every later one, in any process, seeks and parses only the rows it wants.
    A packed file is unpacked into the cache first. Where the cache cannot be written, a
    warning says so and the same is done again in each process, in memory. The last
    2,048 words that were found (at most 4 MB) are remembered.

    Threads may share a provider, and so may forked processes. Only its path is pickled.

    Parameters
    ----------
    path : str or path-like
        The file; ``~`` stands for the home folder.

    Attributes
    ----------
    path : str or path-like
        As given.

    Notes
    -----
    Bytes in tokens that are no UTF-8 do no harm: they appear as lone surrogates in
    `vocabulary` (``errors="surrogateescape"``). A token that occurs twice has its first
    row.

    Examples
    --------
    >>> vectors = WordVectors("glove.6B.300d.txt")
    >>> vectors.lookup(["zebra", "okapi"])  # doctest: +SKIP
    """

    name = "word2vec"
    holds = "the file of word vectors"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file = Path(os.path.abspath(Path(path).expanduser()))
        self._known: dict[str, NDArray[np.float32]] = {}
        self._units: UnitMatrix | None = None

    @property
    def dim(self) -> int:
        """Length of a word vector; reads the first MiB of the file.

        Raises ArtifactError if the file is missing or no file of word vectors.
        """
        return self._healed(lambda: self._rows.dim)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the form, the size and parts of the content of the file.

        See `zeroshot.embeddings.vectors.vector_file.content_fingerprint` for what it
        covers. Independent of where the file lies, its name and its times.
        """
        form = self._healed(lambda: self._rows.form)
        return content_fingerprint(self._file, form)

    @property
    def spec(self) -> str:
        """The name in the catalogue for a file of it, else name and absolute path."""
        from zeroshot.embeddings.catalogue import catalogue_name

        return catalogue_name(self._file) or f"{self.name}:{self._file}"

    def _lookup(
        self, words: list[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        known = self._known
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            self._check_unchanged()
            known = known | self._healed(lambda: self._rows.find(new))
            # Replaced, never changed: another thread may read it now.
            most = min(MOST_KNOWN, MOST_KNOWN_BYTES // (4 * self.dim))
            last = islice(known.items(), max(0, len(known) - most), None)
            self._known = dict(last)
        vectors = np.full((len(words), self.dim), np.nan, dtype=np.float32)
        found = np.zeros(len(words), dtype=np.bool_)
        for row, word in enumerate(words):
            if word in known:
                vectors[row], found[row] = known[word], True
        return vectors, found

    def vocabulary(self) -> Iterator[str]:
        """Yield every word of the file once, in its order; makes one pass.

        Yields
        ------
        word : str
            Before a broken row, at which the pass ends in an ArtifactError.
        """
        self._check_unchanged()
        try:
            yield from self._rows.words()
        except DamagedCopyError:
            self.__dict__.pop("_rows", None)
            raise

    def unit_matrix(self, n_words: int | None = None) -> "UnitMatrix":
        """Return the unit vectors of the first words, from the cache or built there.

        Parameters
        ----------
        n_words : int, optional
            How many are needed; all by default. There may be more.

        Returns
        -------
        units : zeroshot.embeddings.vectors.unit_matrix.UnitMatrix
        """
        from zeroshot.embeddings.vectors.unit_matrix import cached_units

        self._check_unchanged()
        units = self._units
        if units is None or not units.has(n_words):
            path = cached_path(self._file, ".units")
            key = content_key(self._file, f"units {self.dim} {self.fingerprint}")

            def made() -> "UnitMatrix":
                rows = self._rows
                dim, n = rows.dim, len(rows)
                return cached_units(path, key, dim, rows.blocks, n_words, n)

            units = self._units = self._healed(made)
        return units

    def _healed(self, read: Callable[[], T]) -> T:
        """Read; where a copy in the cache is damaged, unpack it anew and read again."""
        try:
            return read()
        except DamagedCopyError as error:
            warn(f"{error}", ZeroShotWarning, stacklevel=4)
            self.__dict__.pop("_rows", None)
            return read()

    @cached_property
    def _rows(self) -> "VectorRows | FastTextModel":
        self._check_unchanged()
        return VectorRows(self._file)

    @cached_property
    def _stamp(self) -> FileStamp:
        return file_stamp(self._file)

    def _check_unchanged(self) -> None:
        # Else some vectors would be those of one file and some those of another.
        if file_stamp(self._file) != self._stamp:
            raise ArtifactError(
                f"Expected '{self._file}' as it was on first use. Got a file that was "
                f"changed since. Open it again."
            )

    def __getstate__(self) -> dict[str, Any]:
        # Only the path travels: another process reads the file again when it needs to.
        return {"path": self.path, "_file": self._file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        WordVectors.__init__(self, state["path"])
        self._file = state["_file"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({os.fspath(self.path)!r})"


class GloVe(WordVectors):
    """Word vectors in GloVe's form: lines of a word and numbers, no header.

    Reads every form that `WordVectors` reads.

    Parameters
    ----------
    path : str or path-like
        The file, such as ``glove.6B.300d.txt``.

    References
    ----------
    .. [1] Pennington, Socher, Manning, "GloVe: Global Vectors for Word Representation",
       EMNLP 2014.
    """

    name = "glove"


class Word2Vec(WordVectors):
    """Word vectors in word2vec's form, text or binary: a header, then the rows.

    Reads every form that `WordVectors` reads.

    Parameters
    ----------
    path : str or path-like
        The file, such as ``GoogleNews-vectors-negative300.bin.gz``.

    References
    ----------
    .. [1] Mikolov et al., "Distributed Representations of Words and Phrases and their
       Compositionality", NIPS 2013.
    """

    name = "word2vec"
