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
    """Numbers (from low to high) to pixels (start to stop), and the ticks between."""

    low: float
    high: float
    start: float
    stop: float
    ticks: list[float]

    def __call__(self, value: float) -> float:
        """Return the pixel of a number, rounded to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)


def svg(
    width: float, height: float, description: str, parts: list[str], most: float = WIDTH
) -> str:
    """Return SVG parts as one image that scales with its page, as far as ``most``.

    The description is for those who cannot see it.
    """
    wide = f' style="max-width:{round(min(width, most) * 1.35)}px"'
    return (
        f'<svg role="img" viewBox="0 0 {round(width)} {round(height)}"{wide} '
        f'aria-label="{for_html(description)}">{"".join(parts)}</svg>'
    )


def frame(x: Axis, y: Axis, x_name: str, y_name: str) -> str:
    """Return the grid, the ticks and the names; an unnamed x axis gets no ticks."""
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
    """Return a legend of (name, style, is it a mark and no line), and where it ends."""
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
    """Return an axis with about n ticks, 1, 2 or 5 times a power of ten apart."""
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
    """Return a number as short as its ticks need it."""
    return f"{value:.4g}"


def round_up(value: float) -> float:
    """Return the end, up to 1, of an axis that shows the value with room to spare."""
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if value <= 0.95 * end), 1.0)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters, with dots at its end if it was cut."""
    return text if len(text) <= most else text[: max(1, most - 1)].rstrip() + "…"
