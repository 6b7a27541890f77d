"""Published files of word vectors by name, read from ``catalogue.toml``."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from zeroshot.errors import UnknownPluginError
from zeroshot.storage.cache import cache_root
from zeroshot.storage.published import PublishedFile

__all__ = [
    "CatalogueEntry",
    "catalogue_entry",
    "catalogue_name",
    "catalogue_names",
    "find_vectors",
    "near_catalogue_names",
]

Form = Literal["glove-text", "word2vec-text", "word2vec-binary", "fasttext-bin"]
_ENDINGS: dict[Form, str] = {
    "glove-text": ".txt",
    "word2vec-text": ".vec",
    "word2vec-binary": ".bin",
    "fasttext-bin": ".bin",
}


@dataclass(frozen=True)
class CatalogueEntry:
    """What is known of one published file of word vectors."""

    name: str  # such as "glove.6B.300d"
    title: str  # of the collection that it belongs to
    page: str
    form: Form
    dim: int  # length of a word vector
    url: str  # of the download
    mirrors: tuple[str, ...] = ()
    member: str | None = None  # the wanted file, where an archive holds several
    shared: bool = False  # other names want other files of the same archive
    size: int | None = None  # bytes of the download
    size_about: int | None = None  # as published, rounded
    sha256: str | None = None
    md5: str | None = None
    words: int | None = None  # size of the vocabulary as published, mostly rounded
    language: str | None = None  # code, where there are several languages
    corpus: str = ""
    licence: str = ""  # empty where none is stated
    citation: str = ""

    @property
    def file(self) -> PublishedFile:
        """The download."""
        return PublishedFile(
            self.name,
            self.url,
            self.archive or self.path,
            mirrors=self.mirrors,
            unpacked=self.path if self.archive else None,
            size=self.size,
            size_about=self.size_about,
            sha256=self.sha256,
            md5=self.md5,
            licence=self.licence,
        )

    @property
    def path(self) -> Path:
        """Where the unpacked file is in the cache, or would be."""
        ending = _ENDINGS[self.form]
        name = self.name if self.name.endswith(ending) else f"{self.name}{ending}"
        return _folder() / name

    @property
    def archive(self) -> Path | None:
        """Where the packed download is in the cache; None if it is not packed."""
        name = self.url.rpartition("/")[2]
        return _folder() / name if name.endswith((".zip", ".gz")) else None


def catalogue_names() -> list[str]:
    """Return all names, one for each language, in the order of the catalogue."""
    return list(_entries())


def catalogue_entry(name: str) -> CatalogueEntry:
    """Return what is known of a published file.

    Raises UnknownPluginError if the catalogue has no such name; suggests near ones.

    Examples
    --------
    >>> catalogue_entry("fasttext.cc.de.300").url.rpartition("/")[2]
    'cc.de.300.bin.gz'
    """
    if name not in _entries():
        near = near_catalogue_names(name)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownPluginError(
            f"Expected the name of published word vectors. Got '{name}'.{hint} The "
            f"catalogue has {len(_entries())} names, see `zeroshot embeddings list`."
        )
    return _entries()[name]


def near_catalogue_names(name: str) -> list[str]:
    """Return at most three names that are spelt nearly so, the nearest first.

    Examples
    --------
    >>> near_catalogue_names("glove.6B.300")[0]
    'glove.6B.300d'
    """
    # People also know fastText's files by their own names, such as cc.de.300.
    by_lower = {known.lower().removeprefix("fasttext."): known for known in _entries()}
    by_lower |= {known.lower(): known for known in _entries()}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.75)
    return list(dict.fromkeys(by_lower[lower] for lower in near))


def catalogue_name(path: Path) -> str | None:
    """Return the name of a file that lies where `find_vectors` puts it, or None."""
    if os.path.abspath(path.parent) != os.path.abspath(_folder()):
        return None
    # A name with its ending, or one that has the ending already.
    for name in (path.stem, path.name):
        if name in _entries() and _entries()[name].path.name == path.name:
            return name
    return None


def find_vectors(name: str) -> Path:
    """Return the file of published word vectors, fetching it if need be.

    It is looked for in the cache, ``vectors/`` in `zeroshot.storage.cache.cache_root`:
    the file itself, then the packed download, which may have been put there by hand.
    Before anything is fetched, its size and licence are told on stderr. An archive that
    serves several names is kept; another is deleted after unpacking.

    Where ``ZEROSHOT_MIRROR`` is set, files are fetched from that address instead of
    their publishers', by the last part of their address: with ``https://host/vectors``
    from ``https://host/vectors/glove.6B.zip``. Known sizes and hashes hold there too.

    ``name``: name in the catalogue. Returns path: the unpacked file. Raises
    UnknownPluginError if the catalogue has no such name; ArtifactError if the file is
    not in the cache and cannot be fetched (``ZEROSHOT_OFFLINE`` forbids it), or the
    download cannot be unpacked; says where to put which file.
    """
    entry = catalogue_entry(name)
    if os.path.isfile(entry.path):
        return entry.path
    if entry.archive is None:
        return entry.file.fetch()
    from zeroshot.storage.large_files import exclusive
    from zeroshot.storage.unpacking import unpack_member

    # One lock around both steps: a second process must not fetch again what the first
    # has just unpacked and deleted.
    with exclusive(entry.archive.with_name(f"{entry.archive.name}.unpacked")):
        if not os.path.isfile(entry.path):
            by_hand = os.path.isfile(entry.archive)
            entry.file.fetch()
            unpack_member(entry.archive, entry.path, member=entry.member)
            if not by_hand and not entry.shared:
                entry.archive.unlink(missing_ok=True)
    return entry.path


def _folder() -> Path:
    return cache_root() / "vectors"


@cache
def _entries() -> Mapping[str, CatalogueEntry]:
    text = files("zeroshot.embeddings").joinpath("catalogue.toml").read_text("utf-8")
    entries = {}
    for collection in tomllib.loads(text)["collection"]:
        downloads = collection.pop("download")
        languages = collection.pop("languages", "").split() or [None]
        for facts in downloads:
            names = facts.pop("names")
            facts["mirrors"] = tuple(facts.get("mirrors", ()))
            for language in languages:
                for name, row in names.items():
                    known = collection | facts | row | {"name": name}
                    for key in ("name", "url"):
                        known[key] = known[key].replace("{lang}", language or "")
                    entry = CatalogueEntry(
                        **known, language=language, shared=len(names) > 1
                    )
                    entries[entry.name] = entry
    return entries
