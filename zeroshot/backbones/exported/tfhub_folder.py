"""Where a TF-Hub module lies: a folder, an archive unpacked, a URL downloaded.

`tensorflow_hub` is not needed for it, nor is it imported: its downloads cannot be
resumed or checked, it does not unpack local archives, it keeps modules in the temporary
folder, and importing it needs ``pkg_resources`` (gone from setuptools 82) and tf-keras.
Its layout of the cache is kept, so that modules that it has fetched are found.
"""

import hashlib
import os
from pathlib import Path

from zeroshot.errors import ArtifactError
from zeroshot.storage.addresses import shown_spec, shown_url
from zeroshot.storage.cache import cache_root
from zeroshot.storage.large_files import exclusive, file_digest, record_path
from zeroshot.storage.unpacking import recorded_files, unpack_folder

__all__ = ["folder_sha256", "is_url", "module_folder"]

ARCHIVES = (".tar.gz", ".tgz", ".tar")
MODEL = "saved_model.pb"
LARGEST = 4 << 30  # bytes of an archive; their sizes are not published


def is_url(handle: str) -> bool:
    """Return whether a handle is the address of a web server."""
    return handle.startswith(("http://", "https://"))


def module_folder(handle: str) -> Path:
    """Return the folder of a module, fetching and unpacking it if need be.

    ``handle``: a folder with ``saved_model.pb``, a tar archive of one, or the URL of an
    archive or of a model on TF-Hub or Kaggle. What is unpacked lies in
    ``TFHUB_CACHE_DIR`` where that is set, else in ``tfhub`` below
    `zeroshot.storage.cache.cache_root`. Raises ArtifactError if there is no such thing,
    it cannot be fetched or unpacked, or is no SavedModel.
    """
    named = os.environ.get("TFHUB_CACHE_DIR")
    cache = Path(os.path.expanduser(named)) if named else cache_root() / "tfhub"
    if is_url(handle):
        return _of_url(handle, cache)
    # os.path, because Path raises for "~nobody" and for too long names.
    path = Path(os.path.expanduser(handle))
    if os.path.isdir(path):
        return _with_model(path, handle)
    if os.path.isfile(path):
        place = cache / file_digest(path, "sha256")[:40]
        return _with_model(unpack_folder(path, place, origin=handle), handle)
    raise ArtifactError(
        f"Expected a TF-Hub module: a folder, a tar archive or a URL. Got "
        f"'{shown_spec(handle)}', which is none of them. Check the path."
    )


def folder_sha256(folder: Path) -> str:
    """Return a hash of a SavedModel's graph, variables and assets, wherever it lies.

    Raises ArtifactError if it was unpacked, and is not what was unpacked any more.
    """
    digest = hashlib.sha256()
    recorded = recorded_files(folder) or recorded_files(folder.parent)
    if missing := [file for file in recorded if not file.is_file()]:
        raise _changed(missing[0])
    for part in (MODEL, "variables", "assets"):
        top = folder / part
        files = [top] if top.is_file() else sorted(top.rglob("*"))
        for file in files:
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                own = file_digest(file, "sha256")
                if own != recorded.get(file, own):
                    raise _changed(file)
                digest.update(f"{name}\n{own}\n".encode())
    return digest.hexdigest()


def _changed(file: Path) -> ArtifactError:
    return ArtifactError(
        f"Expected '{file}' as it was unpacked. Got other bytes: it was changed or "
        f"damaged on disk. Delete the folder of the module in the cache; it is fetched "
        f"or unpacked again."
    )


def _of_url(url: str, cache: Path) -> Path:
    from zeroshot.storage.download import download  # requests takes 0.12 s

    # tensorflow_hub's key, which is no secret: sha1 of the handle.
    folder = cache / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    archive = folder.with_name(f"{folder.name}.tar.gz")
    # One lock around both steps: a second process must not fetch again what the first
    # has just unpacked and deleted.
    with exclusive(folder.with_name(f"{folder.name}.module")):
        if not folder.is_dir():
            download(_address(url), archive, largest=LARGEST)
            try:
                unpack_folder(archive, folder, origin=shown_url(url))
            finally:  # also a broken one, or it would be taken for the file for ever
                archive.unlink(missing_ok=True)
                record_path(archive).unlink(missing_ok=True)
    return _with_model(folder, shown_url(url))


def _address(url: str) -> str:
    """Return where the archive of a handle is: model sites want to be asked for it."""
    path, mark, query = url.partition("?")
    if path.endswith(ARCHIVES) or "tf-hub-format=" in query:
        return url
    return f"{url}{'&' if mark else '?'}tf-hub-format=compressed"


def _with_model(folder: Path, origin: str) -> Path:
    """Return the folder itself, or the only one in it, whichever has the model."""
    if (folder / MODEL).is_file():
        return folder
    inner = [path.parent for path in folder.glob(f"*/{MODEL}")]
    if len(inner) != 1:
        raise ArtifactError(
            f"Expected a SavedModel, a folder with '{MODEL}'. Got '{origin}', which "
            f"has {'none' if not inner else f'{len(inner)} of them'}. Name the folder "
            f"that has it."
        )
    return inner[0]
