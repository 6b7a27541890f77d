"""Files of word vectors: which form a file has.

Three forms, each plain or packed (see `zeroshot.embeddings.vectors.vector_file`),
recognised by their content and never by the ending of the name:

- text without a header (GloVe): ``token number number ...``, one row a line;
- the same with a first line ``n dim`` (word2vec text, fastText .vec);
- word2vec binary: ``n dim`` and a newline, then ``token``, a space and ``dim``
  little-endian float32, with or without a newline between the records.

Text tokens may hold spaces (GloVe 840B does): the last ``dim`` fields are the numbers.
A token whose last part after a space is itself a number is not supported, because such
a row cannot be told from a row that is too long.
"""

import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from zeroshot.embeddings.vectors.vector_file import (
    FASTTEXT_MAGIC,
    describe_content,
    open_stream,
)
from zeroshot.errors import ArtifactError

__all__ = [
    "LINE_END",
    "LONGEST_ROW",
    "MOST_DIMS",
    "VectorLayout",
    "fail_row",
    "recognise_layout",
    "row_token",
]

LINE_END = b" \t\r\n"  # many programs write a space after the last number
LONGEST_ROW = 1 << 20  # bytes of a line or a binary token; 300 numbers take about 3 kB
# A limit against broken headers; real vectors have some 50 to 4,096 numbers.
MOST_DIMS = 1 << 15
SAMPLE_LINES = 100

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*")
_NUMBER = re.compile(rb"[-+]?(\d++\.?+\d*+|\.\d++)([eE][-+]?\d++)?")
# A row whose token holds no space. Atomic: no failure takes more than linear time.
_PLAIN_ROW = re.compile(
    rb"[^ ]*+(?: (?>[-+]?(?>\d++\.?+\d*+|\.\d++)(?:[eE][-+]?\d++)?+))*+"
)
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

    @property
    def first_line(self) -> int:
        """Number of the line of the first row of text, from 1."""
        return 1 if self.count is None else 2


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
            hint = f"Open it as 'fasttext:{path}'."
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


def row_token(path: Path, number: int, line: bytes, dim: int) -> bytes:
    """Return the token of a row of text.

    Parameters
    ----------
    path : Path
    number : int
        Of the line, from 1; with the path, to name in a message.
    line : bytes
        With or without its end.
    dim : int
        Numbers that a row has.

    Raises
    ------
    ArtifactError
        If the row holds fewer or more numbers.
    """
    row = line.rstrip(LINE_END)
    spaces = row.count(b" ")
    if spaces < dim:
        fail_row(path, number, dim, f"{spaces} numbers")
    if spaces == dim:
        return row[: row.find(b" ")]
    token = row.rsplit(b" ", dim)[0]
    if _NUMBER.fullmatch(token.rsplit(b" ", 1)[1]):
        fail_row(path, number, dim, f"{_numbers_at_end(row)} numbers")
    return token


def fail_row(path: Path, number: int, dim: int, got: str) -> NoReturn:
    """Raise the error of a row of text that has not the length of the others."""
    raise ArtifactError(
        f"Expected a word and {dim} numbers in line {number} of '{path}', as in its "
        f"other lines. Got {got}. The file is truncated or damaged: fetch it again."
    )


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
    row = row.rstrip()
    if _PLAIN_ROW.fullmatch(row):
        return row.count(b" ")
    fields = row.split(b" ")
    length = 0
    # The first field is the token, or the start of it, even where it is a number.
    for field in reversed(fields[1:]):
        if not _NUMBER.fullmatch(field):
            break
        length += 1
    return length


def _check_rows(path: Path, layout: VectorLayout, lines: list[bytes]) -> None:
    for number, line in enumerate(lines, start=layout.first_line):
        if line.strip():
            row_token(path, number, line, layout.dim)


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
    return replace(layout, binary=True)
