"""What a program must know of an exported file, as JSON."""

from pathlib import Path
from typing import Any

from zeroshot import __version__, registry
from zeroshot.backbones.base import card_of
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.exporting.head import POINT, PROBABILITIES, SCORES, STANDING
from zeroshot.exporting.networks import IMAGE
from zeroshot.scoring import FrozenLabels
from zeroshot.storage.large_files import file_digest

__all__ = ["description_of"]

RESIZE = {
    "crop": "scale the image until it just covers the size, take the centre",
    "squash": "scale both sides to the size, keep the whole image",
}


def description_of(
    classifier: ZeroShotClassifier,
    path: Path,
    written: Path,
    form: str,
    labels: FrozenLabels | None,
) -> dict[str, Any]:
    """Return the content of the JSON file beside an exported one.

    ``path``: where the file will be. ``written``: where it is. ``labels``: None for a
    file that gives out points.
    """
    backbone = classifier.backbone_
    height, width = backbone.input_size
    resize, n = card_of(backbone).resize, 1 if form == "tflite" else "n"
    described: dict[str, Any] = {
        "format_version": 1,
        "made_by": f"zeroshot {__version__}",
        "form": form,
        "file": path.name,
        "sha256": file_digest(written, "sha256") if written.is_file() else None,
        "input": {
            "name": IMAGE,
            "shape": [n, height, width, 3],
            "type": "uint8",
            "channels": "RGB, 0 to 255; the file scales them itself",
        },
        "preprocessing": {
            "orientation": "turn upright as EXIF says",
            "transparency": "lay on white",
            "resize": resize,
            "resize_means": RESIZE[resize],
            "filter": "bilinear over all pixels that a new one covers (Pillow's)",
            "height": height,
            "width": width,
        },
        "outputs": _outputs(labels),
        "backbone": {
            "name": backbone.name,
            "spec": registry.spec_of(backbone),
            "fingerprint": classifier.backbone_fingerprint_ or backbone.fingerprint,
        },
        "embeddings": {
            "name": classifier.embeddings_.name,
            "fingerprint": classifier.embeddings_.fingerprint,
        },
        "projection": type(classifier.projection_).__name__,
        "temperature": classifier.temperature_,
        "seen_penalty": classifier.seen_penalty_,
    }
    if labels is None:
        return described
    return described | {
        "labels": labels.labels.tolist(),
        "seen": labels.is_seen.tolist(),
        "corrections": labels.corrections.tolist(),
        "reject": _rejection(labels, classifier.unknown_label),
    }


def _outputs(labels: FrozenLabels | None) -> dict[str, str]:
    if labels is None:
        return {
            POINT: "of unit length; scores are point @ points.T + corrections, of the "
            ".npz file, and probabilities softmax(scores / temperature)"
        }
    outputs = {
        SCORES: "cosine and correction of each label, in their order",
        PROBABILITIES: "softmax(scores / temperature)",
    }
    if labels.background is not None:
        outputs[STANDING] = "how far the labels stand out from other known classes"
    return outputs


def _rejection(labels: FrozenLabels, unknown_label: object) -> dict[str, Any] | None:
    if labels.threshold is None:
        return None
    return {
        "answer": unknown_label,
        "where_the_largest_of": SCORES if labels.background is None else STANDING,
        "is_below": labels.threshold,
    }
