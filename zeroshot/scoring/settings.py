"""What a score loses, and what it means: parameters, checked, and their values.

Each of ``seen_penalty``, ``temperature`` and ``reject`` is a number or ``"auto"``:
fitted on folds of the seen classes (`zeroshot.scoring.calibration`).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

from zeroshot.errors import PartialCoverageWarning
from zeroshot.escaping import shown
from zeroshot.scoring.calibration import MIN_CLASSES, Calibration
from zeroshot.warning import warn

__all__ = ["ScoreSettings", "false_accept_rate"]


@dataclass(frozen=True)
class ScoreSettings:
    """The parameters of a `ZeroShotClassifier` that decide about its scores."""

    hub_correction: float | None
    seen_penalty: Any
    temperature: Any
    reject: Any

    @classmethod
    def of(cls, classifier: Any) -> Self:
        """Return the settings of a classifier; ValueError for one out of range."""
        for name, (wanted, fits) in _CHECKS.items():
            value = getattr(classifier, name)
            if not fits(value):
                raise ValueError(f"Expected {name} to be {wanted}. Got {shown(value)}.")
        return cls(**{name: getattr(classifier, name) for name in _CHECKS})

    @property
    def automatic(self) -> list[str]:
        """Names of the parameters that are fitted on folds."""
        return [
            name
            for name in ("seen_penalty", "temperature", "reject")
            if isinstance(getattr(self, name), str)
        ]

    @property
    def false_accept_rate(self) -> float | None:
        """The rate in ``reject="auto:0.05"``; None where it is not stated."""
        is_auto = isinstance(self.reject, str)
        return (false_accept_rate(self.reject) if is_auto else None) or None

    def can_calibrate(self, n_classes: int) -> bool:
        """Tell whether `fit` has something to calibrate, and classes for it.

        Warns if there are too few, for that or for the rate that is asked for.

        ``n_classes``: seen classes.
        """
        wanted, rate = self.automatic, self.false_accept_rate
        if not wanted:
            return False
        if n_classes < MIN_CLASSES:
            warn(
                f"{' and '.join(wanted)} cannot be fitted: that takes at least "
                f"{MIN_CLASSES} seen classes, here are {n_classes}. There will be no "
                f"penalty, the default temperature and no rejection.",
                PartialCoverageWarning,
                stacklevel=3,
            )
            return False
        if rate is not None and 1 / rate - 1 > n_classes:
            warn(
                f"A false-accept rate of {rate} takes {math.ceil(1 / rate - 1)} seen "
                f"classes to be kept, here are {n_classes}. Expect more or fewer "
                f"images to be accepted.",
                PartialCoverageWarning,
                stacklevel=3,
            )
        return True

    def in_effect(
        self, calibration: Calibration | None, n_classes: int, temperature: float
    ) -> Self:
        """Return the settings with numbers for ``"auto"``; a rate of ``reject`` stays.

        Raises ValueError if something is ``"auto"`` that was not in `fit`.

        ``calibration``: what `fit` learnt. ``n_classes``: seen classes; where they are
        too few for folds, nothing is in effect. ``temperature``: where none is set.
        """
        if self.automatic and calibration is None and n_classes >= MIN_CLASSES:
            raise ValueError(
                f"Expected a fit that calibrates, for {self.automatic[0]}. Got one in "
                f"which nothing was 'auto'. Set seen_penalty, temperature or reject to "
                f"'auto' and fit again."
            )
        found = dict[str, Any](seen_penalty=0.0, temperature=None, reject=None)
        if calibration is not None:
            found = {**vars(calibration), "reject": self.reject}
        settings = replace(self, **{name: found[name] for name in self.automatic})
        return replace(settings, temperature=settings.temperature or temperature)


def false_accept_rate(text: str) -> float | None:
    """Return the rate in ``"auto:0.05"``; 0 for ``"auto"``, None for any other text.

    Examples
    --------
    >>> false_accept_rate("auto:0.05"), false_accept_rate("auto:2")
    (0.05, None)
    """
    match = re.fullmatch(r"auto(?::([0-9]{0,9}\.?[0-9]{1,9}))?", text)
    if match is None:
        return None
    rate = float(match[1] or 0)
    return rate if match[1] is None or 0 < rate < 1 else None


def _is_number(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float is as large as
        return False


def _is_auto(value: object) -> bool:
    return isinstance(value, str) and value == "auto"


# What each parameter must be, in words and as a function.
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "hub_correction": (
        "a number >= 0, or None",
        lambda value: value is None or (_is_number(value) and value >= 0),
    ),
    "seen_penalty": (
        "a number, or 'auto'",
        lambda value: _is_auto(value) or _is_number(value),
    ),
    "temperature": (
        "a number > 0, None or 'auto'",
        lambda value: (
            value is None or _is_auto(value) or (_is_number(value) and value > 0)
        ),
    ),
    "reject": (
        "a number in [-1, 1], None, 'auto' or 'auto:<false-accept rate in (0, 1)>'",
        lambda value: (
            value is None
            or (isinstance(value, str) and false_accept_rate(value) is not None)
            or (_is_number(value) and -1 <= value <= 1)
        ),
    ),
}
