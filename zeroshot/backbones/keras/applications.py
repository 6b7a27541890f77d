"""Every network of `keras.applications`, by name, without its classifier."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from zeroshot.backbones.base import BackboneCard, ClassifierHead
from zeroshot.backbones.checked import Route, digest_of, resized
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.backbones.keras.head import keras_head, with_top
from zeroshot.backbones.keras.network import Network, Scaling
from zeroshot.backbones.keras.routes import KerasBackbone
from zeroshot.backbones.keras.table import Application, applications
from zeroshot.backbones.keras.weights import (
    TUNED_FILE,
    WEIGHTS,
    build_with_top,
    build_without_top,
    content_of,
    published_file,
    published_weights,
)
from zeroshot.backbones.spec_options import (
    absolute,
    did_you_mean,
    existing_file,
    pair_of,
    parse_size,
    write_size,
)
from zeroshot.errors import PluginContractError, UnknownPluginError
from zeroshot.storage.large_files import file_digest
from zeroshot.storage.published import PublishedFile, offline, offline_error

__all__ = ["KerasApplication"]


class KerasApplication(KerasBackbone):
    """A network of `keras.applications`, cut after its global average pooling.

    Images are brought to size by the core; the pixels are scaled here, as the network
    was trained. Nothing is loaded, and TensorFlow is not imported, before the first
    `embed`.

    Parameters
    ----------
    model : str, default="mobilenet-v2"
        Name of the network, such as ``"resnet50"``; `applications` has them all.
    weights : "imagenet", path or None, default="imagenet"
        ``"imagenet"`` is the file that Keras publishes, from Keras' own cache or
        downloaded to it. A path is a weights file with or without the classifier,
        in any form that Keras loads (``.h5``, ``.weights.h5``, ``.keras``). None gives
        random weights, the same ones each time.
    input_size : int or (int, int), optional
        Height and width, in pixels; default is what the network was trained on.
        Every size uses the same weights. (Keras would take other files for MobileNet
        and MobileNetV2 at sizes below 224.)

    Notes
    -----
    A file for EfficientNet B0 to B7 is read as the published one: the rescaling that
    Keras adds only for ``weights="imagenet"`` is always added. For a network of that
    kind that you trained from random weights, use ``KerasModel``.

    The classifier, of ImageNet-1k, comes from the published file that has it, or from
    ``weights`` if that is a path; random weights have none. That of VGG, MobileNetV3
    and ConvNeXt is more than one layer: it has no weights of its own, and the logits
    are those of the whole network at the size that it was trained on.

    The spec string is the name, a colon, the size (``160``, or ``160x224`` for height x
    width), a comma, and the weights (a path or ``none``). Size and weights may be left
    out: ``"mobilenet-v2"``, ``"mobilenet-v2:128"``, ``"mobilenet-v2:/path/file.h5"``,
    ``"mobilenet-v2:128,none"``.

    Examples
    --------
    >>> backbone = KerasApplication("resnet50", input_size=160)
    >>> backbone.dim, backbone.input_size, backbone.spec
    (2048, (160, 160), 'resnet50:160')
    """

    TUNED_FILE = TUNED_FILE
    _OPENED = ("_route", "_head", "_file")

    _file: tuple[Path, str] | None = None

    def __init__(
        self,
        model: str = "mobilenet-v2",
        *,
        weights: str | Path | None = "imagenet",
        input_size: int | tuple[int, int] | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self._input_size = input_size

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make the backbone that a spec string names; see the notes of the class.

        Parameters
        ----------
        name : str
            The registered name.
        argument : str or None
            What follows the colon.

        Returns
        -------
        backbone : KerasApplication

        Raises
        ------
        PluginContractError
            If nothing follows the colon or the comma.
        """
        if argument is None:
            return cls(name)
        size, weights = None, argument
        first, comma, rest = argument.partition(",")
        if re.fullmatch(r"\d+(x\d+)?", first, re.ASCII):
            size, weights = parse_size(first), rest if comma else "imagenet"
        if not weights:
            raise PluginContractError(
                f"Expected a size, weights, or '<size>,<weights>' after '{name}:'. "
                f"Got '{name}:{argument}'. Write a size such as 160, a path, or none."
            )
        return cls(
            name, weights=None if weights == "none" else weights, input_size=size
        )

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal backbone is made; its path is absolute.

        None for a fine-tuned one.
        """
        if self._tuned is not None:
            return None
        parts = []
        if self.input_size != (self._row.size, self._row.size):
            parts.append(write_size(self.input_size))
        if self.weights is None:
            parts.append("none")
        elif self.weights != "imagenet":
            parts.append(absolute(self.weights))
        return ":".join([self.model, ",".join(parts)] if parts else [self.model])

    @property
    def name(self) -> str:
        """Registry name, such as ``"mobilenet-v2"``."""
        return self.model

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self._row.dim

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given."""
        given = self._input_size
        return pair_of(self._row.size if given is None else given)

    @property
    def card(self) -> BackboneCard:
        """Where the network and its weights come from."""
        row = self._row
        if self.weights == "imagenet":
            return BackboneCard(
                "crop", row.pretraining, row.url, row.licence, row.citation
            )
        pretraining = "nothing (random weights)" if self.weights is None else ""
        return BackboneCard("crop", pretraining, citation=row.citation)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would.

        It covers the network, the content of the weights file (wherever it lies), size,
        pooling, scaling and resize rule, and imports no TensorFlow. With
        ``weights="imagenet"`` and no file yet, it downloads the file.

        Raises
        ------
        ArtifactError
            If the weights file is missing.
        """
        facts = {
            "model": self.model,
            "weights": self._weights()[1],
            "input_size": self.input_size,
            "pooling": "avg",
            "scaling": self._row.scaling,
            "resize": self.card.resize,
        }
        return f"{self.model}-{digest_of(facts)}"

    def missing_files(self, *, classifier: bool = True) -> list[PublishedFile]:
        """Return the published weights that are wanted and not on this machine.

        Parameters
        ----------
        classifier : bool, default=True
            Also the file with the classifier, which features do without.

        Returns
        -------
        files : list of PublishedFile
        """
        if self.weights != "imagenet":
            return []
        rows = [] if self._tuned is not None else [self._row]
        rows += [with_top(self._row)] if classifier else []
        return [file for file in map(published_file, rows) if not file.is_here]

    def network(self) -> Network:
        """Build the network anew, with its weights.

        Returns
        -------
        network : Network
        """
        return Network(self._build(), self.input_size, self._row.scaling)

    def _read_head(self) -> tuple[ClassifierHead, Route | None]:
        if self._tuned is not None:
            return self._untuned_head()
        head = keras_head(self.model, self._row, self.weights)
        if head.weights is not None:
            return head, None
        whole = _WithTop(self.model, weights=self.weights)
        return head, lambda images: whole.embed(resized(images, whole.input_size))

    def trainable_copy(self) -> tuple[Any, Scaling]:
        """Return a copy of the network to be trained, and how pixels are scaled.

        Returns
        -------
        model : keras.Model
        scaling : str
        """
        return self._build(), self._row.scaling

    def _tuned_spec(self) -> str | None:
        return self.with_weights(None).spec

    def _pack(self, model: Any) -> bytes:
        return content_of(self.model, model)

    def _build(self) -> Any:
        return build_without_top(self.model, self.input_size, self._weights()[0])

    def _weights(self) -> tuple[Path | bytes | None, str]:
        """Return the weights, or their file, and what the fingerprint says of them."""
        if self._tuned is not None:
            return self._tuned.content, hashlib.sha256(self._tuned.content).hexdigest()
        if self.weights is None:
            return None, "random, He, seeded by name, 1"
        if self._file is None:
            row = self._row
            if self.weights == "imagenet":
                if offline() and self.missing_files(classifier=False):
                    raise offline_error(self.missing_files())  # all at once
                path = published_weights(row)
            else:
                path = existing_file(self.weights, WEIGHTS)
            self._file = path, file_digest(path, "sha256")
        return self._file

    @property
    def _row(self) -> Application:
        table = applications()
        if self.model not in table:
            raise UnknownPluginError(
                f"Expected the name of a network of keras.applications. Got "
                f"{self.model!r}.{did_you_mean(self.model, table)} Known: "
                f"{', '.join(sorted(table))}."
            )
        return table[self.model]

    def __repr__(self) -> str:
        return (
            f"KerasApplication({self.model!r}, weights={self.weights!r}, "
            f"input_size={self._input_size!r})" + (" fine-tuned" if self._tuned else "")
        )


class _WithTop(KerasApplication):
    """A network with its classifier, whose "features" are the logits."""

    _is_looked_at = True  # it is a classifier, and looks like one

    @property
    def fingerprint(self) -> str:
        return f"logits of {super().fingerprint}"

    def _build(self) -> Any:
        return build_with_top(self._row, cast(Path, self._weights()[0]))

    @property
    def _row(self) -> Application:
        return replace(with_top(super()._row), dim=len(imagenet_classes()))
