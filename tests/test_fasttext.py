"""fastText models; the official fastText and gensim are the oracles."""

import gzip
import importlib.util
import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from gensim.models import FastText as GensimFastText
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.embeddings import FastText, GloVe, TextEmbeddings, open_vectors
from zeroshot.embeddings.base import SupportsSubwords
from zeroshot.errors import (
    ArtifactError,
    PluginContractError,
    ZeroShotError,
    ZeroShotWarning,
)

needs_fasttext = pytest.mark.skipif(
    importlib.util.find_spec("fasttext") is None,
    reason="the official fastText, the oracle, is not installed: pip install fasttext",
)
KNOWN = ["zebra", "okapi", "Zürich", "naïve", "слон", "слониха", "東京", "東京都"]
KNOWN += ["日本語", "ελέφαντας", "हाथी", "🦓", "🦓🦒", "don't", "U.S.A", "a", "I"]
UNKNOWN = ["zebraish", "слоны", "東", "é", "xy", "", "<", ">", "a b", "ß" * 50, "�"]
# The official program leaves the numbers beyond a multiple of ten, and with fewer
# threads than ten most of the matrix, uninitialised: hence dim=10 and thread=10.
TINY = {"dim": 10, "epoch": 1, "thread": 10, "lr": 0.01, "t": 1, "verbose": 0}
MODELS = {
    "subwords": {"minn": 3, "maxn": 6, "bucket": 500},
    "short subwords": {"minn": 1, "maxn": 4, "bucket": 501},
    "no subwords": {"maxn": 0},
    "cbow": {"model": "cbow", "minn": 2, "maxn": 3, "bucket": 97},
}


def corpus(folder: Path, *, labels: bool = False) -> str:
    draw = random.Random(0)
    lines = []
    for _ in range(300):
        label = draw.choice(["__label__a ", "__label__b "]) if labels else ""
        lines.append(label + " ".join(draw.choices(KNOWN, k=8)))
    path = folder / "corpus.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def gensim_model(tmp_path_factory) -> Path:
    """A small model made without the official program, for what needs no oracle."""
    model = GensimFastText(
        [KNOWN] * 3, vector_size=6, bucket=50, min_count=1, epochs=1, workers=1, seed=1
    )
    path = tmp_path_factory.mktemp("gensim") / "model.bin"
    save_facebook_model(model, str(path))
    return path


@needs_fasttext
@pytest.mark.parametrize("kind", MODELS)
def test_lookup_unsupervised_model_equals_official_fasttext(tmp_path, kind):
    import fasttext

    model = fasttext.train_unsupervised(
        corpus(tmp_path), minCount=1, **TINY, **MODELS[kind]
    )
    check_against(model, tmp_path)


@needs_fasttext
@pytest.mark.parametrize("maxn", [0, 3])
def test_lookup_supervised_model_equals_official_fasttext(tmp_path, maxn):
    import fasttext

    model = fasttext.train_supervised(
        corpus(tmp_path, labels=True), minn=2, maxn=maxn, bucket=500, **TINY
    )
    embeddings = check_against(model, tmp_path)
    assert not embeddings.in_vocabulary(["__label__a"])[0]


def check_against(model, folder: Path) -> FastText:
    path = folder / "model.bin"
    model.save_model(str(path))
    embeddings = FastText(path)
    words = [*KNOWN, "</s>", *UNKNOWN]
    expected = np.array([model.get_word_vector(word) for word in words])
    vectors, found = embeddings.lookup(words)
    # The same additions in the same order, so the same bits; a compiler may fuse them.
    np.testing.assert_allclose(vectors[found], expected[found], rtol=0, atol=1e-7)
    assert found.tolist() == [
        word in model.words or len(model.get_subwords(word)[0]) > 0 for word in words
    ]
    assert np.isnan(vectors[~found]).all()
    assert not expected[~found].any()
    assert embeddings.in_vocabulary(words).tolist() == [w in model.words for w in words]
    assert list(embeddings.vocabulary()) == model.words
    assert embeddings.dim == model.get_dimension()
    return embeddings


@needs_fasttext
def test_lookup_quantised_model_is_refused(tmp_path):
    import fasttext

    text = corpus(tmp_path, labels=True)
    model = fasttext.train_supervised(text, minn=2, maxn=3, bucket=500, **TINY)
    model.quantize(input=text, qnorm=False)
    path = tmp_path / "model.ftz"
    model.save_model(str(path))
    with pytest.raises(ArtifactError, match="quantised"):
        open_vectors(path).lookup(["zebra"])


def test_lookup_model_written_by_gensim_equals_gensim(gensim_model):
    # Not "</s>": gensim adds n-grams to it, the official program does not.
    words = [*KNOWN, *(word for word in UNKNOWN if len(word) > 2)]
    expected = load_facebook_vectors(str(gensim_model))
    vectors, found = FastText(gensim_model).lookup(words)
    assert found.all()
    np.testing.assert_allclose(
        vectors, [expected.get_vector(word) for word in words], rtol=0, atol=1e-6
    )


@needs_fasttext
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_lookup_any_word_has_the_ngrams_of_official_fasttext(oracle, data):
    model, embeddings = oracle
    word = data.draw(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
    vectors, found = embeddings.lookup([word])
    assert found[0] == (len(model.get_subwords(word)[0]) > 0)
    if found[0]:
        expected = model.get_word_vector(word)
        np.testing.assert_allclose(vectors[0], expected, rtol=0, atol=1e-7)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    import fasttext

    folder = tmp_path_factory.mktemp("oracle")
    model = fasttext.train_unsupervised(
        corpus(folder), minCount=1, minn=2, maxn=5, bucket=1000, **TINY
    )
    model.save_model(str(folder / "model.bin"))
    return model, FastText(folder / "model.bin")


def test_lookup_word_does_not_depend_on_the_others(gensim_model):
    together, _ = FastText(gensim_model).lookup([*KNOWN, *UNKNOWN])
    embeddings = FastText(gensim_model)
    alone = [embeddings.lookup([word])[0][0] for word in [*KNOWN, *UNKNOWN]]
    np.testing.assert_array_equal(together, alone)


def test_vec_text_is_read_without_subwords(tmp_path):
    path = tmp_path / "wiki.vec"
    path.write_text("2 3 \n</s> 1 2 3 \nzebra 4 5 6 \n")
    embeddings = FastText(path)
    vectors, found = embeddings.lookup(["zebra", "zebras", "</s>"])
    assert found.tolist() == [True, False, True]
    assert vectors[0].tolist() == [4, 5, 6]
    assert embeddings.in_vocabulary(["zebra", "zebras"]).tolist() == [True, False]
    assert (embeddings.dim, list(embeddings.vocabulary())) == (3, ["</s>", "zebra"])
    assert embeddings.spec == f"fasttext:{path}"


def test_open_vectors_recognises_a_model_by_content(gensim_model, tmp_path):
    path = tmp_path / "renamed.txt"
    path.write_bytes(gensim_model.read_bytes())
    embeddings = open_vectors(path)
    assert isinstance(embeddings, FastText)
    assert isinstance(embeddings, TextEmbeddings)
    assert isinstance(embeddings, SupportsSubwords)
    assert embeddings.spec == f"fasttext:{path}"
    assert embeddings.fingerprint == FastText(gensim_model).fingerprint


def test_model_pickles_without_its_map(gensim_model):
    embeddings = FastText(gensim_model)
    expected = embeddings.lookup(KNOWN)[0]
    pickled = pickle.dumps(embeddings)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).lookup(KNOWN)[0], expected)


def test_in_vocabulary_a_bare_string_is_refused(gensim_model):
    with pytest.raises(PluginContractError):
        FastText(gensim_model).in_vocabulary("zebra")


def test_pruned_model_uses_only_the_ngrams_that_are_left(tmp_path):
    # A dense model with a pruned dictionary, written by hand: dim 2, and one bucket, so
    # every character is in bucket 0, which is now row 1 of the n-grams.
    rows = np.array([[1, 2], [7, 7], [30, 60]], dtype="<f4")
    arguments = (2, 5, 1, 1, 5, 1, 3, 3, 1, 1, 1, 100)
    head = struct.pack("<ii12id", 793712314, 12, *arguments, 0)
    dictionary = struct.pack("<3i2q", 1, 1, 0, 9, 1) + b"I\0" + struct.pack("<qb", 9, 0)
    pruned = struct.pack("<2i", 0, 1)
    path = tmp_path / "pruned.bin"
    matrix = struct.pack("<?2q", False, 3, 2) + rows.tobytes()
    path.write_bytes(head + dictionary + pruned + matrix)
    vectors, found = FastText(path).lookup(["I", "xy", ""])
    assert vectors[:2].tolist() == [[15.5, 31], [30, 60]]
    assert found.tolist() == [True, True, False]
    none = dictionary.replace(struct.pack("<q", 1) + b"I", struct.pack("<q", 0) + b"I")
    path.write_bytes(head + none + matrix)
    vectors, found = FastText(path).lookup(["I", "xy"])
    assert vectors[0].tolist() == [1, 2]
    assert found.tolist() == [True, False]


def test_lookup_packed_model_equals_the_unpacked_one(gensim_model, tmp_path):
    path = tmp_path / "model.bin.gz"
    path.write_bytes(gzip.compress(gensim_model.read_bytes()))
    expected = FastText(gensim_model).lookup([*KNOWN, *UNKNOWN])
    for _ in ("unpacked", "from the cache"):
        embeddings = open_vectors(path)
        vectors, found = embeddings.lookup([*KNOWN, *UNKNOWN])
        np.testing.assert_array_equal(vectors, expected[0])
        np.testing.assert_array_equal(found, expected[1])
        assert embeddings.spec == f"fasttext:{path}"
    with pytest.raises(ArtifactError, match="fasttext:"):
        GloVe(path).lookup(["zebra"])


def test_lookup_packed_model_without_a_cache_is_unpacked_in_memory(
    gensim_model, tmp_path, monkeypatch
):
    path = tmp_path / "model.bin.gz"
    content = gensim_model.read_bytes()
    noise = np.random.default_rng(0).bytes(1 << 20)  # after the vectors, unused
    path.write_bytes(gzip.compress(content + noise))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file" / "cache"))
    embeddings = open_vectors(path)
    with pytest.warns(ZeroShotWarning, match="ZEROSHOT_CACHE"):
        got = embeddings.lookup(KNOWN)[0]
    np.testing.assert_array_equal(got, FastText(gensim_model).lookup(KNOWN)[0])


def test_lookup_through_a_kept_index_of_the_dictionary_gives_the_same(
    tmp_path, cache_folder
):
    words = [f"w{i}" for i in range(9000)]
    model = GensimFastText(
        [words], vector_size=100, bucket=2000, min_count=1, epochs=1, workers=1
    )
    path = tmp_path / "model.bin"
    save_facebook_model(model, str(path))
    expected = FastText(path).lookup(["w7", "w8999", "w10", "other"])[0]
    assert len(list(cache_folder.rglob("*.index"))) == 1
    embeddings = FastText(path)
    got = embeddings.lookup(["w7", "w8999", "w10", "other"])[0]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(got[:3], model.wv[["w7", "w8999", "w10"]], atol=1e-6)
    assert set(embeddings.vocabulary()) == set(words)
    assert embeddings.in_vocabulary(["w7", "other"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (4, 13, "version"),  # version
        (8, -1, "dim -1"),  # dim
        (8, 1 << 30, "dim 1073741824"),
        (40, 0, "0 buckets"),  # bucket
        (40, 1 << 30, "rows"),
        (64, 1 << 30, "entries"),  # entries of the dictionary
    ],
)
def test_lookup_impossible_header_is_an_error(
    gensim_model, tmp_path, offset, value, message
):
    content = bytearray(gensim_model.read_bytes())
    content[offset : offset + 4] = struct.pack("<i", value)
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        FastText(path).lookup(["zebra"])


def test_lookup_model_cut_before_the_end_of_its_vectors_is_an_error(
    gensim_model, tmp_path
):
    whole = gensim_model.read_bytes()
    path = tmp_path / "cut.bin"
    # What follows the vectors (the output layer) is not needed.
    output = 1 + 16 + 4 * len(KNOWN) * 6
    for end in range(4, len(whole) - output, 37):
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactError, match=r"cut\.bin"):
            FastText(path).lookup(["zebra"])
    path.write_bytes(whole[:-output])
    assert FastText(path).lookup(["zebra"])[1].all()


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_lookup_damaged_model_fails_cleanly(gensim_model, at, value):
    content = bytearray(gensim_model.read_bytes())
    # Mostly the header and the dictionary: the rest is only numbers.
    content[int(at * min(len(content), 600))] = value
    path = gensim_model.parent / "damaged.bin"
    path.write_bytes(content)
    try:
        embeddings = open_vectors(path)
        vectors, found = embeddings.lookup([*KNOWN, *UNKNOWN])
        list(embeddings.vocabulary())
    except ZeroShotError:
        return
    assert np.isfinite(vectors[found]).all()
