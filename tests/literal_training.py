"""Losses and training written out the slow, literal way, to compare ours with."""

import math

import numpy as np

from zeroshot.projections.moments import FLAT, FLAT_CLASSES


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def roots(X):
    X = X.astype(np.float64)
    return unit(np.sign(X) * np.sqrt(np.abs(X)))


def prepared(X, trained_on=None, beside_flat=0):
    """Return features as projections prepare them that were trained on those.

    ``beside_flat``: their classes, where there are pretrained ones too: then three more
    count, whose mean lies along the diagonal.
    """
    known = roots(X if trained_on is None else trained_on)
    mean = known.mean(axis=0)
    if beside_flat:
        diagonal = np.full(len(mean), FLAT / math.sqrt(len(mean)))
        mean = beside_flat * mean + FLAT_CLASSES * diagonal
        mean /= beside_flat + FLAT_CLASSES
    length = math.sqrt(np.square(known - mean).sum(axis=1).mean())
    return (roots(X) - mean) / length


def easy_problem():
    """Return images of 12 seen and 4 unseen classes, linear in the classes' vectors."""
    random = np.random.default_rng(0)
    T = unit(random.standard_normal((16, 8)))
    y = np.repeat(np.arange(16), 20)
    X = T[y] @ random.standard_normal((8, 24))
    X += 0.3 * random.standard_normal(X.shape)
    return X.astype(np.float32), y, T.astype(np.float32)


def adam(gradient_at, M, learning_rate, steps, decay=True):
    """Kingma and Ba 2015; the rate decays along a half cosine.

    As in Keras, epsilon is the paper's "epsilon hat" (end of its section 2), which
    stands beside the uncorrected root: entries of small gradient move less at first.
    """
    m, v, losses = 0.0, 0.0, []
    for step in range(steps):
        loss, g = gradient_at(M)
        losses.append(loss)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = learning_rate
        if decay:
            rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
        rate *= math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        M = M - rate * m / (np.sqrt(v) + 1e-7)
    return M, losses


def numerical_gradient(loss_at, M, step=1e-6):
    """Return the central differences of a loss in each entry of a matrix."""
    gradient = np.zeros_like(M)
    for index in np.ndindex(M.shape):
        ahead, behind = M.copy(), M.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (loss_at(ahead) - loss_at(behind)) / (2 * step)
    return gradient
