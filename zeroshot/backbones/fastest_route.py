"""The fastest way to run a Keras network that gives the same features."""

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.keras_network import Network
from zeroshot.backbones.litert_network import (
    ConversionError,
    LiteRTNetwork,
    convert,
    converted_file,
    read_converted,
)
from zeroshot.tensorflow_import import import_tensorflow

__all__ = ["FastestRoute"]

# A conversion takes 3 to 20 s, once: a handful of images need not wait for it.
CONVERT_AFTER = 256

logger = logging.getLogger("zeroshot")


class FastestRoute:
    """A network that converts itself to LiteRT when there is work enough.

    On a CPU LiteRT computes the features of Keras, to 1e-4 of the largest one, in half
    the time or less (``benchmarks/features.py``). The conversion is kept in the cache:
    from then on Keras does not even build the network. The plain graph stays where
    there is a GPU, where a callable scales the pixels, where the conversion fails or
    gives other features (the reason is logged under ``"zeroshot"``), and for the first
    256 images before the first conversion. Since features agree, the route is no part
    of a backbone's fingerprint.

    Parameters
    ----------
    build : callable
        Returns the `Network`; called when it is first needed.
    fingerprint : str
        Of the backbone: names the conversion in the cache.
    """

    def __init__(self, build: Callable[[], Network], fingerprint: str) -> None:
        self._build = build
        self._path = converted_file(fingerprint)
        self._graph: Network | None = None
        self._converted: LiteRTNetwork | None = None
        self._may_convert = not import_tensorflow().config.list_physical_devices("GPU")
        self._n_images = 0
        self._lock = threading.Lock()
        if self._may_convert:
            self._converted = read_converted(self._path)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch of at least one image."""
        with self._lock:
            if self._converted is None and self._graph is None:
                self._graph = self._build()
                self._may_convert = self._may_convert and self._graph.is_whole
            if self._may_convert and self._n_images >= CONVERT_AFTER:
                self._convert()
            self._n_images += len(images)
        network = self._converted or self._graph
        assert network is not None
        return network(images)

    def _convert(self) -> None:
        if self._converted is None and self._graph is not None:
            self._may_convert = False
            try:
                self._converted = convert(self._graph, self._path)
                self._graph = None
            except ConversionError as error:
                logger.info("The plain graph is used, LiteRT is not: %s", error)
