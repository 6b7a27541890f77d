"""What the HTTP service costs, keeps and survives, beside the same work in process.

Everything is a ratio within one run: of images per second to those of
`extract_features`, of a request to `predict`. Clients and service share the machine's
processors. Needs the real data (``ZEROSHOT_DATA``) and the extra ``serve``.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from pages import RESULTS, markdown_table, new_parser, write_page

from zeroshot import ZeroShotClassifier, extract_features, load

PAGE = RESULTS / "serving.md"
MEASURED = "## Measured"
N_CLIENTS = 16
N_SLOW, N_CUT = 50, 2
N_ATTACKERS = N_SLOW + N_CUT + 10
LABELS = ["okapi", "zebra", "horse", "panda", "airplane", "face", "piano", "lamp"]
BOUNDARY = "----zeroshot"
SCHEMATHESIS = shutil.which("schemathesis") or "schemathesis"


def post(path: str, body: bytes, kind: str) -> bytes:
    """Return a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def predict_request(images: Sequence[bytes], labels: Sequence[str] = LABELS) -> bytes:
    """Return a whole request: making it is none of the service's work."""
    parts = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        f'name="labels"\r\n\r\n{";".join(labels)}\r\n'.encode()
    ]
    for image in images:
        head = (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
            f'name="files"; filename="a.jpg"\r\n\r\n'
        )
        parts += [head.encode(), image, b"\r\n"]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return post("/predict", body, f"multipart/form-data; boundary={BOUNDARY}")


class Client:
    """A connection that sends whole requests and reads whole answers."""

    def __init__(self, address: str) -> None:
        self._place = urlsplit(address)
        self._socket: socket.socket | None = None
        self._last = 0.0

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        if time.monotonic() - self._last > 2:  # the service ends idle connections
            self.close()
        if self._socket is None:
            place = (self._place.hostname, self._place.port)
            self._socket = socket.create_connection(place, timeout=120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        while length and len(body) < int(length[1]):
            body += self._more()
        self._last = time.monotonic()
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split()[1]), body

    def _more(self) -> bytes:
        assert self._socket is not None
        part = self._socket.recv(1 << 18)
        if not part:
            raise ConnectionResetError("closed before the end of an answer")
        return part

    def close(self) -> None:
        """End the connection; the next request makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Server:
    """`zeroshot serve` as a process, with a cache of its own."""

    def __init__(self, model: Path, cache: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zeroshot", "serve", model, "--port=0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ZEROSHOT_CACHE": str(cache)},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                self.address = found[0]
                break
        else:
            raise SystemExit("The service did not start.")
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def memory(self) -> int:
        """Return the kB that it holds."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # type: ignore[index]

    def files(self) -> int:
        """Return how many files it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(sign)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(model: Path, *options: str) -> Iterator[Server]:
    """Serve a model with an empty cache in the block."""
    with tempfile.TemporaryDirectory() as cache:
        server = Server(model, Path(cache), *options)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()


def by_clients(address: str, requests: Sequence[bytes], n: int = N_CLIENTS) -> float:
    """Send requests, by n clients at once; return the seconds that they took."""
    left = iter(requests)
    lock = threading.Lock()
    wrong: list[tuple[int, bytes]] = []

    def ask() -> None:
        client = Client(address)
        while True:
            with lock:
                request = next(left, None)
            if request is None:
                client.close()
                return
            try:
                status, body = client.ask(request)
            except OSError as error:
                status, body = 0, repr(error).encode()
                client.close()
            if status != 200:
                wrong.append((status, body))

    threads = [threading.Thread(target=ask) for _ in range(n)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    return time.perf_counter() - began


def median_ms(call: Callable[[int], object], n: int) -> float:
    """Return the median time of n calls, which are given their numbers."""
    seconds = []
    for i in range(n):
        began = time.perf_counter()
        call(i)
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds))


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


def bomb() -> bytes:
    """Return a PNG of some kilobytes that claims 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + sum_

    size = (30_000).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + b"\x08\x02\x00\x00\x00")
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


def hostile_requests(photograph: bytes) -> dict[str, bytes]:
    """Return requests that must all be refused, by what they are."""
    many = json.dumps(
        {
            "inputs": "aGk=",
            "parameters": {"candidate_labels": [f"label {i}" for i in range(100_000)]},
        }
    )
    as_json = "application/json"
    return {
        "a bomb": predict_request([bomb()]),
        "100,000 labels": post("/", many.encode(), as_json),
        "no UTF-8": post("/", b'{"inputs": "\xff\xfe"}', as_json),
        "deep JSON": post("/", b"[" * 500_000, as_json),
        "wrong types": post("/", b'{"inputs": 7, "parameters": []}', as_json),
        "a broken image": predict_request([photograph[: len(photograph) // 2]]),
        "too large": post("/predict", bytes(25 << 20), "multipart/form-data"),
        "no form": post("/predict", b"--x\r\n", "multipart/form-data; boundary=x"),
        "unknown labels": predict_request([photograph], ["zebar", "okapy"]),
        "no tensors": post("/v2/models/model/infer", b'{"inputs": [[]]}', as_json),
    }


def attacked(
    address: str, requests: dict[str, bytes], good: bytes, seconds: float
) -> Counter[str]:
    """Send what is hostile, and good requests cut or too slow; count the answers."""
    statuses: Counter[str] = Counter()
    place = (urlsplit(address).hostname, urlsplit(address).port)
    until = time.monotonic() + seconds

    def send(name: str, request: bytes) -> None:
        while time.monotonic() < until:
            client = Client(address)
            try:
                statuses[f"{client.ask(request)[0]} {name}"] += 1
            except OSError:
                statuses[f"closed {name}"] += 1
            client.close()
            time.sleep(0.2)

    def drip() -> None:
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(place, timeout=5) as connection,
            ):
                for byte in good[:200]:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.5)
                    if time.monotonic() > until:
                        break
            statuses["slow"] += 1

    def cut() -> None:
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(place, timeout=5) as connection,
            ):
                connection.sendall(good[: len(good) // 2])
            statuses["cut"] += 1
            time.sleep(0.05)

    threads = [threading.Thread(target=send, args=one) for one in requests.items()]
    threads += [threading.Thread(target=drip) for _ in range(N_SLOW)]
    threads += [threading.Thread(target=cut) for _ in range(N_CUT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def hostile(model: Path, photographs: list[bytes], seconds: float) -> list[str]:
    """Attack for so long; return what was seen."""
    attackers = ProcessPoolExecutor(1, get_context("spawn"))
    with attackers, serving(model) as server:
        honest = Client(server.address)
        ask = [predict_request([image]) for image in photographs[:50]]
        for request in ask:
            honest.ask(request)
        new = [predict_request([image]) for image in photographs[50:]]
        usual = median_ms(lambda i: honest.ask(new[i]), 100)

        attack = (server.address, hostile_requests(photographs[0]), new[0], seconds)
        others = attackers.submit(attacked, *attack)
        fuzz = subprocess.Popen(
            [
                *(SCHEMATHESIS, "run", f"{server.address}/openapi.json"),
                *("--checks=not_a_server_error", "--max-examples=2000"),
                *("--no-color", "--workers=1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=model.parent,  # it writes a folder
        )
        until, waits, wrong = time.monotonic() + seconds, [], 0
        numbers = iter(range(10**9))
        while time.monotonic() < until:
            i = next(numbers)
            began = time.perf_counter()
            status, _ = honest.ask(new[100 + i % (len(new) - 100)])
            waits.append(time.perf_counter() - began)
            wrong += status != 200
            time.sleep(0.05)
        fuzz.send_signal(signal.SIGINT)
        try:
            fuzzed = fuzz.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            fuzz.kill()
            fuzzed = fuzz.communicate()[0]
        statuses = others.result()
        alive = server.process.poll() is None
        during = 1e3 * float(np.median(waits))
        server_errors = [name for name in statuses if name.startswith("5")]
        failed = re.findall(r"(?i)server error.*", fuzzed)
    lives = "lives" if alive else "DIED"
    found = f"server errors: {'; '.join(failed[:3])}" if failed else "no server error"
    told = Counter[str]()
    for name, n in statuses.items():
        told[name.split()[0]] += n
    return [
        f"Attacked for {seconds:.0f} s by {N_ATTACKERS} clients and schemathesis; "
        f"the process {lives}.",
        f"Answers: {', '.join(f'{n:,} x {name}' for name, n in sorted(told.items()))}; "
        f"of 5xx: {', '.join(server_errors) or 'none'}; schemathesis found "
        f"{found}.",
        f"An honest client: {len(waits)} requests, {wrong} of them not answered; the "
        f"median is {during:.0f} ms, {during / usual:.2f} times the usual one of "
        f"{usual:.0f} ms.",
    ]


def ended(model: Path, photographs: list[bytes]) -> list[str]:
    """Kill, and stop, a service that is asked; return what was seen."""
    told = []
    with tempfile.TemporaryDirectory() as cache:
        for sign in (signal.SIGKILL, signal.SIGTERM):
            server = Server(model, Path(cache))
            answered: list[int] = []
            lost: list[str] = []

            def ask(
                seed: int,
                server: Server = server,
                answered: list[int] = answered,
                lost: list[str] = lost,
            ) -> None:
                for image in photographs[seed::N_CLIENTS]:
                    client = Client(server.address)
                    try:
                        answered.append(client.ask(predict_request([image]))[0])
                    except ConnectionRefusedError:
                        return
                    except OSError as error:
                        lost.append(type(error).__name__)
                        return
                    client.close()

            threads = [threading.Thread(target=ask, args=[i]) for i in range(N_CLIENTS)]
            for thread in threads:
                thread.start()
            time.sleep(5)
            code = server.stop(sign)
            for thread in threads:
                thread.join()
            name = signal.Signals(sign).name
            told.append(
                f"{name} after 5 s under load: {len(answered)} requests answered, "
                f"{len(lost)} cut, exit code {code}."
            )
            check = subprocess.run(
                [sys.executable, "-m", "zeroshot", "cache", "verify"],
                env=os.environ | {"ZEROSHOT_CACHE": cache},
                capture_output=True,
                text=True,
            )
            is_whole = "whole" if check.returncode == 0 else f"DAMAGED: {check.stdout}"
            told[-1] += f" The cache is {is_whole}."
    return told


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
