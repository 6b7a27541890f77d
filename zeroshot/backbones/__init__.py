"""Networks: images in, features out.

In: images that the core has decoded and resized, (n, height, width, 3) uint8 RGB. Out:
features, (n, dim) float32. To add one, write a class that keeps the contract of
`zeroshot.backbones.base.Backbone` and register it under the entry-point group
``zeroshot.backbones`` (docs/plugins.md).
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.backbones.base import Backbone, BackboneCard, ClassifierHead
    from zeroshot.backbones.callable_backbone import CallableBackbone
    from zeroshot.backbones.color_hog import ColorHOG
    from zeroshot.backbones.concatenated import Concatenated
    from zeroshot.backbones.exported.litert import LiteRTModel
    from zeroshot.backbones.exported.onnx import ONNXModel
    from zeroshot.backbones.exported.tfhub import TFHub
    from zeroshot.backbones.keras.applications import KerasApplication
    from zeroshot.backbones.keras.model import KerasModel
    from zeroshot.backbones.keras.quantised import Quantised

__all__ = [
    "Backbone",
    "BackboneCard",
    "CallableBackbone",
    "ClassifierHead",
    "ColorHOG",
    "Concatenated",
    "KerasApplication",
    "KerasModel",
    "LiteRTModel",
    "ONNXModel",
    "Quantised",
    "TFHub",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backbone": "base",
        "BackboneCard": "base",
        "CallableBackbone": "callable_backbone",
        "ClassifierHead": "base",
        "ColorHOG": "color_hog",
        "Concatenated": "concatenated",
        "KerasApplication": "keras.applications",
        "KerasModel": "keras.model",
        "LiteRTModel": "exported.litert",
        "ONNXModel": "exported.onnx",
        "Quantised": "keras.quantised",
        "TFHub": "exported.tfhub",
    },
)
