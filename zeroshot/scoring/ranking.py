"""Points and class embeddings to scores, probabilities and ranks."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.arrays import rows_times, unit_rows

__all__ = [
    "COLUMNS",
    "Ranking",
    "blocks",
    "cosine_scores",
    "rank_blocks",
    "rank_candidates",
    "softmax",
    "top_k",
    "unit_points",
]

# Scores of a block: 16 MB of float32, of several sizes the quickest.
ROWS, COLUMNS = 512, 8192
GROUPS = 256  # of columns, in a block, at least; see `_Best.add`
SCORES_PER_BLOCK = 2**24  # 64 MB of float32, where scores are kept for a while


class Ranking(NamedTuple):
    """The best candidates of each image, best first.

    Attributes
    ----------
    columns : ndarray of shape (n, k), int
        Of the candidates. Of equal scores the earlier candidate comes first.
    scores : ndarray of shape (n, k), float32
        NaN for an image whose point is not finite.
    probabilities : ndarray of shape (n, k), float64, or None
        `softmax` over all candidates, if a temperature was given.
    """

    columns: NDArray[np.intp]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float64] | None


def blocks(n: int, width: int, size: int = SCORES_PER_BLOCK) -> Iterator[slice]:
    """Yield slices of ``n`` rows, each of as many as have ``size`` scores together.

    ``width``: scores of a row. One row, where it has more than ``size``.
    """
    step = max(1, size // width)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def cosine_scores(
    points: NDArray[np.float32], class_embeddings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the cosine of every point with every class embedding.

    Parameters
    ----------
    points : ndarray of shape (n, dim_text), float32
        Projected images, of any length. A row of NaN gives a row of NaN.
    class_embeddings : ndarray of shape (m, dim_text), float32
        Of unit length.

    Returns
    -------
    scores : ndarray of shape (n, m), float32
        In [-1, 1]; higher is better.
    """
    unit, is_finite = unit_points(points)
    scores: NDArray[np.float32] = rows_times(unit, class_embeddings.T)
    scores[~is_finite] = np.nan
    return scores


def softmax(
    scores: NDArray[np.floating[Any]], temperature: float
) -> NDArray[np.float64]:
    """Return ``exp(score / temperature)``, normalised over the candidates.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
        Higher is better.
    temperature : float
        > 0; small values make the best candidate take all.

    Returns
    -------
    probabilities : ndarray of shape (n, m), float64
        Rows sum to 1.
    """
    logits = np.asarray(scores, dtype=np.float64) / temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(
        axis=1, keepdims=True
    )
    return probabilities


def top_k(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.intp]:
    """Return the columns of the ``k`` best candidates, best first.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
        Higher is better; finite, or NaN in a whole row, which then is in no order.
    k : int
        At least 1; all candidates where there are fewer. Ties go to the earlier one.

    Returns
    -------
    columns : ndarray of shape (n, min(k, m)), int
    """
    best = _Best(len(scores), min(k, scores.shape[1]), scores.dtype)
    best.add(slice(0, len(scores)), 0, scores)
    return best.columns


def rank_candidates(
    points: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    k: int,
    *,
    penalty: NDArray[np.float32] | None = None,
    temperature: float | None = None,
) -> Ranking:
    """Return the ``k`` best candidates of each image, however many candidates.

    Exact, as a stable sort of all scores would be, but those are never all there: they
    come in blocks, and of a block only what beats the ``k``-th best so far is looked
    at. Time and memory: benchmarks/results/projections.md.

    Parameters
    ----------
    points : ndarray of shape (n, dim_text), float32
        Projected images, of any length. A row may be NaN.
    class_embeddings : ndarray of shape (m, dim_text), float32
        Of unit length.
    k : int
        At least 1; all candidates where there are fewer.
    penalty : ndarray of shape (m,), float32, or None, default=None
        Subtracted from the scores of each candidate.
    temperature : float or None, default=None
        Of the probabilities, > 0; None leaves them out.

    Returns
    -------
    ranking : Ranking
        Of ``min(k, m)`` candidates for each image.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.array([[3.0, 4.0]], np.float32)
    >>> ranking = rank_candidates(points, np.eye(2, dtype=np.float32), 1)
    >>> ranking.columns.item(), round(ranking.scores.item(), 3)
    (1, 0.8)
    """
    m = len(class_embeddings)
    lost = np.zeros(m, np.float32) if penalty is None else penalty
    parts = (
        (columns.start, class_embeddings[columns], lost[columns])
        for columns in blocks(m, 1, COLUMNS)
    )
    return rank_blocks(points, parts, m, k, temperature)


def rank_blocks(
    points: NDArray[np.float32],
    labels: Iterable[tuple[int, NDArray[np.float32], NDArray[np.float32]]],
    m: int,
    k: int,
    temperature: float | None,
) -> Ranking:
    """Do what `rank_candidates` does, with candidates that come in blocks.

    ``labels``: of each block the column of its first label, in rising order; points
    (n_some, dim) float32 of unit length, at most `COLUMNS` of them; and what their
    scores lose, (n_some,). ``m``: labels of all blocks.
    """
    n = len(points)
    unit, is_finite = unit_points(points)
    best = _Best(n, min(k, m), np.dtype(np.float32))
    log_total = np.full(n, -np.inf)
    buffer = np.empty((min(n, ROWS), min(m, COLUMNS)), dtype=np.float32)
    for first, vectors, penalty in labels:
        for rows in blocks(n, 1, ROWS):
            scores = buffer[: rows.stop - rows.start, : len(vectors)]
            rows_times(unit[rows], vectors.T, out=scores)
            if penalty.any():
                scores -= penalty
            best.add(rows, first, scores)
            if temperature is not None:
                log_total[rows] = np.logaddexp(
                    log_total[rows], _log_total(scores, temperature)
                )
    probabilities = None
    if temperature is not None:
        logits = best.scores.astype(np.float64) / temperature
        probabilities = np.exp(logits - log_total[:, None])
        probabilities[~is_finite] = np.nan
    best.scores[~is_finite] = np.nan
    return Ranking(best.columns, best.scores, probabilities)


class _Best:
    """The best so far of each image, best first: ``columns`` and ``scores``, (n, k)."""

    def __init__(self, n: int, k: int, dtype: np.dtype[Any]) -> None:
        self.k = k
        self.columns = np.tile(np.arange(k), (n, 1))
        self.scores = np.full((n, k), -np.inf, dtype)

    def add(
        self, rows: slice, first_column: int, scores: NDArray[np.floating[Any]]
    ) -> None:
        """Take in a block of scores, of later columns than those before.

        The columns are dealt to groups, and the best of each group is found: one quick
        pass. Groups whose best does not beat the k-th best so far cannot matter.
        """
        n, m = scores.shape
        if m == 0:
            return
        columns, best = self.columns[rows], self.scores[rows]
        size = max(1, m // max(GROUPS, 4 * self.k))
        n_groups = m // size
        groups = scores[:, : size * n_groups].reshape(n, size, n_groups)
        group_best = groups.max(axis=1)
        threshold = best[:, -1]
        is_good = group_best > threshold[:, None]
        bound = np.full(n, -np.inf, scores.dtype)
        if self.k <= n_groups and np.count_nonzero(is_good) > self.k * n:
            # At least k of this block are as good as the k-th best of the groups.
            bound = -np.partition(-group_best, self.k - 1, axis=1)[:, self.k - 1]
            is_good &= group_best >= bound[:, None]
        row, group = np.nonzero(is_good)
        members = groups[row, :, group]
        hit, place = np.nonzero(
            (members > threshold[row, None]) & (members >= bound[row, None])
        )
        row, column = row[hit], place * n_groups + group[hit] + first_column
        changed = np.unique(row)
        if len(changed):
            all_rows = np.concatenate([np.repeat(changed, self.k), row])
            all_columns = np.concatenate([columns[changed].ravel(), column])
            all_scores = np.concatenate([best[changed].ravel(), members[hit, place]])
            order = np.lexsort((all_columns, -all_scores, all_rows))
            counts = np.bincount(all_rows, minlength=n)[changed]
            starts = np.cumsum(counts) - counts
            kept = order[starts[:, None] + np.arange(self.k)]
            columns[changed], best[changed] = all_columns[kept], all_scores[kept]
        self.add(rows, first_column + size * n_groups, scores[:, size * n_groups :])


def unit_points(
    points: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return points at unit length, zeros for those not finite, and which are."""
    is_finite: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(axis=1))
    if is_finite.all() and len(points):
        return unit_rows(points), is_finite
    unit = np.zeros_like(points)
    if is_finite.any():
        unit[is_finite] = unit_rows(points[is_finite])
    return unit, is_finite


def _log_total(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the log of the sum of ``exp(score / temperature)``; overwrites scores."""
    best = scores.max(axis=1, keepdims=True)
    scores -= best
    scores /= np.float32(temperature)
    np.exp(scores, out=scores)
    total: NDArray[np.float64] = np.log(scores.sum(axis=1, dtype=np.float64))
    total += best[:, 0].astype(np.float64) / temperature
    return total
