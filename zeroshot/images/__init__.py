"""Images of every accepted form: paths, bytes, PIL images, arrays.

In: whatever holds images. Out: uint8 RGB, oriented, resized for a backbone; nothing
else opens an image. To accept a new form, open ``sources.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.images.sources import (
        ImageSource,
        as_image_list,
        content_key,
        fit_image,
        image_sources,
        read_bytes,
        read_fitted,
        read_image,
    )

__all__ = [
    "ImageSource",
    "as_image_list",
    "content_key",
    "fit_image",
    "image_sources",
    "read_bytes",
    "read_fitted",
    "read_image",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ImageSource": "sources",
        "as_image_list": "sources",
        "content_key": "sources",
        "fit_image": "sources",
        "image_sources": "sources",
        "read_bytes": "sources",
        "read_fitted": "sources",
        "read_image": "sources",
    },
)
