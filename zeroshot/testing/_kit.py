"""What the kits share: how a check reports, and how a list of checks is run."""

import difflib
import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone

from zeroshot.errors import PluginContractError

TOLERANCE = 1e-3
"""Largest difference that counts as none, as a share of the largest value.

A network adds in another order for another batch size. That moves features of
MobileNetV2 by 2e-7 on a CPU; a GPU that multiplies in TF32 keeps 10 bits, some 1e-3.
"""

Check = Callable[[Any], None]


class BrokenPromise(Exception):
    """What a check expected and got; the names are added by `reporting`."""


def expect(holds: object, expected: str, got: object) -> None:
    """Fail the running check unless ``holds`` is true."""
    if not holds:
        raise BrokenPromise(f"Expected {expected}. Got {got}.")


def reporting(check: Callable[..., None], **words: Sequence[str]) -> Check:
    """Return a check of the plugin alone, whose errors name both."""

    @functools.wraps(check)
    def reported(plugin: Any) -> None:
        where = f"{label(plugin)} fails {check.__name__}."
        try:
            expect(not isinstance(plugin, type), "an object", "its class")
            check(plugin, **words)
        except BrokenPromise as broken:
            raise PluginContractError(f"{where} {broken}") from None
        except Exception as error:  # a stranger's plugin may raise anything
            raise PluginContractError(
                f"{where} Expected no error. Got {type(error).__name__}: {error}"
            ) from error

    return reported


def run(
    plugin: object, checks: Sequence[Check], expected_failures: Mapping[str, str] | None
) -> None:
    """Run checks in order; those expected to fail must fail.

    Raises PluginContractError by the first check that fails, or passes against
    expectation; ValueError if ``expected_failures`` names no check.
    """
    known = [check.__name__ for check in checks]
    expected = dict(expected_failures or {})
    for name in expected:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ValueError(
                f"Expected names of checks in expected_failures. Got '{name}'.{hint} "
                f"Checks: {', '.join(known)}."
            )
    for check in checks:
        try:
            check(plugin)
        except PluginContractError:
            if check.__name__ not in expected:
                raise
        else:
            if check.__name__ in expected:
                raise PluginContractError(
                    f"{label(plugin)} passes {check.__name__}. Expected it to fail "
                    f"({expected[check.__name__]}). Remove it from expected_failures."
                )


def label(plugin: object) -> str:
    """Return how messages call a plugin: its name, where it has one, and its class."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    try:
        name = plugin.name  # type: ignore[attr-defined]
    except Exception:  # a projection has none, and a broken plugin may raise anything
        name = None
    where = f"'{kind.__qualname__}'"
    return f"'{name}' ({where})" if isinstance(name, str) else where


def describe(value: object) -> str:
    """Return type and shape of what came."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__} {value!r:.60}"


def expect_array(
    value: Any, shape: tuple[int, ...], dtype: type[np.generic], call: str
) -> None:
    """Fail unless ``value``, which ``call`` returned, has that shape and type."""
    expect(
        isinstance(value, np.ndarray) and value.shape == shape and value.dtype == dtype,
        f"{call} to return {np.dtype(dtype)} of shape {shape}",
        describe(value),
    )


def expect_same(got: Any, wanted: Any, expected: str) -> None:
    """Fail unless two arrays are equal but for rounding; NaN equals NaN."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    expect(got.shape == wanted.shape, expected, f"shapes {got.shape}, {wanted.shape}")
    distance = difference(got, wanted)
    expect(distance <= TOLERANCE, expected, f"a relative difference of {distance:.2g}")


def difference(a: Any, b: Any) -> float:
    """Return the largest difference as a share of the largest value; NaN equals NaN."""
    both_nan = np.isnan(a) & np.isnan(b)
    a, b = np.where(both_nan, 0, a), np.where(both_nan, 0, b)
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    # One NaN is as different as can be; two arrays of zeros are equal.
    return float(np.nan_to_num(np.abs(a - b).max(initial=0) / (scale or 1), nan=np.inf))


def expect_name_dim_fingerprint(plugin: Any) -> None:
    """Fail unless the facts that backbones and text embeddings state are usable."""
    for member in ("name", "fingerprint"):
        text = getattr(plugin, member)
        expect(isinstance(text, str) and text, f"{member} as text", describe(text))
    dim = plugin.dim
    expect(type(dim) is int and dim > 0, "dim as an int above 0", describe(dim))


def expect_members(plugin: object, contract: type) -> None:
    """Fail unless the plugin has every member of the contract."""
    members = [name for name in vars(contract) if not name.startswith("_")]
    missing = [name for name in members if not hasattr(plugin, name)]
    expect(
        not missing,
        f"the members of '{contract.__name__}': {', '.join(members)}",
        f"none called {', '.join(missing)}",
    )


def check_clone(plugin: object, known: object = None) -> None:
    """``clone`` of scikit-learn gives the plugin itself: nothing is loaded twice.

    A search clones its estimator for every candidate, and plugins never change.
    """
    expect(
        clone(plugin, safe=False) is plugin,
        "sklearn.base.clone to return the plugin itself",
        "a copy; write `def __sklearn_clone__(self): return self`",
    )


def expect_stable_fingerprint(plugin: Any, use: Callable[[Any], object]) -> None:
    """Fail unless the fingerprint is the same before and after use."""
    before = plugin.fingerprint
    use(plugin)
    after = plugin.fingerprint
    expect(after == before, f"the fingerprint {before!r} after use too", repr(after))


def expect_same_unpickled(plugin: Any, use: Callable[[Any], Any]) -> None:
    """Fail unless a plugin that went through pickle has the same result.

    Joblib sends plugins to its workers, and caches know them by their fingerprint.
    """
    wanted = use(plugin)
    unpickled = pickle.loads(pickle.dumps(plugin))
    expect_same(use(unpickled), wanted, "the same result after pickling")
    before, after = (getattr(each, "fingerprint", "") for each in (plugin, unpickled))
    expect(after == before, f"the fingerprint {before!r} after pickling", repr(after))
