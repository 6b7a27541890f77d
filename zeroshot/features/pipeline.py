"""Images to features: read-ahead, batches, cache, progress, bad images."""

import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, card_of
from zeroshot.cores import n_threads
from zeroshot.errors import (
    InvalidImageError,
    PartialCoverageWarning,
    PluginContractError,
)
from zeroshot.features.block import (
    BLOCK_ROWS,
    Features,
    OnError,
    Project,
    as_asked,
    projected,
)
from zeroshot.features.file import FeatureFile, open_if_features
from zeroshot.features.store import FeatureStore
from zeroshot.images.sources import (
    ImageSource,
    content_key,
    image_content,
    image_sources,
    read_fitted,
)
from zeroshot.progress import progress_bar
from zeroshot.warning import warn

__all__ = [
    "Features",
    "collect_features",
    "extract_features",
    "iter_features",
    "warn_of_bad_images",
]

READERS = min(8, n_threads() + 1)  # one more than cores: some wait for disk
# Images that a thread prepares at a time; where they are found in the cache, more and
# more. Handing over, with threads that wait for each other, costs as much as finding
# two images.
CHUNK, LARGEST_CHUNK = 8, 128
KEPT_BYTES = 16 << 20  # of files of a chunk, between its look-up and its decoding
REMEMBERED = 4 * BLOCK_ROWS  # images whose repetition is noticed without the cache
NAMED = 5  # bad images that a warning names; the report has all


def extract_features(
    images: object,
    backbone: Backbone,
    *,
    batch_size: int = 32,
    cache: bool = True,
    on_error: OnError = "raise",
    project: Project | None = None,
) -> Features:
    """Compute the features of images, as one matrix.

    `iter_features` gives them block by block, for more images than a matrix can hold.

    Parameters
    ----------
    images : FeatureFile, or any form that `zeroshot.images.as_image_list` takes
        n images. A generator is not turned into a list. A file of features (or its
        path) must hold features of this backbone; they are read from it.
    backbone : Backbone
        Its card's resize rule is applied.
    batch_size : int, default=32
        Images that the backbone is given at once, at least 1.
    cache : bool, default=True
        Look features up in the cache by the content of the image, and keep new ones
        there, also when interrupted.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What to do about an image that cannot be read: raise its error (the first in
        order), leave its row out, or give it a row of NaN. What was left out or is NaN
        is told by a warning and by ``errors``.
    project : callable, optional
        From (k, dim) to (k, any length), rows independent of each other. What it makes
        of the features is returned instead of them, and only that is held in memory.

    Returns
    -------
    features : Features

    Raises
    ------
    InvalidImageError
        If ``images`` is nothing that holds images; if one cannot be read, under
        ``on_error="raise"``.
    PluginContractError
        If the backbone does not return (n, dim) finite float32.
    FingerprintMismatchError
        If a file of features is another backbone's.
    ArtifactError
        If a file of features is damaged.
    ValueError
        If ``batch_size`` or ``on_error`` is none of the above.

    Warns
    -----
    PartialCoverageWarning
        Where images cannot be read; names the first ones.
    """
    sources, n = _sources(images, on_error)
    blocks = iter_features(
        sources, backbone, batch_size=batch_size, cache=cache, on_error=on_error
    )
    features = collect_features(
        blocks, n, backbone.dim, on_error=on_error, project=project
    )
    return replace(features, fingerprint=backbone.fingerprint)


def collect_features(
    blocks: Iterable[Features],
    n: int | None,
    dim: int,
    *,
    on_error: OnError = "raise",
    project: Project | None = None,
) -> Features:
    """Put blocks together; a PartialCoverageWarning names images that are unreadable.

    Parameters
    ----------
    blocks : iterable of Features
        As `iter_features` and `zeroshot.features.file.FeatureFile.blocks` give them.
    n : int or None
        Images they are of; None where nobody knows.
    dim : int
        Length of a row.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What the blocks were asked for with.
    project : callable, optional
        See `extract_features`.

    Returns
    -------
    features : Features
    """
    empty = np.empty((0, dim), np.float32)
    empty = empty if project is None else project(empty)
    # Where nobody knows how many images there will be, the parts are put together.
    matrix = np.empty((n or 0, empty.shape[1]), np.float32)
    parts = [empty]
    positions = [np.empty(0, np.int64)]
    errors: dict[int, str] = {}
    done = 0
    for block in blocks if project is None else _projected(blocks, project):
        if n is None:
            parts.append(block.matrix)
        else:
            matrix[done : done + len(block)] = block.matrix
        positions.append(block.positions)
        errors |= block.errors
        done += len(block)
    matrix = np.concatenate(parts) if n is None else matrix[:done]
    if errors:
        left_out = len(errors) if on_error == "skip" else 0
        warn_of_bad_images(errors, done + left_out, on_error)
    return Features(matrix, errors, np.concatenate(positions))


def _projected(blocks: Iterable[Features], project: Project) -> Iterator[Features]:
    """Yield blocks, each projected while the next one is on its way.

    Where all images are in the cache, projecting takes as long as half the reading, and
    readers do not run ahead by a whole block. Measured on a processor that others used,
    too: 0.9 of the time of one after the other.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="zeroshot-project") as pool:
        last: Future[Features] | None = None
        for block in blocks:
            current = pool.submit(projected, block, project)
            if last is not None:
                yield last.result()
            last = current
        if last is not None:
            yield last.result()


def warn_of_bad_images(errors: dict[int, str], n: int, on_error: OnError) -> None:
    """Warn that images cannot be read, and name the first ones.

    Parameters
    ----------
    errors : dict of int to str
        As in `Features`; at least one.
    n : int
        Number of all images.
    on_error : {"skip", "nan"}
        What became of their rows.
    """
    reasons = list(errors.values())
    more = f" And {len(reasons) - NAMED} more." if len(reasons) > NAMED else ""
    what = "left out" if on_error == "skip" else "without features (NaN)"
    warn(
        f"{len(errors)} of {n} images cannot be read and are {what}. "
        f"{' '.join(reasons[:NAMED])}{more}",
        PartialCoverageWarning,
        stacklevel=3,
    )


def iter_features(
    images: object,
    backbone: Backbone,
    *,
    batch_size: int = 32,
    cache: bool = True,
    on_error: OnError = "raise",
) -> Generator[Features]:
    """Compute the features of images block by block, in constant memory.

    Images are read, hashed, decoded and resized by a few threads while the backbone
    computes. Some three batches of decoded images are in memory at once, however many
    images there are, and a generator of images is read only that far ahead. Every batch
    but the last has the same size. An image that comes again is not computed again
    (without the cache: if it comes again within some 4000 images). Where every image is
    in the cache, the backbone computes nothing and no image is decoded.

    Parameters
    ----------
    images : FeatureFile, or any form that `zeroshot.images.as_image_list` takes
        As for `extract_features`.
    backbone : Backbone
        Its card's resize rule is applied.
    batch_size : int, default=32
        Images that the backbone is given at once, at least 1.
    cache : bool, default=True
        As for `extract_features`; what is computed is kept also when the loop over the
        blocks is left early.
    on_error : {"raise", "skip", "nan"}, default="raise"
        As for `extract_features`; only ``errors`` of the blocks tell. The errors raised
        are the same.

    Yields
    ------
    block : Features
        Of 1024 images; the last may be of fewer.
    """
    if batch_size < 1 or on_error not in get_args(OnError):
        raise ValueError(
            f"Expected batch_size >= 1 and on_error 'raise', 'skip' or 'nan'. Got "
            f"{batch_size!r} and {on_error!r}."
        )
    sources, n = _sources(images, on_error)
    if isinstance(sources, FeatureFile):
        sources.check(backbone.fingerprint)
        yield from sources.blocks(on_error)
        return
    if n == 0:
        return
    store = FeatureStore.of(backbone) if cache else None
    chunk = CHUNK if n is None else max(1, min(CHUNK, n // READERS))
    ahead = 2 * batch_size  # a batch ready, one in the making
    blocks: deque[_OpenBlock] = deque()
    batch = _Batch(backbone, batch_size, store)
    try:
        with (
            progress_bar("images", n) as advance,
            closing(_read_ahead(sources, backbone, store, chunk, ahead)) as prepared,
        ):
            for part in prepared:
                if part.start % BLOCK_ROWS == 0:
                    blocks.append(_OpenBlock(part.start, backbone.dim))
                block = blocks[-1]
                first = block.n
                block.n += len(part.found)
                rows = block.matrix[first : block.n]
                if part.found.all():
                    rows[:] = part.features  # a third of the time with a mask
                else:
                    rows[part.found] = part.features
                for i, result in part.others.items():
                    if not isinstance(result, InvalidImageError):
                        batch.add(*result, block, first + i)
                    elif on_error == "raise":
                        raise result
                    else:
                        block.errors[part.start + i] = str(result)
                        block.matrix[first + i] = np.nan
                advance(len(part.found))
                while len(blocks) > 1 and blocks[0].missing == 0:
                    yield blocks.popleft().closed(on_error)
            batch.finish()
        for block in blocks:
            yield block.closed(on_error)
    finally:
        if store is not None:
            store.close()


def _sources(
    images: object, on_error: OnError
) -> tuple[FeatureFile | Iterable[ImageSource], int | None]:
    """Return a file of features or images, and how many, where that is known."""
    images = open_if_features(images)
    if not isinstance(images, FeatureFile):
        images = image_sources(images, on_error)
    return images, len(images) if isinstance(images, Sized) else None


class _OpenBlock:
    """A block whose rows are not all there yet."""

    def __init__(self, start: int, dim: int) -> None:
        self.start = start
        self.n = 0
        self.missing = 0
        self.matrix = np.empty((BLOCK_ROWS, dim), np.float32)
        self.errors: dict[int, str] = {}

    def closed(self, on_error: OnError) -> Features:
        positions = self.start + np.arange(self.n)
        block = Features(self.matrix[: self.n], self.errors, positions)
        return as_asked(block, on_error)


class _Batch:
    """Images to be computed together, and where their features go."""

    def __init__(
        self, backbone: Backbone, size: int, store: FeatureStore | None
    ) -> None:
        self._backbone = backbone
        self._size = size
        self._store = store
        self._pixels: list[NDArray[np.uint8]] = []
        self._places: dict[bytes, list[tuple[_OpenBlock, int]]] = {}
        self._recent: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def add(
        self, key: bytes, pixels: NDArray[np.uint8], block: _OpenBlock, row: int
    ) -> None:
        """Put an image's features into its row, now or when they are computed."""
        features = self._recent.get(key)
        if features is not None:
            block.matrix[row] = features
            return
        block.missing += 1
        places = self._places.setdefault(key, [])
        places.append((block, row))
        if len(places) == 1:
            self._pixels.append(pixels)
            if len(self._pixels) == self._size:
                self.finish()

    def finish(self) -> None:
        """Compute what there is."""
        if not self._pixels:
            return
        features = _embed(self._backbone, np.stack(self._pixels))
        for (key, places), row in zip(self._places.items(), features, strict=True):
            for block, position in places:
                block.matrix[position] = row
                block.missing -= 1
            if self._store is not None:
                self._store.add(key, row)
            # With the cache, too: an image may have been looked up before it was added.
            self._recent[key] = row.copy()
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        self._pixels, self._places = [], {}


# A key, and the image as the backbone wants it.
_Decoded: TypeAlias = tuple[bytes, NDArray[np.uint8]] | InvalidImageError


class _Prepared(NamedTuple):
    """Images that follow one another: stored features, and the other images."""

    start: int  # position in the input of the first
    found: NDArray[np.bool_]  # (n,) which of the images are in the cache
    features: NDArray[np.float32]  # of these
    others: dict[int, _Decoded]  # by number, 0 to n - 1, in order


def _read_ahead(
    sources: Iterable[ImageSource],
    backbone: Backbone,
    store: FeatureStore | None,
    chunk: int,
    ahead: int,
) -> Generator[_Prepared]:
    """Prepare images in threads, in order: ``ahead`` of them, and a chunk a thread.

    While all that comes back was found in the cache, chunks grow; then a file's content
    is let go once its key is known, and read again should it have to be decoded.
    """
    size, card = backbone.input_size, card_of(backbone)
    nothing = np.empty((0, backbone.dim), np.float32)
    stopped = threading.Event()

    def prepare(start: int, images: list[ImageSource]) -> _Prepared:
        opened: list[_Opened] = []
        room = KEPT_BYTES if len(images) <= CHUNK else 0
        for index, image in enumerate(images, start):
            opened.append(_opened(index, image, room))
            content = opened[-1].content
            room -= len(content) if isinstance(content, bytes) else 0
        features, found = nothing, np.zeros(len(images), np.bool_)
        if store is not None:
            features, found = store.get_many([image.key for image in opened])
            features = features if found.all() else features[found]
        others = {}
        for i in np.flatnonzero(~found).tolist():
            if stopped.is_set():
                break
            others[i] = decoded(start + i, images[i], opened[i])
        return _Prepared(start, found, features, others)

    def decoded(index: int, source: ImageSource, image: _Opened) -> _Decoded:
        key, content = image if image.content is not None else _opened(index, source)
        if isinstance(content, InvalidImageError):
            return content
        assert content is not None
        name = None
        if isinstance(source, str | os.PathLike):
            name = f"'{os.fspath(source)}'"
        try:
            return key, read_fitted(
                content, size, card.resize, card.filter, index=index, name=name
            )
        except InvalidImageError as error:
            return error

    pool = ThreadPoolExecutor(READERS, thread_name_prefix="zeroshot-images")
    waiting: deque[Future[_Prepared]] = deque()
    iterator = iter(sources)
    start = done = 0
    n = chunk
    try:
        # No chunk lies in two blocks.
        while images := list(islice(iterator, min(n, -start % BLOCK_ROWS or n))):
            waiting.append(pool.submit(prepare, start, images))
            start += len(images)
            while start - done > ahead + READERS * n:
                part = waiting.popleft().result()
                done += len(part.found)
                are_files = all(isinstance(i, str | os.PathLike) for i in images)
                grows = are_files and bool(part.found.all())
                n = min(2 * n, LARGEST_CHUNK) if grows else chunk
                yield part
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


class _Opened(NamedTuple):
    """What an image is told by, and where its pixels come from, or why from nowhere."""

    key: bytes
    content: bytes | NDArray[np.uint8] | InvalidImageError | None


def _opened(index: int, image: ImageSource, room: int = sys.maxsize) -> _Opened:
    """Return an image's key and content; of a file, only if there is room for it."""
    try:
        content = image_content(image, index=index)
    except InvalidImageError as error:
        return _Opened(b"", error)  # under this key nothing is found
    keep = len(content) <= room or not isinstance(image, str | os.PathLike)
    return _Opened(content_key(content), content if keep else None)


def _embed(backbone: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    features = backbone.embed(images)
    expected = (len(images), backbone.dim)
    if not isinstance(features, np.ndarray):
        got = f"'{type(features).__name__}'"
    elif features.dtype != np.float32 or features.shape != expected:
        got = f"{features.dtype} of shape {features.shape}"
    elif not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        got = f"NaN or infinity in {bad} of {len(images)} rows"
    else:
        return features
    raise PluginContractError(
        f"Expected finite float32 features of shape {expected} from the backbone "
        f"'{backbone.name}'. Got {got}. Correct its 'embed'."
    )
