"""Plots of an evaluation, in the way of scikit-learn: made of numbers, drawn on demand.

::

    evaluation = evaluate(images, labels, "mobilenet-v2", "numberbatch")
    ReliabilityDisplay.from_evaluation(evaluation).plot()

Those of one split show the first method in the first split. matplotlib is imported when
something is drawn. The report draws the same ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.escaping import escaped
from zeroshot.evaluation.svg import COLORS
from zeroshot.metrics import (
    RejectionCurve,
    ReliabilityBins,
    SeenUnseenCurve,
    harmonic_mean,
    hit_curve,
)

if TYPE_CHECKING:
    from zeroshot.evaluation.result import Evaluation
    from zeroshot.evaluation.scored_split import ScoredSplit

__all__ = [
    "ConfusionDisplay",
    "HitCurveDisplay",
    "LabelMapDisplay",
    "LabelSimilarityDisplay",
    "MethodsDisplay",
    "RejectionDisplay",
    "ReliabilityDisplay",
    "SeenUnseenDisplay",
]

INK, SOFT, GRID, GROUND = (COLORS[f"--{c}"] for c in ("ink", "soft", "grid", "ground"))
SEEN, UNSEEN, PLAIN = (COLORS[f"--{c}"] for c in ("seen", "unseen", "plain"))
GOOD, BAD = COLORS["--good"], COLORS["--bad"]
OF_CLASSES = (
    SEEN,
    UNSEEN,
    COLORS["--c2"],
    BAD,
    *(COLORS[f"--c{i}"] for i in range(4, 10)),
)
MOST_CELLS = 40  # labels of a matrix
MOST_DOTS = 1200  # images of the map
MOST_NAMES = 60  # labels that are named on the map
NAME_SIZE = 8.5  # points


class _Display(ABC):
    """Base class: `plot`."""

    size: ClassVar[tuple[float, float]] = (4.8, 3.6)  # inches
    ax_: Any
    figure_: Any

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where; None makes a figure.

        Returns
        -------
        display : object
            This one, with ``ax_`` and ``figure_``.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=self.size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self._draw(ax)
        return self

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw on given axes."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it shows, in words, for those who cannot see it."""


class _SplitDisplay(_Display):
    """Base class of those that show one method in one split."""

    @classmethod
    def from_evaluation(cls, evaluation: "Evaluation") -> Self:
        """Make it of the first method in the first split of an evaluation.

        Parameters
        ----------
        evaluation : Evaluation

        Returns
        -------
        display : object

        Raises
        ------
        ValueError
            If the evaluation has no scores to show, such as none of unseen classes.
        """
        found = None
        if evaluation.scored is not None:
            found = cls.from_split(evaluation.scored)
        if found is None:
            raise ValueError(
                f"Expected an evaluation with what a {cls.__name__} shows. Got one "
                f"without. Evaluate images of classes that were not trained on."
            )
        return found

    @classmethod
    @abstractmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split; None where that has nothing to show."""


@dataclass
class HitCurveDisplay(_SplitDisplay):
    """How often the true label is among the k best unseen ones.

    Attributes
    ----------
    hits : ndarray of shape (n_labels,), float64
        For k = 1, 2, ...: the share of images.
    """

    hits: NDArray[np.float64]

    @property
    def description(self) -> str:
        """What it shows, in words."""
        n = len(self.hits)
        return f"Flat hit at k rises from {self.hits[0]:.3f} at 1 to 1 at {n}"

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split."""
        if not scored.of_unseen.any():
            return None
        return cls(hit_curve(scored.unseen_scores, scored.unseen_truth))

    def _draw(self, ax: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        n = len(self.hits)
        ax.plot([1, n], [1 / n, 1], "--", color=SOFT, lw=1.2, label="chance")
        ax.plot(np.arange(1, n + 1), self.hits, color=UNSEEN, lw=2, label="hit@k")
        for k, filled in ((1, True), (5, False)):
            if k < max(2, n):
                _mark(
                    ax, k, self.hits[k - 1], f"k = {k}: {self.hits[k - 1]:.3f}", filled
                )
        ax.set(xlim=(1, max(2, n)), ylim=(0, 1))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(ax, "k best of the unseen labels", "Share of images with the right one")


@dataclass
class SeenUnseenDisplay(_SplitDisplay):
    """Accuracy of seen against unseen classes, over all penalties of the seen ones.

    Attributes
    ----------
    curve : SeenUnseenCurve
    penalty : float
        The one in use.
    """

    curve: SeenUnseenCurve
    penalty: float = 0.0

    @property
    def description(self) -> str:
        """What it shows, in words."""
        seen, unseen = self.curve.at(self.penalty)
        return (
            f"Seen against unseen accuracy over all penalties, area "
            f"{self.curve.area:.3f}; in use {seen:.3f} seen and {unseen:.3f} unseen"
        )

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split."""
        curve = scored.curve()
        return None if curve is None else cls(curve, scored.penalty)

    def _draw(self, ax: Any) -> None:
        curve = self.curve
        ax.plot(curve.unseen, curve.seen, color=SEEN, lw=2, label="every penalty")
        for name, penalty, filled in (
            ("best with hindsight", curve.best_penalty, False),
            ("in use", self.penalty, True),
        ):
            s, u = curve.at(penalty)
            _mark(ax, u, s, f"{name}: H {harmonic_mean(s, u):.3f}", filled)
        ax.set(xlim=(0, _end(curve.unseen.max())), ylim=(0, _end(curve.seen.max())))
        _finish(ax, "Accuracy of unseen classes", "Accuracy of seen classes")


@dataclass
class ReliabilityDisplay(_SplitDisplay):
    """How often predictions of a confidence are right, and how many there are.

    Attributes
    ----------
    bins : ReliabilityBins
    """

    bins: ReliabilityBins

    @property
    def description(self) -> str:
        """What it shows, in words."""
        return f"Reliability diagram, calibration error {self.bins.error:.3f}"

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split."""
        bins = scored.reliability()
        return None if bins is None else cls(bins)

    def _draw(self, ax: Any) -> None:
        bins = self.bins
        used = np.flatnonzero(bins.counts)
        left, width = bins.edges[used], np.diff(bins.edges)[used] * 0.94
        right, confidence = bins.accuracy[used], bins.confidence[used]
        ax.bar(left, right, width, align="edge", color=SEEN, label="right")
        ax.bar(
            left,
            confidence - right,
            width,
            right,
            align="edge",
            color=BAD,
            alpha=0.45,
            label="gap to the mean confidence",
        )
        ax.plot([0, 1], [0, 1], "--", color=SOFT, lw=1.2, label="calibrated")
        # The share of the predictions hangs below the axis of the others.
        share = bins.counts[used] / bins.counts.sum()
        ax.bar(left, -0.22 * share / share.max(), width, align="edge", color=PLAIN)
        ax.set(xlim=(0, 1), ylim=(-0.24, 1), yticks=np.linspace(0, 1, 6))
        _finish(ax, "Confidence; below: how many predictions have it", "Right")


@dataclass
class RejectionDisplay(_SplitDisplay):
    """What is accepted, of images whose label is there or withheld.

    Attributes
    ----------
    curve : RejectionCurve
    accepts : tuple of float or None
        Shares accepted rightly and falsely by the classifier's own ``reject``.
    """

    curve: RejectionCurve
    accepts: tuple[float, float] | None = None

    @property
    def description(self) -> str:
        """What it shows, in words."""
        return f"Rejection curve, area {self.curve.auroc:.3f}"

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split."""
        curve = scored.rejection()
        return None if curve is None else cls(curve, scored.accept_rates())

    def _draw(self, ax: Any) -> None:
        curve = self.curve
        rate = curve.false_accepts_at(0.95)
        ax.plot([0, 1], [0, 1], "--", color=SOFT, lw=1.2, label="chance")
        ax.plot(
            curve.false_accepts,
            curve.true_accepts,
            color=UNSEEN,
            lw=2,
            label=f"AUROC {curve.auroc:.3f}",
        )
        _mark(ax, rate, 0.95, f"FPR95 {rate:.3f}", False)
        if self.accepts is not None:
            right, wrong = self.accepts
            _mark(ax, wrong, right, f"in use: {right:.0%} rightly, {wrong:.0%} falsely")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        _finish(
            ax,
            "Accepted, of images whose label is withheld",
            "Accepted, of images whose label is there",
        )


@dataclass
class MethodsDisplay(_Display):
    """A measure of every method: each split, their mean and their spread.

    Attributes
    ----------
    names : sequence of str
        Of the methods; the first stands out.
    values : sequence of sequence of float
        For each method, one for each split.
    title : str
        Of the measure.
    chance : float
        NaN for none.
    """

    size: ClassVar[tuple[float, float]] = (5.2, 2.4)

    names: Sequence[str]
    values: Sequence[Sequence[float]]
    title: str
    chance: float = math.nan

    @property
    def description(self) -> str:
        """What it shows, in words."""
        means = [np.mean(v) if len(v) else math.nan for v in self.values]
        each = zip(self.names, means, strict=True)
        told = [f"{n} {'-' if math.isnan(m) else f'{m:.3f}'}" for n, m in each]
        return f"{self.title} of every method: {', '.join(told)}"

    def _draw(self, ax: Any) -> None:
        highest = 0.0
        for i, values in enumerate(self.values):
            row, color = len(self.values) - 1 - i, UNSEEN if i == 0 else PLAIN
            finite = np.asarray([v for v in values if not math.isnan(v)])
            if len(finite) == 0:
                continue
            mean, spread = finite.mean(), finite.std()
            low = max(0.0, mean - spread)
            ax.plot([low, mean + spread], [row, row], color=color, lw=3, alpha=0.6)
            ax.plot(
                finite, np.full(len(finite), row), "o", color=color, ms=4, alpha=0.5
            )
            ax.plot(mean, row, "o", color=color, ms=8)
            highest = max(highest, float(finite.max()))
        if not math.isnan(self.chance):
            ax.axvline(self.chance, ls="--", color=SOFT, lw=1.2)
        n = len(self.names)
        ax.set(xlim=(0, _end(highest)), ylim=(-0.6, n - 0.4))
        ax.set_yticks(range(n), [_plain(name, 28) for name in reversed(self.names)])
        _finish(ax, f"{self.title} (dashed: chance)", "", legend=False)


@dataclass
class ConfusionDisplay(_SplitDisplay):
    """Which labels are predicted for which; a row for each true label.

    Attributes
    ----------
    shares : ndarray of shape (n, n), float64
        Of the images of the row's label those that get the column's.
    labels : sequence of str
    n_all : int
        Labels before those with fewer mistakes were left out.
    """

    size: ClassVar[tuple[float, float]] = (7.6, 7.6)

    shares: NDArray[np.float64]
    labels: Sequence[str]
    n_all: int

    @property
    def description(self) -> str:
        """What it shows, in words."""
        return "Confusion matrix: which unseen labels are predicted for which"

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of a scored split; labels with near vectors stand together."""
        shares = scored.confusion_shares()
        n = len(shares)
        if n < 2:
            return None
        mistakes = shares * (1 - np.eye(n))
        involved = mistakes.sum(axis=0) + mistakes.sum(axis=1)
        chosen = np.sort(np.argsort(-involved, kind="stable")[:MOST_CELLS])
        order = chosen[_near_together(scored.label_points[scored.n_seen :][chosen])]
        names = [str(label) for label in scored.labels[scored.n_seen :][order]]
        return cls(shares[np.ix_(order, order)], names, n)

    def _draw(self, ax: Any) -> None:
        rows, columns = np.nonzero(self.shares)
        shares = self.shares[rows, columns]
        colors = np.where(rows == columns, GOOD, BAD)
        _cells(ax, rows, columns, colors, 0.06 + 0.94 * shares)
        _named_axes(ax, self.labels)
        _finish(ax, "predicted label", "true label", legend=False, grid=False)


@dataclass
class LabelSimilarityDisplay(_SplitDisplay):
    """How near labels are to one another, which are hard to tell apart then.

    Attributes
    ----------
    cosines : ndarray of shape (n, n), float64
    labels : sequence of str
    """

    size: ClassVar[tuple[float, float]] = (7.6, 7.6)

    cosines: NDArray[np.float64]
    labels: Sequence[str]

    @property
    def description(self) -> str:
        """What it shows, in words."""
        n = len(self.labels)
        others = self.cosines - 2 * np.eye(n)
        i, j = divmod(int(others.argmax()), n)
        return (
            f"Cosines of {n} labels; nearest are {self.labels[i]} and "
            f"{self.labels[j]}, {others[i, j]:.2f}"
        )

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of the unseen labels of a scored split; near ones stand together."""
        points = scored.label_points[scored.n_seen :][:MOST_CELLS].astype(np.float64)
        if len(points) < 2:
            return None
        points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        order = _near_together(points)
        names = scored.labels[scored.n_seen :][order]
        return cls(points[order] @ points[order].T, [str(name) for name in names])

    def _draw(self, ax: Any) -> None:
        n = len(self.labels)
        rows, columns = map(np.ravel, np.indices((n, n)))
        cosines = self.cosines.ravel()
        _cells(
            ax,
            rows,
            columns,
            np.where(cosines >= 0, SEEN, UNSEEN),
            np.clip(np.abs(cosines), 0, 1),
        )
        _named_axes(ax, self.labels)
        _finish(ax, "", "", legend=False, grid=False)


@dataclass
class LabelMapDisplay(_SplitDisplay):
    """Images as dots and labels as names, on the plane on which labels differ most.

    Attributes
    ----------
    points : ndarray of shape (n, 2), float64
        Images.
    classes : ndarray of shape (n,), int
        For each its row of ``anchors``.
    anchors : ndarray of shape (m, 2), float64
        Labels.
    labels : sequence of str
    share : float
        Of the variance of the labels' vectors that the plane shows, in [0, 1].
    """

    size: ClassVar[tuple[float, float]] = (9.6, 5.8)

    points: NDArray[np.float64]
    classes: NDArray[np.intp]
    anchors: NDArray[np.float64]
    labels: Sequence[str]
    share: float = field(default=math.nan)

    @property
    def description(self) -> str:
        """What it shows, in words."""
        return "Map of the images and labels of unseen classes in the label space"

    @classmethod
    def from_split(cls, scored: "ScoredSplit") -> Self | None:
        """Make it of the unseen classes of a scored split."""
        n_seen = scored.n_seen
        usable = scored.of_unseen & np.isfinite(scored.points).all(axis=1)
        images = np.flatnonzero(usable)
        if len(scored.labels) - n_seen < 3 or len(images) == 0:
            return None
        if len(images) > MOST_DOTS:
            images = images[np.linspace(0, len(images) - 1, MOST_DOTS).astype(int)]
        labels = _unit(scored.label_points[n_seen:])
        points = _unit(scored.points[images])
        middle = labels.mean(axis=0)
        _, lengths, axes = np.linalg.svd(labels - middle, full_matrices=False)
        share = float((lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-12))
        return cls(
            (points - points.mean(axis=0)) @ axes[:2].T,
            scored.truth[images] - n_seen,
            (labels - middle) @ axes[:2].T,
            [str(label) for label in scored.labels[n_seen:]],
            share,
        )

    def _draw(self, ax: Any) -> None:
        of_class = np.array(OF_CLASSES)
        ax.scatter(
            *self.points.T,
            c=of_class[self.classes % len(of_class)],
            s=14,
            alpha=0.55,
            linewidths=0,
        )
        own = of_class[np.arange(len(self.anchors)) % len(of_class)]
        ax.scatter(*self.anchors.T, c=own, s=60, marker="D", edgecolors=INK, lw=1)
        ax.margins(0.06)
        names = [_plain(name, 24) for name in self.labels[:MOST_NAMES]]
        for spot, name, (dx, dy, side) in _placed(ax, self.anchors, names):
            ax.annotate(
                name,
                spot,
                (dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=NAME_SIZE,
                fontweight="bold",
            )
        ax.set(xticks=[], yticks=[])
        _finish(ax, "", "", legend=False, grid=False)


def _mark(ax: Any, x: float, y: float, name: str, filled: bool = True) -> None:
    ax.plot(
        x,
        y,
        "o",
        ms=8,
        color=UNSEEN if filled else "none",
        markeredgecolor=UNSEEN if filled else INK,
        markeredgewidth=1.5,
        label=name,
        clip_on=False,
        zorder=3,
    )


def _cells(ax: Any, rows: Any, columns: Any, colors: Any, alphas: Any) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    patches = [
        Rectangle((c - 0.48, r - 0.48), 0.96, 0.96)
        for r, c in zip(rows, columns, strict=True)
    ]
    fills = [to_rgba(c, float(a)) for c, a in zip(colors, alphas, strict=True)]
    ax.add_collection(PatchCollection(patches, facecolors=fills, linewidths=0))


def _named_axes(ax: Any, labels: Sequence[str]) -> None:
    n = len(labels)
    names = [_plain(label, 22) for label in labels]
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
    ax.set_xticks(range(n), names, rotation=90, fontsize=8)
    ax.set_yticks(range(n), names, fontsize=8)
    ax.xaxis.tick_top()


def _finish(
    ax: Any, x_name: str, y_name: str, *, legend: bool = True, grid: bool = True
) -> None:
    ax.set(xlabel=x_name, ylabel=y_name)
    for spine in ax.spines.values():
        spine.set_color(GRID)
    ax.tick_params(length=0)
    if grid:
        ax.grid(color=GRID, lw=1)
        ax.set_axisbelow(True)
    if legend:
        ax.legend(frameon=False, fontsize=8.5, loc="best")


def _placed(
    ax: Any, spots: NDArray[np.float64], names: Sequence[str]
) -> Iterator[tuple[NDArray[np.float64], str, tuple[float, float, str]]]:
    """Yield names with the side of their spot on which no other stands.

    A name for which there is none is left out.
    """
    at = ax.transData.transform(spots) * 72 / ax.figure.dpi  # points
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    for i, name in enumerate(names):
        x, y = at[i]
        long = 0.62 * NAME_SIZE * len(name)  # bold letters, on average
        for dx, dy, side, before in (
            (7.0, 0.0, "left", 0.0),
            (-7.0, 0.0, "right", long),
            (0.0, 10.0, "center", long / 2),
            (0.0, -10.0, "center", long / 2),
        ):
            left, low = x + dx - before, y + dy - NAME_SIZE / 2
            box = (left, low, left + long, low + NAME_SIZE)
            if not any(_overlap(box, other) for other in taken[:i] + taken[i + 1 :]):
                taken.append(box)
                yield spots[i], name, (dx, dy, side)
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _near_together(vectors: NDArray[Any]) -> NDArray[np.intp]:
    """Return an order of rows in which near ones are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    order: NDArray[np.intp] = leaves_list(
        linkage(vectors, "average", optimal_ordering=True)
    )
    return order


def _unit(points: NDArray[Any]) -> NDArray[np.float64]:
    from sklearn.preprocessing import normalize

    unit: NDArray[np.float64] = normalize(points.astype(np.float64))
    return unit


def _end(value: float) -> float:
    """Return the end, up to 1, of an axis that shows the value with room to spare."""
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if value <= 0.95 * end), 1.0)


def _plain(text: object, most: int) -> str:
    """Return a name of at most so many letters that matplotlib takes for no formula."""
    name = escaped(text)
    name = name if len(name) <= most else name[: most - 1].rstrip() + "…"
    return name.replace("$", r"\$")
