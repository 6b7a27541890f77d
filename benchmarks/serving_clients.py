"""A service as a process, and clients that ask it; for `serving.py`."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

__all__ = [
    "LABELS",
    "N_CLIENTS",
    "Client",
    "Server",
    "by_clients",
    "median_ms",
    "post",
    "predict_request",
    "serving",
]

N_CLIENTS = 16
LABELS = ["okapi", "zebra", "horse", "panda", "airplane", "face", "piano", "lamp"]
BOUNDARY = "----zeroshot"


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
