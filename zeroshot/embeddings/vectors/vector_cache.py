"""Where what was worked out from a vector file is kept, and under which conditions.

Everything lies in the folder ``vectors`` of the cache, named after the file that the
user named. It is valid for one content of that file only, which its key stands for.

Of a copy that we unpacked, and of a download with a recorded hash, the checksum of each
4 KiB is kept: what is read of it is checked each time, at 1 GB/s.

A packed file can only be read from its start, at some 200 MB/s; unpacked it is indexed
or memory-mapped like any other. Measured on Numberbatch (31 MB gzip, 117 MB of text),
whole processes: 0.6 s by one pass over the packed file; 0.9 s to unpack and index it,
and 0.09 s each time after. So a packed file is always unpacked, even for one lookup.
"""

import contextlib
import errno
import hashlib
import io
import mmap
import os
import shutil
import struct
import time
import warnings
from array import array
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_file import (
    BLOCK,
    content_fingerprint,
    open_file,
    open_packed,
    unreadable,
)
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import cache_root, replace_file
from zeroshot.storage.regular_files import open_regular

__all__ = [
    "DamagedCopyError",
    "FileStamp",
    "Source",
    "cached_path",
    "content_key",
    "damage_of",
    "file_stamp",
    "load_tables",
    "save_tables",
    "unpacked_file",
    "warn_uncached",
]

FileStamp = tuple[int, int, int]  # size in bytes, time of the last change in ns, inode

LEAST_UNPACKED = 1 << 20  # bytes; a smaller packed file is unpacked in some 30 ms
MOST_IN_MEMORY = 1 << 30  # bytes
SPARE = 256 << 20  # bytes of the disk that are left free
SUMMED = 4096  # bytes with a checksum of their own: a row takes some 1 to 3 kB

_MAGIC = b"zs-tables-1"
# Magic; key of the content; number of tables, and bytes of each (at most four); CRC-32
# of the tables. Then the CRC-32 of these.
_HEADER = struct.Struct("<16s32s5QI")
_CHECK = struct.Struct("<I")
_START = _HEADER.size + _CHECK.size


def cached_path(path: Path, ending: str) -> Path:
    """Return where something about the file at ``path``, such as ``.index``, is kept.

    ``path`` is absolute.
    """
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache_root() / "vectors" / f"{path.name[:60]}-{digest}{ending}"


def content_key(path: Path, form: str) -> bytes:
    """Return 32 bytes that change when the file does.

    They cover its size, its time of change and what
    `zeroshot.embeddings.vectors.vector_file.content_fingerprint` covers, so a file
    replaced in place is noticed even where its size and its time are kept.
    """
    stamp = file_stamp(path)
    text = f"{content_fingerprint(path, form)} {stamp[0]} {stamp[1]}"
    return hashlib.sha256(text.encode()).digest()


def file_stamp(path: Path) -> FileStamp:
    """Return what the file system says of a file, to see whether it was changed."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns, status.st_ino


def save_tables(path: Path, key: bytes, tables: Iterable[Iterable[Any]]) -> None:
    """Write up to four tables, each in parts, to a file that `load_tables` maps.

    ``key``: 32 bytes that stand for the content of the vector file. ``tables``: A table
    is not asked for before the one before it was written.
    """
    _remove_left_over(path)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(_START))
        sizes, check = [], 0
        for table in tables:
            sizes.append(0)
            for part in table:
                sizes[-1] += file.write(part)
                check = crc32(part, check)
            file.write(bytes(-sizes[-1] % 8))
        padded = [*sizes, 0, 0, 0, 0][:4]
        header = _HEADER.pack(_MAGIC, key, len(sizes), *padded, check)
        file.seek(0)
        file.write(header + _CHECK.pack(crc32(header)))


def load_tables(path: Path, key: bytes | None) -> list[memoryview] | None:
    """Return tables, or None where they are missing, of another content or damaged.

    ``key``: None for those of any content.
    """
    with (
        contextlib.suppress(ArtifactError, OSError, ValueError),
        open_regular(path) as file,
    ):
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = mapped[: _HEADER.size]
        if mapped[_HEADER.size : _START] != _CHECK.pack(crc32(header)):
            return None
        magic, kept_key, n_tables, *sizes, check = _HEADER.unpack(header)
        if magic.rstrip(b"\0") != _MAGIC or key not in (None, kept_key):
            return None
        at, found, tables = _START, 0, []
        for size in sizes[:n_tables]:
            tables.append(memoryview(mapped)[at : at + size])
            found = crc32(tables[-1], found)
            at += size + -size % 8
        return tables if (at, found) == (len(mapped), check) else None
    return None


def _remove_left_over(path: Path, older_than: float = 3600) -> None:
    """Remove what processes killed ``older_than`` seconds ago left of writing ``path``.

    Another process may be writing now.
    """
    for temporary in path.parent.glob(f".{escape(path.stem)}-*{escape(path.suffix)}"):
        with contextlib.suppress(OSError):
            if temporary.stat().st_mtime <= time.time() - older_than:
                temporary.unlink()


_warned: set[str] = set()


def damage_of(path: Path) -> str:
    """Read a file of ours in the cache whole, and say what is wrong, or nothing."""
    if path.suffix == ".unpacked":
        if (sums := _sums_of(path, None)) is None:
            return "it has not the size, or no record, of what was unpacked"
        with path.open("rb") as file:
            found = _sums(iter(partial(file.read, BLOCK), b""))
        return "" if np.array_equal(sums, found) else "its checksums are others"
    return "" if load_tables(path, None) else "its checksum is another"


def warn_uncached(folder: Path, error: OSError) -> None:
    """Warn, once a process and folder, that nothing can be kept there."""
    if str(folder) in _warned:
        return
    _warned.add(str(folder))
    warnings.warn(
        f"Expected to keep what was worked out from a vector file in '{folder}'. Got: "
        f"{error}. It is worked out again in every process; make room there, or name "
        f"another folder in the environment variable ZEROSHOT_CACHE.",
        ZeroShotWarning,
        stacklevel=2,
    )


class DamagedCopyError(ArtifactError):
    """What was unpacked into the cache is no longer that; it was given up."""


@dataclass(frozen=True)
class Source:
    """Where the content of a vector file lies unpacked."""

    path: Path  # as the user named it
    content: Path | bytes  # the same, or a copy in the cache, or all of it
    sums: NDArray[np.uint32] | None = None  # CRC-32 of each `SUMMED` bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        content = self.content
        return len(content) if isinstance(content, bytes) else file_stamp(content)[0]

    @contextlib.contextmanager
    def opened(self) -> "Iterator[io.FileIO | io.BytesIO | _Checked]":
        """Open the content, without a buffer, to `seek` and `read`.

        An error, now or while the block runs, is an ArtifactError that names the file.
        """
        try:
            if isinstance(self.content, bytes):
                yield io.BytesIO(self.content)
            else:
                with self.content.open("rb", buffering=0) as file:
                    sums = self.sums
                    yield file if sums is None else _Checked(file, self, sums)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self.content is not self.path:
                raise self.damaged() from error
            raise unreadable(self.path, error) from error

    def check(
        self, content: "bytes | mmap.mmap", at: int, end: int, first: int
    ) -> None:
        """Compare some bytes with the checksums, where there are any.

        ``content`` begins at byte ``first`` of the file, at one with a checksum of its
        own; compared is what covers ``at`` to ``end``, also counted in the file.
        """
        if self.sums is None:
            return
        view = memoryview(content)
        for block in range(at // SUMMED, -(-end // SUMMED)):
            start = block * SUMMED - first
            if block >= len(self.sums) or crc32(view[start : start + SUMMED]) != int(
                self.sums[block]
            ):
                raise self.damaged()

    def damaged(self) -> ArtifactError:
        """Return the error for other bytes, and give up a copy."""
        if self.content is self.path:
            return ArtifactError(
                f"Expected '{self.path}' as it was fetched. Got other bytes: it was "
                f"changed or damaged on disk. Delete it, and it will be fetched again."
            )
        with contextlib.suppress(OSError):
            _key_of(cached_path(self.path, ".unpacked")).unlink()  # unpacked anew
        return DamagedCopyError(
            f"Expected the copy of '{self.path}' in the cache as it was unpacked. Got "
            f"other bytes: it was changed or damaged on disk. The file is unpacked "
            f"anew at its next use."
        )


class _Checked:
    """A file of which every byte that is read is checked."""

    def __init__(
        self, file: io.FileIO, source: Source, sums: NDArray[np.uint32]
    ) -> None:
        self._file, self._source, self._sums = file, source, sums
        self._at = 0

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def read(self, n: int) -> bytes:
        first = self._at - self._at % SUMMED
        self._file.seek(first)
        end = self._at + n
        content = self._file.read(end - first + -end % SUMMED)
        # Also what is missing from a file that was cut: not what is beyond its end.
        whole = len(self._sums) * SUMMED
        self._source.check(content, self._at, min(end, whole), first)
        piece = content[self._at - first : end - first]
        self._at += len(piece)
        return piece


def unpacked_file(path: Path) -> Source:
    """Return where a file lies unpacked, unpacking it where that was not done yet.

    Of two processes one unpacks and the other waits. A killed one leaves nothing that
    is used. A file that is not packed is itself the answer; the content is, where it is
    packed and small, or the cache cannot take it (of which a warning tells).

    Refuses a file that is missing or damaged, so much larger unpacked that this is no
    file of vectors, or that must be held in memory and is larger than 1 GiB.
    """
    with open_packed(path) as (stream, packed):
        is_packed = stream is not packed
        size = os.fstat(packed.fileno()).st_size
    if not is_packed:
        return _plain(path)
    if size < LEAST_UNPACKED:
        return Source(path, _in_memory(path))
    kept, key = cached_path(path, ".unpacked"), content_key(path, "packed")
    try:
        if (sums := _sums_of(kept, key)) is None:
            # It takes 30 ms to import, which a plain file need not wait.
            from filelock import FileLock

            kept.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(cached_path(path, ".lock")):
                if (sums := _sums_of(kept, key)) is None:
                    sums = _unpack(path, kept, key)
    except OSError as error:
        warn_uncached(kept.parent, error)
        return Source(path, _in_memory(path))
    return Source(path, kept, sums)


def _plain(path: Path) -> Source:
    """Return a file that is not packed; with checksums if it was fetched."""
    record = path.with_name(f"{path.name}.sha256")
    if path.parent != Path(os.path.abspath(cache_root() / "vectors")) or not (
        record.is_file()
    ):
        return Source(path, path)
    kept, key = cached_path(path, ".sums"), content_key(path, "sums")
    if tables := load_tables(kept, key):
        return Source(path, path, np.frombuffer(tables[0], np.uint32))
    from zeroshot.storage.large_files import recorded_hash

    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        with open_file(path) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                yield block

    sums = _sums(blocks())
    source = Source(path, path, sums)
    if digest.hexdigest() != recorded_hash(path):
        raise source.damaged()
    try:
        save_tables(kept, key, [[sums.data]])
    except OSError as error:
        warn_uncached(kept.parent, error)
    return source


def _sums(blocks: Iterable[bytes]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each `SUMMED` bytes of blocks, which are multiples of it."""
    sums = array("I")
    for block in blocks:
        view = memoryview(block)
        sums.extend(
            [crc32(view[at : at + SUMMED]) for at in range(0, len(view), SUMMED)]
        )
    return np.frombuffer(sums, np.uint32) if sums else np.empty(0, np.uint32)


def _key_of(kept: Path) -> Path:
    """Return where it is noted what a copy was unpacked from, and its checksums."""
    return kept.with_name(f"{kept.name}.key")


def _sums_of(kept: Path, key: bytes | None) -> NDArray[np.uint32] | None:
    """Return the checksums of a copy, or None where it is missing, cut or another's."""
    tables = load_tables(_key_of(kept), key)
    try:
        size = kept.stat().st_size
    except OSError:
        return None
    if tables is None or len(tables) != 2 or tables[1] != struct.pack("<Q", size):
        return None
    return np.frombuffer(tables[0], np.uint32)


def _unpack(path: Path, kept: Path, key: bytes) -> NDArray[np.uint32]:
    _remove_left_over(kept, older_than=0)  # nobody else writes: we hold the lock
    _key_of(kept).unlink(missing_ok=True)  # from here on the old copy counts no more
    kept.unlink(missing_ok=True)
    written = 0

    def write(blocks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal written
        for block in blocks:
            free = shutil.disk_usage(kept.parent).free
            if free < len(block) + SPARE:
                reason = f"only {free >> 20} MiB are free"
                raise OSError(errno.ENOSPC, reason, str(kept.parent))
            written += out.write(block)
            yield block

    with (
        replace_file(kept) as temporary,
        temporary.open("wb") as out,
        contextlib.closing(_blocks(path)) as blocks,
    ):
        sums = _sums(write(blocks))
    save_tables(_key_of(kept), key, [[sums.data], [struct.pack("<Q", written)]])
    return sums


def _in_memory(path: Path) -> bytes:
    content = io.BytesIO()
    for block in _blocks(path):
        if content.tell() + len(block) > MOST_IN_MEMORY:
            raise ArtifactError(
                f"Expected room in the cache for '{path}' unpacked, or at most "
                f"{MOST_IN_MEMORY >> 30} GiB to hold in memory. Got more. Make room, "
                f"or unpack it yourself and name the unpacked file."
            )
        content.write(block)
    return content.getvalue()  # which is no copy


def _blocks(path: Path) -> Generator[bytes, None, None]:
    """Yield the content of a packed file, in blocks of `BLOCK`; the last is shorter.

    Outside of the block that reads: an error there is one of the file.
    """
    with open_packed(path) as (stream, packed):
        size = os.fstat(packed.fileno()).st_size
        read = 0
        with progress_bar(f"unpacking {path.name}, MB", size >> 20) as advance:
            while block := stream.read(BLOCK):
                now = packed.tell() >> 20
                advance(now - read)
                read = now
                yield block
