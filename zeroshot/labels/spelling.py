"""How a text may be spelt in a vocabulary: strings, no vectors."""

import re
import unicodedata
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import nlargest
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KnownWords", "Name", "as_phrase", "label_key"]

SUGGESTION_RATIO = 0.75  # difflib's ratio: one wrong letter of four, or better
# What joins words in place of a space: "_", a hyphen or dash, "+" between letters.
BLANKS = re.compile(r"(?:[\s_\-\u2010-\u2015]|(?<=[^\W_])\+(?=[^\W_]))+")
JOINS = re.compile(r"(?:[\s_]|(?<=[^\W_])\+(?=[^\W_]))+")  # a hyphen is part of a word
# A point or colon between two digits is no punctuation: "3.1", "3:2".
PUNCTUATION = re.compile(
    r"(?:[+/\\,;!?()\[\]{}&\"\u201c\u201d]|(?<!\d)[.:]|[.:](?!\d))+"
)
EDGES = '()[]{}"\u201c\u201d,;:!?/\\'  # never part of a word that they enclose
# "001.Black_footed_Albatross", "n02084071-dog", "01-dog", "3_dog", "12 - dog"; but not
# "3-toed sloth", "5 euro", "1.5 litre": there the number is part of the name.
NUMBER_PREFIX = re.compile(
    r"^\s*(?:n\d{8}|0\d+|\d+(?=[._:)]|\s+-))[\s._:)\-]+(?=[^\W\d_])", re.IGNORECASE
)
DECORATION = "/_|#:"  # between a word and its language or part of speech
BLOCK = 20_000  # words whose letters are held as one text
MOST_TARGETS, LONGEST_TARGET = 12, 64  # words of a label, and letters, looked for
INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")  # soft hyphens, joints of lines
CURLY_APOSTROPHE = "\u2019"
WORDNET_ID = re.compile(r"n\d{8}")  # the folders of ImageNet
ACCENTS = re.compile("[\u0300-\u036f]")  # combining marks of Latin, Greek, Cyrillic
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


@lru_cache(4096)  # the keys of the seen classes are asked for in every call
def label_key(label: Hashable) -> Hashable:
    r"""Return what two labels have in common when they are names of one class.

    The first name of a label as ImageNet writes it, without a number in front, in
    folded case, with spaces for ``_`` and ``-``. Other punctuation tells classes apart.
    What is no string stays itself.

    >>> label_key("LION, king of beasts")
    'lion'
    >>> label_key("Sea_horse") == label_key("sea-horse") == label_key("sea horse")
    True
    >>> label_key("li\u0301on") == label_key("L\u00cdON")
    True
    >>> label_key("001.Black_footed_Albatross")
    'black footed albatross'
    >>> [label_key(label) for label in ("U.S.", "us", "C++", "c", 7)]
    ['u.s.', 'us', 'c++', 'c', 7]
    """
    if not isinstance(label, str):
        return label
    if _is_plain(label):
        return label.lower()
    name = without_number(names_of(INVISIBLE.sub("", label))[0])
    name = name.replace(CURLY_APOSTROPHE, "'")
    key = folded(name)
    return BLANKS.sub(" ", key).strip() or key


def names_of(label: str) -> list[str]:
    """Return the names of a label: ``"lion, king of beasts"`` has two."""
    if "," not in label:
        return [label.strip()]
    names = [name.strip() for name in label.split(",")]
    return [name for name in names if name] or [label.strip()]


def without_number(name: str) -> str:
    """Return a name without the number that orders the folders of a data set."""
    return NUMBER_PREFIX.sub("", name)


def as_phrase(name: str) -> str:
    """Return a name as it is said: no number in front, spaces for what joins words.

    >>> as_phrase("001.Black_footed_Albatross"), as_phrase("grizzly+bear")
    ('Black footed Albatross', 'grizzly bear')
    """
    name = INVISIBLE.sub("", name).strip()
    return JOINS.sub(" ", without_number(name)).strip() or name


def is_class_id(text: str) -> bool:
    """Tell whether a text is a number or a WordNet id, with no letter of a name."""
    if _is_plain(text):
        return False
    if WORDNET_ID.fullmatch(text.strip()):
        return True
    return any(map(str.isnumeric, text)) and not any(map(str.isalpha, text))


def _is_plain(text: str) -> bool:
    """Tell whether a text is one word of Latin letters, as most words are."""
    return text.isascii() and text.isalpha()


def folded(text: str) -> str:
    """Return text that is equal for two spellings that differ in case only."""
    # Folding may take a composed letter apart, and capitals may have composed forms
    # that small letters lack.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


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
        """Return the spellings of a label or an alias."""
        text = INVISIBLE.sub("", text).strip()
        if is_class_id(text):
            return cls.exactly(text)
        plain = without_number(text)
        words = _words(plain)
        lone = len(words) > 1 and all(map(_is_letter, words))  # "U S", "r & b"
        content = [i for i, word in enumerate(words) if word.lower() not in STOP_WORDS]
        head = _head(plain, words, content)
        return cls(
            text=text,
            words=words,
            content=tuple(content or range(len(words))),
            head=head,
            # Punctuation is dropped last: "U.S." is not "us" where "u.s." is known.
            whole=unique(
                form
                for name in unique([text, plain])
                for form in (*_cases(name), *_spellings(_split(name, keep=True)))
            )
            + (() if lone else tuple(_spellings(words))),
            number=() if lone else _inflected(words, head),
            parts=tuple(
                () if lone else unique([*_spellings([word]), *_inflected([word], 0)])
                for word in words
            ),
        )

    @classmethod
    def exactly(cls, token: str) -> "Name":
        """Return a name that is looked up as it is, or if empty not at all."""
        return cls(token, (), (), 0, (token,) if token else (), (), ())

    @property
    def spellings(self) -> Iterator[str]:
        """Everything to look up."""
        return chain(self.whole, self.number, *self.parts)

    @property
    def composable(self) -> Iterator[str]:
        """The words to compose from n-grams where the provider can."""
        # Lower case first: most vocabularies are lower case, and so are their n-grams.
        for i in self.content:
            yield from (self.words[i].lower(), self.words[i])


class KnownWords:
    """The words of a vocabulary, to look for those spelt nearly like others.

    Making it passes over all of them once. A search then compares only what can be near
    at all, which a few numbers of each word tell: of 400,000 words in 10 ms.

    ``vocabulary``: the words. Kept are 18 bytes of each, and its letters twice.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        words = iter(vocabulary)
        self._blocks: list[_Block] = []
        while block := list(islice(words, BLOCK)):
            self._blocks.append(_Block(block))

    def near(
        self, wanted: Mapping[str, Sequence[str]], useless: Container[str] = ()
    ) -> dict[str, list[str]]:
        """Return for each key the three known words nearest to any of its words.

        Best first. A word that has the wanted one between separators comes first
        (``/c/en/zebra``, ``zebra_NOUN``). Else only words with the same first letter or
        the same three last letters are compared. A key with none is left out, as are
        the words in ``useless``. Of many or long words of a key only some are looked
        for.
        """
        suggestions = {}
        for key, names in wanted.items():
            ranks: dict[str, tuple[float, bool]] = {}
            for name in unique(map(str.lower, names[:MOST_TARGETS])):
                if not 0 < len(name) <= LONGEST_TARGET:
                    continue
                target = _Target(name)
                for block in self._blocks:
                    for word, likeness in block.near(target):
                        if word in useless or not word:
                            continue
                        # Of equal ones that with the same beginning: for "zebar" not
                        # "debar".
                        rank = (likeness, word[:3].lower() == name[:3])
                        ranks[word] = max(rank, ranks.get(word, rank))
            if ranks:
                suggestions[key] = nlargest(3, ranks, key=ranks.__getitem__)
        return suggestions


class _Block:
    """Some words: as one text each of themselves and of their lower case, and numbers.

    The numbers are vectors, (n_words,).
    """

    def __init__(self, words: Sequence[str]) -> None:
        # A lone surrogate or a line break is no suggestion.
        shown = [word if word.isprintable() else "" for word in words]
        self._words = "\n".join(shown)
        self._text = self._words.lower()
        codes = np.frombuffer(f"\n{self._text}\n".encode("utf-32-le"), np.uint32)
        breaks = np.flatnonzero(codes == ord("\n"))
        starts, ends = breaks[:-1] + 1, breaks[1:]
        self._lengths = np.minimum(ends - starts, np.iinfo(np.uint16).max)
        self._lengths = self._lengths.astype(np.uint16)
        self._first = codes[starts]
        # Of a shorter word the breaks take part, as in `_Target`.
        self._last = _hashed(codes, ends)
        bits = np.uint64(1) << (codes % 64).astype(np.uint64)
        self._letters = np.bitwise_or.reduceat(bits, starts)

    def near(self, target: "_Target") -> Iterator[tuple[str, float]]:
        """Yield words that are like the target, and how much."""
        words: list[str] = []
        for i in self._may_be_near(target).tolist():
            words = words or self._words.split("\n")
            if (ratio := target.ratio(words[i].lower())) >= SUGGESTION_RATIO:
                yield words[i], ratio
        text, part = self._text, target.text
        at = text.find(part)
        while at >= 0:
            end = at + len(part)
            before, after = text[max(0, at - 1) : at], text[end : end + 1]
            if before in DECORATION + "\n" and after in DECORATION + "\n":
                words = words or self._words.split("\n")
                word = words[text.count("\n", 0, at)]
                if len(word) > len(part):  # the shorter the rest, the likelier
                    yield word, 1 + len(part) / len(word)
            at = text.find(part, end)

    def _may_be_near(self, target: "_Target") -> NDArray[np.intp]:
        length = len(target.text)
        rows = np.flatnonzero(
            (self._first == target.first) | (self._last == target.last)
        )
        lengths = self._lengths[rows].astype(np.float32)
        enough = SUGGESTION_RATIO / 2 * (lengths + length)
        # A letter that the other lacks matches nothing: most words end here.
        letters = self._letters[rows]
        lacking = _count_bits(letters & ~target.letters)
        lacked = _count_bits(target.letters & ~letters)
        near = (lengths - lacking >= enough) & (length - lacked >= enough)
        return np.asarray(rows[near])


def _count_bits(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    bits = np.unpackbits(numbers[:, None].view(np.uint8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.uint8))


def _hashed(codes: NDArray[np.uint32], ends: Any) -> Any:
    """Return a number for the three characters before each end."""
    three = [codes[np.maximum(ends - back, 0)] for back in (3, 2, 1)]
    return (three[0] * np.uint32(31) + three[1]) * np.uint32(31) + three[2]


class _Target:
    """A word to compare others with, by difflib's ratio."""

    def __init__(self, text: str) -> None:
        self.text = text
        codes = np.frombuffer(
            f"\n{text}\n".encode("utf-32-le", "surrogatepass"), np.uint32
        )
        self.first = codes[1]
        self.last = _hashed(codes, np.array([len(codes) - 1]))[0]
        bits = np.uint64(1) << (codes % 64).astype(np.uint64)
        self.letters = np.bitwise_or.reduce(bits[1:])
        self._matcher = SequenceMatcher(None, "", text, autojunk=False)

    def ratio(self, other: str) -> float:
        """Return the ratio, or 0 where it is below `SUGGESTION_RATIO`."""
        self._matcher.set_seq1(other)
        if self._matcher.quick_ratio() < SUGGESTION_RATIO:
            return 0
        return self._matcher.ratio()


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Return the items without repeats, in order of first appearance."""
    return tuple(dict.fromkeys(items))


def _words(text: str) -> tuple[str, ...]:
    """Split a text into words, or, where it is one, at capitals inside it."""
    words = tuple(_split(text))
    if len(words) != 1:
        return words
    word = words[0]
    pairs = enumerate(pairwise(word), start=1)
    breaks = [i for i, (a, b) in pairs if a.islower() and b.isupper()]
    parts = [word[i:j] for i, j in pairwise([0, *breaks, len(word)])]
    # A single letter is no word: "iPod", "eBay".
    return tuple(parts) if min(map(len, parts)) > 1 else words


def _split(text: str, *, keep: bool = False) -> list[str]:
    """Split a text at blanks, and unless punctuation is kept at that too."""
    words: list[str] = []
    for word in filter(None, BLANKS.split(text)):
        inner = word.strip(EDGES)
        pieces = list(filter(None, PUNCTUATION.split(inner)))
        if keep:
            words.append(word)
        elif pieces != [inner] and any(map(_is_letter, pieces)):
            words.append(inner)  # "C++" is not "C", nor "AT&T" "AT"
        else:
            words += pieces
    return words


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii() and word.isalpha()


def _head(text: str, words: Sequence[str], content: Sequence[int]) -> int:
    """Return the position of the last content word before a bracket or preposition."""
    # Fewer words than before the bracket: a letter after it keeps "AA.AA(A" whole.
    end = min(len(_split(text.partition("(")[0])), len(words))
    if text.find("(") < 1 or not end:
        end = len(words)
    end = next((i for i in range(1, end) if words[i].lower() in PREPOSITIONS), end)
    return max((i for i in content if i < end), default=end - 1)


def _cases(text: str) -> Iterator[str]:
    """Yield a text, then with other case, then with compatible characters."""
    yield text
    for form in unique(unicodedata.normalize(kind, text) for kind in ("NFC", "NFKC")):
        lower = form.lower()
        yield from (form, lower, form.upper(), _capital(lower), form.title())
        yield unicodedata.normalize("NFC", form.casefold())


def _spellings(words: Sequence[str]) -> Iterator[str]:
    """Yield the spellings of words as one word, likeliest first."""
    if not words:
        return
    joiners: Sequence[str] = JOINERS if len(words) > 1 else JOINERS[:1]
    if any(a[-1].isdigit() and b[0].isdigit() for a, b in pairwise(words)):
        joiners = JOINERS[:-1]  # "747 400" is not 747400
    for form in _unaccented(words):
        lower = [word.lower() for word in form]
        for joiner in joiners:
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
    plain = [ACCENTS.sub("", unicodedata.normalize("NFD", word)) for word in words]
    composed = [unicodedata.normalize("NFC", word) for word in plain]
    straight = [word.replace(CURLY_APOSTROPHE, "'") for word in composed]
    yield straight
    yield [word.replace("'", "") for word in straight]


def _inflected(words: Sequence[str], head: int) -> tuple[str, ...]:
    """Return spellings of words with the head word in plural or base form."""
    lower = [word.lower() for word in words]
    return unique(
        spelling
        for form in (_other_number(lower[head]) if words else ())
        if form  # "'s" has none
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
