"""The commands that look things up: labels, backbones, embeddings, projections."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.options import (
    Embeddings,
    Format,
    LabelsFile,
    OutputFormat,
    names_of,
)
from zeroshot.cli.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from zeroshot.registry import Kind

__all__ = ["COMMANDS"]

FIRST_WORDS = 8


def _labels(
    embeddings: Embeddings,
    labels: Annotated[
        list[str] | None,
        typer.Argument(help="Labels to look up.", show_default=False),
    ] = None,
    labels_file: LabelsFile = None,
    output: OutputFormat = Format.table,
) -> None:
    """Show how labels become vectors: which words are used and which are left out.

    Names same vectors, near synonyms (cosine 0.8 and more) and hubs, which images of
    other classes are mistaken for. Exit code 1 if some labels have no vector; all of
    them are named, with near spellings.
    """
    candidates = given_labels(labels or [], labels_file)
    if candidates is None:
        raise typer.BadParameter("Give labels, or --labels-file.")

    from zeroshot import registry
    from zeroshot.labels import embed_labels

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
        typer.echo(str(report))


def _backbones(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this one in detail; none of its weights are loaded.",
            autocompletion=names_of("backbones"),
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.table,
) -> None:
    """List the backbones, or show one: sizes, pretraining, licence, weights.

    A backbone turns images into features. Backbones of other installed packages are
    listed too.
    """
    if name is None:
        _print_names("backbones", output)
        return
    from dataclasses import asdict

    from zeroshot import registry
    from zeroshot.backbones.base import card_of

    backbone = registry.resolve_backbone(name)
    height, width = backbone.input_size
    _print_properties(
        {
            "name": backbone.name,
            "distribution": registry.distribution_of("backbones", name.split(":")[0]),
            "spec": registry.spec_of(backbone),
            "feature length": backbone.dim,
            "input size": f"{height} x {width} pixels",
            **asdict(card_of(backbone)),
        },
        output,
    )


def _embeddings(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this file, or what this name stands for.",
            autocompletion=names_of("embeddings"),
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.table,
) -> None:
    """List the kinds of embeddings, or show a file: format, length, first words.

    Embeddings turn labels into vectors. A file is recognised by its content.
    """
    if name is None:
        _print_names("embeddings", output)
        return
    from zeroshot import registry
    from zeroshot.embeddings.base import SupportsSubwords, SupportsVocabulary

    embeddings = registry.resolve_embeddings(name)
    words = (
        list(islice(embeddings.vocabulary(), FIRST_WORDS))
        if isinstance(embeddings, SupportsVocabulary)
        else None
    )
    _print_properties(
        {
            "format": embeddings.name,
            "spec": registry.spec_of(embeddings),
            "vector length": embeddings.dim,
            "composes unknown words": isinstance(embeddings, SupportsSubwords),
            "first words": words,
            "fingerprint": embeddings.fingerprint,
        },
        output,
    )


def _projections(output: OutputFormat = Format.table) -> None:
    """List the projections: maps from features to the vectors of labels."""
    _print_names("projections", output)


def _print_names(kind: "Kind", output: Format) -> None:
    from zeroshot.registry import distribution_of, names

    rows = [
        {"name": name, "distribution": distribution_of(kind, name)}
        for name in names(kind)
    ]
    if output is Format.json:
        print_json(rows)
    elif output is Format.csv:
        print_csv(("name", "distribution"), rows)
    else:
        print_table(("name", "distribution"), [tuple(row.values()) for row in rows])


def _print_properties(properties: dict[str, Any], output: Format) -> None:
    if output is Format.json:
        print_json(properties)
        return
    shown = {
        key: ", ".join(value) if isinstance(value, list) else str(value)
        for key, value in properties.items()
        if value not in (None, "")
    }
    if output is Format.csv:
        print_csv(list(shown), [shown])
    else:
        width = max(map(len, shown))
        for key, text in shown.items():
            typer.echo(f"{key.replace('_', ' '):{width}}  {text}")


COMMANDS = (
    (_labels, 'zeroshot labels okapi "polar bear" --embeddings glove.6B.300d.txt'),
    (_backbones, "zeroshot backbones mobilenet-v2"),
    (_embeddings, "zeroshot embeddings glove.6B.300d.txt"),
    (_projections, "zeroshot projections"),
)
"""The commands (named after the functions), each with an example."""
