"""Speed of training the projections and of ranking, beside the limits and peers.

Everything compared takes turns in one process, and a ratio is the median of the ratios
of the turns: 50,000 x 2048 features of 800 classes, word vectors of 300 dimensions,
1,000 points against 20,000 and 1,000,000 labels. All numbers are random: speed carries
over, accuracy does not. Prints Markdown tables; ``--write`` puts them into
results/projections.md.

    python benchmarks/projections.py [--small] [--turns 5] [--write]
"""

import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import RESULTS, markdown_table, new_parser, write_page
from sklearn.linear_model import Ridge as SklearnRidge

from zeroshot.projections import ALE, ESZSL, SAE, SJE, DeViSE, Ridge
from zeroshot.projections.trained import TrainedProjection
from zeroshot.scoring import rank_candidates, top_k
from zeroshot.tensorflow_import import import_keras, import_tensorflow

PAGE = RESULTS / "projections.md"
START, END = "<!-- speed: made by the benchmark -->", "<!-- end of speed -->"
NUMBERS = "---:"  # their columns are aligned to the right
N_POINTS, K, DIM_TEXT = 1000, 10, 300
Floats = NDArray[np.float32]


def unit(random: np.random.Generator, *shape: int) -> Floats:
    """Return random rows of unit length."""
    rows = random.standard_normal(shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(turns: int, **programs: Callable[[], Any]) -> dict[str, list[float]]:
    """Return the seconds of each program in each turn, after one turn to warm up."""
    for program in programs.values():
        program()
    rounds = [{n: seconds(p) for n, p in programs.items()} for _ in range(turns)]
    return {name: [each[name] for each in rounds] for name in programs}


def ratio(times: dict[str, list[float]], name: str, to: str) -> str:
    """Return the median of the ratios of two programs in the same turn."""
    pairs = zip(times[name], times[to], strict=True)
    return f"{statistics.median(a / b for a, b in pairs):.2f}"


def closed_forms(X: Floats, y: NDArray[np.int64], T: Floats, turns: int) -> str:
    """Return the table of the closed forms."""

    def products() -> None:
        X.T @ X  # NumPy calls the symmetric product, half the work of a general one
        X[: len(T)].T @ T  # as large as the class sums times their vectors

    def formula() -> None:
        X.T @ X
        X.T @ T[y]

    times = take_turns(
        turns,
        products=products,
        formula=formula,
        sklearn=lambda: SklearnRidge(alpha=10.0).fit(X, T[y]),
        Ridge=lambda: Ridge().fit(X, y, class_embeddings=T),
        ESZSL=lambda: ESZSL().fit(X, y, class_embeddings=T),
        SAE=lambda: SAE().fit(X, y, class_embeddings=T),
        Ridge_raw=lambda: Ridge(normalize=False).fit(X, y, class_embeddings=T),
        ESZSL_raw=lambda: ESZSL(normalize=False).fit(X, y, class_embeddings=T),
        SAE_raw=lambda: SAE(normalize=False).fit(X, y, class_embeddings=T),
    )
    names = {
        "Ridge_raw": "`Ridge(normalize=False)`",
        "ESZSL_raw": "`ESZSL(normalize=False)`",
        "SAE_raw": "`SAE(normalize=False)`",
        "Ridge": "`Ridge()`",
        "ESZSL": "`ESZSL()`",
        "SAE": "`SAE()`",
        "sklearn": "scikit-learn's Ridge",
        "formula": "X'X and X' T[y] alone",
        "products": "X'X and T'(class sums) alone",
    }
    return markdown_table(
        (
            "closed form",
            "seconds",
            "x the formula's products",
            "x the products it does",
            "x scikit-learn's Ridge",
        ),
        [
            [
                title,
                f"{statistics.median(times[name]):.2f}",
                ratio(times, name, "formula"),
                ratio(times, name, "products"),
                ratio(times, name, "sklearn"),
            ]
            for name, title in names.items()
        ],
        NUMBERS,
    )


def trained(
    projection: TrainedProjection,
    X: Floats,
    y: NDArray[np.int64],
    T: Floats,
    turns: int,
) -> dict[str, list[float]]:
    """Return the seconds of an epoch: ours, `model.fit`'s and the products' alone.

    The two others have their turn whenever an epoch of ours ends.
    """
    tf, keras = import_tensorflow(), import_keras()
    size = projection.batch_size
    starts = range(0, len(X) - size + 1, size)
    features, vectors = tf.constant(X), tf.constant(T)
    weights = tf.zeros((X.shape[1], T.shape[1]))

    @tf.function  # type: ignore[untyped-decorator]
    def products(features: Any, weights: Any, vectors: Any) -> Any:
        total = 0.0
        for step in tf.range(len(starts)):
            # A step of training needs the weights of the one before: none may overlap.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            batch = features[step * size : (step + 1) * size]
            points = batch @ weights
            scores = tf.matmul(points, vectors, transpose_b=True)
            gradient = tf.matmul(batch, scores @ vectors, transpose_a=True)
            total += gradient[0, 0]
        return total

    model = keras.Sequential(
        [
            keras.Input((X.shape[1],)),
            keras.layers.Dense(
                T.shape[1],
                use_bias=False,
                kernel_initializer="zeros",
                kernel_regularizer=keras.regularizers.L2(projection.weight_decay / 2),
            ),
        ]
    )

    def loss(wanted: Any, points: Any) -> Any:
        wanted = tf.cast(tf.reshape(wanted, [-1]), tf.int64)
        return projection.losses(tf, points, wanted, vectors, tf.constant([0, 0]))

    model.compile(keras.optimizers.Adam(projection.learning_rate), loss)
    times: dict[str, list[float]] = {"ours": [], "model.fit": [], "products": []}
    start = time.perf_counter()
    for _ in projection._train(X, y, T, turns + 1, 0):
        times["ours"].append(time.perf_counter() - start)
        times["model.fit"].append(
            seconds(lambda: model.fit(X, y, batch_size=size, epochs=1, verbose=0))
        )
        times["products"].append(
            seconds(lambda: products(features, weights, vectors).numpy())
        )
        start = time.perf_counter()
    return {name: each[1:] for name, each in times.items()}  # the first compiles


def trained_table(X: Floats, y: NDArray[np.int64], T: Floats, turns: int) -> str:
    """Return the table of an epoch of DeViSE, SJE and ALE."""
    rows = []
    for projection in (DeViSE(), SJE(), ALE()):
        times = trained(projection, X, y, T, turns)
        epoch = statistics.median(times["ours"])
        rows.append(
            [
                type(projection).__name__,
                f"{epoch:.2f}",
                f"{len(X) / epoch:,.0f}",
                ratio(times, "model.fit", "ours"),
                ratio(times, "ours", "products"),
            ]
        )
    return markdown_table(
        (
            "one epoch",
            "seconds",
            "features/s",
            "speed, x `model.fit`",
            "time, x its matrix products",
        ),
        rows,
        NUMBERS,
    )


def rankings(n_labels: tuple[int, ...], turns: int) -> str:
    """Return the table of ranking; checks the results against a sort of all scores."""
    random = np.random.default_rng(1)
    points, rows = unit(random, N_POINTS, DIM_TEXT), []
    for n in n_labels:
        labels = unit(random, n, DIM_TEXT)
        block = min(n, 20_000)  # all scores of 1,000,000 labels would be 4 GB

        def product(labels: Floats = labels, block: int = block) -> None:
            for start in range(0, len(labels), block):
                points @ labels[start : start + block].T

        def ours(labels: Floats = labels) -> Any:
            return rank_candidates(points, labels, K)

        def with_probabilities(labels: Floats = labels) -> Any:
            return rank_candidates(points, labels, K, temperature=0.1)

        times = take_turns(
            turns, product=product, ours=ours, with_probabilities=with_probabilities
        )
        tracemalloc.start()
        ranking = ours()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        check_exact(points, labels, ranking.scores)
        rows.append(
            [
                f"{n:,}",
                f"{statistics.median(times['product']):.3f}",
                ratio(times, "ours", "product"),
                ratio(times, "with_probabilities", "product"),
                f"{peak:.0f}",
            ]
        )
    return markdown_table(
        (
            "labels",
            "matrix product, s",
            f"best {K}",
            f"best {K} with probabilities",
            "MB beyond the labels",
        ),
        rows,
        NUMBERS,
    )


def check_exact(points: Floats, labels: Floats, best: Floats) -> None:
    """Compare the best scores of some points with a full sort."""
    some = slice(0, 20)
    scores = points[some] @ labels.T
    expected = np.sort(scores, axis=1)[:, : -K - 1 : -1]
    np.testing.assert_allclose(best[some], expected, atol=1e-6)
    np.testing.assert_array_equal(
        top_k(scores, K), np.argsort(-scores, axis=1, kind="stable")[:, :K]
    )


def main() -> None:
    """Print the tables; write them into the page."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--small", action="store_true", help="a tenth of the size")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n, dim, k = (5_000, 512, 200) if options.small else (50_000, 2048, 800)
    n_labels = (20_000, 100_000) if options.small else (20_000, 1_000_000)
    random = np.random.default_rng(0)
    X, T = unit(random, n, dim), unit(random, k, DIM_TEXT)
    y = random.integers(k, size=n)
    parts = []
    for make in (
        lambda: closed_forms(X, y, T, options.turns),
        lambda: trained_table(X, y, T, options.turns),
        lambda: rankings(n_labels, options.turns),
    ):
        parts.append(make())
        print(f"{parts[-1]}\n", flush=True)
    if options.write:
        write_page(PAGE, "\n\n".join(parts), below=START, until=END)


if __name__ == "__main__":
    main()
