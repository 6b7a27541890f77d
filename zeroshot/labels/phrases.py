"""Names to vectors, by a provider that encodes whole phrases.

What is encoded once is remembered, by text and fingerprint: an encoder takes some
milliseconds for a text, and the same labels come in every call.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import SupportsPhrases, TextEmbeddings
from zeroshot.errors import PluginContractError
from zeroshot.per_process import PerProcess
from zeroshot.progress import progress_bar

__all__ = ["encode_names", "encoded", "mean_direction"]

MOST_REMEMBERED = 64 << 20  # bytes: 30,000 names of 512 numbers
ROOM_OF_A_NAME = 500  # bytes beside its vector
# A vector as long as this is of unit length, and stays what it is, bit for bit.
ROUNDING = 1e-6


def encode_names(
    names: Sequence[Sequence[str]], embeddings: TextEmbeddings
) -> NDArray[np.float32]:
    """Return a vector for each label, from its names.

    ``names``: of each label, at least one; the vector of a label is the direction of
    their mean. ``embeddings``: which `SupportsPhrases`. Returns (n_labels, dim_text):
    rows of unit length, or of zeros where the provider gives zeros. Raises
    PluginContractError if it returns anything but finite vectors.

    Each name is encoded in a call of its own. So its vector is the same to the last
    bit whatever else is asked for, even of an encoder that pads its texts to the
    longest one; and a call for one label costs no more than that label.
    """
    assert isinstance(embeddings, SupportsPhrases)
    key = embeddings.fingerprint
    memory = _MEMORY()
    found: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys(name for group in names for name in group):
        vector = memory.get((key, name))
        if vector is not None:
            found[name] = vector
    new = [name for group in names for name in group if name not in found]
    new = [*dict.fromkeys(new)]
    with progress_bar("labels", len(new)) as advance:
        for name in new:
            found[name] = mean_direction(encoded([name], embeddings))
            memory.keep((key, name), found[name])
            advance()
    Y = np.empty((len(names), embeddings.dim), np.float32)
    for row, group in enumerate(names):
        vectors = [found[name] for name in group]
        Y[row] = vectors[0] if len(group) == 1 else mean_direction(np.stack(vectors))
    return Y


def mean_direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the direction of the mean of vectors (n, dim), each at unit length first.

    Zeros take no part, and are what is returned where there is nothing else.
    """
    units = vectors.astype(np.float64)
    norms = np.linalg.norm(units, axis=1)
    units = units[norms > 0] / norms[norms > 0, None]
    if len(vectors) == 1 and len(units) and abs(norms[0] - 1) < ROUNDING:
        return np.asarray(vectors[0])
    total = units.sum(axis=0)
    norm = np.linalg.norm(total)
    # Below this the sum is rounding error, not a direction.
    return np.asarray(total / (norm if norm > ROUNDING else np.inf), np.float32)


def encoded(texts: Sequence[str], embeddings: TextEmbeddings) -> NDArray[np.float32]:
    """Return what a provider of phrases makes of texts, (n, dim), if it is usable.

    Raises PluginContractError where it is not.
    """
    assert isinstance(embeddings, SupportsPhrases)
    vectors: Any = embeddings.encode(texts)
    wanted = (len(texts), embeddings.dim)
    got = f"{vectors!r:.60} of type '{type(vectors).__name__}'"
    if isinstance(vectors, np.ndarray):
        got = f"{vectors.dtype} of shape {vectors.shape}"
        if vectors.dtype == np.float32 and vectors.shape == wanted:
            if np.isfinite(vectors).all():
                return vectors
            got += ", not all finite"
    raise PluginContractError(
        f"Expected finite float32 of shape {wanted} from 'encode' of "
        f"'{embeddings.name}'. Got {got}. See docs/plugins.md."
    )


class _Memory:
    """The vectors of the names that were used last; many threads may ask."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> NDArray[np.float32] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: tuple[str, str], vector: NDArray[np.float32]) -> None:
        with self._lock:
            if key not in self._kept:
                self._size += _size(key, vector)
            self._kept[key] = vector
            while self._size > MOST_REMEMBERED:
                self._size -= _size(*self._kept.popitem(last=False))


def _size(key: tuple[str, str], vector: NDArray[np.float32]) -> int:
    return vector.nbytes + 4 * len(key[1]) + ROOM_OF_A_NAME


# A lock that another thread held when a process was forked is never released.
_MEMORY = PerProcess(_Memory)
