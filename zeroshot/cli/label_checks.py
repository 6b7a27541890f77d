"""The command that shows how labels become vectors."""

import os
from pathlib import Path
from typing import Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.tables import print_report

__all__ = ["COMMANDS"]

LABELS = options.argument(
    "Labels to look up, one each or one list (as --labels of 'zeroshot predict'), or "
    "one file of labels (as --labels-file).",
)


def _check(
    embeddings: Annotated[str, options.EMBEDDINGS],
    labels: Annotated[list[str] | None, LABELS] = None,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
) -> None:
    """Show how labels become vectors: which words are used and which are left out.

    Names same vectors, near synonyms (cosine 0.8 and more) and hubs, which images of
    other classes are mistaken for. Exit code 1 if some labels have no vector; all of
    them are named, with near spellings.
    """
    labels = labels or []
    if labels_file is None and len(labels) == 1 and os.path.isfile(labels[0]):
        labels, labels_file = [], Path(labels[0])
    candidates = given_labels(labels, labels_file)
    if candidates is None:
        raise typer.BadParameter("Give labels, or --labels-file.")

    from zeroshot import registry
    from zeroshot.labels.cascade import embed_labels

    _, report = embed_labels(candidates, registry.resolve_embeddings(embeddings))
    print_report(report, report.to_dict()["entries"], output)


COMMANDS = ((_check, "zeroshot labels check labels.txt --embeddings glove.6B.300d"),)
