"""What users write about the classes of a classifier: a known list, a file, names."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.backbones.spec_options import existing_file
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.storage.regular_files import read_limited

__all__ = ["IMAGENET", "Classes", "class_names"]

IMAGENET = "imagenet-1k"
LARGEST = (
    16 << 20
)  # bytes of a file; the names of ImageNet's 21,841 classes take 0.8 MB

Classes: TypeAlias = str | Path | Sequence[str]
"""``"imagenet-1k"``, the path of a text file, or names."""


def class_names(classes: Classes) -> tuple[tuple[str, ...], ...]:
    """Return for each class its names, the usual one first, in the order of outputs.

    ``classes``: ``"imagenet-1k"`` (in the order of Keras' classifiers), the path of a
    UTF-8 text file with one class on each line, or a sequence of such lines; several
    names of one class are separated by commas. Raises ArtifactError if a file is
    missing, no such text, or a line of it is blank or given twice;
    PluginContractError if so is a sequence.
    """
    if isinstance(classes, str | Path):
        if str(classes) == IMAGENET:
            return tuple(names for _, names in imagenet_classes())
        path = existing_file(classes, f"classes as '{IMAGENET}' or a file of names")
        return _parsed(_lines(path), f"line {{}} of '{path}'", ArtifactError)
    if not isinstance(classes, Sequence | np.ndarray):
        raise PluginContractError(
            f"Expected classes as '{IMAGENET}', a file of names, or a list of them. "
            f"Got {type(classes).__name__}. Give a list in the order of the outputs."
        )
    return _parsed(classes, "item {} of classes", PluginContractError)


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(read_limited(path, LARGEST).splitlines(True), 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"Expected UTF-8 text, one class on each line. Got line {max(number, 1)} "
            f"of '{path}': {error}. Save the file as UTF-8."
        ) from error


def _parsed(
    lines: Iterable[str], place: str, kind: type[ArtifactError | PluginContractError]
) -> tuple[tuple[str, ...], ...]:
    """Return the names on each line; ``place``: how an error calls line ``{}``."""
    first: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines, 1):
        is_text = isinstance(line, str) and line.strip().isprintable()
        names = tuple(name.strip() for name in line.split(",")) if is_text else ("",)
        if "" in names:
            raise kind(
                f"Expected the name of a class, or several with commas between them. "
                f"Got {line!r:.60} in {place.format(number)}. Write one class on each "
                f"line, and no blank ones."
            )
        if names in first:
            raise kind(
                f"Expected each class once. Got '{', '.join(names)}' in "
                f"{place.format(first[names])}, and in {place.format(number)}. Tell "
                f"the two apart by a further name."
            )
        first[names] = number
    return tuple(first)
