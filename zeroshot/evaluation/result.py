"""What an evaluation found: tables for people, JSON for programs, a page for both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot.errors import ArtifactError
from zeroshot.escaping import for_markdown
from zeroshot.evaluation.hierarchical_precision import HIERARCHICAL_METRICS
from zeroshot.evaluation.scored_split import (
    ACCURACIES,
    BY_PRETRAINING,
    OF_SCORES,
    ScoredSplit,
)
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
        rows = []
        for method, values in self.results.items():
            row: dict[str, Any] = {"method": method}
            for metric, of_splits in values.items():
                row[metric] = float(np.mean(of_splits))
                row[f"{metric}_std"] = float(np.std(of_splits))
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the scores of single images, ready for JSON.

        Returns
        -------
        content : dict
            ``settings``; ``rows``; ``splits``, the values of every split; ``details``
            of the first method in the first split: every class, the most frequent
            confusions, and the curves. NaN becomes None.
        """
        content = {"settings": self.settings, "rows": self.rows, "splits": self.results}
        if self.scored is not None:
            content["details"] = _details(next(iter(self.results)), self.scored)
        return {key: _for_json(value) for key, value in content.items()}

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
        from zeroshot.evaluation.report_page import report_page

        page = report_page(self)
        try:
            with replace_file(Path(path)) as temporary:
                temporary.write_text(page, encoding="utf-8")
        except (OSError, ValueError) as error:  # a NUL in the path
            raise ArtifactError(
                f"Expected a place to write the report '{path}'. Got {error}. Choose "
                f"another path, or check permissions and free space."
            ) from error

    def __str__(self) -> str:
        """Return tables in Markdown, and a line on what was evaluated."""
        s = self.settings
        lines = [*self._table(ACCURACIES), "", *self._table(OF_SCORES)]
        if any(metric in row for row in self.rows for metric in BY_PRETRAINING):
            lines += ["", *self._table(BY_PRETRAINING)]
        if "hierarchy_nodes" in s:
            for kind, titles in HIERARCHICAL_METRICS.items():
                lines += ["", *self._table(titles, f"images of {kind} classes")]
            lines += [
                "",
                "hp@k: hierarchical precision of the k best among all classes, mean "
                "over images.",
            ]
        lines += [
            "",
            f"{s['n_images']} images, {s['n_seen']} seen and {s['n_unseen']} unseen "
            f"classes, {s['n_splits']} split(s), seed {s['random_state']}. Mean "
            f"per-class accuracy, +- standard deviation over splits. "
            f"{for_markdown(s['backbone'])} features"
            + (f" (pretrained on {s['pretraining']})" if s["pretraining"] else "")
            + f", {for_markdown(s['embeddings'])} vectors{_templates(s)}.",
        ]
        if s.get("pretrained_classes"):
            masked = s["masked"]
            lines.append(
                f"The backbone's own {s['pretrained_classes']} classes take part, but "
                f"those of unseen labels are masked: {min(masked)} to {max(masked)} in "
                f"a split."
            )
        if s.get("adapted"):
            lines.append("The test images of a split are judged together (adapt).")
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

    def _table(self, titles: dict[str, str], first: str = "method") -> list[str]:
        table = [(first, *titles.values())] + [
            (
                for_markdown(row["method"]),
                *(
                    _cell(row.get(m, np.nan), row.get(f"{m}_std", np.nan))
                    for m in titles
                ),
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        table.insert(1, tuple("-" * width for width in widths))
        return [f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in table]


def _templates(settings: dict[str, Any]) -> str:
    """Say which templates the labels were put into: the name, or how many."""
    templates = settings.get("templates")
    if templates is None:
        return ""
    if isinstance(templates, list):
        n = len(templates)
        shown = for_markdown(repr(templates[0])) if n == 1 else f"{n} of one's own"
    else:
        shown = for_markdown(repr(templates))
    return f", labels in templates ({shown})"


def _cell(mean: float, spread: float) -> str:
    return "-" if np.isnan(mean) else f"{mean:.3f} +- {spread:.3f}"


def _details(method: str, scored: ScoredSplit) -> dict[str, Any]:
    curve, bins, rejection = scored.curve(), scored.reliability(), scored.rejection()
    return {
        "method": method,
        "split": 0,
        "seen_penalty": scored.penalty,
        "temperature": scored.temperature,
        "classes": [row._asdict() for row in scored.classes()],
        "confusions": [row._asdict() for row in scored.confusions()[:MOST_CONFUSIONS]],
        "seen_unseen_curve": curve
        and asdict(curve)
        | {"area": curve.area, "best_penalty_with_hindsight": curve.best_penalty},
        "reliability": bins and asdict(bins) | {"error": bins.error},
        "rejection_curve": rejection
        and {
            "accepts_in_use": scored.accept_rates(),
            "true_accepts": rejection.true_accepts,
            "false_accepts": rejection.false_accepts,
            "auroc": rejection.auroc,
        },
    }


def _for_json(value: Any) -> Any:
    """Return a value with None for NaN, and lists of rounded numbers for arrays."""
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_for_json(round(item, 6)) for item in value.tolist()]
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
