"""Images of every accepted form: paths, bytes, files, PIL images, arrays.

In: whatever holds images. Out: uint8 RGB, oriented, resized for a backbone; nothing
else opens an image. To accept a new form, open ``sources.py``.

=====================================  =================================================
what is passed                         what it is taken for
=====================================  =================================================
path of a file                         one image, whatever its ending
path of a folder                       all images below, but hidden and system files
path of a ``.csv`` or ``.tsv``         its column ``path`` or ``image``, else the first
bytes, an open file, a PIL image       one image
array or tensor (h, w, 1 | 3 | 4)      one image
array or tensor (n, h, w, 1 | 3 | 4)   n images
array (n, h, w)                        n grey images
list, generator, Series, object array  an image an element
DataFrame                              its column ``path`` or ``image``, or its only one
=====================================  =================================================

Pixels are uint8 (0..255), float (0..1), bool, or other whole numbers: 0..255, and where
one is above, 0..65535. Channels come last. Whatever could be two of these is refused,
and so is a URL. A matrix of numbers is no image: `is_feature_matrix` tells.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.images.sources import (
        Filter,
        ImageSource,
        Resize,
        as_image_list,
        content_key,
        fit_image,
        image_sources,
        is_feature_matrix,
        read_fitted,
        read_image,
    )

__all__ = [
    "Filter",
    "ImageSource",
    "Resize",
    "as_image_list",
    "content_key",
    "fit_image",
    "image_sources",
    "is_feature_matrix",
    "read_fitted",
    "read_image",
]

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "sources"))
