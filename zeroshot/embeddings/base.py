"""The contract of a provider of word vectors, and what our own ones share."""

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.errors import PluginContractError

__all__ = [
    "PhraseEncoder",
    "SupportsClassIds",
    "SupportsDefaultTemplates",
    "SupportsFetching",
    "SupportsNeighbours",
    "SupportsPhrases",
    "SupportsSubwords",
    "SupportsVocabulary",
    "TextEmbeddings",
    "WordTable",
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
        return str(label)


@runtime_checkable
class SupportsPhrases(Protocol):
    """A provider that encodes whole phrases, such as the text tower of CLIP.

    Its labels skip the cascade of words: none is out of its vocabulary.
    """

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts as they are.

        Parameters
        ----------
        texts : sequence of str
            May be empty and may repeat a text.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            Finite; not normalised. A row depends on its own text only.
        """


@runtime_checkable
class SupportsDefaultTemplates(Protocol):
    """A provider of phrases that knows the templates it was trained for."""

    @property
    def default_templates(self) -> Sequence[str]:
        """Texts in which ``{}`` stands for the label; taken where none are given."""


@runtime_checkable
class SupportsFetching(Protocol):
    """A provider that a name of a hub stands for, until it has been fetched."""

    def would_download(self) -> bool:
        """Tell whether it is not on this machine yet."""


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


class PhraseEncoder(TextEmbeddings, SupportsPhrases):
    """A provider of phrases, for which every text is a word: a base of such providers.

    A subclass adds ``_encode``, which gets a list of str that is not empty, and the
    properties (``fingerprint`` as a property or of the class, not set in ``__init__``).
    It is immutable, so scikit-learn's ``clone`` gives the provider itself.
    """

    def __init__(self) -> None:
        """Take no arguments, unless a subclass does."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts as they are.

        Parameters
        ----------
        texts : sequence of str
            May be empty and may repeat a text.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            Finite; not normalised. A row depends on its own text only.

        Raises
        ------
        PluginContractError
            If ``texts`` is a bare string or holds anything but strings.
        """
        texts = check_words(texts)
        return self._encode(texts) if texts else np.empty((0, self.dim), np.float32)

    def lookup(
        self, words: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Encode texts; all are found.

        Parameters
        ----------
        words : sequence of str
            May be empty and may repeat a word.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            As `encode` returns them.
        found : ndarray of shape (n,), bool
            All true.
        """
        vectors = self.encode(words)
        return vectors, np.ones(len(vectors), np.bool_)

    @abstractmethod
    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode at least one text; all are strings."""

    def __sklearn_clone__(self) -> Self:
        return self


class WordTable(TextEmbeddings):
    """Words and their vectors, listed in a file: a base of our own providers.

    A subclass adds ``_lookup``, which gets a list of str, ``vocabulary`` and the
    properties. It is immutable, so scikit-learn's ``clone`` gives the provider itself.
    """

    name: str
    holds: str  # what `from_spec` asks for

    @abstractmethod
    def __init__(self, path: str) -> None:
        """Remember the path of the file."""

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make a provider from a spec string, such as ``"glove:/path/to/file"``.

        The argument is what follows the colon; a PluginContractError without one.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{cls.name}:/path/to/file'. Got '{cls.name}' without a path."
                f" Name {cls.holds} after a colon."
            )
        return cls(argument)

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
            As stored, not normalised; NaN where a word was not found.
        found : ndarray of shape (n,), bool
            Which words were found.

        Raises
        ------
        ArtifactError
            If the file or a wanted row is broken, or a label stands for several
            different vectors; names the place.
        PluginContractError
            If ``words`` is a bare string or holds anything but strings.
        """
        return self._lookup(check_words(words))

    def nearest(
        self, word_or_vector: str | ArrayLike, k: int = 10
    ) -> list[tuple[str, float]]:
        """Return the words of greatest cosine; see `neighbours.nearest` in `vectors`.

        Parameters
        ----------
        word_or_vector : str or array-like of shape (dim,)
            A word is not among its own neighbours.
        k : int, default=10
            How many; at least 1.

        Returns
        -------
        neighbours : list of tuple of str and float
            Words and cosines in [-1, 1], nearest first.
        """
        from zeroshot.embeddings.vectors.neighbours import nearest

        return nearest(self, word_or_vector, k)

    @abstractmethod
    def _lookup(
        self, words: list[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Look up words that are all text."""

    def __sklearn_clone__(self) -> Self:
        return self
