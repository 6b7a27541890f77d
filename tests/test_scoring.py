"""Cosine scores, softmax and top-k against literal versions."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zeroshot.scoring import cosine_scores, rank_candidates, softmax, top_k

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


def test_top_k_of_a_row_of_nan_leaves_the_other_rows_alone():
    scores = np.array([[1.0, 3.0, 2.0], [np.nan] * 3, [0.0, 0.0, 1.0]])
    columns = top_k(scores, 2)
    assert columns[[0, 2]].tolist() == [[1, 2], [2, 0]]


MANY = 17_001  # candidates: of several blocks, the last of which is not full


def whole_numbers(n_points):
    """Return points and candidates of which all cosines are whole: ties are ties."""
    points = np.zeros((n_points, 4), np.float32)
    points[::2, 1], points[1::2, 0] = -2, 2
    candidates = np.random.default_rng(0).integers(-9, 9, (MANY, 4))
    return points, candidates.astype(np.float32)


def literal_ranking(scores, k):
    """Return columns and scores of the k best by a stable sort of all."""
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return columns, np.take_along_axis(scores, columns, axis=1)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 300, 9000, MANY, MANY + 1])
@pytest.mark.parametrize("order", ["random", "rising", "falling", "tied"])
def test_rank_candidates_equals_a_sort_of_all_scores(order, k):
    points, candidates = whole_numbers(8)
    if order == "tied":
        candidates[:] = candidates[0]
    elif order != "random":
        candidates[:, 0] = np.arange(MANY)
    if order == "falling":
        candidates = candidates[::-1].copy()
    ranking = rank_candidates(points, candidates, k)
    columns, scores = literal_ranking(points / 2 @ candidates.T, k)
    np.testing.assert_array_equal(ranking.columns, columns)
    np.testing.assert_array_equal(ranking.scores, scores)
    assert ranking.probabilities is None


def test_rank_candidates_of_many_points_equals_a_sort_of_all_scores():
    points, candidates = whole_numbers(1100)
    ranking = rank_candidates(points, candidates[:50], 6)
    columns, scores = literal_ranking(points / 2 @ candidates[:50].T, 6)
    np.testing.assert_array_equal(ranking.columns, columns)
    np.testing.assert_array_equal(ranking.scores, scores)


def test_rank_candidates_subtracts_the_penalty_before_it_ranks():
    points, candidates = whole_numbers(7)
    penalty = np.where(np.arange(MANY) < 8500, np.float32(0.75), np.float32(0))
    ranking = rank_candidates(points, candidates, 6000, penalty=penalty)
    columns, scores = literal_ranking(points / 2 @ candidates.T - penalty, 6000)
    np.testing.assert_array_equal(ranking.columns, columns)
    np.testing.assert_array_equal(ranking.scores, scores)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 5.0])
def test_rank_candidates_has_the_softmax_over_all_candidates(temperature):
    random = np.random.default_rng(1)
    points = random.standard_normal((7, 5)).astype(np.float32)
    candidates = random.standard_normal((MANY, 5)).astype(np.float32)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    ranking = rank_candidates(points, candidates, 4, temperature=temperature)
    everything = softmax(cosine_scores(points, candidates), temperature)
    expected = np.take_along_axis(everything, ranking.columns, axis=1)
    rtol = 1e-5 + 1e-6 / temperature  # of the scores' rounding
    np.testing.assert_allclose(ranking.probabilities, expected, rtol=rtol)


def test_rank_candidates_of_a_nan_point_is_nan_in_its_row_only():
    random = np.random.default_rng(2)
    points = random.standard_normal((600, 5)).astype(np.float32)
    candidates = random.standard_normal((9000, 5)).astype(np.float32)
    expected = rank_candidates(points, candidates, 3, temperature=1.0)
    points[4, 2] = np.nan
    got = rank_candidates(points, candidates, 3, temperature=1.0)
    others = np.arange(600) != 4
    for ours, before in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours[others], before[others])
    assert np.isnan(got.scores[4]).all()
    assert np.isnan(got.probabilities[4]).all()
    assert ((got.columns >= 0) & (got.columns < 9000)).all()


def test_rank_candidates_of_no_points_is_empty():
    ranking = rank_candidates(np.empty((0, 3), np.float32), np.eye(3), 2)
    assert ranking.columns.shape == ranking.scores.shape == (0, 2)


def test_rank_candidates_in_blocks_of_full_size_equals_a_sort():
    random = np.random.default_rng(3)
    points = random.standard_normal((1100, 6)).astype(np.float32)
    candidates = random.standard_normal((9001, 6)).astype(np.float32)
    ranking = rank_candidates(points, candidates, 5)
    scores = cosine_scores(points, candidates)
    expected = np.sort(scores, axis=1)[:, :-6:-1]
    np.testing.assert_allclose(ranking.scores, expected, atol=1e-6)
    own = np.take_along_axis(scores, ranking.columns, axis=1)
    np.testing.assert_allclose(own, ranking.scores, atol=1e-6)


def test_rank_candidates_never_holds_all_scores():
    random = np.random.default_rng(4)
    points = random.standard_normal((400, 4)).astype(np.float32)
    candidates = random.standard_normal((200_000, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        rank_candidates(points, candidates, 10, temperature=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # all scores are 320 MB
