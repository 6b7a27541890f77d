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
    readable_size,
    record_hash,
    record_path,
    recorded_hash,
    shown_url,
    storage_error,
)
from zeroshot.storage.transfer import RefusedError, Source

__all__ = ["LARGEST", "download", "offline"]

LARGEST = 32 << 30  # bytes; the largest published vectors have some 7 GiB


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
    bytes at which a file is given up whose size is not published. ``attempts``: tries
    in a row that bring less than 1 KiB before an address is given up. ``timeout``:
    seconds without a byte after which the connection counts as dead. A server that
    sends less than 1 KiB a second for so long is given up. ``pause``: seconds before
    the second try; doubled for each further one, up to a minute. A server that asks for
    more (``Retry-After``) is given up. Raises ArtifactError if ``ZEROSHOT_OFFLINE`` is
    set, no address gives the file, what comes is not it (a web page, another size or
    hash), or it cannot be stored; says what came and what to do.
    """
    if destination.is_file():
        return destination
    if offline():
        raise ArtifactError(
            f"Expected '{destination}'. Got nothing there, and ZEROSHOT_OFFLINE "
            f"forbids downloads. Get {shown_url(url)} on another machine and put it "
            f"there, or unset ZEROSHOT_OFFLINE."
        )
    failures = []
    with exclusive(destination):
        if destination.is_file():
            return destination
        recorded = None if sha256 or md5 else recorded_hash(destination)
        is_archive = destination.suffix in (".gz", ".zip")
        checkable = bool(sha256 or md5 or recorded or size or is_archive)
        for address in (url, *mirrors):
            source = Source(
                *(address, destination, size, size or largest),
                *(attempts, timeout, pause, checkable),
            )
            try:
                digest = source.fetch_checked(sha256 or recorded, md5)
                record_hash(destination, digest)
                source.part.replace(destination)
            except RefusedError as error:
                failures.append(f"{shown_url(address)}: {error}.")
            except OSError as error:
                raise storage_error(destination, error) from error
            else:
                return destination
            finally:
                source.tidy()
    told = f" ({readable_size(size)})" if size else ""
    hint = (
        ""
        if recorded is None
        else f" If its publisher has changed the file, delete "
        f"'{record_path(destination)}', the hash of the first download, and try again."
    )
    raise ArtifactError(
        f"Expected to download '{destination.name}'{told}. Got no usable answer. "
        f"{' '.join(failures)} Try again later (what came is kept and resumed), or get "
        f"the file by other means and put it at '{destination}'.{hint}"
    )


def offline() -> bool:
    """Return whether ``ZEROSHOT_OFFLINE`` forbids downloads (not 0, false, empty)."""
    return os.environ.get("ZEROSHOT_OFFLINE", "").lower() not in {"", "0", "false"}
