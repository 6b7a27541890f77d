"""Where files are kept, and how they are written: whole or not at all."""

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

__all__ = ["cache_root", "replace_directory", "replace_file"]

LEFT_OVER = 24 * 3600.0  # seconds after which nobody writes to a temporary file


def cache_root() -> Path:
    """Return the folder for everything that can be made again; it need not exist.

    ``ZEROSHOT_CACHE`` where that is set, else the platform's cache folder.
    """
    named = os.environ.get("ZEROSHOT_CACHE")
    return (
        Path(named).expanduser() if named else platformdirs.user_cache_path("zeroshot")
    )


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it there after the block.

    Two processes may do it at once (the last one wins), and a killed one leaves the old
    file as it was. What it had begun is removed a day later, when ``path`` is written
    again. The folder of ``path`` is made.
    """
    temporary = _beside(path, path.suffix)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it there after the block.

    Two processes may do it at once (the last one wins). One that is killed while it
    writes leaves the old folder as it was; in the instant between the two renames, the
    old one is in a hidden folder beside it. What it had begun is removed a day later,
    when ``path`` is written again.
    """
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                _sync(written)
        while not _put(temporary, path):  # another process was faster: replace its own
            pass
        _sync_names(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(new: Path, path: Path) -> bool:
    """Rename a folder to ``path``; False if another came there in the meantime."""
    # A folder cannot be renamed over a full one: the old one steps aside first.
    aside = _beside(path)
    aside.mkdir()
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


def _beside(path: Path, ending: str = "") -> Path:
    """Make the folder of a path, remove what is left over there, and name our own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.stem[:40]}-unfinished-"
    with os.scandir(path.parent) as entries:
        ours = [Path(one.path) for one in entries if one.name.startswith(prefix)]
    for left in ours:
        with suppress(OSError):  # another process removes it, too
            if left.stat().st_mtime < time.time() - LEFT_OVER:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    # Not by `tempfile`, which makes files that only their owner can read.
    return path.with_name(f"{prefix}{secrets.token_hex(4)}{ending}")


def _sync(file: Path) -> None:
    with file.open("rb+") as written:  # Windows syncs what it may write only
        os.fsync(written.fileno())


def _sync_names(folder: Path) -> None:
    # A rename survives a power cut once the folder is synced; Windows opens no folder.
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
