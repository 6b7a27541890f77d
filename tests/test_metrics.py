"""Measures against literal versions, and scikit-learn's as an oracle."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from zeroshot.metrics import (
    harmonic_mean,
    hierarchical_precision,
    hit_at_k,
    hit_curve,
    per_class_accuracy,
    rejection_curve,
    reliability_bins,
    seen_unseen_curve,
)


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


@st.composite
def hierarchical_problems(draw):
    n_labels, m = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    hop = st.sampled_from([0, 1, 2, 3, 4, np.inf])
    row = st.lists(hop, min_size=m, max_size=m)
    hops = draw(st.lists(row, min_size=n_labels, max_size=n_labels))
    k = draw(st.integers(1, m))
    true = draw(st.lists(st.integers(0, n_labels - 1), min_size=1, max_size=4))
    ranked = [draw(st.permutations(range(m)))[:k] for _ in true]
    return np.array(ranked), np.array(true), np.array(hops, float)


@given(hierarchical_problems())
def test_hierarchical_precision_equals_the_growing_list_of_the_paper(problem):
    ranked, true_row, hops = problem
    k = ranked.shape[1]
    expected = []
    for guesses, row in zip(ranked.tolist(), true_row.tolist(), strict=True):
        correct, radius = set(), 0
        while len(correct) < k and radius <= 4:  # no hop is longer than 4
            correct |= {j for j, hop in enumerate(hops[row]) if hop == radius}
            radius += 1
        expected.append(len(correct & set(guesses)) / k)
    assert hierarchical_precision(ranked, true_row, hops) == pytest.approx(expected)


def test_hierarchical_precision_at_1_is_flat_hit_at_1():
    random = np.random.default_rng(0)
    hops = random.integers(1, 5, (6, 6)).astype(float)
    np.fill_diagonal(hops, 0)
    true, guess = random.integers(6, size=(2, 200))
    precision = hierarchical_precision(guess[:, None], true, hops)
    assert precision.tolist() == (true == guess).astype(float).tolist()


def test_hierarchical_precision_of_more_guesses_than_candidates_raises():
    with pytest.raises(ValueError, match="1 <= k <= 2 candidates"):
        hierarchical_precision(np.zeros((1, 3), int), np.zeros(1, int), np.ones((1, 2)))


@st.composite
def generalised_problems(draw):
    n_seen, n_unseen = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    m = n_seen + n_unseen
    seen = st.integers(0, n_seen - 1)
    truth = [draw(seen), draw(st.integers(n_seen, m - 1))]
    truth += draw(st.lists(st.integers(0, m - 1), max_size=8))
    row = st.lists(st.integers(-4, 4), min_size=m, max_size=m)
    scores = draw(st.lists(row, min_size=len(truth), max_size=len(truth)))
    return np.array(scores) / 4, np.array(truth), np.arange(m) < n_seen


def literal_accuracies(scores, truth, is_seen, penalty):
    """S and U with the penalty subtracted, one image after another."""
    accuracy = {}
    for kind in (True, False):
        rates = []
        for label in sorted({t for t in truth.tolist() if is_seen[t] == kind}):
            rows = scores[truth == label] - penalty * is_seen
            rates.append(sum(row.argmax() == label for row in rows) / len(rows))
        accuracy[kind] = sum(rates) / len(rates)
    return accuracy[True], accuracy[False]


@given(generalised_problems(), st.floats(-3, 3))
def test_seen_unseen_curve_at_a_penalty_is_what_the_penalty_gives(problem, penalty):
    curve = seen_unseen_curve(*problem)
    if np.abs(curve.steps - penalty).min() > 1e-9:  # a tie is decided by rounding
        assert curve.at(penalty) == pytest.approx(literal_accuracies(*problem, penalty))


@given(generalised_problems())
def test_area_under_the_curve_equals_that_of_the_swept_penalty(problem):
    scores, truth, is_seen = problem
    # Every score is a multiple of 1/4, so nothing happens between these penalties.
    swept = np.arange(-2.125, 2.2, 0.25)
    points = [literal_accuracies(scores, truth, is_seen, p) for p in swept]
    area = 0.0
    for (s0, u0), (s1, u1) in pairwise(points):
        area += (u1 - u0) * (s0 + s1) / 2
    curve = seen_unseen_curve(*problem)
    assert curve.area == pytest.approx(area)
    best = max(harmonic_mean(s, u) for s, u in points)
    assert curve.h.max() == pytest.approx(best)
    assert harmonic_mean(*curve.at(curve.best_penalty)) == pytest.approx(best)


def test_seen_unseen_curve_of_seen_images_only_raises():
    with pytest.raises(ValueError, match="2 images of seen and 0 of unseen"):
        seen_unseen_curve(np.zeros((2, 2)), np.array([0, 0]), np.array([True, False]))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_calibration_error_equals_the_sum_over_bins(predictions, n_bins):
    edges = np.linspace(0, 1, n_bins + 1)
    expected = 0.0
    for i in range(n_bins):
        members = [
            (p, right)
            for p, right in predictions
            if edges[i] < p <= edges[i + 1] or (i == 0 and p == 0)
        ]
        if members:
            confidence = sum(p for p, _ in members) / len(members)
            accuracy = sum(right for _, right in members) / len(members)
            expected += len(members) / len(predictions) * abs(confidence - accuracy)
    confidence, correct = map(np.array, zip(*predictions, strict=True))
    error = reliability_bins(confidence, correct, n_bins).error
    assert error == pytest.approx(expected)


def test_reliability_bins_equal_the_calibration_curve_of_sklearn():
    random = np.random.default_rng(0)
    p = random.beta(2, 1, 500)
    correct = random.random(500) < p**2
    bins = reliability_bins(p, correct, 10)
    accuracy, confidence = calibration_curve(correct, p, n_bins=10)
    used = bins.counts > 0
    assert bins.accuracy[used] == pytest.approx(accuracy)
    assert bins.confidence[used] == pytest.approx(confidence)
    assert bins.counts.sum() == 500


@pytest.mark.parametrize("confidence", [[], [0.5, 1.1], [np.nan]])
def test_reliability_bins_of_no_probabilities_raise(confidence):
    with pytest.raises(ValueError, match="at least one confidence, each in"):
        reliability_bins(np.array(confidence), np.ones(len(confidence), bool))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.floats(0.01, 1),
)
def test_rejection_curve_equals_counting_pairs_and_thresholds(known, unknown, share):
    scores = np.array(known + unknown, float)
    is_known = np.arange(len(scores)) < len(known)
    curve = rejection_curve(scores, is_known)
    wins = sum((k > u) + 0.5 * (k == u) for k in known for u in unknown)
    assert curve.auroc == pytest.approx(wins / (len(known) * len(unknown)))
    assert curve.auroc == pytest.approx(roc_auc_score(is_known, scores))
    # The highest threshold that lets in that share of the known ones.
    threshold = max(
        t for t in known if sum(k >= t for k in known) / len(known) >= share
    )
    let_in = sum(u >= threshold for u in unknown) / len(unknown)
    assert curve.false_accepts_at(share) == pytest.approx(let_in)


def test_rejection_curve_without_unknown_images_raises():
    with pytest.raises(ValueError, match="2 known of 2"):
        rejection_curve(np.zeros(2), np.ones(2, bool))


@given(ranking_problems())
def test_hit_curve_is_the_mean_of_hit_at_every_k(problem):
    scores, truth, _ = problem
    expected = [hit_at_k(scores, truth, k + 1).mean() for k in range(scores.shape[1])]
    assert hit_curve(scores, truth).tolist() == pytest.approx(expected)


def test_hit_curve_without_images_is_nan():
    assert np.isnan(hit_curve(np.empty((0, 3)), np.empty(0, int))).all()
