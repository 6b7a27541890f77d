"""Plain routes, for curl, a page and a monitor: predict, embed, labels, health."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from starlette.responses import PlainTextResponse, Response

from zeroshot.labels import PlacedCandidates
from zeroshot.serving.answering import JSON
from zeroshot.serving.fetching import Fetcher
from zeroshot.serving.forms import (
    ERRORS,
    Embedded,
    Predicted,
    SeenLabels,
    Understood,
)
from zeroshot.serving.incoming import labels_of
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.serving.service import Question, Service

__all__ = ["plain_routes"]

Files = Annotated[
    list[UploadFile] | None, File(description="Files of images; repeat the field")
]
Urls = Annotated[
    list[str] | None,
    Form(description="Addresses of images, where the service allows them"),
]
LabelsText = Annotated[
    str | None,
    Form(
        description="'okapi, zebra'; or a line each, with other names: "
        "'okapi: forest giraffe'; or JSON. None: those of GET /labels",
        examples=["red star, blue ring"],
    ),
]


def plain_routes(service: Service, fetcher: Fetcher) -> APIRouter:
    """Return the routes."""
    router = APIRouter(responses=ERRORS)

    async def images_in(
        files: list[UploadFile] | None, urls: list[str] | None
    ) -> tuple[list[bytes], list[str]]:
        service.limits.check_images(len(files or ()) + len(urls or ()))
        images: list[bytes] = []
        names: list[str] = []
        for file in files or ():
            images.append(await file.read())
            names.append(file.filename or f"image {len(names)}")
        async with service.in_time():
            for url in urls or ():
                images.append(await fetcher.fetch(url, len(images)))
                names.append(url)
        return images, names

    @router.post("/predict", responses={200: {"model": Predicted}})
    async def predict(
        files: Files = None,
        urls: Urls = None,
        labels: LabelsText = None,
        top_k: Annotated[int, Form(ge=1, le=1_000_000)] = 5,
        adapt: Annotated[bool, Form(description="Judge the images together")] = False,
        multi_label: Annotated[bool, Form(description="Rate each by itself")] = False,
        explain: Annotated[bool, Form(description="Say why")] = False,
    ) -> Response:
        """Name images, each with the best of some labels."""
        if adapt + multi_label + explain > 1:
            raise RequestRefusedError(
                422, "Expected one of adapt, multi_label and explain. Got several."
            )
        given = labels_of(labels)
        await service.candidates(given)  # an unknown label costs no image work
        images, names = await images_in(files, urls)
        answer = await service.ask(
            Question(images, given, top_k, adapt, multi_label, explain, names)
        )
        answer.check_readable(every=False)
        return JSON({"model": service.name, "results": answer.results})

    @router.post("/embed", responses={200: {"model": Embedded}})
    async def embed(files: Files = None, urls: Urls = None) -> Response:
        """Return the features of images, as 'zeroshot embed' does."""
        images, _ = await images_in(files, urls)
        features = await service.features(images)
        backbone = service.classifier.backbone_
        rows = features.matrix.tolist()
        errors = [features.errors.get(i) for i in range(len(rows))]
        return JSON(
            {
                "model": service.name,
                "backbone": backbone.name,
                "fingerprint": features.fingerprint,
                "features": [
                    None if e else row for row, e in zip(rows, errors, strict=True)
                ],
                "errors": errors,
            }
        )

    @router.get("/labels", responses={200: {"model": SeenLabels}})
    async def labels() -> Response:
        """Return what the model chooses from where a request names no labels."""
        found = await service.candidates(None)
        seen = service.classifier.seen_classes_.tolist()
        return JSON(
            {"model": service.name, "labels": found.labels.tolist(), "seen": seen}
        )

    @router.post("/labels", responses={200: {"model": Understood}})
    async def understood(labels: LabelsText = None) -> Response:
        """Tell how labels are understood: which words, what is missing."""
        found = await service.candidates(labels_of(labels))
        return JSON({"labels": _told(found)})

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Tell that the process lives."""
        return {"status": "alive"}

    @router.get("/health/ready")
    async def ready() -> dict[str, str]:
        """Tell that the model is loaded."""
        return {"status": "ready", "model": service.name}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counters in the text form of Prometheus."""
        return Response(service.metrics.text(), media_type=PROMETHEUS)

    return router


PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def _told(found: PlacedCandidates) -> list[dict[str, Any]]:
    seen = found.is_seen.tolist()
    return [
        {**asdict(entry), "label": label, "seen": is_seen}
        for entry, label, is_seen in zip(
            found.entries, found.labels.tolist(), seen, strict=True
        )
    ]
