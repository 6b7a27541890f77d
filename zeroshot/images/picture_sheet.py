"""A picture of images with words below each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped
from zeroshot.storage.cache import replace_file

__all__ = ["write_result_sheet", "write_sheet"]

COLUMNS = 8
TILE = 120  # side of a picture, in pixels
FRAME, GAP, MARGIN = 4, 12, 20
TITLE_SIZE, LABEL_SIZE = 20, 14  # height of letters, in pixels
MOST_LETTERS = 40  # of a label
INK, RIGHT, WRONG = (30, 30, 30), (20, 140, 60), (205, 30, 40)
PLAIN = (160, 160, 160)  # frame without a meaning
QUALITY = 85  # of a JPEG; a picture of 120 pixels takes 4 kB


def write_result_sheet(
    path: Path,
    images: NDArray[np.uint8],
    true_labels: Sequence[Any] | NDArray[Any],
    predicted_labels: Sequence[Any] | NDArray[Any],
    *,
    title: str,
    subtitle: str = "",
) -> None:
    """Write images with their labels: green frames are right, red ones wrong.

    A right prediction is written once. Below a wrong one stands the true label too, so
    that nobody needs to tell green from red.

    ``true_labels``, ``predicted_labels``: the first letters of each are shown; the
    others as for `write_sheet`.
    """
    pairs = list(zip(true_labels, predicted_labels, strict=True))
    write_sheet(
        path,
        images,
        [
            _shown(p) if p == true else f"{_shown(p)}\n(is {_shown(true)})"
            for true, p in pairs
        ],
        frames=[RIGHT if p == true else WRONG for true, p in pairs],
        title=title,
        subtitle=subtitle,
    )


def write_sheet(
    path: Path,
    images: NDArray[np.uint8],
    captions: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
    frames: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write images with words below each as a PNG, or a JPEG where ``path`` says so.

    ``path``: the file to write; an older one is replaced. ``images``: (n, h, w, 3)
    uint8, RGB; shown 120 pixels wide, eight in a row. ``captions``: of three lines at
    most. ``title``, ``subtitle``: lines above the pictures. ``frames``: a colour for
    each. Raises ArtifactError if the file cannot be written.
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
    frames = [PLAIN] * len(images) if frames is None else frames
    for number, (pixels, caption, frame) in enumerate(
        zip(images, captions, frames, strict=True)
    ):
        x = MARGIN + number % COLUMNS * cell
        y = top + number // COLUMNS * tall
        side = TILE + 2 * FRAME
        draw.rectangle((x, y, x + side - 1, y + side - 1), frame)
        picture = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC)
        sheet.paste(picture, (x + FRAME, y + FRAME))
        ink = INK if frame == PLAIN else frame
        draw.multiline_text((x, y + side + 2), caption, ink, small, spacing=1)
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    try:
        with replace_file(path) as temporary:
            sheet.save(temporary, format="JPEG" if is_jpeg else "PNG", quality=QUALITY)
    except (OSError, ValueError) as error:  # a NUL in the path
        raise ArtifactError(
            f"Expected a place to write the picture '{path}'. Got {error}. Choose "
            f"another path, or check permissions and free space."
        ) from error


def _shown(label: object) -> str:
    return escaped(label)[:MOST_LETTERS]  # a font has no lone surrogates
