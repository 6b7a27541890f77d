"""A Keras network in whole numbers of 8 bits: faster on some processors, not exact."""

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, BackboneCard, card_of
from zeroshot.backbones.keras.network import LOADING, Network, check_images
from zeroshot.backbones.keras.routes import Route, quantised_route
from zeroshot.errors import PluginContractError

__all__ = ["Quantised"]

VERSION = 1  # part of the fingerprint: raise it with every change of the quantisation


@runtime_checkable
class _HasNetwork(Protocol):
    def network(self) -> Network: ...


class Quantised:
    """A Keras backbone quantised to int8 by LiteRT: opt-in, because features change.

    Weights and activations become whole numbers of 8 bits, in ranges taken from four
    photographs. With MobileNetV2 the features' cosine to the exact ones is 0.98 on
    average. Whether it is faster depends on the processor: with AVX-512 VNNI it was
    twice as fast as the exact network, without it slower.
    ``benchmarks/inference_routes.py`` tells, and ``zeroshot.evaluate`` reports what it
    costs in accuracy.

    Parameters
    ----------
    exact : Backbone
        A `KerasApplication` or a `KerasModel`.

    Notes
    -----
    The spec string is ``"int8:"`` and that of the backbone: ``"int8:mobilenet-v2"``.

    Examples
    --------
    >>> from zeroshot.backbones import KerasApplication
    >>> backbone = Quantised(KerasApplication("mobilenet-v2", input_size=160))
    >>> backbone.name, backbone.spec, backbone.dim
    ('int8:mobilenet-v2', 'int8:mobilenet-v2:160', 1280)
    """

    _route: Route | None = None

    def __init__(self, exact: Backbone) -> None:
        self.exact = exact

    @property
    def name(self) -> str:
        """Name of the exact backbone, with ``int8:`` before it."""
        return f"int8:{self.exact.name}"

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal one is made; None where there is none."""
        spec = getattr(self.exact, "spec", None)
        return None if spec is None else f"int8:{spec}"

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.exact.dim

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given."""
        return self.exact.input_size

    @property
    def card(self) -> BackboneCard:
        """The exact backbone's card."""
        return card_of(self.exact)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would; not that of the exact backbone."""
        return f"int8 version {VERSION} {self.exact.fingerprint}"

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch; the first call ever quantises the network.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            RGB, 0 to 255, of `input_size`; ``n`` may be 0.

        Returns
        -------
        features : ndarray of shape (n, dim), float32

        Raises
        ------
        InvalidImageError
            If the batch has another shape or type.
        PluginContractError
            If the backbone is no Keras network, or cannot be quantised.
        """
        check_images(images, self.input_size, self.name)
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32)
        with LOADING:
            if self._route is None:
                self._route = quantised_route(self._network, self.fingerprint)
        return self._route(images)

    def _network(self) -> Network:
        network = self.exact.network() if isinstance(self.exact, _HasNetwork) else None
        if network is None or network.scales_outside:
            raise PluginContractError(
                f"Expected a Keras backbone whose scaling has a name. Got "
                f"{self.exact!r}. Only these can be quantised; leave 'int8' out."
            )
        return network

    def __repr__(self) -> str:
        return f"Quantised({self.exact!r})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_route": None}

    def __sklearn_clone__(self) -> Self:
        return self
