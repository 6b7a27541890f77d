"""Zero-shot image classification: labels are given when predicting.

Public names are resolved on first use (PEP 562), so ``import zeroshot`` imports
neither TensorFlow nor scikit-learn.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.backbones.fine_tuning_settings import FineTuning
    from zeroshot.classifier import ZeroShotClassifier, load
    from zeroshot.datasets import load_image_folder, make_shapes
    from zeroshot.evaluation.protocol import evaluate
    from zeroshot.features.export import export_features
    from zeroshot.features.file import read_features
    from zeroshot.features.pipeline import extract_features
    from zeroshot.labels.report import LabelReport

__version__ = "0.1.0"

__all__ = [
    "FineTuning",
    "LabelReport",
    "ZeroShotClassifier",
    "__version__",
    "evaluate",
    "export_features",
    "extract_features",
    "load",
    "load_image_folder",
    "make_shapes",
    "read_features",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FineTuning": "backbones.fine_tuning_settings",
        "LabelReport": "labels.report",
        "ZeroShotClassifier": "classifier",
        "evaluate": "evaluation.protocol",
        "export_features": "features.export",
        "extract_features": "features.pipeline",
        "load": "classifier",
        "load_image_folder": "datasets",
        "make_shapes": "datasets",
        "read_features": "features.file",
    },
)
