"""Weights of `keras.applications`: found, fetched, and put into a network."""

import hashlib
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from zeroshot.backbones.keras.model_content import check_model_content
from zeroshot.backbones.keras.network import TORCH_DEVIATION
from zeroshot.backbones.keras.table import Application, applications
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.storage.large_files import file_digest
from zeroshot.storage.published import PublishedFile
from zeroshot.tensorflow_import import import_keras

__all__ = [
    "TUNED_FILE",
    "WEIGHTS",
    "build_with_top",
    "build_without_top",
    "content_of",
    "published_file",
    "published_weights",
]

LARGEST = 4 << 30  # bytes; the largest published weights have 1.4e9
WEIGHTS = "a weights file, 'imagenet' or None"  # for an error
TUNED_FILE = "backbone.weights.h5"  # Keras chooses the form by the ending


def published_file(row: Application) -> PublishedFile:
    """Return the published file of a row of the table.

    It lies in ``$KERAS_HOME/models``, else ``~/.keras/models``, as for Keras. Its hash
    is what Keras demands, if it demands one.
    """
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    is_sha256 = row.hash is not None and len(row.hash) == 64
    return PublishedFile(
        row.file,
        row.url,
        Path(os.path.expanduser(home)) / "models" / row.file,
        sha256=row.hash if is_sha256 else None,
        md5=None if is_sha256 else row.hash,
        licence=row.licence,
        largest=LARGEST,
    )


def published_weights(row: Application) -> Path:
    """Return the local file of published weights, downloading it if need be.

    Raises ArtifactError if the file is not there and cannot be downloaded, or is there
    and is not the published one; says where to put which file.
    """
    file = published_file(row)
    path, digest = file.path, file.sha256 or file.md5
    if os.path.isfile(path):
        algorithm = "sha256" if file.sha256 else "md5"
        if digest is None or file_digest(path, algorithm) == digest:
            return path
        raise ArtifactError(
            f"Expected the weights '{path.name}' in '{path.parent}'. Got a file of "
            f"other content. Delete it, and it will be fetched again. Or get "
            f"{file.url} and put it there under that name (the environment variable "
            f"KERAS_HOME names the folder above it)."
        )
    return file.fetch()


def build_without_top(
    name: str, input_size: tuple[int, int], weights: Path | bytes | None
) -> Any:
    """Build a network of `keras.applications` that ends in global average pooling.

    It is of float32 and channels last, whatever the user has configured. ``weights``: a
    file, with or without the classifier, or what `content_of` returned; None draws
    random ones, the same for the same name. Raises ArtifactError if the file does not
    fit the network; PluginContractError if the input size is too small for it.
    """
    row = applications()[name]
    with _keras_defaults() as keras:
        try:
            model = getattr(keras.applications, row.constructor)(
                include_top=False, weights=None, input_shape=(*input_size, 3),
                pooling="avg",
            )  # fmt: skip
        except ValueError as error:
            raise PluginContractError(
                f"Expected an input size that '{name}' can work with. Got "
                f"{input_size}: {error}. Choose a larger one; it was "
                f"trained on {row.size}."
            ) from error
        if weights is None:
            _set_random_weights(model, seed=name)
        elif isinstance(weights, bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / TUNED_FILE
                path.write_bytes(weights)
                _load_weights(keras, model, row, path)
        else:
            _load_weights(keras, model, row, weights)
    return model


def build_with_top(row: Application, weights: Path) -> Any:
    """Build a network of `keras.applications` with its classifier, less the softmax.

    ``weights``: a file with the classifier. Raises ArtifactError if it does not fit.
    """
    with _keras_defaults() as keras:
        model = getattr(keras.applications, row.constructor)(
            weights=None, classifier_activation=None
        )
        _load_weights(keras, model, row, weights)
    return model


def content_of(name: str, model: Any) -> bytes:
    """Return the weights of a network as the content of a ``.weights.h5`` file.

    Equal weights give equal content. ``model``: as `build_without_top` made it, with
    any weights; left as it is.
    """
    keras = import_keras()
    scaled = [
        layer
        for layer in model.layers
        if applications()[name].extra_rescaling
        and isinstance(layer, keras.layers.Normalization)
    ]
    kept = [layer.get_weights() for layer in scaled]
    for layer, (mean, variance, *count) in zip(scaled, kept, strict=True):
        layer.set_weights([mean, variance / TORCH_DEVIATION, *count])  # see loading
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras' own, with NumPy 2.4
            path = Path(folder) / TUNED_FILE
            model.save_weights(path)
            return _without_names(path)
    finally:
        for layer, weights in zip(scaled, kept, strict=True):
            layer.set_weights(weights)


def _without_names(path: Path) -> bytes:
    """Return a weights file without names of layers, which count models ("input_1").

    They are notes for people: Keras finds layers by their kind and order.
    """
    import h5py

    copied = path.with_name("copied.h5")
    with h5py.File(path) as saved, h5py.File(copied, "w") as file:
        for name in saved:
            saved.copy(name, file, without_attrs=True)
    return copied.read_bytes()


@contextmanager
def _keras_defaults() -> Iterator[ModuleType]:
    """Give Keras with float32 and channels last, whatever the user has configured."""
    keras = import_keras()
    policy, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    try:
        yield keras
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(layout)


def _set_random_weights(model: Any, seed: str) -> None:
    """Draw kernels as He et al. 2015 (fan in), from a seed; leave all else as it is.

    Keras' own initial values depend on global state, and shrink towards zero in deep
    networks whose batch norm has seen nothing.
    """
    random = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    for variable in model.trainable_weights:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            depthwise = shape[-1] == 1
            fan_in = math.prod(shape[: -2 if depthwise else -1])
            kernel = random.standard_normal(shape, np.float32)
            variable.assign(kernel * np.float32(math.sqrt(2 / fan_in)))


def _load_weights(keras: ModuleType, model: Any, row: Application, path: Path) -> None:
    check_model_content(path)
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds for a foreign file
        try:  # a file with the classifier, whose weights come last
            full = getattr(keras.applications, row.constructor)(weights=None)
            full.load_weights(path)
            model.set_weights(full.get_weights()[: len(model.get_weights())])
        except Exception:
            raise ArtifactError(
                f"Expected weights of '{row.constructor}'. Got '{path}', which Keras "
                f"cannot load into it: {error} Use a file made for this network, such "
                f"as {row.url}"
            ) from error
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            mean, variance, *count = layer.get_weights()
            if row.extra_rescaling:
                # With weights="imagenet" Keras divides by sqrt(deviation) once more
                # (efficientnet.py, tensorflow issue 49930): the same as this variance.
                variance = variance * TORCH_DEVIATION
            layer.set_weights([mean, variance, *count])
            layer.finalize_state()
