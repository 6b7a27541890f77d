"""The commands about the cache: list, verify, clear."""

from typing import Annotated

import typer

from zeroshot.cli.options import Format, OutputFormat
from zeroshot.cli.tables import print_json, print_rows, print_text
from zeroshot.errors import ArtifactError

__all__ = ["COMMANDS"]


def _list(output: OutputFormat = Format.table) -> None:
    """Show what lies in the cache, how large it is, and in which folder.

    Features have a line for each backbone (and version of its weights); converted
    networks, modules of TF-Hub, word vectors, archives, indexes, unpacked copies and
    matrices each have theirs. "other" is what zeroshot did not put there. Features are
    kept up to 10 GB (environment variable ZEROSHOT_FEATURES_LIMIT): those not used for
    the longest time go first.
    """
    from zeroshot.cli.cached_files import list_cache
    from zeroshot.storage.cache import cache_root
    from zeroshot.storage.large_files import readable_size

    files = list_cache()
    total = sum(entry.size for entry in files)
    rows = [
        {
            "kind": entry.kind,
            "name": entry.name,
            "images": entry.n_images,
            "size": entry.size,
        }
        for entry in files
    ]
    if output is Format.json:
        print_json({"folder": str(cache_root()), "size": total, "files": rows})
        return
    if output is Format.table:
        for row in rows:
            row["size"] = readable_size(int(row["size"] or 0))
    if rows or output is Format.csv:
        columns = ("kind", "name", "images", "size")
        print_rows(columns, rows, output.value, numbers=("images", "size"))
    if output is Format.table:
        print_text(f"{readable_size(total)} in {cache_root()}")


def _verify(output: OutputFormat = Format.table) -> None:
    """Read downloads and features again and tell which are damaged.

    Downloads are compared with the hash recorded when they were fetched ("unrecorded":
    put there by hand, so there is none), features with their checksum. What was worked
    out from vector files is checked at every use. Exit code 1 if something is damaged.
    """
    from zeroshot.cli.cached_files import verify_cache

    checks = verify_cache()
    rows = [
        {"file": str(check.path), "state": check.state, "reason": check.reason}
        for check in checks
    ]
    if rows or output is not Format.table:
        columns = ("file", "state", "reason")
        print_rows(columns, rows, output.value)
    else:
        print_text("Nothing to verify.")
    if damaged := [str(check.path) for check in checks if check.state == "damaged"]:
        raise ArtifactError(
            f"Expected every file as it was written. Got {len(damaged)} damaged: "
            f"{', '.join(map(repr, damaged))}. Delete them; they are fetched or "
            f"computed again."
        )


def _clear(
    features: Annotated[
        bool, typer.Option("--features", help="Delete the features of images.")
    ] = False,
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors",
            help="Delete downloaded word vectors, and indexes, unpacked copies and "
            "matrices of all vector files.",
        ),
    ] = False,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks", help="Delete converted networks and modules of TF-Hub."
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Delete all of these.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what is in the cache, after asking; it is made or fetched again.

    Files elsewhere are never touched, nor are files in the cache's folder that zeroshot
    did not put there. Prints how much was freed.
    """
    what = {
        "features": features or everything,
        "vectors": vectors or everything,
        "networks": networks or everything,
    }
    if not any(what.values()):
        raise typer.BadParameter("Say what: --features, --vectors, --networks, --all.")

    from zeroshot.cli.cached_files import clear_cache, is_cleared, list_cache
    from zeroshot.storage.cache import cache_root
    from zeroshot.storage.large_files import readable_size

    wanted = [entry for entry in list_cache() if is_cleared(entry, **what)]
    if wanted and not yes:
        size = readable_size(sum(entry.size for entry in wanted))
        count = sum(len(entry.paths) for entry in wanted)
        typer.confirm(
            f"Delete {count} files, {size}, in {cache_root()}?", abort=True, err=True
        )
    freed = clear_cache(**what)
    print_text(f"Freed {readable_size(freed)}.")


COMMANDS = (
    (_list, "zeroshot cache list"),
    (_verify, "zeroshot cache verify"),
    (_clear, "zeroshot cache clear --features"),
)
"""The commands (named after the functions), each with an example."""
