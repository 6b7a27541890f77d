"""All images of a job judged together, though they lie in parts.

What a batch says about labels is learnt on a sample of it (`zeroshot.scoring.
adaptation`), in one process as on many machines: 8192 points at most, 50 MB. So the
parts are done twice. First each keeps its points and their places along a line; the
places of all, 8 bytes each, choose the sample, whose points the parts give. What is
learnt from these, a point and an offset for each label, then answers every part.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.features import ImagePoints
from zeroshot.features.file import import_parquet
from zeroshot.scoring.adaptation import LearntBatch, places, sampled
from zeroshot.serving.batch import BatchPredictor
from zeroshot.serving.columns import column_of, with_columns
from zeroshot.serving.jobs import RECORD, Job
from zeroshot.serving.loaded import loaded
from zeroshot.serving.parts import Run, rows_of_part, run_all, write_part
from zeroshot.storage.cache import replace_file
from zeroshot.warning import quietly

__all__ = ["answer_together"]

OWN = ("point", "place", "error")  # columns of points that are no answers


def answer_together(job: Job, form: BatchPredictor, run: Run) -> None:
    """Answer the missing parts of a job, all its images judged together.

    Parameters
    ----------
    job : Job
    form : BatchPredictor
    run : callable
        The engine.
    """
    classifier, candidates = form.classifier()
    numbers = range(job.n_parts)
    left = [i for i in numbers if not _points_file(job, i).exists()]
    total = job.n_rows if len(left) == job.n_parts else None
    run_all(run, _PointsTask(job, form), left, "images", total)
    of_parts = [_column(_points_file(job, i), "place") for i in numbers]
    rows = sampled(np.concatenate(of_parts), len(candidates.labels))
    ends = np.cumsum([len(part) for part in of_parts])
    owner = np.searchsorted(ends, rows, side="right")
    starts = ends - [len(part) for part in of_parts]
    wanted = {i: rows[owner == i] - starts[i] for i in np.unique(owner).tolist()}
    learnt = None
    if wanted:
        task = _SampleTask(job, wanted)
        found = dict(run_all(run, task, list(wanted), "sample"))
        dim = next(iter(found.values())).shape[1]
        sample = np.empty((len(rows), dim), np.float32)
        for number, points in found.items():
            sample[owner == number] = points
        learnt = classifier.learn_batch(_points(sample, classifier), candidates)
    with replace_file(_learnt_file(job)) as temporary, temporary.open("wb") as file:
        np.savez(file, **({} if learnt is None else vars(learnt)))
    total = job.n_rows - job.n_written
    run_all(run, _AnswerTask(job, form), job.missing, "answers", total)
    shutil.rmtree(_points_file(job, 0).parent, ignore_errors=True)


class _PointsTask:
    """Writes the points of one part, and where they lie along the line."""

    def __init__(self, job: Job, form: BatchPredictor) -> None:
        self._job, self._form = job, form

    def __call__(self, number: int) -> tuple[int, int]:
        with replace_file(_points_file(self._job, number)) as temporary:
            return write_part(temporary, self._tables(number)), number

    def _tables(self, number: int) -> Iterator[tuple[Any, dict[str, str]]]:
        classifier, _ = self._form.classifier()
        for kept, images, about in rows_of_part(self._job, self._form, number):
            with quietly():
                points = classifier.points(images)
            columns = {
                "point": points.matrix,
                "place": places(points.matrix),
                "error": self._form.reasons(points),
            }
            types = _types(points.matrix.shape[1])
            yield with_columns(kept, [], columns, types.__getitem__), about


class _SampleTask:
    """Gives some of the points of one part."""

    def __init__(self, job: Job, wanted: Mapping[int, NDArray[np.intp]]) -> None:
        self._job, self._wanted = job, wanted

    def __call__(self, number: int) -> tuple[int, tuple[int, NDArray[np.float32]]]:
        points = _column(_points_file(self._job, number), "point")
        return 0, (number, points[self._wanted[number]])


class _AnswerTask:
    """Answers one part from its points and what the batch says about labels."""

    def __init__(self, job: Job, form: BatchPredictor) -> None:
        self._job, self._form = job, form

    def __call__(self, number: int) -> tuple[int, int]:
        with replace_file(self._job.file(number)) as temporary:
            return write_part(temporary, self._tables(number)), number

    def _tables(self, number: int) -> Iterator[tuple[Any, dict[str, str]]]:
        learnt = _learnt(self._job)
        classifier, _ = self._form.classifier()
        table = import_parquet().read_table(_points_file(self._job, number))
        why = table["error"].to_pylist()
        errors = {i: reason for i, reason in enumerate(why) if reason is not None}
        points = _points(column_of(table, "point"), classifier, errors)
        columns = self._form.answered(points, learnt)
        kept = table.drop_columns(list(OWN)).replace_schema_metadata(None)
        yield with_columns(kept, [], columns, self._form.arrow_type), {}


def _points(matrix: Any, classifier: Any, errors: Any = None) -> ImagePoints:
    positions = np.arange(len(matrix))
    return ImagePoints(
        matrix, errors or {}, positions, projection=classifier.projection_
    )


def _types(dim: int) -> dict[str, Any]:
    import pyarrow as pa

    point = pa.list_(pa.float32(), dim)
    return {"point": point, "place": pa.float64(), "error": pa.string()}


def _column(path: Path, name: str) -> NDArray[Any]:
    table = import_parquet().read_table(path, columns=[name])
    return np.asarray(column_of(table, name))


def _points_file(job: Job, number: int) -> Path:
    return job.out / RECORD / "points" / f"part-{number:05}.parquet"


def _learnt_file(job: Job) -> Path:
    return job.out / RECORD / "batch.npz"


def _learnt(job: Job) -> LearntBatch | None:
    path = _learnt_file(job)
    key = "batch", str(path), path.stat().st_mtime_ns

    def read() -> LearntBatch | None:
        with np.load(path, allow_pickle=False) as arrays:
            return LearntBatch(**arrays) if arrays.files else None

    return loaded(key, read)
