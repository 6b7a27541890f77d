"""A file of word vectors or class attributes to the provider that reads it."""

import os
from pathlib import Path

from zeroshot.embeddings.attribute_table import recognise_table
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.vectors.fasttext import FastText
from zeroshot.embeddings.vectors.vector_file import is_fasttext
from zeroshot.embeddings.vectors.vector_layout import recognise_layout
from zeroshot.embeddings.vectors.word_vectors import GloVe, Word2Vec

__all__ = ["open_vectors"]


def open_vectors(path: str | os.PathLike[str]) -> TextEmbeddings:
    """Open a file of word vectors or class attributes, recognised by its content.

    Parameters
    ----------
    path : str or path-like
        Text with (`Word2Vec`) or without (`GloVe`) a header, word2vec binary
        (`Word2Vec`), a fastText ``.bin`` (`FastText`), or a ``.npz``, ``.mat`` or CSV
        of class attributes (`Attributes`). The ending of its name does not matter.

    Returns
    -------
    embeddings : TextEmbeddings
        Its ``spec`` holds the absolute path.

    Raises
    ------
    ArtifactError
        If the file is missing, empty, or none of these; says what it looks like.
    """
    file = Path(os.path.abspath(Path(path).expanduser()))
    if recognise_table(file):
        return Attributes(file)
    if is_fasttext(file):
        return FastText(file)
    layout = recognise_layout(file)
    return Word2Vec(file) if layout.count is not None else GloVe(file)
