"""Which files are images, and small tables that name them; opens no image."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from zeroshot.errors import ArtifactError

__all__ = ["IMAGE_SUFFIXES", "image_files", "read_table"]

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("avif", "bmp", "dib", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
"""What counts as an image file in a folder, in lower case. A path given by name may
end in anything: its content decides."""


def image_files(folder: Path) -> list[str]:
    """Return all image files below a folder, sorted; hidden files and folders not.

    Links to files are followed, links to folders below ``folder`` are not (they may
    lead in circles).

    Parameters
    ----------
    folder : Path

    Returns
    -------
    files : list of str
        Those that end in one of `IMAGE_SUFFIXES`, in the order of `Path` objects. No
        such objects: to make 10,000 took a tenth of a second pass over the images.
    """
    here = os.path.join(os.curdir, "")
    return [path.removeprefix(here) for path in _image_files(str(folder))]


def _image_files(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: os.path.normcase(e.name))
    except OSError:  # a folder that may not be read
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _image_files(entry.path)
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in IMAGE_SUFFIXES and not entry.is_dir():
            yield entry.path


def read_table(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the rows of a small text table, with their line numbers.

    Parameters
    ----------
    path : Path
        UTF-8, with or without byte order mark.
    delimiter : str, default=","

    Returns
    -------
    rows : list of (int, list of str)
        Line number (of the row's last line, from 1) and stripped cells; no empty rows.

    Raises
    ------
    ArtifactError
        If it cannot be read, is not such text, or holds no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            cells = ((reader.line_num, [c.strip() for c in row]) for row in reader)
            rows = [(line, row) for line, row in cells if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(
            f"Expected a table in UTF-8 text. Got '{path}': {error}. Check the file."
        ) from error
    if not rows:
        raise ArtifactError(
            f"Expected a table with rows. Got '{path}', which is empty."
        )
    return rows
