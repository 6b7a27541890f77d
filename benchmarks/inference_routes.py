"""How fast the routes to a network's features are, and how far the features differ.

Routes: Keras `predict`, the plain compiled graph, LiteRT, which is used on a CPU, and
LiteRT quantised to int8, which is opt-in and not exact. Photographs of scikit-image in
batches of 32, already decoded and resized; runs are interleaved, and what is printed
are medians of ratios to `predict`::

    python benchmarks/inference_routes.py [ROUNDS]

MobileNetV2 has its published weights where ``ZEROSHOT_DATA`` names the real data, and
random ones elsewhere; the rest has random weights.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import markdown_table

from zeroshot.backbones.keras.litert_conversion import (
    ConversionError,
    LiteRTNetwork,
    convert,
    photographs,
    read_converted,
)
from zeroshot.backbones.keras.network import Network, scale_pixels
from zeroshot.backbones.keras.table import applications
from zeroshot.backbones.keras.weights import build_without_top, published_weights

ROUNDS = 5
BATCH = 32
NETWORKS = ("mobilenet-v2", "resnet50")

Route = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def build(name: str) -> Network:
    """Return the network as a compiled graph."""
    row = applications()[name]
    weights = None
    if name == "mobilenet-v2" and "ZEROSHOT_DATA" in os.environ:
        os.environ["KERAS_HOME"] = str(Path(os.environ["ZEROSHOT_DATA"]) / "keras")
        weights = published_weights(row)
    size = (row.size, row.size)
    return Network(build_without_top(name, size, weights), size, row.scaling)


def routes_of(name: str) -> dict[str, Route]:
    """Return the routes, and print what a conversion costs."""
    network = build(name)
    scaling = applications()[name].scaling

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = scale_pixels(images.astype(np.float32), scaling)
        features: NDArray[np.float32] = network.model.predict(
            pixels, batch_size=BATCH, verbose=0
        )
        return features

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        start = time.perf_counter()
        convert(network, path)
        converted = time.perf_counter()
        kept = read_converted(path)
        read = time.perf_counter()
        try:
            quantised = convert(network, Path(folder) / "int8.tflite", quantised=True)
        except ConversionError as error:
            print(f"{name}: no int8: {error}")
            quantised = None
    assert isinstance(kept, LiteRTNetwork)
    print(f"{name}: conversion {converted - start:.1f} s, once; ", end="")
    print(f"reading it again {read - converted:.2f} s")
    routes = {"predict": predict, "graph": network, "LiteRT": kept}
    return routes if quantised is None else routes | {"LiteRT int8": quantised}


def measure(name: str, rounds: int) -> list[tuple[str, ...]]:
    """Return rate, ratio and difference of each route."""
    routes = routes_of(name)
    some = photographs(routes["graph"].input_size)  # type: ignore[attr-defined]
    images = np.concatenate([some] * (BATCH // len(some)))
    expected = routes["predict"](images)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    differences = {
        route: float((np.abs(run(images) - expected) / largest).max())
        for route, run in routes.items()
    }
    seconds: dict[str, list[float]] = {route: [] for route in routes}
    for _ in range(rounds):
        for route, run in routes.items():
            start = time.perf_counter()
            run(images)
            seconds[route].append(time.perf_counter() - start)
    rows: list[tuple[str, ...]] = []
    for route, values in seconds.items():
        rate = len(images) / statistics.median(values)
        ratio = statistics.median(
            reference / value
            for reference, value in zip(seconds["predict"], values, strict=True)
        )
        cells = f"{rate:.0f}", f"{ratio:.2f}", f"{differences[route]:.0e}"
        rows.append((name, route, *cells))
    return rows


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"Medians of {rounds} interleaved rounds, {os.cpu_count()} cores\n")
    rows = [row for name in NETWORKS for row in measure(name, rounds)]
    header = "network", "route", "images/s", "x predict", "largest difference"
    print(f"\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    main()
