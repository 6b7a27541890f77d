"""What has been learnt: `fit` and `load` make one, `save` keeps it."""

import copy
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.backbones.base import (
    Backbone,
    ClassifierHead,
    SupportsFineTuning,
    WeightsFile,
    card_of,
)
from zeroshot.backbones.fine_tuning_settings import FineTuning, FineTuningReport
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    ZeroShotError,
    ZeroShotWarning,
)
from zeroshot.features.visual_input import check_backbone
from zeroshot.images.decoding import PIXELS
from zeroshot.images.sources import ImageSource
from zeroshot.labels.candidates import Candidates, CandidateSet, as_label_array
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.given import check_candidates
from zeroshot.labels.report import LabelEntry, LabelReport
from zeroshot.labels.spelling import names_of
from zeroshot.projections.base import (
    PretrainedClasses,
    Projection,
    SupportsClassPoints,
    SupportsLeavingOut,
    SupportsPartialFit,
)
from zeroshot.saving.bundle import (
    Bundle,
    projection_from_state,
    projection_to_state,
    read_bundle,
    write_bundle,
)
from zeroshot.saving.model_card import model_card
from zeroshot.scoring.calibration import Calibration
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.training.fine_tuning import fine_tune
from zeroshot.training.pretrained import Pretrained

__all__ = ["Fitted", "read_fitted", "write_fitted"]

C = TypeVar("C")


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
        names = [one.name for one in fields(cls)]
        return cls(**{name: getattr(classifier, f"{name}_") for name in names})

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
        """
        classes, T = more.classes, more.class_embeddings
        pretrained = self.pretrained and self.pretrained.beside(classes.tolist())
        known = None if pretrained is None else pretrained.classes
        projection: Any = copy.deepcopy(self.projection)
        projection.partial_fit(
            features,
            more.given[index],
            class_embeddings=T,
            places=more.places,
            pretrained=known,
        )
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
            None for the seen classes.
        embeddings : TextEmbeddings or None, default=None
            Instead of those of training, whose space they must share.

        Returns
        -------
        candidates : CandidateSet

        Raises
        ------
        LabelError, OutOfVocabularyError
            As `CandidateSet.of`; also if ``embeddings`` are of another dimension.
        """
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


def write_fitted(
    path: Path,
    fitted: Fitted,
    parameters: Mapping[str, Any],
    vocabulary: Sequence[str] | None,
) -> None:
    """Write what has been learnt as a bundle; see `ZeroShotClassifier.save`.

    ``path``: the folder to make. ``parameters``: those of the classifier.
    ``vocabulary``: labels whose vectors go into the bundle, beside the seen ones and
    the classifier's own candidates. Raises OutOfVocabularyError if a label of
    ``vocabulary`` has no vector; LabelError if ``vocabulary`` is no sequence of labels;
    ArtifactError if something else lies at ``path``, or the projection cannot be saved.
    """
    bundle = _to_bundle(fitted, parameters, vocabulary)
    write_bundle(path, bundle, model_card(bundle.record))


def read_fitted(
    path: Path,
    build: Callable[[Fitted, dict[str, Any]], C],
    *,
    backbone: str | Backbone | None = None,
    embeddings: str | Path | TextEmbeddings | None = None,
) -> C:
    """Read what has been learnt from a bundle; see `zeroshot.load`.

    Parameters
    ----------
    path : Path
    build : callable
        Makes the classifier from what was learnt and its parameters; what it refuses is
        a fault of the bundle.
    backbone, embeddings : str or object, optional
        Instead of those that the bundle names.

    Returns
    -------
    classifier : object
        What ``build`` returned.

    Raises
    ------
    ArtifactError
        If something is missing from the bundle, or what it names is missing or would
        run a program.
    FingerprintMismatchError
        If vectors or backbone are not those of training.
    """
    bundle = read_bundle(path)
    try:
        return build(*_from_bundle(bundle, backbone, embeddings))
    except ZeroShotError:
        raise
    # Whoever edits a bundle by hand may cause anything.
    except Exception as error:
        raise ArtifactError(
            f"Expected a complete bundle. Got one in which something is missing or of "
            f"the wrong kind ({type(error).__name__}: {error}). Save it anew."
        ) from error


def _to_bundle(
    fitted: Fitted, parameters: Mapping[str, Any], vocabulary: Sequence[str] | None
) -> Bundle:
    state, arrays = projection_to_state(fitted.projection)
    arrays["class_embeddings"] = fitted.class_embeddings
    embeddings, kept = fitted.embeddings, fitted.kept_candidates
    words = None
    if vocabulary is not None:
        words, arrays["vocabulary"] = _vocabulary(fitted, vocabulary)
        candidates = parameters["candidate_labels"]
        if candidates is not None and not isinstance(candidates, str):
            kept = fitted.candidates(candidates)
    elif isinstance(embeddings, Attributes) and embeddings.spec is None:
        # A table in memory has no file to be found again: all of it goes along.
        labels, arrays["vocabulary"] = embeddings.table
        words = list(labels)
    if kept is not None:
        arrays["candidates"] = kept.class_embeddings
    calibration = None
    if fitted.calibration is not None:
        calibration, background = fitted.calibration.to_record()
        arrays |= {f"calibration/{name}": array for name, array in background.items()}
    tuned = _tuned_weights(fitted.backbone)
    classes, tuning = fitted.seen_classes, fitted.fine_tuning
    pretrained = fitted.pretrained
    if pretrained is not None:
        parts = vars(pretrained.classes).items()
        arrays |= {f"pretrained/{name}": array for name, array in parts}
    record = {
        "parameters": _saved_parameters(parameters),
        "classes": {"labels": classes.tolist(), "dtype": classes.dtype.str},
        "label_report": fitted.label_report.to_dict(),
        "candidates": None
        if kept is None
        else {
            "labels": kept.labels.tolist(),
            "aliases": kept.aliases,
            "entries": [asdict(entry) for entry in kept.entries],
        },
        "backbone": _backbone_record(fitted),
        "backbone_fingerprint": fitted.backbone_fingerprint,
        "embeddings": {
            "name": embeddings.name,
            "spec": registry.spec_of(embeddings),
            "fingerprint": embeddings.fingerprint,
            "vocabulary": words,
        },
        "projection": state,
        "pretrained": None
        if pretrained is None
        else {"names": pretrained.names, "n_left_out": pretrained.n_left_out},
        "calibration": calibration,
        "fine_tuning": None if tuning is None else tuning.to_dict(),
        "hub_correction": fitted.label_space.hub_correction,
        "n_features": fitted.n_features,
        "n_images": fitted.n_images,
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("zeroshot", "numpy", "tensorflow")},
        },
    }
    return Bundle(record, arrays, {} if tuned is None else {tuned.name: tuned.content})


def _from_bundle(
    bundle: Bundle,
    backbone: str | Backbone | None,
    embeddings: str | Path | TextEmbeddings | None,
) -> tuple[Fitted, dict[str, Any]]:
    record, arrays = bundle.record, bundle.arrays
    words = record["embeddings"]["vocabulary"]
    if embeddings is None and words is not None:
        provider: TextEmbeddings = Attributes(words, np.float32(arrays["vocabulary"]))
        embeddings = provider
    else:
        embeddings = embeddings or _trusted_spec(record, "embeddings")
        provider = registry.resolve_embeddings(embeddings)
        _check_embeddings(provider, record["embeddings"])
    tuned = _stored_weights(bundle)
    network: Backbone | None = None
    if record["backbone"] is not None:
        backbone = backbone or _trusted_spec(record, "backbone", tuned)
        network = registry.resolve_backbone(backbone)
        if tuned is not None and isinstance(network, SupportsFineTuning):
            network = network.with_weights(tuned)
        if not isinstance(backbone, str):
            check_backbone(network, record["backbone_fingerprint"])
        if record["backbone"]["pixels"] != PIXELS:
            warnings.warn(
                f"The model was trained on images decoded by another version of "
                f"zeroshot (pixels '{record['backbone']['pixels']}', here '{PIXELS}'): "
                f"features, and so answers, may differ a little. Fit again to be sure.",
                ZeroShotWarning,
                stacklevel=5,
            )
    elif backbone is not None:
        raise FingerprintMismatchError(
            f"Expected no backbone: the model was trained on features. Got "
            f"{backbone!r}. Leave it out and give features."
        )
    projection = projection_from_state(record["projection"], arrays)
    classes, class_embeddings = record["classes"], arrays["class_embeddings"]
    labels = np.array(classes["labels"], np.dtype(classes["dtype"]))
    if (
        class_embeddings.ndim != 2
        or len(class_embeddings) != len(labels)
        or class_embeddings.dtype != np.float32
    ):
        raise ValueError(
            f"class embeddings of {class_embeddings.dtype} and shape "
            f"{class_embeddings.shape} for {len(labels)} classes"
        )
    if provider.dim != class_embeddings.shape[1]:
        raise ValueError(f"vectors of {provider.dim} dimensions beside those classes")
    n_features = int(record["n_features"])
    pretrained = _pretrained(record["pretrained"], arrays, len(labels), n_features)
    space = LabelSpace.of(
        projection,
        class_embeddings,
        None if pretrained is None else pretrained.classes,
        float(record["hub_correction"]),
    )
    # Tried now, so that a bundle that was edited fails here and not when predicting.
    points = projection.transform(np.zeros((1, n_features), np.float32))
    tried = space.label_points(class_embeddings[:1], np.array([-1]))
    space.label_points(class_embeddings[:1], np.array([0]))
    if not points.shape[1] == space.seen.shape[1] == tried.shape[1] - 1:
        raise ValueError(
            f"points of images of {points.shape[1]} dimensions, of labels of "
            f"{space.seen.shape[1]}"
        )
    if len(space.seen) != len(labels):
        raise ValueError(f"{len(space.seen)} points for {len(labels)} classes")
    report = LabelReport.from_dict(record["label_report"], class_embeddings)
    if len(report.entries) != len(labels):
        raise ValueError(f"{len(report.entries)} entries for {len(labels)} classes")
    tuning = record["fine_tuning"]
    calibration = _calibration(record["calibration"], arrays)
    if calibration is not None:
        background = calibration.background
        wanted = len(labels), space.seen.shape[1]
        if (len(background.folds), background.points.shape[1]) != wanted:
            raise ValueError("a background of other classes or dimensions")
        if isinstance(projection, SupportsLeavingOut):
            for places in projection.transform_labels_without(
                class_embeddings[:1], background.left_out
            ):
                if places.shape != (1, space.seen.shape[1]):
                    raise ValueError(f"labels without a fold of shape {places.shape}")
    fitted = Fitted(
        seen_classes=labels,
        class_embeddings=class_embeddings,
        label_report=report,
        label_space=space,
        backbone=network,
        backbone_fingerprint=record["backbone_fingerprint"],
        embeddings=provider,
        projection=projection,
        n_features=n_features,
        n_images=int(record["n_images"]),
        pretrained=pretrained,
        calibration=calibration,
        fine_tuning=None if tuning is None else FineTuningReport.from_dict(tuning),
        kept_candidates=_kept_candidates(record["candidates"], arrays),
    )
    parameters = _loaded_parameters(record["parameters"])
    return fitted, {"backbone": backbone, "embeddings": embeddings, **parameters}


def _vocabulary(
    fitted: Fitted, vocabulary: Sequence[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the labels that a bundle keeps, without aliases, and their vectors."""
    if isinstance(vocabulary, str | Mapping):
        raise LabelError(
            f"Expected a sequence of labels for the vocabulary. Got "
            f"{vocabulary!r}. Write a list; labels with aliases are kept where they "
            f"are the classifier's candidate_labels."
        )
    labels = dict.fromkeys([*fitted.seen_classes.tolist(), *vocabulary])
    kept = fitted.candidates([*labels])
    vector_of: dict[str, NDArray[np.float32]] = {}
    for label, vector, entry in zip(
        labels, kept.class_embeddings, kept.entries, strict=True
    ):
        vector_of[str(label)] = vector
        if entry.how != "alias":  # "lion" is what "lion, king of beasts" is found by
            vector_of.setdefault(names_of(str(label))[0], vector)
    return [*vector_of], np.array([*vector_of.values()], np.float32)


def _kept_candidates(
    saved: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]
) -> CandidateSet | None:
    if saved is None:
        return None
    labels = as_label_array(check_candidates(saved["labels"]))
    aliases = tuple(tuple(map(_text, names)) for names in saved["aliases"])
    vectors = np.asarray(arrays["candidates"], np.float32)
    entries = tuple(LabelEntry.from_dict(entry) for entry in saved["entries"])
    if not len(labels) == len(vectors) == len(entries) == len(aliases or labels):
        raise ValueError("labels, vectors and entries of candidates differ in number")
    return CandidateSet(labels, aliases, vectors, np.full(len(labels), -1), entries)


def _calibration(
    saved: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]
) -> Calibration | None:
    if saved is None:
        return None
    prefix = "calibration/"
    background = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return Calibration.from_record(saved, background)


def _pretrained(
    saved: Mapping[str, Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    n_classes: int,
    n_features: int,
) -> Pretrained | None:
    if saved is None:
        return None
    parts = {
        field.name: arrays[f"pretrained/{field.name}"]
        for field in fields(PretrainedClasses)
    }
    names = tuple(tuple(map(_text, each)) for each in saved["names"])
    classes = PretrainedClasses(**parts)
    T, class_of = classes.class_embeddings, classes.class_of
    kinds = {part.dtype.kind for part in (T, classes.weights, classes.bias)}
    if not (
        {len(part) for part in parts.values()} == {len(names)}
        and names
        and all(names)
        and T.ndim == classes.weights.ndim == 2
        and classes.bias.ndim == class_of.ndim == 1
        and classes.weights.shape[1] == n_features
        and kinds == {"f"}
        and class_of.dtype.kind == "i"
        and -1 <= class_of.min() <= class_of.max() < n_classes
    ):
        raise ValueError("names, vectors and rows of pretrained classes do not fit")
    return Pretrained(names, classes, int(saved["n_left_out"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _backbone_record(fitted: Fitted) -> dict[str, Any] | None:
    backbone = fitted.backbone
    if backbone is None:
        return None
    card = card_of(backbone)
    tuned = _tuned_weights(backbone)
    return {
        "name": backbone.name,
        "spec": registry.spec_of(backbone),
        "weights": tuned and {"file": tuned.name, "spec": tuned.spec},
        "input_size": list(backbone.input_size),
        "resize": card.resize,
        "pretraining": card.pretraining,
        "pixels": PIXELS,
    }


def _tuned_weights(backbone: Backbone | None) -> WeightsFile | None:
    return backbone.tuned_weights if isinstance(backbone, SupportsFineTuning) else None


def _stored_weights(bundle: Bundle) -> WeightsFile | None:
    saved = (bundle.record["backbone"] or {}).get("weights")
    if saved is None:
        return None
    return WeightsFile(saved["file"], saved["spec"], bundle.files[saved["file"]])


def _saved_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    saved = dict(parameters)
    for plugin in ("backbone", "embeddings", "projection"):
        del saved[plugin]
    if isinstance(saved["random_state"], np.random.RandomState):
        saved["random_state"] = None  # a generator is no JSON
    if isinstance(saved["fine_tune"], FineTuning):
        saved["fine_tune"] = asdict(saved["fine_tune"])
    if isinstance(saved["pretrained_classes"], ClassifierHead):
        saved["pretrained_classes"] = "auto"  # what it gave is among the arrays
    labels = saved["candidate_labels"]
    if labels is not None and not isinstance(labels, str):
        saved["candidate_labels"] = {
            "labels": check_candidates(labels),
            "aliases": [list(names) for names in labels.values()]
            if isinstance(labels, Mapping)
            else None,
        }
    return saved


def _loaded_parameters(saved: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(saved)
    if isinstance(parameters["fine_tune"], dict):
        parameters["fine_tune"] = FineTuning(**parameters["fine_tune"])
    candidates = parameters["candidate_labels"]
    if isinstance(candidates, dict):
        labels, aliases = candidates["labels"], candidates["aliases"]
        parameters["candidate_labels"] = (
            labels if aliases is None else dict(zip(labels, aliases, strict=True))
        )
    return parameters


def _trusted_spec(
    record: Mapping[str, Any],
    kind: Literal["backbone", "embeddings"],
    tuned: WeightsFile | None = None,
) -> str:
    """Return the spec of what a bundle names; refuse one that runs or fetches."""
    spec: Any = (tuned and tuned.spec) or record[kind]["spec"]
    name = record[kind]["name"]
    if spec is None:
        raise ArtifactError(
            f"Expected {kind}=...: the model was trained with {kind} '{name}', given "
            f"as an object that no spec string names. Pass the same {kind} to load()."
        )
    # A fine-tuned Keras model lies in the bundle itself, and is opened in safe mode.
    is_inside = tuned is not None and str(spec).startswith(f"keras:{tuned.name}")
    reason = "" if is_inside else registry.why_untrusted(kind, str(spec))
    if reason:
        raise ArtifactError(
            f"Expected {kind}=...: the bundle names the {kind} '{spec}', {reason}. "
            f"Nothing that a bundle names is run or fetched unasked. If you trust it, "
            f"say so: load(..., {kind}={str(spec)!r})."
        )
    return str(spec)


def _check_embeddings(provider: TextEmbeddings, saved: Mapping[str, Any]) -> None:
    if provider.fingerprint != saved["fingerprint"]:
        raise FingerprintMismatchError(
            f"Expected the word vectors that the model was trained with, of "
            f"fingerprint '{saved['fingerprint']}'. Got "
            f"'{registry.spec_of(provider) or provider.name}' of fingerprint "
            f"'{provider.fingerprint}'. Give the file of training with "
            f"embeddings=..., or fit again."
        )
