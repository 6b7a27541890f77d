"""DeViSE against the paper's formulas written out in NumPy."""

import io

import numpy as np
import pytest
from literal_training import adam, easy_problem, prepared, unit

from zeroshot.projections import DeViSE, PretrainedClasses, Ridge, Visual


@pytest.fixture(scope="module")
def problem():
    return easy_problem()


@pytest.fixture
def pretrained(problem):
    """Rows of a classifier of the last 4 classes, which are linear in the words."""
    T = problem[2][12:]
    random = np.random.default_rng(5)
    weights = T @ random.standard_normal((8, 24)) + 0.5
    nobody = np.full(4, -1)
    return PretrainedClasses(T, np.float32(weights), np.zeros(4, np.float32), nobody)


def noisy(X):
    noise = np.random.default_rng(1).standard_normal(X.shape)
    return (X + 2 * noise).astype(np.float32)


def full_batch(**parameters):
    """Return the map M alone, trained with all images in each step."""
    defaults = {"batch_size": 64, "early_stopping": False, "random_state": 0}
    return DeViSE(visual_weight=0, **{**defaults, **parameters})


def side_by_side(X, y):
    """Return images and the means of their classes, and the class of each."""
    classes = np.unique(y)
    means = unit(np.array([X[y == c].mean(axis=0, dtype=np.float64) for c in classes]))
    return np.concatenate([X, means]), np.concatenate([y, classes])


def literal_start(X, y, T):
    """Ridge regression on the images, as long on average as the words are."""
    ridge = np.linalg.solve(X.T @ X + 10 * np.eye(X.shape[1]), X.T @ T[y])
    rows, _ = side_by_side(X, y)
    return ridge / np.linalg.norm(rows @ ridge, axis=1).mean()


def slow_rank_loss(M, X, y, T, margin, order=None):
    """Return the mean loss and its gradient, image by image, class by class.

    Frome et al. 2013, section 3.3: the sum over the wrong classes j of
    max(0, margin - t_y . M v + t_j . M v); or, with an order of the classes of each
    image, the first of them that is not 0.
    """
    loss, gradient = 0.0, np.zeros_like(M)
    for i, (v, label) in enumerate(zip(X, y, strict=True)):
        point = v @ M
        for j in range(len(T)) if order is None else order[i]:
            hinge = margin - T[label] @ point + T[j] @ point
            if j != label and hinge > 0:
                loss += hinge / len(X)
                gradient += np.outer(v, T[j] - T[label]) / len(X)
                if order is not None:
                    break
    return loss, gradient


@pytest.mark.parametrize("negatives", ["all", "first-violator"])
@pytest.mark.parametrize(("margin", "weight_decay"), [(0.1, 0.0), (0.3, 0.3)])
def test_rank_loss_training_equals_the_formula_step_by_step(
    margin, weight_decay, negatives, problem
):
    X, y, T = problem
    X, y, T = noisy(X)[::5], y[::5], T.astype(np.float64)
    X = prepared(X)
    rows, own = side_by_side(X, y)  # 64 images of 16 classes, and 16 means
    # What is at chance, in its order: images, means beside them, the first violators.
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    random = np.random.default_rng(seed)

    def gradient_at(M):
        drawn = [*random.permutation(64), *(64 + random.integers(16, size=33))]
        order = None
        if negatives == "first-violator":
            order = np.argsort(-random.random((97, 16)), axis=1)
        loss, gradient = slow_rank_loss(M, rows[drawn], own[drawn], T, margin, order)
        return loss, gradient + weight_decay * M

    start = literal_start(X, y, T)
    M, losses = adam(gradient_at, start, 0.05, steps=6, decay=False)
    ours = full_batch(
        margin=margin,
        weight_decay=weight_decay,
        negatives=negatives,
        learning_rate=0.05,
        epochs=6,
        normalize=False,
    ).fit(X, y, class_embeddings=T)
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-3)
    np.testing.assert_allclose(ours.kernels_[0], M, atol=2e-3 * np.abs(M).max())
    np.testing.assert_allclose(ours.transform(X), X @ M, atol=2e-3 * np.abs(M).max())
    assert np.abs(M - start).max() > 0.1 * np.abs(M).max()
    assert ours.n_epochs_ == 6


def test_map_without_epochs_is_ridge_on_images_and_on_the_classifiers_rows(
    problem, pretrained
):
    X, y, T = problem
    seen = y < 12
    learnt = {"class_embeddings": T[:12], "pretrained": pretrained}
    ours = full_batch(epochs=0).fit(X[seen], y[seen], **learnt)
    ridge = Ridge(alpha=10).fit(X[seen], y[seen], **learnt)
    np.testing.assert_allclose(
        unit(ours.transform(X)), unit(ridge.transform(X)), atol=1e-5
    )
    rows = [ours.kernels_[0].T @ row for row in prepared(X[seen])]
    assert 0.9 < np.linalg.norm(rows, axis=1).mean() < 1.1  # as long as the words
    assert (ours.n_epochs_, ours.history_["loss"]) == (0, [])


def test_scores_are_a_weighted_sum_of_two_cosines(problem, pretrained):
    X, y, T = problem
    seen = y < 12
    learnt = {"class_embeddings": T[:12], "pretrained": pretrained}
    chosen = {"gamma": 2.0, "alpha": 0.1, "pretrained_weight": 1.0}
    ours = DeViSE(visual_weight=0.7, epochs=0, **chosen).fit(X[seen], y[seen], **learnt)
    M = full_batch(epochs=0).fit(X[seen], y[seen], **learnt)
    visual = Visual(**chosen).fit(X[seen], y[seen], **learnt)
    text = unit(M.transform(X)) @ T.T
    images = unit(visual.transform(X)) @ visual.transform_labels(T).T
    scores = ours.transform(X) @ ours.transform_labels(T).T
    np.testing.assert_allclose(scores, 0.3 * text + 0.7 * images, atol=1e-5)
    assert ours.transform(X).shape == (320, 8 + 24)
    for points in (ours.transform(X), ours.transform_labels(T), ours.class_points_):
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)
    # The points of seen classes: the more images they have, the less of the word.
    of_words = np.square(ours.class_points_[:, :8]).sum(axis=1)
    assert (of_words < 0.3 * 0.5).all()
    np.testing.assert_allclose(
        unit(ours.class_points_[:, 8:]), visual.class_points_, atol=1e-5
    )
    np.testing.assert_allclose(unit(ours.class_points_[:, :8]), T[:12], atol=1e-5)


def test_the_fewer_images_the_more_the_word_of_a_class_counts(problem):
    X, y, T = problem
    shares = []
    for n in (1, 5, 20):
        few = np.concatenate([np.flatnonzero(y == c)[:n] for c in range(16)])
        ours = DeViSE(epochs=0, random_state=0).fit(X[few], y[few], class_embeddings=T)
        shares.append(np.square(ours.class_points_[:, :8]).sum(axis=1).mean())
    assert 0.2 > shares[0] > shares[1] > shares[2] > 0


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_other_losses_are_trained_by_keras_as_their_formula_says(loss, problem):
    X, y, T = (array[:60] for array in problem)
    X, T = prepared(X), T.astype(np.float64)
    rows, own = side_by_side(X, y)

    def gradient_at(M):
        total, gradient = 0.0, np.zeros_like(M)
        for v, t in zip(rows, T[own], strict=True):
            point = v @ M
            if loss == "mse":
                value = np.square(point - t).mean()
                slope = 2 * (point - t) / len(t)
            else:
                length = np.linalg.norm(point)
                value = 1 - point @ t / length
                slope = (point * (point @ t) / length**2 - t) / length
            total += value / len(rows)
            gradient += np.outer(v, slope) / len(rows)
        return total, gradient

    M, losses = adam(gradient_at, literal_start(X, y, T), 0.05, steps=6)
    ours = full_batch(
        loss=loss, learning_rate=0.05, epochs=6, normalize=False, batch_size=10_000
    )
    ours.fit(X, y, class_embeddings=T)
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-3)
    np.testing.assert_allclose(ours.kernels_[0], M, atol=5e-3 * np.abs(M).max())


@pytest.mark.slow
def test_hidden_layers_give_the_points_that_they_were_trained_on(problem):
    # Batch normalisation takes each batch's statistics in training, its moving averages
    # after it. With all images in one batch and the weights at rest they become equal.
    X, y, T = problem
    X = prepared(X)
    rows, own = side_by_side(X, y)
    ours = full_batch(
        loss="cosine",
        hidden=(32, 16),
        learning_rate=1e-9,
        epochs=1000,
        batch_size=10_000,
        normalize=False,
    ).fit(X, y, class_embeddings=T)
    expected = np.mean(1 - (unit(ours.transform(rows)) * T[own]).sum(axis=1))
    assert ours.history_["loss"][-1] == pytest.approx(expected, abs=1e-3)
    assert ours.history_["loss"][-1] != pytest.approx(1, abs=1e-2)
    assert [kernel.shape for kernel in ours.kernels_] == [(24, 32), (32, 16), (16, 8)]


def test_hidden_layers_with_dropout_learn_the_classes(problem):
    X, y, T = problem
    ours = full_batch(
        loss="cosine",
        hidden=(32, 16),
        dropout=0.3,
        learning_rate=0.02,
        epochs=30,
        batch_size=128,
    ).fit(X, y, class_embeddings=T)
    assert accuracy(ours, X, y, T) > 0.8  # chance is 1 in 16


def accuracy(projection, X, y, T):
    scores = unit(projection.transform(X)) @ unit(projection.transform_labels(T)).T
    return float((scores.argmax(axis=1) == y).mean())


@pytest.mark.parametrize("visual_weight", [0, 0.8])
def test_unseen_classes_are_told_apart_and_random_vectors_fall_to_chance(
    visual_weight, problem
):
    X, y, T = problem
    seen = y < 12
    random = unit(np.random.default_rng(9).standard_normal(T.shape)).astype(np.float32)
    results = []
    for vectors in (T, random):
        ours = DeViSE(visual_weight=visual_weight, random_state=0)
        ours.fit(X[seen], y[seen], class_embeddings=vectors[:12])
        results.append(accuracy(ours, X[~seen], y[~seen] - 12, vectors[12:]))
    with_meaning, control = results
    assert with_meaning > 0.8
    assert control < 0.5  # chance is 0.25, of 4 classes


@pytest.mark.parametrize("with_pretrained", [False, True])
def test_early_stopping_never_trains_on_the_classes_it_watches(with_pretrained):
    # The vectors are orthogonal: nothing learnt of other classes points to those held
    # out, nor do rows of a classifier, if those of their names are hidden. Their scores
    # stay equal, so every image's rank stays last, of two.
    T = np.eye(10, dtype=np.float32)
    y = np.repeat(np.arange(10), 5)
    X = T[y] + np.float32(0.1)
    pretrained = None
    if with_pretrained:
        zeros = np.zeros(10, np.float32)
        pretrained = PretrainedClasses(T, T, zeros, np.arange(10))
    ours = DeViSE(
        visual_weight=0, normalize=False, epochs=12, patience=4, random_state=0
    )
    ours.fit(X, y, class_embeddings=T, pretrained=pretrained)
    # The start, and 4 epochs that were no better: no worse either.
    assert ours.history_["validation_mrr"] == [0.5] * 5
    assert ours.n_epochs_ == 4
    assert len(ours.history_["loss"]) == 4
    assert accuracy(ours, X, y, T) == 1.0  # the final training has all classes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("learning_rate", [1e-4, 1e-2, 1.0])
def test_early_stopping_is_never_worse_than_the_start(seed, learning_rate, problem):
    X, y, T = problem
    noise = np.random.default_rng(seed).standard_normal(X.shape)
    X = (X + 2 * noise).astype(np.float32)
    ours = DeViSE(
        visual_weight=0, epochs=5, learning_rate=learning_rate, random_state=seed
    ).fit(X, y, class_embeddings=T)
    watched = ours.history_["validation_mrr"]
    assert watched[ours.n_epochs_] >= watched[0]
    assert 0 <= ours.n_epochs_ < len(watched) <= 6
    assert len(ours.history_["loss"]) == ours.n_epochs_
    assert set(ours.history_) == {"loss", "validation_mrr"}
    assert all(0 < score <= 1 for score in watched)


def test_early_stopping_that_finds_no_gain_leaves_the_map_where_it_starts(problem):
    X, y, T = problem
    X = X + 3 * np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    ours = DeViSE(visual_weight=0, learning_rate=1.0, epochs=4, random_state=0)
    ours.fit(X, y, class_embeddings=T)
    assert ours.n_epochs_ == 0
    start = full_batch(epochs=0).fit(X, y, class_embeddings=T)
    np.testing.assert_array_equal(ours.transform(X), start.transform(X))


@pytest.mark.parametrize(("n_classes", "is_skipped"), [(7, True), (8, False)])
def test_early_stopping_needs_two_classes_to_watch(n_classes, is_skipped, problem):
    X, y, T = problem
    few = y < n_classes
    ours = DeViSE(epochs=3, random_state=0).fit(
        X[few], y[few], class_embeddings=T[:n_classes]
    )
    assert ("validation_mrr" not in ours.history_) == is_skipped
    if is_skipped:
        assert ours.n_epochs_ == len(ours.history_["loss"]) == 0


def test_what_was_chosen_is_kept_for_more_images_and_by_a_clone_of_the_choices(problem):
    X, y, T = problem
    first = np.arange(len(y)) % 2 == 0
    ours = DeViSE(epochs=4, random_state=0)
    ours.fit(X[first], y[first], class_embeddings=T)
    choices = ours.choices_
    ours.partial_fit(X[~first], y[~first], class_embeddings=T, places=np.arange(16))
    assert ours.choices_ == choices
    same = DeViSE(random_state=0, **choices).fit(X, y, class_embeddings=T)
    assert same.choices_ == choices
    assert "validation_mrr" not in same.history_


def test_with_map_keeps_the_map_of_features_that_are_centred_elsewhere(problem):
    X, y, T = problem
    ours = DeViSE(epochs=0, random_state=0).fit(X, y, class_embeddings=T)
    moved = np.abs(X) + np.float32(0.5)
    expected = ours.text_points(moved, ours.layers)
    changed = ours.with_map(ours.layers, moved, y, T, None)
    assert np.abs(changed.mean_ - ours.mean_).max() > 0.01
    np.testing.assert_allclose(
        unit(changed.transform(moved)[:, :8]), unit(expected), atol=1e-4
    )
    visual = Visual(**{k: v for k, v in ours.choices_.items() if k in vars(Visual())})
    visual.fit(moved, y, class_embeddings=T)
    np.testing.assert_allclose(
        unit(changed.class_points_[:, 8:]), visual.class_points_, atol=1e-5
    )


def test_same_random_state_gives_the_same_map(problem):
    X, y, T = problem
    for options in ({"hidden": (8,), "dropout": 0.2}, {"negatives": "first-violator"}):
        maps = [
            full_batch(epochs=3, random_state=seed, learning_rate=0.01, **options).fit(
                X, y, class_embeddings=T
            )
            for seed in (3, 3, 4)
        ]
        points = [one.transform(X) for one in maps]
        np.testing.assert_array_equal(points[0], points[1])
        assert maps[0].history_ == maps[1].history_
        assert np.abs(points[0] - points[2]).max() > 1e-3


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_only(problem, capsys, monkeypatch):
    X, y, T = (array[:60] for array in problem)
    ours = full_batch(epochs=2)
    ours.fit(X, y, class_embeddings=T)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    ours.fit(X, y, class_embeddings=T)
    assert "training DeViSE" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "hinge"),
        ("negatives", "some"),
        ("margin", 0),
        ("margin", float("nan")),
        ("margin", "wide"),
        ("visual_weight", 1.0),
        ("visual_weight", -0.1),
        ("gamma", 0),
        ("alpha", "best"),
        ("pretrained_weight", float("inf")),
        ("hidden", (64, 0)),
        ("hidden", 64),
        ("hidden", (2.5,)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("weight_decay", -1),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("epochs", -1),
        ("epochs", 2.5),
        ("validation_fraction", 1.0),
        ("patience", 0),
    ],
)
def test_parameter_out_of_range_is_named(name, value, problem):
    X, y, T = problem
    with pytest.raises(ValueError, match=f"Expected {name} ") as caught:
        DeViSE(**{name: value}).fit(X, y, class_embeddings=T)
    assert repr(value) in str(caught.value)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
@pytest.mark.parametrize("options", [{}, {"hidden": (8,), "loss": "mse"}])
def test_training_that_diverges_says_so(options, problem):
    X, y, T = problem
    ours = full_batch(learning_rate=1e38, epochs=5, **options)
    with pytest.raises(ValueError, match=r"finite loss.*learning_rate"):
        ours.fit(X, y, class_embeddings=T)


def test_transform_of_no_images_is_an_empty_matrix(problem):
    X, y, T = (array[:60] for array in problem)
    for ours, dim in ((full_batch(epochs=1), 8), (DeViSE(epochs=1), 32)):
        points = ours.fit(X, y, class_embeddings=T).transform(X[:0])
        assert points.shape == (0, dim)
        assert points.dtype == np.float32
