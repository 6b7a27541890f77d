"""An encoder of phrases for tests: exact, quick, and aware of every letter."""

import uuid

import numpy as np

from zeroshot.embeddings import RandomEmbeddings
from zeroshot.embeddings.base import PhraseEncoder

DIM = 24
LETTERS = RandomEmbeddings(DIM)


class Trigrams(PhraseEncoder):
    """The sum of a random vector for each three letters; remembers what it was asked.

    Each object has a fingerprint of its own, so that nothing is remembered from other
    tests, unless one is given.
    """

    name, dim = "trigrams", DIM

    def __init__(self, fingerprint=None):
        self._fingerprint = fingerprint or uuid.uuid4().hex
        self.asked = []

    @property
    def fingerprint(self):
        return self._fingerprint

    def _encode(self, texts):
        self.asked += texts
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text):
        parts = [text[i : i + 3] for i in range(max(1, len(text) - 2))]
        return LETTERS.lookup(parts)[0].sum(axis=0)


class Padded(Trigrams):
    """What an encoder does that pads its texts to the longest one."""

    def _encode(self, texts):
        longest = max(map(len, texts))
        return super()._encode([text.ljust(longest) for text in texts])


class Prompted(Trigrams):
    """An encoder that was trained for a template."""

    default_templates = ("a picture of {}", "{}, a picture")


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
