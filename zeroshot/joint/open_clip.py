"""Joint models of the library open_clip: its architectures, and folders of its form."""

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.checked import digest_of
from zeroshot.backbones.spec_options import absolute, parse_argument, write_argument
from zeroshot.errors import ArtifactError, MissingExtraError, PluginContractError
from zeroshot.joint.base import JointModel
from zeroshot.joint.families import PixelRule
from zeroshot.per_process import LOADING
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.published import offline

__all__ = ["OpenCLIP"]

TEXTS_AT_ONCE = 64
RESIZES = {"shortest": "short-side-even", "squash": "squash"}


class OpenCLIP(JointModel):
    """A model of open_clip, run by PyTorch on the CPU.

    Needs ``pip install 'zeroshot[open-clip]'``, and torchvision of the same build as
    PyTorch.

    Parameters
    ----------
    model : str
        An architecture that the library knows, ``"ViT-B-32"``, or a folder with
        ``open_clip_config.json`` and weights.
    weights : path or str, optional
        For an architecture: a file of weights, or a tag such as
        ``"laion2b_s34b_b79k"``, which open_clip fetches once. Weights are read as
        numbers alone.

    Notes
    -----
    The spec string is ``"clip:open_clip:"`` and the model, with the weights as in a
    URL: ``"clip:open_clip:ViT-B-32?weights=laion2b_s34b_b79k"``.
    """

    _OPENED = ("_images", "_texts", "_opened")

    _opened: tuple[Any, Any] | None = None

    def __init__(self, model: str, *, weights: str | Path | None = None) -> None:
        self.model = model
        self.weights = weights

    @classmethod
    def from_argument(cls, name: str, argument: str) -> Self:
        """Make the model that a spec string names.

        Parameters
        ----------
        name : str
            Registered name.
        argument : str
            What follows it and ``open_clip:``.

        Returns
        -------
        model : OpenCLIP

        Raises
        ------
        PluginContractError
            If an option is unknown.
        """
        model, options = parse_argument(f"{name}:open_clip", argument, ("weights",))
        return cls(model, **options)

    @property
    def spec(self) -> str:
        """Spec string from which an equal model is made; its paths are absolute."""
        model, weights = str(self.model), self.weights
        if self._is_folder:
            model = absolute(model)
        if weights is None:
            return f"{self.name}:open_clip:{model}"
        if os.path.isfile(os.path.expanduser(str(weights))):
            weights = absolute(weights)
        return f"{self.name}:open_clip:{write_argument(model, {'weights': weights})}"

    def would_download(self) -> bool:
        """Tell whether the weights have a tag, and may not be on this machine.

        Returns
        -------
        would_download : bool
            Also where open_clip has fetched them before: nobody else knows where.
        """
        return not self._is_folder and not self._is_file

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
        model, tokenizer = self._load()
        digest = hashlib.sha256()
        for key, tensor in sorted(model.state_dict().items()):
            array = tensor.detach().float().numpy()
            digest.update(f"{key} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        facts = {
            "weights": digest.hexdigest(),
            "form": str(model),
            "pixels": vars(self.pixel_rule),
            "texts": [type(tokenizer).__name__, tokenizer.context_length],
        }
        return f"{self.name}-{digest_of(facts)}"

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with, as trained."""
        return float(self._load()[0].logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What is added before a sigmoid, as trained; None for a softmax."""
        bias = self._load()[0].logit_bias
        return None if bias is None else float(bias.detach())

    @cached_property
    def pixel_rule(self) -> PixelRule:
        """How an image becomes what the image tower takes; loads the model."""
        import open_clip

        rule = open_clip.get_model_preprocess_cfg(self._load()[0])
        size = rule["size"]
        sides = (size, size) if isinstance(size, int) else tuple(size)
        resize = RESIZES.get(rule.get("resize_mode", "shortest"))
        is_square = sides[0] == sides[1]
        if resize is None or (resize != "squash" and not is_square):
            raise PluginContractError(
                f"Expected images that are scaled to a square, or squashed. Got the "
                f"rule '{rule.get('resize_mode')}' to {sides} of {self!r}. Use another "
                f"model."
            )
        filter = rule.get("interpolation", "bicubic")
        return PixelRule(
            (int(sides[0]), int(sides[1])),
            resize,  # type: ignore[arg-type]
            "bilinear" if filter == "bilinear" else "bicubic",
            tuple(map(float, rule["mean"])),
            tuple(map(float, rule["std"])),
        )

    @property
    def _is_folder(self) -> bool:
        return os.path.isdir(os.path.expanduser(str(self.model)))

    @property
    def _is_file(self) -> bool:
        given = self.weights is not None
        return given and os.path.isfile(os.path.expanduser(str(self.weights)))

    def _load(self) -> tuple[Any, Any]:
        if self._opened is None:
            with LOADING():
                if self._opened is None:
                    self._opened = self._read()
        return self._opened

    def _read(self) -> tuple[Any, Any]:
        """Return the model, on the CPU and not training, and its tokenizer."""
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:
            raise MissingExtraError(
                f"Expected the package open_clip, with torch and torchvision of one "
                f"build. Got {type(error).__name__}: {error}. Run: pip install "
                f"'zeroshot[open-clip]'"
            ) from error
        name, weights = str(self.model), None
        if self._is_folder:
            name = f"local-dir:{absolute(name)}"
        elif self.weights is None:
            raise PluginContractError(
                f"Expected weights of '{shown_spec(name)}'. Got none, and no folder of "
                f"that name. Give a file or a tag: "
                f"'{self.name}:open_clip:ViT-B-32?weights=laion2b_s34b_b79k'."
            )
        else:
            weights = str(self.weights)
            weights = absolute(weights) if self._is_file else weights
        if self.would_download() and offline():
            raise ArtifactError(
                f"Expected a file of weights: ZEROSHOT_OFFLINE forbids downloads. Got "
                f"the tag '{shown_spec(weights)}'. Give the path of the file."
            )
        try:
            model = open_clip.create_model(
                name, pretrained=weights, require_pretrained=True
            )
            tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # of several libraries, for each way to fail
            raise ArtifactError(
                f"Expected a model of open_clip and its weights. Got {self!r}, which "
                f"it cannot load: {error}. Check the name and the files; "
                f"open_clip.list_pretrained() names all."
            ) from error
        return model.eval(), tokenizer

    def _open_images(self) -> Any:
        import torch

        model = self._load()[0]

        def vectors(pixels: NDArray[np.float32]) -> NDArray[Any]:
            with torch.inference_mode():
                return np.asarray(model.encode_image(torch.from_numpy(pixels)).float())

        return vectors

    def _open_texts(self) -> Any:
        import torch

        model, tokenizer = self._load()

        def vectors(texts: list[str]) -> NDArray[Any]:
            parts = []
            with torch.inference_mode():
                for start in range(0, len(texts), TEXTS_AT_ONCE):
                    ids = tokenizer(texts[start : start + TEXTS_AT_ONCE])
                    parts.append(np.asarray(model.encode_text(ids).float()))
            return np.concatenate(parts)

        return vectors

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: what is said, not what was loaded."""
        return {"model": self.model, "weights": self.weights}

    def __repr__(self) -> str:
        given = (
            "" if self.weights is None else f", weights={shown_spec(self.weights)!r}"
        )
        return f"{type(self).__name__}({shown_spec(self.model)!r}{given})"
