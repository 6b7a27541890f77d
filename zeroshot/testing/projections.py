"""The conformance kit for projections."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize

from zeroshot.projections.base import (
    PretrainedClasses,
    Projection,
    SupportsClassPoints,
    SupportsLabels,
    SupportsPartialFit,
    label_points,
    learns_from_pretrained,
)
from zeroshot.testing import _kit as kit

__all__ = ["check_projection", "projection_checks"]

N_SEEN, N_UNSEEN, IMAGES_PER_CLASS = 12, 4, 20
DIM_TEXT, DIM_VISUAL = 8, 24
NOISE = 0.3
ENOUGH = 0.6
"""Accuracy on unseen classes. Here ridge, ESZSL, SAE, Visual and DeViSE have 1.0,
and chance is 0.25."""


def check_projection(
    projection: Projection, *, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Check that a projection keeps the contract of `Projection`.

    Clones of it are fitted some twenty times, on 240 images of 24 features; words are
    as long where it says ``one_space``. What is optional is checked where it is there:
    ``transform_labels``, ``class_points_``, ``partial_fit``, and ``pretrained`` of
    `fit`.

    Parameters
    ----------
    projection : Projection
        An object, not its class, defined where pickle finds it (not in a function).
        Where it has ``random_state``, that is set to 0 in the clones.
    expected_failures : mapping of str to str, optional
        Names of checks that fail on purpose, with the reason. A listed check that
        passes is an error.

    Raises
    ------
    PluginContractError
        By the first check that fails; names plugin, check, expected and got.
    ValueError
        If ``expected_failures`` names no check.

    Examples
    --------
    >>> from zeroshot.projections import Ridge
    >>> check_projection(Ridge())
    """
    kit.run(projection, projection_checks(), expected_failures)


def projection_checks() -> tuple[kit.Check, ...]:
    """Return the checks, functions of a projection, for ``pytest.mark.parametrize``.

    Returns
    -------
    checks : tuple of callable
        Each raises `PluginContractError` where the projection fails it.

    Examples
    --------
    >>> [check.__name__ for check in projection_checks()][:2]
    ['check_members', 'check_parameters']
    """
    return tuple(map(kit.reporting, _CHECKS))


def check_members(projection: Any) -> None:
    """`fit`, `transform` and scikit-learn's `get_params` and `set_params` are there."""
    kit.expect_members(projection, Projection)
    for member in ("get_params", "set_params"):
        kit.expect(
            hasattr(projection, member),
            f"{member}, as of a scikit-learn estimator",
            "none; inherit sklearn.base.BaseEstimator",
        )


def check_parameters(projection: Any) -> None:
    """``__init__`` and `set_params` store what they are given, and do no more."""
    kit.expect(
        clone(projection) is not projection,
        "sklearn.base.clone to return an unfitted copy",
        "the projection itself; leave out __sklearn_clone__",
    )
    parameters = projection.get_params(deep=False)
    for name in parameters:
        given = object()
        for made, how in (
            (type(projection)(**{**parameters, name: given}), "__init__"),
            (clone(projection).set_params(**{name: given}), "set_params"),
        ):
            stored = getattr(made, name, None)
            expected = f"{how} to store '{name}' as it is given"
            kit.expect(stored is given, expected, kit.describe(stored))


def check_fit(projection: Any) -> None:
    """`fit` returns the projection itself and leaves its parameters alone."""
    fresh = _fresh(projection)
    before = fresh.get_params(deep=False)
    X, y, T = _problem(projection).seen
    fitted = fresh.fit(X, y, class_embeddings=T)
    kit.expect(fitted is fresh, "fit to return self", kit.describe(fitted))
    for name, value in fresh.get_params(deep=False).items():
        kit.expect(
            value is before[name], f"fit to leave '{name}' alone", kit.describe(value)
        )


def check_fit_again(projection: Any) -> None:
    """A second `fit` starts anew: nothing is left of the first."""
    X, y, T = _problem(projection).seen
    few = y < N_SEEN // 3
    fitted = _fresh(projection).fit(X[few], y[few], class_embeddings=T)
    fitted.fit(X, y, class_embeddings=T)
    kit.expect_same(
        fitted.transform(X),
        _fitted(projection).transform(X),
        "the same points from a second fit as from a first",
    )


def check_points(projection: Any) -> None:
    """Points are float32, finite, of one length, for 5 images, 1 and none.

    Without ``transform_labels`` that is ``dim_text``.
    """
    fitted, X = _fitted(projection), _problem(projection).seen.X
    for n in (5, 1, 0):
        _expect_points(fitted, fitted.transform(X[:n]), n, f"transform of {n} rows")


def check_labels(projection: Any) -> None:
    """``transform_labels`` returns points as long as those of images, float32, finite.

    For 5 labels, 1 and none; before `fit` it raises ``NotFittedError``.
    """
    if not isinstance(projection, SupportsLabels):
        return
    fitted, T = _fitted(projection), _problem(projection).seen.class_embeddings
    for n in (5, 1, 0):
        points = fitted.transform_labels(T[:n])
        _expect_points(fitted, points, n, f"transform_labels of {n} rows")
    before = T.copy()
    fitted.transform_labels(T)
    changed = int(np.count_nonzero(before != T))
    kit.expect(
        changed == 0,
        "transform_labels to leave class_embeddings alone",
        f"{changed} changed numbers",
    )
    try:
        got = _fresh(projection).transform_labels(T)
    except NotFittedError:
        return
    expected = "transform_labels before fit to raise NotFittedError"
    # One that leaves words where they are has learnt nothing that could be missing.
    kit.expect(np.array_equal(got, T), expected, kit.describe(got))


def check_labels_independent(projection: Any) -> None:
    """The point of a label depends on its own row only."""
    if not isinstance(projection, SupportsLabels):
        return
    fitted, T = _fitted(projection), _problem(projection).unseen.class_embeddings
    one_by_one = [fitted.transform_labels(T[i : i + 1]) for i in range(len(T))]
    kit.expect_same(
        fitted.transform_labels(T),
        np.concatenate(one_by_one),
        "the point of a label to be the same in a list and alone",
    )


def check_class_points(projection: Any) -> None:
    """``class_points_`` has a finite row for each class, as long as other points."""
    fitted = _fitted(projection)
    if isinstance(fitted, SupportsClassPoints):
        _expect_points(fitted, fitted.class_points_, N_SEEN, "class_points_")


def check_pretrained(projection: Any) -> None:
    """`fit` with ``pretrained`` learns from these classes alone, without any image."""
    if not learns_from_pretrained(projection):
        return
    X, y, T = _problem(projection).seen
    rows = np.stack([X[y == label].mean(axis=0) for label in range(N_SEEN)])
    zeros, names = np.zeros(N_SEEN, np.float32), np.full(N_SEEN, -1)
    pretrained = PretrainedClasses(T, rows, zeros, names)
    fitted = _fresh(projection)
    fitted.fit(X[:0], y[:0], class_embeddings=T, pretrained=pretrained)
    points = fitted.transform(X[:5])
    _expect_points(fitted, points, 5, "transform after fit without images")
    if isinstance(fitted, SupportsClassPoints):
        points, call = fitted.class_points_, "class_points_ after fit without images"
        _expect_points(fitted, points, N_SEEN, call)
    accuracy = _accuracy(fitted)
    kit.expect(
        accuracy >= ENOUGH,
        f"an accuracy of {ENOUGH} from the pretrained classes of an easy problem",
        f"{accuracy:.2f} (chance: {1 / N_UNSEEN})",
    )


def check_partial_fit(projection: Any) -> None:
    """Learning in two parts is learning at once, also where classes come between.

    That is, with the choices of the first part (``choices_``, if it has them).
    """
    if not isinstance(projection, SupportsPartialFit):
        return
    X, y, T = _problem(projection).seen
    is_first = (y % 3 != 1) & (np.arange(len(y)) % 2 == 0)
    places, rows = np.unique(y[is_first], return_inverse=True)
    fitted = _fresh(projection)
    fitted.fit(X[is_first], rows, class_embeddings=T[places])
    choices = getattr(fitted, "choices_", {})
    got = fitted.partial_fit(
        X[~is_first],
        y[~is_first],
        class_embeddings=T,
        places=places,
        pretrained=None,
    )
    kit.expect(got is fitted, "partial_fit to return self", kit.describe(got))
    at_once = _fresh(projection).set_params(**choices).fit(X, y, class_embeddings=T)
    expected = "the same {} from fit and partial_fit as from one fit"
    kit.expect_same(
        normalize(fitted.transform(X)),
        normalize(at_once.transform(X)),
        expected.format("points"),
    )
    unseen = _problem(projection).unseen.class_embeddings
    kit.expect_same(
        label_points(fitted, unseen),
        label_points(at_once, unseen),
        expected.format("points of labels"),
    )
    if isinstance(at_once, SupportsClassPoints):
        kit.expect_same(
            fitted.class_points_,
            at_once.class_points_,
            expected.format("class_points_"),
        )


def check_float_types(projection: Any) -> None:
    """Features may be float64 and float32; points are float32 for both."""
    X, y, T = _problem(projection).seen
    for fitted_on, given in ((np.float64, np.float32), (np.float32, np.float64)):
        fitted = _fresh(projection)
        fitted.fit(X.astype(fitted_on), y, class_embeddings=T.astype(fitted_on))
        points = fitted.transform(X[:2].astype(given))
        call = f"transform of {np.dtype(given)}, after fit of {np.dtype(fitted_on)},"
        _expect_points(fitted, points, 2, call)


def check_inputs_unchanged(projection: Any) -> None:
    """`fit` and `transform` leave the caller's arrays alone."""
    given, before = _problem(projection).seen, _problem(projection).seen
    fitted = _fresh(projection)
    fitted.fit(given.X, given.y, class_embeddings=given.class_embeddings)
    for name, now, then in zip(before._fields, given, before, strict=True):
        changed = int(np.count_nonzero(now != then))
        kit.expect(
            changed == 0, f"fit to leave {name} alone", f"{changed} changed numbers"
        )
    X = before.X.copy()
    fitted.transform(X)
    changed = int(np.count_nonzero(before.X != X))
    kit.expect(changed == 0, "transform to leave X alone", f"{changed} changed numbers")


def check_deterministic(projection: Any) -> None:
    """Two fits with one ``random_state`` give the same points."""
    first, second = _fitted(projection), _fitted(projection)
    kit.expect_same(
        second.transform(_problem(projection).seen.X),
        first.transform(_problem(projection).seen.X),
        "the same points from two fits with the same random_state",
    )


def check_rows_independent(projection: Any) -> None:
    """A point depends on its own row only: order is kept, batch norm is frozen."""
    fitted, X = _fitted(projection), _problem(projection).seen.X
    one_by_one = [fitted.transform(X[i : i + 1]) for i in range(4)]
    kit.expect_same(
        fitted.transform(X[:4]),
        np.concatenate(one_by_one),
        "the point of an image to be the same in a batch and alone",
    )


def check_not_fitted(projection: Any) -> None:
    """`transform` before `fit` raises scikit-learn's ``NotFittedError``."""
    try:
        got = _fresh(projection).transform(_problem(projection).seen.X)
    except NotFittedError:
        return
    kit.expect(False, "transform before fit to raise NotFittedError", kit.describe(got))


def check_wrong_width(projection: Any) -> None:
    """Features of another width than in `fit` raise ``ValueError``."""
    fitted = _fitted(projection)
    for width in (DIM_VISUAL - 1, DIM_VISUAL + 1):
        try:
            got = fitted.transform(np.ones((2, width), np.float32))
        except ValueError:
            continue
        expected = f"transform of {width} features to raise ValueError, after fit of"
        kit.expect(False, f"{expected} {DIM_VISUAL}", kit.describe(got))


def check_learns(projection: Any) -> None:
    """It finds classes without training images, where features are linear in words."""
    accuracy = _accuracy(_fitted(projection))
    kit.expect(
        accuracy >= ENOUGH,
        f"an accuracy of {ENOUGH} on {N_UNSEEN} unseen classes of an easy problem",
        f"{accuracy:.2f} (chance: {1 / N_UNSEEN})",
    )


def check_pickle(projection: Any) -> None:
    """A fitted projection gives the same points after pickling."""
    X = _problem(projection).seen.X
    kit.expect_same_unpickled(_fitted(projection), lambda fitted: fitted.transform(X))


_CHECKS = (
    check_members,
    check_parameters,
    check_fit,
    check_points,
    check_labels,
    check_labels_independent,
    check_class_points,
    check_float_types,
    check_inputs_unchanged,
    check_deterministic,
    check_fit_again,
    check_rows_independent,
    check_not_fitted,
    check_wrong_width,
    check_learns,
    check_pretrained,
    check_partial_fit,
    check_pickle,
)


def _fresh(projection: Any) -> Any:
    fresh = clone(projection)
    if "random_state" in fresh.get_params(deep=False):
        fresh.set_params(random_state=0)
    return fresh


def _fitted(projection: Any) -> Any:
    fresh = _fresh(projection)
    X, y, T = _problem(projection).seen
    fresh.fit(X, y, class_embeddings=T)
    return fresh


def _expect_points(fitted: Any, points: Any, n: int, call: str) -> None:
    """Fail unless those are n finite points, in the space of labels."""
    one = _problem(fitted).seen.class_embeddings[:1]
    if isinstance(fitted, SupportsLabels):
        one = fitted.transform_labels(one)
    dim = one.shape[-1]
    kit.expect_array(points, (n, dim), np.float32, call)
    bad = int(np.count_nonzero(~np.isfinite(points)))
    kit.expect(bad == 0, f"{call} to return finite numbers", f"{bad} that are not")


def _accuracy(fitted: Any) -> float:
    """Return the accuracy on the unseen classes."""
    X, y, T = _problem(fitted).unseen
    scores = normalize(fitted.transform(X)) @ label_points(fitted, T).T
    return float((scores.argmax(axis=1) == y).mean())


class _Images(NamedTuple):
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    class_embeddings: NDArray[np.float32]


class _Problem(NamedTuple):
    seen: _Images
    unseen: _Images


def _problem(projection: Any) -> _Problem:
    """Return an easy problem, the same numbers in new arrays each time.

    For a projection in one space (``one_space``), words are as long as features.
    """
    random = np.random.default_rng(0)
    n_classes = N_SEEN + N_UNSEEN
    T = normalize(random.standard_normal((n_classes, DIM_TEXT)))
    y = np.repeat(np.arange(n_classes), IMAGES_PER_CLASS)
    turn = random.standard_normal((DIM_TEXT, DIM_VISUAL))
    if getattr(projection, "one_space", False):
        T = normalize(T @ turn)
        turn = np.eye(DIM_VISUAL)
    X = (T @ turn)[y]
    X += NOISE * random.standard_normal(X.shape)
    X, T = X.astype(np.float32), T.astype(np.float32)
    order = random.permutation(N_SEEN * IMAGES_PER_CLASS)
    n = len(order)
    return _Problem(
        _Images(X[order], y[order], T[:N_SEEN].copy()),
        _Images(X[n:].copy(), y[n:] - N_SEEN, T[N_SEEN:].copy()),
    )
