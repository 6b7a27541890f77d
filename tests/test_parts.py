"""Jobs in parts, by processes of this machine: whole, in order, and not done twice."""

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_runs import error_of, in_shell, run, succeed
from job_cases import (
    LABELS,
    ROWS,
    Killer,
    assert_same,
    columns,
    expected,
    make_job,
    processes,
)

from zeroshot.errors import ArtifactError, ZeroShotError
from zeroshot.serving import BatchEmbedder, BatchPredictor
from zeroshot.serving.local import answer
from zeroshot.serving.local import run as run_locally


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    make_job(folder)
    return folder


@pytest.fixture(scope="module")
def predictor(job):
    return BatchPredictor(job / "model", LABELS)


def workers() -> list[int]:
    return [p for p, (_, command) in processes().items() if "spawn_main" in command]


@pytest.fixture(scope="module")
def done(job, predictor):
    """Return the folder of a job of two processes, of which one was killed."""
    out = job / "done"
    with Killer(out, 2, workers) as killer:
        report = answer(job / "images", predictor, out, workers=2, rows_per_part=ROWS)
    assert len(killer.killed) == 1
    assert (report.n_rows, report.n_errors, report.n_parts) == (320, 3, 16)
    return out


def test_answers_in_parts_are_those_of_one_process(job, done):
    assert_same(columns(pq.read_table(done)), expected(job))


def test_finished_parts_are_not_done_again(job, done, predictor):
    files = sorted(done.glob("part-*.parquet"))
    before = {file: file.stat().st_mtime_ns for file in files}
    lost = files[3].read_bytes()
    files[3].unlink()
    report = answer(job / "images", predictor, done, workers=1)
    assert report.n_before == 15
    after = {file: file.stat().st_mtime_ns for file in files}
    assert [file for file in files if before[file] != after[file]] == [files[3]]
    assert pq.read_table(files[3]).equals(pq.read_table(pa.BufferReader(lost)))


PROGRAM = """
import sys
from zeroshot.serving import BatchPredictor
from zeroshot.serving.local import answer
if __name__ == "__main__":
    folder, out = sys.argv[1:]
    predictor = BatchPredictor(folder + "/model", sys.stdin.read().split(","))
    report = answer(folder + "/images", predictor, out, workers=1, rows_per_part=4)
    print(report.n_before, report.n_rows)
"""


def test_job_whose_driver_was_killed_goes_on(job, tmp_path):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(PROGRAM)
    command = [sys.executable, program, job, out]
    first = subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    first.stdin.write(",".join(LABELS))
    first.stdin.close()
    end = time.monotonic() + 60
    while len(list(out.glob("part-*.parquet"))) < 3 and time.monotonic() < end:
        time.sleep(0.002)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    written = len(list(out.glob("part-*.parquet")))
    assert 3 <= written < 80
    second = subprocess.run(
        command, input=",".join(LABELS), capture_output=True, text=True
    )
    assert second.stdout == f"{written} 320\n", second.stderr
    assert_same(columns(pq.read_table(out)), expected(job))
    assert not [file for file in out.iterdir() if "unfinished" in file.name]


def test_images_of_a_job_are_judged_together(job, tmp_path):
    together = BatchPredictor(job / "model", LABELS, adapt=True)
    answer(job / "images", together, tmp_path, workers=1, rows_per_part=77)
    assert_same(columns(pq.read_table(tmp_path)), expected(job, adapt=True))
    (tmp_path / "part-00002.parquet").unlink()
    report = answer(job / "images", together, tmp_path, workers=1)
    assert report.n_before == 4
    assert_same(columns(pq.read_table(tmp_path)), expected(job, adapt=True))
    kept = sorted(path.name for path in (tmp_path / "_zeroshot").iterdir())
    assert kept == ["batch.npz", "job.json", "rows.parquet"]


def test_tables_of_features_are_answered_in_their_order(job, tmp_path):
    labels = [f"class {i % 7}" for i in range(320)]
    features, out = tmp_path / "features", tmp_path / "out"
    embedder = BatchEmbedder("color-hog")
    answer(
        job / "images", embedder, features, labels=labels, workers=1, rows_per_part=99
    )
    found = pq.read_table(features)
    assert found.column_names == ["path", "label", "features", "error"]
    assert found["label"].to_pylist() == labels
    tables = found.drop_columns(["label"]), found.drop_columns(["label"]).slice(200)
    for i, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=64)
    form = BatchPredictor(job / "model", LABELS, image_column="features")
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    report = answer(files, form, out, workers=1)
    assert (report.n_rows, report.n_errors) == (440, 4)
    answers, wanted = columns(pq.read_table(out)), expected(job)
    wanted = {name: [*cells, *cells[200:]] for name, cells in wanted.items()}
    assert_same(answers, wanted)


def test_features_of_another_backbone_are_refused(job, tmp_path):
    about = {b"zeroshot": b'{"name": "vgg16", "fingerprint": "another"}'}
    features = pa.array([[0.5] * 458], pa.list_(pa.float32(), 458))
    table = pa.table({"features": features}).replace_schema_metadata(about)
    pq.write_table(table, tmp_path / "f.parquet")
    form = BatchPredictor(job / "model", LABELS, image_column="features")
    with pytest.raises(ZeroShotError, match="'vgg16' of fingerprint 'another'"):
        answer(tmp_path / "f.parquet", form, tmp_path / "out", workers=1)


def test_images_in_a_column_of_a_table_are_answered(job, predictor, tmp_path):
    paths = sorted((job / "images").iterdir())
    cells = {"bytes": [path.read_bytes() for path in paths], "path": map(str, paths)}
    table = pa.table({name: pa.array(list(column)) for name, column in cells.items()})
    (tmp_path / "images").mkdir()
    pq.write_table(table, tmp_path / "images" / "a.parquet", row_group_size=50)
    answer(tmp_path / "images", predictor, tmp_path / "out", workers=1)
    assert_same(columns(pq.read_table(tmp_path / "out")), expected(job))


def test_true_labels_of_a_table_stay_beside_those_answered(job, tmp_path):
    files = sorted((job / "images").iterdir())[:4]
    answer(
        files, BatchEmbedder("color-hog"), tmp_path / "f", labels=[*"abcd"], workers=1
    )
    form = BatchPredictor(job / "model", LABELS, image_column="features")
    answer(tmp_path / "f", form, tmp_path / "out", workers=1)
    found = pq.read_table(tmp_path / "out")
    assert found["given_label"].to_pylist() == [*"abcd"]
    assert found["label"].to_pylist() == expected(job)["label"][:4]


def test_folder_of_another_job_is_refused(job, done, predictor, tmp_path):
    other = BatchPredictor(job / "model", LABELS[:2])
    with pytest.raises(ArtifactError, match="of other model, labels or settings"):
        answer(job / "images", other, done)
    with pytest.raises(ArtifactError, match=r"of other images\. Choose"):
        answer(sorted((job / "images").iterdir())[:9], predictor, done)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ArtifactError, match="holds something else"):
            answer(job / "images", predictor, out)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_record_or_parts_that_were_changed_are_told(job, predictor, tmp_path):
    files = sorted((job / "images").iterdir())[:8]
    answer(files, predictor, tmp_path, workers=1, rows_per_part=4)
    part = tmp_path / "part-00000.parquet"
    pq.write_table(
        pq.read_table(part)
        .slice(1)
        .replace_schema_metadata({b"zeroshot": b'{"errors": 0}'}),
        part,
    )
    with pytest.raises(ArtifactError, match=r"Expected 8 rows in .* Got 7"):
        answer(files, predictor, tmp_path)
    (tmp_path / "_zeroshot" / "job.json").write_text("{")
    with pytest.raises(ArtifactError, match="whose record is damaged"):
        answer(files, predictor, tmp_path)


def test_images_that_are_no_paths_are_refused(predictor, tmp_path):
    with pytest.raises(ArtifactError, match=r"one of type 'bytes'\. Write"):
        answer([b"content"], predictor, tmp_path / "out")


def test_processes_that_die_again_and_again_end_the_job():
    with pytest.raises(ZeroShotError, match="Got 4 that died"):
        list(run_locally(os._exit, [0, 1], 2))


# The command line


def test_predict_and_embed_in_parts_from_the_command_line(job, tmp_path):
    ours = (job / "images", "-l", ",".join(LABELS), "--workers", 1)
    out = tmp_path / "answers.parquet"
    said = succeed("predict", job / "model", *ours, "--engine", "local", "--out", out)
    assert said.stdout.endswith("(320 rows in 5 files, 3 images could not be read)\n")
    assert_same(columns(pq.read_table(out)), expected(job))
    said = run("predict", job / "model", *ours, "--out", out, "--fail-on-error")
    assert said.exit_code == 3
    assert "in 5 files; 5 were there, 3 images could not be read" in said.stdout
    features = tmp_path / "features.parquet"
    embed = ("embed", job / "images", "-b", "color-hog", "--engine", "local")
    succeed(*embed, "--out", features, "--workers", 1)
    again = tmp_path / "again.parquet"
    ours = (features, "-l", ",".join(LABELS), "--workers", 1, "--out", again)
    succeed("predict", job / "model", *ours)
    assert_same(columns(pq.read_table(again)), expected(job))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "local"], "Give --out"),
        (["--out", "o", "--explain"], "without --multi-label and --explain"),
        (["--out", "o", "--address", "auto"], "not with --engine local"),
        (["--out", "o", "--on-error", "skip"], "every image has a row"),
        (["--out", "o", "-p", "ridge"], "zeroshot fit --pretrained"),
    ],
)
def test_options_that_do_not_go_together_are_told(options, told, job):
    done = run("predict", job / "model", job / "images", "-l", "red star", *options)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_unknown_label_and_missing_images_are_told_before_any_work(job, tmp_path):
    ours = ("--out", tmp_path / "out", "--workers", 1)
    line = error_of("predict", job / "model", job / "images", "-l", "red sdar", *ours)
    assert "'sdar'" in line
    line = error_of("predict", job / "model", job / "none", "-l", "red star", *ours)
    assert "no such file or folder" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("engine", "package", "extra"),
    [("ray", "ray", "ray"), ("spark", "pyspark", "spark")],
)
def test_engine_that_is_not_installed_is_named(engine, package, extra, job, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('not here')")
    done = in_shell(
        *("predict", job / "model", job / "images", "-l", "red star"),
        *("--engine", engine, "--out", tmp_path / "out"),
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f'pip install "zeroshot[{extra}]"' in done.stderr


def test_spark_without_java_says_so(job, tmp_path):
    done = in_shell(
        *("predict", job / "model", job / "images", "-l", "red star"),
        *("--engine", "spark", "--out", tmp_path / "out"),
        PATH=str(tmp_path),
        JAVA_HOME="",
    )
    assert done.returncode == 1
    assert "Expected Java 17" in done.stderr
