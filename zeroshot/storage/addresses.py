"""Addresses without what may be a secret in them: user, password, query, fragment."""

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["hide_secrets", "shown_spec", "shown_url"]

# Of any scheme; pathlib leaves one slash of two. One letter is a disk of Windows.
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/{1,2}[^\s'\"]*")


def shown_url(url: str) -> str:
    """Return an address without user, password, query and fragment.

    Nothing is shown of a text that is no address of a web server: what is secret in it
    cannot be told from the rest.

    Examples
    --------
    >>> shown_url("https://me:secret@host/vectors.zip?token=secret")
    'https://host/vectors.zip?...'
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where that is no number
    except ValueError:
        is_web = False
    if not is_web:
        return "(no address of a web server)"
    host = parts.netloc.rpartition("@")[2]
    query = "..." if parts.query or parts.fragment else ""
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def shown_spec(text: object) -> str:
    """Return what somebody wrote, for a message: no secrets of addresses, not too long.

    Examples
    --------
    >>> shown_spec("tfhub:https://me:secret@host/module?size=224")
    'tfhub:https://host/module?...'
    """
    shown = hide_secrets(str(text))
    return shown if len(shown) <= 1500 else f"{shown[:200]}...{shown[-150:]}"


def hide_secrets(text: str) -> str:
    """Return text in which addresses have no user, password, query and fragment."""
    return _ADDRESS.sub(lambda match: shown_url(match[0]), text)
