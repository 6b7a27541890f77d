"""What a fitted classifier answers in one split: all measures and plots follow from it.

Nothing here trains or chooses anything: a penalty or a temperature that was found by
looking at the test classes is reported as such ("with hindsight") and never applied.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.evaluation.hierarchical_precision import (
    chance_precisions,
    hierarchical_metrics,
    precisions,
)
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
from zeroshot.scoring.rejection import stand_out
from zeroshot.splits import ZeroShotSplit

__all__ = [
    "METRICS",
    "ClassResult",
    "Confusion",
    "ScoredSplit",
    "chance_of",
    "score_split",
]

METRICS = (
    "unseen_top1",
    "unseen_top5",
    "gzsl_seen",
    "gzsl_unseen",
    "gzsl_h",
    "ausuc",
    "calibration_error",
    "rejection_auroc",
    "rejection_fpr95",
)
"""What is measured in every split; ``calibration_error`` is of unseen classes among
themselves, the last two with every second unseen class withheld from the candidates."""


class ClassResult(NamedTuple):
    """How one class did.

    Attributes
    ----------
    label : hashable
    seen : bool
    n_images : int
    zsl : float
        Share that is right among the unseen labels; NaN for a seen class.
    gzsl : float
        Share that is right among all labels.
    """

    label: Any
    seen: bool
    n_images: int
    zsl: float
    gzsl: float


class Confusion(NamedTuple):
    """A label that was given to images of another one, among the unseen.

    Attributes
    ----------
    true, predicted : hashable
    share : float
        Of the images of ``true``, in (0, 1].
    """

    true: Any
    predicted: Any
    share: float


@dataclass(frozen=True)
class ScoredSplit:
    """The scores of the test images of one split.

    Attributes
    ----------
    labels : ndarray of shape (m,)
        Seen classes, then unseen ones.
    n_seen : int
    positions : ndarray of shape (n,), int
        Of the test images among all evaluated ones.
    truth : ndarray of shape (n,), int
        Place of the true label in ``labels``.
    scores : ndarray of shape (n, m), float32
        Among all labels, without a penalty.
    unseen_scores : ndarray of shape (n_unseen_images, m - n_seen), float32
        Of the images of unseen classes, among the unseen labels.
    kept_scores : ndarray of shape (n_unseen_images, n_kept), float32
        The same among every second unseen label, from the first on.
    points, label_points : ndarray of shape (n, dim_text) and (m, dim_text), float32
        Images and labels in the text space.
    accepted : ndarray of shape (n_unseen_images,), bool, or None
        Which of them the classifier accepts among the kept labels; None if it never
        rejects.
    penalty, temperature : float
        Those of the classifier.
    counts_as_seen : ndarray of shape (m,), bool
        Labels whose score loses the penalty: also an unseen one with the name of a seen
        class, or its vector.
    hops : ndarray of shape (m, m), float64, or None
        Edges between the labels in a hierarchy, if one was given.

    Scores and points of an unreadable image are NaN. It counts as a wrong answer; the
    curves leave it out.
    """

    labels: NDArray[Any]
    n_seen: int
    positions: NDArray[np.intp]
    truth: NDArray[np.intp]
    scores: NDArray[np.float32]
    unseen_scores: NDArray[np.float32]
    kept_scores: NDArray[np.float32]
    points: NDArray[np.float32]
    label_points: NDArray[np.float32]
    accepted: NDArray[np.bool_] | None
    penalty: float
    temperature: float
    counts_as_seen: NDArray[np.bool_]
    hops: NDArray[np.float64] | None = None

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which of the labels are seen classes, (m,)."""
        return np.arange(len(self.labels)) < self.n_seen

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
        """Return which images are right among all labels.

        Returns hits (n,) bool.
        """
        return hit_at_k(self.penalised, self.truth, 1)

    def unseen_hits(self, k: int = 1) -> NDArray[np.bool_]:
        """Return which images of unseen classes are right among the unseen labels.

        ``k``: how many guesses an image has; all labels where there are fewer. Returns
        hits (n_unseen_images,) bool.
        """
        most = min(k, self.unseen_scores.shape[1])
        return hit_at_k(self.unseen_scores, self.unseen_truth, most)

    def curve(self) -> SeenUnseenCurve | None:
        """Return seen and unseen accuracy over all penalties.

        Returns curve: none unless there are images of both kinds.
        """
        readable = np.isfinite(self.scores).all(axis=1)
        of_unseen = self.of_unseen[readable]
        if of_unseen.all() or not of_unseen.any():
            return None
        return seen_unseen_curve(
            self.scores[readable], self.truth[readable], self.is_seen
        )

    def reliability(self, temperature: float | None = None) -> ReliabilityBins | None:
        """Return how often answers among the unseen labels are right, by confidence.

        ``temperature``: instead of the classifier's own. Returns bins: none without
        images of unseen classes.
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
        """Return how well scores tell whether the true label is a candidate.

        The candidates are every second unseen label. What counts is how far the best of
        them stands out from the seen classes, as for ``reject="auto"``.

        Returns curve: none with fewer than 2 unseen labels, or without images of both
        kinds.
        """
        readable = self.readable_unseen
        is_known = self.is_kept[readable]
        if is_known.all() or not is_known.any():
            return None
        values = stand_out(
            self.kept_scores[readable].max(axis=1),
            np.full(len(is_known), -1),
            self.scores[self.of_unseen][readable][:, : self.n_seen],
            self.temperature,
        )
        return rejection_curve(values, is_known)

    def accept_rates(self) -> tuple[float, float] | None:
        """Return the shares that the classifier itself accepts: rightly and falsely.

        Returns true_accepts, false_accepts: of images whose label is a candidate, and
        of the others; None where there are none of a kind or it never rejects.
        """
        if self.accepted is None or self.rejection() is None:
            return None
        kept = self.is_kept
        return float(self.accepted[kept].mean()), float(self.accepted[~kept].mean())

    def classes(self) -> list[ClassResult]:
        """Return how each class did that has test images.

        Returns classes: in the order of ``labels``.
        """
        counts = np.bincount(self.truth, minlength=len(self.labels))
        right = np.bincount(self.truth, self.hits(), len(self.labels))
        alone = np.full(len(self.labels), np.nan)
        if self.of_unseen.any():
            alone[self.n_seen :] = np.bincount(
                self.unseen_truth, self.unseen_hits(), len(self.labels) - self.n_seen
            )
        return [
            ClassResult(
                label, j < self.n_seen, int(n), alone[j] / n, float(right[j] / n)
            )
            for j, (label, n) in enumerate(
                zip(self.labels.tolist(), counts.tolist(), strict=True)
            )
            if n
        ]

    def confusion_shares(self) -> NDArray[np.float64]:
        """Return which unseen labels are predicted for which, among the unseen.

        Returns shares (n_unseen, n_unseen): rows are true labels and sum to 1, or to 0
        for one without images.
        """
        n = len(self.labels) - self.n_seen
        if n == 0 or len(self.unseen_scores) == 0:
            return np.zeros((n, n))
        readable = self.readable_unseen
        predicted = self.unseen_scores[readable].argmax(axis=1)
        counts = np.zeros((n, n))
        np.add.at(counts, (self.unseen_truth[readable], predicted), 1)
        shares: NDArray[np.float64] = counts / np.maximum(
            1, counts.sum(axis=1, keepdims=True)
        )
        return shares

    def confusions(self) -> list[Confusion]:
        """Return the mistakes among the unseen labels.

        Returns confusions: the most frequent first.
        """
        shares, unseen = self.confusion_shares(), self.labels[self.n_seen :].tolist()
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")
        order = order[: np.count_nonzero(shares)]
        return [
            Confusion(unseen[i], unseen[j], float(shares[i, j]))
            for i, j in zip(*np.unravel_index(order, shares.shape), strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Return the value of each of `METRICS`.

        Returns values: NaN where nothing can be measured. With a hierarchy also each of
        `zeroshot.evaluation.hierarchical_precision.HIERARCHICAL_METRICS`.
        """
        result = dict.fromkeys(METRICS, np.nan)
        names, hits = self.labels[self.truth], self.hits()
        for metric, kind in (
            ("gzsl_seen", ~self.of_unseen),
            ("gzsl_unseen", self.of_unseen),
        ):
            if kind.any():
                result[metric] = per_class_accuracy(names[kind], hits[kind])
        result["gzsl_h"] = harmonic_mean(result["gzsl_seen"], result["gzsl_unseen"])
        if self.of_unseen.any():
            for k, metric in ((1, "unseen_top1"), (5, "unseen_top5")):
                result[metric] = per_class_accuracy(
                    names[self.of_unseen], self.unseen_hits(k)
                )
        if (curve := self.curve()) is not None:
            result["ausuc"] = curve.area
        if (bins := self.reliability()) is not None:
            result["calibration_error"] = bins.error
        if (rejection := self.rejection()) is not None:
            result["rejection_auroc"] = rejection.auroc
            result["rejection_fpr95"] = rejection.false_accepts_at(0.95)
        if self.hops is not None:
            everything = np.arange(len(self.labels))
            near = precisions(self.penalised, everything, self.truth, self.hops)
            result |= hierarchical_metrics(near, self.of_unseen)
        return result


def score_split(
    classifier: ZeroShotClassifier,
    features: NDArray[np.float32],
    y: NDArray[Any],
    split: ZeroShotSplit,
    hops: NDArray[np.float64] | None = None,
) -> ScoredSplit:
    """Let a fitted classifier score the test images of a split.

    ``classifier``: fitted; not changed. ``features``: (n, dim_visual) float32, of all
    evaluated images. ``y``: (n,), their labels. ``hops``: (m, m) float64, edges between
    its labels, the seen ones first, in a hierarchy. Raises LabelError,
    OutOfVocabularyError as `ZeroShotClassifier.predict`.
    """
    plain = copy.copy(classifier).set_params(seen_penalty=0.0, reject=None)
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
        as_label_array(labels),
        len(seen),
        positions,
        np.array([place[label] for label in y[positions].tolist()], dtype=np.intp),
        _scores(plain, X, labels),
        _scores(plain, X_unseen, unseen),
        _scores(plain, X_unseen, kept),
        _of_readable(X, plain.transform),
        known.class_embeddings,
        accepted,
        classifier.seen_penalty_,
        classifier.temperature_,
        known.is_seen,
        hops,
    )


def _scores(
    classifier: ZeroShotClassifier, X: NDArray[np.float32], candidates: list[Any]
) -> NDArray[np.float32]:
    if len(candidates) == 0 or len(X) == 0:
        return np.empty((len(X), len(candidates)), dtype=np.float32)
    asked = list(candidates)
    if len(asked) == 2:  # of two, only the difference would come: ask for a third
        asked += [c for c in classifier.seen_classes_.tolist() if c not in asked][:1]
    scores = _of_readable(X, lambda rows: classifier.decision_function(rows, asked))
    if scores.ndim == 1:
        return np.column_stack([np.zeros_like(scores), scores])
    return scores[:, : len(candidates)]


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


def chance_of(scored: ScoredSplit) -> dict[str, float]:
    """Return what guessing reaches, for each of the metrics.

    ``scored``: of any method: only its images and labels count. Returns values: as
    `ScoredSplit.metrics`. NaN where nothing can be measured, or guessing says nothing.
    """
    has_seen, has_unseen = (~scored.of_unseen).any(), scored.of_unseen.any()
    n_all = len(scored.labels)
    n_unseen = n_all - scored.n_seen if has_unseen else np.nan
    seen = 1 / n_all if has_seen else np.nan
    unseen = 1 / n_all if has_unseen else np.nan
    rejects = n_unseen > 1
    values = dict.fromkeys(METRICS, np.nan) | {
        "unseen_top1": 1 / n_unseen,
        "unseen_top5": min(5 / n_unseen, 1.0),
        "gzsl_seen": seen,
        "gzsl_unseen": unseen,
        "gzsl_h": harmonic_mean(seen, unseen),
        "rejection_auroc": 0.5 if rejects else np.nan,
        "rejection_fpr95": 0.95 if rejects else np.nan,
    }
    if scored.hops is not None:
        guessed = chance_precisions(scored.truth, scored.hops)
        values |= hierarchical_metrics(guessed, scored.of_unseen)
    return values
