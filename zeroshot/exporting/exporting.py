"""A fitted classifier to one file, compared with the classifier before it is kept."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.keras.conversion import photographs
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.errors import ArtifactError, LabelError, PluginContractError
from zeroshot.escaping import for_json
from zeroshot.exporting.description import description_of
from zeroshot.exporting.head import (
    POINT,
    PROBABILITIES,
    SCORES,
    STANDING,
    head_outputs,
)
from zeroshot.exporting.networks import Head, Run
from zeroshot.exporting.onnx_form import write_onnx
from zeroshot.exporting.tensorflow_form import write_litert, write_saved_model
from zeroshot.labels import Candidates
from zeroshot.projections.operations import SupportsTracing
from zeroshot.scoring import FrozenLabels, softmax
from zeroshot.storage.cache import replace_directory, replace_file

__all__ = ["Exported", "Form", "export_classifier", "export_labels"]

Form: TypeAlias = Literal["onnx", "tflite", "saved-model"]
"""Kinds of files, also their suffixes."""

WRITERS: dict[str, Callable[[Path, Backbone, Head], Run]] = {
    "onnx": write_onnx,
    "tflite": write_litert,
    "saved-model": write_saved_model,
}
TOLERANCE = 1e-4  # of a score, which is within some 1.5 of 0


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        The file; of ``"saved-model"`` a folder.
    description : Path
        JSON: labels, preprocessing, and what else a program has to know.
    labels : Path or None
        Points of labels (``.npz``), where the file gives out points.
    n_labels, n_images : int
        Labels, and photographs on which the file was compared.
    difference : float
        Largest one of a score there, between the file and the classifier.
    """

    path: Path
    description: Path
    labels: Path | None
    n_labels: int
    n_images: int
    difference: float


def export_classifier(
    classifier: ZeroShotClassifier,
    out: str | Path,
    candidate_labels: Candidates = None,
    *,
    form: Form,
) -> Exported:
    """Write a classifier's network and labels into one file for other programs.

    The file takes images as uint8 RGB, (n, height, width, 3), one at a time for
    ``"tflite"``, and gives out ``scores`` and ``probabilities``, (n, n_labels) float32,
    as the classifier does. Beside it lies its name with ``.json`` behind: how an image
    is brought to size, the labels, what rejects an image. It is loaded by its own
    runtime and compared with the classifier on photographs before it is kept.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted, on a network of Keras or, for ``"onnx"``, an ONNX file.
    out : str or Path
        File to write, of ``"saved-model"`` a folder. An older export is replaced.
    candidate_labels : sequence, mapping or None, default=None
        The labels; as for `ZeroShotClassifier.predict`. None: the file gives out
        ``point``, (n, dim) float32 of unit length, and the classifier's own candidates
        lie beside it as `export_labels` writes them.
    form : {"onnx", "tflite", "saved-model"}
        What runs the file: ONNX Runtime, LiteRT (TensorFlow Lite), TensorFlow.

    Returns
    -------
    exported : Exported

    Raises
    ------
    PluginContractError
        If the backbone or the projection cannot be written to such a file.
    MissingExtraError
        If packages are missing that write it.
    ArtifactError
        If the file cannot be written, or says something else than the classifier.
    LabelError, OutOfVocabularyError
        As `ZeroShotClassifier.predict`.
    """
    if form not in get_args(Form):
        raise ValueError(f"Expected form as one of {get_args(Form)}. Got {form!r}.")
    frozen = classifier.frozen_labels(candidate_labels)
    backbone, projection = classifier.backbone_, classifier.projection_
    _check(classifier, backbone, projection)
    path = Path(out)
    _check_place(path, form)
    to_points = candidate_labels is None
    given = None if to_points else frozen

    def head(features: Any, operations: Any) -> dict[str, Any]:
        return head_outputs(features, operations, projection, given)

    replace = replace_directory if form == "saved-model" else replace_file
    description, npz = _beside(path, "json"), _beside(path, "npz")
    try:
        with ExitStack() as files:  # put in their places when all is done, or none is
            written = files.enter_context(replace(path))
            run = WRITERS[form](written, backbone, head)
            compared = _compared(run, classifier, frozen, candidate_labels)
            described = description_of(classifier, path, written, form, given)
            text = _as_json(described | {"compared": compared})
            json = files.enter_context(replace_file(description))
            json.write_text(text, encoding="utf-8")
            if to_points:
                _write_labels(files.enter_context(replace_file(npz)), frozen)
    except OSError as error:
        raise ArtifactError(
            f"Expected a place to write '{path}'. Got {error}. Check the path, "
            f"permissions and free space."
        ) from error
    return Exported(
        path,
        description,
        npz if to_points else None,
        len(frozen.labels),
        compared["photographs"],
        compared["largest_difference_of_a_score"],
    )


def export_labels(
    classifier: ZeroShotClassifier, out: str | Path, candidate_labels: Candidates = None
) -> Path:
    """Write labels for an exported file that gives out points.

    The score of an image is ``point @ points.T + corrections``.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        The one that was exported.
    out : str or Path
        File to write, ``.npz``: ``labels`` (m,), ``points`` (m, dim) float32,
        ``corrections`` (m,) float32.
    candidate_labels : sequence, mapping or None, default=None
        As for `ZeroShotClassifier.predict`; None means the classifier's own.

    Returns
    -------
    path : Path

    Raises
    ------
    LabelError, OutOfVocabularyError
        As `ZeroShotClassifier.predict`.
    """
    frozen = classifier.frozen_labels(candidate_labels)
    with replace_file(Path(out)) as temporary:
        _write_labels(temporary, frozen)
    return Path(out)


def _as_json(described: dict[str, Any]) -> str:
    try:
        return f"{for_json(described)}\n"
    except (TypeError, ValueError) as error:
        raise LabelError(
            f"Expected labels that are strings or numbers, also as unknown_label. Got "
            f"{error}. Only those can be written as JSON."
        ) from error


def _write_labels(path: Path, frozen: FrozenLabels) -> None:
    labels = frozen.labels
    if labels.dtype.kind == "O":  # nothing that would have to be unpickled
        labels = np.array([str(label) for label in labels])
    with path.open("wb") as file:
        np.savez(
            file,
            labels=labels,
            points=frozen.points,
            corrections=frozen.corrections,
            allow_pickle=False,
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _check(classifier: ZeroShotClassifier, backbone: Any, projection: Any) -> None:
    if backbone is None:
        raise PluginContractError(
            "Expected a classifier with a backbone. Got one of features alone "
            "(backbone=None), so there is no network to write."
        )
    if not isinstance(projection, SupportsTracing):
        raise PluginContractError(
            f"Expected a projection that says its operations (method 'traced', "
            f"docs/plugins.md). Got '{type(projection).__name__}', which no other "
            f"program can compute. Train with 'devise', 'visual' or 'ridge'."
        )


def _check_place(path: Path, form: str) -> None:
    """Refuse to replace a folder that no export made."""
    if form != "saved-model" or not os.path.lexists(path):
        return
    is_ours = path.is_dir() and (
        (path / "saved_model.pb").is_file() or not any(path.iterdir())
    )
    if not is_ours:
        raise ArtifactError(
            f"Expected a new folder, or a SavedModel to replace. Got '{path}', which "
            f"holds something else. Choose another path."
        )


def _compared(
    run: Run,
    classifier: ZeroShotClassifier,
    frozen: FrozenLabels,
    candidate_labels: Candidates,
) -> dict[str, Any]:
    """Compare a file with the classifier on photographs; return what was found."""
    straight = photographs(classifier.backbone_.input_size)
    # On paler and inverted ones a network of bad numerics differs ten times as much.
    pale = 255 - (255 - straight) // 4
    images = np.concatenate([straight, straight[:, :, ::-1], 255 - straight, pale])
    points = classifier.points(list(images))
    try:
        outputs = dict(run(images))
    except Exception as error:  # each runtime has its own
        raise _other(f"{type(error).__name__}: {str(error)[:300]}") from error
    if POINT in outputs:
        outputs[SCORES] = outputs[POINT] @ frozen.points.T + frozen.corrections
    scores = outputs[SCORES]
    expected: dict[str, Any] = {SCORES: classifier.scores(points, candidate_labels)}
    if PROBABILITIES in outputs:  # of the file's own scores, which decide about them
        expected[PROBABILITIES] = softmax(scores, frozen.temperature)
    if STANDING in outputs:
        standing = classifier.standing(points, candidate_labels)
        expected[STANDING] = standing[:, None]
    for name, wanted in expected.items():
        if outputs[name].shape != wanted.shape:
            raise _other(f"{name} of shape {outputs[name].shape}, not {wanted.shape}")
        difference = np.abs(outputs[name] - wanted).max()
        if not difference <= TOLERANCE:  # not so for NaN
            raise _other(f"{name} that differ by {difference:.1e}")
    n_other = int((scores.argmax(axis=1) != expected[SCORES].argmax(axis=1)).sum())
    if n_other:
        raise _other(f"another best label for {n_other} of {len(images)} photographs")
    return {
        "photographs": len(images),
        "largest_difference_of_a_score": float(np.abs(scores - expected[SCORES]).max()),
    }


def _other(got: str) -> ArtifactError:
    return ArtifactError(
        f"Expected a file that says what the classifier says, to {TOLERANCE:g} of a "
        f"score. Got {got}: the converter does not get this network right. Nothing was "
        f"written; export to another form."
    )
