"""The command that uses a model: predict."""

import os
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli import engines, options
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.tables import print_csv, print_json, print_rows, print_text
from zeroshot.cli.untrained import untrained_classifier
from zeroshot.defaults import BACKBONE
from zeroshot.errors import ArtifactError
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.features.file import FeatureFile
    from zeroshot.scoring.answers import Explanation, RankedLabel

__all__ = [
    "COMMANDS",
    "LABELS",
    "TEMPLATE",
    "opened_classifier",
    "refuse_nothing_to_learn",
    "refuse_with_a_model",
]

COLUMNS = (
    *("image", "prediction", "rank", "label", "score", "probability"),
    *("seen", "basis", "rejected", "error"),
)

SOURCES = options.argument(
    "Image files, folders (all images below), .csv files with a column path, or one "
    "file that 'zeroshot embed' wrote; before them a folder that 'zeroshot fit' wrote, "
    "if there is one.",
    metavar="[MODEL] IMAGES",
)


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    label_studio = "label-studio"


FORMAT = typer.Option(
    "--format",
    "-f",
    help="A table for people; json or csv for programs; label-studio: tasks with "
    "predictions, to be imported there.",
)
LABELS = options.option(
    "--labels -l LABELS",
    "Labels to choose from, separated by commas, or by semicolons where one has a "
    "comma or other names ('okapi: forest giraffe; zebra'); any that the embeddings "
    "know. Default: the labels seen in training.",
)
TOP_K = typer.Option("--top-k", "-k", min=1, help="Labels shown per image.")
MULTI_LABEL = options.option(
    "--multi-label",
    "The labels do not exclude one another: rate each by itself. Needs a model that "
    "was fitted with an auto option, or SigLIP.",
)
OUT = options.option(
    "--out -o FOLDER", "With --engine (default: local): where the results are written."
)
EXPLAIN = options.option(
    "--explain",
    "Say why: how each label's vector was made, the margin, and the classes of "
    "training that an image is nearest to.",
)
_WITHOUT_A_MODEL = "Without a model, as for 'zeroshot fit'; a model has its own."
PROJECTION = options.option(
    "--projection -p NAME",
    _WITHOUT_A_MODEL,
    autocompletion=options.names_of("projections"),
    show_default=True,
)
PRETRAINED_CLASSES = options.option(
    "--pretrained-classes auto|FILE", _WITHOUT_A_MODEL, show_default=True
)
TEMPLATE = options.option("--template TEXT|NAME", _WITHOUT_A_MODEL)


def _predict(
    context: typer.Context,
    sources: Annotated[list[str], SOURCES],
    labels: Annotated[str | None, LABELS] = None,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    top_k: Annotated[int, TOP_K] = 5,
    adapt: Annotated[bool, options.ADAPT] = False,
    seen_penalty: Annotated[str | None, options.SEEN_PENALTY] = None,
    temperature: Annotated[str | None, options.TEMPERATURE] = None,
    reject: Annotated[str | None, options.REJECT] = None,
    multi_label: Annotated[bool, MULTI_LABEL] = False,
    explain: Annotated[bool, EXPLAIN] = False,
    output: Annotated[Format, FORMAT] = Format.table,
    embeddings: Annotated[str | None, options.EMBEDDINGS_OF_MODEL] = None,
    backbone: Annotated[str | None, options.BACKBONE_OF_MODEL] = None,
    projection: Annotated[str, PROJECTION] = "auto",
    pretrained_classes: Annotated[str, PRETRAINED_CLASSES] = "auto",
    template: Annotated[list[str] | None, TEMPLATE] = None,
    batch_size: Annotated[int, options.BATCH_SIZE] = 32,
    no_cache: Annotated[bool, options.NO_CACHE] = False,
    on_error: Annotated[options.OnError, options.ON_ERROR] = options.OnError.raise_,
    fail_on_error: Annotated[bool, options.FAIL_ON_ERROR] = False,
    engine: Annotated[engines.Engine | None, engines.ENGINE] = None,
    address: Annotated[str | None, engines.ADDRESS] = None,
    workers: Annotated[int | None, engines.WORKERS] = None,
    out: Annotated[Path | None, OUT] = None,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Name images, with labels that need not have been in training.

    With a model that 'zeroshot fit' wrote; or without one: then all that is learnt from
    are the classes of ImageNet that the backbone was trained on. The default backbone
    and vectors are fetched on first use (hundreds of MB). A joint model (--backbone
    clip:/folder) needs neither a model nor vectors.

    Prints the best labels with score (cosine in -1 to 1), probability among the labels
    given (not calibrated unless the temperature is auto) and what each is known from:
    images of training, a class that the backbone was pretrained on, or its word alone.
    """
    candidates = given_labels([] if labels is None else [labels], labels_file)

    if adapt + multi_label + explain > 1:
        raise typer.BadParameter("Give one of --adapt, --multi-label and --explain.")
    settings = options.score_settings(seen_penalty, temperature, reject)
    given = options.given(context)
    if engine is not None or out is not None:
        if multi_label or explain:
            raise typer.BadParameter(
                "--engine and --out go without --multi-label and --explain."
            )
        if out is None:
            raise typer.BadParameter("Give --out, the folder of the results.")
        named = {"backbone": backbone, "embeddings": embeddings}
        model, paths = _model_for_workers(sources, named, given, yes=yes)
        for path in paths:
            _check_exists(path)
        from zeroshot.serving import BatchPredictor

        predictor = BatchPredictor(
            model,
            candidates,
            image_column=_image_column(paths),
            on_error=engines.on_error_of_job(on_error, given),
            top_k=top_k if "top_k" in given else 1,
            adapt=adapt,
            settings=settings,
            batch_size=batch_size,
            backbone=None if isinstance(model, tuple) else backbone,
            embeddings=None if isinstance(model, tuple) else embeddings,
        )
        engines.do_job(
            engine or engines.Engine.local,
            paths,
            predictor,
            out,
            address,
            workers,
            fail_on_error=fail_on_error,
        )
        return
    classifier, images_given = opened_classifier(
        sources,
        backbone,
        embeddings,
        projection,
        pretrained_classes,
        template,
        given,
        yes=yes,
    )
    classifier.set_params(
        batch_size=batch_size,
        cache=not no_cache,
        on_error=on_error.value,
        **settings,
    )
    images, names = _opened(images_given, on_error)
    why: list[Explanation] = []
    ranked: Sequence[Sequence[RankedLabel]]
    with options.wrong_usage():  # an auto that the model was not fitted with
        classifier.label_points(candidates)  # an unknown label costs no image work
        points = classifier.points(images)
        if explain:
            why = classifier.explain(points, candidates, k=top_k)
            ranked = [each.ranked for each in why]
        else:
            ranked = classifier.rank(
                points, candidates, k=top_k, multi_label=multi_label, adapt=adapt
            )
    from zeroshot.scoring.answers import as_results

    positions, unknown = points.positions.tolist(), classifier.unknown_label
    results = as_results(names, positions, points.errors, ranked, unknown, why)
    if explain and output is Format.table:
        for result, each in zip(results, why, strict=True):
            print_text(f"{escaped(result['image'])}: {each}")
    elif output is Format.table:
        _print_table(results)
    elif output is Format.label_studio:
        model = sources[0] if len(sources) > len(images_given) else "zeroshot"
        print_json(_label_studio_tasks(results, ranked, model))
    elif output is Format.csv:
        print_csv(COLUMNS, (row for result in results for row in _csv_rows(result)))
    else:
        print_json(results)
    options.exit_on_errors(len(points.errors), fail_on_error)


def _label_studio_tasks(
    results: list[dict[str, Any]],
    ranked: "Sequence[Sequence[RankedLabel]]",
    model: str,
) -> list[dict[str, Any]]:
    from zeroshot.scoring.answers import as_pre_annotation

    return [
        {
            "data": {"image": result["image"]},
            "predictions": [as_pre_annotation(best[0] if best else None, model)],
        }
        for result, best in zip(results, ranked, strict=True)
    ]


def _check_exists(path: str) -> None:
    if not os.path.exists(path):
        raise ArtifactError(
            f"Expected images, or a folder that 'zeroshot fit' wrote. Got '{path}', "
            f"and there is no such file or folder. Correct the path."
        )


def _model_for_workers(
    sources: list[str], named: dict[str, str | None], given: set[str], *, yes: bool
) -> tuple[str | tuple[str, str | None], list[str]]:
    """Return the model as workers find it, a folder or names; and the images."""
    from zeroshot import registry
    from zeroshot.saving.bundle import remains_of_bundle

    own = {"projection", "pretrained_classes"} & given
    for name in sorted(own):
        raise typer.BadParameter(
            f"{options.flag_of(name)} cannot go with --engine. Make the model with "
            f"'zeroshot fit --pretrained' first."
        )
    first, *images = sources
    if remains_of_bundle(Path(first)):
        if not images:
            raise typer.BadParameter("Give images after the model.")
        return os.path.abspath(first), images
    backbone, embeddings = named["backbone"] or BACKBONE, named["embeddings"]
    confirm_downloads(registry.missing_files(backbone, embeddings), yes=yes)
    return (backbone, embeddings), sources


def _image_column(paths: list[str]) -> str:
    """Return the column of images, or of features, of tables among what is given."""
    from zeroshot.serving.jobs import columns_of

    columns = columns_of(paths)
    return next(
        (name for name in ("bytes", "features", "path") if name in columns), "bytes"
    )


def opened_classifier(
    sources: list[str],
    backbone: str | None,
    embeddings: str | None,
    projection: str = "auto",
    pretrained_classes: str = "auto",
    template: list[str] | None = None,
    given: Iterable[str] = (),
    *,
    yes: bool,
) -> "tuple[ZeroShotClassifier, list[str]]":
    """Return the model that comes first, or one made of the options; and the images.

    ``given``: which options were, that go without a model only. ``yes``: do not ask
    before something is fetched.
    """
    from zeroshot import load
    from zeroshot.saving.bundle import remains_of_bundle

    first, *images = sources
    if remains_of_bundle(Path(first)):
        classifier = load(first, backbone=backbone, embeddings=embeddings)
        refuse_with_a_model(given)
        if not images:
            raise typer.BadParameter("Give images after the model.")
        return classifier, images
    refuse_nothing_to_learn(pretrained_classes)
    _check_exists(first)
    classifier = untrained_classifier(
        backbone or BACKBONE,
        embeddings,
        projection,
        pretrained_classes,
        options.templates_of(template),
        yes=yes,
    )
    return classifier, sources


def refuse_with_a_model(given: Iterable[str]) -> None:
    """Refuse options that go without a model only."""
    of_none = {"projection", "pretrained_classes", "template"}
    for name in sorted(of_none.intersection(given)):
        flag = options.flag_of(name)
        raise typer.BadParameter(f"{flag} cannot go with a model: it has its own.")


def refuse_nothing_to_learn(pretrained_classes: str) -> None:
    """Refuse to leave the backbone's classes out where there is no model."""
    if pretrained_classes == "none":
        raise typer.BadParameter(
            "--pretrained-classes none leaves nothing to learn from without a model."
        )


def _opened(
    images: list[str], on_error: options.OnError
) -> "tuple[FeatureFile | list[str], list[str]]":
    """Return what to predict, and what to call each row."""
    from zeroshot.features.file import FeatureFile, open_if_features
    from zeroshot.images.sources import as_image_list

    opened = [open_if_features(given) for given in images]
    files = [file for file in opened if isinstance(file, FeatureFile)]
    if not files:
        lists = (as_image_list(given, on_error.value) for given in images)
        sources = [str(image) for images in lists for image in images]
        return sources, sources
    if len(images) > 1:
        raise ArtifactError(
            f"Expected images, or one file of features. Got '{files[0].path}' beside "
            f"others. Predict them one after the other."
        )
    return files[0], files[0].paths or [f"row {i}" for i in range(len(files[0]))]


def _print_table(results: list[dict[str, Any]]) -> None:
    columns = ["image", "label", "probability", "score", "from"]
    if any(result["error"] for result in results):  # mostly: no column for nothing
        columns.append("error")
    rows: list[dict[str, Any]] = []
    for result in results:
        answers = [
            {**answer, "label": str(answer["label"]), "from": answer["basis"]}
            for answer in result["ranked"]
        ]
        if result["prediction"] not in [each["label"] for each in result["ranked"]]:
            unknown = {"label": str(result["prediction"]), "error": result["error"]}
            answers.insert(0, unknown)
        answers[0]["image"] = result["image"]
        rows += answers
    print_rows(columns, rows, "table", numbers=("probability", "score"))


def _csv_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    whole = {key: result[key] for key in ("image", "prediction", "error")}
    ranked = [{"rank": rank, **each} for rank, each in enumerate(result["ranked"], 1)]
    return [whole | answer for answer in ranked or [{}]]


COMMANDS = ((_predict, 'zeroshot predict photo.jpg --labels "okapi,zebra,horse"'),)
