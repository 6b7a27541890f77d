"""Archives unpacked safely, whole or not at all: one file of a zip or gzip, or a tar.

While it is written a result is ``NAME.unpacking``; what a killed process left of that
is deleted by the next. An archive may be hostile: nothing is written outside, links are
refused, and a bomb stops at a limit before it fills the memory or the disk.
"""

import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import (
    exclusive,
    file_digest,
    readable_size,
    record_hash,
    record_path,
    show_bytes,
    storage_error,
)
from zeroshot.storage.regular_files import open_regular, read_limited

__all__ = ["recorded_files", "unpack_folder", "unpack_member"]

BLOCK = 64 << 10  # bytes read at once; a longer name or header in a tar is refused
# Numbers as text pack to about 0.4, weights to 0.9, graphs to 0.1, zeros to 0.001.
LARGEST_RATIO = 50
NEVER_A_BOMB = 64 << 20  # bytes
MOST_FILES = 1_000  # in a folder; a SavedModel has a dozen
MOST_OF_RECORD = MOST_FILES << 13  # bytes: a path has 4096 at most
TAR_END = bytes(tarfile.BLOCKSIZE)
# Bytes of a header with a name or times, and digits in a row in it: tarfile of Python
# 3.11.7 takes 18 s for one of 64 KiB of digits. A path has at most 4096.
LONGEST_HEADER, MOST_DIGITS = 5 << 10, 40
HEADERS = b"xgXLK"  # marks in the block before one
DIGITS = re.compile(rb"\d{%d}" % MOST_DIGITS)


def unpack_member(
    archive: Path, destination: Path, *, member: str | None = None
) -> Path:
    """Unpack one file, unless it is there already.

    What an archive calls its files never decides where something is written. The
    SHA-256 of the file is recorded in ``NAME.sha256``, before it is there.

    The archive is a zip or gzip file, recognised by content. ``member``: path or last
    part of the path of the wanted file in a zip archive; without it that must hold a
    single file. Returns ``destination``. Raises ArtifactError if the archive is
    missing, damaged, no archive, encrypted, lacks the member, or unpacks to more than
    50 times its size (and more than 64 MiB); if the member is a link or has a path that
    leads out of the archive; or if it cannot be stored.
    """

    def write(file: BinaryIO, temporary: Path) -> None:
        reader, size = _open_file(file, str(archive), member)
        with (
            temporary.open("wb") as unpacked,
            show_bytes(f"unpacking {archive.name}", size) as advance,
        ):
            while block := reader.read(BLOCK):
                unpacked.write(block)
                advance(len(block))
            unpacked.flush()
            os.fsync(unpacked.fileno())
        record_hash(destination, file_digest(temporary, "sha256"))

    return _made(destination, archive, str(archive), write)


def unpack_folder(archive: Path, destination: Path, *, origin: str) -> Path:
    """Unpack a tar archive, plain or by gzip, to a folder, unless it is there already.

    The SHA-256 of each file is recorded in ``NAME.sha256`` beside the folder, see
    `recorded_files`. ``origin``: what error messages call the archive. Returns
    ``destination``. Raises ArtifactError as `unpack_member`; also for more than 1,000
    files.
    """

    def write(file: BinaryIO, temporary: Path) -> None:
        temporary.mkdir()
        reader = _Reader(_unzipped(file) or file, file, origin)
        # "r:" reads piece by piece what it needs, so that the limits of `read` hold.
        with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r:") as tar:
            for count, member in enumerate(tar):
                fault = _fault_of_path(member.name)
                if not (member.isdir() or member.isreg()) or member.issparse():
                    fault = "a link or another special file"
                if count >= MOST_FILES:
                    fault = f"one of more than {MOST_FILES} files"
                if fault:
                    raise _distrust(origin, f"'{member.name}', {fault}")
                tar.extract(member, temporary, set_attrs=False, filter="data")
        if reader.last != TAR_END:  # tarfile takes a damaged header for the end
            raise tarfile.ReadError("it has no end")
        while reader.read(BLOCK):  # gzip's checksum comes last
            pass
        lines = [
            f"{file_digest(path, 'sha256')} *{destination.name}/{name}\n"
            for name, path in _files_below(temporary)
        ]
        record_path(destination).write_text("".join(lines), encoding="utf-8")

    return _made(destination, archive, origin, write)


def recorded_files(folder: Path) -> dict[Path, str]:
    """Return the SHA-256 of each file in a folder that was unpacked; else nothing.

    ``folder``: the one that was made, or one in it.
    """
    if not folder.name:  # the root of a disk
        return {}
    try:
        text = read_limited(record_path(folder), MOST_OF_RECORD).decode()
    except (ArtifactError, UnicodeDecodeError):
        return {}
    pairs = (line.split(" *", 1) for line in text.split("\n") if " *" in line)
    return {folder.parent / name: digest for digest, name in pairs}


def _files_below(folder: Path) -> list[tuple[str, Path]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _made(
    destination: Path,
    archive: Path,
    origin: str,
    write: Callable[[BinaryIO, Path], None],
) -> Path:
    """Let ``write`` unpack the archive to a temporary place, and rename that."""
    if destination.exists():
        return destination
    with exclusive(destination):
        if destination.exists():
            return destination
        temporary = destination.with_name(f"{destination.name}.unpacking")
        try:
            _remove(temporary)
            with open_regular(archive) as file:
                write(file, temporary)
            temporary.replace(destination)
        except ArtifactError:
            raise
        except OSError as error:
            raise storage_error(destination, error) from error
        # What zipfile, tarfile and zlib raise for what is wrong in numbers, texts and
        # nested headers: a dozen types.
        except Exception as error:
            raise _damaged(origin, error) from error
        finally:
            _remove(temporary)
    return destination


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _Reader:
    """What an archive holds: in its order, within limits."""

    def __init__(self, stream: Any, file: BinaryIO, origin: str) -> None:
        self.stream, self.origin = stream, origin
        packed = os.fstat(file.fileno()).st_size
        self.limit = max(NEVER_A_BOMB, LARGEST_RATIO * packed)
        self.position, self.last = 0, b""
        self.in_header = False  # what is read next belongs to one

    def read(self, n: int) -> bytes:
        if not 0 <= n <= BLOCK:
            raise _distrust(self.origin, f"a header of {n} bytes")
        with _reading(self.origin):
            self.last = self.stream.read(n)
        if self.in_header and (
            len(self.last) > LONGEST_HEADER or DIGITS.search(self.last)
        ):
            raise _distrust(self.origin, f"an odd header of {n} bytes")
        self.in_header = len(self.last) == tarfile.BLOCKSIZE and (
            self.last[156] in HEADERS
        )
        self.position += len(self.last)
        if self.position > self.limit:
            raise _distrust(self.origin, f"more than {readable_size(self.limit)}")
        return self.last

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a file that begins before its header")
        while self.position < position:
            if not self.read(min(BLOCK, position - self.position)):
                break


@contextmanager
def _reading(origin: str) -> Iterator[None]:
    """Tell troubles of the archive from those of the disk that is written to."""
    try:
        yield
    except OSError as error:
        raise _damaged(origin, error) from error


def _unzipped(file: BinaryIO) -> gzip.GzipFile | None:
    start = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if start == b"\x1f\x8b" else None


def _open_file(
    file: BinaryIO, origin: str, member: str | None
) -> tuple[_Reader, int | None]:
    """Open the wanted file; give its reader and its size, where that is stated."""
    if (unzipped := _unzipped(file)) is not None:
        return _Reader(unzipped, file, origin), None
    with _reading(origin):
        zipped = zipfile.ZipFile(file)
        info = _choose(zipped, origin, member)
        return _Reader(zipped.open(info), file, origin), info.file_size


def _choose(
    zipped: zipfile.ZipFile, origin: str, member: str | None
) -> zipfile.ZipInfo:
    files = [
        info
        for info in zipped.infolist()
        # Not `is_dir`: that fails for the empty name of a damaged archive.
        if not info.filename.endswith("/") and not info.filename.startswith("__MACOSX/")
    ]
    wanted = [info for info in files if info.filename == member] or [
        info for info in files if member in (None, PurePosixPath(info.filename).name)
    ]
    if len(wanted) != 1:
        listed = ", ".join(f"'{info.filename}'" for info in files[:8]) or "no file"
        raise ArtifactError(
            f"Expected {f'the file {member!r}' if member else 'a single file'} in "
            f"'{origin}'. Got {listed}{' and more' if len(files) > 8 else ''}. Delete "
            f"the archive and fetch it again, or unpack it by hand."
        )
    info = wanted[0]
    fault = _fault_of_path(info.filename)
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        fault = "a link or another special file"
    elif info.flag_bits & 1:
        fault = "a file that needs a password"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fault = "a file that is not packed by deflate"
    if fault:
        raise _distrust(origin, f"'{info.filename}', {fault}")
    return info


def _fault_of_path(name: str) -> str | None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        return "a path that leads out of it"
    return None


def _distrust(origin: str, got: str) -> ArtifactError:
    return ArtifactError(
        f"Expected plain files in '{origin}'. Got {got}. Do not trust this archive; "
        f"fetch it from its publisher."
    )


def _damaged(origin: str, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"Expected a readable, whole archive. Got '{origin}': {type(error).__name__}: "
        f"{error}. Delete it and fetch it again."
    )
