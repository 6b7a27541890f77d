"""What comes in a request: images as base64, as addresses; labels as text."""

import base64
import binascii
import re
from collections.abc import Hashable, Sequence

from zeroshot.errors import InvalidImageError
from zeroshot.labels import parse_labels
from zeroshot.serving.fetching import Fetcher

__all__ = ["image_of", "images_of", "labels_of"]

DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]{0,100};base64,", re.ASCII)


async def images_of(texts: Sequence[str], fetcher: Fetcher) -> list[bytes]:
    """Return the images that texts stand for: see `image_of`."""
    return [await image_of(text, fetcher, i) for i, text in enumerate(texts)]


async def image_of(text: str, fetcher: Fetcher, index: int = 0) -> bytes:
    """Return the file of an image that is given as base64, or by its address.

    Raises InvalidImageError if it is neither, RequestRefusedError if addresses are not
    allowed.
    """
    if text.lstrip()[:8].lower().startswith(("http://", "https://")):
        return await fetcher.fetch(text.strip(), index)
    if start := DATA_ADDRESS.match(text):
        text = text[start.end() :]
    try:
        return base64.b64decode(re.sub(r"[ \r\n]+", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImageError(
            f"Expected the file of an image, encoded as base64, at position {index}. "
            f"Got {text[:20]!r}... ({error}). Encode it.",
            index,
        ) from error


def labels_of(text: str | None) -> dict[Hashable, list[str]] | None:
    """Return the labels of a field of a form; None where it is empty.

    Raises LabelError if they are none: see `zeroshot.labels.parse_labels`.
    """
    return parse_labels(text) if text and text.strip() else None
