"""The last layer of a classifier, found among the constants of its network."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from zeroshot.backbones.checked import are_probabilities

__all__ = ["dense_layer", "log_probabilities"]

# Of a logit, relative to the largest one. Formats and their runtimes add in other
# orders (1e-6), and half floats keep three digits.
TOLERANCE = 1e-3
SMALLEST = np.finfo(np.float32).tiny

Dense = tuple[NDArray[np.float32], NDArray[np.float32]]


def log_probabilities(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of probabilities; that of 0 is -87."""
    return np.log(np.maximum(rows, SMALLEST, dtype=np.float32))


def dense_layer(
    constants: Iterable[NDArray[Any]],
    features: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> Dense | None:
    """Return the kernel (dim, n) and the bias (n,) that make scores from features.

    They are looked for by their shapes and taken by what they compute: a file says in
    many ways that two nodes are one dense layer (a matrix product and a sum, a 1 x 1
    convolution, a kernel that is transposed, something between that changes nothing),
    but only the right kernel gives the scores of photographs.

    Parameters
    ----------
    constants : iterable of ndarray
        Arrays of the network, among them those of its last layer.
    features : ndarray of shape (n_images, dim), float32
    scores : ndarray of shape (n_images, n), float32
        What the network says of the same images: logits or their softmax.

    Returns
    -------
    dense : (ndarray, ndarray) or None
        None if no pair of constants gives the scores to 1e-3 of the largest: then the
        classifier is more than one dense layer.
    """
    shape = features.shape[1], scores.shape[1]
    of_softmax = are_probabilities(scores)
    if of_softmax:
        scores = log_probabilities(scores)
    kernels, biases = [], []
    for constant in constants:
        array = np.squeeze(np.asarray(constant))
        for one in (array, array.T) if array.ndim == 2 else ():
            if one.shape == shape:
                kernels.append(np.ascontiguousarray(one, np.float32))
        if array.shape == scores.shape[1:]:
            biases.append(array.astype(np.float32))
    biases.append(np.zeros(shape[1], np.float32))
    best, smallest = None, TOLERANCE * np.abs(scores).max(initial=0)
    with np.errstate(all="ignore"):  # a constant of the right shape may be anything
        for kernel in kernels:
            for bias in biases:
                got = features @ kernel + bias
                if of_softmax:
                    got = np.maximum(log_softmax(got, axis=1), np.log(SMALLEST))
                distance = np.abs(got - scores).max()
                if distance < smallest:  # not so where one is NaN
                    best, smallest = (kernel, bias), distance
    return best
