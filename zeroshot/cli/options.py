"""Arguments and options that several commands share, and what they stand for.

All that has no underscore is for the commands.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from zeroshot.defaults import BACKBONE as BACKBONE_NAME
from zeroshot.defaults import EMBEDDINGS as EMBEDDINGS_NAME
from zeroshot.errors import ZeroShotError

if TYPE_CHECKING:
    from zeroshot.registry import Kind

LARGEST_SEED = 2**31 - 1
SOME_UNREADABLE = 3  # exit code: all was done but for images that cannot be read


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


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


def argument(told: str, **settings: Any) -> Any:
    """Return an argument whose default, none, is not shown."""
    return typer.Argument(help=told, **settings, show_default=False)


def option(names: str, told: str, **settings: Any) -> Any:
    """Return an option of ``"--long -s METAVAR"``; a default is shown if asked for."""
    flags = [name for name in names.split() if name.startswith("-")]
    metavar = names.split()[-1] if len(flags) < len(names.split()) else None
    settings.setdefault("show_default", False)
    return typer.Option(*flags, metavar=metavar, help=told, **settings)


def given(context: typer.Context) -> set[str]:
    """Return the parameters that the command line gave, however it gave them."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {n for n, source in sources.items() if source and source.name != "DEFAULT"}


def flag_of(parameter: str) -> str:
    """Return the option of a parameter: ``"--seen-penalty"``."""
    return f"--{parameter.replace('_', '-')}"


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Turn a ValueError about a parameter, in the block, into wrong usage."""
    try:
        yield
    except ZeroShotError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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
    if len(text) > 9 or int(text) < 1:
        raise typer.BadParameter(f"Expected a number of layers. Got {text}.")
    return int(text)


BACKBONE = option(
    "--backbone -b NAME",
    "What turns images into features: mobilenet-v2, resnet50:160 (input size in "
    "pixels), keras:/model.keras, ...; 'zeroshot backbones' lists all.",
    autocompletion=names_of("backbones"),
    show_default=True,
)
EMBEDDINGS = option(
    "--embeddings -e FILE|NAME",
    "Where the labels' vectors come from: a file of GloVe, word2vec or fastText "
    "vectors or of class attributes (recognised by content, compressed or not), or a "
    "name that 'zeroshot embeddings list' shows; published vectors (glove.6B.300d) are "
    f"downloaded on first use. Default: {EMBEDDINGS_NAME}.",
)
WORDS = option(
    "--embeddings -e FILE|NAME",
    "Where words and their vectors come from, as for 'zeroshot fit'.",
    show_default=True,
)
TEMPLATE = option(
    "--template TEXT|NAME",
    "For embeddings that encode phrases: a text that labels are put into, with {} for "
    "the label ('a photo of a {}.'); repeat it, and the vectors are averaged. Or a set "
    "of such: imagenet-7, imagenet-80. Default: what suits the encoder.",
)
_WITH_A_MODEL = "With a model: where its file lies elsewhere now."
BACKBONE_OF_MODEL = option(
    "--backbone -b NAME",
    f"Without a model, as for 'zeroshot fit' (default: {BACKBONE_NAME}). "
    f"{_WITH_A_MODEL}",
    autocompletion=names_of("backbones"),
)
EMBEDDINGS_OF_MODEL = option(
    "--embeddings -e FILE|NAME",
    f"Without a model, as for 'zeroshot fit' (default: {EMBEDDINGS_NAME}). "
    f"{_WITH_A_MODEL}",
)
YES = option("--yes -y", "Fetch what is missing without asking.")
PROJECTION = option(
    "--projection -p NAME",
    "The maps of images and of labels into one space: auto, which is devise, or joint "
    "for a joint model such as clip:/folder; visual, ridge, ...; 'zeroshot "
    "projections' lists all.",
    autocompletion=names_of("projections"),
    show_default=True,
)
PRETRAINED_CLASSES = option(
    "--pretrained-classes auto|none|FILE",
    "Which of the classes that the backbone was trained on are learnt from too. auto: "
    "all that have a word vector; none; or a file of their names, one a line: those "
    "alone ('cock: rooster' calls the class cock a rooster).",
    show_default=True,
)
ADAPT = option(
    "--adapt",
    "Judge all images together, those of one class by each other: more are right, but "
    "the answer for an image then depends on the other images given.",
)
SEEN_PENALTY = option(
    "--seen-penalty NUMBER|auto",
    "Subtracted from the scores (cosines) of labels seen in training, which otherwise "
    "beat unseen ones. auto: what is best on folds of the training classes. Default: "
    "0; when predicting, the model's own.",
)
TEMPERATURE = option(
    "--temperature NUMBER|auto",
    "Divides the scores before they become probabilities. auto: calibrated on folds of "
    "the training classes. Default: what suits the projection, not calibrated; when "
    "predicting, the model's own.",
)
REJECT = option(
    "--reject SCORE|auto|auto:RATE",
    "Answer 'unknown' where no label fits. A number: where none scores this much, a "
    "cosine in -1 to 1. auto:0.05: so often that 0.05 of the images whose label is not "
    "among those given would still be accepted, judged by folds of the training "
    "classes; auto: at the rate that was best on them. Default: never; when "
    "predicting, the model's own.",
)
CLASS_NAMES = option(
    "--class-names FILE",
    "Labels of the sub-folders: lines of folder, tab, label (comma in a .csv). "
    "Default: the folder's name is the label.",
)
SEED = typer.Option(
    "--seed", min=0, max=LARGEST_SEED, help="Seed of all that is random."
)
BATCH_SIZE = typer.Option(
    "--batch-size", min=1, help="Images that the backbone is given at once."
)
NO_CACHE = option(
    "--no-cache",
    "Neither read nor write the cache of features (folder: environment variable "
    "ZEROSHOT_CACHE).",
)
ON_ERROR = typer.Option(
    "--on-error",
    help="An image that cannot be read: stop (raise), leave it out (skip), or keep its "
    "place (nan): a row of NaN with the reason in a file, 'unknown' with the reason in "
    "predictions, a wrong answer in an evaluation; never in training.",
)
FAIL_ON_ERROR = option(
    "--fail-on-error",
    "Exit code 3 where images could not be read, after all else was done. Otherwise it "
    "is 0 unless --on-error is raise.",
)
SKIP_UNKNOWN = option(
    "--skip-unknown",
    "Leave out classes that have no word vector, and say which, instead of stopping.",
)
LABELS_FILE = option(
    "--labels-file FILE",
    "Labels, one per line; other names after a tab or a colon and a space, separated "
    "by commas ('okapi: forest giraffe'). Lines beginning with # are left out. Or "
    "JSON: a list, or labels with lists of other names; or a .csv with a column label.",
)
FORMAT = typer.Option(
    "--format", "-f", help="A table for people; json or csv for programs."
)


def templates_of(given: list[str] | None) -> str | list[str] | None:
    """Return what ``--template`` stands for, as the classifier takes it."""
    return given[0] if given and len(given) == 1 else given or None


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
        numbers = f"a number from {lowest:g} to {highest:g}"
        wanted = f"{numbers}, or auto"
        if name == "reject" and text.startswith("auto:"):
            from zeroshot.scoring.settings import false_accept_rate

            wanted = f"{numbers}, auto, or auto:<false-accept rate in (0, 1)>"
            is_right = false_accept_rate(text) is not None
        else:
            is_right = text == "auto" or lowest <= _number(text) <= highest
        if not is_right:
            raise typer.BadParameter(
                f"{flag_of(name)}: expected {wanted}. Got {text!r}."
            )
        settings[name] = text if text.startswith("auto") else float(text)
    return settings


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
