import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import normalize

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes
from zeroshot.projections import DeViSE, PretrainedClasses, Ridge, Visual
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


class Words(BaseEstimator):
    """A projection that leaves words where they are."""


class Turned(Words):
    """One that maps them: a rotation, and another length."""

    turn = np.linalg.qr(np.random.default_rng(8).standard_normal((DIM_TEXT,) * 2))[0]

    def transform_labels(self, class_embeddings):
        return np.float32(3 * class_embeddings @ self.turn)


def pretrained_classes(words):
    n = len(words)
    rows, bias = np.ones((n, DIM_VISUAL), np.float32), np.zeros(n, np.float32)
    return PretrainedClasses(words, rows, bias, np.full(n, -1))


def space_of(seen, weight, pretrained=None, projection=None):
    classes = None if pretrained is None else pretrained_classes(pretrained)
    return LabelSpace.of(projection or Words(), seen, classes, weight)


def literal_csls(points, labels, known, weight):
    """Score by score, as Conneau et al. write it, up to what an image has in common."""
    scores = np.empty((len(points), len(labels)))
    for i, point in enumerate(points):
        for j, label in enumerate(labels):
            cosines = sorted(float(label @ other) for other in known)
            r = sum(cosines[-5:]) / 5
            scores[i, j] = point @ label / np.linalg.norm(point) - weight * r
    return scores


@pytest.mark.parametrize("n_pretrained", [0, 6])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_scores_are_the_formula_written_out(vectors, weight, n_pretrained):
    seen, labels, pretrained = vectors[:8], vectors[5:], vectors[14:][:n_pretrained]
    points = np.random.default_rng(2).standard_normal((6, DIM_TEXT)).astype(np.float32)
    space = space_of(seen, weight, pretrained)
    nobody = np.full(len(labels), -1)
    scores = space.scores(points, space.label_points(labels, nobody))
    assert scores.dtype == np.float32
    known = np.concatenate([seen, pretrained])
    expected = literal_csls(points, labels, known, weight)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.abs(scores).max() <= 1 + weight


def test_labels_are_where_the_projection_maps_them_and_seen_ones_at_their_points(
    vectors,
):
    images = normalize(np.random.default_rng(4).standard_normal((8, DIM_TEXT)))
    projection = Turned()
    space = space_of(vectors[:8], 0.5, vectors[15:], projection)
    turned = vectors @ projection.turn
    np.testing.assert_allclose(space.seen, turned[:8], atol=1e-6)
    np.testing.assert_allclose(space.pretrained, turned[15:], atol=1e-6)
    projection.class_points_ = np.float32(2 * images)  # known by their images too
    space = space_of(vectors[:8], 0.5, vectors[15:], projection)
    np.testing.assert_allclose(space.seen, images, atol=1e-6)
    class_of = np.array([-1, 3, -1, 0])
    found = space.label_points(vectors[[9, 3, 0, 0]], class_of)
    expected = np.stack([turned[9], images[3], turned[0], images[0]])
    np.testing.assert_allclose(found[:, :-1], expected, atol=1e-6)
    scores = literal_csls(
        images, expected, np.concatenate([images, turned[15:]]), weight=0.5
    )
    np.testing.assert_allclose(
        space.scores(images.astype(np.float32), found), scores, atol=1e-6
    )
    # What the classes themselves are given as.
    np.testing.assert_array_equal(
        space.seen_points, space.label_points(vectors[:8], np.arange(8))
    )
    np.testing.assert_allclose(
        space.pretrained_points,
        space.label_points(vectors[15:], np.full(5, -1)),
        atol=1e-6,
    )


def test_candidates_may_all_be_seen_classes_and_all_be_new(vectors):
    projection = Turned()
    projection.class_points_ = np.ones((8, DIM_TEXT), np.float32)
    space = space_of(vectors[:8], 0.5, vectors[15:], projection)
    for class_of in (np.arange(8), np.full(8, -1)):
        assert space.label_points(vectors[:8], class_of).shape == (8, DIM_TEXT + 1)
    assert space.label_points(vectors[:0], class_of[:0]).shape == (0, DIM_TEXT + 1)


def test_weight_that_is_not_given_is_what_suits_the_projection(vectors):
    assert space_of(vectors[:8], None).hub_correction == 0.5
    for projection, weight in ((Visual(), 0.125), (DeViSE(), 0.25), (Ridge(), 0.5)):
        X = np.random.default_rng(0).standard_normal((16, 9))
        y = np.arange(16) % 8
        fitted = projection.fit(X, y, class_embeddings=vectors[:8])
        assert space_of(vectors[:8], None, None, fitted).hub_correction == weight
        assert space_of(vectors[:8], 0.0, None, fitted).hub_correction == 0


def test_two_seen_classes_are_fewer_than_neighbours_and_work(vectors):
    space = space_of(vectors[:2], 1)
    np.testing.assert_allclose(
        -space.label_points(vectors, np.full(N_CLASSES, -1))[:, -1],
        (vectors @ vectors[:2].T).mean(axis=1),
        atol=1e-6,
    )


def test_many_labels_are_corrected_as_each_alone():
    random = np.random.default_rng(5)
    seen, labels = (
        normalize(random.standard_normal((n, 4))).astype(np.float32)
        for n in (1500, 6000)  # 9 million cosines: some blocks
    )
    space = space_of(seen, 0.5)
    nobody = np.full(6000, -1)
    together = space.label_points(labels, nobody)
    for i in (0, 2796, 2797, 5999):
        alone = space.label_points(labels[i : i + 1], nobody[:1])
        np.testing.assert_array_equal(together[i], alone[0])


def test_a_hub_wins_less_often(vectors):
    """A label amid all seen classes is near every image, and loses it."""
    seen, hub = vectors[:8], normalize(vectors[:8].mean(axis=0, keepdims=True))
    labels = np.vstack([vectors[8:], hub]).astype(np.float32)
    noise = np.random.default_rng(3).standard_normal((2000, DIM_TEXT))
    points = (noise + 2 * hub).astype(np.float32)
    wins = {}
    for weight in (0.0, 0.5):
        space = space_of(seen, weight)
        found = space.label_points(labels, np.full(len(labels), -1))
        best = space.scores(points, found).argmax(axis=1)
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
