"""Features of images to a file, a block at a time."""

import json
import os
import platform
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.backbones.base import Backbone
from zeroshot.errors import ArtifactError, LabelError
from zeroshot.features.block import FeatureBlock, OnError
from zeroshot.features.file import ABOUT, FORMAT, SUFFIXES, import_parquet
from zeroshot.features.pipeline import iter_features, warn_of_bad_images
from zeroshot.images.sources import ImageSource, image_sources
from zeroshot.storage.cache import replace_file

__all__ = ["ExportedFeatures", "export_features"]

STRINGS_AT_ONCE = 4096
COPIED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ExportedFeatures:
    """What was written, and what could not be read.

    Attributes
    ----------
    path : Path
        The file.
    n_rows : int
        Rows in it.
    dim : int
        Length of a row.
    errors : dict of int to str
        Position in the input of each unreadable image, and the reason.
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
    MissingExtraError
        If ``out`` is a ``.parquet`` and pyarrow is not installed.
    LabelError
        If there is not one label for each image.
    InvalidImageError, PluginContractError, UnknownPluginError
        As `zeroshot.features.extract_features`.

    Warns
    -----
    PartialCoverageWarning
        Where images cannot be read; names the first ones.
    """
    out = Path(out)
    _check_place(out)
    network = registry.resolve_backbone(backbone)
    sources = image_sources(images, on_error)
    if isinstance(sources, Sized) and labels is not None:
        _check_labels(labels, len(sources))
    names: list[str] = []
    blocks = iter_features(
        _named(sources, names) if not isinstance(sources, Sized) else sources,
        network,
        batch_size=batch_size,
        cache=cache,
        on_error=on_error,
    )
    if isinstance(sources, Sized):
        names.extend(map(_name, sources))
    errors: dict[int, str] = {}
    n_rows = 0
    about = {
        "format": FORMAT,
        "backbone": {
            "name": network.name,
            "spec": registry.spec_of(network),
            "fingerprint": network.fingerprint,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("zeroshot", "numpy", "tensorflow")},
        },
    }
    kind = _NpzWriter if out.suffix.lower() == ".npz" else _ParquetWriter
    try:
        with (
            replace_file(out) as temporary,
            closing(blocks),
            closing(kind(temporary, network.dim, json.dumps(about))) as writer,
        ):
            for block in blocks:
                chosen = block.positions.tolist()
                writer.write(
                    block,
                    [names[i] for i in chosen],
                    None if labels is None else [str(labels[i]) for i in chosen],
                )
                errors |= block.errors
                n_rows += len(chosen)
            if labels is not None:
                _check_labels(labels, len(names))
            writer.finish()
    except OSError as error:
        raise ArtifactError(
            f"Expected a place to write the features to. Got '{out}': {error}. Choose "
            f"another file."
        ) from error
    if errors:
        left_out = len(errors) if on_error == "skip" else 0
        warn_of_bad_images(errors, n_rows + left_out, on_error)
    return ExportedFeatures(out, n_rows, network.dim, errors)


def _check_place(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise ArtifactError(
            f"Expected a file that ends in .npz or .parquet. Got '{out}'. Name another."
        )
    if out.suffix.lower() == ".parquet":
        import_parquet()
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or out.is_dir():
        raise ArtifactError(
            f"Expected a file in a folder that can be written. Got '{out}'. Make the "
            f"folder, or choose another file."
        )


def _check_labels(labels: Sequence[str] | NDArray[Any], n: int) -> None:
    if len(labels) != n:
        raise LabelError(
            f"Expected one label for each image. Got {n} images and {len(labels)} "
            f"labels."
        )


def _named(sources: Iterable[ImageSource], names: list[str]) -> Iterator[ImageSource]:
    """Pass images on, and keep what they are called."""
    for source in sources:
        names.append(_name(source))
        yield source


def _name(source: ImageSource) -> str:
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""


class _Writer(ABC):
    @abstractmethod
    def write(
        self, block: FeatureBlock, paths: list[str], labels: list[str] | None
    ) -> None:
        """Append rows."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file."""

    @abstractmethod
    def close(self) -> None:
        """Close whatever is open."""


class _NpzWriter(_Writer):
    def __init__(self, path: Path, dim: int, about: str) -> None:
        self._path, self._dim, self._about = path, dim, about
        # An array in a .npz begins with its length, which is known at the end only.
        self._rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self._n = 0
        self._paths: list[str] = []
        self._labels: list[str] | None = None
        self._errors: dict[int, str] = {}

    def write(
        self, block: FeatureBlock, paths: list[str], labels: list[str] | None
    ) -> None:
        self._rows.write(block.matrix.astype("<f4", copy=False).tobytes())
        for row, position in enumerate(block.positions.tolist(), self._n):
            if position in block.errors:
                self._errors[row] = block.errors[position]
        self._n += len(block.matrix)
        self._paths += paths
        if labels is not None:
            self._labels = (self._labels or []) + labels

    def finish(self) -> None:
        with zipfile.ZipFile(self._path, "w") as archive:
            with _member(archive, "features", "<f4", (self._n, self._dim)) as file:
                self._rows.seek(0)
                while content := self._rows.read(COPIED_AT_ONCE):
                    file.write(content)
            if any(self._paths):
                _write_strings(archive, "paths", self._paths)
            if self._labels is not None:
                _write_strings(archive, "labels", self._labels)
            rows = np.array(list(self._errors), "<i8")
            with _member(archive, "error_rows", "<i8", rows.shape) as file:
                file.write(rows.tobytes())
            _write_strings(archive, "errors", list(self._errors.values()))
            with archive.open(f"{ABOUT}.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self._about))

    def close(self) -> None:
        self._rows.close()


def _member(
    archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...]
) -> Any:
    """Open an array in the archive to be written, behind its header."""
    file = archive.open(f"{name}.npy", "w", force_zip64=True)
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _write_strings(archive: zipfile.ZipFile, name: str, texts: list[str]) -> None:
    kind = f"<U{max([1, *map(len, texts)])}"
    with _member(archive, name, kind, (len(texts),)) as file:
        for start in range(0, len(texts), STRINGS_AT_ONCE):
            part = texts[start : start + STRINGS_AT_ONCE]
            file.write(np.array(part, kind).tobytes())


class _ParquetWriter(_Writer):
    def __init__(self, path: Path, dim: int, about: str) -> None:
        self._parquet = import_parquet()
        self._path, self._dim, self._about = path, dim, about
        self._file: Any = None

    def write(
        self, block: FeatureBlock, paths: list[str], labels: list[str] | None
    ) -> None:
        import pyarrow as pa

        flat = pa.array(block.matrix.ravel(), pa.float32())
        columns = {
            "path": pa.array([path or None for path in paths], pa.string()),
            **({} if labels is None else {"label": pa.array(labels, pa.string())}),
            "error": pa.array(
                [block.errors.get(i) for i in block.positions.tolist()], pa.string()
            ),
            "features": pa.FixedSizeListArray.from_arrays(flat, self._dim),
        }
        table = pa.table(columns).replace_schema_metadata({ABOUT: self._about})
        if self._file is None:
            # Floats of features do not compress; decoding them costs a second a GB.
            self._file = self._parquet.ParquetWriter(
                self._path, table.schema, compression="none", use_dictionary=False
            )
        self._file.write_table(table)

    def finish(self) -> None:
        if self._file is None:  # no image at all
            empty = np.empty((0, self._dim), np.float32)
            self.write(FeatureBlock(np.empty(0, np.int64), empty), [], None)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
