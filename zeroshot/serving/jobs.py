"""A job: which images it is of, how they are divided into parts, where answers lie.

In: images, or Parquet tables of them. Out: a folder with a record of the parts, which
workers read and which tells whether the folder is of this job or of another.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from zeroshot.errors import ArtifactError
from zeroshot.features.file import import_parquet
from zeroshot.serving.batch import BatchEmbedder, BatchPredictor
from zeroshot.storage.cache import replace_directory

__all__ = ["MADE_BY", "RECORD", "Form", "Job", "Report", "columns_of"]

RECORD = "_zeroshot"  # engines take no folder for data whose name begins so
FORMAT = 1
# A part is what is lost when a worker dies, and what the last worker is waited for; a
# file is opened for each.
LEAST_ROWS, MOST_ROWS, PARTS_PER_WORKER = 64, 16384, 16
MADE_BY = b"zeroshot"  # key of what a part says about itself

Form: TypeAlias = BatchPredictor | BatchEmbedder


@dataclass(frozen=True)
class Report:
    """What a job did.

    Attributes
    ----------
    out : Path
        Folder of the results.
    n_rows : int
        Rows of all parts: one for each image.
    n_errors : int
        Images that could not be read; column ``error`` says why.
    n_parts, n_before : int
        Parts in all, and those that were there already.
    """

    out: Path
    n_rows: int
    n_errors: int
    n_parts: int
    n_before: int


@dataclass(frozen=True)
class Job:
    """Images in parts, and the folder for the answers.

    Attributes
    ----------
    out : Path
    is_table : bool
        Whether the images lie in Parquet tables; else they are files.
    n_rows, n_parts : int
    digests : dict of str to str
        Of the images, and of what answers them: a folder is of one job.
    """

    out: Path
    is_table: bool
    n_rows: int
    n_parts: int
    digests: dict[str, str]

    @classmethod
    def of(
        cls,
        images: Any,
        form: Form,
        out: str | Path,
        *,
        labels: Sequence[str] | None = None,
        rows_per_part: int | None = None,
        workers: int = 1,
    ) -> Self:
        """Divide images into parts, or find how they were divided before.

        Parameters
        ----------
        images : path or sequence of paths
            Of images, as `zeroshot.images.as_image_list` takes them; or of Parquet
            files and folders of such, whose column ``form.image_column`` is taken.
        form : BatchPredictor or BatchEmbedder
        out : str or Path
            A folder that all workers can write; it need not exist.
        labels : sequence of str, optional
            Of each image file, to stand beside its features.
        rows_per_part : int or None, default=None
            None for 16 parts a worker, of 64 to 16384 images.
        workers : int, default=1

        Returns
        -------
        job : Job

        Raises
        ------
        ArtifactError
            If ``out`` holds something else, such as the results of another job.
        MissingExtraError
            If pyarrow is not installed.
        """
        import_parquet()
        out = Path(out).absolute()
        tables = _tables(images)
        rows = _table_rows(tables) if tables else _image_rows(images, labels)
        digests = {
            "images": _digest(rows),
            "model, labels or settings": form.digest(),
        }
        if (out / RECORD).exists():
            return cls._found(out, digests)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtifactError(
                f"Expected a new folder for the results. Got '{out}', which holds "
                f"something else. Choose another one."
            )
        n = sum(row["rows"] for row in rows)
        if rows_per_part is None:
            rows_per_part = -(-n // (PARTS_PER_WORKER * workers))
            rows_per_part = min(max(rows_per_part, LEAST_ROWS), MOST_ROWS)
        parts = list(_divided(rows, rows_per_part))
        job = cls(out, bool(tables), n, len(parts), digests)
        with replace_directory(out / RECORD) as folder:
            _write_rows(folder / "rows.parquet", parts)
            record = {"format": FORMAT, **asdict(job)}
            del record["out"]
            (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
        return job

    @classmethod
    def _found(cls, out: Path, digests: dict[str, str]) -> Self:
        try:
            record = json.loads((out / RECORD / "job.json").read_text("utf-8"))
            names = ("is_table", "n_rows", "n_parts", "digests")
            job = cls(out, *(record[name] for name in names))
            found, version = job.digests, record["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"Expected the results of a job. Got '{out}', whose record is damaged "
                f"({error}). Remove the folder, or choose another one."
            ) from error
        other = [name for name, digest in digests.items() if found.get(name) != digest]
        if other or version != FORMAT:
            raise ArtifactError(
                f"Expected the results of this job, to go on with it. Got '{out}', of "
                f"other {' and other '.join(other) or 'format'}. Choose another "
                f"folder, or remove this one."
            )
        return job

    def file(self, number: int) -> Path:
        """Return where the answers of a part are."""
        return self.out / f"part-{number:05}.parquet"

    @property
    def missing(self) -> list[int]:
        """Parts that are not there yet."""
        return [i for i in range(self.n_parts) if not self.file(i).exists()]

    @property
    def n_written(self) -> int:
        """Rows of the parts that are there."""
        return self._written()[0]

    def report(self, n_before: int) -> Report:
        """Count what was written, and compare it with what was asked for."""
        rows, errors = self._written()
        if rows != self.n_rows:
            raise ArtifactError(
                f"Expected {self.n_rows} rows in '{self.out}'. Got {rows}: files were "
                f"changed. Remove the folder and run again."
            )
        return Report(self.out, rows, errors, self.n_parts, n_before)

    def _written(self) -> tuple[int, int]:
        """Return how many rows there are, and how many of them of unreadable images."""
        parquet = import_parquet()
        rows = errors = 0
        for number in range(self.n_parts):
            if self.file(number).exists():
                metadata = parquet.read_metadata(self.file(number))
                rows += metadata.num_rows
                errors += json.loads(metadata.metadata[MADE_BY])["errors"]
        return rows, errors


def columns_of(images: Any) -> list[str]:
    """Return the columns of Parquet tables; none where images are given.

    Parameters
    ----------
    images : path or sequence of paths
        As for `Job.of`.

    Returns
    -------
    columns : list of str
    """
    tables = _tables(images)
    return list(import_parquet().read_schema(tables[0]).names) if tables else []


def _tables(images: Any) -> list[Path]:
    """Return the Parquet files that are meant; none where images are."""
    given = images if isinstance(images, list | tuple) else [images]
    found: list[Path] = []
    for each in given:
        if not isinstance(each, str | os.PathLike):
            return []
        path = Path(each).expanduser()
        if path.is_dir():
            found += sorted(p for p in path.glob("*.parquet") if p.name[0] not in "._")
        elif path.suffix.lower() == ".parquet":
            found.append(path)
    return found


def _table_rows(tables: Sequence[Path]) -> list[dict[str, Any]]:
    parquet, rows = import_parquet(), []
    for path in tables:
        try:
            metadata = parquet.read_metadata(path)
        except Exception as error:  # pyarrow has many kinds
            raise ArtifactError(
                f"Expected a Parquet file. Got '{path}': {error}. Check the file."
            ) from error
        for group in range(metadata.num_row_groups):
            n = metadata.row_group(group).num_rows
            if n:
                name = os.fsencode(path.absolute())
                rows.append({"path": name, "group": group, "label": None, "rows": n})
    if not rows:
        raise ArtifactError(
            f"Expected tables with rows. Got none in '{tables[0].parent}'."
        )
    return rows


def _image_rows(images: Any, labels: Sequence[str] | None) -> list[dict[str, Any]]:
    from zeroshot.images.sources import as_image_list

    given = images if isinstance(images, list | tuple) else [images]
    paths: list[Any] = []
    for each in given:
        if not isinstance(each, str | os.PathLike):
            raise ArtifactError(
                f"Expected paths, which workers can open. Got one of type "
                f"'{type(each).__name__}'. Write the images to files, or to a column "
                f"of a Parquet table."
            )
        is_listed = isinstance(images, list | tuple) and not os.path.isdir(each)
        paths += [each] if is_listed else as_image_list(each, "nan")
    return [
        {
            "path": os.fsencode(os.path.abspath(os.path.expanduser(path))),
            "group": 0,
            "label": None if labels is None else str(labels[i]),
            "rows": 1,
        }
        for i, path in enumerate(paths)
    ]


def _divided(
    rows: list[dict[str, Any]], rows_per_part: int
) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    n = 0
    for row in rows:
        if part and n + row["rows"] > rows_per_part:
            yield part
            part, n = [], 0
        part.append(row)
        n += row["rows"]
    if part:
        yield part


def _write_rows(path: Path, parts: Iterable[list[dict[str, Any]]]) -> None:
    import pyarrow as pa

    schema = pa.schema(
        {
            "path": pa.binary(),
            "group": pa.int32(),
            "label": pa.string(),
            "rows": pa.int64(),
        }
    )
    with import_parquet().ParquetWriter(path, schema) as writer:
        for part in parts:
            writer.write_table(
                pa.Table.from_pylist(part, schema), row_group_size=len(part)
            )


def _digest(rows: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        told = [row["path"].hex(), row["group"], row["rows"], row["label"]]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()
