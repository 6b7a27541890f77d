"""What answers batches, whatever it answers: a column of images, and bad ones."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zeroshot.errors import LabelError
from zeroshot.serving.columns import column_names, column_of, images_of

if TYPE_CHECKING:
    from zeroshot.features import Features

__all__ = ["OnBatches"]


class OnBatches(ABC):
    """What both forms share: a column of images, and what becomes of bad ones.

    Attributes
    ----------
    image_column : str
    on_error : {"nan", "raise"}
    batch_size : int
    cache : bool
    columns : sequence of str
        Names of the new columns.
    """

    image_column: str
    on_error: Literal["raise", "nan"]
    batch_size: int
    cache: bool
    columns: Sequence[str]

    def _set(self, image_column: str, on_error: str, batch_size: int) -> None:
        from zeroshot.estimator import check_count

        check_count("batch_size", batch_size)
        if on_error not in ("raise", "nan"):
            raise ValueError(
                f"Expected on_error 'raise' or 'nan': every row of a batch has a row "
                f"in the answer. Got {on_error!r}."
            )
        self.image_column = image_column
        self.on_error = on_error  # type: ignore[assignment]  # checked
        self.batch_size = batch_size

    def iterate(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Answer batches one after the other, as Spark's ``mapInPandas`` wants it.

        Parameters
        ----------
        batches : iterable of batch

        Yields
        ------
        batch : as `__call__` gives it
            For a batch without rows, too.
        """
        for batch in batches:
            yield self(batch)

    @abstractmethod
    def __call__(self, batch: Any) -> Any:
        """Answer a batch."""

    @abstractmethod
    def check(self) -> None:
        """Read here what a worker will read: errors are told at once, in one line."""

    def schema(self) -> Any:
        """Return the new columns, as a ``pyarrow.Schema``."""
        import pyarrow as pa

        return pa.schema({name: self.arrow_type(name) for name in self.columns})

    @abstractmethod
    def arrow_type(self, name: str) -> Any:
        """Return the type of a new column in Arrow."""

    def given(self, batch: Any) -> "tuple[Any, list[str]]":
        """Return the images of a batch, or their features, and the columns that go."""
        column = column_of(batch, self.image_column)
        return images_of(column), self._dropped(batch, column)

    def reasons(self, features: "Features") -> list[str | None]:
        """Return why images cannot be read; a place in a batch tells nobody anything.

        Parameters
        ----------
        features : Features
            Of n images.

        Returns
        -------
        reasons : list of length n
            None for an image that can be read.
        """
        return [
            features.errors[i].replace(f" at position {i}", "", 1)
            if i in features.errors
            else None
            for i in range(len(features))
        ]

    def digest(self) -> str:
        """Return what is the same where answers are the same."""
        told = json.dumps(self._told(), sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    @abstractmethod
    def _told(self) -> dict[str, Any]:
        """Return what answers depend on."""

    def about(self) -> dict[str, str]:
        """Return what is written into files of answers."""
        return {}

    def _dropped(self, batch: Any, column: Any) -> list[str]:
        """Return which columns do not stay: that of the images, unless it is text."""
        is_text = any(isinstance(value, str) for value in list(column[:20]))
        gone = [] if is_text and len(column) else [self.image_column]
        names = column_names(batch)
        own = [name for name in self.columns if name in names and name not in gone]
        if own:
            raise LabelError(
                f"Expected columns of other names than those of the answer. Got "
                f"{', '.join(map(repr, own))}. Rename them first."
            )
        return gone
