"""A model that has learnt from no images: made once, then kept in the cache."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot import __version__
from zeroshot.errors import ZeroShotError
from zeroshot.storage.cache import cache_root

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.labels import Templates
    from zeroshot.projections.base import Projection
    from zeroshot.training.pretrained import PretrainedSetting

__all__ = ["untrained"]


def untrained(
    backbone: str,
    embeddings: str | None,
    projection: str = "auto",
    pretrained_classes: "PretrainedSetting" = "auto",
    templates: "Templates" = None,
) -> "ZeroShotClassifier":
    """Return a classifier that knows the backbone's own classes and no image.

    To look up 1000 classes and solve for the map takes seconds; what comes of it is
    kept in the cache as any saved model is. A joint model has nothing to learn, and is
    returned as it is.

    Parameters
    ----------
    backbone, embeddings, projection, pretrained_classes : as for `ZeroShotClassifier`
    templates : str, list of str or None
        As for `ZeroShotClassifier`.

    Returns
    -------
    classifier : ZeroShotClassifier
    """
    from zeroshot import ZeroShotClassifier, load, registry
    from zeroshot.labels import with_templates

    network, provider = registry.resolve_pair(backbone, embeddings)
    maps = registry.suited_projection(projection, network, provider)
    settings: dict[str, Any] = {"templates": templates, "random_state": 0}
    if registry.joint_model(network, provider) is not None:
        # Nothing is to be learnt, whatever classes there are.
        return ZeroShotClassifier(network, projection=projection, **settings)
    place = None
    if pretrained_classes == "auto" and network is not None:
        labels_from = with_templates(provider, templates)
        of_pair = (network.fingerprint, labels_from.fingerprint)
        place = _place(maps, *of_pair)
        with suppress(ZeroShotError):  # none yet, or a damaged one
            return load(place, backbone=network, embeddings=provider)
    classifier = ZeroShotClassifier(
        network,
        provider,
        projection=maps,
        pretrained_classes=pretrained_classes,
        **settings,
    ).fit_pretrained()
    if place is not None:
        with suppress(ZeroShotError, OSError):  # no place: made anew next time
            classifier.save(place)
    return classifier


def _place(projection: "Projection", *fingerprints: str) -> Path:
    """Return the folder of the model of a pair, for this version of the package."""
    key = json.dumps([__version__, repr(projection), *fingerprints])
    return cache_root() / "models" / hashlib.sha256(key.encode()).hexdigest()[:32]
