"""Neighbours and open vocabulary; a float64 brute force is the oracle."""

from pathlib import Path

import numpy as np
import pytest
from gensim.models import FastText as GensimFastText
from gensim.models.fasttext import save_facebook_model
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_files import packed, written

from zeroshot.embeddings import Attributes, FastText, RandomEmbeddings, open_vectors
from zeroshot.embeddings.base import SupportsNeighbours
from zeroshot.embeddings.vectors.neighbours import nearest, open_vocabulary
from zeroshot.embeddings.vectors.word_vectors import WordVectors
from zeroshot.errors import (
    OutOfVocabularyError,
    PluginContractError,
    ZeroShotWarning,
)

WORDS = [f"wörd{i}" for i in range(3000)]
VECTORS = np.random.default_rng(0).normal(size=(3000, 20)).astype(np.float32)
VECTORS *= np.random.default_rng(1).uniform(0.01, 100, size=(3000, 1)).astype("f4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return packed(written(WORDS, VECTORS, "binary"), "plain", tmp_path / "vectors")


def brute_force(words, vectors, query, k, excluded=()):
    exact = np.asarray(vectors, dtype=np.float64)
    query = np.asarray(query, dtype=np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    with np.errstate(invalid="ignore"):
        cosines = exact @ query / lengths / np.linalg.norm(query)
    order = [i for i in np.argsort(-cosines, kind="stable") if lengths[i] > 0]
    return [(words[i], cosines[i]) for i in order if words[i] not in excluded][:k]


def same(got, expected):
    assert [word for word, _ in got] == [word for word, _ in expected]
    np.testing.assert_allclose(
        [cosine for _, cosine in got], [cosine for _, cosine in expected], atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 10, 2999, 5000])
def test_nearest_to_a_word_equals_brute_force(file, k):
    for _ in ("built", "from the cache"):
        embeddings = open_vectors(file)
        assert isinstance(embeddings, SupportsNeighbours)
        got = embeddings.nearest(WORDS[7], k)
        same(got, brute_force(WORDS, VECTORS, VECTORS[7], k, {WORDS[7]}))


def test_nearest_to_a_vector_equals_brute_force(file):
    embeddings = open_vectors(file)
    for query in np.random.default_rng(2).normal(size=(20, 20)) * 1e-3:
        same(embeddings.nearest(query, 5), brute_force(WORDS, VECTORS, query, 5))
    assert embeddings.nearest(VECTORS[3], 1)[0][0] == WORDS[3]


def test_nearest_words_closer_than_the_matrix_can_tell_are_in_exact_order(tmp_path):
    # All within 1e-4 of each other, while the matrix rounds to 1.5e-5 a component.
    draw = np.random.default_rng(3)
    vectors = 1 + draw.normal(size=(500, 30)) * 3e-3
    vectors = vectors.astype(np.float32)
    words = [f"w{i}" for i in range(500)]
    path = packed(written(words, vectors, "binary"), "plain", tmp_path / "close")
    same(
        open_vectors(path).nearest("w0", 20),
        brute_force(words, vectors, vectors[0], 20, {"w0"}),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32))
def test_nearest_any_table_equals_brute_force(n, k, dim, seed):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(n, dim)).astype(np.float32)
    words = [f"w{i}" for i in range(n)]
    query = draw.normal(size=dim)
    got = nearest(Attributes(words, vectors), query, k)
    expected = brute_force(words, vectors, query, k)
    np.testing.assert_allclose(
        [cosine for _, cosine in got], [cosine for _, cosine in expected], atol=1e-12
    )


def test_nearest_many_equal_words_gives_k_of_them():
    words = [f"w{i}" for i in range(11_000)]  # more than are compared exactly
    got = nearest(Attributes(words, np.ones((11_000, 2))), "w9", 5)
    assert len({word for word, _ in got} - {"w9"}) == 5
    assert all(cosine == pytest.approx(1) for _, cosine in got)


def test_nearest_zero_vectors_and_repeated_words_are_left_out(tmp_path):
    path = tmp_path / "odd"
    path.write_text("zero 0 0\na 1 0\nb 1 1\na 0 1\n 0 1\nx y 1 0.5\n")
    embeddings = open_vectors(path)
    got = embeddings.nearest([1, 0])
    assert [word for word, _ in got] == ["a", "x y", "b", ""]
    assert len(got) == 4
    assert open_vocabulary(embeddings)[0][:2] == ["a", "b"]


def test_nearest_fasttext_model_equals_brute_force(tmp_path):
    words = ["zebra", "okapi", "слон", "東京", "giraffe", "quagga"]
    model = GensimFastText(
        [words] * 3, vector_size=6, bucket=50, min_count=1, epochs=1, workers=1, seed=1
    )
    path = tmp_path / "model.bin"
    save_facebook_model(model, str(path))
    embeddings = FastText(path)
    known = list(embeddings.vocabulary())
    vectors = embeddings.lookup(known)[0]
    same(
        embeddings.nearest("zebra", 3),
        brute_force(known, vectors, vectors[known.index("zebra")], 3, {"zebra"}),
    )
    # A word that is only composed of n-grams has neighbours too.
    query = embeddings.lookup(["zebras"])[0][0]
    same(embeddings.nearest("zebras", 3), brute_force(known, vectors, query, 3))


def test_nearest_packed_file_equals_plain(file, tmp_path):
    other = packed(file.read_bytes(), "gz", tmp_path / "vectors.gz")
    got = open_vectors(other).nearest(WORDS[5])
    assert got == open_vectors(file).nearest(WORDS[5])


def test_nearest_unknown_word_names_it(file):
    with pytest.raises(OutOfVocabularyError, match="'absent'") as caught:
        open_vectors(file).nearest("absent")
    assert caught.value.labels == ["absent"]


@pytest.mark.parametrize(
    "query", [np.zeros(20), np.ones(19), np.ones((1, 20)), np.full(20, np.nan)]
)
def test_nearest_no_direction_is_refused(file, query):
    with pytest.raises(PluginContractError, match="20 numbers"):
        open_vectors(file).nearest(query)


@pytest.mark.parametrize("k", [0, -1, 2.5, None])
def test_nearest_impossible_k_is_refused(file, k):
    with pytest.raises(PluginContractError, match="at least 1"):
        open_vectors(file).nearest(WORDS[0], k)


def test_nearest_provider_without_vocabulary_is_refused():
    with pytest.raises(PluginContractError, match="vocabulary"):
        nearest(RandomEmbeddings(), "zebra")


def test_open_vocabulary_gives_the_first_words_as_units(file):
    for n_words in (10, 100, 50, 5000):  # grows, is reused, and has all
        words, units = open_vocabulary(open_vectors(file), n_words)
        assert words == WORDS[:n_words]
        assert units.dtype == np.float32
        exact = VECTORS[:n_words].astype(np.float64)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        off = np.linalg.norm(units - exact, axis=1)
        assert off.max() < 20**0.5 * 1.6e-5
        np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-6)


def test_open_vocabulary_of_a_few_words_does_not_hide_the_others_from_nearest(file):
    embeddings = open_vectors(file)
    open_vocabulary(embeddings, 10)
    same(
        embeddings.nearest(WORDS[2], 4),
        brute_force(WORDS, VECTORS, VECTORS[2], 4, {WORDS[2]}),
    )


def test_open_vocabulary_table_in_memory():
    words, units = open_vocabulary(Attributes(["a", "b"], [[3, 4], [0, 2]]), 1)
    assert words == ["a"]
    np.testing.assert_allclose(units, [[0.6, 0.8]], atol=1.6e-5)


@pytest.mark.parametrize("max_words", [0, -3, 1.5])
def test_open_vocabulary_impossible_limit_is_refused(file, max_words):
    with pytest.raises(PluginContractError, match="at least 1"):
        open_vocabulary(open_vectors(file), max_words)


def test_nearest_damaged_matrix_file_is_made_again_or_harmless(tmp_path, cache_folder):
    path = tmp_path / "few"
    path.write_text("a 1 2\nb 2 1\nc -1 1\nd 1 0\n")
    expected = open_vectors(path).nearest("a", 3)
    (kept,) = cache_folder.rglob("*.units")
    whole = kept.read_bytes()
    for end in range(0, len(whole), 3):
        kept.write_bytes(whole[:end])
        assert open_vectors(path).nearest("a", 3) == expected
    for at in range(0, len(whole), 3):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        # Three of three others are asked for: no score of the matrix matters.
        assert open_vectors(path).nearest("a", 3) == expected


def test_nearest_replaced_file_has_new_neighbours(tmp_path):
    path = tmp_path / "few"
    path.write_text("a 1 2\nb 2 1\nc -1 1\n")
    assert open_vectors(path).nearest("a", 1)[0][0] == "b"
    path.write_text("a 1 2\nb 1 -2\nc 1 1\n")
    assert open_vectors(path).nearest("a", 1)[0][0] == "c"


def test_nearest_without_a_writable_cache_works(file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE"):
        got = WordVectors(file).nearest(WORDS[7], 3)
    same(got, brute_force(WORDS, VECTORS, VECTORS[7], 3, {WORDS[7]}))
