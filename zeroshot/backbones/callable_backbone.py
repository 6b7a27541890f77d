"""Any Python function as a backbone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import BackboneCard, Resize
from zeroshot.backbones.checked import CheckedBackbone
from zeroshot.backbones.spec_options import pair_of
from zeroshot.errors import PluginContractError

__all__ = ["CallableBackbone"]


class CallableBackbone(CheckedBackbone):
    """A function from images to features: a network of PyTorch, a service, your own.

    Parameters
    ----------
    function : callable
        Takes (n, height, width, 3) uint8 RGB, 0 to 255, and returns what NumPy reads as
        (n, dim) numbers. A row must depend on its own image only. For use in other
        processes it must be picklable: a function at the top level of a module.
    input_size : int or (int, int)
        Height and width, in pixels, of the images that it is given.
    fingerprint : str
        Names the features: stored features are found by it, and a saved classifier
        accepts no other. Nobody can derive it (a function's source says nothing of the
        weights that it reads), so choose one, such as ``"my-resnet, weights of May"``,
        and change it whenever the features change.
    name : str, default="callable"
        Shown in reports.
    resize : {"crop", "squash"}, default="crop"
        How the core brings an image to size.
    pretraining : str, optional
        What the features were trained on, for the reports.

    Examples
    --------
    >>> def mean_color(images):
    ...     return images.mean(axis=(1, 2)) / 255
    >>> backbone = CallableBackbone(
    ...     mean_color, input_size=32, fingerprint="mean-color-1"
    ... )
    >>> backbone.dim
    3
    """

    _dim: int | None = None

    def __init__(
        self,
        function: Callable[[NDArray[np.uint8]], Any],
        *,
        input_size: int | tuple[int, int],
        fingerprint: str,
        name: str = "callable",
        resize: Resize = "crop",
        pretraining: str = "",
    ) -> None:
        self.function = function
        self._input_size = input_size
        self._fingerprint = fingerprint
        self._name = name
        self.resize = resize
        self.pretraining = pretraining

    @property
    def name(self) -> str:
        """Shown in reports."""
        return self._name

    @property
    def dim(self) -> int:
        """Length of a feature vector; calls the function on a black image, once."""
        if self._dim is None:
            self._dim = self._compute(
                np.zeros((1, *self.input_size, 3), np.uint8)
            ).shape[1]
        return self._dim

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given."""
        return pair_of(self._input_size)

    @property
    def fingerprint(self) -> str:
        """The given text, size and resize rule."""
        if not isinstance(self._fingerprint, str) or not self._fingerprint:
            raise PluginContractError(
                f"Expected fingerprint= as text that names the features. Got "
                f"{self._fingerprint!r}. Choose one, and change it with the features."
            )
        height, width = self.input_size
        return f"callable {self._fingerprint} {height}x{width} {self.resize}"

    @property
    def card(self) -> BackboneCard:
        """What was said of it."""
        return BackboneCard(resize=self.resize, pretraining=self.pretraining)

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        result = self.function(images.copy())  # it may write into its argument
        try:
            features = np.ascontiguousarray(result, np.float32)
        except (TypeError, ValueError) as error:
            raise PluginContractError(
                f"Expected numbers of shape (n, dim) from '{self.name}'. Got "
                f"{type(result).__name__}: {error}. Return an array."
            ) from error
        if features.ndim != 2 or len(features) != len(images):
            raise PluginContractError(
                f"Expected features of shape ({len(images)}, dim) from '{self.name}'. "
                f"Got shape {features.shape}. Return one row for each image."
            )
        return features

    def __repr__(self) -> str:
        return f"CallableBackbone({self.function!r}, fingerprint={self._fingerprint!r})"
