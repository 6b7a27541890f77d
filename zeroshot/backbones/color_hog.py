"""A descriptor without weights: color, oriented gradients and the outline's shape."""

import math
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.base import BackboneCard
from zeroshot.backbones.checked import CheckedBackbone
from zeroshot.backbones.spec_options import parse_size
from zeroshot.errors import PluginContractError

__all__ = ["ColorHOG"]

VERSION = 1  # part of the fingerprint: raise it with every change of the features

HUES = 24
LEVELS = 8  # bins of saturation and of value
ORIENTATIONS = 8
CELLS = 4  # HOG cells along a side
RINGS = 10  # radial bins of the outline
RING_WIDTH = 0.2  # in units of the foreground's root mean square radius
HARMONICS = 9  # 0 to 8: fourfold symmetry shows in 4 and 8, fivefold in 5
LARGEST = 1024  # of a side: an image takes 200 MB there, and time; 64 serves as well
BORDER = 3  # pixels along the edges that are taken as background


class ColorHOG(CheckedBackbone):
    """Color histograms, HOG and a rotation-invariant outline; no weights, no download.

    For trying things offline, for tests and for images of simple objects. On
    photographs a network is far better. Four blocks, each of unit length:

    - soft histograms of hue, saturation and value of the foreground;
    - the same of the whole image;
    - histograms of oriented gradients [1]_ on a 4 x 4 grid of the grey image;
    - the outline: in rings around the foreground's centre, the magnitudes of the
      Fourier coefficients of the foreground over the angle. Moving, turning and
      scaling an object leaves them (nearly) as they are.

    Foreground is what differs in color from a plane fitted to the image's border.

    Parameters
    ----------
    size : int, default=64
        Height and width of the images, in pixels: a multiple of 16, at most 1024.

    References
    ----------
    .. [1] Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection",
       CVPR 2005.

    Examples
    --------
    >>> backbone = ColorHOG()
    >>> backbone.embed(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, backbone.dim)
    True
    """

    def __init__(self, size: int = 64) -> None:
        self.size = size

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make one from ``"color-hog"`` or ``"color-hog:<size>"``.

        Parameters
        ----------
        name : str
            The registered name, for the error.
        argument : str or None
            Size in pixels.

        Returns
        -------
        backbone : ColorHOG

        Raises
        ------
        PluginContractError
            If the argument is no such size.
        """
        if argument is None:
            return cls()
        height, width = parse_size(argument)
        if height != width:
            raise PluginContractError(
                f"Expected '{name}' or '{name}:<size in pixels>'. Got "
                f"'{name}:{argument}'. Write one number, such as '{name}:128'."
            )
        backbone = cls(height)
        _ = backbone.input_size
        return backbone

    @property
    def name(self) -> str:
        """Registry name."""
        return "color-hog"

    @property
    def spec(self) -> str:
        """Spec string from which an equal one can be made."""
        return f"color-hog:{self.size}"

    @property
    def dim(self) -> int:
        """Length of a feature vector; the same for every size."""
        colors = 2 * (HUES + 2 * LEVELS)
        gradients = (CELLS - 1) ** 2 * 4 * ORIENTATIONS
        return colors + gradients + RINGS * HARMONICS

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would."""
        return f"color-hog version {VERSION} size {self.size} {self.card.resize}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels.

        Raises
        ------
        PluginContractError
            If ``size`` is not a multiple of 16 from 16 to 1024.
        """
        is_whole = isinstance(self.size, int | np.integer)
        if not is_whole or self.size not in range(16, LARGEST + 1, 16):
            raise PluginContractError(
                f"Expected a size that is a multiple of 16, from 16 to {LARGEST}, for "
                f"'color-hog'. Got {self.size!r}. Use 64 or 128."
            )
        return (self.size, self.size)

    @property
    def card(self) -> BackboneCard:
        """The backbone's card: no weights, no pretraining."""
        return BackboneCard(
            resize="crop", pretraining="nothing (no weights)", licence="Apache-2.0"
        )

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = np.empty((len(images), self.dim), np.float32)
        for row, image in zip(features, images, strict=True):
            row[:] = _describe(image)
        return features


def _describe(image: NDArray[np.uint8]) -> NDArray[Any]:
    from skimage.feature import hog

    picture = Image.fromarray(image)
    # Pillow's conversion takes a tenth of the time of scikit-image's (0.9 ms).
    hsv = np.asarray(picture.convert("HSV"), np.float32).reshape(-1, 3) / 255
    grey = np.asarray(picture.convert("L"), np.float32) / 255
    foreground = _foreground(image)
    cell = len(image) // CELLS
    blocks = [
        _color_histograms(hsv, foreground),
        _color_histograms(hsv, np.ones_like(foreground)),
        hog(grey, ORIENTATIONS, (cell, cell), (2, 2), block_norm="L2-Hys"),
        _outline(foreground, len(image)),
    ]
    return np.concatenate([_divided(block, np.linalg.norm(block)) for block in blocks])


def _divided(block: NDArray[Any], total: Any) -> NDArray[Any]:
    return block / float(total) if total > 0 else block


def _foreground(image: NDArray[np.uint8]) -> NDArray[Any]:
    """Return 0 (background) to 1 (foreground) for each pixel, flat."""
    plane, border, fit = _plane(len(image))
    flat = image.reshape(-1, 3).astype(np.float32)
    distance = np.linalg.norm(flat - plane @ (fit @ flat[border]), axis=1)
    # Halfway to the most different tenth. Otsu's threshold is no better on
    # `make_shapes`, and slower.
    threshold = max(float(np.quantile(distance, 0.9)) / 2, 1.0)
    # Soft within a quarter of the threshold, so that a pixel's noise changes little.
    return np.asarray(np.clip((distance / threshold - 1) * 2 + 0.5, 0, 1))


@cache
def _plane(size: int) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
    """Return the terms of a plane, which pixels are border, and the least squares."""
    rows, columns = np.mgrid[:size, :size] / (size - 1) - 0.5
    plane = np.stack([np.ones_like(rows), rows, columns], axis=-1).reshape(-1, 3)
    border: NDArray[np.bool_] = np.ones((size, size), bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    border = border.reshape(-1)
    fit = np.linalg.pinv(plane[border])
    return plane.astype(np.float32), border, fit.astype(np.float32)


def _color_histograms(hsv: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    hue, saturation, value = hsv.T
    # The hue of a grey or dark pixel says nothing.
    hues = _soft_histogram(hue * HUES, weight * saturation * value, HUES)
    saturations = _soft_histogram(saturation * (LEVELS - 1), weight, LEVELS)
    values = _soft_histogram(value * (LEVELS - 1), weight, LEVELS)
    # Square roots of shares: Euclidean distance then compares histograms (Hellinger).
    shares = np.concatenate(
        [_divided(each, each.sum()) for each in (hues, saturations, values)]
    )
    return np.asarray(np.sqrt(shares))


def _soft_histogram(
    place: NDArray[Any], weight: NDArray[Any], bins: int
) -> NDArray[Any]:
    """Share each weight between the two nearest bins; the last is beside the first."""
    low = np.floor(place).astype(np.int64)
    above = (place - low) * weight
    return np.bincount(low % bins, weight - above, bins) + np.bincount(
        (low + 1) % bins, above, bins
    )


def _outline(foreground: NDArray[Any], size: int) -> NDArray[Any]:
    """Return (RINGS * HARMONICS) Fourier magnitudes, see `ColorHOG`."""
    inside = np.flatnonzero(foreground)
    mass = foreground[inside]
    total = float(mass.sum())
    if total == 0:
        return np.zeros(RINGS * HARMONICS, np.float32)
    rows, columns = np.divmod(inside, size)
    rows = rows - (mass @ rows) / total
    columns = columns - (mass @ columns) / total
    radius = np.hypot(rows, columns)
    scale = math.sqrt(mass @ radius**2 / total) or 1.0
    rings = radius / (scale * RING_WIDTH) - np.arange(0.5, RINGS)[:, None]
    weights = (np.maximum(1 - np.abs(rings), 0) * mass).astype(np.float32)
    # exp(i k angle) for k = 0, 1, ...: products are 20 times as fast as powers.
    harmonics = np.empty((HARMONICS, len(inside)), np.complex64)
    harmonics[0] = 1
    harmonics[1:] = (columns + 1j * rows) / np.maximum(radius, 1e-6)
    np.cumprod(harmonics, axis=0, out=harmonics)
    # Not by BLAS, whose threads cost more than they save on matrices so small.
    magnitudes = np.abs(np.einsum("rn,kn->rk", weights, harmonics))
    return np.asarray(np.sqrt(magnitudes.ravel() / total))
