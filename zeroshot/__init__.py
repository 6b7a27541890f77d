"""Zero-shot image classification: labels are given when predicting.

Public names are resolved on first use (PEP 562), so ``import zeroshot`` imports
neither TensorFlow nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier, load
    from zeroshot.datasets import load_image_folder, make_shapes
    from zeroshot.evaluation import evaluate
    from zeroshot.feature_export import export_features
    from zeroshot.feature_file import read_features
    from zeroshot.features import extract_features
    from zeroshot.fine_tuning_settings import FineTuning
    from zeroshot.label_report import LabelReport

__version__ = "0.1.0"

_HOMES = {
    "FineTuning": "zeroshot.fine_tuning_settings",
    "LabelReport": "zeroshot.label_report",
    "ZeroShotClassifier": "zeroshot.classifier",
    "evaluate": "zeroshot.evaluation",
    "export_features": "zeroshot.feature_export",
    "extract_features": "zeroshot.features",
    "load": "zeroshot.classifier",
    "load_image_folder": "zeroshot.datasets",
    "make_shapes": "zeroshot.datasets",
    "read_features": "zeroshot.feature_file",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
