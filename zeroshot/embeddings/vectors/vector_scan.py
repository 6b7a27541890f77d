"""One scan over a vector file: the hash and the size of every row, for its index."""

import io
import re
from array import array
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

from zeroshot.embeddings.vectors.unpacked import Source, open_source
from zeroshot.embeddings.vectors.vector_layout import (
    LONGEST_ROW,
    RowError,
    VectorLayout,
    is_text,
)
from zeroshot.errors import ArtifactError

__all__ = ["Scan", "fail_row", "scan_records", "scan_rows"]

# Measured on 1 GB of text: 128 lines at once are as fast as more and hold 350 kB.
LINES_AT_ONCE = 128
# Bytes read at once. With 1 MiB a scan takes twice as long: so large, each block is
# given back to the system and faulted in again. (64 kB to 512 kB are alike.)
SCAN_BLOCK = 1 << 18
MOST_ODD = 1000  # odd tokens of a file that are looked at

_LINE_BREAK = re.compile(rb"\n")

# Of every row: CRC-32 of its token; size in bytes. Offset of the first.
Scan = tuple["array[int]", "array[int]", int]


def scan_rows(path: Path, source: Source, layout: VectorLayout) -> Scan:
    """Scan the rows of a file of word vectors.

    Parameters
    ----------
    path : Path
        To name in messages.
    source : Path or bytes
        The unpacked file.
    layout : VectorLayout
        Of this file.

    Raises
    ------
    ArtifactError
        If a row is too short or too long, the file ends too early or too late, or a
        binary token holds a space; names the file and the line or byte.
    """
    with open_source(path, source) as raw:
        raw.seek(layout.start)
        return (_scan_binary if layout.binary else _scan_text)(path, layout, raw)


def scan_records(
    raw: Any,
    start: int,
    separator: bytes,
    length: int,
    count: int,
    heads: Callable[[int, list[bytes]], list[bytes]],
) -> Scan:
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
    heads : callable
        Called with the number of a record (from 0) and the tokens from there on;
        returns what to hash of each.

    Raises
    ------
    RowError
        If a record is not whole; with its number and offset.
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
        hashes.extend(map(crc32, heads(count - left, tokens)))
        left -= len(tokens)
        base += at
        buffer = buffer[at:]
        endless = len(buffer) >= LONGEST_ROW and separator not in buffer[:LONGEST_ROW]
        if left and (endless or not block):
            raise RowError(f"{count - left} (the next, at byte {base}, is not whole)")
    return hashes, sizes, start


def fail_row(path: Path, where: str, dim: int, got: str) -> NoReturn:
    """Raise the error of a row that is not a word and ``dim`` finite numbers.

    Raises
    ------
    ArtifactError
    """
    raise ArtifactError(
        f"Expected a word and {dim} finite numbers in {where} of '{path}', as in its "
        f"other rows. Got {got}. The file is truncated or damaged: fetch it again, or "
        f"leave this word out."
    )


def _scan_text(path: Path, layout: VectorLayout, raw: Any) -> Scan:
    hashes, sizes, start = array("I"), array("Q"), layout.start
    shortest = 2 * layout.dim  # a space and a digit for each number
    number, last = layout.first_line, b""
    is_plain = not layout.columns and not layout.prefix
    file = io.BufferedReader(_LimitedLines(raw), SCAN_BLOCK)
    while lines := list(islice(file, LINES_AT_ONCE)):
        n_lines, lengths = len(lines), list(map(len, lines))
        if min(lengths) < shortest or max(lengths) >= LONGEST_ROW:
            lines, lengths, blank = _without_blank(path, layout, number, lines)
            if sizes:
                sizes[-1] += blank
            else:
                start += blank
        if is_plain:  # `layout.head` is three times as slow
            hashes.extend([crc32(line[: line.find(b" ")]) for line in lines])
        else:
            hashes.extend([crc32(layout.head(line)) for line in lines])
        sizes.extend(lengths)
        number += n_lines
        last = lines[-1] if lines else last
    if last:  # the one row that a cut file breaks
        _check_line(path, layout, number - 1, last)
    if layout.count is not None and len(hashes) < layout.count:
        raise ArtifactError(
            f"Expected {layout.count} rows, as line 1 of '{path}' says. Got "
            f"{len(hashes)}. The file is truncated: fetch it again."
        )
    return hashes, sizes, start


def _check_line(path: Path, layout: VectorLayout, number: int, line: bytes) -> None:
    try:
        layout.token(line)
    except RowError as error:
        fail_row(path, f"line {number}", layout.dim, str(error))


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
                fail_row(path, f"line {at}", layout.dim, f"{LONGEST_ROW} bytes or more")
            _check_line(path, layout, at, line)
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


def _scan_binary(path: Path, layout: VectorLayout, raw: Any) -> Scan:
    assert layout.count is not None
    odd: list[int] = []

    def heads(first: int, tokens: list[bytes]) -> list[bytes]:
        # The original word2vec writes a newline after each vector, gensim does not.
        if b"\n" in b"".join(tokens):
            tokens = [token.lstrip(b"\n") for token in tokens]
        if not is_text(b"".join(tokens)) and len(odd) < MOST_ODD:
            odd.extend(first + i for i, t in enumerate(tokens) if not is_text(t))
        if layout.prefix:
            return [token.removeprefix(layout.prefix) for token in tokens]
        return tokens

    length = 4 * layout.dim
    try:
        scan = scan_records(raw, layout.start, b" ", length, layout.count, heads)
    except RowError as error:
        raise ArtifactError(
            f"Expected a word and {layout.dim} float32, {layout.count} times, as the "
            f"header of '{path}' says. Got {error}. The file is truncated or damaged: "
            f"fetch it again."
        ) from error
    sizes = scan[1]
    end = layout.start + sum(sizes)
    raw.seek(end)
    rest = raw.read(LONGEST_ROW)
    wanted = {row for other in odd[:MOST_ODD] if other for row in (other - 1, other)}
    records, at = {}, layout.start
    for row, size in enumerate(sizes if wanted else ()):
        if row in wanted:
            raw.seek(at)
            records[row] = raw.read(size)
        at += size
    for row in sorted(wanted):
        if row + 1 in wanted and row + 1 in odd:
            _check_space(path, layout, row, records[row], records[row + 1])
    if rest.strip(b"\n"):
        raise ArtifactError(
            f"Expected the end of '{path}' after the {layout.count} vectors that its "
            f"header promises. Got more at byte {end}. The file is damaged, or a word "
            f"in it holds a space, which this form cannot express: save it again as "
            f"text, or with underscores for spaces."
        )
    return scan


def _check_space(
    path: Path, layout: VectorLayout, row: int, record: bytes, following: bytes
) -> None:
    """Refuse a record whose word goes on after its space.

    Then text and a space stand where the numbers start, and as many bytes of numbers
    before the next word, which are no text.
    """
    size = 4 * layout.dim
    token, content = record[: -size - 1].lstrip(b"\n"), record[-size:]
    after = following[: -size - 1]
    end = 0
    while (end := content.find(b" ", end) + 1) and end < len(after):
        if not is_text(content[:end]):
            return
        if is_text(after[end:].lstrip(b"\n")) and not is_text(after[:end]):
            word = (token + b" " + content[: end - 1]).decode("utf-8", "replace")
            raise ArtifactError(
                f"Expected words without spaces in the word2vec binary file '{path}'. "
                f"Got {word!r} in row {row + 1}, which this form cannot express: all "
                f"that follows is out of step. Save it again as text, or with "
                f"underscores for spaces."
            )
