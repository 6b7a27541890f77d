"""Spark, in a process of its own: a small job, a killed worker, damaged images."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from job_cases import DAMAGED, assert_same, columns, expected, make_job

if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
    pytest.skip(
        "NO JAVA: Spark is not tested. Install openjdk-17-jre-headless",
        allow_module_level=True,
    )

CASES = Path(__file__).parent / "job_cases.py"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of the jobs, and what was printed of them."""
    folder = tmp_path_factory.mktemp("spark")
    make_job(folder)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", CASES, "spark", folder],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    return folder, json.loads(run.stdout.splitlines()[-1])


def test_job_on_spark_outlives_a_killed_worker(done):
    _, told = done
    assert told["killed"] == 1
    assert told["report"] == [320, 3, 16, 0]


def test_answers_of_a_job_on_spark_are_those_of_one_process(done):
    folder, _ = done
    assert_same(columns(pq.read_table(folder / "out")), expected(folder))


def test_frame_of_spark_is_answered_as_in_one_process(done):
    folder, told = done
    wanted = expected(folder)
    # Spark's own source has no row for an empty file.
    empty = [i for i, content in DAMAGED.items() if not content]
    rows = np.setdiff1d(np.arange(320), empty)
    wanted = {name: [cells[i] for i in rows] for name, cells in wanted.items()}
    assert_same(told["answers"], wanted)


def test_sums_over_a_frame_of_spark_are_those_over_its_files(done):
    assert done[1]["sums"] < 1e-5
