"""`create_app`: the service as an ASGI application."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sklearn.utils.validation import check_is_fitted
from starlette.middleware.cors import CORSMiddleware

from zeroshot import __version__
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.serving.answering import add_error_handlers
from zeroshot.serving.fetching import Fetcher
from zeroshot.serving.gate import Gate
from zeroshot.serving.hugging_face import hugging_face_routes
from zeroshot.serving.label_studio import label_studio_routes
from zeroshot.serving.limits import Limits
from zeroshot.serving.metrics import Metrics
from zeroshot.serving.open_inference import open_inference_routes
from zeroshot.serving.page import Opening, add_page
from zeroshot.serving.plain import plain_routes
from zeroshot.serving.reloading import Replaced
from zeroshot.serving.service import Service

__all__ = ["create_app"]


def create_app(
    classifier: ZeroShotClassifier,
    *,
    name: str = "zeroshot",
    limits: Limits | None = None,
    api_key: str | None = None,
    allow_urls: Iterable[str] = (),
    cors_origins: Iterable[str] = (),
    replaced: Replaced | None = None,
    opening: Opening | None = None,
    learn: bool = False,
) -> FastAPI:
    """Return an ASGI application that answers by a classifier.

    Run it by ``zeroshot serve``, by any ASGI server in one process, or mount it.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted, with a backbone. Images that cannot be read are told for each image,
        whatever its ``on_error``.
    name : str, default="zeroshot"
        Of the model, in addresses and answers.
    limits : Limits or None, default=None
        What a request may ask for; None is `Limits` with all its defaults.
    api_key : str or None, default=None
        What requests must bring as ``Authorization: Bearer <key>``; the page and
        ``/health`` need none.
    allow_urls : iterable of str, default=()
        Hosts that images may be fetched from: see `zeroshot.serving.fetching`.
    cors_origins : iterable of str, default=()
        Origins whose pages may ask, such as ``"https://example.org"``.
    replaced : Replaced or None, default=None
        Where to look for a newer model while the application runs.
    opening : Opening or None, default=None
        Labels and pictures that the page at ``/ui`` shows when it is opened.
    learn : bool, default=False
        Whether annotations that Label Studio sends are learnt from. What is learnt is
        not saved.

    Returns
    -------
    app : FastAPI

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    ValueError
        If it has no backbone, a setting is "auto" that it was not fitted with, or
        ``name`` or ``api_key`` cannot be used.
    """
    check_is_fitted(classifier)
    if classifier.backbone_ is None:
        raise ValueError(
            "Expected a classifier with a backbone, to read images with. Got one of "
            "features (backbone=None). Fit it with a backbone."
        )
    _ = classifier.temperature_  # raises where "auto" was set and nothing was fitted
    if not name.strip() or "/" in name:
        raise ValueError(f"Expected a name without '/', for addresses. Got {name!r}.")
    limits, metrics = limits or Limits(), Metrics()
    if api_key is not None and not api_key.strip():
        raise ValueError("Expected a key. Got an empty one. Give None for no key.")
    service = Service(classifier, name, limits, metrics)
    fetcher = Fetcher(allow_urls, limits.body)

    @asynccontextmanager
    async def watching(app: FastAPI) -> AsyncIterator[None]:
        if replaced is None:
            yield
            return
        async with replaced.watched(service):
            yield

    app = FastAPI(
        title="zeroshot",
        version=__version__,
        description="Zero-shot image classification: labels come with the request.",
        lifespan=watching,
        docs_url=None,  # its pages load scripts from another host
        redoc_url=None,
    )
    add_error_handlers(app)
    app.include_router(hugging_face_routes(service, fetcher))
    app.include_router(open_inference_routes(service, fetcher))
    app.include_router(plain_routes(service, fetcher))
    app.include_router(label_studio_routes(service, fetcher, learn=learn))
    add_page(app, name, opening or Opening())
    app.add_middleware(
        Gate,
        limits=limits,
        metrics=metrics,
        check_room=service.batcher.check_room,
        api_key=api_key,
    )
    if origins := list(cors_origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app
