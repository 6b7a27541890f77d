"""A plot as part of a page: SVG without references, in the colours of its style."""

import io
import re
from typing import Any

from zeroshot.escaping import for_html

__all__ = ["COLORS", "svg_of"]

# Of the report's style sheet, which has a dark form of each.
COLORS = {
    "--ink": "#1d2430",
    "--soft": "#5a6472",
    "--grid": "#e6e9ee",
    "--ground": "#f6f7f9",
    "--seen": "#2f6db3",
    "--unseen": "#c8601a",
    "--good": "#23804d",
    "--bad": "#c0313b",
    "--plain": "#7a8594",
    "--c2": "#2e8b57",
    "--c4": "#7d55b5",
    "--c5": "#8c6239",
    "--c6": "#c2559b",
    "--c7": "#66737f",
    "--c8": "#9a8a12",
    "--c9": "#1b95a5",
}


def svg_of(display: Any) -> str:
    """Return a display as SVG that stands in a page, with the colours of its style.

    Parameters
    ----------
    display : object
        One of `zeroshot.evaluation.displays`.

    Returns
    -------
    svg : str
        One element, without references to anything outside.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=display.size, layout="constrained", facecolor="none")
    ax = figure.subplots()
    display.plot(ax)
    ax.set_facecolor("none")
    ax.tick_params(colors=COLORS["--soft"])
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(COLORS["--soft"])
    legend = ax.get_legend()
    for text in (*ax.texts, *(legend.get_texts() if legend is not None else ())):
        text.set_color(COLORS["--ink"])
    written = io.StringIO()
    # Text stays text, and the same numbers make the same page.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "zeroshot"}
    with mpl.rc_context(settings):
        figure.savefig(written, format="svg", metadata={"Date": None})
    _, _, svg = written.getvalue().partition("<svg")
    # Its style would be that of the whole page.
    for element in ("metadata", "style"):
        svg = re.sub(rf"<{element}.*?</{element}>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    named = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] * (m[1] in named), svg)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var({name})")
    width = round(96 * display.size[0] * 1.1)
    told = for_html(display.description)
    return (
        f'<svg role="img" aria-label="{told}" style="max-width:{width}px" '
        f"{re.sub(r'(width|height)=.[0-9.]+pt. ', '', svg).strip()}"
    )
