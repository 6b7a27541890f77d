"""How many cores this process has to itself."""

import os

__all__ = ["n_threads"]


def n_threads() -> int:
    """Return how many threads to use: all cores that this process may use, or fewer.

    ``OMP_NUM_THREADS`` counts, as for TensorFlow: joblib, Ray and Spark set it in their
    workers.

    Returns
    -------
    n : int
        At least 1.
    """
    n_cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        n_cores = len(os.sched_getaffinity(0))
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and len(named) < 10 and int(named) > 0:
        return min(int(named), n_cores)
    return n_cores
