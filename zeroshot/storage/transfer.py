"""One address of a file, fetched in as many tries as it takes.

What has come of ``NAME`` is in ``NAME.part``, and the server's word on what it is in
``NAME.part.json``. A cut, a stall, Ctrl-C or a killed process leaves both, and the next
try asks for the rest, on the condition that the server still has the same file.
"""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from zeroshot.errors import ArtifactError
from zeroshot.storage.cache import replace_file
from zeroshot.storage.large_files import file_digest, readable_size, remark, show_bytes

__all__ = ["Patience", "Source", "SourceError"]

CHUNK = 64 << 10  # bytes at most in one read
# RFC 9110: passing troubles of a server, and 408, 425 and 429, which ask for patience.
RETRIED = {408, 425, 429, 500, 502, 503, 504}
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Patience:
    """How long to go on with one address.

    Attributes
    ----------
    attempts : int
        Tries in a row without a new byte.
    timeout, pause, longest_wait : float
        Seconds; see `zeroshot.download.download`.
    """

    attempts: int
    timeout: float
    pause: float
    longest_wait: float


class SourceError(Exception):
    """An address does not give the file, and will not by asking again."""


class _TryAgainError(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class Source:
    """One address, and the part of its file that has come so far.

    Parameters
    ----------
    url : str
        The address.
    destination : Path
        The file to make; here only ``NAME.part`` and its state are made.
    size : int or None
        Published size in bytes.
    patience : Patience
        How long to go on.
    progress : bool
        Show a bar and remarks on stderr.

    Attributes
    ----------
    part, state : Path
        What has come, and what the server said of it.
    """

    def __init__(
        self,
        url: str,
        destination: Path,
        size: int | None,
        patience: Patience,
        progress: bool,
    ) -> None:
        self.url = url
        self.name = destination.name
        self.part = destination.with_name(f"{destination.name}.part")
        self.state = destination.with_name(f"{destination.name}.part.json")
        self.size = size
        self.patience = patience
        self.progress = progress

    def fetch_checked(self, sha256: str | None, md5: str | None) -> str:
        """Fetch the file into ``part`` and check it.

        Parameters
        ----------
        sha256, md5 : str or None
            Hash that the file must have.

        Returns
        -------
        digest : str
            Its SHA-256.

        Raises
        ------
        SourceError
            If the address does not give the file.
        ArtifactError
            If there is no room for it.
        OSError
            If it cannot be written.
        """
        resumed = self._fetch()
        try:
            return self._check(sha256, md5)
        except SourceError:
            self._discard()
            if not resumed:
                raise
        # Perhaps an earlier process left a part that is not of this file.
        self._fetch()
        try:
            return self._check(sha256, md5)
        except SourceError:
            self._discard()
            raise

    def _fetch(self) -> bool:
        """Fetch all of the file; return whether a part was resumed."""
        resumed, most, failures = self._have() > 0, self._have(), 0
        while True:
            wait = 0.0
            try:
                if self._complete() or self._try():
                    return resumed
                problem = "the connection was cut"
            except _TryAgainError as error:
                problem, wait = str(error), error.wait
            have = self._have()
            failures = 0 if have > most else failures + 1
            resumed, most = resumed or have > 0, max(most, have)
            if failures >= self.patience.attempts:
                raise SourceError(
                    f"{problem}, {failures} times in a row, after {have} bytes"
                )
            wait = max(wait, self.patience.pause * 2 ** max(failures - 1, 0))
            wait = min(wait, self.patience.longest_wait)
            if self.progress:
                remark(
                    f"{self.name}: {problem} after {readable_size(have)}; trying again "
                    f"in {wait:.0f} s"
                )
            time.sleep(wait)

    def _try(self) -> bool:
        """Ask once for what is missing; return whether the file is complete now."""
        import requests  # takes 0.12 s
        import urllib3

        have, state = self._have(), self._read_state()
        if not state.get("validator"):
            have = 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = state["validator"]
        try:
            with requests.get(
                self.url, headers=headers, stream=True, timeout=self.patience.timeout
            ) as response:
                if response.status_code == 416 and have:
                    return self._nothing_more(response, have, state)
                self._check_answer(response, asked_for_part=have > 0)
                if response.status_code == 206:
                    total = self._check_range(response, have, state)
                else:
                    total = self._start_over(response)
                    have = 0
                if total is not None and self.size not in (None, total):
                    self._discard()
                    raise SourceError(f"it has {total} bytes, not {self.size}")
                self._store(response.raw, have, total)
                return total is None or self._have() == total
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.TooManyRedirects,
            requests.exceptions.SSLError,
        ) as error:
            raise SourceError(f"{type(error).__name__}: {error}") from error
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.IncompleteRead):
            return False
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
        ) as error:
            raise _TryAgainError(_cause(error)) from error

    def _check_answer(self, response: Any, asked_for_part: bool) -> None:
        status, kind = response.status_code, _media_type(response)
        came = f"status {status} ({response.reason}), {kind or 'no content type'}"
        if response.url != self.url:
            came += f", from {response.url}"
        if status in RETRIED:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            if wait > self.patience.longest_wait:
                raise SourceError(f"{came}; it asks to wait {wait:.0f} s")
            raise _TryAgainError(f"got {came}", wait)
        if status not in (200, 206) or (status == 206 and not asked_for_part):
            raise SourceError(f"got {came}")
        if "html" in kind:
            raise SourceError(f"got a web page instead of the file: {came}")
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        # Some servers call the packing of a .gz file its content encoding.
        if coding not in {"", "identity"} and not self.name.endswith(".gz"):
            raise SourceError(f"got it packed with '{coding}' unasked: {came}")

    def _start_over(self, response: Any) -> int | None:
        """Make room for a file from its first byte; return its size."""
        self._discard()
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        self._write_state({"validator": _validator(response), "total": total})
        return total

    def _check_range(
        self, response: Any, have: int, state: dict[str, Any]
    ) -> int | None:
        """Check that an answer continues what is there; return the file's size."""
        given = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", given.strip())
        total = None if match is None or match[3] == "*" else int(match[3])
        known: int | None = state.get("total")
        if (
            match is None
            or int(match[1]) != have
            or (None not in (total, known) and total != known)
            # Some servers know Range and not If-Range.
            or not _still(response, state["validator"])
        ):
            self._discard()
            raise _TryAgainError("the file changed between two tries")
        if known is None and total is not None:  # the first answer came in chunks
            self._write_state(state | {"total": total})
        return total if known is None else known

    def _nothing_more(self, response: Any, have: int, state: dict[str, Any]) -> bool:
        """Judge the answer that no byte follows those that are there."""
        given = response.headers.get("Content-Range", "").strip()
        if given == f"bytes */{have}" and state.get("total") in (None, have):
            return True
        self._discard()
        raise _TryAgainError("the file changed between two tries")

    def _store(self, raw: Any, have: int, total: int | None) -> None:
        missing = None if total is None else total - have
        free = shutil.disk_usage(self.part.parent).free
        if missing is not None and missing > free:
            raise ArtifactError(
                f"Expected {readable_size(missing)} of free space for '{self.part}'. "
                f"Got {readable_size(free)}. Make room, or name another folder in "
                f"ZEROSHOT_CACHE."
            )
        with (
            self.part.open("ab", buffering=0) as file,
            show_bytes(self.name, total, progress=self.progress) as advance,
        ):
            advance(have)
            # `read1` hands over what has come before a cut; `read` loses a whole chunk.
            while chunk := raw.read1(CHUNK, decode_content=False):
                have += len(chunk)
                if self.size is not None and have > self.size:
                    self._discard()
                    raise SourceError(f"it has more than {self.size} bytes")
                _write_all(file, chunk)
                advance(len(chunk))

    def _check(self, sha256: str | None, md5: str | None) -> str:
        have = self._have()
        if self.size not in (None, have) or not have:
            raise SourceError(f"got {have} bytes, not {self.size or 'a file'}")
        with self.part.open("rb") as file:
            if _HTML.match(file.read(512)):
                raise SourceError(f"got a web page of {have} bytes, not the file")
            os.fsync(file.fileno())
        if md5 and (got := file_digest(self.part, "md5")) != md5.lower():
            raise SourceError(f"got {have} bytes with the MD5 {got}, not {md5}")
        digest = file_digest(self.part, "sha256")
        if sha256 and digest != sha256.lower():
            raise SourceError(
                f"got {have} bytes with the SHA-256 {digest}, not {sha256}"
            )
        return digest

    def _complete(self) -> bool:
        have = self._have()
        return have > 0 and have == self._read_state().get("total")

    def _have(self) -> int:
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def _discard(self) -> None:
        # The part goes first: a state without a part does no harm.
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        valid = (
            isinstance(state, dict)
            and state.get("url") == self.url
            and isinstance(state.get("validator"), str | None)
            and isinstance(state.get("total"), int | None)
        )
        return state if valid else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        with replace_file(self.state) as temporary:
            temporary.write_text(json.dumps({"url": self.url} | state))


def _media_type(response: Any) -> str:
    kind: str = response.headers.get("Content-Type", "")
    return kind.partition(";")[0].strip().lower()


def _validator(response: Any) -> str | None:
    """Return what identifies the bytes of the file, for If-Range (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified") or None


def _still(response: Any, validator: str) -> bool:
    """Return whether an answer is of the same file, as far as it says."""
    header = "ETag" if validator.startswith('"') else "Last-Modified"
    given: str = response.headers.get(header, validator)
    return given == validator


def _retry_after(text: str) -> float:
    """Return the seconds that a server asks to wait."""
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _cause(error: BaseException) -> str:
    """Return what the system said, which requests and urllib3 wrap several times."""
    cause, inner = error, error.__context__
    while inner is not None:
        if isinstance(inner, OSError):
            cause = inner
        inner = inner.__context__
    return f"{type(cause).__name__}: {cause}"


def _write_all(file: Any, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
