"""Spark: labels and features of images, on the machines of a Spark cluster.

Needs the extra ``spark``, and Java. A DataFrame gives a DataFrame, lazily; images or
tables by their paths give a folder of Parquet files, and a job that was cut goes on
where it was.
"""

import os
import pickle
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from zeroshot.errors import ArtifactError, LabelError, MissingExtraError
from zeroshot.serving.batch import BatchEmbedder, BatchPredictor
from zeroshot.serving.jobs import Form, Job
from zeroshot.serving.parts import Task, do
from zeroshot.training.labelled_moments import (
    SAMPLE,
    LabelledMoments,
    MomentsSum,
    arrays_of,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "answer",
    "embed",
    "image_batches",
    "import_spark",
    "moments",
    "predict",
    "session",
]

MOST_FAILURES = 4  # of a task, before the job fails: as on a cluster
LOOPBACK = "127.0.0.1"
SECONDS = 0.5  # between two looks at what is done
ROWS_PER_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"


def predict(
    images: Any,
    predictor: BatchPredictor,
    *,
    out: str | Path | None = None,
    spark: "SparkSession | None" = None,
    workers: int | None = None,
    rows_per_part: int | None = None,
) -> Any:
    """Answer images with labels, in Python workers that load the model once each.

    Parameters
    ----------
    images : DataFrame, path or sequence of paths
        A DataFrame with a column of images, such as the source ``binaryFile`` gives it
        (``image_column="content"``; it has no row for an empty file); see
        `image_batches`. Or paths that all machines
        can read: of images (files, folders, a ``.csv``), or of Parquet tables with a
        column of images or of features.
    predictor : BatchPredictor
        With ``adapt``, all images of paths are judged together; of a DataFrame, those
        of a batch.
    out : str or Path, optional
        For paths: folder for the results, which all machines can write.
    spark : SparkSession or None, default=None
        For paths: the session; None for the active one, or a new one.
    workers : int or None, default=None
        For paths: tasks that run at once; None for Spark's ``defaultParallelism``. Only
        the size of parts follows from it.
    rows_per_part : int or None, default=None
        For paths: images of a file of results; None for 64 to 16384.

    Returns
    -------
    answered : DataFrame or Report
        Of paths, in their order.

    Raises
    ------
    ZeroShotError
        If something given cannot be used; that is told before any image is read.
    """
    return answer(
        images,
        predictor,
        out=out,
        spark=spark,
        workers=workers,
        rows_per_part=rows_per_part,
    )


def embed(
    images: Any,
    embedder: BatchEmbedder,
    *,
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    spark: "SparkSession | None" = None,
    workers: int | None = None,
    rows_per_part: int | None = None,
) -> Any:
    """Compute the features of images, in Python workers that load the network once.

    Parameters
    ----------
    images : DataFrame, path or sequence of paths
        As for `predict`.
    embedder : BatchEmbedder
    out : str or Path, optional
        As for `predict`.
    labels : sequence of str, optional
        For paths: of each image, to stand beside its features.
    spark, workers, rows_per_part : optional
        As for `predict`.

    Returns
    -------
    features : DataFrame or Report
    """
    return answer(
        images,
        embedder,
        out=out,
        labels=labels,
        spark=spark,
        workers=workers,
        rows_per_part=rows_per_part,
    )


def moments(
    features: "DataFrame",
    *,
    features_column: str = "features",
    label_column: str = "label",
    normalize: bool = True,
) -> LabelledMoments:
    """Sum up features with labels, where these lie; one sum comes to the driver.

    Parameters
    ----------
    features : DataFrame
        With a column of arrays of numbers and one of labels.
    features_column, label_column : str
        Their names.
    normalize : bool, default=True
        The parameter of the projection that will learn.

    Returns
    -------
    moments : LabelledMoments
        For `ZeroShotClassifier.fit_moments`.
    """
    import_spark()
    names = (features_column, label_column)
    settings = {
        "normalize": normalize,
        "sample_every": max(1, features.count() // SAMPLE),
    }
    n = features.sparkSession.sparkContext.defaultParallelism
    parts = features.select(*names).coalesce(n)
    sums = parts.mapInArrow(_Sums(names, settings), "moments binary")
    merged = sums.repartition(1).mapInArrow(_merged, "moments binary").collect()
    if not merged:
        raise LabelError("Expected images with labels. Got none.")
    found: LabelledMoments = pickle.loads(merged[0]["moments"])
    return found


class _Sums:
    """Sums up a partition."""

    def __init__(self, names: tuple[str, str], settings: dict[str, Any]) -> None:
        self._names, self._settings = names, settings

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        total, rows = MomentsSum(**self._settings), 0
        for batch in batches:
            if len(batch):
                total.add(*arrays_of(batch, *self._names))
                rows += len(batch)
        if rows:
            yield _binary("moments", [pickle.dumps(total.result())])


def _merged(batches: Iterable[Any]) -> Iterator[Any]:
    sums = (pickle.loads(cell.as_py()) for batch in batches for cell in batch[0])
    if (first := next(sums, None)) is not None:
        found = reduce(LabelledMoments.merge, sums, first)
        yield _binary("moments", [pickle.dumps(found)])


def _binary(name: str, cells: list[bytes]) -> Any:
    import pyarrow as pa

    return pa.record_batch({name: pa.array(cells, pa.binary())})


@contextmanager
def image_batches(spark: "SparkSession", rows: int = 64) -> Iterator[None]:
    """Let Spark hand images to Python a few at a time, in actions of the block.

    Its default is 10,000 rows at once, which of photographs are gigabytes.

    Parameters
    ----------
    spark : SparkSession
    rows : int, default=64
        Images at once.

    Yields
    ------
    nothing : None
        Afterwards the session's setting is what it was.
    """
    before = str(spark.conf.get(ROWS_PER_BATCH))
    spark.conf.set(ROWS_PER_BATCH, str(rows))
    try:
        yield
    finally:
        spark.conf.set(ROWS_PER_BATCH, before)


@contextmanager
def session(
    address: str | None = None, workers: int | None = None
) -> "Iterator[SparkSession]":
    """Start Spark for a block, with settings that suit Python workers with a model.

    Parameters
    ----------
    address : str or None, default=None
        The master, such as ``"spark://host:7077"`` or ``"yarn"``; None for this
        machine, where tasks that fail are tried again as on a cluster.
    workers : int or None, default=None
        Tasks at once on this machine; None for one on each core.

    Yields
    ------
    spark : SparkSession
        Stopped afterwards, unless it was there before.

    Raises
    ------
    MissingExtraError
        If PySpark is not installed, or there is no Java.
    """
    sql = import_spark()
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise MissingExtraError(
            "Expected Java 17, which Spark runs on. Got no program 'java' and no "
            "JAVA_HOME. Install it (Debian: apt-get install openjdk-17-jre-headless)."
        )
    before = sql.SparkSession.getActiveSession()
    builder = sql.SparkSession.builder.appName("zeroshot")
    settings = {
        "spark.python.worker.reuse": "true",  # else a model is read for every part
        "spark.ui.showConsoleProgress": "false",
    }
    if address is None:
        address = f"local[{workers or '*'},{MOST_FAILURES}]"
        os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)
        settings |= {
            "spark.driver.host": LOOPBACK,
            "spark.driver.bindAddress": LOOPBACK,
            "spark.ui.enabled": "false",
        }
        # Read when Spark starts; without it, workers are the first python3 of PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.master(address).getOrCreate()
    try:
        yield spark
    finally:
        if before is None:
            spark.stop()


def import_spark() -> Any:
    """Return the module ``pyspark.sql``, or raise `MissingExtraError`.

    Returns
    -------
    module : module
    """
    try:
        import_module("pyarrow")
        return import_module("pyspark.sql")
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the packages 'pyspark' and 'pyarrow'. Got: {error}. Run: pip "
            f'install "zeroshot[spark]"'
        ) from error


def answer(
    images: Any,
    form: Form,
    *,
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    spark: Any = None,
    workers: int | None = None,
    rows_per_part: int | None = None,
) -> Any:
    """Do what `predict` and `embed` do, for either form.

    Parameters
    ----------
    images : as for `predict`
    form : BatchPredictor or BatchEmbedder
    out, labels, spark, workers, rows_per_part : optional
        As for `embed`.

    Returns
    -------
    answered : as for `predict`
    """
    sql = import_spark()
    form.check()
    is_frame = hasattr(images, "mapInArrow")
    if is_frame is (out is not None):
        raise ArtifactError(
            f"Expected a DataFrame, or paths and a folder for the results (out). Got "
            f"'{type(images).__name__}' and out={out!r}. Write the DataFrame that you "
            f"get with its own write.parquet."
        )
    if is_frame:
        return images.mapInArrow(_Answers(form), _schema(images, form))
    assert out is not None
    if spark is None:
        spark = sql.SparkSession.builder.getOrCreate()
    n = workers or spark.sparkContext.defaultParallelism
    job = Job.of(
        images, form, out, labels=labels, rows_per_part=rows_per_part, workers=n
    )
    return do(job, form, _Engine(spark))


def _schema(frame: Any, form: Form) -> Any:
    """Return the columns that stay and those that are new."""
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType

    names = frame.columns
    kept = [field for field in frame.schema.fields if field.name != form.image_column]
    if form.image_column in names:
        column = frame.schema[form.image_column]
        kind = column.dataType.typeName()
        if kind == "string":
            kept = frame.schema.fields
        elif kind == "array" and isinstance(form, BatchPredictor):
            kept = [field for field in kept if field.name != "error"]
    return StructType([*kept, *from_arrow_schema(form.schema()).fields])


class _Answers:
    """Answers record batches: Spark warns of pandas 3 with each batch of pandas."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for table in self._form.iterate(batches):
            if "features" in table.schema.names:  # Spark has lists of any length only
                place = table.schema.get_field_index("features")
                lists = table["features"].cast(pa.list_(pa.float32()))
                table = table.set_column(place, "features", lists)
            yield from table.to_batches()


class _Engine:
    """Runs the parts of a job, each as a task of Spark."""

    def __init__(self, spark: Any) -> None:
        self._spark = spark

    def __call__(self, task: Task, numbers: Sequence[int]) -> Iterator[Any]:
        context, group = self._spark.sparkContext, f"zeroshot {uuid4()}"
        # Spark gives results when all are there; an accumulator, with each task.
        early = context.accumulator({}, _Joined())
        places = self._spark.range(0, len(numbers), 1, len(numbers))
        done = places.mapInArrow(_Parts(task, numbers, early), "result binary")

        def collect() -> dict[int, Any]:
            context.setJobGroup(group, "zeroshot")
            results = (pickle.loads(row["result"]) for row in done.collect())
            return {place: one for some in results for place, one in some.items()}

        told: set[int] = set()
        with ThreadPoolExecutor(1, "zeroshot-spark") as pool:
            job = pool.submit(collect)
            try:
                while len(told) < len(numbers):
                    wait([job], SECONDS)
                    found = job.result() if job.done() else early.value
                    for place in found.keys() - told:
                        told.add(place)
                        yield found[place]
            finally:
                if not job.done():
                    context.cancelJobGroup(group)


class _Parts:
    """Does the parts of a task; what comes of each is told in bytes."""

    def __init__(self, task: Task, numbers: Sequence[int], early: Any) -> None:
        self._task, self._numbers, self._early = task, list(numbers), early

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            places = batch.column("id").to_pylist()
            results = {place: self._task(self._numbers[place]) for place in places}
            self._early.add(results)
            yield _binary("result", [pickle.dumps(results)])


class _Joined:
    """How Spark adds up dicts."""

    def zero(self, value: dict[int, Any]) -> dict[int, Any]:
        """Return what nothing is added to."""
        return {}

    def addInPlace(self, one: dict[int, Any], other: dict[int, Any]) -> dict[int, Any]:
        """Return both."""
        return one | other
