"""Rows of word vectors, met in one pass over the file.

The whole file is never held in memory. Every token of a pass is looked at, but only
the numbers of wanted rows are parsed. For a file that stays at hand unpacked,
`zeroshot.embeddings.vectors.indexed_rows` finds rows without a pass.
"""

import io
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_file import BLOCK, open_stream
from zeroshot.embeddings.vectors.vector_layout import (
    LINE_END,
    LONGEST_ROW,
    VectorLayout,
    fail_row,
    row_token,
)
from zeroshot.errors import ArtifactError

__all__ = [
    "as_tokens",
    "check_row_count",
    "fail_binary_end",
    "fail_binary_record",
    "parse_row",
    "read_all_rows",
    "read_rows",
    "read_tokens",
]

NEWLINE = 10


def read_rows(
    path: Path, layout: VectorLayout, wanted: Collection[bytes]
) -> dict[bytes, NDArray[np.float32]]:
    """Find rows by their tokens in one pass, which ends when all are found.

    Parameters
    ----------
    path : Path
    layout : VectorLayout
        Of this file.
    wanted : collection of bytes
        Tokens; one that occurs twice in the file has its first row, as in gensim.

    Returns
    -------
    rows : dict of bytes to ndarray of shape (dim,), float32
        The tokens that were found. Text is parsed as float64 and rounded to float32,
        bit-equal to gensim.

    Raises
    ------
    ArtifactError
        If a wanted row is broken or not finite, a row that the pass meets is too
        short, or the file ends too early; names the file and the line or byte.
    """
    wanted = frozenset(wanted)
    rows: dict[bytes, NDArray[np.float32]] = {}
    if not wanted:
        return rows
    with closing(_records(path, layout, wanted)) as records:
        for position, token, record in records:
            if token in wanted and token not in rows:
                rows[token] = parse_row(path, layout, position, record)
                if len(rows) == len(wanted):
                    break
    return rows


def read_tokens(path: Path, layout: VectorLayout) -> Iterator[bytes]:
    """Yield the token of every row in the order of the file, in one pass.

    Raises
    ------
    ArtifactError
        If a row has another length or the file ends too early.
    """
    with closing(_records(path, layout, None)) as records:
        for _, token, _ in records:
            yield token


def read_all_rows(
    path: Path, layout: VectorLayout
) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Yield the token and the vector of every row, in one pass.

    Raises
    ------
    ArtifactError
        If a row is broken or not finite, or the file ends too early.
    """
    with closing(_records(path, layout, None)) as records:
        for position, token, record in records:
            yield token, parse_row(path, layout, position, record)


def as_tokens(words: Collection[str]) -> dict[bytes, str]:
    """Return the bytes that stand for words in a file, and for each its word.

    A byte that is no UTF-8 is a lone surrogate in a word (``"surrogateescape"``).
    Words that no file can hold are left out: with other surrogates, or with
    surrogates that spell UTF-8.
    """
    tokens = {}
    for word in words:
        try:
            token = word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            continue
        if token.decode("utf-8", "surrogateescape") == word:
            tokens[token] = word
    return tokens


# Number of the line or offset of the numbers; token; the line or the float32 bytes.
_Record = tuple[int, bytes, bytes]


def _records(
    path: Path, layout: VectorLayout, wanted: frozenset[bytes] | None
) -> Generator[_Record, None, None]:
    """Yield the records whose token is wanted (all if None), perhaps some others."""
    with open_stream(path) as stream:
        stream.read(layout.start)
        reader = _binary_records if layout.binary else _text_records
        yield from reader(path, layout, wanted, stream)


def _text_records(
    path: Path,
    layout: VectorLayout,
    wanted: frozenset[bytes] | None,
    stream: io.BufferedReader,
) -> Iterator[_Record]:
    # A token may hold spaces, but cutting it out exactly costs 30 times this test of
    # what stands before the first space. So that comes first, the rest only on a hit.
    heads = None if wanted is None else {token.split(b" ", 1)[0] for token in wanted}
    shortest = 2 * layout.dim  # a space and a digit for each number
    rows = 0
    last = b""
    # readline with a limit: a damaged file may hold gigabytes without a newline.
    lines = iter(partial(stream.readline, LONGEST_ROW), b"")
    for number, line in enumerate(lines, start=layout.first_line):
        if not shortest <= len(line) < LONGEST_ROW:
            if line.isspace():
                continue
            if len(line) == LONGEST_ROW:
                fail_row(path, number, layout.dim, f"{LONGEST_ROW} bytes or more")
            row_token(path, number, line, layout.dim)
        rows += 1
        last = line
        if heads is None or line[: line.find(b" ")] in heads:
            yield number, row_token(path, number, line, layout.dim), line
    if last:
        row_token(path, number, last, layout.dim)  # the one row that a cut file breaks
    check_row_count(path, layout, rows)


def _binary_records(
    path: Path,
    layout: VectorLayout,
    wanted: frozenset[bytes] | None,
    stream: io.BufferedReader,
) -> Iterator[_Record]:
    assert layout.count is not None
    length = 4 * layout.dim
    buffer, at, base = b"", 0, layout.start
    for record in range(layout.count):
        end = buffer.find(b" ", at)
        if end < 0 or end + length >= len(buffer):
            buffer, base = buffer[at:] + stream.read(BLOCK + length), base + at
            at, end = 0, buffer.find(b" ", 0, LONGEST_ROW)
            if end < 0 or end + length >= len(buffer):
                fail_binary_record(path, layout, record, base, buffer)
        # The original C program writes a newline after each vector, gensim does not.
        while buffer[at] == NEWLINE:
            at += 1
        token = buffer[at:end]
        at = end + 1 + length
        if wanted is None or token in wanted:
            yield base + end + 1, token, buffer[end + 1 : at]
    rest = buffer[at:] + stream.read(BLOCK)
    if rest.strip(b"\n"):
        fail_binary_end(path, layout, base + at)


def check_row_count(path: Path, layout: VectorLayout, rows: int) -> None:
    """Refuse a file of text that has fewer rows than its header promises.

    Raises
    ------
    ArtifactError
    """
    if layout.count is not None and rows < layout.count:
        raise ArtifactError(
            f"Expected {layout.count} rows, as line 1 of '{path}' says. Got {rows}. "
            f"The file is truncated: fetch it again."
        )


def fail_binary_record(
    path: Path, layout: VectorLayout, record: int, at: int, rest: bytes
) -> NoReturn:
    """Raise the error of a binary record (from 0, at byte ``at``) that is not whole."""
    got = "the end of the file" if b" " in rest[:LONGEST_ROW] else "no word"
    raise ArtifactError(
        f"Expected a word and {layout.dim} float32 at byte {at} of '{path}' (vector "
        f"{record + 1} of {layout.count}). Got {got} within {len(rest)} bytes. The "
        f"file is truncated or damaged: fetch it again."
    )


def fail_binary_end(path: Path, layout: VectorLayout, at: int) -> NoReturn:
    """Raise the error of a binary file that goes on after its last record."""
    raise ArtifactError(
        f"Expected the end of '{path}' after the {layout.count} vectors that its "
        f"header promises. Got more at byte {at}. The file is damaged, or a word in it "
        f"holds a space, which this form cannot express."
    )


def parse_row(
    path: Path, layout: VectorLayout, position: int, record: bytes
) -> NDArray[np.float32]:
    """Return the vector of one row.

    Parameters
    ----------
    path : Path
    layout : VectorLayout
    position : int
        Number of the line, or offset of the numbers; to name in a message.
    record : bytes
        The line, or the float32 bytes.

    Returns
    -------
    vector : ndarray of shape (dim,), float32

    Raises
    ------
    ArtifactError
        If these are not ``dim`` finite numbers.
    """
    where = f"{'byte' if layout.binary else 'line'} {position} of '{path}'"
    if layout.binary:
        vector = np.frombuffer(record, dtype="<f4").astype(np.float32)
    else:
        numbers = record.rstrip(LINE_END).rsplit(b" ", layout.dim)[1:]
        try:
            exact = np.fromiter(map(float, numbers), np.float64, layout.dim)
        except ValueError as error:
            raise ArtifactError(
                f"Expected a word and {layout.dim} numbers in {where}. Got something "
                f"else ({error}). The file is damaged: fetch it again."
            ) from error
        with np.errstate(over="ignore"):  # becomes inf, which is refused below
            vector = exact.astype(np.float32)
    if not np.isfinite(vector).all():
        raise ArtifactError(
            f"Expected finite float32 numbers in {where}. Got NaN or infinity. The "
            f"file is damaged: fetch it again, or leave this word out."
        )
    return vector
