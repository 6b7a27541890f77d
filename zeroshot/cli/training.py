"""The commands that train models: demo, fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.adding import OF_IMAGES, add_images, check_place_to_write
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.label_lists import (
    classes_to_learn_from,
    find_classes,
    left_out_line,
    load_labelled,
    plain_labels,
    short_names,
    with_vector,
)
from zeroshot.cli.serving import serve_app
from zeroshot.cli.tables import print_text
from zeroshot.defaults import BACKBONE, EMBEDDINGS
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier

__all__ = ["COMMANDS"]

PICTURE = typer.Option("--out", "-o", help="Where to write the picture (PNG).")
OUT = options.option(
    "--out -o MODEL",
    "Folder to write the model to; an older model there is replaced. With --add the "
    "default is the model's own.",
)
UI = options.option(
    "--ui",
    "Open the page of 'zeroshot serve' on them in a browser instead: no picture is "
    "written. Needs the extra serve. Ctrl-C ends it.",
)
ADD = options.option(
    "--add MODEL",
    "Add the images to this saved model: more of the classes that it knows, or of new "
    "ones; one image of a class will do. Backbone, embeddings and settings are the "
    "model's.",
)
IMAGES = options.argument(
    "Labelled images: a folder with one sub-folder per class, or a .csv with the "
    "columns path and label (relative paths are relative to the file), or a file that "
    "'zeroshot embed' wrote. Not with --pretrained.",
)
PRETRAINED = options.option(
    "--pretrained",
    "Train on no images: the classes that the backbone was trained on, usually the "
    "1000 of ImageNet, are the seen ones.",
)
HOLD_OUT = options.option(
    "--hold-out SHARE",
    "Share of the classes, chosen by --seed, that is left out of training and so "
    "really unseen. 0: train on all.",
    min=0,
    max=1,
    show_default=True,
)
UNSEEN_LABELS = options.option(
    "--unseen-labels LABELS",
    "Classes to leave out of training, by name, separated by commas (or semicolons). "
    "Instead of --hold-out.",
)
FINE_TUNE = options.option(
    "--fine-tune auto|NUMBER|LAYER",
    "After the map, train the backbone's last layers too (networks of Keras, "
    "projection devise): auto, how many layers, or the name of the first. Kept only if "
    "it helps seen classes that are held out.",
    callback=options.layers_to_tune,
)
VOCABULARY = options.option(
    "--vocabulary FILE",
    "Labels, in a file as --labels-file of 'zeroshot predict', whose vectors are kept "
    "in the model. It then needs no vector file, and knows these and the seen labels "
    "only.",
)


def _demo(
    out: Annotated[Path, PICTURE] = Path("demo-sheet.png"),
    seed: Annotated[int, options.SEED] = 0,
    ui: Annotated[bool, UI] = False,
) -> None:
    """See the main job done on drawn shapes, offline, in less than a minute.

    Draws images of coloured shapes, trains on 48 of the 64 combinations of colour and
    shape, names images of the 16 others, and writes a picture of the result. Needs no
    download.
    """
    print_text("Drawing shapes and training ...", err=True)
    from zeroshot.cli.demo import run_demo, show_demo

    if ui:
        show_demo(lambda app: serve_app(app, port=0, opened=True), seed)
        return

    print_text(run_demo(out, seed))
    print_text(
        "\nNext, with your own photographs (fetches network and word vectors once):\n"
        '  zeroshot predict photo.jpg --labels "okapi,zebra,horse"\n'
        "and with labelled ones, one sub-folder per class:\n"
        "  zeroshot fit photos/ --out model/"
    )


def _fit(
    context: typer.Context,
    images: Annotated[Path | None, IMAGES] = None,
    backbone: Annotated[str, options.BACKBONE] = BACKBONE,
    embeddings: Annotated[str | None, options.EMBEDDINGS] = None,
    template: Annotated[list[str] | None, options.TEMPLATE] = None,
    out: Annotated[Path | None, OUT] = None,
    add: Annotated[Path | None, ADD] = None,
    projection: Annotated[str, options.PROJECTION] = "auto",
    pretrained_classes: Annotated[str, options.PRETRAINED_CLASSES] = "auto",
    pretrained: Annotated[bool, PRETRAINED] = False,
    seen_penalty: Annotated[str | None, options.SEEN_PENALTY] = None,
    temperature: Annotated[str | None, options.TEMPERATURE] = None,
    reject: Annotated[str | None, options.REJECT] = None,
    class_names: Annotated[Path | None, options.CLASS_NAMES] = None,
    hold_out: Annotated[float, HOLD_OUT] = 0.0,
    unseen_labels: Annotated[str | None, UNSEEN_LABELS] = None,
    fine_tune: Annotated[str | None, FINE_TUNE] = None,
    skip_unknown: Annotated[bool, options.SKIP_UNKNOWN] = False,
    vocabulary: Annotated[Path | None, VOCABULARY] = None,
    seed: Annotated[int, options.SEED] = 0,
    batch_size: Annotated[int, options.BATCH_SIZE] = 32,
    no_cache: Annotated[bool, options.NO_CACHE] = False,
    on_error: Annotated[options.OnError, options.ON_ERROR] = options.OnError.raise_,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Train a model on labelled images and save it as a folder.

    Or add images to a saved model: 'zeroshot fit --add model/ photos/'. The default
    backbone and vectors are fetched on first use (hundreds of MB). Labels are looked up
    first: unknown ones are named before any image is read. Features of images are
    cached, so a second run with other embeddings or another projection is fast.
    """
    given = options.given(context)
    reading: dict[str, Any] = {
        "batch_size": batch_size,
        "cache": not no_cache,
        "on_error": on_error.value,
    }
    if add is not None:
        for name in sorted(given - OF_IMAGES):
            flag = options.flag_of(name)
            raise typer.BadParameter(f"{flag} cannot go with --add: it adds images.")
        if images is None:
            raise typer.BadParameter("Give the images to add to the model.")
        asked = {k: v for k, v in reading.items() if {k, f"no_{k}"} & given}
        named = backbone if "backbone" in given else None
        add_images(add, images, class_names, named, embeddings, asked, out or add)
        return
    if out is None:
        raise typer.BadParameter("Give --out, the folder of the new model; or --add.")
    if hold_out and unseen_labels is not None:
        raise typer.BadParameter("Give --hold-out or --unseen-labels, not both.")
    if (images is None) is not pretrained:
        raise typer.BadParameter("Give images to train on, or --pretrained.")
    settings = options.score_settings(seen_penalty, temperature, reject)
    if pretrained:
        _check_without_images(given, settings, pretrained_classes)
    check_place_to_write(out)

    from zeroshot import ZeroShotClassifier, registry
    from zeroshot.labels import embed_labels, with_templates

    classes = classes_to_learn_from(pretrained_classes)
    confirm_downloads(registry.missing_files(backbone, embeddings), yes=yes)
    network, provider = registry.resolve_pair(backbone, embeddings)
    is_pair = embeddings is None and registry.joint_model(network, provider) is not None
    vectors = backbone if is_pair else embeddings or EMBEDDINGS
    templates = options.templates_of(template)
    labels_from = with_templates(provider, templates)
    words = None if vocabulary is None else plain_labels(vocabulary)
    if words is not None:
        # Unknown ones are errors now, not after training.
        embed_labels(words, labels_from)
    classifier = ZeroShotClassifier(
        network,
        provider,
        projection=projection,
        pretrained_classes=classes,
        templates=templates,
        **settings,
        **reading,
        fine_tune=fine_tune,
        random_state=seed,
    )
    if images is None:
        classifier.fit_pretrained()
        classifier.save(out, vocabulary=words)
        print_text(
            f"Trained {_name_of(classifier)} on no image, but on the "
            f"{len(classifier.classes_)} classes that {backbone} was trained on and "
            f"{vectors} has vectors for."
            f"\nSaved: {escaped(out)}"
        )
        return
    paths, labels = load_labelled(images, class_names, on_error.value)
    left_out: list[str] = []
    if skip_unknown:
        paths, labels, left_out = with_vector(paths, labels, labels_from)
    unseen: list[str] = []

    import numpy as np

    from zeroshot.features.file import take
    from zeroshot.splits import hold_out_classes

    if hold_out:
        unseen = hold_out_classes(labels, hold_out, seed)[1].tolist()
    elif unseen_labels is not None:
        unseen = find_classes(plain_labels(unseen_labels), np.unique(labels).tolist())
    train = np.flatnonzero(~np.isin(labels, unseen))
    with _told_about_classes() as told:
        classifier.fit(take(paths, train), labels[train])
    classifier.save(out, vocabulary=words)
    if classifier.fine_tuning_ is not None and classifier.fine_tuning_.used:
        print_text(classifier.fine_tuning_)  # else a warning has said it
    report = classifier.label_report_
    complete = round(report.coverage * len(report.entries))
    print_text(
        f"Trained {_name_of(classifier)} on {classifier.n_images_} images of "
        f"{len(classifier.classes_)} classes: {backbone} features, {vectors} "
        f"vectors ({complete} labels with no word left out)."
    )
    for line in _about_classes(classifier, backbone, told):
        print_text(line)
    if found := classifier.calibration_:
        print_text(
            f"On {found.n_folds} folds of these classes: seen penalty "
            f"{found.seen_penalty:.3g} (H {found.h:.2f}, without it "
            f"{found.h_without:.2f}), temperature {found.temperature:.3g}, best "
            f"false-accept rate {found.false_accept_rate:.2f} (AUROC "
            f"{found.auroc:.2f})."
        )
    if unseen:
        names, held_out = short_names(np.unique(labels).tolist()), set(unseen)
        shown = [name for label, name in names.items() if label in held_out]
        print_text(f"Held out, {len(unseen)} classes: {', '.join(map(escaped, shown))}")
    if left_out:
        print_text(left_out_line(left_out))
    print_text(f"Saved: {escaped(out)}")


def _check_without_images(
    given: set[str], settings: dict[str, Any], pretrained_classes: str
) -> None:
    """Refuse what takes images."""
    of_images = {"hold_out", "unseen_labels", "fine_tune", "class_names"}
    of_images |= {"skip_unknown"}
    wrong = [options.flag_of(name) for name in sorted(given & of_images)]
    wrong += [
        f"{options.flag_of(name)} auto"
        for name, value in settings.items()
        if "auto" in str(value)
    ]
    if pretrained_classes == "none":
        wrong.append("--pretrained-classes none")
    if wrong:
        raise typer.BadParameter(f"{wrong[0]} cannot go with --pretrained.")


@contextmanager
def _told_about_classes() -> Iterator[list[str]]:
    """Collect what is logged about the backbone's own classes."""
    import logging

    told: list[str] = []
    logger = logging.getLogger("zeroshot")
    level, in_effect = logger.level, logger.getEffectiveLevel()

    def take(record: logging.LogRecord) -> bool:
        if record.module == "pretrained":
            told.append(record.getMessage())
        return record.levelno >= in_effect  # TensorFlow's handlers would print it

    logger.addFilter(take)
    logger.setLevel(logging.INFO)
    try:
        yield told
    finally:
        logger.removeFilter(take)
        logger.setLevel(level)


def _name_of(classifier: "ZeroShotClassifier") -> str:
    """Return the registered name of what was trained."""
    from zeroshot import registry

    kind = type(classifier.projection_)
    return registry.name_of("projections", kind) or kind.__name__


def _about_classes(
    classifier: "ZeroShotClassifier", backbone: str, told: list[str]
) -> list[str]:
    """Say whether the backbone's own classes took part, unless a warning has."""
    from zeroshot.projections.base import learns_from_pretrained

    is_joint = getattr(classifier.projection_, "one_space", False)
    if classifier.pretrained_classes is None or is_joint:
        return []
    if found := classifier.pretrained_:
        more = f", {found.n_left_out} more have no vector" if found.n_left_out else ""
        n = len(found.names)
        return [f"And on {n} classes that {backbone} was trained on{more}."]
    if not learns_from_pretrained(classifier.projection_):
        name = _name_of(classifier)
        return [f"{name} learns nothing from classes of {backbone}'s own."]
    return told[-1:]


COMMANDS = (
    (_demo, "zeroshot demo --out /tmp/sheet.png"),
    (
        _fit,
        "zeroshot fit photos/ --hold-out 0.2 --out model/",
    ),
)
