"""Folders of KerasHub's form, and which of them are read.

Their JSON files name classes, which Keras would make with any settings. Here only the
classes of CLIP and SigLIP may be named, so that a folder somebody else wrote is mere
numbers and words.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroshot.errors import ArtifactError
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.regular_files import read_limited
from zeroshot.storage.strict_json import parse_json

__all__ = ["FAMILIES", "PresetFamily", "family_of_folder"]

MOST_JSON = 1 << 20  # bytes; those of published presets have at most 4 kB
WEIGHTS, BACKBONE, PREPROCESSOR = "model.weights.h5", "config.json", "preprocessor.json"
NEEDED = (BACKBONE, "tokenizer.json", "image_converter.json")
FILES = (*NEEDED, PREPROCESSOR)


@dataclass(frozen=True)
class PresetFamily:
    """Names of a family's classes in ``keras_hub.models``, and of its head.

    ``tokenizers``: SigLIP 2 has Gemma's. ``head``: the layer of the backbone that holds
    the scale of the logits, and SigLIP's their bias.
    """

    backbone: str
    encoders: tuple[str, str]
    tokenizers: tuple[str, ...]
    converter: str
    preprocessor: str
    head: str

    @property
    def classes(self) -> set[str]:
        """All classes that its files may name."""
        return {
            self.backbone,
            *self.encoders,
            *self.tokenizers,
            self.converter,
            self.preprocessor,
        }


FAMILIES = (
    PresetFamily(
        "CLIPBackbone",
        ("CLIPVisionEncoder", "CLIPTextEncoder"),
        ("CLIPTokenizer",),
        "CLIPImageConverter",
        "CLIPPreprocessor",
        "clip_head",
    ),
    PresetFamily(
        "SigLIPBackbone",
        ("SigLIPVisionEncoder", "SigLIPTextEncoder"),
        ("SigLIPTokenizer", "GemmaTokenizer"),
        "SigLIPImageConverter",
        "SigLIPPreprocessor",
        "siglip_head",
    ),
)


def family_of_folder(folder: Path) -> PresetFamily:
    """Return the family of the model that a folder holds; makes nothing of it.

    Raises ArtifactError if a file is missing, or names another class.
    """
    for name in (*NEEDED, WEIGHTS):
        if not os.path.isfile(folder / name):
            raise ArtifactError(
                f"Expected '{name}' in a folder of KerasHub. Got "
                f"'{shown_spec(folder)}' without it. Write the folder again: "
                f"save_to_preset of the backbone, the tokenizer and the image "
                f"converter."
            )
    given = {
        name: _json(folder / name) for name in FILES if os.path.isfile(folder / name)
    }
    kind = given[BACKBONE].get("class_name")
    family = next((each for each in FAMILIES if each.backbone == kind), None)
    if family is None:
        raise ArtifactError(
            f"Expected a {' or a '.join(each.backbone for each in FAMILIES)}. Got "
            f"{kind!r:.60} in '{shown_spec(folder / BACKBONE)}'. Use a preset of these."
        )
    for name, value in given.items():
        for each in _objects(value):
            if not _is_known(each, family):
                raise ArtifactError(
                    f"Expected classes of KerasHub's {family.backbone} alone. Got "
                    f"{each.get('class_name')!r:.60} in '{shown_spec(folder / name)}', "
                    f"which is not run. Write the folder by save_to_preset, without "
                    f"classes of your own and not quantised."
                )
    return family


def _json(file: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_limited(file, MOST_JSON))
        if not isinstance(found, dict):
            raise ValueError("no object")  # noqa: TRY301, TRY004
    except ValueError as error:
        raise ArtifactError(
            f"Expected an object in JSON. Got '{shown_spec(file)}': {error}. Copy the "
            f"file again."
        ) from error
    return found


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all that Keras might take for the description of an object."""
    if isinstance(value, dict):
        if "class_name" in value or "registered_name" in value:
            yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _is_known(described: dict[str, Any], family: PresetFamily) -> bool:
    kind, registered = described.get("class_name"), described.get("registered_name")
    if kind == "DTypePolicy":
        return described.get("module") == "keras" and registered is None
    # From this name, and the folder of the same name in "assets", files are read.
    config = described.get("config")
    origin = config.get("config_file", FILES[0]) if isinstance(config, dict) else None
    return (
        kind in family.classes and registered == f"keras_hub>{kind}" and origin in FILES
    )
