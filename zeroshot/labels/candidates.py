"""Candidate labels: what may be answered, their vectors, which of them were seen."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.vectors.neighbours import open_vocabulary
from zeroshot.errors import LabelError
from zeroshot.labels.cascade import Labels, check_candidates, embed_labels
from zeroshot.labels.report import LabelReport

__all__ = ["Candidates", "as_label_array", "embed_candidates", "is_seen", "seen_class"]

Candidates: TypeAlias = Labels | str | None
"""Labels, ``{label: [alias, ...]}``, ``"vocabulary"`` or ``"vocabulary:<n>"``; None
stands for the seen classes."""

VOCABULARY_SIZE = 100_000  # words; 120 MB of float32 at 300 dimensions


def embed_candidates(
    labels: Labels | str, embeddings: TextEmbeddings
) -> tuple[NDArray[Any], NDArray[np.float32], LabelReport | None]:
    """Return candidate labels, their vectors, and how those were found.

    Parameters
    ----------
    labels : sequence, mapping or str
        See `Candidates`.
    embeddings : TextEmbeddings
        Where to look them up.

    Returns
    -------
    candidates : ndarray of shape (m,)
    class_embeddings : ndarray of shape (m, dim_text), float32
        Rows of unit length.
    report : LabelReport or None
        None for the words of a vocabulary, which are found as they are.

    Raises
    ------
    LabelError, OutOfVocabularyError
        As `zeroshot.labels.embed_labels`; also for any other single string.
    """
    if isinstance(labels, str):
        words, vectors = open_vocabulary(embeddings, _vocabulary_size(labels))
        return np.array(words), vectors, None
    candidates = check_candidates(labels)
    named = labels if isinstance(labels, Mapping) else candidates
    vectors, report = embed_labels(named, embeddings)
    return as_label_array(candidates), vectors, report


def is_seen(
    candidates: Iterable[Hashable], classes: Iterable[Hashable]
) -> NDArray[np.bool_]:
    """Tell which candidates name a class of training.

    A label with commas is read as ImageNet writes its classes, as everywhere here: a
    list of names of which the first is the label. So ``"lion"`` is seen by a model
    that was trained on ``"lion, king of beasts"``, and the other way round.

    Parameters
    ----------
    candidates : iterable of hashable
    classes : iterable of hashable
        The seen classes.

    Returns
    -------
    seen : ndarray of shape (m,), bool

    Examples
    --------
    >>> is_seen(["lion", "okapi"], ["lion, king of beasts", "zebra"])
    array([ True, False])
    """
    return seen_class(candidates, classes) >= 0


def seen_class(
    candidates: Iterable[Hashable], classes: Iterable[Hashable]
) -> NDArray[np.intp]:
    """Return the class of training that each candidate names; see `is_seen`.

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
    position: dict[Hashable, int] = {}
    for number, label in enumerate(classes):
        for rank, name in enumerate(_names(label)):
            # The first name of one class may be another name of an earlier one.
            if rank == 0 or name not in position:
                position[name] = number
    return np.array([position.get(_names(label)[0], -1) for label in candidates], int)


def as_label_array(labels: Sequence[Hashable]) -> NDArray[Any]:
    """Return labels as an array; mixed kinds of labels stay what they are.

    Parameters
    ----------
    labels : sequence of hashable, of length m

    Returns
    -------
    array : ndarray of shape (m,)
    """
    array = np.array(labels)
    if array.ndim != 1 or array.tolist() != list(labels):
        array = np.fromiter(labels, dtype=object, count=len(labels))
    return array


def _names(label: Hashable) -> list[Hashable]:
    if not isinstance(label, str):
        return [label]
    names = [name.strip() for name in label.split(",") if name.strip()]
    return [*names] or [label]


def _vocabulary_size(text: str) -> int:
    name, colon, number = text.partition(":")
    if name != "vocabulary" or (colon and not (number.isdecimal() and int(number))):
        raise LabelError(
            f"Expected a list of labels, or 'vocabulary:<how many words>'. Got the "
            f"single string {text!r}. Write [{text!r}] for a single label."
        )
    return int(number) if colon else VOCABULARY_SIZE
