"""Labels to class embeddings: the only place where a label becomes words.

For each label the first of these that succeeds:

1. ``exact``: the text itself is a known word;
2. ``variant``, ``phrase``: the same letters as one known word, with other case,
   accents or apostrophes, or with its words joined by ``_``, ``-``, a space, ``+`` or
   nothing (``sea horse``: ``sea_horse``, ``seahorse``; ``GoldenRetriever``);
3. ``alias``: steps 1 and 2 for each alias that the caller gave;
4. ``number``: plural or base form of the head word (``polar bears``: ``polar_bear``);
5. ``mean``: the mean of the words' vectors, each word by steps 1, 2 and 4, or, where
   the provider can, composed from character n-grams (``subwords``). Words such as "of"
   are skipped. The head word ("wheel" in "potter's wheel", "horse" in "horse of Troy",
   "crane" in "crane (bird)") must be known; others may be missing and are named in a
   `PartialCoverageWarning`;
6. ``alias``: each alias by steps 2, 4 and 5. Of the label and its aliases the first
   that has the smallest share of missing words.

A label with commas is read as ImageNet writes its classes, ``lesser panda, red panda``:
the first name is the label. The others are aliases for step 6 only, because they often
mean something else too (``bullet train, bullet``). A vector of zeros counts as unknown.
"""

import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import (
    SupportsSubwords,
    SupportsVocabulary,
    TextEmbeddings,
)
from zeroshot.errors import (
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.labels.report import How, LabelEntry, LabelReport, first_few
from zeroshot.labels.spelling import Name, near_spellings, unique

__all__ = ["Labels", "check_candidates", "embed_labels", "label_problem"]

Labels: TypeAlias = Sequence[Hashable] | Mapping[Any, Sequence[str]]

# Below this the mean of unit vectors is rounding error, not a direction.
SMALLEST_MEAN = 1e-6
SHOWN = 10  # labels named in a message; suggestions are searched for these
WORDS_PER_LOOKUP = 200_000  # 240 MB of float32 at 300 dimensions


def check_candidates(labels: Labels | Iterable[Hashable]) -> list[Hashable]:
    """Return labels as a list, or say what is wrong with them.

    Parameters
    ----------
    labels : sequence of hashable, or mapping of hashable to sequence of str
        Candidate labels; of a mapping ``{label: [alias, ...]}`` the keys. An array of
        shape (m,) and a pandas Series are sequences too.

    Returns
    -------
    labels : list of hashable
        The same objects in the same order.

    Raises
    ------
    LabelError
        If there is no label or one is repeated, missing (None, NaN), empty, bytes or
        not hashable; if ``labels`` is a bare string, or a set, whose order (and so the
        order of the scores' columns) would be arbitrary.

    Examples
    --------
    >>> check_candidates(("okapi", "zebra"))
    ['okapi', 'zebra']
    """
    if isinstance(labels, str | bytes):
        raise LabelError(
            f"Expected a sequence of labels. Got the single string {labels!r}. "
            f"Write [{labels!r}]."
        )
    if isinstance(labels, set | frozenset):
        raise LabelError(
            f"Expected labels in a definite order. Got a {type(labels).__name__} of "
            f"{len(labels)}. Write sorted(labels)."
        )
    try:
        candidates = list(labels)
    except TypeError as error:
        raise LabelError(
            f"Expected a sequence of labels. Got {labels!r} of type "
            f"'{type(labels).__name__}'. Write a list, such as ['okapi', 'zebra']."
        ) from error
    if not candidates:
        raise LabelError(
            "Expected at least one label. Got an empty list. Name the candidate labels."
        )
    counts: defaultdict[Hashable, int] = defaultdict(int)
    for position, label in enumerate(candidates):
        problem = label_problem(label)
        if problem:
            raise LabelError(
                f"Expected labels as non-empty strings or numbers. Got {label!r} "
                f"({problem}) at position {position}. Remove or correct it."
            )
        counts[label] += 1
    repeated = [f"'{label}' ({n} times)" for label, n in counts.items() if n > 1]
    if repeated:
        raise LabelError(
            f"Expected every label once. Got {first_few(repeated)}. Remove the "
            f"repeats, or give different names to different classes."
        )
    return candidates


def embed_labels(
    labels: Labels, embeddings: TextEmbeddings
) -> tuple[NDArray[np.float32], LabelReport]:
    """Return a class embedding for each label, and how it was found.

    The steps are those of `zeroshot.labels.cascade`. A label's vector does not depend
    on the other labels. Word vectors are made unit length before the mean is taken, so
    that each word counts the same: the length of a raw vector goes with the frequency
    and the specificity of the word, not with its part in the phrase [1]_. Measured with
    Numberbatch on 506 WordNet names such as "air bag" of which "airbag" is a word too:
    that word is the nearest of the 506 for 0.77 of the means, 0.74 with lengths drawn
    from GloVe's range, 0.66 with the head word counted twice, 0.43 for the head alone.
    In zero-shot accuracy on held-out classes a heavier head word makes no difference
    beyond the spread (docs/defaults.md).

    Parameters
    ----------
    labels : sequence of hashable, or mapping of hashable to sequence of str
        ``["okapi", "zebra"]`` or ``{"okapi": ["forest giraffe"], "zebra": []}``. A
        label that is not a string is looked up as ``str(label)``.
    embeddings : TextEmbeddings
        Asked once for all spellings of all labels (in portions of 200,000).

    Returns
    -------
    class_embeddings : ndarray of shape (n_labels, dim_text), float32
        Rows of unit length, in the order of ``labels``.
    report : LabelReport

    Raises
    ------
    LabelError
        If ``labels`` does not pass `check_candidates`, or an alias is no string.
    OutOfVocabularyError
        If some labels cannot be represented; has all of them.
    PluginContractError
        If ``embeddings`` returns arrays of a wrong shape or vectors that are not
        finite.

    Warns
    -----
    PartialCoverageWarning
        If words of a label were left out.
    ZeroShotWarning
        If different labels got the same vector.

    References
    ----------
    .. [1] Schakel and Wilson, "Measuring Word Significance using Distributed
       Representations of Words", arXiv:1508.02297, 2015.
    """
    texts = [str(label) for label in check_candidates(labels)]
    aliases = (
        _check_aliases(labels) if isinstance(labels, Mapping) else [()] * len(texts)
    )
    groups = [_Names.of(*pair) for pair in zip(texts, aliases, strict=True)]
    vectors = _look_up([name for group in groups for name in group.all], embeddings)

    results = [_resolve(group, vectors) for group in groups]
    unknown = [g for g, r in zip(groups, results, strict=True) if r is None]
    if unknown:
        raise _out_of_vocabulary(unknown, len(texts), vectors, embeddings)
    found = [result for result in results if result is not None]
    entries = tuple(
        LabelEntry(text, r.how, r.words, r.missing)
        for text, r in zip(texts, found, strict=True)
    )
    Y = np.array([r.vector for r in found], np.float32)
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for text, row in zip(texts, Y, strict=True):
        same[row.tobytes()].append(text)
    identical = tuple(tuple(group) for group in same.values() if len(group) > 1)
    _warn(entries, identical)
    return Y, LabelReport(entries, identical, Y.copy())


def label_problem(label: object) -> str:
    """Return why something cannot be a label; nothing if it can.

    Parameters
    ----------
    label : object

    Returns
    -------
    problem : str
    """
    try:
        hash(label)
    except TypeError:
        return f"a {type(label).__name__}, not hashable"
    try:
        missing = label is None or bool(label != label)
    except TypeError:  # pandas.NA has no truth value
        missing = True
    if missing:
        return "a missing value"
    if isinstance(label, bytes):
        return "bytes, not text"
    return "" if str(label).strip() else "no text"


def _check_aliases(
    labels: Mapping[Hashable, Sequence[str]],
) -> list[tuple[str, ...]]:
    checked = []
    for label, aliases in labels.items():
        if isinstance(aliases, str) or not isinstance(aliases, Sequence):
            raise LabelError(
                f"Expected a list of aliases for the label '{label}'. Got "
                f"{aliases!r}. Write a list of names in quotes; it may be empty."
            )
        checked.append(tuple(aliases))
        for alias in checked[-1]:
            if not isinstance(alias, str) or not alias.strip():
                raise LabelError(
                    f"Expected the aliases of the label '{label}' as non-empty "
                    f"strings. Got {alias!r}. Remove or correct it."
                )
    return checked


def _warn(entries: Sequence[LabelEntry], identical: Sequence[tuple[str, ...]]) -> None:
    partial = [
        f"'{e.label}' (without {', '.join(map(repr, e.missing))})"
        for e in entries
        if e.missing
    ]
    if partial:
        warnings.warn(
            f"{len(partial)} of {len(entries)} labels are represented by some of their "
            f"words only: {first_few(partial)}.",
            PartialCoverageWarning,
            stacklevel=3,
        )
    if identical:
        groups = [" = ".join(map(repr, group)) for group in identical]
        warnings.warn(
            f"Labels with the same vector cannot be told apart: {first_few(groups)}. "
            f"Remove or rename all but one of each group.",
            ZeroShotWarning,
            stacklevel=3,
        )


# The steps of the cascade.


@dataclass(frozen=True)
class _Names:
    """The names of one label: its own, the aliases given, and those after a comma."""

    label: str
    name: Name
    aliases: tuple[Name, ...]
    synonyms: tuple[Name, ...]

    @classmethod
    def of(cls, label: str, aliases: Sequence[str]) -> "_Names":
        first, *rest = [part for part in label.split(",") if part.strip()] or [label]
        name = Name.of(first.strip())
        return cls(
            label=label,
            name=replace(name, whole=unique([label, *name.whole])),
            aliases=tuple(Name.of(alias) for alias in aliases),
            synonyms=tuple(Name.of(part.strip()) for part in rest),
        )

    @property
    def all(self) -> tuple[Name, ...]:
        return (self.name, *self.aliases, *self.synonyms)


@dataclass(frozen=True)
class _Vectors:
    """What the provider knows: spelling to vector of unit length, float64."""

    stored: dict[str, NDArray[np.float64]]
    composed: dict[str, NDArray[np.float64]]
    zero: set[str]


@dataclass(frozen=True)
class _Found:
    how: How
    words: tuple[str, ...]
    vector: NDArray[np.float64]
    missing: tuple[str, ...] = ()


def _look_up(names: Sequence[Name], embeddings: TextEmbeddings) -> _Vectors:
    words = unique(spelling for name in names for spelling in name.spellings)
    stored = set(words)
    if isinstance(embeddings, SupportsSubwords):
        known = np.asarray(embeddings.in_vocabulary(words), bool)
        _check_shape(embeddings, "in_vocabulary", known, (len(words),))
        stored = {word for word, is_known in zip(words, known, strict=True) if is_known}
        composable = (spelling for name in names for spelling in name.composable)
        words = unique([*(word for word in words if word in stored), *composable])
    vectors = _Vectors({}, {}, set())
    for start in range(0, len(words), WORDS_PER_LOOKUP):
        portion = words[start : start + WORDS_PER_LOOKUP]
        rows, found = embeddings.lookup(portion)
        _check_shape(embeddings, "lookup", rows, (len(portion), embeddings.dim))
        _check_shape(embeddings, "lookup", found, (len(portion),))
        for i in np.flatnonzero(found):
            word, vector = portion[i], rows[i].astype(np.float64)
            norm = np.linalg.norm(vector)
            if not np.isfinite(norm):
                raise PluginContractError(
                    f"Expected finite vectors for the words that '{embeddings.name}' "
                    f"finds. Got NaN or infinity for '{word}'. Correct its 'lookup'."
                )
            if norm == 0:
                vectors.zero.add(word)
            else:
                by_word = vectors.stored if word in stored else vectors.composed
                by_word[word] = vector / norm
    return vectors


def _check_shape(
    embeddings: TextEmbeddings, method: str, got: Any, shape: tuple[int, ...]
) -> None:
    if np.shape(got) != shape:
        raise PluginContractError(
            f"Expected an array of shape {shape} from '{method}' of "
            f"'{embeddings.name}'. Got shape {np.shape(got)}. See docs/plugins.md."
        )


def _resolve(names: _Names, vectors: _Vectors) -> _Found | None:
    name = names.name
    if found := _as_one_word(name, vectors):
        return found
    for alias in names.aliases:
        if found := _as_one_word(alias, vectors):
            return replace(found, how="alias")
    found = _in_other_number(name, vectors) or _as_mean(name, vectors)
    if found and not found.missing:
        return found
    results = [found] if found else []
    for other in (*names.aliases, *names.synonyms):
        found = (
            _as_one_word(other, vectors)
            or _in_other_number(other, vectors)
            or _as_mean(other, vectors)
        )
        if found:
            results.append(replace(found, how="alias"))
    return min(results, key=_share_missing, default=None)


def _share_missing(found: _Found) -> float:
    return len(found.missing) / (len(found.missing) + len(found.words))


def _as_one_word(name: Name, vectors: _Vectors) -> _Found | None:
    for spelling in name.whole:
        if spelling in vectors.stored:
            how: How = "phrase" if len(name.words) > 1 else "variant"
            if spelling in (name.text, name.whole[0]):
                how = "exact"
            elif spelling.lower() == name.text.lower():
                how = "variant"
            return _Found(how, (spelling,), vectors.stored[spelling])
    return None


def _in_other_number(name: Name, vectors: _Vectors) -> _Found | None:
    for spelling in name.number:
        if spelling in vectors.stored:
            return _Found("number", (spelling,), vectors.stored[spelling])
    return None


def _as_mean(name: Name, vectors: _Vectors) -> _Found | None:
    used: list[tuple[str, NDArray[np.float64]]] = []
    missing = []
    how: How = "mean"
    for i in name.content:
        part = _part(name, i, vectors)
        if part is None:
            if i == name.head:
                return None
            missing.append(name.words[i])
        else:
            spelling, vector, composed = part
            used.append((spelling, vector))
            how = "subwords" if composed else how
    if not used:
        return None
    # Sorted: "bear polar" gives the very same bits as "polar bear".
    mean = np.mean([v for _, v in sorted(used, key=lambda pair: pair[0])], axis=0)
    norm = np.linalg.norm(mean)
    if norm < SMALLEST_MEAN:
        return None
    return _Found(how, tuple(s for s, _ in used), mean / norm, tuple(missing))


def _part(
    name: Name, i: int, vectors: _Vectors
) -> tuple[str, NDArray[np.float64], bool] | None:
    for spelling in name.parts[i]:
        if spelling in vectors.stored:
            return spelling, vectors.stored[spelling], False
    for spelling in (name.words[i].lower(), name.words[i]):
        if spelling in vectors.composed:
            return spelling, vectors.composed[spelling], True
    return None


# Labels that no step could represent.


def _out_of_vocabulary(
    unknown: Sequence[_Names],
    n_labels: int,
    vectors: _Vectors,
    embeddings: TextEmbeddings,
) -> OutOfVocabularyError:
    near = {}
    if isinstance(embeddings, SupportsVocabulary):
        wanted = {
            names.label: unique(
                ["_".join(names.name.words), *_unknown_words(names.name, vectors)]
            )
            for names in unknown[:SHOWN]
        }
        near = near_spellings(wanted, embeddings.vocabulary())
    described = [
        f"'{names.label}'{_reason(names.name, vectors, near.get(names.label, ()))}"
        for names in unknown
    ]
    return OutOfVocabularyError(
        f"Expected labels that '{embeddings.name}' has vectors for. Got {len(unknown)} "
        f"of {n_labels} labels that it has not: {first_few(described)}. Correct the "
        f"spelling, give them other names (aliases), leave them out, or use vectors "
        f"with more words.",
        labels=[names.label for names in unknown],
        suggestions=near,
    )


def _unknown_words(name: Name, vectors: _Vectors) -> list[str]:
    return [name.words[i] for i in name.content if _part(name, i, vectors) is None]


def _reason(name: Name, vectors: _Vectors, near: Sequence[str]) -> str:
    unknown = _unknown_words(name, vectors)
    zero = unique(word for word in name.spellings if word in vectors.zero)
    notes = []
    if zero:
        notes.append(f"vector of zeros: {', '.join(map(repr, zero))}")
    elif unknown and len(name.words) > 1:
        notes.append(f"unknown: {', '.join(map(repr, unknown))}")
    elif name.words and not unknown:
        notes.append("the vectors of its words cancel")
    if near:
        notes.append(f"did you mean {' or '.join(map(repr, near))}?")
    return f" ({'; '.join(notes)})" if notes else ""
