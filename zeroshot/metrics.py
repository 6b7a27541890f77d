"""How good a zero-shot classifier is, in the measures of the field.

References
----------
.. [1] Frome et al., "DeViSE", NeurIPS 2013 (flat hit@k); section 4.2 and the algorithm
   *hCorrectSet* of its supplement (hierarchical precision).
.. [2] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
   Bad and the Ugly", TPAMI 2018, section 4 (average per-class top-1 accuracy, harmonic
   mean).
.. [3] Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning
   for Object Recognition in the Wild", ECCV 2016, section 3.3 (seen-unseen curve).
.. [4] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
.. [5] Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
   Out-of-Distribution Examples in Neural Networks", ICLR 2017 (AUROC).
.. [6] Liang et al., "Enhancing the Reliability of Out-of-Distribution Image Detection
   in Neural Networks", ICLR 2018 (false-positive rate at 95 %).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from zeroshot.errors import LabelError

__all__ = [
    "RejectionCurve",
    "ReliabilityBins",
    "SeenUnseenCurve",
    "correct_lists",
    "expected_calibration_error",
    "harmonic_mean",
    "hierarchical_precision",
    "hit_at_k",
    "hit_curve",
    "per_class_accuracy",
    "rejection_curve",
    "reliability_bins",
    "seen_unseen_curve",
    "zero_shot_scorer",
]


def hit_at_k(
    scores: NDArray[np.floating[Any]], true_index: NDArray[np.integer[Any]], k: int
) -> NDArray[np.bool_]:
    """Tell for each image whether its true label is among its k best candidates.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_candidates)
        Higher is better.
    true_index : ndarray of shape (n_images,), int
        Column of the true label.
    k : int
        Cut-off, 1 <= k <= n_candidates. A tie with the true label counts against it,
        and so does NaN.

    Returns
    -------
    hits : ndarray of shape (n_images,), bool
        Their mean is flat hit@k [1]; `per_class_accuracy` takes them too.

    Raises
    ------
    ValueError
        If ``k`` is out of range.

    Examples
    --------
    >>> hit_at_k(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), k=1)
    array([ True, False])
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"Expected 1 <= k <= {scores.shape[1]} candidates. Got {k}.")
    return _ranks(scores, true_index) <= k


def hit_curve(
    scores: NDArray[np.floating[Any]], true_index: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return flat hit@k for every k: the share of images with the truth in the top k.

    Parameters
    ----------
    scores, true_index : ndarray
        As for `hit_at_k`.

    Returns
    -------
    hits : ndarray of shape (n_candidates,), float64
        hit@1, hit@2, ..., in [0, 1], never falling. NaN if there is no image.

    Examples
    --------
    >>> hit_curve(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    array([0.5, 1. ])
    """
    n, m = scores.shape
    if n == 0:
        return np.full(m, np.nan)
    counts = np.bincount(_ranks(scores, true_index), minlength=m + 1)[1:]
    return np.asarray(np.cumsum(counts) / n)


def _ranks(
    scores: NDArray[np.floating[Any]], true_index: NDArray[np.integer[Any]]
) -> NDArray[np.intp]:
    """Return the true label's place, 1 for the best; behind all it ties with."""
    true_score = np.take_along_axis(scores, true_index[:, None], axis=1)
    ranks: NDArray[np.intp] = (~(scores < true_score)).sum(axis=1)
    return ranks


def per_class_accuracy(y_true: NDArray[Any], correct: NDArray[np.bool_]) -> float:
    """Return the mean over classes of the share of correct images.

    Parameters
    ----------
    y_true : ndarray of shape (n_images,)
        True labels; the classes in it are averaged over.
    correct : ndarray of shape (n_images,), bool
        Whether each image was right.

    Returns
    -------
    accuracy : float
        In [0, 1]; every class counts the same, however many images it has [2].

    Examples
    --------
    >>> per_class_accuracy(np.array(["a", "a", "b"]), np.array([True, False, False]))
    0.25
    """
    _, index, counts = np.unique(y_true, return_inverse=True, return_counts=True)
    return float((np.bincount(index, weights=correct) / counts).mean())


def zero_shot_scorer(estimator: Any, X: Any, y: Any) -> float:
    """Return the per-class accuracy with the classes of ``y`` as candidates.

    For ``scoring=`` of `cross_val_score`, `GridSearchCV` and the like, with the folds
    of `zeroshot.splits.ClassDisjointKFold`. Scorings that are named by a string
    (``"accuracy"``) are always 0 there: they call ``predict(X)``, which answers among
    the classes that were trained on, and no image of a fold is of these.

    Parameters
    ----------
    estimator : ZeroShotClassifier, or a Pipeline or search that ends in one
        Fitted.
    X : images, or array-like of shape (n, dim_visual)
        As `ZeroShotClassifier.predict` takes them.
    y : array-like of shape (n,)
        True labels, of at least 2 classes.

    Returns
    -------
    accuracy : float
        In [0, 1], as `per_class_accuracy`.

    Raises
    ------
    LabelError
        If ``y`` has fewer than 2 classes: a single candidate is always right.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from zeroshot import ZeroShotClassifier
    >>> from zeroshot.embeddings import Attributes
    >>> from zeroshot.splits import ClassDisjointKFold
    >>> T = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> words = Attributes(["cat", "dog", "fox", "owl"], T)
    >>> X, y = np.repeat(T, 2, axis=0), np.repeat(["cat", "dog", "fox", "owl"], 2)
    >>> classifier = ZeroShotClassifier(None, words, projection="ridge")
    >>> cv = ClassDisjointKFold(2)
    >>> cross_val_score(classifier, X, y, cv=cv, scoring=zero_shot_scorer)
    array([1., 1.])
    """
    while hasattr(estimator, "best_estimator_"):  # a search passes no candidates on
        estimator = estimator.best_estimator_
    labels = np.asarray(column_or_1d(y))
    candidates = np.unique(labels).tolist()
    if len(candidates) < 2:
        raise LabelError(
            f"Expected images of at least 2 classes to tell apart. Got {candidates}. "
            f"Make fewer folds, so that each has more classes."
        )
    predicted = np.asarray(estimator.predict(X, candidate_labels=candidates))
    check_consistent_length(predicted, labels)
    # As objects: "unknown" may stand beside labels that are numbers.
    is_right = predicted.astype(object) == labels.astype(object)
    return per_class_accuracy(labels, is_right)


def harmonic_mean(seen: float, unseen: float) -> float:
    """Return ``H = 2 S U / (S + U)`` [2], 0 where both are 0.

    Parameters
    ----------
    seen, unseen : float
        Per-class accuracies of the seen (S) and unseen (U) classes, candidates being
        both.

    Returns
    -------
    h : float
        In [0, 1].

    Examples
    --------
    >>> harmonic_mean(0.6, 0.2)
    0.3
    """
    return 0.0 if seen + unseen == 0 else 2 * seen * unseen / (seen + unseen)


def hierarchical_precision(
    ranked: NDArray[np.integer[Any]],
    true_row: NDArray[np.integer[Any]],
    hops: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Return the share of each image's k best candidates that are near its label.

    Near are the labels of the *correct list*, see `correct_lists`. So a guess that is a
    near relation of the true label counts, and a list of k guesses can be all right.
    For k = 1 and a true label among the candidates it is flat hit@1.

    Parameters
    ----------
    ranked : ndarray of shape (n_images, k), int
        Columns of ``hops``: the k best candidates of each image, as from
        `zeroshot.scoring.top_k`, 1 <= k <= n_candidates.
    true_row : ndarray of shape (n_images,), int
        Row of ``hops`` of the true label.
    hops : ndarray of shape (n_labels, n_candidates)
        Edges between each true label and each candidate, 0 for itself, inf where there
        is no path (never correct); as from `zeroshot.hierarchy.Hierarchy.hops`.

    Returns
    -------
    precision : ndarray of shape (n_images,), float64
        In [0, 1]; their mean over images is hierarchical precision@k [1].

    Raises
    ------
    ValueError
        If ``k`` is out of range.

    Examples
    --------
    >>> hops = np.array([[0, 2, 2, 6.0]])  # cat to cat, dog, fox, car
    >>> hierarchical_precision(np.array([[1, 3]]), np.array([0]), hops)
    array([0.5])
    """
    is_correct = correct_lists(hops, ranked.shape[1])
    precision: NDArray[np.float64] = is_correct[true_row[:, None], ranked].mean(axis=1)
    return precision


def correct_lists(hops: NDArray[np.floating[Any]], k: int) -> NDArray[np.bool_]:
    """Tell which candidates count as near each label, for a list of k guesses.

    All those within the smallest radius, in hops over the hierarchy, that has at least
    k of them (*hCorrectSet* [1]).

    Parameters
    ----------
    hops : ndarray of shape (n_labels, n_candidates)
        As for `hierarchical_precision`.
    k : int
        Number of guesses, 1 <= k <= n_candidates.

    Returns
    -------
    is_correct : ndarray of shape (n_labels, n_candidates), bool

    Raises
    ------
    ValueError
        If ``k`` is out of range.

    Examples
    --------
    >>> hops = np.array([[0, 2, 2, 6.0]])  # cat to cat, dog, fox, car
    >>> correct_lists(hops, 2)
    array([[ True,  True,  True, False]])
    """
    if not 1 <= k <= hops.shape[1]:
        raise ValueError(f"Expected 1 <= k <= {hops.shape[1]} candidates. Got {k}.")
    radius = np.partition(hops, k - 1, axis=1)[:, k - 1]
    return np.asarray((hops <= radius[:, None]) & np.isfinite(hops))


@dataclass(frozen=True)
class SeenUnseenCurve:
    """Accuracies of seen and unseen classes over all penalties of the seen ones.

    Attributes
    ----------
    steps : ndarray of shape (n_points - 1,), float64
        Ascending: the penalties at which the accuracies change.
    seen, unseen : ndarray of shape (n_points,), float64
        Per-class accuracies S and U, in [0, 1]: first for penalties below all steps,
        then between each two, last above all.
    """

    steps: NDArray[np.float64]
    seen: NDArray[np.float64]
    unseen: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under S over U (AUSUC), in [0, 1]; no penalty need be chosen for it."""
        return float(np.trapezoid(self.seen, self.unseen))

    @property
    def h(self) -> NDArray[np.float64]:
        """Harmonic mean at each point. Its maximum is known in hindsight only."""
        total = self.seen + self.unseen
        product = 2 * self.seen * self.unseen
        return np.divide(product, total, out=np.zeros_like(total), where=total > 0)

    @property
    def best_penalty(self) -> float:
        """The middle of the penalties with the largest H, known in hindsight only."""
        i = int(self.h.argmax())
        return float(self.steps[[max(i - 1, 0), min(i, len(self.steps) - 1)]].mean())

    def at(self, penalty: float) -> tuple[float, float]:
        """Return S and U at one penalty.

        Parameters
        ----------
        penalty : float

        Returns
        -------
        seen, unseen : float
        """
        i = np.searchsorted(self.steps, penalty)
        return float(self.seen[i]), float(self.unseen[i])


def seen_unseen_curve(
    scores: NDArray[np.floating[Any]],
    true_index: NDArray[np.integer[Any]],
    is_seen: NDArray[np.bool_],
) -> SeenUnseenCurve:
    """Return the accuracies for every penalty of the seen classes there can be [3].

    Exact: an image's answer changes from its best seen to its best unseen candidate at
    one penalty, the difference of their scores, so these are all the steps there are.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_candidates)
        Without a penalty; finite.
    true_index : ndarray of shape (n_images,), int
        Column of the true label; labels are averaged over.
    is_seen : ndarray of shape (n_candidates,), bool
        Which candidates were trained on.

    Returns
    -------
    curve : SeenUnseenCurve

    Raises
    ------
    ValueError
        If there are no images or no candidates of either kind, or a score is not
        finite.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.2], [0.8, 0.7]])
    >>> curve = seen_unseen_curve(scores, np.array([0, 1]), np.array([True, False]))
    >>> curve.seen, curve.unseen, curve.area
    (array([1., 1., 0.]), array([0., 1., 1.]), 1.0)
    """
    of_seen = is_seen[true_index]
    if not (0 < of_seen.sum() < len(of_seen) and np.isfinite(scores).all()):
        raise ValueError(
            f"Expected finite scores of images of seen and of unseen classes. Got "
            f"{of_seen.sum()} images of seen and {(~of_seen).sum()} of unseen classes, "
            f"and {np.isfinite(scores).mean():.0%} of the scores finite."
        )
    best_seen = np.where(is_seen, scores, -np.inf).argmax(axis=1)
    best_unseen = np.where(is_seen, -np.inf, scores).argmax(axis=1)
    rows = np.arange(len(scores))
    gap = scores[rows, best_seen].astype(np.float64) - scores[rows, best_unseen]
    is_right = np.where(of_seen, best_seen, best_unseen) == true_index
    critical, step = np.unique(gap, return_inverse=True)
    # Each right image weighs what it adds to the mean over the classes of its kind.
    weight = is_right / np.bincount(true_index)[true_index]
    curve = {}
    for kind in (True, False):
        member = of_seen == kind
        weights = weight[member] / len(np.unique(true_index[member]))
        curve[kind] = np.concatenate(
            [[0.0], np.bincount(step[member], weights, len(critical)).cumsum()]
        )
    return SeenUnseenCurve(critical, curve[True][-1] - curve[True], curve[False])


@dataclass(frozen=True)
class ReliabilityBins:
    """How often predictions of about the same confidence are right.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,), float64
        From 0 to 1, equally spaced.
    counts : ndarray of shape (n_bins,), int
        Predictions with a confidence in ``(edges[i], edges[i + 1]]``.
    confidence, accuracy : ndarray of shape (n_bins,), float64
        Mean confidence and share of right ones; NaN for an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.intp]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error (ECE): mean gap between the two, in [0, 1]."""
        used = self.counts > 0
        gaps = np.abs(self.confidence - self.accuracy)[used]
        return float(np.average(gaps, weights=self.counts[used]))


def reliability_bins(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_], n_bins: int = 15
) -> ReliabilityBins:
    """Sort predictions into bins of equal width by their confidence [4].

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Probability of each image's predicted label, in [0, 1].
    correct : ndarray of shape (n,), bool
        Whether the prediction was right.
    n_bins : int, default=15
        >= 1. The paper's number.

    Returns
    -------
    bins : ReliabilityBins

    Raises
    ------
    ValueError
        If there are no predictions, or a confidence is out of range.
    """
    p = np.asarray(confidence, dtype=np.float64)
    n_in_range = int(((p >= 0) & (p <= 1)).sum())
    if n_in_range < max(len(p), 1):
        raise ValueError(
            f"Expected at least one confidence, each in [0, 1]. Got {len(p)}, "
            f"{n_in_range} of them in range. Give probabilities."
        )
    edges = np.linspace(0, 1, n_bins + 1)
    index = np.searchsorted(edges[1:-1], p)
    counts = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # empty bins: 0 / 0
        return ReliabilityBins(
            edges,
            counts,
            np.bincount(index, p, n_bins) / counts,
            np.bincount(index, correct, n_bins) / counts,
        )


def expected_calibration_error(
    confidence: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    n_bins: int = 15,
) -> float:
    """Return how far confidences are from the share of right predictions, on average.

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Probability of each image's predicted label, in [0, 1].
    correct : ndarray of shape (n,), bool
        Whether the prediction was right.
    n_bins : int, default=15
        See `reliability_bins`.

    Returns
    -------
    error : float
        In [0, 1]; 0 for calibrated probabilities.

    Raises
    ------
    ValueError
        As `reliability_bins`.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> expected_calibration_error(np.array([0.75] * 4), np.array([1, 1, 1, 0]) == 1)
    0.0
    """
    return reliability_bins(confidence, correct, n_bins).error


@dataclass(frozen=True)
class RejectionCurve:
    """What is accepted at every threshold, of images whose label is or is not there.

    Attributes
    ----------
    thresholds : ndarray of shape (n_points,), float64
        Descending, inf first: an image is accepted if its score is at least this.
    true_accepts, false_accepts : ndarray of shape (n_points,), float64
        Shares accepted of the known and of the unknown images, in [0, 1].
    """

    thresholds: NDArray[np.float64]
    true_accepts: NDArray[np.float64]
    false_accepts: NDArray[np.float64]

    @property
    def auroc(self) -> float:
        """Chance that a known image scores above an unknown one, in [0, 1]."""
        from sklearn.metrics import auc

        return float(auc(self.false_accepts, self.true_accepts))

    def false_accepts_at(self, true_accepts: float = 0.95) -> float:
        """Return the share of unknown images let in with that share of known ones.

        Parameters
        ----------
        true_accepts : float, default=0.95
            In (0, 1]; at least this share of the known images is accepted.

        Returns
        -------
        rate : float
        """
        return float(self.false_accepts[np.argmax(self.true_accepts >= true_accepts)])


def rejection_curve(
    scores: NDArray[np.floating[Any]], is_known: NDArray[np.bool_]
) -> RejectionCurve:
    """Return how well scores tell images of the candidates from all others [5], [6].

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of each image's best candidate; finite.
    is_known : ndarray of shape (n,), bool
        Whether the image's true label is among the candidates.

    Returns
    -------
    curve : RejectionCurve

    Raises
    ------
    ValueError
        If all images are known or none is, or a score is not finite.

    Examples
    --------
    >>> scores, is_known = np.array([0.9, 0.6, 0.7, 0.1]), np.array([1, 1, 0, 0]) == 1
    >>> curve = rejection_curve(scores, is_known)
    >>> curve.auroc, curve.false_accepts_at(0.95)
    (0.75, 0.5)
    """
    from sklearn.metrics import roc_curve  # late: no prediction needs it

    if is_known.all() or not is_known.any():
        raise ValueError(
            f"Expected known and unknown images. Got {is_known.sum()} known of "
            f"{len(is_known)}."
        )
    false, true, thresholds = roc_curve(is_known, scores, drop_intermediate=False)
    return RejectionCurve(thresholds, true, false)
