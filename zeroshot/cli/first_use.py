"""What a first use fetches: said, and asked for on a terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from zeroshot.cli.tables import print_text
from zeroshot.progress import terminal

if TYPE_CHECKING:
    from zeroshot.storage.published import PublishedFile

__all__ = ["confirm_downloads"]


def confirm_downloads(files: "Sequence[PublishedFile]", *, yes: bool) -> None:
    """Ask whether files may be fetched, where there is somebody to ask.

    Where nobody can answer, or ``yes`` was given, the download itself says what it
    fetches. Ends the command where the answer is no.
    """
    from zeroshot.storage.addresses import shown_url
    from zeroshot.storage.published import offline

    if not files or offline():  # then the error says which file goes where
        return
    if yes or terminal() is None or not sys.stdin.isatty():
        return
    print_text("To be fetched on this first use, and kept:", err=True)
    for file in files:
        print_text(
            f"  {file.name} ({file.remote_size()}; licence: {file.licence_text})\n"
            f"    from {shown_url(file.addresses[0])}\n    to {file.path}",
            err=True,
        )
    if not typer.confirm("Fetch?", default=True, err=True):
        print_text("Nothing was fetched.", err=True)
        raise typer.Exit(1)
