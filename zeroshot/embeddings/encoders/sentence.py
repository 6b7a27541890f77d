"""Folders of sentence-transformers: with ONNX Runtime, or with that package."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.encoders.model_folder import (
    MOST_OF_SETTINGS,
    FolderEncoder,
    Run,
    read_settings,
)
from zeroshot.embeddings.encoders.sentence_onnx import (
    ONNX_FILES,
    POOLINGS,
    OnnxSettings,
    open_onnx,
)
from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = ["SentenceEncoder"]

MODULES = "modules.json"
# What does nothing but arithmetic with the numbers of its folder.
KINDS = {
    *("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"),
    "StaticEmbedding",
}
OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
SETTINGS = (
    *("config.json", "config_sentence_transformers.json", MODULES),
    *("sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"),
)
BATCH = 32


class SentenceEncoder(FolderEncoder):
    """A sentence encoder, in a folder as sentence-transformers [1]_ saves it.

    A folder that has ``onnx/model.onnx`` and ``tokenizer.json`` is run by ONNX Runtime,
    without PyTorch: ``pip install 'zeroshot[sentence-onnx]'``. Other folders, and names
    of the Hugging Face Hub, need the package itself: ``pip install
    'zeroshot[sentence]'``. Either way texts become vectors as the folder says: prompt,
    longest text, pooling, normalisation.

    A sentence encoder knows texts, not pictures. What it says about names of things is
    measured in docs/which.md.

    Parameters
    ----------
    source : str or path-like
        A folder; or a name on the Hub, ``"all-MiniLM-L6-v2"`` or ``"owner/name"``.

    References
    ----------
    .. [1] Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese
       BERT-Networks", EMNLP 2019.
    """

    name = "sentence"
    kind = "a folder of sentence-transformers"
    extra = "sentence"
    owner = "sentence-transformers"

    def _files(self, folder: Path) -> list[Path]:
        modules = _modules(folder)
        onnx = _onnx_settings(folder, modules)
        if onnx is None:
            return super()._files(folder)
        pooling = Path(folder, modules[1].path, "config.json")
        named = [onnx.file, pooling, *(folder / name for name in SETTINGS)]
        return sorted(file for file in named if file.is_file())

    def _open(self, folder: Path) -> Run:
        onnx = _onnx_settings(folder, _modules(folder))
        return _open_package(folder) if onnx is None else open_onnx(onnx)


@dataclass(frozen=True)
class _Module:
    """One step from texts to vectors: what it is called, and where its files are."""

    kind: str
    path: str


def _modules(folder: Path) -> list[_Module]:
    """Return the steps that the folder names; refuse what is none of the package's."""
    file = folder / MODULES
    if not file.is_file():
        raise ArtifactError(
            f"Expected a folder of sentence-transformers, with '{MODULES}'. Got "
            f"'{folder}', which has none. Name the folder that `save` of "
            f"SentenceTransformer made."
        )
    content = read_limited(file, MOST_OF_SETTINGS)
    try:
        listed = parse_json(content)
        modules = [_Module(str(one["type"]), str(one["path"])) for one in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"Expected a list of modules in '{file}'. Got {type(error).__name__}: "
            f"{error}. Copy the folder again."
        ) from error
    for module in modules:
        package, _, kind = module.kind.partition(".")
        kind = kind.rpartition(".")[2]
        path = PurePosixPath(module.path)
        if package != "sentence_transformers" or kind not in KINDS:
            raise ArtifactError(
                f"Expected modules of sentence-transformers: {', '.join(sorted(KINDS))}"
                f". Got {module.kind[:80]!r} in '{file}', which may run code. Use "
                f"another model."
            )
        if path.is_absolute() or ".." in path.parts or "\\" in module.path:
            raise ArtifactError(
                f"Expected modules in the folder. Got the path {module.path[:80]!r} in "
                f"'{file}'. Use another model."
            )
    return [_Module(one.kind.rpartition(".")[2], one.path) for one in modules]


def _onnx_settings(folder: Path, modules: list[_Module]) -> OnnxSettings | None:
    """Return how to run the ONNX file; None without one, or where more is to be done.

    More than a network, one pooling and perhaps the normalisation.
    """
    file = next((folder / n for n in ONNX_FILES if (folder / n).is_file()), None)
    kinds = [module.kind for module in modules]
    wanted = ["Transformer", "Pooling", "Normalize"]
    if file is None or len(kinds) < 2 or kinds != wanted[: len(kinds)]:
        return None
    if modules[0].path not in ("", ".") or not (folder / "tokenizer.json").is_file():
        return None
    pooling = read_settings(folder, modules[1].path, "config.json")
    modes = [mode for name, mode in OLD_POOLINGS.items() if pooling.get(name)]
    mode = pooling.get("pooling_mode", modes[0] if len(modes) == 1 else None)
    whole = read_settings(folder, "config_sentence_transformers.json")
    prompts = whole.get("prompts") or {}
    prompt = prompts.get(whole.get("default_prompt_name")) or ""
    is_pooled = pooling.get("include_prompt", True) or not prompt
    if mode not in POOLINGS or not is_pooled or not isinstance(prompt, str):
        return None
    text = read_settings(folder, "sentence_bert_config.json")
    return OnnxSettings(
        file=file,
        tokenizer=folder / "tokenizer.json",
        prompt=prompt,
        max_length=_max_length(folder, text),
        lower_case=bool(text.get("do_lower_case")),
        pooling=mode,
        normalize=len(kinds) == 3,
    )


def _max_length(folder: Path, text: dict[str, Any]) -> int | None:
    """Return the most tokens of a text, as sentence-transformers finds it."""
    if _is_length(text.get("max_seq_length")):
        return int(text["max_seq_length"])
    both = (
        read_settings(folder, "tokenizer_config.json").get("model_max_length"),
        read_settings(folder, "config.json").get("max_position_embeddings"),
    )
    return min((n for n in both if _is_length(n)), default=None)


def _is_length(value: object) -> TypeGuard[int]:
    return (
        isinstance(value, int) and not isinstance(value, bool) and 2 < value < 1 << 31
    )


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing bars of its own."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _open_package(folder: Path) -> Run:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package sentence-transformers, or 'onnx/model.onnx' in "
            f"'{folder}'. Got neither. Run: pip install 'zeroshot[sentence]'"
        ) from error
    try:
        with _no_bars():
            model = SentenceTransformer(
                str(folder),
                device="cpu",  # labels take milliseconds, a GPU seconds to be opened
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:  # of several libraries, for each way to fail
        raise ArtifactError(
            f"Expected a folder of sentence-transformers. Got '{folder}', which the "
            f"package cannot load: {type(error).__name__}: {error}. Copy it again, or "
            f"use another model."
        ) from error

    def run(texts: list[str]) -> NDArray[np.float32]:
        vectors = model.encode(texts, batch_size=BATCH, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    return run
