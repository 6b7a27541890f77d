"""Which files are images, and small tables that name them; opens no image."""

import csv
import errno
import os
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias
from warnings import warn

from zeroshot.errors import ArtifactError, PartialCoverageWarning
from zeroshot.storage.regular_files import read_limited

__all__ = ["IMAGE_SUFFIXES", "image_files", "read_image_table", "read_table"]

OnError: TypeAlias = Literal["raise", "skip", "nan"]
"""What to do about an image or folder that cannot be read."""

FORMATS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp",),
    "DIB": ("dib",),
    "TIFF": ("tif", "tiff"),
    "AVIF": ("avif",),
    "JPEG2000": ("jp2",),
    "PPM": ("pbm", "pgm", "ppm", "pnm"),
    "TGA": ("tga",),  # the last, because no signature tells it from other content
}
"""The formats that are decoded, as Pillow calls them, and how their files end. Of the
others that Pillow knows some start a program (EPS: Ghostscript), some ask the system
(WMF) or a library that the program has registered (HDF5, GRIB, BUFR), and the rest hold
no photographs."""

IMAGE_SUFFIXES = frozenset(f".{end}" for ends in FORMATS.values() for end in ends)
"""What counts as an image file in a folder, in lower case. A path given by name may
end in anything: its content decides."""

SYSTEM_NAMES = frozenset(
    (
        *("@eadir", "@tmp", "#recycle", "#snapshot", "lost+found"),  # file servers
        *("$recycle.bin", "system volume information", "thumbs.db", "__macosx"),
    )
)
"""Folders and files that desktops and file servers make, in lower case. They hold
thumbnails and deleted files, and are left out like names that begin with a dot
(``.thumbnails``, ``._photo.jpg``, ``.ipynb_checkpoints``)."""

MOST_LINKS = 1000  # that are followed behind others: they multiply
LARGEST_TABLE = 256 << 20  # bytes; a million images with their paths take 100 MB
TABLE_SUFFIXES = frozenset((".csv", ".tsv"))

PATH_COLUMNS = ("path", "image")

OF_THE_FILE = frozenset(
    (
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ),
        *(errno.ENXIO, errno.ENODEV),  # a socket
    )
)
"""Errors that say something of one file or folder. All others (no memory, too many open
files, a failing disk, a share that is gone) are the machine's: good images would be
left out for them."""


def raise_machine_fault(source: str, error: Exception) -> None:
    """Raise an ArtifactError if the system's error is none of `OF_THE_FILE`."""
    if isinstance(error, OSError) and error.errno not in (None, *OF_THE_FILE):
        raise ArtifactError(
            f"Expected to read {source}. Got '{error}', which is a fault of the "
            f"machine, not of the image: no image is left out for it. Check memory, "
            f"disk, network and open files, and run again."
        ) from error


def is_left_out(name: str) -> bool:
    """Tell whether what is found in a folder is hidden or the system's."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def image_files(folder: Path, on_error: OnError = "raise") -> list[str]:
    """Return all image files below a folder, sorted; not those `is_left_out` names.

    Those that end in one of `IMAGE_SUFFIXES`, in the order of `Path` objects. No such
    objects: to make 10,000 took a tenth of a second pass over the images. Links are
    followed, but for a link to a folder that it lies in. Where folders cannot be read,
    an ArtifactError names all of them; under ``on_error`` "skip" and "nan", a
    PartialCoverageWarning does.
    """
    here = os.path.join(os.curdir, "")
    unreadable: dict[str, str] = {}
    found = _image_files(str(folder), unreadable)
    files = [path.removeprefix(here) for path in found]
    if unreadable:
        which = _listed([f"'{path}' ({why})" for path, why in unreadable.items()])
        if on_error == "raise":
            raise ArtifactError(
                f"Expected folders that can be read. Got {len(unreadable)} in "
                f"'{folder}' that cannot: {which}. The others hold {len(files)} "
                f"images. Check links and permissions, or leave these folders out "
                f"(on_error 'skip')."
            )
        warn(
            f"{len(unreadable)} folders in '{folder}' cannot be read and are left out: "
            f"{which}. The others hold {len(files)} images.",
            PartialCoverageWarning,
            stacklevel=3,
        )
    return files


_OpenFolder: TypeAlias = tuple[Iterator["os.DirEntry[str]"], str, tuple[str, ...]]


def _image_files(folder: str, unreadable: dict[str, str]) -> Iterator[str]:
    n_links = 0
    # Not by a function that calls itself: folders may lie 2000 deep. Of each folder
    # what is left in it, and the places that links were followed from.
    first: _OpenFolder = (iter(_entries(folder, unreadable)), folder, ())
    open_folders = [first]
    while open_folders:
        entries, folder, places = open_folders[-1]
        if (entry := next(entries, None)) is None:
            open_folders.pop()
            continue
        if is_left_out(entry.name):
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        is_link = entry.is_symlink()
        if os.path.isdir(entry.path) if is_link else entry.is_dir():
            if is_link:
                n_links += bool(places)
                places = (*places, os.path.realpath(folder))
                target = os.path.join(os.path.realpath(entry.path), "")
                if any(os.path.join(place, "").startswith(target) for place in places):
                    continue  # a circle
            if n_links > MOST_LINKS:
                raise ArtifactError(
                    f"Expected at most {MOST_LINKS} links to folders behind such "
                    f"links. Got more at '{entry.path}'. Name the folder that holds "
                    f"the images."
                )
            below = iter(_entries(entry.path, unreadable))
            open_folders.append((below, entry.path, places))
        elif suffix in IMAGE_SUFFIXES:
            yield entry.path
        elif is_link and not suffix and not os.path.exists(entry.path):
            unreadable[entry.path] = "a link that leads nowhere"


def _entries(folder: str, unreadable: dict[str, str]) -> list["os.DirEntry[str]"]:
    """Return what lies in a folder, sorted; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda e: os.path.normcase(e.name))
    except OSError as error:
        raise_machine_fault(f"'{folder}'", error)
        unreadable[folder] = error.strerror or str(error)
        return []


class ImageTable(NamedTuple):
    """A table that names images: in which column, and the rows with their lines."""

    path: Path
    header: list[str]  # in lower case; empty where there is none
    column: int
    rows: list[tuple[int, list[str]]]

    def images(self) -> list[str]:
        """Return the path of each row's image; warn of missing ones, by their lines."""
        paths, missing = [], []
        for line, row in self.rows:
            cell = row[self.column] if len(row) > self.column else ""
            if not cell:
                raise ArtifactError(
                    f"Expected the path of an image in '{self.path}', line {line}. Got "
                    f"{quoted(row)}. Complete the row or remove it."
                )
            paths.append(self._resolved(cell))
            if not os.path.lexists(paths[-1]):
                missing.append(f"'{cell}' (line {line})")
        if missing:
            warn(
                f"{len(missing)} of {len(paths)} images that '{self.path}' names do "
                f"not exist: {_listed(missing)}.",
                PartialCoverageWarning,
                stacklevel=3,
            )
        return paths

    def _resolved(self, cell: str) -> str:
        if "://" in cell:  # refused when it is read
            return cell
        path = str(self.path.parent / os.path.expanduser(cell))
        # Written by Windows, unless a file has that in its name.
        if "\\" in cell and not os.path.lexists(path):
            cell = cell.replace("\\", "/")
            path = str(self.path.parent / os.path.expanduser(cell))
        return path


def read_image_table(path: Path) -> ImageTable:
    """Read a table that names images, with or without a header.

    Relative paths are relative to it; ``~/`` is the home folder. The images are named
    by the column ``path``, else ``image``, else by the first. A first row without such
    a name is an image if its first cell ends like an image file or is a file; it is a
    header if that holds of another row, and of no cell of its own.

    ``path``: see `read_table`. Raises ArtifactError if it is no table, or neither case
    holds.
    """
    rows = read_table(path)
    first = rows[0][1]
    header = [cell.lower() for cell in first]
    for name in PATH_COLUMNS:
        if name in header:
            return ImageTable(path, header, header.index(name), rows[1:])

    def is_image(cell: str) -> bool:
        suffix = os.path.splitext(cell)[1].lower()
        return suffix in IMAGE_SUFFIXES or os.path.isfile(
            path.parent / os.path.expanduser(cell)
        )

    if is_image(first[0]):
        return ImageTable(path, [], 0, rows)
    if any(map(is_image, first)) or not any(is_image(row[0]) for _, row in rows):
        raise ArtifactError(
            f"Expected a column 'path', or image files in the first column, in "
            f"'{path}' (separated by {separator(path)}). Got the first row "
            f"{quoted(first)}. Add a header that names the column 'path'."
        )
    return ImageTable(path, header, 0, rows[1:])


def read_table(path: Path, delimiter: str | None = None) -> list[tuple[int, list[str]]]:
    """Return the rows of a small table in UTF-8, with their line numbers.

    The number is of a row's last line, from 1; cells are stripped, empty rows left out.
    The default delimiter is a tab in a ``.tsv``, else what the first line has: a comma,
    else a semicolon, else a tab. Raises ArtifactError if the file cannot be read, is
    not such text, or holds no row.
    """
    try:
        file = _text(path)
        if delimiter is None:
            delimiter = _delimiter(path, file)
            file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        cells = ((reader.line_num, [c.strip() for c in row]) for row in reader)
        rows = [(line, row) for line, row in cells if any(row)]
        if rows and rows[0][1][0].lower() == "sep=":  # for Excel
            del rows[0]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(
            f"Expected a table in UTF-8 text. Got '{path}': {error}. Check the file."
        ) from error
    if not rows:
        raise ArtifactError(
            f"Expected a table with rows. Got '{path}', which is empty."
        )
    return rows


def _text(path: Path) -> StringIO:
    return StringIO(read_limited(path, LARGEST_TABLE).decode("utf-8-sig"), newline="")


def _delimiter(path: Path, lines: Iterator[str]) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = next((line for line in lines if line.strip()), "")
    unquoted = "".join(first.split('"')[::2])
    return next((mark for mark in ",;\t" if mark in unquoted), ",")


def separator(path: Path) -> str:
    """Return in words what separates the cells of a table."""
    mark = _delimiter(path, _text(path))
    return {",": "commas", ";": "semicolons", "\t": "tabs"}[mark]


def quoted(names: Sequence[str]) -> str:
    """Return the first ten of some names in quotes, and how many more there are."""
    return _listed([f"'{name[:200]}'" for name in names])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
