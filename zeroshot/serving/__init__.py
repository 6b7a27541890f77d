"""A classifier at work for many: over HTTP, and in batches on many machines.

``app.py``: an ASGI application that answers in the schema of the Hugging Face task
zero-shot-image-classification, in the Open Inference Protocol v2, and to plain forms,
with a page for people; it needs the extra ``serve``. To add a protocol, write a file of
routes beside ``plain.py`` and name it in ``app.py``. ``batch.py``: the picklable forms
that an engine (Ray, Spark, processes) hands to its workers. ``parts.py``: a job in
parts, whose finished ones are not done again. To add an engine, write a function that
runs parts beside ``local.py``.
"""

from typing import TYPE_CHECKING, Any

from zeroshot.errors import MissingExtraError
from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.serving.app import create_app
    from zeroshot.serving.batch import BatchEmbedder, BatchPredictor
    from zeroshot.serving.limits import Limits

__all__ = ["BatchEmbedder", "BatchPredictor", "Limits", "create_app"]

_find, __dir__ = lazy_names(
    __name__,
    {
        "BatchEmbedder": "batch",
        "BatchPredictor": "batch",
        "Limits": "limits",
        "create_app": "app",
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _find(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Expected the packages of the HTTP service. Got no '{error.name}'. "
            f"Run: pip install 'zeroshot[serve]'"
        ) from error
