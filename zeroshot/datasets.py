"""Labelled images: folders and tables of photographs, and drawn shapes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError, LabelError, PartialCoverageWarning
from zeroshot.images.files import (
    TABLE_SUFFIXES,
    OnError,
    image_files,
    is_left_out,
    quoted,
    read_image_table,
    read_table,
    separator,
)
from zeroshot.shapes import make_shapes, shape_attributes

__all__ = [
    "load_image_csv",
    "load_image_folder",
    "load_images",
    "make_shapes",
    "read_class_names",
    "shape_attributes",
]

ClassNames = Mapping[str, str] | str | Path

SPLIT_NAME = re.compile(
    r"(train|training|trn|val|valid|validation|dev|test|testing|eval|evaluation|holdout)"
    r"[-_ ]?(set|images|data)?[-_ ]?\d{0,4}",
    re.IGNORECASE,
)


def load_images(
    path: str | Path,
    class_names: ClassNames | None = None,
    on_error: OnError = "raise",
) -> tuple[list[str], NDArray[np.str_]]:
    """List labelled images: a folder with one sub-folder per class, or a table.

    Parameters
    ----------
    path : str or Path
        For a folder see `load_image_folder`, for a ``.csv`` or ``.tsv`` see
        `load_image_csv`.
    class_names : mapping or path, optional
        Labels of the sub-folders; folders only.
    on_error : {"raise", "skip", "nan"}, default="raise"
        See `load_image_folder`.

    Returns
    -------
    paths : list of str
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError, LabelError
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        if class_names is not None:
            raise LabelError(
                f"Expected class names for a folder of images only. Got the table "
                f"'{path}', which holds its labels. Leave the class names out."
            )
        return load_image_csv(path)
    return load_image_folder(path, class_names, on_error)


def load_image_folder(
    root: str | Path,
    class_names: ClassNames | None = None,
    on_error: OnError = "raise",
) -> tuple[list[str], NDArray[np.str_]]:
    """List the images of a folder that has one sub-folder per class.

    Parameters
    ----------
    root : str or Path
        Images may lie at any depth below a class's sub-folder. Hidden files, those of
        desktops and file servers (`zeroshot.images.files.SYSTEM_NAMES`), and files that
        are no images by their ending are left out.
    class_names : mapping of str to str, str or Path, optional
        Label of each sub-folder, or the path of a table with the columns folder and
        label (separated by a tab, or by a comma in a ``.csv``; no header). It may name
        folders that are not there; two folders with one label become one class.
        Default: the folder's name is the label.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What to do about a folder below a class's that cannot be read: raise an error,
        or leave it out with a warning.

    Returns
    -------
    paths : list of str
        Sorted by sub-folder, then by path.
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError
        If ``root`` is no folder, has no sub-folder, or a sub-folder has no image; if,
        without ``class_names``, the sub-folders are no classes but the parts of a data
        set ("train", "val"), or one that holds all others.
    LabelError
        If ``class_names`` lacks a sub-folder.

    Warns
    -----
    PartialCoverageWarning
        Where images lie directly in ``root``, or a folder cannot be read.
    """
    root = Path(root).expanduser()
    try:
        entries = sorted(p for p in root.iterdir() if not is_left_out(p.name))
    except OSError as error:
        what = f"'{root}': {error.strerror or error}. Check the path."
        raise _no_classes(what) from error
    found: dict[str, list[str]] = {p.name: [] for p in entries if os.path.isdir(p)}
    below: dict[str, set[str]] = {name: set() for name in found}
    loose = 0
    inside = len(os.path.join(root, "")) if root.parts else 0
    for file in image_files(root, on_error):
        first, *more = file[inside:].split(os.sep, 2)
        if not more:
            loose += 1
            continue
        found[first].append(file)
        below[first].add(more[0] if len(more) > 1 else "")
    if not found:
        raise _no_classes(
            f"'{root}', which has no sub-folder and {loose} images. Move each class's "
            f"images into a sub-folder, or list them in a CSV with the columns 'path' "
            f"and 'label'."
        )
    names = {name: name for name in found}
    if class_names is None:
        _check_are_classes(root, below)
    else:
        names = read_class_names(class_names)
    if loose:
        warn(
            f"{loose} images directly in '{root}' belong to no class and are left out.",
            PartialCoverageWarning,
            stacklevel=2,
        )
    if empty := [name for name, files in found.items() if not files]:
        raise ArtifactError(
            f"Expected images in every sub-folder of '{root}'. Got none in "
            f"{quoted(empty)}. Remove these folders or fill them."
        )
    if missing := [name for name in found if name not in names]:
        raise LabelError(
            f"Expected a class name for every sub-folder of '{root}'. Got none for "
            f"{quoted(missing)}. Add these, or remove the folders."
        )
    paths = [path for files in found.values() for path in files]
    labels = [names[name] for name, files in found.items() for _ in files]
    return paths, np.array(labels, dtype=np.str_)


def _check_are_classes(root: Path, below: Mapping[str, set[str]]) -> None:
    """Refuse folders of which the names, or what they hold, say they are no classes.

    ``below`` has, for each, the names of its folders with images; "" for itself.
    """
    parts = [name for name in below if SPLIT_NAME.fullmatch(name)]
    nested = [name for name in parts if below[name] - {""}]
    if parts and (len(parts) == len(below) or len(nested) > 1):
        given = (nested or parts)[0]
        inside = sorted(set().union(*(below[name] for name in parts)) - {""})
        raise _no_classes(
            f"'{root}' with the parts of a data set: {quoted(parts)}, which hold "
            f"{quoted(inside) or 'no classes'}. Give one of these folders, such as "
            f"'{root / given}', or class names for them."
        )
    ((only, inside_only), *others) = below.items()
    if not others and len(inside_only) > 1 and "" not in inside_only:
        raise _no_classes(
            f"'{root}' with only '{only}', which holds {quoted(sorted(inside_only))}. "
            f"Give '{root / only}', or a class name for it."
        )


def _no_classes(got: str) -> ArtifactError:
    return ArtifactError(f"Expected a folder with one sub-folder per class. Got {got}")


def load_image_csv(path: str | Path) -> tuple[list[str], NDArray[np.str_]]:
    """List the images of a table with the columns ``path`` and ``label``.

    Parameters
    ----------
    path : str or Path
        UTF-8, separated by commas, semicolons or tabs; the first row is the header.
        Relative paths are relative to this file. Other columns are left alone, and the
        images may be in a column ``image``. An image may come again.

    Returns
    -------
    paths : list of str
        In the order of the file.
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError
        If the file cannot be read, lacks a column, a row lacks a value, or an image has
        two labels; gives the line.

    Warns
    -----
    PartialCoverageWarning
        Where images do not exist; gives the lines.
    """
    path = Path(path).expanduser()
    table = read_image_table(path)
    header = table.header
    for name in ("label", header[table.column] if header else "path"):
        if header.count(name) != 1:
            raise ArtifactError(
                f"Expected a header with one column '{name}' in '{path}' (separated by "
                f"{separator(path)}), line 1. Got "
                f"{quoted(header or table.rows[0][1])}. Name the columns 'path' and "
                f"'label'."
            )
    if not table.rows:
        raise ArtifactError(
            f"Expected rows below the header. Got '{path}', which has none. Add images."
        )
    label = header.index("label")
    for line, row in table.rows:
        if len(row) != len(header) or not row[table.column] or not row[label]:
            raise ArtifactError(
                f"Expected {len(header)} values with a path and a label in '{path}', "
                f"line {line}. Got {quoted(row)}. Complete the row; a value that holds "
                f"one of the {separator(path)} is written in double quotes."
            )
    paths = table.images()
    first: dict[str, tuple[int, str]] = {}
    for image, (line, row) in zip(paths, table.rows, strict=True):
        before, known = first.setdefault(image, (line, row[label]))
        if known != row[label]:
            raise ArtifactError(
                f"Expected one label for each image in '{path}'. Got '{image}' as "
                f"'{known}' in line {before} and as '{row[label]}' in line {line}. "
                f"Remove one."
            )
    return paths, np.array([row[label] for _, row in table.rows], dtype=np.str_)


def read_class_names(class_names: ClassNames) -> dict[str, str]:
    """Return the label of each sub-folder.

    Parameters
    ----------
    class_names : mapping of str to str, str or Path
        As for `load_image_folder`.

    Returns
    -------
    names : dict of str to str
        Labels by the names of the folders.

    Raises
    ------
    ArtifactError
        If the file is no such table, or names a folder twice.
    """
    if isinstance(class_names, Mapping):
        return dict(class_names)
    path = Path(class_names).expanduser()
    rows = read_table(path, None if path.suffix.lower() == ".csv" else "\t")
    names: dict[str, str] = {}
    for line, row in rows:
        if len(row) != 2 or not all(row):
            raise ArtifactError(
                f"Expected two values, folder and label, in '{path}', line {line}. Got "
                f"{quoted(row)}. Separate them by a tab (a comma in a .csv)."
            )
        if row[0] in names:
            raise ArtifactError(
                f"Expected each folder once in '{path}'. Got '{row[0]}' again in line "
                f"{line}. Remove one."
            )
        names[row[0]] = row[1]
    return names
