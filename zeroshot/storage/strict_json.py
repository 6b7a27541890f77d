"""JSON that somebody else may have written: read as it is meant, or refused."""

import json
import math
from collections.abc import Iterable
from typing import Any

__all__ = ["parse_json"]


def parse_json(content: bytes) -> Any:
    """Return what a file of JSON holds.

    Unlike `json.loads` alone: UTF-8 only, each key of an object once, and no number
    that is NaN or infinite, by name or by size. Raises ValueError for all else.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_each_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("lists or objects within each other too deeply") from error


def _each_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object that has a key twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number
