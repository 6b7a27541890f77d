"""The ImageNet classifier of a `keras.applications` network, from its weights file."""

import re
from pathlib import Path

import numpy as np

from zeroshot.backbones.base import ClassifierHead
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.backbones.keras.table import Application
from zeroshot.backbones.keras.weights import WEIGHTS, published_weights
from zeroshot.backbones.spec_options import existing_file
from zeroshot.errors import ArtifactError, PluginContractError

__all__ = ["keras_head"]


def keras_head(
    name: str, row: Application, weights: str | Path | None
) -> ClassifierHead:
    """Read the classifier of a network of `keras.applications`; imports no TensorFlow.

    ``weights``: ``"imagenet"`` takes the published file with the classifier, which
    Keras downloads if need be; a path must be an HDF5 file that has the classifier.
    Raises PluginContractError if the network's classifier is more than a dense layer on
    the pooled features, or the weights are random; ArtifactError if the file is missing
    or holds no such classifier.
    """
    if not row.linear_head or weights is None:
        reason = (
            "its weights are random"
            if weights is None
            else "its classifier is more than one layer on the pooled features"
        )
        raise PluginContractError(
            f"Expected a backbone with the classifier of its pretraining. Got "
            f"'{name}': {reason}. Use mobilenet-v2 or resnet50, for example."
        )
    if weights == "imagenet":
        path = published_weights(_with_top(row.file), _with_top(row.url), row.top_hash)
    else:
        path = existing_file(weights, WEIGHTS)
    return _read(path, row.dim)


def _with_top(name: str) -> str:
    return re.sub(r"[-_]no[-_]?top", "", name)


def _read(path: Path, dim: int) -> ClassifierHead:
    import h5py

    classes = imagenet_classes()
    kernels, biases = [], []

    def visit(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.shape in ((dim, len(classes)), (1, 1, dim, len(classes))):
                kernels.append(np.asarray(item, np.float32).reshape(dim, -1))
            elif item.shape == (len(classes),):
                biases.append(np.asarray(item, np.float32))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise ArtifactError(
            f"Expected an HDF5 file of weights. Got '{path}': {error}. Give the "
            f"published weights with the classifier."
        ) from error
    if len(kernels) != 1 or len(biases) != 1:
        raise ArtifactError(
            f"Expected weights with a classifier of {len(classes)} classes on "
            f"{dim} features. Got '{path}', which has {len(kernels)} such kernels and "
            f"{len(biases)} biases. Give the file with the classifier ('top')."
        )
    return ClassifierHead(tuple(names for _, names in classes), kernels[0], biases[0])
