"""What the paper compares with: a softmax classifier of the seen classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.projections import ConSE

__all__ = ["softmax_baseline"]


def softmax_baseline(
    train: NDArray[np.float32], y: NDArray[Any], test: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Train a softmax classifier on the seen classes and return its probabilities.

    It can never name an unseen class. How it does on seen ones says what the features
    can tell apart; its hierarchical precision on images of unseen classes, what one has
    without word vectors (DeViSE, section 4.1).

    Takes features (n_train, dim_visual) with their labels, at least 2 different ones,
    and features of other images. Returns (n_test, n_seen), float32, in the order of the
    sorted labels; rows sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> softmax_baseline(X, np.array(["cat", "dog", "emu"]), X).argmax(axis=1)
    array([0, 1, 2])
    """
    seen, index = np.unique(y, return_inverse=True)
    # ConSE begins with this classifier; with axes for embeddings it ends with it too.
    axes = np.eye(len(seen), dtype=np.float32)
    conse = ConSE(top=len(seen)).fit(train, index, class_embeddings=axes)
    return conse.transform(test)
