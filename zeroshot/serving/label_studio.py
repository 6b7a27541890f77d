"""What Label Studio asks of an ML backend, below ``/label-studio``.

Labels are the ``<Choice>``s of the project's own configuration. Pictures come as data
addresses, or are fetched: from hosts that the service may ask, Label Studio's own among
them, with the token that it gives at ``/setup``.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urljoin

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic.types import FailFast
from starlette.responses import Response

from zeroshot.errors import InvalidImageError, LabelError
from zeroshot.scoring.answers import RankedLabel, as_pre_annotation
from zeroshot.serving.answering import JSON
from zeroshot.serving.fetching import Fetcher
from zeroshot.serving.forms import ERRORS
from zeroshot.serving.incoming import image_of
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.serving.service import Question, Service

__all__ = ["label_studio_routes"]


class Task(BaseModel):
    """One of the pictures of a project."""

    data: dict[str, Any]


class Asked(BaseModel):
    """A request for predictions."""

    tasks: Annotated[list[Task], FailFast()]
    label_config: str


class Setup(BaseModel):
    """What Label Studio says of itself."""

    hostname: str | None = None
    access_token: str | None = None


class Project(BaseModel):
    """A project, as far as it matters here."""

    label_config: str = ""


class Event(BaseModel):
    """Something has happened in a project."""

    action: str
    task: Task | None = None
    annotation: dict[str, Any] | None = None
    project: Project | None = None


@dataclass(frozen=True)
class _Config:
    """The first ``<Choices>`` of a project, and the ``<Image>`` that it is about."""

    from_name: str
    to_name: str
    field: str
    shown: dict[str, str]  # label to what Label Studio calls it

    @classmethod
    def of(cls, text: str) -> "_Config":
        if "<!" in text.replace("<!--", ""):  # entities have no place here
            text = ""
        try:
            root = ET.fromstring(text)
            choices = next(root.iter("Choices"))
            target = choices.get("toName", "").split(",")[0]
            image = next(one for one in root.iter("Image") if one.get("name") == target)
            shown = {
                choice.attrib["value"]: choice.get("alias") or choice.attrib["value"]
                for choice in choices.iter("Choice")
            }
        except (ET.ParseError, StopIteration, KeyError, ValueError) as error:
            raise LabelError(
                "Expected a project with <Image> and <Choices toName=...> of <Choice "
                "value=...>. Got another one. Choose image classification in its "
                "labelling setup."
            ) from error
        field = image.get("value", "$image").removeprefix("$")
        return cls(choices.get("name", "choice"), target, field, shown)


class _Pictures:
    """Gets the pictures of tasks."""

    def __init__(self, service: Service, fetcher: Fetcher) -> None:
        self._service, self._fetcher = service, fetcher
        self._host, self._token = "", ""

    def learn_host(self, setup: Setup) -> None:
        """Keep where Label Studio is, and what it is asked with."""
        self._host, self._token = setup.hostname or "", setup.access_token or ""

    async def of(self, task: Task, field: str, index: int = 0) -> bytes:
        """Return the picture of a task; raises as `image_of` does."""
        place = task.data.get(field)
        if not isinstance(place, str):
            raise InvalidImageError(
                f"Expected a picture in the field '{field}' of task {index}. Got none.",
                index,
            )
        if place.startswith("/") and self._host:
            place = urljoin(self._host, place)
        async with self._service.in_time():
            if self._host and place.startswith(self._host.rstrip("/") + "/"):
                return await self._fetcher.fetch(place, index, self._token)
            return await image_of(place, self._fetcher, index)


def label_studio_routes(
    service: Service, fetcher: Fetcher, *, learn: bool
) -> APIRouter:
    """Return the routes. ``learn``: whether annotations change the model."""
    router = APIRouter(prefix="/label-studio", responses=ERRORS)
    pictures = _Pictures(service, fetcher)

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the backend lives."""
        return {"status": "UP", "model_class": service.name}

    @router.post("/setup")
    async def setup(asked: Setup) -> dict[str, str]:
        """Take note of a project; return the model's name."""
        pictures.learn_host(asked)
        return {"model_version": service.name}

    @router.post("/predict")
    async def predict(asked: Asked) -> Response:
        """Return a pre-annotation of each task; none where no label fits."""
        config = _Config.of(asked.label_config)
        labels = [*config.shown]
        await service.candidates(labels)
        best: dict[int, RankedLabel] = {}
        for i, task in enumerate(asked.tasks):  # how many come is not ours to choose
            try:
                image = await pictures.of(task, config.field, i)
            except (InvalidImageError, RequestRefusedError):
                continue  # the task stays without
            answer = await service.ask(Question([image], labels, top_k=1))
            if ranked := answer.results[0]["ranked"]:
                best[i] = RankedLabel(**ranked[0])
        names = (service.name, config.from_name, config.to_name, config.shown)
        found = [
            as_pre_annotation(best.get(i), *names) for i in range(len(asked.tasks))
        ]
        return JSON({"results": found})

    @router.post("/webhook")
    async def webhook(event: Event) -> dict[str, str]:
        """Learn from an annotation, where the service was started with ``--learn``."""
        label = _label_of(event.annotation)
        if not learn or event.action != "ANNOTATION_CREATED" or label is None:
            return {"status": "ignored"}
        if event.task is None or event.project is None:
            raise RequestRefusedError(422, "Expected task and project. Got neither.")
        config = _Config.of(event.project.label_config)
        names = {shown: name for name, shown in config.shown.items()}
        image = await pictures.of(event.task, config.field)
        await service.learn(image, names.get(label, label))
        return {"status": "learnt"}

    return router


def _label_of(annotation: dict[str, Any] | None) -> str | None:
    """Return the one choice of an annotation, if there is one."""
    results = (annotation or {}).get("result")
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, dict) else None
        chosen = value.get("choices") if isinstance(value, dict) else None
        if isinstance(chosen, list) and len(chosen) == 1 and isinstance(chosen[0], str):
            return chosen[0]
    return None
