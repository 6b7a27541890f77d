"""The conformance kit for text embeddings."""

from collections.abc import Mapping, Sequence

import numpy as np

from zeroshot.embeddings.base import TextEmbeddings, check_words
from zeroshot.testing import _kit as kit

__all__ = ["check_text_embeddings", "text_embeddings_checks"]


def check_text_embeddings(
    embeddings: TextEmbeddings,
    *,
    known: Sequence[str],
    unknown: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Check that text embeddings keep the contract of `TextEmbeddings`.

    Parameters
    ----------
    embeddings : TextEmbeddings
        An object, not its class, defined where pickle finds it (not in a function).
    known : sequence of str
        Words that it has vectors for, at least two different ones.
    unknown : sequence of str, default=()
        Words that it has no vectors for; empty where it knows every word.
    expected_failures : mapping of str to str, optional
        Names of checks that fail on purpose, with the reason. A listed check that
        passes is an error.

    Raises
    ------
    PluginContractError
        By the first check that fails; names plugin, check, expected and got.
    ValueError
        If ``expected_failures`` names no check, or ``known`` has under two words.

    Examples
    --------
    >>> from zeroshot.embeddings import RandomEmbeddings
    >>> check_text_embeddings(RandomEmbeddings(), known=["zebra", "okapi"])
    """
    checks = text_embeddings_checks(known=known, unknown=unknown)
    kit.run(embeddings, checks, expected_failures)


def text_embeddings_checks(
    *, known: Sequence[str], unknown: Sequence[str] = ()
) -> tuple[kit.Check, ...]:
    """Return the checks, functions of text embeddings, for ``pytest.mark.parametrize``.

    Parameters
    ----------
    known, unknown : sequence of str
        As for `check_text_embeddings`; without unknown words, `check_unknown_words` is
        left out.

    Returns
    -------
    checks : tuple of callable
        Each raises `PluginContractError` where the text embeddings fail it.

    Raises
    ------
    ValueError
        If ``known`` has under two different words.

    Examples
    --------
    >>> checks = text_embeddings_checks(known=["zebra", "okapi"])
    >>> [check.__name__ for check in checks][:2]
    ['check_members', 'check_known_words']
    """
    known, unknown = check_words(known), check_words(unknown)
    if len(set(known)) < 2:
        raise ValueError(f"Expected at least two different known words. Got {known}.")
    checks = [kit.reporting(check, known=known) for check in _CHECKS]
    if unknown:
        checks.insert(
            2, kit.reporting(check_unknown_words, known=known, unknown=unknown)
        )
    return tuple(checks)


def check_members(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """Name, dim, fingerprint and `lookup` are there and of the right kind."""
    kit.expect_members(embeddings, TextEmbeddings)
    kit.expect_name_dim_fingerprint(embeddings)


def check_known_words(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """Known words are found and have float32 vectors, finite and not zero."""
    vectors, found = embeddings.lookup(known)
    call = f"lookup of {len(known)} words"
    kit.expect_array(vectors, (len(known), embeddings.dim), np.float32, call)
    kit.expect_array(found, (len(known),), np.bool_, f"{call}, second,")
    for word, vector, was_found in zip(known, vectors, found, strict=True):
        kit.expect(was_found, f"the known word '{word}' to be found", "found == False")
        usable = np.isfinite(vector).all() and vector.any()
        kit.expect(usable, f"a finite vector for '{word}', not all zero", vector)


def check_unknown_words(
    embeddings: TextEmbeddings, known: Sequence[str], unknown: Sequence[str]
) -> None:
    """Unknown words among known ones say that they were not found, and are NaN."""
    # One word of each kind in turn, so that a row moved to another place shows.
    words = [word for each in unknown for word in (each, known[0])]
    vectors, found = embeddings.lookup(words)
    kit.expect_array(vectors, (len(words), embeddings.dim), np.float32, "lookup")
    for word, vector, was_found in zip(words, vectors, found, strict=True):
        if word in unknown:
            kit.expect(not was_found, f"'{word}' not to be found", "found == True")
            kit.expect(np.isnan(vector).all(), f"a row of NaN for '{word}'", vector)
        else:
            kit.expect(was_found, f"'{word}' to be found", "found == False")


def check_no_words(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """No words give no rows, of the right width and type."""
    vectors, found = embeddings.lookup([])
    kit.expect_array(vectors, (0, embeddings.dim), np.float32, "lookup of no words")
    kit.expect_array(found, (0,), np.bool_, "lookup of no words, second,")


def check_context_free(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """A vector does not depend on the other words, nor on order and repetition."""
    alone = {word: embeddings.lookup([word])[0] for word in known}
    for words in (list(known), [*reversed(known), known[0]]):
        kit.expect_same(
            embeddings.lookup(words)[0],
            np.concatenate([alone[word] for word in words]),
            f"the vectors of {', '.join(words)} to be the same together and alone",
        )


def check_refuses_non_words(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """An int and a bare string are a ``TypeError``, not a row number or letters."""
    for wrong in ([known[0], 0], known[0]):
        try:
            got = embeddings.lookup(wrong)  # type: ignore[arg-type]
        except TypeError:
            continue
        kit.expect(False, f"lookup({wrong!r}) to raise TypeError", kit.describe(got))


def check_fingerprint(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """The fingerprint is the same before and after use."""
    kit.expect_stable_fingerprint(embeddings, lambda e: e.lookup(known))


def check_pickle(embeddings: TextEmbeddings, known: Sequence[str]) -> None:
    """Unpickled, as in joblib's workers, vectors and fingerprint are the same."""
    kit.expect_same_unpickled(embeddings, lambda e: e.lookup(known)[0])


_CHECKS = (
    check_members,
    check_known_words,
    check_no_words,
    check_context_free,
    check_refuses_non_words,
    kit.check_clone,
    check_fingerprint,
    check_pickle,
)
