"""Ridge against scikit-learn's."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge as SklearnRidge

from zeroshot.projections import Ridge


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    T = random.standard_normal((6, 5))
    T /= np.linalg.norm(T, axis=1)[:, None]
    y = random.permutation(np.arange(90) % 5)  # class 5 has no image
    X = T[y] @ random.standard_normal((5, 20)) + 0.2 * random.standard_normal((90, 20))
    return X.astype(np.float32), y, T.astype(np.float32)


def prepared(X, mean):
    centred = X.astype(np.float64) - mean
    return centred / np.linalg.norm(centred, axis=1)[:, None]


@pytest.mark.parametrize("alpha", [0.01, 1.0, 30.0])
def test_ridge_equals_sklearn_on_prepared_features(alpha, problem):
    X, y, T = problem
    ours = Ridge(alpha=alpha).fit(X, y, class_embeddings=T)
    theirs = SklearnRidge(alpha=alpha, fit_intercept=False)
    mean = X.astype(np.float64).mean(axis=0)
    theirs.fit(prepared(X, mean), T[y].astype(np.float64))
    new = X[::-1] * 1.1 - 0.3
    expected = theirs.predict(prepared(new, mean))
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
