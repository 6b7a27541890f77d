"""From nothing to a first answer, and how long a photograph takes after it.

Serves the default files (real weights, and the 41,353 words of Numberbatch that the
real data have) on this machine, and runs the commands of the README against an empty
cache. Then, interleaved and each time on a photograph never seen before, beside
``import tensorflow``, which a network of Keras needs elsewhere::

    python benchmarks/first_use.py [--runs 7] [--write]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from pages import RESULTS, markdown_table, write_page
from real_tasks import real_data

from zeroshot import registry
from zeroshot.defaults import BACKBONE

WANTED = 0.4  # of `import tensorflow`, for one photograph
LABELS = "okapi,zebra,horse"
LOADED = (
    "import sys, zeroshot; "
    "zeroshot.load(sys.argv[1]).predict([sys.argv[2]], ['okapi', 'zebra', 'horse'])"
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def served(data: Path, folder: Path) -> ThreadingHTTPServer:
    """Serve the default files under the names that their publishers gave them."""
    folder.mkdir()
    for file in (data / "keras" / "models").glob("mobilenet_v2*"):
        shutil.copy(file, folder)
    words = data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    shutil.copy(words, folder / "numberbatch-en-19.08.txt.gz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def seconds(*command: object) -> float:
    """Run a command to its end."""
    start = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return time.perf_counter() - start


def measured(data: Path, runs: int) -> list[tuple[str, float]]:
    """Return what was run and its median seconds."""
    photographs = iter(sorted((data / "images" / "imagenet-sample").glob("*.JPEG")))
    zeroshot = (sys.executable, "-m", "zeroshot")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        server = served(data, work / "published")
        os.environ |= {
            "ZEROSHOT_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "ZEROSHOT_CACHE": str(work / "cache"),
            "KERAS_HOME": str(work / "keras"),
        }
        plain = (*zeroshot, "predict", "-l", LABELS)
        first = seconds(*plain, next(photographs))
        second = seconds(*plain, next(photographs))
        model = work / "model"
        seconds(*zeroshot, "fit", "--pretrained", "--out", model)
        commands = {
            "`import tensorflow`": (sys.executable, "-c", "import tensorflow"),
            "`zeroshot predict photo.jpg -l ...`": plain,
            "`zeroshot predict model/ photo.jpg -l ...`": (*plain, model),
            "`zeroshot.load(model).predict(...)`": (
                *(sys.executable, "-c", LOADED, model),
            ),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                more = [] if "tensorflow" in name else [next(photographs)]
                taken[name].append(seconds(*command, *more))
        server.shutdown()
    rows = [(name, statistics.median(values)) for name, values in taken.items()]
    return [
        *rows,
        ("the first call, from an empty cache", first),
        ("the second call", second),
    ]


def speeds(runs: int) -> list[tuple[str, float]]:
    """Return the median images a second of networks whose accuracy was measured."""
    onnx = real_data() / "onnx" / "efficientnet-lite0.onnx"
    specs = {
        BACKBONE: BACKBONE,
        "EfficientNet-Lite0": f"onnx:{onnx}?output=features&scaling=tf",
    }
    networks = {name: registry.resolve_backbone(spec) for name, spec in specs.items()}
    images = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for run in range(runs + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network.embed(images)
            if run:
                taken[name].append(len(images) / (time.perf_counter() - start))
    return [(name, statistics.median(values)) for name, values in taken.items()]


def main() -> None:
    """Print the table, or write it to its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = measured(real_data(), given.runs)
    unit = rows[0][1]
    table = markdown_table(
        ("what", "times `import tensorflow`", "seconds"),
        [(name, f"{value / unit:.2f}", f"{value:.2f}") for name, value in rows],
    )
    pair = speeds(given.runs)
    unit = pair[0][1]
    pairs = markdown_table(
        ("network", "times the default", "images a second"),
        [(name, f"{value / unit:.2f}", f"{value:.1f}") for name, value in pair],
    )
    print(f"{table}\n\nWanted of one photograph: at most {WANTED}\n\n{pairs}")
    if given.write:
        page = RESULTS / "first_use.md"
        write_page(page, table, below="<!-- seconds -->", until="## ")
        write_page(page, pairs, below="<!-- networks -->")


if __name__ == "__main__":
    main()
