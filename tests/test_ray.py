"""Ray Data, in a process of its own: a small job, a killed actor, damaged images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from job_cases import assert_same, columns, expected, make_job

CASES = Path(__file__).parent / "job_cases.py"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of the jobs, and what was printed of them."""
    folder = tmp_path_factory.mktemp("ray")
    make_job(folder)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", CASES, "ray", folder],
        capture_output=True,
        text=True,
        timeout=170,
        # Ray would kill workers where other programs fill the machine's memory.
        env=os.environ | {"RAY_memory_monitor_refresh_ms": "0"},
    )
    assert run.returncode == 0, run.stderr[-5000:]
    return folder, json.loads(run.stdout.splitlines()[-1])


def test_job_on_ray_outlives_a_killed_actor(done):
    _, told = done
    assert told["killed"] == 1
    assert told["report"] == [320, 3, 16, 0]


def test_answers_of_a_job_on_ray_are_those_of_one_process(done):
    folder, _ = done
    assert_same(columns(pq.read_table(folder / "out")), expected(folder))


def test_dataset_of_ray_is_answered_as_in_one_process(done):
    folder, told = done
    assert_same(told["answers"], expected(folder))


def test_sums_over_a_dataset_of_ray_are_those_over_its_files(done):
    assert done[1]["sums"] < 1e-5
