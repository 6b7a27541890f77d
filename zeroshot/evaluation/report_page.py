"""The report of an evaluation as one HTML page that needs no other file."""

import math
from importlib.resources import files
from typing import Any

from zeroshot.escaping import for_html
from zeroshot.evaluation.hierarchical_precision import HIERARCHICAL_METRICS
from zeroshot.evaluation.plots import Whisker, whisker_plot
from zeroshot.evaluation.report_sections import (
    figure,
    html_table,
    section,
    split_sections,
)
from zeroshot.evaluation.result import Evaluation
from zeroshot.evaluation.scored_split import ACCURACIES, OF_SCORES

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


def report_page(evaluation: Evaluation) -> str:
    """Return an evaluation as a page in HTML that needs no other file.

    Its first method is shown in detail, beside the others; its last is chance. Without
    scores there are no plots of one split, without images no pictures.
    """
    style = files("zeroshot.evaluation").joinpath("report_style.css")
    settings, rows = evaluation.settings, evaluation.rows
    n_splits = settings["n_splits"]
    title = f"Zero-shot evaluation: {settings['backbone']}, {settings['embeddings']}"
    sections = [_heading(title, rows, settings), _methods(evaluation, rows)]
    if "hierarchy_nodes" in settings:
        sections.append(_hierarchical_tables(rows, n_splits))
    if evaluation.scored is not None:
        which = f"“{rows[0]['method']}”"
        if n_splits > 1:
            which += f" in split 1 of {n_splits}"
        sections += split_sections(evaluation.scored, which, evaluation.images)
    sections.append(_settings(settings))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{for_html(title)}</title>\n"
        f"<style>\n{style.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _heading(title: str, rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    best, chance, n_splits = rows[0], rows[-1], settings["n_splits"]
    tiles = []
    for metric, meaning in HEADLINES.items():
        value = f"<b>{_number(best[metric])}</b>"
        if n_splits > 1 and not math.isnan(best[metric]):
            value += f"<i>± {best[f'{metric}_std']:.3f}</i>"
        if not math.isnan(chance[metric]):
            meaning += f"; chance {chance[metric]:.3f}"
        tiles.append(
            f'<div class="tile"><span>{TITLES[metric]}</span>{value}'
            f"<small>{meaning}</small></div>"
        )
    n_seen, n_unseen = settings["n_seen"], settings["n_unseen"]
    told = (
        f"{settings['n_images']:,} images of {n_seen + n_unseen} classes: {n_seen} "
        f"seen in training, {n_unseen} unseen. Method: "
        f"<code>{for_html(best['method'])}</code>. Accuracies are means over classes."
    )
    if n_splits > 1:
        told += (
            f" Figures are means over {n_splits} splits, ± their standard deviation."
        )
    if settings["pretraining"]:
        told += (
            f" “Unseen” means unseen by the projection: the backbone was trained on "
            f"{for_html(settings['pretraining'])}, which may have these classes."
        )
    return (
        f"<header>\n<h1>{for_html(title)}</h1>\n<p>{told}</p>\n"
        f'<div class="tiles">{"".join(tiles)}</div>\n</header>\n'
    )


def _methods(evaluation: Evaluation, rows: list[dict[str, Any]]) -> str:
    figures = []
    for metric, caption in (
        ("unseen_top1", "<b>Unseen classes among themselves</b> (ZSL top-1)."),
        ("gzsl_h", "<b>All classes competing</b> (harmonic mean H)."),
    ):
        whiskers = [
            Whisker(
                row["method"],
                row[metric],
                row[f"{metric}_std"],
                evaluation.results[row["method"]][metric],
                "main" if row is rows[0] else "other",
            )
            for row in rows[:-1]
        ]
        if all(math.isnan(row.mean) for row in whiskers):
            continue
        svg = whisker_plot(
            whiskers,
            x_name=f"{TITLES[metric]} (dashed: chance)",
            description=f"{TITLES[metric]} of every method: "
            + ", ".join(f"{row.name} {_number(row.mean)}" for row in whiskers),
            reference=rows[-1][metric],
        )
        figures.append(figure(svg, caption))
    return section(
        "Methods and yardsticks",
        "The control has a random vector for each label: what it reaches, it reaches "
        "without any meaning of the words. Small dots are splits, bars one standard "
        "deviation.",
        f'<div class="pair">{"".join(figures)}</div>\n'
        f"{_table(rows, TITLES, evaluation.settings['n_splits'])}\n"
        f'<p class="soft">ECE: expected calibration error of unseen classes among '
        f"themselves, lower is better. AUROC and FPR95 (false accepts where 95 % are "
        f"rightly accepted, lower is better): every second unseen label is "
        f"withheld.</p>\n",
    )


def _hierarchical_tables(rows: list[dict[str, Any]], n_splits: int) -> str:
    figures = "".join(
        figure(_table(rows, titles, n_splits), f"Images of <b>{kind} classes</b>.")
        for kind, titles in HIERARCHICAL_METRICS.items()
    )
    return section(
        "How near the answers are",
        "Hierarchical precision@k: the share of the k best among all labels that are "
        "in the correct list, the at least k labels nearest the true one in the "
        "hierarchy. A mean over images.",
        f'<div class="pair">{figures}</div>\n',
    )


def _table(rows: list[dict[str, Any]], titles: dict[str, str], n_splits: int) -> str:
    def cell(row: dict[str, Any], metric: str) -> str:
        if math.isnan(row[metric]) or n_splits == 1 or row["method"] == "chance":
            return _number(row[metric])
        return f"{row[metric]:.3f} <small>± {row[f'{metric}_std']:.3f}</small>"

    return html_table(
        ("method", *titles.values()),
        [
            [for_html(row["method"]), *(cell(row, metric) for metric in titles)]
            for row in rows
        ],
    )


def _settings(settings: dict[str, Any]) -> str:
    rows = []
    for name, value in settings.items():
        if value is None or value == "" or value == []:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        is_code = name.endswith("fingerprint") or name == "projection"
        shown = f"<code>{for_html(value)}</code>" if is_code else for_html(value)
        rows.append(f"<dt>{for_html(name.replace('_', ' '))}</dt><dd>{shown}</dd>")
    return section("What was evaluated", "", f"<dl>{''.join(rows)}</dl>\n")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
