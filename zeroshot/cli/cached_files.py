"""What lies in the cache, whether it is whole, and how it is deleted.

Only files that this package makes, or looks for there, are ever deleted: the folder may
be shared with other things where ``ZEROSHOT_CACHE`` names it.
"""

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from zeroshot.embeddings.catalogue import (
    catalogue_entry,
    catalogue_name,
    catalogue_names,
)
from zeroshot.errors import ArtifactError
from zeroshot.features.segment import (
    BACKBONE_FILE,
    SEGMENT_SUFFIX,
    DamagedSegmentError,
    check_segment,
    read_header,
    read_rows,
)
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import cache_root

__all__ = [
    "CachedFiles",
    "Check",
    "clear_cache",
    "is_cleared",
    "list_cache",
    "verify_cache",
]

Kind: TypeAlias = Literal[
    "features",
    "networks",
    "tfhub",
    "vectors",
    "archive",
    "index",
    "unpacked",
    "matrix",
    "unfinished",
    "other",
]
_DERIVED: dict[str, Kind] = {
    "index": "index",
    "unpacked": "unpacked",
    "unpacked.key": "unpacked",
    "units": "matrix",
}

# See zeroshot.features.store, zeroshot.backbones.keras.litert_conversion,
# zeroshot.embeddings.vectors.vector_cache and zeroshot.storage.cache.
_FEATURES_FOLDER = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(rf"[0-9a-f]{{32}}{re.escape(SEGMENT_SUFFIX)}")
_NETWORK = re.compile(r"[0-9a-f]{32}\.tflite")
_MODULE = re.compile(r"[0-9a-f]{16,64}(\..*|-.*)?")
_DERIVED_NAME = re.compile(r"(.+)-[0-9a-f]{16}\.([a-z0-9.]+)")
_TEMPORARY = re.compile(r"\.(.+)-[a-z0-9_]{8}\.\w+")
ROWS_AT_ONCE = 1000
_BESIDE = re.compile(r"(.+)(\.part|\.part\.json|\.unpacking|\.sha256)")


@dataclass(frozen=True)
class CachedFiles:
    """Files in the cache that belong together.

    Attributes
    ----------
    kind : str
        ``"features"`` of images by one backbone, ``"networks"`` converted to something
        faster, ``"tfhub"`` modules, ``"vectors"`` and ``"archive"`` that were
        downloaded (or put there by hand), what was worked out from a vector file
        (``"index"``, ``"unpacked"``, ``"matrix"``), ``"unfinished"`` ones, and
        ``"other"`` ones, which are not ours and never deleted.
    name : str
        Name of the backbone, name in the catalogue, or name of the file or folder.
    paths : tuple of Path
        The files, sorted.
    size : int
        Bytes in all.
    n_images : int or None
        Images whose features they are.
    """

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    size: int
    n_images: int | None = None


@dataclass(frozen=True)
class Check:
    """What was found about one file.

    Attributes
    ----------
    path : Path
        The file.
    state : {"ok", "damaged", "unrecorded"}
        ``"unrecorded"``: no hash was recorded, because it was put there by hand.
    reason : str
        What is wrong, where it is damaged.
    """

    path: Path
    state: Literal["ok", "damaged", "unrecorded"]
    reason: str = ""


def list_cache() -> list[CachedFiles]:
    """Return what lies in `zeroshot.storage.cache.cache_root`.

    Locks, which are empty, are left out.

    Returns
    -------
    files : list of CachedFiles
        Features first, then networks and modules, then by kind and name.

    Raises
    ------
    ArtifactError
        If a folder cannot be read.
    """
    found: list[CachedFiles] = []
    for folder in _entries_of(cache_root() / "features"):
        if _FEATURES_FOLDER.fullmatch(folder.name) and folder.is_dir():
            paths = [path for path in _entries_of(folder) if _is_features(path)]
            n_images = sum(_count_images(p) for p in paths if _SEGMENT.match(p.name))
            name = _backbone_of(folder) or folder.name
            found.append(_together("features", name, paths, n_images))
    for path in _entries_of(cache_root() / "networks"):
        if _NETWORK.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name):
            found.append(_together("networks", path.name, [path]))
    for path in _entries_of(cache_root() / "tfhub"):
        if _MODULE.fullmatch(path.name):
            found.append(_together("tfhub", path.name, _files_below(path)))
    groups: dict[tuple[Kind, str, str], list[Path]] = defaultdict(list)
    packed = {
        entry.archive.name
        for entry in map(catalogue_entry, catalogue_names())
        if entry.archive is not None
    }
    for path in _entries_of(cache_root() / "vectors"):
        if path.suffix != ".lock" and (path.is_file() or path.is_symlink()):
            groups[_classify(path, packed)].append(path)
    found += [
        _together(kind, name, paths)
        for (kind, name, _), paths in sorted(groups.items())
    ]
    return found


def verify_cache() -> list[Check]:
    """Read downloads and features again, about 1 GB/s, and tell which are damaged.

    Downloads are compared with the hash recorded when they were fetched or unpacked;
    features with their checksum, and they must be finite. What was worked out from
    vector files is checked whenever it is used, and not here.

    Returns
    -------
    checks : list of Check
        One a file, in the order of `list_cache`.

    Raises
    ------
    ArtifactError
        If a folder cannot be read.
    """
    todo = [
        (files.kind, path)
        for files in list_cache()
        if files.kind in ("features", "vectors", "archive")
        for path in files.paths
        if path.suffix != ".sha256"
        and path.name != BACKBONE_FILE
        and not _TEMPORARY.fullmatch(path.name)
    ]
    checks = []
    with progress_bar("checking files", len(todo)) as advance:
        for kind, path in todo:
            checks.append(
                _check_features(path) if kind == "features" else _check_hash(path)
            )
            advance(note=path.name)
    return checks


def clear_cache(
    *, features: bool = True, vectors: bool = True, networks: bool = True
) -> int:
    """Delete what this package keeps in the cache.

    Everything there can be made or fetched again, but files of word vectors put there
    by hand must be put there again by hand.

    Parameters
    ----------
    features : bool, default=True
        Delete features of images.
    vectors : bool, default=True
        Delete downloaded vectors and what was worked out from vector files; vector
        files elsewhere stay.
    networks : bool, default=True
        Delete converted networks and modules of TF-Hub.

    Returns
    -------
    n_bytes : int
        How much was freed.

    Raises
    ------
    ArtifactError
        If another process is making a file there, a folder of the cache is a link that
        leads out of it (nothing is deleted then), or a file cannot be deleted.
    """
    if vectors:
        _refuse_while_in_use(cache_root() / "vectors")
    wanted = [
        files
        for files in list_cache()
        if is_cleared(files, features=features, vectors=vectors, networks=networks)
    ]
    paths = [path for files in wanted for path in files.paths]
    _refuse_outside(paths)
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactError(
                f"Expected to delete '{path}'. Got {type(error).__name__}: {error}. "
                f"Check the rights of its folder."
            ) from error
    if features:
        _remove_empty(cache_root() / "features", _FEATURES_FOLDER)
    if networks:
        _remove_empty(cache_root() / "tfhub", _MODULE)
    return sum(files.size for files in wanted)


def is_cleared(
    files: CachedFiles, *, features: bool, vectors: bool, networks: bool
) -> bool:
    """Tell whether `clear_cache` deletes the files.

    Parameters
    ----------
    files : CachedFiles
    features, vectors, networks : bool
        As for `clear_cache`.

    Returns
    -------
    is_cleared : bool
    """
    match files.kind:
        case "other":
            return False
        case "features":
            return features
        case "networks" | "tfhub":
            return networks
        case _:
            return vectors


def _entries_of(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArtifactError(
            f"Expected a readable folder of the cache. Got '{folder}': {error}. Check "
            f"its rights, or name another one in ZEROSHOT_CACHE."
        ) from error


def _is_features(path: Path) -> bool:
    return path.name == BACKBONE_FILE or bool(
        _SEGMENT.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
    )


def _count_images(segment: Path) -> int:
    try:
        with segment.open("rb") as file:
            return read_header(file).n_rows
    except (OSError, DamagedSegmentError):  # `verify_cache` tells
        return 0


def _backbone_of(folder: Path) -> str:
    try:
        return (folder / BACKBONE_FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _files_below(path: Path) -> list[Path]:
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [file for entry in _entries_of(path) for file in _files_below(entry)]


def _together(
    kind: Kind, name: str, paths: list[Path], n_images: int | None = None
) -> CachedFiles:
    size = 0
    for path in paths:
        with suppress(FileNotFoundError):  # it may go away meanwhile
            size += path.lstat().st_size  # of a link, only the link is in the cache
    return CachedFiles(kind, name, tuple(paths), size, n_images)


def _classify(path: Path, packed: set[str]) -> tuple[Kind, str, str]:
    """Return kind and name, and the file or the pair of hash and kind it goes with."""
    if (match := _TEMPORARY.fullmatch(path.name)) is not None:
        return "unfinished", match[1], path.name
    match = _DERIVED_NAME.fullmatch(path.name)
    if match is not None and match[2] in _DERIVED:
        return _DERIVED[match[2]], match[1], path.name.removesuffix(".key")
    match = _BESIDE.fullmatch(path.name)
    owner = path.with_name(match[1]) if match is not None else path
    name = catalogue_name(owner)
    if name is None and owner.name not in packed:
        return "other", path.name, path.name
    if match is not None and match[2] != ".sha256":
        return "unfinished", owner.name, owner.name
    return ("archive", owner.name, "") if name is None else ("vectors", name, "")


def _check_hash(path: Path) -> Check:
    from zeroshot.storage.large_files import recorded_hash, verify  # loads filelock

    if recorded_hash(path) is None:
        return Check(path, "unrecorded")
    try:
        verify(path)
    except ArtifactError as error:
        return Check(path, "damaged", str(error))
    return Check(path, "ok")


def _check_features(path: Path) -> Check:
    import numpy as np

    try:
        with path.open("rb") as file:
            header = check_segment(file)
            for start in range(0, header.n_rows, ROWS_AT_ONCE):
                stop = min(start + ROWS_AT_ONCE, header.n_rows)
                if not np.isfinite(read_rows(file, header, start, stop)).all():
                    return Check(path, "damaged", "NaN or infinity among the features")
    except (OSError, DamagedSegmentError) as error:
        return Check(path, "damaged", str(error))
    return Check(path, "ok")


def _refuse_while_in_use(folder: Path) -> None:
    locks = [path for path in _entries_of(folder) if path.suffix == ".lock"]
    if not locks:
        return
    from filelock import FileLock, Timeout

    for path in locks:
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout as error:
            raise ArtifactError(
                f"Expected that no other process is making files in '{folder}'. Got "
                f"'{path.name}', which is locked. Wait for it, or stop it."
            ) from error
        except OSError as error:
            raise ArtifactError(
                f"Expected to lock '{path}'. Got {type(error).__name__}: {error}. "
                f"Check the rights of its folder."
            ) from error


def _refuse_outside(paths: list[Path]) -> None:
    root = cache_root().resolve()
    for folder in {path.parent for path in paths}:
        if not folder.resolve().is_relative_to(root):
            raise ArtifactError(
                f"Expected a folder below '{root}'. Got '{folder}', a link that leads "
                f"to '{folder.resolve()}'. Delete what is there yourself."
            )


def _remove_empty(parent: Path, ours: re.Pattern[str]) -> None:
    for folder in _entries_of(parent):
        if ours.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            below = [path for path in folder.rglob("*") if path.is_dir()]
            for emptied in [*reversed(sorted(below)), folder]:
                with suppress(OSError):  # something that is not ours lies there
                    emptied.rmdir()
