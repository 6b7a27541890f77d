"""What becomes of each image, as a table that everything is taken back by."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped, for_csv, unescaped
from zeroshot.storage.cache import replace_file
from zeroshot.storage.placing import Action

__all__ = ["MANIFEST", "SortedImage", "read_manifest", "targets", "write_manifest"]

MANIFEST = "manifest.csv"
PATHS = ("file", "sorted")


@dataclass(frozen=True)
class SortedImage:
    """What became of one image: a row of the manifest.

    Attributes
    ----------
    file : Path
        Where the image was found; absolute.
    sorted : Path or None
        Its place below the folder of results, relative to it; None where it was left.
    action : {"link", "copy", "move", ""}
        How it got there.
    label : str
        Best candidate, or the classifier's ``unknown_label``.
    score, probability : float or None
        Of the best candidate, whether it was rejected or not.
    runner_up : str
        The second best candidate.
    runner_up_probability : float or None
    error : str
        Why it was left where it is.
    """

    file: Path
    sorted: Path | None = None
    action: Action | Literal[""] = ""
    label: str = ""
    score: float | None = None
    probability: float | None = None
    runner_up: str = ""
    runner_up_probability: float | None = None
    error: str = ""


COLUMNS = tuple(field.name for field in fields(SortedImage))


def targets(
    out: Path, images: Iterable[SortedImage]
) -> Iterator[tuple[SortedImage, Path, Action]]:
    """Yield the images that have a place below ``out``, it, and how they get there."""
    for image in images:
        if image.sorted is not None and image.action:
            yield image, out / image.sorted, image.action


def write_manifest(out: Path, plan: Sequence[SortedImage]) -> None:
    """Write the table, whole or not at all."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in plan:
        place = image.sorted.as_posix() if image.sorted else None
        row = {**vars(image), "file": str(image.file), "sorted": place}
        writer.writerow(for_csv(v, is_path=c in PATHS) for c, v in row.items())
    with replace_file(out / MANIFEST) as temporary:
        temporary.write_text(written.getvalue(), encoding="utf-8", newline="")


def read_manifest(out: Path) -> list[SortedImage]:
    """Read where each image is and was; the rest of a row is for people.

    Raises ArtifactError if it is not as `write_manifest` wrote it.
    """
    path = out / MANIFEST
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_image(row) for row in csv.DictReader(file, strict=True)]
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"Expected a manifest as 'zeroshot sort' wrote it, with the columns file, "
            f"sorted and action. Got '{path}': {type(error).__name__}: {error}. Put "
            f"back what was changed in it, or delete it to leave all files where they "
            f"are."
        ) from error


def _image(row: dict[str, str]) -> SortedImage:
    file, place = Path(unescaped(row["file"])), Path(unescaped(row["sorted"]))
    if not row["sorted"]:
        return SortedImage(file)
    action: Action | None = next(
        (a for a in get_args(Action) if a == row["action"]), None
    )
    # A manifest of somebody else must not move files of ours.
    is_ours = (
        file.is_absolute()
        and not place.is_absolute()
        and len(place.parts) == 2
        and os.pardir not in place.parts
        and place.suffix == file.suffix
        and "\0" not in f"{file}{place}"
    )
    if not is_ours or action is None:
        raise ValueError(f"the row of '{escaped(file)}', sorted to '{escaped(place)}'")
    return SortedImage(file, place, action)
