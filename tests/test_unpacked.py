"""Packed vector files, unpacked once into the cache."""

import random
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from vector_files import packed, printed, start_lookup, written

from zeroshot.embeddings import open_vectors, unpacked
from zeroshot.embeddings.vectors.unpacked import unpacked_file
from zeroshot.embeddings.vectors.vector_cache import cached_path
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import ArtifactError, ZeroShotWarning

PACKINGS = ["gz", "bz2", "xz", "zip"]
N_WORDS, DIM = 2000, 256
VECTORS = np.random.default_rng(0).normal(size=(N_WORDS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def content() -> bytes:
    return written([f"w{i}" for i in range(N_WORDS)], VECTORS, "word2vec")


@pytest.fixture(scope="module")
def packed_file(tmp_path_factory, content: bytes) -> Path:
    path = packed(content, "gz", tmp_path_factory.mktemp("gz") / "vectors.txt.gz")
    assert path.stat().st_size > unpacked.LEAST_UNPACKED
    return path


def kept_files(cache_folder: Path, pattern: str = "*") -> list[Path]:
    return [file for file in cache_folder.rglob(pattern) if file.is_file()]


@pytest.mark.parametrize("packing", PACKINGS)
def test_unpacked_file_has_the_content_and_is_made_once(tmp_path, packing):
    path = packed(b"zebra 1 2\n" * 99, packing, tmp_path / "any")
    kept = unpacked_file(path, least=0)
    assert kept is not None
    assert kept.read_bytes() == b"zebra 1 2\n" * 99
    made = kept.stat()
    assert unpacked_file(path, least=0) == kept
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (
        made.st_ino,
        made.st_mtime_ns,
    )


def test_unpacked_file_plain_is_the_file_itself(tmp_path, cache_folder):
    path = packed(b"zebra 1 2\n", "plain", tmp_path / "plain")
    assert unpacked_file(path, least=0) == path
    assert kept_files(cache_folder) == []


def test_unpacked_file_small_is_left_packed(tmp_path, cache_folder):
    path = packed(b"zebra 1 2\n", "gz", tmp_path / "small")
    assert unpacked_file(path) is None
    assert kept_files(cache_folder) == []


def test_unpacked_file_replaced_is_unpacked_again(tmp_path, cache_folder):
    path = packed(b"zebra 1 2\n", "gz", tmp_path / "any")
    unpacked_file(path, least=0)
    packed(b"okapi 3 4 \n", "xz", path)
    kept = unpacked_file(path, least=0)
    assert kept is not None
    assert kept.read_bytes() == b"okapi 3 4 \n"
    assert kept_files(cache_folder, "*.unpacked") == [kept]


def test_unpacked_file_cut_in_the_cache_is_unpacked_again(tmp_path):
    path = packed(b"zebra 1 2\n" * 99, "gz", tmp_path / "any")
    kept = unpacked_file(path, least=0)
    assert kept is not None
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"x"):
        kept.write_bytes(damaged)
        assert unpacked_file(path, least=0) == kept
        assert kept.read_bytes() == whole
    note = cached_path(path, ".unpacked.key")
    for damaged in (b"", b"\xff\xfe", note.read_bytes()[:-1]):
        note.write_bytes(damaged)
        assert unpacked_file(path, least=0) == kept
        assert note.read_bytes() != damaged


@pytest.mark.parametrize("packing", PACKINGS)
def test_unpacked_file_damaged_is_an_error_and_leaves_nothing(
    tmp_path, cache_folder, packing
):
    noise = np.random.default_rng(0).bytes(3 << 20)
    path = packed(noise, packing, tmp_path / "any")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:9999] + b"x" + whole[10000:]):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=str(path)):
            unpacked_file(path, least=0)
        assert kept_files(cache_folder, "*unpacked*") == []


def test_unpacked_file_of_too_many_bytes_is_an_error(
    tmp_path, cache_folder, monkeypatch
):
    path = packed(bytes(9 << 20), "gz", tmp_path / "bomb")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(unpacked, "MOST_UNPACKED", 8 << 20)
    with pytest.raises(ArtifactError, match="unpack it yourself"):
        unpacked_file(path, least=0)
    assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_without_room_reads_the_packed_file(
    packed_file, cache_folder, monkeypatch
):
    monkeypatch.setattr(unpacked, "SPARE", 1 << 60)
    embeddings = WordVectors(packed_file)
    with pytest.warns(ZeroShotWarning, match="MiB are free"):
        vectors, found = embeddings.lookup(["w9", "absent"])
    assert found.tolist() == [True, False]
    np.testing.assert_array_equal(vectors[0], VECTORS[9])
    assert list(embeddings.vocabulary())[:2] == ["w0", "w1"]
    assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_full_disk_reads_the_packed_file(packed_file, cache_folder):
    before = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    )
    out, err = start_lookup(packed_file, "w5", before=before).communicate(timeout=60)
    assert out.splitlines() == ["ready", printed([True], VECTORS[5])]
    assert "ZeroShotWarning" in err
    assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_without_a_writable_cache_reads_the_packed_file(
    packed_file, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE"):
        vectors, _ = WordVectors(packed_file).lookup(["w9"])
    np.testing.assert_array_equal(vectors[0], VECTORS[9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WordVectors(packed_file).lookup(["w9"])[1].all()


def test_provider_of_a_packed_file_keeps_the_name_that_the_user_gave(packed_file):
    embeddings = open_vectors(packed_file)
    before = embeddings.fingerprint
    assert embeddings.lookup(["w9"])[1].all()
    assert open_vectors(packed_file).fingerprint == before
    assert embeddings.spec == f"word2vec:{packed_file}"


def test_error_in_a_packed_file_names_it_and_not_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "LEAST_UNPACKED", 0)
    path = packed(b"a 1 2\nb 3 4\nc 5\n", "gz", tmp_path / "ragged.gz")
    with pytest.raises(ArtifactError, match=r"line 3 of '.*/ragged\.gz'"):
        WordVectors(path).lookup(["a"])
    path = packed(b"a 1 2\nb 3 nan\nc 5 6\n", "gz", tmp_path / "odd.gz")
    with pytest.raises(ArtifactError, match=r"line 2 of '.*/odd\.gz'"):
        WordVectors(path).lookup(["b"])


def test_unpacked_file_second_process_waits_for_the_first(packed_file, cache_folder):
    lock = cached_path(packed_file, ".lock")
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        process = start_lookup(packed_file, "w5")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        assert process.poll() is None
        assert kept_files(cache_folder, "*unpacked*") == []
    out, err = process.communicate(timeout=60)
    assert (out.splitlines(), err) == ([printed([True], VECTORS[5])], "")
    assert len(kept_files(cache_folder, "*.unpacked")) == 1


def kill_unpackers(path: Path, content: bytes, runs: int, cache: Path) -> None:
    draw = random.Random(0)
    longest = 0.2
    for run in range(runs):
        for kept in kept_files(cache, "[!.]*"):
            kept.unlink()
        process = start_lookup(path, "w5")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0, longest))
        process.kill()
        process.communicate(timeout=60)
        # So that about half are killed before the copy is whole, on any machine.
        longest *= 0.7 if cached_path(path, ".unpacked.key").exists() else 1.4
        vectors, found = WordVectors(path).lookup([f"w{run}", "absent"])
        assert found.tolist() == [True, False]
        np.testing.assert_array_equal(vectors[0], VECTORS[run])
        (kept,) = kept_files(cache, "[!.]*.unpacked")
        assert kept.read_bytes() == content
    # What they left half-made is swept away when the file is unpacked once more.
    cached_path(path, ".unpacked.key").unlink()
    unpacked_file(path)
    assert kept_files(cache, ".*.unpacked") == []


@pytest.mark.slow  # 15 s of kills
def test_unpacked_file_killed_processes_leave_nothing_that_is_used(
    packed_file, content, cache_folder
):
    kill_unpackers(packed_file, content, 30, cache_folder)


@pytest.mark.slow
def test_unpacked_file_many_killed_processes_leave_nothing_that_is_used(
    packed_file, content, cache_folder
):
    kill_unpackers(packed_file, content, 200, cache_folder)
