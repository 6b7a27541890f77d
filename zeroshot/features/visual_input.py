"""What X is, decided once: images, a matrix of features, or a file of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import assert_all_finite

from zeroshot.backbones.base import Backbone
from zeroshot.errors import FingerprintMismatchError, InvalidImageError
from zeroshot.features.block import (
    Features,
    OnError,
    Project,
    as_asked,
    projected,
    raise_first,
)
from zeroshot.features.file import FeatureFile, open_if_features
from zeroshot.features.pipeline import collect_features, extract_features
from zeroshot.images.sources import (
    ImageSource,
    as_image_list,
    image_sources,
    is_feature_matrix,
)

__all__ = ["ImagePoints", "VisualInput", "check_backbone"]

Check = Callable[[Any], NDArray[np.float32]]


def check_backbone(backbone: Backbone, fingerprint: str | None) -> str:
    """Return the backbone's fingerprint, or refuse if it is not the one expected.

    Its weights are read, which may download them. No fingerprint, where nobody knows
    it, is any.
    """
    if fingerprint not in (None, backbone.fingerprint):
        raise FingerprintMismatchError(
            f"Expected the backbone that the model was trained with, of fingerprint "
            f"'{fingerprint}'. Got '{backbone.name}' of fingerprint "
            f"'{backbone.fingerprint}': other weights, layer, input size or scaling. "
            f"Use the same backbone, or fit again."
        )
    return backbone.fingerprint


@dataclass(frozen=True)
class ImagePoints(Features):
    """Images as points, ready to be compared with any labels, again and again.

    Attributes
    ----------
    projection : Projection
        What made them; no other classifier takes them.

    As in `Features`, ``errors`` tells which images could not be read, ``positions`` to
    which image each row of ``matrix``, and of every answer, belongs.
    """

    projection: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class VisualInput:
    """Images, or features that are there already, and the backbone they belong to.

    Attributes
    ----------
    content : FeatureFile, Features, iterable of ImageSource, or matrix
        What X turned out to be.
    backbone : Backbone or None
        What reads images; None where features are given.
    fingerprint : str or None
        Of the backbone whose features are wanted; None where nobody knows.
    check : callable
        What looks at features before they are used; see `of`.
    """

    content: Any
    backbone: Backbone | None
    fingerprint: str | None
    check: Check

    @classmethod
    def of(
        cls,
        X: Any,
        backbone: Backbone | None,
        fingerprint: str | None = None,
        *,
        listed: bool = False,
        check: Check | None = None,
        on_error: OnError = "raise",
    ) -> Self:
        """Decide what X is; no image is read yet.

        Parameters
        ----------
        X : images, matrix, Features or FeatureFile
            The path of a file of features is opened. With a backbone, a 2-D array or
            DataFrame of numbers is a matrix of features, and anything else is images;
            without one, everything is a matrix that is none of the others.
        backbone : Backbone or None
        fingerprint : str or None, default=None
            Of the backbone of training, where that is known.
        listed : bool, default=False
            Make a list of images, so that they have a length and can be read twice.
        check : callable, optional
            Refuses a matrix, or returns it as float32. It is given a matrix of features
            at once, and one row of zeros before features of images or of a file are
            read. Default: refuses what is not finite.
        on_error : {"raise", "skip", "nan"}, default="raise"
            Whether a folder that cannot be listed is an error or a warning.

        Returns
        -------
        visual : VisualInput

        Raises
        ------
        InvalidImageError, ArtifactError, MissingExtraError
            If X is nothing that holds images or features.
        FingerprintMismatchError
            If features are another backbone's than those wanted.
        """
        X, check = open_if_features(X), check or _finite
        if isinstance(X, FeatureFile | Features):
            if fingerprint is None and backbone is not None:
                fingerprint = backbone.fingerprint
            if fingerprint is not None and X.fingerprint is not None:
                X.check(fingerprint)
            return cls(X, backbone, fingerprint or X.fingerprint, check)
        if backbone is None and _names_images(X):
            raise InvalidImageError(
                f"Expected a matrix of features, since there is no backbone to read "
                f"images with. Got {type(X).__name__} of images. Give a backbone, such "
                f"as 'mobilenet-v2'."
            )
        if backbone is None or is_feature_matrix(X):
            return cls(check(X), None, fingerprint, check)
        sources = (as_image_list if listed else image_sources)(X, on_error)
        return cls(sources, backbone, fingerprint, check)

    @property
    def images(self) -> list[ImageSource] | None:
        """The images, where X is a list of them (``listed``)."""
        return self.content if isinstance(self.content, list) else None

    @property
    def shown(self) -> Sequence[ImageSource] | None:
        """What can be shown of the images; None where there is nothing."""
        if isinstance(self.content, FeatureFile):
            return self.content.paths or None
        return self.images

    def __len__(self) -> int:
        return len(self.content)

    def read(
        self,
        *,
        batch_size: int = 32,
        cache: bool = True,
        on_error: OnError = "raise",
        project: Project | None = None,
    ) -> Features:
        """Return the features, or what ``project`` makes of them.

        Parameters
        ----------
        batch_size, cache, on_error, project : as for `extract_features`

        Returns
        -------
        features : Features

        Raises
        ------
        FingerprintMismatchError
            If the backbone is not that of training; what ``check`` raises, and
            `zeroshot.features.extract_features`.
        """
        content, fingerprint = self.content, self.fingerprint
        if isinstance(content, np.ndarray):
            rows = content if project is None else project(content)
            return Features(rows, {}, np.arange(len(rows)), fingerprint)
        if isinstance(content, Features):
            return _of_features(content, on_error, self.check, project)
        if isinstance(content, FeatureFile):  # needs no weights, and no TensorFlow
            dim = content.dim
            self.check(np.zeros((1, dim), np.float32))
            blocks = content.blocks(on_error)
            features = collect_features(
                blocks, len(content), dim, on_error=on_error, project=project
            )
        else:
            assert self.backbone is not None
            fingerprint = check_backbone(self.backbone, fingerprint)
            self.check(np.zeros((1, self.backbone.dim), np.float32))
            features = extract_features(
                content,
                self.backbone,
                batch_size=batch_size,
                cache=cache,
                on_error=on_error,
                project=project,
            )
        return replace(features, fingerprint=fingerprint)


def _of_features(
    features: Features, on_error: OnError, check: Check, project: Project | None
) -> Features:
    """Return features that were extracted before; their bad rows are NaN, or gone."""
    raise_first(features.errors, on_error)

    def checked(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = check(rows) if len(rows) else rows
        return rows if project is None else project(rows)

    return projected(as_asked(features, on_error), checked)


def _names_images(X: Any) -> bool:
    first = X[0] if isinstance(X, list | tuple) and X else X
    return isinstance(first, str | bytes | PathLike | Image.Image)


def _finite(X: Any) -> NDArray[np.float32]:
    matrix = np.asarray(X, dtype=np.float32)
    assert_all_finite(matrix, input_name="images")
    return matrix
