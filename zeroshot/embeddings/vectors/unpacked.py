"""A packed vector file, unpacked once into the cache.

A packed file can only be read from its start, at some 200 MB/s; unpacked it is indexed
or memory-mapped like any other. Measured on Numberbatch (31 MB gzip, 117 MB of text),
whole processes: 0.6 s by one pass over the packed file; 0.9 s to unpack and index it,
and 0.09 s each time after. So a packed file is always unpacked, even for one lookup.
"""

import errno
import os
import shutil
from pathlib import Path

from zeroshot.embeddings.vectors.vector_cache import (
    cached_path,
    content_key,
    remove_left_over,
    warn_uncached,
)
from zeroshot.embeddings.vectors.vector_file import BLOCK, open_packed
from zeroshot.errors import ArtifactError
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import replace_file

__all__ = ["LEAST_UNPACKED", "MOST_UNPACKED", "unpacked_file"]

LEAST_UNPACKED = 1 << 20  # bytes; a smaller packed file is read in some 30 ms
# Bytes, against bombs. The largest published file, cc.en.300.bin, has 7.2 GB.
MOST_UNPACKED = 64 << 30
SPARE = 256 << 20  # bytes of the disk that are left free


def unpacked_file(path: Path, *, least: int | None = None) -> Path | None:
    """Return where a file lies unpacked, unpacking it where that was not done yet.

    Of two processes one unpacks and the other waits. A killed one leaves nothing that
    is used.

    Parameters
    ----------
    path : Path
        Absolute; plain, or packed as
        `zeroshot.embeddings.vectors.vector_file.open_stream` reads it.
    least : int, optional
        Size in bytes below which a packed file is not unpacked; `LEAST_UNPACKED` by
        default.

    Returns
    -------
    unpacked : Path or None
        ``path`` itself if it is not packed. None if it is packed and small, or the
        cache cannot take it (too little room, read-only), of which a warning tells.

    Raises
    ------
    ArtifactError
        If the file is missing or damaged, or has more than `MOST_UNPACKED` bytes
        unpacked.
    """
    with open_packed(path) as (stream, packed):
        if stream is packed:
            return path
        size = os.fstat(packed.fileno()).st_size
    if size < (LEAST_UNPACKED if least is None else least):
        return None
    kept, note = cached_path(path, ".unpacked"), cached_path(path, ".unpacked.key")
    key = content_key(path, "packed").hex()
    try:
        if _is_whole(kept, note, key):
            return kept
        from filelock import FileLock  # takes 30 ms, which a plain file need not wait

        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cached_path(path, ".lock")):
            if not _is_whole(kept, note, key):
                _unpack(path, kept, note, key, size)
    except OSError as error:
        warn_uncached(kept.parent, error)
        return None
    return kept


def _is_whole(kept: Path, note: Path, key: str) -> bool:
    try:
        return note.read_text() == f"{key} {kept.stat().st_size}"
    except (OSError, UnicodeDecodeError):
        return False


def _unpack(path: Path, kept: Path, note: Path, key: str, size: int) -> None:
    remove_left_over(kept, older_than=0)  # nobody else writes: we hold the lock
    note.unlink(missing_ok=True)  # from here on the old copy counts no more
    kept.unlink(missing_ok=True)
    with replace_file(kept) as temporary:
        written = _write_unpacked(path, temporary, size)
    with replace_file(note) as temporary:
        temporary.write_text(f"{key} {written}")


class _NotWritable(Exception):
    """Carries an error of the cache past `open_packed`, which would blame the file."""


def _write_unpacked(path: Path, target: Path, size: int) -> int:
    written = read = 0
    try:
        with (
            target.open("wb") as out,
            open_packed(path) as (stream, packed),
            progress_bar(f"unpacking {path.name}, MB", size >> 20) as advance,
        ):
            _check_room(target.parent, size)
            while block := stream.read(BLOCK):
                written += len(block)
                if written > MOST_UNPACKED:
                    raise ArtifactError(
                        f"Expected at most {MOST_UNPACKED >> 30} GiB of vectors. Got "
                        f"more in '{path}', packed in {size} bytes. If you trust it, "
                        f"unpack it yourself and name the unpacked file."
                    )
                _check_room(target.parent, len(block))
                try:
                    out.write(block)
                except OSError as error:
                    raise _NotWritable(error) from error
                now = packed.tell() >> 20
                advance(now - read)
                read = now
    except _NotWritable as error:
        raise error.args[0] from error
    return written


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise _NotWritable(
            OSError(errno.ENOSPC, f"only {free >> 20} MiB are free", str(folder))
        )
