"""The space in which images meet labels, and a remedy for hubs.

In a space of many dimensions some vectors are near everything: they are *hubs* [1]_,
and their labels are predicted far too often. CSLS [2]_ takes from a cosine half the
mean of the highest cosines that the label has with the mapped images of training. Here
the seen class embeddings stand for those images, which are trained to lie there: a
label's correction follows from label vectors alone, is the same for every image, and
does not depend on the other candidates. On folds of seen classes this did as well as
the images themselves, within the spread (docs/defaults.md).

References
----------
.. [1] Radovanovic, Nanopoulos and Ivanovic, "Hubs in Space", JMLR 11, 2010.
.. [2] Conneau, Lample et al., "Word Translation Without Parallel Data", ICLR 2018,
   section 2.3 (CSLS).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeroshot.scoring.ranking import blocks, cosine_scores

__all__ = ["LabelSpace"]

# Of 1, 3, 5 and 10 the best over the two real tasks (docs/defaults.md).
N_NEIGHBOURS = 5
COSINES_PER_BLOCK = 2**22  # 16 MB of float32, however many labels


@dataclass(frozen=True)
class LabelSpace:
    """Turns class embeddings into what points of images are compared with.

    Attributes
    ----------
    seen : ndarray of shape (n_classes, dim_text), float32
        The seen class embeddings, of unit length.
    hub_correction : float
        Weight of a label's mean cosine with the five nearest of them, as in CSLS; 0 for
        none.

    Examples
    --------
    "all" lies near both seen classes, and loses more than "one", which is near one:

    >>> import numpy as np
    >>> space = LabelSpace(np.eye(2, 3, dtype=np.float32), hub_correction=0.5)
    >>> points = np.array([[1, 0.2, 1]], np.float32)
    >>> labels = np.array([[0.7, 0.7, 0.14], [0.7, 0, 0.7]], np.float32)
    >>> space.scores(points, space.label_points(labels)).round(2)
    array([[0.34, 0.81]], dtype=float32)
    """

    seen: NDArray[np.float32]
    hub_correction: float = 0.5

    def hub_penalty(self, class_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the scores of each label lose.

        ``class_embeddings``: (m, dim_text) float32, of unit length, seen in training or
        not. Returns penalty (m,) float32: ``hub_correction`` times the mean cosine with
        the five nearest seen classes.
        """
        penalty = np.zeros(len(class_embeddings), np.float32)
        if self.hub_correction:
            # NumPy multiplies an array with itself by another routine, whose last bits
            # differ, and a label must score the same in any list.
            seen = self.seen
            if np.may_share_memory(class_embeddings, seen):
                seen = seen.copy()
            k = min(N_NEIGHBOURS, len(seen))
            for rows in blocks(len(penalty), len(seen), COSINES_PER_BLOCK):
                cosines = class_embeddings[rows] @ seen.T
                nearest = np.partition(cosines, -k, axis=1)[:, -k:]
                penalty[rows] = nearest.mean(axis=1)
            penalty *= np.float32(self.hub_correction)
        return penalty

    def label_points(
        self, class_embeddings: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return labels ready for `scores`: each its vector and its correction.

        ``class_embeddings``: (m, dim_text) float32, of unit length, seen in training or
        not. Returns label_points (m, dim_text + 1) float32: the last column holds what
        is added to the label's cosines, <= 0 for a label that is near seen classes.
        """
        return np.column_stack([class_embeddings, -self.hub_penalty(class_embeddings)])

    @staticmethod
    def scores(
        points: NDArray[np.float32], label_points: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the score of every point with every label.

        ``points``: (n, dim_text) float32, projected images, of any length. A row of NaN
        gives a row of NaN. ``label_points``: (m, dim_text + 1) float32, as
        `label_points` returned them. Returns scores (n, m) float32: cosine and
        correction; higher is better. Within 1 + ``hub_correction`` of 0.
        """
        scores = cosine_scores(points, label_points[:, :-1])
        scores += label_points[:, -1]
        return scores
