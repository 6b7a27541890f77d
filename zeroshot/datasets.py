"""Labelled images: folders and tables of photographs, and drawn shapes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError, LabelError, PartialCoverageWarning
from zeroshot.images.files import image_files, read_table
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


def load_images(
    path: str | Path, class_names: ClassNames | None = None
) -> tuple[list[str], NDArray[np.str_]]:
    """List labelled images: a folder with one sub-folder per class, or a CSV.

    Parameters
    ----------
    path : str or Path
        For a folder see `load_image_folder`, for a ``.csv`` see `load_image_csv`.
    class_names : mapping or path, optional
        Labels of the sub-folders; folders only.

    Returns
    -------
    paths : list of str
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError, LabelError
    """
    path = Path(path)
    if path.suffix.lower() == ".csv" and not path.is_dir():
        if class_names is not None:
            raise LabelError(
                f"Expected class names for a folder of images only. Got the table "
                f"'{path}', which holds its labels. Leave the class names out."
            )
        return load_image_csv(path)
    return load_image_folder(path, class_names)


def load_image_folder(
    root: str | Path, class_names: ClassNames | None = None
) -> tuple[list[str], NDArray[np.str_]]:
    """List the images of a folder that has one sub-folder per class.

    Parameters
    ----------
    root : str or Path
        Images may lie at any depth below a class's sub-folder. Hidden files and files
        that are no images by their ending are left out.
    class_names : mapping of str to str, str or Path, optional
        Label of each sub-folder, or the path of a table with the columns folder and
        label (separated by a tab, or by a comma in a ``.csv``; no header). It may name
        folders that are not there; two folders with one label become one class.
        Default: the folder's name is the label.

    Returns
    -------
    paths : list of str
        Sorted by sub-folder, then by path.
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError
        If ``root`` is no folder, has no sub-folder, or a sub-folder has no image.
    LabelError
        If ``class_names`` lacks a sub-folder.
    """
    root = Path(root)
    try:
        entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise ArtifactError(
            f"Expected a folder with one sub-folder per class. Got '{root}': "
            f"{error.strerror or error}. Check the path."
        ) from error
    folders = [entry for entry in entries if entry.is_dir()]
    loose = sum(Path(file).parent == root for file in image_files(root))
    if not folders:
        raise ArtifactError(
            f"Expected a folder with one sub-folder per class. Got '{root}', which has "
            f"no sub-folder and {loose} images. Move each class's images into a "
            f"sub-folder, or list them in a CSV with the columns 'path' and 'label'."
        )
    if loose:
        warn(
            f"{loose} images directly in '{root}' belong to no class and are left out.",
            PartialCoverageWarning,
            stacklevel=2,
        )
    found = {folder.name: image_files(folder) for folder in folders}
    if empty := [name for name, files in found.items() if not files]:
        raise ArtifactError(
            f"Expected images in every sub-folder of '{root}'. Got none in "
            f"{_quoted(empty)}. Remove these folders or fill them."
        )
    names = {name: name for name in found}
    if class_names is not None:
        names = read_class_names(class_names)
        if missing := [name for name in found if name not in names]:
            raise LabelError(
                f"Expected a class name for every sub-folder of '{root}'. Got none for "
                f"{_quoted(missing)}. Add these, or remove the folders."
            )
    paths = [path for files in found.values() for path in files]
    labels = [names[name] for name, files in found.items() for _ in files]
    return paths, np.array(labels, dtype=np.str_)


def load_image_csv(path: str | Path) -> tuple[list[str], NDArray[np.str_]]:
    """List the images of a table with the columns ``path`` and ``label``.

    Parameters
    ----------
    path : str or Path
        UTF-8, separated by commas; the first row is the header. Relative paths are
        relative to this file. Other columns are left alone. Whether the images exist is
        not looked at.

    Returns
    -------
    paths : list of str
        In the order of the file.
    labels : ndarray of shape (n,), str

    Raises
    ------
    ArtifactError
        If the file cannot be read, lacks a column, or a row lacks a value; gives the
        line.
    """
    path = Path(path)
    (_, header), *rows = read_table(path)
    header = [name.lower() for name in header]
    for name in ("path", "label"):
        if header.count(name) != 1:
            raise ArtifactError(
                f"Expected a header with one column '{name}' in '{path}', line 1. Got "
                f"{_quoted(header)}. Name the columns 'path' and 'label'."
            )
    if not rows:
        raise ArtifactError(
            f"Expected rows below the header. Got '{path}', which has none. Add images."
        )
    image, label = header.index("path"), header.index("label")
    for line, row in rows:
        if len(row) != len(header) or not row[image] or not row[label]:
            raise ArtifactError(
                f"Expected {len(header)} values with a path and a label in '{path}', "
                f"line {line}. Got {_quoted(row)}. Complete the row; a value that "
                f"holds a comma is written in double quotes."
            )
    paths = [str(path.parent / row[image]) for _, row in rows]
    return paths, np.array([row[label] for _, row in rows], dtype=np.str_)


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
    path = Path(class_names)
    rows = read_table(path, "," if path.suffix.lower() == ".csv" else "\t")
    names: dict[str, str] = {}
    for line, row in rows:
        if len(row) != 2 or not all(row):
            raise ArtifactError(
                f"Expected two values, folder and label, in '{path}', line {line}. Got "
                f"{_quoted(row)}. Separate them by a tab (a comma in a .csv)."
            )
        if row[0] in names:
            raise ArtifactError(
                f"Expected each folder once in '{path}'. Got '{row[0]}' again in line "
                f"{line}. Remove one."
            )
        names[row[0]] = row[1]
    return names


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
