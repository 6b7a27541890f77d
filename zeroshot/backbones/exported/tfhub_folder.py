"""Where a TF-Hub module lies: a folder, an archive unpacked, a URL downloaded.

`tensorflow_hub` is not needed for it, nor is it imported: its downloads cannot be
resumed or checked, it does not unpack local archives, it keeps modules in the temporary
folder, and importing it needs ``pkg_resources`` (gone from setuptools 82) and tf-keras.
Its layout of the cache is kept, so that modules that it has fetched are found.
"""

import hashlib
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from zeroshot.errors import ArtifactError
from zeroshot.storage.cache import cache_root, replace_directory
from zeroshot.storage.download import download
from zeroshot.storage.large_files import (
    exclusive,
    file_digest,
    readable_size,
    record_path,
)

__all__ = ["folder_sha256", "is_url", "module_folder"]

ARCHIVES = (".tar.gz", ".tgz", ".tar")
MODEL = "saved_model.pb"
# Weights pack to about 0.9 of their size, graphs to 0.1, zeros alone to 0.001.
LARGEST_RATIO = 50
NEVER_A_BOMB = 64 << 20  # bytes


def is_url(handle: str) -> bool:
    """Return whether a handle is the address of a web server."""
    return handle.startswith(("http://", "https://"))


def module_folder(handle: str) -> Path:
    """Return the folder of a module, fetching and unpacking it if need be.

    Parameters
    ----------
    handle : str
        A folder with ``saved_model.pb``, a tar archive of one (``.tar.gz``, ``.tgz``,
        ``.tar``), or the URL of an archive or of a model on TF-Hub or Kaggle. What is
        unpacked lies in ``TFHUB_CACHE_DIR`` where that is set, else in ``tfhub`` below
        `zeroshot.storage.cache.cache_root`.

    Returns
    -------
    folder : Path
        It has a file ``saved_model.pb``.

    Raises
    ------
    ArtifactError
        If there is no such thing, it cannot be fetched or unpacked, or is no
        SavedModel.
    """
    if is_url(handle):
        return _of_url(handle)
    path = Path(handle).expanduser()
    if path.is_dir():
        return _with_model(path, handle)
    if path.is_file():
        name = file_digest(path, "sha256")[:40]
        return _with_model(_unpacked(path, _cache() / name, handle), handle)
    raise ArtifactError(
        f"Expected a TF-Hub module: a folder, a tar archive or a URL. Got '{handle}', "
        f"which is none of them. Check the path."
    )


def folder_sha256(folder: Path) -> str:
    """Return a hash of a SavedModel's graph, variables and assets.

    Parameters
    ----------
    folder : Path
        As `module_folder` gives it; its name and place do not count.

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in (MODEL, "variables", "assets"):
        top = folder / part
        files = [top] if top.is_file() else sorted(top.rglob("*"))
        for file in files:
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                digest.update(f"{name}\n{file_digest(file, 'sha256')}\n".encode())
    return digest.hexdigest()


def _cache() -> Path:
    named = os.environ.get("TFHUB_CACHE_DIR")
    return Path(named).expanduser() if named else cache_root() / "tfhub"


def _of_url(url: str) -> Path:
    # tensorflow_hub's key, which is no secret: sha1 of the handle.
    folder = _cache() / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    if not folder.is_dir():
        archive = folder.with_name(f"{folder.name}.tar.gz")
        download(_address(url), archive)
        try:
            _unpacked(archive, folder, url)
        finally:  # also a broken one, or it would be taken for the file for ever
            archive.unlink(missing_ok=True)
            record_path(archive).unlink(missing_ok=True)
    return _with_model(folder, url)


def _address(url: str) -> str:
    """Return where the archive of a handle is: model sites want to be asked for it."""
    parts = urlsplit(url)
    if parts.path.endswith(ARCHIVES) or "tf-hub-format=" in parts.query:
        return url
    return f"{url}{'&' if parts.query else '?'}tf-hub-format=compressed"


def _with_model(folder: Path, handle: str) -> Path:
    """Return the folder itself, or the only one in it, whichever has the model."""
    if (folder / MODEL).is_file():
        return folder
    inner = [path.parent for path in folder.glob(f"*/{MODEL}")]
    if len(inner) != 1:
        raise ArtifactError(
            f"Expected a SavedModel, a folder with '{MODEL}'. Got '{handle}', which "
            f"has {'none' if not inner else f'{len(inner)} of them'}. Name the folder "
            f"that has it."
        )
    return inner[0]


def _unpacked(archive: Path, folder: Path, origin: str) -> Path:
    """Unpack an archive to a folder, whole or not at all."""
    if folder.is_dir():
        return folder
    with exclusive(folder):
        if folder.is_dir():
            return folder
        try:
            with replace_directory(folder) as temporary, tarfile.open(archive) as tar:
                _extract(tar, temporary, archive, origin)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ArtifactError(
                f"Expected a whole tar archive of a SavedModel. Got '{origin}': "
                f"{type(error).__name__}: {error}. Fetch it again."
            ) from error
    return folder


def _extract(tar: tarfile.TarFile, folder: Path, archive: Path, origin: str) -> None:
    limit = max(NEVER_A_BOMB, LARGEST_RATIO * archive.stat().st_size)
    size = 0
    for member in tar:
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.name:
            raise _distrust(origin, member.name, "a path that leads out of it")
        if member.isdir():
            (folder / path).mkdir(parents=True, exist_ok=True)
            continue
        if not member.isfile():
            raise _distrust(origin, member.name, "a link or another special file")
        size += member.size
        if size > limit:
            raise _distrust(origin, member.name, f"more than {readable_size(limit)}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content: Any = tar.extractfile(member)
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)


def _distrust(origin: str, member: str, fault: str) -> ArtifactError:
    return ArtifactError(
        f"Expected plain files in the archive of a SavedModel. Got '{member}' in "
        f"'{origin}', {fault}. Do not trust this archive; fetch it from its publisher."
    )
