"""One file out of a zip archive or a gzip file, whole or not at all."""

import gzip
import hashlib
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Self

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import (
    exclusive,
    readable_size,
    record_hash,
    show_bytes,
    storage_error,
)

__all__ = ["unpack_member"]

BLOCK = 1 << 20  # bytes read at once
# Numbers as text pack to about 0.4, binary ones to 0.9, and zeros alone to 0.001.
LARGEST_RATIO = 50
NEVER_A_BOMB = 64 << 20  # bytes


def unpack_member(
    archive: Path,
    destination: Path,
    *,
    member: str | None = None,
    progress: bool = True,
) -> Path:
    """Unpack one file, unless it is there already.

    What an archive calls its files never decides where something is written. While it
    is written the file is ``NAME.unpacking``; what a killed process left of that is
    overwritten by the next. Its SHA-256 is recorded in ``NAME.sha256``.

    Parameters
    ----------
    archive : Path
        A zip archive or a gzip file, recognised by content.
    destination : Path
        The file to make. One that exists is not looked at.
    member : str, optional
        Path or last part of the path of the wanted file in a zip archive. Without it
        the archive must hold a single file.
    progress : bool, default=True
        Show a bar on stderr.

    Returns
    -------
    destination : Path

    Raises
    ------
    ArtifactError
        If the archive is missing, damaged, no archive, encrypted, lacks the member, or
        unpacks to more than 50 times its size (and more than 64 MiB); if the member is
        a link or has a path that leads out of the archive; or if it cannot be stored.
    """
    if destination.is_file():
        return destination
    with exclusive(destination):
        if destination.is_file():
            return destination
        temporary = destination.with_name(f"{destination.name}.unpacking")
        try:
            with _open(archive, member) as (stream, declared):
                digest = _copy(stream, temporary, archive, declared, progress)
            record_hash(destination, digest)
            temporary.replace(destination)
        finally:
            temporary.unlink(missing_ok=True)
    return destination


@contextmanager
def _open(archive: Path, member: str | None) -> Iterator[tuple[Any, int | None]]:
    """Open the wanted file; give its stream and its size, where that is stated."""
    try:
        with archive.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start.startswith(b"\x1f\x8b"):
                with gzip.GzipFile(fileobj=file) as unzipped:
                    yield unzipped, None
            elif start in (b"PK\x03\x04", b"PK\x05\x06"):
                with zipfile.ZipFile(file) as zipped:
                    info = _choose(zipped, archive, member)
                    with zipped.open(info) as stream:
                        yield stream, info.file_size
            else:
                raise ArtifactError(
                    f"Expected a zip or gzip file. Got '{archive}', which starts with "
                    f"{start!r}. Delete it and fetch it again."
                )
    except (
        EOFError,
        NotImplementedError,  # zipfile: a method of packing that it does not know
        OSError,
        UnicodeDecodeError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ArtifactError(
            f"Expected a readable, whole archive. Got '{archive}': "
            f"{type(error).__name__}: {error}. Delete it and fetch it again."
        ) from error


def _choose(
    zipped: zipfile.ZipFile, archive: Path, member: str | None
) -> zipfile.ZipInfo:
    files = [
        info
        for info in zipped.infolist()
        # Not `is_dir`: that fails for the empty name of a damaged archive.
        if not info.filename.endswith("/") and not info.filename.startswith("__MACOSX/")
    ]
    wanted = [info for info in files if info.filename == member] or [
        info
        for info in files
        if member is None or PurePosixPath(info.filename).name == member
    ]
    if len(wanted) != 1:
        listed = ", ".join(f"'{info.filename}'" for info in files[:8]) or "no file"
        raise ArtifactError(
            f"Expected {f'the file {member!r}' if member else 'a single file'} in "
            f"'{archive}'. Got {listed}{' and more' if len(files) > 8 else ''}. Delete "
            f"the archive and fetch it again, or unpack it by hand."
        )
    info = wanted[0]
    path = PurePosixPath(info.filename.replace("\\", "/"))
    fault = None
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        fault = "a path that leads out of the archive"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        fault = "a link or another special file"
    elif info.flag_bits & 1:
        fault = "a file that needs a password"
    if fault:
        raise ArtifactError(
            f"Expected a plain file in '{archive}'. Got '{info.filename}', {fault}. "
            f"Do not trust this archive; fetch it from its publisher."
        )
    return info


def _copy(
    stream: Any,
    temporary: Path,
    archive: Path,
    declared: int | None,
    progress: bool,
) -> str:
    """Write the stream to disk, within limits; return its SHA-256."""
    limit = max(NEVER_A_BOMB, LARGEST_RATIO * archive.stat().st_size)
    if declared is not None:
        _check_size(declared, limit, archive)
        free = shutil.disk_usage(temporary.parent).free
        if declared > free:
            raise ArtifactError(
                f"Expected {readable_size(declared)} of free space to unpack "
                f"'{archive}'. Got {readable_size(free)}. Make room, or name another "
                f"folder in ZEROSHOT_CACHE."
            )
    written, digest = 0, hashlib.sha256()
    with (
        _Output(temporary) as output,
        show_bytes(f"unpacking {archive.name}", declared, progress=progress) as advance,
    ):
        while block := stream.read(BLOCK):
            written += len(block)
            _check_size(written, limit, archive)
            digest.update(block)
            output.write(block)
            advance(len(block))
    return digest.hexdigest()


def _check_size(size: int, limit: int, archive: Path) -> None:
    if size > limit:
        raise ArtifactError(
            f"Expected '{archive}' to unpack to at most {readable_size(limit)}. Got "
            f"more than that. It is no archive of word vectors; do not trust it."
        )


class _Output:
    """A file whose troubles are told from those of the archive, also `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with self._named():
            self.file = self.path.open("wb")
        return self

    def write(self, block: bytes) -> None:
        with self._named():
            self.file.write(block)

    def __exit__(self, *error: object) -> None:
        with self._named():
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.path, error) from error
