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
    kind: tuple(f"gzsl_{kind}_hp{k}" for k in CUTOFFS) for kind in ("seen", "unseen")
}
"""What is measured of images of seen and of unseen classes, all being candidates."""


def precisions(
    scores: NDArray[np.floating[Any]],
    columns: NDArray[np.intp],
    truth: NDArray[np.intp],
    hops: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the hierarchical precision of each image at each of `CUTOFFS`.

    Parameters
    ----------
    scores : ndarray of shape (n, n_ranked)
        Of the candidates that compete; higher is better. A row of NaN, of an unreadable
        image, has precision 0.
    columns : ndarray of shape (n_ranked,), int
        Where they stand among all labels. Correct lists are made of all labels, also of
        those that do not compete.
    truth : ndarray of shape (n,), int
        Place of the true label among all labels.
    hops : ndarray of shape (m, m), float64
        Edges between all labels, see `zeroshot.hierarchy.Hierarchy.hops`.

    Returns
    -------
    precisions : ndarray of shape (n, n_cutoffs), float64
        In [0, 1]; NaN where fewer than k candidates compete.
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
    """Return the hierarchical precision that guesses among all labels can expect.

    Parameters
    ----------
    truth, hops : ndarray
        As for `precisions`.

    Returns
    -------
    precisions : ndarray of shape (n, n_cutoffs), float64
        For k guesses the share of labels that are in the correct list.
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

    Parameters
    ----------
    precisions : ndarray of shape (n, n_cutoffs), float64
        At each of `CUTOFFS`.
    of_unseen : ndarray of shape (n,), bool
        Which of the images are of unseen classes.

    Returns
    -------
    values : dict of str to float
        For each of `HIERARCHICAL_METRICS`; NaN where there is no such image, or there
        are fewer than k candidates.
    """
    values: dict[str, float] = {}
    for kind, members in (("seen", ~of_unseen), ("unseen", of_unseen)):
        means = precisions[members].sum(axis=0) / (members.sum() or np.nan)
        values |= zip(HIERARCHICAL_METRICS[kind], means.tolist(), strict=True)
    return values
