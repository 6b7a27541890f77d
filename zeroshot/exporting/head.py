"""From features to what an exported file gives out, in operations of any program."""

from typing import Any

import numpy as np

from zeroshot.projections.operations import (
    Operations,
    SupportsTracing,
    traced_softmax,
    traced_unit_rows,
)
from zeroshot.scoring import FrozenLabels

__all__ = ["POINT", "PROBABILITIES", "SCORES", "STANDING", "head_outputs"]

SCORES, PROBABILITIES, STANDING, POINT = "scores", "probabilities", "standing", "point"

FAR = np.float32(1e4)  # below any score


def head_outputs(
    features: Any,
    operations: Operations,
    projection: SupportsTracing,
    labels: FrozenLabels | None,
) -> dict[str, Any]:
    """Return the outputs by name.

    ``features``: rows of the program that carries out ``operations``. ``labels``: None
    for the point of an image alone, of unit length.
    """
    point = traced_unit_rows(projection.traced(features, operations), operations)
    if labels is None:
        return {POINT: point}
    scores = _scores(point, labels.points, labels.corrections)
    softmax = traced_softmax(scores, operations, labels.temperature)
    outputs = {SCORES: scores, PROBABILITIES: softmax}
    if labels.background is not None:
        outputs[STANDING] = _standing(point, scores, operations, labels)
    return outputs


def _standing(
    point: Any, scores: Any, operations: Operations, labels: FrozenLabels
) -> Any:
    """Return what `zeroshot.scoring.rejection.StandOut.of` does, (n, 1)."""
    assert labels.background is not None
    assert labels.background_of is not None
    t, n = np.float32(labels.background_temperature), len(labels.background)
    rest = _scores(point, labels.background, labels.background_corrections)
    log_n: Any = np.float32(np.log(n))
    if (labels.background_of >= 0).any():
        hides = np.float32(labels.background_of[:, None] == np.arange(n))
        is_best = operations.at_least(scores, operations.largest(scores))
        hidden = is_best @ hides
        rest = rest - hidden * FAR
        n_left = operations.total(hidden) * -1.0 + float(n)
        log_n = operations.log(operations.maximum(n_left, 1.0))
    ours, others = (_soft_maximum(each, t, operations) for each in (scores, rest))
    return ours - others + log_n * t


def _scores(point: Any, points: Any, corrections: Any) -> Any:
    return point @ np.ascontiguousarray(points.T) + corrections


def _soft_maximum(x: Any, t: np.float32, operations: Operations) -> Any:
    """Return t times the logarithm of the sum of exp(x / t) of each row, (n, 1)."""
    largest = operations.largest(x)
    total = operations.total(operations.exp((x - largest) / t))
    return operations.log(total) * t + largest
