"""Cosine scores, softmax and top-k against literal versions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zeroshot.scoring import cosine_scores, softmax, top_k

GRID = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    # Few values, so that ties are common.
    elements=st.integers(-3, 3).map(float),
)


@pytest.fixture
def points():
    return np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32) * 7


@pytest.fixture
def unit_vectors():
    rows = np.random.default_rng(1).standard_normal((5, 3))
    return (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)


def test_cosine_scores_are_cosines_of_every_pair(points, unit_vectors):
    scores = cosine_scores(points, unit_vectors)
    assert scores.dtype == np.float32
    for i, point in enumerate(points.tolist()):
        for j, vector in enumerate(unit_vectors.tolist()):
            dot = sum(p * v for p, v in zip(point, vector, strict=True))
            assert scores[i, j] == pytest.approx(dot / math.hypot(*point), abs=1e-6)


def test_cosine_scores_of_a_nan_point_are_nan_in_its_row_only(points, unit_vectors):
    expected = cosine_scores(points, unit_vectors)
    points[2, 1] = np.nan
    scores = cosine_scores(points, unit_vectors)
    assert np.isnan(scores[2]).all()
    np.testing.assert_array_equal(scores[[0, 1, 3]], expected[[0, 1, 3]])


def test_cosine_scores_of_only_nan_points_are_all_nan(points, unit_vectors):
    assert np.isnan(cosine_scores(np.full_like(points, np.nan), unit_vectors)).all()


def test_cosine_scores_of_a_zero_point_are_zero(points, unit_vectors):
    scores = cosine_scores(np.zeros_like(points), unit_vectors)
    np.testing.assert_array_equal(scores, 0)


def test_cosine_scores_of_no_points_have_a_column_per_class(unit_vectors):
    scores = cosine_scores(np.empty((0, 3), np.float32), unit_vectors)
    assert scores.shape == (0, 5)
    assert scores.dtype == np.float32


def test_cosine_scores_leave_the_points_alone(points, unit_vectors):
    before = points.copy()
    cosine_scores(points, unit_vectors)
    np.testing.assert_array_equal(points, before)


@given(GRID, st.floats(0.01, 10))
def test_softmax_equals_the_formula(scores, temperature):
    expected = [
        [math.exp(s / temperature) / sum(math.exp(t / temperature) for t in row)]
        for row in (scores / 3).tolist()
        for s in row
    ]
    got = softmax(scores / 3, temperature)
    np.testing.assert_allclose(got.ravel(), np.ravel(expected), rtol=1e-9)


def test_softmax_of_large_ratios_does_not_overflow():
    probabilities = softmax(np.array([[1.0, -1.0, 1.0]]), 1e-6)
    np.testing.assert_allclose(probabilities, [[0.5, 0.0, 0.5]])


@given(GRID, st.integers(1, 6))
def test_top_k_equals_a_stable_sort_with_ties_to_the_earlier(scores, k):
    k = min(k, scores.shape[1])
    for row, columns in zip(scores.tolist(), top_k(scores, k), strict=True):
        ordered = sorted(range(len(row)), key=lambda j: (-row[j], j))
        assert columns.tolist() == ordered[:k]
