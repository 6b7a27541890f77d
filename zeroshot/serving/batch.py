"""What an engine hands to its workers: picklable, and light until it is called.

In: batches of images, or of features. Out: the same batches with answers, or with
features. Engines copy these objects to every worker, and for every task; they hold
texts and numbers. A network is read from disk, when the first batch comes, once in a
process.
"""

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from zeroshot.errors import LabelError
from zeroshot.escaping import shown
from zeroshot.serving.columns import (
    column_names,
    column_of,
    features_of,
    images_of,
    with_columns,
)
from zeroshot.serving.loaded import loaded
from zeroshot.serving.on_batches import OnBatches
from zeroshot.warning import quietly

if TYPE_CHECKING:
    from zeroshot.backbones.base import Backbone
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.features import Features, ImagePoints
    from zeroshot.labels import Candidates, PlacedCandidates

__all__ = ["BatchEmbedder", "BatchPredictor", "Model"]

Model: TypeAlias = "str | Path | Sequence[str | None]"
"""A folder that `ZeroShotClassifier.save` made; or backbone and embeddings, by name, of
a model that learns from the backbone's own classes alone."""

ANSWERS = {"label": "string", "score": "float", "probability": "double", "seen": "bool"}
"""What is answered about an image, and the type of each in Arrow; with ``error``."""


class BatchPredictor(OnBatches):
    """Answers batches of images with labels; for Ray, Spark and other engines.

    A batch is a dict of NumPy arrays, a DataFrame or an Arrow table, and so is the
    answer: the columns of the batch, but for the images (paths stay), and ``label``,
    ``score``, ``probability``, ``seen`` and ``error``. Every row of the batch has one
    row, in the same order. They are, to the bit, what `ZeroShotClassifier.predict` and
    `ZeroShotClassifier.rank` give for all images in one process.

    Parameters
    ----------
    model : str, Path or pair of str
        A saved model, a folder that every worker can read; or ``(backbone,
        embeddings)``, for a model that has learnt from no image.
    candidate_labels : sequence, mapping, str or None, default=None
        As for `ZeroShotClassifier.predict`.
    image_column : str, default="bytes"
        Column that holds the images: bytes of files, paths or arrays; or their
        features, rows of numbers.
    on_error : {"nan", "raise"}, default="nan"
        Whether an image that cannot be read has its reason in ``error``, with a score
        of NaN, or ends the job.
    top_k : int, default=1
        How many candidates are told: those after the first in columns ``label_2``,
        ``score_2`` and so on.
    adapt : bool, default=False
        Judge the images of a batch together, each batch by itself.
    settings : mapping, optional
        Parameters of the classifier that are set: ``{"reject": 0.2}``.
    backbone, embeddings : str or None, default=None
        As for `zeroshot.load`, by name.
    batch_size : int, default=32
        Images that the backbone is given at once.
    cache : bool, default=False
        Remember features on the worker's disk.

    Examples
    --------
    >>> predictor = BatchPredictor("model", ["okapi", "zebra"])
    >>> predictor
    BatchPredictor('model', ['okapi', 'zebra'])
    """

    def __init__(
        self,
        model: Model,
        candidate_labels: "Candidates" = None,
        *,
        image_column: str = "bytes",
        on_error: Literal["nan", "raise"] = "nan",
        top_k: int = 1,
        adapt: bool = False,
        settings: Mapping[str, Any] | None = None,
        backbone: str | None = None,
        embeddings: str | Path | None = None,
        batch_size: int = 32,
        cache: bool = False,
    ) -> None:
        from zeroshot.estimator import check_count

        check_count("top_k", top_k)
        self._set(image_column, on_error, batch_size)
        if isinstance(model, str | os.PathLike):
            self.model: str | tuple[str, str | None] = _absolute(os.fspath(model))
        else:
            self.model = _pair(model)
        self.candidate_labels = candidate_labels
        self.top_k = top_k
        self.adapt = adapt
        self.settings = dict(settings or {})
        self.backbone = backbone
        self.embeddings = None if embeddings is None else _absolute(str(embeddings))
        self.cache = cache

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, {shown(self.candidate_labels)})"

    @property
    def columns(self) -> list[str]:  # type: ignore[override]
        """Names of the new columns."""
        more = [f"{name}_{k}" for k in range(2, self.top_k + 1) for name in ANSWERS]
        return [*ANSWERS, *more, "error"]

    def arrow_type(self, name: str) -> Any:
        """Return the type of a new column in Arrow.

        Parameters
        ----------
        name : str

        Returns
        -------
        type : pyarrow.DataType
        """
        import pyarrow as pa

        kind = "string" if name == "error" else ANSWERS[name.rpartition("_")[0] or name]
        return {
            "string": pa.string(),
            "float": pa.float32(),
            "double": pa.float64(),
            "bool": pa.bool_(),
        }[kind]

    def classifier(self) -> "tuple[ZeroShotClassifier, PlacedCandidates]":
        """Return the model and its candidates, read once in a process.

        Returns
        -------
        classifier : ZeroShotClassifier
        candidates : PlacedCandidates

        Raises
        ------
        ZeroShotError
            As `zeroshot.load`, and as `ZeroShotClassifier.predict` for labels.
        """
        of = (self.model, _stamp(self.model), self.backbone, self.embeddings)
        asked = _hashable(self.candidate_labels)
        rest = (_hashable(self.settings), self.batch_size, self.cache)
        return loaded((of, asked, rest, self.on_error), self._load)

    def given(self, batch: Any) -> "tuple[list[Any] | Features, list[str]]":
        """Return the images of a batch, or their features, and the columns that go.

        Parameters
        ----------
        batch : dict of ndarray, DataFrame, pyarrow.Table or RecordBatch

        Returns
        -------
        images : list of ImageSource, or Features
        columns : list of str
            Names of columns that are not in the answer.
        """
        names, column = column_names(batch), column_of(batch, self.image_column)
        why = column_of(batch, "error") if "error" in names else None
        features = features_of(column, why)
        if features is None:
            return images_of(column), self._dropped(batch, column)
        # What 'embed' wrote says itself why there are none.
        gone = [name for name in (self.image_column, "error") if name in names]
        if set(names) & set(self.columns) - set(gone):
            self._dropped(batch, column)
        return features, gone

    def _told(self) -> dict[str, Any]:
        told = vars(self) | {"batch_size": None, "cache": None}
        labels = self.candidate_labels
        told["candidate_labels"] = labels if labels is None else _hashable(labels)
        if isinstance(self.model, str):
            with suppress(OSError):
                record = Path(self.model, "bundle.json").read_bytes()
                told["model"] = hashlib.sha256(record).hexdigest()
        return told

    def check(self) -> None:
        """Read model and candidates here, as a worker will."""
        self.classifier()

    def _load(self) -> "tuple[ZeroShotClassifier, PlacedCandidates]":
        from zeroshot import load
        from zeroshot.serving.untrained import untrained

        if isinstance(self.model, str):
            names = {"backbone": self.backbone, "embeddings": self.embeddings}
            classifier = load(self.model, **names)
        else:
            classifier = untrained(*self.model)
        classifier.set_params(
            **self.settings,
            batch_size=self.batch_size,
            cache=self.cache,
            on_error=self.on_error,
        )
        return classifier, classifier.candidates(self.candidate_labels)

    def __call__(self, batch: Any) -> Any:
        """Answer a batch.

        Parameters
        ----------
        batch : dict of ndarray, DataFrame, pyarrow.Table or RecordBatch
            n rows; may be 0. Not changed.

        Returns
        -------
        answered : dict of ndarray, DataFrame or pyarrow.Table
            n rows.
        """
        images, without = self.given(batch)
        return with_columns(batch, without, self.answered(images), self.arrow_type)

    def answered(
        self, images: "Sequence[Any] | Features | ImagePoints", learnt: Any = None
    ) -> dict[str, Any]:
        """Return the new columns.

        Parameters
        ----------
        images : sequence of ImageSource, Features or ImagePoints
        learnt : LearntBatch, optional
            Of a batch that the images are a part of.

        Returns
        -------
        columns : dict of str to ndarray or list
        """
        classifier, candidates = self.classifier()
        if not len(images):
            empty = _answers([], self.top_k, classifier.unknown_label)
            return empty | {"error": []}
        with quietly():  # the column tells
            points = classifier.points(images)
            ranked = classifier.rank(
                points,
                candidates,
                k=self.top_k,
                adapt=self.adapt if learnt is None else learnt,
            )
        columns = _answers(ranked, self.top_k, classifier.unknown_label)
        columns["error"] = self.reasons(points)
        return columns


class BatchEmbedder(OnBatches):
    """Computes the features of batches of images; for Ray, Spark and other engines.

    As `BatchPredictor`; the new columns are ``features``, float32, and ``error``.

    Parameters
    ----------
    backbone : str
        A registered name or a spec.
    image_column, on_error, batch_size, cache : as for `BatchPredictor`
        The features of an image that cannot be read are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> embedder = BatchEmbedder("color-hog", image_column="image")
    >>> found = embedder({"image": np.zeros((2, 64, 64, 3), np.uint8)})
    >>> found["features"].shape, found["error"].tolist()
    ((2, 458), ['', ''])
    """

    columns = ("features", "error")

    def __init__(
        self,
        backbone: str,
        *,
        image_column: str = "bytes",
        on_error: Literal["nan", "raise"] = "nan",
        batch_size: int = 32,
        cache: bool = False,
    ) -> None:
        self._set(image_column, on_error, batch_size)
        self.backbone = backbone
        self.cache = cache

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backbone!r})"

    def arrow_type(self, name: str) -> Any:
        """Return the type of a new column in Arrow; reads the backbone.

        Parameters
        ----------
        name : str

        Returns
        -------
        type : pyarrow.DataType
        """
        import pyarrow as pa

        if name == "error":
            return pa.string()
        return pa.list_(pa.float32(), self.network().dim)

    def _told(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "column": self.image_column}

    def about(self) -> dict[str, str]:
        """Return the backbone of the features, for who reads them.

        Returns
        -------
        about : dict of str to str
        """
        network = self.network()
        return {"name": network.name, "fingerprint": network.fingerprint}

    def check(self) -> None:
        """Read the backbone here, as a worker will."""
        self.network()

    def network(self) -> "Backbone":
        """Return the backbone, read once in a process.

        Returns
        -------
        network : Backbone
        """
        from zeroshot import registry

        return loaded(self.backbone, lambda: registry.resolve_backbone(self.backbone))

    def __call__(self, batch: Any) -> Any:
        """Compute the features of a batch; see `BatchPredictor`."""
        images, without = self.given(batch)
        return with_columns(batch, without, self.answered(images), self.arrow_type)

    def answered(self, images: Sequence[Any]) -> dict[str, Any]:
        """Return the new columns.

        Parameters
        ----------
        images : sequence of ImageSource

        Returns
        -------
        columns : dict of str to ndarray or list
        """
        from zeroshot.features import extract_features

        with quietly():
            found = extract_features(
                images,
                self.network(),
                batch_size=self.batch_size,
                cache=self.cache,
                on_error=self.on_error,
            )
        return {"features": found.matrix, "error": self.reasons(found)}


def _pair(model: Any) -> tuple[str, str | None]:
    names = list(model) if isinstance(model, list | tuple) else []
    is_pair = len(names) == 2 and isinstance(names[0], str)
    if not is_pair or not isinstance(names[1], str | os.PathLike | None):
        raise LabelError(
            f"Expected the folder of a saved model, or (backbone, embeddings) by name. "
            f"Got {model!r}. Save the model first: a network is not sent to workers."
        )
    return names[0], None if names[1] is None else _absolute(os.fspath(names[1]))


def _absolute(name: str) -> str:
    """Return a path as it is for workers, which run in other folders."""
    return os.path.abspath(name) if os.path.exists(name) else name


def _stamp(model: str | tuple[str, str | None]) -> tuple[int, ...]:
    """Return what changes when another model is saved in the same place."""
    if not isinstance(model, str):
        return ()
    try:
        status = os.stat(os.path.join(model, "bundle.json"))
    except (OSError, ValueError):
        return ()  # `load` says it better
    return status.st_size, status.st_mtime_ns, status.st_ino


def _hashable(given: Any) -> Hashable:
    if isinstance(given, Mapping):
        given = tuple(given.items())
    if isinstance(given, list | tuple | np.ndarray):
        return tuple(map(_hashable, given))
    found: Hashable = given
    return found


def _answers(ranked: Sequence[Any], top_k: int, unknown: Hashable) -> dict[str, Any]:
    n = len(ranked)
    columns: dict[str, Any] = {}
    for k in range(top_k):
        end = f"_{k + 1}" if k else ""
        labels: list[str | None] = []
        scores, shares = np.full(n, np.nan, np.float32), np.full(n, np.nan)
        seen = np.zeros(n, bool)
        for i, best in enumerate(ranked):
            if k >= len(best):
                labels.append(None if k else str(unknown))
                continue
            _, scores[i], shares[i], seen[i], rejected, _ = best[k]
            labels.append(str(unknown if rejected and not k else best[k].label))
        new = dict(zip(ANSWERS, (labels, scores, shares, seen), strict=True))
        columns |= {f"{name}{end}": values for name, values in new.items()}
    return columns
