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


COMMANDS = (
    (_labels, 'zeroshot labels okapi "polar bear" --embeddings glove.6B.300d.txt'),
    (_backbones, "zeroshot backbones mobilenet-v2"),
    (_embeddings, "zeroshot embeddings glove.6B.300d.txt"),
    (_projections, "zeroshot projections"),
)
"""The commands (named after the functions), each with an example."""
