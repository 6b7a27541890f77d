"""``projection="auto"``: the projection that does best on classes left out of training.

The seen classes are dealt into folds. Each candidate projection is trained without the
classes of a fold, and then names their images among them, as it will name unseen ones.
Test classes take no part.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from zeroshot.errors import ZeroShotWarning
from zeroshot.metrics import per_class_accuracy
from zeroshot.progress import progress_bar
from zeroshot.projections.base import Float32, Floats, Integers, Projection
from zeroshot.projections.closed_form import ESZSL, Ridge, fit_together
from zeroshot.projections.devise import DeViSE
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.splits import ClassDisjointKFold

__all__ = [
    "AutoProjection",
    "ProjectionChoice",
    "Tried",
    "choose_projection",
    "draw_seed",
]

N_FOLDS = 3
MIN_CLASSES = 6  # folds of two: a single class is always named rightly
CLOSED_FORMS: tuple[Ridge | ESZSL, ...] = (
    *(Ridge(alpha=alpha) for alpha in (3.0, 10.0, 30.0)),
    *(
        ESZSL(alpha=alpha, alpha_text=alpha_text)
        for alpha in (3.0, 10.0, 30.0)
        for alpha_text in (10.0, 30.0)
    ),
)
TRAINED = tuple(DeViSE(weight_decay=decay) for decay in (0.3, 1.0))
# Above so many numbers in the features (10,000 images of MobileNetV2 have 1.3e7) the
# closed forms alone are tried: they take seconds where training takes many minutes.
MOST_TO_TRAIN_ON = 2e7

logger = logging.getLogger("zeroshot")


@dataclass(frozen=True)
class Tried:
    """A projection and its per-class accuracy among classes left out of training.

    The accuracy is in [0, 1]: mean and standard deviation over the folds.
    """

    projection: str  # as one writes it: "Ridge(alpha=3.0)"
    mean: float
    spread: float


@dataclass(frozen=True)
class ProjectionChoice:
    """What ``projection="auto"`` took, and why in a sentence.

    ``n_folds`` is 0 if there were too few classes for folds. ``tried`` are all
    candidates, best first.
    """

    chosen: str
    reason: str
    n_folds: int
    tried: tuple[Tried, ...]

    def __str__(self) -> str:
        """Return the reason and a table in Markdown."""
        if not self.tried:
            return self.reason
        table = "| projection | top-1 on classes left out |\n| --- | --- |"
        for t in self.tried:
            table += f"\n| `{t.projection}` | {t.mean:.3f} +- {t.spread:.3f} |"
        return f"{self.reason}\n\n{table}"

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the choice that `to_dict` was called on."""
        tried = tuple(Tried(**one) for one in content["tried"])
        return cls(**{**content, "tried": tried})


class AutoProjection(BaseEstimator):
    """The best of ridge regression, ESZSL and DeViSE on folds of the classes.

    `ZeroShotClassifier` with ``projection="auto"`` chooses with its own
    ``hub_correction``, and keeps what was chosen instead of this.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seeds the folds and the training.

    Attributes
    ----------
    projection_ : Projection
        What was chosen, fitted on all classes.
    choice_ : ProjectionChoice
        What was tried.

    Examples
    --------
    >>> import numpy as np
    >>> X, T = np.eye(8).repeat(4, axis=0), np.eye(8)
    >>> auto = AutoProjection(random_state=0)
    >>> auto = auto.fit(X, np.arange(8).repeat(4), class_embeddings=T)
    >>> auto.choice_.n_folds
    3
    """

    projection_: Projection
    choice_: ProjectionChoice

    def __init__(
        self, *, random_state: int | np.random.RandomState | None = None
    ) -> None:
        self.random_state = random_state

    def fit(self, X: Floats, y: Integers, *, class_embeddings: Floats) -> Self:
        """Choose a projection and learn its map, as `Projection.fit`."""
        X = check_array(X, dtype=np.float32)
        T = check_array(class_embeddings, dtype=np.float32)
        check_consistent_length(X, y)
        classes, index = np.unique(y, return_inverse=True)
        projection, self.choice_ = choose_projection(
            X, index, T[classes], random_state=draw_seed(self.random_state)
        )
        self.projection_ = projection.fit(X, y, class_embeddings=T)
        return self

    def transform(self, X: Floats) -> Float32:
        """Map features to points in the text space, as `Projection.transform`."""
        check_is_fitted(self)
        return self.projection_.transform(X)


def choose_projection(
    X: Float32,
    y: NDArray[np.intp],
    class_embeddings: Float32,
    *,
    hub_correction: float = 0.5,
    random_state: int = 0,
    most_to_train_on: float = MOST_TO_TRAIN_ON,
) -> tuple[Projection, ProjectionChoice]:
    """Choose a projection and its settings on class-disjoint folds.

    ``X``: (n, dim_visual), features of the training images. ``y``: (n,), row of
    ``class_embeddings`` of each; every row has an image. ``class_embeddings``:
    (n_classes, dim_text), of unit length. ``hub_correction``: as for `LabelSpace`; each
    fold has a space of its own. ``random_state``: seeds the folds and the training. The
    projection is not fitted; `Ridge` with its defaults if there are under 6 classes.
    """
    n_classes = len(class_embeddings)
    if n_classes < MIN_CLASSES:
        reason = (
            f"{n_classes} classes are too few to choose on folds of them (it takes "
            f"{MIN_CLASSES}): the default of ridge regression is taken."
        )
        logger.info(reason)
        return Ridge(), ProjectionChoice(_written(Ridge()), reason, 0, ())
    trained = [
        clone(projection).set_params(random_state=random_state)
        for projection in (TRAINED if X.size <= most_to_train_on else ())
    ]
    candidates: list[Any] = [*CLOSED_FORMS, *trained]
    accuracies = np.empty((len(candidates), N_FOLDS))
    folds = ClassDisjointKFold(N_FOLDS, random_state=random_state)
    with (
        progress_bar("choosing projection", N_FOLDS * (1 + len(trained))) as advance,
        warnings.catch_warnings(),
    ):
        # That a fold has few classes for early stopping is no news for the whole.
        warnings.simplefilter("ignore", ZeroShotWarning)
        for fold, (train, test) in enumerate(folds.split(X, y)):
            kept, index = np.unique(y[train], return_inverse=True)
            held_out, truth = np.unique(y[test], return_inverse=True)
            space = LabelSpace(class_embeddings[kept], hub_correction)
            task = X[test], space.label_points(class_embeddings[held_out]), truth
            X_train = X[train]
            closed = fit_together(
                CLOSED_FORMS, X_train, index, class_embeddings=space.seen
            )
            for number, fitted in enumerate(closed):
                accuracies[number, fold] = _accuracy(fitted, *task)
            advance(1, "closed forms")
            for number, projection in enumerate(trained, start=len(closed)):
                projection.fit(X_train, index, class_embeddings=space.seen)
                accuracies[number, fold] = _accuracy(projection, *task)
                advance(1, "DeViSE")
    means = accuracies.mean(axis=1)
    order = np.argsort(-means, kind="stable")
    tried = tuple(
        Tried(_written(candidates[i]), float(means[i]), float(accuracies[i].std()))
        for i in order
    )
    best = tried[0]
    reason = (
        f"{best.projection} named the images of classes left out of training best: "
        f"{best.mean:.3f} right, mean of {N_FOLDS} folds of {n_classes} classes; "
        f"{len(tried)} were tried."
    )
    logger.info(reason)
    chosen: Projection = clone(candidates[order[0]])
    return chosen, ProjectionChoice(best.projection, reason, N_FOLDS, tried)


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return a number that seeds the choice; a number is one already."""
    if isinstance(random_state, int):
        return random_state
    return int(check_random_state(random_state).randint(2**31 - 1))


def _accuracy(
    fitted: Projection, X: Float32, label_points: Float32, truth: NDArray[np.intp]
) -> float:
    best = LabelSpace.scores(fitted.transform(X), label_points).argmax(axis=1)
    return per_class_accuracy(truth, best == truth)


def _written(projection: Any) -> str:
    """Return the projection as one writes it, without its seed."""
    shown = clone(projection)
    if hasattr(shown, "random_state"):
        shown.set_params(random_state=None)
    return " ".join(repr(shown).split())
