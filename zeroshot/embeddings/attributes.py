"""Class attributes: one hand-made or given vector for each label."""

import hashlib
import os
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.embeddings.attribute_table import checked_table, read_table
from zeroshot.embeddings.base import check_words
from zeroshot.errors import ArtifactError, PluginContractError

__all__ = ["Attributes"]


class Attributes:
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
        label that occurs twice with different vectors is an error when it is looked up:
        published tables have such labels ("crane" is a bird and a machine).

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
            self._table = checked_table(check_words(source), matrix, "the labels given")

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make a provider from a spec string, ``"attributes:/path/to/file"``.

        Parameters
        ----------
        name : str
            Registered name (unused: the class has it).
        argument : str or None
            Path of the file.

        Raises
        ------
        PluginContractError
            If there is no path.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{cls.name}:/path/to/file'. Got '{cls.name}' without a path."
                f" Name a CSV, .npz or .mat file of class attributes after a colon."
            )
        return cls(argument)

    @property
    def dim(self) -> int:
        """Number of attributes.

        Raises
        ------
        ArtifactError
            If the file is broken.
        """
        return int(self._table[1].shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all labels and vectors; the same for any form of them."""
        labels, matrix = self._table
        digest = hashlib.sha256(f"attributes {matrix.shape}".encode())
        for label in labels:
            digest.update(label.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
        return f"sha256:{digest.hexdigest()}"

    @property
    def spec(self) -> str | None:
        """The spec string with the absolute path; None for a table in memory."""
        return None if self._path is None else f"{self.name}:{self._path}"

    def lookup(
        self, words: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Look labels up, exactly as they are written.

        Parameters
        ----------
        words : sequence of str
            May be empty and may repeat a word.

        Returns
        -------
        vectors : ndarray of shape (n, dim), float32
            As stored, not normalised; NaN where a label was not found.
        found : ndarray of shape (n,), bool
            Which labels were found.

        Raises
        ------
        ArtifactError
            If the file is broken, or a label stands for several different vectors.
        PluginContractError
            If ``words`` is a bare string or holds anything but strings.
        """
        words = check_words(words)
        matrix = self._table[1]
        vectors = np.full((len(words), self.dim), np.nan, dtype=np.float32)
        found = np.zeros(len(words), dtype=np.bool_)
        for position, word in enumerate(words):
            rows = self._rows.get(word)
            if rows is None:
                continue
            if any(not np.array_equal(matrix[rows[0]], matrix[row]) for row in rows):
                raise ArtifactError(
                    f"Expected one vector for the label '{word}'. Got different ones "
                    f"in rows {', '.join(str(row + 1) for row in rows)} of "
                    f"{self._described}. Rename or remove all but one."
                )
            vectors[position], found[position] = matrix[rows[0]], True
        return vectors, found

    def vocabulary(self) -> Iterator[str]:
        """Yield every label once, in the order of the table.

        Yields
        ------
        label : str
        """
        yield from self._rows

    def nearest(
        self, word_or_vector: str | ArrayLike, k: int = 10
    ) -> list[tuple[str, float]]:
        """Return the labels of greatest cosine (`zeroshot.embeddings.vectors`).

        Parameters
        ----------
        word_or_vector : str or array-like of shape (dim,)
            A label is not among its own neighbours.
        k : int, default=10
            How many; at least 1.

        Returns
        -------
        neighbours : list of tuple of str and float
            Nearest first; labels and cosines in [-1, 1].
        """
        from zeroshot.embeddings.vectors.neighbours import nearest

        return nearest(self, word_or_vector, k)

    @cached_property
    def _table(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        assert self._path is not None  # a table in memory was stored by __init__
        return read_table(self._path)

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, label in enumerate(self._table[0]):
            rows.setdefault(label, []).append(row)
        return rows

    @property
    def _described(self) -> str:
        return "the labels given" if self._path is None else f"'{self._path}'"

    def id_token(self, label: Hashable) -> str:
        """Return the text of a label that is not a string: it may be a row's label.

        Parameters
        ----------
        label : hashable

        Returns
        -------
        token : str
        """
        return str(label)

    def __sklearn_clone__(self) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        if self._path is not None:  # another process reads the file again
            return {"_path": self._path}
        return {"_path": None, "_table": self._table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is None:
            self._table[1].flags.writeable = False  # which pickling forgets

    def __repr__(self) -> str:
        if self._path is not None:
            return f"Attributes({str(self._path)!r})"
        return f"<Attributes of {len(self._table[0])} labels, dim {self.dim}>"
