"""The whole batch at once: every label's point is moved to the images that answer it.

A label's point is a guess, made from words. The images of a batch lie in groups, and a
group as a whole is easier to name than one image of it. So labels and images explain
each other in turn, as in expectation maximisation for directions on a sphere [1]_:

- An image i answers label c by ``R = softmax(Z)`` over the labels,
  ``Z = (a S / std(S) + (1 - a) V / std(V)) / t + g log(D)``. S are the scores of the
  labels and V the cosines of the images with the labels' prototypes.
- A label's prototype is the direction of ``sum_i R_ic x_i + k l_c``: the images that
  answer it, and its own point l_c as if it were k images (the statistical anchor of
  [3]_: a label that nothing answers stays where it was). The mean training image of a
  seen class is added to it.
- D is a prior that is learnt, as the shares of labels in [2]_, but among labels that
  answer like images: ``D_c = N_c / sum_b sim(c, b) N_b`` with ``N = sum_i R_i`` and
  ``sim = max(cosine of the means of what answers c and b, 0) ** 2``. Of several
  labels that divide one group of images the largest takes it; a small group that lies
  by itself keeps its label. (With plain shares, classes of 3 images beside one of 40
  lost 60 points.)

How the first R is found and what g is decide whether this helps or harms:

- It starts from scores that are averaged over neighbours: the labels are propagated
  over the graph of mutual nearest neighbours within the batch, solving
  ``(I - w B) R = (1 - w) softmax(S / std(S) / t)`` with ``B = D^-1/2 A D^-1/2`` [4]_
  [5]_. This pulls no image to a label that its neighbours do not have.
- g follows how many of the labels seem to be present: the exponential of the entropy
  of the shares of best answers (with the correction of [6]_ for few images), before and
  after propagation. Where all are, g is 0, and every label finds its images. Where
  few are, a large g lets a group of images have one label instead of many: without it
  a batch of one class among ten was spread over all ten.

What is learnt is one new point and one offset for each label (`LearntBatch`), so an
image's answer depends on the others only through these, and images that lie on many
machines are judged together by what was learnt on one. In the end R is mixed with the
image's own softmax: without that it is too sure of itself, and what comes second and
third is worse than before. Everything is learnt on `SAMPLE` images at most, evenly
chosen.

References
----------
.. [1] Banerjee et al., "Clustering on the Unit Hypersphere using von Mises-Fisher
   Distributions", JMLR 2005.
.. [2] Martin et al., "Transductive Zero-Shot and Few-Shot CLIP", CVPR 2024
   (EM-Dirichlet; its term that favours few classes).
.. [3] Zanella, Fuchs, De Vleeschouwer and Ben Ayed, "Realistic Test-Time Adaptation
   of Vision-Language Models", CVPR 2025 (StatA).
.. [4] Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2004.
.. [5] Stojnic, Kalantidis and Tolias, "Label Propagation for Zero-shot Classification
   with Vision-Language Models", CVPR 2024 (ZLaP).
.. [6] Miller, "Note on the bias of information estimates", 1955.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.special import logsumexp, softmax

from zeroshot.arrays import rows_times
from zeroshot.scoring.ranking import blocks, unit_points

__all__ = ["Adapted", "LearntBatch", "adapt", "learn_batch", "places", "sampled"]

# Chosen on Caltech and Tiny-ImageNet with two networks, on classes held out from the
# seen ones of other splits than those that are reported. Points are of per-class
# accuracy, over all numbers of classes and images. Each was varied alone, those before
# LIKENESS while D was still the plain share of a label; values near these do as well.
SHARPNESS = 0.3  # t: with 0.5 images stay between labels, -6 points; 0.2: -2
WORD_WEIGHT = 0.2  # a: 0.4 loses up to 1.5 points where all labels are present
ANCHOR = 1.0  # k: 0 loses 2 points; 3 gains with few labels, loses with few images
SEEN_ANCHOR = 1.0  # images; 10 lost up to 5 points of the seen classes
TURNS = 8  # 5 to 20: the same within 0.3 points
LIKENESS = 2  # exponent of sim; 1.5: -3 for classes of 3 images beside one of 40
ALL_PRESENT = 0.8  # share of the labels that look present, from where g is 0 ...
SPARSITY = 8.0  # ... g = SPARSITY * (ALL_PRESENT - share present) ...
MAX_SPARSITY = 4.0  # ... at most this; 3 loses 1 point where few labels are present
FLOOR = 0.01  # images that each label has in D, so that its logarithm is finite
MAX_NEIGHBOURS = 10  # 15: -3 in the worst cell of Tiny-ImageNet
TRUST = 1.5  # w = K / (K + TRUST) with K neighbours; w = 0.95: -10 with few images
DOUBT = 0.4  # in the mixture; of 0 to 0.5, 0.3 and 0.5 had the best likelihood
PASSES = 3  # of propagation: fewer labels are present than looked, so more neighbours
STEPS = 40  # of solving: the error falls by w <= 0.87 in each
TOLERANCE = 1e-3  # of a responsibility

MIN_IMAGES = 3  # two images say nothing about each other that their scores do not
SAMPLE = 8192  # images that are learnt from, at most ...
RESPONSIBILITIES = 2**23  # ... and at most so many of one image to one label (32 MB)
MAX_LABELS = 2048  # that take part: those which most images answer
MAX_COLUMNS = 32  # labels of an image whose scores change; all, if there are no more


@dataclass(frozen=True)
class LearntBatch:
    """What a batch says about labels: ``Z = X @ points.T + offset`` of its images X.

    Attributes
    ----------
    labels : ndarray of shape (k,), int
        Which labels take part.
    points : ndarray of shape (k, dim), float32
    offset : ndarray of shape (k,), float32
    """

    labels: NDArray[np.intp]
    points: NDArray[np.float32]
    offset: NDArray[np.float32]


@dataclass(frozen=True)
class Adapted:
    """What the scores of a batch become.

    Attributes
    ----------
    columns : ndarray of shape (n, k), int
        Labels whose scores change, for each image; k may be 0. No label is there twice.
    scores : ndarray of shape (n, k), float32
        Their new scores. NaN for an image whose point is not finite.
    others : float
        What is added to the scores of all other labels.
    """

    columns: NDArray[np.intp]
    scores: NDArray[np.float32]
    others: float = 0.0


def adapt(
    points: NDArray[np.float32],
    label_points: NDArray[np.float32],
    penalty: NDArray[np.float32],
    temperature: float,
    *,
    anchors: tuple[NDArray[np.float32], NDArray[Any]] | None = None,
    learnt: LearntBatch | None = None,
) -> Adapted:
    """Return the scores of a batch when its images are judged together.

    In a softmax, the mass that an image's old scores have for all labels is dealt out
    anew, a part of it, and does not change. So an image that belongs to no label is not
    drawn to the labels as a whole, against a background. Its best label alone does gain
    (mostly more than that of other images, whose best has less to gain), so "none of
    these" is to be decided by the mass of all labels or by the old scores.

    Parameters
    ----------
    points : ndarray of shape (n, dim), float32
        Images, of any length. A row of NaN takes no part.
    label_points : ndarray of shape (m, dim), float32
        Of unit length.
    penalty : ndarray of shape (m,), float32
        The score of image and label is their cosine less the label's penalty.
    temperature : float
        > 0, of the softmax of scores. What is learnt from the batch does not depend on
        it.
    anchors : tuple of ndarrays of shape (m, dim) and (m,), or None, default=None
        Mean point and number of the training images of each label; 0 images, and any
        point, for a label that was not seen in training. More images count no more:
        see `SEEN_ANCHOR`.
    learnt : LearntBatch or None, default=None
        What was learnt already from a batch that these images are a part of.

    Returns
    -------
    adapted : Adapted
        Of no column, so that nothing changes, for less than `MIN_IMAGES` finite images
        or two labels.

    Examples
    --------
    Two groups of images; two of the second are a little nearer to the first label.

    >>> import numpy as np
    >>> angles = np.radians([8, 9, 10, 11, 12, 43, 44, 46, 47, 48])
    >>> points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    >>> label_points = np.eye(2, dtype=np.float32)
    >>> adapted = adapt(points, label_points, np.zeros(2, np.float32), 0.1)
    >>> best = adapted.scores.argmax(axis=1)
    >>> np.take_along_axis(adapted.columns, best[:, None], 1).ravel()
    array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """
    n, m = len(points), len(label_points)
    if learnt is None:
        rows = sampled(places(points), m)
        learnt = learn_batch(points[rows], label_points, penalty, anchors=anchors)
    if learnt is None:
        return Adapted(np.empty((n, 0), np.intp), np.empty((n, 0), np.float32))
    labels, W, offset = learnt.labels, learnt.points, learnt.offset
    L, p = label_points[labels], penalty[labels]
    usable = np.flatnonzero(np.isfinite(points).all(axis=1))
    k = min(MAX_COLUMNS, len(labels))
    columns = np.tile(np.arange(k), (n, 1))
    new = np.full((n, k), np.nan, np.float32)
    for block in blocks(len(usable), 2 * len(labels), 2**21):
        rows = usable[block]
        X, _ = unit_points(points[rows])
        scores = (rows_times(X, L.T) - p) / np.float32(temperature)
        Z = rows_times(X, W.T) + offset
        mass = logsumexp(scores, axis=1, keepdims=True)
        if len(labels) < m:
            mass = _mass(X, label_points, penalty, temperature)
        if k < len(labels):
            both = softmax(Z, axis=1) + softmax(scores, axis=1)
            top = np.argpartition(-both, k - 1, axis=1)[:, :k]
            scores = np.take_along_axis(scores, top, axis=1)
            Z = np.take_along_axis(Z, top, axis=1)
            columns[rows] = labels[top]
        else:
            columns[rows] = labels
        Z -= logsumexp(Z, axis=1, keepdims=True)
        together = np.log(1 - DOUBT) + Z + mass
        new[rows] = temperature * np.logaddexp(together, np.log(DOUBT) + scores)
    # What the batch says nothing of has the image's own word, for what that counts.
    return Adapted(columns, new, float(temperature * np.log(DOUBT)))


def places(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return where images lie along a line that is always the same.

    Parameters
    ----------
    points : ndarray of shape (n, dim), float32

    Returns
    -------
    places : ndarray of shape (n,), float64
        NaN for a row that is not finite, and takes no part.
    """
    direction = np.random.default_rng(0).standard_normal(points.shape[1])
    place = np.full(len(points), np.nan)
    for block in blocks(len(points), points.shape[1], 2**21):
        X, is_finite = unit_points(points[block])
        place[block][is_finite] = (X * direction).sum(axis=1)[is_finite]
    return place


def sampled(places: NDArray[np.float64], n_labels: int) -> NDArray[np.intp]:
    """Return which images of a batch are learnt from, the same in whatever order.

    Parameters
    ----------
    places : ndarray of shape (n,), float64
        Of all images of the batch, as `places` gives them.
    n_labels : int

    Returns
    -------
    rows : ndarray of shape (n_sample,), int
        Evenly chosen, in the order of their places; none, where there are too few
        images or labels for anything to be learnt.
    """
    usable = np.flatnonzero(np.isfinite(places))
    if len(usable) < MIN_IMAGES or n_labels < 2:
        return usable[:0]
    usable = usable[np.argsort(places[usable], kind="stable")]
    size = min(SAMPLE, RESPONSIBILITIES // min(n_labels, MAX_LABELS))
    if len(usable) <= size:
        return usable
    return usable[np.linspace(0, len(usable) - 1, size).astype(np.intp)]


def learn_batch(
    points: NDArray[np.float32],
    label_points: NDArray[np.float32],
    penalty: NDArray[np.float32],
    *,
    anchors: tuple[NDArray[np.float32], NDArray[Any]] | None = None,
) -> LearntBatch | None:
    """Learn a new point and an offset for each label.

    Parameters
    ----------
    points : ndarray of shape (n, dim), float32
        Of the images that `sampled` chose, in that order.
    label_points, penalty, anchors : as for `adapt`

    Returns
    -------
    learnt : LearntBatch or None
        None where there are no images.
    """
    if not len(points):
        return None
    X, _ = unit_points(points)
    labels = _most_answered(X, label_points, penalty)
    L, p = label_points[labels], penalty[labels]
    prior = np.float32(ANCHOR) * L
    if anchors is not None:
        seen = np.flatnonzero(anchors[1][labels] > 0)
        prior[seen] += np.float32(SEEN_ANCHOR) * anchors[0][labels[seen]]
    return LearntBatch(labels, *_learn(X, L, p, prior))


def _mass(
    X: NDArray[np.float32],
    label_points: NDArray[np.float32],
    penalty: NDArray[np.float32],
    temperature: float,
) -> NDArray[np.float32]:
    """Return the log of what all labels have together in a softmax, (n, 1)."""
    total = np.full((len(X), 1), -np.inf, np.float32)
    for block in blocks(len(label_points), len(X), 2**21):
        scores = rows_times(X, label_points[block].T) - penalty[block]
        scores /= np.float32(temperature)
        part = logsumexp(scores, axis=1, keepdims=True)
        total = np.logaddexp(total, part).astype(np.float32)
    return total


def _most_answered(
    X: NDArray[np.float32],
    label_points: NDArray[np.float32],
    penalty: NDArray[np.float32],
) -> NDArray[np.intp]:
    """Return the labels that take part, at most `MAX_LABELS`, in their order."""
    m = len(label_points)
    if m <= MAX_LABELS:
        return np.arange(m)
    total = np.zeros(m)
    for block in blocks(len(X), m, 2**21):
        scores = X[block] @ label_points.T - penalty
        total += softmax(scores / _scale(scores), axis=1).sum(axis=0)
    return np.sort(np.argsort(-total, kind="stable")[:MAX_LABELS])


def _learn(
    X: NDArray[np.float32],
    L: NDArray[np.float32],
    penalty: NDArray[np.float32],
    prior: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a point and an offset for each label: ``Z = X @ points.T + offset``.

    ``X``: (n, dim), images of unit length. ``prior``: (m, dim), sums of points that
    each prototype has before any image of the batch.
    """
    m = len(L)
    S = X @ L.T - penalty
    word = np.float32(WORD_WEIGHT) / _scale(S)
    R = _propagated(X, S)
    present = (_n_present(S) + _n_present(R)) / (2 * m)
    sparsity = min(max(SPARSITY * (ALL_PRESENT - present), 0.0), MAX_SPARSITY)
    for _ in range(TURNS):
        images, counts = R.T @ X, R.sum(axis=0)
        means = _unit(images)
        alike = np.maximum(means @ means.T, 0) ** LIKENESS
        dominance = (counts + FLOOR) / (alike @ counts + m * FLOOR)
        bonus = np.float32(sparsity) * np.log(dominance)
        U = _unit(images + prior)
        V = X @ U.T
        image = np.float32(1 - WORD_WEIGHT) / _scale(V)
        V *= image
        V += word * S
        V += bonus
        R = softmax(V, axis=1)
    return word * L + image * U, bonus - word * penalty


def _scale(scores: NDArray[np.float32]) -> np.float32:
    """Return what divides scores before a softmax; not 0 where all are equal."""
    return np.float32(SHARPNESS * max(scores.std(), 1e-6))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at unit length; what is nothing stays it."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-30))
    return unit


def _propagated(X: NDArray[np.float32], S: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of scores, (n, m), averaged over neighbours.

    The number of neighbours follows the batch: images for each label that is present,
    as it seems from the answers so far. Ten are too many where a class has three.
    """
    from sklearn.neighbors import NearestNeighbors

    n = len(X)
    first = softmax(S / _scale(S), axis=1)
    most = min(MAX_NEIGHBOURS, n - 1)
    distances, near = (
        NearestNeighbors(n_neighbors=most, algorithm="brute").fit(X).kneighbors()
    )
    weights = np.maximum(1 - distances.astype(np.float32) ** 2 / 2, 0) ** 3
    R, before = first, 0
    for _ in range(PASSES):
        k = min(max(round(n / _n_present(R)), 1), most)
        if k <= before:
            break
        ends = np.arange(0, n * k + 1, k)
        graph = csr_array(
            (weights[:, :k].ravel(), near[:, :k].ravel(), ends), shape=(n, n)
        )
        graph = graph.minimum(graph.T)  # mutual neighbours
        degrees = graph @ np.ones(n, np.float32)
        scale = diags_array(1 / np.sqrt(np.maximum(degrees, 1e-9)))
        trust = np.float32(k / (k + TRUST))
        graph = (trust * (scale @ graph @ scale)).astype(np.float32).tocsr()
        R, before = _solve(graph, first * (1 - trust), R), k
        R /= np.maximum(R.sum(axis=1, keepdims=True), 1e-12)
    propagated: NDArray[np.float32] = R
    return propagated


def _solve(
    graph: csr_array, own: NDArray[np.float32], R: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the solution of ``R = graph @ R + own``, starting from R."""
    for _ in range(STEPS):
        after: NDArray[np.float32] = graph @ R
        after += own
        change = np.abs(after - R).max()
        R = after
        if change < TOLERANCE:
            break
    return R


def _n_present(answers: NDArray[np.float32]) -> float:
    """Return how many labels the images seem to have, from the best answer of each."""
    n = len(answers)
    counts = np.bincount(answers.argmax(axis=1))
    shares = counts[counts > 0] / n
    entropy = -(shares * np.log(shares)).sum() + (len(shares) - 1) / (2 * n)
    return float(np.exp(entropy))
