"""What is said on stderr while we work, where there is somebody to read it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TextIO

from zeroshot.escaping import escaped, lines_escaped

__all__ = ["progress_bar", "say", "terminal"]

# No stderr (a service, `pythonw`), a closed one, a pipe that nobody reads, or an object
# of the program around us that only has `write`.
NOBODY_LISTENS = (AttributeError, OSError, ValueError)
_IS_SHOWN = ContextVar("zeroshot_bar_is_shown", default=False)


def terminal() -> TextIO | None:
    """Return stderr where it is a terminal.

    Returns
    -------
    terminal : text file or None
    """
    with suppress(*NOBODY_LISTENS):
        if sys.stderr.isatty():
            return sys.stderr
    return None


def say(line: str) -> None:
    """Write a line to stderr, where there is one; names in it cannot do anything.

    Parameters
    ----------
    line : str
        Without the new line.
    """
    with suppress(*NOBODY_LISTENS):
        sys.stderr.write(f"{lines_escaped(line)}\n")
        sys.stderr.flush()


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and time left while the block runs, on a terminal only.

    None within the block of another bar.

    Parameters
    ----------
    description : str
        What is being done, such as ``"images"``.
    total : int or None
        Number of steps; None where nobody knows.

    Yields
    ------
    advance : callable
        ``advance(n=1, note="")`` moves the bar ``n`` steps and shows a short note.
    """
    if terminal() is None or _IS_SHOWN.get():
        yield lambda n=1, note="": None
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class RateColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g}/s")

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        RateColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escaped(description), total=total, note="")

        def advance(n: int = 1, note: str = "") -> None:
            bar.update(task, advance=n, note=escaped(note))

        token = _IS_SHOWN.set(True)
        try:
            yield advance
        finally:
            _IS_SHOWN.reset(token)
