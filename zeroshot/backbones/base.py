"""The contract of a visual backbone."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Backbone",
    "BackboneCard",
    "ClassifierHead",
    "Resize",
    "SupportsCard",
    "SupportsClassifierHead",
    "SupportsExactCounterpart",
    "SupportsFineTuning",
    "WeightsFile",
    "card_of",
]

Resize = Literal["crop", "squash"]
"""How an image becomes ``input_size``: ``"crop"`` scales the short side and takes the
centre; ``"squash"`` scales both sides and keeps the whole image."""


@runtime_checkable
class Backbone(Protocol):
    """A frozen network (or descriptor) that turns images into feature vectors.

    Reading, orienting, resizing, batching, caching and progress belong to the core;
    a backbone only computes. It scales the pixels itself, so that nobody can pair a
    network with the wrong scaling, and must neither change nor keep its input.
    """

    @property
    def name(self) -> str:
        """Registry name, such as ``"mobilenet-v2"``."""

    @property
    def dim(self) -> int:
        """Length of a feature vector."""

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would.

        It covers weights, layer, input size, resize rule and pixel scaling.
        """

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            RGB, 0 to 255; ``n`` may be 0.

        Returns
        -------
        features : ndarray of shape (n, dim), float32
            Finite; a row depends on its own image only.
        """


@dataclass(frozen=True)
class BackboneCard:
    """What a user should know before trusting a backbone.

    Attributes
    ----------
    resize : {"crop", "squash"}
        How the core brings an image to ``input_size``.
    pretraining : str
        What the weights were trained on: "unseen" classes may have been seen there.
        Empty where nobody knows.
    weights_url, licence, citation : str
        Where the weights come from; empty where there is nothing to say.
    """

    resize: Resize = "crop"
    pretraining: str = ""
    weights_url: str = ""
    licence: str = ""
    citation: str = ""


@runtime_checkable
class SupportsCard(Protocol):
    """A backbone that describes itself."""

    @property
    def card(self) -> BackboneCard:
        """The backbone's card."""


@dataclass(frozen=True)
class ClassifierHead:
    """The classifier that a backbone was trained with: one dense layer on its features.

    ``features @ weights + bias`` are the logits.

    Attributes
    ----------
    class_names : tuple of tuple of str
        For each class its names, the usual one first.
    weights : ndarray of shape (dim, n_classes), float32
    bias : ndarray of shape (n_classes,), float32
    """

    class_names: tuple[tuple[str, ...], ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


@runtime_checkable
class SupportsClassifierHead(Protocol):
    """A backbone that still knows the classes of its pretraining."""

    def classifier_head(self) -> ClassifierHead:
        """Return the classifier; may read or download its weights."""


@runtime_checkable
class SupportsExactCounterpart(Protocol):
    """A backbone whose features approximate those of another; `evaluate` compares."""

    @property
    def exact(self) -> Backbone:
        """The backbone that is approximated."""


@dataclass(frozen=True)
class WeightsFile:
    """Weights of a fine-tuned network: a file that is kept in memory.

    Attributes
    ----------
    name : str
        What a bundle calls it, ``"backbone.weights.h5"`` or ``"backbone.keras"``.
    spec : str or None
        Names a backbone that takes these weights with `SupportsFineTuning.with_weights`
        and needs no other file; None where no string can.
    content : bytes
        All weights of the network, also of the layers that were not tuned. Nothing in
        it can run code.
    """

    name: str
    spec: str | None
    content: bytes = field(repr=False)


@runtime_checkable
class SupportsFineTuning(Protocol):
    """A backbone made of a Keras network, whose last layers can be trained further.

    Plugins are immutable: a copy is trained, and a new backbone made of it. The new
    one differs in its fingerprint, and holds all its weights itself.
    """

    @property
    def tuned_weights(self) -> WeightsFile | None:
        """Weights that it has instead of those it was made with; None if untuned."""

    def trainable_copy(self) -> tuple[Any, Any]:
        """Return a copy of the network to be trained, and how pixels are scaled for it.

        Returns
        -------
        model : keras.Model
            From scaled pixels to features, or to a feature map that is averaged over
            its positions. With a graph, so that it can be cut at a layer.
        scaling : str or callable
            See `zeroshot.backbones.keras.network.Scaling`.
        """

    def weights_of(self, model: Any) -> WeightsFile:
        """Return the weights of a trained copy, as a file."""

    def with_weights(self, weights: WeightsFile | None) -> Self:
        """Return this backbone with such weights; with None, as it was made."""


def card_of(backbone: Backbone) -> BackboneCard:
    """Return the backbone's card, or the default card where it carries none."""
    return backbone.card if isinstance(backbone, SupportsCard) else BackboneCard()
