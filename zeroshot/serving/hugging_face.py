"""The schema of the Hugging Face task zero-shot-image-classification.

``huggingface_hub.InferenceClient(model="http://127.0.0.1:8000")`` asks it as it asks
any other endpoint.
"""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from zeroshot.errors import LabelError
from zeroshot.serving.answering import JSON
from zeroshot.serving.fetching import Fetcher
from zeroshot.serving.forms import ERRORS, Score, Task
from zeroshot.serving.incoming import image_of
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.serving.service import Question, Service

__all__ = ["hugging_face_routes"]


def hugging_face_routes(service: Service, fetcher: Fetcher) -> APIRouter:
    """Return the routes."""
    router = APIRouter(responses=ERRORS)
    Name = Annotated[str, Path(examples=[service.name])]

    async def answered(task: Task) -> Response:
        labels = task.parameters.candidate_labels
        if not labels:
            raise LabelError("Expected at least one label. Got none. Name them.")
        template, headers = task.parameters.hypothesis_template, {}
        if template is not None and not service.takes_templates:
            headers["X-Hypothesis-Template"] = "ignored: word vectors take none"
            template = None
        await service.candidates(labels, template)  # unknown ones cost no image work
        image = await image_of(task.inputs, fetcher)
        answer = await service.ask(Question([image], labels, template=template))
        answer.check_readable()
        scores = [
            {"label": best["label"], "score": best["probability"]}
            for best in answer.results[0]["ranked"]
        ]
        return JSON(scores, headers=headers)

    @router.post("/", responses={200: {"model": list[Score]}})
    async def classify(task: Task) -> Response:
        """Rate labels for an image: the Hugging Face task."""
        return await answered(task)

    @router.post("/models/{name}", responses={200: {"model": list[Score]}})
    async def classify_by(name: Name, task: Task) -> Response:
        """Rate labels for an image, by the model of this name."""
        if name != service.name:
            raise RequestRefusedError(
                404, f"Expected the model {service.name!r}. Got {name[:100]!r}."
            )
        return await answered(task)

    return router
