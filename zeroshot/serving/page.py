"""The page at ``/ui``: files of this package, and nothing from anywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from zeroshot.serving.answering import JSON
from zeroshot.serving.limits import RequestRefusedError

__all__ = ["Opening", "add_page"]

FILES = Path(__file__).with_name("page")
# Scripts, styles and requests of this origin alone; pictures also of the browser's own
# memory; in nobody's frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action "
    "'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Opening:
    """What the page shows when it is opened.

    Attributes
    ----------
    labels : str, default=""
        One per line.
    pictures : mapping of str to bytes, default={}
        Names and PNG files.
    """

    labels: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)


class _Page(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def add_page(app: FastAPI, model: str, opening: Opening) -> None:
    """Let an application show the page."""
    files: Sequence[tuple[str, bytes]] = [*opening.pictures.items()]

    @app.get("/", include_in_schema=False)
    async def first() -> Response:
        return RedirectResponse("ui/")

    @app.get("/ui/settings.json", include_in_schema=False)
    async def settings() -> Response:
        shown: list[dict[str, Any]] = [
            {"name": name, "address": f"pictures/{i}"}
            for i, (name, _) in enumerate(files)
        ]
        content = {"model": model, "labels": opening.labels, "pictures": shown}
        return JSON(content, headers=HEADERS)

    @app.get("/ui/pictures/{i}", include_in_schema=False)
    async def picture(i: int) -> Response:
        if not 0 <= i < len(files):
            raise RequestRefusedError(404, "There is no such picture.")
        return Response(files[i][1], media_type="image/png", headers=HEADERS)

    app.mount("/ui", _Page(directory=FILES, html=True), name="page")
