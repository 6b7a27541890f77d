"""A model that has learnt from no images, after asking before anything is fetched."""

from typing import TYPE_CHECKING

from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.label_lists import classes_to_learn_from

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.labels import Templates

__all__ = ["untrained_classifier"]


def untrained_classifier(
    backbone: str,
    embeddings: str | None,
    projection: str,
    pretrained_classes: str,
    templates: "Templates" = None,
    *,
    yes: bool,
) -> "ZeroShotClassifier":
    """Return a classifier that knows the backbone's own classes and no image.

    ``pretrained_classes``: as on the command line. ``templates``: as of the classifier.
    ``yes``: do not ask before something is fetched.
    """
    from zeroshot import registry
    from zeroshot.serving.untrained import untrained

    confirm_downloads(registry.missing_files(backbone, embeddings), yes=yes)
    classes = classes_to_learn_from(pretrained_classes)
    return untrained(backbone, embeddings, projection, classes, templates)
