"""What the candidates are, which are seen, and how each was made: one answer."""

import unicodedata

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes, open_vectors
from zeroshot.errors import LabelError, ZeroShotWarning
from zeroshot.evaluation import evaluate_model

WORDS = ["lion", "zebra", "polar", "bear", "isbjorn", "okapi", "tapir", "élan"]
CLASSES = ["bear", "lion, king of beasts", "polar bear", "tapir", "élan"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A file of vectors that knows them."""
    file = tmp_path_factory.mktemp("vectors") / "v.txt"
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 16))
    lines = [
        f"{word} {' '.join(f'{x:.5f}' for x in row)}"
        for word, row in zip(WORDS, vectors, strict=True)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_vectors(file)


@pytest.fixture(scope="module")
def problem():
    """Features of images of the classes; classes are easy to tell apart."""
    random = np.random.default_rng(1)
    y = np.repeat(np.arange(len(CLASSES)), 12)
    X = 3 * np.eye(len(CLASSES), 20)[y] + 0.3 * random.standard_normal((len(y), 20))
    return X.astype(np.float32), np.array(CLASSES)[y]


@pytest.fixture
def clf(words, problem):
    return ZeroShotClassifier(None, words, projection="ridge").fit(*problem)


# Columns.


@pytest.mark.parametrize("turned", [False, True])
def test_constructor_candidates_calibrate_in_any_order(words, problem, turned):
    X, y = problem
    candidates = CLASSES[::-1] if turned else CLASSES
    clf = ZeroShotClassifier(
        None, words, projection="ridge", candidate_labels=candidates
    )
    calibrated = CalibratedClassifierCV(clf, cv=3).fit(X, y)
    assert calibrated.score(X, y) == 1.0
    fitted = clf.fit(X, y)
    assert fitted.classes_.tolist() == sorted(CLASSES)
    assert log_loss(y, fitted.predict_proba(X), labels=fitted.classes_) < 1


@pytest.mark.parametrize(
    "candidates",
    [
        ["tapir", "bear"],
        ["okapi", "zebra"],
        ["okapi", "tapir", "zebra", "bear"],
        {"okapi": [], "tapir": ["isbjorn"]},
    ],
)
def test_classes_name_the_columns_of_constructor_candidates(clf, problem, candidates):
    X, _ = problem
    clf.set_params(candidate_labels=candidates)
    probabilities = clf.predict_proba(X)
    assert sorted(clf.classes_) == sorted(candidates)
    assert clf.seen_classes_.tolist() == sorted(CLASSES)
    best = clf.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(best, clf.predict(X))
    in_call = clf.predict_proba(X, list(candidates))  # those of a call keep their order
    if not isinstance(candidates, dict):
        order = [candidates.index(label) for label in clf.classes_]
        np.testing.assert_allclose(probabilities, in_call[:, order], rtol=1e-5)


def test_tools_that_number_labels_are_told_so(words, problem):
    X, y = problem
    clf = ZeroShotClassifier(None, "random", candidate_labels=CLASSES)
    numbers = np.unique(y, return_inverse=True)[1]
    with pytest.raises(LabelError, match="cross_val_predict"):
        clf.fit(X, numbers)


# What is seen.


@pytest.mark.parametrize(
    "name",
    [
        "lion",
        "LION",
        "Lion, something else",
        unicodedata.normalize("NFD", "ÉLAN"),
        "Polar-Bear",
        "polar_bear",
        "tapirs",  # has the vector of a seen class
    ],
)
def test_a_name_of_a_seen_class_is_seen_however_it_is_written(clf, problem, name):
    X, _ = problem
    plain = clf.decision_function(X, [name, "okapi", "zebra"])
    ranked = clf.rank(X[:1], [name, "okapi"])[0]
    assert {answer.label: answer.seen for answer in ranked} == {
        name: True,
        "okapi": False,
    }
    clf.set_params(seen_penalty=3.0)
    assert not clf.rank(X[:1], ["okapi"])[0][0].seen
    penalised = clf.decision_function(X, [name, "okapi", "zebra"])
    np.testing.assert_allclose(plain - penalised, [[3, 0, 0]] * len(X), atol=1e-5)
    assert name not in clf.predict(X, [name, "okapi", "zebra"])


def test_another_name_after_a_comma_is_not_the_class(clf, problem):
    clf.set_params(candidate_labels=None)
    assert not clf.rank(problem[0][:1], {"king of beasts": ["okapi"]})[0][0].seen


def test_evaluation_prediction_and_score_agree_on_what_is_seen(clf, problem):
    X, y = problem
    clf.set_params(seen_penalty=3.0)
    short = np.where(y == CLASSES[1], "lion", y).astype(object)
    short[y == "tapir"] = "okapi"  # whatever it is, it was not trained on
    found = evaluate_model(clf, X, short)
    candidates = [*clf.seen_classes_, "okapi"]
    truth = np.where(short == "lion", CLASSES[1], short)
    right = clf.predict(X, candidates) == truth
    per_class = [right[truth == label].mean() for label in np.unique(truth)]
    n_seen = len(CLASSES) - 1
    assert found.settings["n_unseen"] == 1
    assert found.results["model"]["gzsl_seen"][0] == pytest.approx(
        np.mean(
            [
                m
                for m, c in zip(per_class, np.unique(truth), strict=True)
                if c != "okapi"
            ]
        )
    )
    assert len(per_class) == n_seen + 1
    assert clf.score(X, short) == pytest.approx(right.mean())
    assert clf.score(X, short, candidate_labels=candidates) == pytest.approx(
        right.mean()
    )


def test_score_keeps_two_classes_of_the_same_first_name_apart(words, problem):
    X, _ = problem
    cranes = np.where(np.arange(len(X)) % 2, "lion, beast", "lion, statue")
    pair = Attributes(["lion, beast", "lion, statue"], np.eye(2))
    clf = ZeroShotClassifier(None, pair, projection="ridge").fit(X, cranes)
    right = clf.predict(X) == cranes
    assert clf.score(X, cranes) == pytest.approx(right.mean())


# One label, one vector.


def test_a_score_is_the_same_beside_any_other_candidates_and_aliases(clf, problem):
    X, _ = problem
    alone = clf.decision_function(X, {"polar bear": ["isbjorn"]})
    for others in ({"zebra": []}, {"tapir": []}, {"tapir": ["okapi"], "lion": []}):
        scores = clf.decision_function(
            X, {"polar bear": ["isbjorn"], **others, "okapi": []}
        )
        np.testing.assert_allclose(scores[:, 0], alone[:, 0], atol=1e-6)
    plain = clf.decision_function(X, ["polar bear"])
    assert np.abs(plain - alone).max() > 0.1  # an alias counts, seen or not
    beside = clf.decision_function(X, ["polar bear", "zebra", "okapi"])
    np.testing.assert_allclose(beside[:, :1], plain, atol=1e-6)


def test_a_new_label_with_the_vector_of_a_seen_one_is_warned_of(clf, problem):
    with pytest.warns(ZeroShotWarning, match="'tapir' = 'tapirs'"):
        clf.predict(problem[0], ["tapir", "tapirs", "okapi"])


@pytest.mark.parametrize(
    "candidates",
    [
        {"polar bear": ["isbjorn"], "arctic thing": ["okapi"], "lion": []},
        np.array(["okapi", "tapir", "zebra"]),
        ["zebra", "lion"],
    ],
)
@pytest.mark.parametrize("vocabulary", [[], ["zebra", "polar bear"], None])
def test_a_bundle_keeps_candidates_with_their_aliases(
    clf, problem, tmp_path, candidates, vocabulary
):
    X, _ = problem
    clf.set_params(candidate_labels=candidates)
    clf.save(tmp_path / "model", vocabulary=vocabulary)
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.classes_.tolist() == clf.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert loaded.explain(X[:2]) == clf.explain(X[:2])
    np.testing.assert_array_equal(
        loaded.decision_function(X, CLASSES), clf.decision_function(X, CLASSES)
    )


def test_a_bundle_without_vectors_knows_a_plural_as_before(clf, problem, tmp_path):
    X, _ = problem
    clf.save(tmp_path / "model", vocabulary=["zebra"])
    loaded = zeroshot.load(tmp_path / "model").set_params(seen_penalty=1.0)
    clf.set_params(seen_penalty=1.0)
    names = ["tapirs", "zebras", "lion"]
    np.testing.assert_array_equal(
        loaded.decision_function(X, names), clf.decision_function(X, names)
    )
    assert loaded.rank(X[:1], names) == clf.rank(X[:1], names)
