"""What the backbones share whose network is a file of some framework."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import BackboneCard, Resize
from zeroshot.backbones.keras.network import (
    LOADING,
    Scaling,
    check_images,
    check_scaling,
    digest_of,
    file_sha256,
    pair_of,
    scale_pixels,
)
from zeroshot.backbones.spec_options import parse_argument, write_argument
from zeroshot.errors import ArtifactError, PluginContractError

__all__ = ["ModelFile", "OpenedModel", "choose", "in_batches", "pooled", "size_of"]

Run = Callable[[NDArray[Any]], NDArray[Any]]


class OpenedModel(NamedTuple):
    """A network that is loaded.

    Attributes
    ----------
    run : callable
        From scaled pixels of shape (n, height, width, 3), float32, to features of shape
        (n, dim). Threads may call it at once.
    input_size : tuple of int
        Height and width.
    """

    run: Run
    input_size: tuple[int, int]


class ModelFile(ABC):
    """A backbone made from a file; a subclass says how the file is opened.

    Parameters
    ----------
    path : path
        The file. Nothing is read before it is needed.
    output : str, optional
        Name of the output that holds the features; needed where there are several.
    scaling : str, optional
        What the network expects of pixels; see
        `zeroshot.backbones.keras.network.Scaling`. Nothing in such a file says it.
    input_size : int or (int, int), optional
        Height and width, in pixels; default is the network's. Required where that
        leaves it open.
    resize : {"crop", "squash"}, default="crop"
        How the core brings an image to size.
    """

    NAME: ClassVar[str]
    OPTIONS: ClassVar[tuple[str, ...]] = ("output", "scaling", "size", "resize")

    _opened: OpenedModel | None = None
    _dim: int | None = None
    _fingerprint: str | None = None

    def __init__(
        self,
        path: str | Path,
        *,
        output: str | None = None,
        scaling: Scaling | None = None,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
    ) -> None:
        self.path = path
        self.output = output
        self.scaling = scaling
        self._input_size = input_size
        self.resize = resize

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
        backbone : ModelFile

        Raises
        ------
        PluginContractError
            If the path is missing or an option is unknown or malformed.
        """
        path, options = parse_argument(name, argument, cls.OPTIONS)
        return cls(path, **options)

    @property
    def spec(self) -> str:
        """Spec string from which an equal backbone is made; its path is absolute."""
        return f"{self.NAME}:{write_argument(self._place(), self._options())}"

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
        return self._load().input_size

    @property
    def card(self) -> BackboneCard:
        """The resize rule; nothing is known of the network's origin."""
        return BackboneCard(resize=self.resize)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would: content and options.

        Raises
        ------
        ArtifactError
            If the file is missing.
        PluginContractError
            If an option has a wrong value.
        """
        if self._fingerprint is None:
            self._check()
            facts = self._options() | {"content": self._content()}
            self._fingerprint = f"{self.NAME}-{digest_of(facts)}"
        return self._fingerprint

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a batch; the first call loads the network.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            RGB, 0 to 255, of `input_size`; ``n`` may be 0.

        Returns
        -------
        features : ndarray of shape (n, dim), float32

        Raises
        ------
        ArtifactError
            If the file is missing or broken.
        InvalidImageError
            If the batch has another shape or type.
        PluginContractError
            If the network takes anything but RGB images, gives no features, or an
            option is missing or wrong.
        """
        run, input_size = self._load()
        check_images(images, input_size, self.name)
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32)
        assert self.scaling is not None  # _check has seen to it
        pixels = scale_pixels(images.astype(np.float32), self.scaling)
        return np.ascontiguousarray(run(np.ascontiguousarray(pixels)), np.float32)

    @abstractmethod
    def _open(self) -> OpenedModel:
        """Load the network."""

    def _content(self) -> str:
        """Return a hash of all that is loaded."""
        return file_sha256(self._file())

    def _options(self) -> dict[str, object]:
        """Return what a spec string says after the path."""
        size = None if self._input_size is None else pair_of(self._input_size)
        named = [option for option in self.OPTIONS if option != "size"]
        return {option: getattr(self, option) for option in named} | {"size": size}

    def _place(self) -> str:
        return str(Path(self.path).expanduser().absolute())

    def _file(self) -> Path:
        path = Path(self._place())
        if not path.is_file():
            raise ArtifactError(
                f"Expected a file for '{self.NAME}'. Got '{self.path}', which is none. "
                f"Check the path."
            )
        return path

    def _load(self) -> OpenedModel:
        with LOADING:
            if self._opened is None:
                self._check()
                self._opened = self._open()
        return self._opened

    def _check(self) -> None:
        if self.scaling is None:
            raise PluginContractError(
                f"Expected scaling= for '{self.path}': what the network was trained "
                f"with is not in the file. Got none. Say 'torch' (most of PyTorch's), "
                f"'tf' (-1 to 1), 'unit' (0 to 1), 'identity' (0 to 255) or 'caffe'; "
                f"in a spec string '{self.NAME}:PATH?scaling=torch'."
            )
        check_scaling(self.scaling)
        if callable(self.scaling) or self.resize not in ("crop", "squash"):
            raise PluginContractError(
                f"Expected scaling by name, and resize 'crop' or 'squash'. Got "
                f"{self.scaling!r} and {self.resize!r}. Choose 'crop' to keep "
                f"proportions, 'squash' to keep the whole image."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, scaling={self.scaling!r})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": None, "_fingerprint": None}

    def __sklearn_clone__(self) -> Self:
        return self


def choose(kind: str, names: Sequence[str], given: str | None, usual: str = "") -> str:
    """Return the name that was given, the only one, or the usual one.

    Parameters
    ----------
    kind : str
        ``"output"`` or ``"signature"``: the option that names one.
    names : sequence of str
        Those that the network has.
    given : str or None
    usual : str, optional
        Taken where it is among several.

    Raises
    ------
    PluginContractError
        If there is no such name, or there are several and none was given.
    """
    if given is None and len(names) == 1:
        return names[0]
    wanted = usual if given is None else given
    if wanted in names:
        return wanted
    raise PluginContractError(
        f"Expected the name of one {kind} of the network. Got "
        f"{'none' if given is None else repr(given)}; it has "
        f"{', '.join(map(repr, names)) or 'none'}. Say {kind}=."
    )


def size_of(
    shape: Sequence[int | None], given: int | tuple[int, int] | None, origin: object
) -> tuple[int, int]:
    """Return the height and width that a network is to be given.

    Parameters
    ----------
    shape : sequence of int or None
        Of its input: (n, height, width, channels); None where it is open.
    given : int, (int, int) or None
        What the user said.
    origin : object
        For the error.

    Raises
    ------
    PluginContractError
        If the input is no RGB image, the size is left open and not given, or given and
        not the network's.
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
            f"for '{origin}'. Leave it out."
        )
    return size


def pooled(output: NDArray[Any], channels: int = -1) -> NDArray[Any]:
    """Return features: (n, dim) as it is, a feature map averaged over its positions.

    Parameters
    ----------
    output : ndarray of shape (n, dim), or 4-D
    channels : int, default=-1
        Axis of the channels of a 4-D output, 1 or -1.

    Raises
    ------
    PluginContractError
        If it has another number of axes.
    """
    if output.ndim == 4:
        positions = (2, 3) if channels == 1 else (1, 2)
        features: NDArray[Any] = output.mean(axis=positions)
        return features
    if output.ndim != 2:
        raise PluginContractError(
            f"Expected an output of shape (n, dim), or a 4-D feature map. Got shape "
            f"{output.shape}. Name another one with output=."
        )
    return output


def in_batches(run: Run, pixels: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """Run a network that takes batches of one size only.

    Parameters
    ----------
    run : callable
    pixels : ndarray of shape (n, ...)
        At least one image.
    batch : int or None
        Its batch size; None where any will do. The last batch is filled with zeros.
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
