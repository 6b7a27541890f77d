"""Features of some images, and which images they are."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "FeatureBlock", "OnError", "check_on_error"]

OnError: TypeAlias = Literal["raise", "skip", "nan"]
"""What to do about an image that cannot be read."""

BLOCK_ROWS = 1024  # at 1280 numbers a row, 5 MB


@dataclass(frozen=True)
class FeatureBlock:
    """Features of some images that follow one another in the input.

    Attributes
    ----------
    positions : ndarray of shape (k,), int64
        Position in the input of each row's image.
    matrix : ndarray of shape (k, dim), float32
        One row per image, in order. The row of an unreadable image is NaN; under
        ``on_error="skip"`` there is none.
    errors : dict of int to str
        Position in the input of each unreadable image, and the reason.
    """

    positions: NDArray[np.int64]
    matrix: NDArray[np.float32]
    errors: dict[int, str] = field(default_factory=dict)


def check_on_error(on_error: object) -> None:
    """Refuse what is none of `OnError`, with a ValueError."""
    if on_error not in get_args(OnError):
        raise ValueError(
            f"Expected on_error 'raise', 'skip' or 'nan'. Got {on_error!r}."
        )
