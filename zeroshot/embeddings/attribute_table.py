"""Files of class attributes: CSV, NumPy .npz and MATLAB .mat, read whole."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot.embeddings.matlab_file import read_matlab
from zeroshot.embeddings.vectors.vector_file import (
    check_regular,
    describe_content,
    open_archive,
    open_stream,
)
from zeroshot.errors import ArtifactError

__all__ = ["Table", "checked_table", "read_table", "recognise_table"]

Table = tuple[tuple[str, ...], NDArray[np.float32]]
LABEL_NAMES = ("class_names", "labels", "words")
MATRIX_NAMES = ("class_vectors", "matrix", "vectors", "attributes")
SAMPLE = 1 << 20
LARGEST = 1 << 30  # bytes of a CSV, unpacked: a small file can unpack to zeros for ever


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
    if _is_archive(path):
        with open_archive(path, path) as archive:
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
        is_real = given.dtype == object and all(isinstance(v, Real) for v in given.flat)
        with np.errstate(invalid="ignore"):  # a signalling NaN, refused below
            exact = given.astype(
                np.float64, casting="unsafe" if is_real else "same_kind"
            )
    except (TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(
            f"Expected a matrix of numbers for {where}. Got something else: {error}. "
            f"Give rows of equal length."
        ) from error
    if exact.ndim != 2 or exact.shape[0] != len(labels) or exact.size == 0:
        raise ArtifactError(
            f"Expected a matrix of shape ({len(labels)}, dim), a row for each label, "
            f"for {where}. Got shape {exact.shape}. Give at least one label and one "
            f"number for each."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # becomes inf, refused below
        table = exact.astype(np.float32)
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


def _is_archive(path: Path) -> bool:
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False  # told by open_stream, in the same words for every kind of file


def _read_csv(path: Path) -> tuple[list[str], list[list[float]]]:
    with open_stream(path) as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        _fail(path, f"at most {LARGEST >> 20} MiB of text", "more")
    foreign = describe_content(content)
    if foreign is not None:
        _fail(path, "a CSV, .npz or .mat file of class attributes", foreign)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail(path, "a CSV file in UTF-8", f"another encoding ({error.reason})", error)
    first_line = text.lstrip().partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first_line.count)
    )
    labels: list[str] = []
    rows: list[list[float]] = []
    width = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
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
            for column, cell in enumerate(cells[1:], start=2):
                if not _is_number(cell):
                    expected = f"a number in line {line}, column {column}"
                    _fail(path, expected, f"{cell[:60]!r}")
            labels.append(cells[0].strip())
            rows.append([float(cell) for cell in cells[1:]])
    except csv.Error as error:
        _fail(path, "a CSV file", f"line {reader.line_num}: {error}", error)
    if not rows:
        _fail(path, "a line with a label and numbers", "none")
    return labels, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> tuple[list[str], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            inside = list(archive.files)
            label_name = next((name for name in LABEL_NAMES if name in inside), None)
            matrix_name = next((name for name in MATRIX_NAMES if name in inside), None)
            if label_name is None or matrix_name is None:
                _fail(
                    path,
                    f"an array of labels named {' or '.join(map(repr, LABEL_NAMES))} "
                    f"and a matrix named {' or '.join(map(repr, MATRIX_NAMES))}",
                    f"the arrays {', '.join(map(repr, inside))}",
                )
            names, matrix = archive[label_name], archive[matrix_name]
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
    return names.tolist(), matrix


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
