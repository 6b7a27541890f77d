r"""Names of files, labels and plugins, made fit for where they are printed.

A name may hold anything: control sequences that a terminal obeys, markup, bytes that
are no UTF-8, formulas. One function for each destination; all take any object.
Characters that do not show as themselves (controls, line breaks, marks of writing
direction, bytes that are no UTF-8) become ``\x1b`` or ``\udcff`` everywhere, as
`unescaped` reads back. Other names stay as they are.
"""

import html
import json
import re
from functools import partial
from numbers import Number
from typing import Any

__all__ = [
    "escaped",
    "for_csv",
    "for_html",
    "for_json",
    "for_markdown",
    "lines_escaped",
    "shown",
    "unescaped",
]

# C0 and C1 controls, line and paragraph separators, marks that turn the direction of
# writing ("Trojan Source", CVE-2021-42574), invisible ones, and lone surrogates.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb"
)
_UNFIT = re.compile(f"[{_HIDDEN}\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4})")
_ESCAPE_OR_TWO = re.compile(rf"{_ESCAPE.pattern}|\\\\")
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# Also of full width, and behind blanks, which some spreadsheets drop; and behind
# apostrophes, so that taking one away gives the text back.
_FORMULA = re.compile(r"['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def escaped(name: object) -> str:
    r"""Return a name for a terminal, or for a file of text that a program reads.

    Parameters
    ----------
    name : object
        Text, or what ``str`` turns into text.

    Returns
    -------
    text : str
        Printable and in one line. Where the name holds characters that have to be
        escaped, or what looks like such an escape, its backslashes are doubled.

    Examples
    --------
    >>> print(escaped("a\nb"), escaped(r"C:\photos"))
    a\x0ab C:\photos
    """
    text = str(name)
    if _UNFIT.search(text) or _ESCAPE.search(text):
        text = _UNFIT.sub(_escape, text.replace("\\", "\\\\"))
    return text


def shown(value: object, most: int = 100) -> str:
    """Return what stands for a value in an error, whatever it is.

    Parameters
    ----------
    value : object
    most : int, default=100
        Characters, after which it is cut.

    Returns
    -------
    text : str
        The beginning of ``repr(value)``.
    """
    try:
        text = repr(value)
    except ValueError:  # a number of more than 4300 digits
        text = f"a {type(value).__name__} that cannot be written"
    return text if len(text) <= most else f"{text[:most]}..."


def unescaped(text: str) -> str:
    r"""Return the name that `escaped` was given.

    Parameters
    ----------
    text : str

    Returns
    -------
    name : str
    """
    if not _ESCAPE.search(text):
        return text
    return _ESCAPE_OR_TWO.sub(lambda m: chr(int(m[0][2:] or "5c", 16)), text)


def lines_escaped(text: str) -> str:
    """Return text of several lines for a terminal.

    Parameters
    ----------
    text : str
        Its line breaks are kept, and its backslashes are not doubled.

    Returns
    -------
    text : str
    """
    return _UNFIT.sub(lambda m: m[0] if m[0] == "\n" else _escape(m), text)


def for_csv(value: object, *, is_path: bool = False) -> object:
    """Return a cell of a CSV, which a spreadsheet must not run as a formula.

    Parameters
    ----------
    value : object
        Numbers and None stay as they are.
    is_path : bool, default=False
        Whether it is the path of a file, which a program wants to open: ``./`` before
        it makes the same path no formula. Other text gets an apostrophe, which
        spreadsheets take for "this is text". `unescaped` gives back what either is of,
        without that apostrophe.

    Returns
    -------
    cell : object

    Examples
    --------
    >>> for_csv("=1+1"), for_csv("=a.png", is_path=True), for_csv(-0.5)
    ("'=1+1", './=a.png', -0.5)
    """
    if value is None or isinstance(value, Number):
        return value
    text = escaped(value)
    if _FORMULA.match(text):
        return f"./{text}" if is_path else f"'{text}"
    return text


def for_html(name: object) -> str:
    """Return a name as text or as a quoted attribute of HTML or SVG.

    Parameters
    ----------
    name : object

    Returns
    -------
    text : str
    """
    return html.escape(escaped(name))


def for_markdown(name: object) -> str:
    r"""Return a name as text of Markdown that renders as the name.

    Parameters
    ----------
    name : object

    Returns
    -------
    text : str

    Examples
    --------
    >>> print(for_markdown("<b> a|b snow_leopard"))
    \<b\> a\|b snow_leopard
    """
    return _MARKDOWN.sub(lambda m: f"\\{m[0]}", escaped(name))


def for_json(content: Any, encoding: str = "utf-8") -> str:
    r"""Return JSON whose texts, read again, are exactly those given.

    Parameters
    ----------
    content : object
        As `json.dumps` takes it; NaN is refused, because JSON has none. NumPy's numbers
        are written as numbers.
    encoding : str, default="utf-8"
        What the text will be written in.

    Returns
    -------
    text : str
    """
    dumped = partial(json.dumps, content, indent=2, allow_nan=False, default=_as_number)
    # A surrogate is escaped as JSON would; the other characters mean the same so, too.
    text = _UNFIT.sub(_as_json, dumped(ensure_ascii=False))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return dumped()
    return text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _as_json(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}"


def _as_number(value: Any) -> Any:
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{value!r} of type '{type(value).__name__}'")
