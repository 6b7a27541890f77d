"""Ray Data: labels and features of images, on the machines of a Ray cluster.

Needs the extra ``ray``. A dataset gives a dataset, lazily; images or tables by their
paths give a folder of Parquet files, and a job that was cut goes on where it was.
"""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

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

__all__ = ["answer", "embed", "import_ray", "moments", "predict", "session"]

READERS_SHARE = 8  # of the CPUs one in so many is left for reading a dataset


def predict(
    images: Any,
    predictor: BatchPredictor,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    rows_per_batch: int = 64,
    rows_per_part: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
) -> Any:
    """Answer images with labels, by actors that load the model once each.

    Parameters
    ----------
    images : ray.data.Dataset, path or sequence of paths
        A dataset with a column of images, such as ``ray.data.read_binary_files(paths,
        include_paths=True)`` gives it. Or paths that all machines can read: of images
        (files, folders, a ``.csv``), or of Parquet tables with a column of images or of
        features.
    predictor : BatchPredictor
        With ``adapt``, all images of paths are judged together; of a dataset, those of
        a batch.
    out : str or Path, optional
        For paths: folder for the results, which all machines can write. A dataset has
        its own ``write_parquet``.
    workers : int or None, default=None
        Actors; None for as many as the cluster's CPUs hold, less an eighth of them for
        a dataset. Leave some CPUs: where actors have all, none is left to read it.
    rows_per_batch : int, default=64
        Rows of a dataset that an actor is given at once.
    rows_per_part : int or None, default=None
        For paths: images of a file of results; None for 64 to 16384.
    num_cpus, num_gpus : float, optional
        Of each actor. Its threads are as many as its CPUs.

    Returns
    -------
    answered : ray.data.Dataset or Report
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
        workers=workers,
        rows_per_batch=rows_per_batch,
        rows_per_part=rows_per_part,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )


def embed(
    images: Any,
    embedder: BatchEmbedder,
    *,
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    workers: int | None = None,
    rows_per_batch: int = 64,
    rows_per_part: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
) -> Any:
    """Compute the features of images, by actors that load the network once each.

    Parameters
    ----------
    images : ray.data.Dataset, path or sequence of paths
        As for `predict`.
    embedder : BatchEmbedder
    out : str or Path, optional
        As for `predict`.
    labels : sequence of str, optional
        For paths: of each image, to stand beside its features.
    workers, rows_per_batch, rows_per_part, num_cpus, num_gpus : optional
        As for `predict`.

    Returns
    -------
    features : ray.data.Dataset or Report
    """
    return answer(
        images,
        embedder,
        out=out,
        labels=labels,
        workers=workers,
        rows_per_batch=rows_per_batch,
        rows_per_part=rows_per_part,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )


def moments(
    features: Any,
    *,
    features_column: str = "features",
    label_column: str = "label",
    normalize: bool = True,
) -> LabelledMoments:
    """Sum up features with labels, block by block where these lie.

    Parameters
    ----------
    features : ray.data.Dataset
        With a column of lists of numbers and one of labels.
    features_column, label_column : str
        Their names.
    normalize : bool, default=True
        The parameter of the projection that will learn.

    Returns
    -------
    moments : LabelledMoments
        For `ZeroShotClassifier.fit_moments`.
    """
    import_ray()
    every = max(1, features.count() // SAMPLE)
    names = (features_column, label_column)
    settings = {"normalize": normalize, "sample_every": every}
    parts = features.select_columns(list(names)).map_batches(
        _summed,
        fn_kwargs={"names": names, "settings": settings},
        batch_size=None,
        batch_format="pyarrow",
    )
    each = (pickle.loads(row["moments"]) for row in parts.iter_rows())
    found: LabelledMoments | None = None
    for sums in each:
        found = sums if found is None else found.merge(sums)
    if found is None:
        raise LabelError("Expected images with labels. Got none.")
    return found


def _summed(table: Any, names: tuple[str, str], settings: dict[str, Any]) -> Any:
    import pyarrow as pa

    results = []
    if len(table):
        total = MomentsSum(**settings)
        total.add(*arrays_of(table, *names))
        results = [pickle.dumps(total.result())]
    return pa.table({"moments": pa.array(results, pa.binary())})


@contextmanager
def session(address: str | None = None, workers: int | None = None) -> Iterator[None]:
    """Start Ray for a block, or join a cluster.

    Parameters
    ----------
    address : str or None, default=None
        Of a cluster: ``"auto"``, ``"host:6379"``, ``"ray://host:10001"``; None for this
        machine.
    workers : int or None, default=None
        CPUs of this machine that are used; None for all.

    Yields
    ------
    nothing : None
        Afterwards Ray is shut down, unless it ran before.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    settings = {} if address else {"num_cpus": workers, "include_dashboard": False}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **settings,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Return the package ``ray``, with ``ray.data``, or raise `MissingExtraError`.

    Returns
    -------
    module : module
    """
    try:
        import_module("ray.data")
        return import_module("ray")
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package 'ray' with Ray Data. Got: {error}. Run: pip install "
            f'"zeroshot[ray]"'
        ) from error


def answer(
    images: Any,
    form: Form,
    *,
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    workers: int | None = None,
    rows_per_batch: int = 64,
    rows_per_part: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
) -> Any:
    """Do what `predict` and `embed` do, for either form.

    Parameters
    ----------
    images : as for `predict`
    form : BatchPredictor or BatchEmbedder
    out, labels, workers, rows_per_batch, rows_per_part, num_cpus, num_gpus : optional
        As for `embed`.

    Returns
    -------
    answered : as for `predict`
    """
    ray = import_ray()
    resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    form.check()
    is_dataset = isinstance(images, ray.data.Dataset)
    if is_dataset is (out is not None):
        raise ArtifactError(
            f"Expected a dataset, or paths and a folder for the results (out). Got "
            f"'{type(images).__name__}' and out={out!r}. Write the dataset that you "
            f"get with its own write_parquet."
        )
    if workers is None:
        if not ray.is_initialized():
            ray.init()
        n_cpus = ray.cluster_resources().get("CPU", 1)
        # Actors keep their CPUs, and a dataset has to be read beside them.
        n_cpus -= max(1, n_cpus // READERS_SHARE) if is_dataset else 0
        workers = max(1, int(n_cpus / max(num_cpus, 1e-3)))
    if is_dataset:
        settings = {"batch_size": rows_per_batch, "batch_format": "pyarrow"}
        return _mapped(ray, images, _Answers, form, workers, settings | resources)
    assert out is not None
    job = Job.of(
        images, form, out, labels=labels, rows_per_part=rows_per_part, workers=workers
    )
    return do(job, form, _Engine(ray, workers, resources))


class _Answers:
    """An actor that answers batches."""

    def __init__(self, content: Form) -> None:
        self._form = content

    def __call__(self, batch: Any) -> Any:
        return self._form(batch)


class _Parts:
    """An actor that does parts; what comes of each is told in bytes."""

    def __init__(self, content: Task) -> None:
        self._task = content

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        results = [pickle.dumps(self._task(int(number))) for number in batch["part"]]
        return {"result": np.array([*results, None], object)[:-1]}


class _Engine:
    """Runs the parts of a job."""

    def __init__(self, ray: Any, workers: int, resources: dict[str, Any]) -> None:
        self._ray, self._workers, self._resources = ray, workers, resources

    def __call__(self, task: Task, numbers: Sequence[int]) -> Iterator[Any]:
        items = [{"part": number} for number in numbers]
        parts = self._ray.data.from_items(items, override_num_blocks=len(items))
        workers = min(self._workers, len(items))
        settings = self._resources | {"batch_size": 1, "batch_format": "numpy"}
        done = _mapped(self._ray, parts, _Parts, task, workers, settings)
        for row in done.iter_rows():
            yield pickle.loads(row["result"])


def _mapped(
    ray: Any, rows: Any, actor: type, content: Any, workers: int, settings: Any
) -> Any:
    pool = ray.data.ActorPoolStrategy(size=workers)
    content = {"content": content}
    return rows.map_batches(
        actor, fn_constructor_kwargs=content, compute=pool, **settings
    )
