"""The fastest way to run a Keras network that gives the same features."""

import copy
import logging
from abc import abstractmethod
from contextlib import suppress
from functools import cache
from typing import Any, ClassVar, Self

from zeroshot.backbones.base import ClassifierHead, SupportsDownload, WeightsFile
from zeroshot.backbones.checked import NetworkBackbone, Route
from zeroshot.backbones.keras.conversion import (
    ConversionError,
    convert,
    converted_file,
    kept_route,
    read_converted,
)
from zeroshot.backbones.keras.network import Network
from zeroshot.errors import ArtifactError
from zeroshot.tensorflow_import import has_gpu

__all__ = ["KerasBackbone"]

logger = logging.getLogger("zeroshot")


class KerasBackbone(NetworkBackbone):
    """A network of Keras, by its fastest route; it may have been fine-tuned.

    On a CPU LiteRT computes the features of Keras, to 1e-4 of the largest one, and
    mostly in less time (``benchmarks/inference_routes.py``). A first use converts,
    checks, times and keeps the network, which takes some seconds; from then on Keras
    does not even build it. A frozen graph of TensorFlow is kept instead where that is
    faster. The plain graph is used where there is a GPU, where a function of the user
    scales the pixels, and where the conversion fails or gives other features; the
    reason is logged under ``"zeroshot"``.

    All features of a backbone on a machine come from the one route, so they are the
    same bit for bit in every process. Between machines they agree to 1e-4: the route is
    no part of a backbone's fingerprint.
    """

    TUNED_FILE: ClassVar[str]  # what a bundle calls its weights after fine-tuning

    _tuned: WeightsFile | None = None

    @property
    def tuned_weights(self) -> WeightsFile | None:
        """Weights that it has instead of those it was made with; None if untuned."""
        return self._tuned

    def with_weights(self, weights: WeightsFile | None) -> Self:
        """Return this backbone with weights from `weights_of`; None: as it was made."""
        backbone = copy.copy(self)  # without what is opened
        backbone._tuned = weights
        return backbone

    def route_taken(self) -> str:
        """Say how the network is run on this machine, and how fast where it was timed.

        Nothing is converted, downloaded or timed for that.

        Returns
        -------
        route : str
        """
        if has_gpu():
            return "Keras' own graph, on the GPU"
        kept = None
        if not (
            isinstance(self, SupportsDownload) and self.missing_files(classifier=False)
        ):
            with suppress(ArtifactError):  # there are no weights yet
                kept = kept_route(converted_file(self.fingerprint))
        return kept or "not known before the first use, which times LiteRT and others"

    def _untuned_head(self) -> tuple[ClassifierHead, Route | None]:
        return self.with_weights(None)._opened_head()

    def weights_of(self, model: Any) -> WeightsFile:
        """Return the weights of a model from ``trainable_copy``, as a file."""
        return WeightsFile(self.TUNED_FILE, self._tuned_spec(), self._pack(model))

    @abstractmethod
    def network(self) -> Network:
        """Return the network, with its weights."""

    @abstractmethod
    def _tuned_spec(self) -> str | None:
        """Return the spec of a backbone that takes weights from `weights_of`."""

    @abstractmethod
    def _pack(self, model: Any) -> bytes:
        """Return the content of a file of a model's weights; equal for equal ones."""

    def _open(self) -> Route:
        if has_gpu():
            logger.info("A plain graph is used, on the GPU.")
            return self.network()
        path = converted_file(self.fingerprint)
        network = cache(self.network)
        try:
            kept = read_converted(path)
            if kept is None and network().scales_outside:
                logger.info("A plain graph is used: a function scales the pixels.")
                return network()
            if kept is not None:
                return kept
            logger.info("'%s' is converted for this machine: some seconds.", self.name)
            return convert(network(), path)
        except ConversionError as error:
            logger.warning(
                "A plain graph is used, which is slower than LiteRT: %s", error
            )
            return network()
