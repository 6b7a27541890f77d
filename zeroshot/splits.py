"""Class-disjoint splits: what is called unseen is really left out of training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator

from zeroshot.errors import LabelError

__all__ = [
    "ClassDisjointKFold",
    "ZeroShotSplit",
    "hold_out_classes",
    "zero_shot_splits",
]


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
        is_test = np.zeros(len(y), dtype=bool)
        for label in seen:
            positions = random.permutation(np.flatnonzero(y == label))
            n_test = min(max(1, round(seen_test * len(positions))), len(positions) - 1)
            is_test[positions[:n_test]] = True
        train = np.flatnonzero(np.isin(y, seen) & ~is_test)
        unseen_test = np.flatnonzero(np.isin(y, held_out))
        yield ZeroShotSplit(seen, held_out, train, np.flatnonzero(is_test), unseen_test)


class ClassDisjointKFold(BaseCrossValidator):
    """Folds of classes: each class is in the test set once, and then not in training.

    A scikit-learn splitter, for ``cv=`` of `GridSearchCV`, `cross_val_score` and the
    like. What it measures is how well classes are named that were not trained on, so it
    is the way to choose parameters of a zero-shot classifier. Without candidates of its
    own `ZeroShotClassifier.score`, which is used without ``scoring=``, chooses among
    the held-out classes of each fold, and so does `zeroshot.metrics.zero_shot_scorer`.
    A scoring named by a string, such as ``"accuracy"``, is always 0: it asks among the
    classes of training, unless the classifier was made with ``candidate_labels``.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of classes.
    random_state : int or None, default=0
        Seeds the shuffling of the classes. None keeps them in sorted order.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array(["cat", "cat", "dog", "dog", "emu", "emu"])
    >>> for train, test in ClassDisjointKFold(3).split(y, y):
    ...     print(y[train], y[test])
    ['cat' 'cat' 'dog' 'dog'] ['emu' 'emu']
    ['dog' 'dog' 'emu' 'emu'] ['cat' 'cat']
    ['cat' 'cat' 'emu' 'emu'] ['dog' 'dog']
    """

    def __init__(self, n_splits: int = 5, *, random_state: int | None = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored; scikit-learn passes them.

        Returns
        -------
        n_splits : int
        """
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the positions of training and test images of each fold.

        Parameters
        ----------
        X : sized
            Images or features; not looked at.
        y : array-like of shape (n,)
            Label of each image.
        groups : object
            Ignored.

        Yields
        ------
        train, test : ndarray, int
            Positions, ascending; no class is in both.

        Raises
        ------
        LabelError
            If there are fewer classes than folds, or a fold would leave fewer than 2
            to train on, or ``n_splits`` is less than 2.
        """
        if y is None:
            raise LabelError(
                "Expected y: the folds are made of its classes. Got None. Give the "
                "label of each image."
            )
        labels, index = np.unique(np.asarray(y), return_inverse=True)
        largest = -(-len(labels) // max(self.n_splits, 1))
        if not 2 <= self.n_splits <= len(labels) or len(labels) - largest < 2:
            raise LabelError(
                f"Expected 2 <= n_splits <= the number of classes, and at least 2 "
                f"classes left to train on. Got n_splits={self.n_splits} and "
                f"{len(labels)} classes. Give images of more classes, or another "
                f"n_splits."
            )
        order = np.arange(len(labels))
        if self.random_state is not None:
            order = np.random.default_rng(self.random_state).permutation(order)
        for held_out in np.array_split(order, self.n_splits):
            is_test = np.isin(index, held_out)
            yield np.flatnonzero(~is_test), np.flatnonzero(is_test)
