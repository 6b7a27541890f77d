"""What a fit learns from features: the projection, and what its scores mean."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from zeroshot.backbones.base import Backbone
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import PluginContractError
from zeroshot.labels.report import LabelReport
from zeroshot.projections.base import (
    Projection,
    SupportsMoments,
    fitted,
    learns_from_pretrained,
)
from zeroshot.scoring.calibration import Calibration, fit_calibration
from zeroshot.scoring.folds import Training
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.settings import ScoreSettings
from zeroshot.training.labelled_moments import LabelledMoments
from zeroshot.training.pretrained import Pretrained, PretrainedSetting

__all__ = ["Learnt", "learn", "learn_from_moments", "learn_without_images"]


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


def learn_from_moments(
    projection: Projection,
    moments: LabelledMoments,
    class_embeddings: NDArray[np.float32],
    pretrained: Pretrained | None,
    settings: ScoreSettings,
    random_state: int | np.random.RandomState | None,
) -> Learnt:
    """Train a projection on sums over images.

    ``projection``: cloned. ``class_embeddings``: (n_classes, dim_text) float32, of the
    classes of ``moments``. The others: as for `learn`. Raises PluginContractError if
    the projection learns from images only; ValueError if something is to be found on
    folds, or features were prepared otherwise.
    """
    for name in settings.automatic:
        raise ValueError(
            f"Expected numbers: folds need the images, and there are sums over them "
            f"alone. Got {name}={getattr(settings, name)!r}. Give a number, or use fit."
        )
    if not isinstance(projection, SupportsMoments):
        raise PluginContractError(
            f"Expected a projection that learns from sums over images, such as "
            f"'devise', 'visual' or 'ridge'. Got '{type(projection).__name__}'. Use "
            f"fit."
        )
    if projection.normalize is not moments.normalize:
        raise ValueError(
            f"Expected sums over features with normalize={projection.normalize}, as "
            f"the projection has it. Got normalize={moments.normalize}. Sum up anew."
        )
    chosen: Any = clone(projection)
    if getattr(chosen, "random_state", 0) is None:
        seed = check_random_state(random_state).randint(2**31 - 1)
        chosen.set_params(random_state=seed)
    classes = None if pretrained is None else pretrained.classes
    chosen.fit_moments(
        moments.moments,
        class_embeddings=class_embeddings,
        images=(moments.sample, moments.sample_index),
        pretrained=classes,
    )
    space = LabelSpace.of(chosen, class_embeddings, classes, settings.hub_correction)
    return Learnt(chosen, pretrained, None, space)


def learn_without_images(
    setting: PretrainedSetting,
    backbone: Backbone | None,
    embeddings: TextEmbeddings,
    projection: Projection,
    settings: ScoreSettings,
    random_state: int | np.random.RandomState | None,
) -> tuple[Any, NDArray[Any], LabelReport]:
    """Learn from the backbone's own classes alone, which become the seen ones.

    ``setting``: ``pretrained_classes`` of the classifier. Returns what `learn` returns,
    the classes (n_classes,), sorted, and how their vectors were made. Raises
    NoClassifierError, ArtifactError, OutOfVocabularyError as `Pretrained.of`;
    PluginContractError if the projection learns from images only; ValueError if there
    is no classifier, or something is to be found on folds.
    """
    for name in settings.automatic:
        raise ValueError(
            f"Expected numbers: without images there is nothing to calibrate on. Got "
            f"{name}={getattr(settings, name)!r}. Give a number, or use fit."
        )
    if not learns_from_pretrained(projection):
        raise PluginContractError(
            f"Expected a projection that learns from a classifier, such as 'devise'. "
            f"Got '{type(projection).__name__}', which needs images. Use fit."
        )
    pretrained = Pretrained.of(setting, backbone, embeddings, [], required=True)
    if pretrained is None:
        raise ValueError(
            f"Expected a backbone with a classifier of its own. Got "
            f"backbone={backbone!r}, pretrained_classes={setting!r}. Use fit."
        )
    pretrained, classes, report = pretrained.as_seen(embeddings)
    n_features = pretrained.classes.weights.shape[1]
    no_images = np.empty((0, n_features), np.float32), np.empty(0, np.intp)
    vectors = report.class_embeddings
    learnt = learn(projection, *no_images, vectors, pretrained, settings, random_state)
    return learnt, classes, report
