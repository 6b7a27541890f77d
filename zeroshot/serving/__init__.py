"""A classifier at work for many images: over HTTP, and in batches on many machines.

``batch.py``: the picklable forms that an engine (Ray, Spark, processes) hands to its
workers. ``parts.py``: a job in parts, whose finished ones are not done again. To add an
engine, write a function that runs parts beside ``local.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.serving.batch import BatchEmbedder, BatchPredictor

__all__ = ["BatchEmbedder", "BatchPredictor"]

__getattr__, __dir__ = lazy_names(
    __name__, {"BatchEmbedder": "batch", "BatchPredictor": "batch"}
)
