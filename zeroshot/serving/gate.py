"""Who may ask, and how much: decided before anything of a request is looked into."""

import asyncio
import base64
import hmac
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.serving.answering import refusal
from zeroshot.serving.limits import Limits, RequestRefusedError
from zeroshot.serving.metrics import Metrics

__all__ = ["Gate"]

# What a key is not needed for: to see whether the service lives, and the page itself.
OPEN_PATHS = ("/health/", "/v2/health/", "/ui")
# A client that is refused while it sends reads the answer only after it has sent all:
# so much of it is read and forgotten.
MOST_FORGOTTEN, LONGEST_FORGOTTEN = 256 << 20, 10.0  # bytes, seconds


class Gate:
    """ASGI middleware: checks the key, reads the body as far as it may go, counts.

    Parameters
    ----------
    app : ASGI application
    limits : Limits
    metrics : Metrics
    check_room : callable
        Raises RequestRefusedError where the service is too busy for another request.
    api_key : str or None
        What ``Authorization: Bearer ...`` has to say.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        check_room: Callable[[], None],
        api_key: str | None,
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._check_room = check_room
        self._key = None if api_key is None else api_key.encode()
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on with its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        body = _Body(scope, receive)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.active.inc()
        try:
            try:
                await self._admit(scope, body)
            except RequestRefusedError as error:
                if error.status != 408:  # who drips would drip on
                    await body.forget()
                answer = refusal(error)
                if not body.is_read:
                    answer.headers["Connection"] = "close"
                if not body.is_cut:
                    await answer(scope, receive, sending)
            else:
                if not body.is_cut:
                    await self._app(scope, body.replay, sending)
        finally:
            self._hold(-body.held)
            self._metrics.active.dec()
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, status).inc()
            seconds = time.perf_counter() - started
            self._metrics.seconds.labels(route).observe(seconds)

    async def _admit(self, scope: Scope, body: "_Body") -> None:
        """Read the body; raise RequestRefusedError as soon as it is clear that not."""
        headers = Headers(scope=scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._key is not None and not path.startswith(OPEN_PATHS):
            self._check_key(headers.get("authorization", ""))
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return
        self._check_room()
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestRefusedError(
                415, "Expected a body that is not compressed. Send it as it is."
            )
        stated = headers.get("content-length", "0")
        if stated.isdecimal() and int(stated[:20]) > self._limits.body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.seconds):
                while (part := await body.next()) is not None:
                    self._take(body, part)
        except TimeoutError as error:
            raise RequestRefusedError(
                408,
                f"Expected the request within {self._limits.seconds:g} seconds. Got "
                f"{body.held} bytes of it. Send it faster.",
            ) from error

    def _check_key(self, given: str) -> None:
        assert self._key is not None
        scheme, _, text = given.partition(" ")
        key = text.strip().encode("latin-1")
        if scheme.lower() == "basic":  # of Label Studio, which knows no other: password
            with suppress(ValueError):
                key = base64.b64decode(key).partition(b":")[2]
        elif scheme.lower() != "bearer":
            key = b""
        if not hmac.compare_digest(key, self._key):  # its time tells nothing of the key
            raise RequestRefusedError(
                401,
                "Expected the service's key. Got another one, or none. Send the header "
                "'Authorization: Bearer <key>'.",
            )

    def _take(self, body: "_Body", part: bytes) -> None:
        if body.held + len(part) > self._limits.body:
            raise self._too_large()
        if self._held + len(part) > self._limits.held:
            raise RequestRefusedError(
                503,
                "The service holds too many requests. Send this one again later.",
                retry_after=2,
            )
        body.keep(part)
        self._hold(len(part))

    def _hold(self, n: int) -> None:
        self._held += n
        self._metrics.held.set(self._held)

    def _too_large(self) -> RequestRefusedError:
        return RequestRefusedError(
            413,
            f"Expected a request of at most {self._limits.body} bytes. Got more. Send "
            f"fewer or smaller images.",
        )


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class _Body:
    """The body of a request: kept part by part, then given to the application."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._parts: list[bytes] = []
        self.is_read = self._is_given = False
        self.held = 0
        self.is_cut = False  # the client went away before its end

    async def next(self) -> bytes | None:
        """Return the next part; None after the last one."""
        if self.is_read:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_read = self.is_cut = True
            return None
        self.is_read = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    def keep(self, part: bytes) -> None:
        """Keep a part for the application."""
        self._parts.append(part)
        self.held += len(part)

    async def forget(self) -> None:
        """Read on, within bounds, and keep nothing."""
        self._parts.clear()
        n = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_FORGOTTEN):
                while n < MOST_FORGOTTEN and (part := await self.next()) is not None:
                    n += len(part)

    async def replay(self) -> Message:
        """Give what was kept, once; then wait for the client to go away."""
        if not self.is_read:  # of a GET nothing was read
            return await self._receive()
        if self._is_given:
            return await self._receive()
        self._is_given = True
        parts, self._parts = self._parts, []
        return {"type": "http.request", "body": b"".join(parts)}
