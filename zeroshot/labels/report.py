"""How a list of labels became class embeddings, and what to beware of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ZeroShotWarning
from zeroshot.escaping import escaped
from zeroshot.warning import warn

__all__ = ["How", "LabelEntry", "LabelReport", "first_few", "warn_of_identical"]

How: TypeAlias = Literal[
    "exact",
    "variant",
    "phrase",
    "alias",
    "number",
    "subwords",
    "mean",
    "encoded",
    "images",
]

Identical: TypeAlias = tuple[tuple[str, ...], ...]

# Numberbatch, ImageNet-1k names: above 0.8 lie 30 % of 212 pairs of WordNet synonyms
# (median cosine 0.67) but 9 of 117,370 pairs of different classes (violin and cello).
NEAR_SYNONYM_COSINE = 0.8
# Were nearest neighbours spread at random, a label would be the nearest of 6 or more
# others once in 1,700 labels (Poisson with mean 1).
HUB_COUNT = 6
ROWS_PER_BLOCK = 1024  # of the matrix of cosines between all labels
SHOWN = 10  # items named in a message


@dataclass(frozen=True, slots=True)  # a million take 140 MB, with dicts 330
class LabelEntry:
    """How one label got its class embedding.

    ``how``: the step that succeeded, see `zeroshot.labels.cascade`; ``"subwords"`` is a
    composed word, or a mean in which one takes part; ``"encoded"`` was encoded as a
    whole; ``"images"`` has no vector, and is known by its images alone. ``words``:
    those whose vectors were used, as the provider spells them, or the names that were
    encoded. ``missing``: words of the label that were left out because the provider
    lacks them.
    """

    label: str
    how: How
    words: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the entry that became a dict by `dataclasses.asdict`.

        Raises TypeError if something is no text.
        """
        label, how, words, missing = (content[field.name] for field in fields(cls))
        for text in (label, how, *words, *missing):
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is no text")
        return cls(label, how, tuple(words), tuple(missing))


@dataclass(frozen=True)
class LabelReport:
    """How a list of labels became class embeddings, and what to beware of.

    Parameters
    ----------
    entries : tuple of LabelEntry
        One per label, in the order given.
    identical : tuple of tuple of str
        Groups of labels that got the very same vector: they cannot be told apart.
    class_embeddings : ndarray of shape (n_labels, dim_text), float32
        Rows of unit length; `near_synonyms` and `hubs` are computed from them when
        first asked for.
    """

    entries: tuple[LabelEntry, ...]
    identical: tuple[tuple[str, ...], ...]
    class_embeddings: NDArray[np.float32] = field(repr=False, compare=False)

    @property
    def coverage(self) -> float:
        """Share of labels with no word left out, in [0, 1]."""
        return sum(not entry.missing for entry in self.entries) / len(self.entries)

    @property
    def near_synonyms(self) -> tuple[tuple[str, str, float], ...]:
        """Pairs of labels and their cosine where it is at least 0.8, closest first.

        Only reported: such labels are mistaken for each other often, but they are not
        wrong. Pairs that are in `identical` are left out.
        """
        return self._neighbourhood[0]

    @property
    def hubs(self) -> tuple[tuple[str, int], ...]:
        """Labels that are the nearest neighbour of at least 6 others, and of how many.

        The count is N_1 of Radovanović et al., "Hubs in Space" (JMLR 11, 2010, section
        3), among the class embeddings (mean 1). Hubs attract images of other classes
        too.
        """
        return self._neighbourhood[1]

    @cached_property
    def _neighbourhood(
        self,
    ) -> tuple[tuple[tuple[str, str, float], ...], tuple[tuple[str, int], ...]]:
        Y, names = self.class_embeddings, [entry.label for entry in self.entries]
        same = {label: n for n, group in enumerate(self.identical) for label in group}
        pairs, nearest_of = [], np.zeros(len(Y), np.int64)
        for start in range(0, len(Y) if len(Y) > 1 else 0, ROWS_PER_BLOCK):
            cosines = Y[start : start + ROWS_PER_BLOCK] @ Y.T
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
            nearest_of += np.bincount(cosines.argmax(axis=1), minlength=len(Y))
            for row, column in np.argwhere(cosines >= NEAR_SYNONYM_COSINE):
                a, b = names[start + row], names[column]
                if start + row < column and same.get(a, a) != same.get(b, b):
                    pairs.append((a, b, min(float(cosines[row, column]), 1.0)))
        pairs.sort(key=lambda pair: -pair[2])
        order = np.argsort(-nearest_of, kind="stable")
        hubs = [(names[i], int(nearest_of[i])) for i in order]
        return tuple(pairs), tuple(hub for hub in hubs if hub[1] >= HUB_COUNT)

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], class_embeddings: NDArray[np.float32]
    ) -> Self:
        """Return the report that `to_dict` was called on.

        Parameters
        ----------
        content : mapping
            As `to_dict` returned it.
        class_embeddings : ndarray of shape (n_labels, dim_text), float32
            The rows of the report.

        Returns
        -------
        report : LabelReport
        """
        return cls(
            tuple(LabelEntry.from_dict(entry) for entry in content["entries"]),
            tuple(tuple(map(str, group)) for group in content["identical"]),
            class_embeddings,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as lists, dicts, strings and numbers, ready for JSON.

        Returns
        -------
        content : dict
            With ``"coverage"``, ``"entries"``, ``"identical"``, ``"near_synonyms"`` and
            ``"hubs"``.
        """
        return {
            "coverage": self.coverage,
            "entries": [asdict(entry) for entry in self.entries],
            "identical": [list(group) for group in self.identical],
            "near_synonyms": [list(pair) for pair in self.near_synonyms],
            "hubs": [list(hub) for hub in self.hubs],
        }

    def __str__(self) -> str:
        """Return a plain-text table of the labels, then what to beware of."""
        rows = [("label", "how", "words", "left out")] + [
            tuple(
                map(escaped, (e.label, e.how, ", ".join(e.words), ", ".join(e.missing)))
            )
            for e in self.entries
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
        complete = round(self.coverage * len(self.entries))
        lines += ["", f"{complete} of {len(self.entries)} labels with no word left out"]
        near = [f"{a} ~ {b} ({cosine:.2f})" for a, b, cosine in self.near_synonyms]
        for title, found in (
            ("Same vector", [" = ".join(group) for group in self.identical]),
            ("Near synonyms", near),
            ("Hubs", [f"{a} (nearest of {n} others)" for a, n in self.hubs]),
        ):
            if found:
                lines.append(f"{title}: {escaped(first_few(found))}")
        return "\n".join(line.rstrip() for line in lines)


def identical_rows(matrix: NDArray[np.float32]) -> list[list[int]]:
    """Return groups of rows that are the very same, bit for bit; rows alone in none."""
    # Sums of products of the bits tell nearly all rows apart, in 8 bytes each.
    factors = np.random.default_rng(0).integers(1, 1 << 63, matrix.shape[1], np.uint64)
    sums = np.empty(len(matrix), np.uint64)
    for start in range(0, len(matrix), ROWS_PER_BLOCK):
        block = np.ascontiguousarray(matrix[start : start + ROWS_PER_BLOCK], np.float32)
        bits = block.view(np.uint32).astype(np.uint64)
        sums[start : start + ROWS_PER_BLOCK] = bits @ factors
    order = np.argsort(sums, kind="stable")
    again = np.flatnonzero(sums[order[1:]] == sums[order[:-1]])
    same: dict[bytes, list[int]] = {}
    for i in sorted({*order[again].tolist(), *order[again + 1].tolist()}):
        same.setdefault(matrix[i].tobytes(), []).append(i)
    return [rows for rows in same.values() if len(rows) > 1]


def warn_of_identical(groups: Sequence[Sequence[str]], stacklevel: int) -> None:
    """Warn of each group of labels that got the very same vector, if there is any."""
    if groups:
        same = [" = ".join(map(repr, group)) for group in groups]
        warn(
            f"Labels with the same vector cannot be told apart: {first_few(same)}. "
            f"Remove or rename all but one of each group.",
            ZeroShotWarning,
            stacklevel=stacklevel + 1,
        )


def first_few(items: Sequence[str]) -> str:
    """Return the first 10 items, joined by commas, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
