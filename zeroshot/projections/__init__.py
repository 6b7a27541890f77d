"""Projections: images and class embeddings meet in one space.

In: features with the class embeddings of their labels, for training. Out: a map from
features to points that are compared with label vectors. To add one, write an estimator
that keeps the contract of `zeroshot.projections.base.Projection` and register it under
the entry-point group ``zeroshot.projections`` (docs/plugins.md).
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.projections.base import (
        PretrainedClasses,
        Projection,
        SupportsClassPoints,
        SupportsLabels,
        SupportsLeavingOut,
        SupportsMoments,
        SupportsPartialFit,
    )
    from zeroshot.projections.bilinear import ALE, SJE
    from zeroshot.projections.closed_form import ESZSL, SAE, Ridge
    from zeroshot.projections.conse import ConSE
    from zeroshot.projections.devise import DeViSE
    from zeroshot.projections.identity import Identity
    from zeroshot.projections.joint import Joint
    from zeroshot.projections.operations import SupportsTracing
    from zeroshot.projections.visual import Visual

__all__ = [
    "ALE",
    "ESZSL",
    "SAE",
    "SJE",
    "ConSE",
    "DeViSE",
    "Identity",
    "Joint",
    "PretrainedClasses",
    "Projection",
    "Ridge",
    "SupportsClassPoints",
    "SupportsLabels",
    "SupportsLeavingOut",
    "SupportsMoments",
    "SupportsPartialFit",
    "SupportsTracing",
    "Visual",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ALE": "bilinear",
        "ConSE": "conse",
        "DeViSE": "devise",
        "ESZSL": "closed_form",
        "Identity": "identity",
        "Joint": "joint",
        "PretrainedClasses": "base",
        "Projection": "base",
        "Ridge": "closed_form",
        "SAE": "closed_form",
        "SJE": "bilinear",
        "SupportsClassPoints": "base",
        "SupportsLabels": "base",
        "SupportsLeavingOut": "base",
        "SupportsMoments": "base",
        "SupportsPartialFit": "base",
        "SupportsTracing": "operations",
        "Visual": "visual",
    },
)
