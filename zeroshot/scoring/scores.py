"""Candidates and images that have met: scores, the best of them, what stands out.

Scores are computed when they are asked for, some images at a time: those of all images
with a million labels would not fit into memory.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zeroshot.arrays import unit_rows
from zeroshot.projections.base import SupportsLeavingOut
from zeroshot.scoring.adaptation import Adapted, LearntBatch, adapt, learn_batch
from zeroshot.scoring.answers import Explanation, RankedLabel
from zeroshot.scoring.calibration import MIN_CLASSES, Calibration
from zeroshot.scoring.frozen import FrozenLabels
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import (
    COLUMNS,
    Ranking,
    blocks,
    cosine_scores,
    rank_blocks,
    softmax,
    top_k,
)
from zeroshot.scoring.rejection import StandOut
from zeroshot.scoring.settings import ScoreSettings

if TYPE_CHECKING:
    from zeroshot.labels.report import LabelEntry

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """Candidate labels, and the images that they are scored for.

    ``labels``: (m,), the candidates. ``class_embeddings``: (m, dim_text) float32, of
    unit length. ``class_of``: (m,) int, the seen class that each names, or -1.
    ``pretrained_of``: (n_pretrained,) int, the candidate that names each of the
    backbone's own classes, or -1. ``twins``: (n_pretrained,) int, the seen class of
    each one's name, or -1. ``points``: (n, dim) float32, projected images of any
    length; a row may be NaN. ``settings``: from `ScoreSettings.in_effect`.
    ``calibration``: what `fit` learnt. ``adapt``: judge the images together
    (`zeroshot.scoring.adaptation`), or by what was learnt from a batch that they are a
    part of. ``placed``: all candidates as
    `LabelSpace.label_points` gives them, where that is known already.
    """

    labels: NDArray[Any]
    class_embeddings: NDArray[np.float32]
    class_of: NDArray[np.intp]
    pretrained_of: NDArray[np.intp]
    twins: NDArray[np.intp]
    points: NDArray[np.float32]
    space: LabelSpace
    settings: ScoreSettings
    calibration: Calibration | None
    adapt: bool | LearntBatch = False
    placed: NDArray[np.float32] | None = None

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which of the candidates name a seen class, (m,)."""
        return np.asarray(self.class_of >= 0)

    @cached_property
    def seen_penalty(self) -> NDArray[np.float32]:
        """What the scores of each candidate lose if it names a seen class, (m,)."""
        return np.asarray(np.float32(self.settings.seen_penalty) * self.is_seen)

    @cached_property
    def label_points(self) -> NDArray[np.float32]:
        """All candidates as `LabelSpace.label_points` gives them."""
        if self.placed is not None:
            return self.placed
        return self.space.label_points(self.class_embeddings, self.class_of)

    def _labels(
        self,
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Yield the candidates in blocks, as `rank_blocks` takes them.

        A million points of labels would not fit into memory.
        """
        m = len(self.labels)
        for columns in blocks(m, 1, COLUMNS):
            if m <= COLUMNS:
                points = self.label_points
            else:
                points = self.space.label_points(
                    self.class_embeddings[columns], self.class_of[columns]
                )
            penalty = self.seen_penalty[columns] - points[:, -1]
            yield columns.start, points[:, :-1], penalty

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the scores of some images at a time.

        Yields scores (n_some, m) float32: higher is better; NaN for an image whose
        point is.
        """
        labels = self.label_points
        for rows in blocks(max(1, len(self.points)), len(self.labels)):
            scores = LabelSpace.scores(self.points[rows], labels) - self.seen_penalty
            if self.adapt:
                adapted = self._adapted
                scores += np.float32(adapted.others)
                columns, new = adapted.columns[rows], adapted.scores[rows]
                np.put_along_axis(scores, columns, new, axis=1)
            yield scores

    @cached_property
    def _adapted(self) -> Adapted:
        """What scores become when all images are judged together."""
        labels = self.label_points
        return adapt(
            self.points,
            labels[:, :-1],
            self.seen_penalty - labels[:, -1],
            self.settings.temperature,
            anchors=(labels[:, :-1], self._image_counts),
            learnt=self.adapt if isinstance(self.adapt, LearntBatch) else None,
        )

    def learnt_batch(self) -> LearntBatch | None:
        """Return what the images, a sample of a batch, say about the labels."""
        labels = self.label_points
        return learn_batch(
            self.points,
            labels[:, :-1],
            self.seen_penalty - labels[:, -1],
            anchors=(labels[:, :-1], self._image_counts),
        )

    @property
    def _image_counts(self) -> NDArray[np.float64]:
        """How many images of training each candidate has, (m,)."""
        counts = np.zeros(len(self.labels))
        counts[self.is_seen] = self._class_counts[self.class_of[self.is_seen]]
        return counts

    def probabilities(self, *, multi_label: bool = False) -> NDArray[np.float32]:
        """Return the softmax of the scores over the candidates.

        ``multi_label``: for each label the probability that it applies, whatever the
        others; raises ValueError if `fit` calibrated nothing. Returns probabilities (n,
        m) float32.
        """
        if multi_label:
            return np.concatenate([part for _, part in self._independent()])
        temperature = self.settings.temperature
        return np.concatenate(
            [softmax(part, temperature).astype(np.float32) for part in self.blocks()]
        )

    def best(self, k: int = 1, *, probabilities: bool = False) -> Ranking:
        """Return the candidates of the best scores; never holds all scores at once.

        ``k``: at least 1; all candidates where there are fewer. ``probabilities``:
        theirs too.
        """
        temperature = self.settings.temperature if probabilities else None
        if self.adapt:
            return self._best_adapted(k, temperature)
        return rank_blocks(
            self.points, self._labels(), len(self.labels), k, temperature
        )

    def _best_adapted(self, k: int, temperature: float | None) -> Ranking:
        parts = []
        for scores in self.blocks():
            columns = top_k(scores, k)
            part = [columns, np.take_along_axis(scores, columns, 1)]
            if temperature is not None:
                shares = softmax(scores, temperature)
                part.append(np.take_along_axis(shares, columns, 1))
            parts.append(part)
        found = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return Ranking(*found, *([] if temperature is not None else [None]))

    def names(self, unknown_label: Hashable) -> NDArray[Any]:
        """Return the best candidate of each image.

        ``unknown_label``: stands where the best does not fit, and for an image whose
        point is NaN. Returns names (n,).
        """
        best = self.best()
        names, accepted = self.labels[best.columns[:, 0]], self.accepted(best)
        if not accepted.all():
            names = names.astype(object)
            names[~accepted] = unknown_label
            if all(isinstance(name, str) for name in names):
                names = names.astype(str)
        return names

    def accepted(self, ranking: Ranking) -> NDArray[np.bool_]:
        """Tell which images the first candidate of a ranking fits.

        ``ranking``: from `best`. Returns accepted (n,) bool: false for an image whose
        point is NaN.
        """
        best, reject = ranking.scores[:, 0], self.settings.reject
        if isinstance(reject, Real):
            if self.adapt:  # a label has come nearer to images that are not of it, too
                best = replace(self, adapt=False).best().scores[:, 0]
            return np.asarray(best >= reject)
        accepted: NDArray[np.bool_] = np.isfinite(best)
        if reject is None or self.calibration is None:
            return accepted
        standing, threshold = self.standing(), self._threshold(self.calibration)
        accepted[accepted] = standing.of(self.points[accepted]) > threshold
        return accepted

    def frozen(self) -> FrozenLabels:
        """Return all that becomes of these candidates, whatever the images are."""
        reject, points = self.settings.reject, self.label_points
        frozen = FrozenLabels(
            labels=self.labels,
            points=np.ascontiguousarray(points[:, :-1]),
            corrections=points[:, -1] - self.seen_penalty,
            is_seen=self.is_seen,
            temperature=float(self.settings.temperature),
        )
        if isinstance(reject, Real):
            return replace(frozen, threshold=float(reject))
        if reject is None or self.calibration is None:
            return frozen
        threshold, standing = self._threshold(self.calibration), self.standing()
        if threshold == -np.inf:
            return frozen
        background, background_of = standing.background()
        return replace(
            frozen,
            # `predict` wants more than the threshold, a number at least itself.
            threshold=float(np.nextafter(np.float32(threshold), np.float32(np.inf))),
            background=np.ascontiguousarray(background[:, :-1]),
            background_corrections=background[:, -1].copy(),
            background_of=background_of,
            background_temperature=standing.temperature,
        )

    def _threshold(self, calibration: Calibration) -> float:
        """Return how far the candidates must stand out for an image to be accepted."""
        background = calibration.background
        rate = self.settings.false_accept_rate or calibration.false_accept_rate
        standings = self._standings_without(self.standing(), background.left_out)
        return background.threshold(rate, standings)

    def standing(self) -> StandOut:
        """Return what tells how far the candidates stand out from the background."""
        calibration, settings = self.calibration, self.settings
        return StandOut(
            candidates=self.label_points,
            class_of=self.class_of,
            pretrained_of=self.pretrained_of,
            seen=self.space.seen_points,
            pretrained=self.space.pretrained_points,
            twins=self.twins,
            penalty=settings.seen_penalty,
            temperature=calibration.temperature
            if calibration
            else settings.temperature,
        )

    def _standings_without(
        self, standing: StandOut, left_out: Iterable[NDArray[np.intp]]
    ) -> Iterator[StandOut]:
        """Yield the same for the candidates as they are without some seen classes.

        A class draws the points of related words towards its images, which then are
        nearer to wrong candidates than images of a new class are. Correction for hubs
        and the backbone's classes stay: with these too, accepted shares differ by less
        than 0.01.
        """
        projection, is_new = self.space.projection, ~self.is_seen
        if not (isinstance(projection, SupportsLeavingOut) and is_new.any()):
            yield from (standing for _ in left_out)
            return
        words = self.class_embeddings[is_new]
        for points in projection.transform_labels_without(words, left_out):
            candidates = standing.candidates.copy()
            candidates[is_new, :-1] = unit_rows(points)
            yield replace(standing, candidates=candidates)

    @property
    def _class_counts(self) -> NDArray[Any]:
        """How many images each seen class has; 1, where the projection does not know.

        A class of the backbone's alone has none.
        """
        enough = np.ones(len(self.space.seen), np.int64)
        return np.asarray(getattr(self.space.projection, "counts_", enough))

    def basis(self) -> list[str]:
        """Return what stands behind each candidate: see `RankedLabel.basis`."""
        named = np.zeros(len(self.labels), bool)
        named[self.pretrained_of[self.pretrained_of >= 0]] = True
        has_images = np.append(self._class_counts > 0, False)[self.class_of]
        kinds = np.where(has_images, "images", np.where(named, "pretrained", "word"))
        found: list[str] = kinds.tolist()
        return found

    def ranked(self, k: int, *, multi_label: bool = False) -> list[list[RankedLabel]]:
        """Return the best candidates of each image, best first.

        ``k``: at least 1; all candidates where there are fewer. ``multi_label``: those
        of the best probabilities, as `probabilities` gives them. Returns ranked: an
        empty list for an image whose point is NaN.
        """
        ranking = self.best(1 if multi_label else k, probabilities=not multi_label)
        accepted = self.accepted(ranking)
        if multi_label:
            ranking = self._best_independent(k)
        labels, seen, basis = self.labels.tolist(), self.is_seen, self.basis()
        return [
            [
                RankedLabel(
                    labels[j], score, probability, bool(seen[j]), not fits, basis[j]
                )
                for j, score, probability in zip(*image, strict=True)
                if not math.isnan(score)
            ]
            for fits, *image in zip(
                accepted.tolist(),
                *(np.asarray(part).tolist() for part in ranking),
                strict=True,
            )
        ]

    def explained(
        self,
        k: int,
        unknown_label: Hashable,
        entries: "Sequence[LabelEntry | None]",
        classes: Sequence[Hashable],
    ) -> list[Explanation]:
        """Say for each image why it gets its label.

        ``k``: how many candidates and seen classes are shown. ``unknown_label``: as for
        `names`. ``entries``: how the vector of each candidate was made. ``classes``:
        the seen classes.
        """
        cosines = cosine_scores(self.points, self.space.seen)
        entry_of = dict(zip(self.labels.tolist(), entries, strict=True))
        explanations = []
        for best, near in zip(self.ranked(max(k, 2)), cosines, strict=True):
            nearest = np.argsort(-near, kind="stable")[: k if best else 0]
            explanations.append(
                Explanation(
                    best[0].label if best and not best[0].rejected else unknown_label,
                    tuple(best[:k]),
                    tuple(entry_of[answer.label] for answer in best[:k]),
                    best[0].score - best[1].score if len(best) > 1 else np.nan,
                    tuple((classes[j], float(near[j])) for j in nearest),
                )
            )
        return explanations

    def _best_independent(self, k: int) -> Ranking:
        parts = []
        for block in self._independent():
            columns = top_k(block[1], k)
            parts.append(
                (columns, *(np.take_along_axis(part, columns, 1) for part in block))
            )
        return Ranking(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _independent(
        self,
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield scores (n_some, m) and the probability of each label by itself."""
        if self.adapt:
            raise ValueError(
                "Expected adapt or multi_label, not both: images of a batch tell about "
                "each other where each has one of the labels. Leave one out."
            )
        bias = getattr(self.space.projection, "logit_bias", None)
        if self.calibration is None and bias is not None:
            temperature = self.space.temperature
            for scores in self.blocks():
                logits = (scores + self.seen_penalty) / temperature + bias
                yield scores, expit(logits).astype(np.float32)
            return
        if self.calibration is None:
            n_classes = len(self.space.seen)
            got = "one in which nothing was 'auto'"
            what = "Set seen_penalty, temperature or reject to 'auto' and fit again."
            if n_classes < MIN_CLASSES:
                got = f"one on {n_classes} classes, fewer than {MIN_CLASSES}"
                what = "Train on more classes."
            raise ValueError(
                f"Expected a fit that calibrates, to rate labels one by one "
                f"(multi_label). Got {got}. {what}"
            )
        probabilities = self.calibration.independent(self.label_points, self.class_of)
        for scores in self.blocks():
            yield scores, probabilities(scores + self.seen_penalty)
