"""What the bundle of a classifier holds: taking one apart, putting it together."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from sklearn.base import clone

from zeroshot import registry
from zeroshot.backbones.base import (
    Backbone,
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
    ZeroShotError,
)
from zeroshot.labels.cascade import check_candidates, embed_labels
from zeroshot.labels.report import LabelReport
from zeroshot.saving.bundle import Bundle, projection_from_state, projection_to_state
from zeroshot.scoring.calibration import Calibration
from zeroshot.training.projection_choice import ProjectionChoice

__all__ = ["check_backbone", "from_bundle", "to_bundle"]

C = TypeVar("C")


def to_bundle(classifier: Any, vocabulary: Sequence[str] | None) -> Bundle:
    """Take a fitted classifier apart.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted.
    vocabulary : sequence of str or None
        Labels whose vectors go into the bundle, beside the seen ones and the
        classifier's own candidates.

    Returns
    -------
    bundle : Bundle

    Raises
    ------
    OutOfVocabularyError
        If a label of ``vocabulary`` has no vector.
    LabelError
        If ``vocabulary`` is a bare string.
    ArtifactError
        If the projection cannot be saved.
    """
    state, arrays = projection_to_state(classifier.projection_)
    arrays["class_embeddings"] = classifier.class_embeddings_
    classes, embeddings = classifier.classes_, classifier.embeddings_
    words = None
    if vocabulary is None:
        if isinstance(embeddings, Attributes) and embeddings.spec is None:
            # A table in memory has no file to be found again: all of it goes along.
            words = list(embeddings.vocabulary())
            arrays["vocabulary"], _ = embeddings.lookup(words)
    else:
        if isinstance(vocabulary, str):
            raise LabelError(
                f"Expected a sequence of labels for the vocabulary. Got the single "
                f"string {vocabulary!r}. Write [{vocabulary!r}]."
            )
        candidates = classifier.candidate_labels or classes.tolist()
        if isinstance(candidates, str):
            candidates = []  # "vocabulary": the words given are all that is kept
        words = list(dict.fromkeys(map(str, [*classes, *candidates, *vocabulary])))
        vectors, _ = embed_labels(words, embeddings)
        arrays["vocabulary"] = vectors.astype(np.float16)
    calibration = None
    if classifier.calibration_ is not None:
        calibration, background = classifier.calibration_.to_record()
        arrays |= {f"calibration/{name}": array for name, array in background.items()}
    tuned = _tuned_weights(classifier.backbone_)
    tuning = classifier.fine_tuning_
    record = {
        "parameters": _saved_parameters(classifier),
        "classes": {"labels": classes.tolist(), "dtype": classes.dtype.str},
        "label_report": classifier.label_report_.to_dict(),
        "backbone": _backbone_record(classifier),
        "embeddings": {
            "name": embeddings.name,
            "spec": registry.spec_of(embeddings),
            "fingerprint": embeddings.fingerprint,
            "vocabulary": words,
        },
        "projection": state,
        "projection_choice": None
        if classifier.projection_choice_ is None
        else classifier.projection_choice_.to_dict(),
        "calibration": calibration,
        "fine_tuning": None if tuning is None else tuning.to_dict(),
        "n_features": int(classifier.n_features_in_),
        "n_images": classifier.n_images_,
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("zeroshot", "numpy", "tensorflow")},
        },
    }
    return Bundle(record, arrays, {} if tuned is None else {tuned.name: tuned.content})


def from_bundle(
    classifier_class: type[C],
    bundle: Bundle,
    *,
    backbone: str | Backbone | None = None,
    embeddings: str | Path | TextEmbeddings | None = None,
) -> C:
    """Put a fitted classifier together again; see `zeroshot.load`.

    Parameters
    ----------
    classifier_class : type
        `ZeroShotClassifier`.
    bundle : Bundle
        As `to_bundle` returned it.
    backbone, embeddings : str or object, optional
        Instead of those that the bundle names.

    Returns
    -------
    classifier : ZeroShotClassifier

    Raises
    ------
    ArtifactError
        If something is missing from the bundle, or what it names is missing.
    FingerprintMismatchError
        If vectors or backbone are not those of training.
    """
    try:
        return _assemble(classifier_class, bundle, backbone, embeddings)
    except ZeroShotError:
        raise
    # Whoever edits a bundle by hand may cause anything.
    except Exception as error:
        raise ArtifactError(
            f"Expected a complete bundle. Got one in which something is missing or of "
            f"the wrong kind ({type(error).__name__}: {error}). Save it anew."
        ) from error


def check_backbone(backbone: Backbone, fingerprint: str | None) -> str:
    """Return the backbone's fingerprint, or refuse if it is not the one expected.

    Parameters
    ----------
    backbone : Backbone
        Its weights are read, which may download them.
    fingerprint : str or None
        Of the backbone of training; None where nobody knows.

    Returns
    -------
    fingerprint : str

    Raises
    ------
    FingerprintMismatchError
        If the two differ.
    """
    if fingerprint not in (None, backbone.fingerprint):
        raise FingerprintMismatchError(
            f"Expected the backbone that the model was trained with, of fingerprint "
            f"'{fingerprint}'. Got '{backbone.name}' of fingerprint "
            f"'{backbone.fingerprint}': other weights, layer, input size or scaling. "
            f"Use the same backbone, or fit again."
        )
    return backbone.fingerprint


def _assemble(
    classifier_class: type[C],
    bundle: Bundle,
    backbone: str | Backbone | None,
    embeddings: str | Path | TextEmbeddings | None,
) -> C:
    record, arrays = bundle.record, bundle.arrays
    words = record["embeddings"]["vocabulary"]
    if embeddings is None and words is not None:
        provider: TextEmbeddings = Attributes(words, np.float32(arrays["vocabulary"]))
        embeddings = provider
    else:
        embeddings = embeddings or _spec(record, "embeddings")
        provider = registry.resolve_embeddings(embeddings)
        _check_embeddings(provider, record["embeddings"])
    tuned = _stored_weights(bundle)
    if record["backbone"] is not None:
        backbone = backbone or (tuned and tuned.spec) or _spec(record, "backbone")
    elif backbone is not None:
        raise FingerprintMismatchError(
            f"Expected no backbone: the model was trained on features. Got "
            f"{backbone!r}. Leave it out and give features."
        )
    projection = projection_from_state(record["projection"], arrays)
    classifier: Any = classifier_class(
        backbone,  # type: ignore[call-arg]  # any class with this signature will do
        embeddings,
        projection=clone(projection),
        **_loaded_parameters(record["parameters"]),
    )
    classifier._check_parameters()
    classes = record["classes"]
    classifier.classes_ = np.array(classes["labels"], np.dtype(classes["dtype"]))
    classifier.class_embeddings_ = arrays["class_embeddings"]
    # Tried now, so that a bundle that was edited fails here and not when predicting.
    points = projection.transform(np.zeros((1, record["n_features"]), np.float32))
    expected = (len(classifier.classes_), points.shape[1])
    if classifier.class_embeddings_.shape != expected:
        raise ValueError(
            f"class embeddings of shape {classifier.class_embeddings_.shape}, not "
            f"{expected}"
        )
    classifier.label_space_ = classifier._space(classifier.class_embeddings_)
    classifier.label_report_ = LabelReport.from_dict(
        record["label_report"], arrays["class_embeddings"]
    )
    classifier.embeddings_, classifier.projection_ = provider, projection
    classifier.projection_choice_ = None
    if (choice := record.get("projection_choice")) is not None:
        classifier.projection_choice_ = ProjectionChoice.from_dict(choice)
    classifier.calibration_ = None
    if record.get("calibration") is not None:  # bundles of before have none
        classifier.calibration_ = Calibration.from_record(
            record["calibration"],
            {
                name.removeprefix("calibration/"): array
                for name, array in arrays.items()
                if name.startswith("calibration/")
            },
        )
    tuning = record.get("fine_tuning")
    classifier.fine_tuning_ = (
        None if tuning is None else FineTuningReport.from_dict(tuning)
    )
    classifier.n_features_in_ = record["n_features"]
    classifier.n_images_ = record["n_images"]
    classifier.backbone_ = classifier.backbone_fingerprint_ = None
    if backbone is not None:
        network = registry.resolve_backbone(backbone)
        if tuned is not None and isinstance(network, SupportsFineTuning):
            network = network.with_weights(tuned)
        classifier.backbone_ = network
        classifier.backbone_fingerprint_ = record["backbone"]["fingerprint"]
        if not isinstance(backbone, str):
            check_backbone(network, classifier.backbone_fingerprint_)
    loaded: C = classifier
    return loaded


def _backbone_record(classifier: Any) -> dict[str, Any] | None:
    backbone: Backbone | None = classifier.backbone_
    if backbone is None:
        return None
    card = card_of(backbone)
    tuned = _tuned_weights(backbone)
    return {
        "name": backbone.name,
        "spec": registry.spec_of(backbone),
        "weights": tuned and {"file": tuned.name, "spec": tuned.spec},
        "fingerprint": classifier.backbone_fingerprint_,
        "input_size": list(backbone.input_size),
        "resize": card.resize,
        "pretraining": card.pretraining,
    }


def _tuned_weights(backbone: Backbone | None) -> WeightsFile | None:
    return backbone.tuned_weights if isinstance(backbone, SupportsFineTuning) else None


def _stored_weights(bundle: Bundle) -> WeightsFile | None:
    saved = (bundle.record["backbone"] or {}).get("weights")
    if saved is None:
        return None
    return WeightsFile(saved["file"], saved["spec"], bundle.files[saved["file"]])


def _saved_parameters(classifier: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = classifier.get_params(deep=False)
    for plugin in ("backbone", "embeddings", "projection"):
        del parameters[plugin]
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None  # a generator is no JSON
    if isinstance(parameters["fine_tune"], FineTuning):
        parameters["fine_tune"] = asdict(parameters["fine_tune"])
    labels = parameters["candidate_labels"]
    if labels is not None and not isinstance(labels, str):
        parameters["candidate_labels"] = {
            "labels": check_candidates(labels),
            "aliases": [list(names) for names in labels.values()]
            if isinstance(labels, Mapping)
            else None,
        }
    return parameters


def _loaded_parameters(saved: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(saved)
    if isinstance(parameters.get("fine_tune"), dict):
        parameters["fine_tune"] = FineTuning(**parameters["fine_tune"])
    candidates = parameters["candidate_labels"]
    if isinstance(candidates, dict):
        labels, aliases = candidates["labels"], candidates["aliases"]
        parameters["candidate_labels"] = (
            labels if aliases is None else dict(zip(labels, aliases, strict=True))
        )
    return parameters


def _spec(record: Mapping[str, Any], kind: Literal["backbone", "embeddings"]) -> str:
    spec: str | None = record[kind]["spec"]
    if spec is None:
        raise ArtifactError(
            f"Expected {kind}=...: the model was trained with {kind} "
            f"'{record[kind]['name']}', given as an object that no spec string names. "
            f"Pass the same {kind} to load()."
        )
    return spec


def _check_embeddings(provider: TextEmbeddings, saved: Mapping[str, Any]) -> None:
    if provider.fingerprint != saved["fingerprint"]:
        raise FingerprintMismatchError(
            f"Expected the word vectors that the model was trained with, of "
            f"fingerprint '{saved['fingerprint']}'. Got "
            f"'{registry.spec_of(provider) or provider.name}' of fingerprint "
            f"'{provider.fingerprint}'. Give the file of training with "
            f"embeddings=..., or fit again."
        )
