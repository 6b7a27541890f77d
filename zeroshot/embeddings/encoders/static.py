"""Static encoders of model2vec: a vector for each token, and their mean for a text."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.encoders.model_folder import FolderEncoder, Run
from zeroshot.errors import ArtifactError, MissingExtraError

__all__ = ["StaticEncoder"]


class StaticEncoder(FolderEncoder):
    """A static encoder, in a folder as model2vec [1]_ saves it.

    It needs no network and no PyTorch, and takes microseconds for a text: ``pip install
    'zeroshot[static]'``. A text of unknown tokens alone becomes zeros.

    Parameters
    ----------
    source : str or path-like
        A folder, or a name on the Hugging Face Hub, ``"owner/name"``.

    References
    ----------
    .. [1] Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static Embeddings",
       2024.
    """

    name = "static"
    kind = "a folder of model2vec"
    extra = "static"

    def _open(self, folder: Path) -> Run:
        try:
            from model2vec import StaticModel
        except ImportError as error:
            raise MissingExtraError(
                f"Expected the package model2vec, which reads '{folder}'. Got no such "
                f"package. Run: pip install 'zeroshot[static]'"
            ) from error
        try:
            model = StaticModel.from_pretrained(folder)
        except Exception as error:  # of several libraries, for each way to fail
            raise ArtifactError(
                f"Expected a folder of model2vec. Got '{folder}', which the package "
                f"cannot load: {type(error).__name__}: {error}. Copy it again, or use "
                f"another model."
            ) from error

        def run(texts: list[str]) -> NDArray[np.float32]:
            vectors = model.encode(texts, use_multiprocessing=False)
            return np.asarray(vectors, np.float32)

        return run
