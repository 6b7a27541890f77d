"""Images to features: speed, second pass, memory, and agreement with plain Keras.

    ZEROSHOT_DATA=... KERAS_HOME=$ZEROSHOT_DATA/keras python benchmarks/features.py

All parts take some 20 minutes on 2 cores. ``--part`` chooses (several may be given),
``--quick`` takes a tenth of the images, ``--write`` puts the tables into
results/features.md. Real photographs: ImageNet (1000, short side 256) and
Tiny-ImageNet.

- ``speed``: images/s of the first pass over a folder of JPEGs with mobilenet-v2; beside
  it the two ways that tutorials show, and each stage alone. All take turns, each with
  an empty cache of features; ratios are medians over the turns.
- ``second``: another label list on the same 10,000 images, in a new process.
- ``memory``: peak of a process that predicts 50,000 images, beside one of 500. The
  network sees 32 x 32 pixels, so that this ends; reading and keeping are the same.
  Linux only.
- ``families``: one small network of each family of keras.applications, random weights,
  beside the plain Keras call on the same pixels.
- ``scale``: what decoding JPEGs at a reduced scale changes.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pages import RESULTS, markdown_table, new_parser, write_page
from PIL import Image
from real_tasks import VECTORS

from zeroshot import registry
from zeroshot.backbones.keras.table import applications
from zeroshot.backbones.keras.weights import build_without_top
from zeroshot.embeddings import open_vectors
from zeroshot.features import extract_features
from zeroshot.images import as_image_list, fit_image, read_fitted, read_image
from zeroshot.images.decoding import ENOUGH
from zeroshot.storage.contents import clear_cache

PAGE = RESULTS / "features.md"
MEASURED = "## Measured"
TURNS = 5
# The smallest of each family.
FAMILIES = (
    *("convnext-tiny", "densenet121", "efficientnet-b0", "efficientnet-v2-b0"),
    *("inception-resnet-v2", "inception-v3", "mobilenet", "mobilenet-v2"),
    *("mobilenet-v3-small", "nasnet-mobile", "resnet50", "resnet50-v2", "vgg16"),
    "xception",
)


def main() -> None:
    """Measure what was asked for and print it."""
    parts = {
        "speed": measure_speed,
        "second": measure_second_pass,
        "memory": measure_memory,
        "families": measure_families,
        "scale": measure_scale,
    }
    parser = new_parser(__doc__.partition("\n")[0], PAGE)
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    options = parser.parse_args()
    folder = Path(os.environ["ZEROSHOT_DATA"]) / "images"
    share = 10 if options.quick else 1
    tables = []
    with tempfile.TemporaryDirectory(prefix="zeroshot-benchmark-") as cache:
        os.environ["ZEROSHOT_CACHE"] = cache
        for part in options.part:
            tables.append(parts[part](folder, share))
            print(tables[-1], flush=True)
    if options.write:
        write_page(PAGE, "\n".join(tables), below=MEASURED)


# Speed of the first pass.


class NoNetwork:
    """Stands in the place of a backbone: what is left is reading."""

    def __init__(self, backbone: Any) -> None:
        self.name, self.fingerprint = "no-network", "no-network"
        self.dim, self.input_size = backbone.dim, backbone.input_size
        self.card = backbone.card

    def embed(self, images: Any) -> Any:
        """Return zeros."""
        return np.zeros((len(images), self.dim), np.float32)


def measure_speed(folder: Path, share: int) -> str:
    """Compare the first pass with Keras' two usual ways and with each stage alone."""
    source = folder / "imagenet-sample"
    paths = as_image_list(source)[:: share if share == 1 else share // 2]
    with linked(paths) as images:
        return _speed_table(images, len(paths))


def _speed_table(images: Path, n: int) -> str:
    import keras
    from keras.applications.mobilenet_v2 import preprocess_input

    backbone = registry.resolve_backbone("mobilenet-v2")
    model = keras.applications.MobileNetV2(include_top=False, pooling="avg")
    paths = as_image_list(images)
    one_by_one = paths[: max(20, n // 20)]
    pixels = np.stack([read_fitted(p, backbone.input_size) for p in paths])

    def ours() -> None:
        extract_features(images, backbone)

    def dataset() -> None:
        batches = keras.utils.image_dataset_from_directory(
            images,
            labels=None,
            image_size=backbone.input_size,
            shuffle=False,
            verbose=False,
        )
        model.predict(batches.map(preprocess_input).prefetch(2), verbose=0)

    def loop() -> None:
        for path in one_by_one:
            image = keras.utils.load_img(path, target_size=backbone.input_size)
            batch = preprocess_input(keras.utils.img_to_array(image)[None])
            model.predict(batch, verbose=0)

    def decode() -> None:
        extract_features(images, NoNetwork(backbone), cache=False)

    def network() -> None:
        for start in range(0, n, 32):
            backbone.embed(pixels[start : start + 32])

    ways: dict[str, tuple[Callable[[], None], int]] = {
        "`extract_features`, everything": (ours, n),
        "`image_dataset_from_directory` + `predict`": (dataset, n),
        "`load_img` + `predict`, one by one": (loop, len(one_by_one)),
        "decode only": (decode, n),
        "network only": (network, n),
    }
    backbone.embed(pixels[:1])  # converts the network, once
    dataset(), loop()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS):
        names = list(ways)
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            clear_cache("features")
            way, n_images = ways[name]
            started = time.perf_counter()
            way()
            rates[name].append(n_images / (time.perf_counter() - started))
    first, keras_way, one, decode_only, network_only = map(np.array, rates.values())
    slower = np.minimum(decode_only, network_only)
    both = 1 / (1 / decode_only + 1 / network_only)
    return table(
        f"First pass over {n} photographs of ImageNet (short side 256), mobilenet-v2 "
        f"at 224, empty cache; medians of {TURNS} turns, {os.cpu_count()} cores. "
        f"Either stage alone uses all cores, so together they can do no more than the "
        f"last row: reading ahead fills gaps, it adds no processor",
        ("way", "images/s", "`extract_features` is", "wanted"),
        [
            ("`extract_features`, everything", rate(first), "", ""),
            (list(ways)[1], rate(keras_way), ratio(first / keras_way), ">= 2"),
            (list(ways)[2], rate(one), ratio(first / one), ">= 8"),
            ("decode only", rate(decode_only), ratio(first / decode_only), ""),
            ("network only", rate(network_only), ratio(first / network_only), ""),
            ("the slower of these two", rate(slower), ratio(first / slower), ">= 0.85"),
            ("both, one after the other", rate(both), ratio(first / both), ""),
        ],
    )


@contextmanager
def linked(paths: list[Any]) -> Iterator[Path]:
    """Give a folder that holds links to these files."""
    with tempfile.TemporaryDirectory(prefix="zeroshot-images-") as folder:
        for path in paths:
            os.symlink(path, Path(folder, Path(path).with_suffix(".jpg").name))
        yield Path(folder)


# The second pass.

FIT = """
import sys
import numpy as np
from zeroshot import ZeroShotClassifier
from zeroshot.images import as_image_list
paths = as_image_list(sys.argv[1])[:40]
labels = np.array(["zebra", "okapi"])[np.arange(len(paths)) % 2]
clf = ZeroShotClassifier(sys.argv[3], sys.argv[4])
clf.fit(paths, labels).save(sys.argv[2])
"""
PREDICT = r"""
import json, sys, time
began = time.perf_counter()
import re
from pathlib import Path
import numpy as np
from zeroshot import load
clf = load(sys.argv[2])
paths = sys.argv[1]
if len(sys.argv) > 4:
    from zeroshot.images import as_image_list
    paths = list(map(str, as_image_list(paths)))[: int(sys.argv[4])]
started = time.perf_counter()
labels = sys.argv[3].split(",")
n = len(clf.predict(paths, labels))
ended = time.perf_counter()
# Not ru_maxrss: that of a process is at least its parent's when it was started.
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([n, ended - started, peak, "tensorflow" in sys.modules]))
"""


def run(code: str, *arguments: object) -> tuple[Any, float]:
    """Run code in a new process; return what it printed, and seconds of the process."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    return importlib.import_module("json").loads(done.stdout or "null"), seconds


def measure_second_pass(folder: Path, share: int) -> str:
    """Compare a pass in a new process, with other labels, with the first one."""
    images = as_image_list(folder / "tiny-imagenet-val")[::share]
    rows = []
    with tempfile.TemporaryDirectory() as model, copied_flat(images) as all_images:
        vectors = folder.parent / "vectors" / VECTORS
        words = [word for word in open_vectors(vectors).vocabulary() if word.isalpha()]
        one, other = (",".join(words[i : i + 200]) for i in (1000, 2000))
        pizza = folder / "caltech-classes" / "pizza"
        run(FIT, pizza, f"{model}/m", "mobilenet-v2", vectors)
        clear_cache("features", "networks", "tfhub")
        (n, first, _, _), whole_first = run(PREDICT, all_images, f"{model}/m", one)
        again = [run(PREDICT, all_images, f"{model}/m", other) for _ in range(TURNS)]
        second = float(np.median([seconds for (_, seconds, _, _), _ in again]))
        whole = float(np.median([seconds for _, seconds in again]))
        loaded = any(tensorflow for (_, _, _, tensorflow), _ in again)
        rows = [
            ("`predict`", f"{first:.1f}", f"{second:.2f}", f"{first / second:.0f}"),
            (
                "the whole process, with its imports",
                f"{whole_first:.1f}",
                f"{whole:.2f}",
                f"{whole_first / whole:.0f}",
            ),
        ]
    return table(
        f"Two passes over {n} images of Tiny-ImageNet, mobilenet-v2 at 224, each in a "
        f"new process with 200 other words; the second "
        f"{'imports' if loaded else 'does not import'} TensorFlow (wanted: 100 times "
        f"faster; median of {TURNS})",
        ("what", "first, s", "second, s", "times faster"),
        rows,
    )


@contextmanager
def copied_flat(images: list[Any]) -> Iterator[Path]:
    """Give a folder of copies, named by number (names of files repeat in classes)."""
    with tempfile.TemporaryDirectory(prefix="zeroshot-images-") as folder:
        for i, image in enumerate(images):
            shutil.copyfile(image, Path(folder, f"{i:06}.jpg"))
        yield Path(folder)


# Memory.


def measure_memory(folder: Path, share: int) -> str:
    """Compare the peak memory for many images with that for few."""
    few, many = 500, 50_000 // share
    originals = as_image_list(folder / "tiny-imagenet-val")
    contents = [Path(path).read_bytes() for path in originals[:2000]]
    network = "mobilenet-v2:32,none"
    with (
        tempfile.TemporaryDirectory() as model,
        tempfile.TemporaryDirectory(prefix="zeroshot-images-") as images,
    ):
        for i in range(many):  # behind the end of a JPEG anything may stand
            content = contents[i % len(contents)] + i.to_bytes(4, "big")
            Path(images, f"{i:06}.jpg").write_bytes(content)
        # Converted now, or the small run would and the large one would not.
        registry.resolve_backbone(network).embed(np.zeros((1, 32, 32, 3), np.uint8))
        pizza = folder / "caltech-classes" / "pizza"
        run(FIT, pizza, f"{model}/m", network, "random:300")
        peaks = []
        for n in (few, many):
            clear_cache("features")
            (done, _, peak, _), _ = run(PREDICT, images, f"{model}/m", "zebra", n)
            assert done == n
            peaks.append(peak / 1024)
            (_, _, again, _), _ = run(PREDICT, images, f"{model}/m", "okapi", n)
            peaks.append(again / 1024)
    rows = [
        (
            what,
            f"{peaks[0 + i]:.0f}",
            f"{peaks[2 + i]:.0f}",
            f"{peaks[2 + i] - peaks[i]:.0f}",
            "<= 300",
        )
        for i, what in enumerate(("first pass", "second pass, from the cache"))
    ]
    return table(
        f"Peak memory of a process that predicts images given as paths, MiB "
        f"({network}, 1280 numbers an image)",
        ("what", f"{few} images", f"{many} images", "more", "wanted"),
        rows,
    )


# Agreement with Keras.


def measure_families(folder: Path, share: int) -> str:
    """Compare features of one network of each family with those of plain Keras."""
    import keras

    paths = as_image_list(folder / "imagenet-sample")[::250]
    rows = []
    for name in FAMILIES if share == 1 else FAMILIES[7::3]:
        row = applications()[name]
        backbone = registry.resolve_backbone(f"{name}:none")
        pixels = np.stack([read_fitted(p, backbone.input_size) for p in paths])
        ours = backbone.embed(pixels)
        module = getattr(keras.applications, row.module)
        # The same random weights: those of the backbone, in Keras' own network.
        weights = build_without_top(name, backbone.input_size, None).get_weights()
        plain = getattr(keras.applications, row.constructor)(
            include_top=False,
            weights=None,
            pooling="avg",
            input_shape=(*backbone.input_size, 3),
        )
        plain.set_weights(weights)
        scaled = module.preprocess_input(pixels.astype(np.float32))
        theirs = plain.predict(scaled, verbose=0)
        largest = np.abs(theirs).max(axis=1, keepdims=True)
        difference, itself = (
            float((np.abs(other - theirs) / largest).max())
            for other in (ours, np.asarray(plain(scaled, training=False)))
        )
        fits = "yes" if difference <= 1e-4 else "NO"
        rows.append((name, f"{difference:.1e}", fits, f"{itself:.1e}"))
        keras.backend.clear_session()
    return table(
        f"Largest difference of a feature from that of Keras' `predict` on the same "
        f"{len(paths)} photographs, relative to the largest feature of the image, and "
        f"beside it that of calling the Keras model without a graph; random weights, "
        f"default route",
        ("network", "difference", "<= 1e-4", "Keras against itself"),
        rows,
    )


# JPEGs at a reduced scale.


def measure_scale(folder: Path, share: int) -> str:
    """Compare images decoded at a reduced scale with those decoded in full."""
    paths = as_image_list(folder / "imagenet-sample")[::share]
    rows = []
    for left in (1, 2, ENOUGH):
        side = 128 // left  # half the scale leaves 128 pixels of 256
        pairs = []
        for path in paths:
            with Image.open(path) as image:
                image.draft(None, (image.width // 2, image.height // 2))
                reduced = np.asarray(image.convert("RGB"))
            full = fit_image(read_image(path), (side, side))
            pairs.append((fit_image(reduced, (side, side)), full))
        halved, full = (
            np.stack(images).astype(int) for images in zip(*pairs, strict=True)
        )
        difference = np.abs(halved - full)
        rows.append(
            (
                f"{left} times{' (used)' if left == ENOUGH else ''}",
                f"{difference.mean():.2f}",
                f"{np.percentile(difference, 99):.0f}",
                f"{difference.max()}",
                f"{hog_cosine(halved, full):.4f}",
            )
        )
    large = Image.open(paths[0]).convert("RGB").resize((4000, 3000))
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        large.save(file.name, quality=90)
        seconds = [
            timed(lambda: read_fitted(file.name, (224, 224))),
            timed(lambda: fit_image(read_image(file.name), (224, 224))),
        ]
    return table(
        f"Half-scale decoding against full decoding of {len(paths)} photographs, by "
        f"how many times the wanted size is left to be averaged; pixels in levels of "
        f"255, cosine of `color-hog` features. Reading a JPEG of 12 megapixels for "
        f"224 x 224 takes {seconds[0] / seconds[1]:.2f} of the time of full decoding",
        ("left", "mean", "99th percentile", "largest", "median cosine"),
        rows,
    )


def hog_cosine(one: Any, other: Any) -> float:
    """Return the median cosine of hand-made features of two sets of images."""
    hog = registry.resolve_backbone("color-hog")
    a, b = (
        hog.embed(
            np.stack([fit_image(i.astype(np.uint8), hog.input_size) for i in images])
        )
        for images in (one, other)
    )
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.median((a * b).sum(axis=1) / norms))


def timed(call: Callable[[], object]) -> float:
    """Return the least seconds of five calls."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def rate(values: Any) -> str:
    """Return a median without decimals."""
    return f"{np.median(values):.0f}"


def ratio(values: Any) -> str:
    """Return a median ratio, and its range over the turns."""
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table below its title."""
    return f"{title}.\n\n{markdown_table(columns, rows)}\n"


if __name__ == "__main__":
    main()
