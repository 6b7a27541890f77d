"""Files of features, ``.npz`` or ``.parquet``: taken wherever images are.

An ``.npz`` holds ``features`` (n, dim), ``paths``, ``labels`` (where there are any),
``error_rows`` and ``errors``, and ``about``, a JSON text with the backbone and how
images were decoded. A ``.parquet`` holds the columns ``path``, ``label``, ``error``
(texts as `zeroshot.escaping.escaped` gives them) and ``features``, and ``about`` in its
metadata. Neither can run code.
"""

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import (
    ArtifactError,
    MissingExtraError,
    ZeroShotError,
    ZeroShotWarning,
)
from zeroshot.escaping import unescaped
from zeroshot.features.block import (
    BLOCK_ROWS,
    Features,
    OnError,
    as_asked,
    check_on_error,
    raise_first,
    refuse_other,
)
from zeroshot.images.decoding import PIXELS

__all__ = [
    "ABOUT",
    "FORMAT",
    "SUFFIXES",
    "FeatureFile",
    "import_parquet",
    "open_if_features",
    "read_features",
    "take",
]

SUFFIXES = (".npz", ".parquet")
ABOUT = "about"
FORMAT = 1


@dataclass(frozen=True)
class FeatureFile:
    """A file of features; the features themselves are read as they are needed.

    Attributes
    ----------
    path : Path
        The file.
    dim : int
        Length of a row.
    paths : list of str
        Path of each row's image, as it was given; empty where images had none.
    labels : ndarray of shape (n,), str, or None
        Label of each row's image.
    errors : dict of int to str
        Row of each image that could not be read, whose features are NaN, and the
        reason.
    backbone : dict
        ``"name"``, ``"spec"`` (or None) and ``"fingerprint"`` of the backbone.
    versions : dict of str to str
        Of the packages that wrote it.
    pixels : str or None
        How its images were decoded, see `zeroshot.images.decoding.PIXELS`.
    rows : ndarray of shape (n,), int64
        Which rows of the file these are, increasing; see `take`.
    """

    path: Path
    dim: int
    paths: list[str]
    labels: NDArray[np.str_] | None
    errors: dict[int, str]
    backbone: dict[str, str | None]
    versions: dict[str, str]
    pixels: str | None
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the backbone that computed the features."""
        return str(self.backbone["fingerprint"])

    def check(self, fingerprint: str) -> None:
        """Refuse the features of another backbone; warn of other pixels.

        Of another backbone: FingerprintMismatchError. Other pixels: ZeroShotWarning.
        Features of images that were decoded otherwise, by another version of zeroshot,
        differ a little from today's, and what was trained on them still fits them. The
        images may be gone by now: a refusal would make the file worthless.

        Parameters
        ----------
        fingerprint : str
            Of the backbone whose features are wanted.
        """
        what = f"'{self.path}' with features of '{self.backbone['name']}'"
        advice = "Run 'zeroshot embed' with the same backbone."
        refuse_other(fingerprint, self.fingerprint, what, advice)
        if self.pixels != PIXELS:
            warn(
                f"The features in '{self.path}' are of images that another version of "
                f"zeroshot decoded otherwise (pixels {self.pixels or 'not recorded'}, "
                f"today {PIXELS}). Beside features made today they may cost accuracy. "
                f"Run 'zeroshot embed' again where you still have the images.",
                ZeroShotWarning,
                stacklevel=3,
            )

    def take(self, positions: Sequence[int] | NDArray[np.integer[Any]]) -> Self:
        """Return some of the rows.

        Parameters
        ----------
        positions : sequence of int
            Increasing, from 0 to the last row; otherwise a ValueError is raised.

        Returns
        -------
        part : FeatureFile
            Of the same file.
        """
        chosen = np.asarray(positions, np.int64)
        if (np.diff(chosen, prepend=-1, append=len(self)) <= 0).any():
            raise ValueError(
                f"Expected increasing positions from 0 to {len(self) - 1}. Got "
                f"{np.array2string(chosen, threshold=5)}. Sort them."
            )
        return replace(
            self,
            rows=self.rows[chosen],
            paths=[self.paths[i] for i in chosen] if self.paths else [],
            labels=None if self.labels is None else self.labels[chosen],
            errors={
                new: self.errors[old]
                for new, old in enumerate(chosen.tolist())
                if old in self.errors
            },
        )

    def blocks(self, on_error: OnError = "raise") -> Iterator[Features]:
        """Read the features, some 1000 rows at a time.

        Parameters
        ----------
        on_error : {"raise", "skip", "nan"}, default="raise"
            What to do about images that could not be read when the file was made: raise
            an InvalidImageError with the reason of the first, leave their rows out, or
            give them, NaN. Anything else is a ValueError.

        Yields
        ------
        block : Features
            Where the file is damaged, an ArtifactError is raised instead.
        """
        check_on_error(on_error)
        raise_first(self.errors, on_error)
        read = _npz_rows if self.path.suffix.lower() == ".npz" else _parquet_rows
        start = done = 0
        with _whole(self.path):
            for matrix in read(self.path, self.dim):
                stop = start + len(matrix)
                end = int(np.searchsorted(self.rows, stop))
                positions = np.arange(done, end)
                wanted = matrix[self.rows[done:end] - start]
                errors = {
                    i: self.errors[i] for i in range(done, end) if i in self.errors
                }
                start, done = stop, end
                yield as_asked(Features(wanted, errors, positions), on_error)
            if done != len(self):
                raise ValueError(f"it has {start} rows")


def open_if_features(images: Any) -> Any:
    """Return the file of features whose path is given; anything else as it is."""
    if isinstance(images, str | Path) and Path(images).suffix.lower() in SUFFIXES:
        return read_features(images)
    return images


def read_features(path: str | Path) -> FeatureFile:
    """Open a file of features that `zeroshot.features.export.export_features` wrote.

    Parameters
    ----------
    path : str or Path
        A ``.npz`` or ``.parquet``.

    Returns
    -------
    file : FeatureFile

    Raises
    ------
    ArtifactError
        If there is no such file, or it is damaged or another's.
    MissingExtraError
        If it is a ``.parquet`` and pyarrow is not installed.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ArtifactError(
            f"Expected a file of features. Got '{path}': no such file. Check the path."
        )
    with _whole(path):
        return _open_npz(path) if path.suffix.lower() == ".npz" else _open_parquet(path)


def take(
    images: list[str] | FeatureFile, positions: Sequence[int] | NDArray[Any]
) -> list[str] | FeatureFile:
    """Return some images of a list, or rows of a file; positions increase from 0."""
    if isinstance(images, FeatureFile):
        return images.take(positions)
    return [images[i] for i in positions]


def import_parquet() -> Any:
    """Return the module ``pyarrow.parquet``, or raise `MissingExtraError`."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package 'pyarrow', which reads and writes Parquet. Got: "
            f'{error}. Run: pip install "zeroshot[parquet]"'
        ) from error


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except ZeroShotError:
        raise
    # NumPy, zipfile, zlib, json and pyarrow raise a dozen types for a broken file.
    except Exception as error:
        raise ArtifactError(
            f"Expected a file of features that 'zeroshot embed' wrote. Got '{path}', "
            f"which is damaged or something else ({error}). Write it anew."
        ) from error


def _open_npz(path: Path) -> FeatureFile:
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as file:
        shape = _array_shape(file)
    with np.load(path, allow_pickle=False) as arrays:
        names = [name for name in ("paths", "labels", "errors") if name in arrays]
        texts = {name: arrays[name] for name in names}
        about, rows = arrays[ABOUT].item(), arrays["error_rows"].tolist()
    if any(cells.dtype.kind != "U" for cells in texts.values()):
        raise ValueError("paths, labels or errors that are no text")
    lists = {name: cells.tolist() for name, cells in texts.items()}
    errors = dict(zip(rows, lists["errors"], strict=True))
    return _assembled(
        path, about, shape, lists.get("paths", []), lists.get("labels"), errors
    )


def _open_parquet(path: Path) -> FeatureFile:
    with import_parquet().ParquetFile(path) as file:
        schema = file.schema_arrow
        about = schema.metadata[ABOUT.encode()].decode()
        shape = file.metadata.num_rows, schema.field("features").type.list_size
        columns = file.read([name for name in schema.names if name != "features"])
    texts = {
        name: [unescaped(text) if text else text for text in cells]
        for name, cells in columns.to_pydict().items()
    }
    paths = [text or "" for text in texts["path"]]
    errors = {i: text for i, text in enumerate(texts["error"]) if text is not None}
    return _assembled(path, about, shape, paths, texts.get("label"), errors)


def _assembled(
    path: Path,
    about: str,
    shape: tuple[int, ...],
    paths: list[str],
    labels: list[str] | None,
    errors: dict[int, str],
) -> FeatureFile:
    record = json.loads(about)
    if record["format"] > FORMAT:
        raise ArtifactError(
            f"Expected a file of features of format {FORMAT} or older. Got '{path}' of "
            f"format {record['format']}. Use a newer zeroshot."
        )
    n, dim = shape
    fits = len(paths) in (0, n) and (labels is None or len(labels) == n)
    if not fits or not all(0 <= row < n for row in errors):
        raise ValueError("paths, labels and features are of different lengths")
    return FeatureFile(
        path,
        dim,
        paths if any(paths) else [],
        None if labels is None else np.array(labels, np.str_),
        errors,
        {key: record["backbone"][key] for key in ("name", "spec", "fingerprint")},
        record["versions"],
        record.get("pixels"),
        np.arange(n),
    )


def _array_shape(file: Any) -> tuple[int, ...]:
    """Read the header of an array and leave the file at its first number."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = read(file)
    if dtype != np.float32 or in_columns or len(shape) != 2:
        raise ValueError(f"features of {dtype} and shape {shape}")
    return tuple(shape)


def _npz_rows(path: Path, dim: int) -> Iterator[NDArray[np.float32]]:
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as file:
        n, _ = _array_shape(file)
        for start in range(0, n, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, n - start)
            content = file.read(4 * dim * rows)
            yield np.frombuffer(content, "<f4").reshape(rows, dim)
        file.read(1)  # at its end, the checksum is compared


def _parquet_rows(path: Path, dim: int) -> Iterator[NDArray[np.float32]]:
    with import_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=["features"]):
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            yield np.asarray(flat, np.float32).reshape(-1, dim)
