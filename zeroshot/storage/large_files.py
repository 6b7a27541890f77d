"""What fetching a large file needs: a lock, a bar in MiB, a hash recorded beside it."""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zeroshot.errors import ArtifactError
from zeroshot.progress import progress_bar, say
from zeroshot.storage.regular_files import open_regular, read_limited

__all__ = [
    "exclusive",
    "file_digest",
    "readable_size",
    "record_hash",
    "record_path",
    "recorded_hash",
    "remark",
    "show_bytes",
    "storage_error",
    "verify",
]

MIB = 1 << 20
MOST_OF_RECORD = 4096  # bytes; the name of the file is in it


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes from making the same file while the block runs.

    The lock is ``.NAME.lock`` beside it and frees itself when its process dies. An
    `ArtifactError` says so where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remark(f"another process is making '{path.name}'; waiting for it")
            lock.acquire()
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def verify(path: Path) -> None:
    """Compare a downloaded or unpacked file with the hash recorded beside it.

    Raises ArtifactError if it has changed since, cannot be read, or no hash was
    recorded.
    """
    expected = recorded_hash(path)
    if expected is None:
        raise ArtifactError(
            f"Expected the hash of '{path}' in '{record_path(path)}'. Got none: the "
            f"file was put there by hand. Nothing can be said about it."
        )
    try:
        got = file_digest(path, "sha256")
    except OSError as error:  # a disk that fails while it is read
        raise ArtifactError(
            f"Expected a readable file. Got '{path}': {error}. Check the path."
        ) from error
    if got != expected:
        raise ArtifactError(
            f"Expected '{path}' to have the SHA-256 {expected}. Got {got}: it was "
            f"changed or damaged on disk. Delete it, and it will be fetched again."
        )


def record_path(path: Path) -> Path:
    """Return where the hash of a file is recorded."""
    return path.with_name(f"{path.name}.sha256")


def record_hash(path: Path, digest: str) -> None:
    """Write the SHA-256 of a file, hexadecimal, beside it, as ``sha256sum`` does."""
    if digest != recorded_hash(path):  # a full disk would leave the record empty
        text = f"{digest} *{path.name}\n"
        record_path(path).write_text(text, encoding="utf-8")


def recorded_hash(path: Path) -> str | None:
    """Return the SHA-256 recorded for a file, in lower case, or None."""
    record = record_path(path)
    if not os.path.isfile(record):
        return None
    text = read_limited(record, MOST_OF_RECORD).decode("utf-8", "replace")
    match = re.match(r"[0-9a-fA-F]{64}\b", text)
    return match[0].lower() if match else None


def file_digest(path: Path, algorithm: str) -> str:
    """Return the "sha256" or "md5" of a file, in lower case; about 1 GB/s.

    Raises ArtifactError if it is no regular file, or cannot be opened.
    """
    with open_regular(path) as file:  # MD5 tells damage, not malice
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def remark(text: str) -> None:
    """Tell the user something on stderr, where there is one."""
    say(f"zeroshot: {text}")


@contextmanager
def show_bytes(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar in MiB while the block runs; ``advance(n)`` counts ``n`` bytes."""
    mib = None if total is None else math.ceil(total / MIB)
    with progress_bar(f"{description} (MiB)", mib) as advance_mib:
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            if whole := (done + n) // MIB - done // MIB:
                advance_mib(whole)
            done += n

        yield advance


def readable_size(n_bytes: int) -> str:
    """Return a number of bytes in a unit for people.

    Examples
    --------
    >>> readable_size(862182613), readable_size(512)
    ('822 MiB', '512 B')
    """
    value, units = float(n_bytes), ["B", "KiB", "MiB", "GiB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1024, units[1:]
    digits = 0 if units[0] == "B" or value >= 10 else 1
    return f"{value:.{digits}f} {units[0]}"


def storage_error(path: Path, error: OSError) -> ArtifactError:
    """Return the error for a file that cannot be written."""
    return ArtifactError(
        f"Expected to store '{path}'. Got {type(error).__name__}: {error}. Make room "
        f"or check the rights of its folder, or name another one in ZEROSHOT_CACHE."
    )
