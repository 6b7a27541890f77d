"""Answers of a hostile web server: the file, or an error of ours, and soon.

``ZEROSHOT_FUZZ=1 pytest tests/test_hostile_http.py -s`` tries 3,000 and prints what
became of them.
"""

import contextlib
import gzip
import hashlib
import itertools
import re
import resource
import socket
import threading
import time
from collections import Counter

import numpy as np
import pytest
from damage import mutations, n_cases

from zeroshot.errors import ArtifactError
from zeroshot.storage.download import download

CONTENT = np.random.default_rng(0).bytes(3000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LARGEST = 200_000
SLOWEST = 15.0  # seconds; it takes 2 at most where nothing else runs
MOST_MEMORY = 300 << 20
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b'ETag: "one"\r\nContent-Length: 3000\r\nConnection: close\r\n\r\n'
)
NINES = b"9" * 4400


class HostileServer:
    """Sends each client what a script says: bytes, pauses, or iterators of both."""

    def __init__(self):
        self.script = [b""]
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/file"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self.socket.accept()[0]
                threading.Thread(
                    target=self._answer, args=(client, self.script), daemon=True
                ).start()

    def _answer(self, client, script):
        # A client may hang up at any moment; that is its right.
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            request = b""
            while b"\r\n\r\n" not in request:
                if not (came := client.recv(4096)):
                    return
                request += came
            for part in script:
                for each in [part] if isinstance(part, bytes | float) else part():
                    if isinstance(each, float):
                        time.sleep(each)
                    else:
                        client.sendall(each)


@pytest.fixture(scope="module")
def server():
    server = HostileServer()
    yield server
    server.socket.close()


def endless(piece, pause=0.0):
    """Return what yields a piece again and again, with pauses."""

    def pieces():
        for _ in itertools.count():
            yield piece
            if pause:
                yield pause

    return pieces


def dripped(content, pause=0.05):
    def pieces():
        for i in range(len(content)):
            yield content[i : i + 1]
            yield pause

    return pieces


def answer(*lines, body=CONTENT):
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"Connection: close"])
    return [head + b"\r\n\r\n", body]


LENGTH = b"Content-Length: 3000"
CHUNKED = b"Transfer-Encoding: chunked"
WHOLE_CHUNK = b"bb8\r\n" + CONTENT + b"\r\n"
LENGTHS = [b"0", b"1", b"2999", b"3001", b"-1", b"1e5", b"", b"0x10", b"+3000", NINES]
LOCATIONS = [
    b"/file", b"//", b"http://", b"http://[::1", b"http://[v9.x]/", b"file:///etc/passwd",
    b"ftp://127.0.0.1/", b"javascript:1", b"http://127.0.0.1:" + NINES, b"http:/\\x",
    b"http://127.0.0.1:99999/", b"\xff\xfe", b"http://a b/", b"http://" + b"x" * 5000,
    b"http://\xc3\xbc.invalid/", b"?", b"%00", b"http://user:secret@127.0.0.1:1/?token=1",
]  # fmt: skip
ENCODED = [b"gzip", b"br", b"deflate", b"zstd", b"identity", b"x" * 3000, b"gzip, gzip"]
RANGES = [
    b"bytes 0-2999/3000", b"bytes 1-2999/3000", b"bytes 0-2999/*", b"bytes 0-9/10",
    b"bytes " + NINES + b"-1/2", b"bytes */3000", b"rows 1-2/3", b"",
]  # fmt: skip
WISHES = [b"0", b"-1", NINES, b"never", b"Fri, 31 Dec 9999 23:59:59 GMT", b"1e999"]
CHUNKS = [
    b"-5\r\n" + CONTENT, NINES + b"\r\n" + CONTENT, b"xyz\r\n", b"\r\n\r\n",
    b"bb8;" + b"x" * 70_000 + b"\r\n" + CONTENT, b"bb9\r\n" + CONTENT, b"fffffffff\r\n",
]  # fmt: skip


def scripts(random):
    """Yield answers without end, a name and a script each."""

    def some(values):
        return values[int(random.integers(len(values)))]

    damaged = mutations(HEAD + CONTENT, 10**9, seed=11)
    for number in itertools.count():
        match number % 20:
            case 0 | 1 | 2 | 3 | 4 | 5:
                yield "damaged", [next(damaged)]
            case 6:
                yield "bytes", [random.bytes(int(random.integers(1, 5000)))]
            case 7:
                yield "length", answer(b"Content-Length: " + some(LENGTHS))
            case 8:
                yield "two lengths", answer(LENGTH, b"Content-Length: " + some(LENGTHS))
            case 9:
                code = some([b"301", b"302", b"307", b"308", b"303", b"300"])
                head = b"HTTP/1.1 %s Go\r\nLocation: %s\r\n\r\n"
                yield "redirect", [head % (code, some(LOCATIONS))]
            case 10:
                bomb = gzip.compress(bytes(20_000_000))
                length = b"Content-Length: %d" % len(bomb)
                coding = b"Content-Encoding: " + some(ENCODED)
                yield "packed", answer(length, coding, body=bomb)
            case 11:
                head = b"HTTP/1.1 206 Part\r\nContent-Range: %s\r\n%s\r\n\r\n"
                yield "range", [head % (some(RANGES), LENGTH), CONTENT]
            case 12:
                code = some([b"429", b"503", b"500", b"408", b"416", b"401", b"418"])
                head = b"HTTP/1.1 %s No\r\nRetry-After: %s\r\n\r\n"
                yield "status", [head % (code, some(WISHES))]
            case 13:
                body = some(CHUNKS)
                yield "chunks", answer(CHUNKED, body=body + b"\r\n0\r\n\r\n")
            case 14:
                many = [b"X-%d: %s" % (i, b"x" * 60) for i in range(2000)]
                lines = some(
                    [many, [b"X: " + b"x" * 200_000], [b"X\0\x1b: \xff"], [b"X"]]
                )
                yield "headers", answer(LENGTH, *lines)
            case 15:
                yield "longer", answer(some([LENGTH, CHUNKED]), body=bytes(400_000))
            case 16:
                body = WHOLE_CHUNK if random.random() < 0.5 else b"1\r\nx\r\n"
                line = some([b"A: b\r\n", b"1" * 60_000 + b"\r\n", b"A\r\n"])
                yield (
                    "trailers",
                    [*answer(CHUNKED, body=body + b"0\r\n"), endless(line)],
                )
            case 17:
                first = some(
                    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Go\r\n\r\n"]
                )
                yield "continue", [endless(first, 0.001)]
            case 18:
                yield (
                    "no end",
                    [*answer(some([b"A: b", CHUNKED])), endless(b"1\r\nx\r\n")],
                )
            case _:
                slow = some([HEAD, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500])
                yield "dripped", [dripped(slow), dripped(CONTENT)]


def test_answer_of_a_hostile_server_gives_the_file_or_our_error(
    server, tmp_path, monkeypatch
):
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    counts, slowest = Counter(), (0.0, "")
    before = memory()
    cases = scripts(np.random.default_rng(5))
    for number in range(n_cases(40, 3000)):
        name, server.script = next(cases)
        file = tmp_path / f"{number}" / "file.bin"
        known = number % 3  # sometimes a hash, a size, or neither is published
        said, start = "", time.perf_counter()
        try:
            download(
                server.url, file, largest=LARGEST, attempts=2, pause=0, timeout=0.25,
                sha256=[SHA256, None, None][known], size=[None, 3000, None][known],
            )  # fmt: skip
        except ArtifactError as error:
            said = str(error)
            counts["ArtifactError"] += 1
        except Exception as error:
            raise AssertionError(f"{number} {name}: {error!r}") from error
        else:
            is_right = file.read_bytes() == CONTENT
            assert known != 0 or is_right, name
            assert known != 1 or len(file.read_bytes()) == 3000, name
            counts["right" if is_right else "other, and nothing to check"] += 1
        slowest = max(slowest, (time.perf_counter() - start, f"{number} {name}"))
        assert file.exists() == (not said)
        assert "secret" not in said
        assert "token" not in said
        sizes = [each.stat().st_size for each in file.parent.iterdir()]
        assert max(sizes) <= LARGEST
    risen = memory() - before
    print(  # noqa: T201 - the counts are what the large run is for
        f"\nanswers: {counts.total()}: {dict(counts)}; slowest {slowest[0]:.2f} s "
        f"({slowest[1]}); memory up by {risen >> 20} MiB"
    )
    assert slowest[0] < SLOWEST, slowest
    assert risen < MOST_MEMORY
    assert counts["right"] > 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x" * 5000,
        "http://127.0.0.1:1/\0",
        "http://127.0.0.1:1/a b\n",
        "http://\ud800/",
        "http://[::1",
        "http://[::1]:x/",
        "http://127.0.0.1:" + "9" * 4300 + "/",
        "http://me:hidden@127.0.0.1:1/?token=hidden#hidden",
        "//me:hidden@host/path",
        "ftp://me:hidden@host/path",
        "http://%s%n/",
    ],
)
def test_address_that_is_none_is_refused_without_its_secrets(url, tmp_path):
    with pytest.raises(ArtifactError) as caught:
        download(url, tmp_path / "file", attempts=1, pause=0, timeout=0.5)
    assert "hidden" not in str(caught.value)
    assert not re.search("9{4000}|x{4000}", str(caught.value))


def memory():
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
