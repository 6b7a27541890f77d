"""Labelled images on the command line: a folder, a table, or a file of features."""

from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot.errors import ArtifactError, LabelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zeroshot.features.file import FeatureFile
    from zeroshot.images.files import OnError

__all__ = ["load_if_labelled", "load_labelled"]


def load_labelled(
    path: Path, class_names: Path | None, on_error: "OnError" = "raise"
) -> "tuple[list[str] | FeatureFile, NDArray[np.str_]]":
    """Return images, or features in place of them, and the label of each.

    Raises ArtifactError, LabelError as `zeroshot.datasets.load_images`; if a file of
    features has no labels.
    """
    from zeroshot.datasets import load_images
    from zeroshot.features.file import FeatureFile, open_if_features

    opened = open_if_features(path)
    if not isinstance(opened, FeatureFile):
        return load_images(path, class_names, on_error)
    if class_names is not None:
        raise LabelError(
            f"Expected class names for a folder of images only. Got the features "
            f"'{path}', which hold their labels. Leave the class names out."
        )
    if opened.labels is None:
        raise ArtifactError(
            f"Expected features with labels. Got '{path}', which has none. Run "
            f"'zeroshot embed' on a folder with one sub-folder per class, or on a .csv "
            f"with a column label."
        )
    return opened, opened.labels


def load_if_labelled(
    path: Path, class_names: Path | None, on_error: "OnError" = "raise"
) -> "tuple[list[str], NDArray[np.str_] | None]":
    """Return images, and the label of each where there are labels.

    There are in a folder that holds sub-folders and no images directly, and in a
    table with a column label.

    Raises ArtifactError, LabelError as `zeroshot.datasets.load_images` and
    `zeroshot.images.as_image_list`.
    """
    from zeroshot.datasets import load_images
    from zeroshot.images.files import TABLE_SUFFIXES, read_image_table
    from zeroshot.images.sources import as_image_list

    labelled, images = class_names is not None, []
    if path.is_dir() and not labelled:
        images = [str(image) for image in as_image_list(path, on_error)]
        labelled = not any(Path(image).parent == path for image in images)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        labelled = labelled or "label" in read_image_table(path).header
    if labelled:
        return load_images(path, class_names, on_error)
    return images or [str(image) for image in as_image_list(path, on_error)], None
