"""A batch judged together: against a slow version, on planted classes, on odd input."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from zeroshot.datasets import load_image_folder
from zeroshot.features import extract_features
from zeroshot.registry import resolve_backbone
from zeroshot.scoring import cosine_scores
from zeroshot.scoring.adaptation import adapt

T = 0.05


def planted(sizes, n_labels, *, seed=0, dim=96, word=0.4, noise=1.5):
    """Return images in groups, their classes, and label points near the groups.

    Class c has ``sizes[c]`` images; labels from ``len(sizes)`` on have none.
    """
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((2, n_labels, dim)) / dim**0.5
    means = unit[0]
    labels = word * means + (1 - word**2) ** 0.5 * unit[1]
    y = np.repeat(np.arange(len(sizes)), sizes)
    points = means[y] + noise * rng.standard_normal((len(y), dim)) / dim**0.5
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    return points.astype(np.float32), y, labels.astype(np.float32)


def no_penalty(labels):
    return np.zeros(len(labels), np.float32)


def scores_of(points, labels, penalty=None, *, temperature=T, anchors=None):
    """Return all scores before and after."""
    penalty = no_penalty(labels) if penalty is None else penalty
    before = cosine_scores(points, labels) - penalty
    adapted = adapt(points, labels, penalty, temperature, anchors=anchors)
    after = before.copy()
    after += np.float32(adapted.others)
    np.put_along_axis(after, adapted.columns, adapted.scores, axis=1)
    return before, after


def per_class(y, scores):
    best = scores.argmax(axis=1)
    return np.mean([np.mean(best[y == c] == c) for c in np.unique(y)])


def slowly(points, labels, penalty):
    """Return the probabilities, as the module's docstring says them."""
    n, m = len(points), len(labels)
    X = points.astype(float) / np.linalg.norm(points, axis=1, keepdims=True)
    L = labels.astype(float)
    S = X @ L.T - penalty

    def present(R):
        shares = np.bincount(R.argmax(axis=1), minlength=m) / n
        shares = shares[shares > 0]
        entropy = -sum(s * np.log(s) for s in shares) + (len(shares) - 1) / (2 * n)
        return np.exp(entropy)

    first = R = softmax(S / S.std() / 0.3, axis=1)
    used = 0
    for _ in range(3):
        k = min(max(round(n / present(R)), 1), 10, n - 1)
        if k <= used:
            break
        used = k
        cosine = X @ X.T
        np.fill_diagonal(cosine, -np.inf)
        near = [set(np.argsort(-row)[:k]) for row in cosine]
        A = np.zeros((n, n))
        for i in range(n):
            for j in near[i]:
                if i in near[j]:
                    A[i, j] = max(cosine[i, j], 0) ** 3
        D = np.diag(1 / np.sqrt(np.maximum(A.sum(axis=1), 1e-9)))
        w = k / (k + 1.5)
        R = np.linalg.solve(np.eye(n) - w * D @ A @ D, (1 - w) * first)
        R /= R.sum(axis=1, keepdims=True)
    g = np.clip(8 * (0.8 - (present(S) + present(R)) / (2 * m)), 0, 4)
    for _ in range(8):
        mean = R.T @ X
        N = R.sum(axis=0)
        U = mean + L
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        D = (N + 0.01) / (np.maximum(mean @ mean.T, 0) ** 2 @ N + 0.01 * m)
        V = X @ U.T
        R = softmax(
            (0.2 * S / S.std() + 0.8 * V / V.std()) / 0.3 + g * np.log(D), axis=1
        )
    return 0.6 * R + 0.4 * softmax(S / T, axis=1)


@pytest.mark.parametrize(
    ("sizes", "n_labels"),
    [([12] * 6, 6), ([9, 4, 1], 12), ([3] * 10, 10), ([30], 8), ([3], 5)],
)
def test_adapt_gives_what_the_slow_version_gives(sizes, n_labels):
    points, _, labels = planted(sizes, n_labels)
    penalty = np.linspace(0, 0.1, n_labels, dtype=np.float32)
    _, after = scores_of(points, labels, penalty)
    expected = slowly(points, labels, penalty)
    np.testing.assert_allclose(softmax(after / T, axis=1), expected, atol=0.01)


@pytest.mark.parametrize(
    ("sizes", "gain"),
    [
        ([20] * 12, 0.1),
        ([20] * 6, 0.1),
        ([30] * 2, 0.1),
        ([40], 0.1),
        ([5] * 12, 0.1),
        ([5], 0.1),
        ([3] * 4, 0.05),
        ([40, 3, 3], 0.1),
        ([40, 20, 10, 5, 3], 0.1),
    ],
)
def test_adapt_on_planted_classes_gains_however_many_are_present(sizes, gain):
    gains = []
    for seed in range(10):
        points, y, labels = planted(sizes, 12, seed=seed)
        before, after = scores_of(points, labels)
        gains.append(per_class(y, after) - per_class(y, before))
    assert np.mean(gains) >= gain


@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_adapt_with_too_few_images_changes_nothing(n_images):
    points, _, labels = planted([n_images], 4)
    adapted = adapt(points, labels, no_penalty(labels), T)
    assert adapted.columns.shape == adapted.scores.shape == (n_images, 0)


@pytest.mark.parametrize("n_labels", [0, 1])
def test_adapt_with_one_label_or_none_changes_nothing(n_labels):
    points, _, labels = planted([10], 3)
    adapted = adapt(points, labels[:n_labels], no_penalty(labels[:n_labels]), T)
    assert adapted.columns.shape == (10, 0)


def test_adapt_leaves_rows_that_are_not_finite_out():
    points, _, labels = planted([10] * 4, 6)
    _, expected = scores_of(points, labels)
    rows = np.array([0, 17, 40])
    broken = np.insert(points, rows, np.nan, axis=0)
    broken[18, 1:] = np.inf
    _, after = scores_of(broken, labels)
    is_finite = np.isfinite(broken).all(axis=1)
    assert np.isnan(after[~is_finite]).all()
    np.testing.assert_array_equal(after[is_finite], expected)


def test_adapt_with_two_finite_rows_changes_nothing():
    points, _, labels = planted([10], 4)
    points[2:] = np.nan
    assert adapt(points, labels, no_penalty(labels), T).columns.shape == (10, 0)


def test_adapt_does_not_depend_on_the_order_of_images():
    points, _, labels = planted([10] * 4, 6)
    order = np.random.default_rng(0).permutation(len(points))
    _, expected = scores_of(points, labels)
    _, after = scores_of(points[order], labels)
    np.testing.assert_allclose(after, expected[order], atol=1e-5)


def test_adapt_of_more_images_than_it_learns_from_does_not_depend_on_their_order():
    points, y, labels = planted([2400] * 4, 5, dim=16, word=0.8)
    order = np.random.default_rng(0).permutation(len(points))
    before, expected = scores_of(points, labels)
    _, after = scores_of(points[order], labels)
    np.testing.assert_allclose(after, expected[order], atol=1e-5)
    assert per_class(y, expected) > per_class(y, before)


def test_adapt_does_not_depend_on_the_order_of_labels():
    points, _, labels = planted([10] * 4, 6)
    order = np.array([3, 5, 0, 1, 4, 2])
    _, expected = scores_of(points, labels)
    _, after = scores_of(points, labels[order])
    np.testing.assert_allclose(after, expected[:, order], atol=1e-4)


def test_adapt_gives_the_same_twice_and_leaves_its_input_alone():
    points, _, labels = planted([10] * 4, 6)
    anchors = (labels.copy(), np.full(6, 3))
    kept = points.copy(), labels.copy()
    _, once = scores_of(points, labels, anchors=anchors)
    _, twice = scores_of(points, labels, anchors=anchors)
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(points, kept[0])
    np.testing.assert_array_equal(labels, kept[1])
    np.testing.assert_array_equal(anchors[0], kept[1])


def test_adapt_does_not_depend_on_the_length_of_points():
    points, _, labels = planted([10] * 4, 6)
    lengths = np.linspace(0.1, 9, len(points), dtype=np.float32)[:, None]
    _, expected = scores_of(points, labels)
    _, after = scores_of(points * lengths, labels)
    np.testing.assert_allclose(after, expected, atol=1e-5)


def test_adapt_gains_at_every_temperature():
    points, y, labels = planted([10] * 4, 6)
    for temperature in (0.02, 0.05, 0.2):
        before, after = scores_of(points, labels, temperature=temperature)
        assert per_class(y, after) > per_class(y, before) + 0.1


def test_adapt_leaves_what_comes_second_in_its_place():
    hits = []
    for seed in range(10):
        points, y, labels = planted([10] * 4, 40, seed=seed)
        for scores in scores_of(points, labels):
            best = np.argsort(-scores, axis=1)[:, :5]
            hits.append((best == y[:, None]).any(axis=1).mean())
    assert np.mean(hits[1::2]) >= np.mean(hits[::2])


@pytest.mark.parametrize("n_labels", [6, 100, 2500])
def test_adapt_keeps_what_all_labels_have_against_a_background(n_labels):
    points, _, labels = planted([10] * 4, n_labels)
    before, after = scores_of(points, labels)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(
        logsumexp(after / T, axis=1), logsumexp(before / T, axis=1), atol=1e-3
    )


def test_adapt_of_identical_images_gives_all_the_answer_of_one():
    points, _, labels = planted([1], 7)
    before, after = scores_of(np.repeat(points, 50, axis=0), labels)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(after, after[:1].repeat(50, axis=0), atol=1e-5)


def test_adapt_of_images_there_twice_gives_both_the_same():
    points, y, labels = planted([10] * 4, 6)
    before, after = scores_of(np.concatenate([points, points]), labels)
    np.testing.assert_allclose(after[:40], after[40:], atol=1e-5)
    assert per_class(np.tile(y, 2), after) >= per_class(np.tile(y, 2), before)


def test_adapt_of_few_images_among_many_labels_names_each_label_once():
    points, _, labels = planted([1] * 5, 1000)
    adapted = adapt(points, labels, no_penalty(labels), T)
    assert adapted.columns.shape == (5, 32)
    assert all(len(set(row)) == 32 for row in adapted.columns.tolist())
    assert np.isfinite(adapted.scores).all()
    assert adapted.scores.dtype == np.float32


def test_adapt_of_a_point_of_zeros_is_finite():
    points, _, labels = planted([10] * 3, 4)
    points[3] = 0
    _, after = scores_of(points, labels)
    assert np.isfinite(after).all()


def test_adapt_beside_images_of_no_label_gains_for_the_others():
    gains, ranks = [], []
    for seed in range(10):
        points, y, labels = planted([20] * 10, 10, seed=seed)
        labels, belongs = labels[:8], y < 8
        before, after = scores_of(points, labels)
        y = y[belongs]
        gains.append(per_class(y, after[belongs]) - per_class(y, before[belongs]))
        for scores in (before, after):
            best = scores.max(axis=1)
            ranks.append(np.mean(best[belongs][:, None] > best[~belongs]))
    assert np.mean(gains) > 0.1
    assert np.mean(ranks[1::2]) >= np.mean(ranks[::2])


def test_adapt_with_seen_classes_among_the_labels_loses_on_neither():
    seen_gains, unseen_gains = [], []
    for seed in range(10):
        points, y, labels = planted([10] * 10, 10, seed=seed)
        means = np.stack([points[y == c].mean(axis=0) for c in range(10)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        seen = np.arange(10) < 5
        # A seen label is nearer to its images, as after training.
        labels[seen] += 0.5 * means[seen]
        labels /= np.linalg.norm(labels, axis=1, keepdims=True)
        means[~seen] = np.nan
        before, after = scores_of(points, labels, anchors=(means, 30 * seen))
        for is_kind, gains in ((seen, seen_gains), (~seen, unseen_gains)):
            mine = is_kind[y]
            gains.append(
                per_class(y[mine], after[mine]) - per_class(y[mine], before[mine])
            )
    assert np.mean(seen_gains) >= 0
    assert np.mean(unseen_gains) >= 0.05


def test_adapt_of_a_seen_label_starts_from_its_training_images():
    points, _, labels = planted([10] * 3, 3)
    means = np.full_like(labels, np.nan)
    means[1] = points[10:20].mean(axis=0)
    _, without = scores_of(points, labels)
    _, anchored = scores_of(points, labels, anchors=(means, np.array([0, 10, 0])))
    assert anchored[10:20, 1].mean() >= without[10:20, 1].mean()
    assert not np.array_equal(anchored, without)


@pytest.mark.slow
def test_adapt_of_many_images_needs_little_memory():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20_000, 64)).astype(np.float32)
    labels = rng.standard_normal((1000, 64)).astype(np.float32)
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    tracemalloc.start()
    adapt(points, labels, no_penalty(labels), T)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All scores would be 80 MB, all distances 1600 MB.
    assert peak < 300 * 2**20


@pytest.mark.slow
def test_adapt_of_photographs_gains_however_many_classes_are_present(real_data):
    # Labels are the means of two photographs of each class, so nothing is trained.
    pytest.importorskip("onnxruntime")
    path = real_data / "onnx" / "efficientnet-lite0.onnx"
    network = resolve_backbone(f"onnx:{path}?scaling=tf&output=features")
    paths, y = load_image_folder(real_data / "images" / "caltech-classes")
    y = np.unique(y, return_inverse=True)[1]
    chosen = np.flatnonzero(y % 4 == 1)
    y = np.unique(y[chosen], return_inverse=True)[1]
    features = extract_features([paths[i] for i in chosen], network).matrix
    features = np.sign(features) * np.sqrt(np.abs(features))
    points = features - features.mean(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    m = y.max() + 1
    few = np.concatenate([np.flatnonzero(y == c)[:2] for c in range(m)])
    labels = points[few].reshape(m, 2, -1).mean(axis=1)
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    others = np.setdiff1d(np.arange(len(y)), few)
    for n_present in (1, 3, m):
        gains = []
        for seed in range(10):
            present = np.random.default_rng(seed).permutation(m)[:n_present]
            rows = others[np.isin(y[others], present)]
            before, after = scores_of(points[rows], labels)
            gains.append(per_class(y[rows], after) - per_class(y[rows], before))
        assert np.mean(gains) > 0
