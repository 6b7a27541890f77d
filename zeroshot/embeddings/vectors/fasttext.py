"""fastText: the ``.bin`` model with subwords, and ``.vec`` text without."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import check_words
from zeroshot.embeddings.vectors.fasttext_model import FastTextModel
from zeroshot.embeddings.vectors.unpacked import unpacked_file
from zeroshot.embeddings.vectors.vector_file import (
    FASTTEXT_MAGIC,
    content_fingerprint,
    open_stream,
)
from zeroshot.embeddings.vectors.vector_rows import as_tokens
from zeroshot.embeddings.vectors.word_vectors import BLOCK_WORDS, WordVectors
from zeroshot.errors import ArtifactError

__all__ = ["FastText"]


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

    @property
    def dim(self) -> int:
        """Length of a word vector; reads the head of the file.

        Raises
        ------
        ArtifactError
            If the file is missing or neither a ``.bin`` model nor vectors as text.
        """
        return self._layout.dim if self._model is None else self._model.dim

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the form, the size and parts of the content of the file.

        See `zeroshot.embeddings.vectors.vector_file.content_fingerprint` for what it
        covers.
        """
        form = self._layout.form if self._model is None else "fasttext-bin"
        return content_fingerprint(self._file, form)

    def vocabulary(self) -> Iterator[str]:
        """Yield every word (no labels) once, in the order of the file.

        Yields
        ------
        word : str

        Raises
        ------
        ArtifactError
            If the file is broken.
        """
        if self._model is None:
            yield from super().vocabulary()
        else:
            self._check_unchanged()
            for word in self._model.words():
                yield word.decode("utf-8", "surrogateescape")

    def blocks(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield all words (no labels) and vectors, some thousand at once.

        Yields
        ------
        words : list of str
        vectors : ndarray of shape (n, dim), float32

        Raises
        ------
        ArtifactError
            If the file is broken or a vector not finite.
        """
        if self._model is None:
            yield from super().blocks()
            return
        self._check_unchanged()
        words = self._model.words()
        while some := list(islice(words, BLOCK_WORDS)):
            vectors = self._model.vectors(some)
            yield (
                [word.decode("utf-8", "surrogateescape") for word in vectors],
                np.array(list(vectors.values())),
            )

    def in_vocabulary(self, words: Sequence[str]) -> NDArray[np.bool_]:
        """Return which words have a vector of their own, not composed from n-grams.

        Parameters
        ----------
        words : sequence of str

        Returns
        -------
        known : ndarray of shape (n,), bool
            For ``.vec`` the same as ``found`` of `lookup`.

        Raises
        ------
        ArtifactError, PluginContractError
            As in `lookup`.
        """
        words = check_words(words)
        if self._model is None:
            return self.lookup(words)[1]
        self._check_unchanged()
        tokens = as_tokens(set(words))
        known = {tokens[token] for token in self._model.rows_of(tokens.keys())}
        return np.array([word in known for word in words], dtype=np.bool_)

    @cached_property
    def _model(self) -> FastTextModel | None:
        self._check_unchanged()
        with open_stream(self._file) as stream:
            magic = stream.read(len(FASTTEXT_MAGIC))
        if magic != FASTTEXT_MAGIC:
            return None
        source = unpacked_file(self._file, least=0)
        if source is None:
            raise ArtifactError(
                f"Expected an unpacked fastText model. Got '{self._file}', which is "
                f"packed, cannot be memory-mapped, and could not be unpacked into the "
                f"cache. Unpack it and name the .bin file."
            )
        return FastTextModel(self._file, source)

    @property
    def _n_rows(self) -> int:
        return super()._n_rows if self._model is None else self._model.n_words

    def _read(self, words: set[str]) -> dict[str, NDArray[np.float32] | None]:
        if self._model is None:
            return super()._read(words)
        self._check_unchanged()
        tokens = as_tokens(words)
        vectors = self._model.vectors(tokens.keys())
        return dict.fromkeys(words) | {
            tokens[t]: vector for t, vector in vectors.items()
        }
