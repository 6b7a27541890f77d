"""For each check of encoders of phrases, plugins that break just that promise."""

import numpy as np
import pytest
from kits import Kit
from phrase_encoders import Padded, Trigrams

from zeroshot.embeddings import RandomEmbeddings
from zeroshot.labels import with_templates
from zeroshot.testing import check_phrases, check_text_embeddings, phrases_checks

WORDS = {"phrases": ["zebra", "a zebra in the forest", "okapi"]}


class Doubles(Trigrams):
    def encode(self, texts):
        return super().encode(texts).astype(float)


class Infinite(Trigrams):
    def vector(self, text):
        return np.full(self.dim, np.inf, np.float32)


class Zeros(Trigrams):
    def vector(self, text):
        return np.zeros(self.dim, np.float32)


class NeedsAText(Trigrams):
    def encode(self, texts):
        return super().encode([texts[0], *texts[1:]])


class FlatWithoutTexts(Trigrams):
    def encode(self, texts):
        return super().encode(texts) if len(texts) else np.zeros(0, np.float32)


class DropsAtRandom(Trigrams):
    random = np.random.default_rng(0)

    def vector(self, text):
        return super().vector(text) * np.float32(self.random.integers(0, 2, self.dim))


class SortsTexts(Trigrams):
    def _encode(self, texts):
        return super()._encode(sorted(texts))


class DropsRepetition(Trigrams):
    def _encode(self, texts):
        return super()._encode(list(dict.fromkeys(texts)))


class OneBatch(Trigrams):
    def _encode(self, texts):
        return super()._encode(texts[:32])


class FirstLetters(Trigrams):
    def vector(self, text):
        return super().vector("one and all")


class TakesNumbers(Trigrams):
    def encode(self, texts):
        return super().encode([t if isinstance(t, str) else "okapi" for t in texts])


class TakesLetters(Trigrams):
    def encode(self, texts):
        return super().encode(list(texts))


class FindsNothing(Trigrams):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found & False


class LooksUpOtherwise(Trigrams):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return -vectors, found


BROKEN = [
    ("check_members_of_phrases", RandomEmbeddings()),
    ("check_vectors", Doubles()),
    ("check_vectors", Infinite()),
    ("check_vectors", Zeros()),
    ("check_no_phrases", NeedsAText()),
    ("check_no_phrases", FlatWithoutTexts()),
    ("check_deterministic", DropsAtRandom()),
    ("check_batch_independent", Padded()),
    ("check_batch_independent", SortsTexts()),
    ("check_batch_independent", DropsRepetition()),
    ("check_batch_independent", OneBatch()),
    ("check_different_phrases", FirstLetters()),
    ("check_refuses_what_is_no_phrase", TakesNumbers()),
    ("check_refuses_what_is_no_phrase", TakesLetters()),
    ("check_lookup_of_phrases", FindsNothing()),
    ("check_lookup_of_phrases", LooksUpOtherwise()),
]

KIT = Kit(check_phrases, phrases_checks(**WORDS), BROKEN, WORDS)


@pytest.mark.parametrize(("check", "plugin"), KIT.cases())
def test_kit_given_a_broken_encoder_names_the_check_and_the_plugin(check, plugin):
    KIT.must_catch(check, plugin)


def test_kit_every_check_has_an_encoder_that_it_catches():
    KIT.must_have_a_plugin_for_every_check()


HEALTHY = [Trigrams(), with_templates(Trigrams("t"), ["a photo of a {}.", "the {}"])]


@pytest.mark.parametrize("encoder", HEALTHY)
def test_kits_given_a_healthy_encoder_pass(encoder):
    KIT.must_pass(encoder)
    check_text_embeddings(encoder, known=WORDS["phrases"])


@pytest.mark.parametrize("phrases", [[], ["zebra"], ["zebra", "okapi"]])
def test_phrases_checks_with_phrases_of_one_length_are_refused(phrases):
    with pytest.raises(ValueError, match="two phrases of different lengths"):
        phrases_checks(phrases=phrases)
