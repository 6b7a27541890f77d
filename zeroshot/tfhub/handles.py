"""Where a TF-Hub module lies: a folder, an archive unpacked, an address fetched.

`tensorflow_hub` says which address is asked and where in its cache a module is kept, so
what it has fetched is found. The step between is ours: its own cannot be resumed,
unpacks without limits, writes and logs addresses with what is secret in them, and holds
the lock of a killed process for ten minutes. It knows neither local archives nor the
handles of Kaggle.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zeroshot.errors import ArtifactError
from zeroshot.storage.addresses import shown_spec, shown_url
from zeroshot.storage.cache import cache_root, replace_directory
from zeroshot.storage.large_files import (
    exclusive,
    file_digest,
    record_path,
    storage_error,
)
from zeroshot.storage.published import offline
from zeroshot.storage.unpacking import MOST_FILES, unpack_folder
from zeroshot.tensorflow_hub_import import import_tensorflow_hub
from zeroshot.tensorflow_import import import_tensorflow

__all__ = ["MODEL", "holds_secret", "module_folder", "module_place", "web_address"]

MODEL = "saved_model.pb"
ARCHIVES = (".tar.gz", ".tgz", ".tar")
LARGEST = 4 << 30  # bytes of an archive; their sizes are not published
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")  # one letter is a disk of Windows
_KAGGLE = re.compile(r"[\w-]+/[\w-]+/(\w+)/[\w.-]+/\d{1,9}", re.ASCII)
KAGGLE = "https://www.kaggle.com/models/"
# As Kaggle names them; those of others are no SavedModels.
FRAMEWORKS = ("tensorflow1", "tensorflow2")


def web_address(handle: str | Path) -> str:
    """Return where on the web a handle leads, as it may be shown; else nothing."""
    address = _read(handle)
    return shown_url(address) if _is_web(address) else ""


def holds_secret(handle: str | Path) -> bool:
    """Return whether a handle is an address with what may be secret in it."""
    address = _read(handle)
    if _is_web(address):
        return shown_url(address) != address
    return bool(_ADDRESS.match(address) and re.search("[@?#]", address))


def module_place(handle: str | Path) -> str:
    """Return a handle that means the same from any folder, for a spec string."""
    given = _read(handle)
    if _ADDRESS.match(given):
        return str(handle)
    return str(_path(given))


def module_folder(handle: str | Path) -> Path:
    """Return the folder of a module, fetching and unpacking it if need be.

    ``handle``: a folder with ``saved_model.pb``, a tar archive of one, either as
    ``file://`` too, the address of an archive or of a model on TF-Hub or Kaggle, a
    handle of Kaggle (``owner/model/framework/variation/version``), or a folder or
    archive on a file system that TensorFlow knows (``gs://``). What is fetched lies in
    ``TFHUB_CACHE_DIR`` where that is set, else in ``tfhub`` below
    `zeroshot.storage.cache.cache_root`, where local archives are unpacked. Raises
    ArtifactError if there is no such thing, it cannot be fetched or unpacked, or is no
    SavedModel; PluginError if tensorflow_hub cannot be imported.
    """
    given = _read(handle)
    if _ADDRESS.match(given):
        return _with_model(_fetched(given), _shown(given))
    path = _path(given)
    if os.path.isdir(path):
        return _with_model(path, given)
    if os.path.isfile(path):
        place = cache_root() / "tfhub" / file_digest(path, "sha256")[:40]
        return _with_model(unpack_folder(path, place, origin=given), given)
    raise ArtifactError(
        f"Expected a TF-Hub module: a folder, a tar archive, an address or a handle of "
        f"Kaggle (owner/model/tensorFlow2/variation/version). Got "
        f"'{shown_spec(given)}', which is none of them. Check the path."
    )


def _read(handle: str | Path) -> str:
    """Return the path or the address that a handle stands for."""
    given = str(handle)
    if given.startswith(("file:///", "file://localhost/")):
        return url2pathname(urlsplit(given).path)
    if _KAGGLE.fullmatch(given) and not os.path.lexists(given):
        return f"{KAGGLE}{given}"
    return given


def _path(given: str) -> Path:
    # os.path, because Path raises for "~nobody" and for too long names.
    return Path(os.path.expanduser(given)).absolute()


def _is_web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _fetched(address: str) -> Path:
    """Return where the content of an address lies, fetched if it is not there."""
    _check_kind(address)
    place = _place_in_cache(address)
    if _is_there(place):  # perhaps where nothing can be written
        return place
    # One lock around all steps: a second process must not fetch again what the first
    # has just unpacked and deleted.
    with exclusive(place.with_name(f"{place.name}.module")):
        if _is_there(place):
            return place
        if offline():
            raise ArtifactError(
                f"Expected the TF-Hub module '{_shown(address)}' in '{place}'. Got "
                f"nothing there, and ZEROSHOT_OFFLINE forbids downloads. Fetch its "
                f"archive on another machine and unpack it there, or unset "
                f"ZEROSHOT_OFFLINE."
            )
        if place.is_dir():
            place.rmdir()
        if _is_web(address):
            _from_archive(address, place, lambda to: _download(address, to))
        else:
            _from_file_system(address, place)
    return place


def _is_there(place: Path) -> bool:
    """Return whether a module is in the cache; an empty folder is none."""
    try:
        return any(place.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(place, error) from error


def _check_kind(address: str) -> None:
    if address.startswith("file://"):
        raise ArtifactError(
            f"Expected 'file:///path', on this machine. Got '{shown_spec(address)}', "
            f"on another one. Copy the module and name its path."
        )
    kaggle = _KAGGLE.fullmatch(address.removeprefix(KAGGLE))
    if kaggle is not None and kaggle[1].lower() not in FRAMEWORKS:
        raise ArtifactError(
            f"Expected a SavedModel: on Kaggle, of the framework 'tensorFlow2' or "
            f"'tensorFlow1'. Got '{_shown(address)}', of '{kaggle[1]}'. Choose another "
            f"variation of the model."
        )


def _place_in_cache(address: str) -> Path:
    """Return the folder of a module in the cache, as tensorflow_hub has it."""
    import_tensorflow_hub(to_run=False)
    from tensorflow_hub import resolver

    cache = os.path.expanduser(resolver.tfhub_cache_dir(str(cache_root() / "tfhub")))
    if _ADDRESS.match(cache):
        raise ArtifactError(
            f"Expected TFHUB_CACHE_DIR as a folder on this machine. Got "
            f"'{_shown(cache)}'. Set another one."
        )
    # No secret: it only makes a name of a handle.
    key = hashlib.sha1(address.encode("utf-8", "replace"), usedforsecurity=False)
    return Path(cache) / key.hexdigest()


def _from_archive(address: str, place: Path, fetch: Callable[[Path], object]) -> None:
    """Let ``fetch`` make an archive beside a place, and unpack it there."""
    archive = place.with_name(f"{place.name}.tar.gz")
    fetch(archive)
    try:
        unpack_folder(archive, place, origin=_shown(address))
    finally:  # also a broken one, or it would be taken for the file for ever
        archive.unlink(missing_ok=True)
        record_path(archive).unlink(missing_ok=True)


def _download(address: str, archive: Path) -> None:
    from tensorflow_hub.compressed_module_resolver import HttpCompressedFileResolver

    from zeroshot.storage.download import download

    path, _, query = address.partition("?")
    # Not of what is one already: a signed address must stay as it is.
    if not path.endswith(ARCHIVES) and "tf-hub-format=" not in query:
        resolver = HttpCompressedFileResolver()
        address = resolver._append_compressed_format_query(address)
    download(address, archive, largest=LARGEST)


def _from_file_system(address: str, place: Path) -> None:
    """Copy a module from one of TensorFlow's file systems, such as ``gs://``."""
    files = import_tensorflow().io.gfile
    try:
        if files.isdir(address):
            with replace_directory(place) as folder:
                _copy(files, address, folder)
            return
        if files.exists(address):
            _from_archive(address, place, lambda to: files.copy(address, str(to), True))
            return
        said = "it does not exist"
    except ArtifactError:
        raise
    except OSError as error:
        raise storage_error(place, error) from error
    except Exception as error:  # each file system has errors of its own
        said = f"{type(error).__name__}: {error}"
    raise ArtifactError(
        f"Expected a module that TensorFlow can read. Got '{_shown(address)}': {said}. "
        f"Check the address and your rights, or copy the module to a folder here."
    )


def _copy(files: Any, address: str, folder: Path) -> None:
    count = 0
    for above, _, names in files.walk(address):
        inner = above[len(address) :].strip("/")
        for name in names:
            path = folder / inner / name
            count += 1
            # As in an archive: a bucket's names may be anything.
            if ".." in path.parts or not path.is_relative_to(folder):
                fault = f"the file '{inner}/{name}'"
            elif count > MOST_FILES:
                fault = f"more than {MOST_FILES} files"
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                files.copy(f"{above.rstrip('/')}/{name}", str(path))
                continue
            raise ArtifactError(
                f"Expected the few files of a module in '{_shown(address)}'. Got "
                f"{fault}. Name the folder that has '{MODEL}'."
            )


def _shown(address: str) -> str:
    """Return an address for a message, without what may be secret in it."""
    return shown_url(address) if holds_secret(address) else address


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
