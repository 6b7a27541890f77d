"""Spec strings of backbones that are files: a path, and options as in a URL."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from zeroshot.errors import PluginContractError

__all__ = ["parse_argument", "write_argument"]


def parse_argument(
    name: str, argument: str | None, options: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Split ``"path?option=value&..."`` at its last ``?``.

    Parameters
    ----------
    name : str
        The registered name, for the error.
    argument : str or None
        What follows the colon of a spec string.
    options : sequence of str
        Those that may be given.

    Returns
    -------
    path : str
    values : dict of str to str or (int, int)
        A ``size``, ``224`` or ``160x224`` (height x width), becomes ``input_size``.

    Raises
    ------
    PluginContractError
        If the path is missing or an option is unknown or malformed.
    """
    argument = argument or ""
    path, mark, query = argument.rpartition("?")
    values: dict[str, Any]
    try:
        if not mark:
            path, values = argument, {}
        else:
            values = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        values = {query: ""}
    if not path or not set(values) <= set(options):
        raise PluginContractError(
            f"Expected '{name}:/path', with options {', '.join(options)} as in "
            f"'?scaling=tf&size=224'. Got '{name}:{argument}'. Correct the path or the "
            f"options."
        )
    if "size" in values:
        values["input_size"] = _parse_size(values.pop("size"))
    return path, values


def write_argument(path: str, options: Mapping[str, object]) -> str:
    """Return what `parse_argument` reads.

    Parameters
    ----------
    path : str
    options : mapping of str to object
        At least one, so that a ``?`` in the path is not taken for theirs. None is left
        out; a pair of numbers is a size.

    Returns
    -------
    argument : str
    """
    given = {
        name: "{}x{}".format(*value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None
    }
    return f"{path}?{urlencode(given)}"


def _parse_size(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII)
    if numbers is None:
        raise PluginContractError(
            f"Expected a size such as 224 or 160x224. Got '{text}'. Write pixels."
        )
    return int(numbers[1]), int(numbers[2] or numbers[1])
