"""Where each image goes: its best label's folder, under a name that is free."""

import copy
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.errors import ArtifactError, InvalidImageError
from zeroshot.images.files import is_left_out
from zeroshot.images.sources import as_image_list
from zeroshot.sorting.manifest import SortedImage
from zeroshot.storage.placing import Action

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.labels.candidates import Candidates
    from zeroshot.scoring.answers import RankedLabel

__all__ = ["SHEET", "absolute", "folder_name", "planned"]

SHEET = ".sheet.jpg"  # behind the name of a label's folder
LONGEST = 150  # bytes of a name, of 255 that file systems take
# What Windows takes in no name, and names that it takes for devices.
_UNFIT = re.compile(r'[<>:"/\\|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def planned(
    classifier: "ZeroShotClassifier",
    images: Any,
    out: Path,
    candidate_labels: "Candidates",
    action: Action,
    adapt: bool,
) -> tuple[SortedImage, ...]:
    """Name all images, and decide where each goes; changes nothing.

    Parameters and errors are those of `zeroshot.sorting.sort_images`.
    """
    given = images if isinstance(images, list | tuple) else [images]
    files = list(dict.fromkeys(f for one in given for f in _files(one, out)))
    classifier = copy.copy(classifier).set_params(on_error="nan")
    points = classifier.points([str(file) for file in files])
    ranked = classifier.rank(points, candidate_labels, k=2, adapt=adapt)
    places = _Places(out, str(classifier.unknown_label))
    plan = []
    for i, (file, best) in enumerate(zip(files, ranked, strict=True)):
        error = points.errors.get(i, "")
        if action == "move" and not error and file.is_symlink():
            error = "It is a link. Move the file that it leads to, or copy it."
        image = SortedImage(file, error=error)
        if best:
            image = _answered(image, best, str(classifier.unknown_label))
            if not error:
                place = places.free(image.label, file, is_unknown=best[0].rejected)
                image = replace(image, sorted=place, action=action)
        plan.append(image)
    return tuple(plan)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path that means the same wherever the process is; links stay links."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def _answered(
    image: SortedImage, best: Sequence["RankedLabel"], unknown: str
) -> SortedImage:
    first, *more = best
    if first.rejected:  # nothing is the best, so the best comes second
        more = [first]
    return replace(
        image,
        label=unknown if first.rejected else str(first.label),
        score=first.score,
        probability=first.probability,
        runner_up=str(more[0].label) if more else "",
        runner_up_probability=more[0].probability if more else None,
    )


def _files(images: Any, out: Path) -> Iterator[Path]:
    """Yield the files of images that are not results of an earlier sorting."""
    around = None
    if isinstance(images, str | os.PathLike):
        around = absolute(images)
        if not around.exists():
            raise ArtifactError(
                f"Expected images or a folder of images. Got '{images}', which does "
                f"not exist. Check the path."
            )
    here = Path(os.path.realpath(out))
    for image in as_image_list(images, "nan"):
        if not isinstance(image, str | os.PathLike):
            raise InvalidImageError(
                f"Expected paths of images, which can be sorted into folders. Got "
                f"{type(image).__name__}. Save it as a file first."
            )
        file = absolute(os.fspath(image))
        if not Path(os.path.realpath(file.parent)).is_relative_to(here):
            yield file
        elif around is None or Path(os.path.realpath(around)) not in here.parents:
            raise ArtifactError(
                f"Expected a folder of results that does not hold the images. Got "
                f"'{out}', which holds '{file}'. Choose another one."
            )


class _Places:
    """Free names below the folder of results."""

    def __init__(self, out: Path, unknown: str) -> None:
        self.out = out
        self.folders: dict[tuple[str, bool], str] = {}
        self.taken: dict[str, set[str]] = {}
        # What is no folder cannot become one, and no picture of others is replaced.
        if out.is_dir():
            files = (p.name.casefold() for p in out.iterdir() if not p.is_dir())
            self.taken[""] = {name.removesuffix(SHEET) for name in files}
        self._folder(unknown, is_unknown=True)

    def free(self, label: str, file: Path, *, is_unknown: bool) -> Path:
        """Return a place that no file has or will have, relative to the results."""
        folder = self._folder(label, is_unknown=is_unknown)
        if folder not in self.taken:
            there = self.out / folder
            names = os.listdir(there) if there.is_dir() else []
            self.taken[folder] = {name.casefold() for name in names}
        return Path(folder, _unique(file.stem, file.suffix, self.taken[folder]))

    def _folder(self, label: str, *, is_unknown: bool) -> str:
        if (label, is_unknown) not in self.folders:
            taken = self.taken.setdefault("", set())
            name = _unique(folder_name(label), "", taken)
            self.folders[label, is_unknown] = name
        return self.folders[label, is_unknown]


def folder_name(label: str) -> str:
    """Return a label as the name of a folder, on any system.

    ``label``: any text. What file systems refuse becomes ``_``.

    Examples
    --------
    >>> folder_name("okapi"), folder_name("AC/DC"), folder_name("..")
    ('okapi', 'AC_DC', '_')
    """
    text = unicodedata.normalize("NFC", label)
    text = "".join(c if c.isprintable() else "_" for c in text)
    text = _UNFIT.sub("_", text).encode()[:LONGEST].decode(errors="ignore")
    text = text.strip(" .") or "_"
    return f"{text}_" if _DEVICE.fullmatch(text) or is_left_out(text) else text


def _unique(stem: str, suffix: str, taken: set[str]) -> str:
    """Return a name that none is like but for case, and add it to those."""
    stem = os.fsdecode(os.fsencode(stem)[: LONGEST + 50]) if len(stem) > 50 else stem
    name, n = f"{stem}{suffix}", 1
    while name.casefold() in taken:
        n += 1
        name = f"{stem} ({n}){suffix}"
    taken.add(name.casefold())
    return name
