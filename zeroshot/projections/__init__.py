"""Projections from visual features into the word-vector space."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.projections.base import Projection
    from zeroshot.projections.closed_form import Ridge
    from zeroshot.projections.devise import DeViSE

__all__ = ["DeViSE", "Projection", "Ridge"]

_HOMES = {
    "DeViSE": "zeroshot.projections.devise",
    "Projection": "zeroshot.projections.base",
    "Ridge": "zeroshot.projections.closed_form",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot.projections' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
