"""The application: its commands, and what becomes of errors and warnings."""

import errno
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zeroshot import __version__
from zeroshot.cli import (
    cached,
    embedding,
    evaluating,
    exporting,
    label_lists,
    listings,
    predicting,
    published,
    serving,
    sorting,
    training,
    vectors,
)
from zeroshot.cli.panels import sort_into_panels
from zeroshot.errors import ZeroShotError, ZeroShotWarning
from zeroshot.escaping import lines_escaped
from zeroshot.progress import say

__all__ = ["app", "main"]

MORE = "Look up and prepare"
BROKEN_PIPE = 141  # exit code: of programs that SIGPIPE ends, as shells tell it
OF_RESULTS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EBADF)
_UsageError: Any = typer.BadParameter.__base__  # typer has no public name for it


class _Commands(TyperGroup):
    """All commands; the only place where the command line catches errors."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        sort_into_panels(self)

    def make_context(
        self, info_name: Any, args: list[str], *rest: Any, **more: Any
    ) -> Any:
        if wrong := [argument for argument in args if "\0" in argument]:
            _say("error", f"Expected arguments without NUL. Got {wrong[0]!r}.")
            raise typer.Exit(1)
        with _usage_errors_escaped():
            return super().make_context(info_name, args, *rest, **more)

    def invoke(self, ctx: Any) -> None:
        with _warnings_in_one_line(), _usage_errors_escaped():
            try:
                super().invoke(ctx)
                sys.stdout.flush()
            except ZeroShotError as error:
                _say("error", error)
                raise typer.Exit(1) from error
            except OSError as error:
                raise typer.Exit(_exit_code(error)) from error


app = typer.Typer(
    name="zeroshot",
    cls=_Commands,
    help="Zero-shot image classification: labels are named when predicting.\n\n"
    "Train once on images of some classes; then name images with any labels, also "
    "ones that had no training image. A backbone turns images into features, word "
    "embeddings turn labels into vectors, a projection maps one to the other.\n\n"
    "Start with: zeroshot demo",
    epilog="Results are on stdout; progress, warnings and errors on stderr. Exit code "
    "1: something given cannot be used; 2: wrong usage; 3: done, but for images that "
    "cannot be read (--fail-on-error).",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)


def _add(commands: Any, to: typer.Typer, panel: str | None = None) -> None:
    """Add functions that are named after their commands, each with an example."""
    for command, example in commands:
        # typer keeps the line breaks of all paragraphs but the first.
        told = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")
        to.command(
            command.__name__.removeprefix("_"),
            help=told,
            epilog=f"[bold]Example:[/bold] {example}",
            rich_help_panel=panel,
        )(command)


for module in (training, predicting, sorting, serving, evaluating):
    _add(module.COMMANDS, app, "What most people need")
_add((*embedding.COMMANDS, *exporting.COMMANDS, *listings.COMMANDS), app, MORE)
for name, purpose, commands in (
    (
        "embeddings",
        "Word vectors: list, download, look up, train on your own text.",
        (*published.COMMANDS, *vectors.COMMANDS),
    ),
    ("labels", "See how labels become vectors.", label_lists.COMMANDS),
    ("cache", "See, check and delete what is in the cache.", cached.COMMANDS),
):
    group = typer.Typer(no_args_is_help=True)
    _add(commands, group)
    app.add_typer(group, name=name, help=purpose, rich_help_panel=MORE)


def main() -> None:
    """Run the command line with the arguments of this process."""
    # Words of broken vector files, and terminals without UTF-8, are no reason to fail.
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="zeroshot")
    except OSError as error:  # of --help, which no command prints
        sys.exit(_exit_code(error))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zeroshot {__version__}")
        raise typer.Exit


VERSION = typer.Option(
    "--version",
    help="Print the version and exit.",
    callback=_print_version,
    is_eager=True,
)


@app.callback()
def _options(
    version: Annotated[bool, VERSION] = False,
) -> None:
    pass


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    said: set[str] = set()

    def show(
        message: Warning | str, category: type[Warning], *more: Any, **rest: Any
    ) -> None:
        if not issubclass(category, ZeroShotWarning):
            shown_by_python(message, category, *more, **rest)
        elif str(message) not in said:
            said.add(str(message))
            _say("warning", message)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ZeroShotWarning)
        shown_by_python = warnings.showwarning
        warnings.showwarning = show
        yield


@contextmanager
def _usage_errors_escaped() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = lines_escaped(error.message)
        raise


def _exit_code(error: OSError) -> int:
    """Say what could not be read or written; a reader that left is told nothing."""
    if error.errno not in OF_RESULTS or error.filename is not None:
        _say("error", f"Expected a file that can be read or written. Got {error}.")
        return 1
    # Whatever is not written yet would fail again when Python ends.
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return BROKEN_PIPE
    _say("error", f"Expected a place for the results, with free space. Got {error}.")
    return 1


def _say(what: str, message: object) -> None:
    line = lines_escaped(str(message)).replace("\n", " ")
    say(f"{what}: {line}")
