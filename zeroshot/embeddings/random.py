"""Random word vectors: the control that says what the meaning of words contributes."""

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import SupportsClassIds, check_words
from zeroshot.errors import PluginContractError

__all__ = ["RandomEmbeddings"]


class RandomEmbeddings(SupportsClassIds):
    """A seeded random vector for any word, as in the control experiment of DeViSE.

    A vector depends only on ``seed``, ``dim`` and the word. Its numbers are standard
    normal, so any two words are nearly orthogonal.

    Parameters
    ----------
    dim : int, default=300
        Length of a vector, at least 1.
    seed : int, default=0
        Another seed gives other vectors.

    References
    ----------
    .. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013,
       section 4.2 (random embeddings as a control).

    Examples
    --------
    >>> vectors, found = RandomEmbeddings(dim=4).lookup(["zebra", "zebra", "okapi"])
    >>> vectors.shape, found.all()
    ((3, 4), np.True_)
    """

    name = "random"

    def __init__(self, dim: int = 300, seed: int = 0) -> None:
        self._dim = dim
        self.seed = seed

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make a provider from ``"random"``, ``"random:DIM"`` or ``"random:DIM:SEED"``.

        Parameters
        ----------
        name : str
            Registered name (unused: the class has it).
        argument : str or None
            What follows the first colon.

        Raises
        ------
        PluginContractError
            If it is not one or two whole numbers.
        """
        try:
            numbers = [int(part) for part in argument.split(":")] if argument else []
            made = cls(*numbers)
        except (TypeError, ValueError) as error:
            raise PluginContractError(
                f"Expected '{cls.name}', '{cls.name}:100' (length) or "
                f"'{cls.name}:100:7' (length and seed). Got "
                f"'{cls.name}:{argument}'. Give whole numbers."
            ) from error
        made.dim  # noqa: B018 - refuse an impossible length now
        return made

    @property
    def dim(self) -> int:
        """Length of a vector; a PluginContractError if it is no int or below 1."""
        if isinstance(self._dim, bool) or not isinstance(self._dim, int | np.integer):
            got = f"{self._dim!r} of type '{type(self._dim).__name__}'"
        elif self._dim < 1:
            got = f"{self._dim}"
        else:
            return int(self._dim)
        raise PluginContractError(
            f"Expected 'dim' as an int of at least 1. Got {got}. Give the length of "
            f"the vectors, such as 300."
        )

    @property
    def fingerprint(self) -> str:
        """The recipe: name, length and seed."""
        return f"random-normal-{self.dim}-{self.seed}"

    @property
    def spec(self) -> str:
        """The spec string, such as ``"random:300:0"``."""
        return f"{self.name}:{self.dim}:{self.seed}"

    def lookup(
        self, words: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Draw the vector of each word.

        Parameters
        ----------
        words : sequence of str
            Any words; may be empty and may repeat a word.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            Standard normal numbers, the same for the same word every time.
        found : ndarray of shape (n,), bool
            All true.
        """
        words = check_words(words)
        vectors = np.empty((len(words), self.dim), dtype=np.float32)
        for row, word in enumerate(words):
            key = f"{self.seed}:{self.dim}:{word}".encode("utf-8", "surrogatepass")
            number = int.from_bytes(hashlib.sha256(key).digest(), "little")
            vectors[row] = np.random.default_rng(number).standard_normal(self.dim)
        return vectors, np.ones(len(words), dtype=np.bool_)

    def __sklearn_clone__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"RandomEmbeddings(dim={self._dim!r}, seed={self.seed!r})"
