"""What has been learnt, as the content of a bundle."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from zeroshot.backbones.fine_tuning_settings import FineTuning
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import ArtifactError, LabelError
from zeroshot.escaping import for_json
from zeroshot.images.decoding import PIXELS
from zeroshot.labels.candidates import CandidateSet
from zeroshot.labels.given import check_candidates
from zeroshot.labels.spelling import names_of
from zeroshot.labels.templates import effective_templates
from zeroshot.saving.bundle import (
    Bundle,
    projection_from_state,
    projection_to_state,
    write_bundle,
)
from zeroshot.saving.fitted import Fitted
from zeroshot.saving.model_card import model_card
from zeroshot.saving.projection_form import check_projection

__all__ = ["write_fitted"]


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


def _to_bundle(
    fitted: Fitted, parameters: Mapping[str, Any], vocabulary: Sequence[str] | None
) -> Bundle:
    state, arrays = projection_to_state(fitted.projection)
    _check_loadable(state, arrays, fitted)
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
    kept = _with_vectors(kept)
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
        "parameters": _saved_parameters(parameters, embeddings),
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


def _with_vectors(kept: CandidateSet | None) -> CandidateSet | None:
    """Return the candidates without seen classes that are known by images alone."""
    if kept is None:
        return None
    rows = [i for i, entry in enumerate(kept.entries) if entry.how != "images"]
    if not rows:
        return None
    return CandidateSet(
        kept.labels[rows],
        tuple(kept.aliases[i] for i in rows) if kept.aliases else (),
        kept.class_embeddings[rows],
        kept.class_of[rows],
        tuple(kept.entries[i] for i in rows),
    )


def _check_loadable(
    state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], fitted: Fitted
) -> None:
    """Raise ArtifactError for a projection that `load` would refuse."""
    wordless = np.asarray(np.isnan(fitted.class_embeddings).any(axis=1))
    dim_text = fitted.class_embeddings.shape[1]
    try:
        projection = projection_from_state(json.loads(for_json(state)), arrays)
        check_projection(projection, wordless, fitted.n_features, dim_text)
    except ValueError as error:
        raise ArtifactError(
            f"Expected a projection that can be loaded again. Got {error}. Fit with "
            f"other parameters."
        ) from error


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
        if entry.how == "images":  # it has no vector
            continue
        vector_of[str(label)] = vector
        if entry.how != "alias":  # "lion" is what "lion, king of beasts" is found by
            vector_of.setdefault(names_of(str(label))[0], vector)
    return [*vector_of], np.array([*vector_of.values()], np.float32)


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


def _saved_parameters(
    parameters: Mapping[str, Any], embeddings: TextEmbeddings
) -> dict[str, Any]:
    saved = dict(parameters)
    # Not what may have been set since, or is another version's default.
    saved["templates"] = effective_templates(embeddings, saved["templates"])
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
