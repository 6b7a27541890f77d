"""What a file for Keras may hold: weights and layers that compute, nothing else.

Keras loads with ``safe_mode``, which refuses layers that hold code; versions differ in
which. HDF5 may take the place of a dataset from any other file, by a link, and a few
bytes may declare a dataset of any size.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot.errors import ArtifactError
from zeroshot.storage.regular_files import open_regular

__all__ = ["check_model_content"]

# Layers that run code of another program, or read files that their settings name.
NOT_DATA = {
    "FeatureSpace",
    "FlaxLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
}
HDF5 = b"\x89HDF\r\n\x1a\n"
# Weights are noise, which hardly packs: what declares more than this is no network.
LEAST, MOST_PACKED = 64 << 20, 4


def check_model_content(path: Path) -> None:
    """Refuse a file of Keras that runs something, or leads to other files.

    ``path``: in any form that Keras loads; one that it does not know, it will refuse
    itself. Raises ArtifactError.
    """
    advice = "If you trust it, load it yourself and pass the model object"
    with open_regular(path) as file:
        start = file.read(8)
        file.seek(0)
        try:
            if start == HDF5:
                fault = _fault_of_hdf5(file)
            elif start.startswith(b"PK"):
                fault = _fault_of_keras_file(file)
            else:
                fault = ""
        # h5py, zipfile and json raise many kinds for a broken file.
        except Exception as error:
            fault = f"which is broken ({type(error).__name__}: {error})"
            advice = "Save or fetch it again"
    if fault:
        raise ArtifactError(
            f"Expected weights, or layers that only compute, for Keras. Got '{path}', "
            f"{fault}. {advice}."
        )


def _fault_of_keras_file(file: BinaryIO) -> str:
    size = file.seek(0, 2)
    fault = ""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(one.file_size for one in members) > LEAST + MOST_PACKED * size:
            return "which unpacks to many times its size"
        for member in members:
            if member.filename == "config.json":
                fault = fault or _fault_of_config(archive.read(member))
            elif member.filename.endswith(".h5"):
                # In memory: in a zip archive each step back reads from the start.
                fault = fault or _fault_of_hdf5(io.BytesIO(archive.read(member)))
    return fault


def _fault_of_config(text: str | bytes) -> str:
    names = {each for each in _class_names(json.loads(text)) if each in NOT_DATA}
    return (
        f"whose layer '{min(names)}' has code of its own or reads files"
        if names
        else ""
    )


def _class_names(config: Any) -> Iterator[str]:
    """Yield the names of all classes in a configuration, however deep."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
            yield str(one.get("class_name", "")).rpartition(">")[2]
        elif isinstance(one, list):
            waiting += one


def _fault_of_hdf5(file: Any) -> str:
    import h5py

    size, declared = file.seek(0, 2), 0
    with h5py.File(file, "r") as content:
        if (config := content.attrs.get("model_config")) is not None and (
            fault := _fault_of_config(config)
        ):
            return fault
        waiting, known = [content["/"]], set()
        while waiting:
            group = waiting.pop()
            if (place := h5py.h5o.get_info(group.id).addr) in known:
                continue  # links may lead in a circle
            known.add(place)
            for name in group:
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                    return "which leads to another file"
                item = group[name]
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        return "whose weights lie in another file"
                    declared += item.nbytes
    if declared > LEAST + MOST_PACKED * size:
        return "which declares many times more weights than it has bytes"
    return ""
