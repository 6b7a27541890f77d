"""The report of an evaluation as one HTML page that needs no other file."""

import math
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from zeroshot.escaping import escaped
from zeroshot.evaluation.displays import MethodsDisplay
from zeroshot.evaluation.hierarchical_precision import HIERARCHICAL_METRICS
from zeroshot.evaluation.report_split import split_content
from zeroshot.evaluation.result import Evaluation
from zeroshot.evaluation.scored_split import ACCURACIES, OF_SCORES
from zeroshot.evaluation.svg import svg_of

__all__ = ["report_page"]

# Nothing is fetched and nothing runs, whatever a label is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TITLES = ACCURACIES | OF_SCORES
HEADLINES = {
    "unseen_top1": "of the unseen classes among themselves",
    "gzsl_h": "of seen and unseen accuracy, all labels competing",
    "ausuc": "area under the seen-unseen curve",
    "calibration_error": "calibration error of unseen predictions",
    "rejection_auroc": "telling that the right label is not there",
}
DRAWN = {
    "unseen_top1": ("Unseen classes among themselves", "ZSL top-1"),
    "gzsl_h": ("All classes competing", "harmonic mean H"),
}


def report_page(evaluation: Evaluation) -> str:
    """Return an evaluation as a page in HTML that needs no other file.

    Its first method is shown in detail, beside the others; its last is chance. Without
    scores there are no plots of one split, without images no pictures.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return value if isinstance(value, Markup) or value is None else escaped(value)

    folder = files("zeroshot.evaluation")
    environment = Environment(
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    settings, rows = evaluation.settings, evaluation.rows
    n_splits = settings["n_splits"]
    which = f"“{rows[0]['method']}”"
    if n_splits > 1:
        which += f" in split 1 of {n_splits}"
    split = None
    if evaluation.scored is not None:
        split = split_content(evaluation.scored, evaluation.images)
    template = folder.joinpath("report_page.html").read_text(encoding="utf-8")
    style = folder.joinpath("report_style.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=f"Zero-shot evaluation: {settings['backbone']}, {settings['embeddings']}",
        policy=Markup(POLICY),
        style=Markup(style),
        settings=settings,
        rows=rows,
        n_splits=n_splits,
        titles=TITLES,
        hierarchical=HIERARCHICAL_METRICS,
        tiles=list(_tiles(rows, n_splits)),
        methods=list(_methods(evaluation, rows)),
        which=which,
        split=split,
        facts=list(_facts(settings)),
    )


def _tiles(rows: list[dict[str, Any]], n_splits: int) -> Iterator[dict[str, str]]:
    best, chance = rows[0], rows[-1]
    for metric, meaning in HEADLINES.items():
        value, of_chance = best[metric], chance[metric]
        is_measured = not math.isnan(value)
        yield {
            "title": TITLES[metric],
            "value": f"{value:.3f}" if is_measured else "-",
            "spread": f"{best[f'{metric}_std']:.3f}"
            if n_splits > 1 and is_measured
            else "",
            "meaning": meaning
            + ("" if math.isnan(of_chance) else f"; chance {of_chance:.3f}"),
        }


def _methods(
    evaluation: Evaluation, rows: list[dict[str, Any]]
) -> Iterator[tuple[str, str, str]]:
    from markupsafe import Markup

    methods = [row["method"] for row in rows[:-1]]
    for metric, (name, told) in DRAWN.items():
        if all(math.isnan(row[metric]) for row in rows[:-1]):
            continue
        values = [evaluation.results[method][metric] for method in methods]
        display = MethodsDisplay(methods, values, TITLES[metric], rows[-1][metric])
        yield Markup(svg_of(display)), name, told


def _facts(settings: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    for name, value in settings.items():
        if value is None or value == "" or value == []:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        is_code = name.endswith("fingerprint") or name == "projection"
        yield name.replace("_", " "), str(value), is_code
