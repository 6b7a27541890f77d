"""What `transform` is made of, for programs that are not NumPy.

An exported file computes a projection in TensorFlow or in ONNX. A projection that
`SupportsTracing` says once what it computes, in the operations of this contract, and
`zeroshot.exporting` carries them out where they are wanted.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from zeroshot.projections.base import Float32

__all__ = [
    "Operations",
    "SupportsTracing",
    "traced_forward",
    "traced_softmax",
    "traced_unit_rows",
]

SMALLEST = 1e-30  # of a length: what is divided by it, instead of by 0, is 0


class Operations(Protocol):
    """Functions of rows, (n, dim); what they take and give has a length of its own.

    Beside them ``@``, ``+``, ``-``, ``*`` and ``/`` are understood, with the row on the
    left and an array, a number or a row on the right.
    """

    def absolute(self, x: Any) -> Any:
        """Return absolute values."""

    def exp(self, x: Any) -> Any:
        """Return exponentials."""

    def log(self, x: Any) -> Any:
        """Return natural logarithms."""

    def sqrt(self, x: Any) -> Any:
        """Return square roots."""

    def maximum(self, x: Any, least: float) -> Any:
        """Return the values, those below ``least`` raised to it."""

    def total(self, x: Any) -> Any:
        """Return the sum of each row, (n, 1)."""

    def largest(self, x: Any, rank: int = 1) -> Any:
        """Return the largest value of each row, or the second largest ..., (n, 1)."""

    def at_least(self, x: Any, y: Any) -> Any:
        """Return 1 where x is y or more, else 0."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return rows side by side."""


@runtime_checkable
class SupportsTracing(Protocol):
    """A projection whose `transform` other programs can compute, from an export."""

    def traced(self, X: Any, operations: Operations) -> Any:
        """Do what `zeroshot.projections.base.Projection.transform` does.

        Parameters
        ----------
        X : rows of features, (n, dim_visual)
            Of another program: nothing is known of it but that it takes operators.
        operations : Operations
            Functions of such rows.

        Returns
        -------
        points : rows, (n, dim)
        """


def traced_unit_rows(x: Any, operations: Operations) -> Any:
    """Return rows at unit length, zeros as they are."""
    length = operations.sqrt(operations.total(x * x))
    return x / operations.maximum(length, SMALLEST)


def traced_softmax(x: Any, operations: Operations, temperature: float = 1.0) -> Any:
    """Return the softmax of each row, divided by a temperature."""
    # Divided last: of large numbers nothing would be left to subtract.
    rest = (x - operations.largest(x)) / np.float32(temperature)
    exponentials = operations.exp(rest)
    return exponentials / operations.total(exponentials)


def traced_forward(
    layers: Sequence[tuple[Float32, Float32]], X: Any, operations: Operations
) -> Any:
    """Return what dense layers with ReLU between them make of rows."""
    for number, (kernel, bias) in enumerate(layers):
        X = X @ kernel + bias
        if number < len(layers) - 1:
            X = operations.maximum(X, 0.0)
    return X
