"""Templates: texts that a label is put into before a provider of phrases encodes it."""

import hashlib
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import (
    PhraseEncoder,
    SupportsDefaultTemplates,
    SupportsPhrases,
    TextEmbeddings,
)
from zeroshot.errors import LabelError
from zeroshot.escaping import shown
from zeroshot.labels.phrases import encoded, mean_direction

__all__ = [
    "Templated",
    "Templates",
    "checked_templates",
    "effective_templates",
    "template_sets",
    "with_templates",
]

Templates: TypeAlias = str | Sequence[str] | None
"""A text with one ``{}``, a list of such, the name of a set; None: the provider's."""

PLACE = "{}"
LONGEST_TEMPLATE = 1000  # characters; as of a label
MOST_TEMPLATES = 1000  # each costs a text for every label


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Return the sets of templates that have a name, from ``templates.toml``."""
    text = files("zeroshot.labels").joinpath("templates.toml").read_text("utf-8")
    return {name: tuple(texts) for name, texts in tomllib.loads(text).items()}


def checked_templates(given: object) -> tuple[str, ...] | None:
    """Return the templates that were meant, or None for the provider's own.

    Parameters
    ----------
    given : str, sequence of str or None
        See `Templates`.

    Returns
    -------
    templates : tuple of str or None
        Each with exactly one ``{}``, each once.

    Raises
    ------
    LabelError
        If it is none of these; names the sets.

    Examples
    --------
    >>> checked_templates("a photo of a {}.")
    ('a photo of a {}.',)
    >>> len(checked_templates("imagenet-80"))
    80
    """
    if given is None:
        return None
    if isinstance(given, str) and given in template_sets():
        return template_sets()[given]
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not 0 < len(texts) <= MOST_TEMPLATES:
        raise _wrong(given)
    for text in texts:
        if not isinstance(text, str) or text.count(PLACE) != 1:
            raise _wrong(text)
        if len(text) > LONGEST_TEMPLATE:
            raise _wrong(text)
    return tuple(dict.fromkeys(texts))


def _wrong(given: object) -> LabelError:
    sets = ", ".join(map(repr, template_sets()))
    return LabelError(
        f"Expected templates: a text in which {PLACE!r} stands once, for the label, or "
        f"a list of at most {MOST_TEMPLATES}, of up to {LONGEST_TEMPLATE} characters "
        f"each, or one of the names {sets}. Got {shown(given)}. Write 'a photo of a "
        f"{PLACE}.'"
    )


class Templated(PhraseEncoder):
    """A provider of phrases that puts each text into templates first.

    The vector of a text is the mean of those of its templates, each of unit length, at
    unit length again [1]_. It is a provider like others, with a fingerprint of its own,
    so whatever turns labels into vectors needs to know nothing of templates.

    Parameters
    ----------
    embeddings : TextEmbeddings
        Which `SupportsPhrases`.
    templates : tuple of str
        At least one, as `checked_templates` returns them.

    References
    ----------
    .. [1] Radford et al., "Learning Transferable Visual Models From Natural Language
       Supervision", ICML 2021, section 3.1.4.
    """

    def __init__(self, embeddings: TextEmbeddings, templates: tuple[str, ...]) -> None:
        self.embeddings = embeddings
        self.templates = templates

    @property
    def name(self) -> str:
        """Of the provider within."""
        return self.embeddings.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.embeddings.dim

    @property
    def fingerprint(self) -> str:
        """Of the provider within, and of the templates."""
        digest = hashlib.sha256("\n".join(self.templates).encode("utf-8", "replace"))
        return f"{self.embeddings.fingerprint}+templates-{digest.hexdigest()[:16]}"

    @property
    def spec(self) -> str | None:
        """Of the provider within: a spec says nothing of templates."""
        return getattr(self.embeddings, "spec", None)

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):  # each alone: no vector knows another text
            phrases = [template.replace(PLACE, text) for template in self.templates]
            vectors[row] = mean_direction(encoded(phrases, self.embeddings))
        return vectors

    def __repr__(self) -> str:
        return f"<{self.embeddings!r} in {len(self.templates)} templates>"


def with_templates(embeddings: TextEmbeddings, templates: Templates) -> TextEmbeddings:
    """Return a provider that puts labels into templates.

    Parameters
    ----------
    embeddings : TextEmbeddings
        Templates that it has already are replaced.
    templates : str, sequence of str or None
        None: those that it has, or that are its default, if there are any.

    Returns
    -------
    embeddings : TextEmbeddings
        The very same one where there are no templates.

    Raises
    ------
    LabelError
        If there are templates, and ``embeddings`` looks words up and encodes no
        phrases; if ``templates`` are none.
    """
    chosen = checked_templates(templates)
    if isinstance(embeddings, Templated):
        if chosen is None:
            return embeddings
        embeddings = embeddings.embeddings
    if not isinstance(embeddings, SupportsPhrases):
        if chosen is None:
            return embeddings
        raise LabelError(
            f"Expected embeddings that encode phrases, for templates. Got "
            f"'{embeddings.name}', which looks words up. Leave the templates out, or "
            f"use an encoder, such as 'sentence:FOLDER'."
        )
    if chosen is None and isinstance(embeddings, SupportsDefaultTemplates):
        chosen = checked_templates(list(embeddings.default_templates) or None)
    return embeddings if chosen is None else Templated(embeddings, chosen)


def effective_templates(
    embeddings: TextEmbeddings, given: Templates
) -> str | list[str] | None:
    """Return the templates of a provider, as they were given where they were given.

    Parameters
    ----------
    embeddings : TextEmbeddings
    given : str, sequence of str or None
        What a parameter says, perhaps since it was changed.

    Returns
    -------
    templates : str, list of str or None
        From which `with_templates` makes an equal provider.
    """
    if not isinstance(embeddings, Templated):
        return None
    if isinstance(given, str) and checked_templates(given) == embeddings.templates:
        return given
    return list(embeddings.templates)
