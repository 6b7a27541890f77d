"""Visual backbones, each imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.backbones.base import Backbone, BackboneCard
    from zeroshot.backbones.callable_backbone import CallableBackbone
    from zeroshot.backbones.color_hog import ColorHOG
    from zeroshot.backbones.concatenated import Concatenated
    from zeroshot.backbones.keras_applications import KerasApplication
    from zeroshot.backbones.keras_model import KerasModel
    from zeroshot.backbones.litert_model import LiteRTModel
    from zeroshot.backbones.onnx_model import ONNXModel
    from zeroshot.backbones.quantised import Quantised
    from zeroshot.backbones.tfhub import TFHub

_HOMES = {
    "Backbone": "zeroshot.backbones.base",
    "BackboneCard": "zeroshot.backbones.base",
    "CallableBackbone": "zeroshot.backbones.callable_backbone",
    "ColorHOG": "zeroshot.backbones.color_hog",
    "Concatenated": "zeroshot.backbones.concatenated",
    "KerasApplication": "zeroshot.backbones.keras_applications",
    "KerasModel": "zeroshot.backbones.keras_model",
    "LiteRTModel": "zeroshot.backbones.litert_model",
    "ONNXModel": "zeroshot.backbones.onnx_model",
    "Quantised": "zeroshot.backbones.quantised",
    "TFHub": "zeroshot.backbones.tfhub",
}

__all__ = [
    "Backbone",
    "BackboneCard",
    "CallableBackbone",
    "ColorHOG",
    "Concatenated",
    "KerasApplication",
    "KerasModel",
    "LiteRTModel",
    "ONNXModel",
    "Quantised",
    "TFHub",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot.backbones' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
