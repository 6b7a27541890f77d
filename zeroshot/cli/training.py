"""The commands that train models: demo, fit, evaluate."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from warnings import warn

import typer

from zeroshot.cli.label_lists import (
    find_classes,
    read_labels,
    short_names,
    split_labels,
)
from zeroshot.cli.options import (
    Backbone,
    BatchSize,
    ClassNames,
    Embeddings,
    Format,
    ImagesAndLabels,
    NoCache,
    OnError,
    OutputFormat,
    Projection,
    Seed,
    SkipUnknown,
    names_of,
)
from zeroshot.cli.tables import print_csv, print_json
from zeroshot.errors import (
    ArtifactError,
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zeroshot.embeddings.base import TextEmbeddings

__all__ = ["COMMANDS"]


def _demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write the picture (PNG).")
    ] = Path("demo-sheet.png"),
    seed: Seed = 0,
) -> None:
    """See the main job done on drawn shapes, offline, in less than a minute.

    Draws images of coloured shapes, trains on 48 of the 64 combinations of colour and
    shape, names images of the 16 others, and writes a picture of the result. Needs no
    download.
    """
    typer.echo("Drawing shapes and training (loads TensorFlow) ...", err=True)
    from zeroshot.demo import run_demo

    typer.echo(str(run_demo(out, seed)))
    typer.echo(
        "\nNext, with your own images (one sub-folder per class) and word vectors:\n"
        "  zeroshot fit photos/ --backbone mobilenet-v2 --embeddings glove.6B.300d "
        "--out model/\n"
        '  zeroshot predict model/ photo.jpg --labels "okapi,zebra,horse"'
    )


def _fit(
    images: ImagesAndLabels,
    backbone: Backbone,
    embeddings: Embeddings,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="MODEL",
            help="Folder to write the model to; an older model there is replaced.",
            show_default=False,
        ),
    ],
    projection: Projection = "devise",
    class_names: ClassNames = None,
    hold_out: Annotated[
        float,
        typer.Option(
            "--hold-out",
            min=0,
            max=1,
            metavar="SHARE",
            help="Share of the classes, chosen by --seed, that is left out of "
            "training and so really unseen. 0: train on all.",
        ),
    ] = 0.0,
    unseen_labels: Annotated[
        str | None,
        typer.Option(
            "--unseen-labels",
            metavar="LABELS",
            help="Classes to leave out of training, by name, separated by commas. "
            "Instead of --hold-out.",
            show_default=False,
        ),
    ] = None,
    skip_unknown: SkipUnknown = False,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--vocabulary",
            metavar="FILE",
            help="Labels, one per line, whose vectors are kept in the model. It then "
            "needs no vector file, and knows these and the seen labels only.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    no_cache: NoCache = False,
    on_error: Annotated[
        OnError,
        typer.Option(
            "--on-error",
            help="An image that cannot be read: stop (raise), or leave it out and name "
            "it (skip, nan).",
        ),
    ] = OnError.raise_,
) -> None:
    """Train a model on labelled images and save it as a folder.

    Labels are looked up first: unknown ones are named before any image is read.
    Features of images are cached, so a second run with other embeddings or another
    projection is fast.
    """
    if hold_out and unseen_labels is not None:
        raise typer.BadParameter("Give --hold-out or --unseen-labels, not both.")
    _check_place(out)

    import numpy as np

    from zeroshot import ZeroShotClassifier, registry
    from zeroshot.datasets import load_images
    from zeroshot.labels import embed_labels
    from zeroshot.splits import hold_out_classes

    paths, labels = load_images(images, class_names)
    provider = registry.resolve_embeddings(embeddings)
    left_out: list[str] = []
    if skip_unknown:
        paths, labels, left_out = _with_vector(paths, labels, provider)
    unseen: Sequence[str] = []
    if hold_out:
        unseen = hold_out_classes(labels, hold_out, seed)[1].tolist()
    elif unseen_labels is not None:
        classes = np.unique(labels).tolist()
        unseen = find_classes(split_labels(unseen_labels), classes)
    train = np.flatnonzero(~np.isin(labels, unseen))
    words = _vocabulary(vocabulary)
    if words is not None:
        embed_labels(words, provider)  # unknown ones are errors now, not after training
    classifier = ZeroShotClassifier(
        backbone,
        provider,
        projection=projection,
        batch_size=batch_size,
        cache=not no_cache,
        on_error=on_error.value,
        random_state=seed,
    )
    classifier.fit([paths[i] for i in train], labels[train])
    classifier.save(out, vocabulary=words)
    report = classifier.label_report_
    complete = round(report.coverage * len(report.entries))
    typer.echo(
        f"Trained {projection} on {classifier.n_images_} images of "
        f"{len(classifier.classes_)} classes: {backbone} features, {embeddings} "
        f"vectors ({complete} labels with no word left out)."
    )
    if len(unseen):
        names = [name for name in short_names(np.unique(labels).tolist()).items()]
        typer.echo(
            f"Held out, {len(unseen)} classes: "
            f"{', '.join(name for label, name in names if label in set(unseen))}"
        )
    if left_out:
        typer.echo(_left_out(left_out))
    typer.echo(f"Saved: {out}")


def _evaluate(
    images: ImagesAndLabels,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            metavar="NAME",
            help="As for 'zeroshot fit'. Needed without --model.",
            autocompletion=names_of("backbones"),
            show_default=False,
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            "-e",
            metavar="FILE|NAME",
            help="As for 'zeroshot fit'. Needed without --model.",
            show_default=False,
        ),
    ] = None,
    projection: Projection = "devise",
    splits: Annotated[
        int,
        typer.Option("--splits", min=1, help="Splits into seen and unseen classes."),
    ] = 5,
    unseen: Annotated[
        float,
        typer.Option(
            "--unseen",
            min=0,
            max=1,
            metavar="SHARE",
            help="Share of the classes held out in each split, above 0.",
        ),
    ] = 0.2,
    skip_unknown: SkipUnknown = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Evaluate this saved model instead of training new ones; classes that "
            "it was not trained on are the unseen ones. Images that it was trained on "
            "make the figures for seen classes worthless.",
            show_default=False,
        ),
    ] = None,
    class_names: ClassNames = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    no_cache: NoCache = False,
    output: OutputFormat = Format.table,
) -> None:
    """Measure how well a backbone and embeddings do on classes not trained on.

    Holds classes out, trains on the others, and tests on both, several times. Prints
    mean per-class accuracies: among the unseen classes alone (ZSL), and among all
    classes (GZSL) with the harmonic mean H; beside ridge regression, random vectors for
    the labels, and chance.
    """
    from zeroshot import load
    from zeroshot.datasets import load_images
    from zeroshot.evaluation import evaluate, evaluate_model

    if model is not None:
        paths, labels = load_images(images, class_names)
        classifier = load(model, backbone=backbone, embeddings=embeddings)
        classifier.set_params(batch_size=batch_size, cache=not no_cache)
        if skip_unknown:
            paths, labels, left_out = _with_vector(
                paths, labels, classifier.embeddings_
            )
            if left_out:
                warn(_left_out(left_out), PartialCoverageWarning, stacklevel=2)
        evaluation = evaluate_model(classifier, paths, labels)
    elif backbone is not None and embeddings is not None:
        paths, labels = load_images(images, class_names)
        evaluation = evaluate(
            paths,
            labels,
            backbone,
            embeddings,
            projection=projection,
            n_splits=splits,
            unseen=unseen,
            random_state=seed,
            on_unknown="skip" if skip_unknown else "raise",
            batch_size=batch_size,
            cache=not no_cache,
        )
    else:
        raise typer.BadParameter("Give --backbone and --embeddings, or --model.")
    if output is Format.json:
        print_json(evaluation.to_dict())
    elif output is Format.csv:
        print_csv(list(evaluation.rows[0]), evaluation.rows)
    else:
        typer.echo(str(evaluation))


def _check_place(out: Path) -> None:
    """Refuse, before any work, a place where no model can be written."""
    from zeroshot.bundle import check_place

    check_place(out)
    parent = next(p for p in out.absolute().parents if os.path.lexists(p))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ArtifactError(
            f"Expected a place to write the model to. Got '{out}', and '{parent}' is "
            f"{'not writable' if parent.is_dir() else 'no folder'}. Choose another "
            f"--out."
        )


def _with_vector(
    paths: list[str], labels: "NDArray[np.str_]", embeddings: "TextEmbeddings"
) -> "tuple[list[str], NDArray[np.str_], list[str]]":
    """Return the images whose label has a vector, their labels, and the others."""
    import numpy as np

    from zeroshot.labels import embed_labels

    try:
        embed_labels(np.unique(labels).tolist(), embeddings)
    except OutOfVocabularyError as error:
        kept = np.flatnonzero(~np.isin(labels, error.labels))
        return [paths[i] for i in kept], labels[kept], error.labels
    return paths, labels, []


def _left_out(labels: Sequence[str]) -> str:
    return f"Left out, without a word vector: {'; '.join(labels)}"


def _vocabulary(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    labels = read_labels(file)
    if with_aliases := [label for label, aliases in labels.items() if aliases]:
        raise LabelError(
            f"Expected a vocabulary of labels without other names. Got other names for "
            f"{with_aliases[0]!r} in '{file}'. Give each name a line of its own."
        )
    return list(labels)


COMMANDS = (
    (_demo, "zeroshot demo --out /tmp/sheet.png"),
    (
        _fit,
        "zeroshot fit photos/ --backbone mobilenet-v2 --embeddings glove.6B.300d.txt "
        "--hold-out 0.2 --out model/",
    ),
    (
        _evaluate,
        "zeroshot evaluate photos/ --backbone mobilenet-v2 --embeddings "
        "glove.6B.300d.txt --splits 5",
    ),
)
"""The commands (named after the functions), each with an example."""
