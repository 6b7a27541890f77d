import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import GloVe
from zeroshot.embeddings.catalogue import catalogue_entry
from zeroshot.errors import ArtifactError
from zeroshot.features import extract_features
from zeroshot.shapes import make_shapes
from zeroshot.storage.contents import clear_cache, free_space, list_cache

NAME = "glove.6B.50d"


@pytest.fixture
def features(cache_folder):
    """Features of six images in the cache; return the database."""
    extract_features(
        make_shapes(2, colors=["red"], shapes=["star", "ring", "cross"])[0], ColorHOG()
    )
    (database,) = cache_folder.glob("features/*")
    return database


def put(path, content, *, recorded=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if recorded:
        digest = hashlib.sha256(content).hexdigest()
        path.with_name(f"{path.name}.sha256").write_text(f"{digest} *{path.name}\n")
    return path


@pytest.fixture
def vectors(cache_folder):
    """A download where the catalogue looks for it."""
    return put(catalogue_entry(NAME).path, b"red 1 2\ngreen 3 4\n")


def files_below(folder):
    return {path for path in folder.rglob("*") if not path.is_dir()}


def test_list_of_no_cache_is_empty(cache_folder, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_CACHE", str(cache_folder / "nowhere"))
    assert list_cache() == []
    assert clear_cache() == 0
    assert not (cache_folder / "nowhere").exists()


def test_list_names_features_after_their_backbone(features):
    (entry,) = list_cache()
    assert (entry.kind, entry.name) == ("features", "color-hog.sqlite")
    assert entry.paths == (features,)
    assert entry.size == features.stat().st_size


def test_list_names_downloads_with_their_records(vectors):
    archive = put(catalogue_entry(NAME).archive, b"PK")
    entries = list_cache()
    assert [entry.kind for entry in entries] == ["vectors", "vectors"]
    for entry, path in zip(entries, (vectors, archive), strict=True):
        assert entry.name == path.name
        record = path.with_name(f"{path.name}.sha256")
        assert entry.paths == (path, record)
        assert entry.size == path.stat().st_size + record.stat().st_size


def test_list_names_what_was_worked_out_after_the_vector_file(tmp_path, cache_folder):
    rng = np.random.default_rng(0)
    file = tmp_path / "words.txt"
    rows = (" ".join(map(str, row)) for row in rng.normal(size=(4000, 60)).round(17))
    file.write_text("".join(f"w{n} {row}\n" for n, row in enumerate(rows)))
    assert file.stat().st_size > 4 << 20
    GloVe(file).lookup(["w7"])
    (entry,) = list_cache()
    assert (entry.kind, entry.name) == ("vectors", "words.txt.index")
    assert set(entry.paths) == files_below(cache_folder)
    assert clear_cache("features", "networks") == 0
    assert clear_cache("vectors") == entry.size
    assert files_below(cache_folder) == set()
    assert file.exists()


@pytest.mark.parametrize(
    "names",
    [
        ["glove.6B.zip.part", "glove.6B.zip.part.json"],
        ["glove.6B.zip.part.json"],
        ["glove.6B.50d.txt.unpacking"],
        ["glove.6B.50d.txt.sha256"],
        [".glove.6B.50d.txt-a1b2c3_4.sha256"],
        [f"words.txt-{'0a' * 8}.{ending}" for ending in ("unpacked", "unpacked.key")],
    ],
)
def test_clear_deletes_what_belongs_to_a_file_that_is_not_there(cache_folder, names):
    for name in names:
        put(cache_folder / "vectors" / name, b"half", recorded=False)
    (entry,) = list_cache()
    assert (entry.kind, entry.size) == ("vectors", 4 * len(names))
    assert clear_cache() == entry.size
    assert files_below(cache_folder) == set()


def test_list_and_clear_do_with_features_of_the_format_before_sqlite(cache_folder):
    folder = cache_folder / "features" / ("0f" * 16)
    put(folder / f"{'0a' * 16}.features", b"old", recorded=False)
    put(folder / "backbone.txt", b"name", recorded=False)
    put(folder / ".0a0a-abcdefgh.features", b"half", recorded=False)
    (entry,) = list_cache()
    assert (entry.kind, entry.size) == ("features", 11)
    assert clear_cache("features") == 11
    assert not folder.exists()


def test_free_space_of_a_folder_that_is_not_there_yet_is_that_of_its_disk(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert abs(free_space(tmp_path / "not" / "there") - free) < 1 << 30


@pytest.mark.parametrize("what", ["features", "vectors"])
def test_clear_deletes_one_kind_and_tells_how_much(
    features, vectors, cache_folder, what
):
    sizes = {path: path.stat().st_size for path in files_below(cache_folder)}
    freed = clear_cache(what)
    left = files_below(cache_folder)
    assert {path.relative_to(cache_folder).parts[0] for path in left} == {
        "vectors" if what == "features" else "features"
    }
    assert freed == sum(sizes.values()) - sum(sizes[path] for path in left)


def test_clear_leaves_what_is_not_ours(features, vectors, cache_folder):
    foreign = {
        put(cache_folder / place, b"dear", recorded=False)
        for place in (
            "letter.txt",
            "features/letter.features",
            "features/photos/a.features",
            f"features/{'0f' * 16}/letter.txt",
            "features/letter.sqlite",
            "networks/letter.network",
            "vectors/letter.txt",
            "vectors/letter.txt.part",
            "vectors/glove.6B.100d.txt",
            "vectors/my/glove.6B.50d.txt",
            "vectors/letter-0123456789abcdef.txt",
        )
    }
    others = {path for e in list_cache() if e.kind == "other" for path in e.paths}
    assert others == {p for p in foreign if p.parent != cache_folder}
    clear_cache()
    assert files_below(cache_folder) == foreign


@pytest.fixture
def networks(cache_folder):
    """A converted network, and a module of TF-Hub with a file of its user beside it."""
    return {
        put(cache_folder / place, b"net", recorded=False)
        for place in (
            f"networks/{'0a' * 16}.network",
            f"tfhub/{'0b' * 20}/saved_model.pb",
            f"tfhub/{'0b' * 20}/variables/variables.index",
        )
    }


def test_list_shows_networks_and_modules_and_clear_deletes_them(
    networks, features, cache_folder
):
    foreign = put(cache_folder / "tfhub" / "letter.txt", b"dear", recorded=False)
    found = {entry.kind: entry for entry in list_cache()}
    assert set(found) == {"features", "networks", "tfhub", "other"}
    assert {*found["networks"].paths, *found["tfhub"].paths} == networks
    assert clear_cache("networks", "tfhub") == 9
    assert features.exists()
    assert list((cache_folder / "tfhub").iterdir()) == [foreign]


def test_clear_deletes_a_link_and_not_what_it_leads_to(tmp_path, cache_folder):
    mine = put(tmp_path / "mine.txt", b"red 1 2\n" * 99, recorded=False)
    link = catalogue_entry(NAME).path
    put(link, b"red 1 2")
    link.unlink()
    link.symlink_to(mine)
    assert clear_cache() < mine.stat().st_size
    assert not link.is_symlink()
    assert mine.exists()


@pytest.mark.parametrize("folder", ["vectors", "features"])
def test_clear_refuses_a_folder_that_leads_out_of_the_cache(
    features, vectors, tmp_path, cache_folder, folder
):
    (cache_folder / folder).rename(tmp_path / folder)
    (cache_folder / folder).symlink_to(tmp_path / folder)
    before = files_below(tmp_path)
    with pytest.raises(ArtifactError, match=f"'{cache_folder / folder}"):
        clear_cache()
    assert files_below(tmp_path) == before
    assert features.exists()
    assert vectors.exists()


def test_clear_refuses_while_another_process_makes_a_file(vectors, cache_folder):
    code = """
import sys
from pathlib import Path
from zeroshot.storage.large_files import exclusive
with exclusive(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(vectors)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(ArtifactError, match="which is locked"):
            clear_cache()
        assert vectors.exists()
        process.communicate()
    assert clear_cache() > 0
    assert not vectors.exists()
