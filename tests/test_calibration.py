"""What `fit` learns on folds of the seen classes: penalty, temperature, rejection."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.errors import PartialCoverageWarning
from zeroshot.labels import embed_labels
from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.projections import Ridge, Visual
from zeroshot.scoring.rejection import StandOut

N_CLASSES, N_IMAGES, DIM = 40, 12, 16
EMBEDDINGS = RandomEmbeddings(DIM, seed=3)
NAMES = np.array([f"class {i:02d}" for i in range(N_CLASSES + 20)])
SEEN, UNSEEN = NAMES[:N_CLASSES], NAMES[N_CLASSES:]


@pytest.fixture(scope="module")
def task():
    """Noisy linear images of label vectors: unseen classes are learnable, just."""
    random = np.random.default_rng(0)
    vectors, _ = embed_labels(NAMES.tolist(), EMBEDDINGS)
    mixing = random.standard_normal((DIM, 48))
    y = np.repeat(NAMES, N_IMAGES)
    own = 1.5 * random.standard_normal((len(NAMES), 48))
    row = np.repeat(np.arange(len(NAMES)), N_IMAGES)
    X = vectors[row] @ mixing + own[row] + random.standard_normal((len(y), 48))
    X = (np.sign(X) * X**2).astype(np.float32)  # their roots are linear in the words
    is_test = np.isin(y, UNSEEN) | (np.arange(len(y)) % 4 == 0)
    return X, y, is_test


def classifier(**parameters):
    return ZeroShotClassifier(
        None,
        EMBEDDINGS,
        **{"projection": Ridge(alpha=0.1), "random_state": 0, **parameters},
    )


@pytest.fixture(scope="module")
def fitted(task):
    X, y, is_test = task
    clf = classifier(seen_penalty="auto", temperature="auto", reject="auto:0.1")
    return clf.fit(X[~is_test], y[~is_test])


def generalised(clf, X, y):
    predicted = clf.predict(X, NAMES.tolist())
    parts = [np.isin(y, names) for names in (SEEN, UNSEEN)]
    return [per_class_accuracy(y[part], (predicted == y)[part]) for part in parts]


def test_automatic_penalty_is_near_the_best_in_hindsight(task, fitted):
    X, y, is_test = task
    X, y = X[is_test], y[is_test]
    # The correction of hubs alone comes near it here; without it there is more to do.
    clf = clone(fitted).set_params(reject=None, hub_correction=0.0)
    clf.fit(task[0][~is_test], task[1][~is_test])
    automatic = harmonic_mean(*generalised(clf, X, y))
    by_hand = [
        harmonic_mean(*generalised(clf.set_params(seen_penalty=p), X, y))
        for p in np.linspace(0, 1, 41).tolist()
    ]
    assert automatic > by_hand[0] + 0.1
    assert automatic > max(by_hand) - 0.1


def test_background_and_h_agree_with_a_literal_loop_over_the_folds(task, fitted):
    """Train without each fold's classes and look again, with plain fit and predict."""
    X, y, is_test = task
    X, y = X[~is_test], y[~is_test]
    found = fitted.calibration_
    background = found.background
    assert np.array_equal(SEEN[background.labels], y)  # few images: all are in it
    assert len(np.unique(background.folds)) == 2 * found.n_folds
    unseen = []
    for fold in np.unique(background.folds):
        held_out = np.isin(y, SEEN[background.folds == fold])
        clf = classifier(seen_penalty=found.seen_penalty)
        clf.fit(X[~held_out], y[~held_out])
        points = clf.projection_.transform(X[held_out])
        np.testing.assert_allclose(background.points[held_out], points, atol=1e-6)
        right = clf.predict(X[held_out], SEEN.tolist()) == y[held_out]
        unseen.append(per_class_accuracy(y[held_out], right))
    # The left-out images of seen classes cannot be told from outside: U alone.
    # H <= 2 U / (1 + U); the projections here had more classes and images to train on.
    assert found.h < 2 * np.mean(unseen) / (1 + np.mean(unseen)) + 0.1
    assert found.h > found.h_without


def test_automatic_temperature_has_less_loss_than_others_on_unseen_classes(
    task, fitted
):
    X, y, is_test = task
    unseen = is_test & np.isin(y, UNSEEN)
    column = np.searchsorted(UNSEEN, y[unseen])

    def loss(temperature):
        clf.set_params(temperature=temperature)
        p = clf.predict_proba(X[unseen], UNSEEN.tolist())
        return -np.log(p[np.arange(len(p)), column] + 1e-30).mean()

    clf = clone(fitted).fit(X[~is_test], y[~is_test])
    found = clf.temperature_
    assert loss("auto") == pytest.approx(loss(found))
    assert loss(found) < min(loss(found * 3), loss(found / 3))


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_reject_accepts_the_stated_share_of_images_without_their_label(task, rate):
    X, y, is_test = task
    clf = classifier(seen_penalty="auto", reject=f"auto:{rate}", unknown_label="none")
    clf.fit(X[~is_test], y[~is_test])
    accepted, known = [], []
    for candidates in (UNSEEN[::2], UNSEEN[1::2], UNSEEN[:4]):
        test = np.isin(y, UNSEEN)
        accepted.append(clf.predict(X[test], candidates.tolist()) != "none")
        known.append(np.isin(y[test], candidates))
    accepted, known = np.concatenate(accepted), np.concatenate(known)
    assert rate - 0.15 < accepted[~known].mean() < rate + 0.05
    assert accepted[known].mean() > accepted[~known].mean() + 0.2


def test_reject_places_new_candidates_as_if_each_fold_was_not_known(task):
    X, y, is_test = task
    clf = classifier(projection=Visual(), reject="auto:0.2", hub_correction=0.0)
    clf.fit(X[~is_test], y[~is_test])
    background, candidates = clf.calibration_.background, UNSEEN[:6].tolist()

    def points(rows):  # without hubs nothing is added to a cosine
        return np.column_stack([rows, np.zeros(len(rows), np.float32)])

    known = StandOut(
        candidates=points(clf.label_points(candidates)),
        class_of=np.full(6, -1),
        pretrained_of=np.empty(0, np.intp),
        seen=points(clf.label_points(SEEN.tolist())),
        pretrained=np.empty((0, 49), np.float32),
        twins=np.empty(0, np.intp),
        penalty=0.0,
        temperature=clf.calibration_.temperature,
    )
    words, _ = embed_labels(candidates, EMBEDDINGS)
    moved = clf.projection_.transform_labels_without(words, background.left_out)
    without = [replace(known, candidates=points(rows)) for rows in moved]
    values = clf.standing(X[is_test], candidates)
    accepted = clf.predict(X[is_test], candidates) != "unknown"
    expected = values > background.threshold(0.2, without)
    np.testing.assert_array_equal(accepted, expected)
    as_known = values > background.threshold(0.2, [known] * len(without))
    assert not np.array_equal(accepted, as_known)


def test_rank_flags_what_predict_rejects(task, fitted):
    X, y, is_test = task
    X, candidates = X[is_test], UNSEEN[:10].tolist()
    predicted = fitted.predict(X, candidates)
    ranked = fitted.rank(X, candidates, k=3)
    rejected = [best[0].rejected for best in ranked]
    assert [label == "unknown" for label in predicted] == rejected
    assert 0 < np.mean(rejected) < 1
    assert all(label.rejected is best[0].rejected for best in ranked for label in best)
    # A hidden class stands out less; its own candidates are what changed.
    without = fitted.predict(X, UNSEEN[10:].tolist())
    is_first = np.isin(y[is_test], candidates)
    assert (without[is_first] == "unknown").mean() > np.mean(rejected)


def test_automatic_rejection_beats_no_rejection_on_unseen_labels(task):
    X, y, is_test = task
    clf = classifier(reject="auto").fit(X[~is_test], y[~is_test])
    found = clf.calibration_
    assert 0.01 <= found.false_accept_rate <= 0.99
    test, half = np.isin(y, UNSEEN), UNSEEN[::2]
    known = np.isin(y[test], half)
    accepted = clf.predict(X[test], half.tolist()) != "unknown"
    assert (accepted[known].mean() + (~accepted[~known]).mean()) / 2 > 0.6
    assert found.auroc > 0.6


def test_multi_label_probabilities_do_not_depend_on_other_candidates(task, fitted):
    X, y, is_test = task
    X, y = X[is_test], y[is_test]
    some, one = UNSEEN[:5].tolist(), UNSEEN[2:3].tolist()
    among = fitted.predict_proba(X, some, multi_label=True)
    alone = fitted.predict_proba(X, one, multi_label=True)
    assert np.allclose(among[:, 2], alone[:, 0], atol=1e-6)
    applies = y[:, None] == UNSEEN[None, :5]
    assert roc_auc_score(applies.ravel(), among.ravel()) > 0.9
    assert among[applies].mean() > 0.6 > 0.4 > among[~applies].mean()
    ranked = fitted.rank(X[:3], some, multi_label=True)
    for row, labels in zip(among, ranked, strict=False):
        found = [label.probability for label in labels]
        assert found == pytest.approx(sorted(row.tolist(), reverse=True))


def test_a_model_that_is_loaded_predicts_the_same(task, fitted, tmp_path):
    X, _, is_test = task
    fitted.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", embeddings=EMBEDDINGS)
    candidates = NAMES[::3].tolist()
    assert loaded.rank(X[is_test], candidates) == fitted.rank(X[is_test], candidates)
    assert loaded.seen_penalty_ == fitted.seen_penalty_
    record = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert record["calibration"]["seen_penalty"] == fitted.seen_penalty_
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"{fitted.seen_penalty_:.3g}" in card
    assert f"{fitted.temperature_:.3g}" in card


def test_fit_is_repeatable(task, fitted):
    X, y, is_test = task
    again = clone(fitted).fit(X[~is_test], y[~is_test]).calibration_
    assert again.seen_penalty == fitted.calibration_.seen_penalty
    assert again.temperature == fitted.calibration_.temperature


def test_parameters_can_change_after_a_fit_that_calibrated(task, fitted):
    X, y, is_test = task
    clf = classifier(reject="auto").fit(X[~is_test], y[~is_test])
    assert clf.seen_penalty_ == 0.0
    assert clf.set_params(seen_penalty="auto").seen_penalty_ > 0
    assert clf.set_params(seen_penalty=0.25).seen_penalty_ == 0.25
    assert clf.temperature_ == clf.projection_.temperature


def test_automatic_after_a_fit_without_calibration_raises(task):
    X, y, is_test = task
    X, y = X[~is_test], y[~is_test]
    clf = classifier().fit(X, y)
    for parameters in ({"seen_penalty": "auto"}, {"reject": "auto"}):
        with pytest.raises(ValueError, match="fit again"):
            clone(clf).fit(X, y).set_params(**parameters).predict(X)
    with pytest.raises(ValueError, match="fit again"):
        clf.predict_proba(X, multi_label=True)


def test_too_few_classes_warn_and_change_nothing(task):
    X, y, _ = task
    few = np.isin(y, SEEN[:3])
    clf = classifier(seen_penalty="auto", temperature="auto", reject="auto")
    with pytest.warns(PartialCoverageWarning, match="at least 4 seen classes"):
        clf.fit(X[few], y[few])
    plain = classifier().fit(X[few], y[few])
    assert clf.rank(X, UNSEEN.tolist()) == plain.rank(X, UNSEEN.tolist())
    assert (clf.seen_penalty_, clf.temperature_) == (0.0, clf.projection_.temperature)


def test_rate_that_needs_more_classes_warns(task):
    X, y, _ = task
    few = np.isin(y, SEEN[:8])
    with pytest.warns(PartialCoverageWarning, match="takes 19 seen classes"):
        classifier(reject="auto:0.05").fit(X[few], y[few])


@pytest.mark.parametrize(
    "parameters",
    [
        {"reject": "auto:0"},
        {"reject": "auto:1.5"},
        {"reject": "automatic"},
        {"seen_penalty": "best"},
        {"temperature": "0.1"},
    ],
)
def test_wrong_words_are_refused(task, parameters):
    X, y, _ = task
    with pytest.raises(ValueError, match=r"Expected .* 'auto'"):
        classifier(**parameters).fit(X, y)


@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_classes_of_one_image_calibrate_without_seen_accuracy(task):
    X, y, _ = task
    first = np.unique(y, return_index=True)[1]
    clf = classifier(seen_penalty="auto").fit(X[first], y[first])
    assert clf.calibration_.h == 0.0
    assert np.isfinite(clf.seen_penalty_)
