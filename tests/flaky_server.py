"""A local web server that misbehaves on demand, for the tests of downloads."""

import contextlib
import http.server
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.message import Message


@dataclass
class Reply:
    """How one request is answered; the default is a server without fault.

    ``cut`` closes the connection after so many bytes of the body, ``stall`` keeps it
    open and silent for so many seconds instead. ``claimed`` lies about the length.
    """

    content: bytes = b""
    status: int = 200
    etag: str | None = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: float = 0.0
    claimed: int | None = None
    knows_range: bool = True
    knows_if_range: bool = True
    chunked: bool = False
    tells_length: bool = True
    delay: float = 0.0  # seconds before each piece
    piece: int = 64 << 10  # bytes


class FlakyServer:
    """Gives each request for a path the next reply of its list; the last one stays."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, Message]] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"flaky": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def serve(self, path: str, *replies: Reply) -> str:
        """Set the replies of a path; return its address."""
        self.replies[path] = list(replies)
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """Return the Range of each request for a path so far."""
        return [headers["Range"] for asked, headers in self.requests if asked == path]

    def next_reply(self, path: str, headers: Message) -> Reply:
        with self._lock:
            self.requests.append((path, headers))
            waiting = self.replies.get(path) or [Reply(b"<html>", status=404)]
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    flaky: FlakyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        reply = self.flaky.next_reply(self.path, self.headers)
        # A client may hang up at any moment; that is its right.
        with contextlib.suppress(ConnectionError):
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        status, start, extra = self._range(reply)
        body = reply.content[start:]
        self.send_response(status)
        headers = {"Content-Type": "application/octet-stream"}
        if reply.etag is not None:
            headers["ETag"] = reply.etag
        if status == 416:
            body = b""
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.tells_length:
            length = len(body) if reply.claimed is None else reply.claimed
            headers["Content-Length"] = str(length)
        for name, value in (headers | extra | reply.headers).items():
            self.send_header(name, value)
        # Unsaid, a client follows a redirect on the connection that is about to close.
        self.send_header("Connection", "close")
        self.end_headers()
        self._send(body, reply)

    def _range(self, reply: Reply) -> tuple[int, int, dict[str, str]]:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        condition = self.headers["If-Range"]
        known = (reply.etag, reply.headers.get("Last-Modified"))
        if (
            reply.status != 200
            or asked is None
            or not reply.knows_range
            or (
                reply.knows_if_range
                and condition is not None
                and condition not in known
            )
        ):
            return reply.status, 0, {}
        start, size = int(asked[1]), len(reply.content)
        if start >= size:
            return 416, 0, {"Content-Range": f"bytes */{size}"}
        return 206, start, {"Content-Range": f"bytes {start}-{size - 1}/{size}"}

    def _send(self, body: bytes, reply: Reply) -> None:
        sent = body if reply.cut is None else body[: reply.cut]
        for start in range(0, len(sent), reply.piece):
            time.sleep(reply.delay)
            piece = sent[start : start + reply.piece]
            if reply.chunked:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)
        self.wfile.flush()
        if reply.chunked and reply.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        if reply.stall:
            time.sleep(reply.stall)
