"""A Keras network in whole numbers of 8 bits: faster on some processors, not exact."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from zeroshot.backbones.base import (
    Backbone,
    BackboneCard,
    ClassifierHead,
    SupportsDownload,
    card_of,
    head_of,
    logits_of,
)
from zeroshot.backbones.checked import NetworkBackbone, Route
from zeroshot.backbones.keras.conversion import (
    ConversionError,
    convert,
    converted_file,
    read_converted,
)
from zeroshot.backbones.keras.routes import KerasBackbone
from zeroshot.errors import PluginContractError
from zeroshot.storage.published import PublishedFile

__all__ = ["Quantised"]

VERSION = 1  # part of the fingerprint: raise it with every change of the quantisation


class Quantised(NetworkBackbone):
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

    def missing_files(self, *, classifier: bool = True) -> Sequence[PublishedFile]:
        """Return the files that the exact backbone would fetch.

        Parameters
        ----------
        classifier : bool, default=True
            Also those that only its classifier needs.

        Returns
        -------
        files : sequence of PublishedFile
        """
        if not isinstance(self.exact, SupportsDownload):
            return []
        return self.exact.missing_files(classifier=classifier)

    def _read_head(self) -> tuple[ClassifierHead, Route | None]:
        head = head_of(self.exact)
        return head, partial(logits_of, self.exact) if head.weights is None else None

    def _open(self) -> Route:
        path = converted_file(self.fingerprint)
        try:
            return read_converted(path) or self._convert(path)
        except ConversionError as error:
            raise PluginContractError(
                f"Expected a network that can be quantised to int8. Got {error} Use "
                f"the exact one: leave 'int8' out."
            ) from error

    def _convert(self, path: Path) -> Route:
        exact = self.exact
        network = exact.network() if isinstance(exact, KerasBackbone) else None
        if network is None or network.scales_outside:
            raise PluginContractError(
                f"Expected a Keras backbone whose scaling has a name. Got {exact!r}. "
                f"Only these can be quantised; leave 'int8' out."
            )
        return convert(network, path, quantised=True)

    def __repr__(self) -> str:
        return f"Quantised({self.exact!r})"
