"""One scan over a vector file: the hash and the size of every row, for its index."""

from array import array
from collections.abc import Callable, Iterable
from operator import sub
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_cache import Source
from zeroshot.embeddings.vectors.vector_layout import (
    LONGEST_ROW,
    RowError,
    VectorLayout,
    check_line,
    fail_row,
    is_text,
)
from zeroshot.errors import ArtifactError

__all__ = ["Scan", "scan_records", "scan_rows"]

# Bytes read at once. With 1 MiB a scan takes twice as long: so large, each block is
# given back to the system and faulted in again. (64 kB to 512 kB are alike.)
SCAN_BLOCK = 1 << 18
MOST_BLANK = 100_000  # lines, beside two after each row: 64 MiB of them take 20 s
MOST_ODD = 1000  # odd tokens of a file that are looked at

# CRC-32 of the token of each row; the offset of each row, and of the end of the last.
Scan = tuple["array[int]", NDArray[np.uint64]]


def scan_rows(source: Source, layout: VectorLayout) -> Scan:
    """Scan the rows of an unpacked file of word vectors.

    Refuses one whose rows are too short or too long, that ends too early or too late,
    or that is binary and has a word with a space.
    """
    scan = _scan_binary if layout.binary else _scan_text
    with source.opened() as raw:
        raw.seek(layout.start)
        return scan(source.path, layout, raw)


def scan_records(
    raw: Any,
    start: int,
    separator: bytes,
    length: int,
    count: int,
    heads: Callable[[int, list[bytes]], list[bytes]],
) -> Scan:
    """Scan records of a token, a separator and a fixed number of bytes.

    ``raw``: at the first record, which is at ``start`` in the file. ``separator``: one
    byte, which no token has. ``length``: bytes after the separator. ``count``: records.
    ``heads``: called with the number of a record (from 0) and the tokens from there on;
    returns what to hash of each. Raises RowError if a record is not whole; with its
    number and offset.
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
    offsets = np.zeros(count + 1, dtype=np.uint64)
    np.cumsum(sizes, out=offsets[1:])
    return hashes, offsets + np.uint64(start)


def _scan_text(path: Path, layout: VectorLayout, raw: Any) -> Scan:
    hashes, starts = array("I"), array("Q")
    shortest = 2 * layout.dim  # a space and a digit for each number
    number, base, buffer, last = layout.first_line, layout.start, b"", b""
    n_blank = 0
    is_plain = not layout.columns and not layout.prefix
    while block := raw.read(SCAN_BLOCK) or (buffer and b"\n"):
        buffer += block
        find, at = buffer.find, 0
        heads, begins = [], []
        while (end := find(b"\n", at)) >= 0:  # kept short, as in `scan_records`
            space = find(b" ", at, end)
            heads.append(buffer[at:space] if space > 0 else b"")
            begins.append(at)
            at = end + 1
        n_lines = len(begins)
        if len(buffer) - at >= LONGEST_ROW:
            where, got = f"line {number + n_lines}", f"{LONGEST_ROW} bytes or more"
            fail_row(path, where, layout.dim, got)
        lengths = map(sub, [*begins[1:], at], begins)
        if not is_plain or min(lengths, default=shortest + 1) <= shortest:
            lines = zip(begins, buffer[:at].split(b"\n"), strict=False)
            rows = _rows_among(path, layout, number, lines)
            n_blank += n_lines - len(rows)
            if n_blank > MOST_BLANK + 2 * (len(starts) + len(rows)):
                fail_row(path, f"line {number}", layout.dim, "blank lines without end")
            begins = [begin for begin, _ in rows]
            heads = [layout.head(row) for _, row in rows]
        hashes.extend(map(crc32, heads))
        starts.extend([base + begin for begin in begins])
        number += n_lines
        if begins:
            last = buffer[begins[-1] : at]
        base += at
        buffer = buffer[at:]
    if last:  # the one row that a cut file breaks
        check_line(path, layout, number - 1, last)
    if layout.count is not None and len(hashes) < layout.count:
        raise ArtifactError(
            f"Expected {layout.count} rows, as line 1 of '{path}' says. Got "
            f"{len(hashes)}. The file is truncated: fetch it again."
        )
    # The bytes of blank lines count to the row before them.
    starts.append(base)
    return hashes, np.frombuffer(starts, np.uint64)


def _rows_among(
    path: Path, layout: VectorLayout, number: int, lines: Iterable[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Return those lines, with where they begin, that are not blank."""
    rows = []
    for at, (begin, line) in enumerate(lines, start=number):
        if not line.strip():
            continue
        if len(line) < 2 * layout.dim:
            check_line(path, layout, at, line)
        rows.append((begin, line))
    return rows


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
    offsets = scan[1]
    for row in odd[:MOST_ODD]:
        if row:
            start, middle, end = offsets[row - 1 : row + 2].tolist()
            raw.seek(start)
            before, record = raw.read(middle - start), raw.read(end - middle)
            _check_space(path, layout, row, before, record)
    end = int(offsets[-1])
    raw.seek(end)
    rest = raw.read(LONGEST_ROW)
    if rest.strip(b"\n"):
        raise ArtifactError(
            f"Expected the end of '{path}' after the {layout.count} vectors that its "
            f"header promises. Got more at byte {end}. The file is damaged, or a word "
            f"in it holds a space, which this form cannot express: save it again as "
            f"text, or with underscores for spaces."
        )
    return scan


def _check_space(
    path: Path, layout: VectorLayout, number: int, record: bytes, following: bytes
) -> None:
    """Refuse a record, its number counted from 1, whose word goes on after its space.

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
                f"Got {word!r} in row {number}, which this form cannot express: all "
                f"that follows is out of step. Save it again as text, or with "
                f"underscores for spaces."
            )
