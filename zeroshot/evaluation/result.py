"""What an evaluation found: tables for people, JSON for programs, a page for both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError
from zeroshot.escaping import for_markdown
from zeroshot.evaluation.hierarchical_precision import CUTOFFS, HIERARCHICAL_METRICS
from zeroshot.evaluation.report_page import ACCURACIES, OF_SCORES, report_page
from zeroshot.evaluation.scored_split import ScoredSplit
from zeroshot.storage.cache import replace_file

__all__ = ["Evaluation"]

MOST_CONFUSIONS = 100  # in JSON, the most frequent first


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of one or several methods over one or several splits.

    Attributes
    ----------
    results : dict of str to dict of str to list of float
        For each method and each of `zeroshot.evaluation.METRICS` the value of every
        split, in [0, 1]; NaN where there was nothing to measure. With a hierarchy also
        each of `zeroshot.evaluation.hierarchical_precision.HIERARCHICAL_METRICS`.
    settings : dict
        What was evaluated: backbone, embeddings, numbers of images and classes, splits,
        seed, versions. JSON.
    scored : ScoredSplit, optional
        Scores of the first method in the first split, for the plots.
    images : sequence, optional
        All evaluated images, to show some; None if features were given.
    """

    results: dict[str, dict[str, list[float]]]
    settings: dict[str, Any]
    scored: ScoredSplit | None = field(default=None, repr=False, compare=False)
    images: Sequence[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per method: its name, and mean and spread of every metric.

        The spread (``<metric>_std``) is the standard deviation over the splits.
        """
        return [
            {"method": method}
            | {
                key: value
                for metric, of_splits in values.items()
                for key, value in (
                    (metric, float(np.mean(of_splits))),
                    (f"{metric}_std", float(np.std(of_splits))),
                )
            }
            for method, values in self.results.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the scores of single images, ready for JSON.

        Returns
        -------
        content : dict
            ``settings``; ``rows``; ``splits``, the values of every split; ``details``
            of the first method in the first split: every class, the most frequent
            confusions, and the curves. NaN becomes None.
        """
        content = {
            "settings": self.settings,
            "rows": [_without_nan(row) for row in self.rows],
            "splits": {
                method: {
                    metric: [None if np.isnan(v) else v for v in values]
                    for metric, values in metrics.items()
                }
                for method, metrics in self.results.items()
            },
        }
        if self.scored is not None:
            content["details"] = _details(next(iter(self.results)), self.scored)
        return content

    def save_html(self, path: str | Path) -> None:
        """Write the report as one HTML page with plots, which needs no other file.

        Parameters
        ----------
        path : str or Path
            An older file is replaced.

        Raises
        ------
        ArtifactError
            If it cannot be written.
        """
        page = report_page(
            self.results, self.rows, self.settings, self.scored, self.images
        )
        try:
            with replace_file(Path(path)) as temporary:
                temporary.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ArtifactError(
                f"Expected a place to write the report '{path}'. Got {error}. Choose "
                f"another path, or check permissions and free space."
            ) from error

    def __str__(self) -> str:
        """Return tables in Markdown, and a line on what was evaluated."""
        s = self.settings
        lines = [
            *self._table(ACCURACIES),
            "",
            *self._table(OF_SCORES),
            *self._hierarchical_tables(),
            "",
            f"{s['n_images']} images, {s['n_seen']} seen and {s['n_unseen']} unseen "
            f"classes, {s['n_splits']} split(s), seed {s['random_state']}. Mean "
            f"per-class accuracy, +- standard deviation over splits. "
            f"{for_markdown(s['backbone'])} features"
            + (f" (pretrained on {s['pretraining']})" if s["pretraining"] else "")
            + f", {for_markdown(s['embeddings'])} vectors.",
        ]
        if cosine := s.get("cosine_to_exact"):
            lines.append(
                f"These features approximate exact ones: their cosine is "
                f"{cosine['mean']:.3f} on average, {cosine['lowest']:.3f} at worst."
            )
        if s["left_out"]:
            lines.append(
                f"Left out, without a word vector: "
                f"{'; '.join(map(for_markdown, s['left_out']))}."
            )
        return "\n".join(lines)

    def _hierarchical_tables(self) -> list[str]:
        if "hierarchy_nodes" not in self.settings:
            return []
        lines = []
        for kind, metrics in HIERARCHICAL_METRICS.items():
            titles = [f"hp@{k}" for k in CUTOFFS]
            columns = dict(zip(metrics, titles, strict=True))
            lines += ["", *self._table(columns, f"images of {kind} classes")]
        return [
            *lines,
            "",
            "hp@k: hierarchical precision of the k best among all classes, mean over "
            "images.",
        ]

    def _table(self, titles: dict[str, str], first: str = "method") -> list[str]:
        table = [(first, *titles.values())] + [
            (
                for_markdown(row["method"]),
                *(_cell(row[m], row[f"{m}_std"]) for m in titles),
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        table.insert(1, tuple("-" * width for width in widths))
        return [f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in table]


def _details(method: str, scored: ScoredSplit) -> dict[str, Any]:
    curve, bins, rejection = scored.curve(), scored.reliability(), scored.rejection()
    return {
        "method": method,
        "split": 0,
        "seen_penalty": scored.penalty,
        "temperature": scored.temperature,
        "classes": [
            {
                "label": str(row.label),
                "seen": row.seen,
                "images": row.n_images,
                "zsl": _or_none(row.zsl),
                "gzsl": _or_none(row.gzsl),
            }
            for row in scored.classes()
        ],
        "confusions": [
            {"true": str(row.true), "predicted": str(row.predicted), "share": row.share}
            for row in scored.confusions()[:MOST_CONFUSIONS]
        ],
        "seen_unseen_curve": curve
        and {
            "steps": _rounded(curve.steps),
            "seen": _rounded(curve.seen),
            "unseen": _rounded(curve.unseen),
            "area": curve.area,
            "best_penalty_with_hindsight": curve.best_penalty,
        },
        "reliability": bins
        and {
            "edges": _rounded(bins.edges),
            "counts": bins.counts.tolist(),
            "confidence": _rounded(bins.confidence),
            "accuracy": _rounded(bins.accuracy),
            "error": bins.error,
        },
        "rejection_curve": rejection
        and {
            "accepts_in_use": scored.accept_rates(),
            "true_accepts": _rounded(rejection.true_accepts),
            "false_accepts": _rounded(rejection.false_accepts),
            "auroc": rejection.auroc,
        },
    }


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [_or_none(round(value, 6)) for value in values.tolist()]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _cell(mean: float, spread: float) -> str:
    return "-" if np.isnan(mean) else f"{mean:.3f} +- {spread:.3f}"


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {
        k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()
    }
