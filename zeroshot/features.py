"""Images to a feature matrix: read-ahead, batches, cache, progress, bad images."""

import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import uuid4
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, card_of
from zeroshot.cache import cache_root, replace_file
from zeroshot.errors import InvalidImageError, PluginContractError, ZeroShotWarning
from zeroshot.images import (
    ImageSource,
    as_image_list,
    content_key,
    fit_image,
    read_bytes,
    read_image,
)
from zeroshot.progress import progress_bar

__all__ = ["FeatureStore", "Features", "extract_features"]

SEGMENT_ROWS = 1000  # at 1280 numbers a row, 5 MB: little is lost if we are killed
READERS = min(8, (os.cpu_count() or 1) + 1)  # one more than cores: some wait for disk


@dataclass(frozen=True)
class Features:
    """Features of images, and what went wrong.

    Attributes
    ----------
    matrix : ndarray of shape (n, dim), float32
        One row per image, in order. The row of an unreadable image is NaN.
    errors : dict of int to str
        Position of each unreadable image, and the reason.
    """

    matrix: NDArray[np.float32]
    errors: dict[int, str] = field(default_factory=dict)


def extract_features(
    images: object,
    backbone: Backbone,
    *,
    batch_size: int = 32,
    cache: bool = True,
    on_error: Literal["raise", "nan"] = "raise",
) -> Features:
    """Compute the features of images, each different image once.

    Images are read, hashed, decoded and resized by a few threads while the backbone
    computes. Some three batches of decoded images are in memory at once, however many
    paths are given. Where every image is in the cache, the backbone computes nothing
    and no image is decoded.

    Parameters
    ----------
    images : any form that `zeroshot.images.as_image_list` takes
        n images.
    backbone : Backbone
        Its card's resize rule is applied.
    batch_size : int, default=32
        Images that the backbone is given at once, at least 1.
    cache : bool, default=True
        Look features up in the cache by the content of the image, and keep new ones
        there, also when interrupted.
    on_error : {"raise", "nan"}, default="raise"
        What to do about an image that cannot be read: raise its error (the first in
        order), or go on and report it in ``errors``.

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
    ValueError
        If ``batch_size`` or ``on_error`` is none of the above.
    """
    if batch_size < 1 or on_error not in ("raise", "nan"):
        raise ValueError(
            f"Expected batch_size >= 1 and on_error 'raise' or 'nan'. Got "
            f"{batch_size!r} and {on_error!r}."
        )
    sources = as_image_list(images)
    matrix = np.full((len(sources), backbone.dim), np.nan, np.float32)
    errors: dict[int, str] = {}
    if not sources:
        return Features(matrix)
    store = FeatureStore.of(backbone) if cache else None
    first: dict[bytes, int] = {}  # where each content came first
    repeats: list[tuple[int, bytes]] = []
    batch: list[tuple[int, bytes, NDArray[np.uint8]]] = []
    limit = 2 * batch_size + READERS  # a batch ready, one in the making

    def embed_batch() -> None:
        rows = _embed(backbone, np.stack([pixels for _, _, pixels in batch]))
        for (index, key, _), row in zip(batch, rows, strict=True):
            matrix[index] = row
            if store is not None:
                store.add(key, row)
        batch.clear()

    try:
        with (
            progress_bar("images", len(sources)) as advance,
            closing(_read_ahead(sources, backbone, store, limit)) as prepared,
        ):
            for index, result in enumerate(prepared):
                if isinstance(result, InvalidImageError):
                    if on_error == "raise":
                        raise result
                    errors[index] = str(result)
                elif result.key in first:
                    repeats.append((index, result.key))
                else:
                    first[result.key] = index
                    if result.features is not None:
                        matrix[index] = result.features
                    elif result.pixels is not None:
                        batch.append((index, result.key, result.pixels))
                if len(batch) == batch_size:
                    embed_batch()
                advance(1)
            if batch:
                embed_batch()
    finally:
        if store is not None:
            store.flush()
    for index, key in repeats:
        matrix[index] = matrix[first[key]]
    return Features(matrix, errors)


class FeatureStore:
    """Features in the cache, by content of the image, for one backbone.

    A folder of segments: files that are written whole, under a name of their own, and
    never changed. So processes may read and write at once, and a killed one leaves
    nothing half-made. A segment that cannot be read is left out, with a warning. Safe
    for use by threads; what is looked up stays in memory.

    Parameters
    ----------
    folder : Path
        Made when first written to.
    dim : int
        Length of a feature vector.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._places: dict[bytes, tuple[Path, int]] | None = None
        self._loaded: dict[Path, NDArray[np.float32]] = {}
        self._new: dict[bytes, NDArray[np.float32]] = {}
        self._writable = True
        self._lock = threading.RLock()

    @classmethod
    def of(cls, backbone: Backbone) -> "FeatureStore":
        """Return the store of a backbone, below `zeroshot.cache.cache_root`.

        Parameters
        ----------
        backbone : Backbone
            Its fingerprint names the folder.

        Returns
        -------
        store : FeatureStore
        """
        name = sha256(backbone.fingerprint.encode()).hexdigest()[:32]
        return cls(cache_root() / "features" / name, backbone.dim)

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """Return the features stored under a key, or None.

        Parameters
        ----------
        key : bytes of length 32
            See `zeroshot.images.content_key`.

        Returns
        -------
        features : ndarray of shape (dim,), float32, or None
        """
        with self._lock:
            if self._places is None:
                self._places = {}
                self._read_keys(self._places)
            if key not in self._places:
                return None
            path, row = self._places[key]
            if path not in self._loaded:
                try:
                    self._loaded[path] = _read_rows(path, self.dim)
                except Exception as error:
                    self._leave_out(path, error)
                    kept = {k: v for k, v in self._places.items() if v[0] != path}
                    self._places = kept
                    return None
            features: NDArray[np.float32] = self._loaded[path][row]
            return features

    def add(self, key: bytes, features: NDArray[np.float32]) -> None:
        """Keep features under a key; they are written after `SEGMENT_ROWS` of them.

        Parameters
        ----------
        key : bytes of length 32
        features : ndarray of shape (dim,), float32
        """
        with self._lock:
            self._new[key] = features.copy()
            if len(self._new) >= SEGMENT_ROWS:
                self.flush()

    def flush(self) -> None:
        """Write what was added. Where that fails, warn, once, and keep nothing more."""
        with self._lock:
            new, self._new = self._new, {}
            if not new or not self._writable:
                return
            try:
                with replace_file(self.folder / f"{uuid4().hex}.npz") as temporary:
                    np.savez(
                        temporary,
                        keys=np.frombuffer(b"".join(new), np.uint8).reshape(-1, 32),
                        rows=np.stack(list(new.values())),
                    )
            except OSError as error:
                self._writable = False
                warn(
                    f"Features are not kept: the cache '{self.folder}' cannot be "
                    f"written ({error}). Set ZEROSHOT_CACHE to a folder that can.",
                    ZeroShotWarning,
                    stacklevel=3,
                )

    def _read_keys(self, places: dict[bytes, tuple[Path, int]]) -> None:
        for path in sorted(self.folder.glob("[!.]*.npz")):
            try:
                keys = _read_segment_keys(path)
            # zipfile and NumPy raise a dozen types for a broken file.
            except Exception as error:
                self._leave_out(path, error)
                continue
            places.update((key.tobytes(), (path, i)) for i, key in enumerate(keys))

    def _leave_out(self, path: Path, error: Exception) -> None:
        if isinstance(error, FileNotFoundError):  # another process cleared the cache
            return
        if not isinstance(error, OSError):  # broken, and not merely out of reach
            with suppress(OSError):
                path.unlink()
        warn(
            f"Stored features in '{path}' cannot be read ({error}); they are computed "
            f"again.",
            ZeroShotWarning,
            stacklevel=3,
        )


def _read_segment_keys(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file, np.load(file) as segment:
        keys: NDArray[np.uint8] = segment["keys"]
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != 32:
        raise ValueError(f"keys of {keys.dtype} and shape {keys.shape}")
    return keys


def _read_rows(path: Path, dim: int) -> NDArray[np.float32]:
    with path.open("rb") as file, np.load(file) as segment:
        rows: NDArray[np.float32] = segment["rows"]
        n = len(segment["keys"])
    if rows.dtype != np.float32 or rows.shape != (n, dim):
        raise ValueError(f"rows of {rows.dtype} and shape {rows.shape}")
    return rows


@dataclass(frozen=True)
class _Prepared:
    """An image's key, and its features where they are known, else its pixels."""

    key: bytes
    features: NDArray[np.float32] | None = None
    pixels: NDArray[np.uint8] | None = None


_Result: TypeAlias = _Prepared | InvalidImageError


def _read_ahead(
    sources: Sequence[ImageSource],
    backbone: Backbone,
    store: FeatureStore | None,
    limit: int,
) -> Generator[_Result]:
    """Prepare images in threads, in order, at most ``limit`` ahead of the consumer."""
    size, resize = backbone.input_size, card_of(backbone).resize

    def prepare(index: int, source: ImageSource) -> _Result:
        try:
            name = None
            if isinstance(source, str | Path):
                name = f"'{source}'"
                source = read_bytes(source, index=index)
            elif not isinstance(source, bytes):
                source = read_image(source, index=index)
            key = content_key(source)
            features = store.get(key) if store is not None else None
            if features is not None:
                return _Prepared(key, features=features)
            image = read_image(source, index=index, name=name)
            return _Prepared(key, pixels=fit_image(image, size, resize))
        except InvalidImageError as error:
            return error

    pool = ThreadPoolExecutor(READERS, thread_name_prefix="zeroshot-images")
    waiting: deque[Future[_Result]] = deque()
    try:
        for index, source in enumerate(sources):
            waiting.append(pool.submit(prepare, index, source))
            if len(waiting) > limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
