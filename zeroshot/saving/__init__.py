"""Fitted classifiers as folders: write, read, describe.

In: what has been learnt. Out: a bundle of JSON, arrays and a model card; nothing that
can run. To keep something more, open ``fitted.py``, then ``record_form.py``, which says
what a record may hold.
"""

from zeroshot.saving.fitted import Fitted
from zeroshot.saving.reading import read_fitted as read_fitted
from zeroshot.saving.writing import write_fitted as write_fitted

__all__ = ["Fitted"]
