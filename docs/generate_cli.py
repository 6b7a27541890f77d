"""Write `docs/cli.md` from the definitions that `zeroshot --help` prints.

    python docs/generate_cli.py

`tests/test_docs.py` fails while the page is not what this script writes. It reads the
definitions, not the printed help: how that is drawn changes with versions of typer and
rich, and with the width of the terminal.
"""

import inspect
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import typer
from typer.models import ArgumentInfo

from zeroshot.cli import app

PAGE = Path(__file__).parent / "cli.md"
HEAD = """\
# Command line

<!-- Written by docs/generate_cli.py; do not edit. -->

`zeroshot --help` lists the commands and `zeroshot COMMAND --help` shows one; this page
says the same. The [quickstart](quickstart.md) shows them at work.

Results go to stdout; progress, warnings and errors to stderr. Exit code 1 means that
something given cannot be used (one line says what), 2 wrong usage. `zeroshot --version`
prints the version; `zeroshot --install-completion` installs completion for your shell.
"""


def cli_page() -> str:
    """Return the whole page."""
    sections = [
        command_section(command.name, command) for command in app.registered_commands
    ]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            sections.append(command_section(f"{group.name} {command.name}", command))
    return "\n".join([HEAD, *sections])


def command_section(name: str, command: Any) -> str:
    """Return the section of one command: what it does, arguments, options, example."""
    parameters = [
        (parameter, *annotated(parameter))
        for parameter in inspect.signature(
            command.callback, eval_str=True
        ).parameters.values()
        if parameter.annotation is not typer.Context
    ]
    arguments = [p for p in parameters if isinstance(p[2], ArgumentInfo)]
    options = [p for p in parameters if not isinstance(p[2], ArgumentInfo)]
    required = [
        f"{option_names(*p)[0]} {value_of(*p)}" for p in options if is_required(*p)
    ]
    usage = ["zeroshot", name, *required, *(value_of(*p) for p in arguments)]
    usage += ["[OPTIONS]"] if options else []
    lines = [
        f"## zeroshot {name}",
        "",
        inspect.getdoc(command.callback) or "",
        "",
        "```text",
        " ".join(usage),
        "```",
        "",
    ]
    if arguments:
        lines += ["| argument | meaning |", "| --- | --- |"]
        lines += [row(value_of(*p), meaning(*p)) for p in arguments] + [""]
    if options:
        lines += ["| option | meaning |", "| --- | --- |"]
        for p in options:
            names = ", ".join(option_names(*p))
            lines.append(row(f"{names} {value_of(*p)}", meaning(*p)))
        lines.append("")
    return "\n".join([*lines, without_markup(command.epilog), ""])


def row(name: str, meaning: str) -> str:
    """Return the row of a table; a bar would end the cell, in code too."""
    name, meaning = (text.strip().replace("|", r"\|") for text in (name, meaning))
    return f"| `{name}` | {meaning} |"


def annotated(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """Return type and typer's information of ``Annotated[type, typer.Option(...)]``."""
    kind, info = get_args(parameter.annotation)
    return kind, info


def option_names(parameter: inspect.Parameter, kind: Any, info: Any) -> list[str]:
    """Return ``["--format", "-f"]``; typer makes a name where none was given."""
    # Inside Annotated the first name is what typer.Option calls its default.
    given = [info.default, *(info.param_decls or ())]
    names = [name for name in given if isinstance(name, str)]
    return names or [f"--{parameter.name.replace('_', '-')}"]


def value_of(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    """Return what stands for the value: ``FILE``, ``table|json``; flags have none."""
    if kind is bool:
        return ""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "|".join(kind)
    if info.metavar:
        return str(info.metavar)
    if isinstance(info, ArgumentInfo):
        name = parameter.name.upper()
        name += "..." if "list" in str(kind) else ""
        return name if is_required(parameter, kind, info) else f"[{name}]"
    return {int: "N", float: "NUMBER", Path: "FILE"}.get(kind, "TEXT")


def is_required(parameter: inspect.Parameter, kind: Any, info: Any) -> bool:
    """Tell whether an option must be given."""
    return parameter.default is parameter.empty


def meaning(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    """Return the help of a parameter and its default, for the cell of a table."""
    text = without_markup(info.help)
    default = parameter.default
    if is_required(parameter, kind, info):
        return text if isinstance(info, ArgumentInfo) else f"{text} Required."
    if default is None or kind is bool or info.show_default is False:
        return text
    shown = default.value if isinstance(default, StrEnum) else default
    return f"{text} Default: `{shown}`."


def without_markup(text: str | None) -> str:
    """Return help as Markdown; rich writes bold as ``[bold]...[/bold]``."""
    text = inspect.cleandoc(text or "")
    text = re.sub(r"\[bold\]Example:\[/bold\] (.*)", r"Example: `\1`", text)
    return re.sub(r"\[/?bold\]", "**", text)


def main(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(cli_page(), encoding="utf-8")
    typer.echo(f"Wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
