"""For each check of text embeddings, plugins that break just that promise."""

import uuid

import numpy as np
import pytest
from kits import Kit

from zeroshot.testing import check_text_embeddings, text_embeddings_checks

WORDS = {"known": ["zebra", "okapi", "bear"], "unknown": ["qwxz"]}


class Letters:
    """Healthy text embeddings: counts of letters, for words without a q."""

    name, dim, fingerprint = "letters", 26, "letters-1"

    def lookup(self, words):
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"Expected words. Got {words!r}.")
        found = np.array(["q" not in word for word in words], dtype=bool)
        vectors = np.array([self.vector(word) for word in words], np.float32)
        vectors = vectors.reshape(len(words), self.dim)
        vectors[~found] = np.nan
        return vectors, found

    def vector(self, word):
        return [word.count(chr(97 + i)) for i in range(26)]

    def __sklearn_clone__(self):
        return self


class Dimless(Letters):
    dim = 0


class Doubles(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors.astype(float), found


class CountsInsteadOfFlags(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found.astype(int)


class FindsNothing(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found & False


class Zeros(Letters):
    def vector(self, word):
        return [0] * 26


class Infinite(Letters):
    def vector(self, word):
        return [np.inf] * 26


class ZerosForUnknown(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return np.nan_to_num(vectors), found


class ClaimsEverything(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found | True


class LeavesUnknownOut(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors[found], found[found]


class NeedsAWord(Letters):
    def lookup(self, words):
        return super().lookup([words[0], *words[1:]])


class FlatWithoutWords(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return (vectors if len(words) else np.zeros(0, np.float32)), found


class Centred(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        if len(words) > 1:
            vectors = vectors - np.nanmean(vectors, axis=0)
        return vectors, found


class SortsWords(Letters):
    def lookup(self, words):
        super().lookup(words)
        vectors, found = super().lookup(sorted(words))
        order = np.argsort(np.argsort(list(words))) if "qwxz" in words else slice(None)
        return vectors[order], found[order]


class DropsRepetition(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        first = [i for i, word in enumerate(words) if word not in words[:i]]
        return vectors[first], found[first]


class TakesRowNumbers(Letters):
    def lookup(self, words):
        return super().lookup([w if isinstance(w, str) else "okapi" for w in words])


class TakesLetters(Letters):
    def lookup(self, words):
        return super().lookup(list(words))


class CopiedLetters:
    name, dim, fingerprint = "letters", 26, "letters-1"
    lookup, vector = Letters.lookup, Letters.vector


class RandomKey(Letters):
    @property
    def fingerprint(self):
        return uuid.uuid4().hex


class ForgetsItsScale(Letters):
    def __init__(self):
        self.scale = 2

    def vector(self, word):
        return [self.scale * count for count in super().vector(word)]

    def __getstate__(self):
        return {"scale": 1}


BROKEN = [
    ("check_members", Dimless()),
    ("check_known_words", Doubles()),
    ("check_known_words", CountsInsteadOfFlags()),
    ("check_known_words", FindsNothing()),
    ("check_known_words", Zeros()),
    ("check_known_words", Infinite()),
    ("check_unknown_words", ZerosForUnknown()),
    ("check_unknown_words", ClaimsEverything()),
    ("check_unknown_words", LeavesUnknownOut()),
    ("check_no_words", NeedsAWord()),
    ("check_no_words", FlatWithoutWords()),
    ("check_context_free", Centred()),
    ("check_context_free", SortsWords()),
    ("check_refuses_non_words", TakesRowNumbers()),
    ("check_refuses_non_words", TakesLetters()),
    ("check_clone", CopiedLetters()),
    ("check_fingerprint", RandomKey()),
    ("check_pickle", ForgetsItsScale()),
]

KIT = Kit(check_text_embeddings, text_embeddings_checks(**WORDS), BROKEN, WORDS)


@pytest.mark.parametrize(("check", "plugin"), KIT.cases())
def test_kit_given_a_broken_plugin_names_the_check_and_the_plugin(check, plugin):
    KIT.must_catch(check, plugin)


def test_kit_every_check_has_a_plugin_that_it_catches():
    KIT.must_have_a_plugin_for_every_check()


@pytest.mark.parametrize("plugin", [Letters()])
def test_kit_given_a_healthy_plugin_passes(plugin):
    KIT.must_pass(plugin)


def test_text_embeddings_checks_without_unknown_words_leave_their_check_out():
    names = [c.__name__ for c in text_embeddings_checks(known=["zebra", "okapi"])]
    assert "check_unknown_words" not in names
    assert "check_known_words" in names


@pytest.mark.parametrize("known", [[], ["zebra"], ["zebra", "zebra"]])
def test_text_embeddings_checks_with_fewer_than_two_known_words_are_refused(known):
    with pytest.raises(ValueError, match="two different known words"):
        text_embeddings_checks(known=known)
