"""Labels that are decided: what any program needs to score images with them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrozenLabels"]


@dataclass(frozen=True)
class FrozenLabels:
    """Labels ready to be compared with points of images.

    Attributes
    ----------
    labels : ndarray of shape (m,)
    points : ndarray of shape (m, dim), float32
        Of unit length. The score of an image with a label is the cosine of their points
        and, added to it, the label's correction.
    corrections : ndarray of shape (m,), float32
        For hubs and for seen classes; mostly below 0.
    is_seen : ndarray of shape (m,), bool
        Which name a class of training.
    temperature : float
        Divides the scores before the softmax.
    threshold : float or None
        What decides about an image must be this much, or no label fits; None where
        every image gets a label. Without a background that is its best score; with one,
        t times the log odds of the labels against the mean of the background, in a
        softmax of scores divided by t (`zeroshot.scoring.rejection`).
    background : ndarray of shape (b, dim), float32, or None
        Points of other known classes, of unit length.
    background_corrections : ndarray of shape (b,), float32, or None
    background_of : ndarray of shape (m,), int, or None
        Row of the background that is none where a label is the best; -1 for none.
    background_temperature : float or None
        The t.
    """

    labels: NDArray[Any]
    points: NDArray[np.float32]
    corrections: NDArray[np.float32]
    is_seen: NDArray[np.bool_]
    temperature: float
    threshold: float | None = None
    background: NDArray[np.float32] | None = None
    background_corrections: NDArray[np.float32] | None = None
    background_of: NDArray[np.intp] | None = None
    background_temperature: float | None = None
