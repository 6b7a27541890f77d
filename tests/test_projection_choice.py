import logging

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import normalize

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes
from zeroshot.metrics import per_class_accuracy
from zeroshot.projections import ESZSL, Ridge
from zeroshot.projections.closed_form import fit_together
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.splits import ClassDisjointKFold
from zeroshot.training.projection_choice import CLOSED_FORMS, choose_projection

N_CLASSES, DIM_TEXT, DIM_VISUAL, PER_CLASS = 24, 10, 30, 8
NAMES = [f"class {i:02}" for i in range(N_CLASSES)]


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    T = normalize(random.standard_normal((N_CLASSES, DIM_TEXT)) + 0.5)
    y = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    X = (T @ random.standard_normal((DIM_TEXT, DIM_VISUAL)))[y]
    X += 1.5 * random.standard_normal(X.shape)
    order = random.permutation(len(y))
    return X[order].astype(np.float32), y[order], T.astype(np.float32)


def choose_closed_form(problem, **options):
    X, y, T = problem
    return choose_projection(X, y, T, most_to_train_on=X.size - 1, **options)


def test_fit_together_is_a_fit_of_each(problem):
    X, y, T = problem
    projections = [
        Ridge(alpha=2.0),
        Ridge(alpha=50.0),
        ESZSL(alpha=2.0, alpha_text=0.5),
        ESZSL(alpha=7.0),
    ]
    together = fit_together(projections, X, y, class_embeddings=T)
    for projection, fitted in zip(projections, together, strict=True):
        alone = clone(projection).fit(X, y, class_embeddings=T)
        np.testing.assert_allclose(fitted.transform(X), alone.transform(X), atol=1e-5)
        assert not hasattr(projection, "coef_")


def test_choice_is_the_best_on_folds_of_the_classes(problem):
    """The accuracies are those of a plain loop over folds and candidates."""
    X, y, T = problem
    chosen, choice = choose_closed_form(problem, random_state=3)
    assert choose_closed_form(problem, random_state=3)[1] == choice
    expected = {}
    for projection in CLOSED_FORMS:
        hits = []
        for train, test in ClassDisjointKFold(3, random_state=3).split(X, y):
            seen, held_out = np.unique(y[train]), np.unique(y[test])
            fitted = clone(projection).fit(
                X[train], np.searchsorted(seen, y[train]), class_embeddings=T[seen]
            )
            space = LabelSpace(T[seen])
            label_points = space.label_points(T[held_out])
            scores = space.scores(fitted.transform(X[test]), label_points)
            right = held_out[scores.argmax(axis=1)] == y[test]
            hits.append(per_class_accuracy(y[test], right))
        expected[" ".join(repr(projection).split())] = np.mean(hits), np.std(hits)
    got = {tried.projection: (tried.mean, tried.spread) for tried in choice.tried}
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name] == pytest.approx(values, abs=1e-9)
    best = max(expected, key=lambda name: expected[name][0])
    assert expected[choice.chosen][0] == expected[best][0]
    assert " ".join(repr(chosen).split()) == choice.chosen
    assert not hasattr(chosen, "coef_")
    means = [tried.mean for tried in choice.tried]
    assert means == sorted(means, reverse=True)


def test_devise_is_tried_where_training_is_quick(problem):
    X, y, T = problem
    few = y < 6
    _, choice = choose_projection(X[few], y[few], T[:6], most_to_train_on=X[few].size)
    tried = {one.projection for one in choice.tried}
    assert {"DeViSE()", "DeViSE(weight_decay=0.3)"} < tried


def test_too_few_classes_for_folds_fall_back_to_ridge(problem):
    X, y, T = problem
    few = y < 5
    chosen, choice = choose_projection(X[few], y[few], T[:5])
    assert repr(chosen) == "Ridge()" == choice.chosen
    assert choice.n_folds == 0
    assert "too few" in choice.reason
    assert str(choice) == choice.reason


def test_classifier_says_what_it_chose_and_keeps_it(problem, tmp_path, caplog):
    X, y, T = problem
    embeddings = Attributes(NAMES, T)
    labels = np.array(NAMES)[y]
    seen = y < 8
    classifier = ZeroShotClassifier(None, embeddings, projection="auto", random_state=0)
    with caplog.at_level(logging.INFO, logger="zeroshot"):
        classifier.fit(X[seen], labels[seen])
    choice = classifier.projection_choice_
    assert choice.reason in caplog.text
    assert type(classifier.projection_).__name__ == choice.chosen.split("(")[0]
    assert f"| `{choice.chosen}` |" in str(choice)
    alone = clone(classifier).set_params(projection=clone(classifier.projection_))
    alone.fit(X[seen], labels[seen])
    np.testing.assert_array_equal(
        alone.decision_function(X, NAMES), classifier.decision_function(X, NAMES)
    )
    assert alone.projection_choice_ is None
    classifier.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    assert loaded.projection_choice_ == choice
    np.testing.assert_array_equal(
        loaded.predict(X, NAMES), classifier.predict(X, NAMES)
    )
    assert choice.reason in (tmp_path / "model" / "README.md").read_text()


def test_hub_correction_of_the_classifier_counts_in_the_choice(problem):
    with_it = choose_closed_form(problem, hub_correction=1.0)[1]
    without = choose_closed_form(problem, hub_correction=0.0)[1]
    assert [t.mean for t in with_it.tried] != [t.mean for t in without.tried]
