"""The report of an evaluation as one HTML page that needs no other file."""

import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from zeroshot.escaping import for_html
from zeroshot.evaluation.hierarchical_precision import CUTOFFS, HIERARCHICAL_METRICS
from zeroshot.evaluation.plots import Whisker, whisker_plot
from zeroshot.evaluation.report_sections import html_table, split_sections
from zeroshot.evaluation.scored_split import ScoredSplit

__all__ = ["ACCURACIES", "OF_SCORES", "report_page"]

# Nothing is fetched and nothing runs, whatever a label is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
ACCURACIES = {
    "unseen_top1": "ZSL top-1",
    "unseen_top5": "ZSL top-5",
    "gzsl_seen": "GZSL seen",
    "gzsl_unseen": "GZSL unseen",
    "gzsl_h": "H",
}
OF_SCORES = {
    "ausuc": "AUSUC",
    "calibration_error": "ECE",
    "rejection_auroc": "AUROC",
    "rejection_fpr95": "FPR95",
}
TITLES = ACCURACIES | OF_SCORES


def report_page(
    results: dict[str, dict[str, list[float]]],
    rows: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    scored: ScoredSplit | None,
    images: Sequence[Any] | None,
) -> str:
    """Return what an `Evaluation` holds as a page in HTML that needs no other file.

    Rows: the method first, chance last. Without ``scored`` there are no plots of one
    split, without images (all evaluated ones) no pictures.
    """
    style = (
        files("zeroshot.evaluation")
        .joinpath("report_style.css")
        .read_text(encoding="utf-8")
    )
    title = f"Zero-shot evaluation: {settings['backbone']}, {settings['embeddings']}"
    sections = [_heading(title, rows, settings), _methods(results, rows, settings)]
    if "hierarchy_nodes" in settings:
        sections.append(_hierarchical_tables(rows, settings))
    if scored is not None:
        method = str(rows[0]["method"])
        which = (
            f"“{method}” in split 1 of {settings['n_splits']}"
            if settings["n_splits"] > 1
            else f"“{method}”"
        )
        sections += split_sections(scored, which, images)
    sections.append(_settings(settings))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{for_html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _heading(
    title: str, rows: Sequence[dict[str, Any]], settings: dict[str, Any]
) -> str:
    best, chance = rows[0], rows[-1]
    said = {
        "unseen_top1": "of the unseen classes among themselves",
        "gzsl_h": "of seen and unseen accuracy, all labels competing",
        "ausuc": "area under the seen-unseen curve",
        "calibration_error": "calibration error of unseen predictions",
        "rejection_auroc": "telling that the right label is not there",
    }
    tiles = "".join(
        f'<div class="tile"><span>{TITLES[metric]}</span>'
        f"<b>{_number(best[metric])}</b>"
        + (
            f"<i>± {best[f'{metric}_std']:.3f}</i>"
            if settings["n_splits"] > 1 and not math.isnan(best[metric])
            else ""
        )
        + f"<small>{meaning}"
        + ("" if math.isnan(chance[metric]) else f"; chance {chance[metric]:.3f}")
        + "</small></div>"
        for metric, meaning in said.items()
    )
    pretrained = (
        f" “Unseen” means unseen by the projection: the backbone was trained on "
        f"{for_html(settings['pretraining'])}, which may have these classes."
        if settings["pretraining"]
        else ""
    )
    spread = (
        f" Figures are means over {settings['n_splits']} splits, ± their standard "
        f"deviation."
        if settings["n_splits"] > 1
        else ""
    )
    n_seen, n_unseen = settings["n_seen"], settings["n_unseen"]
    return (
        f"<header>\n<h1>{for_html(title)}</h1>\n"
        f"<p>{settings['n_images']:,} images of "
        f"{n_seen + n_unseen} classes: {n_seen} seen "
        f"in training, {n_unseen} unseen. Method: "
        f"<code>{for_html(best['method'])}</code>. Accuracies are means over "
        f"classes.{spread}{pretrained}</p>\n"
        f'<div class="tiles">{tiles}</div>\n</header>\n'
    )


def _methods(
    results: dict[str, dict[str, list[float]]],
    rows: Sequence[dict[str, Any]],
    settings: dict[str, Any],
) -> str:
    figures = []
    for metric, caption in (
        ("unseen_top1", "<b>Unseen classes among themselves</b> (ZSL top-1)."),
        ("gzsl_h", "<b>All classes competing</b> (harmonic mean H)."),
    ):
        whiskers = [
            Whisker(
                str(row["method"]),
                row[metric],
                row[f"{metric}_std"],
                results[str(row["method"])][metric],
                "main" if i == 0 else "other",
            )
            for i, row in enumerate(rows[:-1])
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
        figures.append(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>")
    return (
        f"<section>\n<h2>Methods and yardsticks</h2>\n"
        f'<p class="soft">The control has a random vector for each label: what it '
        f"reaches, it reaches without any meaning of the words. Small dots are splits, "
        f"bars one standard deviation.</p>\n"
        f'<div class="pair">{"".join(figures)}</div>\n'
        f"{_table(rows, TITLES, settings['n_splits'])}\n"
        f'<p class="soft">ECE: expected calibration error of unseen classes among '
        f"themselves, lower is better. AUROC and FPR95 (false accepts where 95 % are "
        f"rightly accepted, lower is better): every second unseen label is "
        f"withheld.</p>\n"
        f"</section>\n"
    )


def _hierarchical_tables(
    rows: Sequence[dict[str, Any]], settings: dict[str, Any]
) -> str:
    titles = [f"hp@{k}" for k in CUTOFFS]
    figures = "".join(
        f"<figure>"
        f"{_table(rows, dict(zip(metrics, titles, strict=True)), settings['n_splits'])}"
        f"<figcaption>Images of <b>{kind} classes</b>.</figcaption></figure>"
        for kind, metrics in HIERARCHICAL_METRICS.items()
    )
    return (
        f"<section>\n<h2>How near the answers are</h2>\n"
        f'<p class="soft">Hierarchical precision@k: the share of the k best among all '
        f"labels that are in the correct list, the at least k labels nearest the true "
        f"one in the hierarchy. A mean over images.</p>\n"
        f'<div class="pair">{figures}</div>\n</section>\n'
    )


def _table(
    rows: Sequence[dict[str, Any]], titles: dict[str, str], n_splits: int
) -> str:
    body = [
        [for_html(row["method"]), *(_cell(row, metric, n_splits) for metric in titles)]
        for row in rows
    ]
    return html_table(("method", *titles.values()), body)


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
    return (
        f"<section>\n<h2>What was evaluated</h2>\n"
        f"<dl>{''.join(rows)}</dl>\n</section>\n"
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _cell(row: dict[str, Any], metric: str, n_splits: int) -> str:
    if math.isnan(row[metric]) or n_splits == 1 or row["method"] == "chance":
        return _number(row[metric])
    return f"{row[metric]:.3f} <small>± {row[f'{metric}_std']:.3f}</small>"
