"""Text modules of TF-Hub as text embeddings: whole phrases in, vectors out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import PhraseEncoder
from zeroshot.errors import PluginContractError
from zeroshot.per_process import LOADING
from zeroshot.storage.addresses import shown_spec
from zeroshot.tensorflow_import import import_tensorflow
from zeroshot.tfhub.content import folder_sha256
from zeroshot.tfhub.handles import holds_secret, module_folder, module_place
from zeroshot.tfhub.loading import load_module, signature_of, traces_of

__all__ = ["TFHubText"]

BATCH = 64  # texts; attention over 200 tokens of each takes some 100 MB
USUAL = ("serving_default", "default")  # names of signatures, and the last of outputs


class TFHubText(PhraseEncoder):
    """A text module of TF-Hub, or any SavedModel that takes texts and gives vectors.

    Such as nnlm and the Universal Sentence Encoder, of TF1 (the hub format) or TF2. A
    SavedModel is a program: use only those that you trust.

    Parameters
    ----------
    handle : path or address
        As for `zeroshot.backbones.TFHub`.

    Notes
    -----
    Called is the signature ``serving_default`` or ``default``, or another one, that
    takes texts, or the module itself. Of several outputs, ``default`` is taken. A
    module whose operations are of tensorflow-text, as the multilingual encoders, needs
    ``pip install 'zeroshot[tfhub-text]'``.

    The spec string is ``"tfhub:"`` and the handle.
    """

    name = "tfhub"

    def __init__(self, handle: str | Path) -> None:
        self.handle = handle
        self._loaded: tuple[Any, int] | None = None
        self._fingerprint: str | None = None

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make a provider from ``"tfhub:HANDLE"``; a PluginContractError without one.

        Parameters
        ----------
        name : str
            Registered name (unused: the class has it).
        argument : str or None
            What follows the first colon.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{cls.name}:/path/to/module' or '{cls.name}:' and an "
                f"address. Got '{cls.name}' without one. Name a text module after a "
                f"colon."
            )
        return cls(argument)

    @property
    def dim(self) -> int:
        """Length of a vector; loads the module."""
        return self._load()[1]

    @property
    def fingerprint(self) -> str:
        """That of the content: a folder, its archive and its address have the same."""
        if self._fingerprint is None:
            digest = folder_sha256(module_folder(self.handle))
            self._fingerprint = f"{self.name}-{digest[:32]}"
        return self._fingerprint

    @property
    def spec(self) -> str | None:
        """Spec string, with an absolute path; None for an address with a secret."""
        if holds_secret(self.handle):
            return None
        return f"{self.name}:{module_place(self.handle)}"

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        run = self._load()[0]
        vectors = np.concatenate(
            [run(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        )
        if not np.isfinite(vectors).all():
            row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
            raise PluginContractError(
                f"Expected finite vectors of {self!r}. Got {vectors[row][:3]}... for "
                f"{texts[row]!r}. Write that text otherwise, or use another module."
            )
        return vectors

    @property
    def _shown(self) -> str:
        return shown_spec(self.handle)

    def _load(self) -> tuple[Any, int]:
        with LOADING():
            if self._loaded is None:
                run = self._read()
                self._loaded = (run, run(["text", "of two texts"]).shape[1])
        return self._loaded

    def _read(self) -> Any:
        """Load the module; return a function from a list of texts to their vectors."""
        module = load_module(module_folder(self.handle), self._shown)
        call, spec = self._function(module)
        shape = spec.shape.as_list() if spec.shape.rank else [None]
        size, is_column = shape[0], len(shape) == 2

        def run(texts: list[str], _: Any = module) -> NDArray[np.float32]:
            # With the module, which dies with the last reference to it.
            tf = import_tensorflow()  # which refuses in a forked process
            parts = []
            for batch in _batches(texts, size):
                given = [text.encode("utf-8", "surrogatepass") for text in batch]
                tensor = tf.constant(given)
                try:
                    result = call(tensor[:, None] if is_column else tensor)
                except tf.errors.OpError as error:
                    raise PluginContractError(
                        f"Expected vectors of {len(texts)} texts from {self!r}. Got "
                        f"{type(error).__name__}: {error.message}. Write the texts "
                        f"otherwise, or use another module."
                    ) from error
                parts.append(self._vectors(result, len(batch)))
            return np.concatenate(parts)[: len(texts)]

        return run

    def _function(self, module: Any) -> tuple[Any, Any]:
        """Return a module's function of texts, and the spec of its input."""
        signatures = sorted(module.signatures, key=lambda name: name not in USUAL)
        given = []
        for name in signatures:
            call, inputs = signature_of(module, name)
            given.append(inputs)
            if _takes_texts(inputs):
                return call, inputs[0]
        call, traces = traces_of(module)
        for inputs in traces:
            if _takes_texts(inputs):
                return call, inputs[0]
        got = [", ".join(map(str, inputs)) or "none" for inputs in given + traces]
        raise PluginContractError(
            f"Expected a module of one input, texts of shape (n,). Got '{self._shown}',"
            f" whose inputs are {' or '.join(got) or 'none'}. Use a module of text "
            f"embeddings."
        )

    def _vectors(self, result: Any, n: int) -> NDArray[np.float32]:
        if isinstance(result, dict):
            names = sorted(result)
            name = names[0] if len(names) == 1 else USUAL[-1]
            if name not in result:
                raise PluginContractError(
                    f"Expected a module of one output, or one called '{name}'. Got "
                    f"'{self._shown}', which has {', '.join(map(repr, names))}. Export "
                    f"it with the vectors alone."
                )
            result = result[name]
        dtype = getattr(result, "dtype", None)
        shape = tuple(getattr(result, "shape", ()))
        is_matrix = len(shape) == 2 and shape[0] == n and shape[1] is not None
        if not (dtype and dtype.is_floating and is_matrix):
            raise PluginContractError(
                f"Expected vectors of shape (n, dim), one for each of {n} texts. Got "
                f"{dtype.name if dtype else type(result).__name__} of shape {shape} "
                f"from '{self._shown}'. Use a module of text embeddings."
            )
        return np.asarray(result, np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": None}

    def __repr__(self) -> str:
        return f"TFHubText({self._shown!r})"


def _takes_texts(inputs: list[Any]) -> bool:
    """Return whether a function has one input, a list or a column of strings."""
    tf = import_tensorflow()
    if len(inputs) != 1 or not isinstance(inputs[0], tf.TensorSpec):
        return False
    shape = inputs[0].shape
    fits = shape.rank in (None, 1) or (shape.rank == 2 and shape[1] == 1)
    return bool(fits and inputs[0].dtype == tf.string)


def _batches(texts: list[str], size: int | None) -> Iterator[list[str]]:
    """Yield all texts at once, or in batches of a size, the last filled up."""
    if size is None:
        yield texts
        return
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        yield batch + [""] * (size - len(batch))
