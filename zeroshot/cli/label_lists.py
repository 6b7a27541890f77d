"""Labels as they are given on the command line and in files, and how they are shown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.errors import ArtifactError, LabelError, OutOfVocabularyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zeroshot.embeddings.base import TextEmbeddings
    from zeroshot.features.file import FeatureFile

__all__ = [
    "find_classes",
    "given_labels",
    "left_out_line",
    "read_labels",
    "short_names",
    "split_labels",
    "with_vector",
]


def given_labels(
    listed: Sequence[str], file: Path | None
) -> dict[Any, list[str]] | None:
    """Return labels and their aliases from the one source that was given.

    Parameters
    ----------
    listed : sequence of str
        Labels from the command line.
    file : Path or None
        See `read_labels`.

    Returns
    -------
    labels : dict of str to list of str, or None
        None where neither was given.

    Raises
    ------
    LabelError
        If both were given, or a label is repeated.
    ArtifactError
        If the file cannot be read.
    """
    if listed and file is not None:
        raise LabelError(
            f"Expected labels, or a file of labels. Got both: {listed[0]!r} ... and "
            f"'{file}'. Leave one out."
        )
    if file is not None:
        return read_labels(file)
    return _without_repeats([(label, []) for label in listed]) if listed else None


def split_labels(text: str) -> list[str]:
    """Return the labels of ``"okapi, zebra"``; refuses a list without any.

    Raises
    ------
    LabelError
        If there is nothing, or nothing between two commas.
    """
    labels = [part.strip() for part in text.split(",")]
    if not all(labels):
        raise LabelError(
            f"Expected labels separated by commas, such as 'okapi,zebra'. Got "
            f"{text!r}, in which a label is empty. Remove the extra comma or add the "
            f"label."
        )
    return labels


def read_labels(path: Path) -> dict[str, list[str]]:
    r"""Read a file of labels.

    One label per line, with its aliases after a tab or after a colon and a space,
    separated by commas: ``okapi: forest giraffe, Congo giraffe``. Empty lines and lines
    that begin with ``#`` are left out. UTF-8.

    Parameters
    ----------
    path : Path

    Returns
    -------
    labels : dict of str to list of str
        Label to aliases, in the order of the file.

    Raises
    ------
    ArtifactError
        If it cannot be read or holds no label.
    LabelError
        If a label is empty or repeated; gives the label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"Expected a file of labels in UTF-8 text, one per line. Got '{path}': "
            f"{error}. Check the file."
        ) from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = "\t" if "\t" in line.strip() else ": "
        label, _, aliases = line.strip().partition(separator)
        # "okapi:" has no alias.
        label = label.strip().removesuffix(":").strip()
        if not label:
            raise LabelError(
                f"Expected a label in '{path}', line {number}. Got {line!r}. Write "
                f"'label' or 'label: alias, alias'."
            )
        names = [alias.strip() for alias in aliases.split(",") if alias.strip()]
        labels.append((label, names))
    if not labels:
        raise ArtifactError(
            f"Expected a file of labels, one per line. Got '{path}', which has none. "
            f"Add labels."
        )
    return _without_repeats(labels)


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """Return how labels are shown: up to the first comma, where that is unambiguous.

    ImageNet's names list synonyms: ``goldfish, Carassius auratus`` is shown as
    ``goldfish``; ``crane, bird`` and ``crane, machine`` are shown whole.

    Parameters
    ----------
    labels : iterable of str
        Different labels.

    Returns
    -------
    names : dict of str to str
        Label to what is shown, in the order given.
    """
    first = {label: label.split(",")[0].strip() or label for label in labels}
    counts = Counter(first.values())
    return {
        label: name if counts[name] == 1 else label for label, name in first.items()
    }


def find_classes(wanted: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the classes that names stand for: a whole label, or its short name.

    Parameters
    ----------
    wanted : sequence of str
        Names from the command line.
    classes : sequence of str
        Labels of the images.

    Returns
    -------
    found : list of str
        Of ``classes``, in the order wanted.

    Raises
    ------
    LabelError
        If a name is none of them; has all such names.
    """
    by_name = {name: label for label, name in short_names(classes).items()}
    by_name |= {label: label for label in classes}
    if missing := [name for name in wanted if name not in by_name]:
        raise LabelError(
            f"Expected labels of the images. Got {', '.join(map(repr, missing))}, of "
            f"which there is no image. The labels are: {', '.join(sorted(classes))}."
        )
    return [by_name[name] for name in wanted]


def _without_repeats(labels: list[tuple[str, list[str]]]) -> dict[str, list[str]]:
    counts = Counter(label for label, _ in labels)
    if repeated := [label for label, count in counts.items() if count > 1]:
        raise LabelError(
            f"Expected every label once. Got {', '.join(map(repr, repeated))} more "
            f"than once. Remove the repeats."
        )
    return dict(labels)


def with_vector(
    paths: "list[str] | FeatureFile",
    labels: "NDArray[np.str_]",
    embeddings: "TextEmbeddings",
) -> "tuple[list[str] | FeatureFile, NDArray[np.str_], list[str]]":
    """Return the images whose label has a vector, their labels, and the others.

    Parameters
    ----------
    paths : list of str or FeatureFile
    labels : ndarray of shape (n,), str
        Label of each image.
    embeddings : TextEmbeddings

    Returns
    -------
    paths : list of str or FeatureFile
    labels : ndarray of str
    left_out : list of str
        Labels without a vector.
    """
    import numpy as np

    from zeroshot.features.file import take
    from zeroshot.labels.cascade import embed_labels

    try:
        embed_labels(np.unique(labels).tolist(), embeddings)
    except OutOfVocabularyError as error:
        kept = np.flatnonzero(~np.isin(labels, error.labels))
        return take(paths, kept), labels[kept], error.labels
    return paths, labels, []


def left_out_line(labels: Sequence[str]) -> str:
    """Say which labels were left out."""
    return f"Left out, without a word vector: {'; '.join(labels)}"
