"""Labels of training images: checked, as classes, and brought in line with features."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from zeroshot.errors import InvalidImageError, LabelError
from zeroshot.escaping import shown
from zeroshot.features.block import Features
from zeroshot.labels.candidates import Candidates, CandidateSet
from zeroshot.labels.given import check_candidates, label_problem

__all__ = ["Targets", "check_known", "check_targets"]


def check_targets(y: Any) -> NDArray[Any]:
    """Return labels (n,) of one kind, strings or numbers; refuse others, and none.

    Raises ValueError if y is None, or continuous, or of another shape; LabelError if
    there is no label, or labels are missing, of several kinds, or name nothing.
    """
    if y is None:
        raise ValueError(
            "This ZeroShotClassifier estimator requires y to be passed, but the "
            "target y is None."
        )
    # NumPy makes text of mixed lists ("nan", "1"), and a table of a list of tuples.
    if isinstance(y, list | tuple):
        _check_objects(y)
    elif getattr(y, "dtype", None) is not None and np.ndim(y) == 1:
        values = np.asarray(y)
        if values.dtype == object:
            _check_objects(values.tolist())
    labels: NDArray[Any] = np.asarray(column_or_1d(y, warn=True))
    assert_all_finite(labels, input_name="y")
    # Twice: it warns of a regression where most classes have one image.
    check_classification_targets(np.concatenate([labels, labels]))
    if len(labels) == 0:
        raise LabelError("Expected at least 2 different labels. Got none.")
    return labels


def check_known(labels: NDArray[Any], classes: Sequence[Hashable]) -> None:
    """Refuse labels (n,) that are not among the classes that may come."""
    allowed = set(check_candidates(classes))
    unknown = [label for label in np.unique(labels).tolist() if label not in allowed]
    if unknown:
        raise LabelError(
            f"Expected labels among the {len(allowed)} classes given. Got "
            f"{', '.join(map(repr, unknown[:5]))}. Correct them, or give all classes."
        )


@dataclass(frozen=True)
class Targets:
    """The labels of training images as classes."""

    classes: NDArray[Any]  # (n_classes,), sorted
    index: NDArray[np.intp]  # (n,), class of each image

    @classmethod
    def of(
        cls,
        y: Any,
        n_images: int,
        candidate_labels: Candidates = None,
        *,
        least: int = 2,
    ) -> Self:
        """Return the targets that labels stand for.

        ``y``: (n,). ``candidate_labels``: of the classifier: where they are all text,
        so must labels be. ``least``: classes that there must be. Raises ValueError,
        LabelError as `check_targets`; if there is not one label for each image, or too
        few classes.
        """
        labels = check_targets(y)
        if len(labels) != n_images:
            raise LabelError(
                f"Expected one label for each image. Got {n_images} images and "
                f"{len(labels)} labels: inconsistent numbers of samples."
            )
        if labels.dtype.kind in "iufb" and _are_text(candidate_labels):
            raise LabelError(
                f"Expected labels as text, as all candidate_labels are. Got numbers, "
                f"such as {labels.tolist()[0]!r}. Some of scikit-learn's tools number "
                f"the labels (cross_val_predict with probabilities, VotingClassifier): "
                f"give them candidate_labels in the call, or not at all."
            )
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < least:
            raise LabelError(
                f"Expected at least 2 different labels. Got one class: "
                f"{classes.tolist()[0]!r}. Give images of more classes."
            )
        return cls(classes, index)

    def readable(
        self, features: Features
    ) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
        """Return features, classes and positions of the images that could be read.

        Returns X (n_readable, dim) float32; y (n_readable,) int; positions
        (n_readable,) int. Raises InvalidImageError if a class has no readable image
        left.
        """
        X, positions = features.matrix, features.positions
        if features.errors:
            readable = ~np.isin(positions, list(features.errors))
            X, positions = X[readable], positions[readable]
            lost = np.setdiff1d(np.arange(len(self.classes)), self.index[positions])
            if len(lost):
                named = ", ".join(map(repr, self.classes[lost].tolist()))
                raise InvalidImageError(
                    f"Expected a readable image of every class. Got none of {named}. "
                    f"Give other images of them, or leave these classes out."
                )
        return X, self.index[positions], positions


def _are_text(candidates: Candidates) -> bool:
    if candidates is None or isinstance(candidates, str | CandidateSet):
        return False
    return all(isinstance(label, str) for label in check_candidates(candidates))


def _check_objects(labels: Sequence[Any]) -> None:
    kinds = set()
    for position, label in enumerate(labels):
        if isinstance(label, tuple | list | dict | set):
            raise LabelError(
                f"Expected each label as a string or a number. Got {shown(label)} of "
                f"type '{type(label).__name__}' at position {position}. Give one label "
                f"for each image, such as ' '.join(label)."
            )
        if isinstance(label, np.ndarray):
            return  # a table, whose shape is refused
        problem = label_problem(label)
        if problem and problem != "no text":
            raise LabelError(
                f"Expected a label for each image, a string or a number. Got "
                f"{shown(label)} ({problem}) at position {position}: y contains NaN or "
                f"the like. Correct it, or leave out images without one."
            )
        kinds.add("text" if isinstance(label, str) else "number")
    if len(kinds) > 1:
        names = sorted({f"'{type(label).__name__}'" for label in labels})
        raise LabelError(
            f"Expected labels of one kind, all strings or all numbers. Got "
            f"{', '.join(names)}. Convert them, and leave out images without one."
        )
