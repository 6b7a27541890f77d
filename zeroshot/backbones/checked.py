"""What all backbones here share: a batch is checked before it is computed."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone
from zeroshot.errors import InvalidImageError, ZeroShotWarning
from zeroshot.per_process import LOADING

__all__ = ["CheckedBackbone", "NetworkBackbone", "Route", "digest_of"]

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
        height, width = self.input_size
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
            raise InvalidImageError(
                f"Expected uint8 RGB images of shape (n, {height}, {width}, 3) for "
                f"'{self.name}'. Got {images.dtype} of shape {images.shape}. Resize "
                f"them, or use 'zeroshot.features', which does."
            )
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32)
        return self._compute(images)

    @abstractmethod
    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of at least one image."""

    def __sklearn_clone__(self) -> Self:
        return self


class NetworkBackbone(CheckedBackbone):
    """A backbone with a network, which is opened when it is first needed."""

    _OPENED: ClassVar[tuple[str, ...]] = ("_route",)  # attributes not to be pickled

    _route: Route | None = None
    _is_looked_at = False

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
        if n > 1 and (features >= 0).all() and (abs(features.sum(1) - 1) < 1e-3).all():
            return f"probabilities of {n} classes (not negative, of sum 1)"
        return f"scores of {n} classes of ImageNet" if n in NUMBERS_OF_CLASSES else ""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | dict.fromkeys(self._OPENED)


def digest_of(facts: Mapping[str, object]) -> str:
    """Return 32 hexadecimal digits that change with any of the facts (JSON values)."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
