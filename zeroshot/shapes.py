"""Drawn images of colored shapes, and the attributes of their words."""

import math
from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zeroshot.errors import LabelError

__all__ = ["COLORS", "SHAPES", "make_shapes", "shape_attributes"]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 25, 30),
    "orange": (250, 130, 10),
    "yellow": (245, 225, 30),
    "green": (35, 150, 50),
    "cyan": (30, 205, 220),
    "blue": (30, 70, 220),
    "purple": (130, 30, 165),
    "pink": (250, 125, 180),
}
"""Color words of `make_shapes`, as RGB 0..255, before jitter."""


def make_shapes(
    n_per_class: int = 20,
    *,
    size: int = 64,
    colors: Sequence[str] | None = None,
    shapes: Sequence[str] | None = None,
    random_state: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Draw labelled images of colored shapes, such as "red star" and "blue ring".

    One shape an image, of any size, place, rotation and shade, on a muted background
    (plain, gradient or stripes), with noise. An image depends on ``random_state``,
    ``size``, its class and its number within the class only: more images, or other
    classes, change none.

    Parameters
    ----------
    n_per_class : int, default=20
        At least 1.
    size : int, default=64
        Height and width in pixels, at least 16.
    colors, shapes : sequence of str, optional
        Keys of `COLORS` and `SHAPES`. Default: all eight. Every combination is a
        class.
    random_state : int, default=0
        Seed, at least 0.

    Returns
    -------
    images : ndarray of shape (n, size, size, 3), uint8
        RGB, class by class: all shapes of the first color first.
    labels : ndarray of shape (n,), str
        ``"<color> <shape>"``.

    Raises
    ------
    LabelError
        If a color or shape is unknown, given twice, or none is given.
    ValueError
        If a number is too small.

    Examples
    --------
    >>> images, labels = make_shapes(2, colors=["red", "blue"], shapes=["star"])
    >>> images.shape, labels.tolist()
    ((4, 64, 64, 3), ['red star', 'red star', 'blue star', 'blue star'])
    """
    if n_per_class < 1 or size < 16 or random_state < 0:
        raise ValueError(
            f"Expected n_per_class >= 1, size >= 16 and random_state >= 0. Got "
            f"{n_per_class}, {size} and {random_state}."
        )
    colors = _check_words("colors", colors, COLORS)
    shapes = _check_words("shapes", shapes, SHAPES)
    images, labels = [], []
    for color in colors:
        for shape in shapes:
            label = f"{color} {shape}"
            for number in range(n_per_class):
                rng = np.random.default_rng(
                    [random_state, crc32(label.encode()), number]
                )
                images.append(_draw(color, shape, size, rng))
                labels.append(label)
    return np.stack(images), np.array(labels)


def shape_attributes() -> tuple[list[str], NDArray[np.float32]]:
    """Return a table of attributes of the color and shape words of `make_shapes`.

    Colors and shapes have columns of their own, so the mean of the vectors of "red"
    and "star" describes a "red star". The columns of colors: red, green and blue
    (-1 to 1), then one column per color. The columns of shapes: number of corners
    (1 - 2 / (2 + corners)), share of the outline that is curved, holes, notches (number
    of inward corners, scaled like the corners), order of rotational symmetry (scaled
    likewise; 1 for the circle), then one column per shape. Every row is then made
    unit length: color and shape weigh the same.

    Returns
    -------
    words : list of str
        Eight colors, eight shapes.
    matrix : ndarray of shape (16, 24), float32
        Unit rows.

    Examples
    --------
    >>> words, matrix = shape_attributes()
    >>> len(words), matrix.shape
    (16, (16, 24))
    """
    colors = np.array(list(COLORS.values())) / 127.5 - 1
    shapes = np.array([_SHAPE_ATTRIBUTES[shape] for shape in SHAPES])
    n_colors, n_shapes = len(colors), len(shapes)
    color_part = np.hstack([colors, np.eye(n_colors)])
    shape_part = np.hstack([shapes, np.eye(n_shapes)])
    matrix = np.zeros(
        (n_colors + n_shapes, color_part.shape[1] + shape_part.shape[1]), np.float32
    )
    matrix[:n_colors, : color_part.shape[1]] = color_part
    matrix[n_colors:, color_part.shape[1] :] = shape_part
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return [*COLORS, *SHAPES], matrix


def _check_words(
    what: str, chosen: Sequence[str] | None, known: Mapping[str, object]
) -> list[str]:
    words = list(known) if chosen is None else list(chosen)
    if not words or len(set(words)) < len(words) or not set(words) <= set(known):
        raise LabelError(
            f"Expected {what} from {', '.join(map(repr, known))}, each once. "
            f"Got {chosen!r}."
        )
    return words


_Point = tuple[float, float]
_Outline = list[_Point]


def _polygon(radii: Sequence[float]) -> _Outline:
    step = 2 * math.pi / len(radii)
    return [
        (r * math.cos(i * step), r * math.sin(i * step)) for i, r in enumerate(radii)
    ]


def _circle(radius: float = 1.0, x: float = 0.0) -> _Outline:
    return [(x + px, py) for px, py in _polygon([radius] * 96)]


def _cross() -> _Outline:
    arm, side = 0.95, 0.3
    corner = [(arm, -side), (arm, side), (side, side)]
    outline: _Outline = []
    for _ in range(4):
        outline += corner
        corner = [(-y, x) for x, y in corner]
    return outline


def _heart() -> _Outline:
    # The usual parametric heart curve, scaled into the unit circle.
    angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles)
    y = y - np.cos(4 * angles)
    return [
        (float(a) / 16.5, float(b + 2.5) / -16.5) for a, b in zip(x, y, strict=True)
    ]


SHAPES: dict[str, tuple[_Outline, _Outline]] = {
    "circle": (_circle(), []),
    "ring": (_circle(), _circle(0.58)),
    "square": (_polygon([1.0] * 4), []),
    "triangle": (_polygon([1.1] * 3), []),
    "star": (_polygon([1.1, 0.44] * 5), []),
    "cross": (_cross(), []),
    "heart": (_heart(), []),
    "crescent": (_circle(), _circle(0.85, 0.5)),
}
"""Shape words of `make_shapes`: the outline in the unit circle, and what is cut out."""

# Corners, curved share, holes, notches, symmetry; see `shape_attributes`.
_SHAPE_ATTRIBUTES = {
    "circle": (0.0, 1.0, 0.0, 0.0, 1.0),
    "ring": (0.0, 1.0, 1.0, 0.0, 1.0),
    "square": (4 / 6, 0.0, 0.0, 0.0, 4 / 6),
    "triangle": (3 / 5, 0.0, 0.0, 0.0, 3 / 5),
    "star": (5 / 7, 0.0, 0.0, 5 / 7, 5 / 7),
    "cross": (8 / 10, 0.0, 0.0, 4 / 6, 4 / 6),
    "heart": (1 / 3, 0.9, 0.0, 1 / 3, 1 / 3),
    "crescent": (2 / 4, 1.0, 0.0, 0.0, 1 / 3),
}

SUPERSAMPLING = 4  # drawn larger, then averaged: smooth edges


def _draw(
    color: str, shape: str, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    # The ranges are chosen by eye: varied, yet each image can be named at 64 pixels.
    radius = size * rng.uniform(0.26, 0.4)
    margin = min(1.1 * radius, size / 2)
    x, y = rng.uniform(margin, size - margin, 2)
    turn = rng.uniform(0, 2 * math.pi)
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    large = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    for outline, fill in zip(SHAPES[shape], (255, 0), strict=True):
        if outline:
            points = [
                (x + cos * px - sin * py, y + sin * px + cos * py) for px, py in outline
            ]
            ImageDraw.Draw(large).polygon(
                [(a * SUPERSAMPLING, b * SUPERSAMPLING) for a, b in points], fill=fill
            )
    mask = np.asarray(large.reduce(SUPERSAMPLING), np.float32)[:, :, None] / 255
    shade = np.array(COLORS[color]) * rng.uniform(0.88, 1.05) + rng.normal(0, 8, 3)
    image = mask * shade + (1 - mask) * _background(size, rng)
    image += rng.normal(0, rng.uniform(2, 8), image.shape)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _background(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    # Muted: the three channels of a tint differ by little, so it has no color's name.
    grey = rng.uniform(40, 225)
    tints = np.clip(grey + rng.uniform(-18, 18, (2, 3)), 0, 255)
    turn = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    along = rows * math.sin(turn) + columns * math.cos(turn)
    kind = rng.integers(3)
    if kind == 0:
        share = np.zeros_like(along)
    elif kind == 1:
        tints[1] = np.clip(tints[1] + rng.choice([-45, 45]), 0, 255)
        share = np.clip(along + 0.5, 0, 1)
    else:
        share = 0.5 + 0.5 * np.sin(2 * math.pi * rng.uniform(2, 5) * along)
    pixels: NDArray[np.float64] = tints[0] + share[:, :, None] * (tints[1] - tints[0])
    return pixels
