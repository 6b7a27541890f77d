"""Class attributes: one hand-made or given vector for each label."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.embeddings.attribute_table import checked_table, read_table
from zeroshot.embeddings.base import SupportsClassIds, WordTable, check_words
from zeroshot.errors import ArtifactError, PluginContractError

__all__ = ["Attributes"]


class Attributes(WordTable, SupportsClassIds):
    """A table of labels and their vectors, from a file or from memory.

    A file is recognised by its content:

    - CSV (commas, semicolons or tabs; UTF-8): the label, then its numbers. A first line
      whose other cells are not all numbers, or whose first cell is empty, is a header.
    - NumPy ``.npz``: an array of labels named ``class_names``, ``labels`` or ``words``,
      and a matrix (n, dim) named ``class_vectors``, ``matrix``, ``vectors`` or
      ``attributes``.
    - MATLAB ``.mat`` up to version 7, as in the splits of Xian et al.: ``att`` (dim, n)
      and ``allclasses_names``, a cell array.

    Labels are kept as they are stored ("grizzly+bear"). A file is read whole, on first
    use.

    Parameters
    ----------
    source : str, path-like or sequence of str
        The file, or with ``matrix`` the labels.
    matrix : array-like of shape (n, dim), optional
        A finite vector, not zero, for each label; copied.

    Raises
    ------
    ArtifactError
        When made from memory, or on first use of a file: if labels and vectors do not
        fit together, or a vector is all zeros (it has no direction) or not finite. A
        label that occurs twice with different vectors is an error when it is looked up,
        and no part of the vocabulary: published tables have such labels ("crane" is a
        bird and a machine).

    References
    ----------
    .. [1] Lampert et al., "Attribute-Based Classification for Zero-Shot Visual Object
       Categorization", TPAMI 2014.
    .. [2] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good,
       the Bad and the Ugly", TPAMI 2018.

    Examples
    --------
    >>> animals = Attributes(["zebra", "bear"], [[1, 0, 1], [0, 1, 0]])
    >>> animals.lookup(["bear", "okapi"])
    (array([[ 0.,  1.,  0.],
           [nan, nan, nan]], dtype=float32), array([ True, False]))
    """

    name = "attributes"
    holds = "a CSV, .npz or .mat file of class attributes"

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str],
        matrix: ArrayLike | None = None,
    ) -> None:
        self._path: Path | None = None
        if isinstance(source, str | os.PathLike):
            if matrix is not None:
                raise PluginContractError(
                    f"Expected either a file, or labels and a matrix. Got the file "
                    f"'{os.fspath(source)}' and a matrix. Leave one out."
                )
            self._path = Path(os.path.abspath(Path(source).expanduser()))
        elif matrix is None:
            raise PluginContractError(
                "Expected a matrix of vectors beside the labels. Got None. "
                "Write Attributes(labels, matrix)."
            )
        else:
            # Copied now: the caller may change the list and the array afterwards.
            self.table = checked_table(check_words(source), matrix, "the labels given")

    @property
    def dim(self) -> int:
        """Number of attributes; an ArtifactError if the file is broken."""
        return int(self.table[1].shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all labels and vectors; the same for any form of them."""
        labels, matrix = self.table
        digest = hashlib.sha256(f"attributes {matrix.shape}".encode())
        for label in labels:
            digest.update(label.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
        return f"sha256:{digest.hexdigest()}"

    @property
    def spec(self) -> str | None:
        """The spec string with the absolute path; None for a table in memory."""
        return None if self._path is None else f"{self.name}:{self._path}"

    def _lookup(
        self, words: list[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        row_of, ambiguous = self._rows
        if doubtful := [word for word in dict.fromkeys(words) if word in ambiguous]:
            rows_of = (
                f"'{word}' (rows {', '.join(map(str, ambiguous[word]))})"
                for word in doubtful
            )
            raise ArtifactError(
                f"Expected one vector for each label. Got different ones for "
                f"{', '.join(rows_of)} in "
                f"{'the labels given' if self._path is None else repr(str(self._path))}"
                f". Rename or remove all but one."
            )
        rows = np.array([row_of.get(word, -1) for word in words], dtype=np.intp)
        found = rows >= 0
        return np.where(found[:, None], self.table[1][rows], np.float32(np.nan)), found

    def vocabulary(self) -> Iterator[str]:
        """Yield every label that `lookup` finds once, in the order of the table.

        Yields
        ------
        label : str
            None of those that stand for several different vectors.
        """
        yield from self._rows[0]

    @cached_property
    def table(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """All labels and their vectors, (n, dim), as stored: ``Attributes(*table)``.

        An ArtifactError if the file is broken.
        """
        assert self._path is not None  # a table in memory was stored by __init__
        return read_table(self._path)

    @cached_property
    def _rows(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """Row of each label; and of those with several vectors the rows, from 1."""
        labels, matrix = self.table
        row_of: dict[str, int] = {}
        ambiguous: dict[str, list[int]] = {}
        first = np.fromiter(
            (row_of.setdefault(label, row) for row, label in enumerate(labels)),
            np.intp,
            len(labels),
        )
        for row in np.flatnonzero((matrix[first] != matrix).any(axis=1)).tolist():
            rows = ambiguous.setdefault(labels[row], [int(first[row]) + 1])
            rows.append(row + 1)
        for label in ambiguous:
            del row_of[label]
        return row_of, ambiguous

    def __getstate__(self) -> dict[str, Any]:
        if self._path is not None:  # another process reads the file again
            return {"_path": self._path}
        return {"_path": None, "table": self.table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is None:
            self.table[1].flags.writeable = False  # which pickling forgets

    def __repr__(self) -> str:
        if self._path is not None:
            return f"Attributes({str(self._path)!r})"
        return f"<Attributes of {len(self.table[0])} labels, dim {self.dim}>"
