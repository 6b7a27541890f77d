"""Where what was worked out from a vector file is kept, and under which conditions.

Everything lies in the folder ``vectors`` of the cache, named after the file that the
user named. It is valid for one content of that file only, which its key stands for.
"""

import contextlib
import hashlib
import mmap
import os
import struct
import time
import warnings
from collections.abc import Iterable
from glob import escape
from pathlib import Path
from typing import Any
from zlib import crc32

from zeroshot.embeddings.vectors.vector_file import content_fingerprint, unreadable
from zeroshot.errors import ZeroShotWarning
from zeroshot.storage.cache import cache_root, replace_file

__all__ = [
    "FileStamp",
    "cached_path",
    "content_key",
    "file_stamp",
    "load_tables",
    "remove_left_over",
    "save_tables",
    "warn_uncached",
]

FileStamp = tuple[int, int, int]  # size in bytes, time of the last change in ns, inode

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
    remove_left_over(path)
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


def remove_left_over(path: Path, older_than: float = 3600) -> None:
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
