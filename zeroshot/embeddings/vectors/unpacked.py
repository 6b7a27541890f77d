"""A packed vector file, unpacked once into the cache.

A packed file can only be read from its start, at some 200 MB/s; unpacked it is indexed
or memory-mapped like any other. Measured on Numberbatch (31 MB gzip, 117 MB of text),
whole processes: 0.6 s by one pass over the packed file; 0.9 s to unpack and index it,
and 0.09 s each time after. So a packed file is always unpacked, even for one lookup.
"""

import errno
import io
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from zeroshot.embeddings.vectors.vector_cache import (
    cached_path,
    content_key,
    remove_left_over,
    warn_uncached,
)
from zeroshot.embeddings.vectors.vector_file import BLOCK, open_packed, unreadable
from zeroshot.errors import ArtifactError
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import replace_file

__all__ = ["Source", "open_source", "unpacked_file"]

Source = Path | bytes  # an unpacked file, or what is in it

LEAST_KEPT = 1 << 20  # bytes; a smaller packed file is unpacked in some 30 ms
# Against bombs. Published vectors are 2 to 4 times as large unpacked; text of which
# every row is the same, some 100 times.
MOST_TIMES, LEAST_REFUSED = 200, 64 << 20
MOST_IN_MEMORY = 1 << 30  # bytes
SPARE = 256 << 20  # bytes of the disk that are left free


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
    if size < LEAST_KEPT:
        return b"".join(_blocks(path))
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


@contextmanager
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
    remove_left_over(kept, older_than=0)  # nobody else writes: we hold the lock
    note.unlink(missing_ok=True)  # from here on the old copy counts no more
    kept.unlink(missing_ok=True)
    written = 0
    with (
        replace_file(kept) as temporary,
        temporary.open("wb") as out,
        closing(_blocks(path)) as blocks,
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
