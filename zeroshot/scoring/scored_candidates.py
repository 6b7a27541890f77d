"""Candidates and images that have met: scores, the best of them, what stands out.

Scores are computed when they are asked for, some images at a time: those of all images
with a million labels would not fit into memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.scoring.answers import RankedLabel
from zeroshot.scoring.calibration import Calibration
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import (
    Ranking,
    cosine_scores,
    rank_candidates,
    softmax,
    top_k,
)
from zeroshot.scoring.rejection import SCORES_PER_BLOCK, stand_out

__all__ = ["ScoredCandidates"]


@dataclass(frozen=True)
class ScoredCandidates:
    """Candidate labels, and the images that they are scored for.

    Attributes
    ----------
    labels : ndarray of shape (m,)
        The candidates.
    vectors : ndarray of shape (m, dim_text), float32
        Theirs in the `LabelSpace`, of unit length.
    class_of : ndarray of shape (m,), int
        Seen class that each names, or -1.
    points : ndarray of shape (n, dim_text), float32
        Projected images, of any length. A row may be NaN.
    hub_penalty : ndarray of shape (m,), float32
        What the scores of each lose for being near seen classes.
    seen_penalty : float
        What those of seen classes lose besides.
    """

    labels: NDArray[Any]
    vectors: NDArray[np.float32]
    class_of: NDArray[np.intp]
    points: NDArray[np.float32]
    hub_penalty: NDArray[np.float32]
    seen_penalty: float

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which of the candidates name a seen class, (m,)."""
        return np.asarray(self.class_of >= 0)

    @property
    def penalty(self) -> NDArray[np.float32]:
        """What the scores of each candidate lose, (m,)."""
        is_seen = self.is_seen.astype(np.float32)
        return self.hub_penalty + np.float32(self.seen_penalty) * is_seen

    @property
    def rows(self) -> NDArray[np.float32]:
        """The candidates as `LabelSpace.rows` gives them, (m, dim_text + 1)."""
        return np.column_stack([self.vectors, -self.hub_penalty])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the scores of some images at a time.

        Yields
        ------
        scores : ndarray of shape (n_some, m), float32
            Higher is better; NaN for an image whose point is.
        """
        penalty = self.penalty
        rows = max(1, SCORES_PER_BLOCK // len(self.labels))
        for start in range(0, max(1, len(self.points)), rows):
            points = self.points[start : start + rows]
            yield cosine_scores(points, self.vectors) - penalty

    def probabilities(self, temperature: float) -> NDArray[np.float32]:
        """Return the softmax of the scores over the candidates.

        Parameters
        ----------
        temperature : float
            > 0.

        Returns
        -------
        probabilities : ndarray of shape (n, m), float32
        """
        return np.concatenate(
            [
                softmax(scores, temperature).astype(np.float32)
                for scores in self.blocks()
            ]
        )

    def independent_probabilities(
        self, calibration: Calibration
    ) -> NDArray[np.float32]:
        """Return for each label the probability that it applies, whatever the others.

        Parameters
        ----------
        calibration : Calibration

        Returns
        -------
        probabilities : ndarray of shape (n, m), float32
        """
        return np.concatenate([part for _, part in self._independent(calibration)])

    def best(self, k: int, temperature: float | None = None) -> Ranking:
        """Return the candidates of the best scores; never holds all scores at once.

        Parameters
        ----------
        k : int
            At least 1; all candidates where there are fewer.
        temperature : float or None, default=None
            Of the probabilities; None leaves them out.

        Returns
        -------
        ranking : Ranking
        """
        penalty = self.penalty
        return rank_candidates(
            self.points, self.vectors, k, penalty=penalty, temperature=temperature
        )

    def best_independent(self, k: int, calibration: Calibration) -> Ranking:
        """Return the candidates of the best `independent_probabilities`.

        Parameters
        ----------
        k : int
            As for `best`.
        calibration : Calibration

        Returns
        -------
        ranking : Ranking
        """
        parts = []
        for block in self._independent(calibration):
            columns = top_k(block[1], k)
            parts.append(
                (
                    columns,
                    *(np.take_along_axis(part, columns, axis=1) for part in block),
                )
            )
        return Ranking(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def standing_out(
        self,
        ranking: Ranking,
        rate: float,
        classes: NDArray[np.float32],
        calibration: Calibration,
    ) -> NDArray[np.bool_]:
        """Return which images have a first candidate that stands out (`stand_out`).

        Parameters
        ----------
        ranking : Ranking
            From `best`.
        rate : float
            Share of images accepted although their label is not a candidate, in (0, 1).
        classes : ndarray of shape (n_classes, dim_text + 1), float32
            Rows of the seen classes in the `LabelSpace`.
        calibration : Calibration

        Returns
        -------
        accepted : ndarray of shape (n,), bool
            False for an image whose point is NaN.
        """
        temperature = calibration.temperature
        threshold = calibration.background.threshold(
            rate, self.rows, self.class_of, classes, self.seen_penalty, temperature
        )
        best, class_of_best = ranking.scores[:, 0], self.class_of[ranking.columns[:, 0]]
        accepted: NDArray[np.bool_] = np.isfinite(best)
        rows = max(1, SCORES_PER_BLOCK // len(classes))
        for start in range(0, len(best), rows):
            part = np.flatnonzero(accepted[start : start + rows]) + start
            seen = LabelSpace.scores(self.points[part], classes) - self.seen_penalty
            accepted[part] = threshold < stand_out(
                best[part], class_of_best[part], seen, temperature
            )
        return accepted

    def answers(
        self, ranking: Ranking, accepted: NDArray[np.bool_]
    ) -> list[list[RankedLabel]]:
        """Return a ranking by the names of its candidates.

        Parameters
        ----------
        ranking : Ranking
            With probabilities.
        accepted : ndarray of shape (n,), bool
            The others are marked as rejected.

        Returns
        -------
        answers : list of list of RankedLabel
            An empty list for an image whose point is NaN.
        """
        labels, seen = self.labels.tolist(), self.is_seen
        return [
            [
                RankedLabel(labels[j], score, probability, bool(seen[j]), not known)
                for j, score, probability in zip(*image, strict=True)
                if not math.isnan(score)
            ]
            for known, *image in zip(
                accepted.tolist(),
                *(np.asarray(part).tolist() for part in ranking),
                strict=True,
            )
        ]

    def _independent(
        self, calibration: Calibration
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield scores (n_some, m) and their independent probabilities."""
        seen_penalty, rows = np.float32(self.seen_penalty) * self.is_seen, self.rows
        for scores in self.blocks():
            probabilities = calibration.independent_probabilities(
                scores + seen_penalty, rows, self.class_of
            )
            yield scores, probabilities.astype(np.float32)
