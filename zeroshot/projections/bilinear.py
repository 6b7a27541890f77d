"""SJE and ALE: a bilinear compatibility of image and label, trained to rank.

Both score an image x against a class embedding t by ``x' W t``, which is a linear map
W of the image into the text space; they differ from DeViSE in the loss.
"""

from abc import abstractmethod
from typing import Any

import numpy as np

from zeroshot.projections.devise import MARGIN
from zeroshot.projections.trained import TrainedProjection, hinges

__all__ = ["ALE", "SJE"]


class _Bilinear(TrainedProjection):
    """Base class: the loss is made of the violations of the margin."""

    def __init__(
        self,
        *,
        margin: float = MARGIN,
        weight_decay: float = 0.03,
        learning_rate: float = 0.002,
        batch_size: int = 128,
        epochs: int = 30,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 10,
        normalize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.margin = margin
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.normalize = normalize
        self.random_state = random_state

    def losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        """Return the loss of each image; see `TrainedProjection.losses`."""
        return self._total(tf, hinges(tf, points, wanted, T, self.margin))

    @abstractmethod
    def _total(self, tf: Any, hinge: Any) -> Any:
        """Return the loss of each image from its hinges, (n, n_classes)."""


class SJE(_Bilinear):
    """Structured joint embedding: the worst wrong class counts, and no other.

    The loss of an image x of class y is
    ``max(0, max over j != y of margin - x' W t_y + x' W t_j)`` [1]_.

    Training needs TensorFlow; a trained projection is a matrix, and `transform` is
    NumPy.

    Parameters
    ----------
    margin : float, default=0.1
        Margin of the loss, > 0. The paper's is 1; a smaller one with the same data
        learns a shorter W that ranks alike.
    weight_decay : float, default=0.03
        Strength of the penalty ``weight_decay / 2 * ||W||^2`` beside the loss of an
        image, >= 0. The paper has none and stops early. Chosen on class-disjoint folds
        of seen classes (docs/projections.md).
    learning_rate : float, default=0.002
        Of Adam, decayed to 0 over the epochs along a cosine. The paper's is plain
        stochastic gradient descent.
    batch_size : int, default=128
        Images per step.
    epochs : int, default=30
        Most passes over the images.
    early_stopping : bool, default=True
        Choose the number of epochs on held-out classes, as `DeViSE` does.
    validation_fraction : float, default=0.2
        Share of the classes that early stopping holds out.
    patience : int, default=10
        Epochs without a better validation score after which to stop.
    normalize : bool, default=True
        Take the signed square root of the features, centre them on their training mean
        and make them unit length.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out classes and the order of the images.

    Attributes
    ----------
    kernels_, biases_ : list of ndarray, float32
        W, of shape (dim_visual, dim_text), and zeros; one of each.
    n_epochs_ : int
        Epochs of the final training.
    history_ : dict of str to list of float
        As for `DeViSE`.

    References
    ----------
    .. [1] Akata et al., "Evaluation of Output Embeddings for Fine-Grained Image
       Classification", CVPR 2015, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> sje = SJE(normalize=False, random_state=0)
    >>> sje.fit(X, np.arange(3), class_embeddings=np.eye(3)).transform(X).argmax(axis=1)
    array([0, 1, 2])
    """

    def _total(self, tf: Any, hinge: Any) -> Any:
        return tf.reduce_max(hinge, axis=1)


class ALE(_Bilinear):
    """Attribute label embedding: violations weighted by the rank of the true class.

    With r the number of classes j for which ``margin - x' W t_y + x' W t_j > 0``, the
    loss of an image x of class y is the sum of those times
    ``(1 + 1/2 + ... + 1/r) / r`` [1]_: the top of the ranking counts most.

    Training needs TensorFlow; a trained projection is a matrix, and `transform` is
    NumPy.

    Parameters
    ----------
    margin : float, default=0.1
        Margin of the loss, > 0. The paper's is 1; a smaller one with the same data
        learns a shorter W that ranks alike.
    weight_decay : float, default=0.03
        Strength of the penalty ``weight_decay / 2 * ||W||^2`` beside the loss of an
        image, >= 0. The paper has none and stops early. Chosen on class-disjoint folds
        of seen classes (docs/projections.md).
    learning_rate : float, default=0.002
        Of Adam, decayed to 0 over the epochs along a cosine. The paper's is plain
        stochastic gradient descent.
    batch_size : int, default=128
        Images per step.
    epochs : int, default=30
        Most passes over the images.
    early_stopping : bool, default=True
        Choose the number of epochs on held-out classes, as `DeViSE` does.
    validation_fraction : float, default=0.2
        Share of the classes that early stopping holds out.
    patience : int, default=10
        Epochs without a better validation score after which to stop.
    normalize : bool, default=True
        Take the signed square root of the features, centre them on their training mean
        and make them unit length.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out classes and the order of the images.

    Attributes
    ----------
    kernels_, biases_ : list of ndarray, float32
        W, of shape (dim_visual, dim_text), and zeros; one of each.
    n_epochs_ : int
        Epochs of the final training.
    history_ : dict of str to list of float
        As for `DeViSE`.

    References
    ----------
    .. [1] Akata et al., "Label-Embedding for Image Classification", TPAMI 38, 2016.
       Here all wrong classes count in each step, where the paper samples one.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> ale = ALE(normalize=False, random_state=0)
    >>> ale.fit(X, np.arange(3), class_embeddings=np.eye(3)).transform(X).argmax(axis=1)
    array([0, 1, 2])
    """

    def _total(self, tf: Any, hinge: Any) -> Any:
        rank = tf.reduce_sum(tf.cast(hinge > 0, tf.float32), axis=1)
        harmonic = tf.cumsum(1 / tf.range(1, tf.shape(hinge)[1] + 1, dtype=tf.float32))
        last = tf.maximum(tf.cast(rank, tf.int32) - 1, 0)
        weight = tf.gather(harmonic, last) / tf.maximum(rank, 1)
        return weight * tf.reduce_sum(hinge, axis=1)
