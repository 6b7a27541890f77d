"""SJE and ALE against the papers' formulas, class by class."""

import numpy as np
import pytest
from literal_training import adam, easy_problem, numerical_gradient, prepared

from zeroshot.projections import ALE, SJE


@pytest.fixture(scope="module")
def problem():
    """Return 30 images of 6 classes, in float64."""
    X, y, T = (array[:120] for array in easy_problem())
    return X[::4].astype(np.float64), y[::4], T[:6].astype(np.float64)


def violations(x, label, T, W, margin):
    """Return for each wrong class by how much it violates the margin."""
    F = [x @ W @ t for t in T]
    return [margin + F[j] - F[label] for j in range(len(T)) if j != label]


def sje_loss(x, label, T, W, margin):
    """Akata et al. 2015: the largest violation of all."""
    return max(0.0, *violations(x, label, T, W, margin))


def ale_loss(x, label, T, W, margin):
    """Akata et al. 2016: violations, weighted by the rank that they make."""
    violated = [v for v in violations(x, label, T, W, margin) if v > 0]
    if not violated:
        return 0.0
    rank = len(violated)
    return sum(1 / i for i in range(1, rank + 1)) / rank * sum(violated)


@pytest.mark.slow  # 10 s each: gradients by differences
@pytest.mark.parametrize(
    ("projection", "loss"), [(SJE, sje_loss), (ALE, ale_loss)], ids=["sje", "ale"]
)
@pytest.mark.parametrize(("margin", "weight_decay"), [(0.1, 0.0), (0.5, 0.05)])
def test_training_equals_the_formula_step_by_step(
    projection, loss, margin, weight_decay, problem
):
    X, y, T = problem
    V = prepared(X)

    def loss_at(W):
        return np.mean(
            [loss(x, label, T, W, margin) for x, label in zip(V, y, strict=True)]
        )

    def gradient_at(W):
        # Differences of the loss itself, so that no derivative is taken by hand.
        return loss_at(W), numerical_gradient(loss_at, W) + weight_decay * W

    ours = projection(
        margin=margin,
        weight_decay=weight_decay,
        learning_rate=0.05,
        epochs=4,
        batch_size=10_000,
        early_stopping=False,
        random_state=0,
        normalize=False,
    ).fit(V, y, class_embeddings=T)
    assert ours.history_["loss"][0] == pytest.approx(loss_at(np.zeros((24, 8))))
    if projection is SJE:  # at zero all classes tie for the largest: a kink
        first = sje_first_gradient(V, y, T)

        def gradient_at(W, smooth=gradient_at):
            return smooth(W) if W.any() else (loss_at(W), first)

    W, losses = adam(gradient_at, np.zeros((24, 8)), 0.05, steps=4)
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(ours.kernels_[0], W, atol=1e-3 * np.abs(W).max())
    assert losses[-1] < losses[0]


def sje_first_gradient(X, y, T):
    """Return the mean of the gradients of all classes that tie for the largest."""
    gradient = np.zeros((X.shape[1], T.shape[1]))
    for x, label in zip(X, y, strict=True):
        wrong = np.delete(T, label, axis=0)
        gradient += np.outer(x, (wrong - T[label]).mean(axis=0)) / len(X)
    return gradient


@pytest.mark.parametrize("projection", [SJE, ALE])
def test_classes_never_seen_are_told_apart(projection):
    X, y, T = easy_problem()
    seen = y < 12
    ours = projection(random_state=0).fit(X[seen], y[seen], class_embeddings=T)
    scores = ours.transform(X[~seen]) @ T[12:].T
    assert (scores.argmax(axis=1) == y[~seen] - 12).mean() > 0.7  # chance is 0.25


@pytest.mark.parametrize("projection", [SJE, ALE])
@pytest.mark.parametrize(
    ("name", "value"), [("margin", 0), ("weight_decay", -1), ("epochs", 0.5)]
)
def test_parameter_out_of_range_is_named(projection, name, value, problem):
    X, y, T = problem
    with pytest.raises(ValueError, match=f"Expected {name} "):
        projection(**{name: value}).fit(X, y, class_embeddings=T)
