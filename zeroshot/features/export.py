"""Features of images to a file, a block at a time."""

import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.backbones.base import Backbone
from zeroshot.errors import ArtifactError, LabelError
from zeroshot.escaping import escaped
from zeroshot.features.block import Features, OnError
from zeroshot.features.file import (
    ABOUT,
    FORMAT,
    SUFFIXES,
    block_rows,
    digest,
    import_parquet,
)
from zeroshot.features.pipeline import iter_features, warn_of_bad_images
from zeroshot.images.decoding import PIXELS
from zeroshot.images.sources import ImageSource, image_sources
from zeroshot.storage.cache import replace_file

__all__ = ["ExportedFeatures", "export_features"]


@dataclass(frozen=True)
class ExportedFeatures:
    """What was written, and what could not be read.

    ``errors`` has the position in the input of each unreadable image, and the reason.
    """

    path: Path
    n_rows: int
    dim: int
    errors: dict[int, str]


def export_features(
    images: object,
    backbone: str | Backbone,
    out: str | Path,
    *,
    labels: Sequence[str] | NDArray[Any] | None = None,
    batch_size: int = 32,
    cache: bool = True,
    on_error: OnError = "raise",
) -> ExportedFeatures:
    """Compute the features of images and write them to a file.

    The file is taken wherever images are, by `ZeroShotClassifier`, `evaluate` and the
    command line, and needs neither the images nor the network any more. However many
    images there are, only the names of their files are in memory.

    Parameters
    ----------
    images : any form that `zeroshot.images.as_image_list` takes
        n images.
    backbone : str or Backbone
        A registered name, a spec or an object.
    out : str or Path
        File to write, ``.npz`` or ``.parquet`` (which needs pyarrow). It is there whole
        or not at all.
    labels : sequence of str of length n, optional
        Label of each image.
    batch_size : int, default=32
        As for `zeroshot.features.extract_features`.
    cache : bool, default=True
        As there.
    on_error : {"raise", "skip", "nan"}, default="raise"
        As there. Under ``"nan"`` the file holds the reasons, too.

    Returns
    -------
    exported : ExportedFeatures

    Raises
    ------
    ArtifactError
        If ``out`` has another ending or cannot be written.
    LabelError
        If there is not one label for each image; told before any image is read, unless
        nobody knows how many there will be.
    InvalidImageError, PluginError
        As `zeroshot.features.extract_features`; if pyarrow is not installed.

    Warns
    -----
    PartialCoverageWarning
        Where images cannot be read; names the first ones.
    """
    out = Path(out)
    _check_place(out)
    network = registry.resolve_backbone(backbone)
    sources = image_sources(images, on_error)
    if labels is not None:
        labels = [str(label) for label in labels]
    names: list[str] = []
    if isinstance(sources, Sized):
        names.extend(map(_name, sources))
        _check_labels(labels, len(names))
    else:
        sources = _named(sources, names, labels)
    about = {
        "format": FORMAT,
        "backbone": {
            "name": network.name,
            "spec": registry.spec_of(network),
            "fingerprint": network.fingerprint,
        },
        "pixels": PIXELS,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("zeroshot", "numpy", "tensorflow")},
        },
    }
    rows = _Rows(names, labels, network.dim, about)
    write = _write_npz if out.suffix.lower() == ".npz" else _write_parquet
    blocks = iter_features(
        sources, network, batch_size=batch_size, cache=cache, on_error=on_error
    )
    try:
        with replace_file(out) as temporary, closing(blocks):
            write(temporary, rows, rows.noted(blocks))
    except OSError as error:
        raise ArtifactError(
            f"Expected a place to write the features to. Got '{out}': {error}. Choose "
            f"another file."
        ) from error
    n_rows, errors = len(rows.positions), rows.errors
    if errors:
        left_out = len(errors) if on_error == "skip" else 0
        warn_of_bad_images(errors, n_rows + left_out, on_error)
    return ExportedFeatures(out, n_rows, network.dim, errors)


@dataclass
class _Rows:
    """What is written beside the features, and which images had a row so far."""

    names: list[str]
    labels: list[str] | None
    dim: int
    about: dict[str, Any]
    positions: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    sums: list[int] = field(default_factory=list)

    def noted(self, blocks: Iterable[Features]) -> Iterator[Features]:
        """Pass blocks on; at the end there must be as many images as labels."""
        step, check = block_rows(self.dim), 0
        for block in blocks:
            matrix = np.ascontiguousarray(block.matrix, "<f4")
            first = len(self.positions)  # among all rows
            borders = range(first - first % step, first + len(matrix) + step, step)
            for start, stop in pairwise(borders):
                rows = matrix[max(start - first, 0) : stop - first]
                check = crc32(rows.data, check)
                if stop <= first + len(matrix):
                    self.sums.append(check)
                    check = 0
            self.positions += block.positions.tolist()
            self.errors |= block.errors
            yield block
        if len(self.positions) % step:
            self.sums.append(check)
        _check_labels(self.labels, len(self.names))

    def record(
        self,
        paths: Sequence[str],
        labels: Sequence[str | None] | None,
        errors: Mapping[int, str],
    ) -> str:
        """Return what is told about the rows, with checksums of all that is written."""
        about = self.about | {"sums": self.sums}
        paths = paths if any(paths) else []
        return json.dumps(about | {"sha256": digest(about, paths, labels, errors)})

    def texts(self, positions: list[int]) -> dict[str, list[str | None]]:
        """Return the columns of text of some images."""
        columns: dict[str, list[str | None]] = {
            "path": [self.names[i] or None for i in positions],
            "error": [self.errors.get(i) for i in positions],
        }
        if self.labels is not None:
            columns["label"] = [self.labels[i] for i in positions]
        return columns


def _check_place(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise ArtifactError(
            f"Expected a file that ends in .npz or .parquet. Got '{out}'. Name another."
        )
    if out.suffix.lower() == ".parquet":
        import_parquet()
    folder = os.path.dirname(os.path.abspath(out))
    is_writable = os.path.isdir(folder) and os.access(folder, os.W_OK)
    if not is_writable or os.path.isdir(out) or "\0" in out.name:
        raise ArtifactError(
            f"Expected a file in a folder that can be written. Got '{out}'. Make the "
            f"folder, or choose another file."
        )


def _check_labels(labels: Sequence[str] | None, n: int) -> None:
    if labels is not None and len(labels) != n:
        raise LabelError(
            f"Expected one label for each image. Got {n} images and {len(labels)} "
            f"labels."
        )


def _named(
    sources: Iterable[ImageSource], names: list[str], labels: Sequence[str] | None
) -> Iterator[ImageSource]:
    """Pass images on, and keep what they are called."""
    for source in sources:
        names.append(_name(source))
        if labels is not None and len(names) > len(labels):
            _check_labels(labels, len(names))
        yield source


def _name(source: ImageSource) -> str:
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""


def _write_npz(out: Path, rows: _Rows, blocks: Iterable[Features]) -> None:
    # An array in a .npz begins with its length, which is known at the end only.
    with tempfile.TemporaryFile(dir=out.parent) as numbers, out.open("wb") as file:
        for block in blocks:
            numbers.write(block.matrix.astype("<f4", copy=False).tobytes())
        numbers.flush()
        shape = n, _ = len(rows.positions), rows.dim
        texts = rows.texts(rows.positions)
        errors = {i: e for i, e in enumerate(texts["error"]) if e is not None}
        arrays: dict[str, Any] = {
            "features": np.memmap(numbers, "<f4", "r", shape=shape)
            if n
            else np.empty(shape, "<f4"),
            "error_rows": np.array(list(errors), "<i8"),
            "errors": np.array(list(errors.values()), np.str_),
        }
        if any(texts["path"]):
            arrays["paths"] = np.array([path or "" for path in texts["path"]], np.str_)
        if "label" in texts:
            arrays["labels"] = np.array(texts["label"], np.str_)
        # As they are read again: arrays of text lose zeros at the end.
        as_read = {
            name: array.tolist()
            for name, array in arrays.items()
            if array.dtype.kind == "U"
        }
        about = rows.record(
            as_read.get("paths", []),
            as_read.get("labels"),
            dict(zip(errors, as_read["errors"], strict=True)),
        )
        np.savez(file, **arrays, about=np.array(about))


def _write_parquet(out: Path, rows: _Rows, blocks: Iterable[Features]) -> None:
    parquet = import_parquet()
    import pyarrow as pa

    columns = {name: pa.string() for name in ("path", "label", "error")}
    if rows.labels is None:
        del columns["label"]
    columns["features"] = pa.list_(pa.float32(), rows.dim)
    schema = pa.schema(columns)
    # Floats of features do not compress; decoding them costs a second a GB.
    with parquet.ParquetWriter(
        out, schema, compression="none", use_dictionary=False, write_page_checksum=True
    ) as file:
        for block in blocks:
            flat = pa.array(block.matrix.ravel(), pa.float32())
            cells = {
                name: [None if text is None else escaped(text) for text in column]
                for name, column in rows.texts(block.positions.tolist()).items()
            }
            cells["features"] = pa.FixedSizeListArray.from_arrays(flat, rows.dim)
            file.write_table(pa.table(cells, schema=schema))
        texts = rows.texts(rows.positions)
        errors = {i: e for i, e in enumerate(texts["error"]) if e is not None}
        paths = [path or "" for path in texts["path"]]
        about = rows.record(paths, texts.get("label"), errors)
        file.add_key_value_metadata({ABOUT: about})
