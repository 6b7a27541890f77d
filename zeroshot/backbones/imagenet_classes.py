"""The classes of ImageNet-1k, which nearly every published network was trained on."""

from functools import cache
from importlib.resources import files

__all__ = ["imagenet_classes"]


@cache
def imagenet_classes() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the 1000 classes of ImageNet-1k (ILSVRC 2012): WordNet 3.0 id and names.

    They are in the order of the outputs of Keras' classifiers (by id), the usual name
    first. The first names differ from each other, or the names together do.

    Examples
    --------
    >>> imagenet_classes()[291]
    ('n02129165', ('lion', 'king of beasts', 'Panthera leo'))
    """
    text = (
        files("zeroshot.backbones").joinpath("imagenet_classes.tsv").read_text("utf-8")
    )
    rows = (line.split("\t") for line in text.splitlines() if line[0] != "#")
    return tuple((wordnet_id, tuple(names.split(", "))) for wordnet_id, names in rows)
