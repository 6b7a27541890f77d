"""The command that shows how labels become vectors."""

import os
from pathlib import Path
from typing import Annotated

import typer

from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.options import Embeddings, Format, LabelsFile, OutputFormat
from zeroshot.cli.tables import print_csv, print_json, print_text

__all__ = ["COMMANDS"]


def _check(
    embeddings: Embeddings,
    labels: Annotated[
        list[str] | None,
        typer.Argument(
            help="Labels to look up, one each or one list (as --labels of 'zeroshot "
            "predict'), or one file of labels (as --labels-file).",
            show_default=False,
        ),
    ] = None,
    labels_file: LabelsFile = None,
    output: OutputFormat = Format.table,
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
    content = report.to_dict()
    if output is Format.json:
        print_json(content)
    elif output is Format.csv:
        entries = [
            {
                **entry,
                "words": " ".join(entry["words"]),
                "missing": " ".join(entry["missing"]),
            }
            for entry in content["entries"]
        ]
        print_csv(list(entries[0]), entries)
    else:
        print_text(report)


COMMANDS = ((_check, "zeroshot labels check labels.txt --embeddings glove.6B.300d"),)
"""The commands (named after the functions), each with an example."""
