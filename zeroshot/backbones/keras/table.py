"""The networks of `keras.applications`, read from ``applications.toml``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from zeroshot.backbones.keras.network import Scaling

__all__ = ["Application", "applications"]


@dataclass(frozen=True)
class Application:
    """One row of ``applications.toml``; the last three fields are for the card."""

    constructor: str  # names in keras.applications
    module: str
    scaling: Scaling
    size: int  # side of the images it was trained on, in pixels
    dim: int
    parameters: int  # without the classifier; 4 bytes each in the file
    file: str  # published weights without the classifier: name in Keras' cache
    url: str
    hash: str | None = None  # MD5 or SHA-256 of that file, where Keras states one
    linear_head: bool = False  # the classifier: one dense layer on the features
    top_hash: str | None = None  # of the weights with it, where Keras states one
    extra_rescaling: bool = False  # by Keras for "imagenet" (EfficientNet B0 to B7)
    pretraining: str = "ImageNet-1k (ILSVRC 2012)"
    licence: str = ""  # empty where none is stated
    citation: str = ""


@cache
def applications() -> Mapping[str, Application]:
    """Return the table of networks by registry name; imports no TensorFlow."""
    text = files("zeroshot.backbones.keras").joinpath("applications.toml").read_text()
    table = {}
    for family in tomllib.loads(text)["family"]:
        models, folder = family.pop("models"), family.pop("folder")
        for name, row in models.items():
            url = folder + row.pop("published_as", row["file"])
            table[name] = Application(**(family | row), url=url)
    return table
