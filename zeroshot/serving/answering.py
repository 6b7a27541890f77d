"""Answers of the service: JSON that holds whatever a label may hold, and errors."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from zeroshot.errors import (
    InvalidImageError,
    LabelError,
    OutOfVocabularyError,
    ZeroShotError,
)
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.storage.addresses import hide_secrets

__all__ = ["JSON", "add_error_handlers", "refusal"]

MOST_PROBLEMS = 3  # of a request's form that an error names
LOG = logging.getLogger("zeroshot.serving")


class JSON(Response):
    """An answer in JSON; a label that is no valid Unicode is escaped, not an error."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the content as text of ASCII."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def refusal(error: RequestRefusedError) -> Response:
    """Return the answer to a request that is refused."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSON({"error": str(error), **error.more}, error.status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of an application be told as ``{"error": ...}``."""

    def add(kind: type[Exception], told: Callable[[Any], RequestRefusedError]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return refusal(told(error))

        app.add_exception_handler(kind, handle)

    add(RequestRefusedError, lambda error: error)
    add(RequestValidationError, lambda error: _of_form(error.errors()))
    add(ZeroShotError, _of_package)
    add(MemoryError, lambda error: RequestRefusedError(503, "Out of memory.", 5))
    add(Exception, _unexpected)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = {404: "no such path", 405: "no such method"}.get(error.status_code)
        text = f"Expected a request as in /openapi.json. Got {told or error.detail}."
        answer = refusal(RequestRefusedError(error.status_code, text))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(HTTPException, of_http)


def _of_form(problems: Sequence[Mapping[str, Any]]) -> RequestRefusedError:
    told = [
        f"{'.'.join(map(str, problem['loc']))[:100]}: {problem['msg'][:200]}"
        for problem in problems[:MOST_PROBLEMS]
    ]
    return RequestRefusedError(
        422,
        f"Expected a request as in /openapi.json. Got one that is not: "
        f"{'; '.join(told)}.",
    )


def _of_package(error: ZeroShotError) -> RequestRefusedError:
    """Tell what is wrong with labels and images; of a broken model only that it is."""
    if isinstance(error, OutOfVocabularyError):
        more = {"labels": error.labels[:100], "suggestions": error.suggestions}
        return RequestRefusedError(422, str(error), more=more)
    if isinstance(error, InvalidImageError | LabelError):
        return RequestRefusedError(422, hide_secrets(str(error)))
    return _unexpected(error)


def _unexpected(error: Exception) -> RequestRefusedError:
    LOG.error("A request failed.", exc_info=error)
    return RequestRefusedError(500, "The service failed; its log says why.")
