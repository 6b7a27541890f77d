"""What 'predict' and 'embed' do with --engine: jobs whose results are Parquet files."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.tables import print_text
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.serving.jobs import Form

__all__ = ["ADDRESS", "ENGINE", "WORKERS", "Engine", "do_job", "on_error_of_job"]


class Engine(StrEnum):
    """Where a job runs."""

    local = "local"
    ray = "ray"
    spark = "spark"


ENGINE = options.option(
    "--engine local|ray|spark",
    "For very many images: write the results to --out, a folder of Parquet files, by "
    "processes of this machine or on a cluster. Run it again after a cut, and only "
    "what is missing is done. IMAGES may then be Parquet tables, too.",
)
ADDRESS = options.option(
    "--address ADDRESS",
    "Of the cluster: auto or host:port (Ray), spark://host:port or yarn (Spark). "
    "Default: this machine.",
)
WORKERS = typer.Option(
    "--workers",
    min=1,
    metavar="NUMBER",
    show_default=False,
    help="With --engine: how many at once. Default: one on each core.",
)


def on_error_of_job(on_error: options.OnError, given: set[str]) -> Any:
    """Return what to do about bad images; by default each has a row with the reason."""
    if "on_error" not in given:
        return "nan"
    if on_error is options.OnError.skip:
        raise typer.BadParameter(
            "--on-error skip cannot go with --engine: every image has a row."
        )
    return on_error.value


def do_job(
    engine: Engine,
    images: Any,
    form: "Form",
    out: Path,
    address: str | None,
    workers: int | None,
    labels: Sequence[str] | None = None,
    *,
    fail_on_error: bool,
) -> None:
    """Do a job, and say what came of it.

    ``images``: paths of images or of tables. ``labels``: of each image.
    """
    if address is not None and engine is Engine.local:
        raise typer.BadParameter("--address is of a cluster: not with --engine local.")
    run: Callable[..., Any]
    around: Any = nullcontext()
    settings: dict[str, Any] = {"out": out, "workers": workers}
    if engine is Engine.local:
        from zeroshot.serving import local

        run = local.answer
    elif engine is Engine.ray:
        from zeroshot.integrations import ray

        run, around = ray.answer, ray.session(address, workers)
    else:
        from zeroshot.integrations import spark

        # Of pandas 3, of which it uses nothing here; with every job.
        warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
        run, around = spark.answer, spark.session(address, workers)
    if labels is not None:
        settings["labels"] = labels
    form.check()
    with around:
        report = run(images, form, **settings)
    before = f"; {report.n_before} were there" if report.n_before else ""
    bad = f", {report.n_errors} images could not be read" if report.n_errors else ""
    files = "1 file" if report.n_parts == 1 else f"{report.n_parts} files"
    print_text(f"Saved: {escaped(out)} ({report.n_rows} rows in {files}{before}{bad})")
    options.exit_on_errors(report.n_errors, fail_on_error)
