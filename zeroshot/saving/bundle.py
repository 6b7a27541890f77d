"""A fitted classifier as a folder: JSON, arrays, a model card; nothing that can run.

::

    bundle.json    what it is: format version, parameters, seen classes, fingerprints
    arrays.npz     the projection, the seen classes' vectors, an optional vocabulary
    README.md      a model card for people
    backbone.*     a fine-tuned backbone's weights, if there is one

Read with ``allow_pickle=False``. A bundle is written beside its place and renamed, so
a killed process leaves the old one as it was.
"""

import hashlib
import io
import json
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
from zeroshot.storage.cache import replace_directory

__all__ = [
    "Bundle",
    "check_place",
    "is_bundle",
    "projection_from_state",
    "projection_to_state",
    "read_bundle",
    "record_digest",
    "write_bundle",
]

# 1: features were not rooted, so its maps are of another space; 2: no digest of the
# record, and the backbone of features that were given was not kept; 3: features were
# centred before they were scaled, and labels had no map.
FORMAT_VERSION = 4
RECORD, ARRAYS, CARD = "bundle.json", "arrays.npz", "README.md"


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
    return (path / RECORD).is_file()


def check_place(path: Path) -> None:
    """Refuse a place where a bundle must not be written.

    ``path``: the folder to make. Raises ArtifactError if something other than a bundle
    lies there.
    """
    is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_free and not (path / RECORD).is_file():
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
    try:
        with replace_directory(path) as folder:
            np.savez(folder / ARRAYS, allow_pickle=False, **bundle.arrays)
            digest = hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()
            record = {
                "format_version": FORMAT_VERSION,
                "arrays_sha256": digest,
                "files_sha256": {
                    name: hashlib.sha256(content).hexdigest()
                    for name, content in bundle.files.items()
                },
                **bundle.record,
            }
            record["sha256"] = record_digest(json.loads(for_json(record)))
            for name, content in bundle.files.items():
                (folder / name).write_bytes(content)
            (folder / RECORD).write_text(for_json(record) + "\n", encoding="utf-8")
            (folder / CARD).write_text(card, encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"Expected labels and parameters that are strings or numbers. Got {error}. "
            f"Only those can be saved."
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"Expected a place to write the bundle '{path}'. Got {error}. Check "
            f"permissions and free space."
        ) from error


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check that it is whole.

    ``path``: A folder that `write_bundle` made. Raises ArtifactError if it is missing,
    broken, or of another format.
    """
    if not (path / RECORD).is_file():
        raise ArtifactError(
            f"Expected a bundle: a folder with '{RECORD}', as `save` makes it. Got "
            f"'{path}', which {'has none' if path.exists() else 'does not exist'}."
        )
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        version, digest = record["format_version"], record["arrays_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken(path / RECORD, error) from error
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"Expected a bundle of format {FORMAT_VERSION}. Got '{path}' of format "
            f"{version!r}. Fit again, or read it with the version of zeroshot that "
            f"wrote it."
        )
    if record.pop("sha256", None) != record_digest(record):
        raise _broken(path / RECORD, ValueError("its content is not what was saved"))
    content = _read_checked(path / ARRAYS, digest)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    # zipfile and NumPy raise a dozen types for a broken file.
    except Exception as error:
        raise _broken(path / ARRAYS, error) from error
    digests = record.get("files_sha256", {})
    if not isinstance(digests, dict) or any(
        Path(name).name != name for name in digests
    ):
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
    for attribute, value in state["fitted"].items():
        if isinstance(value, dict) and value.keys() == {"arrays"}:
            value = [
                arrays[f"projection/{attribute}/{number}"]
                for number in range(value["arrays"])
            ]
        setattr(projection, attribute, value)
    for key, array in arrays.items():
        prefix, _, attribute = key.partition("/")
        if prefix == "projection" and "/" not in attribute:
            setattr(projection, attribute, array)
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
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _broken(file, error) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise _broken(file, ValueError("its content is not what was saved"))
    return content


def _broken(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"Expected the whole file '{file}' as `save` wrote it. Got "
        f"{type(error).__name__}: {error}. Copy the bundle again or save it anew."
    )
