"""The parts of a report that show one method in one split, as HTML."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.preprocessing import normalize

from zeroshot.errors import InvalidImageError
from zeroshot.escaping import for_html
from zeroshot.evaluation.plots import (
    Line,
    Mark,
    heat_map,
    label_map,
    line_plot,
    reliability_plot,
    round_up,
    shortened,
)
from zeroshot.evaluation.scored_split import ClassResult, ScoredSplit
from zeroshot.images.sources import read_fitted
from zeroshot.metrics import harmonic_mean, hit_curve
from zeroshot.scoring.ranking import softmax

__all__ = ["figure", "html_table", "section", "split_sections"]

MOST_CELLS = 40  # labels of the confusion matrix
MOST_DOTS = 1200  # images of the map
N_PICTURES, PER_CLASS, THUMBNAIL = 12, 2, 112  # of a sheet; of one class; pixels


def section(title: str, note: str, content: str) -> str:
    """Return a section of a page; all but the title is HTML."""
    soft = f'<p class="soft">{note}</p>\n' if note else ""
    return f"<section>\n<h2>{title}</h2>\n{soft}{content}</section>\n"


def figure(content: str, caption: str) -> str:
    """Return a plot or a table with what is said below it; both are HTML."""
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = ""
) -> str:
    """Return a table, of a class of the style sheet, whose cells are HTML."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows
    )
    style = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{style}><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def split_sections(
    scored: ScoredSplit, which: str, images: Sequence[Any] | None
) -> list[str]:
    """Return the sections that show one split, as HTML; empty without content.

    ``which`` names the method and the split; images, all evaluated ones or None, are
    for the pictures.
    """
    return [
        _unseen(scored, for_html(which)),
        _together(scored, for_html(which)),
        _scores(scored, for_html(which)),
        _map(scored),
        _pictures(scored, images),
    ]


def _unseen(scored: ScoredSplit, which: str) -> str:
    if not scored.of_unseen.any():
        return ""
    classes = [row for row in scored.classes() if not row.seen]
    hits = hit_curve(scored.unseen_scores, scored.unseen_truth)
    n = len(hits)
    curve = line_plot(
        [
            Line("chance", [1, n], [1 / n, 1], "even"),
            Line("hit@k", np.arange(1.0, n + 1), hits, "unseen"),
        ],
        [
            Mark(f"k = {k}: {hits[k - 1]:.3f}", k, float(hits[k - 1]), style)
            for k, style in ((1, "chosen"), (5, "hindsight"))
            if k < max(2, n)
        ],
        x_name="k best of the unseen labels",
        y_name="Share of images with the right one",
        x_range=(1, max(2, n)),
        whole_x=True,
        description=f"Flat hit at k rises from {hits[0]:.3f} at 1 to 1 at {n}",
    )
    hit_figure = figure(curve, "<b>Flat hit@k</b>, share of images.")
    return section(
        "Unseen classes among themselves",
        f"{which}; the candidates are the {n} unseen labels.",
        f"<h3>Every class</h3>\n"
        f'<p class="soft"><span class="key"></span>right among the unseen labels'
        f'<span class="key tick"></span>right among all labels</p>\n'
        f"{_bars(classes)}\n"
        f'<div class="pair">{hit_figure}{_confusion_table(scored)}</div>\n'
        f"{_confusion_map(scored)}",
    )


def _bars(rows: list[ClassResult]) -> str:
    """Return a bar for each class, all seen or all unseen: the best first."""

    def main(row: ClassResult) -> float:
        return row.gzsl if row.seen else row.zsl

    items = []
    for row in sorted(rows, key=lambda row: (-main(row), row.label)):
        name = for_html(row.label)
        alone = "" if row.seen else f"{row.zsl:.3f} among the unseen labels, "
        tick = "" if row.seen else f'<u style="left:{99.5 * row.gzsl:.1f}%"></u>'
        items.append(
            f'<li title="{name}: {alone}{row.gzsl:.3f} among all labels, '
            f'{row.images} images"><span>{name}</span>'
            f'<div><i style="width:{100 * main(row):.1f}%"></i>{tick}</div>'
            f"<b>{main(row):.2f}</b></li>"
        )
    kind = "bars of-seen" if rows[0].seen else "bars"
    return f'<ol class="{kind}">{"".join(items)}</ol>'


def _confusion_table(scored: ScoredSplit) -> str:
    def word(label: str) -> str:
        return (
            f'<span title="{for_html(label)}">{for_html(shortened(label, 30))}</span>'
        )

    rows = [
        [word(row.true), word(row.predicted), f"{row.share:.0%}"]
        for row in scored.confusions()[:12]
    ]
    if not rows:
        return ""
    table = html_table(("true label", "taken for", "share"), rows, "words")
    return figure(table, "<b>Most frequent confusions.</b>")


def _confusion_map(scored: ScoredSplit) -> str:
    shares = scored.confusion_shares()
    n = len(shares)
    if n < 2:
        return ""
    chosen, only = np.arange(n), ""
    if n > MOST_CELLS:
        mistakes = shares.copy()
        np.fill_diagonal(mistakes, 0)
        involved = mistakes.sum(axis=0) + mistakes.sum(axis=1)
        chosen = np.sort(np.argsort(-involved, kind="stable")[:MOST_CELLS])
        only = f" The {MOST_CELLS} of {n} labels with most mistakes."
    vectors = scored.label_points[scored.n_seen :][chosen]
    order = chosen[leaves_list(linkage(vectors, "average", optimal_ordering=True))]
    svg = heat_map(
        shares[np.ix_(order, order)],
        [str(label) for label in scored.labels[scored.n_seen :][order]],
        description="Confusion matrix: which unseen labels are predicted for which",
    )
    return figure(
        svg,
        f"<b>Confusion among the candidates.</b> Labels with near word vectors stand "
        f"together; the stronger the colour, the more of a row's images. Green is "
        f"right.{only}",
    )


def _together(scored: ScoredSplit, which: str) -> str:
    seen_rows = [row for row in scored.classes() if row.seen]
    if not seen_rows:
        return ""
    opened = " open" if len(seen_rows) <= 60 else ""
    return section(
        "Seen and unseen classes together",
        f"{which}; the candidates are all {len(scored.labels)} labels.",
        f"{_curve(scored)}<details{opened}><summary>Every seen class, "
        f"{len(seen_rows)}</summary>{_bars(seen_rows)}</details>\n",
    )


def _curve(scored: ScoredSplit) -> str:
    curve = scored.curve()
    if curve is None:
        return ""
    penalties = {
        "in use": scored.penalty,
        "without a penalty": 0.0,
        "best with hindsight": curve.best_penalty,
    }
    at = {name: curve.at(penalty) for name, penalty in penalties.items()}
    marks = []
    for name, style in (("best with hindsight", "hindsight"), ("in use", "chosen")):
        s, u = at[name]
        marks.append(Mark(f"{name}: H {harmonic_mean(s, u):.3f}", u, s, style))
    svg = line_plot(
        [Line("every penalty", curve.unseen, curve.seen, "seen")],
        marks,
        x_name="Accuracy of unseen classes",
        y_name="Accuracy of seen classes",
        x_range=(0, round_up(float(curve.unseen.max()))),
        y_range=(0, round_up(float(curve.seen.max()))),
        description=f"Seen against unseen accuracy over all penalties, area "
        f"{curve.area:.3f}; in use {at['in use'][0]:.3f} seen and "
        f"{at['in use'][1]:.3f} unseen",
    )
    table = html_table(
        ("penalty", "value", "seen", "unseen", "H"),
        [
            [name, *(f"{x:.3f}" for x in (penalties[name], s, u, harmonic_mean(s, u)))]
            for name, (s, u) in at.items()
        ],
    )
    drawn = figure(svg, f"<b>Seen-unseen curve</b>, area (AUSUC) {curve.area:.3f}.")
    told = figure(
        table,
        "A penalty on the scores of seen classes (calibrated stacking) trades one "
        "accuracy for the other. The one that is best with hindsight was found on "
        "these test images: a bound, not a result.",
    )
    return f'<div class="pair">{drawn}\n{told}</div>\n'


def _scores(scored: ScoredSplit, which: str) -> str:
    figures = _reliability(scored) + _rejection(scored)
    if not figures:
        return ""
    pair = f'<div class="pair">{figures}</div>\n'
    return section("What the scores say", f"{which}.", pair)


def _reliability(scored: ScoredSplit) -> str:
    bins = scored.reliability()
    if bins is None:
        return ""
    svg = reliability_plot(
        bins, description=f"Reliability diagram, calibration error {bins.error:.3f}"
    )
    caption = (
        f"<b>Reliability</b> of unseen classes among themselves: calibration error "
        f"{bins.error:.3f} at temperature {scored.temperature:.3g}."
    )
    default = scored.default_temperature
    before = scored.reliability(default)
    if before is not None and scored.temperature != default:
        caption += f" At the default temperature, {default}: {before.error:.3f}."
    return figure(svg, caption)


def _rejection(scored: ScoredSplit) -> str:
    curve = scored.rejection()
    if curve is None:
        return ""
    rate = curve.false_accepts_at(0.95)
    marks = [Mark(f"FPR95 {rate:.3f}", rate, 0.95, "hindsight")]
    accepts = scored.accept_rates()
    if accepts is not None:
        told = f"in use: {accepts[0]:.0%} rightly, {accepts[1]:.0%} falsely"
        marks.append(Mark(told, accepts[1], accepts[0], "chosen"))
    area = f"{curve.auroc:.3f}"
    svg = line_plot(
        [
            Line("chance", [0, 1], [0, 1], "even"),
            Line(f"AUROC {area}", curve.false_accepts, curve.true_accepts, "unseen"),
        ],
        marks,
        x_name="Accepted, of images whose label is withheld",
        y_name="Accepted, of images whose label is there",
        description=f"Rejection curve, area {area}",
    )
    return figure(
        svg,
        "<b>Rejection.</b> Every second unseen label is withheld from the candidates; "
        "an image is accepted if the best of the others stands out enough from the "
        "seen classes.",
    )


def _map(scored: ScoredSplit) -> str:
    n_seen = scored.n_seen
    images = np.flatnonzero(scored.of_unseen & np.isfinite(scored.points).all(axis=1))
    if len(scored.labels) - n_seen < 3 or len(images) == 0:
        return ""
    if len(images) > MOST_DOTS:
        images = images[np.linspace(0, len(images) - 1, MOST_DOTS).astype(int)]
    labels = normalize(scored.label_points[n_seen:].astype(np.float64))
    points = normalize(scored.points[images].astype(np.float64))
    middle = labels.mean(axis=0)
    _, lengths, axes = np.linalg.svd(labels - middle, full_matrices=False)
    share = float((lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-12))
    svg = label_map(
        (points - points.mean(axis=0)) @ axes[:2].T,
        scored.truth[images] - n_seen,
        (labels - middle) @ axes[:2].T,
        [str(label) for label in scored.labels[n_seen:]],
        description="Map of the images and labels of unseen classes in the text space",
    )
    drawn = figure(
        svg,
        f"Unseen classes: squares are their word vectors, dots of the same colour "
        f"their images (colours repeat). The plane of the two directions in which "
        f"these word vectors differ most, {share:.0%} of their variance; images are "
        f"moved so that the means of both fall together.",
    )
    return section("Images and labels in the text space", "", f"{drawn}\n")


def _pictures(scored: ScoredSplit, images: Sequence[Any] | None) -> str:
    if images is None or not scored.of_unseen.any():
        return ""
    probabilities = softmax(scored.unseen_scores, scored.temperature)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    positions = scored.positions[scored.of_unseen]
    names = scored.labels[scored.n_seen :]
    right = scored.unseen_hits()
    sheets = ""
    for title, said, style, kind in (
        ("Best predictions", "Right, and the surest.", "right", right),
        ("Worst predictions", "Wrong, and the surest.", "wrong", ~right),
    ):
        tiles: list[str] = []
        shown: Counter[int] = Counter()
        for i in np.argsort(np.where(kind, -confidence, np.inf), kind="stable"):
            true = int(scored.unseen_truth[i])
            if len(tiles) == N_PICTURES or not kind[i]:
                break
            if shown[true] == PER_CLASS:
                continue
            picture = _thumbnail(images[positions[i]])
            if picture is None:
                continue
            shown[true] += 1
            name = for_html(names[true])
            told = for_html(f"{names[predicted[i]]}, {confidence[i]:.0%}")
            is_really = f"<small>is {name}</small>" if style == "wrong" else ""
            tiles.append(
                f'<li class="{style}"><img src="{picture}" alt="image of {name}">'
                f"{told}{is_really}</li>"
            )
        if tiles:
            sheets += (
                f'<h3>{title}</h3>\n<p class="soft">{said} At most {PER_CLASS} of a '
                f'class.</p>\n<ul class="sheet">{"".join(tiles)}</ul>\n'
            )
    if not sheets:
        return ""
    return section(
        "Pictures",
        "Images of unseen classes, the candidates being the unseen labels, with the "
        "probability of the answer.",
        sheets,
    )


def _thumbnail(source: Any) -> str | None:
    """Return a small JPEG as a data URI; None if the image cannot be read any more."""
    try:
        pixels = read_fitted(source, (THUMBNAIL, THUMBNAIL))
    except InvalidImageError:
        return None
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
