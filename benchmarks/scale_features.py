"""Features of `scale.py`: a model from a folder of them, and many labels for them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pages import markdown_table
from scale_jobs import WORKERS, finishes
from scipy.linalg.blas import ssyrk

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.projections import DeViSE
from zeroshot.serving import BatchPredictor, local
from zeroshot.serving.untrained import untrained
from zeroshot.training.labelled_moments import ROWS

__all__ = ["fit", "plan"]

DIM, CLASSES = 1280, 1000


# Training from features


def make_features(folder: Path, n: int) -> None:
    """Write n rows of generated features, 131,072 to a file, 16,384 to a row group."""
    folder.mkdir()
    random = np.random.default_rng(0)
    noise = random.random((16384, DIM), np.float32)
    means = random.random((CLASSES, DIM), np.float32)
    schema = pa.schema({"features": pa.list_(pa.float32(), DIM), "label": pa.string()})
    for file, start in enumerate(range(0, n, 131072)):
        path = folder / f"{file:05}.parquet"
        with pq.ParquetWriter(
            path, schema, compression="none", use_dictionary=["label"]
        ) as writer:
            for first in range(start, min(n, start + 131072), 16384):
                k = min(16384, n - first)
                y = random.integers(CLASSES, size=k)
                X = np.roll(noise, first // 16384 + 1, axis=1)[:k] + means[y]
                features = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), DIM)
                labels = pa.array([f"class {c:04}" for c in y])
                writer.write_table(pa.table([features, labels], schema))


FIT = """
import json, resource, sys, time
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.training import moments_of_parquet
start = time.perf_counter()
moments = moments_of_parquet(sys.argv[1])
summed = time.perf_counter()
words = RandomEmbeddings(300)
ZeroShotClassifier(None, words, projection=sys.argv[2]).fit_moments(moments)
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([summed - start, end - summed, peak]))
"""


def fit(data: Path, work: Path, n: int, rows: int) -> str:
    """Compare a fit from Parquet with reading it, and with the products alone."""
    del data, rows
    folder = work / "features"
    make_features(folder, n)
    size = sum(file.stat().st_size for file in folder.iterdir())
    reads, products, fits = [], [], []
    for _ in range(2):
        reads.append(seconds(partial(read_all, folder)))
        products.append(seconds(partial(multiply, n)))
        run = subprocess.run(
            [sys.executable, "-c", FIT, folder, "devise"],
            check=True,
            capture_output=True,
            text=True,
        )
        fits.append(json.loads(run.stdout))
        print(reads[-1], products[-1], fits[-1], flush=True)
    read, product = min(reads), min(products)
    summed, solved, _ = min(fits)
    peak = max(each[2] for each in fits) / 2**20
    ratio = (summed + solved) / (read + product)
    cores = os.environ["OMP_NUM_THREADS"]
    return (
        f"{n:,} rows of {DIM} features of {CLASSES} classes, {size / 1e9:.1f} GB of "
        f"Parquet; best of two, products on {cores} core(s).\n\n"
        + markdown_table(
            ("what", "seconds"),
            [
                ("reading the columns", f"{read:.1f}"),
                ("the symmetric products alone", f"{product:.1f}"),
                ("sums from Parquet", f"{summed:.1f}"),
                ("the map from the sums (devise)", f"{solved:.1f}"),
                ("fit / (reading + products)", f"{ratio:.2f}"),
                ("most resident memory of the fit", f"{peak:.2f} GiB"),
            ],
            "---:",
        )
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_all(folder: Path) -> None:
    """Read features and labels, as a fit does."""
    for path in sorted(folder.iterdir()):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=["features", "label"]):
                batch.column(0).flatten().to_numpy(zero_copy_only=False)


def multiply(n: int) -> None:
    """Multiply as many rows as there are."""
    X = np.random.default_rng(0).random((3072, DIM), np.float32)
    gram = np.zeros((DIM, DIM), np.float32, order="F")
    for _ in range(-(-n // len(X))):
        gram = ssyrk(1.0, X.T, beta=1.0, c=gram, lower=1, overwrite_c=1)


# The plan


def plan(data: Path, work: Path, n: int, rows: int) -> str:
    """Measure what the plan is made of; check it against features and many labels."""
    n_labels = 100_000
    vectors = str(data / "vectors" / "numberbatch-en-41k-300d.txt.gz")
    random = np.random.default_rng(0)
    words = [f"label {i}" for i in range(n_labels)]
    head = untrained("mobilenet-v2", vectors).projection_
    dim = head.transform(np.zeros((1, DIM), np.float32)).shape[1]
    a = random.random((4096, dim), np.float32)
    b = random.random((dim, 8192), np.float32)
    a @ b
    flops = 2 * len(a) * b.size / min(seconds(lambda: a @ b) for _ in range(5))
    # A model whose labels can be anything: random word vectors.
    names = [f"class {i}" for i in range(CLASSES)]
    X = random.random((4 * CLASSES, DIM), np.float32)
    classifier = ZeroShotClassifier(
        None, RandomEmbeddings(300), projection=DeViSE(epochs=0), random_state=0
    )
    classifier.fit(X, np.repeat(names, 4)).save(work / "model")
    make_features(work / "features", n)
    form = BatchPredictor(work / "model", words, image_column="features")
    start = time.perf_counter()
    local.answer(
        work / "features", form, work / "out", workers=WORKERS, rows_per_part=rows
    )
    took = time.perf_counter() - start
    ends = finishes(work / "out")
    products = 2.0 * n * n_labels * dim
    guess = products / (flops * WORKERS)
    out_bytes = sum(f.stat().st_size for f in (work / "out").glob("part-*.parquet"))
    return (
        f"{n:,} images as features against {n_labels:,} labels, {WORKERS} workers of "
        f"one core.\n\n"
        + markdown_table(
            ("what", "measured"),
            [
                ("matrix products of one core", f"{flops / 1e9:.0f} GFLOP/s"),
                ("length of a point", dim),
                ("bytes of an image in the results", f"{out_bytes / n:.0f}"),
                ("products alone, from that", f"{guess:.0f} s"),
                ("the job", f"{took:.0f} s"),
                ("job / products", f"{took / guess:.2f}"),
                ("files of results", len(ends)),
            ],
            "---:",
        )
    )
