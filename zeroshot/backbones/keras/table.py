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
    """One row of ``applications.toml``.

    Attributes
    ----------
    constructor, module : str
        Names in ``keras.applications``.
    scaling : str
        See `zeroshot.backbones.keras.network.Scaling`.
    size, dim : int
        Side of the images it was trained on, in pixels; length of a feature vector.
    file, url : str
        Published weights without the classifier: name in Keras' cache, and origin.
    hash : str or None
        MD5 or SHA-256 of that file, where Keras states one.
    linear_head : bool
        The classifier is one dense layer on the pooled features.
    top_hash : str or None
        Hash of the published weights with the classifier, where Keras states one.
    extra_rescaling : bool
        Keras inserts a layer when it loads ``"imagenet"`` (EfficientNet B0 to B7).
    pretraining, licence, citation : str
        For the card; an empty licence means that none is stated.
    """

    constructor: str
    module: str
    scaling: Scaling
    size: int
    dim: int
    file: str
    url: str
    hash: str | None = None
    linear_head: bool = False
    top_hash: str | None = None
    extra_rescaling: bool = False
    pretraining: str = "ImageNet-1k (ILSVRC 2012)"
    licence: str = ""
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
