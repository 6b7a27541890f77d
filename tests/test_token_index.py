"""The index of tokens: what it finds, and what it survives."""

import os
import random
import sys
import time
import warnings
from array import array
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vector_files import packed, printed, start_lookup, written

from zeroshot.embeddings.vectors import token_index, unpacked
from zeroshot.embeddings.vectors.token_index import TokenIndex, cached_index
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import ArtifactError, ZeroShotError, ZeroShotWarning

FORMS = ["glove", "word2vec", "vec", "crlf", "blank", "binary", "c-binary"]
PACKINGS = ["plain", "gz", "bz2", "xz", "zip"]
N_LARGE, DIM_LARGE = 2000, 256  # more than LEAST_INDEXED as text


@pytest.fixture
def small_too(monkeypatch):
    """Index and unpack even the smallest file."""
    monkeypatch.setattr(token_index, "LEAST_INDEXED", 0)
    monkeypatch.setattr(unpacked, "LEAST_UNPACKED", 0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.write_text("3 2\nzebra 1 2\nokapi 3 4\nzebra 5 6\n")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(N_LARGE, DIM_LARGE))
    vectors = vectors.astype(np.float32)
    path = tmp_path_factory.mktemp("large") / "large.txt"
    path.write_bytes(written([f"w{i}" for i in range(N_LARGE)], vectors, "glove"))
    assert path.stat().st_size > token_index.LEAST_INDEXED
    return path, vectors


def index_files(cache_folder: Path) -> list[Path]:
    # Not those of killed builders, whose names start with a dot.
    return list((cache_folder / "vectors").glob("[!.]*.index"))


word = st.text(
    st.characters(exclude_characters=" \t\n\r\0", codec="utf-8"), min_size=1, max_size=8
).filter(
    lambda word: not word.startswith(("\ufeff", "<", "GIF8", "%PDF", "PAR1", "7z"))
)
spaced = st.lists(st.text("ab@.é:_", min_size=1, max_size=4), min_size=1, max_size=4)
number = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_lookup_through_the_index_finds_every_word_with_its_bits(
    tmp_path, small_too, cache_folder, data
):
    form = data.draw(st.sampled_from(FORMS))
    packing = data.draw(st.sampled_from(PACKINGS))
    one = word if "binary" in form else word | spaced.map(" ".join)
    words = data.draw(st.lists(one, min_size=3, max_size=8))  # may repeat one
    row = st.lists(number, min_size=4, max_size=4)
    rows = data.draw(st.lists(row, min_size=len(words), max_size=len(words)))
    vectors = np.array(rows, dtype=np.float32)
    vectors[0] = [0.1, -0.0, 1e-42, 3.4e38]  # no record is text by chance
    path = packed(written(words, vectors, form), packing, tmp_path / "any")
    first = [vectors[words.index(one)] for one in words]
    for _ in ("cold", "warm"):
        embeddings = WordVectors(path)
        got, found = embeddings.lookup([*words, words[0] + "\ue000"])
        assert found.tolist() == [True] * len(words) + [False]
        np.testing.assert_array_equal(
            got[:-1].view(np.int32), np.array(first).view(np.int32)
        )
        assert list(embeddings.vocabulary()) == list(dict.fromkeys(words))
    assert len(index_files(cache_folder)) == 1


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


def test_lookup_small_file_leaves_nothing_in_the_cache(tiny, cache_folder):
    assert WordVectors(tiny).lookup(["zebra"])[0].tolist() == [[1, 2]]
    assert list(cache_folder.rglob("*")) == []


def test_lookup_tokens_of_the_same_hash_are_told_apart(tmp_path, small_too):
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
    for _ in range(2):
        vectors, found = WordVectors(path).lookup([*known, pairs[0][1]])
        assert found.tolist() == [True] * len(known) + [False]
        assert vectors[:-1, 0].tolist() == list(range(len(known)))
        assert list(WordVectors(path).vocabulary()) == known


def test_lookup_damaged_index_is_ignored_and_made_again(tiny, small_too, cache_folder):
    def look() -> None:
        vectors, found = WordVectors(tiny).lookup(["zebra", "okapi", "absent"])
        assert found.tolist() == [True, True, False]
        assert vectors[:2].tolist() == [[1, 2], [3, 4]]

    look()
    (kept,) = index_files(cache_folder)
    whole = kept.read_bytes()
    assert len(whole) == 64 + 3 * 8 + 4 * 8
    damages = [whole[:end] for end in range(len(whole))]
    damages += [whole + b"\0", whole + whole]
    for at in range(len(whole)):
        damages.append(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
    for damaged in damages:
        kept.write_bytes(damaged)
        look()
        assert kept.read_bytes() == whole


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(["glove", "binary"]), st.data())
def test_lookup_wrong_offsets_never_give_a_wrong_vector(
    tmp_path, small_too, form, data
):
    words = ["zebra", "okapi", "a b" if form == "glove" else "ab", "quagga"]
    vectors = np.arange(16, dtype=np.float32).reshape(4, 4) + 0.5
    path = tmp_path / "wrong"
    path.write_bytes(written(words, vectors, form))
    size = path.stat().st_size
    offsets = data.draw(st.lists(st.integers(0, size + 9), min_size=5, max_size=5))
    hashes = np.array([crc32(word.split(" ")[0].encode()) for word in words], np.uint64)
    keys = np.sort(hashes << np.uint64(32) | np.arange(4, dtype=np.uint64))
    forged = TokenIndex(keys, np.sort(np.array(offsets, dtype=np.uint64)))
    embeddings = WordVectors(path)
    real = "word2vec-binary" if form == "binary" else "glove-text"
    kept = token_index.cached_path(path, ".index")
    kept.unlink(missing_ok=True)
    assert cached_index(path, path, real, lambda: forged) is forged
    for one, vector in zip(words, vectors, strict=True):
        try:
            got, found = embeddings.lookup([one])
        except ZeroShotError:
            continue
        if found[0]:
            np.testing.assert_array_equal(got[0], vector)


def test_lookup_replaced_file_gives_the_new_vectors(tmp_path, small_too):
    path = tmp_path / "replaced"

    def look() -> list[float]:
        vectors, found = WordVectors(path).lookup(["zebra", "okapi"])
        assert found.all()
        return vectors.ravel().tolist()

    path.write_text("zebra 1 2\nokapi 3 4\n")
    assert look() == [1, 2, 3, 4]
    path.write_text("okapi 5 6\nzebra 7 8 \nquagga 1 1\n")  # another size
    assert look() == [7, 8, 5, 6]
    path.write_text("quagga 1 1\nokapi 5 6\nzebra 7 9 \n")  # the same size
    assert look() == [7, 9, 5, 6]
    status = path.stat()
    path.write_text("okapi 5 6\nquagga 2 2\nzebra 7 8 \n")  # and the same time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert look() == [7, 8, 5, 6]


def test_lookup_file_changed_while_in_use_is_an_error(tiny):
    embeddings = WordVectors(tiny)
    embeddings.lookup(["zebra"])
    tiny.write_text("2 2\nzebra 9 9\nokapi 8 8\n")
    with pytest.raises(ArtifactError, match="changed"):
        embeddings.lookup(["okapi"])
    with pytest.raises(ArtifactError, match="changed"):
        list(embeddings.vocabulary())


def test_lookup_broken_row_through_the_index_names_the_line(tmp_path, small_too):
    path = tmp_path / "odd"
    path.write_text("a 1 2 3\n\nb 1 2 3\n\n\nx 1 oops 3\ny 1 nan 2\nc 4 5 6\n")
    for _ in range(2):
        assert WordVectors(path).lookup(["c", "b"])[1].all()
        with pytest.raises(ArtifactError, match=r"line 6 .*oops"):
            WordVectors(path).lookup(["x"])
        with pytest.raises(ArtifactError, match="line 7 "):
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
    # Files may have 1000 bytes from here on, so writing the index fails half-way.
    before = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    )
    out, err = start_lookup(path, "w5", before=before).communicate(timeout=60)
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
    kill_builders(*large, 30, cache_folder)


def test_index_left_over_of_a_killed_builder_is_removed_when_old(large, cache_folder):
    path, _ = large
    kept = token_index.cached_path(path, ".index")
    kept.parent.mkdir()
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


def test_index_offsets_beyond_4_gb_are_kept(tmp_path, cache_folder):
    sizes = [5 << 30, 6 << 30, 7]
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(12 << 30)
    for _ in range(2):
        index = cached_index(
            path,
            path,
            "test",
            lambda: TokenIndex.from_scan(array("I", [9, 8, 7]), array("Q", sizes), 3),
        )
        gb = 1 << 30
        assert index.offsets.tolist() == [3, 3 + 5 * gb, 3 + 11 * gb, 10 + 11 * gb]
    assert len(index_files(cache_folder)) == 1


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
