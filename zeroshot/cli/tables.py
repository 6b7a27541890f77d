"""Results as tables for people, and as JSON or CSV for programs."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import typer

from zeroshot.escaping import escaped, for_csv, for_json, lines_escaped

__all__ = [
    "print_csv",
    "print_json",
    "print_properties",
    "print_report",
    "print_rows",
    "print_text",
]

PATHS = ("image", "file", "path")  # columns of CSV that a program opens

# Where nobody watches, a table is as wide as its content: cut off paths help nobody.
UNLIMITED = 100_000


def print_text(text: object, *, err: bool = False) -> None:
    """Print lines on stdout; what a terminal would obey is shown instead."""
    typer.echo(lines_escaped(str(text)), err=err)


def print_json(content: Any) -> None:
    """Print JSON on stdout; NaN is refused, because JSON has none."""
    typer.echo(for_json(content, sys.stdout.encoding or "utf-8"))


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows of the given columns as CSV on stdout.

    None, and what a row lacks, is an empty cell; the items of a list are words of one.
    """
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {c: for_csv(_words(v), is_path=c in PATHS) for c, v in row.items()}
        writer.writerow(cells)
    typer.echo(written.getvalue(), nl=False)


def print_rows(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    form: str,
    *,
    numbers: Sequence[str] = (),
) -> None:
    """Print rows on stdout as a table, JSON or CSV.

    In a table None, and what a row lacks, is an empty cell; no name is markup;
    fractions are rounded; columns among ``numbers`` are aligned to the right.
    """
    if form == "json":
        print_json(rows)
        return
    if form == "csv":
        print_csv(columns, rows)
        return
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
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    width = None if sys.stdout.isatty() else UNLIMITED
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as printed:  # on a closed pipe, it would end the process
        console.print(table)
    typer.echo(printed.get(), nl=False)


def print_report(report: Any, rows: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print a report as it reads, its ``to_dict()`` as JSON, or its rows as CSV."""
    if form == "json":
        print_json(report.to_dict())
    elif form == "csv":
        print_csv(list(rows[0]), rows)
    else:
        print_text(report)


def print_properties(properties: Mapping[str, Any], form: str) -> None:
    """Print names and values, one a line; those without a value only as JSON.

    CSV has a column for each.
    """
    if form == "json":
        print_json(properties)
        return
    shown = {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in properties.items()
        if value not in (None, "", [])
    }
    if form == "csv":
        print_csv(list(shown), [shown])
        return
    width = max(map(len, shown))
    for key, value in shown.items():
        typer.echo(f"{key.replace('_', ' '):{width}}  {escaped(value)}")


def _words(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _cell(value: object) -> str:
    if value is None:
        return ""
    is_fraction = isinstance(value, Real) and not isinstance(value, Integral)
    return f"{value:.3f}" if is_fraction else escaped(value)
