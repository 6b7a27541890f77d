"""A graph of ONNX that grows as values are computed with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Graph", "Value"]


class Value:
    """A tensor of a graph: what is computed with it becomes nodes."""

    __array_ufunc__ = None  # NumPy leaves operators between an array and this to it

    def __init__(self, graph: "Graph", name: str) -> None:
        self.graph = graph
        self.name = name

    def __matmul__(self, other: Any) -> "Value":
        return self.graph.node("MatMul", self, other)

    def __add__(self, other: Any) -> "Value":
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Any) -> "Value":
        return self.graph.node("Sub", self, other)

    def __mul__(self, other: Any) -> "Value":
        return self.graph.node("Mul", self, other)

    def __truediv__(self, other: Any) -> "Value":
        return self.graph.node("Div", self, other)

    def __getitem__(self, key: object) -> "Value":
        if key != (..., slice(None, None, -1)):  # RGB to BGR, as pixels are scaled
            raise TypeError(f"Expected [..., ::-1]. Got {key!r}.")
        return self.graph.node("Gather", self, np.array([2, 1, 0]), axis=3)


class Graph:
    """Nodes and constants to be put into a model; `Operations` for ONNX.

    ``opset``: the version of ONNX's operations that the model is written in.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(
        self, kind: str, *inputs: Any, output: str = "", **attributes: Any
    ) -> Value:
        """Return what a new node makes of values, arrays and numbers.

        ``output``: its name; any, where there is none. Arrays of int64 stay that, all
        else becomes float32.
        """
        import onnx

        names = [self._name_of(each) for each in inputs]
        name = output or f"zeroshot_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, names, [name], **attributes))
        return Value(self, name)

    def _name_of(self, given: Any) -> str:
        import onnx

        if isinstance(given, Value):
            return given.name
        array: NDArray[Any] = np.asarray(given)
        if array.dtype != np.int64 or array.ndim == 0:
            array = array.astype(np.float32)
        name = f"zeroshot_constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def reduced(
        self, kind: str, x: Value, axes: Sequence[int], *, keepdims: bool = True
    ) -> Value:
        """Return a sum, mean or maximum over axes."""
        if self.opset >= (13 if kind == "ReduceSum" else 18):  # axes are an input then
            return self.node(kind, x, np.array(axes), keepdims=int(keepdims))
        return self.node(kind, x, axes=[*axes], keepdims=int(keepdims))

    def cast(self, x: Value, kind: int) -> Value:
        """Return the values as numbers of another kind, of ``onnx.TensorProto``."""
        return self.node("Cast", x, to=kind)

    def absolute(self, x: Value) -> Value:
        """Return absolute values."""
        return self.node("Abs", x)

    def exp(self, x: Value) -> Value:
        """Return exponentials."""
        return self.node("Exp", x)

    def log(self, x: Value) -> Value:
        """Return natural logarithms."""
        return self.node("Log", x)

    def sqrt(self, x: Value) -> Value:
        """Return square roots."""
        return self.node("Sqrt", x)

    def maximum(self, x: Value, least: float) -> Value:
        """Return the values, those below ``least`` raised to it."""
        return self.node("Max", x, least)

    def total(self, x: Value) -> Value:
        """Return the sum of each row, (n, 1)."""
        return self.reduced("ReduceSum", x, [1])

    def largest(self, x: Value, rank: int = 1) -> Value:
        """Return the largest value of each row, or the second largest ..., (n, 1)."""
        if rank == 1:
            return self.reduced("ReduceMax", x, [1])
        import onnx

        names = [x.name, self._name_of(np.array([rank]))]
        outputs = [f"zeroshot_{len(self.nodes)}", f"zeroshot_place_{len(self.nodes)}"]
        self.nodes.append(onnx.helper.make_node("TopK", names, outputs, axis=1))
        best = Value(self, outputs[0])
        return self.node("Gather", best, np.array([rank - 1]), axis=1)

    def at_least(self, x: Value, y: Value) -> Value:
        """Return 1 where x is y or more, else 0."""
        import onnx

        is_less = self.node("Less", x, y)
        return self.cast(self.node("Not", is_less), onnx.TensorProto.FLOAT)

    def joined(self, parts: Sequence[Value]) -> Value:
        """Return rows side by side."""
        return self.node("Concat", *parts, axis=1)
