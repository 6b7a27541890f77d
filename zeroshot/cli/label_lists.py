"""Labels on the command line: which were given, and how they are shown."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.errors import LabelError, OutOfVocabularyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zeroshot.embeddings.base import TextEmbeddings
    from zeroshot.features.file import FeatureFile

__all__ = [
    "find_classes",
    "given_labels",
    "left_out_line",
    "plain_labels",
    "short_names",
    "with_vector",
]


def given_labels(
    listed: Sequence[str], file: Path | None
) -> dict[Any, list[str]] | None:
    """Return labels and their aliases from the one source that was given.

    ``listed``: texts from the command line, see `zeroshot.labels.parse_labels`.
    ``file``: see `zeroshot.labels.read_labels`. Returns labels: none where neither was
    given. Raises LabelError if both were given, or a label is repeated; ArtifactError
    if the file cannot be read.
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
    """Return labels where other names have no use, from a text or a file.

    Raises LabelError, ArtifactError as `given_labels`; if a label has aliases.
    """
    from zeroshot.labels.given import parse_labels, read_labels

    read = parse_labels(source) if isinstance(source, str) else read_labels(source)
    if with_aliases := [label for label, aliases in read.items() if aliases]:
        raise LabelError(
            f"Expected labels without other names. Got other names for "
            f"'{with_aliases[0]}' in '{source}'. Give each name an entry of its own."
        )
    return list(map(str, read))


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """Return how labels are shown: up to the first comma, where that is unambiguous.

    ImageNet's names list synonyms: ``goldfish, Carassius auratus`` is shown as
    ``goldfish``; ``crane, bird`` and ``crane, machine`` are shown whole.

    ``labels``: different labels. Returns names: label to what is shown, in the order
    given.
    """
    from zeroshot.labels.spelling import names_of

    first = {label: names_of(label)[0] for label in labels}
    counts = Counter(first.values())
    return {
        label: name if counts[name] == 1 else label for label, name in first.items()
    }


def find_classes(wanted: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the classes that names stand for: a whole label, or its short name.

    ``wanted``: names from the command line. ``classes``: labels of the images. Returns
    found: of ``classes``, in the order wanted. Raises LabelError if a name is none of
    them; has all such names.
    """
    by_name = {name: label for label, name in short_names(classes).items()}
    by_name |= {label: label for label in classes}
    if missing := [name for name in wanted if name not in by_name]:
        raise LabelError(
            f"Expected labels of the images. Got {', '.join(map(repr, missing))}, of "
            f"which there is no image. The labels are: {', '.join(sorted(classes))}."
        )
    return [by_name[name] for name in wanted]


def with_vector(
    paths: "list[str] | FeatureFile",
    labels: "NDArray[np.str_]",
    embeddings: "TextEmbeddings",
) -> "tuple[list[str] | FeatureFile, NDArray[np.str_], list[str]]":
    """Return the images whose label has a vector, their labels, and the others.

    ``labels``: (n,) str, label of each image. Returns left_out: labels without a
    vector.
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
