"""What a fitted classifier answers in one split: all measures and plots follow from it.

Nothing here trains or chooses anything: a penalty or a temperature that was found by
looking at the test classes is reported as such ("with hindsight") and never applied.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.evaluation.hierarchical_precision import hierarchical_metrics, precisions
from zeroshot.labels.candidates import as_label_array
from zeroshot.metrics import (
    RejectionCurve,
    ReliabilityBins,
    SeenUnseenCurve,
    harmonic_mean,
    hit_at_k,
    per_class_accuracy,
    rejection_curve,
    reliability_bins,
    seen_unseen_curve,
)
from zeroshot.saving.fitted import Fitted
from zeroshot.scoring.ranking import softmax
from zeroshot.splits import ZeroShotSplit

__all__ = [
    "ACCURACIES",
    "BY_PRETRAINING",
    "METRICS",
    "OF_SCORES",
    "ClassResult",
    "Confusion",
    "ScoredSplit",
    "score_split",
]

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
BY_PRETRAINING = {
    "unseen_top1_pretrained": "ZSL top-1, in pretraining",
    "unseen_top1_beyond": "ZSL top-1, beyond it",
}
METRICS = (*ACCURACIES, *OF_SCORES)
"""What is measured in every split; ``calibration_error`` is of unseen classes among
themselves, the last two with every second unseen class withheld from the candidates."""


class ClassResult(NamedTuple):
    """How one class with so many test images did: shares that are right.

    Among the unseen labels (``zsl``; NaN for a seen class) and among all (``gzsl``).
    """

    label: str
    seen: bool
    images: int
    zsl: float
    gzsl: float


class Confusion(NamedTuple):
    """An unseen label given to images of another, and to what share of them."""

    true: str
    predicted: str
    share: float


@dataclass(frozen=True)
class ScoredSplit:
    """The scores of the n test images of one split, whose labels are m.

    Scores and points of an unreadable image are NaN. It counts as a wrong answer; the
    curves leave it out. Some scores are of the images of unseen classes alone,
    n_unseen_images; to be kept means to be every second unseen label, from the first.
    """

    labels: NDArray[Any]  # (m,), seen classes, then unseen ones
    n_seen: int
    positions: NDArray[np.intp]  # (n,), among all evaluated images
    truth: NDArray[np.intp]  # (n,), place of the true label in `labels`
    scores: NDArray[np.float32]  # (n, m), among all labels, without a penalty
    unseen_scores: NDArray[np.float32]  # (n_unseen_images, m - n_seen)
    kept_scores: NDArray[np.float32]  # (n_unseen_images, n_kept)
    # (n_unseen_images,): how far the kept labels stand out from the background
    standing: NDArray[np.float64]
    points: NDArray[np.float32]  # (n, dim)
    label_points: NDArray[np.float32]  # (m, dim)
    # (n_unseen_images,): accepted among the kept labels; None if it never rejects
    accepted: NDArray[np.bool_] | None
    penalty: float  # the classifier's, as is the temperature
    temperature: float
    default_temperature: float  # where none is set
    # (m,): loses the penalty; an unseen label may have a seen one's name or vector
    counts_as_seen: NDArray[np.bool_]
    hops: NDArray[np.float64] | None = None  # (m, m), edges in a hierarchy

    @property
    def of_unseen(self) -> NDArray[np.bool_]:
        """Which of the images are of unseen classes, (n,)."""
        return np.asarray(self.truth >= self.n_seen)

    @property
    def unseen_truth(self) -> NDArray[np.intp]:
        """Column of ``unseen_scores`` of each true label."""
        return self.truth[self.of_unseen] - self.n_seen

    @property
    def readable_unseen(self) -> NDArray[np.bool_]:
        """Which of the images of unseen classes have scores."""
        return np.asarray(np.isfinite(self.unseen_scores).all(axis=1))

    @property
    def is_kept(self) -> NDArray[np.bool_]:
        """Which of the images of unseen classes have their label among the kept."""
        return np.asarray(self.unseen_truth % 2 == 0)

    @property
    def penalised(self) -> NDArray[np.float32]:
        """Scores among all labels as the classifier's own penalty leaves them."""
        penalty: NDArray[np.float32] = np.float32(self.penalty) * self.counts_as_seen
        return self.scores - penalty

    def hits(self) -> NDArray[np.bool_]:
        """Tell which images are right among all labels, (n,)."""
        return hit_at_k(self.penalised, self.truth, 1)

    def unseen_hits(self, k: int = 1) -> NDArray[np.bool_]:
        """Tell which images of unseen classes are right among the unseen labels.

        Within k guesses, or as many as there are labels.
        """
        most = min(k, self.unseen_scores.shape[1])
        return hit_at_k(self.unseen_scores, self.unseen_truth, most)

    def curve(self) -> SeenUnseenCurve | None:
        """Return the accuracies over all penalties; None without images of both kinds.

        Kinds are seen and unseen classes.
        """
        readable = np.isfinite(self.scores).all(axis=1)
        of_unseen = self.of_unseen[readable]
        if of_unseen.all() or not of_unseen.any():
            return None
        is_seen = np.arange(len(self.labels)) < self.n_seen
        return seen_unseen_curve(self.scores[readable], self.truth[readable], is_seen)

    def reliability(self, temperature: float | None = None) -> ReliabilityBins | None:
        """Return how often answers among the unseen labels are right, by confidence.

        At the classifier's temperature, or another; None without such images.
        """
        readable = self.readable_unseen
        if not readable.any():
            return None
        probabilities = softmax(
            self.unseen_scores[readable], temperature or self.temperature
        )
        confidence = np.minimum(probabilities.max(axis=1), 1.0)
        return reliability_bins(confidence, self.unseen_hits()[readable])

    def rejection(self) -> RejectionCurve | None:
        """Return how well scores tell whether the true label is among the kept.

        What counts is how far they stand out from the background, as for
        ``reject="auto"``. None without images of both kinds.
        """
        readable = self.readable_unseen
        is_known = self.is_kept[readable]
        if is_known.all() or not is_known.any():
            return None
        return rejection_curve(self.standing[readable], is_known)

    def accept_rates(self) -> tuple[float, float] | None:
        """Return the shares that the classifier itself accepts: rightly and falsely.

        Of images whose label is among the kept, and of the others; None where there are
        none of a kind or it never rejects.
        """
        if self.accepted is None or self.rejection() is None:
            return None
        kept = self.is_kept
        return float(self.accepted[kept].mean()), float(self.accepted[~kept].mean())

    def classes(self) -> list[ClassResult]:
        """Return how each class did that has test images, in the order of labels."""
        m = len(self.labels)
        counts = np.bincount(self.truth, minlength=m)
        right = np.bincount(self.truth, self.hits(), m)
        alone = np.full(m, np.nan)
        if self.of_unseen.any():
            alone = np.bincount(self.truth[self.of_unseen], self.unseen_hits(), m)
            alone[: self.n_seen] = np.nan
        return [
            ClassResult(
                str(label), j < self.n_seen, n, alone[j] / n, float(right[j] / n)
            )
            for j, (label, n) in enumerate(
                zip(self.labels.tolist(), counts.tolist(), strict=True)
            )
            if n
        ]

    def confusion_shares(self) -> NDArray[np.float64]:
        """Return which unseen labels are predicted for which, among the unseen.

        Shares (n_unseen, n_unseen): rows are true labels and sum to 1, or to 0 for one
        without images.
        """
        n = len(self.labels) - self.n_seen
        counts = np.zeros((n, n))
        if len(self.unseen_scores):
            readable = self.readable_unseen
            predicted = self.unseen_scores[readable].argmax(axis=1)
            np.add.at(counts, (self.unseen_truth[readable], predicted), 1)
        return np.asarray(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)))

    def confusions(self) -> list[Confusion]:
        """Return the mistakes among the unseen labels, the most frequent first."""
        shares, unseen = self.confusion_shares(), self.labels[self.n_seen :].tolist()
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")
        order = order[: np.count_nonzero(shares)]
        return [
            Confusion(str(unseen[i]), str(unseen[j]), float(shares[i, j]))
            for i, j in zip(*np.unravel_index(order, shares.shape), strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Return each of `METRICS`, NaN where nothing can be measured.

        With a hierarchy also each of
        `zeroshot.evaluation.hierarchical_precision.HIERARCHICAL_METRICS`.
        """
        result = dict.fromkeys(METRICS, np.nan) | self.generalised(self.hits())
        if self.of_unseen.any():
            for k, metric in ((1, "unseen_top1"), (5, "unseen_top5")):
                result[metric] = per_class_accuracy(
                    self.unseen_truth, self.unseen_hits(k)
                )
        if (curve := self.curve()) is not None:
            result["ausuc"] = curve.area
        if (bins := self.reliability()) is not None:
            result["calibration_error"] = bins.error
        if (rejection := self.rejection()) is not None:
            result["rejection_auroc"] = rejection.auroc
            result["rejection_fpr95"] = rejection.false_accepts_at(0.95)
        return result | self.hierarchical(self.penalised, np.arange(len(self.labels)))

    def by_pretraining(self, known: Sequence[Any]) -> dict[str, float]:
        """Return ZSL top-1 of the unseen classes that the backbone was trained on.

        And of the others; NaN where there is none. ``known``: labels of the former.
        """
        hits, truth = self.unseen_hits(), self.labels[self.truth[self.of_unseen]]
        is_known = np.isin(truth, np.asarray(known, dtype=truth.dtype))
        return {
            metric: per_class_accuracy(truth[rows], hits[rows])
            if rows.any()
            else np.nan
            for metric, rows in zip(BY_PRETRAINING, (is_known, ~is_known), strict=True)
        }

    def generalised(self, correct: NDArray[np.bool_]) -> dict[str, float]:
        """Return S, U and H of answers among all labels, which are right or not, (n,).

        NaN where there is no image.
        """
        seen, unseen = (
            per_class_accuracy(self.truth[kind], correct[kind])
            if kind.any()
            else np.nan
            for kind in (~self.of_unseen, self.of_unseen)
        )
        return {
            "gzsl_seen": seen,
            "gzsl_unseen": unseen,
            "gzsl_h": harmonic_mean(seen, unseen),
        }

    def hierarchical(
        self, scores: NDArray[np.float32], columns: NDArray[np.intp]
    ) -> dict[str, float]:
        """Return how near the answers of scores, (n, n_ranked), are to the truth.

        Their columns are those labels. Empty without a hierarchy.
        """
        if self.hops is None:
            return {}
        near = precisions(scores, columns, self.truth, self.hops)
        return hierarchical_metrics(near, self.of_unseen)


def score_split(
    classifier: ZeroShotClassifier,
    features: NDArray[np.float32],
    y: NDArray[Any],
    split: ZeroShotSplit,
    hops: NDArray[np.float64] | None = None,
    *,
    adapt: bool = False,
) -> ScoredSplit:
    """Let a fitted classifier, which is not changed, score the test images of a split.

    Features, (n, dim_visual), and labels are of all evaluated images; hops, (m, m), are
    edges between the split's labels, the seen ones first, in a hierarchy. ``adapt``:
    judge the test images together, for each list of labels. Raises
    LabelError and OutOfVocabularyError as `ZeroShotClassifier.predict`.
    """
    plain = copy.copy(classifier).set_params(seen_penalty=0.0, reject=None)
    uncalibrated = copy.copy(classifier).set_params(temperature=None)
    seen, unseen = split.seen.tolist(), split.unseen.tolist()
    labels = [*seen, *unseen]
    known = Fitted.of(classifier).candidates(labels)
    positions = np.concatenate([split.seen_test, split.unseen_test])
    place = {label: j for j, label in enumerate(labels)}
    X, X_unseen = features[positions], features[split.unseen_test]
    kept, accepted = unseen[::2], None
    if classifier.reject is not None and len(kept) and len(X_unseen):
        answers = _of_readable(X_unseen, lambda rows: classifier.predict(rows, kept))
        accepted = answers != classifier.unknown_label
    return ScoredSplit(
        labels=as_label_array(labels),
        n_seen=len(seen),
        positions=positions,
        truth=np.array([place[label] for label in y[positions].tolist()], np.intp),
        # A batch is judged with the penalty, which then is taken off again.
        scores=_scores(classifier if adapt else plain, X, labels, adapt)
        + np.float32(classifier.seen_penalty_ if adapt else 0) * known.is_seen,
        unseen_scores=_scores(plain, X_unseen, unseen, adapt),
        kept_scores=_scores(plain, X_unseen, kept, adapt),
        standing=_standing(plain, X_unseen, kept),
        points=_of_readable(X, plain.transform),
        label_points=plain.label_points(labels),
        accepted=accepted,
        penalty=classifier.seen_penalty_,
        temperature=classifier.temperature_,
        default_temperature=uncalibrated.temperature_,
        counts_as_seen=known.is_seen,
        hops=hops,
    )


def _scores(
    classifier: ZeroShotClassifier,
    X: NDArray[np.float32],
    labels: list[Any],
    adapt: bool,
) -> NDArray[Any]:
    if len(labels) == 0 or len(X) == 0:
        return np.empty((len(X), len(labels)), dtype=np.float32)
    return _of_readable(X, lambda rows: classifier.scores(rows, labels, adapt=adapt))


def _standing(
    classifier: ZeroShotClassifier, X: NDArray[np.float32], candidates: list[Any]
) -> NDArray[Any]:
    if len(candidates) == 0 or len(X) == 0:
        return np.empty(len(X))
    return _of_readable(X, lambda rows: classifier.standing(rows, candidates))


def _of_readable(
    X: NDArray[np.float32], function: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> NDArray[Any]:
    """Return the function's rows; those of unreadable images (of NaN) are NaN."""
    readable = np.isfinite(X).all(axis=1)
    if readable.all():
        return function(X)
    found = function(X[readable] if readable.any() else np.zeros_like(X[:1]))
    kind = found.dtype if found.dtype.kind == "f" else object
    rows = np.full((len(X), *found.shape[1:]), np.nan, dtype=kind)
    if readable.any():
        rows[readable] = found
    return rows
