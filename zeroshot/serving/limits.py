"""What a request to the service may ask for, and the errors of one that asks more."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zeroshot.errors import LabelError

__all__ = ["Limits", "RequestRefusedError"]


class RequestRefusedError(Exception):
    """Why a request gets no answer.

    Parameters
    ----------
    status : int
        Of the HTTP answer, 400 to 599.
    message : str
        For whoever sent it.
    retry_after : int or None, default=None
        Seconds after which it may be sent again.
    more : mapping, optional
        What else the answer holds, beside ``"error"``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        retry_after: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.more = dict(more or {})


@dataclass(frozen=True)
class Limits:
    """What the service takes; more is refused with an error that gives the limit.

    The most pixels of an image are those of the package: ``ZEROSHOT_MAX_PIXELS``.

    Parameters
    ----------
    body : int, default=20 MiB
        Bytes of a request; counted while it comes.
    held : int, default=512 MiB
        Bytes of all requests that are being read or answered.
    images : int, default=64
        Images of a request.
    labels : int, default=10,000
        Labels of a request, and their other names.
    label_length : int, default=200
        Characters of a label or another name.
    queue : int, default=256
        Images that may wait for the network, of all requests.
    seconds : float, default=60
        For a request to come, and again for its answer.
    batch : int, default=64
        Images of one pass of the network.
    wait : float, default=0.005
        Seconds that a pass waits for others, where requests come together.
    label_lists : int, default=256
        Lists of labels that are remembered with their vectors.
    label_bytes : int, default=256 MiB
        Memory for these lists.
    features : int, default=4096
        Images whose features are remembered in memory, beside those on disk.

    Raises
    ------
    ValueError
        If one is no positive number, or a request could never fit into the queue.
    """

    body: int = 20 << 20
    held: int = 512 << 20
    images: int = 64
    labels: int = 10_000
    label_length: int = 200
    queue: int = 256
    seconds: float = 60.0
    batch: int = 64
    wait: float = 0.005
    label_lists: int = 256
    label_bytes: int = 256 << 20
    features: int = 4096

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "wait" else 1e-3 if name == "seconds" else 1
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"Expected {name} >= {least:g}. Got {value!r}.")
        if self.queue < self.images or self.held < self.body:
            raise ValueError(
                f"Expected room for one request: queue >= images and held >= body. "
                f"Got queue={self.queue}, images={self.images}, held={self.held} and "
                f"body={self.body}."
            )

    def check_images(self, n: int) -> None:
        """Refuse a request of no image, or of too many.

        Parameters
        ----------
        n : int
        """
        if n == 0:
            raise RequestRefusedError(
                422, "Expected at least one image. Got none. Send one."
            )
        if n > self.images:
            raise RequestRefusedError(
                413,
                f"Expected at most {self.images} images in a request. Got {n}. Send "
                f"them in several requests.",
            )

    def check_labels(self, labels: Mapping[Any, Sequence[str]] | Sequence[str]) -> None:
        """Refuse labels that are too many or too long.

        Parameters
        ----------
        labels : mapping or sequence
            As for `ZeroShotClassifier.predict`.
        """
        aliases = labels.values() if isinstance(labels, Mapping) else ()
        n = len(labels) + sum(map(len, aliases))
        if n > self.labels:
            raise RequestRefusedError(
                413,
                f"Expected at most {self.labels} labels, other names among them. Got "
                f"{n}. Send fewer.",
            )
        for name in [*labels, *(alias for names in aliases for alias in names)]:
            if isinstance(name, str) and len(name) > self.label_length:
                raise LabelError(
                    f"Expected labels of at most {self.label_length} characters. Got "
                    f"one of {len(name)}: {name[:50]!r}... Shorten it."
                )
