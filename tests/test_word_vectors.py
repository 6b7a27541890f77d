"""Files of word vectors in every form and packing; gensim is the oracle."""

import copy
import gzip
import multiprocessing
import os
import pickle
import random
import tracemalloc
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gensim.models import FastText as GensimFastText
from gensim.models import KeyedVectors
from gensim.models.fasttext import save_facebook_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from vector_files import packed, written

from zeroshot.embeddings import (
    FastText,
    GloVe,
    RandomEmbeddings,
    TextEmbeddings,
    Word2Vec,
    open_vectors,
)
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import (
    ArtifactError,
    OutOfVocabularyError,
    PluginContractError,
    ZeroShotError,
)
from zeroshot.labels import embed_labels

WORDS = ["zebra", "okapi", "Zürich", "слон", "東京", "🦓", "polar_bear", "3", "don't"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
FORMS = ["glove", "word2vec", "vec", "crlf", "blank", "binary", "c-binary"]
PACKINGS = ["plain", "gz", "bz2", "xz", "zip"]


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "vectors"
    path.write_bytes(written(WORDS, VECTORS, "glove"))
    return path


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMS)
def test_lookup_every_form_and_packing_gives_the_same_bits(tmp_path, form, packing):
    # The ending of the name lies on purpose.
    path = packed(written(WORDS, VECTORS, form), packing, tmp_path / "vectors.jpg")
    embeddings = open_vectors(path)
    vectors, found = embeddings.lookup([*reversed(WORDS), "absent", "zebra"])
    assert embeddings.dim == 5
    assert found.tolist() == [True] * len(WORDS) + [False, True]
    np.testing.assert_array_equal(vectors[: len(WORDS)], VECTORS[::-1])
    assert np.isnan(vectors[-2]).all()
    assert vectors.dtype == np.float32
    assert list(embeddings.vocabulary()) == WORDS


token = st.text(
    st.characters(exclude_characters=" \t\n\r\0", codec="utf-8"), min_size=1, max_size=8
).filter(
    lambda word: not word.startswith(("\ufeff", "<", "GIF8", "%PDF", "PAR1", "7z"))
)
# A part after a space that is itself a number is documented as not supported.
spaced = st.lists(st.text("ab@.é:_", min_size=1, max_size=4), min_size=1, max_size=4)
printed = token.filter(str.isprintable)
any_number = st.floats(width=32, allow_nan=False, allow_infinity=False)
sizes = st.floats(2**-20, 2**20, width=32) | st.just(0.0)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_lookup_any_words_and_numbers_are_found_bit_equal(tmp_path, data):
    form = data.draw(st.sampled_from(FORMS))
    packing = data.draw(st.sampled_from(PACKINGS))
    one = printed if "binary" in form else token | spaced.map(" ".join)
    words = data.draw(st.lists(one, min_size=3, max_size=8))  # may repeat one
    number = sizes if "binary" in form else any_number
    row = st.lists(number, min_size=4, max_size=4)
    rows = data.draw(st.lists(row, min_size=len(words), max_size=len(words)))
    vectors = np.array(rows, dtype=np.float32)
    vectors[0] = [0.1, -0.0, 1e-42, 3.4e9]  # no record is text by chance
    path = packed(written(words, vectors, form), packing, tmp_path / "any")
    embeddings = WordVectors(path)
    got, found = embeddings.lookup([*words, words[0] + "\ue000"])
    assert found.tolist() == [True] * len(words) + [False]
    first = np.array([vectors[words.index(word)] for word in words])
    np.testing.assert_array_equal(got[:-1].view(np.int32), first.view(np.int32))
    assert list(embeddings.vocabulary()) == list(dict.fromkeys(words))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.from_regex(
            r"[-+]?[0-9]{1,3}\.[0-9]{1,20}([eE][-+]?[0-9]{1,2})?", fullmatch=True
        ),
        min_size=3,
        max_size=6,
    )
)
def test_lookup_decimal_text_is_rounded_as_gensim_rounds_it(tmp_path, numbers):
    numbers = [n for n in numbers if abs(float(n)) < 3e38]
    if len(numbers) < 2:
        return
    path = tmp_path / "decimal"
    path.write_text(f"1 {len(numbers)}\nzebra {' '.join(numbers)}\n")
    expected = KeyedVectors.load_word2vec_format(str(path))["zebra"]
    np.testing.assert_array_equal(WordVectors(path).lookup(["zebra"])[0][0], expected)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_lookup_file_written_by_gensim_equals_gensim(tmp_path, binary, ending):
    saved = KeyedVectors(vector_size=5)
    saved.add_vectors(WORDS, VECTORS)
    path = tmp_path / f"saved{ending}"
    saved.save_word2vec_format(str(path), binary=binary)
    loaded = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    vectors, found = Word2Vec(path).lookup(WORDS)
    assert found.all()
    np.testing.assert_array_equal(vectors, loaded[WORDS])


def test_lookup_duplicate_token_first_wins_like_gensim(tmp_path):
    path = tmp_path / "twice"
    path.write_text("3 2\na 1 2\nb 3 4\na 5 6\n")
    vectors, _ = WordVectors(path).lookup(["a", "b"])
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])
    assert list(WordVectors(path).vocabulary()) == ["a", "b"]


def test_lookup_spaces_in_tokens_are_exact(tmp_path):
    path = tmp_path / "spaces"
    path.write_text("a 1 2 3\na b 4 5 6\n. . . 7 8 9\nb 1 1 1\n 2 2 2\n5 3 3 3\n")
    embeddings = WordVectors(path)
    words = ["a", "a b", ". . .", "b", "", "5", ". .", ".", " b", "a "]
    vectors, found = embeddings.lookup(words)
    assert found.tolist() == [True] * 6 + [False] * 4
    assert vectors[:6, 0].tolist() == [1, 4, 7, 1, 2, 3]
    assert list(embeddings.vocabulary()) == ["a", "a b", ". . .", "b", "", "5"]


def test_lookup_bytes_that_are_no_utf8_do_no_harm(tmp_path):
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9 1 2\nxc3 3 4\n\xc3\xa9 5 6\n")
    embeddings = WordVectors(path)
    odd = "caf\udce9"
    assert list(embeddings.vocabulary()) == [odd, "xc3", "é"]
    vectors, found = embeddings.lookup([odd, "é", "café", "\ud800", "\udcc3\udca9"])
    assert found.tolist() == [True, True, False, False, False]
    assert vectors[:2, 0].tolist() == [1, 5]


def test_lookup_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    path = tmp_path / "mark"
    path.write_bytes(b"\xef\xbb\xbf2 2\na 1 2\nb 3 4\n")
    assert WordVectors(path).lookup(["a"])[1].all()
    path.write_bytes(b"\xef\xbb\xbfa 1 2\nb 3 4\n")
    assert WordVectors(path).lookup(["a"])[1].all()


def test_lookup_result_is_the_callers_own(glove):
    embeddings = WordVectors(glove)
    embeddings.lookup(["zebra"])[0][:] = 0
    np.testing.assert_array_equal(embeddings.lookup(["zebra"])[0][0], VECTORS[0])


def test_lookup_large_file_needs_little_memory(tmp_path):
    path = tmp_path / "large"
    row = b" 0.125" * 300 + b"\n"
    with path.open("wb") as file:
        for index in range(20_000):  # 36 MB
            file.write(b"w%d" % index + row)
    embeddings = WordVectors(path)
    tracemalloc.start()
    _, found = embeddings.lookup(["w19999", "absent"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == [True, False]
    assert peak < 6 << 20


@pytest.mark.parametrize("words", ["zebra", ["zebra", 3], [None]])
def test_lookup_anything_but_words_is_refused(glove, words):
    with pytest.raises(PluginContractError):
        WordVectors(glove).lookup(words)


def test_lookup_no_words_gives_an_empty_matrix(glove):
    vectors, found = WordVectors(glove).lookup([])
    assert vectors.shape == (0, 5)
    assert found.shape == (0,)


def test_provider_does_no_work_before_first_use(tmp_path):
    embeddings = GloVe(tmp_path / "absent")
    assert embeddings.spec == f"glove:{tmp_path / 'absent'}"
    with pytest.raises(ArtifactError, match="absent"):
        _ = embeddings.dim


def test_open_vectors_file_with_a_comma_as_second_word_is_no_table(tmp_path):
    path = tmp_path / "glove.6B.txt"  # whose first words these are
    path.write_text("the 0.4 0.2\n, 0.01 0.2\n. 0.1 0.3\n")
    assert isinstance(open_vectors(path), GloVe)
    assert (
        open_vectors(path).lookup([","])[0].tolist()
        == np.float32([[0.01, 0.2]]).tolist()
    )


def test_spec_has_the_absolute_path(glove, monkeypatch):
    monkeypatch.chdir(glove.parent)
    assert GloVe("vectors").spec == f"glove:{glove}"
    assert open_vectors("vectors").spec == f"glove:{glove}"


@pytest.mark.parametrize("kind", [GloVe, Word2Vec])
@pytest.mark.parametrize("argument", [None, ""])
def test_from_spec_without_path_says_how_to_write_it(kind, argument):
    with pytest.raises(PluginContractError, match=f"'{kind.name}:/path/to/file'"):
        kind.from_spec(kind.name, argument)


def test_from_spec_path_with_a_colon_is_kept(tmp_path):
    assert GloVe.from_spec("glove", "C:/x").path == "C:/x"


def look_and_find(embeddings) -> tuple[bytes, list[bool], list, str]:
    """Use a provider in every way, in this process or another."""
    vectors, found = embeddings.lookup([*WORDS, "absent"])
    near = embeddings.nearest("zebra", 3) if hasattr(embeddings, "nearest") else []
    return vectors.tobytes(), found.tolist(), near, embeddings.fingerprint


@pytest.fixture(scope="module")
def providers(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("providers")
    for form in ("glove", "binary", "vec"):
        (folder / form).write_bytes(written(WORDS, VECTORS, form))
    packed((folder / "glove").read_bytes(), "gz", folder / "packed")
    model = GensimFastText(
        [WORDS] * 3, vector_size=5, bucket=50, min_count=1, epochs=1, workers=1
    )
    save_facebook_model(model, str(folder / "model.bin"))
    return [
        GloVe(folder / "glove"),
        GloVe(folder / "packed"),
        Word2Vec(folder / "binary"),
        FastText(folder / "vec"),
        FastText(folder / "model.bin"),
        RandomEmbeddings(5, 3),
    ]


def test_provider_copies_and_pickles_are_small_and_whole(providers):
    for embeddings in providers:
        expected = look_and_find(embeddings)
        pickled = pickle.dumps(embeddings)
        assert len(pickled) < 1000
        others = pickle.loads(pickled), copy.copy(embeddings), copy.deepcopy(embeddings)
        for other in (*others, pickle.loads(pickle.dumps(others[0]))):
            assert look_and_find(other) == expected
        assert clone(embeddings) is embeddings
        assert isinstance(embeddings, TextEmbeddings)


def test_provider_works_whole_in_another_process(providers):
    expected = [look_and_find(embeddings) for embeddings in providers]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(look_and_find, providers)) == expected


def test_provider_of_a_relative_path_pickles_as_the_same_file(glove, monkeypatch):
    monkeypatch.chdir(glove.parent)
    embeddings = GloVe("vectors")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(embeddings)).lookup(["zebra"])[1].all()


def look_often(embeddings, seed: int) -> bool:
    draw = random.Random(seed)
    for _ in range(30):
        rows = draw.choices(range(3000), k=9)
        vectors, found = embeddings.lookup([f"w{row}" for row in rows])
        if not found.all() or vectors[:, 0].tolist() != rows:
            return False
    return True


@pytest.fixture
def many(tmp_path) -> Path:
    vectors = np.ones((3000, 20), dtype=np.float32)
    vectors[:, 0] = range(3000)
    path = tmp_path / "many"
    path.write_bytes(written([f"w{i}" for i in range(3000)], vectors, "glove"))
    return path


def test_lookup_64_threads_share_a_provider(many):
    for embeddings in (GloVe(many), GloVe(packed(many.read_bytes(), "gz", many))):
        with ThreadPoolExecutor(64) as pool:
            assert all(pool.map(look_often, [embeddings] * 64, range(64)))


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_lookup_forked_children_share_a_provider(many):
    embeddings = GloVe(many)
    embeddings.lookup(["w0"])
    children = []
    for seed in range(4):
        child = os.fork()
        if not child:
            right = False
            try:
                right = look_often(embeddings, seed)
            finally:
                os._exit(not right)
        children.append(child)
    assert look_often(embeddings, 9)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


@pytest.mark.slow
def test_lookup_20_000_words_remembers_and_leaves_open_little(tmp_path):
    path = tmp_path / "many"
    vectors = np.full((20_000, 300), 0.1, dtype=np.float32)
    path.write_bytes(written([f"w{i}" for i in range(20_000)], vectors, "binary"))
    embeddings = Word2Vec(path)
    embeddings.lookup(["w0"])
    tracemalloc.start()
    for start in range(0, 20_000, 50):
        if start == 1000:
            before = tracemalloc.get_traced_memory()[0]
        words = [f"w{i}" for i in range(start, start + 50)]
        assert embeddings.lookup([*words, *(f"absent{word}" for word in words)])[
            1
        ].any()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 5 << 20
    if Path("/proc/self/fd").exists():
        opened = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
        assert str(path) not in opened


def test_fingerprint_depends_on_content_only(tmp_path, glove):
    moved = tmp_path / "moved"
    moved.write_bytes(glove.read_bytes())
    os.utime(moved, (1, 1))
    assert GloVe(glove).fingerprint == Word2Vec(moved).fingerprint
    moved.write_bytes(glove.read_bytes().replace(b"okapi", b"okapj"))
    assert GloVe(glove).fingerprint != GloVe(moved).fingerprint


def test_fingerprint_large_file_sees_size_start_middle_and_end(tmp_path):
    def fingerprint(content: bytes) -> str:
        path = tmp_path / "large"
        path.write_bytes(content)
        return WordVectors(path).fingerprint

    row = b" 0.125" * 300 + b"\n"
    content = b"".join(b"w%05d" % index + row for index in range(3000))  # 5.4 MB
    seen = {fingerprint(content), fingerprint(content + b"w" + row)}
    for at in (10, 1 << 20, len(content) - (1 << 20) - 60_000, len(content) - 3):
        seen.add(fingerprint(content[:at] + b"1" + content[at + 1 :]))
    assert len(seen) == 6


BROKEN = {
    "empty": (b"", "0 bytes"),
    "blank": (b"\n\n\n", "0 numbers"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9, "JPEG"),
    "web page": (b"<!DOCTYPE html>\n<html><p>404</p></html>\n", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}\n", "npy"),
    "prose": (b"once upon a time\nthere was a zebra\n", "0 numbers"),
    "word counts": (b"the 100\nof 90\nand 80\n", "1 number"),
    "text of csv": (b"name,colour\nzebra,black\n", "0 numbers"),
    "header only": (b"3 4\n", "no row"),
    "no rows": (b"0 300\n", "line 1"),
    "huge dim": (b"2 999999999999\na 1 2\n", "999999999999"),
    "negative dim": (b"2 -3\na 1 2 3\nb 1 2 3\n", "line 1 "),
    "wrong dim": (b"2 4\na 1 2 3\nb 1 2 3\n", "3 numbers"),
    "short row": (b"a 1 2 3\nb 1 2\nc 1 2 3\n", "line 2 "),
    "long row": (b"2 3\na 1 2 3\nb 1 2 3\nb 1 2 3 4\n", "line 4 "),
    "cut row": (b"a 1 2 3\nb 1 2 3\nc 1", "line 3 "),
    "fewer rows": (b"4 3\na 1 2 3\nb 1 2 3\n", "4 rows"),
    "cut binary": (b"9 4\na " + VECTORS[:1, :4].tobytes(), "truncated"),
    "longer binary": (b"1 4\na " + VECTORS.tobytes(), "more at byte"),
    "binary wrong dim": (
        written(WORDS, np.tile(VECTORS, 10), "binary").replace(b" 50\n", b" 30\n"),
        "between the words",
    ),
    "binary wrong greater dim": (
        written(WORDS, np.tile(VECTORS, 10), "binary").replace(b" 50\n", b" 70\n"),
        "truncated",
    ),
    "binary wrong count": (
        written(WORDS, VECTORS, "binary").replace(b"9 5\n", b"10 5\n"),
        "truncated",
    ),
}
for name, kind in (("float64", "<f8"), ("float16", "<f2"), ("big-endian", ">f4")):
    rows = [
        b"%s %s" % (w.encode(), v)
        for w, v in zip(WORDS, VECTORS.astype(kind), strict=True)
    ]
    BROKEN[f"binary {name}"] = (b"9 5\n" + b"".join(rows), name)


@pytest.mark.parametrize("case", BROKEN)
def test_lookup_broken_file_names_file_and_place(tmp_path, case):
    content, message = BROKEN[case]
    path = tmp_path / "broken-file"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        WordVectors(path).lookup(["absent"])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "place"),
    [("x 1 nan 3", "NaN"), ("x 1 1e39 3", "NaN or inf"), ("x 1 oops 3", "oops")],
)
def test_lookup_wanted_row_that_is_no_numbers_names_the_line(tmp_path, row, place):
    path = tmp_path / "odd"
    path.write_text(f"a 1 2 3\n{row}\nb 4 5 6\n")
    assert WordVectors(path).lookup(["b"])[1].all()
    with pytest.raises(ArtifactError, match=f"(?s)line 2 .*{place}"):
        WordVectors(path).lookup(["x"])


def test_lookup_ragged_rows_deep_in_the_file_are_named(tmp_path):
    rows = [f"w{index} 1 2 3" for index in range(500)]
    path = tmp_path / "deep"
    for bad in ("x", "w300", "w300 1", "w300 1 2", "w300 1 2 3 4"):
        rows[300] = bad
        path.write_text("\n".join(rows))
        with pytest.raises(ArtifactError, match="line 301 "):
            WordVectors(path).lookup(["w300"])


def test_lookup_binary_numbers_that_cannot_be_name_the_word_and_byte(tmp_path):
    path = tmp_path / "odd"
    for bad in (np.nan, np.inf, 1e30):
        vectors = VECTORS.copy()
        vectors[1, 2] = bad
        path.write_bytes(written(WORDS, vectors, "binary"))
        assert WordVectors(path).lookup(["zebra"])[1].all()
        with pytest.raises(ArtifactError, match=f"'okapi' at byte {4 + 6 + 20} of"):
            WordVectors(path).lookup(["okapi"])


@pytest.mark.parametrize("form", ["binary", "c-binary"])
def test_lookup_binary_word_with_a_space_names_it(tmp_path, form):
    words = ["zebra", "polar bear", "okapi", "ox", "quagga"]
    vectors = np.random.default_rng(0).normal(scale=0.1, size=(5, 50))
    path = tmp_path / "spaced"
    path.write_bytes(written(words, vectors.astype(np.float32), form))
    with pytest.raises(ArtifactError, match=r"spaced.*'polar bear' in row 2.*undersc"):
        WordVectors(path).lookup(["zebra"])


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(["binary", "c-binary"]),
    st.lists(spaced.map(" ".join) | printed, min_size=3, max_size=12, unique=True),
    st.integers(30, 60),
    st.integers(0, 9999),
)
def test_lookup_binary_words_with_spaces_never_give_a_wrong_vector(
    tmp_path, form, words, dim, seed
):
    vectors = np.random.default_rng(seed).normal(scale=0.1, size=(len(words), dim))
    vectors = vectors.astype(np.float32)
    path = tmp_path / "spaced"
    path.write_bytes(written(words, vectors, form))
    for word in {*words, *(word.split(" ")[0] for word in words)}:
        try:
            got, found = WordVectors(path).lookup([word])
        except ArtifactError:
            continue
        if found[0]:
            assert word in words
            np.testing.assert_array_equal(got[0], vectors[words.index(word)])


COLUMNS = {
    "tab": "zebra\t1 2 3\nokapi\t4 5 6\nNew York\t7 8 9\n",
    "tabs": "zebra\t1\t2\t3\nokapi\t4\t5\t6\nNew York\t7\t8\t9\n",
    "aligned": "   zebra   1   2   3\n   okapi   4   5   6\nNew York   7   8   9\n",
    "header": "3 3  \r\nzebra\t1 2 3\r\nokapi\t4 5 6\r\nNew York\t7 8 9\r\n",
    "mark": "\ufeff3 3 \nzebra  1  2  3 \nokapi  4  5  6 \nNew York  7  8  9 \n",
}


@pytest.mark.parametrize("case", COLUMNS)
def test_lookup_columns_of_tabs_or_several_spaces_are_read(tmp_path, case):
    path = tmp_path / "columns"
    path.write_bytes(COLUMNS[case].encode())
    embeddings = open_vectors(path)
    vectors, found = embeddings.lookup(["zebra", "okapi", "New York", "New", "absent"])
    assert found.tolist() == [True] * 3 + [False] * 2
    assert vectors[:3].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert list(embeddings.vocabulary()) == ["zebra", "okapi", "New York"]


@pytest.mark.parametrize("form", ["glove", "word2vec", "binary"])
def test_lookup_conceptnet_english_uris_are_plain_words(tmp_path, form):
    words = ["/c/de/zebra", "/c/en/polar_bear", "/c/en/zebra", "/c/fr/zèbre"]
    path = tmp_path / "numberbatch"
    path.write_bytes(written(words, VECTORS[:4], form))
    embeddings = open_vectors(path)
    asked = ["zebra", "/c/en/zebra", "/c/de/zebra", "polar_bear", "zèbre"]
    vectors, found = embeddings.lookup(asked)
    assert found.tolist() == [True] * 4 + [False]
    np.testing.assert_array_equal(vectors[:4], VECTORS[[2, 2, 0, 1]])
    known = ["/c/de/zebra", "polar_bear", "zebra", "/c/fr/zèbre"]
    assert list(embeddings.vocabulary()) == known
    assert {word for word, _ in embeddings.nearest("zebra", 3)} <= set(known)


def test_lookup_long_line_without_end_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "zeros"  # an interrupted download, filled up with zeros
    with path.open("wb") as file:
        file.write(b"a 1 2 3\nb 4 5 6\n")
        file.truncate(300 << 20)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="line 3"):
        WordVectors(path).lookup(["absent"])
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("packing", PACKINGS[1:])
def test_lookup_cut_archive_is_an_artifact_error(tmp_path, packing):
    words = [f"w{index}" for index in range(5000)]
    vectors = np.random.default_rng(0).normal(size=(5000, 5)).astype(np.float32)
    path = packed(written(words, vectors, "glove"), packing, tmp_path / "cut")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ArtifactError, match="cut"):
        WordVectors(path).lookup(["absent"])


@pytest.mark.parametrize("members", [[], ["glove.50d.txt", "glove.100d.txt"]])
def test_lookup_zip_without_exactly_one_file_lists_them(tmp_path, members):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "a 1 2\n")
    with pytest.raises(ArtifactError, match=f"{len(members)} files") as caught:
        WordVectors(path).lookup(["a"])
    assert all(member in str(caught.value) for member in members)


def test_lookup_missing_file_and_directory_say_so(tmp_path):
    with pytest.raises(ArtifactError, match="nothing there"):
        WordVectors(tmp_path / "absent").lookup(["a"])
    with pytest.raises(ArtifactError, match="directory"):
        WordVectors(tmp_path).lookup(["a"])


def test_open_vectors_foreign_file_says_what_it_looks_like(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"%PDF-1.4 and so on")
    with pytest.raises(ArtifactError, match="PDF"):
        open_vectors(path)


@pytest.mark.parametrize(
    "decorated", ["zebra_NOUN", "zebra/NN", "ENTITY/Zebra", "/c/de/zebra"]
)
def test_embed_labels_word_that_the_file_decorates_is_suggested(tmp_path, decorated):
    path = tmp_path / "tagged"
    path.write_text(f"okapi_NOUN 1 2\n{decorated} 3 4\ngraze_VERB 5 6\n")
    with pytest.raises(OutOfVocabularyError, match=decorated):
        embed_labels(["zebra"], open_vectors(path))


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(FORMS),
    st.sampled_from(PACKINGS),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 7),
)
def test_lookup_cut_or_damaged_file_fails_cleanly(tmp_path, form, packing, at, bit):
    path = packed(written(WORDS, VECTORS, form), packing, tmp_path / "fuzz")
    whole = path.read_bytes()
    position = int(at * len(whole))
    flipped = bytearray(whole)
    flipped[position] ^= 1 << bit
    for content in (whole[:position], bytes(flipped)):
        path.write_bytes(content)
        try:
            embeddings = open_vectors(path)
            vectors, found = embeddings.lookup([*WORDS, "absent"])
            list(embeddings.vocabulary())
        except ZeroShotError:
            continue
        assert vectors.shape == (len(WORDS) + 1, embeddings.dim)
        assert np.isfinite(vectors[found]).all()
        assert not found[-1]


@pytest.mark.parametrize("form", ["word2vec", "vec", "crlf", "binary", "c-binary"])
def test_lookup_file_with_a_header_cut_anywhere_is_an_error(tmp_path, form):
    whole = written(WORDS, VECTORS, form)
    # Cut within the last number, text cannot be told from a shorter number.
    last = whole.rstrip().rfind(b" ") + 1 if "binary" not in form else len(whole) - 1
    path = tmp_path / "cut"
    for end in range(0, last, 3):
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactError):
            WordVectors(path).lookup(["absent"])


def test_real_numberbatch_rows_are_found_as_they_are_written(real_data):
    numberbatch = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    embeddings = open_vectors(numberbatch)
    words = ["zebra", "pizza", "laptop", "a", "zzzzqq"]
    vectors, found = embeddings.lookup(words)
    assert (embeddings.name, embeddings.dim) == ("word2vec", 300)
    assert found.tolist() == [True] * 4 + [False]
    with gzip.open(numberbatch, "rt", encoding="utf-8") as lines:
        rows = dict(line.rstrip().split(" ", 1) for line in lines)
    for word, vector in zip(words[:4], vectors, strict=False):
        np.testing.assert_array_equal(vector, np.float32(rows[word].split(" ")))
    assert sum(1 for _ in embeddings.vocabulary()) == 41_353


# gensim forgets to close the file that it has counted the lines of.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_real_glove_lines_equal_gensims(real_data):
    path = real_data / "vectors" / "glove-171-words-100d.txt"
    loaded = KeyedVectors.load_word2vec_format(str(path), no_header=True)
    embeddings = open_vectors(path)
    vectors, found = embeddings.lookup(loaded.index_to_key)
    assert (embeddings.name, len(found), found.all()) == ("glove", 171, True)
    np.testing.assert_array_equal(vectors, loaded.vectors)
