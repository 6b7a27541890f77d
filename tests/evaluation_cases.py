"""What tests of `evaluate` share: drawn shapes, and four words on a circle."""

import numpy as np

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.features import extract_features
from zeroshot.projections import Ridge
from zeroshot.shapes import shape_attributes

EMBEDDINGS = Attributes(*shape_attributes())


def shape_features():
    images, labels = make_shapes(8, colors=["red", "green", "blue", "yellow", "cyan"])
    return extract_features(images, ColorHOG(), cache=False).matrix, labels


def model_by_hand():
    """A model that maps two features to themselves, and four words on a circle."""
    angles = np.radians([0, 90, 30, 60])
    words = ["east", "north", "low", "high"]
    vectors = Attributes(words, np.column_stack([np.cos(angles), np.sin(angles)]))
    clf = ZeroShotClassifier(
        None,
        vectors,
        projection=Ridge(alpha=1e-6, normalize=False),
        hub_correction=0,  # the regions below are those of plain cosines
    )
    return clf.fit(np.eye(2), ["east", "north"])


def at(*degrees):
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])
