"""The command that measures: evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from warnings import warn

import typer

from zeroshot.cli import options
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.label_lists import (
    classes_to_learn_from,
    left_out_line,
    load_labelled,
    with_vector,
)
from zeroshot.cli.tables import print_report, print_text
from zeroshot.defaults import BACKBONE
from zeroshot.errors import PartialCoverageWarning
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.hierarchy import Hierarchy

__all__ = ["COMMANDS"]

IMAGES = options.argument(
    "Labelled images: a folder with one sub-folder per class, a .csv with the columns "
    "path and label, or a file that 'zeroshot embed' wrote. With --proposed-split: "
    "res101.mat.",
)
SPLITS = typer.Option("--splits", min=1, help="Splits into seen and unseen classes.")
UNSEEN = options.option(
    "--unseen SHARE",
    "Share of the classes held out in each split, above 0.",
    min=0,
    max=1,
    show_default=True,
)
SOFTMAX = options.option(
    "--softmax", "Add a softmax classifier of the seen classes to the table (slow)."
)
IMAGES_ALONE = options.option(
    "--images-alone", "Add the method without the backbone's own classes to the table."
)
UNMASKED = options.option(
    "--unmasked",
    "Add the method with all of the backbone's own classes, also those that are held "
    "out; else these are masked.",
)
OF_TRAINING = {
    *("projection", "pretrained_classes", "template", "splits", "unseen"),
    *("softmax", "images_alone", "unmasked"),
}
MODEL = options.option(
    "--model MODEL",
    "Evaluate this saved model instead of training new ones; classes that it was not "
    "trained on are the unseen ones. Images that it was trained on make the figures "
    "for seen classes worthless.",
)
PROPOSED_SPLIT = options.option(
    "--proposed-split FILE",
    "att_splits.mat: run the benchmark of Xian et al. on its published split, with "
    "IMAGES their res101.mat. --embeddings may replace its class attributes.",
)
HIERARCHY = options.option(
    "--hierarchy FILE|FOLDER",
    "What is a kind of what: a .csv with the columns child and parent, or a folder "
    "with ImageNet's WordNet (imagenet_graph_edges.tsv and words.txt). Adds "
    "hierarchical precision@k, the share of the k best labels that are among those "
    "nearest the true one: a dog called a wolf is nearly right. Labels are ids or "
    "names of nodes; with --class-names the folders may be the ids.",
)
HTML = options.option(
    "--html FILE",
    "Write a page with plots and pictures too, which needs no other file.",
    dir_okay=False,
    writable=True,
)


def _evaluate(
    context: typer.Context,
    images: Annotated[Path, IMAGES],
    backbone: Annotated[str | None, options.BACKBONE_OF_MODEL] = None,
    embeddings: Annotated[str | None, options.EMBEDDINGS_OF_MODEL] = None,
    projection: Annotated[str, options.PROJECTION] = "auto",
    pretrained_classes: Annotated[str, options.PRETRAINED_CLASSES] = "auto",
    template: Annotated[list[str] | None, options.TEMPLATE] = None,
    adapt: Annotated[bool, options.ADAPT] = False,
    splits: Annotated[int, SPLITS] = 5,
    unseen: Annotated[float, UNSEEN] = 0.2,
    softmax: Annotated[bool, SOFTMAX] = False,
    images_alone: Annotated[bool, IMAGES_ALONE] = False,
    unmasked: Annotated[bool, UNMASKED] = False,
    skip_unknown: Annotated[bool, options.SKIP_UNKNOWN] = False,
    model: Annotated[Path | None, MODEL] = None,
    proposed_split: Annotated[Path | None, PROPOSED_SPLIT] = None,
    hierarchy: Annotated[Path | None, HIERARCHY] = None,
    seen_penalty: Annotated[str | None, options.SEEN_PENALTY] = None,
    temperature: Annotated[str | None, options.TEMPERATURE] = None,
    reject: Annotated[str | None, options.REJECT] = None,
    html: Annotated[Path | None, HTML] = None,
    class_names: Annotated[Path | None, options.CLASS_NAMES] = None,
    seed: Annotated[int, options.SEED] = 0,
    batch_size: Annotated[int, options.BATCH_SIZE] = 32,
    no_cache: Annotated[bool, options.NO_CACHE] = False,
    on_error: Annotated[options.OnError, options.ON_ERROR] = options.OnError.raise_,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Measure how well a backbone and embeddings do on classes not trained on.

    Holds classes out, trains on the others, and tests on both, several times. Prints
    mean per-class accuracies: among the unseen classes alone (ZSL), and among all
    classes (GZSL) with the harmonic mean H; and how good the scores are: area under the
    seen-unseen curve, calibration error, and how well they tell that no label fits.
    Beside them ridge regression, random vectors for the labels, and chance. With
    --hierarchy, also how near the answers are to the truth. Of the classes that the
    backbone was trained on, those that are held out take no part.
    """
    from zeroshot import load, registry
    from zeroshot.evaluation.protocol import evaluate, evaluate_model
    from zeroshot.proposed_splits import load_proposed_split

    scores = options.score_settings(seen_penalty, temperature, reject)
    more = {"softmax": softmax, "images": images_alone, "unmasked": unmasked}
    tree = None if hierarchy is None else _read_hierarchy(hierarchy, class_names)
    settings: dict[str, Any] = {
        "projection": projection,
        "pretrained_classes": classes_to_learn_from(pretrained_classes),
        "templates": options.templates_of(template),
        "adapt": adapt,
        "controls": ("ridge", "random", *(name for name in more if more[name])),
        "hierarchy": tree,
        "random_state": seed,
        "on_unknown": "skip" if skip_unknown else "raise",
        **scores,
    }
    reading: dict[str, Any] = {
        "batch_size": batch_size,
        "cache": not no_cache,
        "on_error": on_error.value,
    }
    if proposed_split is not None:
        if model is not None or backbone is not None or class_names is not None:
            raise typer.BadParameter(
                "--proposed-split has features and class names of its own; leave out "
                "--model, --backbone and --class-names."
            )
        benchmark = load_proposed_split(images, proposed_split)
        evaluation = evaluate(
            benchmark.features,
            benchmark.labels,
            None,
            benchmark.attributes if embeddings is None else embeddings,
            splits=[benchmark.split],
            **settings,
        )
    elif model is not None:
        for name in sorted(options.given(context) & OF_TRAINING):
            flag = options.flag_of(name)
            raise typer.BadParameter(
                f"{flag} cannot go with --model: nothing is trained."
            )
        paths, labels = load_labelled(images, class_names, on_error.value)
        classifier = load(model, backbone=backbone, embeddings=embeddings)
        classifier.set_params(**reading, **scores)
        if skip_unknown:
            paths, labels, left_out = with_vector(paths, labels, classifier.embeddings_)
            if left_out:
                warn(left_out_line(left_out), PartialCoverageWarning, stacklevel=2)
        evaluation = evaluate_model(
            classifier, paths, labels, hierarchy=tree, adapt=adapt
        )
    else:
        backbone = backbone or BACKBONE
        confirm_downloads(registry.missing_files(backbone, embeddings), yes=yes)
        paths, labels = load_labelled(images, class_names, on_error.value)
        settings |= {"n_splits": splits, "unseen": unseen} | reading
        evaluation = evaluate(paths, labels, backbone, embeddings, **settings)
    print_report(evaluation, evaluation.rows, output)
    if html is not None:  # last: a disk that is full loses no figures
        evaluation.save_html(html)
        print_text(f"Wrote {escaped(html)}", err=True)


def _read_hierarchy(path: Path, class_names: Path | None) -> "Hierarchy":
    """Return the tree of a file or folder; folders of class names may be its nodes."""
    from zeroshot.datasets import read_class_names
    from zeroshot.hierarchy import Hierarchy

    read = Hierarchy.from_wordnet if path.is_dir() else Hierarchy.from_csv
    tree = read(path)
    if class_names is None:
        return tree
    return tree.with_labels(read_class_names(class_names))


COMMANDS = (
    (
        _evaluate,
        "zeroshot evaluate photos/ --html report.html",
    ),
)
