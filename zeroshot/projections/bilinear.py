"""SJE and ALE: a bilinear compatibility of image and label, trained to rank.

Both score an image x against a class embedding t by ``x' W t``, which is a linear map
W of the image into the text space; they differ from DeViSE in the loss.
"""

from typing import Any

from zeroshot.projections.trained import TrainedProjection, hinges

__all__ = ["ALE", "SJE"]


class SJE(TrainedProjection):
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
        of seen classes (docs/defaults.md).
    learning_rate, batch_size, epochs, early_stopping, validation_fraction : optional
        As for `DeViSE`; the paper's training is plain stochastic gradient descent.
    patience, normalize, random_state : optional
        As for `DeViSE`.

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

    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        hinge = hinges(tf, points, wanted, T, self.margin)
        return tf.reduce_max(hinge, axis=1)


class ALE(TrainedProjection):
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
        of seen classes (docs/defaults.md).
    learning_rate, batch_size, epochs, early_stopping, validation_fraction : optional
        As for `DeViSE`; the paper's training is plain stochastic gradient descent.
    patience, normalize, random_state : optional
        As for `DeViSE`.

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

    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        hinge = hinges(tf, points, wanted, T, self.margin)
        rank = tf.reduce_sum(tf.cast(hinge > 0, tf.float32), axis=1)
        harmonic = tf.cumsum(1 / tf.range(1, tf.shape(hinge)[1] + 1, dtype=tf.float32))
        last = tf.maximum(tf.cast(rank, tf.int32) - 1, 0)
        weight = tf.gather(harmonic, last) / tf.maximum(rank, 1)
        return weight * tf.reduce_sum(hinge, axis=1)
