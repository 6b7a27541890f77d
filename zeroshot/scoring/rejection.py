"""Whether the best candidate is good enough, or the answer is "none of these".

What decides is how far the best candidate stands out from the seen classes: its score
less the (soft) maximum of theirs. A bare cosine says less: the images of some classes
are near everything. How far it must stand out depends on the candidates: among 1000
labels one fits by accident sooner than among 5. So the threshold is found when they are
known: it is passed by the stated share of the images of training, mapped as if their
class were new, among the candidates without their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import blocks

__all__ = ["Background", "stand_out"]


@dataclass(frozen=True)
class Background:
    """Images of training as points that the projection has when their class is new.

    ``points``: (n, dim_text) float32, each mapped by a projection that was trained
    without its class. ``labels``: (n,) int, seen class of each. ``folds``: (n_classes,)
    int; classes of one number were left out of training together.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.intp]
    folds: NDArray[np.intp]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the background that `to_arrays` was called on."""
        background = cls(**arrays)
        points, labels, folds = background.points, background.labels, background.folds
        if not (
            points.ndim == 2
            and len(points) == len(labels) > 0
            and folds.ndim == labels.ndim == 1
            and points.dtype == np.float32
            and folds.dtype.kind == labels.dtype.kind == "i"
            and 0 <= labels.min() <= labels.max() < len(folds)
        ):
            raise ValueError("arrays of the background that do not fit together")
        return background

    def threshold(
        self,
        rate: float,
        candidates: NDArray[np.float32],
        class_of: NDArray[np.intp],
        class_embeddings: NDArray[np.float32],
        penalty: float,
        temperature: float,
    ) -> float:
        """Return what `stand_out` must exceed for a candidate to be accepted.

        Images of one class are alike, so the quantile is that of a sample of classes,
        not of images: one more class, which stands out without end, is added to them.
        With that the rate is kept on average over new classes (Dunn, Wasserman and
        Ramdas, "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models",
        JASA 2023; Bates et al., "Testing for Outliers with Conformal p-values", Annals
        of Statistics 2023). Of too few classes, less than ``1 / rate - 1``, it is the
        highest value.

        ``rate``: share of images accepted although their label is not a candidate, in
        (0, 1). ``candidates``, ``class_embeddings``: (m or n_classes, dim_text + 1)
        float32, they and the seen classes in the `LabelSpace`. ``class_of``: (m,) int,
        seen class that each candidate names, or -1.
        """
        n_classes = len(self.folds)
        quantile = min(1.0, (1 - rate) * (n_classes + 1) / n_classes)
        values = []
        for rows in blocks(len(self.points), len(candidates) + n_classes):
            points, fold = self.points[rows], self.folds[self.labels[rows]]
            # What was new together is hidden: an image meets none of its own class.
            same = fold[:, None] == self.folds
            hidden = np.where(class_of < 0, False, same[:, class_of])
            scores = LabelSpace.scores(points, candidates) - penalty * (class_of >= 0)
            scores = np.where(hidden, -np.inf, scores)
            seen = LabelSpace.scores(points, class_embeddings) - penalty
            seen = np.where(same, -np.inf, seen)
            class_of_best = class_of[scores.argmax(axis=1)]
            values.append(
                stand_out(scores.max(axis=1), class_of_best, seen, temperature)
            )
        return float(np.quantile(np.concatenate(values), quantile, method="higher"))


def stand_out(
    best: NDArray[np.floating[Any]],
    class_of_best: NDArray[np.intp],
    seen: NDArray[np.floating[Any]],
    temperature: float,
) -> NDArray[np.float64]:
    """Return how far the best candidate stands out from the seen classes, (n,).

    That is ``best - t log mean exp(seen / t)``, without the class that the best
    candidate names: t times the log odds of the candidate against the seen classes.

    ``best``: (n,), score of each image's best candidate. ``class_of_best``: (n,) int,
    seen class that it names, or -1. ``seen``: (n, n_classes), scores of the seen
    classes; -inf hides one. ``temperature``: t, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> seen = np.array([[0.3, 0.1]])
    >>> stand_out(np.array([0.3]), np.array([0]), seen, 0.1).round(3)
    array([0.2])
    """
    scores = np.array(seen, dtype=np.float64)
    named = np.flatnonzero(class_of_best >= 0)
    scores[named, class_of_best[named]] = -np.inf
    n = np.maximum(1, np.isfinite(scores).sum(axis=1))
    soft = temperature * (logsumexp(scores / temperature, axis=1) - np.log(n))
    values: NDArray[np.float64] = np.asarray(best, dtype=np.float64) - soft
    return values
