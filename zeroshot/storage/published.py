"""Files that others publish: what they are, where they lie, how they come here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroshot.errors import ArtifactError
from zeroshot.storage.addresses import shown_url

__all__ = ["PublishedFile", "offline", "offline_error"]


@dataclass(frozen=True)
class PublishedFile:
    """One file that is fetched on first use.

    Attributes
    ----------
    name : str
        What it is, for people: ``"numberbatch"``.
    url : str
    path : Path
        Where the download lies here, or would lie.
    mirrors : tuple of str
        Other addresses of the same file.
    unpacked : Path or None
        What is made of it, where it is packed; that, too, may be put there by hand.
    size, size_about : int or None
        Bytes, as published; rounded.
    sha256, md5 : str or None
        Published hashes, hexadecimal.
    licence : str
        Empty where none is stated.
    largest : int or None
        Bytes at which a download is given up whose size is not published.
    """

    name: str
    url: str
    path: Path
    mirrors: tuple[str, ...] = ()
    unpacked: Path | None = None
    size: int | None = None
    size_about: int | None = None
    sha256: str | None = None
    md5: str | None = None
    licence: str = ""
    largest: int | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it is fetched: ``ZEROSHOT_MIRROR`` if that is set, or the publisher."""
        if house := os.environ.get("ZEROSHOT_MIRROR"):
            return (f"{house.rstrip('/')}/{self.url.rpartition('/')[2]}",)
        return (self.url, *self.mirrors)

    @property
    def is_here(self) -> bool:
        """Whether nothing would have to be fetched."""
        return any(p and os.path.isfile(p) for p in (self.unpacked, self.path))

    @property
    def size_text(self) -> str:
        """Published size for people; empty where there is none."""
        from zeroshot.storage.large_files import readable_size

        size = self.size or self.size_about
        about = "" if self.size else "about "
        return about + readable_size(size) if size else ""

    @property
    def licence_text(self) -> str:
        """Licence for people."""
        return self.licence or "not stated"

    def remote_size(self) -> str:
        """Return the size for people; asks the server where none is published."""
        if self.size_text:
            return self.size_text
        from zeroshot.storage.download import remote_size

        return remote_size(self.addresses[0])

    def fetch(self) -> Path:
        """Return ``path``, fetching the file if it is not there.

        Says first what is fetched, how large it is, under which licence, and where it
        will lie. Raises ArtifactError as `zeroshot.storage.download.download`; says
        where to put which file.
        """
        if os.path.isfile(self.path):
            return self.path
        from zeroshot.storage.download import LARGEST, download
        from zeroshot.storage.large_files import remark

        if offline():
            raise offline_error([self])
        url, *mirrors = self.addresses

        def tell(size: str) -> None:
            remark(
                f"fetching '{self.name}' from {shown_url(url)} ({size}; licence: "
                f"{self.licence_text}) to '{self.path.parent}'"
            )

        if self.size_text:
            tell(self.size_text)
        return download(
            url,
            self.path,
            mirrors=mirrors,
            sha256=self.sha256,
            md5=self.md5,
            size=self.size,
            largest=self.largest or 2 * (self.size_about or 0) or LARGEST,
            tell=None if self.size_text else tell,
        )


def offline() -> bool:
    """Return whether ``ZEROSHOT_OFFLINE`` forbids downloads (not 0, false, empty)."""
    return os.environ.get("ZEROSHOT_OFFLINE", "").lower() not in {"", "0", "false"}


def offline_error(files: Sequence[PublishedFile]) -> ArtifactError:
    """Return the error for files that are not here and must not be fetched.

    ``files``: at least one. The error has the address and the place of each.
    """
    steps = []
    for file in files:
        places = " or ".join(f"'{p}'" for p in (file.path, file.unpacked) if p)
        packed = " (packed or unpacked)" if file.unpacked else ""
        steps.append(f"get {shown_url(file.url)} and put it at {places}{packed}")
    names = ", ".join(f"'{file.name}'" for file in files)
    return ArtifactError(
        f"Expected {names} on this machine. Got nothing there, and ZEROSHOT_OFFLINE "
        f"forbids downloads. On a machine with a network: {'; '.join(steps)}. Or unset "
        f"ZEROSHOT_OFFLINE."
    )
