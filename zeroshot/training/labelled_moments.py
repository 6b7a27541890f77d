"""Sums over images with labels: what a projection learns from, wherever the images lie.

In: features and labels, some at a time, of one machine or of many. Out: sums, class by
class, that are merged with others, and that `ZeroShotClassifier.fit_moments` learns
from. They take as much memory for a billion images as for a thousand.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import (
    ArtifactError,
    LabelError,
    PartialCoverageWarning,
    PluginContractError,
)
from zeroshot.features.block import refuse_other
from zeroshot.features.file import ABOUT, import_parquet
from zeroshot.progress import progress_bar
from zeroshot.projections.moments import Moments
from zeroshot.warning import warn

__all__ = ["LabelledMoments", "MomentsSum", "arrays_of", "moments_of_parquet"]

ROWS = 8192  # read at once: 42 MB of 1280 features
SAMPLE = 2000  # images that are kept, at least, where there are so many


@dataclass(frozen=True)
class LabelledMoments:
    """Sums over images, and the classes that they are of.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,), str
        Sorted.
    moments : Moments
        Of these classes.
    normalize : bool
        Whether roots of features were summed up: as the projection's parameter.
    sample, sample_index : ndarray of shape (k, dim), float32, and (k,), int
        Features and class of some images, for what is chosen by looking at images.
    fingerprint : str or None
        Of the backbone of the features; None where nobody knows.
    n_left_out : int
        Rows without finite features or without a label.
    """

    classes: NDArray[Any]
    moments: Moments
    normalize: bool
    sample: NDArray[np.float32]
    sample_index: NDArray[np.intp]
    fingerprint: str | None = None
    n_left_out: int = 0

    def merge(self, other: Self) -> Self:
        """Return the sums over the images of both.

        Parameters
        ----------
        other : LabelledMoments
            Of other images, of the same classes or of others.

        Returns
        -------
        merged : LabelledMoments
            Equal to the sums over all images at once, to rounding.

        Raises
        ------
        FingerprintMismatchError, PluginContractError
            If they are of features of another backbone, of another length or
            prepared otherwise.
        """
        same = self.moments.gram.shape == other.moments.gram.shape
        if not same or self.normalize != other.normalize:
            raise PluginContractError(
                f"Expected sums over features of length {len(self.moments.gram)}, "
                f"normalize={self.normalize}. Got length {len(other.moments.gram)}, "
                f"normalize={other.normalize}. Sum up the same features."
            )
        if self.fingerprint and other.fingerprint:
            advice = "Sum up features of one backbone."
            refuse_other(self.fingerprint, other.fingerprint, "features", advice)
        classes = np.union1d(self.classes, other.classes)
        places = [np.searchsorted(classes, each.classes) for each in (self, other)]
        indices = self.sample_index, other.sample_index
        return replace(
            self,
            classes=classes,
            moments=self.moments.with_more(
                _spread(other.moments, places[1], len(classes)), places[0]
            ),
            sample=np.concatenate([self.sample, other.sample]),
            sample_index=np.concatenate(
                [place[index] for place, index in zip(places, indices, strict=True)]
            ),
            fingerprint=self.fingerprint or other.fingerprint,
            n_left_out=self.n_left_out + other.n_left_out,
        )


class MomentsSum:
    """Sums that grow, in place, by some rows at a time.

    Parameters
    ----------
    normalize : bool, default=True
        As of the projection that will learn.
    sample_every : int, default=1
        Of so many rows one is kept in the sample.
    """

    def __init__(self, *, normalize: bool = True, sample_every: int = 1) -> None:
        self._normalize, self._every = normalize, sample_every
        self._place: dict[str, int] = {}
        self._moments: Moments | None = None
        self._sample: list[NDArray[np.float32]] = []
        self._sample_index: list[NDArray[np.intp]] = []
        self._seen = self._left_out = 0

    def add(self, X: NDArray[Any], labels: Sequence[Any] | NDArray[Any]) -> None:
        """Add some images.

        Parameters
        ----------
        X : ndarray of shape (n, dim)
            Features. A row that is not finite is left out.
        labels : sequence of length n
            None is left out.
        """
        names, index = np.unique(
            np.array(["" if label is None else label for label in labels], np.str_),
            return_inverse=True,
        )
        X = np.asarray(X, np.float32)
        good = np.isfinite(X).all(axis=1) & (names[index] != "")
        rows = np.arange(self._seen, self._seen + len(X))
        self._seen += len(X)
        if not good.all():
            self._left_out += len(X) - int(good.sum())
            X, index, rows = X[good], index[good], rows[good]
        more = Moments.of(X, index, len(names), normalize=self._normalize)
        named = names.tolist()
        places = np.array(
            [self._place.setdefault(name, len(self._place)) for name in named], np.intp
        )
        if self._moments is None:
            self._moments = _spread(more, places, len(places))
        else:
            self._grow()
            self._moments.counts[places] += more.counts
            self._moments.sums[places] += more.sums
            np.add(self._moments.gram, more.gram, out=self._moments.gram)
        chosen = rows % self._every == 0
        self._sample.append(X[chosen])
        self._sample_index.append(places[index[chosen]])

    def _grow(self) -> None:
        assert self._moments is not None
        lacking = len(self._place) - len(self._moments.counts)
        if lacking > 0:
            # By half at least: not a copy for every class that comes.
            lacking = max(lacking, len(self._place) // 2)
            counts, sums = self._moments.counts, self._moments.sums
            self._moments = replace(
                self._moments,
                counts=np.pad(counts, (0, lacking)),
                sums=np.pad(sums, ((0, lacking), (0, 0))),
            )

    def result(self, fingerprint: str | None = None) -> LabelledMoments:
        """Return what was summed up.

        Parameters
        ----------
        fingerprint : str or None, default=None
            Of the backbone of the features.

        Returns
        -------
        moments : LabelledMoments

        Raises
        ------
        LabelError
            If there was no image.
        """
        if self._moments is None:
            raise LabelError("Expected images with labels. Got none.")
        names = np.array(list(self._place), np.str_)
        counts = self._moments.counts[: len(names)]
        kept = np.flatnonzero((names != "") & (counts > 0))
        order = kept[np.argsort(names[kept], kind="stable")]
        new = np.full(len(names), -1, np.intp)
        new[order] = np.arange(len(order))
        moments = replace(
            self._moments, counts=counts[order], sums=self._moments.sums[order]
        )
        return LabelledMoments(
            names[order],
            moments,
            self._normalize,
            np.concatenate(self._sample),
            new[np.concatenate(self._sample_index)],
            fingerprint,
            self._left_out,
        )


def moments_of_parquet(
    tables: str | Path | Iterable[str | Path],
    *,
    features_column: str = "features",
    label_column: str = "label",
    normalize: bool = True,
) -> LabelledMoments:
    """Sum up a Parquet file of features, or a folder of such; in constant memory.

    The next rows are read while those before are multiplied.

    Parameters
    ----------
    tables : path or iterable of paths
        Files, or folders with files that end in ``.parquet``: what ``zeroshot embed``
        writes, or any with a column of lists of numbers and one of text.
    features_column, label_column : str
        Their names.
    normalize : bool, default=True
        The parameter of the projection that will learn.

    Returns
    -------
    moments : LabelledMoments

    Raises
    ------
    ArtifactError, FingerprintMismatchError
        If a file cannot be read or lacks a column; if files are of several backbones.
    MissingExtraError
        If pyarrow is not installed.

    Warns
    -----
    PartialCoverageWarning
        Where rows have no finite features or no label: these are left out.
    """
    parquet = import_parquet()
    files = _files(tables)
    rows, fingerprint = 0, None
    for file in files:
        try:
            schema, metadata = parquet.read_schema(file), parquet.read_metadata(file)
        except Exception as error:  # pyarrow has many kinds
            raise ArtifactError(
                f"Expected a Parquet file. Got '{file}': {error}. Check the file."
            ) from error
        for name in (features_column, label_column):
            if name not in schema.names:
                raise ArtifactError(
                    f"Expected the columns '{features_column}' and '{label_column}'. "
                    f"Got '{file}' with {', '.join(map(repr, schema.names))}. Name "
                    f"them (features_column, label_column)."
                )
        rows += metadata.num_rows
        found = _fingerprint(schema.metadata or {})
        if fingerprint and found:
            refuse_other(fingerprint, found, f"'{file}'", "Embed all alike.")
        fingerprint = fingerprint or found
    total = MomentsSum(normalize=normalize, sample_every=max(1, rows // SAMPLE))
    with progress_bar("images", rows) as advance:
        for X, labels in _ahead(_batches(files, features_column, label_column)):
            total.add(X, labels)
            advance(len(X))
    moments = total.result(fingerprint)
    if moments.n_left_out:
        warn(
            f"{moments.n_left_out} of {rows} rows have no finite features or no label "
            f"and are left out.",
            PartialCoverageWarning,
            stacklevel=2,
        )
    return moments


def _spread(moments: Moments, places: NDArray[np.intp], n: int) -> Moments:
    """Return the same of n classes, those before at ``places``."""
    counts = np.zeros(n, np.int64)
    sums = np.zeros((n, moments.sums.shape[1]))
    counts[places], sums[places] = moments.counts, moments.sums
    return Moments(counts, sums, moments.gram)


def _files(tables: Any) -> list[Path]:
    given = [tables] if isinstance(tables, str | os.PathLike) else list(tables)
    files: list[Path] = []
    for each in map(Path, given):
        below = sorted(each.glob("*.parquet")) if each.is_dir() else [each]
        files += [file for file in below if file.name[0] not in "._"]
    if not files or not all(map(os.path.isfile, files)):
        raise ArtifactError(
            f"Expected Parquet files of features, or a folder of them. Got "
            f"{', '.join(repr(str(each)) for each in given)}. Check the path."
        )
    return files


def _fingerprint(metadata: dict[bytes, bytes]) -> str | None:
    """Return the backbone's, from a file of 'zeroshot embed' of either kind."""
    if b"zeroshot" in metadata:
        found = json.loads(metadata[b"zeroshot"]).get("fingerprint")
    elif ABOUT.encode() in metadata:
        found = json.loads(metadata[ABOUT.encode()])["backbone"]["fingerprint"]
    else:
        return None
    return None if found is None else str(found)


def _batches(
    files: Iterable[Path], features_column: str, label_column: str
) -> Iterator[tuple[NDArray[np.float32], list[Any]]]:
    parquet = import_parquet()
    for path in files:
        with parquet.ParquetFile(path) as file:
            columns = [features_column, label_column]
            for batch in file.iter_batches(ROWS, columns=columns):
                yield arrays_of(batch, features_column, label_column)


def arrays_of(
    batch: Any, features_column: str, label_column: str
) -> tuple[NDArray[np.float32], list[Any]]:
    """Return the features and the labels of an Arrow table or record batch.

    Parameters
    ----------
    batch : pyarrow.Table or RecordBatch
    features_column, label_column : str

    Returns
    -------
    X : ndarray of shape (n, dim), float32
        NaN where there are none.
    labels : list of length n
    """
    column = batch[features_column]
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    labels: list[Any] = batch[label_column].to_pylist()
    labels = [None if label is None else str(label) for label in labels]
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    if column.null_count == 0 and len(labels) and len(flat) % len(labels) == 0:
        return flat.reshape(len(labels), -1), labels
    lists = column.to_pylist()
    dim = max((len(row) for row in lists if row is not None), default=0)
    X = np.full((len(lists), dim), np.nan, np.float32)
    for i, row in enumerate(lists):
        if row is not None:
            X[i] = row
    return X, labels


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches, of which the next is read in a thread meanwhile."""
    queue: Queue[Any] = Queue(1)
    stopped = threading.Event()

    def read() -> None:
        try:
            for batch in batches:
                queue.put((batch, None))
                if stopped.is_set():
                    return
            queue.put((None, None))
        except BaseException as error:
            queue.put((None, error))

    thread = threading.Thread(target=read, name="zeroshot-features", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = queue.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        stopped.set()
        while thread.is_alive():  # it may wait to hand over a batch
            if not queue.empty():
                queue.get()
            thread.join(0.01)
