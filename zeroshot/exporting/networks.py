"""Which network of a backbone a file can hold, and why not."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.keras.network import Network
from zeroshot.backbones.keras.routes import KerasBackbone
from zeroshot.errors import PluginContractError
from zeroshot.projections.operations import Operations

__all__ = ["IMAGE", "Head", "Run", "keras_network", "one_by_one"]

IMAGE = "image"
"""Name of the input of every exported file."""

Head: TypeAlias = Callable[[Any, Operations], Mapping[str, Any]]
"""From features of a program to its outputs, see `zeroshot.exporting.head`."""

Run: TypeAlias = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""Runs an exported file on images, by the program that it is for."""

# Of our own, by their registered names.
WHY_NOT = {
    "callable": "a function of Python",
    "color-hog": "computed by scikit-image",
    "litert": "a LiteRT file, to which nothing can be added",
    "onnx": "an ONNX file, which goes into an ONNX file alone",
    "tfhub": "a program of TF-Hub",
}


def keras_network(backbone: Backbone, form: str) -> Network:
    """Return the network that is written into a file.

    Raises PluginContractError if the backbone is none of Keras, or scales pixels by a
    function.
    """
    if not isinstance(backbone, KerasBackbone):
        reason = WHY_NOT.get(backbone.name, "no Keras network")
        for sign, told in (("int8:", "quantised"), ("+", "several networks")):
            reason = told if sign in backbone.name else reason
        more = ", or onnx:/file.onnx" if form == "onnx" else ""
        raise PluginContractError(
            f"Expected a backbone whose network can be written to a file of {form}. "
            f"Got '{backbone.name}', which is {reason}. Train with a network of Keras, "
            f"such as mobilenet-v2 or keras:/model.keras{more}."
        )
    network = backbone.network()
    if network.scales_outside:
        raise PluginContractError(
            f"Expected a backbone that scales pixels within its network. Got "
            f"'{backbone.name}', where a function of Python does. Name a scaling, or "
            f"put it into the network."
        )
    return network


def one_by_one(run: Run) -> Run:
    """Return what runs a file that takes one image at a time."""

    def run_all(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        rows = [run(images[i : i + 1]) for i in range(len(images))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return run_all
