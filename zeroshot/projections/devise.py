"""The DeViSE projection: a map trained so that an image's own label ranks first."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from zeroshot.arrays import unit_rows
from zeroshot.projections.base import (
    Float32,
    Floats,
    Int64,
    Integers,
    PretrainedClasses,
)
from zeroshot.projections.closed_form import IMAGES_PER_ROW, Sums, ridge_map
from zeroshot.projections.estimator import COUNT
from zeroshot.projections.moments import Moments, TrainingSet
from zeroshot.projections.operations import Operations, traced_unit_rows
from zeroshot.projections.trained import (
    BETA_1,
    BETA_2,
    MARGIN,
    Layers,
    TrainedProjection,
    forward,
    hinges,
)
from zeroshot.projections.visual import Visual, VisualRules

__all__ = ["DeViSE"]

LOSSES = ("rank", "cosine", "mse")
NEGATIVES = ("all", "first-violator")
RIDGE = 10.0  # penalty of the map that training starts from: the default of `Ridge`


class DeViSE(TrainedProjection, Visual):
    """The DeViSE projection: a map trained with the hinge rank loss, beside `Visual`.

    For an image with features v and label y, the loss of the map M is the sum over the
    other classes j of ``max(0, margin - t_y . M v + t_j . M v)`` [1]_. M starts from
    ridge regression on the user's images and the rows of the backbone's own classifier
    (`Ridge`), and is refined on both by its loss for as long as held-out classes gain
    by it. The Keras write-up of DeViSE trains ``1 - cos(t_y, M v)`` instead, with a
    hidden layer: ``DeViSE(loss="cosine", hidden=(1024,), dropout=0.3)``.

    Beside it stands a second map, from words to images: `Visual`. The points of both,
    each of unit length and weighted, side by side, make the scores a weighted sum of
    cosines. ``visual_weight=0`` is the paper's map alone.

    The linear map with the rank loss is trained in NumPy; other losses and hidden
    layers need TensorFlow. What is learnt is plain arrays.

    Parameters
    ----------
    loss : {"rank", "cosine", "mse"}, default="rank"
        The paper's hinge rank loss, one minus the cosine to the true class, or the mean
        squared error to its vector (of which the paper says that it ranks badly).
    visual_weight : float, default=0.8
        Of the cosine to the visual prototype, in [0, 1); the rest is that of M. Chosen
        on class-disjoint folds of seen classes (docs/defaults.md).
    gamma, alpha, pretrained_weight : float or "auto", default="auto"
        As for `Visual`; ``pretrained_weight`` for M too.
    margin : float, default=0.1
        Margin of the rank loss, > 0; 0.1 in the paper.
    negatives : {"all", "first-violator"}, default="all"
        Wrong classes that count in the rank loss: all of them, or, as the paper does to
        save time, the first in random order that violates the margin.
    hidden : sequence of int, default=()
        Widths of hidden layers (dropout, dense, ReLU, batch normalisation each). Empty
        is the paper's linear map; with hidden layers M starts at random.
    dropout : float, default=0.0
        Share of inputs dropped before each hidden layer, in [0, 1).
    weight_decay : float, default=0.0
        Strength of the penalty ``weight_decay / 2 * ||M||^2`` beside the rank loss of
        an image, >= 0. Not used with the other losses.
    learning_rate : float, default=0.0002
        Of Adam.
    batch_size : int, default=256
        Images per step.
    epochs : int or None, default=None
        Most passes over the images; 0 leaves a linear map where it starts. None is 1
        for the linear map with the rank loss, which starts near its end, and else 30.
    early_stopping : bool, default=True
        Choose the number of epochs on held-out classes: train on the others, watch the
        mean reciprocal rank among the held-out ones, then train on all classes until
        the last epoch that was within one standard error of the best and no worse than
        the start; that may be none. Needs two held-out classes (8 in all by default);
        with fewer, and without images, M stays where it starts.
    validation_fraction : float, default=0.2
        Share of the classes that early stopping holds out.
    patience : int, default=1
        Epochs without a better validation score after which to stop.
    normalize : bool, default=True
        Take signed square roots of the features, of unit length and centred.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out classes, initial weights, order and dropout.

    Attributes
    ----------
    kernels_, biases_ : list of ndarray, float32
        Of each dense layer of M, shapes (dim_in, dim_out) and (dim_out,); ReLU between.
        Batch normalisation is folded in.
    n_epochs_ : int
        Epochs of the final training.
    history_ : dict of str to list of float
        ``"loss"`` per epoch of the final training; ``"validation_mrr"`` (mean
        reciprocal rank, per class) before and after each epoch of the one before, if
        there was one.
    class_points_ : ndarray of shape (n_classes, dim_text + dim_visual), float32
    centres_, dual_coef_, owners_, inverse_, gamma_, alpha_, pretrained_weight_
        As for `Visual`; not with ``visual_weight=0``.

    References
    ----------
    .. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(3, dtype=np.float32)
    >>> devise = DeViSE(normalize=False, visual_weight=0, random_state=0)
    >>> devise.fit(X, np.arange(3), class_embeddings=np.eye(3)).transform(X).argmax(1)
    array([0, 1, 2])
    """

    hub_correction = 0.25
    _rules = (
        ("loss", (LOSSES.__contains__, f"to be one of {LOSSES}")),
        ("negatives", (NEGATIVES.__contains__, f"to be one of {NEGATIVES}")),
        ("hidden", (lambda v: all(map(COUNT[0], v)), "as a list of widths >= 1")),
        ("dropout", (lambda v: 0 <= v < 1, "in [0, 1)")),
        ("visual_weight", (lambda v: 0 <= v < 1, "in [0, 1)")),
        (
            "epochs",
            (
                lambda v: v is None or v == 0 or COUNT[0](v),
                "as a whole number >= 0, or None",
            ),
        ),
        *VisualRules,
        *(rule for rule in TrainedProjection._rules if rule[0] != "epochs"),
    )

    def __init__(
        self,
        *,
        loss: Literal["rank", "cosine", "mse"] = "rank",
        visual_weight: float = 0.8,
        gamma: float | Literal["auto"] = "auto",
        alpha: float | Literal["auto"] = "auto",
        pretrained_weight: float | Literal["auto"] = "auto",
        margin: float = MARGIN,
        negatives: Literal["all", "first-violator"] = "all",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        learning_rate: float = 0.0002,
        batch_size: int = 256,
        epochs: int | None = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 1,
        normalize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            margin=margin,
            weight_decay=weight_decay,
            learning_rate=learning_rate,
            batch_size=batch_size,
            epochs=epochs,  # type: ignore[arg-type]  # None: see `_most_epochs`
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            normalize=normalize,
            random_state=random_state,
        )
        self.loss = loss
        self.visual_weight = visual_weight
        self.gamma = gamma
        self.alpha = alpha
        self.pretrained_weight = pretrained_weight
        self.negatives = negatives
        self.hidden = hidden
        self.dropout = dropout

    @property
    def choices_(self) -> dict[str, Any]:
        """What ``"auto"`` and early stopping stand for."""
        chosen = super().choices_ if self.visual_weight else {}
        return chosen | {"early_stopping": False, "epochs": self.n_epochs_}

    def transform_labels(self, class_embeddings: Floats) -> Float32:
        """Map word vectors to points.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length.

        Returns
        -------
        points : ndarray of shape (m, dim_text + dim_visual), float32
            The words and what images of them look like, side by side; with
            ``visual_weight=0`` the words alone.
        """
        if not self.visual_weight:
            return np.asarray(class_embeddings, np.float32)
        visual = self._visual_labels(class_embeddings)
        return self._side_by_side(class_embeddings, visual)

    def transform_labels_without(
        self, class_embeddings: Floats, left_out: Iterable[Integers]
    ) -> Iterator[Float32]:
        """Map word vectors to points, each time without some classes.

        See `zeroshot.projections.SupportsLeavingOut`. Words stay where they are.

        Parameters
        ----------
        class_embeddings : ndarray of shape (m, dim_text)
            Of unit length.
        left_out : iterable of ndarray of int
            Classes, as rows of what `fit` got, that are left out together.

        Yields
        ------
        points : ndarray of shape (m, dim), float32
            As `transform_labels` gives them.
        """
        if not self.visual_weight:
            words = np.asarray(class_embeddings, np.float32)
            yield from (words for _ in left_out)
            return
        for visual in super().transform_labels_without(class_embeddings, left_out):
            yield self._side_by_side(class_embeddings, visual)

    def text_points(self, X: Floats, layers: Layers) -> Float32:
        """Map features to the text space by M alone.

        Parameters
        ----------
        X : ndarray of shape (n, dim_visual)
        layers : list of tuple
            Kernel and bias of each layer of M.

        Returns
        -------
        points : ndarray of shape (n, dim_text), float32
        """
        return forward(layers, self._prepare(np.asarray(X, np.float32)))

    def with_map(
        self,
        layers: Layers,
        X: Float32,
        y: Int64,
        class_embeddings: Float32,
        pretrained: PretrainedClasses | None,
    ) -> "DeViSE":
        """Return the projection with M trained further, and the rest from features.

        Parameters
        ----------
        layers : list of tuple
            Of M, for features that are prepared as by this projection.
        X, y, class_embeddings, pretrained : ndarray and PretrainedClasses
            As in `fit`; features of a network that was trained together with M.

        Returns
        -------
        projection : DeViSE
            Another one.
        """
        changed = copy.copy(self)
        moments = Moments.of(X, y, len(class_embeddings), normalize=self.normalize)
        given = TrainingSet(moments, X, y, class_embeddings, pretrained)
        given = changed._take(given)
        # The same map of features that are centred elsewhere.
        (kernel, bias), *rest = layers
        shift = ((changed.mean_ - self.mean_) * np.float32(self.scale_)) @ kernel
        kernel = np.float32(self.scale_ / changed.scale_) * kernel
        layers = [(kernel, (bias + shift).astype(np.float32)), *rest]
        changed.kernels_, changed.biases_ = map(list, zip(*layers, strict=True))
        changed._learn_prototypes(given)
        return changed

    def _learn(self, given: TrainingSet) -> None:
        self._learn_prototypes(given)
        some = given.has_word[given.y]
        X, y = self._prepare(given.X[some]), given.y[some]
        train = partial(self._trained, replace(given, X=X, y=y), self._seed())
        if hasattr(self, "n_epochs_"):  # more images: as many epochs of these
            self._keep(train(np.arange(len(y)), self.n_epochs_), self.n_epochs_)
        else:
            self._train_on_all(train, X, y, given.T)

    def _begin_with_moments(self) -> None:
        if self.hidden:
            raise ValueError(
                f"Expected a linear map, which is found from sums over images. Got "
                f"hidden={self.hidden!r}. Use fit."
            )
        # M stays where it starts: its loss needs the images.
        self.n_epochs_, self.history_ = 0, {"loss": []}

    def _most_epochs(self) -> int:
        if self.epochs is not None:
            return self.epochs
        return 30 if self.hidden or self.loss != "rank" else 1

    def _unwatched_epochs(self) -> int:
        is_kept = self.early_stopping and not self.hidden
        return 0 if is_kept else self._most_epochs()

    def _learn_prototypes(self, given: TrainingSet) -> None:
        if not self.visual_weight:
            return
        Visual._learn(self, given)
        # The more images, the less the word counts.
        self.class_points_ = self._side_by_side(
            np.nan_to_num(given.T), self.class_points_, self.class_shares_[:, None]
        )

    def _trained(
        self, given: TrainingSet, seed: int, rows: NDArray[np.intp], epochs: int
    ) -> Iterator[tuple[float, Layers]]:
        """Train M on some of the prepared images; see `TrainedProjection`.

        Beside images stand the rows of the backbone's classifier and, for images of
        earlier calls, the means of classes.
        """
        given = given.only(rows)
        classes, pretrained = given.known, given.pretrained
        words = given.T[classes]
        more = unit_rows(given.moments.means[classes]).astype(np.float32)
        weight = getattr(self, "pretrained_weight_", 1.0) * IMAGES_PER_ROW
        if pretrained is not None:
            words = np.concatenate([words, pretrained.class_embeddings])
            more = np.concatenate([more, pretrained.rows])
        batch = np.concatenate([given.X, more])
        index = np.searchsorted(classes, given.y)
        index = np.concatenate([index, np.arange(len(more))])
        start: Float32 | None = None
        if not self.hidden:
            start = ridge_map(Sums.of(given, weight), RIDGE).astype(np.float32)
            # The margin is meant for points about as long as the words.
            length = float(np.linalg.norm(batch @ start, axis=1).mean())
            start = start / np.float32(max(length, 1e-30))
            yield np.nan, [(start, np.zeros(words.shape[1], np.float32))]
        epochs = max(1, epochs) if self.hidden else epochs
        if epochs and (self.hidden or self.loss != "rank"):
            yield from self._train(batch, index, words, epochs, seed, start)
        elif epochs:
            assert start is not None
            yield from self._refined(
                batch, index, words, len(rows), epochs, seed, start
            )

    def _refined(
        self,
        X: Float32,
        y: Int64,
        T: Float32,
        n_images: int,
        epochs: int,
        seed: int,
        M: Float32,
    ) -> Iterator[tuple[float, Layers]]:
        """Train the linear map by the rank loss, with Adam [Kingma and Ba 2015].

        Each step takes images, and half as many of the rows behind them.
        """
        M, random = M.copy(), np.random.default_rng(seed)
        first, second = np.zeros_like(M), np.zeros_like(M)
        n_more, step = len(X) - n_images, 0
        for _ in range(epochs):
            total = 0.0
            order = random.permutation(n_images)
            for some in gen_batches(max(1, n_images), self.batch_size):
                drawn = random.integers(n_more, size=self.batch_size // 2 + 1)
                rows = np.concatenate([order[some], n_images + drawn])
                points, own, step = X[rows] @ M, np.arange(len(rows)), step + 1
                hinge = points @ T.T
                hinge += self.margin - hinge[own, y[rows]][:, None]
                hinge[own, y[rows]] = 0
                np.maximum(hinge, 0, out=hinge)
                if self.negatives == "first-violator":
                    priority = np.where(hinge > 0, random.random(hinge.shape), -1)
                    chosen = priority.argmax(axis=1)
                    kept = np.zeros_like(hinge)
                    kept[own, chosen] = hinge[own, chosen]
                    hinge = kept
                total += float(hinge.sum()) / len(rows) * len(order[some])
                slope = (hinge > 0).astype(np.float32)
                slope[own, y[rows]] = -slope.sum(axis=1)
                gradient = X[rows].T @ (slope @ T) / np.float32(len(rows))
                gradient += np.float32(self._decay()) * M
                first += np.float32(1 - BETA_1) * (gradient - first)
                second += np.float32(1 - BETA_2) * (gradient**2 - second)
                rate = self.learning_rate * np.sqrt(1 - BETA_2**step)
                rate /= 1 - BETA_1**step
                M -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-7))
            loss = total / max(1, n_images)
            if not (np.isfinite(loss) and np.isfinite(M).all()):
                raise self._diverged(loss)
            yield loss, [(M.copy(), np.zeros(T.shape[1], np.float32))]

    def _map(self, X: Float32) -> Float32:
        points = forward(self.layers, X)
        return self._side_by_side(points, X) if self.visual_weight else points

    def _traced_map(self, X: Any, operations: Operations) -> Any:
        points = super()._traced_map(X, operations)
        if not self.visual_weight:
            return points
        text, visual = (traced_unit_rows(each, operations) for each in (points, X))
        weights = np.sqrt(np.array([1 - self.visual_weight, self.visual_weight], "f4"))
        return operations.joined([text * weights[0], visual * weights[1]])

    def _side_by_side(self, text: Floats, visual: Floats, share: Any = 1.0) -> Float32:
        """Return unit points of both, weighted.

        ``share``: of the text's weight that a label has; that of images stays whole, so
        the cosine of the words counts for that share, not for its root.
        """
        weight = (1 - self.visual_weight) * share**2
        parts = (
            np.sqrt(weight) * unit_rows(text),
            np.sqrt(1 - weight) * unit_rows(visual),
        )
        points: Float32 = np.concatenate(parts, axis=1).astype(np.float32)
        return points

    def _decay(self) -> float:
        # A cosine does not see the length of the map; a squared error would be Ridge.
        return self.weight_decay if self.loss == "rank" else 0.0

    def _losses(self, tf: Any, points: Any, wanted: Any, T: Any, seed: Any) -> Any:
        if self.loss != "rank":
            own = tf.gather(T, wanted)
            if self.loss == "mse":
                return tf.reduce_mean(tf.square(points - own), axis=1)
            return 1 - tf.reduce_sum(tf.math.l2_normalize(points, axis=1) * own, axis=1)
        hinge = hinges(tf, points, wanted, T, self.margin)
        if self.negatives == "first-violator":
            # The first violator of a random order is the one of smallest priority.
            priority = tf.random.stateless_uniform(tf.shape(hinge), seed)
            first = tf.argmin(tf.where(hinge > 0, priority, 2.0), axis=1)
            return tf.gather(hinge, first, axis=1, batch_dims=1)
        return tf.reduce_sum(hinge, axis=1)
