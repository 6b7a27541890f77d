import gzip
import io
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from flaky_server import FlakyServer, Reply

from zeroshot import registry
from zeroshot.embeddings.catalogue import (
    catalogue_entry,
    catalogue_name,
    catalogue_names,
    find_vectors,
    near_catalogue_names,
)
from zeroshot.errors import ArtifactError, UnknownPluginError, ZeroShotError
from zeroshot.storage.large_files import readable_size

ENTRIES = {name: catalogue_entry(name) for name in catalogue_names()}

# ------------------------------------------------------------------------------- facts

# Written down from the pages of the publishers.
PUBLISHED = {
    "glove.6B.300d": ("/glove.6B.zip", "glove-text", 300, 400_000),
    "glove.42B.300d": ("/glove.42B.300d.zip", "glove-text", 300, 1_900_000),
    "glove.840B.300d": ("/glove.840B.300d.zip", "glove-text", 300, 2_200_000),
    "glove.twitter.27B.25d": ("/glove.twitter.27B.zip", "glove-text", 25, 1_200_000),
    "glove.2024.dolma.300d": (
        "//nlp.stanford.edu/data/wordvecs/glove.2024.dolma.300d.zip",
        "glove-text",
        300,
        1_200_000,
    ),
    "glove.2024.wikigiga.50d": (
        "/glove.2024.wikigiga.50d.zip",
        "glove-text",
        50,
        1_200_000,
    ),
    "word2vec-google-news-300": (
        "/word2vec-google-news-300.gz",
        "word2vec-binary",
        300,
        3_000_000,
    ),
    "fasttext.wiki-news-300d-1M": (
        "/vectors-english/wiki-news-300d-1M.vec.zip",
        "word2vec-text",
        300,
        1_000_000,
    ),
    "fasttext.crawl-300d-2M-subword": (
        "/vectors-english/crawl-300d-2M-subword.zip",
        "fasttext-bin",
        300,
        2_000_000,
    ),
    "glove-wiki-gigaword-50": (
        "/glove-wiki-gigaword-50/glove-wiki-gigaword-50.gz",
        "word2vec-text",
        50,
        400_000,
    ),
    "numberbatch": (
        "/downloads/2019/numberbatch/numberbatch-en-19.08.txt.gz",
        "word2vec-text",
        300,
        None,
    ),
    "fasttext.cc.de.300": (
        "https://dl.fbaipublicfiles.com/fasttext/vectors-crawl/cc.de.300.bin.gz",
        "fasttext-bin",
        300,
        None,
    ),
    "fasttext.cc.de.300.vec": (
        "https://dl.fbaipublicfiles.com/fasttext/vectors-crawl/cc.de.300.vec.gz",
        "word2vec-text",
        300,
        None,
    ),
    "fasttext.wiki.de.align": (
        "https://dl.fbaipublicfiles.com/fasttext/vectors-aligned/wiki.de.align.vec",
        "word2vec-text",
        300,
        None,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_catalogue_entry_has_the_published_facts(name):
    url, *facts = PUBLISHED[name]
    entry = catalogue_entry(name)
    assert entry.url.endswith(url)
    assert [entry.form, entry.dim, entry.words] == facts


def test_catalogue_names_hold_every_language_once():
    names = catalogue_names()
    assert len(names) == len(set(names))
    assert sum(name.endswith(".align") for name in names) == 44
    # 157 languages and English.
    assert sum(bool(re.fullmatch(r"fasttext\.cc\.\w+\.300", n)) for n in names) == 158


def test_catalogue_languages_are_those_of_the_official_library():
    util = pytest.importorskip("fasttext.util.util")
    ours = {e.language for e in ENTRIES.values() if e.name.startswith("fasttext.cc.")}
    assert ours == set(util.valid_lang_ids)


@pytest.mark.parametrize("name", [n for n in ENTRIES if ".cc." not in n])
def test_catalogue_entry_is_complete_and_consistent(name):
    entry = ENTRIES[name]
    assert all(url.startswith("https://") for url in (entry.url, *entry.mirrors))
    assert "{" not in entry.url + entry.name
    assert entry.citation
    assert entry.corpus
    assert entry.page.startswith("https://")
    assert entry.licence or entry.title == "word2vec"
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entry.md5 is None or re.fullmatch("[0-9a-f]{32}", entry.md5)
    assert entry.sha256 is None or entry.size is not None
    assert f"{entry.dim}" in name or entry.language or name == "numberbatch"
    # Only an archive of several files needs to be told which one is wanted.
    assert (entry.member is not None) == entry.shared
    alike = [e.name for e in ENTRIES.values() if e.url == entry.url]
    assert (len(alike) > 1) == entry.shared


def test_catalogue_entries_have_files_of_their_own():
    paths = [entry.path for entry in ENTRIES.values()]
    archives = {e.archive for e in ENTRIES.values() if e.archive is not None}
    assert len(set(paths)) == len(paths)
    assert not archives & set(paths)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("glove.6B.300", "glove.6B.300d"),
        ("Glove6B.300D", "glove.6B.300d"),
        ("word2vec-google-news", "word2vec-google-news-300"),
        ("cc.de.300", "fasttext.cc.de.300"),
        ("crawl-300d-2M-subwords", "fasttext.crawl-300d-2M-subword"),
        ("fasttext.wiki.de.aligned", "fasttext.wiki.de.align"),
    ],
)
def test_catalogue_entry_near_a_name_suggests_it(wrong, meant):
    assert near_catalogue_names(wrong)[0] == meant
    with pytest.raises(UnknownPluginError) as caught:
        catalogue_entry(wrong)
    assert f"Did you mean '{meant}'" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("wrong", ["", "qqqqqqqqqq", "a" * 10_000])
def test_catalogue_entry_far_from_any_name_suggests_nothing(wrong):
    with pytest.raises(UnknownPluginError, match="391 names") as caught:
        catalogue_entry(wrong)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_catalogue_name_of_the_file_in_the_cache_is_the_name(name):
    assert catalogue_name(catalogue_entry(name).path) == name


def test_catalogue_name_of_any_other_file_is_none(tmp_path):
    path = catalogue_entry("glove.6B.50d").path
    assert catalogue_name(tmp_path / path.name) is None
    assert catalogue_name(path.with_suffix(".bin")) is None
    assert catalogue_name(path.parent) is None


# ------------------------------------------------------------------------ find_vectors

NAME = {
    "zip": "glove.2024.wikigiga.100d",
    "gz": "fasttext.cc.de.300.vec",
    "plain": "fasttext.wiki.de.align",
    "bin": "fasttext.crawl-300d-2M-subword",
    "vec": "fasttext.crawl-300d-2M-subword.vec",
}


def text(dim: int, header: bytes = b"") -> bytes:
    rows = [f"word{n} " + " ".join(["0.5"] * dim) for n in range(40)]
    return header + "\n".join(rows).encode() + b"\n"


TEXT = {"zip": text(100)} | dict.fromkeys(
    ["gz", "plain", "vec"], text(300, b"40 300\n")
)
TEXT["bin"] = b"a model"


def zipped(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


PACKED = zipped({"wiki_giga_2024_100.txt": TEXT["zip"]})


@pytest.fixture
def mirror(monkeypatch):
    """A mirror of what is published, with small files: no other server is asked."""
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = FlakyServer()
    shared = {
        "crawl-300d-2M-subword.bin": TEXT["bin"],
        "crawl-300d-2M-subword.vec": TEXT["vec"],
    }
    contents = {
        "glove.2024.wikigiga.100d.zip": PACKED,
        "crawl-300d-2M-subword.zip": zipped(shared),
        "cc.de.300.vec.gz": gzip.compress(TEXT["gz"]),
        "wiki.de.align.vec": TEXT["plain"],
        "glove.6B.zip": PACKED,  # not what is published under that name
    }
    for name, content in contents.items():
        server.serve(f"/of/us/{name}", Reply(content))
    monkeypatch.setenv("ZEROSHOT_MIRROR", server.serve("/of/us/"))
    yield server
    server.close()


def asked(mirror: FlakyServer) -> list[str]:
    """Paths of the requests so far."""
    return [path for path, _ in mirror.requests]


@pytest.mark.parametrize("kind", NAME)
def test_find_vectors_fetches_and_unpacks_once(mirror, kind, capsys):
    path = find_vectors(NAME[kind])
    assert path.read_bytes() == TEXT[kind]
    told = capsys.readouterr().err
    assert f"'{NAME[kind]}' from {os.environ['ZEROSHOT_MIRROR']}" in told
    [replies] = [r for path, r in mirror.replies.items() if path in asked(mirror)]
    stated = readable_size(len(replies[0].content))  # by the server
    assert f"({'about 560 MiB' if kind == 'zip' else stated};" in told
    assert catalogue_entry(NAME[kind]).licence in told
    assert find_vectors(NAME[kind]) == path
    assert not capsys.readouterr().err
    assert len(mirror.requests) == 1
    archive = catalogue_entry(NAME[kind]).archive
    assert archive is None or archive.exists() == (kind in ("bin", "vec"))


def test_find_vectors_of_a_shared_archive_fetches_it_once(mirror):
    assert find_vectors(NAME["bin"]).read_bytes() == TEXT["bin"]
    assert find_vectors(NAME["vec"]).read_bytes() == TEXT["vec"]
    assert len(mirror.requests) == 1


def test_find_vectors_from_a_mirror_with_another_file_refuses_it(mirror):
    with pytest.raises(ArtifactError, match="bytes, not 862182613"):
        find_vectors("glove.6B.50d")
    assert not catalogue_entry("glove.6B.50d").path.exists()


def test_find_vectors_far_larger_than_published_are_refused(mirror):
    huge = Reply(b"PK", claimed=1_200_000_000)  # 587 MB are published
    mirror.serve("/of/us/glove.2024.wikigiga.100d.zip", huge)
    with pytest.raises(ArtifactError, match="not at most 1174000000"):
        find_vectors(NAME["zip"])


def test_find_vectors_offline_says_what_to_put_where(mirror, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    entry = catalogue_entry("glove.6B.50d")
    with pytest.raises(ArtifactError) as caught:
        find_vectors("glove.6B.50d")
    for expected in (entry.url, str(entry.path), str(entry.archive)):
        assert expected in str(caught.value)
    assert not mirror.requests


@pytest.mark.parametrize("packed", [True, False])
def test_find_vectors_put_there_by_hand_are_used_offline(monkeypatch, packed):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    entry = catalogue_entry(NAME["zip"])
    place = entry.archive if packed else entry.path
    place.parent.mkdir(parents=True)
    place.write_bytes(PACKED if packed else TEXT["zip"])
    assert find_vectors(entry.name).read_bytes() == TEXT["zip"]
    # What the user put there is the user's.
    assert place.exists()


def test_find_vectors_in_an_archive_that_is_broken_names_it():
    entry = catalogue_entry("glove.6B.50d")
    entry.archive.parent.mkdir(parents=True)
    entry.archive.write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(ArtifactError, match=r"'.*glove\.6B\.zip'.*Delete it"):
        find_vectors("glove.6B.50d")
    assert not entry.path.exists()


def test_find_vectors_by_two_processes_fetches_and_unpacks_once(mirror):
    entry = catalogue_entry(NAME["zip"])
    mirror.serve("/of/us/glove.2024.wikigiga.100d.zip", Reply(PACKED, delay=0.5))
    command = [sys.executable, "-m", "zeroshot", "embeddings", "download", entry.name]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = [child.communicate()[0].strip() for child in children]
    assert printed == [str(entry.path)] * 2
    assert len(mirror.requests) == 1
    assert not entry.archive.exists()


# ---------------------------------------------------------------------- in the registry


def test_resolve_embeddings_of_a_published_name_finds_the_words(mirror):
    provider = registry.resolve_embeddings(NAME["zip"])
    vectors, found = provider.lookup(["word7", "unknown"])
    assert found.tolist() == [True, False]
    np.testing.assert_array_equal(vectors[0], np.full(100, 0.5))
    assert provider.name == "glove"


def test_resolve_embeddings_of_a_published_name_prefers_a_file(
    mirror, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glove.6B.50d").write_text("mine 1 2\n")
    assert registry.resolve_embeddings("glove.6B.50d").dim == 2
    assert not mirror.requests


@pytest.mark.parametrize(
    "wrong", ["glove.6B.300", "word2vec-google", "glove.6B.300d.txt", "cc.de.300.bin"]
)
def test_resolve_embeddings_near_a_published_name_suggests_it(wrong):
    with pytest.raises(UnknownPluginError, match="Did you mean") as caught:
        registry.resolve_embeddings(wrong)
    message = str(caught.value)
    assert f"'{near_catalogue_names(wrong)[0]}'" in message
    assert "Registered: " in message
    assert len(message) < 500


def test_resolve_embeddings_of_a_missing_path_near_a_published_name_is_a_path(tmp_path):
    with pytest.raises(ArtifactError, match="neither"):
        registry.resolve_embeddings(os.path.join(tmp_path, "glove.6B.300d"))


def test_resolve_embeddings_offline_is_an_error_of_ours(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ZeroShotError, match=r"glove\.840B\.300d\.zip"):
        registry.resolve_embeddings("glove.840B.300d")
