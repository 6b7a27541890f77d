"""The classes that a backbone was trained on, as further classes to learn from."""

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from zeroshot.backbones.base import (
    Backbone,
    ClassifierHead,
    card_of,
    head_of,
    logits_of,
)
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    ArtifactError,
    LabelError,
    MissingExtraError,
    NoClassifierError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    SeenInPretrainingWarning,
)
from zeroshot.escaping import shown
from zeroshot.hierarchy import Hierarchy
from zeroshot.images.sources import ImageSource, read_fitted
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.report import LabelReport
from zeroshot.labels.spelling import label_key
from zeroshot.projections.base import PretrainedClasses
from zeroshot.warning import quietly, warn

__all__ = [
    "Pretrained",
    "PretrainedSetting",
    "as_head",
    "check_pretrained",
    "dense_head",
    "seen_in_pretraining",
    "warn_if_seen_in_pretraining",
    "without_classes",
]

PretrainedSetting: TypeAlias = (
    Literal["auto"] | Mapping[str, str | Sequence[str]] | ClassifierHead | None
)
"""What ``pretrained_classes`` of the classifier may be."""

SHOWN = 5  # classes named in a warning
# Images whose logits tell what the rows of a classifier are that is no dense layer.
MOST_IMAGES = 1000
IMAGES_AT_ONCE = 32

logger = logging.getLogger("zeroshot")


@dataclass(frozen=True)
class Pretrained:
    """The backbone's own classes, as far as they have a word vector.

    Attributes
    ----------
    names : tuple of tuple of str
        Of each class, the usual one first.
    classes : PretrainedClasses
        Their vectors and rows.
    n_left_out : int
        Classes that have no word vector.
    """

    names: tuple[tuple[str, ...], ...]
    classes: PretrainedClasses
    n_left_out: int = 0

    @classmethod
    def of(
        cls,
        setting: PretrainedSetting,
        backbone: Backbone | None,
        embeddings: TextEmbeddings,
        seen_classes: Iterable[Hashable],
        images: tuple[Sequence[ImageSource], NDArray[np.float32]] | None = None,
        *,
        required: bool = False,
    ) -> Self | None:
        """Return the classes that a setting stands for, or None.

        ``seen_classes``: of the user's. ``images``: readable ones, and their features
        (n, dim), for a classifier that is more than a dense layer. Under ``"auto"``
        nothing is raised, unless it is ``required``, for want of a classifier, of its
        file or of vectors: that is said. Raises PluginContractError, ArtifactError if a
        mapping is given and the backbone has no classifier; LabelError if it names a
        class that is none, ValueError if it is none of these.
        """
        check_pretrained(setting)
        head = dense_head(setting, backbone, images, required=required)
        if head is None:
            return None
        try:
            return cls._embedded(head, embeddings, [*seen_classes])
        except OutOfVocabularyError as error:
            if required or not _is_auto(setting):
                raise
            logger.info(f"No pretrained classes take part. {error}")
        return None

    @classmethod
    def _embedded(
        cls,
        head: ClassifierHead,
        embeddings: TextEmbeddings,
        seen_classes: list[Hashable],
    ) -> Self:
        """Look the classes up; those without a vector are left out."""
        class_names, weights, bias = head.class_names, head.weights, head.bias
        assert weights is not None
        assert bias is not None
        texts = np.array([", ".join(names) for names in class_names])
        # Two classes may have one name, which is then looked up once.
        different, place = np.unique(texts, return_inverse=True)
        vectors, known = _vectors_of(tuple(different.tolist()), embeddings)
        kept = np.flatnonzero(known[place]).tolist()
        names = tuple(tuple(class_names[i]) for i in kept)
        left_out = len(texts) - len(kept)
        if left_out:
            logger.info(
                f"{left_out} of the {len(texts)} classes that the backbone was trained "
                f"on have no word vector and are left out."
            )
        classes = PretrainedClasses(
            vectors[place[kept]],
            weights[:, kept].T.copy(),
            bias[kept].copy(),
            np.full(len(kept), -1),
        )
        return cls(names, classes, left_out).beside(seen_classes)

    def as_seen(
        self, embeddings: TextEmbeddings
    ) -> tuple[Self, NDArray[Any], LabelReport]:
        """Return the same beside classes of these very names, for want of others.

        Also the classes, sorted, all names of one in a text, and how their vectors were
        made.
        """
        texts = [", ".join(names) for names in self.names]
        classes, place = np.unique(texts, return_inverse=True)
        with quietly():
            _, report = embed_labels(classes.tolist(), embeddings)
        parts = vars(self.classes) | {"class_of": place}
        same = type(self)(self.names, PretrainedClasses(**parts), self.n_left_out)
        return same, classes, report

    def beside(self, seen_classes: Sequence[Hashable]) -> Self:
        """Return the same beside other classes of the user's."""
        parts = vars(self.classes) | {"class_of": self.named_by(seen_classes)}
        return type(self)(self.names, PretrainedClasses(**parts), self.n_left_out)

    def named_by(self, labels: Sequence[Hashable]) -> NDArray[np.intp]:
        """Return which of some labels names each class, (n_classes,); -1 for none.

        Any name of a class will do, whatever its case, hyphens and underscores.
        """
        first: dict[Hashable, int] = {}
        for i, label in enumerate(labels):
            first.setdefault(label_key(label), i)
        found = (
            next((first[key] for key in keys if key in first), -1)
            for keys in self._keys
        )
        return np.fromiter(found, np.intp, len(self.names))

    @cached_property
    def _keys(self) -> list[tuple[Hashable, ...]]:
        return [tuple(map(label_key, names)) for names in self.names]


def dense_head(
    setting: PretrainedSetting,
    backbone: Backbone | None,
    images: tuple[Sequence[ImageSource], NDArray[np.float32]] | None,
    *,
    required: bool = False,
) -> ClassifierHead | None:
    """Return the classifier of a setting as weights on the features, or None.

    The arguments and what is raised are those of `Pretrained.of`.
    """
    if setting is None:
        return None
    try:
        head = as_head(setting, backbone)
        return None if head is None else _as_dense(head, backbone, images)
    except NoClassifierError as error:
        if required or not _is_auto(setting):
            raise
        logger.info(f"No pretrained classes take part. {error}")
    except (ArtifactError, MissingExtraError) as error:
        if required or not _is_auto(setting):
            raise
        warn(
            f"The classes that '{getattr(backbone, 'name', backbone)}' was trained on "
            f"take no part, which costs accuracy on new labels. {error}",
            PartialCoverageWarning,
            stacklevel=4,
        )
    return None


def without_classes(
    head: ClassifierHead,
    labels: Iterable[Hashable],
    hierarchy: Hierarchy | None = None,
) -> tuple[ClassifierHead | None, int]:
    """Return a classifier without the classes of some labels, and how many are gone.

    A class goes by any of its names, and with a ``hierarchy`` where it is a kind of one
    of the labels. None if there are less than two left.
    """
    labels = [*labels]
    keys = {label_key(label) for label in labels}
    if hierarchy is not None:
        below = hierarchy.below([str(label) for label in labels])
        keys |= {label_key(name) for node in below for name in hierarchy.names(node)}
    kept = [
        i
        for i, names in enumerate(head.class_names)
        if keys.isdisjoint(map(label_key, names))
    ]
    gone = len(head.class_names) - len(kept)
    if len(kept) < 2 or head.weights is None or head.bias is None:
        return None, gone
    names = tuple(head.class_names[i] for i in kept)
    return ClassifierHead(names, head.weights[:, kept], head.bias[kept]), gone


def check_pretrained(setting: object) -> None:
    """Raise ValueError for what ``pretrained_classes`` cannot be."""
    fits = setting is None or _is_auto(setting)
    if not fits and not isinstance(setting, Mapping | ClassifierHead):
        raise ValueError(
            f"Expected pretrained_classes 'auto', a mapping {{class: name}}, a "
            f"zeroshot.backbones.ClassifierHead or None. Got {shown(setting)}."
        )


def _is_auto(setting: object) -> bool:
    return isinstance(setting, str) and setting == "auto"


def as_head(
    setting: PretrainedSetting, backbone: Backbone | None
) -> ClassifierHead | None:
    """Return the classifier that a setting stands for; None without a backbone.

    Raises PluginContractError, ArtifactError if the backbone has none.
    """
    if isinstance(setting, ClassifierHead):
        return setting
    if setting is None:
        return None
    if backbone is None:
        if not _is_auto(setting):
            raise PluginContractError(
                "Expected a backbone whose classes pretrained_classes names. Got "
                "backbone=None. Give a zeroshot.backbones.ClassifierHead, or None."
            )
        return None
    head = head_of(backbone)
    return _named(head, setting) if isinstance(setting, Mapping) else head


# Vectors of the classes of one classifier, which every fit asks for: 1 s of looking up.
_Found: TypeAlias = tuple[NDArray[np.float32], NDArray[np.bool_]]
_FOUND: WeakKeyDictionary[Any, dict[tuple[str, ...], _Found]] = WeakKeyDictionary()
CLASSIFIERS_KEPT = 4  # of one source of vectors; 1000 classes take 1.2 MB


def _vectors_of(
    labels: tuple[str, ...], embeddings: TextEmbeddings
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return vectors (n, dim_text) and which labels have one; all are NaN elsewhere."""
    try:
        found = _FOUND.setdefault(embeddings, {})
    except TypeError:  # no weak reference, or no hash
        found = {}
    if (kept := found.get(labels)) is not None:
        return kept
    # What is doubtful about the names of somebody else's classes is no news.
    with quietly():
        known = np.ones(len(labels), bool)
        try:
            vectors, _ = embed_labels(labels, embeddings)
        except OutOfVocabularyError as error:
            known = ~np.isin(labels, error.labels)
            if not known.any():
                raise
            some = [labels[i] for i in np.flatnonzero(known)]
            vectors = np.full((len(labels), embeddings.dim), np.nan, np.float32)
            vectors[known], _ = embed_labels(some, embeddings)
    for oldest in [*found][: len(found) + 1 - CLASSIFIERS_KEPT]:
        found.pop(oldest, None)
    found[labels] = vectors, known
    return vectors, known


def _named(
    head: ClassifierHead, setting: Mapping[str, str | Sequence[str]]
) -> ClassifierHead:
    """Return the classes that a mapping names, under the names that it gives."""
    place = {
        label_key(name): i
        for i, names in reversed([*enumerate(head.class_names)])
        for name in reversed(names)
    }
    columns, given = [], []
    for name, names in setting.items():
        if label_key(name) not in place:
            raise LabelError(
                f"Expected names of classes of the backbone's classifier in "
                f"pretrained_classes. Got {name!r}, which is none of its "
                f"{len(head.class_names)}, such as {head.class_names[0][0]!r}."
            )
        columns.append(place[label_key(name)])
        texts = [names] if isinstance(names, str) else names
        if not isinstance(texts, Sequence) or not all(
            isinstance(text, str) for text in texts
        ):
            raise LabelError(
                f"Expected a name, or a list of names, for the class {name!r} in "
                f"pretrained_classes. Got {names!r}."
            )
        given.append(tuple(texts))
    weights = None if head.weights is None else head.weights[:, columns]
    bias = None if head.bias is None else head.bias[columns]
    return ClassifierHead(tuple(given), weights, bias)


def _as_dense(
    head: ClassifierHead,
    backbone: Backbone | None,
    images: tuple[Sequence[ImageSource], NDArray[np.float32]] | None,
) -> ClassifierHead:
    """Return a classifier that has weights (dim, n_classes) and a bias.

    Of another classifier, those that give its logits best: least squares with a small
    penalty, on images of training.
    """
    if head.weights is not None:
        return head
    if images is None or backbone is None:
        raise NoClassifierError(
            "Expected images, from which the rows of a classifier are learnt that is "
            "more than one dense layer. Got features. Fit on images."
        )
    sources, features = images
    rows = np.linspace(0, len(sources) - 1, min(MOST_IMAGES, len(sources))).astype(int)
    size, card = backbone.input_size, card_of(backbone)
    logits = []
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        some = rows[start : start + IMAGES_AT_ONCE]
        read = (read_fitted(sources[i], size, card.resize, card.filter) for i in some)
        pixels = np.stack([*read])
        logits.append(logits_of(backbone, pixels))
    X, L = features[rows].astype(np.float64), np.concatenate(logits)
    mean, level = X.mean(axis=0), L.mean(axis=0)
    X = X - mean
    gram = X.T @ X
    penalty = 0.1 * np.trace(gram) / len(rows) + 1e-12
    weights = solve(
        gram + penalty * np.eye(len(gram)), X.T @ (L - level), assume_a="pos"
    )
    bias = level - mean @ weights
    return ClassifierHead(
        head.class_names, weights.astype(np.float32), bias.astype(np.float32)
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
    known = {label_key(name) for _, names in imagenet_classes() for name in names}
    return [label for label in labels if label_key(label) in known]


def warn_if_seen_in_pretraining(
    backbone: Backbone | None, labels: Iterable[Hashable]
) -> None:
    """Warn of classes that are unseen by the projection, but not by the backbone."""
    labels = list(labels)
    seen = seen_in_pretraining(backbone, labels)
    if backbone is not None and seen:
        more = ", ..." if len(seen) > SHOWN else ""
        warn(
            f"{len(seen)} of {len(labels)} classes are among those that "
            f"'{backbone.name}' was pretrained on ({card_of(backbone).pretraining}): "
            f"{', '.join(repr(label) for label in seen[:SHOWN])}{more}. They are "
            f"unseen by the projection only.",
            SeenInPretrainingWarning,
            stacklevel=3,
        )
