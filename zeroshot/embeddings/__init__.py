"""Word vectors: words in, vectors out.

In: words, as they are written. Out: vectors, (n, dim) float32, and which words were
found. To add a provider, write a class that keeps the contract of
`zeroshot.embeddings.base.TextEmbeddings` and register it under the entry-point group
``zeroshot.embeddings`` (docs/plugins.md).
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.embeddings.attributes import Attributes
    from zeroshot.embeddings.base import PhraseEncoder, TextEmbeddings
    from zeroshot.embeddings.encoders.sentence import SentenceEncoder
    from zeroshot.embeddings.encoders.static import StaticEncoder
    from zeroshot.embeddings.random import RandomEmbeddings
    from zeroshot.embeddings.tfhub import TFHubText
    from zeroshot.embeddings.vectors.fasttext import FastText
    from zeroshot.embeddings.vectors.opening import open_vectors
    from zeroshot.embeddings.vectors.word_vectors import GloVe, Word2Vec, WordVectors

__all__ = [
    "Attributes",
    "FastText",
    "GloVe",
    "PhraseEncoder",
    "RandomEmbeddings",
    "SentenceEncoder",
    "StaticEncoder",
    "TFHubText",
    "TextEmbeddings",
    "Word2Vec",
    "WordVectors",
    "open_vectors",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Attributes": "attributes",
        "FastText": "vectors.fasttext",
        "GloVe": "vectors.word_vectors",
        "PhraseEncoder": "base",
        "RandomEmbeddings": "random",
        "SentenceEncoder": "encoders.sentence",
        "StaticEncoder": "encoders.static",
        "TFHubText": "tfhub",
        "TextEmbeddings": "base",
        "Word2Vec": "vectors.word_vectors",
        "WordVectors": "vectors.word_vectors",
        "open_vectors": "vectors.opening",
    },
)
