"""The contract of a visual backbone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.images.sources import Filter, Resize
from zeroshot.storage.published import PublishedFile

__all__ = [
    "Backbone",
    "BackboneCard",
    "ClassifierHead",
    "Resize",
    "SupportsCard",
    "SupportsClassifierHead",
    "SupportsDownload",
    "SupportsExactCounterpart",
    "SupportsFineTuning",
    "SupportsLogits",
    "WeightsFile",
    "card_of",
    "check_class_list",
    "head_of",
    "logits_of",
]


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
    resize : {"crop", "squash", "short-side", "short-side-even"}
        How the core brings an image to ``input_size``; see `zeroshot.images.Resize`.
    pretraining : str
        What the weights were trained on: "unseen" classes may have been seen there.
        Empty where nobody knows.
    weights_url, licence, citation : str
        Where the weights come from; empty where there is nothing to say.
    filter : {"bilinear", "bicubic"}
        With which it does so.
    """

    resize: Resize = "crop"
    pretraining: str = ""
    weights_url: str = ""
    licence: str = ""
    citation: str = ""
    filter: Filter = "bilinear"

    @property
    def fitting(self) -> str:
        """Resize rule and filter in a few words, part of what names stored features."""
        # Features that were stored before there was a second filter are found again.
        return self.resize + ("" if self.filter == "bilinear" else f" {self.filter}")


@runtime_checkable
class SupportsCard(Protocol):
    """A backbone that describes itself."""

    @property
    def card(self) -> BackboneCard:
        """The backbone's card."""


@dataclass(frozen=True)
class ClassifierHead:
    """The classifier that a backbone was trained with.

    Attributes
    ----------
    class_names : tuple of tuple of str
        For each class its names, the usual one first; two classes or more.
    weights : ndarray of shape (dim, n_classes), float32, or None
        None where the classifier is more than one dense layer on the features: then
        nothing but its logits is known, see `SupportsLogits`.
    bias : ndarray of shape (n_classes,), float32, or None
        None where ``weights`` is.

    Raises
    ------
    PluginContractError
        If there are fewer than two classes, one has no name, or weights and bias do not
        fit the list of classes, are not float32, or not finite.

    Examples
    --------
    >>> head = ClassifierHead(
    ...     (("cat",), ("dog", "hound")),
    ...     np.eye(3, 2, dtype=np.float32),
    ...     np.ones(2, np.float32),
    ... )
    >>> head.logits(np.array([[5, 7, 0]], np.float32))
    array([[6., 8.]], dtype=float32)
    """

    class_names: tuple[tuple[str, ...], ...]
    weights: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None

    def __post_init__(self) -> None:
        for names in self.class_names:
            if isinstance(names, str) or not names or not all(map(_is_name, names)):
                raise PluginContractError(
                    f"Expected the names of a class as a tuple of texts. Got "
                    f"{names!r}. Write ('lion', 'king of beasts')."
                )
        n = len(self.class_names)
        if n < 2:
            raise PluginContractError(
                f"Expected a classifier of two classes or more. Got {n}. Without a "
                f"second class it tells nothing apart."
            )
        if self.weights is None and self.bias is None:
            return
        for what, array, n_axes in (
            ("weights", self.weights, 2),
            ("bias", self.bias, 1),
        ):
            if (
                not isinstance(array, np.ndarray)
                or array.dtype != np.float32
                or array.ndim != n_axes
            ):
                got = str(array)
                if isinstance(array, np.ndarray):
                    got = f"{array.dtype} of shape {array.shape}"
                raise PluginContractError(
                    f"Expected {what} of a classifier as a float32 array of {n_axes} "
                    f"axes. Got {got:.60}. Give weights (dim, n_classes) and bias "
                    f"(n_classes,), or None for both."
                )
            check_class_list(n, array.shape[-1])
            bad = int(np.count_nonzero(~np.isfinite(array)))
            if bad:
                raise PluginContractError(
                    f"Expected finite {what} of a classifier. Got {bad} that are not. "
                    f"Check the file that they come from."
                )

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of images, ``features @ weights + bias``.

        Parameters
        ----------
        features : ndarray of shape (n, dim), float32

        Returns
        -------
        logits : ndarray of shape (n, n_classes), float32

        Raises
        ------
        PluginContractError
            If the classifier is more than one dense layer.
        """
        if self.weights is None or self.bias is None:
            raise PluginContractError(
                f"Expected a classifier that is one dense layer on the features. Got "
                f"one of {len(self.class_names)} classes that is more. Ask the "
                f"backbone for the logits of images."
            )
        return features @ self.weights + self.bias


@runtime_checkable
class SupportsClassifierHead(Protocol):
    """A backbone that still knows the classes of its pretraining."""

    def classifier_head(self) -> ClassifierHead:
        """Return the classifier; may read or download its weights.

        Raises `NoClassifierError` where this backbone has none.
        """


@runtime_checkable
class SupportsLogits(Protocol):
    """A backbone that runs the classifier of its pretraining, whatever its layers."""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the scores of its own classes, before any softmax.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            As for `Backbone.embed`.

        Returns
        -------
        logits : ndarray of shape (n, n_classes), float32
            `ClassifierHead.logits` of the features, where the classifier has weights.
            A constant for each image may be added: log-probabilities are logits.
        """


@runtime_checkable
class SupportsDownload(Protocol):
    """A plugin that fetches its weights when they are first needed."""

    def missing_files(self, *, classifier: bool = True) -> Sequence[PublishedFile]:
        """Return the files that are not on this machine yet.

        ``classifier``: also those that only the classifier of its pretraining needs.
        """


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


def head_of(backbone: Backbone) -> ClassifierHead:
    """Return the classifier of a backbone's pretraining.

    Raises NoClassifierError if it has none; PluginContractError if its weights do not
    fit the features; ArtifactError as the backbone does.
    """
    if not isinstance(backbone, SupportsClassifierHead):
        raise NoClassifierError(
            f"Expected a backbone that still has the classifier of its pretraining. "
            f"Got '{backbone.name}', which has none. Use a network of "
            f"keras.applications, such as 'mobilenet-v2', or a file whose logits and "
            f"classes are named."
        )
    head = backbone.classifier_head()
    if head.weights is not None and len(head.weights) != backbone.dim:
        raise PluginContractError(
            f"Expected a classifier on the {backbone.dim} features of "
            f"'{backbone.name}'. Got weights for {len(head.weights)}. Give those of "
            f"its last layer, as (dim, n_classes)."
        )
    return head


def logits_of(backbone: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits of images, also of a backbone that has no method for them.

    ``images``: as for `Backbone.embed`. Returns (n, n_classes) float32. Raises as
    `head_of`; PluginContractError if only the backbone could compute them.
    """
    if isinstance(backbone, SupportsLogits):
        return backbone.logits(images)
    return head_of(backbone).logits(backbone.embed(images))


def check_class_list(n_names: int, n_outputs: int) -> None:
    """Raise PluginContractError unless a class list is as long as a classifier wide."""
    if n_names != n_outputs:
        raise PluginContractError(
            f"Expected a class list of {n_outputs} names for a classifier of "
            f"{n_outputs} outputs. Got {n_names}. Give one class for each output, in "
            f"their order."
        )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip())
