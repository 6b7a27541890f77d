"""The contract of a provider of word vectors."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.errors import PluginContractError

__all__ = [
    "SupportsClassIds",
    "SupportsNeighbours",
    "SupportsSubwords",
    "SupportsVocabulary",
    "TextEmbeddings",
    "check_words",
]


@runtime_checkable
class TextEmbeddings(Protocol):
    """A table of word vectors, or something that behaves like one.

    It only looks words up. Spelling variants, phrases, aliases and what to do about
    unknown words are the business of `zeroshot.labels.cascade`, once, for all
    providers.
    """

    @property
    def name(self) -> str:
        """Registry name, such as ``"glove"``."""

    @property
    def dim(self) -> int:
        """Length of a word vector."""

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever vectors would; the same wherever a file lies."""

    def lookup(
        self, words: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Look words up, exactly as they are written.

        Parameters
        ----------
        words : sequence of str
            May be empty and may repeat a word.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            As stored, not normalised. A word not found has a row of NaN, never zeros.
        found : ndarray of shape (n,), bool
            Which words were found.

        Raises
        ------
        PluginContractError
            If ``words`` is a bare string or holds anything but strings.
        """


@runtime_checkable
class SupportsVocabulary(Protocol):
    """A provider that can list the words it knows, for suggestions of spelling."""

    def vocabulary(self) -> Iterator[str]:
        """Yield every known word once, most frequent first where that is known."""


@runtime_checkable
class SupportsSubwords(Protocol):
    """A provider whose ``lookup`` also composes words that it does not store."""

    def in_vocabulary(self, words: Sequence[str]) -> NDArray[np.bool_]:
        """Return which words are stored, as opposed to composed; shape (n,), bool."""


@runtime_checkable
class SupportsClassIds(Protocol):
    """A provider whose tokens may be ids of classes, not only words of a language."""

    def id_token(self, label: Hashable) -> str:
        """Return the token of a label that is not a string, such as ``"7"`` of 7."""


@runtime_checkable
class SupportsNeighbours(Protocol):
    """A provider that can find the words nearest to a word or vector."""

    def nearest(
        self, word_or_vector: str | ArrayLike, k: int = 10
    ) -> list[tuple[str, float]]:
        """Return the ``k`` words of greatest cosine and their cosines, nearest first.

        A word is not among its own neighbours.
        """


def check_words(words: Sequence[str]) -> list[str]:
    """Return ``words`` as a list, refusing a bare string and anything but strings.

    An integer is refused too: it is a word nowhere and must never become a row number.

    Raises
    ------
    PluginContractError
        Also a ``TypeError``; names the culprit.
    """
    if isinstance(words, str | bytes):
        raise PluginContractError(
            f"Expected a sequence of words. Got the single string {words!r}. "
            f"Write [{words!r}]."
        )
    words = list(words)
    for position, word in enumerate(words):
        if not isinstance(word, str):
            raise PluginContractError(
                f"Expected words as str. Got {word!r} of type "
                f"{type(word).__name__!r} at position {position}. Convert it to str."
            )
    return words
