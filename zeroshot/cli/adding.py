"""More images for a saved model: ``zeroshot fit --add``; and where models may lie."""

import os
from pathlib import Path
from typing import Any

import typer

from zeroshot.cli.label_lists import load_labelled, short_names
from zeroshot.cli.tables import print_text
from zeroshot.errors import ArtifactError, FingerprintMismatchError
from zeroshot.escaping import escaped

__all__ = ["OF_IMAGES", "add_images", "check_place_to_write"]

# What goes with --add: all else was settled when the model was fitted.
OF_IMAGES = {
    *("images", "add", "out", "backbone", "embeddings", "class_names"),
    *("batch_size", "no_cache", "on_error"),
}
SHOWN = 10  # classes of added images that are named, beside all new ones


def add_images(
    model: Path,
    images: Path,
    class_names: Path | None,
    backbone: str | None,
    embeddings: str | None,
    reading: dict[str, Any],
    out: Path,
) -> None:
    """Learn more images in a saved model, and say which."""
    from zeroshot import load

    try:
        classifier = load(model, backbone=backbone, embeddings=embeddings)
        check_place_to_write(out)
        classifier.set_params(**reading)
        paths, labels = load_labelled(images, class_names, classifier.on_error)
        known, n_before = set(classifier.seen_classes_.tolist()), classifier.n_images_
        classifier.partial_fit(paths, labels)
    except FingerprintMismatchError as error:
        if backbone is None and embeddings is None:
            raise
        raise typer.BadParameter(
            f"--add goes on with those of the model. {error}"
        ) from error
    classifier.save(out)
    new = set(classifier.seen_classes_.tolist()) - known
    names = short_names(sorted(set(labels.tolist())))
    added = [name for label, name in names.items() if label not in new]
    if len(added) > SHOWN:
        added[SHOWN:] = [f"and {len(added) - SHOWN} more"]
    added += [f"{name} (new)" for label, name in names.items() if label in new]
    told = ", ".join(map(escaped, added))
    print_text(
        f"Added {_counted(classifier.n_images_ - n_before, 'image', 'images')} of "
        f"{_counted(len(names), 'class', 'classes')}: {told}.\n"
        f"The model knows {classifier.n_images_} images of "
        f"{len(classifier.seen_classes_)} classes now. Settings that were found on "
        f"folds of its first classes did not change: fit anew to find them anew.\n"
        f"Saved: {escaped(out)}"
    )


def _counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def check_place_to_write(out: Path) -> None:
    """Refuse, before any work, a place where no model can be written."""
    from zeroshot.saving.bundle import check_place

    check_place(out)
    parent = next(p for p in out.absolute().parents if os.path.lexists(p))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ArtifactError(
            f"Expected a place to write the model to. Got '{out}', and '{parent}' is "
            f"{'not writable' if parent.is_dir() else 'no folder'}. Choose another "
            f"--out."
        )
