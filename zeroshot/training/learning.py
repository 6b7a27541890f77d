"""What a fit learns from features: the projection, and what its scores mean."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from zeroshot.projections.base import Projection
from zeroshot.scoring.calibration import Calibration, fit_calibration
from zeroshot.scoring.folds import Training
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.settings import ScoreSettings
from zeroshot.training.projection_choice import (
    AutoProjection,
    ProjectionChoice,
    choose_projection,
    draw_seed,
)

__all__ = ["Learnt", "learn"]


class Learnt(NamedTuple):
    """What `learn` returns."""

    projection: Projection  # fitted
    projection_choice: ProjectionChoice | None  # what ``projection="auto"`` tried
    calibration: Calibration | None  # found on folds, if something is ``"auto"``
    label_space: LabelSpace


def learn(
    projection: Projection,
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    class_embeddings: NDArray[np.float32],
    settings: ScoreSettings,
    random_state: int | np.random.RandomState | None,
) -> Learnt:
    """Train a projection, and learn on folds what its scores mean.

    ``projection``: cloned. ``X``: (n, dim_visual) float32, features. ``y``: (n,) int,
    row of ``class_embeddings`` of each; every row has an image. ``class_embeddings``:
    (n_classes, dim_text) float32, of unit length. ``random_state``: seeds a projection
    that has no seed of its own, and the folds.
    """
    chosen: Any = clone(projection)
    if getattr(chosen, "random_state", 0) is None:
        seed = check_random_state(random_state).randint(2**31 - 1)
        chosen.set_params(random_state=seed)
    choice = calibration = None
    hub_correction = float(settings.hub_correction)
    if isinstance(chosen, AutoProjection):
        seed = draw_seed(chosen.random_state)
        chosen, choice = choose_projection(
            X, y, class_embeddings, hub_correction=hub_correction, random_state=seed
        )
    if settings.can_calibrate(len(class_embeddings)):
        penalty = settings.seen_penalty
        calibration = fit_calibration(
            Training(chosen, X, y, class_embeddings, hub_correction),
            None if penalty == "auto" else penalty,
            seed=check_random_state(random_state).randint(2**31 - 1),
        )
    chosen.fit(X, y, class_embeddings=class_embeddings)
    return Learnt(
        chosen, choice, calibration, LabelSpace(class_embeddings, hub_correction)
    )
