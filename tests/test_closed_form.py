"""Closed forms and ConSE against literal versions, scikit-learn and SciPy."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from literal_training import prepared, unit
from scipy.linalg import solve_sylvester
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from zeroshot import ZeroShotClassifier, load
from zeroshot.embeddings import Attributes, open_vectors
from zeroshot.errors import OutOfVocabularyError
from zeroshot.features import extract_features
from zeroshot.labels import embed_labels
from zeroshot.projections import (
    ALE,
    ESZSL,
    SAE,
    SJE,
    ConSE,
    DeViSE,
    PretrainedClasses,
    Ridge,
    Visual,
)
from zeroshot.registry import resolve_backbone


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    T = random.standard_normal((6, 5))
    T /= np.linalg.norm(T, axis=1)[:, None]
    y = random.permutation(np.arange(90) % 5)  # class 5 has no image
    X = T[y] @ random.standard_normal((5, 20)) + 0.2 * random.standard_normal((90, 20))
    return X.astype(np.float32), y, T.astype(np.float32)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 30.0])
def test_ridge_equals_sklearn_on_prepared_features(alpha, problem):
    X, y, T = problem
    ours = Ridge(alpha=alpha).fit(X, y, class_embeddings=T)
    theirs = SklearnRidge(alpha=alpha, fit_intercept=False)
    theirs.fit(prepared(X), T[y].astype(np.float64))
    new = X[::-1] * 1.1 - 0.3
    expected = theirs.predict(prepared(new, X))
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(ours.transform(new), expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1 / (1 + alpha)


def test_ridge_without_normalize_equals_sklearn_on_raw_features(problem):
    X, y, T = problem
    ours = Ridge(alpha=2.0, normalize=False).fit(X, y, class_embeddings=T)
    theirs = SklearnRidge(alpha=2.0, fit_intercept=False).fit(X, T[y])
    np.testing.assert_allclose(ours.transform(X), theirs.predict(X), atol=1e-4)


def test_ridge_with_more_features_than_images_has_a_solution(problem):
    _, _, T = problem
    X = np.random.default_rng(1).standard_normal((4, 50)).astype(np.float32)
    ridge = Ridge(alpha=1e-3, normalize=False).fit(X, np.arange(4), class_embeddings=T)
    np.testing.assert_allclose(ridge.transform(X), T[:4], atol=1e-3)


def test_features_of_zero_and_the_smallest_are_finite_points(problem):
    X, y, T = problem
    X[:, 0], X[0], X[1] = 0, 0, np.float32(1e-45)
    assert np.isfinite(Ridge().fit(X, y, class_embeddings=T).transform(X)).all()


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "large"])
def test_ridge_alpha_out_of_range_raises(alpha, problem):
    X, y, T = problem
    with pytest.raises(ValueError, match="Expected alpha > 0"):
        Ridge(alpha=alpha).fit(X, y, class_embeddings=T)


def test_ridge_of_identical_images_maps_them_to_finite_points():
    X, T = np.ones((4, 3), np.float32), np.eye(2, dtype=np.float32)
    points = Ridge().fit(X, np.array([0, 0, 1, 1]), class_embeddings=T).transform(X * 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 1, 6]), r"within 0..5.*Got 0..6"),
        (np.array([-1, 1, 2]), r"within 0..5.*Got -1..2"),
        (np.array([0.0, 1.0, 2.0]), "row numbers of class_embeddings"),
        (np.array(["a", "b", "c"]), "row numbers of class_embeddings"),
        (np.array([[0], [1], [2]]), "row numbers of class_embeddings"),
        (np.array([0, 1]), "inconsistent numbers of samples"),
    ],
)
def test_fit_with_a_wrong_y_says_what_is_wrong(y, message, problem):
    X, _, T = problem
    with pytest.raises(ValueError, match=message):
        Ridge().fit(X[:3], y, class_embeddings=T)


def test_fit_with_class_embeddings_that_are_nan_names_them(problem):
    X, y, T = problem
    T[1, 1] = np.nan
    with pytest.raises(ValueError, match="class_embeddings contains NaN"):
        Ridge().fit(X, y, class_embeddings=T)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_transform_of_features_that_are_not_finite_raises(bad, problem):
    X, y, T = problem
    ridge = Ridge().fit(X, y, class_embeddings=T)
    X[3, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        ridge.transform(X)


def test_transform_of_another_width_raises(problem):
    X, y, T = problem
    ridge = Ridge().fit(X, y, class_embeddings=T)
    with pytest.raises(ValueError, match="expecting 20 features"):
        ridge.transform(X[:, :19])


def test_fit_and_transform_leave_their_input_alone(problem):
    X, y, T = problem
    copies = X.copy(), y.copy(), T.copy()
    clone(Ridge()).fit(X, y, class_embeddings=T).transform(X)
    for array, copy in zip((X, y, T), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def literal_eszsl(X, y, S, alpha, alpha_text, negative=0.0):
    """Romera-Paredes and Torr 2015, equation 5, with the whole matrix Y."""
    Y = np.full((len(X), len(S)), negative)
    for image, label in enumerate(y):
        Y[image, label] = 1.0
    left = np.linalg.inv(X.T @ X + alpha * np.eye(X.shape[1]))
    right = np.linalg.inv(S.T @ S + alpha_text * np.eye(S.shape[1]))
    return left @ X.T @ Y @ S @ right


@pytest.mark.parametrize(("alpha", "alpha_text"), [(0.1, 2.0), (10.0, 0.05)])
def test_eszsl_equals_the_papers_formula_with_the_matrix_y(alpha, alpha_text, problem):
    X, y, T = problem
    ours = ESZSL(alpha=alpha, alpha_text=alpha_text).fit(X, y, class_embeddings=T)
    # Class 5 has no image, so it is none of the classes of training.
    S = T[:5].astype(np.float64)
    W = literal_eszsl(prepared(X), y, S, alpha, alpha_text)
    np.testing.assert_allclose(ours.coef_, W, atol=1e-4 * np.abs(W).max())
    expected = prepared(X * 1.1 - 0.3, X) @ W
    np.testing.assert_allclose(
        ours.transform(X * 1.1 - 0.3), expected, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("alpha", [0.01, 1.0, 50.0])
def test_sae_solves_the_sylvester_equation_of_the_paper(alpha, problem):
    X, y, T = problem
    ours = SAE(alpha=alpha, normalize=False).fit(X, y, class_embeddings=T)
    # Kodirov et al. 2017, with images as columns: S S' W + lambda W X X' =
    # (1 + lambda) S X'. Class embeddings of 5 classes in 5 dimensions: full rank.
    columns, S = X.T.astype(np.float64), T[y].T.astype(np.float64)
    W = solve_sylvester(
        S @ S.T, alpha * columns @ columns.T, (1 + alpha) * S @ columns.T
    )
    np.testing.assert_allclose(ours.coef_, W.T, atol=1e-4 * np.abs(W).max())


def test_sae_is_where_its_objective_is_least(problem):
    X, y, T = problem
    ours = SAE(alpha=2.0, normalize=False).fit(X, y, class_embeddings=T)

    def objective(W):  # of shape (dim_text, dim_visual)
        decoded, encoded = T[y] @ W, X @ W.T
        return np.square(X - decoded).sum() + 2.0 * np.square(encoded - T[y]).sum()

    W, random = ours.coef_.T.astype(np.float64), np.random.default_rng(0)
    for _ in range(20):
        step = 0.01 * random.standard_normal(W.shape)
        assert objective(W + step) > objective(W)


def test_sae_with_fewer_classes_than_dimensions_is_finite():
    random = np.random.default_rng(0)
    X = random.standard_normal((30, 40)).astype(np.float32)
    T = random.standard_normal((3, 12)).astype(np.float32)
    y = np.arange(30) % 3
    ours = SAE().fit(X, y, class_embeddings=T)
    assert np.isfinite(ours.coef_).all()
    assert (np.argmax(ours.transform(X) @ T.T, axis=1) == y).mean() > 0.9


def literal_conse(logits, T, top):
    """Norouzi et al. 2014: the ``top`` best classes' vectors, by probability."""
    points = []
    for row in logits.tolist():
        p = [math.exp(value - max(row)) for value in row]
        best = sorted(range(len(p)), key=lambda j, p=p: -p[j])[:top]
        total = sum(p[j] for j in best)
        points.append(sum(p[j] / total * T[j] for j in best))
    return np.array(points)


@pytest.mark.parametrize("top", [1, 2, 4, 10])
def test_conse_is_the_convex_combination_of_the_paper(top, problem):
    X, y, T = problem
    ours = ConSE(top=top, C=3.0).fit(X, y, class_embeddings=T)
    features = prepared(X)
    softmax = LogisticRegression(C=3.0, max_iter=1000, tol=1e-6).fit(features, y)
    expected = literal_conse(softmax.decision_function(features), T[:5], top)
    np.testing.assert_allclose(ours.transform(X), expected, atol=0.02)
    own = ours.coef_, ours.intercept_
    logits = features @ own[0].astype(np.float64) + own[1]
    np.testing.assert_allclose(
        ours.transform(X), literal_conse(logits, T[:5], top), atol=1e-4
    )


def test_conse_of_a_classifier_trained_elsewhere(problem):
    X, y, T = problem
    random = np.random.default_rng(3)
    weights, bias = random.standard_normal((20, 6)), random.standard_normal(6)
    pretrained = PretrainedClasses(
        T, np.float32(weights.T), np.float32(bias), np.full(6, -1)
    )
    learnt = {"class_embeddings": T, "pretrained": pretrained}
    elsewhere = literal_conse(X @ weights + bias, T, 3)
    alone = ConSE(top=3).fit(X[:0], y[:0], **learnt)
    np.testing.assert_allclose(unit(alone.transform(X)), unit(elsewhere), atol=1e-4)
    # Beside images: what both classifiers say, each of unit length.
    of_images = ConSE(top=3).fit(X, y, class_embeddings=T).transform(X)
    beside = ConSE(top=3).fit(X, y, **learnt).transform(X)
    np.testing.assert_allclose(beside, unit(of_images) + unit(elsewhere), atol=1e-4)


@pytest.mark.parametrize("n_classes", [1, 2])
def test_conse_of_one_or_two_classes_maps_to_their_vectors(n_classes, problem):
    X, y, T = problem
    few = y < n_classes
    ours = ConSE(C=1e4).fit(X[few], y[few], class_embeddings=T)
    nearest = np.argmax(ours.transform(X[few]) @ T.T, axis=1)
    assert (nearest == y[few]).mean() > 0.9


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ESZSL(alpha_text=0), "Expected alpha_text > 0. Got 0"),
        (ESZSL(alpha=math.nan), "Expected alpha > 0"),
        (SAE(alpha=-1), "Expected alpha > 0. Got -1"),
        (ConSE(top=0), "Expected top as a whole number >= 1. Got 0"),
        (ConSE(top=2.5), "Expected top as a whole number"),
        (ConSE(C="much"), "Expected C > 0. Got 'much'"),
    ],
)
def test_parameter_out_of_range_is_named(made, message, problem):
    X, y, T = problem
    with pytest.raises(ValueError, match=message):
        made.fit(X, y, class_embeddings=T)


def literal_ridge(X, y, T):
    return np.linalg.solve(X.T @ X + 10.0 * np.eye(X.shape[1]), X.T @ T[y])


def literal_sae(X, y, T):
    return solve_sylvester(T[y].T @ T[y], X.T @ X, 2 * T[y].T @ X).T


@pytest.mark.parametrize(
    ("projection", "literal"),
    [
        (Ridge(alpha=10.0), literal_ridge),
        (ESZSL(), lambda X, y, T: literal_eszsl(X, y, T[:5], 10.0, 10.0)),
        (SAE(alpha=1.0), literal_sae),
    ],
    ids=["ridge", "eszsl", "sae"],
)
def test_more_images_than_are_taken_at_once_make_no_difference(
    projection, literal, problem
):
    X, y, T = problem
    X, y = np.tile(X, (90, 1)), np.tile(y, 90)  # 8,100 rows
    X += np.random.default_rng(4).standard_normal(X.shape).astype(np.float32)
    order = np.argsort(y, kind="stable")  # blocks that hold a class or two
    X, y = X[order], y[order]
    ours = projection.set_params(normalize=False).fit(X, y, class_embeddings=T)
    W = literal(X.astype(np.float64), y, T.astype(np.float64))
    np.testing.assert_allclose(ours.coef_, W, atol=1e-4 * np.abs(W).max())


@pytest.mark.parametrize(
    "projection",
    [
        ALE(epochs=1),
        ConSE(),
        DeViSE(loss="mse", epochs=1),
        ESZSL(),
        Ridge(),
        SAE(),
        SJE(epochs=1),
        Visual(),
    ],
    ids=lambda projection: type(projection).__name__,
)
def test_projection_in_a_bundle_predicts_the_same(projection, problem, tmp_path):
    X, y, T = problem
    words = [f"class {number}" for number in range(6)]
    classifier = ZeroShotClassifier(
        None, Attributes(words, T), projection=projection, random_state=0
    ).fit(X, np.array(words)[y])
    classifier.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(X), classifier.transform(X))
    assert type(loaded.projection_) is type(projection)


def real_photographs(folder):
    """Return features and labels of 6 photographs of each class."""
    paths, labels = [], []
    for each in sorted(folder.iterdir()):
        for path in sorted(each.glob("*.jpg"))[:6]:
            paths.append(str(path))
            labels.append(each.name.replace("_", " ").lower())
    backbone = resolve_backbone("mobilenet-v2:128")
    return extract_features(paths, backbone).matrix.astype(np.float64), labels


@pytest.mark.slow  # features of 270 photographs
def test_eszsl_with_the_papers_targets_fails_unless_something_is_centred(monkeypatch):
    if "ZEROSHOT_DATA" not in os.environ:
        pytest.skip("needs real data: ZEROSHOT_DATA")
    folder = Path(os.environ["ZEROSHOT_DATA"])
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
    features, labels = real_photographs(folder / "images" / "caltech-classes")
    vectors = folder / "vectors"
    provider = open_vectors(vectors / "numberbatch-en-41k-300d.txt.gz")
    with pytest.raises(OutOfVocabularyError) as missing:
        embed_labels(sorted(set(labels)), provider)
    known = ~np.isin(labels, missing.value.labels)
    features, labels = features[known], np.array(labels)[known]
    classes, y = np.unique(labels, return_inverse=True)
    words = embed_labels(classes.tolist(), provider)[0].astype(np.float64)

    def accuracy(features, negative, centre):
        hits = []
        for seed in range(3):
            unseen = np.sort(np.random.default_rng(seed).permutation(len(classes))[:14])
            seen = np.setdiff1d(np.arange(len(classes)), unseen)
            train = np.isin(y, seen)
            T = unit(words - (words[seen].mean(axis=0) if centre else 0))
            number = np.searchsorted(seen, y[train])
            W = literal_eszsl(features[train], number, T[seen], 1.0, 3.0, negative)
            scores = unit(features[~train] @ W) @ T[unseen].T
            hits.append((unseen[scores.argmax(axis=1)] == y[~train]).mean())
        return np.mean(hits)

    raw = unit(features)
    centred = unit(features - features.mean(axis=0))
    zeros, ones = accuracy(raw, 0.0, False), accuracy(raw, -1.0, False)
    centred_words = accuracy(raw, -1.0, True)
    centred_features = accuracy(centred, -1.0, False)
    assert zeros > 1.5 * ones
    assert centred_words > 1.5 * ones
    assert centred_features > 1.5 * ones
