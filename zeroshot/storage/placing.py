"""One file put in a second place: linked, copied or moved, and taken back.

Nothing is ever overwritten, and whatever moment the process is killed at, the file is
whole in one of the two places at least.
"""

import errno
import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["Action", "place", "take_back"]

Action: TypeAlias = Literal["link", "copy", "move"]

# Another file system, one without hard links, too many of them, files of others.
NO_LINK = frozenset(
    (
        *(errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK),
        *(errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
    )
)


def place(source: Path, target: Path, action: Action) -> None:
    """Put a file at ``target``; if that very file is there already, nothing is left.

    ``action``: ``"link"`` makes a hard link, or a copy where none can be made;
    ``"move"`` does the same and then removes ``source``. Raises FileExistsError if
    another file is at ``target``, else OSError, and then nothing has changed.
    """
    is_new = not os.path.lexists(target)
    if not is_new:
        if not _is_same(source, target):
            raise FileExistsError(errno.EEXIST, "Another file is there", str(target))
    elif action == "copy" or not _linked(source, target):
        _copy(source, target)
    if action == "move":
        try:
            source.unlink()
        except OSError:
            if is_new:
                target.unlink()
            raise


def take_back(source: Path, target: Path, action: Action) -> bool:
    """Undo `place`; False where that would lose something, and nothing has changed.

    A file at ``target`` is removed where the same one is at ``source``; one that was
    moved goes back if nothing is there. Raises OSError.
    """
    _part(target).unlink(missing_ok=True)
    if not os.path.lexists(target):
        return action != "move" or os.path.lexists(source)
    if os.path.lexists(source):
        if not _is_same(source, target):
            return False
        target.unlink()
    elif action == "move":
        source.parent.mkdir(parents=True, exist_ok=True)
        place(target, source, "move")
    else:
        return False  # the last one that is left of it
    return True


def _is_same(a: Path, b: Path) -> bool:
    with suppress(FileNotFoundError):  # a link that leads nowhere
        return os.path.samefile(a, b) or filecmp.cmp(a, b, shallow=False)
    return False


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno in NO_LINK:
            return False
        raise
    return True


def _copy(source: Path, target: Path) -> None:
    part = _part(target)
    part.unlink(missing_ok=True)  # of a process that was killed
    try:
        shutil.copy2(source, part)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        if not _linked(part, target):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "A file came there", str(target))
            part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")
