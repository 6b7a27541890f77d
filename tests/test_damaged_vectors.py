"""Damaged files of word vectors, and damaged copies and indexes of them in the cache.

Of a plain file nothing tells that a number was changed; of everything else the answer
is the right one, or an error of ours. ``ZEROSHOT_FUZZ=1 pytest
tests/test_damaged_vectors.py -s`` tries 80,000 and prints what became of them.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from damage import flips, mutations, n_cases
from damage_tally import Tally
from vector_files import model_file, packed, written

from zeroshot.embeddings import open_vectors
from zeroshot.embeddings.vectors.neighbours import nearest

WORDS = [f"word{i}" for i in range(30)]
VECTORS = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
WANTED = ["word3", "word0", "absent", "word29", "word17"]


def answer(path: Path, words=WANTED, *, all_words: bool = True) -> tuple[object, ...]:
    embeddings = open_vectors(path)
    vectors, found = embeddings.lookup(words)
    listed = list(embeddings.vocabulary()) if all_words else []
    return embeddings.dim, vectors.tobytes(), found.tolist(), listed


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, bytes]:
    forms = {form: written(WORDS, VECTORS, form) for form in ("glove", "vec", "binary")}
    return forms | {"fasttext": model_file(WORDS, dim=6)}


@pytest.mark.parametrize("form", ["glove", "vec", "binary", "fasttext"])
def test_plain_file_damaged_anywhere_raises_nothing_but_our_errors(
    form, contents, tmp_path
):
    path, tally = tmp_path / "vectors", Tally(f"plain, {form}")
    path.write_bytes(contents[form])
    right = answer(path)
    for damaged in mutations(contents[form], n_cases(40, 10_500), seed=1):
        path.write_bytes(damaged)
        tally.add(lambda: answer(path), right)
    tally.check(may_change=True)


@pytest.mark.parametrize("form", ["vec", "fasttext"])
@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zip"])
def test_packed_file_damaged_anywhere_gives_no_other_answer(
    form, packing, contents, tmp_path
):
    path, tally = tmp_path / "vectors", Tally(f"{packing}, {form}")
    packed(contents[form], packing, path)
    content, right = path.read_bytes(), answer(path)
    n = n_cases(15, 1_800)
    for make in (flips, mutations):
        for case, damaged in enumerate(make(content, n, seed=2)):
            path.write_bytes(damaged)
            tally.add(lambda: answer(path), right, (make.__name__, case))
    tally.check()


class Large:
    """A file of which things are kept in the cache, and where its rows lie."""

    def __init__(self, folder: Path, cache: Path, kind: str) -> None:
        self.n, self.cache = 1500, cache
        words = [f"w{i}" for i in range(self.n)]
        rng = np.random.default_rng(3)
        self.path = folder / "vectors"
        if kind == "fasttext copy":
            packed(model_file(words, dim=200), "gz", self.path)
        elif kind == "binary copy":
            vectors = rng.normal(size=(self.n, 200)).astype(np.float32)
            packed(written(words, vectors, "binary"), "gz", self.path)
        else:  # text is large enough for an index
            vectors = rng.normal(size=(self.n, 200)).astype(np.float32)
            content = written(words, vectors, "glove")
            self.path.write_bytes(content)
            if kind == "download":
                self.path = cache / "vectors" / "glove.txt"
                self.path.parent.mkdir(parents=True)
                self.path.write_bytes(content)
                digest = hashlib.sha256(content).hexdigest()
                self.path.with_name("glove.txt.sha256").write_text(f"{digest} *x\n")
        vectors, _ = open_vectors(self.path).lookup(words)
        self.right = {
            word: (200, row.tobytes(), [True], [])
            for word, row in zip(words, vectors, strict=True)
        }
        nearest(open_vectors(self.path), "w1", 3)

    def kept(self, ending: str) -> Path:
        (file,) = self.cache.rglob(f"[!.]*{ending}")
        return file


@pytest.fixture(scope="module", params=["binary copy", "fasttext copy", "download"])
def large(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSHOT_CACHE", str(folder / "cache"))
        yield request.param, Large(folder, folder / "cache", request.param)


def test_copy_damaged_in_the_cache_gives_no_other_answer(large, monkeypatch):
    kind, file = large
    monkeypatch.setenv("ZEROSHOT_CACHE", str(file.cache))
    kept = file.path if kind == "download" else file.kept(".unpacked")
    content, rng = kept.read_bytes(), np.random.default_rng(4)
    stamp = kept.stat()
    still_open = open_vectors(file.path)
    still_open.lookup(["w0"])
    tally = Tally(f"flipped in place, {kind}")
    for case in range(n_cases(12, 700)):
        at = int(rng.integers(len(content)))
        with kept.open("rb+") as out:
            out.seek(at)
            out.write(bytes([content[at] ^ 1 << int(rng.integers(8))]))
        os.utime(kept, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        row = min(file.n - 1, at * file.n // len(content))
        near = [f"w{i}" for i in range(max(0, row - 1), min(file.n, row + 2))]
        for word in near:
            if case % 2:  # opened before the damage

                def use(word=word):
                    vectors, found = still_open.lookup([word])
                    return 200, vectors.tobytes(), found.tolist(), []
            else:

                def use(word=word):
                    return answer(file.path, [word], all_words=False)

            tally.add(use, file.right[word], (case, at))
        if kind == "download" or kept.read_bytes() != content:
            kept.write_bytes(content)
            os.utime(kept, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    tally.check()


@pytest.mark.parametrize(
    ("kind", "ending", "n_large"),
    [
        ("binary copy", ".unpacked.key", 500),
        ("download", ".sums", 500),
        ("download", ".index", 500),
        ("download", ".units", 100),
    ],
)
def test_table_damaged_in_the_cache_gives_no_other_answer(
    kind, ending, n_large, cache_folder, tmp_path
):
    file = Large(tmp_path, cache_folder, kind)
    near = nearest(open_vectors(file.path), "w1", 3)
    kept, tally = file.kept(ending), Tally(f"{kind}, {ending}")
    content = kept.read_bytes()
    for make in (flips, mutations):
        for case, damaged in enumerate(make(content, n_cases(3, n_large), seed=5)):
            kept.write_bytes(damaged)
            if ending == ".units":
                tally.add(lambda: nearest(open_vectors(file.path), "w1", 3), near)
                continue
            row = case % file.n
            tally.add(
                lambda row=row: answer(file.path, [f"w{row}"], all_words=False),
                file.right[f"w{row}"],
                (make.__name__, case),
            )
    tally.check()
