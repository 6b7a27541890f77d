"""Opening files that others made: regular ones only, and no more bytes than expected.

A FIFO or a socket would hang whoever opens it, ``/dev/zero`` has no end. Nothing else
in this package opens a model, a bundle, vectors or a matrix that was given by a path.
"""

import os
import stat
from io import BufferedReader

from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped

__all__ = ["open_regular", "read_limited"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file, or a link to one, to be read.

    Raises ArtifactError if ``path`` names none, or it cannot be opened.
    """
    try:
        # Looked at first: merely opening a device may do something.
        _check_regular(path, os.stat(path).st_mode)
        # Not waiting, in case a pipe came there meanwhile.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
        try:
            _check_regular(path, os.fstat(file.fileno()).st_mode)
        except BaseException:
            file.close()
            raise
    except ArtifactError:
        raise
    # ValueError: a NUL or a lone surrogate, which no path has.
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"Expected a readable file. Got '{_shown(path)}': {_reason(error)}. Check "
            f"the path and its rights."
        ) from error
    return file


def read_limited(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises ArtifactError if it is longer, before it is read, or as `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            content = b"" if size > limit else file.read(limit + 1)
        except OSError as error:
            raise ArtifactError(
                f"Expected a readable file. Got '{_shown(path)}': {_reason(error)}."
            ) from error
    if max(size, len(content)) > limit:
        raise ArtifactError(
            f"Expected a file of at most {limit} bytes. Got '{_shown(path)}' of "
            f"{max(size, len(content))}. It is none that belongs here."
        )
    return content


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for check, name in _KINDS if check(mode)), "something else")
        raise ArtifactError(
            f"Expected a regular file. Got '{_shown(path)}', which is {kind}. Copy its "
            f"content into a file and name that."
        )


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return f"{type(error).__name__}: {said}"


def _shown(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return escaped(text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}")
