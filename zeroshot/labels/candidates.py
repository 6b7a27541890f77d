"""What the candidates are, their vectors, which are seen, how each was made.

Decided once in a call and never changed: predictions, explanations, evaluations and
bundles all read the same `CandidateSet`. What holds for one label never depends on the
other labels.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.vectors.neighbours import open_vocabulary
from zeroshot.errors import LabelError
from zeroshot.labels.cascade import embed
from zeroshot.labels.given import Labels, check_candidates, with_aliases
from zeroshot.labels.report import LabelEntry, identical_rows, warn_of_identical
from zeroshot.labels.spelling import label_key

__all__ = [
    "CandidateSet",
    "Candidates",
    "PlacedCandidates",
    "as_label_array",
    "seen_class",
]

Candidates: TypeAlias = "Labels | str | CandidateSet | None"
"""Labels, ``{label: [alias, ...]}``, ``"vocabulary"`` or ``"vocabulary:<n>"``; what
`zeroshot.ZeroShotClassifier.candidates` returned; None stands for the seen classes."""

MOST_ROOM = 64 << 20  # bytes of labels that are padded to one length
BYTES_PER_LABEL = 500  # of its entry and its text
VOCABULARY_SIZE = 100_000  # words; 120 MB of float32 at 300 dimensions


@dataclass(frozen=True)
class CandidateSet:
    """Candidate labels of one call.

    ``labels``: (m,), in the order in which they were given. ``aliases``: of each label;
    empty where no label has any. ``class_embeddings``: (m, dim_text) float32, rows of
    unit length. ``class_of``: (m,) int, the seen class that each names (`seen_class`),
    or whose very vector it has; -1 for none. ``entries``: how each was made; empty for
    the words of a vocabulary, which are found as they are. ``pretrained_of``:
    (n_pretrained,) int, the candidate that names each class that the backbone was
    trained on, or -1.

    Examples
    --------
    >>> from zeroshot.embeddings import RandomEmbeddings
    >>> from zeroshot.labels.cascade import embed_labels
    >>> words, classes = RandomEmbeddings(20), np.array(["lion", "zebra"])
    >>> vectors, report = embed_labels(classes, words)
    >>> seen = CandidateSet(classes, (), vectors, np.arange(2), report.entries)
    >>> CandidateSet.of(["okapi", "Lion"], words, seen).is_seen
    array([False,  True])
    """

    labels: NDArray[Any]
    aliases: tuple[tuple[str, ...], ...]
    class_embeddings: NDArray[np.float32]
    class_of: NDArray[np.intp]
    entries: tuple[LabelEntry, ...]
    pretrained_of: NDArray[np.intp] = field(
        default_factory=lambda: np.empty(0, np.intp)
    )

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which of them name a seen class, (m,)."""
        return np.asarray(self.class_of >= 0)

    @classmethod
    def of(
        cls,
        labels: Labels | str,
        embeddings: TextEmbeddings,
        seen: "CandidateSet",
        known: "Sequence[CandidateSet]" = (),
        named_by: Callable[[Sequence[Hashable]], NDArray[np.intp]] | None = None,
    ) -> Self:
        """Decide what some labels are; raises what `embed_labels` raises.

        Parameters
        ----------
        labels : sequence, mapping or str
            See `Candidates`.
        embeddings : TextEmbeddings
            Where labels are looked up that are not known.
        seen : CandidateSet
            The seen classes.
        known : sequence of CandidateSet
            Vectors to take instead of looking them up, for labels with the very same
            aliases: those of the seen classes, those that a bundle keeps.
        named_by : callable, optional
            Tells which of some labels names each of the backbone's own classes.

        Returns
        -------
        candidates : CandidateSet
        """
        names: Sequence[Hashable]
        aliases: tuple[tuple[str, ...], ...] = ()
        entries: tuple[LabelEntry, ...] = ()
        if isinstance(labels, str):
            names, vectors = open_vocabulary(embeddings, _vocabulary_size(labels))
        else:
            given = with_aliases(labels)
            names = [*given]
            if isinstance(labels, Mapping):
                aliases = tuple(given.values())
            vectors, entries = _looked_up(given, embeddings, known)
        array = as_label_array(names)
        class_of = seen_class(array.tolist(), seen.labels.tolist())
        row_of = {row.tobytes(): i for i, row in enumerate(seen.class_embeddings)}
        for i in np.flatnonzero(class_of < 0):
            class_of[i] = row_of.get(vectors[i].tobytes(), -1)
        made = cls(array, aliases, vectors, class_of, entries)
        if named_by is None:
            return made
        return replace(made, pretrained_of=named_by(array.tolist()))

    def in_order(self, labels: Candidates) -> Candidates:
        """Return labels, those that name one of these first, in the order of these.

        scikit-learn's tools match columns with ``classes_``, which are sorted.

        Parameters
        ----------
        labels : sequence, mapping, str or None
            See `Candidates`; text and None are returned as they are.

        Returns
        -------
        labels : list, dict, str or None
        """
        if labels is None or isinstance(labels, str | CandidateSet):
            return labels
        names = check_candidates(labels)
        place = seen_class(names, self.labels.tolist())
        order = np.argsort(np.where(place < 0, len(self.labels), place), kind="stable")
        if isinstance(labels, Mapping):
            return {names[i]: labels[names[i]] for i in order}
        return [names[i] for i in order]

    def beside(self, labels: Iterable[Hashable]) -> Candidates:
        """Return candidates for images of these classes and others.

        Parameters
        ----------
        labels : iterable of hashable
            Of the images.

        Returns
        -------
        labels : list or None
            None where all name one of these; where none does, they themselves; else
            these and, behind them, the others.
        """
        others = [*dict.fromkeys(labels)]
        these = self.labels.tolist()
        is_other = seen_class(others, these) < 0
        if not is_other.any():
            return None
        new = [others[i] for i in np.flatnonzero(is_other)]
        return new if is_other.all() else [*these, *new]

    def named(self, labels: Sequence[Hashable]) -> NDArray[np.object_]:
        """Return labels by the names that they have among these; others as they are.

        Parameters
        ----------
        labels : sequence of hashable, of length n

        Returns
        -------
        names : ndarray of shape (n,), object
        """
        different, these = [*dict.fromkeys(labels)], self.labels.tolist()
        place = seen_class(different, these)
        names = {
            label: label if i < 0 else these[i]
            for label, i in zip(different, place, strict=True)
        }
        return np.fromiter((names[label] for label in labels), object, len(labels))


@dataclass(frozen=True)
class PlacedCandidates(CandidateSet):
    """Candidates looked up once, to be compared with any images, again and again.

    ``points``: (m, dim + 1) float32, as `zeroshot.scoring.LabelSpace.label_points`
    gives them; None where there are too many to hold. ``space``: what they are points
    of; no other classifier takes them.
    """

    points: NDArray[np.float32] | None = None
    space: Any = field(default=None, repr=False)

    @property
    def n_bytes(self) -> int:
        """About how much memory they take."""
        points = 0 if self.points is None else self.points.nbytes
        return (
            points + self.class_embeddings.nbytes + BYTES_PER_LABEL * len(self.labels)
        )


def _looked_up(
    given: Mapping[Hashable, tuple[str, ...]],
    embeddings: TextEmbeddings,
    known: Sequence[CandidateSet],
) -> tuple[NDArray[np.float32], tuple[LabelEntry, ...]]:
    """Return vectors and entries of labels with aliases; looks up what is not known."""
    places: dict[Any, tuple[CandidateSet, int]] = {
        (name, candidates.aliases[i] if candidates.aliases else ()): (candidates, i)
        for candidates in known
        for i, name in enumerate(candidates.labels.tolist())
    }
    new = {key[0]: key[1] for key in given.items() if key not in places}
    if len(new) == len(given):
        vectors, entries, _ = embed(new, embeddings)
        return vectors, entries
    rows = [places.get(key) for key in given.items()]
    known_rows = [i for i, row in enumerate(rows) if row is not None]
    new_rows = [i for i, row in enumerate(rows) if row is None]
    vectors = np.empty((len(given), embeddings.dim), np.float32)
    made: list[Any] = [None] * len(rows)
    for i, row in enumerate(rows):
        if row is not None:
            vectors[i], made[i] = (
                row[0].class_embeddings[row[1]],
                row[0].entries[row[1]],
            )
    if new:
        vectors[new_rows], some, _ = embed(new, embeddings, n_labels=len(given))
        for i, entry in zip(new_rows, some, strict=True):
            made[i] = entry
        # The new ones were compared with each other already.
        names, known_set = [*map(str, given)], {*known_rows}
        pairs = {}
        for group in identical_rows(vectors):
            known_ones = [i for i in group if i in known_set]
            for i in group if known_ones else ():
                if i not in known_set:
                    pairs[i] = (names[known_ones[0]], names[i])
        warn_of_identical([pairs[i] for i in sorted(pairs)], stacklevel=4)
    return vectors, tuple(made)


def seen_class(
    candidates: Iterable[Hashable], classes: Iterable[Hashable]
) -> NDArray[np.intp]:
    """Return the class of training that each candidate names.

    The class of the very same text; else the first whose first name is the candidate's
    first name, whatever their case, accents' form, hyphens and underscores
    (`zeroshot.labels.spelling.label_key`). A label with commas is read as ImageNet
    writes its classes: a list of names of which the first is the label. So ``"lion"``
    is seen by a model that was trained on ``"lion, king of beasts"``, and the other
    way round.

    Parameters
    ----------
    candidates : iterable of hashable
    classes : iterable of hashable
        The seen classes.

    Returns
    -------
    class_of : ndarray of shape (m,), int
        Position in ``classes``, -1 for none.

    Examples
    --------
    >>> seen_class(["lion", "okapi"], ["zebra", "lion, king of beasts"])
    array([ 1, -1])
    """
    exact: dict[Hashable, int] = {}
    by_key: dict[Hashable, int] = {}
    for number, label in enumerate(classes):
        exact.setdefault(label, number)
        by_key.setdefault(label_key(label), number)
    found = (
        exact[label] if label in exact else by_key.get(label_key(label), -1)
        for label in candidates
    )
    return np.fromiter(found, dtype=np.intp)


def as_label_array(labels: Sequence[Hashable]) -> NDArray[Any]:
    """Return labels as an array (m,); mixed kinds of labels stay what they are."""
    sizes = [len(label) for label in labels if isinstance(label, str)]
    # NumPy gives each as much room as the longest takes.
    if 4 * len(labels) * max(sizes, default=0) > MOST_ROOM + 16 * sum(sizes):
        return np.fromiter(labels, dtype=object, count=len(labels))
    array = np.array(labels)
    if array.ndim != 1 or array.tolist() != list(labels):
        array = np.fromiter(labels, dtype=object, count=len(labels))
    return array


def _vocabulary_size(text: str) -> int:
    name, colon, number = text.partition(":")
    is_count = re.fullmatch(r"0*[1-9]\d{0,17}", number, re.ASCII) is not None
    if name != "vocabulary" or (colon and not is_count):
        raise LabelError(
            f"Expected a list of labels, or 'vocabulary:<how many words>'. Got the "
            f"single string {text!r:.100}. Write "
            f"{[*map(str.strip, text[:100].split(','))]}."
        )
    return int(number) if colon else VOCABULARY_SIZE
