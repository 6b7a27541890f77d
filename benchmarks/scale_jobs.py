"""Jobs of `scale.py`: photographs on processes, Ray and Spark; kills; memory."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pages import markdown_table

from zeroshot import load
from zeroshot.integrations import ray as on_ray
from zeroshot.integrations import spark as on_spark
from zeroshot.serving import BatchPredictor, local
from zeroshot.serving.untrained import untrained

__all__ = ["WORKERS", "engines", "finishes", "kills", "memory"]

LABELS = ["zebra", "okapi", "teapot", "bridge", "leopard", "piano", "anchor", "lotus"]
WORKERS = 2
DAMAGED = 20  # one image in so many is


# Engines


def sessions() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """Return each engine: what runs around a job, and what does it."""
    return {
        "local processes": (nullcontext(), local.answer),
        "Ray": (on_ray.session(workers=WORKERS), on_ray.predict),
        "Spark": (on_spark.session(workers=WORKERS), on_spark.predict),
    }


def make_photographs(sources: list[Path], folder: Path, n: int) -> list[str]:
    """Write n different JPEGs, one in `DAMAGED` of them damaged; return their paths.

    Bytes behind the end of a JPEG are no part of the picture, and make it another file.
    """
    folder.mkdir()
    paths = []
    for i, source in zip(range(n), itertools.cycle(sources), strict=False):
        content = source.read_bytes() + i.to_bytes(8, "big")
        path = folder / f"{i:07}.jpg"
        if i % DAMAGED == DAMAGED - 1:
            kind = i // DAMAGED % 4
            content = [b"", b"no image", content[: len(content) // 2], content][kind]
            if kind == 3:  # there is no such file
                paths.append(str(path))
                continue
        path.write_bytes(content)
        paths.append(str(path))
    return paths


def photographs(data: Path, *names: str) -> list[Path]:
    """Return the photographs of some of the real data sets."""
    found = [p for name in names for p in sorted((data / "images" / name).rglob("*"))]
    return [path for path in found if path.suffix.lower() in (".jpg", ".jpeg")]


def model_of(data: Path, folder: Path, backbone: str = "mobilenet-v2") -> Path:
    """Save the model that has learnt from no images; its network is converted now."""
    vectors = str(data / "vectors" / "numberbatch-en-41k-300d.txt.gz")
    classifier = untrained(backbone, vectors)
    classifier.predict(np.zeros((1, 64, 64, 3), np.uint8), LABELS)
    classifier.save(folder)
    return folder


def finishes(out: Path) -> list[float]:
    """Return when each part was finished, in order of time."""
    return sorted(file.stat().st_mtime for file in out.glob("part-*.parquet"))


def engines(data: Path, work: Path, n: int, rows: int) -> str:
    """Answer photographs with each engine; compare speed and every bit."""
    sources = photographs(data, "caltech-classes", "imagenet-sample")
    paths = make_photographs(sources, work / "images", n)
    model = model_of(data, work / "model")
    predictor = BatchPredictor(model, LABELS)
    table, answers, local_rate = [], {}, 0.0
    for name, (session, answer) in sessions().items():
        out = work / f"out {name}"
        start = time.time()
        with session:
            began = time.time()
            report = answer(
                paths, predictor, out=out, workers=WORKERS, rows_per_part=rows
            )
        ends = finishes(out)
        warm = (len(ends) - WORKERS) * rows / (ends[-1] - ends[WORKERS - 1])
        local_rate = local_rate or warm
        answers[name] = pq.read_table(out)
        check_rows(answers[name], paths)
        table.append(
            (
                name,
                f"{warm:.0f}",
                f"{warm / local_rate:.2f}",
                f"{began - start:.1f} s",
                f"{ends[WORKERS - 1] - began - rows / (warm / WORKERS):.1f} s",
                f"{ends[-1] - start:.0f} s",
                f"{report.n_rows} / {report.n_errors}",
                "yes" if same(answers[name], answers["local processes"]) else "NO",
            )
        )
        print(table[-1], flush=True)
    whole = "not compared"
    if n <= 2000:
        whole = "the same bits" if same_as_one(model, paths, answers) else "OTHER"
    text = markdown_table(
        (
            *("engine", "images/s, warm", "of local", "starting it"),
            *("and the workers", "in all", "rows / unreadable", "same bits as local"),
        ),
        table,
        "---:",
    )
    return (
        f"{n} photographs, {WORKERS} workers of one core, {rows} images a part; "
        f"{len(paths) // DAMAGED} images damaged (empty, no image, cut off, missing): "
        f"each has its row, in the order given, with its reason. Beside `predict` of "
        f"one process: {whole}.\n\n{text}"
    )


def check_rows(table: Any, paths: list[str]) -> None:
    """Each path has one row, in order; damaged ones, and no others, have a reason."""
    assert table["path"].to_pylist() == paths
    reasons = table["error"].to_pylist()
    for i, reason in enumerate(reasons):
        assert (reason is not None) is (i % DAMAGED == DAMAGED - 1), (i, reason)


def same(one: Any, other: Any) -> bool:
    """Tell whether two tables are the same, bit for bit; NaN is NaN."""
    return one.schema == other.schema and all(
        np.array_equal(
            one[name].to_numpy(),
            other[name].to_numpy(),
            equal_nan=name in ("score", "probability"),
        )
        for name in one.column_names
    )


def same_as_one(model: Path, paths: list[str], answers: dict[str, Any]) -> bool:
    """Tell whether the answers are those of one process to all images at once."""
    classifier = load(model).set_params(on_error="nan", cache=False)
    points = classifier.points(paths)
    ranked = classifier.rank(points, LABELS, k=1)
    scores = np.array([r[0].score if r else np.nan for r in ranked], np.float32)
    table = answers["local processes"]
    names = classifier.predict(points, LABELS).tolist()
    return table["label"].to_pylist() == names and np.array_equal(
        table["score"].to_numpy(), scores, equal_nan=True
    )


# Kills


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        found[int(folder.name)] = int(stat[1]), command.decode(errors="replace")
    return found


def below(process: int) -> dict[int, tuple[int, str]]:
    """Return the processes below one."""
    found, ours = processes(), {process}
    while more := {p for p, (parent, _) in found.items() if parent in ours} - ours:
        ours |= more
    return {p: found[p] for p in ours if p in found}


def workers_of(name: str, process: int) -> list[int]:
    """Return the processes that hold a model."""
    tree = below(process)
    if name == "Ray":
        return [p for p, (_, command) in tree.items() if "MapWorker" in command]
    if name == "Spark":
        daemons = {p for p, (_, command) in tree.items() if "pyspark" in command}
        return [p for p, (parent, _) in tree.items() if parent in daemons]
    return [p for p, (_, command) in tree.items() if "spawn_main" in command]


@contextmanager
def killed(name: str, out: Path, at: list[int], log: list[int]) -> Iterator[None]:
    """Kill a worker whenever so many parts are there."""
    ended = threading.Event()

    def watch() -> None:
        left = list(at)
        while left and not ended.is_set():
            if len(list(out.glob("part-*.parquet"))) >= left[0]:
                for process in workers_of(name, os.getpid())[:1]:
                    os.kill(process, signal.SIGKILL)
                    log.append(process)
                    left.pop(0)
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def kills(data: Path, work: Path, n: int, rows: int) -> str:
    """Kill workers and drivers; compare with a job that ran in peace."""
    sources = photographs(data, "caltech-classes", "imagenet-sample")
    paths = make_photographs(sources, work / "images", n)
    for path in paths:  # for the command line: all are there
        if not os.path.exists(path):
            Path(path).write_bytes(b"not there")
    predictor = BatchPredictor(model_of(data, work / "model"), LABELS)
    local.answer(
        work / "images", predictor, work / "peace", workers=1, rows_per_part=rows
    )
    wanted = pq.read_table(work / "peace")
    parts = -(-n // rows)
    table = []
    for name, engine in (("Ray", "ray"), ("Spark", "spark")):
        session, answer = sessions()[name]
        log: list[int] = []
        out = work / f"out {name}"
        with session, killed(name, out, [parts * i // 4 for i in (1, 2, 3)], log):
            answer(
                work / "images", predictor, out=out, workers=WORKERS, rows_per_part=rows
            )
        is_same = same(pq.read_table(out), wanted)
        before, again, is_same_too = driver_killed(engine, work, rows, wanted)
        table.append(
            (
                name,
                len(log),
                "yes" if is_same else "NO",
                f"{before} of {parts}",
                again,
                "yes" if is_same_too else "NO",
            )
        )
        print(table[-1], flush=True)
    text = markdown_table(
        (
            *(
                "engine",
                "workers killed",
                "same result",
                "parts before the driver died",
            ),
            *("of them done again", "same result"),
        ),
        table,
        "---:",
    )
    return f"{n} photographs in {parts} parts, {WORKERS} workers.\n\n{text}"


DRIVER = """
import sys
from zeroshot.serving import BatchPredictor
engine, model, images, out, rows, labels = sys.argv[1:]
from zeroshot.integrations import {engine} as module
with module.session(workers=2):
    form = BatchPredictor(model, labels.split(","))
    module.predict(images, form, out=out, workers=2, rows_per_part=int(rows))
"""


def driver_killed(
    engine: str, work: Path, rows: int, wanted: Any
) -> tuple[int, int, bool]:
    """Kill -9 the program that drives a job, and run it again."""
    out = work / f"driver {engine}"
    command = [
        *(sys.executable, "-W", "ignore", "-c", DRIVER.replace("{engine}", engine)),
        *map(str, (engine, work / "model", work / "images", out, rows)),
        ",".join(LABELS),
    ]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    parts = -(-len(list((work / "images").iterdir())) // rows)
    while len(finishes(out)) < parts // 2 and first.poll() is None:
        time.sleep(0.01)
    tree = below(first.pid)
    first.kill()
    first.wait()
    end = time.time() + 30  # the engine's own processes end by themselves
    while set(tree) & set(processes()) and time.time() < end:
        time.sleep(0.2)
    for process in set(tree) & set(processes()):
        os.kill(process, signal.SIGKILL)
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    again = sum(file.stat().st_mtime_ns != stamp for file, stamp in before.items())
    return len(before), again, same(pq.read_table(out), wanted)


# Memory


def memory(data: Path, work: Path, n: int, rows: int) -> str:
    """Watch the memory of each worker over many tiny images."""
    sources = photographs(data, "tiny-imagenet-val")
    (work / "images").mkdir()
    paths = []
    for i, source in zip(range(n), itertools.cycle(sources), strict=False):
        paths.append(str(work / "images" / f"{i:07}.jpg"))
        Path(paths[-1]).write_bytes(source.read_bytes() + i.to_bytes(8, "big"))
    predictor = BatchPredictor(
        model_of(data, work / "model", "mobilenet-v2:96"), LABELS
    )
    table = []
    for name, (session, answer) in sessions().items():
        out = work / f"out {name}"
        seen: list[tuple[float, int, int]] = []
        with session, watched(name, out, n, rows, seen):
            answer(paths, predictor, out=out, workers=WORKERS, rows_per_part=rows)
        pids = {pid for _, pid, _ in seen}
        for pid in sorted(pids):
            of_one = [(share, mib) for share, each, mib in seen if each == pid]
            cells = [
                max(
                    (mib for share, mib in of_one if low <= share < low + 0.2),
                    default="",
                )
                for low in (0.1, 0.3, 0.5, 0.8)
            ]
            if all(cells):
                table.append((name, *cells))
                print(table[-1], flush=True)
    header = ("worker of", "10 to 30 % done", "30 to 50 %", "50 to 70 %", "80 to 100 %")
    return (
        f"{n} images of 64 x 64 pixels, {rows} a part; most resident memory in MiB.\n\n"
        f"{markdown_table(header, table, '---:')}"
    )


@contextmanager
def watched(
    name: str, out: Path, n: int, rows: int, seen: list[tuple[float, int, int]]
) -> Iterator[None]:
    """Note the resident memory of workers, and how much is done."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            share = min(1, len(finishes(out)) * rows / n)
            for pid in workers_of(name, os.getpid()):
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue
                mib = pages * resource.getpagesize() >> 20
                if mib > 100:  # not a launcher
                    seen.append((share, pid, mib))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()
