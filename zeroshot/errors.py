"""The exceptions and warnings of `zeroshot`.

::

    ZeroShotError
    |- PluginError
    |  |- UnknownPluginError      (LookupError)
    |  |- MissingExtraError       (ImportError)
    |  `- PluginContractError     (TypeError)
    |     `- NoClassifierError
    |- InvalidImageError          (ValueError)
    |- LabelError                 (ValueError)
    |  `- OutOfVocabularyError
    |- FingerprintMismatchError   (ValueError)
    `- ArtifactError              (ValueError)

    ZeroShotWarning               (UserWarning)
    |- PartialCoverageWarning
    `- SeenInPretrainingWarning

Each also inherits the builtin that a caller would expect, so ``except ValueError``
works for those who do not know this module. Predicting before fitting raises
scikit-learn's ``NotFittedError``.
"""

from collections.abc import Mapping, Sequence

from zeroshot.escaping import lines_escaped

__all__ = [
    "ArtifactError",
    "FingerprintMismatchError",
    "InvalidImageError",
    "LabelError",
    "MissingExtraError",
    "NoClassifierError",
    "OutOfVocabularyError",
    "PartialCoverageWarning",
    "PluginContractError",
    "PluginError",
    "SeenInPretrainingWarning",
    "UnknownPluginError",
    "ZeroShotError",
    "ZeroShotWarning",
]


class ZeroShotError(Exception):
    """Base of every error that this package raises on purpose."""

    def __str__(self) -> str:
        """Return the message; names in it cannot do anything to a terminal."""
        return lines_escaped(super().__str__())


class PluginError(ZeroShotError):
    """A plugin (backbone, text embeddings or projection) is at fault."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin has that name; the message gives the nearest names and all names."""


class MissingExtraError(PluginError, ImportError):
    """An optional dependency is missing; the message gives the pip command."""


class PluginContractError(PluginError, TypeError):
    """A plugin does not keep its contract; names the plugin, expected and got."""


class NoClassifierError(PluginContractError):
    """A backbone has no classifier of its pretraining; says why, and what has one."""


class InvalidImageError(ZeroShotError, ValueError):
    """An image cannot be read.

    Parameters
    ----------
    message : str
        What was expected, what came, what to do.
    index : int, optional
        Position of the image in the input, from 0.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class LabelError(ZeroShotError, ValueError):
    """A list of labels cannot be used (empty, duplicates, wrong length, one class)."""


class OutOfVocabularyError(LabelError):
    """Labels that the text embeddings cannot represent, all at once.

    Parameters
    ----------
    message : str
        Names every label, the words that were missing and the nearest known words.
    labels : sequence of str
        All labels that could not be represented.
    suggestions : mapping of str to sequence of str, optional
        For a label, known words spelt nearly like it.
    """

    def __init__(
        self,
        message: str,
        labels: Sequence[str],
        suggestions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.labels = list(labels)
        self.suggestions = {k: list(v) for k, v in (suggestions or {}).items()}


class FingerprintMismatchError(ZeroShotError, ValueError):
    """A model was trained with one backbone or vector file and is given another."""


class ArtifactError(ZeroShotError, ValueError):
    """A file (vectors, weights, bundle, cache) is broken, foreign or missing."""


class ZeroShotWarning(UserWarning):
    """Base of every warning of this package."""

    def __str__(self) -> str:
        """Return the message; names in it cannot do anything to a terminal."""
        return lines_escaped(super().__str__())


class PartialCoverageWarning(ZeroShotWarning):
    """Something was left out or approximated; the message says what."""


class SeenInPretrainingWarning(ZeroShotWarning):
    """Classes called unseen were among the classes that the backbone was trained on."""
