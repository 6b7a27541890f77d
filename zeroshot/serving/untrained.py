"""A model that has learnt from no images: made once, then kept in the cache."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot import __version__
from zeroshot.errors import ZeroShotError
from zeroshot.storage.cache import cache_root

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.projections.base import Projection
    from zeroshot.training.pretrained import PretrainedSetting

__all__ = ["untrained"]


def untrained(
    backbone: str,
    embeddings: str | None,
    projection: str = "devise",
    pretrained_classes: "PretrainedSetting" = "auto",
) -> "ZeroShotClassifier":
    """Return a classifier that knows the backbone's own classes and no image.

    To look up 1000 classes and solve for the map takes seconds; what comes of it is
    kept in the cache as any saved model is.

    Parameters
    ----------
    backbone, embeddings, projection, pretrained_classes : as for `ZeroShotClassifier`

    Returns
    -------
    classifier : ZeroShotClassifier
    """
    from zeroshot import ZeroShotClassifier, load, registry

    network, provider = registry.resolve_pair(backbone, embeddings)
    maps = registry.resolve_projection(projection)
    place = None
    if pretrained_classes == "auto" and network is not None:
        of_pair = (network.fingerprint, provider.fingerprint)
        place = _place(maps, *of_pair)
        with suppress(ZeroShotError):  # none yet, or a damaged one
            return load(place, backbone=network, embeddings=provider)
    classifier = ZeroShotClassifier(
        network,
        provider,
        projection=maps,
        pretrained_classes=pretrained_classes,
        random_state=0,
    ).fit_pretrained()
    if place is not None:
        with suppress(ZeroShotError, OSError):  # no place: made anew next time
            classifier.save(place)
    return classifier


def _place(projection: "Projection", *fingerprints: str) -> Path:
    """Return the folder of the model of a pair, for this version of the package."""
    key = json.dumps([__version__, repr(projection), *fingerprints])
    return cache_root() / "models" / hashlib.sha256(key.encode()).hexdigest()[:32]
