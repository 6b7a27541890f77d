"""How a text may be spelt in a vocabulary: plain strings, no vectors."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import pairwise

__all__ = ["Name", "near_spellings", "unique"]

SUGGESTION_RATIO = 0.75  # difflib's ratio: one wrong letter of four, or better
SEPARATORS = re.compile(r"[\s_\-\u2010-\u2015+/\\.,;:!?()\[\]{}&\"\u201c\u201d]+")
CURLY_APOSTROPHE = "\u2019"
ACCENTS = re.compile("[\u0300-\u036f]")  # combining marks of Latin, Greek, Cyrillic
TAG = re.compile(r"(?<=.)[_|#/][A-Z]{1,5}$")  # part of speech after a word
JOINERS = ("_", "-", " ", "+", "")
PREPOSITIONS = {"at", "by", "for", "from", "in", "of", "on", "to", "with"}
STOP_WORDS = PREPOSITIONS | {"a", "an", "and", "o", "o'", "or", "the"}
SINGULAR_IN_S = {"atlas", "canvas", "christmas", "gas", "lens", "series", "species"}
# Endings, singular and plural: "dormice", "firemen" and "grandchildren" are covered.
IRREGULAR = (
    ("man", "men"),
    ("mouse", "mice"),
    ("louse", "lice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("child", "children"),
    ("person", "people"),
    ("ox", "oxen"),
    ("cactus", "cacti"),
    ("fungus", "fungi"),
)


@dataclass(frozen=True)
class Name:
    """One text, and the spellings under which it or its words may be known."""

    text: str
    words: tuple[str, ...]
    content: tuple[int, ...]  # positions of the words that are not stop words
    head: int  # position of the head word
    whole: tuple[str, ...]  # spellings of the text as one word
    number: tuple[str, ...]  # the same, with the head word in plural or base form
    parts: tuple[tuple[str, ...], ...]  # spellings of each word, number included

    @classmethod
    def of(cls, text: str) -> "Name":
        """Return the spellings of a text.

        Parameters
        ----------
        text : str
            A label or an alias.

        Returns
        -------
        name : Name
        """
        words = _words(text)
        content = [i for i, word in enumerate(words) if word.lower() not in STOP_WORDS]
        head = _head(text, words, content)
        return cls(
            text=text,
            words=words,
            content=tuple(content or range(len(words))),
            head=head,
            whole=unique([text, *_spellings(words)]),
            number=_inflected(words, head),
            parts=tuple(
                unique([*_spellings([word]), *_inflected([word], 0)]) for word in words
            ),
        )

    @property
    def spellings(self) -> Iterator[str]:
        """Everything to look up."""
        yield from self.whole
        yield from self.number
        for part in self.parts:
            yield from part

    @property
    def composable(self) -> Iterator[str]:
        """The words to compose from n-grams where the provider can."""
        # Lower case first: most vocabularies are lower case, and so are their n-grams.
        for i in self.content:
            yield from (self.words[i].lower(), self.words[i])


def near_spellings(
    wanted: Mapping[str, Sequence[str]], vocabulary: Iterable[str]
) -> dict[str, list[str]]:
    """Return for each key the three known words nearest to any of its words.

    One pass. Only words with the same first letter or the same three last letters are
    compared: 0.5 to 1.0 s for 5 words and a vocabulary of 400,000.

    Parameters
    ----------
    wanted : mapping of str to sequence of str
        Words for each key.
    vocabulary : iterable of str
        The known words.

    Returns
    -------
    nearest : dict of str to list of str
        Best first; a key with none is left out.
    """
    folded = {word.lower() for words in wanted.values() for word in words if word}
    matchers: defaultdict[str, list[tuple[str, SequenceMatcher[str]]]]
    matchers = defaultdict(list)
    for target in sorted(folded):
        matcher = SequenceMatcher(None, "", target, autojunk=False)
        for key in {target[:1], target[-3:]}:
            matchers[key].append((target, matcher))
    # Of equal ratios the one with the same beginning: for "zebar" not "debar".
    near: dict[str, dict[str, tuple[float, bool]]] = {target: {} for target in folded}
    for word in vocabulary:
        plain = _undecorated(word)
        known = plain.lower()
        for key in (known[:1], known[-3:]):
            for target, matcher in matchers.get(key, ()):
                shorter, longer = sorted((len(known), len(target)))
                if 2 * shorter < SUGGESTION_RATIO * (shorter + longer):
                    continue
                matcher.set_seq1(known)
                if matcher.quick_ratio() < SUGGESTION_RATIO:
                    continue
                ratio = matcher.ratio()
                # A lone surrogate (bytes that are no UTF-8) cannot be printed.
                is_other = ratio < 1 or plain != word
                if ratio >= SUGGESTION_RATIO and is_other and word.isprintable():
                    near[target][word] = (ratio, known[:3] == target[:3])
    suggestions = {}
    for key, words in wanted.items():
        found: dict[str, tuple[float, bool]] = {}
        for word in words:
            found |= near.get(word.lower(), {})
        if found:
            suggestions[key] = nlargest(3, found, key=found.__getitem__)
    return suggestions


def _undecorated(word: str) -> str:
    """Return the word in "zebra_NOUN", "zebra/NN" or "ENTITY/Zebra"."""
    if "/" in word or word[-1:].isupper():
        return TAG.sub("", word).rpartition("/")[2] or word
    return word


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Return the items without repeats, in order of first appearance.

    Parameters
    ----------
    items : iterable of str

    Returns
    -------
    items : tuple of str
    """
    return tuple(dict.fromkeys(items))


def _words(text: str) -> tuple[str, ...]:
    """Split a text at separators, or, where it has none, at capitals inside it."""
    words = tuple(filter(None, SEPARATORS.split(text)))
    if len(words) != 1:
        return words
    breaks = [
        i
        for i, (a, b) in enumerate(pairwise(words[0]), start=1)
        if a.islower() and b.isupper()
    ]
    parts = [words[0][i:j] for i, j in pairwise([0, *breaks, len(words[0])])]
    # A single letter is no word: "iPod", "eBay".
    return tuple(parts) if min(map(len, parts)) > 1 else words


def _head(text: str, words: Sequence[str], content: Sequence[int]) -> int:
    """Return the position of the last content word before a bracket or preposition."""
    end = len(list(filter(None, SEPARATORS.split(text.partition("(")[0]))))
    if text.find("(") < 1 or not end:
        end = len(words)
    for i in range(1, end):
        if words[i].lower() in PREPOSITIONS:
            end = i
            break
    return max((i for i in content if i < end), default=end - 1)


def _spellings(words: Sequence[str]) -> Iterator[str]:
    """Yield the spellings of words as one word, likeliest first."""
    if not words:
        return
    for joiner in JOINERS if len(words) > 1 else JOINERS[:1]:
        for form in _unaccented(words):
            lower = [word.lower() for word in form]
            yield joiner.join(form)
            yield joiner.join(lower)
            if joiner == "_":  # phrases with capitals: word2vec's Google News
                yield "_".join([_capital(lower[0]), *lower[1:]])
                yield "_".join(map(_capital, lower))
                yield "_".join(form).upper()


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _unaccented(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield words as written, then without accents, then without apostrophes."""
    yield [unicodedata.normalize("NFC", word) for word in words]
    plain = [
        unicodedata.normalize(
            "NFC", ACCENTS.sub("", unicodedata.normalize("NFD", word))
        )
        for word in words
    ]
    straight = [word.replace(CURLY_APOSTROPHE, "'") for word in plain]
    yield straight
    yield [word.replace("'", "") for word in straight]


def _inflected(words: Sequence[str], head: int) -> tuple[str, ...]:
    """Return spellings of words with the head word in plural or base form."""
    lower = [word.lower() for word in words]
    return unique(
        spelling
        for form in (_other_number(lower[head]) if words else ())
        for spelling in _spellings([*lower[:head], form, *lower[head + 1 :]])
    )


def _other_number(word: str) -> Iterator[str]:
    """Yield base forms and plurals of a lower-case word by rule; not all are words."""
    if word.endswith(("'s", CURLY_APOSTROPHE + "s")):
        yield word[:-2]
        return
    for singular, plural in IRREGULAR:
        if word.endswith(plural):
            yield word.removesuffix(plural) + singular
        elif word.endswith(singular):
            yield word.removesuffix(singular) + plural
    if len(word) > 3 and word.endswith("s"):
        if word in SINGULAR_IN_S:
            return
        if word.endswith("ies"):
            yield word[:-3] + "y"
        if word.endswith("ves"):
            yield from (word[:-3] + "f", word[:-3] + "fe")
        if not word.endswith(("ss", "us", "is")):
            yield word[:-1]
        if word.endswith("es"):
            yield word[:-2]
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        yield word[:-1] + "ies"
    if word.endswith(("f", "fe")):
        yield word.removesuffix("e")[:-1] + "ves"
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        yield word + "es"
    if not word.endswith("s"):
        yield word + "s"
