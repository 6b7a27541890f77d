"""Any file that a provider reads: opened, unpacked, named and fingerprinted.

Packings (gzip, bzip2, xz, zip with one member) are recognised by their content, never
by the ending of the name.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot.errors import ArtifactError

__all__ = [
    "BLOCK",
    "FASTTEXT_MAGIC",
    "check_regular",
    "content_fingerprint",
    "describe_content",
    "is_fasttext",
    "open_archive",
    "open_packed",
    "open_stream",
    "unreadable",
]

BLOCK = 1 << 20  # bytes read at once
# What a packed file raises that ends early or is damaged; the last of them for a method
# of packing that zipfile does not know.
DAMAGE: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, lzma.LZMAError)
DAMAGE += (zipfile.BadZipFile, NotImplementedError)
# The same of what a zip archive contains; ValueError also for a name that is no UTF-8.
ARCHIVE_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, ValueError, struct.error)
FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")  # fasttext.cc

_BZIP2_START = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_FOREIGN = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"MATLAB ": "a MATLAB .mat file",
    b"\x93NUMPY": "a NumPy .npy array, which holds no words",
    b"PAR1": "a Parquet file",
    **{bytes([0x80, version]): "a Python pickle" for version in range(2, 6)},
    b"\x1f\x8b": "a gzip file",
    b"\xfd7zXZ\x00": "an xz file",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for",
    FASTTEXT_MAGIC: "a fastText .bin model",
}


@contextmanager
def open_stream(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading from its start, unpacked; see `open_packed`."""
    with open_packed(path) as (stream, _):
        yield stream


@contextmanager
def open_packed(path: Path) -> Iterator[tuple[io.BufferedReader, io.BufferedReader]]:
    """Open a file for reading from its start, and see how far it is read.

    ``path``: A plain file, gzip, bzip2, xz, or a zip archive with one member. Yields
    stream: unpacked; packed: the file as it is stored, for its position; ``stream``
    itself if it is not packed. Raises ArtifactError if the file is missing or a
    directory, the archive holds no or several files, or, while the block reads, the
    packed data ends early or is damaged.
    """
    check_regular(path)
    try:
        with ExitStack() as stack:
            plain: Any = stack.enter_context(path.open("rb", buffering=BLOCK))
            start = plain.peek(16)[:16]
            unpacked: Any
            if start.startswith(b"\x1f\x8b"):
                unpacked = gzip.GzipFile(fileobj=plain)
            elif _BZIP2_START.match(start):
                unpacked = bz2.BZ2File(plain)
            elif start.startswith(b"\xfd7zXZ\x00"):
                unpacked = lzma.LZMAFile(plain)  # noqa: SIM115 - on the stack below
            elif start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                archive = stack.enter_context(open_archive(plain, path))
                unpacked = _only_member(archive, path)
            else:
                yield plain, plain
                return
            stack.enter_context(unpacked)
            yield stack.enter_context(io.BufferedReader(unpacked, BLOCK)), plain
    except (FileNotFoundError, IsADirectoryError) as error:
        raise unreadable(path, error) from error
    except DAMAGE as error:
        raise _damaged(path, error) from error


def unreadable(path: Path, error: Exception) -> ArtifactError:
    """Return the error for a file that cannot be read at all."""
    text = f"Expected a readable file. Got '{path}': {error}. Check the path."
    if isinstance(error, FileNotFoundError):
        text = f"Expected a file at '{path}'. Got nothing there. Check the path."
    elif isinstance(error, IsADirectoryError):
        text = f"Expected a file at '{path}'. Got a directory. Name the file inside it."
    return ArtifactError(text)


def is_fasttext(path: Path) -> bool:
    """Return whether a file starts as a fastText ``.bin`` model does."""
    with open_stream(path) as stream:
        return stream.read(len(FASTTEXT_MAGIC)) == FASTTEXT_MAGIC


def check_regular(path: Path) -> None:
    """Refuse a pipe or a device, which may never end; what is not there may pass.

    Raises ArtifactError.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ArtifactError(
            f"Expected a file, which can be read several times. Got '{path}', a pipe "
            f"or a device. Write what it gives to a file first."
        )


def open_archive(file: BinaryIO | Path, path: Path) -> zipfile.ZipFile:
    """Open a zip archive, to read from ``file``; ``path`` is named in messages."""
    try:
        return zipfile.ZipFile(file)
    except ARCHIVE_DAMAGE as error:
        raise _damaged(path, error) from error


def describe_content(start: bytes) -> str | None:
    """Return what the first bytes of a file say it is, or None where they say nothing.

    Used for messages: a saved web page or a pointer in place of a download is common.
    """
    if not start:
        return "nothing (0 bytes)"
    for magic, description in _FOREIGN.items():
        if start.startswith(magic):
            return description
    if re.match(rb"\s*<(!doctype|html|\?xml)", start[:200], re.IGNORECASE):
        return "a web page or XML"
    return None


def content_fingerprint(path: Path, form: str) -> str:
    """Return a SHA-256 that stands for the vectors in a file.

    It covers ``form``, the size, the first and the last MiB and 16 blocks of 64 KiB
    evenly spread between, of the bytes as they are stored: not the path, not the time.
    Files of up to 3 MiB are covered whole. A change of a few bytes elsewhere that keeps
    the size goes unseen, and a packed file differs from the same file unpacked.

    Raises ArtifactError if the file cannot be read.
    """
    digest = hashlib.sha256(form.encode())
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            digest.update(b"%d" % size)
            for offset, length in _blocks(size):
                stream.seek(offset)
                digest.update(stream.read(length))
    except OSError as error:
        raise unreadable(path, error) from error
    return f"sha256:{digest.hexdigest()}"


def _blocks(size: int) -> list[tuple[int, int]]:
    if size <= 3 * BLOCK:
        return [(0, size)]
    middle = size - 2 * BLOCK - (64 << 10)
    spread = [(BLOCK + middle * i // 15, 64 << 10) for i in range(16)]
    return [(0, BLOCK), *spread, (size - BLOCK, BLOCK)]


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"Expected a readable, whole file. Got '{path}', which ends early or is "
        f"damaged ({error}). Fetch it again."
    )


def _only_member(archive: zipfile.ZipFile, path: Path) -> Any:
    members = [
        member
        for member in archive.infolist()
        # Not `is_dir`: that fails for the empty name of a damaged archive.
        if not member.filename.endswith("/")
        and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        named = ", ".join(f"'{member.filename}'" for member in members[:8])
        raise ArtifactError(
            f"Expected a zip archive with one file of word vectors. Got '{path}' with "
            f"{len(members)} files{': ' + named if named else ''}. Unpack it and name "
            f"the file you want."
        )
    if members[0].flag_bits & 1:
        raise ArtifactError(
            f"Expected a zip archive without a password. Got '{path}'. Unpack it first."
        )
    return archive.open(members[0])
