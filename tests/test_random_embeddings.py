"""Random embeddings, the control."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from zeroshot.embeddings import RandomEmbeddings, TextEmbeddings
from zeroshot.errors import PluginContractError

WORDS = ["zebra", "okapi", "", "слон", "\ud800", "a b"]


def test_lookup_depends_only_on_seed_dim_and_word():
    vectors, found = RandomEmbeddings(8, seed=3).lookup(WORDS)
    again, _ = RandomEmbeddings(8, seed=3).lookup(WORDS[::-1])
    assert found.all()
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, again[::-1])
    for other in (RandomEmbeddings(8, seed=4), RandomEmbeddings(9, seed=3)):
        assert not np.isin(other.lookup(WORDS)[0], vectors).any()


def test_lookup_numbers_are_standard_normal_and_words_unrelated():
    words = [f"w{index}" for index in range(2000)]
    vectors, _ = RandomEmbeddings(dim=300).lookup(words)
    assert abs(vectors.mean()) < 0.01
    assert abs(vectors.std() - 1) < 0.01
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (units @ units.T)[np.triu_indices(2000, 1)]
    assert abs(cosines.mean()) < 0.001
    assert abs(cosines.std() - 300**-0.5) < 0.001


@pytest.mark.parametrize(
    ("argument", "dim", "seed"), [(None, 300, 0), ("100", 100, 0), ("100:7", 100, 7)]
)
def test_from_spec_gives_length_and_seed(argument, dim, seed):
    made = RandomEmbeddings.from_spec("random", argument)
    assert (made.dim, made.seed) == (dim, seed)
    again = RandomEmbeddings.from_spec(*made.spec.split(":", 1))
    assert again.fingerprint == made.fingerprint
    assert isinstance(made, TextEmbeddings)


@pytest.mark.parametrize("argument", ["many", "100:x", "1:2:3", "0", "-5", "1.5"])
def test_from_spec_impossible_argument_says_what_is_possible(argument):
    with pytest.raises(PluginContractError, match=r"whole numbers|length"):
        RandomEmbeddings.from_spec("random", argument)


@pytest.mark.parametrize("dim", [0, -1, 2.5, "3", True, None])
def test_dim_impossible_length_is_refused_at_first_use(dim):
    embeddings = RandomEmbeddings(dim)
    with pytest.raises(PluginContractError, match="dim"):
        embeddings.lookup(["zebra"])


@pytest.mark.parametrize("words", ["zebra", [3]])
def test_lookup_anything_but_words_is_refused(words):
    with pytest.raises(PluginContractError):
        RandomEmbeddings().lookup(words)


def test_fingerprint_tells_length_and_seed_apart():
    made = [RandomEmbeddings(), RandomEmbeddings(seed=1), RandomEmbeddings(100)]
    assert len({embeddings.fingerprint for embeddings in made}) == 3


def test_provider_is_its_own_clone_and_pickles():
    embeddings = RandomEmbeddings(5, 2)
    assert clone(embeddings) is embeddings
    copied = pickle.loads(pickle.dumps(embeddings))
    np.testing.assert_array_equal(copied.lookup(WORDS)[0], embeddings.lookup(WORDS)[0])
