"""Images and a model for tests of jobs; as a program, jobs on Ray or Spark.

``python job_cases.py ray FOLDER`` does what `test_ray.py` looks at.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from zeroshot import ZeroShotClassifier, load, make_shapes
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.warning import quietly

LABELS = ["red star", "blue ring", "green square"]
ROWS = 20  # of a part
DAMAGED = {7: b"no image", 100: b"", 233: b"half"}


def make_job(folder: Path) -> None:
    """Write a model, and a folder of 320 images of which three are damaged."""
    images, labels = make_shapes(5, random_state=0)
    seen = labels != "red star"
    classifier = ZeroShotClassifier("color-hog", Attributes(*shape_attributes()))
    classifier.set_params(projection="ridge", cache=False)
    classifier.fit(images[seen], labels[seen]).save(folder / "model")
    (folder / "images").mkdir()
    for i, pixels in enumerate(images):
        file = folder / "images" / f"{i:03}.png"
        Image.fromarray(pixels).save(file)
        if i in DAMAGED:
            whole = file.read_bytes()
            half = whole[: len(whole) // 2]
            file.write_bytes(half if DAMAGED[i] == b"half" else DAMAGED[i])
    write_features(folder / "features")


def write_features(folder: Path) -> None:
    """Write 600 rows of features with labels, in two files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(2):
        features = pa.FixedSizeListArray.from_arrays(
            pa.array(random.random(300 * 40, np.float32)), 40
        )
        labels = random.choice(["a", "b", "c"][i:], 300)
        table = pa.table({"features": features, "label": labels})
        pq.write_table(table, folder / f"{i}.parquet")


def expected(folder: Path, *, adapt: bool = False) -> dict[str, list]:
    """Return what one process answers to all images at once."""
    classifier = load(folder / "model").set_params(on_error="nan", cache=False)
    with quietly():
        points = classifier.points(folder / "images")
    ranked = classifier.rank(points, LABELS, k=1, adapt=adapt)
    none = (None, np.nan, np.nan, False)
    best = [answers[0][:4] if answers else none for answers in ranked]
    return {
        "path": sorted(str(path) for path in (folder / "images").iterdir()),
        "label": classifier.predict(points, LABELS, adapt=adapt).tolist(),
        "score": [answer[1] for answer in best],
        "probability": [answer[2] for answer in best],
        "seen": [answer[3] for answer in best],
        "is_damaged": [i in DAMAGED for i in range(len(points.matrix))],
    }


def columns(table) -> dict[str, list]:
    """Return the answers in an Arrow table, to be compared with `expected`."""
    found = {name: table[name].to_pylist() for name in table.column_names}
    found["is_damaged"] = [reason is not None for reason in found.pop("error")]
    return found


def assert_same(found: dict[str, list], wanted: dict[str, list]) -> None:
    """Answers are the same bits; NaN is NaN."""
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        if name in ("score", "probability"):
            np.testing.assert_array_equal(found[name], values)
        else:
            assert found[name] == values, name


class Killer:
    """Kills a process, -9, once so many parts are written."""

    def __init__(self, out: Path, n_parts: int, find) -> None:
        self.killed: list[int] = []
        self._args = out, n_parts, find
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(5)

    def _watch(self) -> None:
        out, n_parts, find = self._args
        end = time.monotonic() + 60
        while time.monotonic() < end and not self.killed:
            if len(list(out.glob("part-*.parquet"))) >= n_parts:
                for process in find()[:1]:
                    os.kill(process, signal.SIGKILL)
                    self.killed.append(process)
            time.sleep(0.002)


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of each process below this one."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        found[int(folder.name)] = int(stat[1]), command.decode(errors="replace")
    ours, more = {os.getpid()}, True
    while more:
        more = {p for p, (parent, _) in found.items() if parent in ours} - ours
        ours |= more
    return {process: found[process] for process in ours if process in found}


def ray_actors() -> list[int]:
    return [p for p, (_, command) in processes().items() if "MapWorker" in command]


def spark_workers() -> list[int]:
    daemons = {p for p, (_, c) in processes().items() if "pyspark" in c}
    return [p for p, (parent, _) in processes().items() if parent in daemons]


def on_ray(folder: Path) -> dict:
    from zeroshot.integrations import ray as engine
    from zeroshot.serving import BatchPredictor
    from zeroshot.training import moments_of_parquet

    assert "ray" not in sys.modules  # imported when it is needed
    model = folder / "model"
    with engine.session(workers=2):
        import ray

        out = folder / "out"
        with Killer(out, 2, ray_actors) as killer:
            predictor = BatchPredictor(model, LABELS)
            report = engine.predict(
                folder / "images", predictor, out=out, rows_per_part=ROWS
            )
        images = ray.data.read_binary_files(str(folder / "images"), include_paths=True)
        frame = engine.predict(images, predictor).to_pandas()
        answers = pyarrow_of(frame.sort_values("path"))
        table = ray.data.read_parquet(str(folder / "features"))
        sums = engine.moments(table)
    return {
        "killed": len(killer.killed),
        "report": [report.n_rows, report.n_errors, report.n_parts, report.n_before],
        "answers": answers,
        "sums": difference(sums, moments_of_parquet(folder / "features")),
    }


def on_spark(folder: Path) -> dict:
    from zeroshot.integrations import spark as engine
    from zeroshot.serving import BatchPredictor
    from zeroshot.training import moments_of_parquet

    assert "pyspark" not in sys.modules
    model = folder / "model"
    with engine.session(workers=2) as spark:
        out = folder / "out"
        with Killer(out, 2, spark_workers) as killer:
            predictor = BatchPredictor(model, LABELS)
            report = engine.predict(
                folder / "images", predictor, out=out, rows_per_part=ROWS
            )
        images = spark.read.format("binaryFile").load(str(folder / "images"))
        predictor = BatchPredictor(model, LABELS, image_column="content")
        setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
        before = spark.conf.get(setting)
        with engine.image_batches(spark, 16):
            assert spark.conf.get(setting) == "16"
            found = engine.predict(images, predictor).toArrow().sort_by("path")
        assert spark.conf.get(setting) == before
        answers = columns(found.drop_columns(["modificationTime", "length"]))
        answers["path"] = [path.removeprefix("file:") for path in answers["path"]]
        sums = engine.moments(spark.read.parquet(str(folder / "features")))
    return {
        "killed": len(killer.killed),
        "report": [report.n_rows, report.n_errors, report.n_parts, report.n_before],
        "answers": answers,
        "sums": difference(sums, moments_of_parquet(folder / "features")),
    }


def pyarrow_of(frame) -> dict[str, list]:
    import pyarrow as pa

    return columns(pa.Table.from_pandas(frame, preserve_index=False))


def difference(sums, others) -> float:
    """Return by how much sums differ, of the largest; classes must be the same."""
    assert sums.classes.tolist() == others.classes.tolist()
    assert sums.moments.counts.tolist() == others.moments.counts.tolist()
    lower = np.tril_indices(len(others.moments.gram))
    gram, other = sums.moments.gram[lower], others.moments.gram[lower]
    return float(np.abs(gram - other).max() / np.abs(other).max())


if __name__ == "__main__":
    result = {"ray": on_ray, "spark": on_spark}[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(json.dumps(result))
