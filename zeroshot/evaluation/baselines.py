"""What a method is compared with: guessing, and a softmax classifier of the seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.evaluation.hierarchical_precision import (
    chance_precisions,
    hierarchical_metrics,
)
from zeroshot.evaluation.scored_split import METRICS, ScoredSplit
from zeroshot.metrics import harmonic_mean
from zeroshot.projections import ConSE

__all__ = ["chance_metrics", "softmax_baseline", "softmax_metrics"]


def chance_metrics(scored: ScoredSplit) -> dict[str, float]:
    """Return what guessing reaches, for each of the metrics of a split.

    Of the split, scored by any method, only images and labels count. NaN where nothing
    can be measured, or guessing says nothing.
    """
    of_unseen, n_all = scored.of_unseen, len(scored.labels)
    seen = np.nan if of_unseen.all() else 1 / n_all
    unseen = 1 / n_all if of_unseen.any() else np.nan
    n_unseen = n_all - scored.n_seen if of_unseen.any() else np.nan
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
        values |= hierarchical_metrics(guessed, of_unseen)
    return values


def softmax_metrics(
    X: NDArray[np.float32],
    y: NDArray[Any],
    train: NDArray[np.intp],
    scored: ScoredSplit,
) -> dict[str, float]:
    """Measure the softmax classifier on the images that another method scored.

    Takes features (n, dim_visual) and labels of all images, and the rows to train on.
    On every image of an unseen class it is wrong.
    """
    place = {label: j for j, label in enumerate(scored.labels.tolist())}
    columns = np.array([place[label] for label in np.unique(y[train]).tolist()])
    test = X[scored.positions]
    readable = np.asarray(np.isfinite(test).all(axis=1))
    probabilities = np.full((len(test), len(columns)), np.nan, dtype=np.float32)
    probabilities[readable] = softmax_baseline(X[train], y[train], test[readable])
    correct = readable & (columns[probabilities.argmax(axis=1)] == scored.truth)
    values = dict.fromkeys(METRICS, np.nan) | scored.generalised(correct)
    values |= dict.fromkeys(("unseen_top1", "unseen_top5"), values["gzsl_unseen"])
    return values | scored.hierarchical(probabilities, columns)


def softmax_baseline(
    train: NDArray[np.float32], y: NDArray[Any], test: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Train a softmax classifier on the seen classes and return its probabilities.

    It can never name an unseen class. How it does on seen ones says what the features
    can tell apart; its hierarchical precision on images of unseen classes, what one has
    without word vectors (DeViSE, section 4.1).

    Takes features (n_train, dim_visual) with their labels, at least 2 different ones,
    and features of other images. Returns (n_test, n_seen), float32, in the order of the
    sorted labels; rows sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> softmax_baseline(X, np.array(["cat", "dog", "emu"]), X).argmax(axis=1)
    array([0, 1, 2])
    """
    seen, index = np.unique(y, return_inverse=True)
    # ConSE begins with this classifier; with axes for embeddings it ends with it too.
    axes = np.eye(len(seen), dtype=np.float32)
    conse = ConSE(top=len(seen)).fit(train, index, class_embeddings=axes)
    return conse.transform(test)
