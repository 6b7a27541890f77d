"""Plots as inline SVG: text in, text out, styled by the page that they stand in.

Written by hand because the usual library, matplotlib, is a large dependency for five
kinds of plot, and its SVG knows neither the page's fonts nor its dark mode. Colours are
classes (``seen``, ``unseen``, ``c0`` to ``c9`` ...) of the report's style sheet.
Everything that is written into a plot is escaped.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.escaping import for_html
from zeroshot.evaluation.plot_parts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    axis,
    frame,
    legend_below,
    round_up,
    shortened,
    svg,
)
from zeroshot.metrics import ReliabilityBins

__all__ = [
    "Line",
    "Mark",
    "Whisker",
    "heat_map",
    "label_map",
    "line_plot",
    "reliability_plot",
    "whisker_plot",
]

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
    parts = [frame(x, y, x_name, y_name)]
    for line in lines:
        parts.append(f'<path class="line {line.style}" d="{_path(line, x, y)}"/>')
    for mark in marks:
        parts.append(
            f'<circle class="mark {mark.style}" cx="{x(mark.x)}" cy="{y(mark.y)}" '
            f'r="5"><title>{for_html(mark.name)}</title></circle>'
        )
    entries = [(line.name, line.style, False) for line in lines if line.name]
    entries += [(mark.name, mark.style, True) for mark in marks if mark.name]
    legend, height = legend_below(entries, HEIGHT + 4)
    return svg(WIDTH, height, description, [*parts, legend])


def reliability_plot(bins: ReliabilityBins, *, description: str) -> str:
    """Draw accuracy over confidence as bars, and below the share of predictions."""
    split = HEIGHT - BOTTOM - 56  # the histogram has the 46 px below
    x = axis(0, 1, LEFT, WIDTH - RIGHT, 6)
    y = axis(0, 1, split, TOP, 6)
    share = bins.counts / bins.counts.sum()
    bars = axis(0, float(share.max()), HEIGHT - BOTTOM, split + 14, 1)
    parts = [frame(x, y, "", "Right"), frame(x, bars, "Confidence", "Share")]
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
            parts.append(
                f'<rect class="{style}" x="{left}" y="{high}" width="{width}" '
                f'height="{round(low - high, 1)}"/>'
            )
        parts.append("</g>")
    parts.append(f'<path class="line even" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    entries = [
        ("right", "bar", True),
        ("gap to the mean confidence", "gap", True),
        ("calibrated", "even", False),
    ]
    legend, height = legend_below(entries, HEIGHT + 4)
    return svg(WIDTH, height, description, [*parts, legend])


def whisker_plot(
    rows: Sequence[Whisker],
    *,
    x_name: str,
    description: str,
    reference: float = math.nan,
) -> str:
    """Draw a row for each method: every measurement, their mean and their spread.

    A line stands at the reference, such as chance, unless that is NaN.
    """
    pitch = 26
    left = min(190, 16 + int(LETTER * max(len(row.name) for row in rows)))
    bottom = TOP + pitch * len(rows)
    largest = max(
        (v for row in rows for v in row.values if not math.isnan(v)), default=1
    )
    x = axis(0, round_up(largest), left, WIDTH - RIGHT, 6)
    parts = [frame(x, Axis(0, 1, bottom, TOP, []), x_name, "")]
    if not math.isnan(reference):
        parts.append(
            f'<path class="line even" d="M{x(reference)} {TOP}V{bottom}">'
            f"<title>chance: {reference:.3f}</title></path>"
        )
    for i, row in enumerate(rows):
        at = TOP + pitch * (i + 0.5)
        name = shortened(row.name, int((left - 12) / LETTER))
        parts.append(
            f'<text class="label end" x="{left - 8}" y="{at + 4}">{for_html(name)}'
            f"<title>{for_html(row.name)}</title></text>"
        )
        if math.isnan(row.mean):
            continue
        low, high = max(0.0, row.mean - row.spread), row.mean + row.spread
        parts.append(
            f'<g class="{row.style}"><title>{for_html(row.name)}: {row.mean:.3f} +- '
            f"{row.spread:.3f}</title>"
            f'<path class="whisker" d="M{x(low)} {at}H{x(high)}"/>'
            + "".join(
                f'<circle class="single" cx="{x(v)}" cy="{at}" r="2.5"/>'
                for v in row.values
            )
            + f'<circle class="mark" cx="{x(row.mean)}" cy="{at}" r="5"/></g>'
        )
    return svg(WIDTH, bottom + 44, description, parts)


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
    parts = [
        f'<rect class="ground" x="{room}" y="{room}" width="{size}" height="{size}"/>'
    ]
    for i, row in enumerate(shares):
        at = room + side * i
        middle = at + side / 2
        parts.append(
            f'<text class="label end" x="{room - 6}" y="{middle + 4}">'
            f"{for_html(names[i])}</text>"
            f'<text class="label" transform="translate({middle + 4} {room - 6}) '
            f'rotate(-90)">{for_html(names[i])}</text>'
        )
        for j in np.flatnonzero(row > 0).tolist():
            share = float(row[j])
            style = "right" if i == j else "wrong"
            parts.append(
                f'<rect class="cell {style}" x="{room + side * j}" y="{at}" '
                f'width="{side - 1}" height="{side - 1}" '
                f'fill-opacity="{0.06 + 0.94 * share:.2f}"><title>'
                f"{for_html(labels[i])} taken for {for_html(labels[j])}: {share:.0%}"
                f"</title></rect>"
            )
    legend = (
        f'<text class="name middle" x="{room + size / 2}" y="{room + size + 22}">'
        f"predicted label, by column; true label, by row</text>"
    )
    return svg(room + size + 8, room + size + 32, description, [*parts, legend], 620)


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
        return np.asarray(
            edge + share * np.array([width - 2 * edge, height - 2 * edge])
        )

    parts = [f'<rect class="ground" width="{width}" height="{height}" rx="6"/>']
    parts += [
        f'<circle class="dot c{label % N_COLORS}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
        f"<title>image of {for_html(names[label])}</title></circle>"
        for (x, y), label in zip(placed(points), classes.tolist(), strict=True)
    ]
    spots = placed(anchors)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    for i, (x, y) in enumerate(spots):
        color = f"c{i % N_COLORS}"
        parts.append(
            f'<rect class="anchor {color}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" '
            f'height="10" transform="rotate(45 {x:.1f} {y:.1f})"><title>label '
            f"{for_html(names[i])}</title></rect>"
        )
        name = shortened(names[i], 24)
        long = 1.15 * LETTER * len(name)  # bold
        for side, left, dx, dy in (
            ("start", 0.0, 9, 4),
            ("end", long, -9, 4),
            ("middle", long / 2, 0, -10),
            ("middle", long / 2, 0, 20),
        ):
            box = (x + dx - left, y + dy - 11, x + dx - left + long, y + dy + 3)
            inside = box[0] >= 2 and box[2] <= width - 2 and box[1] >= 2
            if inside and box[3] <= height - 2 and not _hits(box, taken, i):
                taken.append(box)
                parts.append(
                    f'<text class="anchor-name" text-anchor="{side}" '
                    f'x="{x + dx:.1f}" y="{y + dy:.1f}">'
                    f"{for_html(name)}</text>"
                )
                break
    return svg(width, height, description, parts, width)


def _hits(box: tuple[float, ...], taken: Iterable[tuple[float, ...]], own: int) -> bool:
    return any(
        box[0] < other[2]
        and other[0] < box[2]
        and box[1] < other[3]
        and other[1] < box[3]
        for i, other in enumerate(taken)
        if i != own
    )


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
