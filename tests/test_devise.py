"""DeViSE against the paper's formulas written out in NumPy."""

import io

import numpy as np
import pytest
from literal_training import adam, easy_problem, prepared, unit
from sklearn.base import clone

from zeroshot.projections import DeViSE


@pytest.fixture(scope="module")
def problem():
    return easy_problem()


def full_batch(**parameters):
    """Return a DeViSE of one step an epoch, so that no order is at chance."""
    defaults = {"batch_size": 10_000, "early_stopping": False, "random_state": 0}
    return DeViSE(**{**defaults, **parameters})


def slow_rank_loss(M, X, y, T, margin):
    """Return the mean loss and its gradient, image by image, class by class.

    Frome et al. 2013, section 3.3: the sum over the wrong classes j of
    max(0, margin - t_y . M v + t_j . M v).
    """
    loss, gradient = 0.0, np.zeros_like(M)
    for v, label in zip(X, y, strict=True):
        point = v @ M
        for j, t in enumerate(T):
            if j == label:
                continue
            hinge = margin - T[label] @ point + t @ point
            if hinge > 0:
                loss += hinge / len(X)
                gradient += np.outer(v, t - T[label]) / len(X)
    return loss, gradient


@pytest.mark.parametrize(("margin", "weight_decay"), [(0.1, 0.0), (0.3, 0.3)])
def test_rank_loss_training_equals_the_formula_step_by_step(
    margin, weight_decay, problem
):
    X, y, T = (array[:60] for array in problem)  # 3 classes have images, 16 compete
    V = prepared(X)

    def gradient_at(M):
        loss, gradient = slow_rank_loss(M, V, y, T.astype(np.float64), margin)
        return loss, gradient + weight_decay * M

    M, losses = adam(gradient_at, np.zeros((24, 8)), 0.05, steps=6)
    ours = full_batch(
        margin=margin,
        weight_decay=weight_decay,
        learning_rate=0.05,
        epochs=6,
        normalize=False,
    ).fit(V, y, class_embeddings=T)
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(ours.kernels_[0], M, atol=1e-3 * np.abs(M).max())
    np.testing.assert_allclose(ours.transform(V), V @ M, atol=1e-3)
    assert losses[0] == pytest.approx(15 * margin)  # from zero all 15 violate
    assert losses[-1] < 0.7 * losses[0]


def one_hot_problem(n, n_classes):
    """One feature an image: its row of the map shows which classes moved it."""
    X = np.eye(n, dtype=np.float32)
    return X, np.arange(n) % n_classes, np.eye(n_classes, dtype=np.float32)


@pytest.mark.parametrize("negatives", ["all", "first-violator"])
def test_negatives_that_count_are_all_or_one_for_each_image(negatives):
    X, y, T = one_hot_problem(300, 6)
    ours = full_batch(
        negatives=negatives,
        normalize=False,
        weight_decay=0,
        learning_rate=0.08,
        epochs=2,
    )
    pushed = clone(ours).set_params(epochs=1).fit(X, y, class_embeddings=T)
    signs = np.sign(pushed.kernels_[0])
    assert (signs[np.arange(300), y] == 1).all()
    wanted = 5 if negatives == "all" else 1
    assert ((signs == -1).sum(axis=1) == wanted).all()
    if negatives == "first-violator":
        counts = (signs == -1).sum(axis=0)  # 50 each on average, of binomials
        assert counts.min() > 25
        assert counts.max() < 75
        # Now the one chosen is 0.16 below the true class, and no violator any more.
        # The others are 0.08 below: each image's loss is 0.02, never 0.
        losses = ours.fit(X, y, class_embeddings=T).history_["loss"]
        assert losses == pytest.approx([0.1, 0.02], abs=2e-4)


def test_first_violator_is_chosen_by_the_seed():
    X, y, T = one_hot_problem(60, 6)
    signs = [
        np.sign(
            full_batch(
                negatives="first-violator",
                normalize=False,
                weight_decay=0,
                epochs=1,
                random_state=seed,
            )
            .fit(X, y, class_embeddings=T)
            .kernels_[0]
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(signs[0], signs[1])
    assert (signs[0] != signs[2]).any()


def test_cosine_loss_is_one_minus_the_cosine_to_the_own_class(problem):
    X, y, T = problem
    ours = full_batch(loss="cosine", learning_rate=1e-9, epochs=1)
    points = ours.fit(X, y, class_embeddings=T).transform(X)
    expected = np.mean(1 - (unit(points) * T[y]).sum(axis=1))
    assert ours.history_["loss"] == pytest.approx([expected], abs=1e-4)


def test_squared_error_training_equals_the_formula_step_by_step(problem):
    X, y, T = (array[:60] for array in problem)
    V = prepared(X)

    def gradient_at(M):
        loss, gradient = 0.0, np.zeros_like(M)
        for v, t in zip(V, T[y].astype(np.float64), strict=True):
            error = v @ M - t
            loss += error @ error / len(error) / len(X)
            gradient += 2 * np.outer(v, error) / len(error) / len(X)
        return loss, gradient

    M, losses = adam(gradient_at, np.zeros((24, 8)), 0.05, steps=6)
    ours = full_batch(loss="mse", learning_rate=0.05, epochs=6, normalize=False)
    ours.fit(V, y, class_embeddings=T)
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(ours.kernels_[0], M, atol=1e-3 * np.abs(M).max())


@pytest.mark.slow
def test_hidden_layers_give_the_points_that_they_were_trained_on(problem):
    # Batch normalisation takes each batch's statistics in training, its moving averages
    # after it. With all images in one batch and the weights at rest they become equal.
    X, y, T = problem
    ours = full_batch(
        loss="cosine", hidden=(32, 16), learning_rate=1e-9, epochs=1000
    ).fit(X, y, class_embeddings=T)
    expected = np.mean(1 - (unit(ours.transform(X)) * T[y]).sum(axis=1))
    assert ours.history_["loss"][-1] == pytest.approx(expected, abs=1e-3)
    assert ours.history_["loss"][-1] != pytest.approx(1, abs=1e-2)
    assert [kernel.shape for kernel in ours.kernels_] == [(24, 32), (32, 16), (16, 8)]


def test_hidden_layers_with_dropout_learn_the_classes(problem):
    X, y, T = problem
    ours = DeViSE(
        loss="cosine",
        hidden=(32, 16),
        dropout=0.3,
        learning_rate=0.02,
        epochs=30,
        early_stopping=False,
        random_state=0,
    ).fit(X, y, class_embeddings=T)
    assert accuracy(ours, X, y, T) > 0.8  # chance is 1 in 16


def accuracy(projection, X, y, T):
    scores = projection.transform(X) @ T.T
    return float((scores.argmax(axis=1) == y).mean())


def test_unseen_classes_are_told_apart_and_random_vectors_fall_to_chance(problem):
    X, y, T = problem
    seen = y < 12
    random = unit(np.random.default_rng(9).standard_normal(T.shape)).astype(np.float32)
    results = []
    for vectors in (T, random):
        ours = DeViSE(random_state=0).fit(X[seen], y[seen], class_embeddings=vectors)
        results.append(accuracy(ours, X[~seen], y[~seen] - 12, vectors[12:]))
    with_meaning, control = results
    assert with_meaning > 0.8
    assert control < 0.45  # chance is 0.25, of 4 classes


def test_early_stopping_never_trains_on_the_classes_it_watches():
    # The vectors are orthogonal: nothing learnt of other classes points to those held
    # out. Their scores stay equal, so every image's rank stays last, of two.
    T = np.eye(10, dtype=np.float32)
    y = np.repeat(np.arange(10), 5)
    X = T[y] + np.float32(0.1)
    ours = DeViSE(normalize=False, epochs=12, patience=4, random_state=0)
    ours.fit(X, y, class_embeddings=T)
    assert ours.history_["validation_mrr"] == [0.5] * 5  # the best, and 4 no better
    assert ours.n_epochs_ == 5
    assert len(ours.history_["loss"]) == 5
    assert accuracy(ours, X, y, T) == 1.0  # the final training has all classes


def test_early_stopping_history_is_within_the_epochs(problem):
    X, y, T = problem
    ours = DeViSE(epochs=6, random_state=0).fit(X, y, class_embeddings=T)
    assert set(ours.history_) == {"loss", "validation_mrr"}
    assert 1 <= ours.n_epochs_ <= len(ours.history_["validation_mrr"]) <= 6
    assert len(ours.history_["loss"]) == ours.n_epochs_
    assert all(0 < score <= 1 for score in ours.history_["validation_mrr"])


@pytest.mark.parametrize(("n_classes", "is_skipped"), [(7, True), (8, False)])
def test_early_stopping_needs_two_classes_to_watch(n_classes, is_skipped, problem):
    X, y, T = problem
    few = y < n_classes
    ours = DeViSE(epochs=3, random_state=0).fit(X[few], y[few], class_embeddings=T)
    assert ("validation_mrr" not in ours.history_) == is_skipped
    if is_skipped:
        assert ours.n_epochs_ == len(ours.history_["loss"]) == 3


def test_same_random_state_gives_the_same_map(problem):
    X, y, T = problem
    maps = [
        DeViSE(
            hidden=(8,), dropout=0.2, epochs=3, batch_size=64, random_state=seed
        ).fit(X, y, class_embeddings=T)
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
        ("epochs", 0),
        ("epochs", None),
        ("validation_fraction", 1.0),
        ("patience", 0),
    ],
)
def test_parameter_out_of_range_is_named(name, value, problem):
    X, y, T = problem
    with pytest.raises(ValueError, match=f"Expected {name} ") as caught:
        DeViSE(**{name: value}).fit(X, y, class_embeddings=T)
    assert repr(value) in str(caught.value)


def test_training_that_diverges_says_so(problem):
    X, y, T = problem
    ours = full_batch(learning_rate=1e30, epochs=5)
    with pytest.raises(ValueError, match=r"finite loss.*learning_rate"):
        ours.fit(X, y, class_embeddings=T)


def test_transform_of_no_images_is_an_empty_matrix(problem):
    X, y, T = (array[:60] for array in problem)
    ours = full_batch(epochs=1).fit(X, y, class_embeddings=T)
    points = ours.transform(X[:0])
    assert points.shape == (0, 8)
    assert points.dtype == np.float32
