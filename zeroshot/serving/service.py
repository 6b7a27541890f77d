"""The model that is served: every protocol asks it, and it answers by the classifier.

What is made of images is computed together (`zeroshot.serving.batching`) and remembered
by content; labels are looked up once for each list of them. Both are compared for each
request by itself. An answer has the same bits as that of the classifier in process.
"""

import asyncio
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.embeddings.base import SupportsPhrases
from zeroshot.errors import InvalidImageError, ZeroShotError
from zeroshot.features import Features, ImagePoints
from zeroshot.images.sources import content_key
from zeroshot.labels import Labels, PlacedCandidates, with_templates
from zeroshot.scoring.answers import Explanation, RankedLabel, as_results
from zeroshot.serving.batching import Batcher, Row
from zeroshot.serving.limits import Limits, RequestRefusedError
from zeroshot.serving.memory import Memory
from zeroshot.serving.metrics import Metrics
from zeroshot.warning import quietly

__all__ = ["Answer", "Question", "Service"]

THREADS = 2  # that look labels up, and that rank: Python runs one at a time anyway
# Scores that are computed where requests are taken, in some 2 ms: another thread would
# have to wait for that one, again and again.
FEW_SCORES = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes
    ----------
    images : sequence of bytes
        Their files, at least one.
    labels : sequence, mapping or None, default=None
        As for `ZeroShotClassifier.predict`.
    top_k : int or None, default=None
        Labels of an image; None for all.
    adapt, multi_label, explain : bool, default=False
    names : sequence of str or None, default=None
        What the images are called in the answer.
    template : str or None, default=None
        What labels are put into; only where they are encoded as phrases.
    """

    images: Sequence[bytes]
    labels: Labels | None = None
    top_k: int | None = None
    adapt: bool = False
    multi_label: bool = False
    explain: bool = False
    names: Sequence[str] | None = None
    template: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a request is answered.

    Attributes
    ----------
    candidates : PlacedCandidates
    results : list of dict
        One for each image, as ``zeroshot predict --format json`` prints it.
    """

    candidates: PlacedCandidates
    results: list[dict[str, Any]]

    def check_readable(self, *, every: bool = True) -> None:
        """Raise the first image's error, if there is any; or only if all have one."""
        errors = [result["error"] for result in self.results]
        if (any if every else all)(errors):
            raise InvalidImageError(next(filter(None, errors)))


@dataclass(frozen=True)
class _Model:
    """A loaded classifier, and what is remembered of it."""

    classifier: ZeroShotClassifier
    lists: Memory[PlacedCandidates]
    rows: Memory[Row] = field(repr=False)


class Service:
    """Answers questions by a classifier, which may be replaced meanwhile.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted, with a backbone.
    name : str
    limits : Limits
    metrics : Metrics
    """

    def __init__(
        self,
        classifier: ZeroShotClassifier,
        name: str,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.name, self.limits, self.metrics = name, limits, metrics
        self.batcher = Batcher(limits, metrics)
        self._lookers = ThreadPoolExecutor(THREADS, "zeroshot-labels")
        self._rankers = ThreadPoolExecutor(THREADS, "zeroshot-answers")
        self._learning = asyncio.Lock()
        self.serve(classifier)

    def serve(self, classifier: ZeroShotClassifier) -> None:
        """Answer by this classifier from now on; what is begun ends with the old."""
        limits = self.limits
        own = copy.copy(classifier)  # its arrays and plugins are the same
        own.set_params(on_error="nan")  # what cannot be read is told of each image
        self._model = _Model(
            own,
            Memory(limits.label_lists, limits.label_bytes, lambda one: one.n_bytes),
            Memory(limits.features),
        )

    @property
    def takes_templates(self) -> bool:
        """Whether labels are encoded as phrases, so that templates change them."""
        return isinstance(self.classifier.embeddings_, SupportsPhrases)

    @property
    def classifier(self) -> ZeroShotClassifier:
        """The one that answers now."""
        return self._model.classifier

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question.

        Raises
        ------
        LabelError, OutOfVocabularyError
            Before any image is read.
        RequestRefusedError
            If the question is too large or has no image, too many images wait, it takes
            too long, or the classifier cannot do what is asked.
        """
        model = self._model  # one and the same for all of the answer
        self.limits.check_images(len(question.images))
        async with self.in_time():
            candidates = await self._candidates(
                model, question.labels, question.template
            )
            rows = await self._rows(model, question.images)
            points = _as_points(model.classifier, rows)

            def ranked() -> list[dict[str, Any]]:
                return _ranked(model, points, candidates, question)

            if _is_quick(model.classifier, points, candidates, question):
                results = _quietly(ranked)
            else:
                results = await self._in(self._rankers, ranked)
        return Answer(candidates, results)

    async def candidates(
        self, labels: Labels | None, template: str | None = None
    ) -> PlacedCandidates:
        """Look labels up, or find what was looked up before; errors as of `ask`."""
        async with self.in_time():
            return await self._candidates(self._model, labels, template)

    async def features(self, images: Sequence[bytes]) -> Features:
        """Return the features of images; ``errors`` tells which cannot be read."""
        self.limits.check_images(len(images))
        model = self._model
        async with self.in_time():
            return _as_features(model.classifier, await self._rows(model, images))

    async def learn(self, image: bytes, label: str) -> None:
        """Answer by a classifier that has learnt one more image, from now on.

        Raises what `ZeroShotClassifier.partial_fit` does.
        """

        def learnt() -> ZeroShotClassifier:
            own = copy.copy(self.classifier)
            own.set_params(on_error="raise")
            return own.partial_fit([image], [label])

        async with self._learning:  # one after the other: none is forgotten
            self.serve(await self._in(self._lookers, learnt))

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Raise RequestRefusedError where the block takes longer than a request may."""
        seconds = self.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise RequestRefusedError(
                504,
                f"Expected an answer within {seconds:g} seconds. Got none. Send fewer "
                f"images or labels, or try again later.",
                retry_after=5,
            ) from error

    async def _candidates(
        self, model: _Model, labels: Labels | None, template: str | None
    ) -> PlacedCandidates:
        if labels is not None:
            self.limits.check_labels(labels)  # type: ignore[arg-type]
        key = _list_key(labels, template)
        found = model.lists.find(key)
        self.metrics.label_lists.labels("yes" if found else "no").inc()
        if found is None:
            found = await self._in(
                self._lookers, lambda: _looked_up(model, labels, template, key)
            )
            self.metrics.label_bytes.set(model.lists.n_bytes)
        return found

    async def _rows(self, model: _Model, images: Sequence[bytes]) -> list[Row]:
        keys = [content_key(image) for image in images]
        rows = {key: row for key in keys if (row := model.rows.find(key)) is not None}
        new = {k: i for k, i in zip(keys, images, strict=True) if k not in rows}
        if new:
            computed = await self.batcher.rows(model.classifier, [*new.values()])
            for key, row in zip(new, computed, strict=True):
                rows[key] = row
                if not isinstance(row, str):
                    model.rows.keep(key, row)
        self.metrics.images.labels("network").inc(len(new))
        self.metrics.images.labels("memory").inc(len(images) - len(new))
        return [rows[key] for key in keys]

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, _quietly, call)


def _quietly(call: Callable[[], T]) -> T:
    with quietly():
        return call()


def _list_key(labels: Labels | None, template: str | None) -> bytes:
    """Return a digest that two lists of labels share if they are the same."""
    items = [*labels.items()] if isinstance(labels, Mapping) else labels
    content = json.dumps([isinstance(labels, Mapping), items, template])
    return hashlib.sha256(content.encode()).digest()


def _looked_up(
    model: _Model, labels: Labels | None, template: str | None, key: bytes
) -> PlacedCandidates:
    found = model.lists.find(key)  # somebody may have asked the same just now
    if found is None:
        classifier, provider = model.classifier, None
        if template is not None:
            provider = with_templates(classifier.embeddings_, template)
        found = classifier.candidates(labels, embeddings=provider)
        model.lists.keep(key, found)
    return found


def _as_features(classifier: ZeroShotClassifier, rows: Sequence[Row]) -> Features:
    matrix = np.full((len(rows), classifier.backbone_.dim), np.nan, np.float32)
    errors: dict[int, str] = {}
    for i, row in enumerate(rows):
        if isinstance(row, str):
            errors[i] = row.replace(".", f" at position {i}.", 1)
        else:
            matrix[i] = row.features
    fingerprint = classifier.backbone_.fingerprint
    return Features(matrix, errors, np.arange(len(rows)), fingerprint)


def _as_points(classifier: ZeroShotClassifier, rows: Sequence[Row]) -> ImagePoints:
    points = [row.point for row in rows if not isinstance(row, str)]
    if len(points) < len(rows):
        return classifier.points(_as_features(classifier, rows))
    projection = classifier.projection_
    return ImagePoints(
        np.stack(points), {}, np.arange(len(rows)), projection=projection
    )


def _is_quick(
    classifier: ZeroShotClassifier,
    points: ImagePoints,
    candidates: PlacedCandidates,
    question: Question,
) -> bool:
    """Tell whether an answer is little more than its scores, and these are few."""
    needs_more = question.adapt or question.multi_label or question.explain
    is_fixed = classifier.reject is None or isinstance(classifier.reject, Real)
    is_small = len(points) * len(candidates.labels) <= FEW_SCORES
    return is_small and is_fixed and not needs_more


def _ranked(
    model: _Model,
    points: ImagePoints,
    candidates: PlacedCandidates,
    question: Question,
) -> list[dict[str, Any]]:
    classifier, k = model.classifier, question.top_k or len(candidates.labels)
    why: list[Explanation] = []
    ranked: Sequence[Sequence[RankedLabel]]
    if question.explain:
        why = classifier.explain(points, candidates, k=k)
        ranked = [each.ranked for each in why]
    else:
        multi_label, adapt = question.multi_label, question.adapt
        try:
            ranked = classifier.rank(
                points, candidates, k=k, multi_label=multi_label, adapt=adapt
            )
        except ZeroShotError:
            raise
        except ValueError as error:  # not calibrated: it cannot rate labels one by one
            raise RequestRefusedError(422, str(error)) from error
    return as_results(
        question.names or [f"image {i}" for i in range(len(points))],
        range(len(points)),
        points.errors,
        ranked,
        classifier.unknown_label,
        why,
    )
