"""What a module is, wherever it lies: a hash of its files."""

import hashlib
from pathlib import Path

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import file_digest
from zeroshot.storage.unpacking import recorded_files
from zeroshot.tfhub.handles import MODEL

__all__ = ["folder_sha256"]


def folder_sha256(folder: Path) -> str:
    """Return a hash of a SavedModel's graph, variables and assets, wherever it lies.

    Raises ArtifactError if it was unpacked, and is not what was unpacked any more.
    """
    digest = hashlib.sha256()
    recorded = recorded_files(folder) or recorded_files(folder.parent)
    if missing := [file for file in recorded if not file.is_file()]:
        raise _changed(missing[0])
    for part in (MODEL, "variables", "assets"):
        top = folder / part
        files = [top] if top.is_file() else sorted(top.rglob("*"))
        for file in files:
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                own = file_digest(file, "sha256")
                if own != recorded.get(file, own):
                    raise _changed(file)
                digest.update(f"{name}\n{own}\n".encode())
    return digest.hexdigest()


def _changed(file: Path) -> ArtifactError:
    return ArtifactError(
        f"Expected '{file}' as it was unpacked. Got other bytes: it was changed or "
        f"damaged on disk. Delete the folder of the module in the cache; it is fetched "
        f"or unpacked again."
    )
