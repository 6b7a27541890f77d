"""The index of tokens: what it finds, and what it survives."""

import os
import random
import sys
import time
import warnings
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from vector_files import NO_ROOM, printed, start_lookup, written

from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import ArtifactError, ZeroShotWarning

N_LARGE, DIM_LARGE = 2000, 256  # 10 MB as text: the index is kept


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(N_LARGE, DIM_LARGE))
    vectors = vectors.astype(np.float32)
    path = tmp_path_factory.mktemp("large") / "large.txt"
    path.write_bytes(written([f"w{i}" for i in range(N_LARGE)], vectors, "glove"))
    return path, vectors


def index_files(cache_folder: Path) -> list[Path]:
    # Not those of killed builders, whose names start with a dot.
    return list((cache_folder / "vectors").glob("[!.]*.index"))


def test_lookup_second_process_uses_the_index_of_the_first(large, cache_folder):
    path, vectors = large
    for _ in range(2):
        process = start_lookup(path, "w7", "absent", f"w{N_LARGE - 1}")
        out, err = process.communicate(timeout=60)
        assert err == ""
        expected = printed([True, False, True], vectors[[7, N_LARGE - 1]])
        assert out.splitlines() == ["ready", expected]
        (kept,) = index_files(cache_folder)
        made = kept.stat().st_ino, kept.stat().st_mtime_ns
    process = start_lookup(path, "w7")
    process.communicate(timeout=60)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == made


def test_lookup_small_file_leaves_nothing_in_the_cache(tmp_path, cache_folder):
    path = tmp_path / "tiny"
    path.write_text("3 2\nzebra 1 2\nokapi 3 4\nzebra 5 6\n")
    assert WordVectors(path).lookup(["zebra"])[0].tolist() == [[1, 2]]
    assert list(cache_folder.rglob("*")) == []


def test_lookup_tokens_of_the_same_hash_are_told_apart(tmp_path):
    seen: dict[int, str] = {}
    pairs = []
    for i in range(300_000):  # some ten pairs share a CRC-32
        token = f"{i * 2654435761 % 2**32:x}"
        other = seen.setdefault(crc32(token.encode()), token)
        if other != token:
            pairs.append((other, token))
    assert len(pairs) > 2
    path = tmp_path / "colliding"
    known = [token for pair in pairs[1:] for token in pair] + [pairs[0][0]]
    path.write_text("".join(f"{token} {i} 1\n" for i, token in enumerate(known)))
    vectors, found = WordVectors(path).lookup([*known, pairs[0][1]])
    assert found.tolist() == [True] * len(known) + [False]
    assert vectors[:-1, 0].tolist() == list(range(len(known)))
    assert list(WordVectors(path).vocabulary()) == known


def test_lookup_damaged_index_is_ignored_and_made_again(large, cache_folder):
    path, vectors = large

    def look() -> None:
        got, found = WordVectors(path).lookup(["w0", "absent", "w1999"])
        assert found.tolist() == [True, False, True]
        np.testing.assert_array_equal(got[found], vectors[[0, 1999]])

    look()
    (kept,) = index_files(cache_folder)
    whole = kept.read_bytes()
    assert len(whole) == 96 + 16 * N_LARGE + 8
    draw = random.Random(0)
    places = [*range(0, 96, 5), *draw.sample(range(96, len(whole)), 10)]
    damages = [whole[:at] for at in places] + [whole + b"\0", whole + whole]
    for at in places:
        damages.append(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
    for damaged in damages:
        kept.write_bytes(damaged)
        look()
        assert kept.read_bytes() == whole


def test_lookup_replaced_file_gives_the_new_vectors(tmp_path, cache_folder):
    path = tmp_path / "replaced"
    rest = "".join(f"w{i}{' 1.25' * 100}\n" for i in range(9000))  # its index is kept

    def look(first: str) -> list[float]:
        path.write_text(first + rest)
        return WordVectors(path).lookup(["zebra"])[0][0, :2].tolist()

    row = " 0" * 98 + "\n"
    assert look("zebra 1 2" + row) == [1, 2]
    assert look("okapi 1 2" + row + "zebra 5 6" + row) == [5, 6]  # another size
    assert look("zebra 7 8" + row + "okapi 1 2" + row) == [7, 8]  # the same size
    status = path.stat()
    path.write_text("okapi 1 2" + row + "zebra 5 6" + row + rest)  # and the same time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert WordVectors(path).lookup(["zebra"])[0][0, :2].tolist() == [5, 6]
    assert len(index_files(cache_folder)) == 1


def test_lookup_file_changed_while_in_use_is_an_error(tmp_path):
    path = tmp_path / "changed"
    path.write_text("2 2\nzebra 1 2\nokapi 3 4\n")
    embeddings = WordVectors(path)
    embeddings.lookup(["zebra"])
    path.write_text("2 2\nzebra 9 9\nokapi 88 8\n")
    with pytest.raises(ArtifactError, match="changed"):
        embeddings.lookup(["okapi"])
    with pytest.raises(ArtifactError, match="changed"):
        list(embeddings.vocabulary())


def test_lookup_broken_row_names_the_line_and_blank_lines_count(tmp_path):
    path = tmp_path / "odd"
    path.write_text("\na 1 2 3\n\nb 1 2 3\n\n\nx 1 oops 3\ny 1 nan 2\nc 4 5 6\n\n ")
    assert WordVectors(path).lookup(["c", "b", "a"])[1].all()
    with pytest.raises(ArtifactError, match=r"line 7 .*oops"):
        WordVectors(path).lookup(["x"])
    with pytest.raises(ArtifactError, match="line 8 "):
        WordVectors(path).lookup(["y"])


def test_lookup_without_a_writable_cache_works_and_warns_once(
    large, tmp_path, monkeypatch
):
    path, vectors = large
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    embeddings = WordVectors(path)
    with pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE") as caught:
        np.testing.assert_array_equal(embeddings.lookup(["w5"])[0][0], vectors[5])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WordVectors(path).lookup(["w5", "w6"])[1].all()


def test_lookup_full_disk_works_and_leaves_nothing(large, cache_folder):
    path, vectors = large
    out, err = start_lookup(path, "w5", before=NO_ROOM).communicate(timeout=60)
    assert out.splitlines() == ["ready", printed([True], vectors[5])]
    assert "ZeroShotWarning" in err
    assert [file for file in cache_folder.rglob("*") if file.is_file()] == []


def test_lookup_concurrent_builders_all_find_the_same(large, cache_folder):
    path, vectors = large
    processes = [start_lookup(path, "w3", f"w{N_LARGE - 2}") for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        expected = printed([True, True], vectors[[3, N_LARGE - 2]])
        assert (out.splitlines(), err) == (["ready", expected], "")
    assert len(index_files(cache_folder)) == 1


def kill_builders(path: Path, vectors: np.ndarray, runs: int, cache: Path) -> None:
    draw = random.Random(0)
    longest, whole = 0.03, None
    for run in range(runs):
        for kept in index_files(cache):
            kept.unlink()
        process = start_lookup(path, "w5")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0, longest))
        process.kill()
        process.communicate(timeout=60)
        made = index_files(cache)
        # So that about half are killed before the index is whole, on any machine.
        longest *= 0.7 if made else 1.4
        # What is there is whole: the next one takes it as it is, or makes the same.
        content = made[0].read_bytes() if made else None
        got, found = WordVectors(path).lookup([f"w{run}", "absent"])
        assert found.tolist() == [True, False]
        np.testing.assert_array_equal(got[0], vectors[run])
        (kept,) = index_files(cache)
        whole = whole or kept.read_bytes()
        assert kept.read_bytes() == whole
        assert content in (None, whole)


def test_index_killed_builders_leave_nothing_half_made(large, cache_folder):
    kill_builders(*large, 8, cache_folder)


def test_index_left_over_of_a_killed_builder_is_removed_when_old(large, cache_folder):
    path, _ = large
    WordVectors(path).lookup(["w1"])
    (kept,) = index_files(cache_folder)
    kept.unlink()
    old = kept.with_name(f".{kept.stem}-abc.index")
    new = kept.with_name(f".{kept.stem}-xyz.index")
    for left_over in (old, new):
        left_over.write_bytes(b"half")
    os.utime(old, (1, 1))
    WordVectors(path).lookup(["w1"])
    assert sorted(kept.parent.iterdir()) == sorted([kept, new])


@pytest.mark.slow
def test_index_many_killed_builders_leave_nothing_half_made(large, cache_folder):
    kill_builders(*large, 200, cache_folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse by default")
def test_lookup_file_of_more_than_4_gb(tmp_path, cache_folder):
    dim = 1 << 15
    step = len(b"w00000 ") + 4 * dim
    count = (9 << 29) // step  # 4.5 GiB, nearly all of it a hole
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.write(b"%d %d\n" % (count, dim))
        start = file.tell()
        for row in range(count):
            file.seek(start + row * step)
            file.write(b"w%05d " % row + np.float32([row, 1]).tobytes())
        file.truncate(start + count * step)
    assert path.stat().st_size > 1 << 32
    wanted = [0, 1, count // 2, count - 2, count - 1]
    for _ in range(2):
        vectors, found = WordVectors(path).lookup([f"w{row:05}" for row in wanted])
        assert found.all()
        assert vectors[:, 0].tolist() == wanted
    assert len(index_files(cache_folder)) == 1
    path.unlink()
