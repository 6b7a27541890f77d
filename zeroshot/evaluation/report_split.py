"""What a report shows of one method in one split."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from zeroshot.errors import InvalidImageError
from zeroshot.evaluation.displays import (
    ConfusionDisplay,
    HitCurveDisplay,
    LabelMapDisplay,
    LabelSimilarityDisplay,
    RejectionDisplay,
    ReliabilityDisplay,
    SeenUnseenDisplay,
)
from zeroshot.evaluation.scored_split import ClassResult, ScoredSplit
from zeroshot.evaluation.svg import svg_of
from zeroshot.images.sources import read_fitted
from zeroshot.metrics import harmonic_mean
from zeroshot.scoring.ranking import softmax

__all__ = ["split_content"]

N_CONFUSIONS = 12  # of the table
N_PICTURES, PER_CLASS, THUMBNAIL = 12, 2, 112  # of a sheet; of one class; pixels


def split_content(scored: ScoredSplit, images: Sequence[Any] | None) -> dict[str, Any]:
    """Return what ``report_page.html`` shows of a split; None where there is nothing.

    ``images``, all evaluated ones or None, are for the pictures.
    """
    classes = list(map(_bar, scored.classes()))
    has_unseen = bool(scored.of_unseen.any())
    confusion = ConfusionDisplay.from_split(scored) if has_unseen else None
    label_map = LabelMapDisplay.from_split(scored)
    return {
        "n_labels": len(scored.labels),
        "n_unseen": len(scored.labels) - scored.n_seen,
        "unseen": _best_first(classes, seen=False) if has_unseen else [],
        "seen": _best_first(classes, seen=True),
        "hits": _drawn(HitCurveDisplay.from_split(scored)),
        "confusions": scored.confusions()[:N_CONFUSIONS] if has_unseen else [],
        "confusion": confusion
        and {
            "drawn": _drawn(confusion),
            "n": len(confusion.labels),
            "n_all": confusion.n_all,
        },
        "similarity": _drawn(LabelSimilarityDisplay.from_split(scored)),
        "curve": _curve(scored),
        "reliability": _reliability(scored),
        "rejection": _drawn(RejectionDisplay.from_split(scored)),
        "map": label_map and {"drawn": _drawn(label_map), "share": label_map.share},
        "sheets": list(_sheets(scored, images)),
    }


def _drawn(display: Any) -> Any:
    from markupsafe import Markup

    return None if display is None else Markup(svg_of(display))


def _bar(row: ClassResult) -> dict[str, Any]:
    alone = "" if row.seen else f"{row.zsl:.3f} among the unseen labels, "
    return {
        **row._asdict(),
        "share": row.gzsl if row.seen else row.zsl,
        "told": f"{alone}{row.gzsl:.3f} among all labels, {row.images} images",
    }


def _best_first(classes: list[dict[str, Any]], *, seen: bool) -> list[dict[str, Any]]:
    wanted = [row for row in classes if row["seen"] is seen]
    return sorted(wanted, key=lambda row: (-row["share"], row["label"]))


def _curve(scored: ScoredSplit) -> dict[str, Any] | None:
    display = SeenUnseenDisplay.from_split(scored)
    if display is None:
        return None
    curve = display.curve
    penalties = {
        "in use": scored.penalty,
        "without a penalty": 0.0,
        "best with hindsight": curve.best_penalty,
    }
    return {
        "drawn": _drawn(display),
        "area": curve.area,
        "penalties": {
            name: (penalty, *curve.at(penalty), harmonic_mean(*curve.at(penalty)))
            for name, penalty in penalties.items()
        },
    }


def _reliability(scored: ScoredSplit) -> dict[str, Any] | None:
    display = ReliabilityDisplay.from_split(scored)
    if display is None:
        return None
    default = scored.default_temperature
    before = scored.reliability(default)
    is_changed = before is not None and scored.temperature != default
    return {
        "drawn": _drawn(display),
        "error": display.bins.error,
        "temperature": scored.temperature,
        "default": default,
        "before": before.error if is_changed and before is not None else None,
    }


def _sheets(
    scored: ScoredSplit, images: Sequence[Any] | None
) -> Iterator[dict[str, Any]]:
    if images is None or not scored.of_unseen.any():
        return
    probabilities = softmax(scored.unseen_scores, scored.temperature)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    positions = scored.positions[scored.of_unseen]
    names = scored.labels[scored.n_seen :]
    right = scored.unseen_hits()
    for title, said, kind, wanted in (
        ("Best predictions", "Right, and the surest.", "right", right),
        ("Worst predictions", "Wrong, and the surest.", "wrong", ~right),
    ):
        tiles: list[dict[str, str]] = []
        shown: Counter[int] = Counter()
        for i in np.argsort(np.where(wanted, -confidence, np.inf), kind="stable"):
            true = int(scored.unseen_truth[i])
            if len(tiles) == N_PICTURES or not wanted[i]:
                break
            if shown[true] == PER_CLASS:
                continue
            picture = _thumbnail(images[positions[i]])
            if picture is None:
                continue
            shown[true] += 1
            told = f"{names[predicted[i]]}, {confidence[i]:.0%}"
            tiles.append({"picture": picture, "true": str(names[true]), "told": told})
        if tiles:
            yield {
                "title": title,
                "said": said,
                "kind": kind,
                "per_class": PER_CLASS,
                "tiles": tiles,
            }


def _thumbnail(source: Any) -> str | None:
    """Return a small JPEG as a data URI; None if the image cannot be read any more."""
    try:
        pixels = read_fitted(source, (THUMBNAIL, THUMBNAIL))
    except InvalidImageError:
        return None
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
