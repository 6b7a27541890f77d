"""Where files are kept, and how they are written: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

__all__ = ["cache_root", "replace_directory", "replace_file"]


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
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it there after the block.

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
        if path.exists():
            # A folder cannot be renamed over a full one: the old one steps aside first.
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-old-"))
            path.replace(aside / path.name)
            try:
                temporary.replace(path)
            except OSError:
                (aside / path.name).replace(path)
                raise
            shutil.rmtree(aside)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
