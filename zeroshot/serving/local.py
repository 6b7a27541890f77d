"""The engine that everybody has: processes of this machine."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cores import n_threads
from zeroshot.errors import ZeroShotError

if TYPE_CHECKING:
    from zeroshot.serving.jobs import Form, Report
    from zeroshot.serving.parts import Task

__all__ = ["answer", "run"]

MOST_DEATHS = 3  # of workers, with no part done in between


def answer(
    images: Any,
    form: "Form",
    out: str | Path,
    *,
    workers: int | None = None,
    labels: Sequence[str] | None = None,
    rows_per_part: int | None = None,
) -> "Report":
    """Answer images, or compute their features, in processes of this machine.

    What a cut left behind is not done again: call it again.

    Parameters
    ----------
    images : path or sequence of paths
        Of images: files, folders, a ``.csv``; or of Parquet tables that hold them or
        their features.
    form : BatchPredictor or BatchEmbedder
        With ``adapt``, all images are judged together.
    out : str or Path
        Folder for the results, Parquet files that are one table together.
    workers : int or None, default=None
        Processes; None for one on each core. They import the program that calls this:
        it must be a script with ``if __name__ == "__main__":`` around the call.
    labels : sequence of str, optional
        Of each image file, to stand beside its features.
    rows_per_part : int or None, default=None
        Images of a file of results; None for 64 to 16384.

    Returns
    -------
    report : Report

    Raises
    ------
    ZeroShotError
        If something given cannot be used; that is told before any image is read.
    """
    from zeroshot.serving.jobs import Job
    from zeroshot.serving.parts import do

    form.check()
    n = workers or n_threads()
    job = Job.of(
        images, form, out, labels=labels, rows_per_part=rows_per_part, workers=n
    )
    return do(job, form, lambda task, numbers: run(task, numbers, n))


def run(task: "Task", numbers: Sequence[int], workers: int) -> Iterator[Any]:
    """Do parts in processes, one in this process.

    A process that dies is replaced, and its parts are done anew.

    Parameters
    ----------
    task : callable
        Does one part; picklable.
    numbers : sequence of int
        Of the parts.
    workers : int
        One is this process itself.

    Yields
    ------
    result : object
        What the task returned for a part, in any order.

    Raises
    ------
    ZeroShotError
        If processes die again and again.
    """
    if workers == 1:
        yield from map(task, numbers)
        return
    left, deaths = list(numbers), 0
    while left:
        try:
            for number, result in _run_once(task, left, workers):
                left.remove(number)
                deaths = 0
                yield result
        except BrokenProcessPool as error:
            deaths += 1
            if deaths > MOST_DEATHS:
                raise ZeroShotError(
                    f"Expected processes that come to an end. Got {deaths} that died, "
                    f"one after the other, over parts {left[:5]}: {error}. Was there "
                    f"enough memory? Use fewer workers."
                ) from error


def _run_once(
    task: "Task", numbers: Sequence[int], workers: int
) -> Iterator[tuple[int, Any]]:
    # Not forked: TensorFlow and thread pools do not survive that.
    context = multiprocessing.get_context("spawn")
    n = min(workers, len(numbers))
    pool = ProcessPoolExecutor(n, context)
    try:
        with _share(max(1, n_threads() // n)):  # all processes start at the first
            waiting = {pool.submit(task, number): number for number in numbers}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _share(threads: int) -> Iterator[None]:
    """Tell processes that start in the block how many threads are theirs."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
