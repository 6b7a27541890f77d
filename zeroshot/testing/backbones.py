"""The conformance kit for backbones."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import (
    Backbone,
    ClassifierHead,
    SupportsClassifierHead,
    SupportsLogits,
)
from zeroshot.errors import NoClassifierError
from zeroshot.testing import _kit as kit

__all__ = ["backbone_checks", "check_backbone"]

INVISIBLE = {
    "the mean of the channels and Rec. 601": (-64, 25, 39),
    "Rec. 601 and Rec. 709": (-44, 3, 100),
}
"""Changes of RGB, each hidden from the two rules it is named after for making grey."""


def check_backbone(
    backbone: Backbone, *, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Check that a backbone keeps the contract of `zeroshot.backbones.Backbone`.

    Some 40 images are embedded.

    Parameters
    ----------
    backbone : Backbone
        An object, not its class, defined where pickle finds it (not in a function).
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
    >>> from zeroshot.backbones import ColorHOG
    >>> check_backbone(ColorHOG())
    """
    kit.run(backbone, backbone_checks(), expected_failures)


def backbone_checks() -> tuple[kit.Check, ...]:
    """Return the checks, functions of a backbone, for ``pytest.mark.parametrize``.

    Returns
    -------
    checks : tuple of callable
        Each raises `PluginContractError` where the backbone fails it.

    Examples
    --------
    >>> [check.__name__ for check in backbone_checks()][:2]
    ['check_members', 'check_features']
    """
    return tuple(map(kit.reporting, _CHECKS))


def check_members(backbone: Backbone) -> None:
    """All members are there, and those that are facts are of the right kind."""
    kit.expect_members(backbone, Backbone)
    kit.expect_name_dim_fingerprint(backbone)
    size = backbone.input_size
    kit.expect(
        isinstance(size, tuple)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size),
        "input_size as (height, width), two ints above 0",
        repr(size),
    )


def check_features(backbone: Backbone) -> None:
    """Features have shape (n, dim), float32, finite, for 5 images, 1 and none."""
    for n in (5, 1, 0):
        features = backbone.embed(_images(backbone, n))
        call = f"embed of {n} images"
        kit.expect_array(features, (n, backbone.dim), np.float32, call)
        bad = int(np.count_nonzero(~np.isfinite(features)))
        kit.expect(bad == 0, f"{call} to return finite numbers", f"{bad} that are not")


def check_input_unchanged(backbone: Backbone) -> None:
    """The caller's images are as before; ``preprocess_input`` of Keras changes them."""
    images = _images(backbone, 2)
    before = images.copy()
    backbone.embed(images)
    changed = int(np.count_nonzero(images != before))
    kit.expect(
        changed == 0, "embed to leave its input alone", f"{changed} changed pixels"
    )


def check_deterministic(backbone: Backbone) -> None:
    """The same images give the same features: dropout is off."""
    images = _images(backbone, 3)
    first = backbone.embed(images).copy()
    kit.expect_same(
        backbone.embed(images), first, "the same features for the same images, twice"
    )


def check_rows_independent(backbone: Backbone) -> None:
    """A row depends on its own image only: order is kept, batch norm is frozen."""
    images = _images(backbone, 4)
    one_by_one = [backbone.embed(images[i : i + 1]) for i in range(len(images))]
    kit.expect_same(
        backbone.embed(images),
        np.concatenate(one_by_one),
        "the features of an image to be the same in a batch and alone",
    )


def check_sees_color(backbone: Backbone) -> None:
    """Images that differ in colour only have different features."""
    height, width = backbone.input_size
    grey = np.rint(_images(backbone, 1).mean(axis=3, keepdims=True) / 6) + 108
    for rules, change in INVISIBLE.items():
        tint = np.zeros((height, width, 3))
        tint[:, : (width + 1) // 2] = change
        pair = [(grey + sign * tint).astype(np.uint8) for sign in (1, -1)]
        distance = kit.difference(*map(backbone.embed, pair))
        kit.expect(
            distance > kit.TOLERANCE,
            f"other features for colours that {rules} make the same grey",
            f"a relative difference of {distance:.2g}",
        )


def check_fingerprint(backbone: Backbone) -> None:
    """The fingerprint is the same before and after use."""
    kit.expect_stable_fingerprint(backbone, lambda b: b.embed(_images(b, 2)))


def check_pickle(backbone: Backbone) -> None:
    """Unpickled, as in joblib's workers, features and fingerprint are the same."""
    kit.expect_same_unpickled(backbone, lambda b: b.embed(_images(b, 2)))


def check_classifier_head(backbone: Backbone) -> None:
    """The classifier, where there is one, fits the features, and stays the same."""
    head = _head_of(backbone)
    again = _head_of(backbone)
    if head is None or again is None:
        kit.expect(head is again, "the same classifier, twice", "one, and none")
        return
    kit.expect(
        again.class_names == head.class_names,
        "the same names of classes, twice",
        f"others: {again.class_names!r:.60}",
    )
    if head.weights is not None:
        shape = (backbone.dim, len(head.class_names))
        kit.expect_array(head.weights, shape, np.float32, "weights of classifier_head")
    for first, second in ((head.weights, again.weights), (head.bias, again.bias)):
        if first is not None or second is not None:
            kit.expect_same(second, first, "the same classifier, twice")


def check_logits(backbone: Backbone) -> None:
    """Logits, where there are any, are the classifier's, each of its own image."""
    head = _head_of(backbone)
    if head is None or not isinstance(backbone, SupportsLogits):
        return
    images = _images(backbone, 3)
    logits = backbone.logits(images).copy()
    one_by_one = [backbone.logits(images[i : i + 1]) for i in range(len(images))]
    none = backbone.logits(images[:0])
    for got, n in ((logits, 3), *((each, 1) for each in one_by_one), (none, 0)):
        shape = (n, len(head.class_names))
        kit.expect_array(got, shape, np.float32, f"logits of {n} images")
    bad = int(np.count_nonzero(~np.isfinite(logits)))
    kit.expect(bad == 0, "logits to return finite numbers", f"{bad} that are not")
    kit.expect_same(
        logits,
        np.concatenate(one_by_one),
        "the logits of an image to be the same in a batch and alone",
    )
    if head.weights is not None:
        kit.expect_same(
            logits,
            head.logits(backbone.embed(images)),
            "logits to be embed(images) @ weights + bias",
        )


_CHECKS: tuple[Callable[..., None], ...] = (
    check_members,
    check_features,
    check_input_unchanged,
    check_deterministic,
    check_rows_independent,
    check_sees_color,
    kit.check_clone,
    check_fingerprint,
    check_pickle,
    check_classifier_head,
    check_logits,
)


def _head_of(backbone: Backbone) -> ClassifierHead | None:
    """Return the classifier, or None where the backbone has none, or says so."""
    if not isinstance(backbone, SupportsClassifierHead):
        return None
    try:
        head = backbone.classifier_head()
    except NoClassifierError:
        return None
    kit.expect(
        isinstance(head, ClassifierHead),
        "classifier_head to return a ClassifierHead",
        kit.describe(head),
    )
    return head


def _images(backbone: Backbone, n: int) -> NDArray[np.uint8]:
    """Return blocks of random colours, the same ones each time."""
    height, width = backbone.input_size
    blocks = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    images: NDArray[np.uint8] = blocks[:, rows][:, :, columns]
    return images
