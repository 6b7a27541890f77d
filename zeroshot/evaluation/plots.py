"""Plots as inline SVG: text in, text out, styled by the page that they stand in.

Written by hand because the usual library, matplotlib, is a large dependency for five
kinds of plot, and its SVG knows neither the page's fonts nor its dark mode. Colours are
classes (``seen``, ``unseen``, ``c0`` to ``c9`` ...) of the report's style sheet.
Everything that is written into a plot is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.escaping import for_html
from zeroshot.metrics import ReliabilityBins

__all__ = [
    "Axis",
    "Line",
    "Mark",
    "Whisker",
    "axis",
    "heat_map",
    "label_map",
    "line_plot",
    "reliability_plot",
    "round_up",
    "shortened",
    "whisker_plot",
]

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 46  # room for ticks and names of axes
LETTER = 6.3  # mean width of a letter of 12 px, in px; for room, not for looks
N_COLORS = 10


class Line(NamedTuple):
    """A line; styles are classes of the style sheet. No name: not in the legend."""

    name: str
    x: Sequence[float] | NDArray[np.float64]
    y: Sequence[float] | NDArray[np.float64]
    style: str


class Mark(NamedTuple):
    """A point with a name for the legend."""

    name: str
    x: float
    y: float
    style: str


class Whisker(NamedTuple):
    """A row of `whisker_plot`: NaN where nothing was measured."""

    name: str
    mean: float
    spread: float
    values: Sequence[float]
    style: str


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


def line_plot(
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    *,
    x_name: str,
    y_name: str,
    description: str,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
    whole_x: bool = False,
) -> str:
    """Draw lines (NaN breaks one), then marks, over two axes, with a legend below."""
    x = axis(*x_range, LEFT, WIDTH - RIGHT, 6, whole_x)
    y = axis(*y_range, HEIGHT - BOTTOM, TOP, 6)
    parts = [_frame(x, y, x_name, y_name)]
    for line in lines:
        parts.append(_element("path", f"line {line.style}", d=_path(line, x, y)))
    for mark in marks:
        at = {"cx": x(mark.x), "cy": y(mark.y)}
        parts.append(
            _element("circle", f"mark {mark.style}", told=mark.name, **at, r=5)
        )
    entries = [(line.name, line.style, False) for line in lines if line.name]
    entries += [(mark.name, mark.style, True) for mark in marks if mark.name]
    legend, height = _legend_below(entries, HEIGHT + 4)
    return _svg(WIDTH, height, description, [*parts, legend])


def reliability_plot(bins: ReliabilityBins, *, description: str) -> str:
    """Draw accuracy over confidence as bars, and below the share of predictions."""
    split = HEIGHT - BOTTOM - 56  # the histogram has the 46 px below
    x = axis(0, 1, LEFT, WIDTH - RIGHT, 6)
    y = axis(0, 1, split, TOP, 6)
    share = bins.counts / bins.counts.sum()
    bars = axis(0, float(share.max()), HEIGHT - BOTTOM, split + 14, 1)
    parts = [_frame(x, y, "", "Right"), _frame(x, bars, "Confidence", "Share")]
    for i in np.flatnonzero(bins.counts).tolist():
        confidence, accuracy = bins.confidence[i], bins.accuracy[i]
        left = x(bins.edges[i]) + 0.5
        width = round(x(bins.edges[i + 1]) - 0.5 - left, 1)
        parts.append(
            f"<g><title>{bins.counts[i]} predictions, mean confidence "
            f"{confidence:.3f}, right {accuracy:.3f}</title>"
        )
        top, middle = y(accuracy), y(confidence)
        for style, high, low in (
            ("bar", top, split),
            ("gap", min(top, middle), max(top, middle)),
            ("bar", bars(share[i]), HEIGHT - BOTTOM),
        ):
            height = round(low - high, 1)
            parts.append(
                _element("rect", style, x=left, y=high, width=width, height=height)
            )
        parts.append("</g>")
    parts.append(_element("path", "line even", d=f"M{x(0)} {y(0)}L{x(1)} {y(1)}"))
    entries = [
        ("right", "bar", True),
        ("gap to the mean confidence", "gap", True),
        ("calibrated", "even", False),
    ]
    legend, height = _legend_below(entries, HEIGHT + 4)
    return _svg(WIDTH, height, description, [*parts, legend])


def whisker_plot(
    rows: Sequence[Whisker], *, x_name: str, description: str, reference: float
) -> str:
    """Draw a row for each method: every measurement, their mean and their spread.

    A line stands at the reference, such as chance, unless that is NaN.
    """
    pitch = 26
    left = min(190, 16 + int(LETTER * max(len(row.name) for row in rows)))
    bottom = TOP + pitch * len(rows)
    values = [v for row in rows for v in row.values if not math.isnan(v)]
    x = axis(0, round_up(max(values, default=1)), left, WIDTH - RIGHT, 6)
    parts = [_frame(x, Axis(0, 1, bottom, TOP, []), x_name, "")]
    if not math.isnan(reference):
        line, told = f"M{x(reference)} {TOP}V{bottom}", f"chance: {reference:.3f}"
        parts.append(_element("path", "line even", told=told, d=line))
    for i, row in enumerate(rows):
        at = TOP + pitch * (i + 0.5)
        name = shortened(row.name, int((left - 12) / LETTER))
        spot = {"x": left - 8, "y": at + 4}
        parts.append(_element("text", "label end", text=name, told=row.name, **spot))
        if math.isnan(row.mean):
            continue
        low, high = max(0.0, row.mean - row.spread), row.mean + row.spread
        told = f"{for_html(row.name)}: {row.mean:.3f} +- {row.spread:.3f}"
        parts += [
            f'<g class="{row.style}"><title>{told}</title>',
            _element("path", "whisker", d=f"M{x(low)} {at}H{x(high)}"),
            *(_element("circle", "single", cx=x(v), cy=at, r=2.5) for v in row.values),
            _element("circle", "mark", cx=x(row.mean), cy=at, r=5),
            "</g>",
        ]
    return _svg(WIDTH, bottom + 44, description, parts)


def heat_map(
    shares: NDArray[np.float64], labels: Sequence[str], *, description: str
) -> str:
    """Draw which labels are predicted for which: a row for each true label.

    Shares, (n, n), are of the images of the row's label that get the column's.
    """
    names = [shortened(label, 22) for label in labels]
    room = 16 + int(1.1 * LETTER * max(map(len, names)))
    side = max(13, min(34, 560 // len(names)))
    size = side * len(names)
    parts = [_element("rect", "ground", x=room, y=room, width=size, height=size)]
    for i, row in enumerate(shares):
        at = room + side * i
        middle = at + side / 2
        turned = f"translate({middle + 4} {room - 6}) rotate(-90)"
        parts += [
            _element("text", "label end", text=names[i], x=room - 6, y=middle + 4),
            _element("text", "label", text=names[i], transform=turned),
        ]
        for j in np.flatnonzero(row > 0).tolist():
            cell = _element(
                "rect",
                "cell right" if i == j else "cell wrong",
                told=f"{labels[i]} taken for {labels[j]}: {row[j]:.0%}",
                x=room + side * j,
                y=at,
                width=side - 1,
                height=side - 1,
                fill_opacity=f"{0.06 + 0.94 * row[j]:.2f}",
            )
            parts.append(cell)
    told = "predicted label, by column; true label, by row"
    x, y = room + size / 2, room + size + 22
    parts.append(_element("text", "name middle", text=told, x=x, y=y))
    return _svg(room + size + 8, room + size + 32, description, parts, 620)


def label_map(
    points: NDArray[np.float64],
    classes: NDArray[np.intp],
    anchors: NDArray[np.float64],
    names: Sequence[str],
    *,
    description: str,
) -> str:
    """Draw images, (n, 2), as dots and labels, (m, 2), as names on the same plane.

    Classes are the rows of anchors of the images' labels; they give the colour. A name
    that would overlap another is left out; its mark has it.
    """
    width, height, edge = 920, 560, 26
    everything = np.concatenate([points, anchors])
    low, high = everything.min(axis=0), everything.max(axis=0)
    extent = np.where(high > low, high - low, 1)

    def placed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (rows - low) / extent
        share[:, 1] = 1 - share[:, 1]
        return np.asarray(edge + share * [width - 2 * edge, height - 2 * edge])

    parts = [_element("rect", "ground", width=width, height=height, rx=6)]
    for (x, y), label in zip(placed(points), classes.tolist(), strict=True):
        style, told = f"dot c{label % N_COLORS}", f"image of {names[label]}"
        spot = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
        parts.append(_element("circle", style, told=told, **spot, r=3))
    spots = placed(anchors)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    for i, (x, y) in enumerate(spots):
        mark = _element(
            "rect",
            f"anchor c{i % N_COLORS}",
            told=f"label {names[i]}",
            x=f"{x - 5:.1f}",
            y=f"{y - 5:.1f}",
            width=10,
            height=10,
            transform=f"rotate(45 {x:.1f} {y:.1f})",
        )
        parts.append(mark)
        name = shortened(names[i], 24)
        long = 1.15 * LETTER * len(name)  # bold
        for side, left, dx, dy in (
            ("start", 0.0, 9, 4),
            ("end", long, -9, 4),
            ("middle", long / 2, 0, -10),
            ("middle", long / 2, 0, 20),
        ):
            box = (x + dx - left, y + dy - 11, x + dx - left + long, y + dy + 3)
            across = box[0] >= 2 and box[2] <= width - 2
            inside = across and box[1] >= 2 and box[3] <= height - 2
            others = [*taken[:i], *taken[i + 1 :]]
            if inside and not any(_overlap(box, other) for other in others):
                taken.append(box)
                spot = {"x": f"{x + dx:.1f}", "y": f"{y + dy:.1f}"}
                parts.append(
                    _element("text", "anchor-name", text=name, text_anchor=side, **spot)
                )
                break
    return _svg(width, height, description, parts, width)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _path(line: Line, x: Axis, y: Axis) -> str:
    """Return the line, without points nearer than half a pixel to the last one."""
    parts: list[str] = []
    last, pen = (math.inf, math.inf), "M"
    pairs = list(zip(line.x, line.y, strict=True))
    for i, (a, b) in enumerate(pairs):
        if math.isnan(a) or math.isnan(b):
            pen = "M"
            continue
        spot = x(a), y(b)
        near = max(abs(spot[0] - last[0]), abs(spot[1] - last[1])) < 0.5
        if pen == "M" or not near or i == len(pairs) - 1:
            parts.append(f"{pen}{spot[0]} {spot[1]}")
            last, pen = spot, "L"
    return "".join(parts)


def _element(
    name: str, style: str, *, text: object = "", told: str = "", **attributes: object
) -> str:
    """Return an element of a class of the style sheet; its texts get escaped.

    A pointer on the element shows what is told. Attributes are written as they are,
    with a hyphen for an underscore.
    """
    given = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    content = for_html(text) + (f"<title>{for_html(told)}</title>" if told else "")
    end = f">{content}</{name}>" if content else "/>"
    return f'<{name} class="{style}"{given}{end}'


def _svg(
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


def _frame(x: Axis, y: Axis, x_name: str, y_name: str) -> str:
    """Return the grid, the ticks and the names; an unnamed x axis gets no ticks."""
    grid = "".join(f"M{x.start} {y(t)}H{x.stop}" for t in y.ticks)
    grid += "".join(f"M{x(t)} {y.start}V{y.stop}" for t in x.ticks)
    parts = [_element("path", "grid", d=grid)]
    if x_name:
        parts += [
            _element("text", "tick middle", text=f"{t:.4g}", x=x(t), y=y.start + 16)
            for t in x.ticks
        ]
        middle = (x.start + x.stop) / 2
        parts.append(
            _element("text", "name middle", text=x_name, x=middle, y=y.start + 38)
        )
    parts += [
        _element("text", "tick end", text=f"{t:.4g}", x=x.start - 6, y=y(t) + 4)
        for t in y.ticks
    ]
    if y_name:
        turned = f"translate(14 {(y.start + y.stop) / 2}) rotate(-90)"
        parts.append(_element("text", "name middle", text=y_name, transform=turned))
    return "".join(parts)


def _legend_below(
    entries: Sequence[tuple[str, str, bool]], top: float
) -> tuple[str, float]:
    """Return a legend of (name, style, is it a mark and no line), and where it ends."""
    parts, at, y = [], float(LEFT), top + 12
    for name, style, is_mark in entries:
        long = 24 + LETTER * len(name) + 14
        if at + long > WIDTH and at > LEFT:
            at, y = float(LEFT), y + 18
        if is_mark and style in ("bar", "gap"):
            parts.append(_element("rect", style, x=at, y=y - 10, width=14, height=12))
        elif is_mark:
            parts.append(_element("circle", f"mark {style}", cx=at + 8, cy=y - 4, r=5))
        else:
            parts.append(_element("path", f"line {style}", d=f"M{at} {y - 4}h17"))
        parts.append(_element("text", "label", text=name, x=at + 22, y=y))
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


def round_up(value: float) -> float:
    """Return the end, up to 1, of an axis that shows the value with room to spare."""
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if value <= 0.95 * end), 1.0)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters, with dots at its end if it was cut."""
    return text if len(text) <= most else text[: max(1, most - 1)].rstrip() + "…"
