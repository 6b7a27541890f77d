"""The command that computes features and keeps them in a file: embed."""

from pathlib import Path
from typing import Annotated

from zeroshot.cli import options
from zeroshot.cli.tables import print_text

__all__ = ["COMMANDS"]


def _embed(
    images: Annotated[
        Path,
        options.argument(
            help="A folder (all images below), a .csv with a column path, or an image. "
            "Sub-folders, or a column label, are the labels.",
        ),
    ],
    backbone: options.Backbone,
    out: Annotated[
        Path,
        options.option(
            "--out -o FILE",
            "File to write: .npz, or .parquet (which needs pyarrow).",
        ),
    ],
    class_names: options.ClassNames = None,
    batch_size: options.BatchSize = 32,
    no_cache: options.NoCache = False,
    on_error: options.ReadErrors = options.OnError.raise_,
    fail_on_error: options.FailOnError = False,
) -> None:
    """Compute the features of images and write them to a file.

    'fit', 'predict' and 'evaluate' take the file in place of images, for the same
    backbone; they need neither the images nor TensorFlow then.
    """
    from zeroshot.cli.labelled import load_if_labelled
    from zeroshot.features.export import export_features

    sources, labels = load_if_labelled(images, class_names, on_error.value)
    exported = export_features(
        sources,
        backbone,
        out,
        labels=labels,
        batch_size=batch_size,
        cache=not no_cache,
        on_error=on_error.value,
    )
    print_text(
        f"Saved: {out} ({exported.n_rows} rows of {exported.dim} numbers, "
        f"{'no' if labels is None else 'with'} labels)"
    )
    options.exit_on_errors(len(exported.errors), fail_on_error)


COMMANDS = (
    (_embed, "zeroshot embed photos/ --backbone mobilenet-v2 --out photos.npz"),
)
"""The command (named after the function), with an example."""
