"""Warnings of this package, and how a thread keeps its own to itself."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from zeroshot.errors import ZeroShotWarning

__all__ = ["quietly", "warn"]

_IS_QUIET = ContextVar("zeroshot_is_quiet", default=False)


def warn(message: str, category: type[ZeroShotWarning], stacklevel: int = 1) -> None:
    """Warn as `warnings.warn` does, unless this is done `quietly`.

    Parameters
    ----------
    message : str
    category : type of ZeroShotWarning
    stacklevel : int, default=1
        1 is the caller of this function.
    """
    if not _IS_QUIET.get():
        warnings.warn(message, category, stacklevel + 1)


@contextmanager
def quietly() -> Iterator[None]:
    """Drop what `warn` is given in the block, in this thread alone.

    `warnings.catch_warnings` changes the filters of all threads, and where two are in
    such blocks at once, the later to end leaves those of the other behind.

    Yields
    ------
    nothing : None
    """
    token = _IS_QUIET.set(True)
    try:
        yield
    finally:
        _IS_QUIET.reset(token)
