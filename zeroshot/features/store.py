"""Features in the cache, by content of the image: one SQLite database a backbone."""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Literal, TypeAlias
from warnings import warn
from weakref import WeakSet
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, card_of
from zeroshot.errors import ZeroShotWarning
from zeroshot.images.costs import MAX_PIXELS, pixel_limit
from zeroshot.images.decoding import decoding_identity
from zeroshot.storage.cache import cache_root
from zeroshot.storage.limits import size_limit

__all__ = ["FEATURES_LIMIT", "FeatureStore", "features_limit"]

FEATURES_LIMIT = 10 << 30
"""Bytes that the features of all backbones may take, unless ``ZEROSHOT_FEATURES_LIMIT``
says otherwise: two million images at 1280 numbers."""

BATCH_ROWS = 1000  # at 1280 numbers a row, 5 MB: little is lost if we are killed
LOOKUP = 500  # keys of one query; SQLite before 3.32 takes 999
EVICT_TO = 0.9  # of the limit, so that not every batch written evicts something
TIMEOUT = 30.0  # seconds to wait for another process that writes
VACUUM_PAGES = 1000  # given back at a time: the log grows by as much meanwhile

# 16 KiB a page, three rows of 1280 numbers: 10,000 are written in 0.37 s, with 4 KiB in
# 0.43 s, with 64 KiB in 0.76 s; reading takes the same. 1024 rows that were added one
# after the other share the time of their last use, which is noted once an hour.
SETTINGS = "PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL"
SCHEMA = """PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE,
    pixels INTEGER NOT NULL, checksum INTEGER NOT NULL, row BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS used (block INTEGER PRIMARY KEY, at INTEGER NOT NULL)"""
INSERT = """INSERT INTO rows (key, pixels, checksum, row) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET pixels = excluded.pixels, checksum = excluded.checksum,
    row = excluded.row WHERE excluded.pixels < rows.pixels"""
NOTE_USE = """INSERT INTO used VALUES (?, ?) ON CONFLICT (block) DO UPDATE
SET at = excluded.at WHERE excluded.at - at NOT BETWEEN 0 AND 3600"""
DELETE_OLDEST = """DELETE FROM rows WHERE id IN
(SELECT id FROM rows LEFT JOIN used ON block = id >> 10 ORDER BY at, id LIMIT ?)"""
FORGET = "DELETE FROM used WHERE block NOT IN (SELECT id >> 10 FROM rows)"

# What the disk, its rights or other processes do; any other error is of a damaged file.
ENVIRONMENT = {
    getattr(sqlite3, f"SQLITE_{name}")
    for name in (
        *("BUSY", "CANTOPEN", "FULL", "IOERR"),
        *("LOCKED", "NOMEM", "PERM", "PROTOCOL"),
    )
}

Use: TypeAlias = Literal["read", "write"]

_LOCK = threading.RLock()
_STORES: "WeakSet[FeatureStore]" = WeakSet()


def features_limit() -> int:
    """Return how many bytes the features of all backbones may take.

    ``ZEROSHOT_FEATURES_LIMIT`` (a number of bytes, or ``500MB``, ``20GB``, ``1TB``)
    where that is set, else `FEATURES_LIMIT`. Raises ArtifactError if it is none of
    these.
    """
    return size_limit("ZEROSHOT_FEATURES_LIMIT", FEATURES_LIMIT)


class FeatureStore:
    """Features in the cache, by content of the image, for one backbone.

    A SQLite database with a write-ahead log: threads and processes read and write at
    once, and a killed one leaves nothing half-made. SQLite does not notice flipped bits
    in what it stores, so each row carries a CRC-32 of itself and its key: a damaged row
    is computed again, a damaged database is deleted; both with a warning. Where the
    cache cannot be read or written, a warning says so, once, and work goes on.

    A write-ahead log needs memory that all processes share. Where that cannot be had,
    SQLite's rollback journal takes its place, and readers wait for writers. On a
    network file system it seems to be there and is not: only one machine at a time may
    use a database there.

    To be closed. Nothing is open while the process forks. The database and its folder
    are made when first written to; what lies in the folder, for all backbones, is
    bounded by `features_limit`. A row is not found if an image of more than
    ``max_pixels``, the most that is taken now, could have been read when it was added:
    this one may have to be refused now.
    """

    def __init__(self, path: Path, dim: int, max_pixels: int = MAX_PIXELS) -> None:
        self.path = path
        self.dim = dim
        self.max_pixels = max_pixels
        self._limit = features_limit()
        self._new: dict[bytes, NDArray[np.float32]] = {}
        self._used: set[int] = set()  # blocks of rows
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._read_only = False
        self._failed: set[Use] = set()
        with _LOCK:
            _STORES.add(self)

    @classmethod
    def of(cls, backbone: Backbone) -> "FeatureStore":
        """Return the store of a backbone, below `zeroshot.storage.cache.cache_root`.

        Its name and fingerprint name the database, with all that decides how an image
        becomes the pixels that it is given.
        """
        size = (backbone.dim, *backbone.input_size)
        how = (*map(int, size), card_of(backbone).fitting, decoding_identity())
        digest = sha256(f"{backbone.fingerprint} {how}".encode()).hexdigest()[:32]
        name = re.sub(r"[^\w.+-]+", "-", backbone.name, flags=re.ASCII)[:60]
        path = cache_root() / "features" / f"{name}-{digest}.sqlite"
        return cls(path, backbone.dim, pixel_limit())

    def get_many(
        self, keys: Sequence[bytes]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the features stored under each of the keys.

        ``keys``: see `zeroshot.images.content_key`. Returns features (n, dim) float32:
        NaN where there are none; found (n,) bool.
        """
        features = np.empty((len(keys), self.dim), np.float32)
        found = np.zeros(len(keys), np.bool_)
        places = dict(zip(keys, range(len(keys)), strict=True))
        with _LOCK:
            for key in places.keys() & self._new.keys():
                features[places[key]], found[places[key]] = self._new[key], True
            unknown = [key for key, place in places.items() if not found[place]]
            with self._guarded("read"):
                for start in range(0, len(unknown), LOOKUP):
                    some = unknown[start : start + LOOKUP]
                    self._look_up(some, places, features, found)
        if len(places) < len(keys):  # repeated ones stand at their last place
            last = [places[key] for key in keys]
            features, found = features[last], found[last]
        features[~found] = np.nan
        return features, found

    def add(self, key: bytes, features: NDArray[np.float32]) -> None:
        """Keep features under a key; they are written after `BATCH_ROWS` of them.

        ``features``: (dim,) float32.
        """
        with _LOCK:
            self._new[key] = features.copy()
            if len(self._new) >= BATCH_ROWS:
                self.flush()

    def flush(self) -> None:
        """Write what was added. Where that fails, warn, once, and keep nothing more."""
        with _LOCK, self._guarded("write"):
            new, self._new = self._new, {}
            if not new or (connection := self._connected("write")) is None:
                return
            limit, rows = self.max_pixels, []
            for key, features in new.items():
                row = features.tobytes()
                rows.append((key, limit, crc32(row, crc32(key, limit)), row))
            with _transaction(connection):
                connection.executemany(INSERT, rows)
                query = "SELECT coalesce(max(id), 0) FROM rows"
                (last,) = connection.execute(query).fetchone()
                blocks = range((last - len(rows)) >> 10, (last >> 10) + 1)
                self._note_use(connection, set(blocks))
            self._evict()

    def close(self) -> None:
        """Write what was added and close the database; it may be used again."""
        with _LOCK:
            self.flush()
            used, self._used = self._used, set()
            with self._guarded("write"):
                if used and self._connection is not None and not self._read_only:
                    with _transaction(self._connection):
                        self._note_use(self._connection, used)
            self._disconnect()

    def count(self) -> int:
        """Return of how many images there are features; 0 where that is unreadable."""
        with suppress(OSError, sqlite3.Error), _LOCK:
            if (connection := self._connected("read")) is not None:
                (n,) = connection.execute("SELECT count(*) FROM rows").fetchone()
                return int(n)
        return 0

    def damage(self) -> str:
        """Read everything and say what is wrong, or nothing; no row is changed."""
        try:
            with _LOCK:
                if (connection := self._connected("read")) is None:
                    return ""
                (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if state != b"ok":
                    return str(state, "utf-8", "replace")
                query = "SELECT key, pixels, checksum, row FROM rows"
                for key, pixels, checksum, row in connection.execute(query):
                    if crc32(row, crc32(key, pixels)) != checksum:
                        return "the checksum of a row is another"
                    if not np.isfinite(np.frombuffer(row, np.float32)).all():
                        return "NaN or infinity among the features"
        except (OSError, sqlite3.Error, TypeError, ValueError) as error:
            return str(error)
        return ""

    def _look_up(
        self,
        keys: Sequence[bytes],
        places: dict[bytes, int],
        features: NDArray[np.float32],
        found: NDArray[np.bool_],
    ) -> None:
        """Fill in the rows that are stored, and which they are."""
        if (connection := self._connected("read")) is None:
            return
        query = (
            f"SELECT id, key, pixels, checksum, row FROM rows "
            f"WHERE key IN ({','.join('?' * len(keys))}) AND pixels <= ?"
        )
        target, size, damaged = features.data.cast("B"), 4 * self.dim, []
        rows = connection.execute(query, (*keys, self.max_pixels))
        for number, key, pixels, checksum, row in rows:
            place = places.get(key)
            try:
                whole = place is not None and len(row) == size
                whole = whole and crc32(row, crc32(key, pixels)) == checksum
            except TypeError:  # a flipped bit makes bytes a number
                whole = False
            if place is None or not whole:
                damaged.append((number,))
                continue
            target[place * size : (place + 1) * size] = row
            found[place] = True
            self._used.add(number >> 10)
        if damaged:
            self._warn_of_damage(f"{len(damaged)} rows with another checksum")
            with self._guarded("write"), _transaction(connection):
                connection.executemany("DELETE FROM rows WHERE id = ?", damaged)

    @contextmanager
    def _guarded(self, use: Use) -> Iterator[None]:
        """Turn whatever the database or the disk does into a warning."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._disconnect()
            reason: Exception = error
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            elsewhere = isinstance(error, OSError) or code in ENVIRONMENT
            if not elsewhere and not self._read_only:
                try:
                    # If another file is there, another process was faster.
                    if _inode_of(self.path) == self._inode:
                        self._warn_of_damage(error)
                        _remove(self.path)
                except OSError as refused:
                    reason = refused
                else:
                    return
            if not self._failed:
                warn(
                    f"Features are not kept: the cache '{self.path}' cannot be used "
                    f"({reason}). Set ZEROSHOT_CACHE to a folder that can.",
                    ZeroShotWarning,
                    stacklevel=4,
                )
            self._failed.add(use)

    def _warn_of_damage(self, reason: object) -> None:
        warn(
            f"Stored features in '{self.path}' are damaged ({reason}); they are "
            f"computed again.",
            ZeroShotWarning,
            stacklevel=5,
        )

    def _connected(self, use: Use) -> sqlite3.Connection | None:
        """Return the connection, made anew where another process deleted the file."""
        if use in self._failed:
            return None
        inode = _inode_of(self.path)
        if self._connection is not None and inode == self._inode:
            return self._connection
        self._disconnect()
        if inode is None and use == "read":
            return None
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._inode = inode
        self._read_only = inode is not None and not (
            os.access(self.path, os.W_OK) and os.access(folder, os.W_OK)
        )
        # Else SQLite makes files beside a database that it merely reads.
        mode = "immutable=1" if self._read_only else "mode=rwc"
        self._connection = connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.text_factory = bytes
        if not self._read_only:
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.executescript(SETTINGS)
            with suppress(sqlite3.OperationalError):  # no memory to share
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
            self._inode = _inode_of(self.path)
        return connection

    def _note_use(self, connection: sqlite3.Connection, blocks: set[int]) -> None:
        now = int(time.time())
        connection.executemany(NOTE_USE, [(block, now) for block in blocks])
        with suppress(OSError):  # another process may have deleted it
            os.utime(self.path)  # until the log is full, only that is written to

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _evict(self) -> None:
        """Delete what was not used for the longest time, of all backbones."""
        folder = self.path.parent
        files = _files_below(folder)
        if sum(size for size, _ in files.values()) <= self._limit:
            return
        for segment in folder.glob("*/*.features"):  # of zeroshot before SQLite
            with suppress(OSError):
                segment.unlink()
        self._shrink(0)  # what is in the log goes to its place
        files = _files_below(folder)
        excess = sum(size for size, _ in files.values()) - EVICT_TO * self._limit
        databases = [path for path in files if path.suffix == ".sqlite"]
        for path in sorted(databases, key=lambda path: files[path][1]):
            if excess <= 0:
                break
            size = sum(files[file][0] for file in _files_of(path) if file in files)
            if path == self.path:
                self._shrink(excess / size)
            elif size <= excess:
                with suppress(OSError):  # Windows keeps what another process uses
                    _remove(path)
            else:
                other = FeatureStore(path, self.dim)
                with closing(other), other._guarded("write"):
                    other._shrink(excess / size)
            excess -= size

    def _shrink(self, share: float) -> None:
        if (connection := self._connected("write")) is None:
            return
        (n,) = connection.execute("SELECT count(*) FROM rows").fetchone()
        with _transaction(connection):
            connection.execute(DELETE_OLDEST, (ceil(n * min(share, 1.0)),))
            connection.execute(FORGET)
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        for _ in range(0, free, VACUUM_PAGES):
            # Not `execute`, which gives back the first of the pages only.
            connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _files_of(database: Path) -> list[Path]:
    endings = ("", "-wal", "-shm", "-journal")
    return [database.with_name(f"{database.name}{ending}") for ending in endings]


def _remove(database: Path) -> None:
    for path in _files_of(database):
        path.unlink(missing_ok=True)


def _files_below(folder: Path) -> dict[Path, tuple[int, float]]:
    """Return size and time of change of each file."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process deletes files, too
            status = path.lstat()
            found[path] = status.st_size, status.st_mtime
    return found


def _before_fork() -> None:
    # SQLite's locks are of the process that took them: a child must not use them.
    _LOCK.acquire()
    for store in _STORES:
        store._disconnect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_LOCK.release,
        after_in_child=_LOCK.release,
    )
