"""Files of word vectors: which form a file has, and how a row of it is read.

Three forms, each plain or packed (see `zeroshot.embeddings.vectors.vector_file`),
recognised by their content and never by the ending of the name:

- text without a header (GloVe): ``token number number ...``, one row a line;
- the same with a first line ``n dim`` (word2vec text, fastText .vec);
- word2vec binary: ``n dim`` and a newline, then ``token``, a space and ``dim``
  little-endian float32, with or without a newline between the records.

Text may be in columns, with tabs or several spaces between its fields. Its tokens may
hold spaces (GloVe 840B does): the last ``dim`` fields are the numbers. A token whose
last part after a space is itself a number is not supported, because such a row cannot
be told from a row that is too long. A binary token cannot hold a space.

In a file of ConceptNet, whose tokens are URIs (``/c/en/zebra``), the English ones are
read as plain words (``zebra``); those of other languages keep their URI.
"""

import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.vectors.vector_file import (
    FASTTEXT_MAGIC,
    describe_content,
    open_stream,
)
from zeroshot.errors import ArtifactError

__all__ = [
    "LONGEST_ROW",
    "MOST_DIMS",
    "RowError",
    "VectorLayout",
    "check_line",
    "fail_row",
    "is_text",
    "recognise_layout",
]

LONGEST_ROW = 1 << 20  # bytes of a line or a binary token; 300 numbers take about 3 kB
# A limit against broken headers; real vectors have some 50 to 4,096 numbers.
MOST_DIMS = 1 << 15
SAMPLE_LINES = 100
# Components of published vectors lie between 1e-9 and 100. Bytes that are no float32 of
# this order of bytes have about as many beyond these limits as within.
LARGEST, SMALLEST = 1e10, 1e-12

_LINE_END = b" \t\r\n"  # many programs write a space after the last number
_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*")
_NUMBER = re.compile(rb"[-+]?(\d++\.?+\d*+|\.\d++)([eE][-+]?\d++)?")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROL = bytes([*range(32), 127])
_TEXT_BYTES = bytes([9, 10, 13, *range(32, 127)])
_CONCEPT = re.compile(rb"/c/[a-z]{2,3}/")
# Of a word that goes on where numbers start, as long as 1 to 16 of them: a number that
# ends in a space is one of 1e-19.
_TEXT_AND_SPACE = re.compile(rb"(?:[^\x00-\x1f\x7f]{4}){0,15}[^\x00-\x1f\x7f]{3} ")


class RowError(ValueError):
    """A row is not as the layout says; what was found instead."""


@dataclass(frozen=True)
class VectorLayout:
    """The form of a file of word vectors."""

    binary: bool  # word2vec binary, else one text row a line
    dim: int
    count: int | None  # of rows, which the header promises; None without a header
    start: int  # offset of the first row in the unpacked file, in bytes
    columns: bool = False  # tabs or several spaces between the fields of text
    prefix: bytes = b""  # of tokens, where it is no part of the word

    @property
    def form(self) -> str:
        """``"word2vec-binary"``, ``"word2vec-text"`` or ``"glove-text"``, and more."""
        text = "glove-text" if self.count is None else "word2vec-text"
        form = "word2vec-binary" if self.binary else text
        return form + "-columns" * self.columns + "-concepts" * bool(self.prefix)

    @property
    def first_line(self) -> int:
        """Number of the line of the first row of text, from 1."""
        return 1 if self.count is None else 2

    @property
    def separator(self) -> bytes | None:
        """What stands between the fields of text; None for any run of blanks."""
        return None if self.columns else b" "

    def head(self, token: bytes) -> bytes:
        """Return the part of a token by which an index has it.

        Of text it ends at the first space: where a token ends costs 30 times as much to
        tell, and only rows that are looked up need it.
        """
        if not self.binary:
            token = next(iter(token.split(self.separator, 1)), b"")
        return token.removeprefix(self.prefix)

    def token(self, record: bytes) -> bytes:
        """Return the token of a record, with its prefix.

        Raises RowError if the record holds fewer or more numbers.
        """
        if self.binary:
            end = len(record) - 4 * self.dim - 1
            if end < 0 or record[end : end + 1] != b" ":
                raise RowError("something else")
            return record[:end].lstrip(b"\n")
        if self.columns:
            record = b" ".join(record.split())
        row = record.rstrip(_LINE_END)
        spaces = row.count(b" ")
        if spaces < self.dim:
            raise RowError(f"{spaces} numbers")
        if spaces == self.dim:
            return row[: row.find(b" ")]
        token = row.rsplit(b" ", self.dim)[0]
        if _NUMBER.fullmatch(token.rsplit(b" ", 1)[1]):
            raise RowError(f"{_numbers_at_end(row)} numbers")
        return token

    def vector(self, record: bytes) -> NDArray[np.float32]:
        """Return the vector of a record; shape (dim,).

        Text is parsed as float64 and rounded to float32, bit-equal to gensim.

        Raises RowError if these are not ``dim`` finite numbers, or float32 that no
        program has written for a word.
        """
        if self.binary:
            content = record[-4 * self.dim :]
            vector = np.frombuffer(content, "<f4").astype(np.float32)
            if not np.isfinite(vector).all():
                raise RowError("NaN or infinity")
            if not _is_plausible(vector) or _TEXT_AND_SPACE.match(content):
                raise RowError(f"{vector[np.abs(vector).argmax()]:.3g} among others")
            return vector
        numbers = record.rstrip(_LINE_END).rsplit(self.separator, self.dim)[1:]
        try:
            exact = np.fromiter(map(float, numbers), np.float64, self.dim)
        except ValueError as error:
            raise RowError(f"something else ({error})") from error
        with np.errstate(over="ignore"):  # becomes inf, which is refused below
            vector = exact.astype(np.float32)
        if not np.isfinite(vector).all():
            raise RowError("NaN or infinity")
        return vector


def recognise_layout(path: Path) -> VectorLayout:
    """Recognise the form of a file of word vectors from its first MiB.

    Without a header, ``dim`` is what most of the first 100 lines say, counting numbers
    from the right. A tie between lengths goes to the greater one, so that a row cut
    short is an error and not a new length.

    Raises ArtifactError if it is no file of word vectors, its header is impossible, or
    its first rows are not as that says; names the file and the line.
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
    rows = [line for line in lines[header is not None :] if line.strip()]
    lengths = _usual_length(rows), _usual_length([b" ".join(r.split()) for r in rows])
    if header is None:
        count, dim = None, max(lengths)
        # One number a row is a list of words and counts, not of vectors.
        if not 2 <= dim <= MOST_DIMS:
            raise ArtifactError(
                f"Expected a file of word vectors: lines of a word and numbers, "
                f"separated by spaces or tabs. Got '{path}', whose first lines end in "
                f"{dim} numbers. Name a file in GloVe's, word2vec's or fastText's form."
            )
    else:
        count, dim = int(header[1]), int(header[2])
        start += len(lines.pop(0)) + 1
        if count == 0 or not 1 <= dim <= MOST_DIMS:
            raise ArtifactError(
                f"Expected a header of the number of rows and of 1 to {MOST_DIMS} "
                f"numbers a row. Got {count} and {dim} in line 1 of '{path}'. The file "
                f"is broken or no file of word vectors."
            )
    layout = VectorLayout(binary=False, dim=dim, count=count, start=start)
    if dim not in lengths:  # but in the header
        body = sample[start:]
        records = _walk(body, 4 * dim)
        # Text has no control bytes among its numbers; float32 nearly always.
        if not b"".join(records.values()).translate(None, _TEXT_BYTES):
            _fail(
                f"rows of {dim} numbers, as line 1 of '{path}' says",
                f"rows of {max(lengths)} numbers" if body.strip() else "no row",
            )
        layout = replace(layout, binary=True)
        _check_binary(path, layout, body, size)
        return _with_prefix(layout, list(records))
    layout = replace(layout, columns=lengths[0] != layout.dim)
    tokens = [
        check_line(path, layout, number, line)
        for number, line in enumerate(lines, start=layout.first_line)
        if line.strip()
    ]
    return _with_prefix(layout, tokens)


def check_line(path: Path, layout: VectorLayout, number: int, line: bytes) -> bytes:
    """Return the token of a line, or raise the error of a broken one."""
    try:
        return layout.token(line)
    except RowError as error:
        fail_row(path, f"line {number}", layout.dim, error)


def fail_row(path: Path, where: str, dim: int, got: object) -> NoReturn:
    """Raise the error of a row that is not a word and ``dim`` finite numbers."""
    raise ArtifactError(
        f"Expected a word and {dim} finite numbers in {where} of '{path}', as in its "
        f"other rows. Got {got}. The file is truncated, damaged or no file of word "
        f"vectors: fetch it again, or leave this word out."
    )


def is_text(content: bytes) -> bool:
    """Return whether bytes are UTF-8 without control characters."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return not _has_control(content)


def _has_control(content: bytes) -> bool:
    return len(content.translate(None, _CONTROL)) < len(content)


def _whole_lines(sample: bytes, *, ended: bool) -> list[bytes]:
    lines = sample.split(b"\n", SAMPLE_LINES + 1)
    if len(lines) > SAMPLE_LINES + 1 or not ended or not lines[-1]:
        lines.pop()
    return lines


def _with_prefix(layout: VectorLayout, tokens: list[bytes]) -> VectorLayout:
    concepts = sum(_CONCEPT.match(token) is not None for token in tokens)
    return replace(layout, prefix=b"/c/en/" if 2 * concepts > len(tokens) else b"")


def _usual_length(rows: list[bytes]) -> int:
    lengths = Counter(_numbers_at_end(row) for row in rows)
    return max(lengths, key=lambda length: (lengths[length], length), default=0)


def _numbers_at_end(row: bytes) -> int:
    # The first field is the token, or the start of it, even where it is a number.
    fields = row.rstrip().split(b" ")[:0:-1]
    return sum(1 for _ in takewhile(_NUMBER.fullmatch, fields))


def _walk(body: bytes, size: int) -> dict[bytes, bytes]:
    """Return tokens and ``size`` bytes after each, of the first rows if such there are.

    Only those that are whole.
    """
    at, found = 0, dict[bytes, bytes]()
    while len(found) < SAMPLE_LINES and (end := body.find(b" ", at)) >= 0:
        token, at = body[at:end].lstrip(b"\n"), end + 1 + size
        if at > len(body):
            break
        found[token] = body[end + 1 : at]
    return found


def _is_plausible(vector: NDArray[np.float32]) -> bool:
    sizes = np.abs(vector[vector != 0])
    is_small = 2 * (sizes < SMALLEST).sum() > len(sizes)
    return bool((sizes <= LARGEST).all() and not is_small)  # NaN compares as false


def _check_binary(
    path: Path, layout: VectorLayout, body: bytes, size: int | None
) -> None:
    """Refuse a file whose first records are not what the header and form say."""
    assert layout.count is not None
    least = layout.start + layout.count * (4 * layout.dim + 1)
    is_short = size is not None and size < least
    records = _walk(body, 4 * layout.dim)
    garbled = sum(map(_has_control, records))
    if garbled or is_short:
        for width, name in ((8, "float64"), (2, "float16")):
            others = _walk(body, width * layout.dim)
            enough = len(others) >= min(layout.count, SAMPLE_LINES // 10)
            if enough and all(map(is_text, others)):
                _fail_numbers(path, layout, f"what looks like {name}")
    if is_short:
        _fail(
            f"at least {least} bytes, for the {layout.count} vectors of {layout.dim} "
            f"numbers that the header of '{path}' promises",
            f"{size} bytes",
        )
    if 2 * garbled > len(records):
        _fail_numbers(path, layout, "something else between the words")
    contents = list(records.values())
    good = {
        order: sum(_is_plausible(np.frombuffer(c, order)) for c in contents)
        for order in ("<f4", ">f4")
    }
    if 2 * good["<f4"] < len(contents) and good[">f4"] > good["<f4"]:
        _fail_numbers(path, layout, "what looks like big-endian float32")


def _fail_numbers(path: Path, layout: VectorLayout, got: str) -> NoReturn:
    raise ArtifactError(
        f"Expected a word and {layout.dim} little-endian float32 for each of the "
        f"{layout.count} rows that the header of '{path}' promises. Got {got}. Save it "
        f"again as float32, as gensim's 'save_word2vec_format' does, or as text."
    )


def _fail(expected: str, got: str) -> NoReturn:
    raise ArtifactError(
        f"Expected {expected}. Got {got}. The file is truncated, damaged or no file of "
        f"word vectors: fetch it again."
    )
