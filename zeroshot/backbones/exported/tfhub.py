"""TF-Hub modules and other SavedModels as backbones."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import BackboneCard, Resize
from zeroshot.backbones.class_list import Classes
from zeroshot.backbones.keras.network import PixelScaling
from zeroshot.backbones.model_file import (
    ModelFile,
    Run,
    choose,
    in_batches,
    pooled,
    size_of,
)
from zeroshot.errors import PluginContractError
from zeroshot.tensorflow_import import import_tensorflow
from zeroshot.tfhub.content import folder_sha256
from zeroshot.tfhub.handles import (
    holds_secret,
    module_folder,
    module_place,
    web_address,
)
from zeroshot.tfhub.loading import load_module, signature_of, traces_of

__all__ = ["TFHub"]


class TFHub(ModelFile):
    """A feature vector from TF-Hub, or any SavedModel that takes images.

    Modules of TF1 (the hub format), of TF2 and exports of Keras 3 are read. A
    SavedModel is a program: use only those that you trust.

    Parameters
    ----------
    handle : path or address
        A folder with ``saved_model.pb``, a tar archive of one (``.tar.gz``), the
        address of such an archive or of a model on TF-Hub or Kaggle, a handle of Kaggle
        (``owner/model/framework/variation/version``), or a folder or archive on
        ``gs://``.
    signature : str, optional
        Which function of the module is called; needed where there are several and none
        is called ``serving_default`` or ``default``.
    output : str, optional
        Which of its outputs holds the features, (n, dim) or a feature map that is
        averaged over its positions; needed where there are several and none is called
        ``default``.
    scaling : str, default="unit"
        What the module expects of pixels. Image modules on TF-Hub take 0 to 1, which is
        ``"unit"``; see `zeroshot.backbones.keras.network.Scaling`.
    input_size : int or (int, int), optional
        Height and width, in pixels; default is the module's. Required where the module
        leaves it open.
    resize : {"crop", "squash"}, default="crop"
        How the core brings an image to size.
    logits : str, optional
        Name of the output that holds the scores of the classes that the network was
        trained on, before or after the softmax.
    classes : "imagenet-1k", path or sequence of str, optional
        The names of those classes, in the order of the scores: ImageNet-1k in its usual
        order, a UTF-8 text file with one class on each line, or such lines; several
        names of a class are separated by commas. Needed with ``logits``.

    Notes
    -----
    `tensorflow_hub` finds and loads the module. What is fetched is kept in its
    ``TFHUB_CACHE_DIR`` where that is set, else in the cache. The fingerprint is that of
    the content: a folder, its archive and its address have the same one.

    The spec string is ``"tfhub:"``, the handle and options as in a URL:
    ``"tfhub:/module?size=224&scaling=unit"``. A URL with a query of its own needs an
    option behind it: ``"tfhub:https://host/module?format=tar?size=224"``.
    """

    NAME = "tfhub"
    FILE = "a folder, an archive or an address"
    OPTIONS = ("signature", "output", "scaling", "size", "resize")

    def __init__(
        self,
        handle: str | Path,
        *,
        signature: str | None = None,
        output: str | None = None,
        scaling: PixelScaling = "unit",
        input_size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        logits: str | None = None,
        classes: Classes | None = None,
    ) -> None:
        super().__init__(
            handle,
            output=output,
            scaling=scaling,
            input_size=input_size,
            resize=resize,
            logits=logits,
            classes=classes,
        )
        self.signature = signature

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal backbone is made; its path is absolute.

        None where no string can name it, or the address holds what may be a secret: a
        user, a password or a query.
        """
        return None if holds_secret(self.path) else super().spec

    @property
    def card(self) -> BackboneCard:
        """Where it was fetched; nothing else is known of its origin."""
        return BackboneCard(resize=self.resize, weights_url=web_address(self.path))

    def _place(self) -> str:
        return module_place(self.path)

    def _content(self) -> str:
        return folder_sha256(module_folder(self.path))

    def _module(self) -> Any:
        return load_module(module_folder(self.path), self._shown)

    def _constants(self, n: int) -> Iterable[NDArray[Any]]:
        module = self._module()  # its variables live as long as it does
        functions = module.signatures.values()
        variables = [each for one in functions for each in one.variables]
        return [each.numpy() for each in variables if n in each.shape]

    def _read(self) -> tuple[Run, tuple[int, int]]:
        tf = import_tensorflow()
        module = self._module()
        call, shape, kind = _function(tf, module, self.signature, self._shown)
        size = size_of(shape, self._input_size, self._shown)

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            tf = import_tensorflow()  # which refuses in a forked process
            result = call(tf.cast(tf.constant(pixels), kind))
            if isinstance(result, dict):
                self._outputs = sorted(result)
                name = choose(
                    "output", self._outputs, self.output, "default", self._option
                )
                result = result[name]
            return pooled(np.asarray(result, np.float32))

        # The module dies with the last reference to it, and its variables with it.
        return lambda pixels, _=module: in_batches(run, pixels, shape[0]), size


def _function(
    tf: Any, module: Any, signature: str | None, origin: str
) -> tuple[Any, tuple[int | None, ...], Any]:
    """Return a module's function of images, and the shape and type that it takes."""
    if signatures := list(module.signatures):
        usual = "serving_default" if "serving_default" in signatures else "default"
        name = choose("signature", signatures, signature, usual)
        call, specs = signature_of(module, name)
    else:  # a TF2 module without signatures
        call, traces = traces_of(module)
        specs = traces[0] if traces else []
    if len(specs) != 1 or not isinstance(specs[0], tf.TensorSpec):
        raise PluginContractError(
            f"Expected a function of one input, RGB images. Got '{origin}', whose "
            f"inputs are {', '.join(map(str, specs)) or 'none'}. Name another with "
            f"signature=, or use a module of image feature vectors."
        )
    spec = specs[0]
    if not (spec.dtype.is_floating or spec.dtype.is_integer) or spec.shape.rank != 4:
        raise PluginContractError(
            f"Expected a network of RGB images, (n, height, width, 3). Got '{origin}', "
            f"whose input is {spec.dtype.name} of shape {spec.shape}. Use a module of "
            f"image feature vectors."
        )
    return call, tuple(spec.shape.as_list()), spec.dtype
