"""The command that uses a model: predict."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli.label_lists import given_labels, split_labels
from zeroshot.cli.options import (
    BatchSize,
    FailOnError,
    Format,
    LabelsFile,
    NoCache,
    OnError,
    OutputFormat,
    exit_on_errors,
    finite,
    names_of,
)
from zeroshot.cli.tables import print_csv, print_json, print_table
from zeroshot.errors import ArtifactError

if TYPE_CHECKING:
    from zeroshot.classifier import RankedLabel
    from zeroshot.feature_file import FeatureFile

__all__ = ["COMMANDS"]

COLUMNS = (
    "image",
    "prediction",
    "rank",
    "label",
    "score",
    "probability",
    "seen",
    "rejected",
    "error",
)


def _predict(
    model: Annotated[
        Path,
        typer.Argument(help="Folder that 'zeroshot fit' wrote.", show_default=False),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (all images below), .csv files with a column "
            "path, or one file that 'zeroshot embed' wrote.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            metavar="LABELS",
            help="Labels to choose from, separated by commas; any label that the "
            "embeddings know. Default: the labels seen in training.",
            show_default=False,
        ),
    ] = None,
    labels_file: LabelsFile = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, help="Labels shown per image.")
    ] = 5,
    seen_penalty: Annotated[
        float | None,
        typer.Option(
            "--seen-penalty",
            metavar="NUMBER",
            help="Subtracted from the scores (cosines) of labels seen in training, "
            "which otherwise beat unseen ones; try 0.1. Default: the model's own.",
            callback=finite,
            show_default=False,
        ),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(
            "--reject",
            min=-1,
            max=1,
            metavar="SCORE",
            help="Answer 'unknown' where no label scores this much, a cosine in -1 to "
            "1. Default: the model's own.",
            callback=finite,
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.table,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            "-e",
            metavar="FILE|NAME",
            help="The vectors of training, where their file lies elsewhere now.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            metavar="NAME",
            help="The backbone of training, where its file lies elsewhere now.",
            autocompletion=names_of("backbones"),
            show_default=False,
        ),
    ] = None,
    batch_size: BatchSize = 32,
    no_cache: NoCache = False,
    on_error: Annotated[
        OnError,
        typer.Option(
            "--on-error",
            help="An image that cannot be read: stop (raise), leave it out (skip), or "
            "answer 'unknown' with the reason in the column error (nan).",
        ),
    ] = OnError.raise_,
    fail_on_error: FailOnError = False,
) -> None:
    """Name images, with labels that need not have been in training.

    Prints the best labels with score (cosine in -1 to 1), probability among the labels
    given (not calibrated: compare, do not trust) and whether training saw the label.
    """
    candidates = given_labels(
        [] if labels is None else split_labels(labels), labels_file
    )

    from zeroshot import load

    classifier = load(model, backbone=backbone, embeddings=embeddings)
    classifier.set_params(
        batch_size=batch_size, cache=not no_cache, on_error=on_error.value
    )
    if seen_penalty is not None:
        classifier.set_params(seen_penalty=seen_penalty)
    if reject is not None:
        classifier.set_params(reject=reject)
    sources, names = _opened(images)
    ranked = classifier.rank(sources, candidates, k=top_k)
    errors = classifier.image_errors_
    results = [
        _result(names[i], best, classifier.unknown_label, errors.get(i))
        for i, best in zip(classifier.image_positions_.tolist(), ranked, strict=True)
    ]
    _print_predictions(results, output)
    exit_on_errors(len(errors), fail_on_error)


def _opened(images: list[str]) -> "tuple[FeatureFile | list[str], list[str]]":
    """Return what to predict, and what to call each row."""
    from zeroshot.feature_file import FeatureFile, open_if_features
    from zeroshot.images import as_image_list

    opened = [open_if_features(given) for given in images]
    files = [file for file in opened if isinstance(file, FeatureFile)]
    if not files:
        sources = [str(image) for given in images for image in as_image_list(given)]
        return sources, sources
    if len(images) > 1:
        raise ArtifactError(
            f"Expected images, or one file of features. Got '{files[0].path}' beside "
            f"others. Predict them one after the other."
        )
    return files[0], files[0].paths or [f"row {i}" for i in range(len(files[0]))]


def _result(
    image: str,
    ranked: "Sequence[RankedLabel]",
    unknown_label: Hashable,
    error: str | None,
) -> dict[str, Any]:
    known = bool(ranked) and not ranked[0].rejected
    return {
        "image": image,
        "prediction": ranked[0].label if known else unknown_label,
        "ranked": [label._asdict() for label in ranked],
        "error": error,
    }


def _print_predictions(results: Sequence[dict[str, Any]], output: Format) -> None:
    if output is Format.json:
        print_json(results)
        return
    if output is Format.csv:
        print_csv(COLUMNS, [row for result in results for row in _csv_rows(result)])
        return
    columns = ["image", "label", "probability", "score", "seen"]
    if any(result["error"] for result in results):  # mostly: no column for nothing
        columns.append("error")
    rows: list[list[str]] = []
    for result in results:
        image, error = result["image"], result["error"] or ""
        if result["prediction"] not in [label["label"] for label in result["ranked"]]:
            rows.append([image, result["prediction"], "", "", "", error])
            image = ""
        for label in result["ranked"]:
            seen = "yes" if label["seen"] else "no"
            numbers = (f"{label[key]:.3f}" for key in ("probability", "score"))
            rows.append([image, label["label"], *numbers, seen, ""])
            image = ""
    print_table(
        columns,
        [row[: len(columns)] for row in rows],
        numbers=("probability", "score"),
    )


def _csv_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    whole = {key: result[key] for key in ("image", "prediction", "error")}
    ranked = [
        {"rank": rank, **label} for rank, label in enumerate(result["ranked"], start=1)
    ]
    return [whole | label for label in ranked or [{}]]


COMMANDS = (
    (_predict, 'zeroshot predict model/ photo.jpg --labels "okapi,zebra,horse"'),
)
"""The command (named after the function), with an example."""
