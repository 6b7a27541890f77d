"""What users write about a backbone: paths, options as in a URL, sizes, names."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import numpy as np

from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.storage.addresses import shown_spec

__all__ = [
    "absolute",
    "did_you_mean",
    "existing_file",
    "pair_of",
    "parse_argument",
    "parse_size",
    "write_argument",
    "write_size",
]

# Of a side, in pixels: no published network has 1000, and one image of this size takes
# 50 MB, as float32 200 MB.
LARGEST_SIDE = 4096


def parse_argument(
    name: str, argument: str | None, options: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Split ``"path?option=value&..."`` at its last ``?``.

    ``name``: the registered name, for the error. A ``size``, ``224`` or ``160x224``
    (height x width), becomes ``input_size``. Raises PluginContractError if the path is
    missing, or an option is unknown, malformed, empty or given twice.
    """
    argument = argument or ""
    path, *query = argument.rsplit("?", 1)
    try:
        pairs = parse_qsl(query[0], True, strict_parsing=True) if query else []
    except ValueError:
        pairs = [("", "")]  # no option of ours
    values: dict[str, Any] = dict(pairs)
    if (
        not path
        or not set(values) <= set(options)
        or len(values) < len(pairs)
        or "" in values.values()
    ):
        raise PluginContractError(
            f"Expected '{name}:/path', with options {', '.join(options)}, each once "
            f"as in '?scaling=tf&size=224'. Got '{name}:{shown_spec(argument)}'. "
            f"Correct the path or the options."
        )
    if "size" in values:
        values["input_size"] = parse_size(values.pop("size"))
    return path, values


def write_argument(path: str, options: Mapping[str, object]) -> str:
    """Return what `parse_argument` reads.

    ``options``: at least one, so that a ``?`` in the path is not taken for theirs. None
    is left out; a pair of numbers is a size.
    """
    given = {
        name: "{}x{}".format(*value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None
    }
    # A space as %20: a "+" stands between backbones.
    return f"{path}?{urlencode(given, safe='/', quote_via=quote)}"


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width of ``"224"`` or ``"160x224"``.

    Raises PluginContractError if it is anything else, or out of range.
    """
    numbers = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text, re.ASCII)
    if numbers is None:
        shown = text if len(text) < 50 else f"{text[:20]}... ({len(text)} characters)"
        raise PluginContractError(
            f"Expected a size such as 224 or 160x224. Got '{shown}'. Write pixels."
        )
    return pair_of((int(numbers[1]), int(numbers[2] or numbers[1])))


def write_size(size: tuple[int, int]) -> str:
    """Return what `parse_size` reads, with one number for a square."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def pair_of(input_size: object) -> tuple[int, int]:
    """Return (height, width) from a number of pixels or a pair.

    Raises PluginContractError if it is anything else, or not in 1 to 4096.
    """
    pair = input_size if isinstance(input_size, tuple | list) else (input_size,) * 2
    if len(pair) != 2 or not all(
        isinstance(side, int | np.integer)
        and not isinstance(side, bool)
        and 1 <= side <= LARGEST_SIDE
        for side in pair
    ):
        raise PluginContractError(
            f"Expected input_size as a number of pixels from 1 to {LARGEST_SIDE}, or a "
            f"pair (height, width). Got {input_size!r}. Write 224 or (224, 224)."
        )
    return int(pair[0]), int(pair[1])


def absolute(path: object) -> str:
    """Return a path from the root on, for a spec string; there may be no such file."""
    # os.path, because Path raises for "~nobody" and for too long names.
    return str(Path(os.path.expanduser(str(path))).absolute())


def existing_file(path: object, wanted: str) -> Path:
    """Return the path of a file that the user named.

    Raises ArtifactError if there is no such file; says what was wanted.
    """
    expanded = os.path.expanduser(str(path))
    if not os.path.isfile(expanded):
        raise ArtifactError(
            f"Expected {wanted}. Got '{shown_spec(path)}', which is not a file. Check "
            f"the path."
        )
    return Path(expanded)


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Return a question that offers the nearest names, or nothing."""
    close = difflib.get_close_matches(str(name), list(names), n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
