"""Past one process: Ray, Spark and local processes; kills; memory; training from sums.

Each part runs by itself, on this machine alone::

    python benchmarks/scale.py --part engines|kills|memory|fit|plan [--write]

``engines``: photographs, 5 % of them damaged, answered by two workers of each engine.
``kills``: workers killed in mid-job, and the program that drives them. ``memory``: of
workers, over many tiny images. ``fit``: a model from a Parquet folder of features.
``plan``: what the plan of docs/scale.md is made of, and one point that checks it.
"""

import os

# Each worker has one core, and so has what it is compared with.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray would kill workers where other programs fill the memory of the machine.
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")

import argparse
import shutil
import tempfile
from pathlib import Path

from pages import RESULTS, write_page
from real_tasks import real_data
from scale_features import fit, plan
from scale_jobs import engines, kills, memory

PAGE = RESULTS / "scale.md"
PARTS = {
    "engines": (engines, 10_000, 256),
    "kills": (kills, 2_000, 50),
    "memory": (memory, 100_000, 1000),
    "fit": (fit, 2_000_000, 0),
    "plan": (plan, 1_000_000, 16_384),
}


def main() -> None:
    """Run one part, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--images", type=int, help="how many, or rows of features")
    parser.add_argument("--rows", type=int, help="of a part of a job")
    parser.add_argument("--folder", help="where to work; several GB")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    given = parser.parse_args()
    measure, n, rows = PARTS[given.part]
    data = real_data()
    os.environ.setdefault("KERAS_HOME", str(data / "keras"))
    work = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        text = measure(data, work, given.images or n, given.rows or rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(text)
    if given.write:
        below, until = f"<!-- {given.part} -->", f"<!-- end of {given.part} -->"
        write_page(PAGE, text, below=below, until=until)


if __name__ == "__main__":
    main()
