"""Providers of word vectors, each imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot.embeddings.attributes import Attributes
    from zeroshot.embeddings.base import TextEmbeddings
    from zeroshot.embeddings.fasttext import FastText
    from zeroshot.embeddings.opening import open_vectors
    from zeroshot.embeddings.random import RandomEmbeddings
    from zeroshot.embeddings.word_vectors import GloVe, Word2Vec, WordVectors

_HOMES = {
    "Attributes": "zeroshot.embeddings.attributes",
    "FastText": "zeroshot.embeddings.fasttext",
    "GloVe": "zeroshot.embeddings.word_vectors",
    "RandomEmbeddings": "zeroshot.embeddings.random",
    "TextEmbeddings": "zeroshot.embeddings.base",
    "Word2Vec": "zeroshot.embeddings.word_vectors",
    "WordVectors": "zeroshot.embeddings.word_vectors",
    "open_vectors": "zeroshot.embeddings.opening",
}

__all__ = [
    "Attributes",
    "FastText",
    "GloVe",
    "RandomEmbeddings",
    "TextEmbeddings",
    "Word2Vec",
    "WordVectors",
    "open_vectors",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zeroshot.embeddings' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
