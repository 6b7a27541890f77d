"""A classifier as an HTTP service, with a page for people.

In: a fitted classifier. Out: an ASGI application that answers in the schema of the
Hugging Face task zero-shot-image-classification, in the Open Inference Protocol v2, and
to plain forms. To add a protocol, write a file of routes beside ``plain.py`` and name
it in ``app.py``.

Needs the extra ``serve``.
"""

from typing import TYPE_CHECKING, Any

from zeroshot.errors import MissingExtraError
from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.serving.app import create_app
    from zeroshot.serving.limits import Limits

__all__ = ["Limits", "create_app"]

_find, __dir__ = lazy_names(__name__, {"Limits": "limits", "create_app": "app"})


def __getattr__(name: str) -> Any:
    try:
        return _find(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Expected the packages of the HTTP service. Got no '{error.name}'. "
            f"Run: pip install 'zeroshot[serve]'"
        ) from error
