"""The ImageNet classifier of a `keras.applications` network, from its weights file."""

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import ClassifierHead
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.backbones.keras.table import Application
from zeroshot.backbones.keras.weights import WEIGHTS, published_weights
from zeroshot.backbones.spec_options import existing_file
from zeroshot.errors import ArtifactError, NoClassifierError

__all__ = ["keras_head", "with_top"]


def keras_head(
    name: str, row: Application, weights: str | Path | None
) -> ClassifierHead:
    """Read the classifier of a network of `keras.applications`; imports no TensorFlow.

    It has no weights where it is more than a dense layer on the pooled features.

    ``weights``: ``"imagenet"`` takes the published file with the classifier, which
    Keras downloads if need be; a path must be a file that has the classifier. Raises
    NoClassifierError if the weights are random; ArtifactError if the file is missing or
    holds no such classifier.
    """
    if weights is None:
        raise NoClassifierError(
            f"Expected a backbone with the classifier of its pretraining. Got "
            f"'{name}': its weights are random. Use mobilenet-v2 or resnet50, for "
            f"example, with their published weights."
        )
    published = with_top(row)
    if weights == "imagenet":
        path = published_weights(published)
    else:
        path = existing_file(weights, WEIGHTS)
    names = tuple(names for _, names in imagenet_classes())
    arrays = _arrays(path, len(names))
    # A dense layer, or a convolution of 1 x 1 positions.
    kernels = [array for array in arrays if array.ndim > 1]
    biases = [array for array in arrays if array.ndim == 1]
    if row.linear_head:
        kernels = [each for each in kernels if each.size == row.dim * len(names)]
    if len(kernels) != 1 or len(biases) != 1:
        raise ArtifactError(
            f"Expected weights of '{name}' with its classifier of {len(names)} "
            f"classes. Got '{path}', which has {len(kernels)} such kernels and "
            f"{len(biases)} biases. Give a file with the classifier ('top'); the "
            f"published one is '{published.file}', from {published.url}"
        )
    if not row.linear_head:
        return ClassifierHead(names, None, None)
    return ClassifierHead(names, kernels[0].reshape(row.dim, -1), biases[0])


def with_top(row: Application) -> Application:
    """Return the row with the published file that has the classifier."""

    def without_no_top(name: str) -> str:
        return re.sub(r"[-_]no[-_]?top(_v2)?", "", name)

    return replace(
        row,
        file=without_no_top(row.file),
        url=without_no_top(row.url),
        hash=row.top_hash,
    )


def _arrays(path: Path, n: int) -> list[NDArray[np.float32]]:
    """Return the arrays of a file of weights whose last axis has n places."""
    import h5py

    found: list[NDArray[np.float32]] = []

    def visit(name: str, item: object) -> None:
        if (
            isinstance(item, h5py.Dataset)
            and item.shape[-1:] == (n,)
            and not name.startswith("optimizer")  # remembers arrays of these shapes
        ):
            found.append(np.asarray(item, np.float32))

    try:
        content: Any = path
        if zipfile.is_zipfile(path):  # a .keras file
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"Expected a file of weights that Keras wrote. Got '{path}': {error}. Give "
            f"the published weights with the classifier."
        ) from error
    return found
