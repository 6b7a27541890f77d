"""Sums over images from which a closed form is found; more images are added to them.

Prepared are signed square roots of the features (power normalisation [1]_), scaled to
unit length and then centred. Their mean and their products follow from sums of the
roots, so what is learnt from two batches is what is learnt from both at once, to
rounding. Centring first and scaling then is as accurate (docs/defaults.md), but has no
such sums.

References
----------
.. [1] Perronnin, Sanchez and Mensink, "Improving the Fisher kernel for large-scale
   image classification", ECCV 2010.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk
from scipy.sparse import csr_matrix
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

from zeroshot.projections.base import Float32, Int64, Integers, PretrainedClasses

__all__ = ["Moments", "TrainingSet", "roots"]

BLOCK_ROWS = 3072  # 24 MB of 2048 features; 32 MB would be mapped anew each time
CACHED_ROWS = 32  # 256 kB: the passes over them stay in the processor's cache
TINY = np.finfo(np.float32).tiny
# Without images of two classes: the roots of pooled ReLU features are positive and
# point into one corner of the space. With a mean of this length along the diagonal, no
# training image is needed: 0.73 on the Caltech classes, with the true mean 0.74, with
# none 0.70.
FLAT = 0.8
# Classes of images that such a mean counts for, beside the backbone's own classes: the
# mean of one or two classes is where these lie. With 1, 2 and 3 classes of Caltech 0.81
# become 0.83, with 34 classes nothing is lost.
FLAT_CLASSES = 3


@dataclass(frozen=True)
class Moments:
    """Sums over images, class by class.

    ``counts``: (n_classes,) int, images. ``sums``: (n_classes, dim) float64, of their
    roots. ``gram``: (dim, dim) float32, sum of the products of roots; its lower
    triangle.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    gram: NDArray[np.float32]

    @classmethod
    def of(cls, X: Float32, y: Int64, n_classes: int, *, normalize: bool) -> Self:
        """Sum over images, some rows at a time, without a copy of them all.

        ``X``: (n, dim) float32. ``y``: (n,) int. ``normalize``: take roots. Sums are
        float32 within a block of rows; the symmetric product takes half the time of a
        general one.
        """
        dim = X.shape[1]
        gram = np.zeros((dim, dim), np.float32, order="F")
        sums = np.zeros((n_classes, dim))
        for rows in gen_batches(len(X), BLOCK_ROWS) if len(X) else ():
            block, classes = roots(X[rows]) if normalize else X[rows], y[rows]
            gram = ssyrk(1.0, block.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
            ones = np.ones(len(classes), np.float32), (classes, np.arange(len(classes)))
            sums += csr_matrix(ones, shape=(n_classes, len(classes))) @ block
        counts = np.bincount(y, minlength=n_classes).astype(np.int64)
        return cls(counts, sums, gram)

    def with_more(self, more: "Moments", places: Integers) -> Self:
        """Return the sums over these and further images.

        ``more``: of all classes. ``places``: row of each class of these among them.
        """
        counts, sums = more.counts.copy(), more.sums.copy()
        counts[places] += self.counts
        sums[places] += self.sums
        return type(self)(counts, sums, self.gram + more.gram)

    def without(self, X: Float32, y: Int64, *, normalize: bool) -> Self:
        """Return the sums without those of some of the images."""
        less = self.of(X, y, len(self.counts), normalize=normalize)
        parts = self.counts - less.counts, self.sums - less.sums, self.gram - less.gram
        return type(self)(*parts)

    def center(self, *, normalize: bool, flat: bool) -> tuple[Float32, float]:
        """Return the mean of the roots, (dim,), and what scales the rest to length 1.

        Without ``normalize`` features stay as they are. ``flat``: there are classes
        without images, so the mean of a few classes is not that of all.
        """
        dim = self.sums.shape[1]
        if not normalize:
            return np.zeros(dim, np.float32), 1.0
        n, n_classes = int(self.counts.sum()), np.count_nonzero(self.counts)
        own = self.sums.sum(axis=0) / max(1, n)
        more = FLAT_CLASSES if flat else 0
        mean = n_classes * own + more * np.full(dim, FLAT / np.sqrt(dim))
        mean /= max(1, n_classes + more)
        # All roots have length 1, so this is the mean square of what is left of them.
        rest = 1 - float((2 * own - mean) @ mean) if n else 1 - float(mean @ mean)
        return mean.astype(np.float32), 1 / np.sqrt(rest) if rest > 1e-6 else 1.0

    def centred(self, mean: Float32, scale: float) -> "Moments":
        """Return the same of features that were prepared with that mean and scale."""
        n, total = self.counts.sum(), self.sums.sum(axis=0)
        m = mean.astype(np.float64)
        cross = np.outer(m, total)
        gram = scale**2 * (self.gram - cross - cross.T + n * np.outer(m, m))
        sums = scale * (self.sums - self.counts[:, None] * m)
        return Moments(self.counts, sums, gram.astype(np.float32))

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean of each class, (n_classes, dim); zeros for one without images."""
        found: NDArray[Any] = self.sums / np.maximum(1, self.counts)[:, None]
        return found


@dataclass(frozen=True)
class TrainingSet:
    """What is learnt from: images, word vectors and the backbone's own classes.

    ``moments``: of all images so far. ``X``, ``y``: the images of this call. ``T``:
    (n_classes, dim_text), class embeddings, NaN for a class without a word vector.
    """

    moments: Moments
    X: Float32
    y: Int64
    T: Float32
    pretrained: PretrainedClasses | None

    @property
    def has_word(self) -> NDArray[np.bool_]:
        """Tell for each class whether it has a word vector, (n_classes,)."""
        return np.asarray(np.isfinite(self.T).all(axis=1))

    @property
    def known(self) -> NDArray[np.intp]:
        """Classes that have images and a word vector, in order."""
        return np.flatnonzero((self.moments.counts > 0) & self.has_word)

    def only(self, rows: NDArray[np.intp]) -> Self:
        """Return the same without the other images of this call and their classes.

        Of these classes the backbone's go too. ``X`` must be prepared, as the moments
        are, and ``rows`` in order.
        """
        if len(rows) == len(self.y):
            return self
        others = np.setdiff1d(np.arange(len(self.y)), rows)
        X, y, pretrained = self.X[others], self.y[others], self.pretrained
        if pretrained is not None:
            pretrained = pretrained.without(np.setdiff1d(np.arange(len(self.T)), y))
        return replace(
            self,
            moments=self.moments.without(X, y, normalize=False),
            X=self.X[rows],
            y=self.y[rows],
            pretrained=pretrained,
        )


def roots(X: Float32) -> Float32:
    """Return signed square roots of features (n, dim), each row of unit length."""
    found = np.empty(X.shape, np.float32)
    for rows in gen_batches(len(X), CACHED_ROWS) if len(X) else ():
        # A third of the time with np.copysign; TINY makes 0 / 0 a 0, else is rounded
        # off.
        block = np.sqrt(np.abs(X[rows]) + TINY)
        np.divide(X[rows], block, out=block)
        lengths = row_norms(block)[:, None]
        lengths[lengths == 0] = 1
        np.divide(block, lengths, out=found[rows])
    return found
