"""Options that say what scores mean: penalty, temperature, rejection."""

from typing import Annotated, Any, TypeAlias

import typer

__all__ = ["Reject", "SeenPenalty", "Temperature", "score_settings"]

SeenPenalty: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--seen-penalty",
        metavar="NUMBER|auto",
        help="Subtracted from the scores (cosines) of labels seen in training, which "
        "otherwise beat unseen ones. auto: what is best on folds of the training "
        "classes. Default: 0; when predicting, the model's own.",
        show_default=False,
    ),
]
Temperature: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--temperature",
        metavar="NUMBER|auto",
        help="Divides the scores before they become probabilities. auto: calibrated "
        "on folds of the training classes. Default: 0.1; when predicting, the model's "
        "own.",
        show_default=False,
    ),
]
Reject: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reject",
        metavar="SCORE|auto|auto:RATE",
        help="Answer 'unknown' where no label fits. A number: where none scores this "
        "much, a cosine in -1 to 1. auto:0.05: so often that 0.05 of the images whose "
        "label is not among those given would still be accepted, judged by folds of "
        "the training classes; auto: at the rate that was best on them. Default: "
        "never; when predicting, the model's own.",
        show_default=False,
    ),
]


def score_settings(
    seen_penalty: str | None, temperature: str | None, reject: str | None
) -> dict[str, Any]:
    """Return what was given, as parameters of the classifier.

    Parameters
    ----------
    seen_penalty, temperature, reject : str or None
        As typed; None where an option was not given.

    Returns
    -------
    settings : dict
        A number or a word for each that was given.

    Raises
    ------
    typer.BadParameter
        If one is neither a number in its range nor "auto".
    """
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
