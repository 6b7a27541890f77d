"""fastText: the ``.bin`` model with subwords, and ``.vec`` text without."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import check_words
from zeroshot.embeddings.vectors.fasttext_model import FastTextModel
from zeroshot.embeddings.vectors.vector_file import is_fasttext
from zeroshot.embeddings.vectors.vector_rows import VectorRows
from zeroshot.embeddings.vectors.word_vectors import WordVectors

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
        rows = self._rows
        if isinstance(rows, VectorRows):
            return self.lookup(words)[1]
        self._check_unchanged()
        stored = rows.stored(words)
        return np.array([word in stored for word in words], dtype=np.bool_)

    @cached_property
    def _rows(self) -> VectorRows | FastTextModel:
        self._check_unchanged()
        kind = FastTextModel if is_fasttext(self._file) else VectorRows
        return kind(self._file)
