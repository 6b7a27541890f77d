"""The commands about the cache: list, verify, clear."""

from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot.cli.options import FORMAT, Format, option
from zeroshot.cli.tables import print_csv, print_json, print_rows, print_text
from zeroshot.errors import ArtifactError

__all__ = ["COMMANDS"]

FEATURES = option("--features", "Delete the features of images.")
VECTORS = option(
    "--vectors",
    "Delete downloaded word vectors, and indexes, unpacked copies and matrices of all "
    "vector files.",
)
NETWORKS = option("--networks", "Delete converted networks and modules of TF-Hub.")


def _list(output: Annotated[Format, FORMAT] = Format.table) -> None:
    """Show what lies in the cache, how large it is, and in which folder.

    Features have a line for each backbone (and version of its weights); converted
    networks, modules of TF-Hub, word vectors, archives, indexes, unpacked copies and
    matrices each have theirs. "other" is what zeroshot did not put there. Features are
    kept up to 10 GB (environment variable ZEROSHOT_FEATURES_LIMIT): those not used for
    the longest time go first.
    """
    from zeroshot.features.store import FeatureStore, features_limit
    from zeroshot.storage.cache import cache_root
    from zeroshot.storage.contents import free_space, list_cache
    from zeroshot.storage.large_files import readable_size

    rows: list[dict[str, Any]] = []
    for entry in list_cache():
        row: dict[str, Any] = {"kind": entry.kind, "name": entry.name, "images": None}
        rows.append(row | {"size": entry.size})
        if entry.kind == "features" and entry.paths[0].suffix == ".sqlite":
            with closing(FeatureStore(entry.paths[0], 0)) as store:
                rows[-1]["images"] = store.count()
    folder, size = str(cache_root()), sum(row["size"] for row in rows)
    limit, free = features_limit(), free_space(cache_root())
    columns = ("kind", "name", "images", "size")
    if output is Format.json:
        about = {"folder": folder, "size": size, "features_limit": limit, "free": free}
        print_json(about | {"files": rows})
    elif output is Format.csv:
        print_csv(columns, rows)
    else:
        rows = [row | {"size": readable_size(row["size"])} for row in rows]
        if rows:
            print_rows(columns, rows, output, numbers=("images", "size"))
        print_text(
            f"{readable_size(size)} in {folder} (features: at most "
            f"{readable_size(limit)}; free on the disk: {readable_size(free)})"
        )


def _verify(output: Annotated[Format, FORMAT] = Format.table) -> None:
    """Read all that is kept again and tell which files are damaged.

    Downloads are compared with the hash recorded when they were fetched ("unrecorded":
    put there by hand, so there is none), files of modules with that of their unpacking,
    all others with their own checksums. Exit code 1 if something is damaged.
    """
    from zeroshot.progress import progress_bar
    from zeroshot.storage.contents import list_cache

    todo = [
        (entry.kind, path)
        for entry in list_cache()
        for path in entry.paths
        if entry.kind != "other" or path.parent.name == "vectors"
    ]
    rows = []
    with progress_bar("checking files", len(todo)) as advance:
        for kind, path in todo:
            if (found := _check(kind, path)) is not None:
                rows.append({"file": str(path), "state": found[0], "reason": found[1]})
            advance(note=path.name)
    if rows or output is not Format.table:
        print_rows(("file", "state", "reason"), rows, output)
    else:
        print_text("Nothing to verify.")
    if damaged := [row["file"] for row in rows if row["state"] == "damaged"]:
        raise ArtifactError(
            f"Expected every file as it was written. Got {len(damaged)} damaged: "
            f"{', '.join(map(repr, damaged))}. Delete them; they are fetched or "
            f"computed again."
        )


def _check(kind: str, path: Path) -> tuple[str, str] | None:
    """Return state and reason of a file; None where there is nothing to tell of it."""
    from zeroshot.embeddings.vectors.vector_cache import damage_of
    from zeroshot.features.store import FeatureStore
    from zeroshot.storage.cache import cache_root
    from zeroshot.storage.contents import is_worked_out
    from zeroshot.storage.large_files import file_digest, recorded_hash, verify
    from zeroshot.storage.unpacking import recorded_files

    reason = ""
    try:
        if kind == "features" and path.suffix == ".sqlite":
            with closing(FeatureStore(path, 0)) as store:
                reason = store.damage()
        elif kind == "networks" and path.suffix == ".network":
            content = path.read_bytes()
            if sha256(content[32:]).digest() != content[:32]:
                reason = "its checksum is another"
        elif kind == "tfhub":
            module = path.relative_to(cache_root() / kind).parts[0]
            recorded = recorded_files(cache_root() / kind / module)
            if path not in recorded:
                return None
            if file_digest(path, "sha256") != recorded[path]:
                reason = "it is not what was unpacked"
        elif is_worked_out(path):
            reason = damage_of(path)
        elif kind != "features" and recorded_hash(path) is not None:
            verify(path)
        else:
            return ("unrecorded", "") if kind == "other" else None
    except (ArtifactError, OSError) as error:
        reason = str(error)
    return ("damaged", reason) if reason else ("ok", "")


def _clear(
    features: Annotated[bool, FEATURES] = False,
    vectors: Annotated[bool, VECTORS] = False,
    networks: Annotated[bool, NETWORKS] = False,
    everything: Annotated[bool, option("--all", "Delete all of these.")] = False,
    yes: Annotated[bool, option("--yes -y", "Do not ask.")] = False,
) -> None:
    """Delete what is in the cache, after asking; it is made or fetched again.

    Files elsewhere are never touched, nor are files in the cache's folder that zeroshot
    did not put there. Prints how much was freed.
    """
    from zeroshot.storage.cache import cache_root
    from zeroshot.storage.contents import clear_cache, list_cache
    from zeroshot.storage.large_files import readable_size

    asked = {"features": features, "vectors": vectors}
    asked |= {"networks": networks, "tfhub": networks}
    kinds = [kind for kind, is_asked in asked.items() if is_asked or everything]
    if not kinds:
        raise typer.BadParameter("Say what: --features, --vectors, --networks, --all.")
    wanted = [entry for entry in list_cache() if entry.kind in kinds]
    if wanted and not yes:
        size = readable_size(sum(entry.size for entry in wanted))
        count = sum(len(entry.paths) for entry in wanted)
        typer.confirm(
            f"Delete {count} files, {size}, in {cache_root()}?", abort=True, err=True
        )
    freed = clear_cache(*kinds)
    print_text(f"Freed {readable_size(freed)}.")


COMMANDS = (
    (_list, "zeroshot cache list"),
    (_verify, "zeroshot cache verify"),
    (_clear, "zeroshot cache clear --features"),
)
