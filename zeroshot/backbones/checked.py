"""What all backbones here share: a batch is checked before it is computed."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.base import Backbone, ClassifierHead
from zeroshot.errors import InvalidImageError, ZeroShotWarning
from zeroshot.per_process import LOADING

__all__ = [
    "CheckedBackbone",
    "NetworkBackbone",
    "Route",
    "are_probabilities",
    "digest_of",
    "resized",
]

Route: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From a batch of at least one image to its features; threads may call it at once."""

# ImageNet-1k and ImageNet-21k, without and with a class for "background".
NUMBERS_OF_CLASSES = (1000, 1001, 21841, 21843)


class CheckedBackbone(Backbone):
    """A backbone whose `embed` checks the batch; a subclass computes it."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch; the first call loads what is needed for it.

        ``images``: (n, height, width, 3) uint8, RGB, 0 to 255, of `input_size`; ``n``
        may be 0. Returns features (n, dim) float32. Raises InvalidImageError if the
        batch has another shape or type; ArtifactError if a file is missing, broken, not
        for this network, or needs code that it may not run; PluginContractError if an
        option is missing or wrong, or the network (or function) does not take RGB
        images and give features; PluginError if TensorFlow would have to run in a
        process that was forked after it ran.
        """
        images = self._checked(images)
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32)
        return self._compute(images)

    def _checked(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.input_size
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
            raise InvalidImageError(
                f"Expected uint8 RGB images of shape (n, {height}, {width}, 3) for "
                f"'{self.name}'. Got {images.dtype} of shape {images.shape}. Resize "
                f"them, or use 'zeroshot.features', which does."
            )
        return images

    @abstractmethod
    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of at least one image."""

    def __sklearn_clone__(self) -> Self:
        return self


class NetworkBackbone(CheckedBackbone):
    """A backbone with a network, which is opened when it is first needed."""

    # Attributes not to be pickled.
    _OPENED: ClassVar[tuple[str, ...]] = ("_route", "_head")

    _route: Route | None = None
    _head: tuple[ClassifierHead, Route | None] | None = None
    _is_looked_at = False

    def classifier_head(self) -> ClassifierHead:
        """Return the classifier that the network was trained with; reads it once.

        After fine-tuning it is that of the network as it was before, whose features
        have moved only a little.

        Returns
        -------
        head : ClassifierHead

        Raises
        ------
        NoClassifierError
            If it has none, or none that is known.
        ArtifactError
            If the file that should hold it is missing, or does not.
        PluginContractError
            If the list of classes does not fit it, or an option is wrong.
        """
        return self._opened_head()[0]

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the scores of the network's own classes.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            As for `embed`.

        Returns
        -------
        logits : ndarray of shape (n, n_classes), float32
            ``embed(images) @ weights + bias`` where `classifier_head` has weights, else
            what the whole network says; logarithms, where it says probabilities.

        Raises
        ------
        NoClassifierError, ArtifactError, PluginContractError
            As `classifier_head` and `embed`.
        """
        head, whole = self._opened_head()
        if whole is None:
            return head.logits(self.embed(images))
        images = self._checked(images)
        if len(images) == 0:
            return np.empty((0, len(head.class_names)), np.float32)
        return whole(images)

    def _opened_head(self) -> tuple[ClassifierHead, Route | None]:
        if self._head is None:
            with LOADING():
                if self._head is None:
                    self._head = self._read_head()
        return self._head

    @abstractmethod
    def _read_head(self) -> tuple[ClassifierHead, Route | None]:
        """Return the classifier, and the whole network where it has no weights."""

    @abstractmethod
    def _open(self) -> Route:
        """Load the network, or what was kept of it; called by one thread, once."""

    def _advice(self) -> str:
        """Return how to get features instead of a classifier's output."""
        return "Cut the network before its classifier"

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._route is None:
            with LOADING():
                if self._route is None:
                    self._route = self._open()
        features = self._route(images)
        if not self._is_looked_at:
            self._is_looked_at = True
            looks = self._looks_like(features)
            if looks:
                warn(
                    f"Expected features from {self!r}. Got what looks like {looks}: "
                    f"a classifier's output, which says little about other classes. "
                    f"{self._advice()}, or go on if this is what you want.",
                    ZeroShotWarning,
                    stacklevel=3,
                )
        return features

    def _looks_like(self, features: NDArray[np.float32]) -> str:
        n = features.shape[1]
        if are_probabilities(features):
            return f"probabilities of {n} classes (not negative, of sum 1)"
        return f"scores of {n} classes of ImageNet" if n in NUMBERS_OF_CLASSES else ""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | dict.fromkeys(self._OPENED)


def are_probabilities(rows: NDArray[np.float32]) -> bool:
    """Say whether each row has numbers that are not negative, of sum 1."""
    sums_to_one = (abs(rows.sum(axis=1) - 1) < 1e-3).all()
    return rows.shape[1] > 1 and bool((rows >= 0).all() and sums_to_one)


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return images of another height and width, as they are where it is the same."""
    if images.shape[1:3] == size:
        return images
    pictures = [Image.fromarray(image) for image in images]
    other = [each.resize(size[::-1], Image.Resampling.BILINEAR) for each in pictures]
    return np.stack([np.asarray(each) for each in other])


def digest_of(facts: Mapping[str, object]) -> str:
    """Return 32 hexadecimal digits that change with any of the facts (JSON values)."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
