"""Sums over images: against NumPy in float64, and what is learnt in two parts."""

import numpy as np
import pytest
from literal_training import easy_problem, prepared, roots, unit
from sklearn.base import clone

from zeroshot.projections import (
    ESZSL,
    SAE,
    DeViSE,
    PretrainedClasses,
    Ridge,
    SupportsPartialFit,
    Visual,
)
from zeroshot.projections.moments import FLAT, Moments

FIXED = {"gamma": 2.0, "alpha": 0.1, "pretrained_weight": 1.0}
PROJECTIONS = [
    Ridge(),
    Ridge(normalize=False),
    ESZSL(alpha=0.5, alpha_text=2.0),
    SAE(),
    Visual(**FIXED),
    DeViSE(epochs=0, **FIXED),
    DeViSE(epochs=0, visual_weight=0),
]


def named(projections):
    return pytest.mark.parametrize("projection", projections, ids=repr)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    y = random.permutation(np.arange(7000) % 5)
    X = random.standard_normal((7000, 12)) + y[:, None]  # of more than two blocks
    return X.astype(np.float32), y


def lower(matrix):
    return matrix[np.tril_indices(len(matrix))]


@pytest.mark.parametrize("normalize", [True, False])
def test_sums_are_those_of_numpy_in_double_precision(normalize, images):
    X, y = images
    moments = Moments.of(X, y, 6, normalize=normalize)
    rows = roots(X) if normalize else X.astype(np.float64)
    sums = np.array([rows[y == c].sum(axis=0) for c in range(6)])
    gram = rows.T @ rows
    assert moments.counts.tolist() == [1400] * 5 + [0]
    np.testing.assert_allclose(moments.sums, sums, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(lower(moments.gram), lower(gram), rtol=1e-4)
    means = np.vstack([sums[:5] / 1400, np.zeros(12)])
    np.testing.assert_allclose(moments.means, means, rtol=1e-5, atol=1e-5)


def test_sums_of_no_image_are_zeros():
    nothing = np.empty((0, 12), np.float32), np.empty(0, np.int64)
    moments = Moments.of(*nothing, 3, normalize=True)
    assert moments.counts.tolist() == [0, 0, 0]
    assert not moments.sums.any()
    assert moments.gram.shape == (12, 12)
    assert not moments.gram.any()


def test_sums_of_two_parts_are_those_of_all(images):
    X, y = images
    first = np.isin(y, [0, 3]) & (np.arange(7000) < 3000)
    row = np.searchsorted([0, 3], y[first])
    before = Moments.of(X[first], row, 2, normalize=True)
    more = Moments.of(X[~first], y[~first], 5, normalize=True)
    together = before.with_more(more, np.array([0, 3]))
    expected = Moments.of(X, y, 5, normalize=True)
    assert together.counts.tolist() == expected.counts.tolist()
    np.testing.assert_allclose(together.sums, expected.sums, atol=1e-2)
    np.testing.assert_allclose(
        lower(together.gram), lower(expected.gram), rtol=1e-4, atol=1e-2
    )
    # And back again.
    left = together.without(X[~first], y[~first], normalize=True)
    assert left.counts.tolist() == [first[y == c].sum() for c in range(5)]
    np.testing.assert_allclose(left.sums[[0, 3]], before.sums, atol=1e-2)
    np.testing.assert_allclose(lower(left.gram), lower(before.gram), atol=0.02)


def test_centred_sums_are_those_of_prepared_features(images):
    X, y = images
    moments = Moments.of(X, y, 5, normalize=True)
    mean, scale = moments.center(normalize=True, flat=False)
    centred = moments.centred(mean, scale)
    rows = prepared(X)
    np.testing.assert_allclose(scale * (roots(X) - mean), rows, atol=1e-4)
    assert np.square(rows).sum(axis=1).mean() == pytest.approx(1)
    sums = np.array([rows[y == c].sum(axis=0) for c in range(5)])
    np.testing.assert_allclose(centred.sums, sums, atol=0.05)
    gram = rows.T @ rows
    np.testing.assert_allclose(
        lower(centred.gram), lower(gram), atol=1e-3 * np.abs(gram).max()
    )


def test_center_without_images_lies_along_the_diagonal():
    nothing = np.empty((0, 16), np.float32), np.empty(0, np.int64)
    moments = Moments.of(*nothing, 2, normalize=True)
    mean, scale = moments.center(normalize=True, flat=True)
    np.testing.assert_allclose(mean, FLAT / 4, rtol=1e-6)
    assert scale == pytest.approx(1 / np.sqrt(1 - FLAT**2))


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_center_beside_pretrained_classes_counts_three_more(n_classes, images):
    X, y = images
    few = y < n_classes  # of one class the mean is where it is, not where images are
    moments = Moments.of(X[few], y[few], 5, normalize=True)
    mean, scale = moments.center(normalize=True, flat=True)
    expected = prepared(X[few], beside_flat=n_classes)
    np.testing.assert_allclose((roots(X[few]) - mean) * scale, expected, atol=1e-4)


def test_center_of_images_that_are_all_the_same_does_not_divide_by_zero():
    X, y = np.ones((4, 9), np.float32), np.array([0, 0, 1, 1])
    mean, scale = Moments.of(X, y, 2, normalize=True).center(normalize=True, flat=False)
    np.testing.assert_allclose(mean, 1 / 3, rtol=1e-6)
    assert scale == 1.0


def assert_same_map(got, expected, X, T):
    """Points are compared by cosine, so their length is nothing."""
    pairs = [(got.transform(X), expected.transform(X))]
    if hasattr(got, "transform_labels"):
        pairs.append((got.transform_labels(T), expected.transform_labels(T)))
    if hasattr(got, "class_points_"):
        pairs.append((got.class_points_, expected.class_points_))
    for ours, theirs in pairs:
        np.testing.assert_allclose(unit(ours), unit(theirs), atol=2e-5)


@pytest.fixture
def pretrained():
    T = unit(np.random.default_rng(7).standard_normal((6, 8))).astype(np.float32)
    weights = np.random.default_rng(8).standard_normal((6, 24)).astype(np.float32)
    twins = np.array([-1, 2, -1, -1, 11, -1])
    return PretrainedClasses(T, weights, np.zeros(6, np.float32), twins)


@named(PROJECTIONS)
@pytest.mark.parametrize("with_pretrained", [False, True])
def test_learning_in_parts_is_learning_at_once(projection, with_pretrained, pretrained):
    X, y, T = easy_problem()
    classes = pretrained if with_pretrained else None
    parts = np.array_split(np.random.default_rng(3).permutation(320), 3)
    # The second part has classes that come between those of the first; the third, one
    # image of a class of its own, and no image of most.
    parts[0] = parts[0][np.isin(y[parts[0]], [1, 4, 5, 9, 12])]
    parts[1] = parts[1][y[parts[1]] != 15]
    parts[2] = parts[2][np.isin(y[parts[2]], [0, 5, 15])]
    seen = np.unique(y[parts[0]])
    ours = clone(projection).fit(
        X[parts[0]],
        np.searchsorted(seen, y[parts[0]]),
        class_embeddings=T[seen],
        pretrained=classes,
    )
    assert isinstance(ours, SupportsPartialFit)
    for part in parts[1:]:
        after = np.union1d(seen, y[part])
        ours.partial_fit(
            X[part],
            np.searchsorted(after, y[part]),
            class_embeddings=T[after],
            places=np.searchsorted(after, seen),
            pretrained=classes,
        )
        seen = after
    rows = np.concatenate(parts)
    at_once = clone(projection).fit(
        X[rows], y[rows], class_embeddings=T, pretrained=classes
    )
    assert_same_map(ours, at_once, X, T)


@named(PROJECTIONS)
def test_images_after_none_are_learnt_as_from_the_start(projection, pretrained):
    X, y, T = easy_problem()
    learnt = {"class_embeddings": T, "pretrained": pretrained}
    ours = clone(projection).fit(X[:0], y[:0], **learnt)
    ours.partial_fit(X, y, places=np.arange(16), **learnt)
    assert_same_map(ours, clone(projection).fit(X, y, **learnt), X, T)


@named([Ridge(), Visual(), DeViSE(epochs=0)])
def test_more_images_of_another_width_are_refused_and_change_nothing(projection):
    X, y, T = easy_problem()
    ours = projection.fit(X, y, class_embeddings=T)
    before = ours.transform(X)
    more = {"class_embeddings": T, "places": np.arange(16), "pretrained": None}
    with pytest.raises(ValueError, match="expecting 24 features"):
        ours.partial_fit(X[:, :20], y, **more)
    with pytest.raises(ValueError, match=r"within 0..15"):
        ours.partial_fit(X, y + 1, **more)
    for places in (np.arange(15), np.arange(1, 17), np.zeros(16, int), [None] * 16):
        with pytest.raises(ValueError, match="Expected places as different rows"):
            ours.partial_fit(X, y, **more | {"places": places})
    np.testing.assert_array_equal(ours.transform(X), before)


@named([Ridge(), Visual(), DeViSE(epochs=0)])
def test_a_second_fit_starts_anew(projection):
    X, y, T = easy_problem()
    few = y < 4  # of which nothing is chosen
    ours = clone(projection).fit(X[few], y[few], class_embeddings=T[:4])
    ours.fit(X, y, class_embeddings=T)
    fresh = clone(projection).fit(X, y, class_embeddings=T)
    np.testing.assert_array_equal(ours.transform(X), fresh.transform(X))
    assert getattr(ours, "choices_", None) == getattr(fresh, "choices_", None)
    assert_same_map(ours, fresh, X, T)
