"""How good a zero-shot classifier is, in the measures of the field."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["harmonic_mean", "hit_at_k", "per_class_accuracy"]


def hit_at_k(
    scores: NDArray[np.floating[Any]], true_index: NDArray[np.integer[Any]], k: int
) -> NDArray[np.bool_]:
    """Tell for each image whose true label is among its k best candidates.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_candidates)
        Higher is better.
    true_index : ndarray of shape (n_images,), int
        Column of the true label.
    k : int
        Cut-off, 1 <= k <= n_candidates. A tie with the true label counts against it,
        and so does NaN.

    Returns
    -------
    hits : ndarray of shape (n_images,), bool
        Their mean is flat hit@k; `per_class_accuracy` takes them too.

    Raises
    ------
    ValueError
        If ``k`` is out of range.

    References
    ----------
    .. [1] Frome et al., "DeViSE", NeurIPS 2013 (flat hit@k).

    Examples
    --------
    >>> import numpy as np
    >>> hit_at_k(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), k=1)
    array([ True, False])
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"Expected 1 <= k <= {scores.shape[1]} candidates. Got {k}.")
    true_score = np.take_along_axis(scores, true_index[:, None], axis=1)
    rank: NDArray[np.intp] = (~(scores < true_score)).sum(axis=1)
    return rank <= k


def per_class_accuracy(y_true: NDArray[Any], correct: NDArray[np.bool_]) -> float:
    """Return the mean over classes of the share of correct images.

    Parameters
    ----------
    y_true : ndarray of shape (n_images,)
        True labels; the classes in it are averaged over.
    correct : ndarray of shape (n_images,), bool
        Whether each image was right.

    Returns
    -------
    accuracy : float
        In [0, 1]; every class counts the same, however many images it has.

    References
    ----------
    .. [1] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good,
       the Bad and the Ugly", TPAMI 2018, section 4 (average per-class top-1 accuracy).

    Examples
    --------
    >>> import numpy as np
    >>> per_class_accuracy(np.array(["a", "a", "b"]), np.array([True, False, False]))
    0.25
    """
    _, index, counts = np.unique(y_true, return_inverse=True, return_counts=True)
    return float((np.bincount(index, weights=correct) / counts).mean())


def harmonic_mean(seen: float, unseen: float) -> float:
    """Return ``H = 2 S U / (S + U)``, 0 where both are 0.

    Parameters
    ----------
    seen, unseen : float
        Per-class accuracies of the seen (S) and unseen (U) classes, candidates being
        both.

    Returns
    -------
    h : float
        In [0, 1].

    References
    ----------
    .. [1] Xian et al., TPAMI 2018, section 4 (harmonic mean).

    Examples
    --------
    >>> harmonic_mean(0.6, 0.2)
    0.3
    """
    return 0.0 if seen + unseen == 0 else 2 * seen * unseen / (seen + unseen)
