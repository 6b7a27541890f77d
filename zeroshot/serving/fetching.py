"""Images by their address: only from hosts that whoever serves has listed.

A service that fetches what strangers name can be made to ask other machines of its
network. So nothing is fetched unless hosts are listed; the address that a host's name
stands for must be public, unless that address is in the list itself; the connection
goes to that very address, whatever the name stands for a moment later; and each
redirect is looked at as the first address was.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from zeroshot.errors import InvalidImageError
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.storage.addresses import shown_url

__all__ = ["Fetcher"]

MOST_REDIRECTS = 3
SECONDS, CONNECT_SECONDS = 15.0, 5.0  # for all of it, and for a silence
THREADS = 4
PART = 64 << 10
PORTS = {"http": 80, "https": 443}


class Fetcher:
    """Fetches images from listed hosts.

    Parameters
    ----------
    hosts : iterable of str
        ``"images.example.org"``, ``"images.example.org:8443"``; also the addresses, as
        ``"10.0.0.5"``, of hosts that are in no public network. None: nothing is
        fetched.
    most_bytes : int
        Of an image.
    """

    def __init__(self, hosts: Iterable[str], most_bytes: int) -> None:
        self._hosts = {host.strip().lower() for host in hosts if host.strip()}
        self._most_bytes = most_bytes
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="zeroshot-fetching")

    async def fetch(self, url: str, index: int = 0, token: str = "") -> bytes:
        """Return the image at an address.

        ``token``: for this host alone, as ``Authorization: Token ...``.
        Raises RequestRefusedError if nothing may be fetched from there,
        InvalidImageError if nothing comes.
        """
        if not self._hosts:
            raise RequestRefusedError(
                422,
                "Expected an image as base64 or as an upload. Got an address, and this "
                "service fetches none. Send the image itself.",
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._fetched, url, index, token)

    def _fetched(self, url: str, index: int, token: str) -> bytes:
        first = url
        until = time.monotonic() + SECONDS
        for _ in range(1 + MOST_REDIRECTS):
            try:
                is_own = urlsplit(url)[:2] == urlsplit(first)[:2]
                answer = self._asked(url, token if is_own else "")
                try:
                    place = answer.get_redirect_location()
                    if not place:
                        return self._content(answer, until)
                    url = urljoin(url, place)
                finally:
                    answer.close()
            except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
                raise InvalidImageError(
                    f"Expected an image at position {index}, from {shown_url(url)}. "
                    f"Got nothing ({_reason(error)}). Send the image itself.",
                    index,
                ) from error
        raise InvalidImageError(
            f"Expected an image at position {index}. Got more than {MOST_REDIRECTS} "
            f"redirects. Send the image itself.",
            index,
        )

    def _asked(self, url: str, token: str) -> urllib3.BaseHTTPResponse:
        """Ask the one address that was looked at."""
        parts = urlsplit(url)
        scheme, host = parts.scheme, (parts.hostname or "").lower()
        if scheme not in PORTS:
            raise self._refused(url)
        port = parts.port or PORTS[scheme]
        named = {host} if port == PORTS[scheme] else {f"{host}:{port}"}
        if not named & self._hosts:
            raise self._refused(url)
        address = self._address(host, port, url)
        wait = urllib3.Timeout(CONNECT_SECONDS)
        pool = urllib3.HTTPConnectionPool(address, port, timeout=wait, retries=False)
        if scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                address,
                port,
                timeout=wait,
                retries=False,
                server_hostname=host,
                assert_hostname=host,
                ca_certs=DEFAULT_CA_BUNDLE_PATH,
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        shown = host if port == PORTS[scheme] else f"{host}:{port}"
        headers = {"Host": shown, "Accept": "image/*", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Token {token}"
        return pool.urlopen(
            "GET",
            path,
            headers=headers,
            redirect=False,
            preload_content=False,
        )

    def _address(self, host: str, port: int, url: str) -> str:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # IPv4 first: where there is no way for IPv6, names have addresses of it too.
        addresses = sorted((str(one[4][0]) for one in found), key=lambda a: ":" in a)
        for address in addresses:
            is_listed = {address, f"{address}:{port}"} & self._hosts
            if not (is_listed or ipaddress.ip_address(address).is_global):
                raise self._refused(url)
        return addresses[0]

    def _content(self, answer: urllib3.BaseHTTPResponse, until: float) -> bytes:
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        parts, n = [], 0
        for part in answer.stream(PART):
            n += len(part)
            if n > self._most_bytes:
                raise ValueError(f"more than {self._most_bytes} bytes")
            if time.monotonic() > until:
                raise ValueError(f"not all of it in {SECONDS:g} seconds")
            parts.append(part)
        return b"".join(parts)

    def _refused(self, url: str) -> RequestRefusedError:
        return RequestRefusedError(
            422,
            f"Expected an address of a host that this service may ask. Got "
            f"{shown_url(url)}. Send the image itself.",
        )


def _reason(error: Exception) -> str:
    """Return a reason that tells nothing of the network behind the service."""
    if type(error) is ValueError:
        return str(error)
    return "the host does not answer as it should"
