"""The commands about vectors that have a name, and files: list, info, download."""

import os
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from zeroshot.cli.listings import plugin_rows
from zeroshot.cli.options import FORMAT, Format, argument, names_of, option
from zeroshot.cli.tables import (
    print_csv,
    print_json,
    print_properties,
    print_rows,
    print_text,
)

if TYPE_CHECKING:
    from zeroshot.embeddings.catalogue import CatalogueEntry

__all__ = ["COMMANDS"]

FIRST_WORDS = 8
COLUMNS = ["name", "language", "form", "dim", "words", "size", "licence", "cached"]


def _published() -> list[str]:
    from zeroshot.embeddings.catalogue import catalogue_names

    return catalogue_names()


def _described() -> list[str]:
    return [*names_of("embeddings")(), *_published()]


FILTER = option(
    "--filter TEXT",
    "Only published vectors whose name, collection or corpus holds this (such as "
    "glove, .de. or Wikipedia). Without it, a table shows many languages as one line.",
)
NAME_OR_FILE = argument(
    "A file of vectors, a kind of embeddings, or the name of published vectors. "
    "Nothing is downloaded.",
    metavar="NAME|FILE",
    autocompletion=_described,
)
NAME = argument(
    "Name of published vectors; 'zeroshot embeddings list' shows them.",
    metavar="NAME",
    autocompletion=_published,
)


def _list(
    text: Annotated[str | None, FILTER] = None,
    output: Annotated[Format, FORMAT] = Format.table,
) -> None:
    """List the kinds of embeddings and the published vectors that have a name.

    A kind is used as kind:FILE, published vectors by their name alone; they are
    downloaded on first use, once.
    """
    from zeroshot.embeddings.catalogue import catalogue_entry, catalogue_names
    from zeroshot.registry import names

    both = names("backbones")
    kinds: list[dict[str, Any]] = [
        {**row, "backbone too": "yes" if row["name"] in both else None}
        for row in (plugin_rows("embeddings") if text is None else [])
    ]
    entries = [
        entry
        for entry in map(catalogue_entry, catalogue_names())
        if (text or "").lower() in f"{entry.name} {entry.title} {entry.corpus}".lower()
    ]
    published = [_row(entry) for entry in entries]
    if output is Format.json:
        print_json({"kinds": kinds, "published": published})
    elif output is Format.csv:
        columns = ["name", "distribution", "backbone too", *COLUMNS[1:]]
        print_csv(columns, [*kinds, *published])
    else:
        if kinds:
            print_rows(("name", "distribution", "backbone too"), kinds, output)
        if lines := _lines(entries, languages_as_one=text is None):
            right = ("numbers", "words", "download")
            print_rows(list(lines[0]), lines, output, numbers=right)
        else:
            print_text(f"No published vectors hold {text!r}.", err=True)


def _info(
    name: Annotated[str, NAME_OR_FILE],
    output: Annotated[Format, FORMAT] = Format.table,
) -> None:
    """Show a file of vectors (format, length, first words) or what a name stands for.

    Of published vectors: address, size, checksum, licence, citation, and where the file
    is in the cache. A file is recognised by its content.
    """
    from zeroshot import registry
    from zeroshot.embeddings.catalogue import catalogue_entry, catalogue_names

    # A file wins over published vectors of the same name, as everywhere.
    if name in catalogue_names() and not os.path.isfile(name):
        print_properties(_facts(catalogue_entry(name)), output)
        return
    from zeroshot.embeddings.base import (
        SupportsPhrases,
        SupportsSubwords,
        SupportsVocabulary,
    )
    from zeroshot.joint.base import as_joint

    embeddings = registry.resolve_embeddings(name)
    words = (
        list(islice(embeddings.vocabulary(), FIRST_WORDS))
        if isinstance(embeddings, SupportsVocabulary)
        else None
    )
    print_properties(
        {
            "format": embeddings.name,
            "spec": registry.spec_of(embeddings),
            "vector length": embeddings.dim,
            "composes unknown words": isinstance(embeddings, SupportsSubwords),
            "joint partner": "itself: it embeds images into the same space"
            if as_joint(embeddings) is not None
            else None,
            "encodes phrases": isinstance(embeddings, SupportsPhrases),
            "first words": words,
            "fingerprint": embeddings.fingerprint,
        },
        output,
    )


def _download(name: Annotated[str, NAME]) -> None:
    """Download published vectors into the cache, and print where the file is.

    Says how large the download is and under which licence. It can be interrupted: the
    next one goes on from there. With ZEROSHOT_OFFLINE=1 nothing is fetched, and the
    error says which file to put where by hand.
    """
    from zeroshot.embeddings.catalogue import find_vectors

    print_text(find_vectors(name))


def _cached(entry: "CatalogueEntry") -> Path | None:
    """Return the file of published vectors, or the packed one, if it is there."""
    places = (entry.path, entry.archive)
    return next((p for p in places if p is not None and os.path.isfile(p)), None)


def _row(entry: "CatalogueEntry") -> dict[str, Any]:
    """Return what programs are told of an entry of the list."""
    size, cached = entry.size or entry.size_about, _cached(entry) is not None
    known = {"size": size, "licence": entry.licence or None, "cached": cached}
    return {key: getattr(entry, key) for key in COLUMNS[:5]} | known


def _lines(
    entries: "list[CatalogueEntry]", *, languages_as_one: bool
) -> list[dict[str, Any]]:
    """Return the lines of the table for people."""
    groups: dict[str, list[CatalogueEntry]] = defaultdict(list)
    for entry in entries:
        one = entry.name.replace(f".{entry.language}.", ".LANG.")
        groups[one if languages_as_one else entry.name].append(entry)
    lines = []
    for name, group in groups.items():
        entry, several = group[0], len(group) > 1
        cached = [other.name for other in group if _cached(other) is not None]
        lines.append(
            {
                "name": name,
                "numbers": entry.dim,
                "words": f"{entry.words:,}" if entry.words else "",
                "download": entry.file.size_text,
                "licence": entry.licence or "not stated",
                "cached": ", ".join(cached) if several else "yes" if cached else "no",
                "": f"{len(group)} languages" if several else "",
            }
        )
    return lines


def _facts(entry: "CatalogueEntry") -> dict[str, Any]:
    place = _cached(entry)
    return {
        "name": entry.name,
        "collection": entry.title,
        "page": entry.page,
        "corpus": entry.corpus,
        "language": entry.language,
        "form": entry.form,
        "vector length": entry.dim,
        "words": entry.words,
        "address": entry.url,
        "mirrors": list(entry.mirrors),
        "download": entry.file.size_text or "size not published",
        "bytes": entry.size,
        "SHA-256": entry.sha256,
        "MD5": entry.md5,
        "licence": entry.licence or "not stated",
        "citation": entry.citation,
        "cached": place is not None,
        "file": str(place or entry.path),
    }


COMMANDS = (
    (_list, "zeroshot embeddings list --filter glove"),
    (_info, "zeroshot embeddings info glove.6B.300d"),
    (_download, "zeroshot embeddings download glove.6B.300d"),
)
