"""How near the answers of an evaluation are to the truth, in a hierarchy of its labels.

Hierarchical precision@k as in the tables of DeViSE [1]_: means over images, not over
classes.

References
----------
.. [1] Frome et al., "DeViSE", NeurIPS 2013, section 4.2 and tables 1 and 3.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.metrics import correct_lists, hierarchical_precision
from zeroshot.scoring.ranking import top_k

__all__ = [
    "CUTOFFS",
    "HIERARCHICAL_METRICS",
    "chance_precisions",
    "hierarchical_metrics",
    "precisions",
]

CUTOFFS = (1, 2, 5, 10, 20)  # the paper's, and 1, which is flat hit@1
HIERARCHICAL_METRICS = {
    kind: {f"gzsl_{kind}_hp{k}": f"hp@{k}" for k in CUTOFFS}
    for kind in ("seen", "unseen")
}
"""What is measured of images of seen and of unseen classes, all being candidates, and
its title in tables."""


def precisions(
    scores: NDArray[np.floating[Any]],
    columns: NDArray[np.intp],
    truth: NDArray[np.intp],
    hops: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the hierarchical precision, (n, n_cutoffs), of each image at `CUTOFFS`.

    Scores, (n, n_ranked), are of the candidates that compete, which stand in columns
    of all m labels; so does truth. Hops, (m, m), are the edges between all labels: the
    correct lists are made of them all. A row of NaN, of an unreadable image, has
    precision 0; where fewer than k candidates compete, it is NaN.
    """
    ranked = columns[top_k(scores, max(CUTOFFS))]
    readable = np.isfinite(scores).all(axis=1)
    result = np.full((len(scores), len(CUTOFFS)), np.nan)
    for i, k in enumerate(CUTOFFS):
        if k <= len(columns):
            result[:, i] = hierarchical_precision(ranked[:, :k], truth, hops) * readable
    return result


def chance_precisions(
    truth: NDArray[np.intp], hops: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the precision, (n, n_cutoffs), that guesses among all labels can expect.

    For k guesses it is the share of labels that are in the correct list.
    """
    result = np.full((len(truth), len(CUTOFFS)), np.nan)
    for i, k in enumerate(CUTOFFS):
        if k <= len(hops):
            result[:, i] = correct_lists(hops, k).mean(axis=1)[truth]
    return result


def hierarchical_metrics(
    precisions: NDArray[np.float64], of_unseen: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the means over images of seen and over images of unseen classes.

    Of precisions, (n, n_cutoffs), for each of `HIERARCHICAL_METRICS`; NaN where there
    is no such image, or there are fewer than k candidates.
    """
    values: dict[str, float] = {}
    for kind, members in (("seen", ~of_unseen), ("unseen", of_unseen)):
        means = precisions[members].sum(axis=0) / (members.sum() or np.nan)
        values |= zip(HIERARCHICAL_METRICS[kind], means.tolist(), strict=True)
    return values
