"""Images to one matrix of features.

In: images of any form, or a file of features. Out: features, (n, dim) float32, with
positions and errors; remembered by the content of each image. To add a place that
features come from, open ``pipeline.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.features.block import Features, OnError
    from zeroshot.features.file import FeatureFile
    from zeroshot.features.pipeline import (
        collect_features,
        extract_features,
        iter_features,
        warn_of_bad_images,
    )
    from zeroshot.features.visual_input import ImagePoints, VisualInput

__all__ = [
    "FeatureFile",
    "Features",
    "ImagePoints",
    "OnError",
    "VisualInput",
    "collect_features",
    "extract_features",
    "iter_features",
    "warn_of_bad_images",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(__all__, "pipeline"),
        **dict.fromkeys(("Features", "OnError"), "block"),
        **dict.fromkeys(("ImagePoints", "VisualInput"), "visual_input"),
        "FeatureFile": "file",
    },
)
