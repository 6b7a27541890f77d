"""Downloads of large files: resumed, checked, and in place whole or not at all.

Only a complete and checked file gets its name. Beside it lies ``NAME.sha256``, its hash
in the form that ``sha256sum -c`` reads.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import (
    exclusive,
    record_hash,
    record_path,
    recorded_hash,
    storage_error,
)
from zeroshot.storage.transfer import Patience, Source, SourceError

__all__ = ["download", "offline"]


def download(
    url: str,
    destination: Path,
    *,
    mirrors: Sequence[str] = (),
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
    longest_wait: float = 60.0,
    progress: bool = True,
) -> Path:
    """Fetch a file, unless it is there already.

    Proxies, certificates and ``.netrc`` are those of requests, from the environment. A
    second process that wants the same file waits for the first and then finds it.

    Parameters
    ----------
    url : str
        Where the file is published.
    destination : Path
        The file to make; its folder is made too. One that exists is not looked at.
    mirrors : sequence of str
        Other addresses of the same file, tried in turn when one fails for good.
    sha256, md5 : str, optional
        Published hash, hexadecimal. Without one the hash of the first download counts,
        which lies in ``NAME.sha256`` beside the file.
    size : int, optional
        Published size in bytes.
    attempts : int, default=5
        Tries in a row that bring no new byte before an address is given up, at least 1.
    timeout : float, default=30.0
        Seconds without a byte after which the connection counts as dead.
    pause : float, default=1.0
        Seconds before the second try; doubled for each further one.
    longest_wait : float, default=60.0
        Seconds that a pause may last. A server that asks for more (``Retry-After``) is
        given up.
    progress : bool, default=True
        Show a bar and remarks on stderr.

    Returns
    -------
    destination : Path

    Raises
    ------
    ArtifactError
        If ``ZEROSHOT_OFFLINE`` is set, no address gives the file, what comes is not it
        (a web page, another size or hash), or it cannot be stored; says what came and
        what to do.
    """
    if destination.is_file():
        return destination
    if offline():
        raise ArtifactError(
            f"Expected '{destination}'. Got nothing there, and ZEROSHOT_OFFLINE "
            f"forbids downloads. Get {url} on another machine and put it there, or "
            f"unset ZEROSHOT_OFFLINE."
        )
    patience = Patience(attempts, timeout, pause, longest_wait)
    with exclusive(destination):
        if destination.is_file():
            return destination
        recorded = None if sha256 or md5 else recorded_hash(destination)
        failures = []
        for address in (url, *mirrors):
            source = Source(address, destination, size, patience, progress)
            try:
                digest = source.fetch_checked(sha256 or recorded, md5)
                record_hash(destination, digest)
                source.part.replace(destination)
                source.state.unlink(missing_ok=True)
            except SourceError as error:
                failures.append(f"{address}: {error}.")
            except OSError as error:
                raise storage_error(destination, error) from error
            else:
                return destination
    hint = (
        ""
        if recorded is None
        else f" If its publisher has changed the file, delete "
        f"'{record_path(destination)}', the hash of the first download, and try again."
    )
    raise ArtifactError(
        f"Expected to download '{destination.name}'. Got no usable answer. "
        f"{' '.join(failures)} Try again later (what came is kept and resumed), or get "
        f"the file by other means and put it at '{destination}'.{hint}"
    )


def offline() -> bool:
    """Return whether ``ZEROSHOT_OFFLINE`` forbids downloads.

    Returns
    -------
    forbidden : bool
        True where the variable is set and is none of ``0``, ``false`` and nothing.
    """
    return os.environ.get("ZEROSHOT_OFFLINE", "").lower() not in {"", "0", "false"}
