"""What has been learnt, from the content of a bundle of which nothing is believed."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.backbones.base import Backbone, SupportsFineTuning, WeightsFile
from zeroshot.backbones.fine_tuning_settings import FineTuning, FineTuningReport
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    ZeroShotError,
    ZeroShotWarning,
)
from zeroshot.features.visual_input import check_backbone
from zeroshot.images.decoding import PIXELS
from zeroshot.labels.candidates import CandidateSet, as_label_array
from zeroshot.labels.given import check_candidates
from zeroshot.labels.report import LabelEntry, LabelReport
from zeroshot.labels.templates import with_templates
from zeroshot.projections.base import (
    PretrainedClasses,
    Projection,
    SupportsClassPoints,
    SupportsLeavingOut,
)
from zeroshot.projections.identity import Identity
from zeroshot.saving.bundle import Bundle, projection_from_state, read_bundle
from zeroshot.saving.fitted import Fitted
from zeroshot.saving.projection_form import check_array, check_projection
from zeroshot.scoring.calibration import Calibration
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.storage.addresses import shown_spec
from zeroshot.training.pretrained import Pretrained

__all__ = ["read_fitted"]

C = TypeVar("C")

MOST_ROOM = 64 << 20  # bytes of names that are padded to one length
TOLERANCE = 1e-3  # of the length of a unit vector in float32


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


def _from_bundle(
    bundle: Bundle,
    backbone: str | Backbone | None,
    embeddings: str | Path | TextEmbeddings | None,
) -> tuple[Fitted, dict[str, Any]]:
    record, arrays = bundle.record, bundle.arrays
    words = record["embeddings"]["vocabulary"]
    encoder: Any = None
    if embeddings is None and words is not None:
        provider: TextEmbeddings = Attributes(words, np.float32(arrays["vocabulary"]))
        embeddings = provider
    else:
        embeddings = embeddings or _trusted_spec(record, "embeddings")
        encoder = registry.resolve_embeddings(embeddings)
        provider = with_templates(encoder, record["parameters"]["templates"])
        _check_embeddings(provider, record["embeddings"])
    tuned = _stored_weights(bundle)
    network: Backbone | None = None
    if record["backbone"] is not None:
        backbone = backbone or _trusted_spec(record, "backbone", tuned)
        is_joint = encoder is not None and backbone == embeddings
        network = registry.resolve_backbone(encoder if is_joint else backbone)
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
    _refuse_unused(bundle)
    labels, n_features = _labels(record["classes"]), record["n_features"]
    sizes = {"classes": len(labels), "text": provider.dim, "visual": n_features}
    entries = tuple(map(LabelEntry.from_dict, record["label_report"]["entries"]))
    class_embeddings = arrays["class_embeddings"]
    if len(entries) != len(labels):
        raise ValueError(f"{len(entries)} entries for {len(labels)} classes")
    _check_room([entry.label for entry in entries])
    _check_room([", ".join(entry.words) for entry in entries])
    _check_room([", ".join(entry.missing) for entry in entries])
    wordless = np.array([entry.how == "images" for entry in entries], bool)
    projection = projection_from_state(record["projection"], arrays)
    if len(labels) == 0 and not isinstance(projection, Identity):
        raise ValueError("no classes, but a projection that was learnt from some")
    check_projection(projection, wordless, n_features, provider.dim)
    if wordless.any() and not isinstance(projection, SupportsClassPoints):
        raise ValueError("classes without a vector, which the projection must have")
    _check_vectors("class_embeddings", class_embeddings, "classes", sizes, wordless)
    pretrained = _pretrained(record["pretrained"], arrays, sizes)
    space = LabelSpace.of(
        projection,
        class_embeddings,
        None if pretrained is None else pretrained.classes,
        float(record["hub_correction"]),
    )
    _try(projection, space, class_embeddings[~wordless], sizes)
    tuning = record["fine_tuning"]
    calibration = _calibration(record["calibration"], arrays, sizes)
    if calibration is not None and isinstance(projection, SupportsLeavingOut):
        for places in projection.transform_labels_without(
            class_embeddings[~wordless][:1], calibration.background.left_out
        ):
            if places.shape != (1, sizes["points"]):
                raise ValueError(f"labels without a fold of shape {places.shape}")
    fitted = Fitted(
        seen_classes=labels,
        class_embeddings=class_embeddings,
        label_report=LabelReport(
            entries,
            tuple(map(tuple, record["label_report"]["identical"])),
            np.nan_to_num(class_embeddings),
        ),
        label_space=space,
        backbone=network,
        backbone_fingerprint=record["backbone_fingerprint"],
        embeddings=provider,
        projection=projection,
        n_features=n_features,
        n_images=record["n_images"],
        pretrained=pretrained,
        calibration=calibration,
        fine_tuning=None if tuning is None else FineTuningReport.from_dict(tuning),
        kept_candidates=_kept_candidates(record["candidates"], arrays, sizes),
    )
    parameters = _loaded_parameters(record["parameters"])
    return fitted, {"backbone": backbone, "embeddings": embeddings, **parameters}


def _refuse_unused(bundle: Bundle) -> None:
    """Raise ValueError for arrays and files that the record says nothing of."""
    record = bundle.record
    parts = ["projection", *(p for p in ("calibration", "pretrained") if record[p])]
    single = {"class_embeddings"}
    if record["candidates"] is not None:
        single.add("candidates")
    if record["embeddings"]["vocabulary"] is not None:
        single.add("vocabulary")
    for name in bundle.arrays:
        if name not in single and name.partition("/")[0] not in parts:
            raise ValueError(f"an array '{name[:80]}' that nothing uses")
    weights = (record["backbone"] or {}).get("weights")
    if [*bundle.files] != ([weights["file"]] if weights else []):
        raise ValueError(f"files {[*bundle.files]!r:.80} that nothing uses")


def _labels(saved: Mapping[str, Any]) -> NDArray[Any]:
    """Return the seen classes, of the kind that they had."""
    labels = check_candidates(saved["labels"]) if saved["labels"] else []
    dtype = np.dtype(saved["dtype"])
    _check_room([label for label in labels if isinstance(label, str)])
    # Not as wide as the text says, which may be as wide as the memory.
    array = np.array(labels, "U" if dtype.kind == "U" else dtype)
    if array.ndim != 1 or array.dtype.kind not in "UOiufb" or array.tolist() != labels:
        raise ValueError(f"classes that are no {saved['dtype'][:40]}")
    return array


def _check_room(texts: Sequence[str]) -> None:
    """Raise ValueError for texts of which arrays and tables would take much room.

    These give each as much as the longest takes.
    """
    lengths = [*map(len, texts)]
    if 4 * len(texts) * max(lengths, default=0) > MOST_ROOM + 16 * sum(lengths):
        raise ValueError(f"a name of {max(lengths)} characters")


def _check_vectors(
    name: str,
    vectors: Any,
    axis: str,
    sizes: dict[str, int],
    wordless: NDArray[np.bool_] | None = None,
) -> None:
    """Raise ValueError unless rows have unit length; NaN for a class without a word."""
    if isinstance(vectors, np.ndarray) and vectors.dtype != np.float32:
        raise ValueError(f"array '{name}' of {vectors.dtype}")
    known = vectors
    if wordless is not None and np.shape(vectors)[:1] == wordless.shape:
        known = vectors.copy()
        if np.isfinite(known[wordless]).any():
            raise ValueError(f"array '{name}' with vectors of classes without one")
        known[wordless] = 0
    check_array(name, known, f"f {axis} text", sizes)
    lengths = np.linalg.norm(known, axis=1)
    if wordless is not None:
        lengths[wordless] = 1
    if not (np.abs(lengths - 1) < TOLERANCE).all():
        raise ValueError(f"array '{name}' with vectors that are not of unit length")


def _try(
    projection: Projection,
    space: LabelSpace,
    words: NDArray[np.float32],
    sizes: dict[str, int],
) -> None:
    """Map an image and a label, so that what does not fit fails now.

    ``sizes``: gets that of the space, ``points``.
    """
    points = projection.transform(np.zeros((1, sizes["visual"]), np.float32))
    sizes["points"] = points.shape[1]
    check_array("points of images", points, "f images points", sizes)
    check_array("points of classes", space.seen, "f classes points", sizes)
    tried = space.label_points(words[:1], np.full(len(words[:1]), -1))
    check_array("points of labels", tried[:, :-1], "f labels points", sizes)
    check_array("corrections", tried[:, -1], "f labels", sizes)
    check_array("points of seen classes", space.seen_points, "f classes more", sizes)
    check_array("pretrained points", space.pretrained_points, "f rows more", sizes)


def _kept_candidates(
    saved: Mapping[str, Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    sizes: dict[str, int],
) -> CandidateSet | None:
    if saved is None:
        return None
    _check_room([label for label in saved["labels"] if isinstance(label, str)])
    labels = as_label_array(check_candidates(saved["labels"]))
    aliases = tuple(map(tuple, saved["aliases"]))
    entries = tuple(map(LabelEntry.from_dict, saved["entries"]))
    sizes["candidates"] = len(labels)
    _check_vectors("candidates", arrays["candidates"], "candidates", sizes)
    if not len(labels) == len(entries) == len(aliases or labels):
        raise ValueError("labels and entries of candidates differ in number")
    unknown = np.full(len(labels), -1)
    return CandidateSet(labels, aliases, arrays["candidates"], unknown, entries)


def _calibration(
    saved: Mapping[str, Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    sizes: dict[str, int],
) -> Calibration | None:
    if saved is None:
        return None
    forms = {"points": "f images points", "labels": "i images", "folds": "i classes"}
    own = {axis: sizes[axis] for axis in ("points", "classes")}
    for name, form in forms.items():
        check_array(name, arrays[f"calibration/{name}"], form, own)
    return Calibration.from_record(
        saved, {name: arrays[f"calibration/{name}"] for name in forms}
    )


def _pretrained(
    saved: Mapping[str, Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    sizes: dict[str, int],
) -> Pretrained | None:
    if saved is None:
        return None
    names = tuple(map(tuple, saved["names"]))
    parts = {
        field.name: arrays[f"pretrained/{field.name}"]
        for field in fields(PretrainedClasses)
    }
    own = {"rows": len(names), "text": sizes["text"], "visual": sizes["visual"]}
    _check_vectors("class_embeddings", parts["class_embeddings"], "rows", own)
    for name, form in (
        ("weights", "f rows visual"),
        ("bias", "f rows"),
        ("class_of", "i rows"),
    ):
        check_array(f"pretrained/{name}", parts[name], form, own)
    class_of = parts["class_of"]
    if not -1 <= class_of.min() <= class_of.max() < sizes["classes"]:
        raise ValueError("pretrained classes that name no class")
    return Pretrained(names, PretrainedClasses(**parts), saved["n_left_out"])


def _stored_weights(bundle: Bundle) -> WeightsFile | None:
    saved = (bundle.record["backbone"] or {}).get("weights")
    if saved is None:
        return None
    return WeightsFile(saved["file"], saved["spec"], bundle.files[saved["file"]])


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
    spec: str | None = (tuned and tuned.spec) or record[kind]["spec"]
    name = record[kind]["name"]
    if spec is None:
        raise ArtifactError(
            f"Expected {kind}=...: the model was trained with {kind} '{name}', given "
            f"as an object that no spec string names. Pass the same {kind} to load()."
        )
    # A fine-tuned Keras model lies in the bundle itself, and is opened in safe mode.
    inside = tuned and re.fullmatch(rf"keras:{re.escape(tuned.name)}(\?[^+]*)?", spec)
    reason = "" if inside else registry.why_untrusted(kind, spec)
    if reason:
        shown = shown_spec(spec)
        raise ArtifactError(
            f"Expected {kind}=...: the bundle names the {kind} '{shown}', {reason}. "
            f"Nothing that a bundle names is run or fetched unasked. If you trust it, "
            f"say so: load(..., {kind}={shown!r}), or --{kind} on the command line."
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
