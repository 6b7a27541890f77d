"""Labels on the command line, and labelled images; the command labels check."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zeroshot.cli import options
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.tables import print_report
from zeroshot.defaults import EMBEDDINGS
from zeroshot.errors import ArtifactError, LabelError, OutOfVocabularyError
from zeroshot.escaping import escaped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zeroshot.embeddings.base import TextEmbeddings
    from zeroshot.features.file import FeatureFile
    from zeroshot.images.files import OnError

__all__ = [
    "COMMANDS",
    "classes_to_learn_from",
    "find_classes",
    "given_labels",
    "left_out_line",
    "load_labelled",
    "plain_labels",
    "short_names",
    "with_vector",
]


LABELS = options.argument(
    "Labels to look up, one each or one list (as --labels of 'zeroshot predict'), or "
    "one file of labels (as --labels-file).",
)


def _check(
    labels: Annotated[list[str] | None, LABELS] = None,
    embeddings: Annotated[str, options.WORDS] = EMBEDDINGS,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    template: Annotated[list[str] | None, options.TEMPLATE] = None,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Show how labels become vectors: which words are used and which are left out.

    Names same vectors, near synonyms (cosine 0.8 and more) and hubs, which images of
    other classes are mistaken for. Exit code 1 if some labels have no vector; all of
    them are named, with near spellings.
    """
    labels = labels or []
    if labels_file is None and len(labels) == 1 and os.path.isfile(labels[0]):
        labels, labels_file = [], Path(labels[0])
    candidates = given_labels(labels, labels_file)
    if candidates is None:
        raise typer.BadParameter("Give labels, or --labels-file.")

    from zeroshot import registry
    from zeroshot.labels.cascade import embed_labels
    from zeroshot.labels.templates import with_templates

    confirm_downloads(registry.missing_files(None, embeddings), yes=yes)
    provider = with_templates(
        registry.resolve_embeddings(embeddings), options.templates_of(template)
    )
    _, report = embed_labels(candidates, provider)
    print_report(report, report.to_dict()["entries"], output)


def given_labels(
    listed: Sequence[str], file: Path | None
) -> dict[Any, list[str]] | None:
    """Return labels and their aliases from the one source that was given.

    ``listed``: texts from the command line, see `zeroshot.labels.parse_labels`.
    ``file``: see `zeroshot.labels.read_labels`. Returns None where neither was given.
    Raises LabelError if both were given, or a label is repeated; ArtifactError if the
    file cannot be read.
    """
    from zeroshot.labels.given import parse_labels, read_labels

    if listed and file is not None:
        raise LabelError(
            f"Expected labels, or a file of labels. Got both: {listed[0]!r} ... and "
            f"'{file}'. Leave one out."
        )
    if file is not None:
        return read_labels(file)
    if len(listed) == 1 and Path(listed[0]).suffix and os.path.isfile(listed[0]):
        raise LabelError(
            f"Expected labels. Got the file '{listed[0]}'. Write --labels-file "
            f"{listed[0]}."
        )
    # One text where several are given is one entry: the shell has separated them.
    text = listed[0] if len(listed) == 1 else "".join(f"{each};" for each in listed)
    return parse_labels(text) if listed else None


def plain_labels(source: str | Path) -> list[str]:
    """Return the labels of a text or a file, refusing other names, which have no use.

    Raises LabelError, ArtifactError as `given_labels`.
    """
    from zeroshot.labels.given import parse_labels, read_labels

    read = parse_labels(source) if isinstance(source, str) else read_labels(source)
    if with_aliases := [label for label, aliases in read.items() if aliases]:
        raise LabelError(
            f"Expected labels without other names. Got other names for "
            f"'{with_aliases[0]}' in '{source}'. Give each name an entry of its own."
        )
    return list(map(str, read))


def classes_to_learn_from(
    given: str,
) -> Literal["auto"] | dict[str, list[str]] | None:
    """Return what ``--pretrained-classes`` stands for, as the classifier takes it.

    Of a file, the classes of its lines, called by their aliases where they have some.
    Raises ArtifactError, LabelError as `zeroshot.labels.read_labels`.
    """
    from zeroshot.labels.given import read_labels

    if given == "auto":
        return "auto"
    if given == "none":
        return None
    if not os.path.exists(given):
        raise ArtifactError(
            f"Expected auto, none, or a file of names of classes. Got {given!r}, and "
            f"there is no such file. Correct --pretrained-classes."
        )
    read = read_labels(Path(given))
    return {str(name): aliases or [str(name)] for name, aliases in read.items()}


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """Return how labels are shown: up to the first comma, where that is unambiguous.

    ImageNet's names list synonyms: ``goldfish, Carassius auratus`` is shown as
    ``goldfish``; ``crane, bird`` and ``crane, machine`` are shown whole.
    """
    from zeroshot.labels.spelling import names_of

    first = {label: names_of(label)[0] for label in labels}
    counts = Counter(first.values())
    return {
        label: name if counts[name] == 1 else label for label, name in first.items()
    }


def find_classes(wanted: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the classes that names stand for: a whole label, or its short name.

    Raises LabelError if names are none of them; has all such names.
    """
    by_name = {name: label for label, name in short_names(classes).items()}
    by_name |= {label: label for label in classes}
    if missing := [name for name in wanted if name not in by_name]:
        raise LabelError(
            f"Expected labels of the images. Got {', '.join(map(repr, missing))}, of "
            f"which there is no image. The labels are: {', '.join(sorted(classes))}."
        )
    return [by_name[name] for name in wanted]


def load_labelled(
    path: Path, class_names: Path | None, on_error: "OnError" = "raise"
) -> "tuple[list[str] | FeatureFile, NDArray[np.str_]]":
    """Return images, or features in place of them, and the label of each.

    Raises ArtifactError, LabelError as `zeroshot.datasets.load_images`; if a file of
    features has no labels.
    """
    from zeroshot.datasets import load_images
    from zeroshot.features.file import FeatureFile, open_if_features

    opened = open_if_features(path)
    if not isinstance(opened, FeatureFile):
        return load_images(path, class_names, on_error)
    if class_names is not None:
        raise LabelError(
            f"Expected class names for a folder of images only. Got the features "
            f"'{path}', which hold their labels. Leave the class names out."
        )
    if opened.labels is None:
        raise ArtifactError(
            f"Expected features with labels. Got '{path}', which has none. Run "
            f"'zeroshot embed' on a folder with one sub-folder per class, or on a .csv "
            f"with a column label."
        )
    return opened, opened.labels


def with_vector(
    images: "list[str] | FeatureFile",
    labels: "NDArray[np.str_]",
    embeddings: "TextEmbeddings",
) -> "tuple[list[str] | FeatureFile, NDArray[np.str_], list[str]]":
    """Return the images whose label has a vector, their labels, and the others."""
    import numpy as np

    from zeroshot.features.file import take
    from zeroshot.labels.cascade import embed_labels

    try:
        embed_labels(np.unique(labels).tolist(), embeddings)
    except OutOfVocabularyError as error:
        kept = np.flatnonzero(~np.isin(labels, error.labels))
        return take(images, kept), labels[kept], error.labels
    return images, labels, []


def left_out_line(labels: Sequence[str]) -> str:
    """Say which labels were left out."""
    return f"Left out, without a word vector: {'; '.join(map(escaped, labels))}"


COMMANDS = ((_check, "zeroshot labels check labels.txt"),)
