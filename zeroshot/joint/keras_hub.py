"""Joint models of the library KerasHub: CLIP and SigLIP."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.checked import digest_of
from zeroshot.backbones.spec_options import absolute, did_you_mean
from zeroshot.errors import ArtifactError, MissingExtraError, PluginContractError
from zeroshot.images.sources import Filter
from zeroshot.joint.base import JointModel
from zeroshot.joint.families import PixelRule
from zeroshot.joint.keras_preset import FAMILIES, PresetFamily, family_of_folder
from zeroshot.per_process import LOADING
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.published import offline
from zeroshot.tensorflow_import import (
    import_keras,
    import_tensorflow,
    stderr_set_aside,
)

__all__ = ["KerasHub"]

TEXTS_AT_ONCE = 64
FILTERS: tuple[Filter, ...] = ("bilinear", "bicubic")


class _Opened(NamedTuple):
    """What was loaded.

    ``head``: the layer of the backbone that holds the scale of the logits.
    ``converter``: of images. ``preprocessor``: of texts alone.
    """

    backbone: Any
    head: Any
    converter: Any
    preprocessor: Any


class KerasHub(JointModel):
    """CLIP or SigLIP of KerasHub, run by TensorFlow.

    Needs ``pip install 'zeroshot[keras-hub]'``.

    Parameters
    ----------
    model : path or str
        A folder that ``save_to_preset`` of the backbone, the tokenizer and the image
        converter have written, or the name of a preset that KerasHub publishes and
        fetches once, ``"clip_vit_base_patch32"``. Of a folder, only the classes of
        these two families are made, and none that it brings along.

    Notes
    -----
    The spec string is ``"clip:keras_hub:"`` and the model. Scale and bias of the logits
    are among its weights. Images are reduced by Pillow's filters, which average over
    all pixels, as in the training of these models; KerasHub's CLIP presets leave that
    out.
    """

    _OPENED = ("_images", "_texts", "_opened")

    _opened: _Opened | None = None

    def __init__(self, model: str | Path) -> None:
        self.model = model

    @classmethod
    def from_argument(cls, name: str, argument: str) -> Self:
        """Make the model that a spec string names.

        Parameters
        ----------
        name : str
            Registered name.
        argument : str
            What follows it and ``keras_hub:``.

        Returns
        -------
        model : KerasHub

        Raises
        ------
        PluginContractError
            If it is empty.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{name}:keras_hub:/folder'. Got no folder. Name it, or a "
                f"preset of KerasHub."
            )
        return cls(argument)

    @property
    def spec(self) -> str:
        """Spec string from which an equal model is made; its path is absolute."""
        model = absolute(self.model) if self._is_folder else str(self.model)
        return f"{self.name}:keras_hub:{model}"

    def would_download(self) -> bool:
        """Tell whether a preset is named, which may not be on this machine.

        Returns
        -------
        would_download : bool
            Also where KerasHub has fetched it before.
        """
        return not self._is_folder

    @cached_property
    def dim(self) -> int:
        """Length of a vector, of an image or of a text; loads the model."""
        image = self._compute(np.zeros((1, *self.input_size, 3), np.uint8))
        return int(image.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Text that changes whenever features or vectors of texts would.

        It covers all weights, the architecture, and the rules for pixels and texts.
        """
        backbone, _, _, preprocessor = self._load()
        digest = hashlib.sha256()
        for each in backbone.weights:
            array = each.numpy()
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        texts = preprocessor.get_config()
        del texts["name"]  # numbered by Keras in each process, unless it was saved
        facts = {
            "weights": digest.hexdigest(),
            "form": json.dumps(backbone.get_config(), sort_keys=True),
            "pixels": vars(self.pixel_rule),
            "tokens": _digest_of_tokens(preprocessor.tokenizer),
            "texts": json.dumps(texts, sort_keys=True),
        }
        return f"{self.name}-{digest_of(facts)}"

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with, as trained."""
        return float(np.exp(self._load().head.logit_scale.numpy()))

    @property
    def logit_bias(self) -> float | None:
        """What is added before a sigmoid, as trained; None for CLIP."""
        bias = getattr(self._load().head, "logit_bias", None)
        return None if bias is None else float(bias.numpy())

    @cached_property
    def pixel_rule(self) -> PixelRule:
        """How an image becomes what the image tower takes; loads the model."""
        backbone, _, rule, _ = self._load()
        size = tuple(backbone.vision_encoder.image_shape[:2])
        try:
            return _pixel_rule(rule, size)
        except (TypeError, ValueError) as error:
            said = None if rule is None else rule.get_config()
            raise ArtifactError(
                f"Expected images that are cropped or squashed to {size}, by a filter "
                f"of {', '.join(FILTERS)}, and scaled. Got the image converter "
                f"{said!r:.300} of {self!r}. Write another image_converter.json."
            ) from error

    @property
    def _is_folder(self) -> bool:
        return os.path.isdir(os.path.expanduser(str(self.model)))

    def _load(self) -> _Opened:
        if self._opened is None:
            with LOADING():
                if self._opened is None:
                    self._opened = self._read()
        return self._opened

    def _read(self) -> _Opened:
        preset = str(self.model)
        family = None
        if self._is_folder:
            preset = absolute(preset)
            family = family_of_folder(Path(preset))
        elif offline():
            raise ArtifactError(
                f"Expected a folder of KerasHub: ZEROSHOT_OFFLINE forbids downloads. "
                f"Got '{shown_spec(preset)}', which is no folder. Give its path."
            )
        models = _import_keras_hub().models
        if family is None:
            family = _family_of_name(models, preset)
        try:
            backbone = getattr(models, family.backbone).from_preset(preset)
            preprocessor = getattr(models, family.preprocessor).from_preset(preset)
            # More rows than tokens are usual; a token without a row would raise later.
            n_rows = backbone.text_encoder.vocabulary_size
            n_tokens = preprocessor.tokenizer.vocabulary_size()
        except Exception as error:  # of several libraries, for each way to fail
            raise ArtifactError(
                f"Expected a model of KerasHub. Got {self!r}, which it cannot load: "
                f"{error}. Copy the folder again."
            ) from error
        if n_tokens > n_rows:
            raise ArtifactError(
                f"Expected a tokenizer of at most {n_rows} tokens. Got one of "
                f"{n_tokens} for {self!r}. Write the tokenizer of this model."
            )
        converter = preprocessor.image_converter
        preprocessor.image_converter = None
        head = getattr(backbone, family.head)
        return _Opened(backbone, head, converter, preprocessor)

    def _open_images(self) -> Any:
        backbone = self._load().backbone
        tf = import_tensorflow()
        shape = (None, *backbone.vision_encoder.image_shape)
        tower = tf.function(
            backbone.get_vision_embeddings,
            input_signature=[tf.TensorSpec(shape, tf.float32)],
        ).get_concrete_function()

        def vectors(pixels: NDArray[np.float32]) -> NDArray[Any]:
            tf = import_tensorflow()  # which refuses in a forked process
            return np.asarray(tower(tf.constant(pixels.transpose(0, 2, 3, 1))))

        return vectors

    def _open_texts(self) -> Any:
        backbone, _, _, preprocessor = self._load()
        tf = import_tensorflow()
        tower = tf.function(
            backbone.get_text_embeddings,
            input_signature=[tf.TensorSpec((None, None), tf.int32)],
        ).get_concrete_function()
        # KerasHub's own number unless the model was made for fewer tokens.
        most = backbone.text_encoder.max_sequence_length
        n_tokens = min(preprocessor.sequence_length, most)

        def vectors(texts: list[str]) -> NDArray[Any]:
            tf = import_tensorflow()  # which refuses in a forked process
            parts = []
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                some = {"images": None, "prompts": texts[start : start + TEXTS_AT_ONCE]}
                ids = preprocessor(some, sequence_length=n_tokens)["token_ids"]
                parts.append(np.asarray(tower(tf.constant(ids, tf.int32))))
            return np.concatenate(parts)

        return vectors

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: what is said, not what was loaded."""
        return {"model": self.model}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown_spec(self.model)!r})"


def _pixel_rule(converter: Any, size: tuple[int, ...]) -> PixelRule:
    """Return what an image converter does; raises ValueError for what we do not do."""
    if (
        converter is None
        or converter.interpolation not in FILTERS
        or converter.pad_to_aspect_ratio
        or converter.image_size not in (None, size)
    ):
        raise ValueError("size or filter")
    scale, offset = (
        np.broadcast_to(np.asarray(default if given is None else given, float), 3)
        for given, default in ((converter.scale, 1.0), (converter.offset, 0.0))
    )
    if not (scale > 0).all():
        raise ValueError("scale")
    deviation = 1 / (255 * scale)
    return PixelRule(
        (int(size[0]), int(size[1])),
        "crop" if converter.crop_to_aspect_ratio else "squash",
        converter.interpolation,
        tuple(map(float, -offset * deviation)),
        tuple(map(float, deviation)),
    )


def _import_keras_hub() -> Any:
    import_keras()
    try:
        with stderr_set_aside():  # TensorFlow's first lines, once more
            import keras_hub
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package keras-hub. Got {type(error).__name__}: {error}. "
            f"Run: pip install 'zeroshot[keras-hub]'"
        ) from error
    return keras_hub


def _family_of_name(models: Any, name: str) -> PresetFamily:
    """Return the family of a preset that KerasHub publishes.

    Raises ArtifactError for all else: what an address holds cannot be looked at before
    Keras makes it.
    """
    presets = {
        preset: family
        for family in FAMILIES
        for preset in getattr(models, family.backbone).presets
    }
    if name not in presets:
        raise ArtifactError(
            f"Expected a folder of KerasHub, or the name of one of its presets of CLIP "
            f"or SigLIP. Got '{shown_spec(name)}', which is neither."
            f"{did_you_mean(name, presets)} Give the path of a folder."
        )
    return presets[name]


def _digest_of_tokens(tokenizer: Any) -> str:
    """Return a digest of what a tokenizer knows: a SentencePiece file, or words."""
    proto = getattr(tokenizer, "proto", None)
    if proto is None:
        words = [tokenizer.vocabulary, list(map(str, tokenizer.merges))]
        proto = json.dumps(words, sort_keys=True).encode()
    return hashlib.sha256(proto).hexdigest()
