"""Visual backbones, each imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.backbones.base import Backbone, BackboneCard
    from zeroshot.backbones.color_hog import ColorHOG
    from zeroshot.backbones.keras_applications import KerasApplication
    from zeroshot.backbones.keras_model import KerasModel

_HOMES = {
    "Backbone": "zeroshot.backbones.base",
    "BackboneCard": "zeroshot.backbones.base",
    "ColorHOG": "zeroshot.backbones.color_hog",
    "KerasApplication": "zeroshot.backbones.keras_applications",
    "KerasModel": "zeroshot.backbones.keras_model",
}

__all__ = ["Backbone", "BackboneCard", "ColorHOG", "KerasApplication", "KerasModel"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot.backbones' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
