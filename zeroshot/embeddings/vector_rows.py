"""Rows of word vectors: which form a file has, and its rows, read in one pass.

Three forms, each plain or packed (.gz, .bz2, .xz, .zip with one member), recognised by
their content and never by the ending of the name:

- text without a header (GloVe): ``token number number ...``, one row a line;
- the same with a first line ``n dim`` (word2vec text, fastText .vec);
- word2vec binary: ``n dim`` and a newline, then ``token``, a space and ``dim``
  little-endian float32, with or without a newline between the records.

Text tokens may hold spaces (GloVe 840B does): the last ``dim`` fields are the numbers.
A token whose last part after a space is itself a number is not supported, because such
a row cannot be told from a row that is too long.

The whole file is never held in memory. Every token of a pass is looked at, but only
the numbers of wanted rows are parsed.
"""

import io
import re
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vector_file import (
    BLOCK,
    FASTTEXT_MAGIC,
    describe_content,
    open_stream,
)
from zeroshot.errors import ArtifactError

__all__ = [
    "MOST_DIMS",
    "VectorLayout",
    "as_tokens",
    "read_rows",
    "read_tokens",
    "recognise_layout",
]

# A limit against broken headers; real vectors have some 50 to 4,096 numbers.
MOST_DIMS = 1 << 15
LONGEST_ROW = 1 << 20  # bytes of a line or a binary token; 300 numbers take about 3 kB
SAMPLE_LINES = 100
NEWLINE = 10

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*")
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LINE_END = b" \t\r\n"  # many programs write a space after the last number
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TEXT_BYTES = bytes([9, 10, 13, *range(32, 127)])


@dataclass(frozen=True)
class VectorLayout:
    """The form of a file of word vectors.

    Parameters
    ----------
    binary : bool
        word2vec binary if true, else one text row a line.
    dim : int
        Numbers in a row.
    count : int or None
        Rows that the header promises; None without a header.
    start : int
        Offset of the first row in the unpacked file, in bytes.
    """

    binary: bool
    dim: int
    count: int | None
    start: int

    @property
    def form(self) -> str:
        """``"word2vec-binary"``, ``"word2vec-text"`` or ``"glove-text"``."""
        if self.binary:
            return "word2vec-binary"
        return "glove-text" if self.count is None else "word2vec-text"


def recognise_layout(path: Path) -> VectorLayout:
    """Recognise the form of a file of word vectors from its first MiB.

    Without a header, ``dim`` is what most of the first 100 lines say, counting numbers
    from the right. A tie between lengths goes to the greater one, so that a row cut
    short is an error and not a new length.

    Raises
    ------
    ArtifactError
        If it is no file of word vectors, its header is impossible, or one of the first
        rows has another length; names the file and the line.
    """
    with open_stream(path) as stream:
        sample = stream.read(LONGEST_ROW)
        # Known only for a plain file: how long a packed one is, only a pass tells.
        size = path.stat().st_size if isinstance(stream.raw, io.FileIO) else None
    foreign = describe_content(sample)
    if foreign is not None:
        hint = "Name a text or binary file in GloVe's, word2vec's or fastText's form."
        if sample.startswith(FASTTEXT_MAGIC):
            hint = f"Open it as 'fasttext:{path}', unpacked if it is packed."
        raise ArtifactError(
            f"Expected a file of word vectors. Got '{path}', which holds {foreign}. "
            f"{hint}"
        )
    start = len(_BYTE_ORDER_MARK) if sample.startswith(_BYTE_ORDER_MARK) else 0
    lines = _whole_lines(sample[start:], ended=len(sample) < LONGEST_ROW)
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        return _recognise_headerless(path, lines, start)
    layout = VectorLayout(
        binary=False,
        dim=int(header[2]),
        count=int(header[1]),
        start=start + len(lines[0]) + 1,
    )
    if layout.count == 0 or not 1 <= layout.dim <= MOST_DIMS:
        raise ArtifactError(
            f"Expected a header of the number of rows and of 1 to {MOST_DIMS} numbers "
            f"a row. Got {layout.count} and {layout.dim} in line 1 of '{path}'. The "
            f"file is broken or no file of word vectors."
        )
    body = sample[layout.start :]
    rows = [line for line in lines[1:] if line.strip()]
    most = _usual_length(rows)
    if most == layout.dim:
        _check_rows(path, layout, lines[1:])
        return layout
    if _holds_binary_records(body, layout.dim):
        return _checked_binary(path, layout, size)
    raise ArtifactError(
        f"Expected rows of {layout.dim} numbers, as line 1 of '{path}' says. Got "
        f"{'no row' if not body.strip() else f'rows of {most} numbers'}. The file is "
        f"truncated or no file of word vectors: fetch it again."
    )


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
                rows[token] = _parse(path, layout, position, record)
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


def _whole_lines(sample: bytes, *, ended: bool) -> list[bytes]:
    lines = sample.split(b"\n", SAMPLE_LINES + 1)
    if len(lines) > SAMPLE_LINES + 1 or not ended or not lines[-1]:
        lines.pop()
    return lines


def _recognise_headerless(path: Path, lines: list[bytes], start: int) -> VectorLayout:
    most = _usual_length([line for line in lines if line.strip()])
    # One number a row is a list of words and counts, not of vectors.
    if not 2 <= most <= MOST_DIMS:
        raise ArtifactError(
            f"Expected a file of word vectors: lines of a word and numbers, separated "
            f"by spaces. Got '{path}', whose first lines end in {most} numbers. Name a "
            f"file in GloVe's, word2vec's or fastText's form."
        )
    layout = VectorLayout(binary=False, dim=most, count=None, start=start)
    _check_rows(path, layout, lines)
    return layout


def _usual_length(rows: list[bytes]) -> int:
    lengths = Counter(_numbers_at_end(row) for row in rows)
    return max(lengths, key=lambda length: (lengths[length], length), default=0)


def _numbers_at_end(row: bytes) -> int:
    fields = row.rstrip().split(b" ")
    length = 0
    # The first field is the token, or the start of it, even where it is a number.
    for field in reversed(fields[1:]):
        if not _NUMBER.fullmatch(field):
            break
        length += 1
    return length


def _check_rows(path: Path, layout: VectorLayout, lines: list[bytes]) -> None:
    for number, line in enumerate(lines, start=_first_line(layout)):
        if line.strip():
            _token(path, number, line, layout.dim)


def _first_line(layout: VectorLayout) -> int:
    return 1 if layout.count is None else 2


def _holds_binary_records(body: bytes, dim: int) -> bool:
    # Text has no control bytes where the numbers are; float32 have them nearly always.
    at = 0
    for _ in range(SAMPLE_LINES):
        end = body.find(b" ", at)
        if end < 0:
            return False
        at = end + 1 + 4 * dim
        if body[end + 1 : at].translate(None, _TEXT_BYTES):
            return True
    return False


def _checked_binary(path: Path, layout: VectorLayout, size: int | None) -> VectorLayout:
    assert layout.count is not None
    least = layout.start + layout.count * (4 * layout.dim + 1)
    if size is not None and size < least:
        raise ArtifactError(
            f"Expected at least {least} bytes, for the {layout.count} vectors of "
            f"{layout.dim} numbers that the header of '{path}' promises. Got {size} "
            f"bytes. The file is truncated: fetch it again."
        )
    return VectorLayout(True, layout.dim, layout.count, layout.start)


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
    number = 0
    last = b""
    first = _first_line(layout)
    # readline with a limit: a damaged file may hold gigabytes without a newline.
    lines = iter(partial(stream.readline, LONGEST_ROW), b"")
    for number, line in enumerate(lines, start=first):
        if not shortest <= len(line) < LONGEST_ROW:
            if line.isspace():
                continue
            if len(line) == LONGEST_ROW:
                _fail_row(path, number, layout.dim, f"{LONGEST_ROW} bytes or more")
            _token(path, number, line, layout.dim)
        rows += 1
        last = line
        if heads is None or line[: line.find(b" ")] in heads:
            yield number, _token(path, number, line, layout.dim), line
    if last:
        _token(path, number, last, layout.dim)  # the one row that a cut file breaks
    if layout.count is not None and rows < layout.count:
        raise ArtifactError(
            f"Expected {layout.count} rows, as line 1 of '{path}' says. Got {rows}. "
            f"The file is truncated: fetch it again."
        )


def _token(path: Path, number: int, line: bytes, dim: int) -> bytes:
    row = line.rstrip(_LINE_END)
    spaces = row.count(b" ")
    if spaces < dim:
        _fail_row(path, number, dim, f"{spaces} numbers")
    if spaces == dim:
        return row[: row.find(b" ")]
    token = row.rsplit(b" ", dim)[0]
    if _NUMBER.fullmatch(token.rsplit(b" ", 1)[1]):
        _fail_row(path, number, dim, f"{_numbers_at_end(row)} numbers")
    return token


def _fail_row(path: Path, number: int, dim: int, got: str) -> NoReturn:
    raise ArtifactError(
        f"Expected a word and {dim} numbers in line {number} of '{path}', as in its "
        f"other lines. Got {got}. The file is truncated or damaged: fetch it again."
    )


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
                got = "without a word" if end < 0 else "and the end of the file"
                raise ArtifactError(
                    f"Expected a word and {layout.dim} float32 at byte {base} of "
                    f"'{path}' (vector {record + 1} of {layout.count}). Got "
                    f"{len(buffer)} bytes {got}. The file is truncated or damaged: "
                    f"fetch it again."
                )
        # The original C program writes a newline after each vector, gensim does not.
        while buffer[at] == NEWLINE:
            at += 1
        token = buffer[at:end]
        at = end + 1 + length
        if wanted is None or token in wanted:
            yield base + end + 1, token, buffer[end + 1 : at]
    rest = buffer[at:] + stream.read(BLOCK)
    if rest.strip(b"\n"):
        raise ArtifactError(
            f"Expected the end of '{path}' after the {layout.count} vectors that its "
            f"header promises. Got more at byte {base + at}. The file is damaged, or a "
            f"word in it holds a space, which this form cannot express."
        )


def _parse(
    path: Path, layout: VectorLayout, position: int, record: bytes
) -> NDArray[np.float32]:
    where = f"{'byte' if layout.binary else 'line'} {position} of '{path}'"
    if layout.binary:
        vector = np.frombuffer(record, dtype="<f4").astype(np.float32)
    else:
        numbers = record.rstrip(_LINE_END).rsplit(b" ", layout.dim)[1:]
        try:
            exact = np.array([float(number) for number in numbers])
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
