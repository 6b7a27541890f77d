"""What the backbones share whose network is a file of some framework."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import (
    BackboneCard,
    ClassifierHead,
    Resize,
    check_class_list,
)
from zeroshot.backbones.checked import (
    NetworkBackbone,
    Route,
    are_probabilities,
    digest_of,
)
from zeroshot.backbones.class_list import IMAGENET, Classes, class_names
from zeroshot.backbones.dense_layer import dense_layer, log_probabilities
from zeroshot.backbones.keras.conversion import photographs
from zeroshot.backbones.keras.network import (
    PixelScaling,
    check_scaling,
    describe_scaling,
    scale_pixels,
)
from zeroshot.backbones.spec_options import (
    absolute,
    existing_file,
    pair_of,
    parse_argument,
    write_argument,
)
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.per_process import LOADING
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.large_files import file_digest

__all__ = ["ModelFile", "Run", "choose", "in_batches", "pooled", "size_of"]

Run = Callable[[NDArray[Any]], NDArray[Any]]


class ModelFile(NetworkBackbone):
    """A backbone made from a file; a subclass says how the file is read, and with what.

    Nothing is read before it is needed. A function as ``scaling`` must be one that the
    fingerprint can name, see `KerasModel`. The classifier is named by two options that
    say nothing of the features, so they are no part of the fingerprint.
    """

    NAME: ClassVar[str]
    FILE: ClassVar[str]  # what the file must be, for an error
    OPTIONS: ClassVar[tuple[str, ...]] = ("output", "scaling", "size", "resize")
    CLASSIFIER: ClassVar[tuple[str, ...]] = ("logits", "classes")  # options as well
    _OPENED = ("_route", "_head", "_loaded", "_fingerprint")

    _loaded: tuple[Any, tuple[int, int]] | None = None
    _dim: int | None = None
    _fingerprint: str | None = None
    _outputs: Sequence[str] = ()  # names, where they are known
    _option = "output"  # that names the output, for an error

    def __init__(
        self,
        path: str | Path,
        *,
        output: str | None = None,
        scaling: PixelScaling | None = None,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        logits: str | None = None,
        classes: Classes | None = None,
    ) -> None:
        self.path = path
        self.output = output
        self._logits = logits
        self.classes = classes
        self.scaling: Any = scaling
        self._input_size = input_size
        self.resize = resize

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make the backbone that a spec string names; see the notes of the class.

        Raises PluginContractError if the path is missing or an option is unknown or
        malformed.
        """
        path, options = parse_argument(name, argument, cls.OPTIONS + cls.CLASSIFIER)
        return cls(path, **options)

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal backbone is made; its path is absolute.

        None where no string can name it, as where a function scales the pixels, or the
        classes are a list.
        """
        classes = self.classes
        if not isinstance(classes, str | Path | None):
            return None
        if classes is not None and str(classes) != IMAGENET:
            classes = absolute(classes)
        return self._spec_of(self._place(), logits=self._logits, classes=classes)

    def _spec_of(self, place: str, **classifier: object) -> str | None:
        if callable(self.scaling):
            return None
        options = self._options() | classifier
        if self.resize == "crop":
            del options["resize"]
        return f"{self.NAME}:{write_argument(place, options)}"

    @property
    def name(self) -> str:
        """Registry name."""
        return self.NAME

    @property
    def dim(self) -> int:
        """Length of a feature vector; loads the network."""
        if self._dim is None:
            run, size = self._load()
            self._dim = run(np.zeros((1, *size, 3), np.float32)).shape[-1]
        return self._dim

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the images that `embed` is given.

        Loads the network, unless the size was given.
        """
        if self._input_size is not None:
            return pair_of(self._input_size)
        return self._load()[1]

    @property
    def card(self) -> BackboneCard:
        """The resize rule; nothing is known of the network's origin."""
        return BackboneCard(resize=self.resize)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would: content and options.

        Raises ArtifactError if the file is missing; PluginContractError if an option
        has a wrong value.
        """
        if self._fingerprint is None:
            self._check()
            self._fingerprint = f"{self.NAME}-{digest_of(self._facts())}"
        return self._fingerprint

    @abstractmethod
    def _read(self) -> tuple[Any, tuple[int, int]]:
        """Load the network; return a function from scaled pixels, and the input size.

        It takes and gives (n, height, width, 3) and (n, dim), float32; threads and
        forked processes may call it.
        """

    def _open(self) -> Route:
        run, scaling = self._load()[0], self.scaling

        def route(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            pixels = scale_pixels(images.astype(np.float32), scaling)
            return np.ascontiguousarray(run(np.ascontiguousarray(pixels)), np.float32)

        return route

    def _advice(self) -> str:
        if len(self._outputs) > 1:
            return f"Name another output with output=: {', '.join(self._outputs)}"
        return "Export the network again, without its last layers"

    def _read_head(self) -> tuple[ClassifierHead, Route | None]:
        self._check()
        if self._logits is None or self.classes is None:
            raise NoClassifierError(
                f"Expected a backbone whose classifier is named. Got {self!r}, which "
                f"names none. If the file has one, say logits= (the name of its "
                f"output) and classes= ('{IMAGENET}' or a file of names); in a spec "
                f"string '&logits=NAME&classes={IMAGENET}'."
            )
        names = class_names(self.classes)
        whole = self._whole()
        images = photographs(self.input_size)
        scores = whole._plain_route()(images)
        check_class_list(len(names), scores.shape[1])
        features = self.embed(images)
        if features.shape == scores.shape and np.allclose(features, scores):
            raise PluginContractError(
                f"Expected features from before the classifier. Got those of {self!r}, "
                f"which are its output '{self._logits}'. {self._advice()}."
            )
        dense = dense_layer(whole._constants(scores.shape[1]), features, scores)
        if dense is not None:
            return ClassifierHead(names, *dense), None
        head = ClassifierHead(names, None, None)
        if are_probabilities(scores):
            return head, lambda images: log_probabilities(whole.embed(images))
        if ((scores >= 0) & (scores <= 1)).all():
            raise PluginContractError(
                f"Expected logits or their softmax. Got '{self._logits}' of "
                f"'{self._shown}', which gives numbers from 0 to 1 that do not sum to "
                f"1, as a sigmoid does, or a softmax in 8 bits. Name the output before "
                f"it."
            )
        return head, whole.embed

    def _whole(self) -> Self:
        """Return a backbone whose features are the classifier's output."""
        whole = copy.copy(self)  # without what is opened
        whole.output, whole._option = self._logits, "logits"
        whole._logits = whole.classes = whole._dim = None
        whole._is_looked_at = True  # it is a classifier, and may look like one
        return whole

    def _plain_route(self) -> Route:
        """Return a route for a few images, which need not be the fastest."""
        return self._open()

    def _constants(self, n: int) -> Iterable[NDArray[Any]]:
        """Return arrays among which are those of a dense layer to n scores, if any."""
        return ()

    def _facts(self) -> dict[str, object]:
        """Return what the fingerprint covers."""
        scaling = {"scaling": describe_scaling(self.scaling)}
        return self._options() | scaling | {"content": self._content()}

    def _content(self) -> str:
        """Return a hash of all that is loaded."""
        return file_digest(self._file(), "sha256")

    def _options(self) -> dict[str, object]:
        """Return the options, by their names in a spec string."""
        size = None if self._input_size is None else pair_of(self._input_size)
        named = [option for option in self.OPTIONS if option != "size"]
        return {option: getattr(self, option) for option in named} | {"size": size}

    @property
    def _shown(self) -> str:
        """The path for a message."""
        return shown_spec(self.path)

    def _place(self) -> str:
        return absolute(self.path)

    def _file(self) -> Path:
        return existing_file(self.path, f"{self.FILE} for '{self.NAME}'")

    def _load(self) -> tuple[Any, tuple[int, int]]:
        with LOADING():
            if self._loaded is None:
                self._check()
                self._loaded = self._read()
        return self._loaded

    def _check(self) -> None:
        if (self._logits is None) != (self.classes is None):
            lacking = "logits" if self._logits is None else "classes"
            raise PluginContractError(
                f"Expected both logits= and classes=, or neither, for '{self._shown}'. "
                f"Got no {lacking}=. The one names the output of the classifier, the "
                f"other its classes: '{IMAGENET}' or a file with a name on each line."
            )
        if self.scaling is None:
            raise PluginContractError(
                f"Expected scaling= for '{self._shown}': what the network was trained "
                f"with is not in the file. Got none. Say 'torch' (most of PyTorch's), "
                f"'tf' (-1 to 1), 'unit' (0 to 1), 'identity' (0 to 255) or 'caffe'; "
                f"in a spec string '{self.NAME}:PATH?scaling=torch'."
            )
        check_scaling(self.scaling)
        if self.resize not in ("crop", "squash"):
            raise PluginContractError(
                f"Expected resize as 'crop' or 'squash'. Got {self.resize!r}. Choose "
                f"'crop' to keep proportions, 'squash' to keep the whole image."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r}, scaling={self.scaling!r})"


def choose(
    kind: str,
    names: Sequence[str],
    given: str | None,
    usual: str = "",
    option: str | None = None,
) -> str:
    """Return the name that was given, the only one, or the usual one of several.

    ``kind``: what is named. ``option``: that names it, where it is called otherwise.
    Raises PluginContractError if there is no such name, or there are several and none
    was given.
    """
    if given is None and len(names) == 1:
        return names[0]
    wanted = usual if given is None else given
    if wanted in names:
        return wanted
    raise PluginContractError(
        f"Expected the name of one {kind} of the network. Got "
        f"{'none' if given is None else repr(given)}; it has "
        f"{', '.join(map(repr, names)) or 'none'}. Say {option or kind}=."
    )


def size_of(
    shape: Sequence[int | None], given: int | tuple[int, int] | None, origin: object
) -> tuple[int, int]:
    """Return the height and width that a network is to be given.

    ``shape``: of its input, None where it is open. ``given``: by the user. Raises
    PluginContractError if the input is no RGB image, the size is left open and not
    given, or given and not the network's.
    """
    if len(shape) != 4 or shape[3] not in (3, None):
        raise PluginContractError(
            f"Expected a network of RGB images, (n, height, width, 3). Got '{origin}', "
            f"whose input has shape {tuple(shape)}. Use one for images in color."
        )
    own = (shape[1], shape[2])
    if given is None and None in own:
        raise PluginContractError(
            f"Expected input_size for a network of open size. Got '{origin}', whose "
            f"input has shape {tuple(shape)}. Say input_size=224, for example (in a "
            f"spec string: size=224)."
        )
    size = pair_of(own if given is None else given)
    if any(side not in (None, wanted) for side, wanted in zip(own, size, strict=True)):
        raise PluginContractError(
            f"Expected images of the network's own size {own}. Got input_size={given} "
            f"for '{origin}'. Leave input_size out."
        )
    return size


def pooled(output: NDArray[Any], channels: int = -1) -> NDArray[Any]:
    """Return features: (n, dim) as it is, a feature map averaged over its positions.

    ``channels``: axis of the channels of a 4-D output, 1 or -1. Raises
    PluginContractError if it has another number of axes.
    """
    if output.ndim == 4:
        output = output.mean(axis=(2, 3) if channels == 1 else (1, 2))
    if output.ndim != 2:
        raise PluginContractError(
            f"Expected an output of shape (n, dim), or a 4-D feature map. Got shape "
            f"{output.shape}. Name another one with output=."
        )
    return output


def in_batches(run: Run, pixels: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """Run a network on batches of one size, the last filled with zeros; None: of any.

    ``pixels``: (n, ...), at least one image.
    """
    if batch is None:
        return run(pixels)
    parts = []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch]
        filled = np.zeros((batch, *part.shape[1:]), part.dtype)
        filled[: len(part)] = part
        parts.append(run(filled)[: len(part)])
    return np.concatenate(parts)
