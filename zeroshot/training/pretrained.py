"""A classifier that a backbone was trained with, in the terms of zero-shot learning."""

import re
import warnings
from collections.abc import Hashable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import (
    Backbone,
    ClassifierHead,
    SupportsClassifierHead,
    card_of,
)
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    SeenInPretrainingWarning,
    ZeroShotWarning,
)
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.report import LabelReport
from zeroshot.projections.base import Projection
from zeroshot.projections.conse import ConSE
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.settings import ScoreSettings
from zeroshot.training.learning import learn
from zeroshot.training.projection_choice import ProjectionChoice

__all__ = [
    "HeadLearnt",
    "learn_from_head",
    "seen_in_pretraining",
    "warn_if_seen_in_pretraining",
]

SHOWN = 5  # classes named in a warning


class HeadLearnt(NamedTuple):
    """What `learn_from_head` returns; the last three as in `Learnt`."""

    seen_classes: NDArray[Any]  # (m,), sorted; all names of a class in one string
    class_embeddings: NDArray[np.float32]  # (m, dim_text), of unit length
    label_report: LabelReport
    n_features: int
    projection: Projection
    projection_choice: ProjectionChoice | None
    label_space: LabelSpace


def learn_from_head(
    backbone: Backbone | None,
    embeddings: TextEmbeddings,
    projection: Projection,
    settings: ScoreSettings,
    random_state: int | np.random.RandomState | None,
    method: Literal["conse", "prototypes"],
) -> HeadLearnt:
    """Learn from the backbone's own classifier; see `ZeroShotClassifier`.

    ``projection``: for ``"prototypes"``. ``method``: {"conse", "prototypes"}, as for
    `ZeroShotClassifier.fit_pretrained`. Raises PluginContractError if the backbone has
    no classifier; OutOfVocabularyError if none of its classes has a word vector;
    ValueError if there is no backbone, or ``method`` is none of the above, or something
    is to be found on folds.
    """
    if method not in ("conse", "prototypes"):
        raise ValueError(f"Expected method 'conse' or 'prototypes'. Got {method!r}.")
    for name in settings.automatic:
        raise ValueError(
            f"Expected numbers: without images there is nothing to calibrate on. Got "
            f"{name}={getattr(settings, name)!r}. Give a number, or fit on images."
        )
    if backbone is None:
        raise ValueError(
            "Expected a backbone with a classifier of its own. Got backbone=None."
        )
    if not isinstance(backbone, SupportsClassifierHead):
        raise PluginContractError(
            f"Expected a backbone that still has the classifier of its pretraining. "
            f"Got '{backbone.name}', which has none. Use a network of "
            f"keras.applications, such as 'mobilenet-v2', or fit on images."
        )
    head = backbone.classifier_head()
    classes, columns, class_embeddings, report = _embed_head_classes(head, embeddings)
    if head.weights is None or head.bias is None:
        raise PluginContractError(
            f"Expected a backbone whose classifier is one dense layer on its features. "
            f"Got '{backbone.name}', whose classifier is more. Use mobilenet-v2 or "
            f"resnet50, for example."
        )
    weights, bias = head.weights[:, columns], head.bias[columns]
    fitted: Projection
    if method == "conse":
        fitted = ConSE.from_classifier(weights, bias, class_embeddings)
        choice = None
        space = LabelSpace(class_embeddings, float(settings.hub_correction))
    else:
        rows = np.arange(len(classes))
        fitted, choice, _, space = learn(
            projection, weights.T, rows, class_embeddings, settings, random_state
        )
    return HeadLearnt(
        classes, class_embeddings, report, len(weights), fitted, choice, space
    )


def seen_in_pretraining(
    backbone: Backbone | None, labels: Iterable[Hashable]
) -> list[Hashable]:
    """Return the labels that the backbone was trained to tell apart, in their order.

    Only ImageNet-1k is known by its classes: for other pretraining, and without a
    backbone, nothing is found. Labels are compared by their first name, without regard
    to case and hyphens: "rooster" for ImageNet's "cock" is not found.
    """
    if backbone is None or "ImageNet-1k" not in card_of(backbone).pretraining:
        return []
    known = {_plain(name) for _, names in imagenet_classes() for name in names}
    return [label for label in labels if _plain(str(label).split(",")[0]) in known]


def warn_if_seen_in_pretraining(
    backbone: Backbone | None, labels: Iterable[Hashable]
) -> None:
    """Warn of classes that are unseen by the projection, but not by the backbone."""
    labels = list(labels)
    seen = seen_in_pretraining(backbone, labels)
    if backbone is not None and seen:
        more = ", ..." if len(seen) > SHOWN else ""
        warnings.warn(
            f"{len(seen)} of {len(labels)} classes are among those that "
            f"'{backbone.name}' was pretrained on ({card_of(backbone).pretraining}): "
            f"{', '.join(repr(label) for label in seen[:SHOWN])}{more}. They are "
            f"unseen by the projection only.",
            SeenInPretrainingWarning,
            stacklevel=3,
        )


def _embed_head_classes(
    head: ClassifierHead, embeddings: TextEmbeddings
) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.float32], LabelReport]:
    """Return the classes that have a word vector, their columns, vectors, report."""
    names = np.array([", ".join(names) for names in head.class_names])
    columns = np.argsort(names)
    with warnings.catch_warnings():
        # What is doubtful about the names of somebody else's classes is no news.
        warnings.simplefilter("ignore", ZeroShotWarning)
        try:
            vectors, report = embed_labels(names[columns].tolist(), embeddings)
        except OutOfVocabularyError as error:
            if len(error.labels) == len(names):
                raise
            columns = columns[~np.isin(names[columns], error.labels)]
            vectors, report = embed_labels(names[columns].tolist(), embeddings)
    if len(columns) < len(names):
        warnings.warn(
            f"{len(names) - len(columns)} of the backbone's {len(names)} classes have "
            f"no word vector and are left out.",
            PartialCoverageWarning,
            stacklevel=4,
        )
    return names[columns], columns, vectors, report


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
