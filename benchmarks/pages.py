"""What benchmarks write: tables in Markdown, and their parts of pages in results/."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.storage.cache import replace_file

RESULTS = Path(__file__).parent / "results"


def new_parser(description: str | None, page: Path) -> argparse.ArgumentParser:
    """Return a parser of the command line that knows ``--write``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help=f"write {page.name} too")
    return parser


def markdown_table(
    header: Sequence[object], rows: Iterable[Sequence[object]], align: str = "---"
) -> str:
    """Return a table, without a newline at its end.

    ``align``: of all columns but the first; ``"---:"`` is to the right.
    """
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def mean_and_spread(values: NDArray[Any] | Sequence[float]) -> str:
    """Return mean and standard deviation as text."""
    return f"{np.mean(values):.3f} +- {np.std(values):.3f}"


def write_page(page: Path, text: str, *, below: str = "", until: str = "") -> None:
    """Write a page, or the part of it that stands below a line.

    ``until``: how the line begins that ends the part; without, the part is the last
    one. To a page that lacks the line ``below`` the part is appended.
    """
    if below:
        end = rf"^{re.escape(until)}|\Z" if until else r"\Z"
        part = re.compile(rf"^{re.escape(below)}\n.*?(?={end})|\Z", re.M | re.S)
        made = f"{below}\n\n{text.strip()}\n\n"
        old = page.read_text(encoding="utf-8").rstrip() + "\n\n"
        text = part.sub(lambda _: made, old, count=1)
    with replace_file(page) as temporary:
        temporary.write_text(f"{text.strip()}\n", encoding="utf-8")
