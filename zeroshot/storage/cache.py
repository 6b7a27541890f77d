"""Where files are kept, and how they are written: whole or not at all."""

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

__all__ = ["cache_root", "replace_directory", "replace_file"]

_UMASK_LOCK = threading.Lock()


def cache_root() -> Path:
    """Return the folder for everything that can be made again.

    Returns
    -------
    folder : Path
        ``ZEROSHOT_CACHE`` where that is set, else the platform's cache folder. It need
        not exist yet.
    """
    named = os.environ.get("ZEROSHOT_CACHE")
    return (
        Path(named).expanduser() if named else platformdirs.user_cache_path("zeroshot")
    )


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it there after the block.

    Two processes may do it at once (the last one wins), and a killed one leaves the old
    file as it was.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.

    Yields
    ------
    temporary : Path
        Write here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:  # Windows syncs what it may write only
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it there after the block.

    Two processes may do it at once (the last one wins). One that is killed while it
    writes leaves the old folder as it was; in the instant between the two renames, the
    old one is in a hidden folder beside it.

    Parameters
    ----------
    path : Path
        The folder to write; an existing one is replaced only after the block succeeds.

    Yields
    ------
    temporary : Path
        Write here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        while not _put(temporary, path):  # another process was faster: replace its own
            pass
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(new: Path, path: Path) -> bool:
    """Rename a folder to ``path``; False if another came there in the meantime."""
    # A folder cannot be renamed over a full one: the old one steps aside first.
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-old-"))
    old = aside / path.name
    with suppress(FileNotFoundError):
        path.replace(old)
    try:
        new.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            if old.exists():
                old.replace(path)
            aside.rmdir()
            raise
        placed = False
    else:
        placed = True
    shutil.rmtree(aside)
    return placed


def _umask() -> int:
    # It can only be read by setting it: two threads at once would leave it at 0.
    with _UMASK_LOCK:
        mask = os.umask(0)
        os.umask(mask)
    return mask
