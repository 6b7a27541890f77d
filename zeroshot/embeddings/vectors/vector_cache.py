"""Where what was worked out from a vector file is kept, and under which conditions.

Everything lies in the folder ``vectors`` of the cache, named after the file that the
user named. It is valid for one content of that file only, which its key stands for.

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
from collections.abc import Generator, Iterable, Iterator
from glob import escape
from pathlib import Path
from typing import Any
from zlib import crc32

from zeroshot.embeddings.vectors.vector_file import (
    BLOCK,
    content_fingerprint,
    open_packed,
    unreadable,
)
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import cache_root, replace_file

__all__ = [
    "FileStamp",
    "Source",
    "cached_path",
    "content_key",
    "file_stamp",
    "load_tables",
    "open_source",
    "save_tables",
    "unpacked_file",
    "warn_uncached",
]

FileStamp = tuple[int, int, int]  # size in bytes, time of the last change in ns, inode

Source = Path | bytes  # an unpacked file, or what is in it

LEAST_UNPACKED = 1 << 20  # bytes; a smaller packed file is unpacked in some 30 ms
# Against bombs. Published vectors are 2 to 4 times as large unpacked; text of which
# every row is the same, some 100 times.
MOST_TIMES, LEAST_REFUSED = 200, 64 << 20
MOST_IN_MEMORY = 1 << 30  # bytes
SPARE = 256 << 20  # bytes of the disk that are left free

_MAGIC = b"zs-tables-1"
# Magic; key of the content; number of tables, and bytes of each (at most four); CRC-32
# of the tables that are checked. Then the CRC-32 of these.
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


def save_tables(
    path: Path, key: bytes, tables: Iterable[Iterable[Any]], *, unchecked: int = 0
) -> None:
    """Write up to four tables, each in parts, to a file that `load_tables` maps.

    ``key``: 32 bytes that stand for the content of the vector file. ``tables``: A table
    is not asked for before the one before it was written. ``unchecked``: the first so
    many have no checksum.
    """
    _remove_left_over(path)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(_START))
        sizes, check = [], 0
        for table in tables:
            sizes.append(0)
            for part in table:
                sizes[-1] += file.write(part)
                check = crc32(part, check) if len(sizes) > unchecked else check
            file.write(bytes(-sizes[-1] % 8))
        padded = [*sizes, 0, 0, 0, 0][:4]
        header = _HEADER.pack(_MAGIC, key, len(sizes), *padded, check)
        file.seek(0)
        file.write(header + _CHECK.pack(crc32(header)))


def load_tables(
    path: Path, key: bytes, *, unchecked: int = 0
) -> list[memoryview] | None:
    """Return tables, or None where they are missing, of another content or damaged."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = mapped[: _HEADER.size]
        if mapped[_HEADER.size : _START] != _CHECK.pack(crc32(header)):
            return None
        magic, kept_key, n_tables, *sizes, check = _HEADER.unpack(header)
        if (magic.rstrip(b"\0"), kept_key) != (_MAGIC, key):
            return None
        at, tables = _START, []
        for size in sizes[:n_tables]:
            tables.append(memoryview(mapped)[at : at + size])
            at += size + -size % 8
        found = 0
        for table in tables[unchecked:]:
            found = crc32(table, found)
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


def unpacked_file(path: Path) -> Source:
    """Return where a file lies unpacked, unpacking it where that was not done yet.

    Of two processes one unpacks and the other waits. A killed one leaves nothing that
    is used. A file that is not packed is itself the answer; the content is, where it is
    packed and small, or the cache cannot take it (of which a warning tells).

    Refuses a file that is missing or damaged, so much larger unpacked that this is no
    file of vectors, or that must be held in memory and is larger than 1 GiB.
    """
    with open_packed(path) as (stream, packed):
        if stream is packed:
            return path
        size = os.fstat(packed.fileno()).st_size
    if size < LEAST_UNPACKED:
        return _in_memory(path)
    kept, note = cached_path(path, ".unpacked"), cached_path(path, ".unpacked.key")
    key = content_key(path, "packed").hex()
    try:
        if _is_whole(kept, note, key):
            return kept
        from filelock import FileLock  # takes 30 ms, which a plain file need not wait

        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cached_path(path, ".lock")):
            if not _is_whole(kept, note, key):
                _unpack(path, kept, note, key)
    except OSError as error:
        warn_uncached(kept.parent, error)
        return _in_memory(path)
    return kept


@contextlib.contextmanager
def open_source(path: Path, source: Source) -> Iterator[io.RawIOBase | io.BytesIO]:
    """Open what `unpacked_file` gave for ``path``, without a buffer.

    An error, now or while the block runs, is an ArtifactError that names ``path``.
    """
    try:
        if isinstance(source, bytes):
            yield io.BytesIO(source)
        else:
            with source.open("rb", buffering=0) as file:
                yield file
    except OSError as error:
        raise unreadable(path, error) from error


def _is_whole(kept: Path, note: Path, key: str) -> bool:
    try:
        return note.read_text() == f"{key} {kept.stat().st_size}"
    except (OSError, UnicodeDecodeError):
        return False


def _unpack(path: Path, kept: Path, note: Path, key: str) -> None:
    _remove_left_over(kept, older_than=0)  # nobody else writes: we hold the lock
    note.unlink(missing_ok=True)  # from here on the old copy counts no more
    kept.unlink(missing_ok=True)
    written = 0
    with (
        replace_file(kept) as temporary,
        temporary.open("wb") as out,
        contextlib.closing(_blocks(path)) as blocks,
    ):
        for block in blocks:
            free = shutil.disk_usage(kept.parent).free
            if free < len(block) + SPARE:
                reason = f"only {free >> 20} MiB are free"
                raise OSError(errno.ENOSPC, reason, str(kept.parent))
            written += out.write(block)
    with replace_file(note) as temporary:
        temporary.write_text(f"{key} {written}")


def _in_memory(path: Path) -> bytes:
    content = bytearray()
    for block in _blocks(path):
        content += block
        if len(content) > MOST_IN_MEMORY:
            raise ArtifactError(
                f"Expected room in the cache for '{path}' unpacked, or at most "
                f"{MOST_IN_MEMORY >> 30} GiB to hold in memory. Got more. Make room, "
                f"or unpack it yourself and name the unpacked file."
            )
    return bytes(content)


def _blocks(path: Path) -> Generator[bytes, None, None]:
    """Yield the content of a packed file.

    Outside of the block that reads: an error there is one of the file.
    """
    with open_packed(path) as (stream, packed):
        size = os.fstat(packed.fileno()).st_size
        written = read = 0
        with progress_bar(f"unpacking {path.name}, MB", size >> 20) as advance:
            while block := stream.read(BLOCK):
                written += len(block)
                if written > max(LEAST_REFUSED, MOST_TIMES * size):
                    raise ArtifactError(
                        f"Expected a packed file of vectors, some times as large "
                        f"unpacked. Got more than {written >> 20} MiB in '{path}', "
                        f"packed in {size} bytes. If you trust it, unpack it yourself "
                        f"and name the unpacked file."
                    )
                now = packed.tell() >> 20
                advance(now - read)
                read = now
                yield block
