"""What has been learnt: `fit` and `load` make one, `save` keeps it."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.fine_tuning_settings import FineTuning, FineTuningReport
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
)
from zeroshot.images.sources import ImageSource
from zeroshot.joint.base import SupportsJoint
from zeroshot.labels.candidates import Candidates, CandidateSet, as_label_array
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.report import LabelEntry, LabelReport
from zeroshot.projections.base import (
    Projection,
    SupportsClassPoints,
    SupportsPartialFit,
)
from zeroshot.scoring.calibration import Calibration
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.training.fine_tuning import fine_tune
from zeroshot.training.pretrained import Pretrained

__all__ = ["ATTRIBUTES", "Fitted"]


class MoreClasses(NamedTuple):
    """The seen classes with others beside them.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted.
    class_embeddings : ndarray of shape (n_classes, dim_text), float32
        NaN for a class without a vector.
    entries : tuple of LabelEntry
    places : ndarray of shape (n_before,), int
        Where each class before is now.
    given : ndarray of shape (n_given,), int
        The class that each of the labels stands for.
    """

    classes: NDArray[Any]
    class_embeddings: NDArray[np.float32]
    entries: tuple[LabelEntry, ...]
    places: NDArray[np.intp]
    given: NDArray[np.intp]


@dataclass(frozen=True)
class Fitted:
    """What a classifier has learnt; its attributes of these names, with ``_`` behind.

    Attributes
    ----------
    seen_classes : ndarray of shape (n_classes,)
        The seen classes, sorted.
    class_embeddings : ndarray of shape (n_classes, dim_text), float32
    label_report : LabelReport
    label_space : LabelSpace
    backbone : Backbone or None
    backbone_fingerprint : str or None
        Of the backbone of the features, also where these were given as a file.
    embeddings : TextEmbeddings
    projection : Projection
        Fitted.
    n_features : int
    n_images : int
    pretrained : Pretrained or None
        The backbone's own classes that were learnt from.
    calibration : Calibration or None
    fine_tuning : FineTuningReport or None
    image_errors : dict of int to str
        Position of each image of training that could not be read, and the reason.
    kept_candidates : CandidateSet or None
        Candidates whose vectors a bundle keeps, since it has no vector file.
    """

    seen_classes: NDArray[Any]
    class_embeddings: NDArray[np.float32]
    label_report: LabelReport
    label_space: LabelSpace
    backbone: Backbone | None
    backbone_fingerprint: str | None
    embeddings: TextEmbeddings
    projection: Projection
    n_features: int
    n_images: int
    pretrained: Pretrained | None = None
    calibration: Calibration | None = None
    fine_tuning: FineTuningReport | None = None
    image_errors: dict[int, str] = field(default_factory=dict)
    kept_candidates: CandidateSet | None = None

    @classmethod
    def of(cls, classifier: Any) -> Self:
        """Return what a fitted classifier has learnt.

        Parameters
        ----------
        classifier : ZeroShotClassifier

        Returns
        -------
        fitted : Fitted
        """
        return cls(*[getattr(classifier, name) for name in ATTRIBUTES])

    @classmethod
    def without_images(
        cls,
        joint: SupportsJoint,
        backbone: Backbone | None,
        embeddings: TextEmbeddings,
        projection: Any,
        hub_correction: float | None,
    ) -> Self:
        """Return what a joint model knows by itself: no class, but all labels.

        Parameters
        ----------
        joint : SupportsJoint
        backbone : Backbone or None
            The joint model again, or None where there are features.
        embeddings : TextEmbeddings
            The joint model again, perhaps with templates.
        projection : Projection
            An `Identity`; cloned.
        hub_correction : float or None
            Without classes it takes nothing from any label.

        Returns
        -------
        fitted : Fitted
        """
        no_images = np.empty((0, joint.dim), np.float32)
        chosen = clone(projection)
        chosen.fit(no_images, np.empty(0, np.intp), class_embeddings=no_images)
        return cls(
            seen_classes=np.empty(0, "U1"),
            class_embeddings=no_images,
            label_report=LabelReport((), (), no_images),
            label_space=LabelSpace.of(chosen, no_images, None, hub_correction),
            backbone=backbone,
            backbone_fingerprint=joint.fingerprint,
            embeddings=embeddings,
            projection=chosen,
            n_features=joint.dim,
            n_images=0,
        )

    def fine_tuned(
        self,
        images: Sequence[ImageSource],
        features: NDArray[np.float32],
        index: NDArray[np.intp],
        settings: FineTuning,
    ) -> Self:
        """Return the same with the backbone's last layers trained further.

        Parameters
        ----------
        images : sequence of ImageSource
            n readable images.
        features : ndarray of shape (n, dim_visual), float32
        index : ndarray of shape (n,), int
            Class of each.
        settings : FineTuning

        Returns
        -------
        fitted : Fitted
        """
        assert self.backbone is not None
        classes = None if self.pretrained is None else self.pretrained.classes
        backbone, projection, report = fine_tune(
            self.backbone,
            self.projection,  # type: ignore[arg-type]  # a DeViSE: checked before
            images,
            features,
            index,
            self.class_embeddings,
            settings,
            classes,
        )
        return replace(
            self,
            backbone=backbone,
            backbone_fingerprint=backbone.fingerprint,
            projection=projection,
            label_space=LabelSpace.of(
                projection,
                self.class_embeddings,
                classes,
                self.label_space.hub_correction,
            ),
            fine_tuning=report,
        )

    def more_classes(self, classes: NDArray[Any]) -> "MoreClasses":
        """Decide, before any image is read, what classes of further images are.

        Parameters
        ----------
        classes : ndarray of shape (n_given,)
            Labels of further images, each once; seen or not.

        Returns
        -------
        more : MoreClasses

        Raises
        ------
        PluginContractError
            If the projection cannot learn later.
        LabelError
            If labels are of another kind than those of training.
        OutOfVocabularyError
            If a new class has no vector, and the projection cannot do without.
        """
        if not isinstance(self.projection, SupportsPartialFit):
            raise PluginContractError(
                f"Expected a projection that learns from more images later, such as "
                f"'devise', 'visual' or 'ridge'. Got "
                f"'{type(self.projection).__name__}'. Fit again on all images."
            )
        if (classes.dtype.kind in "iufb") != (self.seen_classes.dtype.kind in "iufb"):
            raise LabelError(
                f"Expected labels of the kind of those of training, such as "
                f"{self.seen_classes.tolist()[0]!r}. Got {classes.tolist()[0]!r}."
            )
        names = self.seen.named(classes.tolist()).tolist()
        seen = self.seen_classes.tolist()
        new = [name for name in dict.fromkeys(names) if name not in set(seen)]
        vectors, entries = self._new_classes(new)
        merged = as_label_array(sorted([*seen, *new]))
        place = {name: i for i, name in enumerate(merged.tolist())}
        T = np.empty((len(merged), self.class_embeddings.shape[1]), np.float32)
        places = np.array([place[name] for name in seen], np.intp)
        T[places] = self.class_embeddings
        T[[place[name] for name in new]] = vectors
        made = dict(zip(seen, self.label_report.entries, strict=True))
        made |= dict(zip(new, entries, strict=True))
        return MoreClasses(
            merged,
            T,
            tuple(made[name] for name in merged.tolist()),
            places,
            np.array([place[name] for name in names], np.intp),
        )

    def with_more(
        self,
        features: NDArray[np.float32],
        more: "MoreClasses",
        index: NDArray[np.intp],
    ) -> Self:
        """Return the same with further images learnt.

        Parameters
        ----------
        features : ndarray of shape (n, dim_visual), float32
        more : MoreClasses
            From `more_classes`.
        index : ndarray of shape (n,), int
            Which of the classes given to that is the class of each.

        Returns
        -------
        fitted : Fitted

        Raises
        ------
        ArtifactError
            If the sums over the images before are none that images give.
        """
        classes, T = more.classes, more.class_embeddings
        pretrained = self.pretrained and self.pretrained.beside(classes.tolist())
        known = None if pretrained is None else pretrained.classes
        projection: Any = copy.deepcopy(self.projection)
        try:
            projection.partial_fit(
                features,
                more.given[index],
                class_embeddings=T,
                places=more.places,
                pretrained=known,
            )
        except np.linalg.LinAlgError as error:
            raise ArtifactError(
                f"Expected sums over images from which a map can be found. Got "
                f"{error}. The model was changed after training, or its features are "
                f"of very different lengths: fit again on all images."
            ) from error
        calibration = self.calibration
        return replace(
            self,
            seen_classes=classes,
            class_embeddings=T,
            label_report=LabelReport(
                more.entries, self.label_report.identical, np.nan_to_num(T)
            ),
            label_space=LabelSpace.of(
                projection, T, known, self.label_space.hub_correction
            ),
            projection=projection,
            pretrained=pretrained,
            calibration=calibration and calibration.beside(more.places, len(classes)),
            n_images=self.n_images + len(features),
        )

    def _new_classes(
        self, labels: list[Any]
    ) -> tuple[NDArray[np.float32], list[LabelEntry]]:
        """Return vectors, NaN for a class that has none, and how each was made."""
        vectors = np.full((len(labels), self.class_embeddings.shape[1]), np.nan)
        unknown: list[str] = []
        if labels:
            try:
                embed_labels(labels, self.embeddings)
            except OutOfVocabularyError as error:
                if not isinstance(self.projection, SupportsClassPoints):
                    raise
                unknown = list(error.labels)
                warnings.warn(
                    f"{', '.join(map(repr, unknown))} have no word vector: they are "
                    f"known by their images alone.",
                    PartialCoverageWarning,
                    stacklevel=5,
                )
        found = [label for label in labels if str(label) not in unknown]
        entries = {label: LabelEntry(str(label), "images", ()) for label in labels}
        if found:
            rows, report = embed_labels(found, self.embeddings)
            vectors[[labels.index(label) for label in found]] = rows
            entries |= dict(zip(found, report.entries, strict=True))
        return vectors.astype(np.float32), list(entries.values())

    @property
    def seen(self) -> CandidateSet:
        """The seen classes as candidates."""
        return CandidateSet(
            self.seen_classes,
            (),
            self.class_embeddings,
            np.arange(len(self.seen_classes)),
            self.label_report.entries,
            self.twins,
        )

    @property
    def twins(self) -> NDArray[np.intp]:
        """Seen class of the name of each of the backbone's own classes, or -1."""
        if self.pretrained is None:
            return np.empty(0, np.intp)
        return self.pretrained.classes.class_of

    def candidates(
        self, labels: Candidates, embeddings: TextEmbeddings | None = None
    ) -> CandidateSet:
        """Decide what candidate labels are.

        Parameters
        ----------
        labels : sequence, mapping, str or None
            None for the seen classes; `PlacedCandidates` are returned as they are.
        embeddings : TextEmbeddings or None, default=None
            Instead of those of training, whose space they must share.

        Returns
        -------
        candidates : CandidateSet

        Raises
        ------
        LabelError, OutOfVocabularyError
            As `CandidateSet.of`; also if ``embeddings`` are of another dimension.
        FingerprintMismatchError
            If another classifier looked them up.
        """
        if isinstance(labels, CandidateSet):
            if getattr(labels, "space", None) is not self.label_space:
                raise FingerprintMismatchError(
                    "Expected candidates that this classifier looked up. Got those of "
                    "another one, or of an earlier fit. Call its own 'candidates'."
                )
            return labels
        seen = self.seen
        named_by = None if self.pretrained is None else self.pretrained.named_by
        if embeddings is None:
            if labels is None:
                return seen
            known = [seen, *([self.kept_candidates] if self.kept_candidates else [])]
            return CandidateSet.of(labels, self.embeddings, seen, known, named_by)
        dim = self.class_embeddings.shape[1]
        if embeddings.dim != dim:
            raise LabelError(
                f"Expected embeddings that share the space of training, of {dim} "
                f"dimensions. Got '{embeddings.name}' of {embeddings.dim}. Give "
                f"vectors aligned with those of training."
            )
        labels = self.seen_classes.tolist() if labels is None else labels
        return CandidateSet.of(labels, embeddings, seen, named_by=named_by)


ATTRIBUTES = [f"{one.name}_" for one in fields(Fitted)]
"""What a classifier calls the fields, in their order."""
