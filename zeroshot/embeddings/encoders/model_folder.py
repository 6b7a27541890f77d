"""What encoders share that are a folder of files, here or on the Hugging Face Hub."""

import hashlib
import os
import re
import threading
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings.base import PhraseEncoder
from zeroshot.errors import ArtifactError, MissingExtraError, PluginContractError
from zeroshot.per_process import PerProcess
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.large_files import file_digest
from zeroshot.storage.published import offline
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = ["FolderEncoder", "Run", "read_settings"]

Run: TypeAlias = Callable[[list[str]], NDArray[Any]]

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)  # on the Hub
ENDINGS = {".json", ".model", ".safetensors", ".txt"}  # numbers and words
PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}  # may run code
OTHER_FORMS = {"onnx", "openvino"}  # folders of the same network in other forms
MOST_FILES = 1000
MOST_OF_SETTINGS = 16 << 20  # bytes of a file of settings


class FolderEncoder(PhraseEncoder):
    """An encoder in a folder; a subclass says how it is opened, and with what.

    Nothing is read, and nothing fetched, before it is needed. Threads take turns; a
    forked process opens it anew.

    Parameters
    ----------
    source : str or path-like
        A folder, or a name on the Hugging Face Hub, ``"owner/name"``, from where it is
        fetched once. With the environment variable ``ZEROSHOT_OFFLINE`` it must be in
        the Hub's own cache.
    """

    name: ClassVar[str]
    kind: ClassVar[str]  # what the folder must be, for an error
    extra: ClassVar[str]  # that brings what fetches it
    owner: ClassVar[str] = ""  # of names on the Hub without one

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.source = os.fspath(source)
        if (folder := self._local()) is not None:
            self.source = str(folder)  # also after a change of the working directory
        self._process = PerProcess(self._opened)
        self._fingerprint: str | None = None
        self._dim: int | None = None

    @classmethod
    def from_spec(cls, name: str, argument: str | None) -> Self:
        """Make the encoder that a spec string names: ``"sentence:/folder"``.

        Raises PluginContractError if there is no argument.
        """
        if not argument:
            raise PluginContractError(
                f"Expected '{cls.name}:/path/to/folder', or '{cls.name}:owner/name' of "
                f"the Hugging Face Hub. Got '{cls.name}' alone. Name {cls.kind} after "
                f"a colon."
            )
        return cls(argument)

    @property
    def spec(self) -> str:
        """The spec string; the path of a folder is absolute."""
        return f"{self.name}:{self.source}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files that are used; the same wherever they lie.

        Raises ArtifactError if there is no such folder, or one of another kind.
        """
        if self._fingerprint is None:
            folder, digest = self._folder(), hashlib.sha256()
            for file in self._files(folder):
                name = file.relative_to(folder).as_posix()
                digest.update(f"{name}\n{file_digest(file, 'sha256')}\n".encode())
            self._fingerprint = f"{self.name}-{digest.hexdigest()[:32]}"
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of a vector; opens the encoder."""
        if self._dim is None:
            self._dim = int(self._encode(["a"]).shape[1])
        return self._dim

    def would_download(self) -> bool:
        """Tell whether it is named, not a folder here: then the Hub is asked."""
        return self._local() is None

    @abstractmethod
    def _open(self, folder: Path) -> Run:
        """Return what encodes texts, at least one; called once in a process."""

    def _files(self, folder: Path) -> list[Path]:
        """Return what the vectors depend on, sorted; refuse what may run code."""
        found = []
        for parent, folders, files in os.walk(folder):
            folders[:] = [f for f in folders if f[0] != "." and f not in OTHER_FORMS]
            endings = {os.path.splitext(name)[1].lower() for name in files}
            if endings & PICKLES and ".safetensors" not in endings:
                raise ArtifactError(
                    f"Expected weights as numbers (.safetensors). Got '{parent}' with "
                    f"{', '.join(sorted(endings & PICKLES))} alone, which can run "
                    f"code. Save the model anew as safetensors."
                )
            found += [
                Path(parent, name)
                for name in files
                if os.path.splitext(name)[1].lower() in ENDINGS and name[0] != "."
            ]
            if len(found) > MOST_FILES:
                raise ArtifactError(
                    f"Expected {self.kind}. Got '{folder}', which has over "
                    f"{MOST_FILES} files. Name the folder of one model."
                )
        return sorted(found)

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        run, lock = self._process()
        with lock:  # tokenizers cannot be changed and used at once
            return np.ascontiguousarray(run(texts), np.float32)

    def _opened(self) -> tuple[Run, threading.Lock]:
        folder = self._folder()
        self._files(folder)  # refuses what may run code
        return self._open(folder), threading.Lock()

    def _local(self) -> Path | None:
        """Return the folder, from the root on, if the source is one here."""
        path = os.path.expanduser(self.source)
        return Path(os.path.abspath(path)) if os.path.isdir(path) else None

    def _folder(self) -> Path:
        folder = self._local()
        if folder is not None:
            return folder
        name = self.source
        if self.owner and "/" not in name:
            name = f"{self.owner}/{name}"
        is_name = NAME.fullmatch(name) and "/" in name
        if not is_name or os.path.exists(os.path.expanduser(self.source)):
            raise ArtifactError(
                f"Expected {self.kind}, or 'owner/name' of one on the Hugging Face "
                f"Hub. Got '{shown_spec(self.source)}', which is neither. Check the "
                f"path."
            )
        return self._fetched(name)

    def _fetched(self, name: str) -> Path:
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise MissingExtraError(
                f"Expected the package huggingface-hub, to fetch '{name}'. Got no such "
                f"package. Run: pip install 'zeroshot[{self.extra}]'"
            ) from error
        is_offline = offline()
        try:
            return Path(
                snapshot_download(
                    name,
                    allow_patterns=[f"*{ending}" for ending in sorted(ENDINGS)],
                    ignore_patterns=[f"{other}/*" for other in sorted(OTHER_FORMS)],
                    local_files_only=is_offline,
                )
            )
        except Exception as error:  # of several libraries, for each way to fail
            why = "and ZEROSHOT_OFFLINE forbids downloads" if is_offline else str(error)
            raise ArtifactError(
                f"Expected a folder here, or a model on the Hugging Face Hub. Got "
                f"'{shown_spec(name)}', which is no folder and cannot be fetched: "
                f"{why}. Check the name, or get the folder by other means and name it."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["source"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"


def read_settings(folder: Path, *names: str) -> dict[str, Any]:
    """Return the settings in a JSON file of a folder; none where it is missing.

    Raises ArtifactError if the file is no object of JSON.
    """
    file = folder.joinpath(*names)
    if not file.exists():
        return {}
    content, problem = read_limited(file, MOST_OF_SETTINGS), ""
    try:
        settings = parse_json(content)
    except ValueError as error:
        settings, problem = None, f": {error}"
    if not isinstance(settings, dict):
        raise ArtifactError(
            f"Expected an object of JSON in '{file}'. Got something else{problem}. "
            f"Copy the folder again."
        )
    return settings
