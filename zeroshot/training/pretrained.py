"""A classifier that a backbone was trained with, in the terms of zero-shot learning."""

import re
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

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

__all__ = [
    "classifier_head",
    "embed_head_classes",
    "seen_in_pretraining",
    "warn_if_seen_in_pretraining",
]

SHOWN = 5  # classes named in a warning


def classifier_head(backbone: Backbone) -> ClassifierHead:
    """Return the backbone's own classifier.

    Parameters
    ----------
    backbone : Backbone

    Returns
    -------
    head : ClassifierHead

    Raises
    ------
    PluginContractError
        If it has none.
    """
    if not isinstance(backbone, SupportsClassifierHead):
        raise PluginContractError(
            f"Expected a backbone that still has the classifier of its pretraining. "
            f"Got '{backbone.name}', which has none. Use a network of "
            f"keras.applications, such as 'mobilenet-v2', or fit on images."
        )
    return backbone.classifier_head()


def embed_head_classes(
    head: ClassifierHead, embeddings: TextEmbeddings
) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.float32], LabelReport]:
    """Return the classes of a head that have a word vector, and their vectors.

    Parameters
    ----------
    head : ClassifierHead
    embeddings : TextEmbeddings

    Returns
    -------
    classes : ndarray of shape (m,), str
        Sorted; all names of a class, joined as ImageNet writes them.
    columns : ndarray of shape (m,), int
        Their columns in the head.
    class_embeddings : ndarray of shape (m, dim_text), float32
        Of unit length.
    report : LabelReport

    Raises
    ------
    OutOfVocabularyError
        If no class has a vector.

    Warns
    -----
    PartialCoverageWarning
        If classes were left out.
    """
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
            stacklevel=3,
        )
    return names[columns], columns, vectors, report


def seen_in_pretraining(
    backbone: Backbone | None, labels: Iterable[Hashable]
) -> list[Hashable]:
    """Return the labels that the backbone was trained to tell apart.

    Parameters
    ----------
    backbone : Backbone or None
        Only ImageNet-1k is known by its classes: for other pretraining, and for
        features without a backbone, nothing is found.
    labels : iterable of hashable
        Compared by their first name, without regard to case and hyphens.

    Returns
    -------
    seen : list of hashable
        In the order given. A class of another name ("rooster" for ImageNet's "cock")
        is not found.
    """
    if backbone is None or "ImageNet-1k" not in card_of(backbone).pretraining:
        return []
    known = {_plain(name) for _, names in imagenet_classes() for name in names}
    return [label for label in labels if _plain(str(label).split(",")[0]) in known]


def warn_if_seen_in_pretraining(
    backbone: Backbone | None, labels: Iterable[Hashable]
) -> None:
    """Warn of classes that are unseen by the projection, but not by the backbone.

    Parameters
    ----------
    backbone : Backbone or None
    labels : iterable of hashable
        Classes of an evaluation.

    Warns
    -----
    SeenInPretrainingWarning
        Says how many, with the first few names.
    """
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


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
