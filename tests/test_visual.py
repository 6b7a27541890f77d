"""Visual against scikit-learn's kernel methods, really leaving classes out."""

import itertools

import numpy as np
import pytest
from literal_training import easy_problem, prepared, unit
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from zeroshot.projections import DeViSE, PretrainedClasses, Visual

N_SEEN = 12
FIXED = {"gamma": 2.0, "alpha": 0.1, "pretrained_weight": 1.0}


def problem(noise=0.3, seed=0):
    """Return images of 12 classes, each of another number of them, and words of 16."""
    X, y, T = easy_problem()
    random = np.random.default_rng(seed)
    kept = (y < N_SEEN) & (np.arange(320) % 20 <= y + 1)
    X = X + noise * random.standard_normal(X.shape)
    return X[kept].astype(np.float32), y[kept], T


def classifier_rows(seed=1, twins=()):
    """Return 9 pretrained classes; some go by the names of the user's."""
    random = np.random.default_rng(seed)
    class_of = np.full(9, -1)
    class_of[: len(twins)] = twins
    T = unit(random.standard_normal((9, 8)))
    T[: len(twins)] = easy_problem()[2][list(twins)]
    weights = random.standard_normal((9, 24)) + 1
    bias = np.zeros(9, np.float32)
    return PretrainedClasses(np.float32(T), np.float32(weights), bias, class_of)


def literal_prototypes(X, y, n_classes, beside_flat=0):
    """Mean of each class, and its row of a discriminant: both of unit length, added."""
    V = prepared(X, beside_flat=beside_flat)
    means = np.array([V[y == c].mean(axis=0) for c in range(n_classes)])
    within = sum(
        np.outer(v - means[c], v - means[c]) for v, c in zip(V, y, strict=True)
    )
    if len(V) == n_classes:
        return unit(means)
    sphere = np.trace(within) / len(within) * np.eye(len(within))
    return unit(unit(means) + unit(np.linalg.solve(within + sphere, means.T).T))


class Task:
    """Words, prototypes and their noise, the user's classes first."""

    def __init__(self, X, y, T, pretrained, gamma, alpha, pretrained_weight):
        n = len(T)
        self.gamma, self.n = gamma, n
        beside_flat = 0 if pretrained is None else n
        self.words = T
        self.prototypes = literal_prototypes(X, y, n, beside_flat)
        self.noise = np.maximum(alpha, 1 / np.bincount(y, minlength=n))
        self.twins = np.empty(0, int)
        if pretrained is not None:
            rows = unit(pretrained.weights - pretrained.weights.mean(axis=0))
            self.words = np.concatenate([T, pretrained.class_embeddings])
            self.prototypes = np.concatenate([self.prototypes, rows])
            rest = np.full(len(rows), alpha / pretrained_weight)
            self.noise = np.concatenate([self.noise, rest])
            self.twins = pretrained.class_of

    def regression(self, left_out=()):
        """Kernel ridge with a penalty of its own for each row: a Gaussian process."""
        kept = np.setdiff1d(np.arange(len(self.words)), left_out)
        process = GaussianProcessRegressor(
            RBF(1 / np.sqrt(2 * self.gamma)), alpha=self.noise[kept], optimizer=None
        )
        return process.fit(self.words[kept], self.prototypes[kept])


def test_prototypes_of_new_words_are_kernel_ridge_of_sklearn():
    X, y, T = problem()
    enough = y >= 3  # 5 images or more: noise of 0.3 for all
    ours = Visual(gamma=1.5, alpha=0.3, pretrained_weight=1.0)
    ours.fit(X[enough], y[enough] - 3, class_embeddings=T[3:N_SEEN])
    theirs = KernelRidge(kernel="rbf", gamma=1.5, alpha=0.3)
    theirs.fit(T[3:N_SEEN], literal_prototypes(X[enough], y[enough] - 3, 9))
    points = ours.transform_labels(T)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, unit(theirs.predict(T)), atol=1e-4)


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_noise_is_one_over_images_and_alpha_over_weight(weight):
    X, y, T = problem()
    pretrained = classifier_rows()
    values = FIXED | {"pretrained_weight": weight}
    ours = Visual(**values)
    ours.fit(X, y, class_embeddings=T[:N_SEEN], pretrained=pretrained)
    task = Task(X, y, T[:N_SEEN], pretrained, **values)
    assert task.noise[:N_SEEN].max() == 0.5  # of the class of 2 images
    np.testing.assert_allclose(
        ours.transform_labels(T), unit(task.regression().predict(T)), atol=1e-4
    )
    np.testing.assert_array_equal(ours.centres_[N_SEEN:], pretrained.class_embeddings)


@pytest.mark.parametrize("pretrained", [None, classifier_rows(twins=[4, 7])])
def test_labels_without_some_classes_are_kernel_ridge_on_the_others(pretrained):
    X, y, T = problem()
    values = FIXED | {"normalize": False}
    visual, devise = Visual(**values), DeViSE(**values, visual_weight=0.6, epochs=0)
    for ours in (visual, devise):
        beside_flat = 0 if pretrained is None else N_SEEN
        V = prepared(X, beside_flat=beside_flat).astype(np.float32)
        ours.fit(V, y, class_embeddings=T[:N_SEEN], pretrained=pretrained)
    task = Task(X, y, T[:N_SEEN], pretrained, **FIXED)
    left_out = [np.array(classes, int) for classes in ([4], [0, 7, 11], [])]
    found = visual.transform_labels_without(T, left_out)
    beside = devise.transform_labels_without(T, left_out)
    for classes, points, both in zip(left_out, found, beside, strict=True):
        rows = np.r_[classes, N_SEEN + np.flatnonzero(np.isin(task.twins, classes))]
        expected = unit(task.regression(rows).predict(T))
        np.testing.assert_allclose(points, expected, atol=1e-4)
        np.testing.assert_allclose(both[:, T.shape[1] :], 0.6**0.5 * points, atol=1e-6)
        np.testing.assert_allclose(both[:, : T.shape[1]], 0.4**0.5 * T, atol=1e-6)
    np.testing.assert_allclose(points, visual.transform_labels(T), atol=1e-6)
    assert [len(none) for none in visual.transform_labels_without(T[:0], [[1]])] == [0]


def test_labels_of_the_map_alone_stay_whatever_is_left_out():
    X, y, T = problem()
    devise = DeViSE(visual_weight=0, epochs=0).fit(X, y, class_embeddings=T[:N_SEEN])
    for points in devise.transform_labels_without(T, [[1], [2, 3]]):
        np.testing.assert_array_equal(points, T)


@pytest.mark.parametrize("pretrained", [None, classifier_rows(twins=[4, 7])])
def test_a_class_lies_between_what_the_others_predict_and_its_images(pretrained):
    X, y, T = problem()
    ours = Visual(**FIXED)
    ours.fit(X, y, class_embeddings=T[:N_SEEN], pretrained=pretrained)
    task = Task(X, y, T[:N_SEEN], pretrained, **FIXED)
    for c in range(N_SEEN):
        others = task.regression(left_out=[c])
        predicted, deviation = others.predict(T[c : c + 1], return_std=True)
        variance = np.ravel(deviation)[0] ** 2
        kappa = max(1, 0.5 / max(variance, 0.02))
        own = kappa * unit(predicted)[0] + (y == c).sum() * task.prototypes[c]
        np.testing.assert_allclose(
            ours.class_points_[c], own / np.linalg.norm(own), atol=1e-3
        )


def literal_choices(X, y, T, pretrained):
    """Train without each class and its namesakes, for each value, one after another."""

    def reciprocal_ranks(**values):
        task = Task(X, y, T, pretrained, **values)
        predicted = np.empty((len(T), 24))
        for c in range(len(T)):
            hidden = [c, *(len(T) + np.flatnonzero(task.twins == c))]
            predicted[c] = task.regression(hidden).predict(T[c : c + 1])[0]
        beside_flat = 0 if pretrained is None else len(T)
        points = unit(prepared(X, beside_flat=beside_flat))
        scores = points @ unit(predicted).T
        found = [[] for _ in T]
        for row, c in zip(scores, y, strict=True):
            found[c].append(1 / (row >= row[c]).sum())
        return np.array([np.mean(each) for each in found])

    values = dict(FIXED)
    best = reciprocal_ranks(**values)
    grids = {"gamma": [1.0, 4.0], "alpha": [0.03, 0.3]}
    if pretrained is not None:
        grids["pretrained_weight"] = [0.1, 10.0]
    for name, grid in grids.items():
        for value in grid:
            gain = reciprocal_ranks(**values | {name: value}) - best
            if gain.mean() > gain.std() / np.sqrt(len(gain)):
                best, values[name] = best + gain, value
    return values


@pytest.mark.parametrize(("with_pretrained", "n_different"), [(False, 2), (True, 3)])
def test_choices_are_those_of_really_leaving_each_class_out(
    with_pretrained, n_different
):
    found = []
    for seed, noise in itertools.product(range(4), (0.3, 2.0)):
        X, y, T = problem(noise, seed)
        pretrained = classifier_rows(seed, [3, 3, 8]) if with_pretrained else None
        ours = Visual()
        ours.fit(X, y, class_embeddings=T[:N_SEEN], pretrained=pretrained)
        assert ours.choices_ == literal_choices(X, y, T[:N_SEEN], pretrained)
        found.append(tuple(ours.choices_.values()))
    assert len(set(found)) >= n_different  # else this would say little


def test_choices_are_the_same_each_time_and_those_of_a_clone_with_them():
    X, y, T = problem(2.0)
    first, second = (Visual().fit(X, y, class_embeddings=T) for _ in range(2))
    assert first.choices_ == second.choices_
    fixed = Visual(**first.choices_).fit(X, y, class_embeddings=T)
    np.testing.assert_array_equal(fixed.transform_labels(T), first.transform_labels(T))
    np.testing.assert_array_equal(fixed.class_points_, first.class_points_)


def test_what_is_given_is_not_chosen():
    X, y, T = problem(2.0)
    for name, value in (("gamma", 3.0), ("alpha", 0.7), ("pretrained_weight", 5)):
        ours = Visual(**{name: value}).fit(X, y, class_embeddings=T)
        assert ours.choices_[name] == value


def test_few_classes_have_the_defaults():
    X, y, T = problem(2.0)
    few = y < 5
    ours = Visual().fit(X[few], y[few], class_embeddings=T[:5])
    assert ours.choices_ == FIXED


def test_images_stay_where_their_features_are():
    X, y, T = problem()
    ours = Visual(**FIXED).fit(X, y, class_embeddings=T[:N_SEEN])
    np.testing.assert_allclose(ours.transform(X[:9] * 3), prepared(X)[:9], atol=1e-5)
    plain = Visual(normalize=False).fit(X, y, class_embeddings=T[:N_SEEN])
    np.testing.assert_array_equal(plain.transform(X), X)


def test_one_image_of_each_class_has_no_spread_within():
    X, y, T = problem()
    first = np.unique(y, return_index=True)[1]
    ours = Visual(**FIXED).fit(X[first], y[first], class_embeddings=T[:N_SEEN])
    theirs = KernelRidge(kernel="rbf", gamma=2.0, alpha=1.0)
    theirs.fit(T[:N_SEEN], unit(prepared(X[first])))
    np.testing.assert_allclose(
        ours.transform_labels(T), unit(theirs.predict(T)), atol=1e-4
    )
    # Here the word counts for as much as the image, or for more.
    cosines = (unit(prepared(X[first])) * ours.class_points_).sum(axis=1)
    assert 0.3 < cosines.mean() < 0.95


def test_one_class_is_where_its_images_are():
    X, y, T = problem()
    X = np.abs(X)  # as pooled features are
    one = y == 4
    for pretrained in (None, classifier_rows()):
        ours = Visual().fit(
            X[one], y[one] - 4, class_embeddings=T[4:5], pretrained=pretrained
        )
        assert np.isfinite(ours.transform_labels(T)).all()
        assert np.isfinite(ours.class_points_).all()
    cosines = unit(ours.transform(X)) @ ours.class_points_[0]
    assert cosines[one].mean() > 0.5
    assert cosines[one].mean() > cosines[~one].mean() + 0.2


def test_without_images_the_rows_of_the_classifier_are_the_prototypes():
    T, pretrained = problem()[2], classifier_rows()
    nothing = np.empty((0, 24), np.float32), np.empty(0, int)
    ours = Visual().fit(*nothing, class_embeddings=T[:5], pretrained=pretrained)
    theirs = KernelRidge(kernel="rbf", gamma=2.0, alpha=0.1)
    rows = unit(pretrained.weights - pretrained.weights.mean(axis=0))
    theirs.fit(pretrained.class_embeddings, rows)
    expected = unit(theirs.predict(T))
    np.testing.assert_allclose(ours.transform_labels(T), expected, atol=1e-4)
    np.testing.assert_allclose(ours.class_points_, expected[:5], atol=1e-4)


def test_classes_of_the_same_word_are_told_apart_by_their_images():
    X, y, T = problem()
    words = T[:N_SEEN].copy()
    words[10] = words[11]
    ours = Visual().fit(X, y, class_embeddings=words)
    assert np.isfinite(ours.transform_labels(T)).all()
    points = unit(ours.transform(X))
    both = y >= 10
    best = (points[both] @ ours.class_points_[10:].T).argmax(axis=1) + 10
    assert (best == y[both]).mean() > 0.9


def test_class_without_a_word_lies_where_its_images_are():
    X, y, T = problem()
    words = T[:N_SEEN].copy()
    words[5] = np.nan
    for pretrained in (None, classifier_rows()):
        ours = Visual(**FIXED)
        ours.fit(X, y, class_embeddings=words, pretrained=pretrained)
        assert not np.isnan(ours.centres_).any()
        beside_flat = 0 if pretrained is None else N_SEEN
        prototype = literal_prototypes(X, y, N_SEEN, beside_flat)[5]
        np.testing.assert_allclose(ours.class_points_[5], prototype, atol=1e-4)
        assert np.isfinite(ours.class_points_).all()
        # What other classes are does not depend on it.
        others = ours.transform_labels(T)
        assert np.isfinite(others).all()


def test_class_without_a_word_and_without_images_is_refused():
    X, y, T = problem()
    words = T.copy()  # 4 classes more than there are images of
    assert Visual().fit(X, y, class_embeddings=words).class_points_.shape == (16, 24)
    words[13] = np.nan
    with pytest.raises(ValueError, match="Expected images of each class without a"):
        Visual().fit(X, y, class_embeddings=words)
    words[:] = np.nan
    with pytest.raises(ValueError, match="Expected a class with a word vector"):
        Visual().fit(X, y, class_embeddings=words[:N_SEEN])
    words[:] = T
    words[0, 3] = np.nan
    with pytest.raises(ValueError, match="in a part of a row"):
        Visual().fit(X, y, class_embeddings=words)


@pytest.mark.parametrize("name", ["gamma", "alpha", "pretrained_weight"])
@pytest.mark.parametrize("value", [0, -1, np.nan, "best", None])
def test_parameter_out_of_range_is_named(name, value):
    X, y, T = problem()
    with pytest.raises(ValueError, match=f"Expected {name} > 0, or 'auto'"):
        Visual(**{name: value}).fit(X, y, class_embeddings=T)


@pytest.mark.slow  # a kernel of 3000 rows
def test_more_classes_than_are_learnt_from_stay_quick_and_finite():
    random = np.random.default_rng(0)
    n = 3100  # of which 3000 are learnt from
    T = unit(random.standard_normal((n, 6))).astype(np.float32)
    X = (T @ random.standard_normal((6, 10))).astype(np.float32)
    ours = Visual().fit(X, np.arange(n), class_embeddings=T)
    assert len(ours.centres_) == 3000
    assert ours.choices_ == FIXED
    assert ours.class_points_.shape == (n, 10)
    assert np.isfinite(ours.class_points_).all()
    np.testing.assert_allclose(np.linalg.norm(ours.class_points_, axis=1), 1, 1e-4)


@pytest.mark.parametrize("projection", [Visual(), DeViSE(epochs=0)], ids=repr)
def test_label_has_the_same_bits_alone_and_in_any_list(projection):
    X, y, T = problem()
    fitted = projection.fit(X, y, class_embeddings=T[:N_SEEN])
    words = np.float32(
        unit(np.random.default_rng(3).standard_normal((700, T.shape[1])))
    )
    together = fitted.transform_labels(words)
    for some in (slice(0, 1), slice(300, 302), slice(690, 700), slice(1, 600)):
        np.testing.assert_array_equal(
            fitted.transform_labels(words[some]), together[some]
        )
