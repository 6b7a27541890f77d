"""Files of features, ``.npz`` or ``.parquet``: taken wherever images are.

An ``.npz`` holds ``features`` (n, dim), ``paths``, ``labels`` (where there are any),
``error_rows`` and ``errors``, and ``about``, a JSON text with the backbone and how
images were decoded. A ``.parquet`` holds the columns ``path``, ``label``, ``error``
(texts as `zeroshot.escaping.escaped` gives them) and ``features``, and ``about`` in its
metadata. Neither can run code.

Since format 2 ``about`` has ``sums``, a CRC-32 of every 1024 rows of features, and
``sha256``, of all of ``about`` and the texts: what is read is what was written. A file
of format 1, or that another program wrote so, is taken as it is.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from warnings import warn
from zlib import crc32

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
from zeroshot.storage.arrays import (
    LARGEST_RATIO,
    NEVER_A_BOMB,
    ArrayFile,
    open_arrays,
)

__all__ = [
    "ABOUT",
    "FORMAT",
    "SUFFIXES",
    "FeatureFile",
    "block_rows",
    "digest",
    "import_parquet",
    "open_if_features",
    "read_features",
    "take",
]

SUFFIXES = (".npz", ".parquet")
ABOUT = "about"
FORMAT = 2
# Of this size their checksums are compared; fewer rows than `BLOCK_ROWS` only where
# more would take 64 MiB.
MOST_BLOCK = 64 << 20
MOST_DIM = 1 << 20
TEXT_TYPES = {"string", "large_string"}  # of pyarrow; not dictionaries, long if decoded


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
    sums : tuple of int, or None
        CRC-32 of each block of rows of the file; None if it has no checksums.
    stamp : tuple of int, or None
        Size, time of change and inode of the file when it was opened.
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
    sums: tuple[int, ...] | None = None
    stamp: tuple[int, ...] | None = None

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
            if self.stamp is not None and self.stamp != _stamp(self.path):
                raise ValueError("it was changed since it was opened")
            blocks = read(self.path, self.dim, checked=self.sums is None)
            for matrix in _same(blocks, self.sums):
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
    open_file = _open_npz if path.suffix.lower() == ".npz" else _open_parquet
    with _whole(path):
        stamp = _stamp(path)
        return replace(open_file(path), stamp=stamp)


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


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def block_rows(dim: int) -> int:
    """Return how many rows of features a checksum is of."""
    return min(BLOCK_ROWS, max(1, MOST_BLOCK // (4 * dim)))


def digest(
    about: Mapping[str, Any],
    paths: Sequence[str],
    labels: Sequence[str | None] | None,
    errors: Mapping[int, str],
) -> str:
    """Return the SHA-256 of what a file holds beside its features.

    ``about`` without ``"sha256"``. ``paths``: empty where all of them are.
    """
    hashed = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for texts in (paths, labels, [str(row) for row in errors], list(errors.values())):
        hashed.update(b"-" if texts is None else b"%d" % len(texts))
        for text in texts or ():
            content = str(text).encode("utf-8", "surrogatepass")
            hashed.update(b" %d " % len(content) + content)
    return hashed.hexdigest()


def _open_npz(path: Path) -> FeatureFile:
    with open_arrays(path) as arrays:
        shape = _shape(arrays)
        names = [name for name in ("paths", "labels", "errors") if name in arrays.names]
        texts = {name: arrays.read(name) for name in names}
        about, rows = arrays.read(ABOUT).item(), arrays.read("error_rows").tolist()
    if any(cells.dtype.kind != "U" or cells.ndim != 1 for cells in texts.values()):
        raise ValueError("paths, labels or errors that are no text")
    lists = {name: cells.tolist() for name, cells in texts.items()}
    errors = dict(zip(rows, lists["errors"], strict=True))
    return _assembled(
        path, about, shape, lists.get("paths", []), lists.get("labels"), errors
    )


def _open_parquet(path: Path) -> FeatureFile:
    parquet = import_parquet()
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        about = file.metadata.metadata[ABOUT.encode()].decode()
        n, dim = file.metadata.num_rows, schema.field("features").type.list_size
        # A Parquet file can claim a million rows in a few bytes.
        limit = max(NEVER_A_BOMB, LARGEST_RATIO * path.stat().st_size)
        if 4 * n * dim > limit:
            raise ValueError(f"{n} rows of {dim} numbers in so few bytes")
        names = [name for name in ("path", "label", "error") if name in schema.names]
        if not {str(schema.field(name).type) for name in names} <= TEXT_TYPES:
            raise ValueError("paths, labels or errors that are no text")
        texts: dict[str, list[str | None]] = {name: [] for name in names}
        for batch in file.iter_batches(BLOCK_ROWS, columns=names):
            limit -= batch.nbytes
            if limit < 0:
                raise ValueError("longer texts than so few bytes hold")
            for name, cells in batch.to_pydict().items():
                texts[name] += [unescaped(text) if text else text for text in cells]
    paths = [text or "" for text in texts["path"]]
    errors = {i: text for i, text in enumerate(texts["error"]) if text is not None}
    labels = None
    if "label" in texts:
        labels = [text for text in texts["label"] if text is not None]
    return _assembled(path, about, (n, dim), paths, labels, errors)


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
    if not fits or not all(0 <= row < n for row in errors) or not 0 < dim <= MOST_DIM:
        raise ValueError("paths, labels and features are of different lengths")
    paths = paths if any(paths) else []
    sums = None
    if record["format"] > 1 or "sha256" in record:
        recorded = record.pop("sha256")
        if recorded != digest(record, paths, labels, errors):
            raise ValueError("its texts or its record are not as they were written")
        sums = tuple(record["sums"])
    return FeatureFile(
        path,
        dim,
        paths,
        None if labels is None else np.array(labels, np.str_),
        errors,
        {key: record["backbone"][key] for key in ("name", "spec", "fingerprint")},
        record["versions"],
        record.get("pixels"),
        np.arange(n),
        sums,
    )


def _shape(arrays: ArrayFile) -> tuple[int, ...]:
    with arrays.opened("features") as (form, _):
        shape = tuple(form["shape"])
        if form["dtype"] != np.float32 or form["order"] != "C" or len(shape) != 2:
            raise ValueError(f"features of {form['dtype']} and shape {shape}")
        return shape


def _same(
    blocks: Iterator[NDArray[np.float32]], sums: tuple[int, ...] | None
) -> Iterator[NDArray[np.float32]]:
    """Pass on blocks of which each has its checksum, where there are any."""
    number = -1
    for number, matrix in enumerate(blocks):
        if sums is not None and sums[number : number + 1] != (crc32(matrix.data),):
            raise ValueError(f"other features from row {number * len(matrix)} on")
        yield matrix
    if sums is not None and number + 1 != len(sums):
        raise ValueError("features are missing")


def _npz_rows(path: Path, dim: int, *, checked: bool) -> Iterator[NDArray[np.float32]]:
    step = block_rows(dim)
    with open_arrays(path) as arrays:
        n, _ = _shape(arrays)
        with arrays.opened("features", checked=checked) as (_, file):
            for start in range(0, n, step):
                rows = min(step, n - start)
                content = file.read(4 * dim * rows)
                yield np.frombuffer(content, "<f4").reshape(rows, dim)
            file.read(1)  # at its end, the checksum is compared


def _parquet_rows(
    path: Path, dim: int, *, checked: bool
) -> Iterator[NDArray[np.float32]]:
    del checked  # the pages' own checksums are not
    step = block_rows(dim)
    kept = np.empty((0, dim), np.float32)
    with import_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(step, columns=["features"]):
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            rows = np.asarray(flat, "<f4").reshape(-1, dim)
            kept = np.concatenate([kept, rows]) if len(kept) else rows
            while len(kept) >= step:  # batches end where groups of rows do
                yield kept[:step]
                kept = kept[step:]
    if len(kept):
        yield kept
