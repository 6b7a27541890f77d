"""The parts of a report that show one method in one split, as HTML."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage

from zeroshot.errors import InvalidImageError
from zeroshot.escaping import for_html
from zeroshot.evaluation.plot_parts import round_up, shortened
from zeroshot.evaluation.plots import (
    Line,
    Mark,
    heat_map,
    label_map,
    line_plot,
    reliability_plot,
)
from zeroshot.evaluation.scored_split import ClassResult, ScoredSplit
from zeroshot.images.sources import read_fitted
from zeroshot.metrics import harmonic_mean, hit_curve
from zeroshot.scoring.ranking import softmax
from zeroshot.scoring.settings import DEFAULT_TEMPERATURE

__all__ = ["html_table", "split_sections"]

MOST_CELLS = 40  # labels of the confusion matrix
MOST_DOTS = 1200  # images of the map
N_PICTURES, PER_CLASS, THUMBNAIL = 12, 2, 112  # of a sheet; of one class; pixels


def split_sections(
    scored: ScoredSplit, which: str, images: Sequence[Any] | None
) -> list[str]:
    """Return the sections that show one split, as HTML; empty without content.

    ``which`` names the method and the split; images, all evaluated ones or None, are
    for the pictures.
    """
    return [
        _unseen(scored, which),
        _together(scored, which),
        _scores(scored, which),
        _map(scored),
        _pictures(scored, images),
    ]


def _unseen(scored: ScoredSplit, which: str) -> str:
    if not scored.of_unseen.any():
        return ""
    classes = [row for row in scored.classes() if not row.seen]
    hits = hit_curve(scored.unseen_scores, scored.unseen_truth)
    n = len(hits)
    ks = np.arange(1.0, n + 1)
    curve = line_plot(
        [
            Line("chance", [1, n], [1 / n, 1], "even"),
            Line("hit@k", ks, hits, "unseen"),
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
    return (
        f"<section>\n<h2>Unseen classes among themselves</h2>\n"
        f'<p class="soft">{for_html(which)}; the candidates are the {n} unseen '
        f"labels.</p>\n"
        f"<h3>Every class</h3>\n"
        f'<p class="soft"><span class="key"></span>right among the unseen labels'
        f'<span class="key tick"></span>right among all labels</p>\n'
        f"{_bars(classes)}\n"
        f'<div class="pair"><figure>{curve}<figcaption><b>Flat hit@k</b>, share of '
        f"images.</figcaption></figure>{_confusion_table(scored)}</div>\n"
        f"{_confusion_map(scored)}</section>\n"
    )


def _bars(rows: list[ClassResult]) -> str:
    """Return a bar for each class, all seen or all unseen: the best first."""

    def main(row: ClassResult) -> float:
        return row.gzsl if row.seen else row.zsl

    items = []
    for row in sorted(rows, key=lambda row: (-main(row), str(row.label))):
        name = for_html(row.label)
        alone = "" if row.seen else f"{row.zsl:.3f} among the unseen labels, "
        tick = "" if row.seen else f'<u style="left:{99.5 * row.gzsl:.1f}%"></u>'
        items.append(
            f'<li title="{name}: {alone}{row.gzsl:.3f} among all labels, '
            f'{row.n_images} images"><span>{name}</span>'
            f'<div><i style="width:{100 * main(row):.1f}%"></i>{tick}</div>'
            f"<b>{main(row):.2f}</b></li>"
        )
    kind = "bars of-seen" if rows[0].seen else "bars"
    return f'<ol class="{kind}">{"".join(items)}</ol>'


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


def _confusion_table(scored: ScoredSplit) -> str:
    rows = [
        [_word(row.true), _word(row.predicted), f"{row.share:.0%}"]
        for row in scored.confusions()[:12]
    ]
    if not rows:
        return ""
    table = html_table(("true label", "taken for", "share"), rows, "words")
    return (
        f"<figure>{table}<figcaption><b>Most frequent confusions.</b></figcaption>"
        f"</figure>"
    )


def _word(label: Any) -> str:
    name, short = for_html(label), for_html(shortened(str(label), 30))
    return f'<span title="{name}">{short}</span>'


def _confusion_map(scored: ScoredSplit) -> str:
    shares = scored.confusion_shares()
    n = len(shares)
    if n < 2:
        return ""
    chosen = np.arange(n)
    if n > MOST_CELLS:
        mistakes = shares.copy()
        np.fill_diagonal(mistakes, 0)
        involved = mistakes.sum(axis=0) + mistakes.sum(axis=1)
        chosen = np.sort(np.argsort(-involved, kind="stable")[:MOST_CELLS])
    vectors = scored.label_points[scored.n_seen :][chosen]
    order = chosen[leaves_list(linkage(vectors, "average", optimal_ordering=True))]
    labels = [str(scored.labels[scored.n_seen + i]) for i in order]
    svg = heat_map(
        shares[np.ix_(order, order)],
        labels,
        description="Confusion matrix: which unseen labels are predicted for which",
    )
    only = (
        f" The {MOST_CELLS} of {n} labels with most mistakes." if n > MOST_CELLS else ""
    )
    return (
        f"<figure>{svg}<figcaption><b>Confusion among the candidates.</b> Labels with "
        f"near word vectors stand together; the stronger the colour, the more of a "
        f"row's images. "
        f"Green is right.{only}</figcaption></figure>"
    )


def _together(scored: ScoredSplit, which: str) -> str:
    curve = scored.curve()
    seen_rows = [row for row in scored.classes() if row.seen]
    if not seen_rows:
        return ""
    figure = ""
    if curve is not None:
        s, u = curve.at(scored.penalty)
        best_s, best_u = curve.at(curve.best_penalty)
        h, best_h = harmonic_mean(s, u), harmonic_mean(best_s, best_u)
        svg = line_plot(
            [Line("every penalty", curve.unseen, curve.seen, "seen")],
            [
                Mark(
                    f"best with hindsight: H {best_h:.3f}", best_u, best_s, "hindsight"
                ),
                Mark(f"in use: H {h:.3f}", u, s, "chosen"),
            ],
            x_name="Accuracy of unseen classes",
            y_name="Accuracy of seen classes",
            x_range=(0, round_up(float(curve.unseen.max()))),
            y_range=(0, round_up(float(curve.seen.max()))),
            description=f"Seen against unseen accuracy over all penalties, area "
            f"{curve.area:.3f}; in use {s:.3f} seen and {u:.3f} unseen",
        )
        s0, u0 = curve.at(0.0)
        table = html_table(
            ("penalty", "value", "seen", "unseen", "H"),
            [
                [name, *(f"{x:.3f}" for x in (penalty, a, b, harmonic_mean(a, b)))]
                for name, penalty, a, b in (
                    ("in use", scored.penalty, s, u),
                    ("without a penalty", 0.0, s0, u0),
                    ("best with hindsight", curve.best_penalty, best_s, best_u),
                )
            ],
        )
        figure = (
            f'<div class="pair"><figure>{svg}<figcaption><b>Seen-unseen curve</b>, '
            f"area (AUSUC) {curve.area:.3f}.</figcaption></figure>\n"
            f"<figure>{table}<figcaption>A penalty on the scores "
            f"of seen classes (calibrated stacking) trades one accuracy for the other. "
            f"The one that is best with hindsight was found on these test images: a "
            f"bound, not a result.</figcaption></figure>"
            f"</div>\n"
        )
    opened = " open" if len(seen_rows) <= 60 else ""
    return (
        f"<section>\n<h2>Seen and unseen classes together</h2>\n"
        f'<p class="soft">{for_html(which)}; the candidates are all '
        f"{len(scored.labels)} labels.</p>\n{figure}"
        f"<details{opened}><summary>Every seen class, {len(seen_rows)}</summary>"
        f"{_bars(seen_rows)}</details>\n</section>\n"
    )


def _scores(scored: ScoredSplit, which: str) -> str:
    figures = []
    bins = scored.reliability()
    if bins is not None:
        svg = reliability_plot(
            bins.edges,
            bins.counts,
            bins.confidence,
            bins.accuracy,
            description=f"Reliability diagram, calibration error {bins.error:.3f}",
        )
        before = scored.reliability(DEFAULT_TEMPERATURE)
        compared = (
            f" At the default temperature, {DEFAULT_TEMPERATURE}: {before.error:.3f}."
            if before is not None and scored.temperature != DEFAULT_TEMPERATURE
            else ""
        )
        figures.append(
            f"<figure>{svg}<figcaption><b>Reliability</b> of unseen classes among "
            f"themselves: calibration error {bins.error:.3f} at temperature "
            f"{scored.temperature:.3g}.{compared}</figcaption></figure>"
        )
    rejection = scored.rejection()
    if rejection is not None:
        rate = rejection.false_accepts_at(0.95)
        marks = [Mark(f"FPR95 {rate:.3f}", rate, 0.95, "hindsight")]
        accepts = scored.accept_rates()
        if accepts is not None:
            told = f"in use: {accepts[0]:.0%} rightly, {accepts[1]:.0%} falsely"
            marks.append(Mark(told, accepts[1], accepts[0], "chosen"))
        svg = line_plot(
            [
                Line("chance", [0, 1], [0, 1], "even"),
                Line(
                    f"AUROC {rejection.auroc:.3f}",
                    rejection.false_accepts,
                    rejection.true_accepts,
                    "unseen",
                ),
            ],
            marks,
            x_name="Accepted, of images whose label is withheld",
            y_name="Accepted, of images whose label is there",
            description=f"Rejection curve, area {rejection.auroc:.3f}",
        )
        figures.append(
            f"<figure>{svg}<figcaption><b>Rejection.</b> Every second unseen label is "
            f"withheld from the candidates; an image is accepted if the best of the "
            f"others stands out enough from the seen classes.</figcaption></figure>"
        )
    if not figures:
        return ""
    return (
        f"<section>\n<h2>What the scores say</h2>\n"
        f'<p class="soft">{for_html(which)}.</p>\n'
        f'<div class="pair">{"".join(figures)}</div>\n</section>\n'
    )


def _map(scored: ScoredSplit) -> str:
    n_seen, n = scored.n_seen, len(scored.labels)
    images = np.flatnonzero(scored.of_unseen & np.isfinite(scored.points).all(axis=1))
    if n - n_seen < 3 or len(images) == 0:
        return ""
    if len(images) > MOST_DOTS:
        images = images[np.linspace(0, len(images) - 1, MOST_DOTS).astype(int)]
    labels, points = _unit(scored.label_points), _unit(scored.points[images])
    middle = labels[n_seen:].mean(axis=0)
    _, lengths, axes = np.linalg.svd(labels[n_seen:] - middle, full_matrices=False)
    share = float((lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-12))
    svg = label_map(
        (points - points.mean(axis=0)) @ axes[:2].T,
        scored.truth[images] - n_seen,
        (labels[n_seen:] - middle) @ axes[:2].T,
        [str(label) for label in scored.labels[n_seen:]],
        description="Map of the images and labels of unseen classes in the text space",
    )
    return (
        f"<section>\n<h2>Images and labels in the text space</h2>\n<figure>{svg}"
        f"<figcaption>Unseen classes: squares are their word vectors, dots of the same "
        f"colour their images (colours repeat). The plane of the two directions in "
        f"which these word vectors differ most, {share:.0%} of their variance; images "
        f"are moved so that the means of both fall together.</figcaption></figure>\n"
        f"</section>\n"
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return np.asarray(
        exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    )


def _pictures(scored: ScoredSplit, images: Sequence[Any] | None) -> str:
    if images is None or not scored.of_unseen.any():
        return ""
    probabilities = softmax(scored.unseen_scores, scored.temperature)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    right = scored.unseen_hits()
    positions = scored.positions[scored.of_unseen]
    names = scored.labels[scored.n_seen :]
    sheets = []
    for title, said, kind in (
        ("Best predictions", "Right, and the surest.", right),
        ("Worst predictions", "Wrong, and the surest.", ~right),
    ):
        tiles: list[str] = []
        shown: dict[int, int] = {}
        for i in np.argsort(np.where(kind, -confidence, np.inf), kind="stable"):
            true = int(scored.unseen_truth[i])
            if len(tiles) == N_PICTURES or not kind[i]:
                break
            if shown.get(true, 0) == PER_CLASS:
                continue
            picture = _thumbnail(images[positions[i]])
            if picture is None:
                continue
            shown[true] = shown.get(true, 0) + 1
            label, is_right = str(names[predicted[i]]), bool(kind is right)
            told = f"{label}, {confidence[i]:.0%}"
            tiles.append(
                f'<li class="{"right" if is_right else "wrong"}"><img src="{picture}" '
                f'alt="image of {for_html(names[true])}">{for_html(told)}'
                + ("" if is_right else f"<small>is {for_html(names[true])}</small>")
                + "</li>"
            )
        if tiles:
            sheets.append(
                f'<h3>{title}</h3>\n<p class="soft">{said} At most {PER_CLASS} of a '
                f'class.</p>\n<ul class="sheet">{"".join(tiles)}</ul>\n'
            )
    if not sheets:
        return ""
    return (
        f"<section>\n<h2>Pictures</h2>\n"
        f'<p class="soft">Images of unseen classes, the candidates being the unseen '
        f"labels, with the probability of the answer.</p>\n"
        f"{''.join(sheets)}</section>\n"
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
