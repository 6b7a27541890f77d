"""The words nearest to a word or vector, and the words of an open vocabulary."""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.embeddings.base import SupportsVocabulary, TextEmbeddings
from zeroshot.embeddings.vectors.unit_matrix import SCALE, UnitMatrix, make_units
from zeroshot.errors import ArtifactError, OutOfVocabularyError, PluginContractError

__all__ = ["nearest", "open_vocabulary"]

# How many words are compared exactly, at most, should very many be about as near.
MOST_CANDIDATES = 10_000


@runtime_checkable
class _KeepsUnits(Protocol):
    def unit_matrix(self, n_words: int | None = None) -> UnitMatrix: ...


def nearest(
    embeddings: TextEmbeddings, word_or_vector: str | ArrayLike, k: int = 10
) -> list[tuple[str, float]]:
    """Return the words whose vectors have the greatest cosine with a word or vector.

    ``embeddings``: with `SupportsVocabulary`. A file of word vectors gets a matrix of 2
    bytes a number in the cache, the first time. ``word_or_vector``: (dim,), A word is
    not among its own neighbours. ``k``: how many; at least 1. Returns neighbours:
    nearest first; words and cosines in [-1, 1]. At most ``k``. Raises
    OutOfVocabularyError if the word is not known; PluginContractError if ``embeddings``
    cannot list its words, ``k`` is less than 1, or the vector has another shape, is
    zero or not finite; ArtifactError if the file is broken.

    Notes
    -----
    Exact: the matrix chooses every word that may be among the first ``k``, given the
    bound of its rounding, and their cosines are computed in float64 from the vectors
    themselves. Only where more than 10,000 words are within that bound (some 0.0005) of
    each other may one of them be missed.
    """
    if not isinstance(k, int | np.integer) or k < 1:
        raise PluginContractError(
            f"Expected k of at least 1. Got {k!r}. Pass 1 to 100."
        )
    if isinstance(word_or_vector, str):
        vectors, found = embeddings.lookup([word_or_vector])
        if not found[0]:
            raise OutOfVocabularyError(
                f"Expected a word that {embeddings.name!r} knows. Got "
                f"{word_or_vector!r}. Check its spelling.",
                [word_or_vector],
            )
        query, excluded = vectors[0].astype(np.float64), {word_or_vector}
    else:
        query, excluded = np.asarray(word_or_vector, dtype=np.float64), set()
    if query.shape != (embeddings.dim,) or not 0 < np.linalg.norm(query) < np.inf:
        raise PluginContractError(
            f"Expected a finite vector of {embeddings.dim} numbers, not all zero. Got "
            f"shape {query.shape} and length {np.linalg.norm(query)}. Pass a word or "
            f"the vector of one."
        )
    unit = query / np.linalg.norm(query)
    units = _units(embeddings, None)
    rows = _candidates(units, unit, int(k) + len(excluded))
    words = [
        word for word in (units.words[row] for row in rows) if word not in excluded
    ]
    vectors, found = embeddings.lookup(words)
    if not found.all():
        raise ArtifactError(
            f"Expected {embeddings.name!r} to know its own words. Got no vector for "
            f"{words[int(np.argmin(found))]!r}. The file was changed: open it again."
        )
    exact = vectors.astype(np.float64)
    cosines = exact @ unit / np.linalg.norm(exact, axis=1)
    order = np.argsort(-cosines, kind="stable")[:k]
    return [(words[i], min(1.0, max(-1.0, float(cosines[i])))) for i in order]


def open_vocabulary(
    embeddings: TextEmbeddings, max_words: int = 100_000
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the most frequent words and their unit vectors, to predict any of them.

    ``embeddings``: with `SupportsVocabulary`. ``max_words``: at most so many, from the
    start of the file: published files are sorted by frequency. 100,000 words of 300
    numbers take 120 MB. Returns words: without those whose vector is zero; units
    (n_words, dim) float32: of length 1, and within ``1.6e-5 * sqrt(dim)`` of the exact
    unit vectors. Raises PluginContractError if ``embeddings`` cannot list its words or
    ``max_words`` is less than 1; ArtifactError if the file is broken.
    """
    if not isinstance(max_words, int | np.integer) or max_words < 1:
        raise PluginContractError(
            f"Expected max_words of at least 1. Got {max_words!r}. Pass 100_000."
        )
    units = _units(embeddings, int(max_words))
    matrix = units.matrix[:max_words].astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return list(units.words[:max_words]), matrix


def _units(embeddings: TextEmbeddings, n_words: int | None) -> UnitMatrix:
    if isinstance(embeddings, _KeepsUnits):
        return embeddings.unit_matrix(n_words)
    if not isinstance(embeddings, SupportsVocabulary):
        raise PluginContractError(
            f"Expected text embeddings that can list their words. Got "
            f"{embeddings.name!r}, which has no vocabulary(). Use a file of vectors."
        )
    words = list(islice(embeddings.vocabulary(), n_words))
    return make_units([(words, embeddings.lookup(words)[0])], embeddings.dim)


def _candidates(units: UnitMatrix, unit: NDArray[np.float64], k: int) -> Sequence[int]:
    """Return every row that may be among the k nearest, in order."""
    scores = units.scores(unit.astype(np.float32))
    if k >= len(scores):
        return range(len(scores))
    # Rounding of the matrix, and of sums of float32, each word's and the k-th's.
    bound = 2 * (0.5 / SCALE * np.abs(unit).sum() + 1e-5)
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    rows = np.flatnonzero(scores >= least - bound)
    most = max(MOST_CANDIDATES, k)
    if len(rows) > most:
        rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[:most]])
    chosen: list[int] = rows.tolist()
    return chosen
