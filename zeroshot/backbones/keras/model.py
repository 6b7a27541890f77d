"""Any Keras model as a backbone, cut at a named layer."""

import difflib
import hashlib
import inspect
import io
import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import BackboneCard, Resize, WeightsFile
from zeroshot.backbones.keras.network import (
    LOADING,
    Network,
    Scaling,
    check_images,
    check_scaling,
    digest_of,
    file_sha256,
    pair_of,
)
from zeroshot.backbones.keras.routes import Route, fastest_route
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.tensorflow_import import import_keras

__all__ = ["KerasModel"]

TUNED_FILE = "backbone.keras"
OPTIONS = ("layer", "scaling", "size", "resize")


class KerasModel:
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

    Notes
    -----
    The fingerprint of a file is that of its content; of an object, that of its
    configuration and weights. A scaling function enters it with its qualified name and
    its source text, not with the functions that it calls; so it must be a plain
    function with a source and without a closure.

    The spec string is ``"keras:"``, the path and options as in a URL:
    ``"keras:/model.keras?layer=avg_pool&scaling=tf&size=224&resize=squash"``. A size
    may be ``160x224`` (height x width).
    """

    _loaded: tuple[Network, tuple[int, int]] | None = None
    _route: Route | None = None
    _fingerprint: str | None = None
    _tuned: WeightsFile | None = None

    def __init__(
        self,
        model: Any,
        *,
        layer: str | None = None,
        scaling: Scaling
        | Callable[[NDArray[np.float32]], NDArray[np.float32]] = "identity",
        input_size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
    ) -> None:
        self.model = model
        self.layer = layer
        self.scaling = scaling
        self._input_size = input_size
        self.resize = resize

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make the backbone that a spec string names; see the notes of the class.

        Parameters
        ----------
        name : str
            The registered name.
        argument : str or None
            What follows the colon.

        Returns
        -------
        backbone : KerasModel

        Raises
        ------
        PluginContractError
            If the path is missing or an option is unknown or malformed.
        """
        path, options = _parse(name, argument or "")
        if "size" in options:
            options["input_size"] = _parse_size(options.pop("size"))
        return cls(path, **options)

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal backbone is made; its path is absolute.

        None for a model object, a scaling function and a fine-tuned backbone, which no
        string can name.
        """
        if self._tuned is not None or not _is_path(self.model):
            return None
        return self._spec_of(Path(self.model).expanduser().absolute())

    def _spec_of(self, path: str | Path) -> str | None:
        if callable(self.scaling):
            return None
        # Always with an option, so that a '?' in the path cannot be taken for theirs.
        options = {"scaling": str(self.scaling)}
        if self.layer is not None:
            options["layer"] = self.layer
        if self._input_size is not None:
            options["size"] = "{}x{}".format(*pair_of(self._input_size))
        if self.resize != "crop":
            options["resize"] = self.resize
        return f"keras:{path}?{urlencode(options)}"

    @property
    def name(self) -> str:
        """Registry name, ``"keras"``."""
        return "keras"

    @property
    def dim(self) -> int:
        """Length of a feature vector; loads the model."""
        return self._load()[0].dim

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given.

        Loads the model, unless the size was given.
        """
        if self._input_size is not None:
            return pair_of(self._input_size)
        return self._load()[1]

    @property
    def card(self) -> BackboneCard:
        """The resize rule; nothing is known of the model's origin."""
        return BackboneCard(resize=self.resize)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would; see the notes of the class.

        For a file it imports no TensorFlow.

        Raises
        ------
        ArtifactError
            If the file is missing.
        PluginContractError
            If the model or the scaling function cannot be described.
        """
        if self._fingerprint is None:
            self._check()
            if self._tuned is not None:
                content = hashlib.sha256(self._tuned.content).hexdigest()
            elif _is_path(self.model):
                content = file_sha256(_existing(self.model))
            else:
                content = _object_sha256(self.model)
            facts = {
                "model": content,
                "layer": self.layer,
                "input_size": self._input_size and pair_of(self._input_size),
                "scaling": _describe(self.scaling),
                "resize": self.resize,
            }
            self._fingerprint = f"keras-{digest_of(facts)}"
        return self._fingerprint

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch; the first call loads the model.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            RGB, 0 to 255, of `input_size`; ``n`` may be 0.

        Returns
        -------
        features : ndarray of shape (n, dim), float32

        Raises
        ------
        ArtifactError
            If the file is missing, broken, or needs code that it may not run.
        InvalidImageError
            If the batch has another shape or type.
        PluginContractError
            If the model has several inputs or outputs, another input than RGB images,
            no such layer, or an input size that is left open.
        """
        network, input_size = self._load()
        check_images(images, input_size, self.name)
        if len(images) == 0:
            return np.empty((0, network.dim), np.float32)
        with LOADING:
            if self._route is None:
                self._route = fastest_route(lambda: network, self.fingerprint)
        return self._route(images)

    def network(self) -> Network:
        """Return the network, cut and compiled.

        Returns
        -------
        network : Network
        """
        return self._load()[0]

    @property
    def tuned_weights(self) -> WeightsFile | None:
        """Weights that it has instead of those it was made with; None if untuned."""
        return self._tuned

    def trainable_copy(
        self,
    ) -> tuple[Any, Scaling | Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
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
            model = _unpack(_pack(model))
        return model if self.layer is None else _cut(model, self.layer), self.scaling

    def weights_of(self, model: Any) -> WeightsFile:
        """Return a trained copy as a ``.keras`` file.

        Parameters
        ----------
        model : keras.Model
            From `trainable_copy`.

        Returns
        -------
        weights : WeightsFile
        """
        return WeightsFile(TUNED_FILE, self._spec_of(TUNED_FILE), _pack(model))

    def with_weights(self, weights: WeightsFile | None) -> Self:
        """Return this backbone with the network of a file.

        Parameters
        ----------
        weights : WeightsFile or None
            From `weights_of`; None for the model that it was made with.

        Returns
        -------
        backbone : KerasModel
        """
        backbone = type(self)(
            self.model,
            layer=self.layer,
            scaling=self.scaling,
            input_size=self._input_size,
            resize=self.resize,
        )
        backbone._tuned = weights
        return backbone

    def _model(self) -> Any:
        if self._tuned is not None:
            return _unpack(self._tuned.content)
        return _read(_existing(self.model)) if _is_path(self.model) else self.model

    def _load(self) -> tuple[Network, tuple[int, int]]:
        with LOADING:
            if self._loaded is None:
                self._check()
                model = self._model()
                size = _input_size_of(model, self._input_size)
                cut = model if self.layer is None else _cut(model, self.layer)
                self._loaded = Network(cut, size, self.scaling), size
        return self._loaded

    def _check(self) -> None:
        check_scaling(self.scaling)
        if self.resize not in ("crop", "squash"):
            raise PluginContractError(
                f"Expected resize as 'crop' or 'squash'. Got {self.resize!r}. Choose "
                f"'crop' to keep proportions, 'squash' to keep the whole image."
            )

    def __repr__(self) -> str:
        model = repr(self.model) if _is_path(self.model) else type(self.model).__name__
        return (
            f"KerasModel({model}, layer={self.layer!r}, scaling={self.scaling!r})"
            + (" fine-tuned" if self._tuned else "")
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {
            "_loaded": None,
            "_route": None,
            "_fingerprint": None,
        }

    def __sklearn_clone__(self) -> Self:
        return self


def _is_path(model: object) -> bool:
    return isinstance(model, str | Path)


def _existing(model: str | Path) -> Path:
    path = Path(model).expanduser()
    if not path.is_file():
        raise ArtifactError(
            f"Expected a Keras model: an object, a .keras file or an .h5 file. Got "
            f"'{model}', which is not a file. Check the path."
        )
    return path


def _read(path: Path) -> Any:
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


def _pack(model: Any) -> bytes:
    """Return a model as a ``.keras`` file; equal models give equal bytes."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own, with NumPy 2.4
        path = Path(folder) / TUNED_FILE
        model.save(path)
        with zipfile.ZipFile(path) as saved, zipfile.ZipFile(packed, "w") as file:
            for name in sorted(saved.namelist()):
                content = saved.read(name)
                if name == "metadata.json":  # the date, which nobody reads
                    content = json.dumps(
                        json.loads(content) | {"date_saved": ""}
                    ).encode()
                file.writestr(zipfile.ZipInfo(name), content)  # dated 1980
    return packed.getvalue()


def _unpack(content: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TUNED_FILE
        path.write_bytes(content)
        return _read(path)


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
    shape = shapes[0] if shapes else (None, None, None, 3)
    if len(shapes) > 1 or len(shape) != 4 or shape[3] != 3:
        raise PluginContractError(
            f"Expected a model with one input of shape (n, height, width, 3). Got "
            f"{', '.join(map(str, shapes))} of '{model.name}'. Build a model round it "
            f"that takes RGB images."
        )
    own = shape[1:3]
    if given is None and None in own:
        raise PluginContractError(
            f"Expected input_size for a model of open size. Got input shape {shape} of "
            f"'{model.name}' and no input_size. Say input_size=224, for example."
        )
    size = pair_of(own if given is None else given)
    if any(side not in (None, wanted) for side, wanted in zip(own, size, strict=True)):
        raise PluginContractError(
            f"Expected images of the model's own size {own}. Got input_size={given} "
            f"for '{model.name}'. Leave input_size out."
        )
    return size


def _cut(model: Any, layer: str) -> Any:
    """Return a model from the same input to the output of a layer; shares weights."""
    keras = import_keras()
    names = [each.name for each in model.layers]
    if layer not in names:
        close = difflib.get_close_matches(layer, names, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise PluginContractError(
            f"Expected the name of a layer of '{model.name}'. Got '{layer}'.{hint} Its "
            f"last layers: {', '.join(names[-8:])}."
        )
    try:
        output = model.get_layer(layer).output
        return keras.Model(model.inputs[0], output, name=model.name)
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


def _describe(scaling: Any) -> str:
    """Return text that stands for a scaling in a fingerprint."""
    if not callable(scaling):
        return str(scaling)
    source = None
    if inspect.isfunction(scaling) and not scaling.__closure__:
        with suppress(OSError):
            source = inspect.getsource(scaling)
    if source is None:
        raise PluginContractError(
            f"Expected scaling as a plain function from a file, without a closure. Got "
            f"{scaling!r}. Define it at the top level of a module."
        )
    return f"{scaling.__module__}.{scaling.__qualname__}\n{source}"


def _parse(name: str, argument: str) -> tuple[str, dict[str, Any]]:
    """Split ``"path?option=value&..."`` at its last ``?``."""
    path, mark, query = argument.rpartition("?")
    try:
        if not mark:
            path, options = argument, {}
        else:
            options = dict(
                parse_qsl(query, keep_blank_values=True, strict_parsing=True)
            )
    except ValueError:
        options = {query: ""}
    if not path or not set(options) <= set(OPTIONS):
        raise PluginContractError(
            f"Expected '{name}:/path/model.keras', with options {', '.join(OPTIONS)} "
            f"as in '?layer=avg_pool&scaling=tf'. Got '{name}:{argument}'. Correct the "
            f"path or the options."
        )
    return path, options


def _parse_size(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII)
    if numbers is None:
        raise PluginContractError(
            f"Expected a size such as 224 or 160x224. Got '{text}'. Write pixels."
        )
    return int(numbers[1]), int(numbers[2] or numbers[1])
