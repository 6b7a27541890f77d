"""What the HTTP service costs, keeps and survives, beside the same work in process.

Everything is a ratio within one run: of images per second to those of
`extract_features`, of a request to `predict`. Clients and service share the machine's
processors. Needs the real data (``ZEROSHOT_DATA``) and the extra ``serve``.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pages import RESULTS, markdown_table, new_parser, write_page
from serving_attacked import ended, hostile
from serving_clients import (
    LABELS,
    N_CLIENTS,
    Client,
    by_clients,
    median_ms,
    predict_request,
    serving,
)

from zeroshot import ZeroShotClassifier, extract_features, load

PAGE = RESULTS / "serving.md"
MEASURED = "## Measured"


def in_process(model: Path, photographs: Sequence[bytes]) -> tuple[float, float, float]:
    """Return images per second, and ms of one new and of one known photograph."""
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("ZEROSHOT_CACHE")
        os.environ["ZEROSHOT_CACHE"] = cache
        try:
            classifier = load(model)
            n = len(photographs) // 2
            classifier.predict(photographs[-32:], LABELS)  # warm
            began = time.perf_counter()
            extract_features(photographs[:n], classifier.backbone_)
            rate = n / (time.perf_counter() - began)
            new = photographs[n : n + 100]
            ms = median_ms(lambda i: classifier.predict([new[i]], LABELS), len(new))
            known = median_ms(lambda i: classifier.predict([new[0]], LABELS), 50)
        finally:
            os.environ.pop("ZEROSHOT_CACHE")
            if before is not None:
                os.environ["ZEROSHOT_CACHE"] = before
    return rate, ms, known


def speed(model: Path, photographs: list[bytes]) -> list[tuple[str, str, str]]:
    """Return the rows of the first table: what, measured, ratio."""
    rate, new_ms, known_ms = in_process(model, photographs)
    n = len(photographs) // 2
    distinct, more = photographs[:n], photographs[n : n + 100]
    rows = [("`extract_features`, in process", f"{rate:.0f} images/s", "1")]
    with serving(model) as server:
        warm = Client(server.address)
        for image in photographs[-32:]:
            warm.ask(predict_request([image]))
        for each, some in ((1, distinct), (8, photographs[n + 100 : -40])):
            requests = [
                predict_request(some[i : i + each])
                for i in range(0, len(some) - each + 1, each)
            ]
            seconds = by_clients(server.address, requests)
            new = len(requests) * each / seconds
            told = f"{N_CLIENTS} clients, distinct photographs, {each} a request"
            rows.append((told, f"{new:.0f} images/s", f"{new / rate:.2f}"))
        ours = median_ms(lambda i: warm.ask(predict_request([more[i]])), len(more))
        known = median_ms(lambda i: warm.ask(predict_request([more[0]])), 200)
        for each in (1, 16):
            requests = [
                predict_request(distinct[i : i + each])
                for _ in range(4 if each == 1 else 16)
                for i in range(0, n - each + 1, each)
            ]
            seconds = by_clients(server.address, requests)
            again = len(requests) * each / seconds
            told = f"{N_CLIENTS} clients, known photographs, {each} a request"
            rows.append((told, f"{again:.0f} images/s", f"{again / rate:.1f}"))
    rows += [
        ("`predict` of one new photograph, in process", f"{new_ms:.1f} ms", "1"),
        ("one client, one new photograph", f"{ours:.1f} ms", f"{ours / new_ms:.2f}"),
        ("`predict` of a known photograph, in process", f"{known_ms:.1f} ms", "1"),
        ("one client, a known one", f"{known:.1f} ms", f"{known / known_ms:.2f}"),
    ]
    return rows


def memory(
    model: Path, photographs: list[bytes], words: list[str], n: int
) -> list[tuple[str, ...]]:
    """Send n requests with 200 lists of labels; watch memory and open files."""
    draw = random.Random(0)
    lists = [draw.sample(words, 20) for _ in range(200)]
    rows = []
    with serving(model) as server:
        done = 0
        for step in (n // 10, n // 2, n):
            some = [
                predict_request([draw.choice(photographs[:500])], draw.choice(lists))
                for _ in range(step - done)
            ]
            by_clients(server.address, some)
            done = step
            time.sleep(6)  # idle connections are closed
            rows.append((f"{step:,}", f"{server.memory() / 1024:.0f}", server.files()))
    growth = float(rows[-1][1]) / float(rows[0][1]) - 1
    return [(*map(str, row),) for row in rows] + [("growth", f"{growth:+.1%}", "")]


def main() -> None:
    """Measure, print, and with ``--write`` keep."""
    parser: argparse.ArgumentParser = new_parser(__doc__, PAGE)
    parser.add_argument("--photographs", type=int, default=1200)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--attack", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    data = Path(os.environ["ZEROSHOT_DATA"])
    os.environ.setdefault("KERAS_HOME", str(data / "keras"))
    files = sorted((data / "images" / "caltech-classes").rglob("*.jpg"))
    random.Random(0).shuffle(files)
    photographs = [file.read_bytes() for file in files[: options.photographs]]
    vectors = data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        classifier = ZeroShotClassifier("mobilenet-v2", str(vectors), random_state=0)
        classifier.fit_pretrained().save(model)
        vocabulary = classifier.embeddings_.vocabulary()
        words = [w for w, _ in zip(vocabulary, range(20_000), strict=False)]
        words = [word for word in words if word.isalpha()]
        table = markdown_table(
            ("what", "measured", "ratio"), speed(model, photographs), "---:"
        )
        print(table, flush=True)
        kept = markdown_table(
            ("after requests", "memory, MB", "open files"),
            memory(model, photographs, words, options.requests),
            "---:",
        )
        print(f"\n{kept}\n", flush=True)
        lines = ended(model, photographs)
        print("\n".join(lines), flush=True)
        lines += hostile(model, photographs, options.attack)
        print("\n".join(lines[2:]), flush=True)
    text = "\n\n".join(
        [
            f"{len(photographs)} photographs, mobilenet-v2; clients and service share "
            f"{os.cpu_count()} cores, whose load before was {busy:.1f}.",
            table,
            kept,
            "\n".join(f"- {line}" for line in lines),
        ]
    )
    if options.write:
        write_page(PAGE, text, below=MEASURED)


if __name__ == "__main__":
    main()
