"""Features of some images: which images they are, and what went wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import FingerprintMismatchError, InvalidImageError
from zeroshot.escaping import shown
from zeroshot.images.files import OnError

__all__ = [
    "BLOCK_ROWS",
    "Features",
    "OnError",
    "Project",
    "as_asked",
    "check_on_error",
    "projected",
    "raise_first",
    "refuse_other",
]

Project: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From (k, dim) to (k, any length), rows independent of each other."""

BLOCK_ROWS = 1024  # at 1280 numbers a row, 5 MB


@dataclass(frozen=True)
class Features:
    """Features of images, and what went wrong.

    Attributes
    ----------
    matrix : ndarray of shape (n, dim), float32
        One row per image, in order. The row of an unreadable image is NaN; under
        ``on_error="skip"`` there is none, and n is smaller than the number of images.
    errors : dict of int to str
        Position in the input of each unreadable image, and the reason.
    positions : ndarray of shape (n,), int64
        Position in the input of each row's image: 0, 1, 2, ... unless images were
        skipped. Labels are brought in line by ``labels[features.positions]``.
    fingerprint : str or None, default=None
        Of the backbone that computed them; None where nobody knows.
    """

    matrix: NDArray[np.float32]
    errors: dict[int, str]
    positions: NDArray[np.int64]
    fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def n_images(self) -> int:
        """How many images there were, those without a row among them."""
        return len(self) + sum(i not in self.positions for i in self.errors)

    def check(self, fingerprint: str) -> None:
        """Raise FingerprintMismatchError if the features are another backbone's.

        Parameters
        ----------
        fingerprint : str
            Of the backbone whose features are wanted.
        """
        advice = "Extract them with the same backbone."
        refuse_other(fingerprint, self.fingerprint, "features", advice)


def refuse_other(wanted: str, got: str | None, what: str, advice: str) -> None:
    """Refuse features of another backbone than the wanted one."""
    if got != wanted:
        raise FingerprintMismatchError(
            f"Expected features of the backbone of fingerprint '{wanted}'. Got {what} "
            f"of fingerprint '{got}': other weights, layer, input size or scaling. "
            f"{advice}"
        )


def check_on_error(on_error: object) -> None:
    """Refuse what is none of `OnError`, with a ValueError."""
    if not isinstance(on_error, str) or on_error not in get_args(OnError):
        raise ValueError(
            f"Expected on_error 'raise', 'skip' or 'nan'. Got {shown(on_error)}."
        )


def raise_first(errors: dict[int, str], on_error: OnError) -> None:
    """Raise the first of some images' errors, where they are to be raised."""
    if errors and on_error == "raise":
        first = min(errors)
        raise InvalidImageError(errors[first], first)


def as_asked(features: Features, on_error: OnError) -> Features:
    """Leave the rows of unreadable images out, where they are to be skipped."""
    if on_error != "skip" or not features.errors:
        return features
    rows = _readable(features)
    return replace(
        features, matrix=features.matrix[rows], positions=features.positions[rows]
    )


def projected(features: Features, project: Project) -> Features:
    """Return what is made of the readable rows; the others are NaN."""
    readable = _readable(features)
    matrix = rows = project(features.matrix[readable])
    if not readable.all():
        matrix = np.full((len(readable), rows.shape[1]), np.nan, np.float32)
        matrix[readable] = rows
    return replace(features, matrix=matrix)


def _readable(features: Features) -> NDArray[np.bool_]:
    return ~np.isin(features.positions, list(features.errors))
