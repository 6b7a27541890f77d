"""Files of vectors and attributes made to cost much, or to raise what nobody expects.

Small ones that claim or unpack to far more, lines and headers without end, numbers that
are none, files that are no files: an error of ours or an answer, in little memory.
"""

import bz2
import gzip
import io
import lzma
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage_tally import Tally
from scipy.io import savemat
from vector_files import model_file, written

from zeroshot.backbones.class_list import class_names
from zeroshot.embeddings import Attributes, open_vectors
from zeroshot.errors import ArtifactError

MIB = 1 << 20
ROWS = b"a 1 2\nb 3 4\n"
TABLE = b"a,1,2\nb,3,4\n"


def pieces(start: bytes, piece: bytes, n_bytes: int):
    """Yield a content of so many bytes that is never in memory."""
    yield start
    block = piece * (MIB // len(piece))
    for _ in range(n_bytes // len(block)):
        yield block


def packed_by(compressor, start: bytes, piece: bytes, n_bytes: int) -> bytes:
    parts = [compressor.compress(part) for part in pieces(start, piece, n_bytes)]
    return b"".join(parts) + compressor.flush()


def gz(start: bytes, piece: bytes, n_bytes: int = 60 * MIB) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        for part in pieces(start, piece, n_bytes):
            file.write(part)
    return out.getvalue()


def zipped(start: bytes, piece: bytes, method: int, n_bytes: int = MIB) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", method, compresslevel=1) as archive,
        archive.open("vectors", "w") as file,
    ):
        for part in pieces(start, piece, n_bytes):
            file.write(part)
    return out.getvalue()


def fasttext(dim: int, bucket: int, maxn: int, *counts: int) -> bytes:
    arguments = (dim, 5, 5, 1, 5, 1, 1, 2, bucket, 1, maxn, 5)
    head = struct.pack("<ii12id", 793712314, 12, *arguments, 0.1)
    return head + struct.pack("<3i2q", *counts) + b"a\0" + bytes(200)


LARGE = 2**31 - 1
CASES = {
    "xz of zeros": lambda: packed_by(lzma.LZMACompressor(), b"", bytes(1), 60 * MIB),
    "xz of rows": lambda: packed_by(
        lzma.LZMACompressor(preset=0), TABLE, b"abcd,1,0\n", 20 * MIB
    ),
    "xz of blank lines": lambda: packed_by(
        lzma.LZMACompressor(preset=0), TABLE, b"\n", 20 * MIB
    ),
    "xz of one line": lambda: packed_by(
        lzma.LZMACompressor(preset=0), b"a", b",1", 20 * MIB
    ),
    "bz2 of rows": lambda: packed_by(bz2.BZ2Compressor(1), ROWS, ROWS, 6 * MIB),
    "gz of blank lines": lambda: gz(ROWS, b"\n"),
    "gz of few blank lines": lambda: gz(ROWS, b"\n", 3 * MIB),
    "gz of rows": lambda: gz(ROWS, ROWS),
    "gz of a table": lambda: gz(TABLE, TABLE),
    "zip of blank lines": lambda: zipped(ROWS, b"\n", 8, 60 * MIB),
    "zip by bzip2": lambda: zipped(ROWS, ROWS, zipfile.ZIP_BZIP2),
    "zip by xz": lambda: zipped(ROWS, ROWS, zipfile.ZIP_LZMA),
    "gz of many members": lambda: gzip.compress(b"") * 20_000,
    "bz2 of many streams": lambda: bz2.compress(b"") * 20_000 + bz2.compress(ROWS),
    "xz with padding": lambda: lzma.compress(ROWS) + bytes(MIB),
    "gz with a long name": lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"x" * MIB,
    "tabs": lambda: b"\t" * 100_000,
    "tabs after a word": lambda: b"x\t" + b"\t" * 100_000,
    "commas": lambda: b"," * 100_000,
    "quotes": lambda: b'"' * 100_000,
    "an open quote": lambda: TABLE + b'"' + b"x\n" * 200_000,
    "spaces": lambda: b"a" + b" " * 100_000 + b"1" + b" " * 100_000 + b"x",
    "digits": lambda: b"a " + b"1" * 100_000,
    "points": lambda: b"a " + b"1." * 100_000,
    "exponents": lambda: b"a " + b"1e" * 100_000,
    "line breaks": lambda: b"\n" * MIB,
    "returns": lambda: b"\r" * MIB,
    "zeros": lambda: bytes(MIB),
    "a long line": lambda: ROWS + b"x" * (8 * MIB),
    "a long line of a table": lambda: TABLE + b"1," * (4 * MIB),
    "a header of many rows": lambda: b"99999999999999 2\n" + ROWS,
    "a header of many binary rows": lambda: b"99999999999999 3\na " + bytes(1000),
    "a header of many digits": lambda: b"9" * 5000 + b" 2\n" + ROWS,
    "a number of many digits": lambda: b"a " + b"9" * 5000 + b" 1\nb 2 3\n",
    "a cell of many digits": lambda: b"a," + b"9" * 5000 + b",1\nb,2,3\n",
    "infinity and NaN": lambda: b"a 1e999 1\nb nan 3\n",
    "cells of infinity and NaN": lambda: b"a,1e999,1\nb,nan,3\n",
    "no UTF-8": lambda: ROWS + b"\xff\xfe\0 1 2\n",
    "fastText of negative sizes": lambda: fasttext(-5, 2, 3, 1, 1, 0, 1, -1),
    "fastText of large sizes": lambda: fasttext(
        30_000, LARGE, 3, LARGE, LARGE, 0, 1, -1
    ),
    "fastText of long n-grams": lambda: fasttext(2, 2, LARGE, 1, 1, 0, 1, -1),
    "fastText of many pruned n-grams": lambda: fasttext(2, 2, 3, 1, 1, 0, 1, 2**60),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_file_is_answered_or_refused_in_little_memory(case, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CASES[case]())
    tally = Tally(case)
    word = "a" * 3000

    def use(opened):
        embeddings = opened(path)
        vectors, found = embeddings.lookup(["a", "b", word])
        assert np.isfinite(vectors[found]).all()

    tally.add(lambda: use(open_vectors), None)
    tally.add(lambda: use(Attributes), None)
    tally.check()


@pytest.mark.parametrize("kind", ["pipe", "zeros", "nothing", "folder"])
@pytest.mark.parametrize(
    "use",
    [
        lambda path: open_vectors(path).lookup(["a"]),
        lambda path: Attributes(path).lookup(["a"]),
        class_names,
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(kind, use, tmp_path):
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zeros":
        path = Path("/dev/zero")
    with pytest.raises(ArtifactError, match=str(path)):
        use(path)


@pytest.mark.parametrize("path", ["a\0b", "a\ud800", "x" * 5000, "%s%n", "~nobody/x"])
def test_odd_path_is_an_error_of_ours(path):
    for use in (lambda: open_vectors(path), lambda: Attributes(path).lookup(["a"])):
        with pytest.raises(ArtifactError):
            use()


def test_class_list_too_long_for_one_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(ArtifactError, match="at most"):
        class_names(path)


def test_second_stream_whose_start_is_damaged_is_no_end(tmp_path):
    for pack in (bz2.compress, lzma.compress):
        path, both = tmp_path / "two", pack(b"a 1 2\nb 3 4\n") + pack(b"c 5 6\n")
        path.write_bytes(both)
        assert open_vectors(path).lookup(["c"])[1].all()
        at = len(pack(b"a 1 2\nb 3 4\n"))
        path.write_bytes(both[:at] + b"X" + both[at + 1 :])
        with pytest.raises(ArtifactError, match="damaged"):
            open_vectors(path).lookup(["a"])


@pytest.mark.parametrize("form", ["fasttext", "binary"])
def test_copy_in_the_cache_that_is_cut_while_open_is_unpacked_anew(
    form, tmp_path, cache_folder
):
    words = [f"w{i}" for i in range(1500)]
    content = model_file(words, dim=200)
    if form == "binary":
        vectors = np.random.default_rng(0).normal(size=(1500, 200))
        content = written(words, vectors, "binary")
    path = tmp_path / "vectors.gz"
    path.write_bytes(gzip.compress(content, 1))
    embeddings = open_vectors(path)
    right = embeddings.lookup(["w1", "w1400"])[0]
    (kept,) = cache_folder.rglob("*.unpacked")
    os.truncate(kept, 4096 * 30)
    with pytest.warns(UserWarning, match="damaged"):
        again = embeddings.lookup(["w1398", "w1399"])[1]
    assert again.all()
    np.testing.assert_array_equal(open_vectors(path).lookup(["w1", "w1400"])[0], right)


def test_matlab_file_that_unpacks_to_too_much_is_refused(tmp_path):
    path, tally = tmp_path / "table.mat", Tally("MATLAB")
    table = {"att": np.zeros((100, 50_000)), "allclasses_names": np.array(["a"], "O")}
    savemat(path, table, do_compression=True)
    assert path.stat().st_size < MIB
    tally.add(lambda: Attributes(path).lookup(["a"]), None)
    tally.check()
    assert tally.counts == {"refused": 1}
