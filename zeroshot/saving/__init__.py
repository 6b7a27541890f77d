"""Fitted classifiers as folders: write, read, describe.

In: what has been learnt. Out: a bundle of JSON, arrays and a model card; nothing that
can run. To keep something more, open ``fitted.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.saving.fitted import Fitted, read_fitted, write_fitted

__all__ = [
    "Fitted",
    "read_fitted",
    "write_fitted",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Fitted": "fitted",
        "read_fitted": "fitted",
        "write_fitted": "fitted",
    },
)
