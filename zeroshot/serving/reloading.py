"""A model that is replaced on disk is loaded while the old one answers."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from zeroshot.classifier import ZeroShotClassifier

if TYPE_CHECKING:
    from zeroshot.serving.service import Service

__all__ = ["Replaced", "warmed"]

LOG = logging.getLogger("zeroshot.serving")

_Seen: TypeAlias = tuple[int, int, int] | None


def warmed(classifier: ZeroShotClassifier) -> ZeroShotClassifier:
    """Return a classifier whose network is loaded, so that no request waits for it."""
    height, width = classifier.backbone_.input_size
    blank = np.zeros((1, height, width, 3), np.uint8)
    classifier.points(classifier.backbone_.embed(blank))
    return classifier


@dataclass(frozen=True)
class Replaced:
    """Where a newer model may come from.

    Attributes
    ----------
    path : Path
        The folder of the bundle.
    load : callable
        Returns the classifier that lies there now.
    every : float, default=2.0
        Seconds between two looks.
    """

    path: Path
    load: Callable[[], ZeroShotClassifier]
    every: float = 2.0

    @asynccontextmanager
    async def watched(self, service: "Service") -> AsyncIterator[None]:
        """Look now and then, in the block; give the service what is new."""
        task = asyncio.create_task(self._look(service))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _look(self, service: "Service") -> None:
        served = self._seen()
        while True:
            await asyncio.sleep(self.every)
            there = self._seen()
            if there in (served, None):
                continue
            served = there
            try:
                classifier = await asyncio.to_thread(lambda: warmed(self.load()))
            except Exception as error:  # the old one goes on, whatever is wrong
                LOG.warning("The new model is not served, the old one is: %s", error)
                service.metrics.loads.labels("failed").inc()
            else:
                service.serve(classifier)
                LOG.warning("The model was replaced; the new one is served.")
                service.metrics.loads.labels("served").inc()

    def _seen(self) -> _Seen:
        """Return what changes when a bundle is written: its record is a new file."""
        with suppress(OSError):
            status = os.stat(self.path / "bundle.json")
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None
