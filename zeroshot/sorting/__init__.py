"""Photographs into one folder for each label, and back.

In: a fitted classifier, a folder of images, a list of labels. Out: a folder for each
label, a picture sheet of each to check by eye, and a manifest that `undo_sorting` takes
everything back by. The manifest is written before the first file is placed, so what a
killed process leaves is taken back, or completed by sorting again.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.sorting.manifest import SortedImage
    from zeroshot.sorting.sorting import Sorted, Undone, sort_images, undo_sorting

__all__ = ["Sorted", "SortedImage", "Undone", "sort_images", "undo_sorting"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {name: "sorting" for name in __all__} | {"SortedImage": "manifest"},
)
