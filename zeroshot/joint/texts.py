"""Texts to the numbers of their tokens, by a ``tokenizer.json``."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.joint.families import Family

__all__ = ["Padding", "Tokens", "tokenizer"]

TEXTS_AT_ONCE = 64  # 64 of 77 tokens: 10 MB for each layer of a base model

Tokens = Callable[[Sequence[str]], Iterator[tuple[list[int], NDArray[np.int64]]]]
"""From texts to batches of equal length: places of the texts, and (n, length) ids."""


class Padding(NamedTuple):
    """What a text is filled up with: a token, by its text or number, and the side."""

    token: str | int
    side: str


def tokenizer(
    content: bytes, shown: str, family: Family, context: int, padding: Padding
) -> Tokens:
    """Return what cuts texts into tokens.

    ``content``: of ``tokenizer.json``. ``shown``: its path, for an error. ``context``:
    tokens of a text at most; a longer one is cut, and keeps its end token. ``padding``:
    for a family that pads. Raises MissingExtraError without the package tokenizers;
    ArtifactError if it cannot read the file.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError(
            "Expected the package tokenizers, which reads tokenizer.json. Got no such "
            "package. Run: pip install 'zeroshot[clip]'"
        ) from error
    try:
        own: Any = Tokenizer.from_str(content.decode())
    except Exception as error:  # of its own, without a common base
        raise ArtifactError(
            f"Expected a tokenizer.json of the package tokenizers. Got '{shown}', "
            f"which it cannot read: {error}. Export the model again."
        ) from error
    # What the file says of these was set by whoever used it last.
    own.no_padding()
    own.enable_truncation(context)  # the end token has its place
    filler = padding.token
    if isinstance(filler, str):
        filler = own.token_to_id(filler)
    if family.is_padded and filler is None:
        raise ArtifactError(
            f"Expected the padding token {padding.token!r} in '{shown}'. Got none of "
            f"that name. Export the model again."
        )

    def tokens(
        texts: Sequence[str],
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        cleaned = [family.cleaned(text) for text in texts]
        # A batch has texts of one length: no padding, on which a vector would depend.
        groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for place, encoding in enumerate(own.encode_batch_fast(cleaned)):
            ids = encoding.ids
            if family.is_padded:
                missing = [filler] * (context - len(ids))
                ids = missing + ids if padding.side == "left" else ids + missing
            groups[len(ids)].append((place, ids))
        for group in groups.values():
            for start in range(0, len(group), TEXTS_AT_ONCE):
                some = group[start : start + TEXTS_AT_ONCE]
                yield [p for p, _ in some], np.array([ids for _, ids in some], np.int64)

    return tokens
