r"""Labels as they are given: in Python, on the command line and in a file.

A list of labels is text of one form everywhere: entries separated by line breaks or
semicolons, each ``label`` or ``label: alias, alias`` (a tab will do for the colon).
Text of one line without a semicolon is separated at its commas; where a label has
commas of its own, as ImageNet's have, end it with a semicolon. JSON, a list or a
mapping of labels to lists of aliases, is recognised by its first character; a ``.csv``
holds a label per row, in its column ``label`` or else the first.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from zeroshot.errors import ArtifactError, LabelError
from zeroshot.escaping import shown
from zeroshot.labels.report import first_few
from zeroshot.labels.spelling import INVISIBLE
from zeroshot.storage.regular_files import read_limited

__all__ = [
    "Labels",
    "check_candidates",
    "parse_labels",
    "read_labels",
]

LONGEST_LABEL = 1000  # characters; a sentence that describes a class has some hundred
MOST_BITS = 1024  # of a number: Python refuses to write one of over 4300 digits
LARGEST_FILE = 256 << 20  # bytes; a million labels with other names take 50 MB

Labels: TypeAlias = Sequence[Hashable] | Mapping[Any, Sequence[str]]


def check_candidates(labels: Labels | Iterable[Hashable]) -> list[Hashable]:
    """Return labels as a list, or say what is wrong with them.

    Parameters
    ----------
    labels : sequence of hashable, or mapping of hashable to sequence of str
        Candidate labels; of a mapping ``{label: [alias, ...]}`` the keys. An array of
        shape (m,) and a pandas Series are sequences too.

    Returns
    -------
    labels : list of hashable
        The same objects in the same order.

    Raises
    ------
    LabelError
        If there is no label or one is repeated, missing (None, NaN), empty, or neither
        a string nor a number; if ``labels`` is a bare string, a table, a file, or a
        set, whose order (and so the order of the scores' columns) would be arbitrary.

    Examples
    --------
    >>> check_candidates(("okapi", "zebra"))
    ['okapi', 'zebra']
    """
    if isinstance(labels, str | bytes):
        raise LabelError(
            f"Expected a sequence of labels. Got the single string "
            f"{shown(labels)}. Write [{shown(labels)}]."
        )
    if isinstance(labels, set | frozenset):
        raise LabelError(
            f"Expected labels in a definite order. Got a {type(labels).__name__} of "
            f"{len(labels)}. Write sorted(labels)."
        )
    if isinstance(labels, io.IOBase):
        raise LabelError(
            "Expected a sequence of labels. Got an open file. Write "
            "zeroshot.labels.read_labels(path)."
        )
    shape: tuple[int, ...] = getattr(labels, "shape", (0,))
    if len(shape) != 1:
        raise LabelError(
            f"Expected labels in one dimension. Got '{type(labels).__name__}' of shape "
            f"{shape}. Take one column of a table, such as table['label']; of an array "
            f"labels.ravel()."
        )
    try:
        candidates = list(labels)
    except TypeError as error:
        raise LabelError(
            f"Expected a sequence of labels. Got {shown(labels)} of type "
            f"'{type(labels).__name__}'. Write a list, such as ['okapi', 'zebra']."
        ) from error
    if not candidates:
        got = "Got an empty list. Name the candidate labels."
        if isinstance(labels, Iterator):
            got = "Got an iterator that has been read already. Write list(labels)."
        raise LabelError(f"Expected at least one label. {got}")
    for position, label in enumerate(candidates):
        if problem := label_problem(label):
            raise LabelError(
                f"Expected labels as non-empty strings or numbers. Got {shown(label)} "
                f"({problem}) at position {position}. Remove or correct it."
            )
    counts = Counter(candidates)
    if repeated := [f"'{label}' ({n} times)" for label, n in counts.items() if n > 1]:
        raise LabelError(
            f"Expected every label once. Got {first_few(repeated)}. Remove the "
            f"repeats, or give different names to different classes."
        )
    return candidates


def label_problem(label: object) -> str:
    """Return why something cannot be a label; an empty text if it can."""
    if isinstance(label, str):
        if len(label) > LONGEST_LABEL:
            return f"{len(label)} characters, at most {LONGEST_LABEL} are a name"
        return "" if INVISIBLE.sub("", label).strip() else "no text"
    if isinstance(label, int) and label.bit_length() > MOST_BITS:
        return "a number of too many digits"
    kind = f"a {type(label).__name__}"
    if isinstance(label, bytes):
        return "bytes, not text: write label.decode()"
    if isinstance(label, list | tuple | np.ndarray):
        return f"{kind}: other names go into a mapping, {{'okapi': ['forest giraffe']}}"
    # pandas.NA and NaT are no numbers; their names are known without pandas.
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return "a missing value"
    if isinstance(label, Number | np.number | np.bool_):
        return "" if label == label else "a missing value"
    return kind


def with_aliases(labels: Labels) -> dict[Hashable, tuple[str, ...]]:
    """Return labels that pass `check_candidates` and the aliases of each.

    Raises LabelError if those of a mapping are no lists of names.
    """
    names = check_candidates(labels)
    if not isinstance(labels, Mapping):
        return dict.fromkeys(names, ())
    for label, aliases in labels.items():
        if isinstance(aliases, str) or not isinstance(aliases, Sequence):
            advice = "Write a list of names in quotes; it may be empty"
            if isinstance(aliases, str):
                advice = f"Write [{shown(aliases)}]"
            elif isinstance(aliases, Number | np.number):
                advice = "Write list(labels) for the names alone"
            raise LabelError(
                f"Expected a list of aliases for the label '{label}'. Got "
                f"{shown(aliases)}. {advice}."
            )
        for alias in aliases:
            if not isinstance(alias, str) or label_problem(alias):
                raise LabelError(
                    f"Expected the aliases of the label '{label}' as non-empty "
                    f"strings of at most {LONGEST_LABEL} characters. Got "
                    f"{shown(alias)}. Remove or correct it."
                )
    return {label: tuple(aliases) for label, aliases in labels.items()}


def parse_labels(text: str) -> dict[Hashable, list[str]]:
    r"""Return the labels of a text, and their aliases.

    Parameters
    ----------
    text : str
        Labels separated by commas, or entries ``label: alias, alias`` separated by
        semicolons, or JSON.

    Returns
    -------
    labels : dict of hashable to list of str
        Label to aliases, in the order given.

    Raises
    ------
    LabelError
        If a label is empty or repeated, or commas could separate labels or aliases.

    Examples
    --------
    >>> parse_labels("okapi, zebra")
    {'okapi': [], 'zebra': []}
    >>> parse_labels("okapi: forest giraffe; lion, king of beasts")
    {'okapi': ['forest giraffe'], 'lion, king of beasts': []}
    """
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(text, shown(text))
    if ";" in text or "\n" in text.strip():
        labels = _from_lines(text, shown(text), comments="\n" in text.strip())
        check_candidates(labels)
        return labels
    if len(_entry(text)[1]) > 1:
        first = text.replace(",", ";", 1)
        raise LabelError(
            f"Expected labels separated by commas, or by semicolons where one has "
            f"other names. Got {shown(text)}, whose commas could be either. Write "
            f"{shown(first)}, or {shown(text + ';')} for one label."
        )
    entries = [_entry(part) for part in text.split(",")]
    if not all(label for label, _ in entries):
        raise LabelError(
            f"Expected labels separated by commas, such as 'okapi,zebra'. Got "
            f"{shown(text)}, in which a label is empty. Remove the extra comma or add "
            f"the label."
        )
    return _without_repeats(entries)


def read_labels(path: Path) -> dict[Hashable, list[str]]:
    r"""Read a file of labels.

    One label per line, with its aliases after a tab or after a colon and a space,
    separated by commas: ``okapi: forest giraffe, Congo giraffe``. Empty lines and lines
    that begin with ``#`` are left out. Or JSON, or a ``.csv`` with a column ``label``
    (and ``aliases``). UTF-8.

    Parameters
    ----------
    path : Path

    Returns
    -------
    labels : dict of hashable to list of str
        Label to aliases, in the order of the file.

    Raises
    ------
    ArtifactError
        If it cannot be read or holds no label.
    LabelError
        If a label is empty or repeated; gives the label.
    """
    path = Path(path)
    try:
        text = read_limited(path, LARGEST_FILE).decode("utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"Expected a file of labels in UTF-8 text, one per line. Got '{path}': "
            f"{error}. Check the file."
        ) from error
    if path.suffix.lower() == ".csv":
        read = _from_csv
    else:
        read = _from_json if text.lstrip()[:1] in ("[", "{") else _from_lines
    labels = read(text, f"'{path}'")
    if not labels:
        raise ArtifactError(
            f"Expected a file of labels, one per line. Got '{path}', which has none. "
            f"Add labels."
        )
    return labels


def _entry(text: str) -> tuple[str, list[str]]:
    """Return the label and the aliases of ``"okapi: forest giraffe, giraffe"``."""
    separator = "\t" if "\t" in text.strip() else ": "
    label, _, aliases = text.strip().partition(separator)
    names = [alias.strip() for alias in aliases.split(",") if alias.strip()]
    return label.strip().removesuffix(":").strip(), names  # "okapi:" has no alias


def _from_lines(
    text: str, source: str, *, comments: bool = True
) -> dict[Hashable, list[str]]:
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or (comments and line.lstrip().startswith("#")):
            continue
        for part in line.strip().removesuffix(";").split(";"):
            entries.append(_entry(part))
            if not entries[-1][0]:
                raise LabelError(
                    f"Expected a label in {source}, line {number}. Got {shown(line)}. "
                    f"Write 'label' or 'label: alias, alias'."
                )
    return _without_repeats(entries)


def _from_csv(text: str, source: str) -> dict[Hashable, list[str]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        read = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[cell.strip() for cell in row] for row in read]
    except csv.Error as error:
        raise ArtifactError(
            f"Expected a table of labels. Got {source}: {error}. Check the file."
        ) from error
    rows = [row for row in rows if any(row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if "label" in header:
        at = header.index("label")
        others = [i for i, name in enumerate(header) if name in ("alias", "aliases")]
        full = [row + [""] * len(header) for row in rows[1:]]  # some lack cells
        rows = [
            [row[at], *(name for i in others for name in row[i].split(","))]
            for row in full
        ]
    if empty := [row for row in rows if not row[0]]:
        raise LabelError(
            f"Expected a label in every row of {source}. Got {shown(empty[0])}. Add it "
            f"or remove the row."
        )
    return _without_repeats(
        [(row[0], [name.strip() for name in row[1:] if name.strip()]) for row in rows]
    )


def _from_json(text: str, source: str) -> dict[Hashable, list[str]]:
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except LabelError:
        raise
    except (ValueError, RecursionError) as error:  # also of a number of 4300 digits
        raise LabelError(
            f'Expected labels as JSON, such as ["okapi", "zebra"] or '
            f'{{"okapi": ["forest giraffe"]}}, because the text begins with '
            f"{text.lstrip()[:1]!r}. Got {source}: {error}. Use double quotes, or "
            f"write one label per line."
        ) from error
    return {label: list(names) for label, names in with_aliases(content).items()}


def _without_repeats(
    entries: Iterable[tuple[Hashable, list[str]]],
) -> dict[Hashable, list[str]]:
    entries = list(entries)
    counts = Counter(label for label, _ in entries)
    if repeated := [f"'{label}'"[:200] for label, count in counts.items() if count > 1]:
        raise LabelError(
            f"Expected every label once. Got {first_few(repeated)} more than once. "
            f"Remove the repeats."
        )
    return dict(entries)
