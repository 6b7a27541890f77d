"""Vectors from one's own text; gensim reads them too, and is the oracle for rows."""

import bz2
import gzip
import lzma
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroshot.embeddings import Word2Vec, open_vectors
from zeroshot.embeddings.training import TrainedVectors, train_vectors
from zeroshot.errors import ArtifactError
from zeroshot.labels import embed_labels

ROOT = Path(__file__).parents[1]
ICE = ["snow", "ice", "seal", "whale", "penguin", "polar_bear"]
KITCHEN = ["oven", "flour", "butter", "bread", "spoon", "kettle"]
HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940"  # holds combining marks
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # and a joiner
COUNTS = {"dim": 8, "epochs": 1, "min_count": 1}


def write_corpus(path: Path) -> Path:
    """Write sentences of two subjects; "polar" stands before "bear" only."""
    rng = np.random.default_rng(0)
    lines = [
        " ".join(rng.permutation(subject))
        for _ in range(400)
        for subject in (ICE, KITCHEN)
    ]
    path.write_text("\n".join(lines).replace("_", " "), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_corpus(tmp_path / "corpus.txt")


def words_of(text: str | bytes, folder: Path, **parameters) -> list[str]:
    """Train on a text; return the words in the file, the most frequent first."""
    corpus = folder / "text.txt"
    corpus.write_bytes(text.encode() if isinstance(text, str) else text)
    out = folder / "words.vec"
    train_vectors(corpus, out, phrases=False, **{**COUNTS, **parameters})
    return list(Word2Vec(out).vocabulary())


@pytest.mark.parametrize("suffix", [".bin", ".txt", ".vec"])
def test_train_writes_what_gensim_and_open_vectors_read(corpus, tmp_path, suffix):
    out = tmp_path / f"own{suffix}"
    trained = train_vectors(corpus, out, dim=12)
    theirs = KeyedVectors.load_word2vec_format(str(out), binary=suffix == ".bin")
    ours = open_vectors(out)
    assert trained == TrainedVectors(out, n_words=12, n_phrases=1, n_tokens=400 * 13)
    assert sorted(theirs.index_to_key) == sorted(ICE + KITCHEN)
    assert list(ours.vocabulary()) == theirs.index_to_key
    vectors, found = ours.lookup(theirs.index_to_key)
    assert found.all()
    assert ours.dim == 12
    np.testing.assert_array_equal(vectors, theirs.vectors)


def test_train_puts_words_of_one_subject_together(corpus, tmp_path):
    out = tmp_path / "own.bin"
    train_vectors(corpus, out, dim=20, epochs=20)
    Y, _ = embed_labels(ICE + KITCHEN, open_vectors(out))
    cosines = Y @ Y.T
    same = np.kron(np.eye(2), np.ones((6, 6))).astype(bool)
    assert cosines[same].min() > cosines[~same].max() + 0.2


def test_train_phrase_is_found_for_the_label_with_a_space(corpus, tmp_path):
    out = tmp_path / "own.bin"
    train_vectors(corpus, out)
    _, report = embed_labels(["polar bear", "whale"], open_vectors(out))
    assert [entry.how for entry in report.entries] == ["phrase", "exact"]
    assert report.entries[0].words == ("polar_bear",)


def test_train_without_phrases_keeps_words_apart(corpus, tmp_path):
    out = tmp_path / "own.bin"
    trained = train_vectors(corpus, out, phrases=False)
    words = list(Word2Vec(out).vocabulary())
    assert trained.n_phrases == 0
    assert {"polar", "bear"} < set(words)
    assert trained.n_words == len(words) == 13


def test_train_finds_phrases_of_three_words(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(40)]
    lines = [
        " ".join([*rng.choice(names, 6), "hot air balloon", *rng.choice(names, 6)])
        for _ in range(300)
    ]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(lines))
    train_vectors(corpus, tmp_path / "own.bin", dim=4, epochs=1)
    assert "hot_air_balloon" in Word2Vec(tmp_path / "own.bin").vocabulary()


@pytest.mark.slow
def test_train_with_a_seed_gives_the_same_file_in_another_process(corpus, tmp_path):
    code = (
        "import sys; from zeroshot.embeddings.training import train_vectors\n"
        "train_vectors(sys.argv[1], sys.argv[2], random_state=int(sys.argv[3]))"
    )
    contents = []
    for hash_seed, seed in (("1", "0"), ("2", "0"), ("1", "7")):
        out = tmp_path / f"own-{hash_seed}-{seed}.bin"
        subprocess.run(
            [sys.executable, "-c", code, str(corpus), str(out), seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
        )
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_train_on_a_packed_text_gives_the_same_file(corpus, tmp_path, pack):
    packed = tmp_path / "corpus.packed"
    packed.write_bytes(pack(corpus.read_bytes()))
    train_vectors(corpus, tmp_path / "plain.bin", dim=8)
    train_vectors(packed, tmp_path / "packed.bin", dim=8)
    plain, same = (tmp_path / name for name in ("plain.bin", "packed.bin"))
    assert plain.read_bytes() == same.read_bytes()


def test_train_with_several_workers_knows_the_same_words(corpus, tmp_path):
    one = train_vectors(corpus, tmp_path / "one.bin")
    two = train_vectors(corpus, tmp_path / "two.bin", workers=2)
    assert (one.n_words, one.n_tokens) == (two.n_words, two.n_tokens)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, a DOG; (the dog)!", "dog a the"),
        ("polar-bear\tx\u00a0y", "polar bear x y"),
        ("don't Don\u2019t 'quoted' dogs'", "don't quoted dogs"),
        ("_emphasis_ polar_bear __ ''", "emphasis polar_bear"),
        ("Stra\u00dfe 1984 caf\u00e9 cafe\u0301", "caf\u00e9 stra\u00dfe 1984"),
        (f"{HINDI}\u0964", HINDI),
        (f"{PERSIAN} x", f"{PERSIAN} x"),
        ("co\u00adoperate \u20ac5 a\u2028b", "cooperate 5 a b"),
        (b"\xef\xbb\xbffirst\r\nsecond\r\n", "first second"),
    ],
)
def test_train_parts_text_into_words(text, words, tmp_path):
    assert sorted(words_of(text, tmp_path)) == sorted(words.split())


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.lists(
        st.lists(
            st.text("abcd\u00e9\u0434", min_size=1, max_size=9), min_size=1, max_size=9
        ),
        min_size=1,
        max_size=9,
    )
)
def test_train_counts_every_word(lines, tmp_path):
    corpus, out = tmp_path / "text.txt", tmp_path / "own.vec"
    corpus.write_text("\n".join(" ".join(line) for line in lines), encoding="utf-8")
    trained = train_vectors(corpus, out, phrases=False, **COUNTS)
    counts = Counter(word for line in lines for word in line)
    assert trained.n_tokens == counts.total()
    in_file = list(Word2Vec(out).vocabulary())
    assert sorted(in_file) == sorted(counts)
    frequencies = [counts[word] for word in in_file]
    assert frequencies == sorted(frequencies, reverse=True)


@pytest.mark.parametrize("end", ["", "\n", " \nnext line\n"])
@pytest.mark.parametrize("n", [262_143, 262_144, 600_000])
def test_train_reads_the_whole_of_a_long_line(tmp_path, n, end):
    # Four characters a word: 1,048,576 of them are read at once.
    text = " ".join(["abc", "xyz"] * (n // 2) + ["end"] * (n % 2)) + " last" + end
    corpus = tmp_path / "text.txt"
    corpus.write_text(text)
    trained = train_vectors(corpus, tmp_path / "own.vec", phrases=False, **COUNTS)
    assert trained.n_tokens == len(text.split())
    assert set(Word2Vec(tmp_path / "own.vec").vocabulary()) == set(text.split())


def test_train_leaves_out_rare_words(tmp_path):
    text = "often often often twice twice once"
    assert words_of(text, tmp_path, min_count=2) == ["often", "twice"]


def test_train_says_nothing_by_itself(corpus, tmp_path, capfd):
    train_vectors(corpus, tmp_path / "own.bin")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"nothing \(0 bytes\)"),
        (b" \n\n ... \n", "without any word"),
        (b"each word once", "at least 5 times. Got 3 words"),
        (b"fine\nna\xefve\n", "the byte 0xef in line 2"),
        ("w\u00f6rter".encode("utf-16"), "the byte 0xff in line 1"),
        (b"a\0b\0c\0", "the byte 0x00 in line 1"),
        (b"two lines\n" + b"x" * 2**21, "a word of over 1048576 bytes"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"<?xml version='1.0'?><mediawiki>", "a web page or XML"),
        (gzip.compress(b"word " * 1000, mtime=0)[:-9], "ends early or is damaged"),
    ],
)
@pytest.mark.parametrize("phrases", [True, False])
def test_train_on_no_text_is_refused(content, message, phrases, tmp_path):
    corpus, out = tmp_path / "corpus.txt", tmp_path / "own.bin"
    corpus.write_bytes(content)
    out.write_text("older")
    with pytest.raises(ArtifactError, match=message) as caught:
        train_vectors(corpus, out, phrases=phrases)
    assert "corpus.txt" in str(caught.value)
    assert out.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "own.bin"]


def test_train_on_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="nothing there"):
        train_vectors(tmp_path / "corpus.txt", tmp_path / "own.bin")


def test_train_on_a_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="a directory"):
        train_vectors(tmp_path, tmp_path / "own.bin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_train_on_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "corpus")
    with pytest.raises(ArtifactError, match=r"a regular file.*a pipe"):
        train_vectors(tmp_path / "corpus", tmp_path / "own.bin")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("own.npz", "ends in .bin, .txt, .vec"),
        ("own", "ends in .bin, .txt, .vec"),
        ("no/such/folder/own.bin", "in a folder that is there"),
        ("folder.bin", "not of a folder"),
        ("corpus.txt", "another file than the text.*Got '.*corpus.txt'"),
    ],
)
def test_train_to_a_wrong_place_is_refused(corpus, tmp_path, out, message):
    (tmp_path / "folder.bin").mkdir()
    before = corpus.read_bytes()
    with pytest.raises(ArtifactError, match=message):
        train_vectors(corpus, tmp_path / out)
    assert corpus.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX's")
@pytest.mark.parametrize("suffix", [".bin", ".vec"])
def test_train_without_room_leaves_the_older_file(corpus, tmp_path, suffix):
    out = tmp_path / f"own{suffix}"
    out.write_text("older")
    code = (
        "import resource, sys\n"
        "from zeroshot.embeddings.training import train_vectors\n"
        "from zeroshot.errors import ArtifactError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: train_vectors(*sys.argv[1:])\n"
        "except ArtifactError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus), str(out)],
        capture_output=True,
        text=True,
    )
    assert "Expected room for" in done.stdout, done.stderr
    assert out.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", out.name]


@pytest.mark.parametrize("name", ["dim", "window", "epochs", "min_count", "workers"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "5", None, True])
def test_train_with_a_wrong_number_is_refused(corpus, tmp_path, name, value):
    with pytest.raises(ValueError, match=f"'{name}' as an integer from 1"):
        train_vectors(corpus, tmp_path / "own.bin", **{name: value})


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, None, True])
def test_train_with_a_wrong_seed_is_refused(corpus, tmp_path, seed):
    with pytest.raises(ValueError, match="'random_state'"):
        train_vectors(corpus, tmp_path / "own.bin", random_state=seed)


def test_train_without_gensim_names_an_extra_of_pyproject(corpus, tmp_path):
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "gensim":
            raise ModuleNotFoundError("No module named 'gensim'", name="gensim")
sys.meta_path.insert(0, Blocker())
from zeroshot.embeddings.training import train_vectors
from zeroshot.errors import MissingExtraError
try:
    train_vectors(sys.argv[1], sys.argv[2])
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus), str(tmp_path / "own.bin")],
        capture_output=True,
        text=True,
        check=True,
    )
    command = re.search(r'pip install "zeroshot\[(\w+)\]"', done.stdout)
    assert command, done.stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["optional-dependencies"][command[1]]
    assert any(need.startswith("gensim") for need in needs)
