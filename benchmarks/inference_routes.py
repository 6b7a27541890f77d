"""How fast the routes to a network's features are, and how far the features differ.

Routes: Keras `predict`, the network's own compiled graph, LiteRT, the frozen graph of
TensorFlow, image by image and in batches, and LiteRT quantised to int8, which is opt-in
and not exact. The route that a backbone takes on this machine is marked. Photographs of
scikit-image, already decoded and resized. Runs are interleaved, and ratios to `predict`
are medians of those of each round: other programs on the machine disturb them less than
the rates, and still less the processor's time for an image, on all cores together::

    python benchmarks/inference_routes.py [--write] [--rounds N] [--batch N] [NETWORK]

Weights are random: speed does not depend on them.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import markdown_table, new_parser, write_page

from zeroshot.backbones.keras.conversion import (
    ConversionError,
    convert,
    kept_route,
    photographs,
    read_converted,
)
from zeroshot.backbones.keras.frozen_graph import FrozenGraph, frozen_graph
from zeroshot.backbones.keras.litert_conversion import LiteRTNetwork, litert_model
from zeroshot.backbones.keras.network import Network, scale_pixels
from zeroshot.backbones.keras.table import applications
from zeroshot.backbones.keras.weights import build_without_top

PAGE = Path(__file__).parent / "results" / "inference_routes.md"
MARK = "<!-- Below: written by benchmarks/inference_routes.py -->"
NETWORKS = ("mobilenet-v2", "resnet50", "efficientnet-v2-b0", "convnext-tiny")
HEADER = (
    "network",
    "route",
    "images/s",
    "x predict",
    "processor ms/image",
    "x predict",
    "largest difference",
    "same bits in any batch",
)

Route = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def build(name: str) -> Network:
    """Return the network as a compiled graph."""
    row = applications()[name]
    size = (row.size, row.size)
    return Network(build_without_top(name, size, None), size, row.scaling)


def routes_of(name: str, network: Network, batch: int) -> tuple[dict[str, Route], str]:
    """Return all routes, and which one a backbone takes; print what that costs."""
    scaling = applications()[name].scaling

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = scale_pixels(images.astype(np.float32), scaling)
        features: NDArray[np.float32] = network.model.predict(
            pixels, batch_size=batch, verbose=0
        )
        return features

    routes: dict[str, Route] = {"Keras `predict`": predict, "Keras' graph": network}
    taken = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exact.network"
        try:
            start = time.perf_counter()
            convert(network, path)
            converted = time.perf_counter()
            read_converted(path)
            read = time.perf_counter()
            print(f"{name}: first use {converted - start:.1f} s, once; ", end="")
            print(f"reading it again {read - converted:.2f} s")
            taken = (kept_route(path) or "").partition(":")[0]
        except ConversionError as error:  # random weights may magnify rounding
            print(f"{name}: {error}")
        routes["LiteRT"] = LiteRTNetwork(
            litert_model(network.compiled, network.model.weights)
        )
        content = frozen_graph(network)
        routes["frozen graph"] = FrozenGraph(content)
        routes["frozen graph in batches"] = FrozenGraph(content, in_batches=True)
        try:
            path = Path(folder) / "int8.network"
            routes["LiteRT int8 (opt-in)"] = convert(network, path, quantised=True)
        except ConversionError as error:
            print(f"{name}: no int8: {error}")
    return routes, taken or "Keras' graph"


def measure(name: str, rounds: int, batch: int) -> list[tuple[str, ...]]:
    """Return rates, ratios and differences of each route."""
    network = build(name)
    routes, taken = routes_of(name, network, batch)
    images = np.resize(photographs(network.input_size), (batch, *network.input_size, 3))
    results = {route: run(images) for route, run in routes.items()}
    expected = results["Keras `predict`"]
    largest = np.abs(expected).max(axis=1, keepdims=True)
    clock: dict[str, list[float]] = {route: [] for route in routes}
    processor: dict[str, list[float]] = {route: [] for route in routes}
    for _ in range(rounds):
        for route, run in routes.items():
            start, used = time.perf_counter(), time.process_time()
            run(images)
            clock[route].append(time.perf_counter() - start)
            processor[route].append(time.process_time() - used)

    def ratio(times: dict[str, list[float]], route: str) -> str:
        pairs = zip(times["Keras `predict`"], times[route], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    rows: list[tuple[str, ...]] = []
    for route, run in routes.items():
        difference = float((np.abs(results[route] - expected) / largest).max())
        parts = [run(images[:1]), run(images[1:4]), run(images[4:])]
        is_same = np.array_equal(np.concatenate(parts), results[route])
        rows.append(
            (
                name,
                f"**{route}**" if route == taken else route,
                f"{batch / statistics.median(clock[route]):.0f}",
                ratio(clock, route),
                f"{1000 * min(processor[route]) / batch:.1f}",
                ratio(processor, route),
                f"{difference:.0e}",
                "yes" if is_same else "no",
            )
        )
    return rows


def main() -> None:
    """Print the table, and write the page when asked to."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    given = parser.parse_args()
    rows = []
    for name in given.networks:
        rows.append(measure(name, given.rounds, given.batch))
        print(markdown_table(HEADER, rows[-1], "---:"), flush=True)
    text = f"Batches of {given.batch}, {given.rounds} interleaved rounds, "
    text += f"{os.cpu_count()} cores. In bold: the route that is taken.\n\n"
    text += markdown_table(HEADER, chain.from_iterable(rows), "---:")
    if given.write:
        write_page(PAGE, text, below=MARK)


if __name__ == "__main__":
    main()
