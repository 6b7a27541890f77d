"""Downloads of large files: resumed, checked, and in place whole or not at all.

Only a complete and checked file gets its name. Beside it lies ``NAME.sha256``, its hash
in the form that ``sha256sum -c`` reads. What has come so far is in ``NAME.part``, and
the server's word on what it is in ``NAME.part.json``: a cut, a stall, Ctrl-C or a
killed process leaves both, and the next try asks for the rest, on the condition that
the server still has the same file. Neither files nor messages hold the user, the
password or the query of an address, which may be secrets.

The tries are counted here and not by ``urllib3.Retry``: that resumes nothing, logs the
address with its query, and reads the body of a 503 to its end, however long. Nor is a
timeout of requests enough: it ends a silence, and a server that drips headers, or never
ends them, is never silent.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.exceptions import SSLError

from zeroshot.errors import ArtifactError
from zeroshot.storage.addresses import shown_url
from zeroshot.storage.large_files import (
    exclusive,
    file_digest,
    readable_size,
    record_hash,
    record_path,
    recorded_hash,
    remark,
    show_bytes,
    storage_error,
)
from zeroshot.storage.limits import size_limit
from zeroshot.storage.published import offline
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = ["LARGEST", "download", "remote_size"]

LARGEST = 32 << 30  # bytes; the largest published vectors have some 7 GiB
CHUNK = 64 << 10  # bytes at most in one read
SLOWEST = 1 << 10  # bytes in a second or a try; who drips would keep us for ever
LONGEST = 24 * 3600.0  # seconds for all tries at an address; the next call goes on
LONGEST_WAIT = 60.0  # seconds between two tries
MOST_REDIRECTS = 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_OF_NOTE = 4096  # bytes
TOO_SLOW = "it sends less than 1 KiB a second"
# RFC 9110: passing troubles of a server, and 408, 425 and 429, which ask for patience.
RETRIED = {408, 425, 429, 500, 502, 503, 504}
PASSING = (requests.ConnectionError, requests.Timeout)
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)\b", re.IGNORECASE)


def download(
    url: str,
    destination: Path,
    *,
    mirrors: Sequence[str] = (),
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    largest: int = LARGEST,
    attempts: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Fetch a file, unless it is there already.

    Proxies, certificates and ``.netrc`` are those of requests, from the environment. A
    second process that wants the same file waits for the first and then finds it. A
    redirect from https to http is refused.

    ``url``: where the file is published. ``destination``: the file to make; its folder
    is made too. One that exists is not looked at. ``mirrors``: other addresses of the
    same file, tried in turn when one fails for good. ``sha256``, ``md5``: published
    hash, hexadecimal. Without one the hash of the first download counts, which lies in
    ``NAME.sha256`` beside the file. ``size``: published size in bytes. ``largest``:
    bytes at which a file is given up whose size is not published, unless the
    environment variable ``ZEROSHOT_MAX_DOWNLOAD`` says otherwise. ``attempts``: tries
    in a row that bring less than 1 KiB before an address is given up. ``timeout``:
    seconds without a byte after which the connection counts as dead. A server that
    sends less than 1 KiB a second for so long is given up. ``pause``: seconds before
    the second try; doubled for each further one, up to a minute. A server that asks for
    more (``Retry-After``) is given up, and so is an address that takes a day.
    ``tell``: is called once, with the size that the server states, before the body
    comes. Raises
    ArtifactError if ``ZEROSHOT_OFFLINE`` is set, no address gives the file, what comes
    is not it (a web page, another size or hash), or it cannot be stored; says what came
    and what to do.
    """
    if os.path.isfile(destination):
        return destination
    if offline():
        raise ArtifactError(
            f"Expected '{destination}'. Got nothing there, and ZEROSHOT_OFFLINE "
            f"forbids downloads. Get {shown_url(url)} on another machine and put it "
            f"there, or unset ZEROSHOT_OFFLINE."
        )
    failures = []
    with exclusive(destination):
        if os.path.isfile(destination):
            return destination
        recorded = None if sha256 or md5 else recorded_hash(destination)
        largest = size or size_limit("ZEROSHOT_MAX_DOWNLOAD", largest)
        is_archive = destination.suffix in (".gz", ".zip")
        checkable = bool(sha256 or md5 or recorded or size or is_archive)
        for address in (url, *mirrors):
            source = _Source(
                *(address, destination, size, largest),
                *(attempts, timeout, pause, checkable),
                tell,
            )
            try:
                digest = source.fetch_checked(sha256 or recorded, md5)
                record_hash(destination, digest)
                source.part.replace(destination)
            except _RefusedError as error:
                failures.append(f"{shown_url(address)}: {error}.")
            except OSError as error:
                if error.errno in FULL:
                    source.free_disk()
                raise storage_error(destination, error) from error
            else:
                return destination
            finally:
                source.tidy()
    told = f" ({readable_size(size)})" if size else ""
    hint = ""
    if recorded is not None:
        hint = (
            f" If its publisher has changed the file, delete "
            f"'{record_path(destination)}', the hash of the first download, and try "
            f"again."
        )
    raise ArtifactError(
        f"Expected to download '{destination.name}'{told}. Got no usable answer. "
        f"{' '.join(failures)} Try again later (what came is kept and resumed), or get "
        f"the file by other means and put it at '{destination}'.{hint}"
    )


def remote_size(url: str, timeout: float = 10.0) -> str:
    """Return the size that a server states for a file, for people.

    Nothing of it is fetched. A server that does not answer is no error.
    """
    source = _Source(url, Path("nowhere"), None, 0, 1, timeout, 0.0, True)
    with _Watch(2 * timeout) as watch, _Session(watch) as session:
        try:
            response = source._answer(session, {"Accept-Encoding": "identity"})
        except (_RefusedError, _TryAgainError):
            return _readable(None)
        with response:
            return _readable(_length(response) if response.ok else None)


class _RefusedError(Exception):
    """An address does not give the file, and will not by asking again."""


class _TryAgainError(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class _Session(requests.Session):
    """Leaves redirects to us: requests would read their bodies, however long."""

    def __init__(self, watch: "_Watch") -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(watch))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""


class _Adapter(HTTPAdapter):
    """Shows each connection that is made to a `_Watch`."""

    def __init__(self, watch: "_Watch") -> None:
        self._watch = watch
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._show(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._show(manager)
        return manager

    def _show(self, manager: Any) -> None:
        watch = self._watch

        def shown(pool: Any) -> Any:
            class Connection(pool.ConnectionCls):
                def _new_conn(self) -> socket.socket:
                    made: socket.socket = super()._new_conn()
                    watch.add(made)
                    return made

            return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

        pools = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {name: shown(pool) for name, pool in pools}


class _Watch:
    """Cuts the connections of a try that brings too little, whatever it waits for.

    ``period``: seconds in which `SLOWEST` bytes for each of half of them must come.
    ``got``: bytes that have come.
    """

    def __init__(self, period: float) -> None:
        self.period, self.got, self.has_cut = period, 0, False
        self._connections: list[socket.socket] = []
        self._lock, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def add(self, connection: socket.socket) -> None:
        # A copy: TLS takes the connection itself apart.
        with self._lock:
            self._connections.append(connection.dup())

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def _run(self) -> None:
        mark = 0
        while not self._done.wait(self.period):
            if self.has_cut or self.got - mark < SLOWEST * self.period / 2:
                self.has_cut = True
                with self._lock:
                    for connection in self._connections:
                        with suppress(OSError):  # it is closed already
                            connection.shutdown(socket.SHUT_RDWR)
            mark = self.got


@dataclass
class _Source:
    """One address, fetched in as many tries as it takes, and what came so far.

    ``largest`` is ``size`` where that is published, and a file is ``checkable`` that
    shows whether it is whole: by a known size or hash, or as an archive.
    """

    url: str
    destination: Path
    size: int | None
    largest: int
    attempts: int
    timeout: float
    pause: float
    checkable: bool
    tell: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.part = self.destination.with_name(f"{self.destination.name}.part")
        self.note = self.destination.with_name(f"{self.destination.name}.part.json")
        # A hash, so that the note holds no secret of the address.
        address = re.sub("//[^/]*@", "//", self.url)
        text = address.encode("utf-8", "surrogatepass")
        self.key = hashlib.sha256(text).hexdigest()
        self.end = time.monotonic() + LONGEST

    def fetch_checked(self, sha256: str | None, md5: str | None) -> str:
        """Fetch the file into ``part``, check it, and return its SHA-256.

        Raises `_RefusedError` if the address does not give it, `ArtifactError` if there
        is no room for it, and `OSError` if it cannot be written.
        """
        had_part = self._our_note() and self._have() > 0
        self._fetch()
        try:
            return self._checked(sha256, md5)
        except _RefusedError:
            self._discard()
            if not had_part:
                raise
        # What an earlier process left was perhaps of another file.
        return self.fetch_checked(sha256, md5)

    def tidy(self) -> None:
        """Delete a part that nobody can resume, and a note without its part."""
        with suppress(OSError):  # it may be the cause of the error on its way
            resumable = self._read_note().get("validator") or self._is_whole()
            if not (self._have() and resumable):
                self._discard()

    def free_disk(self) -> None:
        """Delete a part of which nobody knows how much is missing."""
        if self._read_note().get("total") is None:
            with suppress(OSError):
                self._discard()

    def _fetch(self) -> None:
        most, failures = self._have(), 0
        while not self._is_whole():
            problem, wait = "the connection was cut", 0.0
            try:
                self._ask_watched()
            except _TryAgainError as error:
                problem, wait = str(error), error.wait
            if self._is_whole():
                break
            have = self._have()
            failures += 1
            if have - most >= SLOWEST:
                most, failures = have, 0
            problem += f" after {readable_size(have)}"
            if failures >= self.attempts:
                raise _RefusedError(f"{problem}, {failures} times in a row")
            wait = max(wait, self.pause * 2 ** max(failures - 1, 0))
            wait = min(wait, LONGEST_WAIT)
            name = self.destination.name
            remark(f"{name}: {problem}; trying again in {wait:.0f} s")
            time.sleep(wait)

    def _ask_watched(self) -> None:
        # Twice the timeout, within which a server that thinks long may begin.
        with _Watch(2 * self.timeout) as self.watch, _Session(self.watch) as session:
            try:
                self._ask(session)
            except _TryAgainError as error:
                if self.watch.has_cut:
                    raise _RefusedError(TOO_SLOW) from error
                raise

    def _ask(self, session: requests.Session) -> None:
        """Ask once for what is missing, and store what comes."""
        note = self._our_note()
        validator = note.get("validator")
        have = self._have() if validator else 0
        headers: dict[str, Any] = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with self._answer(session, headers) as response:
            self._check_answer(response, asked_for_part=have > 0)
            if response.status_code == 206:
                total = self._continued(response, have, note)
            else:
                self._discard()
                have, total = 0, _length(response)
                if total is None and not (response.raw.chunked or self.checkable):
                    raise _RefusedError("it says neither its size nor where it ends")
                tag = response.headers.get("ETag", "")
                validator = tag if tag.startswith('"') else None  # not a weak one
            self._check_size(total, have)
            if self.tell is not None:
                self.tell(_readable(total))
                self.tell = None
            self._write_note(validator, total)
            have = self._store(response.raw, have, total)
            if self.watch.has_cut:  # or its end would count as that of the file
                raise _RefusedError(TOO_SLOW)
            if total is None:  # its end was said, or it would count as cut
                self._write_note(validator, have)

    def _answer(
        self, session: requests.Session, headers: dict[str, Any]
    ) -> requests.Response:
        url = self.url
        for _ in range(MOST_REDIRECTS):
            try:
                response = session.get(
                    url, headers=headers, stream=True, timeout=self.timeout
                )
                target = requests.Session.get_redirect_target(session, response)
                url_before, url = url, urljoin(url, target or "")
            except (OSError, ValueError) as error:
                passing = isinstance(error, PASSING) and not isinstance(error, SSLError)
                kind = _TryAgainError if passing else _RefusedError
                raise kind(_cause(error, type(error).__name__)) from error
            if not target:
                return response
            response.close()
            if urlsplit(url_before).scheme == "https" != urlsplit(url).scheme:
                raise _RefusedError(f"it leads from https to {shown_url(url)}")
        raise _RefusedError(f"more than {MOST_REDIRECTS} redirects")

    def _check_answer(self, response: requests.Response, asked_for_part: bool) -> None:
        status = response.status_code
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        came = f"status {status} ({response.reason}), {kind or 'no content type'}"
        if shown_url(response.url) != shown_url(self.url):
            came += f", from {shown_url(response.url)}"
        if status in RETRIED:
            wait = _retry_after(response)
            if wait > LONGEST_WAIT:
                raise _RefusedError(f"{came}; it asks to wait {wait:.0f} s")
            raise _TryAgainError(f"got {came}", wait)
        if asked_for_part and status == 416:
            raise self._changed()
        if status not in (200, 206) or (status == 206 and not asked_for_part):
            raise _RefusedError(f"got {came}")
        if "html" in kind.lower():
            raise _RefusedError(f"got a web page instead of the file: {came}")
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        # Some servers call the packing of a .gz file its content encoding.
        if coding not in {"", "identity"} and self.destination.suffix != ".gz":
            raise _RefusedError(f"got it packed with '{coding}' unasked: {came}")

    def _continued(
        self, response: requests.Response, have: int, note: dict[str, Any]
    ) -> int | None:
        """Check that an answer continues what is there; return the file's size."""
        given = response.headers.get("Content-Range", "").strip()
        match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", given)
        if match is None or int(match[1]) != have:
            raise self._changed()
        known: int | None = note.get("total")
        total = known if match[2] == "*" else int(match[2])
        # Some servers know Range and not If-Range.
        same = response.headers.get("ETag", note["validator"]) == note["validator"]
        if not same or known not in (None, total):
            raise self._changed()
        return total

    def _changed(self) -> _TryAgainError:
        self._discard()
        return _TryAgainError("the file changed between two tries")

    def _check_size(self, total: int | None, have: int) -> None:
        if total is None:
            return
        if total > self.largest or self.size not in (None, total):
            self._discard()
            allowed = f"{self.size or f'at most {self.largest}'}"
            raise _RefusedError(f"it has {total} bytes, not {allowed}")
        missing, free = total - have, shutil.disk_usage(self.part.parent).free
        if missing > free:
            raise ArtifactError(
                f"Expected {readable_size(missing)} of free space for '{self.part}'. "
                f"Got {readable_size(free)}. Make room, or name another folder in "
                f"ZEROSHOT_CACHE."
            )

    def _store(self, raw: Any, have: int, total: int | None) -> int:
        """Add what comes to the part; return its length."""
        mark, since = have, time.monotonic()
        with (
            self.part.open("ab", buffering=0) as file,
            show_bytes(self.destination.name, total) as advance,
        ):
            advance(have)
            while chunk := _read(raw):
                have += len(chunk)
                self.watch.got += len(chunk)
                if have > self.largest:
                    self._discard()
                    raise _RefusedError(f"it has more than {self.largest} bytes")
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
                advance(len(chunk))
                if (now := time.monotonic()) > self.end:
                    raise _RefusedError(f"it took {LONGEST / 3600:.0f} hours")
                if now - since > self.timeout:
                    if have - mark < SLOWEST * self.timeout:
                        raise _RefusedError(TOO_SLOW)
                    mark, since = have, now
        return have

    def _checked(self, sha256: str | None, md5: str | None) -> str:
        have = self._have()
        if self.size not in (None, have) or not have:
            raise _RefusedError(f"got {have} bytes, not {self.size or 'a file'}")
        with self.part.open("rb") as file:
            if _HTML.match(file.read(512)):
                raise _RefusedError(f"got a web page of {have} bytes, not the file")
            os.fsync(file.fileno())
        if md5 and (got := file_digest(self.part, "md5")) != md5.lower():
            raise _RefusedError(f"got {have} bytes with the MD5 {got}, not {md5}")
        digest = file_digest(self.part, "sha256")
        if sha256 and digest != sha256.lower():
            raise _RefusedError(
                f"got {have} bytes with the SHA-256 {digest}, not {sha256}"
            )
        return digest

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _is_whole(self) -> bool:
        return self._our_note().get("total") == self._have()

    def _our_note(self) -> dict[str, Any]:
        note = self._read_note()
        return note if note.get("address") == self.key else {}

    def _discard(self) -> None:
        # The part goes first: a note without a part does no harm.
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _read_note(self) -> dict[str, Any]:
        try:
            note = parse_json(read_limited(self.note, MOST_OF_NOTE))
        except ValueError:  # there is none, or a kill has torn it: fetched anew
            return {}
        valid = (
            isinstance(note, dict)
            and isinstance(note.get("validator"), str | None)
            and isinstance(note.get("total"), int | None)
        )
        return note if valid else {}

    def _write_note(self, validator: str | None, total: int | None) -> None:
        note = {"address": self.key, "validator": validator, "total": total}
        if note != self._read_note():  # a full disk would leave it empty
            self.note.write_text(json.dumps(note), encoding="utf-8")


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,19}", length) else None


def _readable(size: int | None) -> str:
    return "size not known" if size is None else readable_size(size)


def _read(raw: Any) -> bytes:
    try:
        # `read1` hands over what has come before a cut; `read` loses a whole chunk.
        chunk: bytes = raw.read1(CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise _TryAgainError(_cause(error, "the connection was cut")) from error
    return chunk


def _retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait."""
    text = response.headers.get("Retry-After", "")
    try:
        return urllib3.Retry().parse_retry_after(text) if text else 0.0
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _cause(error: BaseException, said: str) -> str:
    """Return what the system said: requests' and urllib3's texts hold the address."""
    while (inner := error.__context__) is not None:
        of_system = not isinstance(inner, requests.RequestException)
        if isinstance(inner, OSError) and of_system:
            said = f"{type(inner).__name__}: {inner}"
        error = inner
    return said
