"""The contract of a joint model, and what our own ones share."""

import inspect
from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, BackboneCard
from zeroshot.backbones.checked import CheckedBackbone
from zeroshot.embeddings.base import (
    PhraseEncoder,
    SupportsPhrases,
    TextEmbeddings,
)
from zeroshot.errors import PluginContractError
from zeroshot.joint.families import PixelRule
from zeroshot.per_process import LOADING

__all__ = ["JointModel", "SupportsJoint", "as_joint", "same_length"]


@runtime_checkable
class SupportsJoint(Backbone, TextEmbeddings, SupportsPhrases, Protocol):
    """A backbone that encodes texts into the very space of its images."""

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with before a softmax or a sigmoid, > 0."""

    @property
    def logit_bias(self) -> float | None:
        """What is added then, before a sigmoid; None for a model of a softmax."""


def as_joint(plugin: object) -> SupportsJoint | None:
    """Return a plugin that is a joint model; None for any other.

    Nothing of it is loaded.
    """
    # Static: asking for `dim` or `logit_scale` could load a network.
    none = object()
    members = ("embed", "encode", "logit_scale", "logit_bias")
    has_all = all(inspect.getattr_static(plugin, m, none) is not none for m in members)
    return plugin if has_all else None  # type: ignore[return-value]


class JointModel(CheckedBackbone, PhraseEncoder):
    """Two towers: a subclass opens them, each when it is first needed.

    It gives `pixel_rule`, `dim`, `fingerprint`, `spec`, `logit_scale` and `logit_bias`.
    """

    name = "clip"
    _OPENED: tuple[str, ...] = ("_images", "_texts")

    _images: Any = None
    _texts: Any = None

    @property
    @abstractmethod
    def pixel_rule(self) -> PixelRule:
        """How an image becomes what the image tower takes."""

    @abstractmethod
    def _open_images(self) -> Any:
        """Return the image tower: from pixels (n, 3, h, w) float32 to (n, dim)."""

    @abstractmethod
    def _open_texts(self) -> Any:
        """Return the text tower: from a list of texts, at least one, to (n, dim)."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given."""
        return self.pixel_rule.size

    @property
    def card(self) -> BackboneCard:
        """The family's resize rule and filter; the origin is not in the files."""
        rule = self.pixel_rule
        return BackboneCard(resize=rule.resize, filter=rule.filter)

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._images is None:
            with LOADING():
                if self._images is None:
                    self._images = self._open_images()
        return np.ascontiguousarray(
            self._images(self.pixel_rule.scaled(images)), np.float32
        )

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        if self._texts is None:
            with LOADING():
                if self._texts is None:
                    self._texts = self._open_texts()
        return np.ascontiguousarray(self._texts(texts), np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | dict.fromkeys(self._OPENED)


def same_length(n_images: int, n_texts: int, origin: object) -> None:
    """Raise PluginContractError if the vectors of two towers differ in length."""
    if n_images != n_texts:
        raise PluginContractError(
            f"Expected two towers of one model. Got '{origin}', whose vectors of "
            f"images have {n_images} numbers and those of texts {n_texts}. Export "
            f"both with their projections."
        )
