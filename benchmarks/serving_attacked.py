"""A service under attack, and one that is stopped or killed; for `serving.py`."""

import contextlib
import json
import os
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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from serving_clients import (
    N_CLIENTS,
    Client,
    Server,
    median_ms,
    post,
    predict_request,
    serving,
)

__all__ = ["ended", "hostile"]

N_SLOW, N_CUT = 50, 2
N_ATTACKERS = N_SLOW + N_CUT + 10
SCHEMATHESIS = shutil.which("schemathesis") or "schemathesis"


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
