"""The first use of a Keras network on a CPU: converted, checked, timed and kept.

What is kept is the content for one route, and which: LiteRT, or a frozen graph of
TensorFlow where that is faster. A second process neither converts nor times.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.checked import Route
from zeroshot.backbones.keras.frozen_graph import FrozenGraph, frozen_graph
from zeroshot.backbones.keras.litert_conversion import LiteRTNetwork, litert_model
from zeroshot.backbones.keras.network import Network
from zeroshot.storage.cache import cache_root, replace_file

__all__ = [
    "ConversionError",
    "convert",
    "converted_file",
    "kept_route",
    "photographs",
    "read_converted",
]

logger = logging.getLogger("zeroshot")

LITERT, REFUSED = "LiteRT", "refused"
FROZEN, IN_BATCHES = "frozen graph", "frozen graph in batches"
KERAS = "Keras' own graph"  # for comparison; `Model.predict` is slower than that
OPENED: Mapping[str, Callable[[bytes], Route]] = {
    LITERT: LiteRTNetwork,
    FROZEN: FrozenGraph,
    IN_BATCHES: partial(FrozenGraph, in_batches=True),
}

# Of a feature, relative to the largest one of its image. 1e-4 is promised of any image,
# these are four.
TOLERANCE = 2e-5
LOWEST_COSINE = 0.9  # quantised; MobileNetV2 has 0.95 at worst on 30 photographs
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
# NEEDS_FLEX_OPS, NEEDS_CUSTOM_OPS of TensorFlow's converter_error_data.proto: LiteRT
# lacks an operation, and will lack it in the next process, too.
LASTING_ERRORS = {1, 2}

# A route of TensorFlow must be that much faster than LiteRT: its import alone takes
# 3 s, in which LiteRT computes the features of 60 photographs with ResNet50. Batches
# must be that much faster than single images, whose features are always the same bits.
MARGIN = 1.15
# Freezing a graph gains no more than this (1.0 to 1.1 measured): where LiteRT is that
# much faster than Keras' own graph, none is frozen, which takes some seconds.
FREEZING_GAINS = 1.5
QUICK = 0.002  # seconds for an image, in which it is not even decoded: LiteRT will do
SECONDS = 1.0  # of one comparison, unless one round takes longer
LEAST_ROUNDS, MOST_ROUNDS = 2, 10


class ConversionError(Exception):
    """A network cannot be converted, or gives other features then; says why."""


@dataclass(frozen=True)
class _Candidate:
    """A route that was checked, and what is kept of it."""

    route: str
    content: bytes
    run: Route


@dataclass(frozen=True)
class _Cost:
    """Seconds for the four photographs: least of some rounds."""

    clock: float
    processor: float  # of all cores; other programs disturb it less

    def gain_over(self, other: "_Cost") -> float:
        """Return how many times as fast this is, by the measure that says less."""
        return min(other.clock / self.clock, other.processor / self.processor)

    def beside(self, other: "_Cost") -> str:
        """Return in words how many times as fast this is."""
        clock, processor = other.clock / self.clock, other.processor / self.processor
        return f"speed {clock:.1f} by the clock and {processor:.1f} by processor time"


def converted_file(fingerprint: str) -> Path:
    """Return where the conversion is kept of the backbone that has a fingerprint.

    It is of one version of TensorFlow and of LiteRT. The number of threads is no part
    of the name: processes with more or fewer of them give the same features, by the
    same route. There may be no such file.
    """
    key = f"{fingerprint} {version('tensorflow')} {version('ai-edge-litert')}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return cache_root() / "networks" / f"{name}.network"


def read_converted(path: Path) -> Route | None:
    """Return the kept conversion, or None where there is none or it is damaged.

    Raises ConversionError if what is kept is the reason why there can be none.
    """
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    digest, line, content = whole[:32], *whole[32:].partition(b"\n")[::2]
    if hashlib.sha256(whole[32:]).digest() != digest:
        return None
    kept = json.loads(line)
    if kept["route"] == REFUSED:
        raise ConversionError(kept["note"])
    return OPENED[kept["route"]](content)


def kept_route(path: Path) -> str | None:
    """Say which route is kept, without opening it; None where none is."""
    try:
        with path.open("rb") as file:
            file.seek(32)
            kept = json.loads(file.readline())
            return f"{kept['route']}: {kept['note']}"
    except (OSError, ValueError, KeyError, TypeError):  # none, or it is damaged
        return None


def convert(network: Network, path: Path, *, quantised: bool = False) -> Route:
    """Convert a network, compare its features with Keras', time it and keep it.

    The comparison is on photographs: on noise a network's features say little. What is
    kept may be the reason why it can never be converted; what may pass, such as a full
    disk or memory, is not. A cache that cannot be written is no error, and two
    processes may do this at once.

    ``quantised``: to int8, with the ranges that the photographs need, whatever its
    speed. Raises ConversionError if TensorFlow cannot convert it, or features of a
    photograph differ: any by more than 2e-5 of that photograph's largest one;
    quantised, if their cosine is below 0.9.
    """
    images = photographs(network.input_size)
    expected = network(images)
    try:
        model = litert_model(
            network.compiled, network.model.weights, images if quantised else None
        )
        converted = LiteRTNetwork(model)
        got = converted(images)
    except Exception as error:  # the converter and the interpreter raise many kinds
        reason = f"{type(error).__name__}: {error}"[:300]
        lacks = {each.error_code for each in getattr(error, "errors", None) or []}
        if lacks & LASTING_ERRORS:
            _keep(path, REFUSED, reason)
        raise ConversionError(reason) from error
    if reason := (_cosine_fault if quantised else _fault)(got, expected):
        _keep(path, REFUSED, reason)
        raise ConversionError(reason)
    chosen, note = _Candidate(LITERT, model, converted), "8 bits, not timed"
    if not quantised:
        chosen, note = _fastest(network, chosen, images, expected)
    _keep(path, chosen.route, note, chosen.content)
    logger.info("Converted, once for this machine. %s: %s.", chosen.route, note)
    return chosen.run


def photographs(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return four photographs that every installation has: (4, *size, 3) uint8."""
    height, width = size
    folder = files("skimage.data")  # a package: its wheel holds them, none is fetched
    images = []
    for name in PHOTOGRAPHS:
        with folder.joinpath(name).open("rb") as file, Image.open(file) as image:
            images.append(np.asarray(image.convert("RGB").resize((width, height))))
    return np.stack(images)


def _fastest(
    network: Network,
    litert: _Candidate,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
) -> tuple[_Candidate, str]:
    """Return the route to be taken, and in words its speed beside that of others.

    TensorFlow's where it is faster than LiteRT by the margin, or LiteRT is slower than
    Keras; in batches only where all others are slower than Keras by the margin.
    """
    found = {LITERT: litert}
    costs = _costs(network, found, images)
    if (
        costs[LITERT].clock > QUICK * len(images)
        and costs[LITERT].gain_over(costs[KERAS]) < FREEZING_GAINS
    ):
        found |= _frozen(network, images, expected)
    chosen = LITERT
    if FROZEN in found:
        costs = _costs(network, found, images)
        gain = costs[FROZEN].gain_over(costs[LITERT])
        if gain >= (1 if costs[KERAS].gain_over(costs[LITERT]) > 1 else MARGIN):
            chosen = FROZEN
        if costs[KERAS].gain_over(costs[chosen]) >= MARGIN:
            chosen = IN_BATCHES
    speeds = {route: costs[route].beside(costs[KERAS]) for route in found}
    taken = speeds.pop(chosen)
    others = "".join(f"; {route}: {speed}" for route, speed in speeds.items())
    return found[chosen], f"{taken}, in multiples of {KERAS}{others}"


def _frozen(
    network: Network, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> dict[str, _Candidate]:
    """Return the routes by a frozen graph; none where that fails or is not exact."""
    try:
        content = frozen_graph(network)
        found = {
            route: _Candidate(route, content, OPENED[route](content))
            for route in (FROZEN, IN_BATCHES)
        }
        reasons = [_fault(each.run(images), expected) for each in found.values()]
    except Exception as error:  # TensorFlow raises many kinds, for want of memory, too
        reasons = [f"{type(error).__name__}: {error}"[:300]]
    if any(reasons):
        logger.info("No frozen graph: %s", max(reasons))
        return {}
    return found


def _costs(
    network: Network, found: Mapping[str, _Candidate], images: NDArray[np.uint8]
) -> dict[str, _Cost]:
    """Time routes, and the network itself, by turns; each has run before."""
    runs: dict[str, Route] = {KERAS: network}
    runs |= {route: each.run for route, each in found.items()}
    costs = dict.fromkeys(runs, _Cost(inf, inf))
    start = time.perf_counter()
    for n in range(MOST_ROUNDS):
        if n >= LEAST_ROUNDS and time.perf_counter() - start > SECONDS:
            break
        for route, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run(images)
            costs[route] = _Cost(
                min(costs[route].clock, time.perf_counter() - clock),
                min(costs[route].processor, time.process_time() - processor),
            )
    return costs


def _fault(got: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    """Return what is wrong with features, or nothing."""
    largest = np.abs(expected).max(axis=1)
    difference = np.abs(got - expected).max(axis=1)
    if (difference <= TOLERANCE * largest).all():  # not so where one is NaN
        return ""
    worst = float((difference / np.maximum(largest, 1e-30)).max())
    return f"its features differ by {worst:.1e} of the largest one."


def _cosine_fault(got: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(((got * expected).sum(axis=1) / np.maximum(lengths, 1e-30)).min())
    if worst >= LOWEST_COSINE:
        return ""
    return f"the cosine of its features to the exact ones is {worst:.2f}."


def _keep(path: Path, route: str, note: str, content: bytes = b"") -> None:
    line = json.dumps({"route": route, "note": note}).encode()
    kept = b"\n".join((line, content))
    with suppress(OSError), replace_file(path) as temporary:  # else again next time
        temporary.write_bytes(hashlib.sha256(kept).digest() + kept)
