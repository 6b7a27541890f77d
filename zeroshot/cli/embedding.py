"""The command that computes features and keeps them in a file: embed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import engines, options
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.tables import print_text
from zeroshot.defaults import BACKBONE
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["COMMANDS"]

IMAGES = options.argument(
    "A folder (all images below), a .csv with a column path, or an image. Sub-folders, "
    "or a column label, are the labels.",
)
OUT = options.option(
    "--out -o FILE",
    "File to write: .npz, or .parquet (which needs pyarrow). With --engine a folder.",
)


def _embed(
    context: typer.Context,
    images: Annotated[Path, IMAGES],
    out: Annotated[Path, OUT],
    backbone: Annotated[str, options.BACKBONE] = BACKBONE,
    class_names: Annotated[Path | None, options.CLASS_NAMES] = None,
    batch_size: Annotated[int, options.BATCH_SIZE] = 32,
    no_cache: Annotated[bool, options.NO_CACHE] = False,
    on_error: Annotated[options.OnError, options.ON_ERROR] = options.OnError.raise_,
    fail_on_error: Annotated[bool, options.FAIL_ON_ERROR] = False,
    engine: Annotated[engines.Engine | None, engines.ENGINE] = None,
    address: Annotated[str | None, engines.ADDRESS] = None,
    workers: Annotated[int | None, engines.WORKERS] = None,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Compute the features of images and write them to a file.

    'fit', 'predict' and 'evaluate' take the file in place of images, for the same
    backbone; they need neither the images nor TensorFlow then.
    """
    from zeroshot import registry
    from zeroshot.features.export import export_features

    missing = registry.missing_weights(backbone, classifier=False)
    confirm_downloads(missing, yes=yes)
    if engine is not None:
        from zeroshot.serving import BatchEmbedder

        given = options.given(context)
        reason = engines.on_error_of_job(on_error, given)
        embedder = BatchEmbedder(backbone, on_error=reason, batch_size=batch_size)
        paths, names = _for_workers(images, class_names, on_error)
        engines.do_job(
            engine,
            paths,
            embedder,
            out,
            address,
            workers,
            names,
            fail_on_error=fail_on_error,
        )
        return
    sources, labels = _load_if_labelled(images, class_names, on_error)
    exported = export_features(
        sources,
        backbone,
        out,
        labels=labels,
        batch_size=batch_size,
        cache=not no_cache,
        on_error=on_error.value,
    )
    print_text(
        f"Saved: {escaped(out)} ({exported.n_rows} rows of {exported.dim} numbers, "
        f"{'no' if labels is None else 'with'} labels)"
    )
    options.exit_on_errors(len(exported.errors), fail_on_error)


def _for_workers(
    images: Path, class_names: Path | None, on_error: options.OnError
) -> "tuple[Path | list[str], list[str] | None]":
    from zeroshot.serving.jobs import columns_of

    if columns_of([images]):
        return images, None
    paths, labels = _load_if_labelled(images, class_names, on_error)
    return paths, None if labels is None else labels.tolist()


def _load_if_labelled(
    path: Path, class_names: Path | None, on_error: options.OnError
) -> "tuple[list[str], NDArray[np.str_] | None]":
    """Return images, and the label of each where there are labels.

    There are in a folder that holds sub-folders and no images directly, and in a
    table with a column label.
    """
    from zeroshot.datasets import load_images
    from zeroshot.images.files import TABLE_SUFFIXES, read_image_table
    from zeroshot.images.sources import as_image_list

    labelled, images = class_names is not None, []
    if path.is_dir() and not labelled:
        images = [str(image) for image in as_image_list(path, on_error.value)]
        labelled = not any(Path(image).parent == path for image in images)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        labelled = labelled or "label" in read_image_table(path).header
    if labelled:
        return load_images(path, class_names, on_error.value)
    return images or [str(i) for i in as_image_list(path, on_error.value)], None


COMMANDS = ((_embed, "zeroshot embed photos/ --out photos.npz"),)
