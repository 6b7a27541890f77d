"""A job in parts: each is answered by one worker, and written whole or not at all.

In: images, or Parquet tables of them, and what answers batches. Out: a folder of
Parquet files, ``part-00000.parquet`` and so on, which lie in the order of the images
and are together one table for pandas, PyArrow, Ray and Spark. An engine gets the
numbers of the parts and nothing else: a worker reads from the job's folder what its
part is, and the images from where they lie. So a part that is done twice is the same,
and parts that are there are not done again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from zeroshot.errors import ArtifactError, ZeroShotError
from zeroshot.escaping import escaped
from zeroshot.features.block import refuse_other
from zeroshot.features.file import ABOUT, import_parquet
from zeroshot.progress import progress_bar
from zeroshot.serving.batch import BatchEmbedder, BatchPredictor
from zeroshot.serving.columns import with_columns
from zeroshot.storage.cache import replace_directory, replace_file

if TYPE_CHECKING:
    pass

__all__ = [
    "Form",
    "Job",
    "PartTask",
    "Report",
    "Run",
    "Task",
    "columns_of",
    "do",
    "rows_of_part",
    "run_all",
    "write_part",
]

RECORD = "_zeroshot"  # engines take no folder for data whose name begins so
FORMAT = 1
# A part is what is lost when a worker dies, and what the last worker is waited for; a
# file is opened for each.
LEAST_ROWS, MOST_ROWS, PARTS_PER_WORKER = 64, 16384, 16
ROWS_OF_IMAGES, ROWS_OF_FEATURES = 256, 16384  # of tables, in memory at once
MADE_BY = b"zeroshot"  # key of what a part says about itself

Form: TypeAlias = BatchPredictor | BatchEmbedder
Task: TypeAlias = Callable[[int], Any]
"""Does one part; picklable."""
Run: TypeAlias = Callable[[Task, Sequence[int]], Iterable[Any]]
"""An engine: yields what a task returns for each part, in any order."""


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

    def report(self, n_before: int) -> Report:
        """Count what was written, and compare it with what was asked for."""
        parquet = import_parquet()
        rows = errors = 0
        for number in range(self.n_parts):
            metadata = parquet.read_metadata(self.file(number))
            rows += metadata.num_rows
            errors += json.loads(metadata.metadata[MADE_BY])["errors"]
        if rows != self.n_rows:
            raise ArtifactError(
                f"Expected {self.n_rows} rows in '{self.out}'. Got {rows}: files were "
                f"changed. Remove the folder and run again."
            )
        return Report(self.out, rows, errors, self.n_parts, n_before)


def do(job: Job, form: Form, run: Run) -> Report:
    """Do what is missing of a job.

    Parameters
    ----------
    job : Job
    form : BatchPredictor or BatchEmbedder
        With ``adapt``, all images of the job are judged together.
    run : callable
        The engine.

    Returns
    -------
    report : Report
    """
    before = job.n_parts - len(job.missing)
    if isinstance(form, BatchPredictor) and form.adapt and job.missing:
        from zeroshot.serving.together import answer_together

        answer_together(job, form, run)
    else:
        run_all(run, PartTask(job, form), job.missing, "images")
    return job.report(before)


def run_all(run: Run, task: Task, numbers: Sequence[int], what: str) -> list[Any]:
    """Do some parts, and show how far it is.

    ``task``: returns a pair, of which the first is the number of rows done.
    """
    if not numbers:
        return []
    found = []
    with progress_bar(f"{what}, in {len(numbers)} parts", None) as advance:
        for n_rows, result in run(_Told(task), numbers):
            if isinstance(result, _Fault):
                raise ZeroShotError(result.message)
            found.append(result)
            advance(n_rows)
    return found


class _Told:
    """Does a part; an error of ours is no death of a worker, and not tried again."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, number: int) -> Any:
        try:
            return self._task(number)
        except ZeroShotError as error:
            return 0, _Fault(str(error))


@dataclass(frozen=True)
class _Fault:
    message: str


class PartTask:
    """Answers one part, and writes its file.

    Parameters
    ----------
    job : Job
    form : BatchPredictor or BatchEmbedder
    """

    def __init__(self, job: Job, form: Form) -> None:
        self._job, self._form = job, form

    def __call__(self, number: int) -> tuple[int, int]:
        """Return the rows of a part, and its number."""
        with replace_file(self._job.file(number)) as temporary:
            return write_part(temporary, self._tables(number)), number

    def _tables(self, number: int) -> Iterator[tuple[Any, dict[str, str]]]:
        for kept, images, about in rows_of_part(self._job, self._form, number):
            columns = self._form.answered(images)
            table = with_columns(kept, [], columns, self._form.arrow_type)
            yield table, about | self._form.about()


def write_part(path: Path, tables: Iterable[tuple[Any, dict[str, str]]]) -> int:
    """Write tables, and what is said of them; return how many rows they have.

    At the end of the file stands how many images were unreadable.
    """
    parquet, writer, rows, errors = import_parquet(), None, 0, 0
    about: dict[str, Any] = {}
    try:
        for table, told in tables:
            about |= told
            rows += len(table)
            if writer is None:
                writer = parquet.ParquetWriter(
                    path, table.schema, write_page_checksum=True
                )
            writer.write_table(table)
            errors += len(table) - table["error"].null_count
        assert writer is not None  # a part has rows
        about["errors"] = errors
        writer.add_key_value_metadata({MADE_BY: json.dumps(about)})
    finally:
        if writer is not None:
            writer.close()
    return rows


def rows_of_part(
    job: Job, form: Form, number: int
) -> Iterator[tuple[Any, Any, dict[str, str]]]:
    """Yield the rows of a part, some at a time: columns to keep, images, their origin.

    Parameters
    ----------
    job : Job
    form : BatchPredictor or BatchEmbedder
    number : int

    Yields
    ------
    kept : pyarrow.Table
    images : list of ImageSource, or Features
    about : dict of str to str
        What was known of the backbone of features.
    """
    import pyarrow as pa

    parquet = import_parquet()
    with parquet.ParquetFile(job.out / RECORD / "rows.parquet") as file:
        rows = file.read_row_group(number).to_pylist()
    if not job.is_table:
        paths = [os.fsdecode(row["path"]) for row in rows]
        kept = {"path": pa.array([escaped(path) for path in paths], pa.string())}
        if rows[0]["label"] is not None:
            kept["label"] = pa.array([row["label"] for row in rows], pa.string())
        yield pa.table(kept), paths, {}
        return
    for row in rows:
        with parquet.ParquetFile(os.fsdecode(row["path"])) as file:
            about = _about(file.schema_arrow.metadata or {})
            _check_features(form, about, row["path"])
            n = _rows_at_once(file.schema_arrow, form.image_column)
            for batch in file.iter_batches(n, row_groups=[row["group"]]):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                table = table.rename_columns(_kept_apart(table.column_names, form))
                images, without = form.given(table)
                yield table.drop_columns(without), images, about


def _kept_apart(names: list[str], form: Form) -> list[str]:
    """Return names of columns, the true labels beside those that are answered."""
    own = {*form.columns} - {"error", form.image_column}
    return [f"given_{name}" if name in own else name for name in names]


def _rows_at_once(schema: Any, name: str) -> int:
    if name not in schema.names:
        return ROWS_OF_IMAGES  # which will be refused
    is_features = "list" in str(schema.field(name).type)
    return ROWS_OF_FEATURES if is_features else ROWS_OF_IMAGES


def _about(metadata: dict[bytes, bytes]) -> dict[str, str]:
    """Return what a file of features says of its backbone, ours or of 'embed'."""
    if MADE_BY in metadata:
        record = json.loads(metadata[MADE_BY])
    elif ABOUT.encode() in metadata:
        record = json.loads(metadata[ABOUT.encode()]).get("backbone", {})
    else:
        return {}
    return {k: str(record[k]) for k in ("name", "fingerprint") if k in record}


def _check_features(form: Form, about: dict[str, str], path: bytes) -> None:
    if "fingerprint" not in about or not isinstance(form, BatchPredictor):
        return
    wanted = form.classifier()[0].backbone_fingerprint_
    if wanted is not None:
        what = f"'{os.fsdecode(path)}' with features of '{about.get('name')}'"
        advice = "Embed the images with the same backbone."
        refuse_other(wanted, about["fingerprint"], what, advice)


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
