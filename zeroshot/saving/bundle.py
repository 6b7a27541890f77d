"""A fitted classifier as a folder: JSON, arrays, a model card; nothing that can run.

::

    bundle.json    what it is: format version, parameters, seen classes, fingerprints
    arrays.npz     the projection, the seen classes' vectors, an optional vocabulary
    README.md      a model card for people
    backbone.*     a fine-tuned backbone's weights, if there is one

The record carries a digest of itself and of every other file but the model card. A
bundle is written beside its place and put there in one step, so a reader finds the old
one or the new one, and a killed process leaves the old one as it was.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.errors import ArtifactError
from zeroshot.escaping import for_json
from zeroshot.projections.base import Projection
from zeroshot.saving.record_form import ATTRIBUTE, RECORD_FORM, check_form, is_file_name
from zeroshot.saving.stored_arrays import check_kinds, read_arrays
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.cache import is_being_replaced, replace_directory
from zeroshot.storage.limits import size_limit
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = [
    "Bundle",
    "check_place",
    "is_bundle",
    "projection_from_state",
    "projection_to_state",
    "read_bundle",
    "record_digest",
    "remains_of_bundle",
    "write_bundle",
]

# 1: features were not rooted, so its maps are of another space; 2: no digest of the
# record, and the backbone of features that were given was not kept; 3: features were
# centred before they were scaled, and labels had no map; 4: no templates.
FORMAT_VERSION = 5
RECORD, ARRAYS, CARD = "bundle.json", "arrays.npz", "README.md"
# Bytes of one file of a bundle, unless ZEROSHOT_MAX_BUNDLE says otherwise. A million
# words of 300 dimensions take 1.2e9. JSON takes up to 30 times as much once it is read.
MOST_BYTES, MOST_OF_RECORD = 4 << 30, 256 << 20
PATIENCE = 5.0  # seconds in which a bundle may be replaced under a reader's hands


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    record : dict
        The content of ``bundle.json``: strings, numbers, lists and dicts.
    arrays : dict of str to ndarray
        The content of ``arrays.npz``.
    files : dict of str to bytes
        Content of further files, by name.
    """

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    files: dict[str, bytes] = field(default_factory=dict)


def is_bundle(path: Path) -> bool:
    """Tell whether a bundle lies there; whether it is whole, reading will tell."""
    return os.path.isfile(path / RECORD)  # which is False for what no path can hold


def remains_of_bundle(path: Path) -> bool:
    """Tell whether a bundle lies there, or what is left of one."""
    return any(os.path.isfile(path / name) for name in (RECORD, ARRAYS))


def check_place(path: Path) -> None:
    """Refuse a place where a bundle must not be written.

    ``path``: the folder to make. Raises ArtifactError if something other than a bundle
    lies there.
    """
    is_free = not os.path.exists(path) or (path.is_dir() and not any(path.iterdir()))
    if not is_free and not is_bundle(path):
        raise ArtifactError(
            f"Expected a new folder, or an older bundle to replace. Got '{path}', "
            f"which holds something else. Choose another path."
        )


def write_bundle(path: Path, bundle: Bundle, card: str) -> None:
    """Write a bundle, replacing an older bundle in that place.

    ``path``: the folder to make. ``bundle``: its record must be JSON, its arrays must
    hold no objects. ``card``: markdown for ``README.md``. Raises ArtifactError if
    ``path`` exists and is not a bundle, or cannot be written, or ``bundle`` holds what
    JSON cannot.
    """
    check_place(path)
    stored = io.BytesIO()
    try:
        check_kinds(bundle.arrays)
        np.savez(stored, allow_pickle=False, **bundle.arrays)
        files = {ARRAYS: stored.getvalue(), **bundle.files}
        digests = {name: hashlib.sha256(files[name]).hexdigest() for name in files}
        record = {
            "format_version": FORMAT_VERSION,
            "arrays_sha256": digests.pop(ARRAYS),
            "files_sha256": digests,
            **bundle.record,
        }
        written = json.loads(for_json(record))
        check_form(written, RECORD_FORM)
        record["sha256"] = record_digest(written)
        files[RECORD] = f"{for_json(record)}\n".encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"Expected labels and parameters that are strings or numbers. Got {error}. "
            f"Only those can be saved."
        ) from error
    try:
        with replace_directory(path) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            (folder / CARD).write_text(card, encoding="utf-8")
    except (OSError, ValueError) as error:  # a NUL, or what no name of a file has
        raise ArtifactError(
            f"Expected a place to write the bundle '{shown_spec(path)}'. Got "
            f"{type(error).__name__}: {error}. Check the path, permissions and free "
            f"space."
        ) from error


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check that it is whole.

    ``path``: A folder that `write_bundle` made. Raises ArtifactError if it is missing,
    broken, or of another format.
    """
    end = time.monotonic() + PATIENCE
    while True:
        before = _identity(path)
        try:
            return _read(path)
        except ArtifactError:
            is_same = before == _identity(path)
            if is_same and (before is not None or not is_being_replaced(path)):
                raise
            if time.monotonic() > end:
                raise
        time.sleep(0.01)  # another process has saved it anew meanwhile


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells a folder from the one that takes its place."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _read(path: Path) -> Bundle:
    if not is_bundle(path):
        raise ArtifactError(
            f"Expected a bundle: a folder with '{RECORD}', as `save` makes it. Got "
            f"'{shown_spec(path)}', which "
            f"{'has none' if os.path.exists(path) else 'does not exist'}."
        )
    try:
        record = parse_json(_content(path / RECORD, MOST_OF_RECORD))
        version = record["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(path / RECORD, error) from error
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"Expected a bundle of format {FORMAT_VERSION}. Got '{path}' of format "
            f"{str(version)[:20]}. Fit again, or read it with the version of zeroshot "
            f"that wrote it."
        )
    try:
        is_whole = record.pop("sha256", None) == record_digest(record)
        check_form(record, RECORD_FORM)
    except (ValueError, RecursionError) as error:
        raise _broken(path / RECORD, error) from error
    if not is_whole:
        raise _broken(path / RECORD, ValueError("its content is not what was saved"))
    content = _read_checked(path / ARRAYS, record["arrays_sha256"])
    try:
        arrays = read_arrays(content)
    # zipfile and NumPy raise a dozen types for a broken file.
    except Exception as error:
        raise _broken(path / ARRAYS, error) from error
    digests = record["files_sha256"]
    if any(not is_file_name(name) for name in digests):
        raise _broken(path / RECORD, ValueError("names of files that are none"))
    files = {name: _read_checked(path / name, digests[name]) for name in digests}
    return Bundle(record, arrays, files)


def record_digest(record: Mapping[str, Any]) -> str:
    """Return the digest of a bundle's record, which it carries as ``sha256``.

    ``record``: without the digest.
    """
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def projection_to_state(
    projection: Projection,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Take a fitted projection apart: its name and parameters, and its arrays.

    Every fitted attribute (``name_``) must be an array, a list of arrays, or JSON.

    ``projection``: fitted, of a registered class. Returns state: JSON; arrays: keys
    begin with ``projection/``. Raises ArtifactError if its class is not registered or
    an attribute is none of the above.
    """
    name = registry.name_of("projections", type(projection))
    if name is None:
        raise ArtifactError(
            f"Expected a projection of a registered class. Got "
            f"'{type(projection).__qualname__}'. Register it under the entry-point "
            f"group 'zeroshot.projections' (docs/plugins.md), so that it can be loaded."
        )
    parameters = _parameters(projection)
    if isinstance(parameters.get("random_state"), np.random.RandomState):
        parameters["random_state"] = None  # a generator cannot be saved, nor is it used
    fitted: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for attribute, value in vars(projection).items():
        if not attribute.endswith("_"):
            continue
        if isinstance(value, np.ndarray):
            arrays[f"projection/{attribute}"] = value
        elif _is_list_of_arrays(value):
            fitted[attribute] = {"arrays": len(value)}
            for number, array in enumerate(value):
                arrays[f"projection/{attribute}/{number}"] = array
        else:
            fitted[attribute] = value
    state = {"name": name, "parameters": parameters, "fitted": fitted}
    try:
        for_json(state)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"Expected parameters and fitted attributes of projection '{name}' that "
            f"are arrays, lists of arrays or JSON. Got {error}."
        ) from error
    return state, arrays


def projection_from_state(
    state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Projection:
    """Put a projection together again; see `projection_to_state`.

    ``state``: as `projection_to_state` returned it. ``arrays``: may hold other arrays
    too. Returns projection: fitted. Raises UnknownPluginError if no installed
    distribution registers its name.
    """
    projection: Projection = registry.load("projections", state["name"])(
        **state["parameters"]
    )
    fitted = dict(state["fitted"])
    lists = {
        attribute: value["arrays"]
        for attribute, value in fitted.items()
        if isinstance(value, dict) and value.keys() == {"arrays"}
    }
    for key, array in arrays.items():
        prefix, _, attribute = key.partition("/")
        if prefix == "projection" and attribute.partition("/")[0] not in lists:
            fitted[attribute] = array
    n_listed = sum(key.count("/") == 2 for key in arrays)
    if n_listed != sum(lists.values()):
        raise ValueError("arrays of lists that are longer or shorter")
    for attribute, length in lists.items():
        fitted[attribute] = [
            arrays[f"projection/{attribute}/{number}"] for number in range(length)
        ]
    for attribute, value in fitted.items():
        if not ATTRIBUTE.fullmatch(attribute):
            raise ValueError(f"'{attribute[:80]}', which no projection learns")
        setattr(projection, attribute, value)
    return projection


def _parameters(projection: Any) -> dict[str, Any]:
    return dict(projection.get_params(deep=False))  # from sklearn's BaseEstimator


def _is_list_of_arrays(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, np.ndarray) for item in value)
    )


def _read_checked(file: Path, digest: object) -> bytes:
    content = _content(file, MOST_BYTES)
    if hashlib.sha256(content).hexdigest() != digest:
        raise _broken(file, ValueError("its content is not what was saved"))
    return content


def _content(file: Path, most: int) -> bytes:
    return read_limited(file, size_limit("ZEROSHOT_MAX_BUNDLE", most))


def _broken(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"Expected the whole file '{file}' as `save` wrote it. Got "
        f"{type(error).__name__}: {error}. Copy the bundle again or save it anew."
    )
