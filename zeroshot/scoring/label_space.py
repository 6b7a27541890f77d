"""The space in which images meet labels: centring, and a remedy for hubs.

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
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from zeroshot.scoring.ranking import cosine_scores

__all__ = ["LabelSpace"]

# Of 1, 3, 5 and 10 the best over the two real tasks (docs/defaults.md).
N_NEIGHBOURS = 5
COSINES_PER_BLOCK = 2**22  # 16 MB of float32, however many labels


@dataclass(frozen=True)
class LabelSpace:
    """Turns word vectors into what points are compared with.

    Attributes
    ----------
    mean : ndarray of shape (dim_text,), float32
        Subtracted from every vector; zeros without centring.
    seen : ndarray of shape (n_classes, dim_text), float32
        The seen class embeddings in this space, of unit length.
    hub_correction : float
        Weight of a label's mean cosine with the five nearest of them.

    Examples
    --------
    "all" lies near both seen classes, and loses more than "one", which is near one:

    >>> import numpy as np
    >>> seen = np.eye(2, 3, dtype=np.float32)
    >>> space = LabelSpace.fit(seen, center=False, hub_correction=0.5)
    >>> points = np.array([[1, 0.2, 1]], np.float32)
    >>> labels = np.array([[0.7, 0.7, 0.14], [0.7, 0, 0.7]], np.float32)
    >>> space.scores(points, space.rows(labels)).round(2)
    array([[0.34, 0.81]], dtype=float32)
    """

    mean: NDArray[np.float32]
    seen: NDArray[np.float32]
    hub_correction: float

    @classmethod
    def fit(
        cls,
        class_embeddings: NDArray[np.float32],
        *,
        center: bool = False,
        hub_correction: float = 0.5,
    ) -> Self:
        """Return the space of some seen classes.

        Parameters
        ----------
        class_embeddings : ndarray of shape (n_classes, dim_text), float32
            Of the seen classes, of unit length.
        center : bool, default=False
            Subtract their mean from every vector, and make it unit length again.
        hub_correction : float, default=0.5
            Weight of the correction, as in CSLS; 0 for none.

        Returns
        -------
        space : LabelSpace
        """
        mean = np.zeros(class_embeddings.shape[1], np.float32)
        if center:
            mean = class_embeddings.mean(axis=0)
        # A copy: NumPy multiplies an array with itself by another routine, whose last
        # bits differ, and a saved model must score as it did before.
        seen = _placed(class_embeddings, mean).copy()
        return cls(mean, seen, float(hub_correction))

    def vectors(self, class_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return word vectors in this space: what a projection aims at.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text), float32
            Of unit length.

        Returns
        -------
        vectors : ndarray of shape (m, dim_text), float32
            Of unit length; zeros where nothing is left after centring.
        """
        return _placed(class_embeddings, self.mean)

    def rows(self, class_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return labels ready for `scores`: each its vector and its correction.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text), float32
            Of unit length, seen in training or not.

        Returns
        -------
        rows : ndarray of shape (m, dim_text + 1), float32
            The last column holds what is added to the label's cosines, <= 0 for a
            label that is near seen classes.
        """
        vectors = self.vectors(class_embeddings)
        return np.column_stack([vectors, -self.hub_penalty(vectors)])

    def hub_penalty(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the scores of each label lose.

        Parameters
        ----------
        vectors : ndarray of shape (m, dim_text), float32
            As `vectors` returned them.

        Returns
        -------
        penalty : ndarray of shape (m,), float32
            ``hub_correction`` times the mean cosine with the five nearest seen
            classes.
        """
        penalty = np.zeros(len(vectors), np.float32)
        if self.hub_correction:
            k = min(N_NEIGHBOURS, len(self.seen))
            step = max(1, COSINES_PER_BLOCK // len(self.seen))
            for start in range(0, len(vectors), step):
                cosines = vectors[start : start + step] @ self.seen.T
                nearest = np.partition(cosines, -k, axis=1)[:, -k:]
                penalty[start : start + step] = nearest.mean(axis=1)
            penalty *= np.float32(self.hub_correction)
        return penalty

    @staticmethod
    def scores(
        points: NDArray[np.float32], rows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the score of every point with every label.

        Parameters
        ----------
        points : ndarray of shape (n, dim_text), float32
            Projected images, of any length. A row of NaN gives a row of NaN.
        rows : ndarray of shape (m, dim_text + 1), float32
            As `rows` returned them.

        Returns
        -------
        scores : ndarray of shape (n, m), float32
            Cosine and correction; higher is better. Within 1 + ``hub_correction`` of 0.
        """
        scores = cosine_scores(points, rows[:, :-1])
        scores += rows[:, -1]
        return scores


def _placed(vectors: NDArray[Any], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    if not mean.any() or len(vectors) == 0:
        return np.asarray(vectors, np.float32)
    placed: NDArray[np.float32] = normalize(vectors - mean).astype(np.float32)
    return placed
