"""What a fit learns from features: the projection, and what its scores mean."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from zeroshot.projections.base import Projection, fitted, learns_from_pretrained
from zeroshot.scoring.calibration import Calibration, fit_calibration
from zeroshot.scoring.folds import Training
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.settings import ScoreSettings
from zeroshot.training.pretrained import Pretrained

__all__ = ["Learnt", "learn"]


class Learnt(NamedTuple):
    """What `learn` returns."""

    projection: Projection  # fitted
    pretrained: Pretrained | None  # what it learnt from, of the backbone's classes
    calibration: Calibration | None  # found on folds, if something is ``"auto"``
    label_space: LabelSpace


def learn(
    projection: Projection,
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    class_embeddings: NDArray[np.float32],
    pretrained: Pretrained | None,
    settings: ScoreSettings,
    random_state: int | np.random.RandomState | None,
) -> Learnt:
    """Train a projection, and learn on folds what its scores mean.

    ``projection``: cloned. ``X``: (n, dim_visual) float32, features. ``y``: (n,) int,
    row of ``class_embeddings`` of each; every row has an image. ``class_embeddings``:
    (n_classes, dim_text) float32, of unit length. ``pretrained``: learnt from where the
    projection can. ``random_state``: seeds a projection that has no seed of its own,
    and the folds.
    """
    chosen: Any = clone(projection)
    if getattr(chosen, "random_state", 0) is None:
        seed = check_random_state(random_state).randint(2**31 - 1)
        chosen.set_params(random_state=seed)
    if not learns_from_pretrained(chosen):
        pretrained = None
    classes = None if pretrained is None else pretrained.classes
    chosen = fitted(chosen, X, y, class_embeddings, classes)
    calibration = None
    if settings.can_calibrate(len(class_embeddings)):
        # What was chosen once, on all classes, is not chosen anew in each fold.
        fixed = clone(chosen).set_params(**getattr(chosen, "choices_", {}))
        penalty, hub_correction = settings.seen_penalty, settings.hub_correction
        calibration = fit_calibration(
            Training(fixed, X, y, class_embeddings, classes, hub_correction),
            None if penalty == "auto" else penalty,
            seed=check_random_state(random_state).randint(2**31 - 1),
        )
    space = LabelSpace.of(chosen, class_embeddings, classes, settings.hub_correction)
    return Learnt(chosen, pretrained, calibration, space)
