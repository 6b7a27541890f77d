"""Labels to class embeddings: the only place where a label becomes words.

For each label the first of these that succeeds:

1. ``exact``: the text itself is a known word;
2. ``variant``, ``phrase``: the same letters as one known word: with other case, then
   with its words joined by ``_``, ``-``, a space, ``+`` or nothing (``sea horse``:
   ``sea_horse``, ``seahorse``; ``GoldenRetriever``), then without accents, apostrophes
   and at last other punctuation, which is never dropped where a single letter would be
   left: "C++" is not "c";
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

A number in front that orders folders is dropped: ``001.Black_footed_Albatross``. A
label that is not a string, or has digits and no letter, is the id of a class: its name
is its aliases, and without any it is an error, because a vector file has the word "17"
too. Only a provider that `SupportsClassIds` is asked for the id, as it is; and a string
such as "747" among labels that are names is looked up as it is, with a warning.

A provider that `SupportsPhrases` gets none of these steps (``encoded``): it encodes the
label's name, the text before the first comma, as a whole, without such a number and
with spaces for ``_``. Case, hyphens and all else stay. Of a label with aliases that the
caller gave, the vector is the mean of those of all its names. There are no unknown
words, only, perhaps, names that become a vector of zeros.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import (
    SupportsClassIds,
    SupportsPhrases,
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
from zeroshot.labels.given import Labels, with_aliases
from zeroshot.labels.phrases import encode_names
from zeroshot.labels.report import (
    SHOWN,
    How,
    Identical,
    LabelEntry,
    LabelReport,
    first_few,
    identical_rows,
    warn_of_identical,
)
from zeroshot.labels.spelling import (
    KnownWords,
    Name,
    as_phrase,
    folded,
    is_class_id,
    names_of,
    unique,
)
from zeroshot.warning import warn

__all__ = ["embed_labels"]

# Below this the mean of unit vectors is rounding error, not a direction.
SMALLEST_MEAN = 1e-6
WORDS_PER_LOOKUP = 200_000  # 240 MB of float32 at 300 dimensions
LABELS_PER_LOOKUP = 20_000  # that are spelt, in some 40 ways each


def embed_labels(
    labels: Labels, embeddings: TextEmbeddings, *, n_labels: int | None = None
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
    beyond the spread (benchmarks/results/label_composition.md).

    Parameters
    ----------
    labels : sequence of hashable, or mapping of hashable to sequence of str
        ``["okapi", "zebra"]`` or ``{"okapi": ["forest giraffe"], "zebra": []}``.
    embeddings : TextEmbeddings
        Asked for all labels as they are, then for all spellings of those that it has
        not (in portions of 200,000).
    n_labels : int or None, default=None
        How many labels there are, where some are known already: numbers among names are
        names, numbers alone are ids.

    Returns
    -------
    class_embeddings : ndarray of shape (n_labels, dim_text), float32
        Rows of unit length, in the order of ``labels``.
    report : LabelReport

    Raises
    ------
    LabelError
        If ``labels`` does not pass `check_candidates`, an alias is no string, or
        labels are ids of classes.
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
        If different labels got the same vector, a name was a number, or the only
        label looks like a list.

    References
    ----------
    .. [1] Schakel and Wilson, "Measuring Word Significance using Distributed
       Representations of Words", arXiv:1508.02297, 2015.
    """
    Y, entries, identical = embed(labels, embeddings, n_labels=n_labels)
    return Y, LabelReport(entries, identical, Y.copy())


def embed(
    labels: Labels, embeddings: TextEmbeddings, *, n_labels: int | None = None
) -> tuple[NDArray[np.float32], tuple[LabelEntry, ...], Identical]:
    """Do what `embed_labels` does; return the parts of the report without a copy."""
    aliases_of = with_aliases(labels)
    make = _encoded if isinstance(embeddings, SupportsPhrases) else _looked_up
    Y, made, groups = make(aliases_of, embeddings, n_labels)
    identical = tuple(
        tuple(made[i].label for i in rows) for rows in identical_rows(Y) if len(rows)
    )
    _warn(made, identical, groups)
    if len(aliases_of) == 1:
        [(label, aliases)] = aliases_of.items()
        _warn_of_a_list(label, aliases)
    return Y, made, identical


def _looked_up(
    aliases_of: Mapping[Hashable, tuple[str, ...]],
    embeddings: TextEmbeddings,
    n_labels: int | None,
) -> "tuple[NDArray[np.float32], tuple[LabelEntry, ...], list[_Names]]":
    """Return vectors by the steps of the cascade, and the labels that were spelt."""
    Y = np.empty((len(aliases_of), embeddings.dim), np.float32)
    entries: list[LabelEntry | None] = [None] * len(Y)
    # Most labels are words: to spell the others alone takes a tenth of the time.
    texts = {text: i for i, text in enumerate(map(_text, aliases_of)) if _is_name(text)}
    for word, row in _found(_in_vocabulary([*texts], embeddings), embeddings, set()):
        i = texts[word]
        Y[i], entries[i] = row, LabelEntry(word, "exact", (word,))
    left = [i for i, entry in enumerate(entries) if entry is None]
    items = list(aliases_of.items())
    groups = _names([items[i] for i in left], len(Y), embeddings, n_labels)
    unknown = _Unknown(embeddings, len(Y))
    for start in range(0, len(groups), LABELS_PER_LOOKUP):
        some = groups[start : start + LABELS_PER_LOOKUP]
        vectors = _look_up([name for group in some for name in group.all], embeddings)
        for i, group in zip(left[start:], some, strict=False):
            if found := _resolve(group, vectors):
                Y[i] = found.vector
                entries[i] = LabelEntry(
                    group.label, found.how, found.words, found.missing
                )
            else:
                unknown.add(group, vectors)
    unknown.raise_if_any()
    return Y, tuple(entry for entry in entries if entry is not None), groups


def _encoded(
    aliases_of: Mapping[Hashable, tuple[str, ...]],
    embeddings: TextEmbeddings,
    n_labels: int | None,
) -> "tuple[NDArray[np.float32], tuple[LabelEntry, ...], list[_Names]]":
    """Return vectors by a provider that encodes whole phrases."""
    items = [*aliases_of.items()]
    # Not spelt: of a thousand names that takes longer than to remember their vectors.
    groups = _names(items, len(items), embeddings, n_labels, Name.exactly)
    names = [
        unique(
            as_phrase(name.text) for name in (group.name, *group.aliases) if name.text
        )
        for group in groups
    ]
    Y = encode_names(names, embeddings)
    if zero := [group.label for group, y in zip(groups, Y, strict=True) if not y.any()]:
        raise OutOfVocabularyError(
            f"Expected labels that '{embeddings.name}' encodes to a direction. Got "
            f"{len(zero)} of {len(Y)} labels that become a vector of zeros: "
            f"{first_few([*map(repr, zero)])}. Give them other names, or leave them "
            f"out.",
            labels=zero,
        )
    made = tuple(
        LabelEntry(group.label, "encoded", texts)
        for group, texts in zip(groups, names, strict=True)
    )
    return Y, made, groups


def _names(
    aliases_of: Sequence[tuple[Hashable, tuple[str, ...]]],
    n_all: int,
    embeddings: TextEmbeddings,
    n_labels: int | None,
    spelt: Callable[[str], Name] = Name.of,
) -> "list[_Names]":
    """Return the names of each label; refuse ids of classes, if all ``n_all`` are."""
    by_id = embeddings if isinstance(embeddings, SupportsClassIds) else None
    groups, ids = [], []
    for label, aliases in aliases_of:
        if isinstance(label, str):
            group = _Names.of(_text(label), aliases, by_id is not None, spelt)
        else:
            text = str(label) if by_id is None else by_id.id_token(label)
            name = Name.exactly("" if by_id is None else text)
            group = _Names(text, name, tuple(map(spelt, aliases)))
            if by_id is None and not aliases:
                ids.append(text)  # not repr: "np.int64(7)"
        groups.append(group)
    if groups and sum(group.number for group in groups) == (n_labels or n_all):
        ids = [repr(group.label) for group in groups]
    if ids:
        raise LabelError(
            f"Expected labels as names, which '{embeddings.name}' may have vectors "
            f"for. Got {len(ids)} of {n_all} labels that look like ids of "
            f"classes: {first_few(ids)}. Give their names, as labels "
            f"or as aliases ({{{ids[0]}: ['zebra']}}), or rename the folders. (Some of "
            f"scikit-learn's ensembles, such as VotingClassifier, number the labels.)"
        )
    return groups


def _text(label: Hashable) -> str:
    # str() of an enum's member is its name in code.
    return str.__str__(label) if isinstance(label, str) else ""


def _is_name(text: str) -> bool:
    return bool(text) and not is_class_id(text)


def _warn(
    entries: Sequence[LabelEntry],
    identical: Sequence[tuple[str, ...]],
    groups: "Sequence[_Names]",
) -> None:
    partial = [
        f"'{e.label}' (without {', '.join(map(repr, e.missing))})"
        for e in entries
        if e.missing
    ]
    if partial:
        warn(
            f"{len(partial)} of {len(entries)} labels are represented by some of their "
            f"words only: {first_few(partial)}.",
            PartialCoverageWarning,
            stacklevel=4,
        )
    warn_of_identical(identical, stacklevel=4)
    if numbers := [repr(group.label) for group in groups if group.number]:
        warn(
            f"Labels that look like ids of classes, not like names: "
            f"{first_few(numbers)}. They were looked up as numbers. Give them names, "
            f"such as {{{numbers[0]}: ['zebra']}}.",
            ZeroShotWarning,
            stacklevel=4,
        )


def _warn_of_a_list(label: Hashable, aliases: Sequence[str]) -> None:
    names = names_of(_text(label))
    if len(names) > 1 and not aliases and not is_class_id(names[0]):
        warn(
            f"One label, {label!r}: names after a comma are taken for other names of "
            f"the same class. For several labels write {names}.",
            ZeroShotWarning,
            stacklevel=4,
        )


# The steps of the cascade.


@dataclass(frozen=True)
class _Names:
    """The names of one label: its own, the aliases given, and those after a comma."""

    label: str
    name: Name
    aliases: Sequence[Name] = ()
    synonyms: Sequence[Name] = ()
    number: bool = False  # digits where a name was expected, and no other name

    @classmethod
    def of(
        cls,
        label: str,
        aliases: Sequence[str],
        takes_ids: bool,
        spelt: Callable[[str], Name],
    ) -> "_Names":
        first, *rest = names_of(label)
        is_id = not takes_ids and is_class_id(first)
        if is_id and (aliases or rest):  # stands for its other names
            name, aliases, rest = Name.exactly(""), [*aliases, *rest], []
        else:
            name = spelt(first)
            name = replace(name, whole=unique([label, *name.whole]))
        return cls(
            label=label,
            name=name,
            aliases=tuple(map(spelt, aliases)),
            synonyms=tuple(map(spelt, rest)),
            number=is_id and not aliases,
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
    known = _in_vocabulary(words, embeddings)
    stored = set(known)
    if isinstance(embeddings, SupportsSubwords):
        composable = (spelling for name in names for spelling in name.composable)
        known = unique([*known, *composable])
    vectors = _Vectors({}, {}, set())
    for word, vector in _found(known, embeddings, vectors.zero):
        by_word = vectors.stored if word in stored else vectors.composed
        by_word[word] = vector
    return vectors


def _in_vocabulary(words: Sequence[str], embeddings: TextEmbeddings) -> Sequence[str]:
    """Return the words that are known, or all where a look-up composes none."""
    if not isinstance(embeddings, SupportsSubwords) or not words:
        return words
    known = np.asarray(embeddings.in_vocabulary(words), bool)
    _check_shape(embeddings, "in_vocabulary", known, (len(words),))
    return [words[i] for i in np.flatnonzero(known).tolist()]


def _found(
    words: Sequence[str], embeddings: TextEmbeddings, zero: set[str]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield words that have a vector, and it at unit length; those of zeros are told.

    ``zero``: is given the words of which the vector is zeros.
    """
    for start in range(0, len(words), WORDS_PER_LOOKUP):
        portion = words[start : start + WORDS_PER_LOOKUP]
        rows, found = embeddings.lookup(portion)
        _check_shape(embeddings, "lookup", rows, (len(portion), embeddings.dim))
        _check_shape(embeddings, "lookup", found, (len(portion),))
        for i in np.flatnonzero(found).tolist():
            word, vector = portion[i], rows[i].astype(np.float64)
            norm = sqrt(vector @ vector)
            if not isfinite(norm):
                raise PluginContractError(
                    f"Expected finite vectors for the words that '{embeddings.name}' "
                    f"finds. Got NaN or infinity for '{word}'. Correct its 'lookup'."
                )
            if norm == 0:
                zero.add(word)
                continue
            # A vector of unit length stays what it is, bit for bit: bundles keep such,
            # and labels are compared by them.
            yield word, vector if abs(norm - 1) < 1e-6 else vector / norm


def _check_shape(
    embeddings: TextEmbeddings, method: str, got: Any, shape: tuple[int, ...]
) -> None:
    if np.shape(got) != shape:
        raise PluginContractError(
            f"Expected an array of shape {shape} from '{method}' of "
            f"'{embeddings.name}'. Got shape {np.shape(got)}. See docs/plugins.md."
        )


def _resolve(names: _Names, vectors: _Vectors) -> _Found | None:
    if found := _as_one_word(names.name, vectors):
        return found
    for alias in names.aliases:
        if found := _as_one_word(alias, vectors):
            return replace(found, how="alias")
    results = []
    for name in names.all:
        found = (
            _as_one_word(name, vectors)
            or _in_other_number(name, vectors)
            or _as_mean(name, vectors)
        )
        if found:
            results.append(found if name is names.name else replace(found, how="alias"))
            if not found.missing:
                break
    return min(results, key=_share_missing, default=None)


def _share_missing(found: _Found) -> float:
    return len(found.missing) / (len(found.missing) + len(found.words))


def _as_one_word(name: Name, vectors: _Vectors) -> _Found | None:
    for spelling in name.whole:
        if spelling in vectors.stored:
            how: How = "phrase" if len(name.words) > 1 else "variant"
            if spelling in (name.text, name.whole[0]):
                how = "exact"
            elif folded(spelling) == folded(name.text):
                how = "variant"
            return _Found(how, (spelling,), vectors.stored[spelling])
    return None


def _in_other_number(name: Name, vectors: _Vectors) -> _Found | None:
    for spelling in name.number:
        if spelling in vectors.stored:
            return _Found("number", (spelling,), vectors.stored[spelling])
    return None


def _as_mean(name: Name, vectors: _Vectors) -> _Found | None:
    parts = {i: _part(name, i, vectors) for i in name.content}
    used = [part for part in parts.values() if part]
    if not used or (name.head in parts and parts[name.head] is None):
        return None
    # Sorted: "bear polar" gives the very same bits as "polar bear".
    mean = np.mean([v for _, v, _ in sorted(used, key=lambda part: part[0])], axis=0)
    norm = np.linalg.norm(mean)
    if norm < SMALLEST_MEAN:
        return None
    how: How = "subwords" if any(composed for _, _, composed in used) else "mean"
    missing = tuple(name.words[i] for i, part in parts.items() if part is None)
    return _Found(how, tuple(word for word, _, _ in used), mean / norm, missing)


def _part(
    name: Name, i: int, vectors: _Vectors
) -> tuple[str, NDArray[np.float64], bool] | None:
    """Return a word's spelling, its vector and whether that was composed."""
    for spelling in name.parts[i]:
        if spelling in vectors.stored:
            return spelling, vectors.stored[spelling], False
    for spelling in (name.words[i].lower(), name.words[i]):
        if spelling in vectors.composed:
            return spelling, vectors.composed[spelling], True
    return None


# Labels that no step could represent.


class _Unknown:
    """Labels that no step could represent, and what is said of the first ones."""

    def __init__(self, embeddings: TextEmbeddings, n_labels: int) -> None:
        self._embeddings = embeddings
        self._n_labels = n_labels
        self._labels: list[str] = []
        self._shown: list[tuple[_Names, _Vectors]] = []

    def add(self, names: _Names, vectors: _Vectors) -> None:
        self._labels.append(names.label)
        if len(self._shown) < SHOWN:
            self._shown.append((names, vectors))

    def raise_if_any(self) -> None:
        if not self._labels:
            return
        name, near, known = self._embeddings.name, self._suggestions(), ""
        is_table = isinstance(self._embeddings, SupportsClassIds)
        if is_table and isinstance(self._embeddings, SupportsVocabulary) and not near:
            listed = [repr(label) for label in self._embeddings.vocabulary()]
            known = f" It has {first_few(listed)}."
        described = [
            f"'{names.label}'{_reason(names, vectors, near.get(names.label, ()))}"
            for names, vectors in self._shown
        ]
        described += [""] * (len(self._labels) - len(described))
        raise OutOfVocabularyError(
            f"Expected labels that '{name}' has vectors for. Got {len(self._labels)} "
            f"of {self._n_labels} labels that it has not: {first_few(described)}."
            f"{known} Correct the spelling, give them other names (aliases), leave them"
            f" out, or use vectors with more words.",
            labels=self._labels,
            suggestions=near,
        )

    def _suggestions(self) -> dict[str, list[str]]:
        if not isinstance(self._embeddings, SupportsVocabulary):
            return {}
        wanted, zero = {}, set()
        for names, vectors in self._shown:
            name = _first_of_words(names)
            words = unique(["_".join(name.words), *_unknown_words(name, vectors)])
            letters = ("".join(filter(str.isalnum, word)) for word in words)
            wanted[names.label] = unique(filter(None, [*words, *letters]))
            zero |= vectors.zero  # no help
        return _known_words(self._embeddings).near(wanted, zero)


# One pass over 400,000 words takes a second.
_KNOWN_WORDS: WeakKeyDictionary[Any, KnownWords] = WeakKeyDictionary()


def _known_words(embeddings: SupportsVocabulary) -> KnownWords:
    try:
        known = _KNOWN_WORDS.get(embeddings)
    except TypeError:  # no weak reference, or no hash
        return KnownWords(embeddings.vocabulary())
    if known is None:
        known = _KNOWN_WORDS[embeddings] = KnownWords(embeddings.vocabulary())
    return known


def _first_of_words(names: _Names) -> Name:
    """Return the name to look for: an id stands for its first alias."""
    return next((name for name in names.all if name.words), names.name)


def _unknown_words(name: Name, vectors: _Vectors) -> list[str]:
    return [name.words[i] for i in name.content if _part(name, i, vectors) is None]


def _reason(names: _Names, vectors: _Vectors, near: Sequence[str]) -> str:
    name = _first_of_words(names)
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
