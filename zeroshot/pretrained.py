"""A classifier that a backbone was trained with, in the terms of zero-shot learning."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone, ClassifierHead, SupportsClassifierHead
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.label_report import LabelReport
from zeroshot.labels import embed_labels

__all__ = ["classifier_head", "embed_head_classes"]


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
