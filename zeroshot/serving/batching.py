"""Requests that come together share one pass of the network."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.features import VisualInput
from zeroshot.serving.limits import Limits, RequestRefusedError
from zeroshot.serving.metrics import Metrics
from zeroshot.warning import quietly

__all__ = ["Batcher", "Computed", "Row", "computed"]

PASSES = 2  # of the network that run side by side


class Computed(NamedTuple):
    """What is made of an image, whatever is asked about it.

    Attributes
    ----------
    features : ndarray of shape (dim_visual,), float32
    point : ndarray of shape (dim,), float32
        As `ZeroShotClassifier.points` gives it.
    """

    features: NDArray[np.float32]
    point: NDArray[np.float32]


Row: TypeAlias = Computed | str
"""What is made of an image, or why it cannot be read."""


@dataclass(frozen=True)
class _Waiting:
    classifier: ZeroShotClassifier
    images: Sequence[bytes]
    done: asyncio.Future[list[Row]]


class Batcher:
    """Computes what is made of images, of several requests at once if they are there.

    All requests that wait go into the next pass. Two passes run side by side: while one
    computes, images of the other are decoded, or its requests are answered and come
    anew. One that comes alone starts at once. Where the last pass was of several
    requests, the next waits ``limits.wait`` first: clients that were answered together
    ask again together.

    Parameters
    ----------
    limits : Limits
        ``queue``, ``batch`` and ``wait``.
    metrics : Metrics
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._queue: deque[_Waiting] = deque()
        self._n_images = 0
        self._is_crowded = False
        self._passes: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(PASSES, thread_name_prefix="zeroshot-serving")

    def check_room(self, n: int = 1) -> None:
        """Refuse n images more where too many wait."""
        if self._n_images + n > self._limits.queue:
            raise RequestRefusedError(
                429,
                f"Expected at most {self._limits.queue} images waiting. Got more: the "
                f"service is busy. Send this request again later.",
                retry_after=1,
            )

    async def rows(
        self, classifier: ZeroShotClassifier, images: Sequence[bytes]
    ) -> list[Row]:
        """Return what is made of each image, or why it cannot be read.

        Raises RequestRefusedError if too many images wait, and what the backbone does.
        """
        self.check_room(len(images))
        done: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(classifier, images, done))
        self._count(len(images))
        if len(self._passes) < PASSES:
            # It ends with the queue: nothing is left to be stopped.
            self._passes.add(asyncio.create_task(self._run()))
        return await done

    def _count(self, n: int) -> None:
        self._n_images += n
        self._metrics.waiting.set(self._n_images)

    async def _run(self) -> None:
        try:
            while self._queue:
                if self._is_crowded and self._n_images < self._limits.batch:
                    await asyncio.sleep(self._limits.wait)
                if batch := self._next():
                    self._is_crowded = len(batch) > 1
                    self._metrics.batches.observe(len(batch))
                    await self._answer(batch)
        finally:  # at once: who asks next must not take this pass for one that goes on
            task = asyncio.current_task()
            assert task is not None
            self._passes.discard(task)

    def _next(self) -> list[_Waiting]:
        """Take requests of one classifier, as many as fit into a pass."""
        batch: list[_Waiting] = []
        n = 0
        while self._queue:
            one = self._queue[0]
            is_other = bool(batch) and one.classifier is not batch[0].classifier
            if batch and (is_other or n + len(one.images) > self._limits.batch):
                break
            self._queue.popleft()
            self._count(-len(one.images))
            if not one.done.done():  # nobody waits for it any more
                batch.append(one)
                n += len(one.images)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        images = [image for one in batch for image in one.images]
        try:
            rows = await loop.run_in_executor(
                self._pool, computed, batch[0].classifier, images
            )
        except Exception as error:
            if len(batch) > 1:  # one of them is at fault: the others get their answer
                for one in batch:
                    await self._answer([one])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        start = 0
        for one in batch:
            end = start + len(one.images)
            if not one.done.done():
                one.done.set_result(rows[start:end])
            start = end


def computed(classifier: ZeroShotClassifier, images: Sequence[bytes]) -> list[Row]:
    """Return what is made of each image, or why it cannot be read; without a warning.

    A point does not depend on the other images (`zeroshot.arrays.rows_times`): it is
    that of the image alone, to the bit.
    """
    with quietly():  # the answer tells
        features = VisualInput.of(
            list(images),
            classifier.backbone_,
            classifier.backbone_fingerprint_,
            on_error="nan",
        ).read(batch_size=classifier.batch_size, cache=classifier.cache, on_error="nan")
        points = classifier.points(features).matrix
    rows: list[Row] = [
        Computed(row.copy(), point.copy())
        for row, point in zip(features.matrix, points, strict=True)
    ]
    for i, reason in features.errors.items():  # its place in this pass tells nobody
        rows[i] = reason.replace(f" at position {i}.", ".", 1)
    return rows
