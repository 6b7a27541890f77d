"""Limits that the environment may change, such as ``ZEROSHOT_MAX_BUNDLE=8GB``."""

import os
import re

from zeroshot.errors import ArtifactError

__all__ = ["size_limit"]


def size_limit(variable: str, default: int) -> int:
    """Return a number of bytes: that of an environment variable, else the default.

    It may be ``500MB``, ``20GB`` or ``1TB``; of 1024. Raises ArtifactError if it is
    none of these, or none that fits into 18 digits.
    """
    named = os.environ.get(variable)
    if not named:
        return default
    form = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]?)(?:i?B)?"
    match = re.fullmatch(form, named.strip(), re.IGNORECASE)
    if match is None:
        raise ArtifactError(
            f"Expected a size such as 500MB or 20GB in {variable}. Got "
            f"{named[:50]!r}. Correct or unset it; the default is {default} bytes."
        )
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * 1024**power)
