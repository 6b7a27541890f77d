"""What requests and answers look like: for checking the former, documenting both."""

from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.types import FailFast

__all__ = [
    "ERRORS",
    "Embedded",
    "Labelled",
    "Predicted",
    "Problem",
    "Score",
    "SeenLabels",
    "Task",
]

Label = str | int | float | bool


class Problem(BaseModel):
    """Why there is no answer."""

    error: str


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not what the protocol asks for"},
    401: {"model": Problem, "description": "The key is missing or another"},
    404: {"model": Problem, "description": "No such model"},
    408: {"model": Problem, "description": "The request came too slowly"},
    413: {"model": Problem, "description": "Too large, or too many"},
    415: {"model": Problem, "description": "A body that is compressed"},
    422: {"model": Problem, "description": "An image or label that cannot be used"},
    429: {"model": Problem, "description": "Too many wait; see Retry-After"},
    503: {"model": Problem, "description": "No room for the request now"},
    504: {"model": Problem, "description": "It took too long"},
}


class Parameters(BaseModel):
    """Of the Hugging Face task."""

    candidate_labels: Annotated[list[str], FailFast()] = Field(
        min_length=1, examples=[["red star", "blue ring"]]
    )
    hypothesis_template: str | None = Field(
        None, description="'a photo of a {}.'; ignored where labels are words"
    )


class Task(BaseModel):
    """A request of the Hugging Face task zero-shot-image-classification."""

    inputs: str = Field(description="The file of an image, as base64")
    parameters: Parameters


class Score(BaseModel):
    """One label of the answer, best first."""

    label: str
    score: float = Field(description="Probability among the labels given")


class Ranked(BaseModel):
    """One label for an image."""

    label: Label
    score: float
    probability: float
    seen: bool
    rejected: bool
    basis: str


class Result(BaseModel):
    """The answer for one image; with explain=true also why."""

    image: str
    prediction: Label | None
    ranked: list[Ranked]
    error: str | None


class Labelled(BaseModel):
    """How one label was understood."""

    label: Label
    how: str
    words: list[str]
    missing: list[str]
    seen: bool


class Predicted(BaseModel):
    """The answer of /predict."""

    model: str
    results: list[Result]


class Understood(BaseModel):
    """Labels, and how each was understood."""

    labels: list[Labelled]


class SeenLabels(BaseModel):
    """The labels that the model chooses from by itself, and those it was trained on."""

    model: str
    labels: list[Label]
    seen: list[Label]


class Embedded(BaseModel):
    """Features of images."""

    model: str
    backbone: str
    fingerprint: str
    features: list[list[float] | None]
    errors: list[str | None]
