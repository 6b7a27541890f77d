"""Projections from visual features into the word-vector space."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.projections.base import Projection
    from zeroshot.projections.bilinear import ALE, SJE
    from zeroshot.projections.closed_form import ESZSL, SAE, Ridge
    from zeroshot.projections.conse import ConSE
    from zeroshot.projections.devise import DeViSE

__all__ = ["ALE", "ESZSL", "SAE", "SJE", "ConSE", "DeViSE", "Projection", "Ridge"]

_HOMES = {
    "ALE": "zeroshot.projections.bilinear",
    "ConSE": "zeroshot.projections.conse",
    "DeViSE": "zeroshot.projections.devise",
    "ESZSL": "zeroshot.projections.closed_form",
    "Projection": "zeroshot.projections.base",
    "Ridge": "zeroshot.projections.closed_form",
    "SAE": "zeroshot.projections.closed_form",
    "SJE": "zeroshot.projections.bilinear",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot.projections' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
