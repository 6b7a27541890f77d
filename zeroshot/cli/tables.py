"""Results as tables for people, and as JSON or CSV for programs."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

__all__ = ["print_csv", "print_json", "print_table"]

# Where nobody watches, a table is as wide as its content: cut off paths help nobody.
UNLIMITED = 100_000


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
) -> None:
    """Print a table on stdout.

    Parameters
    ----------
    columns : sequence of str
        Titles.
    rows : sequence of sequence of str
        Cells; shown as they are, without markup.
    numbers : sequence of str, optional
        Titles of the columns that are aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for title in columns:
        table.add_column(
            title,
            justify="right" if title in numbers else "left",
            overflow="fold",
            no_wrap=title in numbers,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if sys.stdout.isatty() else UNLIMITED
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def print_json(content: Any) -> None:
    """Print JSON on stdout; NaN is refused, because JSON has none."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def print_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the given columns as CSV on stdout; None becomes an empty cell."""
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    typer.echo(written.getvalue(), nl=False)
