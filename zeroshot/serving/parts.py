"""A job in parts: each is answered by one worker, and written whole or not at all.

In: a job, and what answers batches. Out: a folder of Parquet files, ``part-00000.
parquet`` and so on, which lie in the order of the images and are together one table
for pandas, PyArrow, Ray and Spark. An engine gets the numbers of the parts and nothing
else: a worker reads from the job's folder what its part is, and the images from where
they lie. So a part that is done twice is the same, and parts that are there are not
done again.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zeroshot.errors import ZeroShotError
from zeroshot.escaping import escaped
from zeroshot.features.block import refuse_other
from zeroshot.features.file import ABOUT, import_parquet
from zeroshot.progress import progress_bar
from zeroshot.serving.batch import BatchPredictor
from zeroshot.serving.columns import with_columns
from zeroshot.serving.jobs import MADE_BY, RECORD, Form, Job, Report
from zeroshot.storage.cache import replace_file

__all__ = ["PartTask", "Run", "Task", "do", "rows_of_part", "run_all", "write_part"]

ROWS_OF_IMAGES, ROWS_OF_FEATURES = 256, 16384  # of tables, in memory at once

Task: TypeAlias = Callable[[int], Any]
"""Does one part; picklable."""
Run: TypeAlias = Callable[[Task, Sequence[int]], Iterable[Any]]
"""An engine: yields what a task returns for each part, in any order."""


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
    missing = job.missing
    if isinstance(form, BatchPredictor) and form.adapt and missing:
        from zeroshot.serving.together import answer_together

        answer_together(job, form, run)
    else:
        total = job.n_rows - job.n_written
        run_all(run, PartTask(job, form), missing, "images", total)
    return job.report(job.n_parts - len(missing))


def run_all(
    run: Run,
    task: Task,
    numbers: Sequence[int],
    what: str,
    total: int | None = None,
) -> list[Any]:
    """Do some parts, and show how far it is.

    ``task``: returns a pair, of which the first is the number of rows done. ``total``:
    rows of all these parts.
    """
    if not numbers:
        return []
    found = []
    with progress_bar(f"{what}, in {len(numbers)} parts", total) as advance:
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
