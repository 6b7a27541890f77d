"""Settings of fine-tuning (`zeroshot.training.fine_tuning`), and its report."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from zeroshot.escaping import shown

__all__ = ["FineTuning", "FineTuningReport"]


@dataclass(frozen=True)
class FineTuning:
    """How the last layers of a backbone are trained after the map.

    The frozen layers before them compute each image once for each of a few augmented
    views; what they give is kept in a temporary file. So an epoch costs only the last
    layers: the compromise that makes fine-tuning bearable on a CPU.

    Parameters
    ----------
    layers : int or str, default=4
        How many of the last layers that have weights are trained (batch norm is frozen
        and not counted), or the name of the first layer to train.
    learning_rate : float, default=0.0001
        Of Adam, constant, for these layers and the map.
    epochs : int, default=10
        Most passes over the images.
    patience : int, default=3
        Epochs without a better validation score after which to stop.
    views : int, default=4
        Views of each image: itself, and random crops of it, half of them mirrored. An
        epoch takes one of them at random. 1 is no augmentation.
    smallest_crop : float, default=0.5
        Least share of the image's area in a crop, in (0, 1].
    batch_size : int, default=32
        Images per step.
    validation_fraction : float, default=0.2
        Share of the seen classes that is held out to choose the number of epochs, and
        to see whether fine-tuning helps classes that were not trained on. 0: all epochs
        are run, and nobody looks.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> FineTuning(layers=2).layers
    2
    """

    layers: int | str = 4
    learning_rate: float = 1e-4
    epochs: int = 10
    patience: int = 3
    views: int = 4
    smallest_crop: float = 0.5
    batch_size: int = 32
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("layers", _is_layers, "as a whole number >= 1 or the name of a layer"),
            ("learning_rate", lambda v: 0 < v < math.inf, "> 0"),
            ("epochs", _is_count, "as a whole number >= 1"),
            ("patience", _is_count, "as a whole number >= 1"),
            ("views", _is_count, "as a whole number >= 1"),
            ("smallest_crop", lambda v: 0 < v <= 1, "in (0, 1]"),
            ("batch_size", _is_count, "as a whole number >= 1"),
            ("validation_fraction", lambda v: 0 <= v < 1, "in [0, 1)"),
        ):
            value = getattr(self, name)
            try:
                is_right = fits(value)
            except TypeError:  # of a kind that cannot be compared
                is_right = False
            if not is_right:
                raise ValueError(f"Expected {name} {wanted}. Got {shown(value)}.")

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Return the settings that a value of ``fine_tune=`` stands for.

        Parameters
        ----------
        value : FineTuning, int, str or None
            A number or a name are the ``layers``; ``"auto"`` is all defaults.

        Returns
        -------
        settings : FineTuning or None

        Raises
        ------
        ValueError
            If it is none of these.
        """
        if value is None or isinstance(value, cls):
            return value
        if not _is_layers(value):
            raise ValueError(
                f"Expected fine_tune to be 'auto', a number of layers, the name of the "
                f"first layer to train, a FineTuning or None. Got {shown(value)}."
            )
        return cls() if value == "auto" else cls(layers=value)


@dataclass(frozen=True)
class FineTuningReport:
    """What fine-tuning did.

    Attributes
    ----------
    used : bool
        Whether the backbone was changed. It is not where fine-tuning did not help the
        held-out classes by more than the standard error.
    layers : tuple of str
        Names of the layers that were trained, first to last.
    n_epochs : int
        Epochs of the final training; 0 if there was none.
    frozen_score, tuned_score : float or None
        Mean reciprocal rank among the held-out classes with the frozen backbone, and
        after the best epoch. None where no class was held out.
    standard_error : float or None
        Of the difference of the two, over the held-out classes.
    held_out : tuple of int
        Rows of ``classes_`` of the held-out classes.
    loss : tuple of float
        Mean loss of the training images in each epoch of the last training.
    """

    used: bool
    layers: tuple[str, ...]
    n_epochs: int
    frozen_score: float | None = None
    tuned_score: float | None = None
    standard_error: float | None = None
    held_out: tuple[int, ...] = field(default=(), repr=False)
    loss: tuple[float, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """Return one sentence."""
        scores = ""
        if self.frozen_score is not None:
            scores = (
                f": mean reciprocal rank on held-out classes {self.tuned_score:.3f}, "
                f"frozen {self.frozen_score:.3f}, standard error of the difference "
                f"{self.standard_error:.3f}"
            )
        did = "Fine-tuning did not help; the backbone stays frozen"
        if self.used:
            did = f"Fine-tuned {len(self.layers)} layers, {self.n_epochs} epochs"
        return f"{did}{scores}."

    def to_dict(self) -> dict[str, Any]:
        """Return the content, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return the report that `to_dict` made."""
        lists = {name: tuple(content[name]) for name in ("layers", "held_out", "loss")}
        return cls(**(content | lists))


def _is_count(value: object) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and bool(value >= 1)  # type: ignore[operator]


def _is_layers(value: object) -> bool:
    return _is_count(value) or (isinstance(value, str) and value != "")
