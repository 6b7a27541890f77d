"""Whether the best candidate is good enough, or the answer is "none of these".

What decides is how far the candidates stand out from the background: all other known
classes, of the user's images and of the backbone's pretraining. It is the (soft)
maximum of the candidates' scores less that of the background's: the log odds of the
candidates in a softmax over both. A bare cosine says less: the images of some classes
are near everything. How far they must stand out depends on the candidates: among 1000
labels one fits by accident sooner than among 5. So the threshold is found when they are
known: it is passed by the stated share of the images of training, mapped as if their
class were new, among the candidates without their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import blocks

__all__ = ["Background", "StandOut"]


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

    @property
    def left_out(self) -> list[NDArray[np.intp]]:
        """Return the classes of each fold that has images, fold by fold."""
        with_images = np.unique(self.folds[self.labels])
        return [np.flatnonzero(self.folds == fold) for fold in with_images]

    def threshold(self, rate: float, standings: Iterable["StandOut"]) -> float:
        """Return what `StandOut.of` must exceed for a candidate to be accepted.

        Images of one class are alike, so each is ranked among those of other classes
        only: the share of these that stand out as far. That share may be as large as
        that which ``rate`` of the images do not exceed. Adding a class that stands out
        without end instead (Dunn, Wasserman and Ramdas, "Distribution-Free Prediction
        Sets for Two-Layer Hierarchical Models", JASA 2023) keeps the rate for classes
        of any kind, but with the 34 of Caltech 0.02 are accepted where 0.05 may be. Of
        too few classes, less than ``1 / rate - 1``, the highest value may be taken.

        ``rate``: share of images accepted although their label is not a candidate, in
        (0, 1). ``standings``: the candidates as they are without the classes of each of
        `left_out`.
        """
        labels, values = self.labels, np.empty(len(self.labels))
        for classes, stand_out in zip(self.left_out, standings, strict=True):
            rows = np.isin(labels, classes)
            # What was new together is hidden: an image meets none of its own class.
            hidden = np.zeros((rows.sum(), len(self.folds)), bool)
            hidden[:, classes] = True
            values[rows] = stand_out.of(self.points[rows], hidden)
        labels, values = labels[np.isfinite(values)], values[np.isfinite(values)]
        n = len(values)
        if n == 0:  # there is no other class to compare with
            return -np.inf
        is_other = labels[:, None] != labels
        further = (is_other & (values >= values[:, None])).sum(axis=1)
        shares = further / np.maximum(1, is_other.sum(axis=1))
        # Shares are equal for many images of a class: all of them pass, or none.
        passing = shares[shares < np.sort(shares)[int(rate * n)]]
        return float(np.sort(values)[::-1][int(passing.max(initial=0) * n)])


@dataclass(frozen=True)
class StandOut:
    """How far candidates stand out from the background.

    ``candidates``, ``seen``, ``pretrained``: (m, ...), (n_classes, ...) and
    (n_pretrained, dim + 1) float32, in the `LabelSpace`. ``class_of``: (m,) int, seen
    class that each candidate names, or -1. ``pretrained_of``: (n_pretrained,) int,
    candidate that names each of the backbone's classes, or -1. ``twins``:
    (n_pretrained,) int, seen class of the same name, or -1. ``penalty``: of candidates
    that name a seen class. ``temperature``: > 0.
    """

    candidates: NDArray[np.float32]
    class_of: NDArray[np.intp]
    pretrained_of: NDArray[np.intp]
    seen: NDArray[np.float32]
    pretrained: NDArray[np.float32]
    twins: NDArray[np.intp]
    penalty: float
    temperature: float

    def background(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return what images are compared with beside the candidates.

        Returns background (b, dim + 1) float32, in the `LabelSpace`, the penalty within
        the last column; and (m,) int, its row that is none where a candidate is the
        best, -1 for none.
        """
        seen, shown = self.seen.copy(), self._shown
        seen[:, -1] -= np.float32(self.penalty)
        if not shown.any():
            return seen, self.class_of
        background = np.concatenate([seen, self.pretrained])[shown]
        return background, np.full(len(self.class_of), -1)

    @property
    def _shown(self) -> NDArray[np.bool_]:
        """Which of the seen and the backbone's classes no candidate names."""
        named = np.zeros(len(self.seen), bool)
        named[self.class_of[self.class_of >= 0]] = True
        return np.concatenate([~named, self.pretrained_of < 0])

    def of(
        self,
        points: NDArray[np.float32],
        hidden_classes: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """Return how far they do for each image, (n,).

        That is t times the log odds of the candidates against the mean of the
        background; -inf where no candidate is left. What a candidate names is no
        background. Where nothing else would be left, all seen classes are, but that
        which is named by the best candidate.

        ``points``: (n, dim) float32. ``hidden_classes``: (n, n_classes) bool, seen
        classes that an image must not meet, as candidates or by the names of others.
        """
        t, is_seen, shown = self.temperature, self.class_of >= 0, self._shown
        leaves_some = shown.any()
        # A candidate may go by another name of a seen class, which the backbone knows.
        is_alias = (self.pretrained_of >= 0) & (self.twins >= 0)
        alias_of = self.class_of.copy()
        alias_of[self.pretrained_of[is_alias]] = self.twins[is_alias]
        alias_of[is_seen] = self.class_of[is_seen]
        values = np.empty(len(points))
        width = len(self.candidates) + len(shown)
        for rows in blocks(len(points), max(1, width)):
            scores = LabelSpace.scores(points[rows], self.candidates).astype(float)
            scores -= self.penalty * is_seen
            back = np.hstack(
                [
                    LabelSpace.scores(points[rows], self.seen) - self.penalty,
                    LabelSpace.scores(points[rows], self.pretrained),
                ]
            ).astype(float)
            if hidden_classes is not None:
                hidden = hidden_classes[rows]
                # An index of -1 takes the last column, which is not hidden.
                padded = np.pad(hidden, ((0, 0), (0, 1)))
                scores[padded[:, alias_of]] = -np.inf
                back[np.hstack([hidden, padded[:, self.twins]])] = -np.inf
            if leaves_some:
                back[:, ~shown] = -np.inf
            else:
                back[:, len(self.seen) :] = -np.inf
                best = self.class_of[scores.argmax(axis=1)]
                named_best = np.flatnonzero(best >= 0)
                back[named_best, best[named_best]] = -np.inf
            n = np.maximum(1, np.isfinite(back).sum(axis=1))
            ours, rest = logsumexp(scores / t, axis=1), logsumexp(back / t, axis=1)
            rest[np.isneginf(ours)] = 0  # no candidate is left, whatever else is
            values[rows] = t * (ours - rest + np.log(n))
        return values
