"""Class-disjoint splits: what is called unseen is really left out of training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import LabelError

__all__ = ["ZeroShotSplit", "hold_out_classes", "zero_shot_splits"]


@dataclass(frozen=True)
class ZeroShotSplit:
    """One division of labelled images for zero-shot evaluation.

    Attributes
    ----------
    seen, unseen : ndarray of shape (n_classes,)
        The class labels of either kind, sorted; disjoint.
    train : ndarray of shape (n,), int
        Positions of the training images, of seen classes.
    seen_test, unseen_test : ndarray of shape (n,), int
        Positions of the test images of seen and of unseen classes.
    """

    seen: NDArray[Any]
    unseen: NDArray[Any]
    train: NDArray[np.intp]
    seen_test: NDArray[np.intp]
    unseen_test: NDArray[np.intp]


def hold_out_classes(
    labels: Sequence[Any] | NDArray[Any], share: float = 0.2, random_state: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Choose the classes to leave out of training.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels of images; classes may repeat.
    share : float, default=0.2
        Share of the classes to hold out, in (0, 1); rounded, at least one.
    random_state : int, default=0
        Seed.

    Returns
    -------
    seen, unseen : ndarray
        Class labels, sorted. At least 2 are seen and 1 unseen.

    Raises
    ------
    LabelError
        If there are too few classes for that.

    Examples
    --------
    >>> seen, unseen = hold_out_classes(["cat", "dog", "emu", "fox"], share=0.25)
    >>> len(seen), len(unseen)
    (3, 1)
    """
    classes = np.unique(np.asarray(labels))
    n_unseen = max(1, round(share * len(classes))) if 0 < share < 1 else 0
    if n_unseen == 0 or len(classes) - n_unseen < 2:
        raise LabelError(
            f"Expected to hold out a share in (0, 1) of the classes and keep at least "
            f"2 for training. Got share {share} of {len(classes)} classes. Give images "
            f"of more classes, or hold out fewer."
        )
    shuffled = np.random.default_rng(random_state).permutation(classes)
    return np.sort(shuffled[n_unseen:]), np.sort(shuffled[:n_unseen])


def zero_shot_splits(
    labels: Sequence[Any] | NDArray[Any],
    n_splits: int = 5,
    *,
    unseen: float = 0.2,
    seen_test: float = 0.2,
    random_state: int = 0,
) -> Iterator[ZeroShotSplit]:
    """Yield seeded splits into training, seen test and unseen test images.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Label of each image.
    n_splits : int, default=5
        How many. Split ``i`` holds out the classes that `hold_out_classes` chooses
        with ``random_state + i``.
    unseen : float, default=0.2
        Share of the classes held out, in (0, 1).
    seen_test : float, default=0.2
        Share of each seen class's images kept for testing, in (0, 1); at least one
        image, and at least one is trained on.
    random_state : int, default=0
        Seed.

    Yields
    ------
    split : ZeroShotSplit

    Raises
    ------
    LabelError
        If there are too few classes, a class has a single image, or a share or
        ``n_splits`` is out of range.
    """
    if n_splits < 1 or not 0 < seen_test < 1:
        raise LabelError(
            f"Expected n_splits >= 1 and seen_test in (0, 1). Got {n_splits!r} and "
            f"{seen_test!r}."
        )
    y = np.asarray(labels)
    classes, counts = np.unique(y, return_counts=True)
    if (counts < 2).any():
        single = ", ".join(repr(c) for c in classes[counts < 2][:10].tolist())
        raise LabelError(
            f"Expected at least 2 images of every class, to train and to test on. Got "
            f"one of {single}. Add images or leave those classes out."
        )
    for seed in range(random_state, random_state + n_splits):
        seen, held_out = hold_out_classes(y, unseen, seed)
        random = np.random.default_rng(seed)
        train, test = [], []
        for label in seen:
            positions = random.permutation(np.flatnonzero(y == label))
            n_test = min(max(1, round(seen_test * len(positions))), len(positions) - 1)
            test.append(positions[:n_test])
            train.append(positions[n_test:])
        yield ZeroShotSplit(
            seen,
            held_out,
            np.sort(np.concatenate(train)),
            np.sort(np.concatenate(test)),
            np.flatnonzero(np.isin(y, held_out)),
        )
