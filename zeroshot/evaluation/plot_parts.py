"""Axes, legends and the frame of a plot, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zeroshot.escaping import for_html

__all__ = [
    "Axis",
    "axis",
    "frame",
    "legend_below",
    "number",
    "round_up",
    "shortened",
    "svg",
]

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 46  # room for ticks and names of axes
LETTER = 6.3  # mean width of a letter of 12 px, in px; for room, not for looks


@dataclass(frozen=True)
class Axis:
    """Numbers to pixels, and the ticks between.

    Attributes
    ----------
    low, high : float
        Ends, as numbers.
    start, stop : float
        The same ends, as pixels.
    ticks : list of float
        Numbers to mark.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: list[float]

    def __call__(self, value: float) -> float:
        """Return the pixel of a number, rounded to a tenth.

        Parameters
        ----------
        value : float

        Returns
        -------
        pixel : float
        """
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)


def svg(
    width: float, height: float, description: str, parts: list[str], most: float = WIDTH
) -> str:
    """Return parts as one image that scales with its page.

    Parameters
    ----------
    width, height : float
        Of the drawing, in pixels.
    description : str
        For those who cannot see it.
    parts : list of str
        SVG.
    most : float, default=460
        Width beyond which the image is not scaled up, times 1.35.

    Returns
    -------
    svg : str
    """
    wide = f' style="max-width:{round(min(width, most) * 1.35)}px"'
    return (
        f'<svg role="img" viewBox="0 0 {round(width)} {round(height)}"{wide} '
        f'aria-label="{for_html(description)}">{"".join(parts)}</svg>'
    )


def frame(x: Axis, y: Axis, x_name: str, y_name: str) -> str:
    """Return the grid, the ticks and the names of two axes.

    Parameters
    ----------
    x, y : Axis
    x_name, y_name : str
        An axis without a name of its own gets none, and x no ticks.

    Returns
    -------
    svg : str
    """
    grid = "".join(f"M{x.start} {y(t)}H{x.stop}" for t in y.ticks)
    grid += "".join(f"M{x(t)} {y.start}V{y.stop}" for t in x.ticks)
    parts = [f'<path class="grid" d="{grid}"/>']
    if x_name:
        parts += [
            f'<text class="tick middle" x="{x(t)}" y="{y.start + 16}">'
            f"{number(t)}</text>"
            for t in x.ticks
        ]
        parts.append(
            f'<text class="name middle" x="{(x.start + x.stop) / 2}" '
            f'y="{y.start + 38}">{for_html(x_name)}</text>'
        )
    parts += [
        f'<text class="tick end" x="{x.start - 6}" y="{y(t) + 4}">{number(t)}</text>'
        for t in y.ticks
    ]
    if y_name:
        parts.append(
            f'<text class="name middle" transform="translate(14 '
            f'{(y.start + y.stop) / 2}) rotate(-90)">{for_html(y_name)}</text>'
        )
    return "".join(parts)


def legend_below(
    entries: Sequence[tuple[str, str, bool]], top: float
) -> tuple[str, float]:
    """Return a legend in as many lines as it needs.

    Parameters
    ----------
    entries : sequence of (str, str, bool)
        Name, class of the style sheet, and whether it is a mark and no line.
    top : float
        Where to begin.

    Returns
    -------
    svg : str
    bottom : float
        Where it ends.
    """
    parts, at, y = [], float(LEFT), top + 12
    for name, style, is_mark in entries:
        long = 24 + LETTER * len(name) + 14
        if at + long > WIDTH and at > LEFT:
            at, y = float(LEFT), y + 18
        if is_mark and style in ("bar", "gap"):
            sign = (
                f'<rect class="{style}" x="{at}" y="{y - 10}" width="14" height="12"/>'
            )
        elif is_mark:
            sign = f'<circle class="mark {style}" cx="{at + 8}" cy="{y - 4}" r="5"/>'
        else:
            sign = f'<path class="line {style}" d="M{at} {y - 4}h17"/>'
        parts.append(
            f'{sign}<text class="label" x="{at + 22}" y="{y}">{for_html(name)}</text>'
        )
        at += long
    return "".join(parts), y + 10


def axis(
    low: float, high: float, start: float, stop: float, n: int, whole: bool = False
) -> Axis:
    """Return an axis whose ticks are 1, 2 or 5 times a power of ten apart.

    Parameters
    ----------
    low, high : float
        Ends, ``low < high``.
    start, stop : float
        The same ends, as pixels.
    n : int
        About as many ticks.
    whole : bool, default=False
        Whether ticks are whole numbers.

    Returns
    -------
    axis : Axis
    """
    rough = (high - low) / n
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    if whole:
        step = max(1, round(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    ticks = [round(i * step, 10) for i in range(first, last + 1)]
    return Axis(low, high, start, stop, ticks)


def number(value: float) -> str:
    """Return a number as short as its ticks need it.

    Parameters
    ----------
    value : float

    Returns
    -------
    text : str
    """
    return f"{value:.4g}"


def round_up(value: float) -> float:
    """Return the end of an axis of shares that shows the value with room to spare.

    Parameters
    ----------
    value : float
        In [0, 1].

    Returns
    -------
    end : float
        At most 1.
    """
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if value <= 0.95 * end), 1.0)


def shortened(text: str, most: int) -> str:
    """Return a text, with dots at its end where it was too long.

    Parameters
    ----------
    text : str
    most : int
        Letters, with the dots.

    Returns
    -------
    text : str
    """
    return text if len(text) <= most else text[: max(1, most - 1)].rstrip() + "…"
