"""Sentence encoders as ONNX files, run by ONNX Runtime, which is an extra."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.encoders.model_folder import Run
from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.storage.onnx_session import onnx_content, onnx_sessions
from zeroshot.storage.regular_files import read_limited

__all__ = ["ONNX_FILES", "POOLINGS", "OnnxSettings", "open_onnx"]

ONNX_FILES = ("onnx/model.onnx", "model.onnx")
POOLINGS = ("cls", "max", "mean")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
# Of token vectors, (n, tokens, dim), as the exporters in use call it.
TOKEN_VECTORS = ("last_hidden_state", "token_embeddings", "output_0")
EXTRA = "sentence-onnx"
MOST_OF_TOKENIZER = 256 << 20  # bytes
BATCH = 32  # texts of one length


@dataclass(frozen=True)
class OnnxSettings:
    """How an ONNX file encodes texts.

    ``max_length``: the most tokens of a text, the special ones among them; None where
    there is no limit. ``pooling``: what of the token vectors is a text's.
    """

    file: Path
    tokenizer: Path
    prompt: str
    max_length: int | None
    lower_case: bool
    pooling: str
    normalize: bool


def open_onnx(settings: OnnxSettings) -> Run:
    """Return what encodes texts, at least one, as the settings say.

    Texts of as many tokens make a batch, so nothing is padded. Raises
    MissingExtraError without ONNX Runtime and tokenizers; ArtifactError if the files
    cannot be read, or are no text encoder.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package tokenizers, which reads '{settings.tokenizer}'. Got "
            f"no such package. Run: pip install 'zeroshot[{EXTRA}]'"
        ) from error
    tokenizer = _tokenizer(settings, tokenizers)
    shown = str(settings.file)
    session = onnx_sessions(onnx_content(settings.file, shown), shown, EXTRA)()
    inputs = {each.name: INTEGERS.get(each.type) for each in session.get_inputs()}
    if (
        not set(inputs) <= set(INPUTS)
        or "input_ids" not in inputs
        or None in (inputs.values())
    ):
        raise ArtifactError(
            f"Expected an ONNX model of {', '.join(INPUTS)}, as whole numbers. Got "
            f"'{settings.file}' with {', '.join(inputs)}. Use another model."
        )
    outputs = [each.name for each in session.get_outputs()]
    output = next((name for name in TOKEN_VECTORS if name in outputs), outputs[0])

    def run(texts: list[str]) -> NDArray[np.float32]:
        encoded = [tokenizer.encode(settings.prompt + text) for text in texts]
        by_length: dict[int, list[int]] = defaultdict(list)
        for row, each in enumerate(encoded):
            by_length[len(each.ids)].append(row)
        parts: dict[int, NDArray[np.float32]] = {}
        for rows in by_length.values():
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                every = {
                    "input_ids": [encoded[row].ids for row in some],
                    "attention_mask": [encoded[row].attention_mask for row in some],
                    "token_type_ids": [encoded[row].type_ids for row in some],
                }
                given = {name: np.array(every[name], inputs[name]) for name in inputs}
                vectors = _pooled(session.run([output], given)[0], settings)
                parts |= dict(zip(some, vectors, strict=True))
        return np.stack([parts[row] for row in range(len(texts))])

    return run


def _tokenizer(settings: OnnxSettings, tokenizers: Any) -> Any:
    content = read_limited(settings.tokenizer, MOST_OF_TOKENIZER)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # it raises Exception itself
        raise ArtifactError(
            f"Expected a tokenizer. Got '{settings.tokenizer}': {error}. Copy the "
            f"folder again."
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if settings.max_length is not None:
        tokenizer.enable_truncation(settings.max_length)
    if settings.lower_case:
        first = tokenizers.normalizers.Lowercase()
        more = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = tokenizers.normalizers.Sequence([first, *more])
    return tokenizer


def _pooled(output: NDArray[Any], settings: OnnxSettings) -> NDArray[np.float32]:
    """Return the vectors of texts: from those of their tokens, or pooled already."""
    if output.ndim not in (2, 3):
        raise ArtifactError(
            f"Expected vectors of tokens or of texts. Got an array of shape "
            f"{output.shape} from '{settings.file}'. Use another model."
        )
    vectors = output.astype(np.float32)
    if output.ndim == 3:
        if settings.pooling == "cls":
            vectors = vectors[:, 0]
        elif settings.pooling == "max":
            vectors = vectors.max(axis=1)
        else:
            vectors = vectors.mean(axis=1)
    if settings.normalize:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, 1e-12)  # as PyTorch does
    return vectors
