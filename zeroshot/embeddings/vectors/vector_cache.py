"""Where what was worked out from a vector file is kept, and under which conditions.

Everything lies in the folder ``vectors`` of the cache, named after the file that the
user named. It is valid for one content of that file only, which its key stands for.
"""

import contextlib
import hashlib
import os
import time
import warnings
from glob import escape
from pathlib import Path

from zeroshot.embeddings.vectors.vector_file import content_fingerprint
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.storage.cache import cache_root

__all__ = [
    "FileStamp",
    "cached_path",
    "content_key",
    "file_stamp",
    "remove_left_over",
    "warn_uncached",
]

FileStamp = tuple[int, int, int]  # size in bytes, time of the last change in ns, inode


def cached_path(path: Path, ending: str) -> Path:
    """Return where something about the file at ``path`` is kept.

    Parameters
    ----------
    path : Path
        Absolute.
    ending : str
        What it is, such as ``".index"``.
    """
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache_root() / "vectors" / f"{path.name[:60]}-{digest}{ending}"


def content_key(path: Path, form: str) -> bytes:
    """Return 32 bytes that change when the file does.

    They cover its size, its time of change and what
    `zeroshot.embeddings.vectors.vector_file.content_fingerprint` covers, so a file
    replaced in place is noticed even where its size and its time are kept.

    Raises
    ------
    ArtifactError
        If the file cannot be read.
    """
    stamp = file_stamp(path)
    text = f"{content_fingerprint(path, form)} {stamp[0]} {stamp[1]}"
    return hashlib.sha256(text.encode()).digest()


def file_stamp(path: Path) -> FileStamp:
    """Return what the file system says of a file, to see whether it was changed.

    Raises
    ------
    ArtifactError
        If the file is not there.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ArtifactError(
            f"Expected a file at '{path}'. Got nothing there. Check the path."
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"Expected a readable file. Got '{path}': {error}. Check the path."
        ) from error
    return status.st_size, status.st_mtime_ns, status.st_ino


def remove_left_over(path: Path, older_than: float = 3600) -> None:
    """Remove what killed processes left of writing ``path``.

    Parameters
    ----------
    path : Path
        As given to `zeroshot.storage.cache.replace_file`.
    older_than : float, default=3600
        Seconds since the last byte was written: another process may be writing now.
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
