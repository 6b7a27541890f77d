"""Arguments and options that several commands share, and what they stand for."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from zeroshot.registry import Kind

__all__ = [
    "Backbone",
    "BatchSize",
    "ClassNames",
    "Embeddings",
    "FailOnError",
    "Format",
    "LabelsFile",
    "NoCache",
    "OnError",
    "OptionalBackbone",
    "OptionalEmbeddings",
    "OutputFormat",
    "Pretrained",
    "Projection",
    "ReadErrors",
    "Reject",
    "Seed",
    "SeenPenalty",
    "SkipUnknown",
    "Temperature",
    "argument",
    "exit_on_errors",
    "layers_to_tune",
    "names_of",
    "option",
    "score_settings",
]

LARGEST_SEED = 2**31 - 1
SOME_UNREADABLE = 3  # exit code: all was done but for images that cannot be read


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class Pretrained(StrEnum):
    """How to use the classifier that a backbone was trained with."""

    conse = "conse"
    prototypes = "prototypes"


class OnError(StrEnum):
    """What to do about an image that cannot be read."""

    raise_ = "raise"
    skip = "skip"
    nan = "nan"


def names_of(kind: "Kind") -> Callable[[], list[str]]:
    """Return the completion of registered names; the registry is imported late."""

    def complete() -> list[str]:
        from zeroshot.registry import names

        return names(kind)

    return complete


def argument(**settings: Any) -> Any:
    """Return an argument whose default, none, is not shown."""
    return typer.Argument(**settings, show_default=False)


def option(names: str, told: str, **settings: Any) -> Any:
    """Return an option of ``"--long -s METAVAR"`` whose default, none, is not shown."""
    flags = [name for name in names.split() if name.startswith("-")]
    metavar = names.split()[-1] if len(flags) < len(names.split()) else None
    return typer.Option(
        *flags, metavar=metavar, help=told, **settings, show_default=False
    )


def exit_on_errors(n_errors: int, fail_on_error: bool) -> None:
    """End the command with `SOME_UNREADABLE` where that is asked for."""
    if n_errors and fail_on_error:
        raise typer.Exit(SOME_UNREADABLE)


def layers_to_tune(text: str | None) -> int | str | None:
    """Return a number of layers as a number; a name stays as it is."""
    if text is not None and not text.strip():
        raise typer.BadParameter("Expected auto, a number or a layer. Got nothing.")
    if text is None or not text.isdecimal():
        return text
    if int(text) < 1:
        raise typer.BadParameter(f"{text} layers are none to train.")
    return int(text)


Backbone: TypeAlias = Annotated[
    str,
    option(
        "--backbone -b NAME",
        "What turns images into features: mobilenet-v2, resnet50:160 (input size "
        "in pixels), keras:/model.keras, ...; 'zeroshot backbones' lists all.",
        autocompletion=names_of("backbones"),
    ),
]
Embeddings: TypeAlias = Annotated[
    str,
    option(
        "--embeddings -e FILE|NAME",
        "Where the labels' vectors come from: a file of GloVe, word2vec or "
        "fastText vectors or of class attributes (recognised by content, compressed "
        "or not), or a name that 'zeroshot embeddings list' shows; published vectors "
        "(glove.6B.300d) are downloaded on first use.",
    ),
]
_FOR_A_MODEL = "As for 'zeroshot fit'. With a model: where its file lies elsewhere now."
OptionalBackbone: TypeAlias = Annotated[
    str | None,
    option(
        "--backbone -b NAME",
        _FOR_A_MODEL,
        autocompletion=names_of("backbones"),
    ),
]
OptionalEmbeddings: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--embeddings", "-e", metavar="FILE|NAME", help=_FOR_A_MODEL, show_default=False
    ),
]
Projection: TypeAlias = Annotated[
    str,
    typer.Option(
        "--projection",
        "-p",
        metavar="NAME",
        help="The map from features to vectors: eszsl, devise, ..., or auto, the best "
        "on folds of the classes; 'zeroshot projections' lists all.",
        autocompletion=names_of("projections"),
    ),
]
SeenPenalty: TypeAlias = Annotated[
    str | None,
    option(
        "--seen-penalty NUMBER|auto",
        "Subtracted from the scores (cosines) of labels seen in training, which "
        "otherwise beat unseen ones. auto: what is best on folds of the training "
        "classes. Default: 0; when predicting, the model's own.",
    ),
]
Temperature: TypeAlias = Annotated[
    str | None,
    option(
        "--temperature NUMBER|auto",
        "Divides the scores before they become probabilities. auto: calibrated "
        "on folds of the training classes. Default: 0.1; when predicting, the model's "
        "own.",
    ),
]
Reject: TypeAlias = Annotated[
    str | None,
    option(
        "--reject SCORE|auto|auto:RATE",
        "Answer 'unknown' where no label fits. A number: where none scores this "
        "much, a cosine in -1 to 1. auto:0.05: so often that 0.05 of the images whose "
        "label is not among those given would still be accepted, judged by folds of "
        "the training classes; auto: at the rate that was best on them. Default: "
        "never; when predicting, the model's own.",
    ),
]
ClassNames: TypeAlias = Annotated[
    Path | None,
    option(
        "--class-names FILE",
        "Labels of the sub-folders: lines of folder, tab, label (comma in a "
        ".csv). Default: the folder's name is the label.",
    ),
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of all that is random."),
]
BatchSize: TypeAlias = Annotated[
    int,
    typer.Option(
        "--batch-size", min=1, help="Images that the backbone is given at once."
    ),
]
NoCache: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Neither read nor write the cache of features (folder: environment "
        "variable ZEROSHOT_CACHE).",
    ),
]
ReadErrors: TypeAlias = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        help="An image that cannot be read: stop (raise), leave it out (skip), or keep "
        "its place (nan): a row of NaN with the reason in a file, 'unknown' with the "
        "reason in predictions, a wrong answer in an evaluation; never in training.",
    ),
]
FailOnError: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--fail-on-error",
        help="Exit code 3 where images could not be read, after all else was done. "
        "Otherwise it is 0 unless --on-error is raise.",
    ),
]
SkipUnknown: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--skip-unknown",
        help="Leave out classes that have no word vector, and say which, instead of "
        "stopping.",
    ),
]
LabelsFile: TypeAlias = Annotated[
    Path | None,
    option(
        "--labels-file FILE",
        "Labels, one per line; other names after a tab or a colon and a space, "
        "separated by commas ('okapi: forest giraffe'). Lines beginning with # are "
        "left out. Or JSON: a list, or labels with lists of other names; or a .csv "
        "with a column label.",
    ),
]
OutputFormat: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format", "-f", help="A table for people; json or csv for programs."
    ),
]


def score_settings(
    seen_penalty: str | None, temperature: str | None, reject: str | None
) -> dict[str, Any]:
    """Return what was given, as parameters of the classifier: numbers, or words."""
    settings: dict[str, Any] = {}
    for name, text, lowest, highest in (
        ("seen_penalty", seen_penalty, -2.0, 2.0),
        ("temperature", temperature, 1e-9, 1e9),
        ("reject", reject, -1.0, 1.0),
    ):
        if text is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if text == "auto" or (name == "reject" and text.startswith("auto:")):
            settings[name] = _checked(option, text) if name == "reject" else text
            continue
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not lowest <= number <= highest:
            raise typer.BadParameter(
                f"{option}: expected a number from {lowest:g} to {highest:g}, or auto. "
                f"Got {text!r}."
            )
        settings[name] = number
    return settings


def _checked(option: str, text: str) -> str:
    from zeroshot.scoring.settings import false_accept_rate

    if false_accept_rate(text) is None:
        raise typer.BadParameter(
            f"{option}: expected a number from -1 to 1, auto, or auto:<false-accept "
            f"rate in (0, 1)>. Got {text!r}."
        )
    return text
