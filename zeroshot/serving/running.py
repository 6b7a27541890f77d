"""`run`: the application behind uvicorn, until somebody stops it."""

import asyncio
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from zeroshot.errors import ArtifactError

__all__ = ["is_loopback", "run"]

HEAD_SECONDS = 10.0  # for the head of a request; who drips it holds a connection
# Seconds in which requests that were sent already are still taken; the longer time
# where somebody has connected and not asked yet.
ON_THEIR_WAY, LONGEST_ON_THEIR_WAY = 0.3, 2.0
STOPPED_BY = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048
MOST_CONNECTIONS = 1000  # each is an open file, of which systems allow 1024 and more


def run(
    app: FastAPI,
    host: str,
    port: int,
    *,
    seconds: float,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, and then answer what was accepted.

    Parameters
    ----------
    app : FastAPI
    host : str
    port : int
        0 for any that is free.
    seconds : float
        That a request may take to come, and again for its answer.
    started : callable, optional
        Is told the address once requests are taken.

    Raises
    ------
    ArtifactError
        If the port cannot be had.
    """
    listening = _listening(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        http=_PatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(3 * seconds) + 1,  # to come, labels, the answer
        limit_concurrency=MOST_CONNECTIONS,
    )
    server = _Server(config, lambda: started(address))
    # uvicorn sends itself the signal again when all is done: to be stopped is no error.
    before = {sign: signal.signal(sign, lambda *_: None) for sign in STOPPED_BY}
    try:
        # The cores are there for requests side by side; after a product of several
        # threads, these wait for the next one at full speed, 20 ms long.
        with threadpool_limits(1, "blas"):
            server.run(sockets=[listening])
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this machine can ask at a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        # With its protocol said: only then does asyncio switch Nagle's algorithm off,
        # which makes answers wait 40 ms.
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_port(host, port, error) from error
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _no_port(host, port, error) from error
    return listening


def _no_port(host: str, port: int, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"Expected a free port to serve at. Got {host}:{port}: {error}. Choose another "
        f"one with --port, or another --host."
    )


class _Server(uvicorn.Server):
    """Stops in two steps: takes what is on its way, then ends the connections."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.default_headers.append((b"connection", b"close"))
        await self._accept_the_last(sockets or [])
        until = time.monotonic() + LONGEST_ON_THEIR_WAY
        await asyncio.sleep(ON_THEIR_WAY)
        while time.monotonic() < until and any(
            getattr(one, "cycle", None) is None for one in self.server_state.connections
        ):
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def _accept_the_last(self, sockets: list[socket.socket]) -> None:
        """Take what connected already, and close; the system would cut these off."""
        loop = asyncio.get_running_loop()
        last = []
        for listening in sockets:
            loop.remove_reader(listening)
            with suppress(BlockingIOError):
                while True:
                    last.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for connection in last:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        return _PatientProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


class _PatientProtocol(H11Protocol):
    """Ends a connection whose request does not come: uvicorn itself waits for ever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
