"""Features in the cache, by content of the image, for one backbone."""

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self
from uuid import uuid4
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.features.segment import (
    BACKBONE_FILE,
    KEY_LENGTH,
    SEGMENT_SUFFIX,
    DamagedSegmentError,
    SegmentHeader,
    check_segment,
    read_header,
    read_keys,
    read_rows,
    write_segment,
)
from zeroshot.images.decoding import PIXELS
from zeroshot.storage.cache import cache_root, replace_file

__all__ = ["FEATURES_LIMIT", "FeatureStore", "features_limit"]

FEATURES_LIMIT = 10 << 30
"""Bytes that the features of all backbones may take, unless ``ZEROSHOT_FEATURES_LIMIT``
says otherwise: two million images at 1280 numbers."""

SEGMENT_ROWS = 1000  # at 1280 numbers a row, 5 MB: little is lost if we are killed
SMALL = SEGMENT_ROWS // 4  # rows; a predict of a few images leaves such a segment
MERGE_AT = 16  # small segments: as many files are opened to look one image up
OPEN_FILES = 16
EVICT_TO = 0.9  # of the limit, so that not every segment written evicts one
USED_EVERY = 3600.0  # seconds between two notes that a segment was used
ABANDONED = 24 * 3600.0  # seconds after which nobody writes to a temporary file

_ROW_BITS = 32


def features_limit() -> int:
    """Return how many bytes the features of all backbones may take.

    Returns
    -------
    limit : int
        ``ZEROSHOT_FEATURES_LIMIT`` (a number of bytes, or ``500MB``, ``20GB``, ``1TB``)
        where that is set, else `FEATURES_LIMIT`.

    Raises
    ------
    ArtifactError
        If the variable is none of these.
    """
    named = os.environ.get("ZEROSHOT_FEATURES_LIMIT")
    if not named:
        return FEATURES_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", named.strip(), re.I)
    if match is None:
        raise ArtifactError(
            f"Expected a size such as 500MB or 20GB in ZEROSHOT_FEATURES_LIMIT. Got "
            f"{named!r}. Correct or unset it; the default is 10GB."
        )
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * 1024**power)


class FeatureStore:
    """Features in the cache, by content of the image, for one backbone.

    A folder of segments: files that are written whole, under a name of their own, and
    never changed. So processes may read and write at once, and a killed one leaves
    nothing half-made. Each segment is compared with its checksum when it is first used;
    a damaged one is deleted, with a warning. Many small ones are merged into one. When
    the features of all backbones grow over `features_limit`, the segments not used for
    the longest time are deleted.

    Safe for use by threads; used in a ``with`` statement, or closed. In memory are 40
    bytes for each stored image, and the rows that are not written yet.

    Parameters
    ----------
    folder : Path
        Made when first written to. The folder that holds it is what is bounded.
    dim : int
        Length of a feature vector.
    name : str, optional
        Name of the backbone, for people.
    """

    def __init__(self, folder: Path, dim: int, name: str = "") -> None:
        self.folder = folder
        self.dim = dim
        self.name = name
        self._new: dict[bytes, NDArray[np.float32]] = {}
        self._segments: list[Path] | None = None
        self._keys: NDArray[np.bytes_] = np.empty(0, f"S{KEY_LENGTH}")
        self._places: NDArray[np.int64] = np.empty(0, np.int64)
        self._open: OrderedDict[int, tuple[BinaryIO, SegmentHeader]] = OrderedDict()
        self._checked: set[int] = set()
        self._writable = True
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @classmethod
    def of(cls, backbone: Backbone) -> "FeatureStore":
        """Return the store of a backbone, below `zeroshot.storage.cache.cache_root`.

        Parameters
        ----------
        backbone : Backbone
            Its fingerprint names the folder, with the version of how images are read.

        Returns
        -------
        store : FeatureStore
        """
        key = f"{backbone.fingerprint} pixels {PIXELS}"
        name = sha256(key.encode()).hexdigest()[:32]
        return cls(cache_root() / "features" / name, backbone.dim, backbone.name)

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """Return the features stored under a key, or None.

        Parameters
        ----------
        key : bytes of length 32

        Returns
        -------
        features : ndarray of shape (dim,), float32, or None
        """
        rows, found = self.get_many([key])
        return rows[0] if found[0] else None

    def get_many(
        self, keys: Sequence[bytes]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the features stored under each of the keys.

        Keys that were added one after the other are read at once.

        Parameters
        ----------
        keys : sequence of bytes of length 32
            See `zeroshot.images.content_key`.

        Returns
        -------
        features : ndarray of shape (n, dim), float32
            NaN where there are none.
        found : ndarray of shape (n,), bool
        """
        features = np.empty((len(keys), self.dim), np.float32)
        found = np.zeros(len(keys), np.bool_)
        with self._lock:
            for i, key in enumerate(keys) if self._new else ():
                if (new := self._new.get(key)) is not None:
                    features[i], found[i] = new, True
            if self._segments is None:
                self._read_index()
            try:
                self._look_up(keys, features, found)
            except FileNotFoundError:  # deleted or merged by another process
                self._read_index()
                with suppress(FileNotFoundError):
                    self._look_up(keys, features, found)
        features[~found] = np.nan
        return features, found

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
                self._write(new)
                self._evict()
                self._merge()
            except OSError as error:
                self._writable = False
                warn(
                    f"Features are not kept: the cache '{self.folder}' cannot be "
                    f"written ({error}). Set ZEROSHOT_CACHE to a folder that can.",
                    ZeroShotWarning,
                    stacklevel=3,
                )

    def close(self) -> None:
        """Write what was added and close all files; the store may be used again."""
        with self._lock:
            self.flush()
            while self._open:
                self._open.popitem()[1][0].close()

    def _look_up(
        self,
        keys: Sequence[bytes],
        features: NDArray[np.float32],
        found: NDArray[np.bool_],
    ) -> None:
        """Fill in rows that are not found yet, and which were found now."""
        if len(self._keys) == 0:
            return
        wanted = np.array(keys, self._keys.dtype)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        hits = np.flatnonzero((self._keys[at] == wanted) & ~found)
        places = self._places[at[hits]]
        if len(hits) == 0:
            return
        order = np.argsort(places, kind="stable")
        hits, places = hits[order], places[order]
        # Images repeat, or follow one another: these are read at once.
        starts = np.flatnonzero(places[1:] - places[:-1] > 1) + 1
        for start, stop in pairwise([0, *starts.tolist(), len(places)]):
            first, last = int(places[start]), int(places[stop - 1])
            segment, row = first >> _ROW_BITS, first & ((1 << _ROW_BITS) - 1)
            try:
                file, header = self._opened(segment)
                block = read_rows(file, header, row, row + last - first + 1)
            except FileNotFoundError:
                raise
            except (OSError, DamagedSegmentError) as error:
                self._leave_out(segment, error)
                self._look_up(keys, features, found)
                return
            features[hits[start:stop]] = block[places[start:stop] - first]
            found[hits[start:stop]] = True

    def _opened(self, segment: int) -> tuple[BinaryIO, SegmentHeader]:
        if segment in self._open:
            self._open.move_to_end(segment)
            return self._open[segment]
        assert self._segments is not None
        path = self._segments[segment]
        file = path.open("rb", buffering=0)
        known = segment in self._checked
        try:
            header = read_header(file) if known else check_segment(file, self.dim)
        except BaseException:
            file.close()
            raise
        if not known:
            self._checked.add(segment)
            _note_use(path)
        self._open[segment] = file, header
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1][0].close()
        return file, header

    def _read_index(self) -> None:
        while self._open:
            self._open.popitem()[1][0].close()
        self._segments, self._checked = [], set()
        self._keys, self._places = self._keys[:0], self._places[:0]
        for path in _segments_of(self.folder):
            try:
                with path.open("rb", buffering=0) as file:
                    keys = read_keys(file, read_header(file))
            except FileNotFoundError:
                continue
            except (OSError, DamagedSegmentError) as error:
                _warn_of(path, error)
                continue
            self._append(path, keys)
        self._sort()

    def _append(self, path: Path, keys: NDArray[np.bytes_]) -> None:
        assert self._segments is not None
        start = len(self._segments) << _ROW_BITS
        self._segments.append(path)
        places = start + np.arange(len(keys), dtype=np.int64)
        self._keys = np.concatenate([self._keys, keys])
        self._places = np.concatenate([self._places, places])

    def _sort(self) -> None:
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._places = self._keys[order], self._places[order]

    def _leave_out(self, segment: int, error: Exception) -> None:
        assert self._segments is not None
        if segment in self._open:
            self._open.pop(segment)[0].close()
        kept = self._places >> _ROW_BITS != segment
        self._keys, self._places = self._keys[kept], self._places[kept]
        _warn_of(self._segments[segment], error)

    def _write(self, features: dict[bytes, NDArray[np.float32]]) -> None:
        path = self.folder / f"{uuid4().hex}{SEGMENT_SUFFIX}"
        write_segment(path, features)
        if self._segments is not None:
            self._append(path, np.array(list(features), self._keys.dtype))
            self._checked.add(len(self._segments) - 1)
            self._sort()
        note = self.folder / BACKBONE_FILE
        if self.name and not note.exists():
            with replace_file(note) as temporary:
                temporary.write_text(f"{self.name}\n", encoding="utf-8")

    def _merge(self) -> None:
        """Write small segments as one, then delete them; others may do it at once."""
        small = []
        for path in _segments_of(self.folder):
            with suppress(OSError, DamagedSegmentError), path.open("rb") as file:
                if read_header(file).n_rows <= SMALL:
                    small.append(path)
        if len(small) < MERGE_AT:
            return
        merged: dict[bytes, NDArray[np.float32]] = {}
        try:
            for path in small:
                with path.open("rb") as file:
                    header = check_segment(file, self.dim)
                    rows = read_rows(file, header, 0, header.n_rows)
                    keys = read_keys(file, header).astype(object)
                    merged |= {
                        bytes(key).ljust(KEY_LENGTH, b"\0"): row
                        for key, row in zip(keys, rows, strict=True)
                    }
        except (OSError, DamagedSegmentError):  # gone, or left out when it is used
            return
        self._write(merged)
        for path in small:
            path.unlink(missing_ok=True)

    def _evict(self) -> None:
        """Delete what was not used for the longest time, of all backbones."""
        limit = features_limit()
        found = []
        now = time.time()
        for path in self.folder.parent.glob(f"*/*{SEGMENT_SUFFIX}"):
            with suppress(OSError):
                state = path.stat()
                if path.name.startswith("."):
                    if now - state.st_mtime > ABANDONED:
                        path.unlink()
                    continue
                found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= limit:
            return
        for _, size, path in sorted(found):
            if total <= EVICT_TO * limit:
                break
            with suppress(OSError):
                path.unlink()
                total -= size


def _segments_of(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[!.]*{SEGMENT_SUFFIX}"))


def _note_use(path: Path) -> None:
    """Set the time of change to now: what was used last is evicted last."""
    with suppress(OSError):  # a cache that may only be read
        if time.time() - path.stat().st_mtime > USED_EVERY:
            os.utime(path)


def _warn_of(path: Path, error: Exception) -> None:
    if isinstance(error, DamagedSegmentError):  # and not merely out of reach
        with suppress(OSError):
            path.unlink()
    warn(
        f"Stored features in '{path}' cannot be read ({error}); they are computed "
        f"again.",
        ZeroShotWarning,
        stacklevel=3,
    )
