"""A picture of images with the labels that were predicted for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped
from zeroshot.storage.cache import replace_file

__all__ = ["write_sheet"]

COLUMNS = 8
TILE = 120  # side of a picture, in pixels
FRAME, GAP, MARGIN = 4, 12, 20
TITLE_SIZE, LABEL_SIZE = 20, 14  # height of letters, in pixels
MOST_LETTERS = 40  # of a label
INK, RIGHT, WRONG = (30, 30, 30), (20, 140, 60), (205, 30, 40)


def write_sheet(
    path: Path,
    images: NDArray[np.uint8],
    true_labels: Sequence[Any] | NDArray[Any],
    predicted_labels: Sequence[Any] | NDArray[Any],
    *,
    title: str,
    subtitle: str = "",
) -> None:
    """Write images with their labels as a PNG: green frames are right, red ones wrong.

    A right prediction is written once. Below a wrong one stands the true label too, so
    that nobody needs to tell green from red.

    ``path``: the file to write; an older one is replaced. Its ending does not matter.
    ``images``: (n, h, w, 3) uint8, RGB; shown 120 pixels wide, eight in a row.
    ``true_labels``, ``predicted_labels``: the first letters of each are shown.
    ``title``, ``subtitle``: lines above the pictures. Raises ArtifactError if the file
    cannot be written.
    """
    large, small = (ImageFont.load_default(size) for size in (TITLE_SIZE, LABEL_SIZE))
    cell = TILE + 2 * FRAME + GAP
    tall = cell + 3 * LABEL_SIZE
    top = MARGIN + 2 * TITLE_SIZE + 2 * GAP
    n_rows = -(-len(images) // COLUMNS)
    sheet = Image.new(
        "RGB",
        (2 * MARGIN + COLUMNS * cell - GAP, top + n_rows * tall),
        (255, 255, 255),
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, large)
    draw.text((MARGIN, MARGIN + TITLE_SIZE + GAP // 2), subtitle, INK, small)
    for number, (pixels, true, predicted) in enumerate(
        zip(images, true_labels, predicted_labels, strict=True)
    ):
        x = MARGIN + number % COLUMNS * cell
        y = top + number // COLUMNS * tall
        color = RIGHT if predicted == true else WRONG
        side = TILE + 2 * FRAME
        draw.rectangle((x, y, x + side - 1, y + side - 1), color)
        picture = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC)
        sheet.paste(picture, (x + FRAME, y + FRAME))
        text = _shown(predicted)
        if predicted != true:
            text += f"\n(is {_shown(true)})"
        draw.multiline_text((x, y + side + 2), text, color, small, spacing=1)
    try:
        with replace_file(path) as temporary:
            sheet.save(temporary, format="PNG")
    except (OSError, ValueError) as error:  # a NUL in the path
        raise ArtifactError(
            f"Expected a place to write the picture '{path}'. Got {error}. Choose "
            f"another path, or check permissions and free space."
        ) from error


def _shown(label: object) -> str:
    return escaped(label)[:MOST_LETTERS]  # a font has no lone surrogates
