"""The command that puts images into folders: sort."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.predicting import LABELS, TEMPLATE, opened_classifier
from zeroshot.cli.tables import print_rows, print_text
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.sorting import Sorted, Undone

__all__ = ["COMMANDS"]

SOURCES = options.argument(
    "Folders (all images below), image files, or .csv files with a column path; before "
    "them a folder that 'zeroshot fit' wrote, if there is one.",
    metavar="[MODEL] IMAGES",
)
OUT = options.option(
    "--out -o FOLDER",
    "Where the folders of the labels are made, with a manifest (.csv) and a picture "
    "sheet of each label. What was sorted there before is taken back first.",
)
COPY = options.option("--copy", "Copy the images, instead of hard links.")
MOVE = options.option("--move", "Move the images, instead of hard links.")
UNDO = options.option(
    "--undo FOLDER",
    "Take back what was sorted into this folder; nothing else is given then.",
)
DRY_RUN = options.option("--dry-run", "Say what would be done, and change nothing.")
NO_SHEETS = options.option("--no-sheets", "Write no picture sheets.")
COLUMNS = ("folder", "images", "least probable")


def _sort(
    sources: Annotated[list[str] | None, SOURCES] = None,
    labels: Annotated[str | None, LABELS] = None,
    out: Annotated[Path | None, OUT] = None,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    copy: Annotated[bool, COPY] = False,
    move: Annotated[bool, MOVE] = False,
    dry_run: Annotated[bool, DRY_RUN] = False,
    undo: Annotated[Path | None, UNDO] = None,
    adapt: Annotated[bool, options.ADAPT] = False,
    reject: Annotated[str | None, options.REJECT] = None,
    no_sheets: Annotated[bool, NO_SHEETS] = False,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
    embeddings: Annotated[str | None, options.EMBEDDINGS_OF_MODEL] = None,
    backbone: Annotated[str | None, options.BACKBONE_OF_MODEL] = None,
    template: Annotated[list[str] | None, TEMPLATE] = None,
    fail_on_error: Annotated[bool, options.FAIL_ON_ERROR] = False,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Put images into one folder for each label, and into 'unknown'.

    Makes hard links: the images stay where they are, and take no more space. A killed
    run loses nothing; run it again, or take everything back with --undo. Check the
    picture sheets by eye: the least probable images come first.
    """
    from zeroshot.sorting import sort_images, undo_sorting

    if undo is not None:
        if sources or labels or out:
            raise typer.BadParameter("--undo takes a folder of results and no more.")
        _tell_undone(undo_sorting(undo), "In their old places")
        return
    if not sources or out is None:
        raise typer.BadParameter("Give images, --labels, and --out FOLDER.")
    if copy and move:
        raise typer.BadParameter("Give one of --copy and --move.")
    candidates = given_labels([] if labels is None else [labels], labels_file)
    classifier, images = opened_classifier(
        sources,
        backbone,
        embeddings,
        template=template,
        given={"template"} if template else (),
        yes=yes,
    )
    classifier.set_params(**options.score_settings(None, None, reject))
    with options.wrong_usage():  # an auto that the model was not fitted with
        done = sort_images(
            classifier,
            images,
            out,
            candidates,
            action="copy" if copy else "move" if move else "link",
            adapt=adapt,
            sheets=not no_sheets,
            dry_run=dry_run,
        )
    _tell(done, dry_run, output)
    options.exit_on_errors(len(done.errors), fail_on_error)


def _tell(done: "Sorted", dry_run: bool, output: options.Format) -> None:
    if done.undone is not None:
        _tell_undone(done.undone, "Taken back first")
    if output is options.Format.table:
        print_rows(COLUMNS, list(_folders(done)), output, numbers=COLUMNS[1:])
    else:
        images = [vars(i) | {"file": str(i.file)} for i in done.images]
        rows = [i | {"sorted": i["sorted"] and str(i["sorted"])} for i in images]
        print_rows(list(rows[0]), rows, output)
    for file, error in done.errors.items():
        print_text(f"Left where it is: {escaped(file)}: {error}", err=True)
    if dry_run:
        print_text("Nothing was changed (--dry-run).", err=True)
        return
    where = escaped(done.out)
    print_text(f"Sorted into {where}; list: {escaped(done.manifest)}", err=True)
    print_text(f"Take it back with: zeroshot sort --undo '{where}'", err=True)


def _folders(done: "Sorted") -> Iterator[dict[str, Any]]:
    for folder, n in done.counts.items():
        inside = [i for i in done.images if i.sorted and i.sorted.parent.name == folder]
        least = min(i.probability or 0.0 for i in inside)
        yield dict(zip(COLUMNS, (folder, n, least), strict=True))


def _tell_undone(undone: "Undone", what: str) -> None:
    print_text(f"{what}: {undone.n_images} images", err=True)
    for path in undone.left:
        print_text(
            f"Left where it is: {escaped(path)}, whose image is gone from its old "
            f"place, or is another now",
            err=True,
        )
    for path in undone.gone:
        print_text(f"In neither place: {escaped(path)}", err=True)


COMMANDS = (
    (_sort, 'zeroshot sort photos/ --labels "okapi,zebra,horse" --out sorted/'),
)
