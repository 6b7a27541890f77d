import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import normalize

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.splits import ClassDisjointKFold

N_CLASSES, DIM_TEXT, DIM_VISUAL, PER_CLASS = 20, 12, 30, 10
NAMES = [f"class {i}" for i in range(N_CLASSES)]


@pytest.fixture
def vectors():
    random = np.random.default_rng(0)
    shifted = random.standard_normal((N_CLASSES, DIM_TEXT)) + 0.7
    return normalize(shifted).astype(np.float32)


@pytest.fixture
def problem(vectors):
    """Features that are linear in the words, with noise: X, y, embeddings."""
    random = np.random.default_rng(1)
    y = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    X = (vectors @ random.standard_normal((DIM_TEXT, DIM_VISUAL)))[y]
    X += 0.5 * random.standard_normal(X.shape)
    return X.astype(np.float32), np.array(NAMES)[y], Attributes(NAMES, vectors)


def literal_csls(points, labels, seen, weight):
    """Score by score, as Conneau et al. write it, up to what an image has in common."""
    scores = np.empty((len(points), len(labels)))
    for i, point in enumerate(points):
        for j, label in enumerate(labels):
            cosines = sorted(float(label @ other) for other in seen)
            r = sum(cosines[-5:]) / 5
            scores[i, j] = point @ label / np.linalg.norm(point) - weight * r
    return scores


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_scores_are_the_formula_written_out(vectors, weight):
    seen, labels = vectors[:8], vectors[5:]
    points = np.random.default_rng(2).standard_normal((6, DIM_TEXT)).astype(np.float32)
    space = LabelSpace(seen, weight)
    scores = space.scores(points, space.label_points(labels))
    assert scores.dtype == np.float32
    expected = literal_csls(points, labels, seen, weight)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.abs(scores).max() <= 1 + weight


def test_two_seen_classes_are_fewer_than_neighbours_and_work(vectors):
    space = LabelSpace(vectors[:2], 1)
    np.testing.assert_allclose(
        -space.label_points(vectors)[:, -1],
        (vectors @ vectors[:2].T).mean(axis=1),
        atol=1e-6,
    )


def test_many_labels_are_corrected_as_each_alone():
    random = np.random.default_rng(5)
    seen, labels = (
        normalize(random.standard_normal((n, 4))).astype(np.float32)
        for n in (1500, 6000)  # 9 million cosines: some blocks
    )
    space = LabelSpace(seen)
    together = space.hub_penalty(labels)
    for i in (0, 2796, 2797, 5999):
        alone = space.hub_penalty(labels[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)


def test_a_hub_wins_less_often(vectors):
    """A label amid all seen classes is near every image, and loses it."""
    seen, hub = vectors[:8], normalize(vectors[:8].mean(axis=0, keepdims=True))
    labels = np.vstack([vectors[8:], hub]).astype(np.float32)
    noise = np.random.default_rng(3).standard_normal((2000, DIM_TEXT))
    points = (noise + 2 * hub).astype(np.float32)
    wins = {}
    for weight in (0.0, 0.5):
        space = LabelSpace(seen, weight)
        best = space.scores(points, space.label_points(labels)).argmax(axis=1)
        wins[weight] = (best == len(labels) - 1).mean()
    assert wins[0.5] < 0.5 * wins[0.0]


def test_classifier_scores_in_its_space(problem, vectors):
    X, y, embeddings = problem
    seen = np.isin(y, NAMES[:12])
    classifier = ZeroShotClassifier(
        None, embeddings, projection="ridge", hub_correction=0.25
    ).fit(X[seen], y[seen])
    space = classifier.label_space_
    order = [NAMES.index(label) for label in classifier.classes_]
    np.testing.assert_allclose(space.seen, vectors[order], atol=1e-6)
    points = classifier.transform(X)
    np.testing.assert_allclose(
        classifier.decision_function(X, NAMES[12:]),
        literal_csls(points, vectors[12:], space.seen, 0.25),
        atol=1e-5,
    )


def test_a_score_depends_on_no_other_candidate(problem):
    X, y, embeddings = problem
    seen = np.isin(y, NAMES[:12])
    classifier = ZeroShotClassifier(None, embeddings, projection="ridge")
    classifier.fit(X[seen], y[seen])
    many = classifier.decision_function(X, NAMES)
    few = classifier.decision_function(X, NAMES[10:15])
    np.testing.assert_allclose(few, many[:, 10:15], atol=1e-6)


def test_bundle_keeps_the_space(problem, tmp_path):
    X, y, embeddings = problem
    seen = np.isin(y, NAMES[:12])
    classifier = ZeroShotClassifier(
        None, embeddings, projection="ridge", hub_correction=0.7
    ).fit(X[seen], y[seen])
    classifier.set_params(hub_correction=0)  # takes effect in the next fit
    classifier.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.decision_function(X, NAMES), classifier.decision_function(X, NAMES)
    )


def test_hub_correction_can_be_searched(problem):
    X, y, embeddings = problem
    search = GridSearchCV(
        ZeroShotClassifier(None, embeddings, projection="ridge"),
        {"hub_correction": [0.0, 0.5]},
        cv=ClassDisjointKFold(3),
    ).fit(X, y)
    assert set(search.best_params_) == {"hub_correction"}
    assert len(np.unique(search.cv_results_["mean_test_score"])) > 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hub_correction", -0.1),
        ("hub_correction", np.nan),
        ("hub_correction", "csls"),
    ],
)
def test_options_out_of_range_are_refused(problem, name, value):
    X, y, embeddings = problem
    classifier = ZeroShotClassifier(None, embeddings, **{name: value})
    with pytest.raises(ValueError, match=f"Expected {name}"):
        classifier.fit(X, y)
