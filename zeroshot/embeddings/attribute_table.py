"""Files of class attributes: CSV, NumPy .npz and MATLAB .mat, read whole."""

import csv
import io
import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.embeddings.matlab_file import read_matlab
from zeroshot.embeddings.vectors.vector_file import (
    describe_content,
    open_archive,
    open_file,
    open_stream,
)
from zeroshot.errors import ArtifactError
from zeroshot.storage.arrays import open_arrays

__all__ = ["Table", "checked_table", "read_table", "recognise_table"]

Table = tuple[tuple[str, ...], NDArray[np.float32]]
LABEL_NAMES = ("class_names", "labels", "words")
MATRIX_NAMES = ("class_vectors", "matrix", "vectors", "attributes")
SAMPLE = 1 << 20
# Bytes of a CSV and of a line of it: 30,000 numbers of 32 digits.
LARGEST, LONGEST_LINE = 1 << 30, 1 << 20
MOST_LINES = 500_000  # 1 MB can unpack to ten million rows of a number


def read_table(path: Path) -> Table:
    """Read labels and their vectors from a file, recognised by its content.

    ``path``: CSV (also packed), ``.npz`` or ``.mat``. Returns labels: as stored; matrix
    (n, dim) float32: read-only. Raises ArtifactError if it is none of these or broken;
    names the file and the line, row or array.
    """
    readers: dict[str | None, Callable[[Path], tuple[list[str], ArrayLike]]]
    readers = {"npz": _read_npz, "mat": _read_mat}
    labels, matrix = readers.get(recognise_table(path), _read_csv)(path)
    return checked_table(labels, matrix, f"'{path}'")


def recognise_table(path: Path) -> Literal["npz", "mat", "csv"] | None:
    """Return the form of a file of class attributes, or None if it looks like none.

    Raises ArtifactError if the file cannot be read.
    """
    with open_file(path) as file:
        if file.peek(2)[:2] == b"PK":
            with open_archive(file, path) as archive:
                names = archive.namelist()
            if names and all(name.endswith(".npy") for name in names):
                return "npz"
    with open_stream(path) as stream:
        sample = stream.read(SAMPLE)
    if sample.startswith(b"MATLAB "):
        return "mat"
    if describe_content(sample) is not None:
        return None
    lines = [line for line in sample.splitlines()[:2] if line.strip()]
    # The last of the first two lines: the first may be a header.
    # Its last cell alone: a search in all of 40,000 tabs took 16 s. With a space in it
    # it is a row of word vectors, whose word holds a comma.
    cells = re.split(rb"[,;\t]", lines[-1]) if lines else []
    is_csv = len(cells) > 1 and re.fullmatch(rb'\s*+"?[-+.\d][^\s]*\s*', cells[-1])
    return "csv" if is_csv else None


def checked_table(labels: Sequence[str], matrix: ArrayLike, where: str) -> Table:
    """Return labels and matrix, copied and read-only, if they make a table.

    ``matrix``: (n_labels, dim). ``where``: what to call the table in a message. Raises
    ArtifactError if the shapes do not fit, or a vector is not finite or all zeros.
    """
    try:
        if isinstance(matrix, np.ma.MaskedArray):  # asarray would forget the mask
            matrix = np.ma.filled(matrix.astype(np.float64), np.nan)
        given = np.asarray(matrix)
        # Text would be parsed, and parts of complex numbers lost: "same_kind" refuses.
        if given.dtype == object and all(isinstance(v, Real) for v in given.flat):
            given = given.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            table = given.astype(np.float32, casting="same_kind")
    except (TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(
            f"Expected a matrix of numbers for {where}. Got something else: {error}. "
            f"Give rows of equal length."
        ) from error
    if table.ndim != 2 or table.shape[0] != len(labels) or table.size == 0:
        raise ArtifactError(
            f"Expected a matrix of shape ({len(labels)}, dim), a row for each label, "
            f"for {where}. Got shape {table.shape}. Give at least one label and one "
            f"number for each."
        )
    no_direction = "a vector that is not all zeros (such a one has no direction)"
    for expected, bad in (
        ("finite float32 numbers", ~np.isfinite(table).all(axis=1)),
        (no_direction, ~table.any(axis=1)),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ArtifactError(
                f"Expected {expected} for each label. Got row {row + 1} "
                f"('{labels[row]}') of {where}. Correct it or leave the label out."
            )
    table.flags.writeable = False
    return tuple(labels), table


def _read_csv(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    labels: list[str] = []
    numbers = array("f")  # a small file can hold millions of "0," or unpack to them
    width, reader = None, None
    with open_stream(path) as stream:
        start = stream.read(SAMPLE)
    if (foreign := describe_content(start)) is not None:
        _fail(path, "a CSV, .npz or .mat file of class attributes", foreign)
    first_line = start.lstrip().partition(b"\n")[0]
    delimiter = max(",;\t", key=lambda mark: first_line.count(mark.encode()))
    try:
        with (
            open_stream(path) as stream,
            io.TextIOWrapper(stream, "utf-8-sig", newline="") as text,
        ):
            reader = csv.reader(_lines(path, text), delimiter=delimiter)
            for cells in reader:
                if not any(map(str.strip, cells)):
                    continue
                line = reader.line_num
                if width is None:
                    width = len(cells)
                    if width < 2:
                        expected = "a label and numbers in each line"
                        _fail(path, expected, f"{cells[0][:60]!r}")
                    if not cells[0].strip() or not all(map(_is_number, cells[1:])):
                        continue  # a header
                if len(cells) != width:
                    _fail(path, f"{width} cells in line {line}", f"{len(cells)}")
                labels.append(cells[0].strip())
                try:
                    numbers.extend(map(float, cells[1:]))
                except ValueError:
                    column = [*map(_is_number, cells[1:]), False].index(False) + 1
                    expected = f"a number in line {line}, column {column + 1}"
                    _fail(path, expected, f"{cells[column][:60]!r}")
    except UnicodeDecodeError as error:
        _fail(path, "a CSV file in UTF-8", f"another encoding ({error.reason})", error)
    except csv.Error as error:
        line = reader.line_num if reader else 1
        _fail(path, "a CSV file", f"line {line}: {error}", error)
    if width is None or not labels:
        _fail(path, "a line with a label and numbers", "none")
    return labels, np.frombuffer(numbers, np.float32).reshape(-1, width - 1)


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text; none without end, nor any number of them."""
    left = LARGEST
    for count in itertools.count():
        if not (line := text.readline(LONGEST_LINE)):
            return
        left -= len(line)
        ended = len(line) < LONGEST_LINE or line.endswith(("\n", "\r"))
        if not ended or left < 0 or count >= MOST_LINES:
            expected = f"at most {MOST_LINES} lines of {LONGEST_LINE} letters"
            _fail(path, expected, "more")
        yield line


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> tuple[list[str], NDArray[Any]]:
    try:
        with open_arrays(path) as archive:
            inside = archive.names
            label_name = next((name for name in LABEL_NAMES if name in inside), None)
            matrix_name = next((name for name in MATRIX_NAMES if name in inside), None)
            if label_name is None or matrix_name is None:
                _fail(
                    path,
                    f"an array of labels named {' or '.join(map(repr, LABEL_NAMES))} "
                    f"and a matrix named {' or '.join(map(repr, MATRIX_NAMES))}",
                    f"the arrays {', '.join(map(repr, inside[:20]))}",
                )
            names, matrix = archive.read(label_name), archive.read(matrix_name)
    except ArtifactError:
        raise
    # A damaged header may cause anything: NumPy parses it as Python.
    except Exception as error:
        _fail(path, "arrays of text and numbers", str(error), error)
    if names.ndim != 1 or names.dtype.kind not in "US":
        got = f"shape {names.shape}, type {names.dtype}"
        _fail(path, f"a list of text in '{label_name}'", got)
    if matrix.dtype.kind not in "fiub":
        _fail(path, f"numbers in '{matrix_name}'", f"type {matrix.dtype}")
    if names.dtype.kind == "S":
        return [str(n, "utf-8", "surrogateescape") for n in names.tolist()], matrix
    try:
        return names.tolist(), matrix
    except ValueError as error:  # no characters
        _fail(path, f"a list of text in '{label_name}'", str(error), error)


def _read_mat(path: Path) -> tuple[list[str], NDArray[Any]]:
    inside = read_matlab(path, ("att", "allclasses_names"))
    for name, kinds, n_axes, expected in (
        ("att", "fiub", 2, "the matrix 'att' (dim, n)"),
        ("allclasses_names", "U", 1, "the cells of text 'allclasses_names' (n)"),
    ):
        found = inside.get(name)
        if found is None:
            _fail(path, expected, "none")
        if found.ndim != n_axes or found.dtype.kind not in kinds:
            _fail(path, expected, f"shape {found.shape}, type {found.dtype}")
    return inside["allclasses_names"].tolist(), inside["att"].T


def _fail(
    path: Path, expected: str, got: str, cause: BaseException | None = None
) -> NoReturn:
    raise ArtifactError(
        f"Expected {expected} in '{path}'. Got {got}. See the forms that "
        f"zeroshot.embeddings.Attributes reads."
    ) from cause
