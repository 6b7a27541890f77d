"""What scores mean, learnt on folds of seen classes that play the unseen ones.

How the folds are made: `zeroshot.scoring.folds`.

References
----------
.. [1] Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning
   for Object Recognition in the Wild", ECCV 2016 (calibrated stacking).
.. [2] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature).
.. [3] Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.scoring.folds import Folds, Training, train_background, train_on_folds
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import SCORES_PER_BLOCK, blocks
from zeroshot.scoring.rejection import Background, StandOut

__all__ = ["MIN_CLASSES", "Calibration", "fit_calibration"]

MIN_CLASSES = 4  # two folds of two classes: fewer leave nothing to choose between
MOST_IMAGES = 20_000  # that are looked at: bounds n_images x n_classes
N_PENALTIES = 301  # quantiles of the differences that a penalty must make up for
TEMPERATURES = (1e-3, 10.0)  # bounds of the search


@dataclass(frozen=True)
class Calibration:
    """What was learnt on the folds, and how good it was there.

    Attributes
    ----------
    seen_penalty : float
        With the best harmonic mean of seen and unseen accuracy, mean over folds [1]_.
    temperature : float
        With the least negative log likelihood of the left-out classes' labels among
        themselves [2]_.
    false_accept_rate : float
        With the best mean of images rightly accepted and rightly rejected.
    slope, intercept : float
        Of the logistic function from standard scores to probabilities [3]_.
    n_folds : int
        Behind all of these but ``background``, which has folds of its own.
    h, h_without : float
        Harmonic mean on the folds, with the penalty and without.
    auroc : float
        Area under the ROC curve of telling images whose label is a candidate from
        others, with half of a fold's left-out labels as candidates.
    background : Background
    """

    seen_penalty: float
    temperature: float
    false_accept_rate: float
    slope: float
    intercept: float
    n_folds: int
    h: float
    h_without: float
    auroc: float
    background: Background

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what JSON can hold, and the arrays."""
        record = {k: v for k, v in vars(self).items() if k != "background"}
        return record, self.background.to_arrays()

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> Self:
        """Return the calibration that `to_record` was called on.

        ``record``, ``arrays``: as `to_record` returned them.
        """
        numbers = {name: float(value) for name, value in record.items()}
        numbers["n_folds"] = int(record["n_folds"])
        if not all(map(math.isfinite, numbers.values())):
            raise ValueError("numbers of a calibration that are not finite")
        return cls(**numbers, background=Background.from_arrays(arrays))  # type: ignore[arg-type]

    def beside(self, places: NDArray[np.intp], n_classes: int) -> Self:
        """Return the same where the seen classes are some of more.

        ``places``: (n_before,) int, the number of each class from now on.
        """
        before = self.background
        folds = -1 - np.arange(n_classes)  # new ones: in no fold, alone
        folds[places] = before.folds
        background = replace(before, labels=places[before.labels], folds=folds)
        return replace(self, background=background)

    def independent(
        self, label_points: NDArray[np.float32], class_of: NDArray[np.intp]
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return what turns scores into the probability of each label by itself.

        A score counts in standard deviations above what images of other classes score
        with the label.

        ``label_points``: (m, dim + 1) float32, the candidates in the `LabelSpace`.
        ``class_of``: (m,) int, seen class that each names, or -1. Returns
        probabilities: from scores (n, m) without a seen penalty to probabilities (n,
        m), float32, in [0, 1]; 0.5 where the label applies as likely as not, if it
        applies to half of all images.
        """
        statistics = np.empty((2, len(label_points)))
        points, labels = self.background.points, self.background.labels[:, None]
        for columns in blocks(len(label_points), len(points)):
            statistics[:, columns] = _label_statistics(
                LabelSpace.scores(points, label_points[columns]),
                labels == class_of[columns],
            )

        def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float32]:
            standard = (scores - statistics[0]) / statistics[1]
            found: NDArray[np.float32] = expit(self.slope * standard + self.intercept)
            return found.astype(np.float32)

        return probabilities


def fit_calibration(
    training: Training, penalty: float | None, seed: int
) -> Calibration:
    """Train on folds of the classes and learn from them what scores mean.

    ``training``: of at least `MIN_CLASSES` classes. ``penalty``: the seen penalty that
    will be used; None means the one found here. ``seed``: of the folds.
    """
    parts = train_on_folds(training, seed, MOST_IMAGES)
    found, h, h_without = _best_penalty(parts)
    temperature = _best_temperature(parts)
    rate, auroc = _best_rate(parts, found if penalty is None else penalty, temperature)
    slope, intercept = _fit_logistic(parts)
    return Calibration(
        found,
        temperature,
        rate,
        slope,
        intercept,
        len(parts.label_points),
        h,
        h_without,
        auroc,
        train_background(training, seed),
    )


def _best_penalty(parts: Folds) -> tuple[float, float, float]:
    """Return the penalty of the best H, that H and the H without; means over folds."""
    sides = []
    for fold in np.unique(parts.folds):
        is_new = parts.folds[parts.y] == fold
        is_known = ~is_new & (parts.image_folds == fold)
        for points, rows in ((parts.known, is_known), (parts.new, is_new)):
            scores = LabelSpace.scores(points[rows], parts.label_points[fold])
            truth = parts.y[rows]
            unseen = parts.folds == fold
            best_seen = np.where(unseen, -np.inf, scores).max(axis=1)
            best_unseen = np.where(unseen, scores, -np.inf).max(axis=1)
            own = np.where(unseen[truth], best_unseen, best_seen)
            right = scores[np.arange(len(truth)), truth] >= own
            sides.append((truth, right, best_seen - best_unseen))
    differences = np.concatenate([difference for _, _, difference in sides])
    penalties = np.quantile(differences, np.linspace(0, 1, N_PENALTIES))
    curves = [
        [_h(seen, unseen, penalty) for penalty in (*penalties, 0.0)]
        for seen, unseen in zip(sides[::2], sides[1::2], strict=True)
    ]
    h = np.mean(curves, axis=0)
    equal = np.flatnonzero(h[:-1] == h[:-1].max())
    best = int(equal[len(equal) // 2])  # few images: a plateau; its middle is safest
    return float(penalties[best]), float(h[best]), float(h[-1])


def _h(seen: Any, unseen: Any, penalty: float) -> float:
    accuracies = []
    for (truth, right, difference), sign in ((seen, 1), (unseen, -1)):
        if len(truth) == 0:  # every seen class has one image only
            return 0.0
        wins = sign * (difference - penalty) > 0
        accuracies.append(per_class_accuracy(truth, right & wins))
    return harmonic_mean(*accuracies)


def _best_temperature(parts: Folds) -> float:
    from scipy.optimize import minimize_scalar

    tasks = []
    for fold in np.unique(parts.folds):
        classes = np.flatnonzero(parts.folds == fold)
        rows = np.isin(parts.y, classes)
        labels = parts.label_points[fold, classes]
        scores = LabelSpace.scores(parts.new[rows], labels).astype(np.float64)
        columns = np.searchsorted(classes, parts.y[rows])
        tasks.append((scores, scores[np.arange(len(columns)), columns]))

    def loss(log_temperature: float) -> float:
        t = np.exp(log_temperature)
        return float(
            sum((logsumexp(s / t, axis=1) - own / t).sum() for s, own in tasks)
        )

    bounds = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _best_rate(parts: Folds, penalty: float, temperature: float) -> tuple[float, float]:
    """Return the false-accept rate of the best balanced accuracy, and the AUROC.

    With half of a fold's left-out labels as candidates.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    is_known, values = [], []
    for fold in np.unique(parts.folds):
        classes = np.flatnonzero(parts.folds == fold)
        rows = np.isin(parts.y, classes)
        labels = parts.label_points[fold]
        for half in (classes[::2], classes[1::2]):
            none = np.full(len(parts.pretrained[fold]), -1)
            standing = StandOut(
                candidates=labels[half],
                class_of=np.full(len(half), -1),
                pretrained_of=none,
                seen=labels[parts.folds != fold],
                pretrained=parts.pretrained[fold],
                twins=none,
                penalty=penalty,
                temperature=temperature,
            )
            values.append(standing.of(parts.new[rows]))
            is_known.append(np.isin(parts.y[rows], half))
    truth, statistic = np.concatenate(is_known), np.concatenate(values)
    false_accepts, true_accepts, _ = roc_curve(truth, statistic)
    best = false_accepts[(true_accepts - false_accepts).argmax()]
    return float(np.clip(best, 0.01, 0.99)), float(roc_auc_score(truth, statistic))


def _fit_logistic(parts: Folds) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    fold_of = parts.folds[parts.y]
    standards, own = [], []
    # A few classes at a time: all scores in float64 would be n_images x n_classes.
    for classes in blocks(len(parts.folds), len(parts.y), SCORES_PER_BLOCK // 8):
        labels = np.arange(len(parts.folds))[classes]
        scores = np.empty((len(parts.y), len(labels)), np.float32)
        for fold, label_points in enumerate(parts.label_points[:, classes]):
            rows = fold_of == fold
            scores[rows] = LabelSpace.scores(parts.new[rows], label_points)
        is_own = parts.y[:, None] == labels
        mean, deviation = _label_statistics(scores, is_own)
        together = fold_of[:, None] == parts.folds[classes]
        standards.append(((scores - mean) / deviation)[together])
        own.append(is_own[together])
    logistic = LogisticRegression(class_weight="balanced")
    logistic.fit(np.concatenate(standards)[:, None], np.concatenate(own))
    return float(logistic.coef_[0, 0]), float(logistic.intercept_[0])


def _label_statistics(
    scores: NDArray[np.floating[Any]], is_own: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each column over images of other classes."""
    n = np.maximum(1, (~is_own).sum(axis=0))
    others = np.where(is_own, 0, scores).astype(np.float64)
    mean = others.sum(axis=0) / n
    squares = np.where(is_own, 0, (scores - mean) ** 2).sum(axis=0) / n
    return mean, np.maximum(np.sqrt(squares), np.finfo(np.float32).eps)
