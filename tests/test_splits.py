"""Class-disjoint splits: nothing of an unseen class is trained on."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes
from zeroshot.errors import LabelError, ZeroShotWarning
from zeroshot.metrics import per_class_accuracy, zero_shot_scorer
from zeroshot.projections import Ridge
from zeroshot.splits import ClassDisjointKFold, hold_out_classes, zero_shot_splits

LABELS = np.repeat(
    [f"class {i:02d}" for i in range(10)], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
)


@given(st.integers(3, 40), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_hold_out_classes_divides_all_classes_in_the_share_asked(n, share, seed):
    classes = [f"c{i}" for i in range(n)]
    expected = max(1, round(share * n))
    if n - expected < 2:
        with pytest.raises(LabelError, match="at least 2 for training"):
            hold_out_classes(classes, share, seed)
        return
    seen, unseen = hold_out_classes(classes * 2, share, seed)
    assert len(unseen) == expected
    assert sorted([*seen, *unseen]) == sorted(classes)
    assert sorted(seen) == list(seen)
    assert sorted(unseen) == list(unseen)


def test_hold_out_classes_depends_on_the_seed_only():
    shuffled = np.random.default_rng(5).permutation(LABELS)
    _, first = hold_out_classes(LABELS, 0.3, 1)
    _, again = hold_out_classes(shuffled, 0.3, 1)
    assert first.tolist() == again.tolist()
    others = {tuple(hold_out_classes(LABELS, 0.3, seed)[1]) for seed in range(10)}
    assert len(others) > 5


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan"), float("inf")])
def test_hold_out_classes_share_out_of_range_raises(share):
    with pytest.raises(LabelError, match=r"share in \(0, 1\)"):
        hold_out_classes(LABELS, share)


def test_zero_shot_splits_keep_unseen_classes_and_test_images_out_of_training():
    for number, split in enumerate(zero_shot_splits(LABELS, 4, random_state=7)):
        seen, unseen = set(split.seen), set(split.unseen)
        assert not seen & unseen
        assert seen | unseen == set(LABELS)
        assert set(LABELS[split.train]) == seen
        assert set(LABELS[split.seen_test]) == seen
        assert set(LABELS[split.unseen_test]) == unseen
        positions = [*split.train, *split.seen_test, *split.unseen_test]
        assert sorted(positions) == list(range(len(LABELS)))
        expected = hold_out_classes(LABELS, 0.2, 7 + number)[1]
        assert split.unseen.tolist() == expected.tolist()
        for label in seen:  # a fifth, but one at least
            n = LABELS.tolist().count(label)
            assert (LABELS[split.seen_test] == label).sum() == max(1, round(0.2 * n))
    assert number == 3


def test_zero_shot_splits_with_a_large_test_share_leave_one_image_to_train_on():
    labels = np.repeat(["a", "b", "c"], 2)
    split = next(zero_shot_splits(labels, 1, seen_test=0.99))
    assert sorted(labels[split.train]) == sorted(split.seen)


def test_zero_shot_splits_same_seed_gives_the_same_splits():
    for one, other in zip(
        zero_shot_splits(LABELS, 3, random_state=2),
        zero_shot_splits(LABELS.tolist(), 3, random_state=2),
        strict=True,
    ):
        for name in ("seen", "unseen", "train", "seen_test", "unseen_test"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_zero_shot_splits_of_integer_labels_keep_them_integers():
    split = next(zero_shot_splits([1, 1, 2, 2, 3, 3]))
    assert split.seen.dtype.kind == "i"


def test_zero_shot_splits_with_a_single_image_name_its_class():
    with pytest.raises(LabelError, match="one of 'okapi'"):
        next(zero_shot_splits(["zebra", "zebra", "okapi", "ibex", "ibex"]))


@pytest.mark.parametrize(
    "arguments",
    [{"n_splits": 0}, {"seen_test": 0}, {"seen_test": 1.0}, {"unseen": 0.95}],
)
def test_zero_shot_splits_parameter_out_of_range_raises(arguments):
    with pytest.raises(LabelError, match="Expected"):
        next(zero_shot_splits(LABELS, **arguments))


@pytest.mark.parametrize("labels", [[], ["a", "a"], ["a", "a", "b", "b"]])
def test_zero_shot_splits_of_too_few_classes_raise(labels):
    with pytest.raises(LabelError, match=f"of {len(set(labels))} classes"):
        next(zero_shot_splits(labels))


@given(st.integers(-1, 12), st.integers(1, 12), st.integers(0, 100))
def test_class_disjoint_k_fold_tests_each_class_once(n_splits, n_classes, seed):
    y = np.repeat([f"c{i}" for i in range(n_classes)], 2)
    folds = ClassDisjointKFold(n_splits, random_state=seed)
    largest = np.ceil(n_classes / n_splits) if n_splits > 0 else n_classes
    if not 2 <= n_splits <= n_classes or n_classes - largest < 2:
        with pytest.raises(LabelError, match="n_splits"):
            list(folds.split(y, y))
        return
    tested = []
    for train, test in folds.split(y, y):
        assert not set(y[train]) & set(y[test])
        assert sorted([*train, *test]) == list(range(len(y)))
        tested += np.unique(y[test]).tolist()
    assert sorted(tested) == sorted(set(y))


def test_class_disjoint_k_fold_is_a_group_fold_on_the_labels():
    sizes = [len(test) for _, test in ClassDisjointKFold(5).split(LABELS, LABELS)]
    oracle = GroupKFold(5).split(LABELS, LABELS, LABELS)
    assert sum(sizes) == sum(len(test) for _, test in oracle)
    assert ClassDisjointKFold(5).get_n_splits(LABELS, LABELS) == len(sizes) == 5


def test_class_disjoint_k_fold_depends_on_the_seed_only():
    def held_out(seed):
        folds = ClassDisjointKFold(3, random_state=seed).split(LABELS, LABELS)
        return [tuple(np.unique(LABELS[test])) for _, test in folds]

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)
    assert held_out(None)[0] == ("class 00", "class 01", "class 02", "class 03")
    assert (
        repr(ClassDisjointKFold(3)) == "ClassDisjointKFold(n_splits=3, random_state=0)"
    )


def test_class_disjoint_k_fold_without_y_raises():
    with pytest.raises(LabelError, match="Expected y"):
        next(ClassDisjointKFold().split(LABELS))


@pytest.fixture
def task():
    """Images of 10 classes that are a noisy linear map of their attributes."""
    random = np.random.default_rng(0)
    classes = np.unique(LABELS)
    attributes = random.normal(size=(10, 6))
    rows = np.searchsorted(classes, LABELS)
    X = attributes[rows] @ random.normal(size=(6, 12))
    X += random.normal(size=X.shape)
    words = Attributes(classes.tolist(), attributes)
    return ZeroShotClassifier(None, words, projection="ridge"), X, LABELS


def literal_scores(classifier, X, y, cv):
    """Per-class accuracy among the held-out classes, fold by fold."""
    scores = []
    for train, test in cv.split(X, y):
        fitted = clone(classifier).fit(X[train], y[train])
        answers = fitted.predict(X[test], np.unique(y[test]).tolist())
        scores.append(per_class_accuracy(y[test], answers == y[test]))
    return scores


def test_zero_shot_scorer_names_the_candidates_of_each_fold(task):
    classifier, X, y = task
    cv = ClassDisjointKFold(3)
    scores = cross_val_score(classifier, X, y, cv=cv, scoring=zero_shot_scorer)
    assert scores.tolist() == literal_scores(classifier, X, y, cv)
    assert min(scores) > 0.5
    # Why it is needed: scikit-learn's own scorers ask among the trained classes.
    for scoring in ("accuracy", "f1_macro"):
        with pytest.warns(ZeroShotWarning, match="zero_shot_scorer"):
            scores = cross_val_score(classifier, X, y, cv=cv, scoring=scoring)
        assert scores.max() == 0


def test_folds_that_share_all_classes_are_scored_without_a_warning(task):
    classifier, X, y = task
    scores = cross_val_score(
        classifier, np.tile(X, (3, 1)), np.tile(y, 3), cv=3, scoring="accuracy"
    )
    assert scores.min() > 0.5
    half = np.isin(y, np.unique(y)[::2])
    classifier.fit(X[half], y[half]).predict(X)
    classifier.fit(X[~half], y[~half]).predict(X)  # trained anew: no clone


def test_zero_shot_scorer_works_in_a_pipeline_beside_others(task):
    classifier, X, y = task
    cv = ClassDisjointKFold(3)
    pipeline = make_pipeline(FunctionTransformer(np.abs), classifier)
    scoring = {"zsl": zero_shot_scorer, "accuracy": "accuracy"}
    with pytest.warns(ZeroShotWarning, match="zero_shot_scorer"):
        found = cross_validate(pipeline, X, y, cv=cv, scoring=scoring)
    expected = literal_scores(classifier, np.abs(X), y, cv)
    assert found["test_zsl"].tolist() == expected


def test_zero_shot_scorer_chooses_in_a_grid_search_and_scores_it(task):
    classifier, X, y = task
    grid = {"projection__alpha": [1e-6, 10.0, 1e12]}
    search = GridSearchCV(
        classifier.set_params(projection=Ridge()),
        grid,
        cv=ClassDisjointKFold(3),
        scoring=zero_shot_scorer,
    )
    search = pickle.loads(pickle.dumps(clone(search))).fit(X, y)
    expected = [
        np.mean(
            literal_scores(
                clone(classifier).set_params(projection__alpha=alpha),
                X,
                y,
                ClassDisjointKFold(3),
            )
        )
        for alpha in grid["projection__alpha"]
    ]
    assert search.cv_results_["mean_test_score"] == pytest.approx(expected)
    assert search.best_score_ == pytest.approx(max(expected))
    assert search.score(X, y) == zero_shot_scorer(search.best_estimator_, X, y)
    two = ClassDisjointKFold(2)
    search.set_params(cv=two)
    nested = cross_val_score(search, X, y, cv=two, scoring=zero_shot_scorer)
    assert min(nested) > 0.5


def test_zero_shot_scorer_of_a_fold_with_one_class_raises(task):
    classifier, X, y = task
    classifier.fit(X, y)
    with pytest.raises(LabelError, match=r"at least 2 classes.*'class 03'"):
        zero_shot_scorer(classifier, X[y == "class 03"], y[y == "class 03"])
