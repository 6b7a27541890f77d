"""The conformance kit for text embeddings that encode whole phrases."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zeroshot.embeddings.base import SupportsPhrases, TextEmbeddings, check_words
from zeroshot.testing import _kit as kit

__all__ = ["check_phrases", "phrases_checks"]

MANY = 70  # texts in one call: more than most encoders take in a batch


def check_phrases(
    embeddings: TextEmbeddings,
    *,
    phrases: Sequence[str],
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Check that text embeddings keep the contract of `SupportsPhrases`.

    It comes beside `check_text_embeddings`, for which every phrase is a known word.

    Parameters
    ----------
    embeddings : TextEmbeddings
        An object, not its class.
    phrases : sequence of str
        At least two that mean different things, of different lengths.
    expected_failures : mapping of str to str, optional
        Names of checks that fail on purpose, with the reason. A listed check that
        passes is an error.

    Raises
    ------
    PluginContractError
        By the first check that fails; names plugin, check, expected and got.
    ValueError
        If ``expected_failures`` names no check, or ``phrases`` are too few or too
        alike.
    """
    kit.run(embeddings, phrases_checks(phrases=phrases), expected_failures)


def phrases_checks(*, phrases: Sequence[str]) -> tuple[kit.Check, ...]:
    """Return the checks, functions of text embeddings, for ``pytest.mark.parametrize``.

    Parameters
    ----------
    phrases : sequence of str
        As for `check_phrases`.

    Returns
    -------
    checks : tuple of callable
        Each raises `PluginContractError` where the text embeddings fail it.

    Raises
    ------
    ValueError
        If ``phrases`` are less than two of different lengths.

    Examples
    --------
    >>> checks = phrases_checks(phrases=["a zebra", "an okapi in the forest"])
    >>> [check.__name__ for check in checks][:2]
    ['check_members_of_phrases', 'check_vectors']
    """
    phrases = check_words(phrases)
    if len({len(phrase) for phrase in phrases}) < 2:
        raise ValueError(
            f"Expected at least two phrases of different lengths. Got {phrases}."
        )
    return tuple(kit.reporting(check, phrases=phrases) for check in _CHECKS)


def check_members_of_phrases(embeddings: Any, phrases: Sequence[str]) -> None:
    """`encode` is there."""
    kit.expect_members(embeddings, SupportsPhrases)


def check_vectors(embeddings: Any, phrases: Sequence[str]) -> None:
    """Every phrase has a float32 vector, finite and not zero."""
    vectors = embeddings.encode(phrases)
    wanted = (len(phrases), embeddings.dim)
    kit.expect_array(vectors, wanted, np.float32, f"encode of {len(phrases)} texts")
    for phrase, vector in zip(phrases, vectors, strict=True):
        usable = np.isfinite(vector).all() and vector.any()
        kit.expect(usable, f"a finite vector for '{phrase}', not all zero", vector)


def check_no_phrases(embeddings: Any, phrases: Sequence[str]) -> None:
    """No texts give no rows, of the right width and type."""
    vectors = embeddings.encode([])
    kit.expect_array(vectors, (0, embeddings.dim), np.float32, "encode of no texts")


def check_deterministic(embeddings: Any, phrases: Sequence[str]) -> None:
    """The same texts give the same vectors: nothing is dropped at random."""
    wanted = embeddings.encode(phrases)
    kit.expect_same(embeddings.encode(phrases), wanted, "the same vectors again")


def check_batch_independent(embeddings: Any, phrases: Sequence[str]) -> None:
    """A vector does not depend on the other texts, their number, order or lengths.

    An encoder that pads its texts to the longest one of a batch must not see the
    padding.
    """
    alone = {phrase: embeddings.encode([phrase])[0] for phrase in phrases}
    for texts in (
        list(phrases),
        [*reversed(phrases), phrases[0]],
        [phrases[i % len(phrases)] for i in range(MANY)],
    ):
        kit.expect_same(
            embeddings.encode(texts),
            np.stack([alone[text] for text in texts]),
            f"the vectors of {len(texts)} texts to be the same together and alone",
        )


def check_different_phrases(embeddings: Any, phrases: Sequence[str]) -> None:
    """Phrases that mean different things do not have one vector."""
    vectors = embeddings.encode(phrases)
    for i, phrase in enumerate(phrases):
        for j in range(i):
            distance = kit.difference(vectors[i], vectors[j])
            kit.expect(
                phrase == phrases[j] or distance > kit.TOLERANCE,
                f"different vectors for '{phrases[j]}' and '{phrase}'",
                "the same",
            )


def check_refuses_what_is_no_phrase(embeddings: Any, phrases: Sequence[str]) -> None:
    """An int and a bare string are a ``TypeError``, not a token or letters."""
    for wrong in ([phrases[0], 0], phrases[0]):
        try:
            got = embeddings.encode(wrong)
        except TypeError:
            continue
        kit.expect(False, f"encode({wrong!r}) to raise TypeError", kit.describe(got))


def check_lookup_of_phrases(embeddings: Any, phrases: Sequence[str]) -> None:
    """`lookup` finds every text, with the vector that `encode` gives."""
    vectors, found = embeddings.lookup(phrases)
    kit.expect(np.all(found), "lookup to find every text", found)
    kit.expect_same(vectors, embeddings.encode(phrases), "lookup to agree with encode")


_CHECKS = (
    check_members_of_phrases,
    check_vectors,
    check_no_phrases,
    check_deterministic,
    check_batch_independent,
    check_different_phrases,
    check_refuses_what_is_no_phrase,
    check_lookup_of_phrases,
)
