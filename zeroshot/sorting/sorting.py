"""Sort images into folders, and take that back."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from filelock import FileLock, Timeout

from zeroshot.errors import ArtifactError
from zeroshot.progress import progress_bar
from zeroshot.sorting.manifest import (
    MANIFEST,
    SortedImage,
    read_manifest,
    targets,
    write_manifest,
)
from zeroshot.sorting.plan import SHEET, absolute, planned
from zeroshot.sorting.sheets import write_sheets
from zeroshot.storage.placing import Action, place, take_back

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.labels.candidates import Candidates

__all__ = ["Sorted", "Undone", "sort_images", "undo_sorting"]


@dataclass(frozen=True)
class Sorted:
    """What `sort_images` did, or would do.

    Attributes
    ----------
    out : Path
        The folder of results.
    images : tuple of SortedImage
    undone : Undone or None
        What was taken back first, of an earlier sorting into the same folder.
    """

    out: Path
    images: tuple[SortedImage, ...]
    undone: "Undone | None" = None

    @property
    def manifest(self) -> Path:
        """The file that `undo_sorting` reads."""
        return self.out / MANIFEST

    @property
    def counts(self) -> dict[str, int]:
        """Images of each folder, most first."""
        places = Counter(i.sorted.parent.name for i in self.images if i.sorted)
        return dict(places.most_common())

    @property
    def errors(self) -> dict[Path, str]:
        """Images that were left where they are, and why."""
        return {image.file: image.error for image in self.images if image.error}


@dataclass(frozen=True)
class Undone:
    """What `undo_sorting` did.

    Attributes
    ----------
    n_images : int
        Images that are where they were before.
    left : tuple of Path
        Files that were left where they had been sorted to, because taking them back
        would lose something: the image they were made of is gone, or another file is in
        its place.
    gone : tuple of Path
        Moved images that are in neither place: somebody has moved or deleted them.
    """

    n_images: int
    left: tuple[Path, ...] = ()
    gone: tuple[Path, ...] = ()


def sort_images(
    classifier: "ZeroShotClassifier",
    images: Any,
    out: str | os.PathLike[str],
    candidate_labels: "Candidates" = None,
    *,
    action: Action = "link",
    adapt: bool = False,
    sheets: bool = True,
    dry_run: bool = False,
) -> Sorted:
    """Put images into one folder for each label.

    Nothing is overwritten or lost, whenever the process is killed: run again, or
    `undo_sorting`. What was sorted into ``out`` before is taken back first, so the
    result is that of these images and labels.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted. Images that it rejects go to the folder of its ``unknown_label``.
    images : path, or list of paths
        A folder (all images below), a table with a column path, files. Images that
        cannot be read stay where they are.
    out : path
        The folder of results. It may lie in that of the images, not around it.
    candidate_labels : as in `ZeroShotClassifier.predict`
    action : {"link", "copy", "move"}, default="link"
        ``"link"`` makes hard links, which take no space: the same file under a second
        name, so an edit changes both. Where none can be made, and by ``"copy"``, images
        are copied. ``"move"`` takes them from where they were.
    adapt : bool, default=False
        Judge the images together, as in `ZeroShotClassifier.predict`.
    sheets : bool, default=True
        Write a picture of each label's images, the least probable ones first.
    dry_run : bool, default=False
        Change nothing.

    Returns
    -------
    sorted : Sorted

    Raises
    ------
    ArtifactError
        If ``out`` holds the images or cannot be written, another process sorts into it,
        or a file cannot be placed; what was done until then stays, and is taken back or
        completed as above.
    ValueError
        If ``action`` is none of the above.
    """
    if action not in get_args(Action):
        raise ValueError(f"Expected action 'link', 'copy' or 'move'. Got {action!r}.")
    out = absolute(out)
    classifier.label_points(candidate_labels)  # unknown labels change nothing
    planning = classifier, images, out, candidate_labels, action, adapt
    if dry_run:
        return Sorted(out, planned(*planning))
    with _alone(out):
        undone = _undo(out) if (out / MANIFEST).exists() else None
        plan = planned(*planning)
        write_manifest(out, plan)
        _place_all(out, plan)
        if sheets:
            write_sheets(out, plan)
    return Sorted(out, plan, undone)


def undo_sorting(out: str | os.PathLike[str]) -> Undone:
    """Take back what `sort_images` did.

    Links and copies are removed where the image is still in its old place, moved images
    go back there. Nothing else is touched.

    Parameters
    ----------
    out : path
        The folder of results, or its manifest.

    Returns
    -------
    undone : Undone

    Raises
    ------
    ArtifactError
        If there is no manifest, it is damaged, or a file cannot be taken back.
    """
    out = absolute(out)
    out = out.parent if out.name == MANIFEST else out
    if not (out / MANIFEST).is_file():
        raise ArtifactError(
            f"Expected a folder that 'zeroshot sort' filled, with '{MANIFEST}'. Got "
            f"'{out}', which has none. Check the path."
        )
    with _alone(out):
        return _undo(out)


def _place_all(out: Path, plan: Sequence[SortedImage]) -> None:
    todo = list(targets(out, plan))
    with progress_bar("sorting", len(todo)) as advance:
        for n, (image, target, action) in enumerate(todo):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                place(image.file, target, action)
            except OSError as error:
                what = f"to place '{image.file}' at '{target}'"
                raise _failed(what, error, n, len(todo), out) from error
            advance()


def _undo(out: Path) -> Undone:
    todo = list(targets(out, read_manifest(out)))
    left: list[Path] = []
    gone: list[Path] = []
    n_images = 0
    for image, target, action in todo:
        try:
            is_back = take_back(image.file, target, action)
        except OSError as error:
            what = f"to take '{target}' back to '{image.file}'"
            raise _failed(what, error, n_images, len(todo), out) from error
        if is_back:
            n_images += 1
        elif os.path.lexists(target):
            left.append(target)
        else:
            gone.append(image.file)
    for folder in {target.parent for _, target, _ in todo}:
        Path(f"{folder}{SHEET}").unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
    (out / MANIFEST).unlink()
    return Undone(n_images, tuple(left), tuple(gone))


def _failed(what: str, error: OSError, n: int, of: int, out: Path) -> ArtifactError:
    return ArtifactError(
        f"Expected {what}. Got {error.strerror or error}. {n} of {of} images are done "
        f"and nothing is lost. Check rights and free space and run it again, or take "
        f"all back with zeroshot sort --undo '{out}'."
    )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes from sorting into the same folder, which is made."""
    lock = out / ".sorting.lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    lock.unlink()
                with suppress(OSError):  # not empty
                    out.rmdir()
    except Timeout as error:
        raise ArtifactError(
            f"Expected a folder that no other process sorts into. Got '{out}'. Wait "
            f"for the other one to end."
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"Expected a folder for the results that can be written. Got '{out}': "
            f"{error.strerror or error}. Choose another one, or check rights and free "
            f"space."
        ) from error
