"""What lies in the cache, how large it is, and how it is deleted.

Only what this package makes, or was fetched by it, is ever deleted: the folder may be
shared with other things where ``ZEROSHOT_CACHE`` names it.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zeroshot.errors import ArtifactError
from zeroshot.storage.cache import cache_root

__all__ = [
    "KINDS",
    "CachedFiles",
    "clear_cache",
    "free_space",
    "is_worked_out",
    "list_cache",
]

_DIGEST = "[0-9a-f]{16,64}"
KINDS = {
    "models": rf"{_DIGEST}(/.*)?",
    "features": rf".+-{_DIGEST}\.sqlite|{_DIGEST}/({_DIGEST}\.features|backbone\.txt)",
    "networks": rf"{_DIGEST}\.network",
    "tfhub": rf"{_DIGEST}([.-][^/]*)?(/.*)?",
    "vectors": rf".+-{_DIGEST}\.(index|sums|unpacked|units)",
}
"""The folders in the cache, and how the files in each that we make are named: by a
digest. What was fetched has its name from elsewhere, and a record of its hash beside
it. In ``features`` there may be folders of files, of versions before SQLite."""

_TEMPORARY = re.compile(r"(.*/)?\.[^/]+-[a-z0-9_]{8}(\.\w+)?(/.*)?")
_COMPANION = re.compile(
    r"(.+?)(\.sha256|\.part|\.part\.json|\.unpacking|\.key|-wal|-shm|-journal)"
)


@dataclass(frozen=True)
class CachedFiles:
    """A file or folder in the cache, with what belongs to it.

    ``kind``: the folder it lies in, or ``"other"``: it is not ours and never deleted.
    ``name``: its own, without a digest. ``paths``: of all files, sorted. ``size``: in
    bytes, of all.
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int


def list_cache() -> list[CachedFiles]:
    """Return what lies in the cache, in the order of `KINDS`, then by name.

    ``"other"`` comes last. Locks, which are empty, are left out. Raises ArtifactError
    if a folder cannot be read.
    """
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for kind in KINDS:
        folder = cache_root() / kind
        names = {path.relative_to(folder).as_posix() for path in _files_below(folder)}
        for name in sorted(names):
            if name.endswith(".lock"):
                continue
            match = _COMPANION.fullmatch(name)
            owner = name if match is None else match[1]
            if _is_ours(kind, name, owner, names):
                groups[kind, owner.partition("/")[0]].append(folder / name)
            else:
                groups["other", f"{kind}/{name}"].append(folder / name)
    order = [*KINDS, "other"]
    found = []
    for kind, name in sorted(groups, key=lambda group: (order.index(group[0]), group)):
        paths = tuple(groups[kind, name])
        plain = re.sub(rf"-{_DIGEST}(?=\.)", "", name)
        found.append(CachedFiles(kind, plain, paths, _size(paths)))
    return found


def clear_cache(*kinds: str) -> int:
    """Delete what this package keeps in the cache; it can be made or fetched again.

    Without ``kinds`` all of `KINDS`. Returns how many bytes were freed. Raises
    ArtifactError if another process is making a file there, a folder of the cache is a
    link that leads out of it (nothing is deleted then), or a file cannot be deleted.
    """
    folders = [cache_root() / kind for kind in kinds or KINDS]
    for folder in folders:
        _refuse_while_in_use(folder)
    wanted = [files for files in list_cache() if files.kind in (kinds or KINDS)]
    paths = [path for files in wanted for path in files.paths]
    _refuse_outside(paths)
    for path in paths:
        with _told("delete", path):
            path.unlink(missing_ok=True)
    for emptied in sorted({above for path in paths for above in path.parents})[::-1]:
        if any(folder in emptied.parents for folder in folders):
            with suppress(OSError):  # something that is not ours lies there
                emptied.rmdir()
    return sum(files.size for files in wanted)


def is_worked_out(path: Path) -> bool:
    """Return whether a file was made from one of word vectors, by its path."""
    return path.parent.name == "vectors" and bool(
        re.fullmatch(KINDS["vectors"], path.name)
    )


def free_space(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder, which need not exist."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _is_ours(kind: str, name: str, owner: str, names: set[str]) -> bool:
    if re.fullmatch(KINDS[kind], owner) or _TEMPORARY.fullmatch(name):
        return True
    # A part without the state of its download may be of another program.
    fetched = {f"{owner}{ending}" for ending in (".sha256", ".part.json", ".unpacking")}
    return "/" not in name and bool(fetched & names)


def _files_below(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ArtifactError(
            f"Expected a readable folder of the cache. Got '{folder}': {error}. Check "
            f"its rights, or name another one in ZEROSHOT_CACHE."
        ) from error
    for path in entries:
        if path.is_dir() and not path.is_symlink():
            yield from _files_below(path)
        else:
            yield path


def _size(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        with suppress(FileNotFoundError):  # it may go away meanwhile
            size += path.lstat().st_size  # of a link, only the link is in the cache
    return size


def _refuse_while_in_use(folder: Path) -> None:
    locks = [path for path in _files_below(folder) if path.suffix == ".lock"]
    if not locks:
        return
    from filelock import FileLock, Timeout

    for path in locks:
        with _told("lock", path):
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout as error:
                raise ArtifactError(
                    f"Expected that no other process is making files in '{folder}'. "
                    f"Got '{path.name}', which is locked. Wait for it, or stop it."
                ) from error


@contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"Expected to {what} '{path}'. Got {type(error).__name__}: {error}. Check "
            f"the rights of its folder."
        ) from error


def _refuse_outside(paths: list[Path]) -> None:
    root = cache_root().resolve()
    for folder in {path.parent for path in paths}:
        if not folder.resolve().is_relative_to(root):
            raise ArtifactError(
                f"Expected a folder below '{root}'. Got '{folder}', a link that leads "
                f"to '{folder.resolve()}'. Delete what is there yourself."
            )
