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
"""

from collections import defaultdict
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import (
    SupportsClassIds,
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
from zeroshot.labels.report import (
    SHOWN,
    How,
    LabelEntry,
    LabelReport,
    first_few,
    warn_of_identical,
)
from zeroshot.labels.spelling import (
    Name,
    folded,
    is_class_id,
    names_of,
    near_spellings,
    unique,
)
from zeroshot.warning import warn

__all__ = ["embed_labels"]

# Below this the mean of unit vectors is rounding error, not a direction.
SMALLEST_MEAN = 1e-6
WORDS_PER_LOOKUP = 200_000  # 240 MB of float32 at 300 dimensions


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
    beyond the spread (docs/defaults.md).

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
    aliases_of = with_aliases(labels)
    # Most labels are words: to spell the others alone takes a tenth of the time.
    words = [Name.exactly(text) for text in map(_text, aliases_of) if _is_name(text)]
    exact = _look_up(words, embeddings).stored
    groups = _names(aliases_of, embeddings, exact, n_labels)
    others = [name for g in groups if g.label not in exact for name in g.all]
    vectors = _look_up(others, embeddings)
    vectors.stored.update(exact)
    entries, rows, unknown = [], [], []
    for group in groups:
        if found := _resolve(group, vectors):
            entry = LabelEntry(group.label, found.how, found.words, found.missing)
            entries.append(entry)
            rows.append(found.vector)
        else:
            unknown.append(group)
    if unknown:
        raise _out_of_vocabulary(unknown, len(groups), vectors, embeddings)
    Y = np.array(rows, np.float32)
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for entry, row in zip(entries, Y, strict=True):
        same[row.tobytes()].append(entry.label)
    identical = tuple(tuple(group) for group in same.values() if len(group) > 1)
    _warn(entries, identical, groups)
    return Y, LabelReport(tuple(entries), identical, Y.copy())


def _names(
    aliases_of: Mapping[Hashable, tuple[str, ...]],
    embeddings: TextEmbeddings,
    exact: Container[str],
    n_labels: int | None,
) -> "list[_Names]":
    """Return the names of each label; refuse ids of classes."""
    by_id = embeddings if isinstance(embeddings, SupportsClassIds) else None
    groups, ids = [], []
    for label, aliases in aliases_of.items():
        if isinstance(label, str):
            text = _text(label)
            if text in exact:
                synonyms = tuple(map(Name.exactly, names_of(text)[1:]))
                names = tuple(map(Name.exactly, aliases))
                group = _Names(text, Name.exactly(text), names, synonyms)
            else:
                group = _Names.of(text, aliases, takes_ids=by_id is not None)
        else:
            text = str(label) if by_id is None else by_id.id_token(label)
            name = Name.exactly("" if by_id is None else text)
            group = _Names(text, name, tuple(map(Name.of, aliases)))
            if by_id is None and not aliases:
                ids.append(text)  # not repr: "np.int64(7)"
        groups.append(group)
    if sum(group.number for group in groups) == (n_labels or len(groups)):
        ids = [repr(group.label) for group in groups]
    if ids:
        raise LabelError(
            f"Expected labels as names, which '{embeddings.name}' may have vectors "
            f"for. Got {len(ids)} of {len(groups)} labels that look like ids of "
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
            stacklevel=3,
        )
    warn_of_identical(identical, stacklevel=3)
    if numbers := [repr(group.label) for group in groups if group.number]:
        warn(
            f"Labels that look like ids of classes, not like names: "
            f"{first_few(numbers)}. They were looked up as numbers. Give them names, "
            f"such as {{{numbers[0]}: ['zebra']}}.",
            ZeroShotWarning,
            stacklevel=3,
        )
    if len(groups) == 1 and groups[0].synonyms and not groups[0].aliases:
        warn(
            f"One label, {groups[0].label!r}: names after a comma are taken for other "
            f"names of the same class. For several labels write "
            f"{names_of(groups[0].label)}.",
            ZeroShotWarning,
            stacklevel=3,
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
    def of(cls, label: str, aliases: Sequence[str], *, takes_ids: bool) -> "_Names":
        first, *rest = names_of(label)
        is_id = not takes_ids and is_class_id(first)
        if is_id and (aliases or rest):  # stands for its other names
            name, aliases, rest = Name.exactly(""), [*aliases, *rest], []
        else:
            name = Name.of(first)
            name = replace(name, whole=unique([label, *name.whole]))
        return cls(
            label=label,
            name=name,
            aliases=tuple(map(Name.of, aliases)),
            synonyms=tuple(map(Name.of, rest)),
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
    if not words:
        return _Vectors({}, {}, set())
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
                # A vector of unit length stays what it is, bit for bit: bundles keep
                # such, and labels are compared by them.
                by_word[word] = vector if abs(norm - 1) < 1e-6 else vector / norm
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


def _out_of_vocabulary(
    unknown: Sequence[_Names],
    n_labels: int,
    vectors: _Vectors,
    embeddings: TextEmbeddings,
) -> OutOfVocabularyError:
    near: dict[str, list[str]] = {}
    known = ""
    if isinstance(embeddings, SupportsVocabulary):
        wanted = {}
        for names in unknown[:SHOWN]:  # those that the message names
            name = _first_of_words(names)
            words = unique(["_".join(name.words), *_unknown_words(name, vectors)])
            letters = ("".join(filter(str.isalnum, word)) for word in words)
            wanted[names.label] = unique(filter(None, [*words, *letters]))
        # A word of which the vector is zeros is no help.
        near = near_spellings(wanted, embeddings.vocabulary(), vectors.zero)
        if isinstance(embeddings, SupportsClassIds) and not near:  # a table of labels
            listed = [repr(label) for label in embeddings.vocabulary()]
            known = f" It has {first_few(listed)}."
    described = [
        f"'{names.label}'{_reason(names, vectors, near.get(names.label, ()))}"
        for names in unknown
    ]
    return OutOfVocabularyError(
        f"Expected labels that '{embeddings.name}' has vectors for. Got {len(unknown)} "
        f"of {n_labels} labels that it has not: {first_few(described)}.{known} Correct "
        f"the spelling, give them other names (aliases), leave them out, or use vectors"
        f" with more words.",
        labels=[names.label for names in unknown],
        suggestions=near,
    )


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
