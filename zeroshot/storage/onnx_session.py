"""An ONNX file, opened: its content is whole, and each process has a session of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.per_process import PerProcess
from zeroshot.storage.regular_files import read_limited

__all__ = ["import_onnx", "onnx_content", "onnx_model", "onnx_sessions"]

# Runs operations that send inputs to an address which the file names.
REMOTE = {"AzureExecutionProvider"}
MOST_BYTES = 2 << 30  # of a file: protobuf's limit


def onnx_sessions(content: bytes, shown: str, extra: str = "onnx") -> Callable[[], Any]:
    """Return what gives a session of ONNX Runtime, the same one within a process.

    ``shown``: the path, for an error. ``extra``: of this package that brings ONNX
    Runtime. Raises MissingExtraError without it; ArtifactError if it cannot load the
    file.
    """
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise MissingExtraError(
            f"Expected ONNX Runtime, which runs ONNX files. Got no such package. "
            f"Run: pip install 'zeroshot[{extra}]'"
        ) from error
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    providers = [
        each for each in runtime.get_available_providers() if each not in REMOTE
    ]
    own = PerProcess(
        lambda: runtime.InferenceSession(content, options, providers=providers)
    )
    try:
        own()
    except Exception as error:  # of its own, without a common base
        raise ArtifactError(
            f"Expected an ONNX model in one file. Got '{shown}', which ONNX Runtime "
            f"cannot load: {error}. Export it again, its weights within."
        ) from error
    return own


def onnx_content(file: Path, shown: str) -> bytes:
    """Return a file, which must hold all its weights.

    ONNX Runtime would follow a path in it, or an address in memory; and what lies
    elsewhere is no part of the fingerprint. Raises ArtifactError if it does not, or
    cannot be read.
    """
    content = read_limited(file, MOST_BYTES)
    if b"location" in content:  # how such a path is called, in UTF-8
        external = import_onnx().TensorProto.EXTERNAL
        for tensor in _tensors(onnx_model(content, shown)):
            if tensor.data_location == external or tensor.external_data:
                raise ArtifactError(
                    f"Expected an ONNX model in one file. Got '{shown}', whose "
                    f"'{tensor.name}' lies in another file. Export it again, its "
                    f"weights within."
                )
    return content


def onnx_model(content: bytes, shown: str) -> Any:
    """Return the parsed content of a file; raises ArtifactError if it is none."""
    onnx = import_onnx()
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf, without a common base
        raise ArtifactError(
            f"Expected an ONNX model. Got '{shown}', which cannot be read: {error}. "
            f"Check the file."
        ) from error


def import_onnx() -> Any:
    """Return the package onnx; raises MissingExtraError without it."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            "Expected the package onnx, which reads ONNX files. Got no such package. "
            "Run: pip install 'zeroshot[onnx]'"
        ) from error
    return onnx


def _tensors(message: Any) -> Iterator[Any]:
    """Yield all tensors in a message of ONNX, also those of graphs within graphs."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if isinstance(value, Sequence) else [value]:
                yield from _tensors(each)
