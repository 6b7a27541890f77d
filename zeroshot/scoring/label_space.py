"""The space in which images meet labels, and a remedy for hubs.

In a space of many dimensions some points are near everything: they are *hubs* [1]_, and
their labels are predicted far too often. CSLS [2]_ takes from a cosine half the mean of
the highest cosines that the label has with the mapped images of training. Here the
known classes stand for those images: a label's correction is the same for every image,
and does not depend on the other candidates. On folds of seen classes this did as well
as the images themselves, within the spread (docs/defaults.md).

References
----------
.. [1] Radovanovic, Nanopoulos and Ivanovic, "Hubs in Space", JMLR 11, 2010.
.. [2] Conneau, Lample et al., "Word Translation Without Parallel Data", ICLR 2018,
   section 2.3 (CSLS).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.arrays import rows_times, unit_rows
from zeroshot.projections.base import (
    PretrainedClasses,
    Projection,
    SupportsClassPoints,
    label_points,
)
from zeroshot.scoring.ranking import blocks, cosine_scores

__all__ = ["LabelSpace"]

# Of 1, 3, 5 and 10 the best over the two real tasks (docs/defaults.md).
N_NEIGHBOURS = 5
LABELS_AT_ONCE = 512  # what is made of them on the way stays in memory that is there
COSINES_PER_BLOCK = 2**22  # 16 MB of float32, however many labels


@dataclass(frozen=True)
class LabelSpace:
    """Turns class embeddings into what points of images are compared with.

    Attributes
    ----------
    projection : Projection
        Fitted.
    seen : ndarray of shape (n_classes, dim), float32
        Points of the seen classes, of unit length.
    pretrained : ndarray of shape (n_pretrained, dim), float32
        Points of the backbone's own classes.
    hub_correction : float
        Weight of a label's mean cosine with the five nearest of both, as in CSLS; 0 for
        none.
    """

    projection: Projection
    seen: NDArray[np.float32]
    pretrained: NDArray[np.float32]
    hub_correction: float

    @property
    def temperature(self) -> float:
        """What scores are divided by where no temperature is set."""
        return float(getattr(self.projection, "temperature", 0.07))

    @classmethod
    def of(
        cls,
        projection: Projection,
        class_embeddings: NDArray[np.float32],
        pretrained: PretrainedClasses | None,
        hub_correction: float | None,
    ) -> Self:
        """Return the space of a fitted projection.

        ``class_embeddings``: (n_classes, dim_text) float32, of the seen classes.
        ``hub_correction``: None for what suits the projection.
        """
        if hub_correction is None:
            hub_correction = float(getattr(projection, "hub_correction", 0.5))
        if isinstance(projection, SupportsClassPoints):
            seen = unit_rows(projection.class_points_)
        else:
            seen = label_points(projection, class_embeddings)
        words = np.empty((0, class_embeddings.shape[1]), np.float32)
        if pretrained is not None:
            words = pretrained.class_embeddings
        others = label_points(projection, words)
        return cls(projection, seen, others, hub_correction)

    def label_points(
        self, class_embeddings: NDArray[np.float32], class_of: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Return labels ready for `scores`: each its point and its correction.

        ``class_embeddings``: (m, dim_text) float32, of unit length. ``class_of``: (m,)
        int, the seen class that each names, or -1. Returns label_points (m, dim + 1)
        float32: the last column holds what is added to the label's cosines, <= 0 for a
        label that is near known classes.
        """
        m = len(class_of)
        if m <= LABELS_AT_ONCE:
            return self._label_points(class_embeddings, class_of)
        points = np.empty((m, self.seen.shape[1] + 1), np.float32)
        for rows in blocks(m, 1, LABELS_AT_ONCE):
            points[rows] = self._label_points(class_embeddings[rows], class_of[rows])
        return points

    def _label_points(
        self, class_embeddings: NDArray[np.float32], class_of: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        if isinstance(self.projection, SupportsClassPoints):
            points = np.empty((len(class_of), self.seen.shape[1]), np.float32)
            is_new = class_of < 0
            points[~is_new] = self.seen[class_of[~is_new]]
            if is_new.any():
                new = class_embeddings[is_new]
                points[is_new] = label_points(self.projection, new)
        else:
            points = label_points(self.projection, class_embeddings)
        penalty = self._hub_penalty(points)
        is_seen = class_of >= 0
        if isinstance(self.projection, SupportsClassPoints) and is_seen.any():
            penalty[is_seen] = -self.seen_points[class_of[is_seen], -1]
        return np.column_stack([points, -penalty])

    @cached_property
    def seen_points(self) -> NDArray[np.float32]:
        """The seen classes as `label_points` gives them, (n_classes, dim + 1).

        Images are no hubs: as far as a class is known by these, it loses what others
        lose on average (0.5 points, `benchmarks/few_images.py`).
        """
        penalty = self._hub_penalty(self.seen)
        if isinstance(self.projection, SupportsClassPoints) and len(penalty):
            mean, shares = penalty.mean(), getattr(self.projection, "class_shares_", 1)
            penalty = (mean + shares * (penalty - mean)).astype(np.float32)
        return np.column_stack([self.seen, -penalty])

    @cached_property
    def pretrained_points(self) -> NDArray[np.float32]:
        """The backbone's own classes likewise, (n_pretrained, dim + 1)."""
        return np.column_stack([self.pretrained, -self._hub_penalty(self.pretrained)])

    def _hub_penalty(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the scores of each label lose, (m,).

        That is ``hub_correction`` times the mean cosine with the five nearest known
        classes.
        """
        penalty = np.zeros(len(points), np.float32)
        n_known = len(self.seen) + len(self.pretrained)
        if self.hub_correction and n_known:
            k = min(N_NEIGHBOURS, n_known)
            for rows in blocks(len(penalty), n_known, COSINES_PER_BLOCK):
                # NumPy multiplies an array with itself by another routine, whose last
                # bits differ, and a label must score the same in any list.
                block = points[rows].copy()
                known = self.seen, self.pretrained
                cosines = np.hstack([rows_times(block, each.T) for each in known])
                nearest = np.partition(cosines, -k, axis=1)[:, -k:]
                penalty[rows] = nearest.mean(axis=1)
            penalty *= np.float32(self.hub_correction)
        return penalty

    @staticmethod
    def scores(
        points: NDArray[np.float32], label_points: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the score of every point with every label.

        ``points``: (n, dim) float32, projected images, of any length. A row of NaN
        gives a row of NaN. ``label_points``: (m, dim + 1) float32, as `label_points`
        returned them. Returns scores (n, m) float32: cosine and correction; higher is
        better. Within 1 + ``hub_correction`` of 0.
        """
        scores = cosine_scores(points, label_points[:, :-1])
        scores += label_points[:, -1]
        return scores
