"""Packed vector files, unpacked once into the cache."""

import gzip
import random
import shutil
import time
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from vector_files import NO_ROOM, packed, printed, start_lookup, written

from zeroshot.embeddings import FastText, open_vectors
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import ArtifactError, ZeroShotWarning

PACKINGS = ["gz", "bz2", "xz", "zip"]
N_WORDS, DIM = 2000, 160
VECTORS = np.random.default_rng(0).normal(size=(N_WORDS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def content() -> bytes:
    return written([f"w{i}" for i in range(N_WORDS)], VECTORS, "binary")


@pytest.fixture(scope="module")
def packed_file(tmp_path_factory, content: bytes) -> Path:
    path = packed(content, "gz", tmp_path_factory.mktemp("gz") / "vectors.txt.gz")
    assert path.stat().st_size > 1 << 20  # a smaller one is unpacked in memory
    return path


def kept_files(cache_folder: Path, pattern: str = "*") -> list[Path]:
    return [file for file in cache_folder.rglob(pattern) if file.is_file()]


def kept_copy(cache_folder: Path) -> Path:
    (kept,) = kept_files(cache_folder, "[!.]*.unpacked")
    return kept


@pytest.fixture(params=PACKINGS)
def any_packing(request, content, tmp_path) -> Path:
    return packed(content, request.param, tmp_path / "any")


def test_lookup_packed_file_is_unpacked_once(any_packing, content, cache_folder):
    assert WordVectors(any_packing).lookup(["w9"])[1].all()
    kept = kept_copy(cache_folder)
    assert kept.read_bytes() == content
    made = kept.stat()
    vectors, _ = WordVectors(any_packing).lookup(["w9"])
    np.testing.assert_array_equal(vectors[0], VECTORS[9])
    assert kept.stat() == made


@pytest.mark.parametrize("packing", ["plain", "gz", "zip"])
def test_lookup_small_file_leaves_nothing_in_the_cache(tmp_path, cache_folder, packing):
    path = packed(b"zebra 1 2\nokapi 3 4\n", packing, tmp_path / "small")
    assert WordVectors(path).lookup(["okapi"])[0].tolist() == [[3, 4]]
    assert kept_files(cache_folder) == []


def test_lookup_packed_file_replaced_is_unpacked_again(
    packed_file, tmp_path, cache_folder
):
    path = tmp_path / "any"
    path.write_bytes(packed_file.read_bytes())
    WordVectors(path).lookup(["w9"])
    other = written([f"w{i}" for i in range(N_WORDS)], VECTORS[::-1], "binary")
    packed(other, "xz", path)
    vectors, _ = WordVectors(path).lookup(["w9"])
    np.testing.assert_array_equal(vectors[0], VECTORS[-10])
    assert kept_copy(cache_folder).read_bytes() == other


def test_lookup_copy_cut_in_the_cache_is_unpacked_again(
    packed_file, content, cache_folder
):
    WordVectors(packed_file).lookup(["w9"])
    kept = kept_copy(cache_folder)
    (note,) = kept_files(cache_folder, "*.unpacked.key")
    damages = [(kept, b""), (kept, content[:-1]), (kept, content + b"x")]
    damages += [(note, b""), (note, b"\xff\xfe"), (note, note.read_bytes()[:-1])]
    for file, damaged in damages:
        file.write_bytes(damaged)
        assert WordVectors(packed_file).lookup(["w9"])[1].all()
        assert kept.read_bytes() == content


def test_lookup_damaged_packed_file_is_an_error_and_leaves_nothing(
    any_packing, cache_folder
):
    whole = any_packing.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + b"x" + whole[middle + 1 :]):
        any_packing.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=str(any_packing)):
            WordVectors(any_packing).lookup(["w9"])
        assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_bomb_is_an_error_and_leaves_nothing(tmp_path, cache_folder):
    path = tmp_path / "bomb"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a 1 2\nb 1 2\n")
        for _ in range(100):
            file.write(b"\n" * (1 << 20))
    with pytest.raises(ArtifactError, match="unpack it yourself"):
        WordVectors(path).lookup(["a"])
    assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_without_room_unpacks_in_memory(packed_file, cache_folder, monkeypatch):
    usage = namedtuple("usage", "total used free")(9 << 30, 9 << 30, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    embeddings = WordVectors(packed_file)
    with pytest.warns(ZeroShotWarning, match="1 MiB are free"):
        vectors, found = embeddings.lookup(["w9", "absent"])
    assert found.tolist() == [True, False]
    np.testing.assert_array_equal(vectors[0], VECTORS[9])
    assert list(embeddings.vocabulary())[:2] == ["w0", "w1"]
    assert kept_files(cache_folder, "*unpacked*") == []


def test_lookup_full_disk_unpacks_in_memory(packed_file, cache_folder):
    process = start_lookup(packed_file, "w5", before=NO_ROOM)
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["ready", printed([True], VECTORS[5])]
    assert "ZeroShotWarning" in err
    assert kept_files(cache_folder, "*unpacked*") == []


@pytest.mark.slow  # writes 1.1 GB
def test_lookup_too_large_for_memory_without_a_cache_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "large.gz"
    noise = np.random.default_rng(0).bytes(1 << 20).replace(b"\n", b"x")
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a 1 2\nb 3 4\n")
        for _ in range(8 * 1100):
            file.write(noise[: 1 << 13] + b"\n" * (15 << 13))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with (
        pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE"),
        pytest.raises(ArtifactError, match="Make room"),
    ):
        FastText(path).lookup(["a"])


def test_lookup_without_a_writable_cache_unpacks_in_memory(
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


def test_error_in_a_packed_file_names_it(tmp_path):
    path = packed(b"a 1 2\nb 3 4\nc 5\n", "gz", tmp_path / "ragged.gz")
    with pytest.raises(ArtifactError, match=r"line 3 of '.*/ragged\.gz'"):
        WordVectors(path).lookup(["a"])
    path = packed(b"a 1 2\nb 3 nan\nc 5 6\n", "gz", tmp_path / "odd.gz")
    with pytest.raises(ArtifactError, match=r"line 2 of '.*/odd\.gz'"):
        WordVectors(path).lookup(["b"])


def test_lookup_packed_file_second_process_waits_for_the_first(
    packed_file, cache_folder
):
    WordVectors(packed_file).lookup(["w5"])  # shows where the lock is
    (lock,) = kept_files(cache_folder, "*.lock")
    for kept in kept_files(cache_folder, "*unpacked*"):
        kept.unlink()
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
        longest *= 0.7 if kept_files(cache, "*.unpacked.key") else 1.4
        vectors, found = WordVectors(path).lookup([f"w{run}", "absent"])
        assert found.tolist() == [True, False]
        np.testing.assert_array_equal(vectors[0], VECTORS[run])
        (kept,) = kept_files(cache, "[!.]*.unpacked")
        assert kept.read_bytes() == content
    # What they left half-made is swept away when the file is unpacked once more.
    for note in kept_files(cache, "*.unpacked.key"):
        note.unlink()
    WordVectors(path).lookup(["w5"])
    assert kept_files(cache, ".*.unpacked") == []


@pytest.mark.slow  # 15 s of kills
def test_lookup_packed_file_killed_processes_leave_nothing_that_is_used(
    packed_file, content, cache_folder
):
    kill_unpackers(packed_file, content, 30, cache_folder)


@pytest.mark.slow
def test_lookup_packed_file_many_killed_processes_leave_nothing_that_is_used(
    packed_file, content, cache_folder
):
    kill_unpackers(packed_file, content, 200, cache_folder)
