"""Any file that a provider reads: opened, unpacked, named and fingerprinted.

Packings (gzip, bzip2, xz, zip with one member) are recognised by their content, never
by the ending of the name.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot.errors import ArtifactError
from zeroshot.storage.regular_files import open_regular

__all__ = [
    "BLOCK",
    "FASTTEXT_MAGIC",
    "content_fingerprint",
    "describe_content",
    "is_fasttext",
    "open_archive",
    "open_file",
    "open_packed",
    "open_stream",
    "unreadable",
]

BLOCK = 1 << 20  # bytes read at once
SMALL = 1 << 13  # of packed streams: of a thousand tiny ones, each copies the rest
# Against bombs. Published vectors are 2 to 4 times as large unpacked.
MOST_TIMES, LEAST_REFUSED = 50, 4 << 20
MOST_XZ_MEMORY = 256 << 20  # bytes; "xz -9" asks for 65 MiB
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
    itself if it is not packed. Raises ArtifactError if the file is missing or not
    regular, the archive holds no or several files, or, while the block reads, the
    packed data ends early, is damaged, or is more than 50 times as large unpacked (and
    more than 4 MiB).
    """
    with ExitStack() as stack:
        plain = stack.enter_context(open_file(path))
        try:
            with _told(path):
                unpacked = _unpacker(plain, path)
            if unpacked is None:
                yield plain, plain
                return
            size = os.fstat(plain.fileno()).st_size
            reader = _Unpacked(unpacked, path, size)
            yield stack.enter_context(io.BufferedReader(reader, BLOCK)), plain
        except OSError as error:
            raise unreadable(path, error) from error


def _unpacker(plain: io.BufferedReader, path: Path) -> Any:
    """Return what reads a packed file, or None where it is not packed."""
    start = plain.peek(16)[:16]
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=plain)
    if _BZIP2_START.match(start):
        return _Streams(plain, bz2.BZ2Decompressor)
    if start.startswith(b"\xfd7zXZ\x00"):
        return _Streams(plain, _xz)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _only_member(open_archive(plain, path), path)
    return None


class _Streams:
    """Packed streams one after the other, as bzip2 and xz may be.

    Python's own readers take a damaged beginning of the second for the end.
    """

    def __init__(self, file: BinaryIO, new: Callable[[], Any]) -> None:
        self._file, self._new = file, new
        self._stream = new()

    def read(self, n: int) -> bytes:
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0")  # padding
                while not packed:
                    if not (block := self._file.read(SMALL)):
                        return b""
                    packed = block.lstrip(b"\0")
                self._stream = self._new()
            elif self._stream.needs_input and not (packed := self._file.read(SMALL)):
                raise EOFError("no end of the packed stream")
            if content := self._stream.decompress(packed, n):
                return bytes(content)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_XZ_MEMORY)


class _Unpacked(io.RawIOBase):
    """What a packed file of so many bytes holds, up to a limit."""

    def __init__(self, stream: BinaryIO, path: Path, size: int) -> None:
        self._stream, self._path, self._size = stream, path, size
        self._limit = max(LEAST_REFUSED, MOST_TIMES * size)
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _told(self._path):
            content = self._stream.read(len(buffer))
        n = len(content)
        buffer[:n] = content
        self._done += n
        if self._done > self._limit:
            raise ArtifactError(
                f"Expected a packed file, some times as large unpacked. Got more than "
                f"{self._limit >> 20} MiB in '{self._path}', packed in {self._size} "
                f"bytes. If you trust it, unpack it yourself and name the unpacked "
                f"file."
            )
        return n


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever the libraries raise for a damaged packed file into our error."""
    try:
        yield
    except ArtifactError:
        raise
    # EOFError, zlib.error, LZMAError, BadZipFile, struct.error, OverflowError for a
    # damaged header, RuntimeError for a password, MemoryError for a claimed size.
    except Exception as error:
        raise _damaged(path, error) from error


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file as it is stored.

    Raises ArtifactError if there is none, or it cannot be opened.
    """
    if os.path.isdir(path) or not os.path.lexists(path):
        raise unreadable(path)
    opened: Any = open_regular(path)
    file = io.BufferedReader(opened.detach(), BLOCK)
    if file.peek(1) is None:  # a "regular" file of the system that would wait
        file.close()
        raise unreadable(path)
    return file


def unreadable(path: Path, error: object = "it cannot be read") -> ArtifactError:
    """Return the error for a file that cannot be read at all."""
    if os.path.isdir(path):
        text = f"Expected a file at '{path}'. Got a directory. Name the file inside it."
    elif os.path.lexists(path):
        text = f"Expected a readable file. Got '{path}': {error}. Check the path."
    else:
        text = f"Expected a file at '{path}'. Got nothing there. Check the path."
    return ArtifactError(text)


def is_fasttext(path: Path) -> bool:
    """Return whether a file starts as a fastText ``.bin`` model does."""
    with open_stream(path) as stream:
        return stream.read(len(FASTTEXT_MAGIC)) == FASTTEXT_MAGIC


def open_archive(file: BinaryIO, path: Path) -> zipfile.ZipFile:
    """Open a zip archive, to read from ``file``; ``path`` is named in messages."""
    with _told(path):
        return zipfile.ZipFile(file)


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
        with open_file(path) as stream:
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
    # zipfile unpacks the other methods without a limit of memory.
    if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArtifactError(
            f"Expected a zip archive packed by deflate. Got '{path}', packed by "
            f"another method. Unpack it first."
        )
    return archive.open(members[0])
