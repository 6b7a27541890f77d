"""Candidates that are the embeddings' whole vocabulary, or another language's words."""

import numpy as np
import pytest

from zeroshot import ZeroShotClassifier, load, make_shapes
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes, RandomEmbeddings
from zeroshot.errors import LabelError, OutOfVocabularyError, PluginContractError
from zeroshot.features import extract_features
from zeroshot.registry import resolve_backbone

GERMAN = {
    "red": "roter",
    "green": "grüner",
    "blue": "blauer",
    "star": "Stern",
    "ring": "Ring",
    "cross": "Kreuz",
}


@pytest.fixture(scope="module")
def task():
    images, labels = make_shapes(
        8, colors=["red", "green", "blue"], shapes=["star", "ring", "cross"]
    )
    X = extract_features(images, resolve_backbone("color-hog"), cache=False).matrix
    unseen = np.isin(labels, ["red star", "blue ring"])
    words, matrix = shape_attributes()
    clf = ZeroShotClassifier(None, Attributes(words, matrix), projection="ridge")
    return clf.fit(X[~unseen], labels[~unseen]), X[unseen], labels[unseen]


def test_vocabulary_as_candidates_equals_naming_every_word(task):
    clf, X, _ = task
    words, _ = shape_attributes()
    np.testing.assert_allclose(
        clf.predict_proba(X, "vocabulary"),
        clf.predict_proba(X, words),
        rtol=1e-2,
        atol=1e-4,
    )
    np.testing.assert_array_equal(clf.predict(X, "vocabulary"), clf.predict(X, words))


def test_vocabulary_with_a_number_takes_the_first_words(task):
    clf, X, _ = task
    words, _ = shape_attributes()
    assert set(clf.predict(X, "vocabulary:3")) <= set(words[:3])
    assert clf.decision_function(X, "vocabulary:3").shape == (len(X), 3)


@pytest.mark.parametrize(
    "text", ["vocabulary:", "vocabulary:0", "vocabulary:-1", "all"]
)
def test_vocabulary_misspelt_is_an_error(task, text):
    clf, X, _ = task
    with pytest.raises(LabelError, match="vocabulary:<how many words>"):
        clf.predict(X, text)


def test_vocabulary_of_embeddings_that_cannot_list_is_an_error(task):
    clf, X, _ = task
    dim = clf.class_embeddings_.shape[1]
    with pytest.raises(PluginContractError, match="'random', which has no vocabulary"):
        clf.predict(X, "vocabulary", embeddings=RandomEmbeddings(dim))


def test_vocabulary_in_the_constructor_survives_saving(task, tmp_path):
    clf, X, _ = task
    model = ZeroShotClassifier(
        **clf.get_params() | {"candidate_labels": "vocabulary:5"}
    )
    model.__dict__ |= {k: v for k, v in vars(clf).items() if k.endswith("_")}
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.candidate_labels == "vocabulary:5"
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X, "vocabulary:5"))


def test_vocabulary_skips_words_without_direction():
    class WithZero(Attributes):
        def lookup(self, words):
            vectors, found = super().lookup(words)
            vectors[[word == "void" for word in words]] = 0
            return vectors, found

    embeddings = WithZero(["void", "red", "blue"], np.eye(3))
    clf = ZeroShotClassifier(None, embeddings, projection="ridge")
    X = np.random.default_rng(0).normal(size=(20, 4))
    clf.fit(X, ["red", "blue"] * 10)
    assert set(clf.predict(X, "vocabulary")) <= {"red", "blue"}


def test_other_embeddings_name_the_same_images_in_another_language(task):
    clf, X, labels = task
    words, matrix = shape_attributes()
    noise = np.random.default_rng(0).normal(scale=0.02, size=matrix.shape)
    known = [i for i, word in enumerate(words) if word in GERMAN]
    german = Attributes([GERMAN[words[i]] for i in known], (matrix + noise)[known])
    candidates = ["roter Stern", "blauer Ring", "grüner Stern", "blauer Stern"]
    english = ["red star", "blue ring", "green star", "blue star"]
    predicted = clf.predict(X, candidates, embeddings=german)
    translated = np.array([english[candidates.index(label)] for label in predicted])
    np.testing.assert_array_equal(translated, clf.predict(X, english))
    assert (translated == labels).mean() > 0.7
    with pytest.raises(OutOfVocabularyError):
        clf.predict(X, candidates)  # the embeddings of training know no German


def test_other_embeddings_of_another_length_are_refused(task):
    clf, X, _ = task
    with pytest.raises(LabelError, match="share the space of training"):
        clf.predict(X, ["red star"], embeddings=RandomEmbeddings(7))
