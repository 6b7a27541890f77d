"""Rows of word vectors, found by an index of their tokens: no pass, a seek for each.

Here the index of a file is built, in one scan, and used. See
`zeroshot.embeddings.vectors.token_index` for what it is and where it is kept.
"""

import io
import re
from array import array
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.token_index import TokenIndex
from zeroshot.embeddings.vectors.vector_file import BLOCK, open_stream
from zeroshot.embeddings.vectors.vector_layout import (
    LONGEST_ROW,
    VectorLayout,
    fail_row,
    row_token,
)
from zeroshot.embeddings.vectors.vector_rows import (
    check_row_count,
    fail_binary_end,
    fail_binary_record,
    parse_row,
)
from zeroshot.errors import ArtifactError

__all__ = ["find_rows", "scan_records", "scan_tokens", "token_hash"]

# Measured on 1 GB of text: 128 lines at once are as fast as more and hold 350 kB.
LINES_AT_ONCE = 128
# Bytes read at once. With 1 MiB a scan takes twice as long: so large, each block is
# given back to the system and faulted in again. (64 kB to 512 kB are alike.)
SCAN_BLOCK = 1 << 18

_LINE_BREAK = re.compile(rb"\n")


def scan_tokens(path: Path, source: Path, layout: VectorLayout) -> TokenIndex:
    """Index the tokens of a file of word vectors in one scan.

    A token of text is indexed by what stands before its first space: where a token ends
    costs 30 times as much to tell, and only rows that are looked up need it.

    Parameters
    ----------
    path : Path
        To name in messages.
    source : Path
        The unpacked file.
    layout : VectorLayout
        Of this file.

    Raises
    ------
    ArtifactError
        If a row is too short or too long, or the file ends too early or too late; names
        the file and the line or byte.
    """
    with open_stream(source) as stream:
        # Beneath its buffer, which is not used: the scans bring buffers of their own.
        raw: Any = stream.raw
        raw.seek(layout.start)
        scan = _scan_binary if layout.binary else _scan_text
        hashes, sizes, start = scan(path, layout, raw)
    return TokenIndex.from_scan(hashes, sizes, start)


def scan_records(
    raw: Any,
    start: int,
    separator: bytes,
    length: int,
    count: int,
    fail: Callable[[int, int, bytes], NoReturn],
) -> "tuple[array[int], array[int], bytes]":
    """Scan records of a token, a separator and a fixed number of bytes.

    Parameters
    ----------
    raw : unbuffered binary file
        At the first record.
    start : int
        Offset of the first record in the file.
    separator : bytes
        One byte, which no token has.
    length : int
        Bytes after the separator.
    count : int
        Records.
    fail : callable
        Called with record (from 0), its offset and the bytes there, if it is not whole.

    Returns
    -------
    hashes : array of uint32
        CRC-32 of each token, without newlines before it.
    sizes : array of uint64
        Of each record, in bytes.
    rest : bytes
        What was read beyond the last record.
    """
    hashes, sizes = array("I"), array("Q")
    left, base = count, start
    buffer = b""
    while left:
        block = raw.read(SCAN_BLOCK)
        buffer += block
        tokens: list[bytes] = []
        keep, find, at = tokens.append, buffer.find, 0
        last, step = max(0, len(buffer) - length), 1 + length
        # Kept short: a million times this loop is nine tenths of the scan.
        while (end := find(separator, at, last)) >= 0:
            keep(buffer[at:end])
            at = end + step
        del tokens[left:]
        lengths = [len(token) + step for token in tokens]
        sizes.extend(lengths)
        at = sum(lengths)
        # The original word2vec writes a newline after each vector, gensim does not.
        if b"\n" in b"".join(tokens):
            tokens = [token.lstrip(b"\n") for token in tokens]
        hashes.extend(map(crc32, tokens))
        left -= len(tokens)
        base += at
        buffer = buffer[at:]
        endless = len(buffer) >= LONGEST_ROW and separator not in buffer[:LONGEST_ROW]
        if left and (endless or not block):
            fail(count - left, base, buffer)
    return hashes, sizes, buffer


def find_rows(
    path: Path,
    source: Path,
    layout: VectorLayout,
    index: TokenIndex,
    wanted: Collection[bytes],
) -> dict[bytes, NDArray[np.float32]]:
    """Find rows by their tokens.

    Parameters
    ----------
    path : Path
        To name in messages.
    source : Path
        The unpacked file.
    layout : VectorLayout
    index : TokenIndex
        Both of this file.
    wanted : collection of bytes
        Tokens; one that occurs twice in the file has its first row, as in gensim.

    Returns
    -------
    rows : dict of bytes to ndarray of shape (dim,), float32
        The tokens that were found; the same bits as
        `zeroshot.embeddings.vectors.vector_rows.read_rows` gives.

    Raises
    ------
    ArtifactError
        If a wanted row is broken or not finite; names the file and the line or byte.
    """
    heads: dict[bytes, list[bytes]] = {}
    for token in wanted:
        heads.setdefault(_head(token, layout), []).append(token)
    rows: dict[bytes, NDArray[np.float32]] = {}
    read = _binary_row if layout.binary else _text_row
    # A small buffer: the next seek throws away most of what a greater one reads.
    with open_stream(source) as stream, io.BufferedReader(stream.raw, 1 << 13) as file:
        for row, head in index.candidates(list(heads)):
            at, end = index.offsets[row : row + 2].tolist()
            file.seek(at)
            try:
                token, position, record = read(path, layout, file, end - at)
                if token in heads[head] and token not in rows:
                    rows[token] = parse_row(path, layout, at + position, record)
            except ArtifactError:
                if not layout.binary:
                    _fail_line(path, layout, file, at)
                raise
    return rows


def token_hash(token: bytes, layout: VectorLayout) -> int:
    """Return the hash under which an index has a token."""
    return crc32(_head(token, layout))


def _head(token: bytes, layout: VectorLayout) -> bytes:
    return token if layout.binary else token.split(b" ", 1)[0]


def _text_row(
    path: Path, layout: VectorLayout, file: io.BufferedReader, size: int
) -> tuple[bytes, int, bytes]:
    line = file.readline(min(size, LONGEST_ROW))  # blank lines may follow
    return row_token(path, 0, line, layout.dim), 0, line


def _binary_row(
    path: Path, layout: VectorLayout, file: io.BufferedReader, size: int
) -> tuple[bytes, int, bytes]:
    record = file.read(size)
    position = size - 4 * layout.dim
    token, space = record[: position - 1], record[position - 1 : position]
    if space != b" ":
        token = b" "  # which none is: the index does not fit the file
    return token.lstrip(b"\n"), position, record[position:]


def _fail_line(
    path: Path, layout: VectorLayout, file: io.BufferedReader, at: int
) -> None:
    """Fail as `_text_row` and `parse_row` do, but with the number of the line."""
    file.seek(layout.start)
    number, left = layout.first_line, at - layout.start
    while left and (block := file.read(min(left, BLOCK))):
        number += block.count(b"\n")
        left -= len(block)
    line = file.readline(LONGEST_ROW)
    row_token(path, number, line, layout.dim)
    parse_row(path, layout, number, line)


# Of every row: CRC-32 of its token; size in bytes. Offset of the first.
_Scan = tuple["array[int]", "array[int]", int]


def _scan_text(path: Path, layout: VectorLayout, raw: Any) -> _Scan:
    hashes, sizes, start = array("I"), array("Q"), layout.start
    shortest = 2 * layout.dim  # a space and a digit for each number
    number, last = layout.first_line, b""
    file = io.BufferedReader(_LimitedLines(raw), SCAN_BLOCK)
    while lines := list(islice(file, LINES_AT_ONCE)):
        n_lines, lengths = len(lines), list(map(len, lines))
        if min(lengths) < shortest or max(lengths) >= LONGEST_ROW:
            lines, lengths, blank = _without_blank(path, layout, number, lines)
            if sizes:
                sizes[-1] += blank
            else:
                start += blank
        hashes.extend([crc32(line[: line.find(b" ")]) for line in lines])
        sizes.extend(lengths)
        number += n_lines
        last = lines[-1] if lines else last
    if last:
        row_token(path, number, last, layout.dim)  # the one row that a cut file breaks
    check_row_count(path, layout, len(hashes))
    return hashes, sizes, start


def _without_blank(
    path: Path, layout: VectorLayout, number: int, lines: list[bytes]
) -> tuple[list[bytes], list[int], int]:
    """Return the rows among lines and their sizes; check those of odd length.

    The bytes of blank lines count to the row before them; those before the first row
    are returned beside.
    """
    rows: list[bytes] = []
    sizes = [0]
    for at, line in enumerate(lines, start=number):
        if not 2 * layout.dim <= len(line) < LONGEST_ROW:
            if line.isspace():
                sizes[-1] += len(line)
                continue
            if len(line) >= LONGEST_ROW:
                fail_row(path, at, layout.dim, f"{LONGEST_ROW} bytes or more")
            row_token(path, at, line, layout.dim)
        rows.append(line)
        sizes.append(len(line))
    return rows, sizes[1:], sizes[0]


class _LimitedLines(io.RawIOBase):
    """A file that ends where a line gets too long, before that fills the memory."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._unbroken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._unbroken >= LONGEST_ROW:
            return 0
        size: int = self._raw.readinto(buffer)
        # Ends at the first newline, mostly after a few kB.
        found = _LINE_BREAK.search(buffer, 0, size)
        self._unbroken = 0 if found else self._unbroken + size
        return size


def _scan_binary(path: Path, layout: VectorLayout, raw: Any) -> _Scan:
    def fail(record: int, at: int, rest: bytes) -> NoReturn:
        fail_binary_record(path, layout, record, at, rest)

    assert layout.count is not None
    shape = b" ", 4 * layout.dim, layout.count
    hashes, sizes, rest = scan_records(raw, layout.start, *shape, fail)
    if (rest + raw.read(BLOCK)).strip(b"\n"):
        fail_binary_end(path, layout, layout.start + sum(sizes))
    return hashes, sizes, layout.start
