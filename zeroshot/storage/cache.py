"""Where files are kept, and how they are written: whole or not at all."""

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import platformdirs

__all__ = ["cache_root", "is_being_replaced", "replace_directory", "replace_file"]

# Seconds after which nobody writes to a temporary file, where no lock can tell.
LEFT_OVER = 24 * 3600.0
PATIENCE = 5.0  # seconds with the lock of a folder, which is held for milliseconds
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def cache_root() -> Path:
    """Return the folder for everything that can be made again; it need not exist.

    ``ZEROSHOT_CACHE`` where that is set, else the platform's cache folder.
    """
    named = os.environ.get("ZEROSHOT_CACHE")
    if not named:
        return platformdirs.user_cache_path("zeroshot")
    return Path(os.path.expanduser(named))  # pathlib's raises for "~nobody"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it there after the block.

    Two processes may do it at once (the last one wins), and a killed one leaves the old
    file as it was. What it had begun is removed when ``path`` is written again; a day
    later where files cannot be locked. The folder of ``path`` is made. A device or a
    pipe, which renaming would replace for everybody, is refused with an OSError.
    """
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "Not a regular file", str(path))
    with _temporary(path, path.suffix, _touch) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync_names(path.parent)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; put it there after the block.

    Two processes may do it at once (the last one wins). One that is killed while it
    writes leaves the old folder as it was, and what it had begun, as for
    `replace_file`. On Linux the two folders change places in one step; elsewhere, and
    on a network's disk, the old one steps aside first, and there is an instant with
    none (`is_being_replaced`).
    """
    with _temporary(path, "", Path.mkdir) as temporary:
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                _sync(written)
        while not _put(temporary, path):  # another process was faster: replace its own
            pass
        _sync_names(path.parent)


def is_being_replaced(path: Path) -> bool:
    """Tell whether another process may be about to put a file or folder here."""
    with suppress(OSError, ValueError):
        return any(True for _ in _unfinished(path))
    return False


def _put(new: Path, path: Path) -> bool:
    """Put a folder at ``path``; False if another came there in the meantime.

    The old one, if any, is removed, or lies at ``new`` then.
    """
    with suppress(OSError):  # there is none yet
        new.rename(path)
        return True
    if _exchange(new, path):
        return True
    # A folder cannot be renamed over a full one: the old one steps aside first.
    aside = new.with_name(f"{new.name}{secrets.token_hex(1)}")
    with suppress(FileNotFoundError):
        path.replace(aside)
    try:
        new.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            shutil.rmtree(aside, ignore_errors=True)
            return False
        if aside.exists():
            aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _exchange(new: Path, path: Path) -> bool:
    """Let two folders change places in one step, where the system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28, musl 1.2
    if rename is None:
        return False
    names = (os.fsencode(new.absolute()), os.fsencode(path.absolute()))
    done = rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    return bool(done == 0)


@contextmanager
def _temporary(path: Path, ending: str, make: Any) -> Iterator[Path]:
    """Give what ``make`` made, a file or folder of our own beside a path; remove it.

    It is locked as long as this process lives. So are the folder's names while what
    others left there is removed and this one is made: nobody takes a new one for an old
    one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `tempfile`, which makes files that only their owner can read.
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}{ending}")
    with _names_locked(path.parent):
        for left in [*_unfinished(path)]:
            _remove_left(left)
        make(temporary)
        lock = _Lock(temporary)
    with lock:
        try:
            yield temporary
        finally:
            _remove(temporary)


@contextmanager
def _names_locked(folder: Path) -> Iterator[None]:
    """Lock a folder for an instant, unless something else holds it for long."""
    lock: _Lock | None = None
    end = time.monotonic() + PATIENCE
    while lock is None and time.monotonic() < end:
        try:
            lock = _Lock(folder)
        except BlockingIOError:
            time.sleep(0.005)
    with lock or nullcontext():
        yield


def _prefix(path: Path) -> str:
    return f".{path.stem[:40]}-unfinished-"


def _unfinished(path: Path) -> Iterator[Path]:
    """Yield what was begun, and perhaps left, beside a path for the like of it."""
    ours = re.compile(rf"{re.escape(_prefix(path))}[0-9a-f]{{8,10}}(\..*)?")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name):
                yield Path(entry.path)


def _remove_left(left: Path) -> None:
    # OSError: it is in use, or another process removes it, too
    with suppress(OSError), _Lock(left) as lock:
        if lock.is_held or left.lstat().st_mtime < time.time() - LEFT_OVER:
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


class _Lock:
    """A lock on a file or folder itself, which frees itself when its process dies.

    ``is_held`` is False where the system has none, as on Windows and on some disks.
    BlockingIOError, an OSError, says that another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._file, self.is_held = -1, False
        try:
            import fcntl
        except ImportError:
            return
        with suppress(OSError):  # it may be read only, or its disk cannot lock
            self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if self._file < 0:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_held = True
        except BlockingIOError:
            self.__exit__()
            raise
        except OSError:
            pass

    def __enter__(self) -> "_Lock":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


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
