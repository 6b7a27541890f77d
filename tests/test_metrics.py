"""Measures against literal versions, and scikit-learn's as an oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from zeroshot.metrics import harmonic_mean, hit_at_k, per_class_accuracy


@st.composite
def ranking_problems(draw):
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 3), min_size=m, max_size=m)  # few values: ties
    scores = draw(st.lists(row, min_size=n, max_size=n))
    truth = draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n))
    return np.array(scores, float), np.array(truth), draw(st.integers(1, m))


@given(ranking_problems())
def test_hit_at_k_counts_those_at_least_as_good_as_the_truth(problem):
    scores, truth, k = problem
    expected = []
    for row, true in zip(scores.tolist(), truth.tolist(), strict=True):
        rivals = [s for j, s in enumerate(row) if j != true and s >= row[true]]
        expected.append(len(rivals) < k)
    assert hit_at_k(scores, truth, k).tolist() == expected


def test_hit_at_k_of_constant_scores_is_a_miss_until_k_is_all():
    scores, truth = np.zeros((2, 4)), np.array([0, 3])
    assert not hit_at_k(scores, truth, 3).any()
    assert hit_at_k(scores, truth, 4).all()


def test_hit_at_k_of_nan_scores_is_a_miss():
    scores = np.array([[np.nan, np.nan, np.nan], [0.1, np.nan, 0.3]])
    assert hit_at_k(scores, np.array([1, 1]), 2).tolist() == [False, False]


@pytest.mark.parametrize("k", [0, -1, 4])
def test_hit_at_k_out_of_range_raises(k):
    with pytest.raises(ValueError, match=f"1 <= k <= 3 candidates. Got {k}"):
        hit_at_k(np.zeros((2, 3)), np.array([0, 1]), k)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("abc")),
        min_size=1,
        max_size=30,
    )
)
def test_per_class_accuracy_equals_the_mean_recall(pairs):
    truth, predicted = map(np.array, zip(*pairs, strict=True))
    recalls = []
    for label in set(truth.tolist()):
        answers = [p for t, p in pairs if t == label]
        recalls.append(answers.count(label) / len(answers))
    assert per_class_accuracy(truth, truth == predicted) == pytest.approx(
        sum(recalls) / len(recalls)
    )


def test_per_class_accuracy_equals_balanced_accuracy_of_sklearn():
    random = np.random.default_rng(0)
    truth = random.choice(5, 300, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    predicted = np.where(random.random(300) < 0.6, truth, random.integers(5, size=300))
    assert per_class_accuracy(truth, truth == predicted) == pytest.approx(
        balanced_accuracy_score(truth, predicted)
    )


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_harmonic_mean_is_the_inverse_of_the_mean_inverse(seen, unseen):
    expected = 1 / ((1 / seen + 1 / unseen) / 2)
    assert harmonic_mean(seen, unseen) == pytest.approx(expected)


@pytest.mark.parametrize(("seen", "unseen"), [(0, 0), (0, 0.9), (0.9, 0)])
def test_harmonic_mean_with_a_zero_is_zero(seen, unseen):
    assert harmonic_mean(seen, unseen) == 0
