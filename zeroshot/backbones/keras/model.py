"""Any Keras model as a backbone, cut at a named layer."""

import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import ClassifierHead, Resize
from zeroshot.backbones.checked import Route
from zeroshot.backbones.class_list import Classes
from zeroshot.backbones.keras.model_content import check_model_content
from zeroshot.backbones.keras.network import (
    Network,
    PixelScaling,
    describe_scaling,
    layers_from,
)
from zeroshot.backbones.keras.routes import KerasBackbone
from zeroshot.backbones.model_file import ModelFile, size_of
from zeroshot.backbones.spec_options import pair_of
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.tensorflow_import import import_keras

__all__ = ["KerasModel"]


class KerasModel(KerasBackbone, ModelFile):
    """A Keras model of your own: an object, a ``.keras`` file or an ``.h5`` file.

    Its features are the output of a layer; a feature map (4-D) is averaged over its
    positions. The model is used in inference mode and is not changed.

    Parameters
    ----------
    model : keras.Model or path
        One input of shape (n, height, width, 3). A file is loaded with
        ``safe_mode=True``: nothing in it can run code. A model object must not be
        trained further once it is wrapped: like every plugin, a backbone is immutable.
    layer : str, optional
        Name of the layer to cut at; default is the model's output.
    scaling : str or callable, default="identity"
        What the model expects of pixels: ``"identity"`` 0 to 255 (for models that
        scale by themselves), ``"unit"`` 0 to 1, ``"tf"`` -1 to 1, ``"torch"`` or
        ``"caffe"`` (see `zeroshot.backbones.keras.network.Scaling`); or a function from
        a float32 batch (its own copy) to a float32 batch.
    input_size : int or (int, int), optional
        Height and width, in pixels; default is the model's. Required where the model
        leaves it open.
    resize : {"crop", "squash"}, default="crop"
        How the core brings an image to size.
    logits : str, optional
        Name of the layer whose output holds the scores of the classes that the network
        was trained on, before or after the softmax.
    classes : "imagenet-1k", path or sequence of str, optional
        The names of those classes, in the order of the scores: ImageNet-1k in its usual
        order, a UTF-8 text file with one class on each line, or such lines; several
        names of a class are separated by commas. Needed with ``logits``.

    Notes
    -----
    The fingerprint of a file is that of its content; of an object, that of its
    configuration and weights. A scaling function enters it with its qualified name and
    its source text, not with the functions that it calls; so it must be a plain
    function with a source and without a closure.

    The spec string is ``"keras:"``, the path and options as in a URL:
    ``"keras:/model.keras?layer=avg_pool&scaling=tf&size=224&resize=squash"``. A size
    may be ``160x224`` (height x width). ``"&logits=predictions&classes=imagenet-1k"``
    names the classifier.
    """

    NAME = "keras"
    FILE = "a Keras model: an object, a .keras file or an .h5 file"
    OPTIONS = ("layer", "scaling", "size", "resize")
    TUNED_FILE = "backbone.keras"

    def __init__(
        self,
        model: Any,
        *,
        layer: str | None = None,
        scaling: PixelScaling = "identity",
        input_size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        logits: str | None = None,
        classes: Classes | None = None,
    ) -> None:
        super().__init__(
            model,
            scaling=scaling,
            input_size=input_size,
            resize=resize,
            logits=logits,
            classes=classes,
        )
        self.model = model
        self.layer = layer

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal backbone is made; its path is absolute.

        None for a model object, a scaling function and a fine-tuned backbone, which no
        string can name.
        """
        return None if self._tuned or not _is_path(self.model) else super().spec

    @property
    def dim(self) -> int:
        """Length of a feature vector; loads the model."""
        return self.network().dim

    def _facts(self) -> dict[str, object]:
        return {
            "model": self._content(),
            "layer": self.layer,
            "input_size": self._input_size and pair_of(self._input_size),
            "scaling": describe_scaling(self.scaling),
            "resize": self.resize,
        }

    def _content(self) -> str:
        if self._tuned is not None:
            return hashlib.sha256(self._tuned.content).hexdigest()
        if _is_path(self.model):
            return super()._content()
        return _object_sha256(self.model)

    def _looks_like(self, features: NDArray[np.float32]) -> str:
        looks = super()._looks_like(features)
        for last in self._layers()[-1:]:
            activation = getattr(getattr(last, "activation", None), "__name__", "")
            if activation in ("softmax", "sigmoid"):
                looks = f"the {activation} of layer '{last.name}'"
        return looks

    def _advice(self) -> str:
        earlier = ", ".join(layer.name for layer in self._layers()[-6:-1])
        return f"Name an earlier layer with layer=: {earlier or 'its features'}"

    def _layers(self) -> list[Any]:
        # Not loaded for this, where a kept conversion serves.
        return [] if self._loaded is None else list(self.network().model.layers)

    def network(self) -> Network:
        """Return the network, cut and compiled.

        Returns
        -------
        network : Network
        """
        network: Network = self._load()[0]
        return network

    def _read_head(self) -> tuple[ClassifierHead, Route | None]:
        # A tuned one holds its network no further than to the features.
        return super()._read_head() if self._tuned is None else self._untuned_head()

    def _whole(self) -> Self:
        whole = super()._whole()
        whole.layer = self._logits
        return whole

    def _plain_route(self) -> Route:
        return self.network()

    def _constants(self, n: int) -> Iterable[NDArray[Any]]:
        for layer in reversed(self.network().model.layers):
            if layer.weights:
                return [np.asarray(weight) for weight in layer.weights]
        return []

    def trainable_copy(self) -> tuple[Any, PixelScaling]:
        """Return a copy of the network to be trained, and how pixels are scaled.

        Returns
        -------
        model : keras.Model
            Up to the layer whose output the features are.
        scaling : str or callable

        Raises
        ------
        ArtifactError
            If the file is missing, or the model cannot be saved and loaded without code
            of its own.
        """
        self._check()
        model = self._model()
        if model is self.model:  # not a file
            model = _unpack(self._pack(model))
        return _cut(model, self.layer), self.scaling

    def _tuned_spec(self) -> str | None:
        return self._spec_of(self.TUNED_FILE)

    def _pack(self, model: Any) -> bytes:
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras' own, with NumPy 2.4
            path = Path(folder) / self.TUNED_FILE
            model.save(path)
            with zipfile.ZipFile(path) as saved, zipfile.ZipFile(packed, "w") as file:
                for name in sorted(saved.namelist()):
                    content = saved.read(name)
                    if name == "metadata.json":  # the date, which nobody reads
                        undated = json.loads(content) | {"date_saved": ""}
                        content = json.dumps(undated).encode()
                    file.writestr(zipfile.ZipInfo(name), content)  # dated 1980
        return packed.getvalue()

    def _model(self) -> Any:
        if self._tuned is not None:
            return _unpack(self._tuned.content)
        return _load(self._file()) if _is_path(self.model) else self.model

    def _read(self) -> tuple[Network, tuple[int, int]]:
        model = self._model()
        size = _input_size_of(model, self._input_size)
        return Network(_cut(model, self.layer), size, self.scaling), size

    def __repr__(self) -> str:
        model = repr(self.model) if _is_path(self.model) else type(self.model).__name__
        return (
            f"KerasModel({model}, layer={self.layer!r}, scaling={self.scaling!r})"
            + (" fine-tuned" if self._tuned else "")
        )


def _is_path(model: object) -> bool:
    return isinstance(model, str | Path)


def _load(path: Path) -> Any:
    check_model_content(path)
    keras = import_keras()
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # h5py and Keras raise many kinds for a foreign file
        raise ArtifactError(
            f"Expected a whole Keras model without code of its own. Got '{path}', "
            f"which Keras cannot load safely: {error} If it has Lambda or custom "
            f"layers and you trust it, load it yourself (keras.models.load_model with "
            f"custom_objects or safe_mode=False) and pass the model object."
        ) from error


def _unpack(content: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / KerasModel.TUNED_FILE
        path.write_bytes(content)
        return _load(path)


def _input_size_of(model: Any, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width that a model is to be given, after checking its input."""
    keras = import_keras()
    if not isinstance(model, keras.Model):
        raise PluginContractError(
            f"Expected a Keras model: an object, a .keras file or an .h5 file. Got "
            f"'{type(model).__name__}'. Pass a keras.Model."
        )
    if not model.built:
        raise PluginContractError(
            f"Expected a model with weights. Got '{model.name}', which is not built. "
            f"Call it once on a batch, or give it a keras.Input."
        )
    # A subclassed model declares no input: it is taken at its word, and at input_size=.
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) > 1:
        raise PluginContractError(
            f"Expected a model with one input, RGB images. Got {len(shapes)} of "
            f"'{model.name}'. Build a model round it that takes RGB images."
        )
    return size_of(shapes[0] if shapes else (None,) * 4, given, model.name)


def _cut(model: Any, layer: str | None) -> Any:
    """Return a model from the same input to the output of a layer; shares weights."""
    if layer is None:
        return model
    keras = import_keras()
    found = layers_from(model, layer)[0]
    try:
        return keras.Model(model.inputs[0], found.output, name=model.name)
    except Exception as error:  # no graph, several calls, a nested model: many kinds
        raise PluginContractError(
            f"Expected a layer with one output in the graph of '{model.name}'. Got "
            f"'{layer}': {error}. Build the cut model yourself and pass it."
        ) from error


def _object_sha256(model: Any) -> str:
    keras = import_keras()
    try:
        config = keras.saving.serialize_keras_object(model)["config"]
        text = json.dumps(config, sort_keys=True)
        weights = model.get_weights()
    except Exception as error:  # get_config of user code may raise anything
        raise PluginContractError(
            f"Expected a Keras model that can describe itself. Got "
            f"'{type(model).__name__}': {error} Write its get_config, or save it as a "
            f".keras file and pass the path."
        ) from error
    digest = hashlib.sha256(text.encode())
    for array in weights:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
