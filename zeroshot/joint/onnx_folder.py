"""A folder with two ONNX files and a tokenizer, as common tools export them."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.checked import digest_of
from zeroshot.backbones.exported.onnx import TYPES
from zeroshot.backbones.spec_options import absolute, parse_argument, write_argument
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.joint.base import JointModel, same_length
from zeroshot.joint.families import FAMILIES, Family, PixelRule
from zeroshot.joint.texts import Padding, tokenizer
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.large_files import file_digest
from zeroshot.storage.onnx_session import onnx_content, onnx_sessions
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = ["ONNXFolder"]

MOST_JSON = 64 << 20  # bytes; a tokenizer of 256,000 tokens takes 34 MB
LOGITS = "zeroshot.json"
OPTIONS = ("logit_scale", "logit_bias")
FILTERS = {2: "bilinear", 3: "bicubic"}  # numbers that Pillow gives them
KNOWN_TYPES = ("clip", "siglip")  # SigLIP 2 of any image size takes no plain images
# By which of a tower's inputs it is known.
PIXELS, TOKENS, MASK = "pixel_values", "input_ids", "attention_mask"


class ONNXFolder(JointModel):
    """CLIP or SigLIP in a folder: two towers in ONNX, and their files of settings.

    The folder holds ``vision_model.onnx`` and ``text_model.onnx``, there or in
    ``onnx/``, ``config.json``, ``preprocessor_config.json`` and ``tokenizer.json``.
    Needs ONNX Runtime and tokenizers: ``pip install 'zeroshot[clip]'``.

    Parameters
    ----------
    path : path
        The folder.
    logit_scale, logit_bias : float, optional
        What cosines are multiplied with, and what is added to that. They are no part of
        the towers, and ``config.json`` holds what training began with. None takes them
        from ``zeroshot.json`` in the folder, ``{"logit_scale": 117.3, "logit_bias":
        -12.9}``; without it the scale of CLIP is 100, and SigLIP's must be given.

    Notes
    -----
    The spec string is ``"clip:"`` and the folder, with options as in a URL:
    ``"clip:/siglip?logit_scale=117.3&logit_bias=-12.9"``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        logit_scale: float | None = None,
        logit_bias: float | None = None,
    ) -> None:
        self.path = path
        self._given = (logit_scale, logit_bias)

    @classmethod
    def from_argument(cls, name: str, argument: str) -> Self:
        """Make the model that a spec string names.

        Parameters
        ----------
        name : str
            Registered name.
        argument : str
            What follows the colon.

        Returns
        -------
        model : ONNXFolder

        Raises
        ------
        PluginContractError
            If an option is unknown or no number.
        """
        path, options = parse_argument(name, argument, OPTIONS)
        try:
            return cls(path, **{key: float(value) for key, value in options.items()})
        except ValueError as error:
            raise PluginContractError(
                f"Expected numbers for {', '.join(OPTIONS)}. Got "
                f"'{name}:{shown_spec(argument)}'. Write '?logit_scale=100'."
            ) from error

    @property
    def spec(self) -> str:
        """Spec string from which an equal model is made; its path is absolute."""
        given = dict(zip(OPTIONS, self._given, strict=True))
        if set(given.values()) == {None} and "?" not in str(self.path):
            return f"{self.name}:{absolute(self.path)}"
        return f"{self.name}:{write_argument(absolute(self.path), given)}"

    @cached_property
    def dim(self) -> int:
        """Length of a vector, of an image or of a text; opens the image tower."""
        image = self._compute(np.zeros((1, *self.input_size, 3), np.uint8))
        return int(image.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Text that changes whenever features or vectors of texts would.

        It covers both towers, the tokenizer, and the rules for pixels and texts.
        """
        towers = [self._tower("vision"), self._tower("text")]
        facts = {
            "towers": [file_digest(tower, "sha256") for tower in towers],
            "tokenizer": file_digest(self._file("tokenizer.json"), "sha256"),
            "pixels": vars(self.pixel_rule),
            "texts": [self._family_name, self._context, *self._padding],
        }
        return f"{self.name}-{digest_of(facts)}"

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with."""
        scale = self._logits[0]
        if scale is not None:
            return scale
        if self._family.logit_scale is not None:
            return self._family.logit_scale
        raise ArtifactError(
            f"Expected the scale and bias of the logits of '{self._shown}': they are "
            f"in none of its files. Got no '{LOGITS}'. Write them there as "
            f'{{"logit_scale": 117.3, "logit_bias": -12.9}}, with the numbers that '
            f"model.logit_scale.exp() and model.logit_bias have in PyTorch, or name "
            f"them: '{self.name}:PATH?logit_scale=117.3&logit_bias=-12.9'."
        )

    @property
    def logit_bias(self) -> float | None:
        """What is added before a sigmoid; None for CLIP."""
        return self._logits[1] if self._family.is_sigmoid else None

    @cached_property
    def pixel_rule(self) -> PixelRule:
        """How an image becomes what the image tower takes."""
        name = "preprocessor_config.json"
        if not os.path.isfile(self._folder / name):
            name = "processor_config.json"
            settings = self._json(name).get("image_processor", {})
        else:
            settings = self._json(name)
        try:
            return _pixel_rule(settings)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"Expected settings of CLIP's or SigLIP's images in "
                f"'{shown_spec(self._folder / name)}'. Got {type(error).__name__}: "
                f"{error}. Export the model again."
            ) from error

    @property
    def _shown(self) -> str:
        return shown_spec(self.path)

    @property
    def _folder(self) -> Path:
        folder = Path(os.path.expanduser(str(self.path)))
        if not os.path.isdir(folder):
            raise ArtifactError(
                f"Expected a folder with two ONNX files and a tokenizer.json. Got "
                f"'{self._shown}', which is no folder. Check the path."
            )
        return folder

    def _file(self, name: str) -> Path:
        file = self._folder / name
        if not os.path.isfile(file):
            raise ArtifactError(
                f"Expected '{name}' in the folder of a joint model. Got "
                f"'{self._shown}' without it. Export the model again, with all its "
                f"files of settings."
            )
        return file

    def _tower(self, kind: str) -> Path:
        name = f"{kind}_model.onnx"
        inner = self._folder / "onnx" / name
        return inner if os.path.isfile(inner) else self._file(name)

    def _json(self, name: str) -> dict[str, Any]:
        file = self._file(name)
        try:
            found = parse_json(read_limited(file, MOST_JSON))
            if not isinstance(found, dict):
                raise ValueError("no object")  # noqa: TRY301, TRY004
        except ValueError as error:
            raise ArtifactError(
                f"Expected an object in JSON. Got '{shown_spec(file)}': {error}. Copy "
                f"the file again."
            ) from error
        return found

    @cached_property
    def _config(self) -> dict[str, Any]:
        return self._json("config.json")

    @cached_property
    def _family_name(self) -> str:
        kind = self._config.get("model_type")
        if kind not in KNOWN_TYPES:
            raise ArtifactError(
                f"Expected a model of type {' or '.join(KNOWN_TYPES)}. Got "
                f"{kind!r:.40} in the config.json of '{self._shown}'. Use a model of "
                f"these, or open_clip ('clip:open_clip:NAME')."
            )
        made_for = str(self._tokenizer_config.get("tokenizer_class"))
        if kind == "siglip" and any(name in made_for for name in ("Gemma", "Siglip2")):
            return "siglip2"
        return str(kind)

    @property
    def _family(self) -> Family:
        return FAMILIES[self._family_name]

    @property
    def _text_config(self) -> Mapping[str, Any]:
        found = self._config.get("text_config")
        return found if isinstance(found, dict) else {}

    @property
    def _context(self) -> int:
        length = self._text_config.get("max_position_embeddings", self._family.context)
        if not isinstance(length, int) or not 2 <= length <= 4096:
            raise ArtifactError(
                f"Expected max_position_embeddings as a number of tokens. Got "
                f"{length!r:.40} in the config.json of '{self._shown}'."
            )
        return length

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        name = "tokenizer_config.json"
        has_one = os.path.isfile(self._folder / name)
        return self._json(name) if has_one else {}

    @property
    def _padding(self) -> Padding:
        settings = self._tokenizer_config
        token = settings.get("pad_token")
        if isinstance(token, dict):  # an AddedToken
            token = token.get("content")
        if not isinstance(token, str):
            token = int(self._text_config.get("pad_token_id", 1))
        return Padding(token, str(settings.get("padding_side", "right")))

    @cached_property
    def _logits(self) -> tuple[float | None, float | None]:
        """Scale and bias as given, or as the folder says."""
        values = dict(zip(OPTIONS, self._given, strict=True))
        if os.path.isfile(self._folder / LOGITS):
            said = self._json(LOGITS)
            values = {
                key: said.get(key) if value is None else value
                for key, value in values.items()
            }
        for key, value in values.items():
            is_number = isinstance(value, int | float) and np.isfinite(value)
            if value is not None and not (
                is_number and (value > 0 or key != OPTIONS[0])
            ):
                raise PluginContractError(
                    f"Expected {key} as a number, a scale > 0. Got {value!r:.40} for "
                    f"'{self._shown}'. Correct it."
                )
        scale, bias = values.values()
        if self._family.is_sigmoid and scale is not None and bias is None:
            raise PluginContractError(
                f"Expected logit_scale and logit_bias of a model with a sigmoid. Got "
                f"the scale alone for '{self._shown}'. Give both."
            )
        return scale, bias

    def _open_images(self) -> Any:
        run, inputs, output = self._session("vision")
        if [*inputs] != [PIXELS]:
            raise self._unfit("vision", [PIXELS], inputs)
        kind = TYPES.get(inputs[PIXELS].type, np.float32)

        def vectors(pixels: NDArray[np.float32]) -> NDArray[Any]:
            feed = {PIXELS: pixels.astype(kind, copy=False)}
            return np.asarray(run([output], feed)[0])

        return vectors

    def _open_texts(self) -> Any:
        run, inputs, output = self._session("text")
        if not {TOKENS} <= set(inputs) <= {TOKENS, MASK}:
            raise self._unfit("text", [TOKENS], inputs)
        kinds = {
            name: np.int32 if "int32" in each.type else np.int64
            for name, each in inputs.items()
        }
        family, shape = self._family, inputs[TOKENS].shape
        if isinstance(shape[1], int) and not family.is_padded:
            raise PluginContractError(
                f"Expected a text tower of open length. Got that of '{self._shown}', "
                f"which takes {shape[1]} tokens. Export it with a dynamic axis."
            )
        file = self._file("tokenizer.json")
        content = read_limited(file, MOST_JSON)
        tokens = tokenizer(
            content, shown_spec(file), family, self._context, self._padding
        )

        def vectors(texts: list[str]) -> NDArray[Any]:
            found: NDArray[Any] | None = None
            for places, ids in tokens(texts):
                given = {TOKENS: ids, MASK: np.ones_like(ids)}
                feed = {name: given[name].astype(kind) for name, kind in kinds.items()}
                rows = np.asarray(run([output], feed)[0])
                if found is None:
                    found = np.empty((len(texts), rows.shape[-1]), np.float32)
                found[places] = rows
            assert found is not None
            same_length(self.dim, found.shape[1], self._shown)
            return found

        return vectors

    def _session(self, kind: str) -> tuple[Any, dict[str, Any], str]:
        """Return a tower's `run`, its inputs by name, and the name of its output."""
        file = self._tower(kind)
        shown = shown_spec(file)
        own = onnx_sessions(onnx_content(file, shown), shown, "clip")
        names = [each.name for each in own().get_outputs()]
        wanted = self._family.outputs[kind == "text"]
        output = next((name for name in wanted if name in names), None)
        if output is None:
            raise PluginContractError(
                f"Expected an output {' or '.join(map(repr, wanted))} of '{shown}'. "
                f"Got {', '.join(map(repr, names))}. Export the tower with its "
                f"projection."
            )
        inputs = {each.name: each for each in own().get_inputs()}
        return (lambda *given: own().run(*given)), inputs, output

    def _unfit(self, kind: str, wanted: list[str], got: Any) -> PluginContractError:
        return PluginContractError(
            f"Expected a {kind} tower that takes {', '.join(wanted)}. Got one of "
            f"'{self._shown}' that takes {', '.join(map(repr, got))}. Export the two "
            f"towers as files of their own."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"


def _pixel_rule(settings: Mapping[str, Any]) -> PixelRule:
    """Return the rule that a file of transformers' image processors describes."""
    size = settings["size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not settings.get(step, True):
            raise ValueError(f"{step} is false")
    rescale = float(settings.get("rescale_factor", 1 / 255))
    if abs(rescale * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor of {rescale}, not of 1 / 255")
    number = int(settings.get("resample", 3))
    if number not in FILTERS:
        raise ValueError(f"resample {number}; known are 2 (bilinear), 3 (bicubic)")
    if "shortest_edge" in size:
        crop = settings.get("crop_size", size["shortest_edge"])
        crop = (
            (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        )
        if not settings.get("do_center_crop", True) or {*crop} != {
            size["shortest_edge"]
        }:
            raise ValueError(f"size {size} without a crop to a square of that side")
        resize, sides = "short-side", crop
    else:
        if settings.get("do_center_crop"):
            raise ValueError("a crop after both sides were scaled")
        resize, sides = "squash", (size["height"], size["width"])
    mean, deviation = settings["image_mean"], settings["image_std"]
    if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
        raise ValueError(f"image_mean {mean} and image_std {deviation}")
    return PixelRule(
        (int(sides[0]), int(sides[1])),
        resize,  # type: ignore[arg-type]
        FILTERS[number],  # type: ignore[arg-type]
        tuple(map(float, mean)),
        tuple(map(float, deviation)),
    )
