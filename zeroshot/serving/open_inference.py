"""The Open Inference Protocol v2, as KServe and Triton speak it.

Tensors in: ``images``, BYTES [n], and ``candidate_labels``, BYTES [m]. Out, for each
image the best labels first: ``labels``, BYTES [n, k], ``scores`` and ``probabilities``,
FP32 [n, k]. Parameters: ``top_k``, ``adapt``, ``multi_label``. In JSON an image is
base64; with the extension for binary data, which Triton's clients use, it is the file
itself.
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from zeroshot import __version__
from zeroshot.serving.answering import JSON
from zeroshot.serving.fetching import Fetcher
from zeroshot.serving.forms import ERRORS
from zeroshot.serving.incoming import images_of
from zeroshot.serving.limits import RequestRefusedError
from zeroshot.serving.service import Question, Service
from zeroshot.storage.strict_json import parse_json

__all__ = ["open_inference_routes"]

HEADER_LENGTH = "inference-header-content-length"
INPUTS = ("images", "candidate_labels")
OUTPUTS = {"labels": "BYTES", "scores": "FP32", "probabilities": "FP32"}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"enum": list(INPUTS)},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"const": "BYTES"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {"type": "string"}},
    },
}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": list(OUTPUTS)}},
            },
        },
        "parameters": {
            "type": "object",
            "properties": {
                "top_k": {"type": "integer", "minimum": 1},
                "adapt": {"type": "boolean"},
                "multi_label": {"type": "boolean"},
            },
        },
    },
}
BODY = {"required": True, "content": {"application/json": {"schema": REQUEST}}}


def open_inference_routes(service: Service, fetcher: Fetcher) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v2", responses=ERRORS)
    Name = Annotated[str, Path(examples=[service.name])]

    def check_name(name: str) -> None:
        if name != service.name:
            raise RequestRefusedError(
                404, f"Expected the model {service.name!r}. Got {name[:100]!r}."
            )

    @router.get("")
    async def server() -> dict[str, Any]:
        """Tell what serves."""
        extensions = ["binary_tensor_data"]
        return {"name": "zeroshot", "version": __version__, "extensions": extensions}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Tell that the process lives."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Tell that the model is loaded."""
        return {"ready": True}

    @router.get("/models/{name}")
    async def model(name: Name) -> dict[str, Any]:
        """Tell what tensors the model takes and gives."""
        check_name(name)
        return {
            "name": service.name,
            "versions": ["1"],
            "platform": "zeroshot",
            "inputs": [{"name": n, "datatype": "BYTES", "shape": [-1]} for n in INPUTS],
            "outputs": [
                {"name": n, "datatype": kind, "shape": [-1, -1]}
                for n, kind in OUTPUTS.items()
            ],
        }

    @router.get("/models/{name}/ready")
    async def model_ready(name: Name) -> dict[str, Any]:
        """Tell that the model is loaded."""
        check_name(name)
        return {"name": service.name, "ready": True}

    @router.post("/models/{name}/infer", openapi_extra={"requestBody": BODY})
    async def infer(name: Name, request: Request) -> Response:
        """Name images, each with the best of some labels."""
        check_name(name)
        body = await request.body()
        asked = _Asked.of(body, request.headers.get(HEADER_LENGTH))
        labels = _texts(asked.tensors.get("candidate_labels"))
        await service.candidates(labels)  # an unknown label costs no image work
        given = asked.tensors["images"]
        service.limits.check_images(len(given))
        if all(isinstance(one, bytes) for one in given):
            images = [one for one in given if isinstance(one, bytes)]
        else:
            async with service.in_time():
                images = await images_of(_texts(given) or [], fetcher)
        answer = await service.ask(
            Question(images, labels, asked.top_k, asked.adapt, asked.multi_label)
        )
        answer.check_readable()
        ranked = [result["ranked"] for result in answer.results]
        columns = {"labels": "label", "scores": "score", "probabilities": "probability"}
        outputs = {
            name: [[best[columns[name]] for best in row] for row in ranked]
            for name in asked.outputs
        }
        return asked.answered(service.name, outputs)

    return router


@dataclass(frozen=True)
class _Asked:
    """A request for inference, taken apart."""

    id: str
    tensors: dict[str, list[bytes | str]]
    outputs: dict[str, bool]  # name to whether it is wanted as binary data
    top_k: int | None
    adapt: bool
    multi_label: bool

    @classmethod
    def of(cls, body: bytes, header_length: str | None) -> "_Asked":
        rest = b""
        if header_length is not None:
            n = int(header_length) if header_length.isdecimal() else -1
            if not (len(header_length) < 19 and 0 < n <= len(body)):
                raise _malformed(f"{HEADER_LENGTH} is no length within the body")
            body, rest = body[:n], body[n:]
        try:
            content = parse_json(body)
        except ValueError as error:
            raise _malformed(f"the body is no JSON: {str(error)[:200]}") from error
        content = _object(content, "the request")
        parameters = _object(content.get("parameters", {}), "parameters")
        tensors: dict[str, list[bytes | str]] = {}
        for tensor in _objects(content.get("inputs"), "inputs"):
            name = _one_of(tensor, INPUTS)
            values, rest = _values(tensor, name, rest)
            if name in tensors:
                raise _malformed(f"the input {name!r} comes twice")
            tensors[name] = values
        if rest:
            raise _malformed(f"{len(rest)} bytes behind the last tensor")
        if "images" not in tensors:
            raise _malformed("there is no input 'images'")
        is_binary = parameters.get("binary_data_output") is True
        outputs = dict.fromkeys(OUTPUTS, is_binary)
        if asked := _objects(content.get("outputs", []), "outputs"):
            outputs = {
                _one_of(one, tuple(OUTPUTS)): _object(
                    one.get("parameters", {}), "parameters"
                ).get("binary_data", is_binary)
                is True
                for one in asked
            }
        top_k = parameters.get("top_k")
        if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= 10**9):
            raise _malformed("top_k is no whole number of at least 1")
        flags = [parameters.get(name, False) for name in ("adapt", "multi_label")]
        if not all(isinstance(flag, bool) for flag in flags) or all(flags):
            raise _malformed("adapt and multi_label are true or false, one of them")
        given_id = content.get("id", "")
        if not isinstance(given_id, str):
            raise _malformed("id is no text")
        return cls(given_id, tensors, outputs, top_k, *flags)

    def answered(self, model: str, outputs: dict[str, list[list[Any]]]) -> Response:
        """Return the tensors, in JSON or behind it."""
        told: list[dict[str, Any]] = []
        behind = b""
        for name, rows in outputs.items():
            kind = OUTPUTS[name]
            values = [value for row in rows for value in row]
            if kind == "BYTES":
                values = [str(value) for value in values]
            tensor: dict[str, Any] = {
                "name": name,
                "datatype": kind,
                "shape": [len(rows), len(rows[0])],
            }
            if self.outputs[name]:
                content = _packed(values, kind)
                tensor["parameters"] = {"binary_data_size": len(content)}
                behind += content
            else:
                tensor["data"] = values
            told.append(tensor)
        answer = {
            "model_name": model,
            "model_version": "1",
            "id": self.id,
            "outputs": told,
        }
        if not behind:
            return JSON(answer)
        head = json.dumps(answer).encode()
        headers = {HEADER_LENGTH: str(len(head))}
        return Response(
            head + behind, headers=headers, media_type="application/octet-stream"
        )


def _packed(values: list[Any], kind: str) -> bytes:
    """Return values as the extension for binary data packs them."""
    if kind == "FP32":
        return np.asarray(values, "<f4").tobytes()
    texts = [value.encode("utf-8", "surrogatepass") for value in values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _values(
    tensor: dict[str, Any], name: str, rest: bytes
) -> tuple[list[bytes | str], bytes]:
    """Return the elements of a tensor, and what of the binary data is left."""
    if tensor.get("datatype") != "BYTES":
        raise _malformed(f"the datatype of {name!r} is not BYTES")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(n) is int and 0 <= n < 2**31 for n in shape
    ):
        raise _malformed(f"the shape of {name!r} is no list of sizes")
    values: list[bytes | str] = []
    size = _object(tensor.get("parameters", {}), "parameters").get("binary_data_size")
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise _malformed(f"binary_data_size of {name!r} is not what there is")
        content, rest = rest[:size], rest[size:]
        place = 0
        while place < size:
            end = place + 4 + int.from_bytes(content[place : place + 4], "little")
            if place + 4 > size or end > size:
                raise _malformed(f"the elements of {name!r} are cut")
            values.append(content[place + 4 : end])
            place = end
    else:
        given = tensor.get("data")
        if not isinstance(given, list):
            raise _malformed(f"the data of {name!r} are no list")
        if any(isinstance(value, list) for value in given):  # rows within a list
            given = [
                v for row in given for v in (row if isinstance(row, list) else [0])
            ]
        if not all(isinstance(value, str) for value in given):
            raise _malformed(f"the data of {name!r} are not all text")
        values = given
    if math.prod(shape) != len(values):
        raise _malformed(f"{name!r} of shape {shape[:8]} has {len(values)} elements")
    return values, rest


def _texts(values: list[bytes | str] | None) -> list[str] | None:
    if values is None:
        return None
    try:
        return [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    except UnicodeDecodeError as error:
        raise _malformed("a label is no UTF-8") from error


def _object(content: object, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _malformed(f"{what} is no object")
    return content


def _objects(content: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(content, list) or len(content) > 100:
        raise _malformed(f"{what} is no list of tensors")
    return [_object(one, f"one of {what}") for one in content]


def _one_of(tensor: dict[str, Any], names: tuple[str, ...]) -> str:
    name = tensor.get("name")
    if name not in names:
        raise _malformed(f"the tensor {str(name)[:50]!r} is none of {', '.join(names)}")
    return str(name)


def _malformed(what: str) -> RequestRefusedError:
    return RequestRefusedError(
        400,
        f"Expected a request of the Open Inference Protocol, with BYTES tensors "
        f"'images' and 'candidate_labels'. Got one in which {what}. Correct it.",
    )
