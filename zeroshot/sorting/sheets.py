"""A picture of each folder of results, to check by eye."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from zeroshot.errors import InvalidImageError
from zeroshot.escaping import escaped
from zeroshot.images.picture_sheet import TILE, write_sheet
from zeroshot.images.sources import read_fitted
from zeroshot.progress import progress_bar
from zeroshot.sorting.manifest import SortedImage, targets
from zeroshot.sorting.plan import SHEET

__all__ = ["write_sheets"]

MOST_SHOWN = 400  # images on a sheet: the least probable ones


def write_sheets(out: Path, plan: Sequence[SortedImage]) -> None:
    """Write a picture beside each folder, the least probable images first."""
    by_folder: dict[Path, list[tuple[SortedImage, Path]]] = {}
    for image, target, _ in targets(out, plan):
        by_folder.setdefault(target.parent, []).append((image, target))
    n_shown = sum(min(MOST_SHOWN, len(images)) for images in by_folder.values())
    with progress_bar("picture sheets", n_shown) as advance:
        for folder, images in by_folder.items():
            images.sort(key=lambda pair: pair[0].probability or 0.0)
            pictures, captions = [], []
            for image, target in images[:MOST_SHOWN]:
                with suppress(InvalidImageError):  # it changed in the meantime
                    pictures.append(read_fitted(str(target), (TILE, TILE)))
                    captions.append(_caption(image, target.name))
                advance()
            n, label = len(images), images[0][0].label
            which = f" The first {MOST_SHOWN}." if n > MOST_SHOWN else ""
            if pictures:
                write_sheet(
                    Path(f"{folder}{SHEET}"),
                    np.stack(pictures),
                    captions,
                    title=f"{escaped(label)}: {n} image{'s' * (n > 1)}",
                    subtitle=f"The least probable first, and the second best.{which}",
                )


def _caption(image: SortedImage, name: str) -> str:
    name = escaped(name)
    name = name if len(name) <= 17 else f"{name[:8]}...{name[-6:]}"
    lines = [name, f"{image.probability:.2f}"]
    if image.runner_up:
        runner_up = escaped(image.runner_up)[:11]
        lines.append(f"{runner_up} {image.runner_up_probability:.2f}")
    return "\n".join(lines)
