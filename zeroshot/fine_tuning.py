"""DeViSE's second phase: a backbone's last layers trained together with the map [1]_.

References
----------
.. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013,
   section 3.3: the map is trained first; then the loss is propagated back into the
   visual network.
"""

import copy
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from zeroshot.backbones.base import Backbone, SupportsFineTuning, card_of
from zeroshot.backbones.keras_fine_tuning import TrainableEnd
from zeroshot.errors import (
    ArtifactError,
    LabelError,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.images import ImageSource, read_fitted
from zeroshot.progress import progress_bar
from zeroshot.projections.devise import DeViSE, reciprocal_ranks

__all__ = ["FineTuning", "FineTuningReport", "check_fine_tuning", "fine_tune"]

READERS = min(8, (os.cpu_count() or 1) + 1)
IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class FineTuning:
    """How the last layers of a backbone are trained after the map.

    The frozen layers before them compute each image once for each of a few augmented
    views; what they give is kept in a temporary file. So an epoch costs only the last
    layers: the compromise that makes fine-tuning bearable on a CPU.

    Parameters
    ----------
    layers : int or str, default=4
        How many of the last layers that have weights are trained (batch norm is frozen
        and not counted), or the name of the first layer to train.
    learning_rate : float, default=0.0001
        Of Adam, constant, for these layers and the map.
    epochs : int, default=10
        Most passes over the images.
    patience : int, default=3
        Epochs without a better validation score after which to stop.
    views : int, default=4
        Views of each image: itself, and random crops of it, half of them mirrored. An
        epoch takes one of them at random. 1 is no augmentation.
    smallest_crop : float, default=0.5
        Least share of the image's area in a crop, in (0, 1].
    batch_size : int, default=32
        Images per step.
    validation_fraction : float, default=0.2
        Share of the seen classes that is held out to choose the number of epochs, and
        to see whether fine-tuning helps classes that were not trained on. 0: all epochs
        are run, and nobody looks.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> FineTuning(layers=2).layers
    2
    """

    layers: int | str = 4
    learning_rate: float = 1e-4
    epochs: int = 10
    patience: int = 3
    views: int = 4
    smallest_crop: float = 0.5
    batch_size: int = 32
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("layers", _is_layers, "as a whole number >= 1 or the name of a layer"),
            ("learning_rate", lambda v: 0 < v < math.inf, "> 0"),
            ("epochs", _is_count, "as a whole number >= 1"),
            ("patience", _is_count, "as a whole number >= 1"),
            ("views", _is_count, "as a whole number >= 1"),
            ("smallest_crop", lambda v: 0 < v <= 1, "in (0, 1]"),
            ("batch_size", _is_count, "as a whole number >= 1"),
            ("validation_fraction", lambda v: 0 <= v < 1, "in [0, 1)"),
        ):
            value = getattr(self, name)
            try:
                is_right = fits(value)
            except TypeError:  # of a kind that cannot be compared
                is_right = False
            if not is_right:
                raise ValueError(f"Expected {name} {wanted}. Got {value!r}.")

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Return the settings that a value of ``fine_tune=`` stands for.

        Parameters
        ----------
        value : FineTuning, int, str or None
            A number or a name are the ``layers``; ``"auto"`` is all defaults.

        Returns
        -------
        settings : FineTuning or None

        Raises
        ------
        ValueError
            If it is none of these.
        """
        if value is None or isinstance(value, cls):
            return value
        if not _is_layers(value):
            raise ValueError(
                f"Expected fine_tune to be 'auto', a number of layers, the name of the "
                f"first layer to train, a FineTuning or None. Got {value!r}."
            )
        return cls() if value == "auto" else cls(layers=value)


@dataclass(frozen=True)
class FineTuningReport:
    """What fine-tuning did.

    Attributes
    ----------
    used : bool
        Whether the backbone was changed. It is not where fine-tuning did not help the
        held-out classes by more than the standard error.
    layers : tuple of str
        Names of the layers that were trained, first to last.
    n_epochs : int
        Epochs of the final training; 0 if there was none.
    frozen_score, tuned_score : float or None
        Mean reciprocal rank among the held-out classes with the frozen backbone, and
        after the best epoch. None where no class was held out.
    standard_error : float or None
        Of the difference of the two, over the held-out classes.
    held_out : tuple of int
        Rows of ``classes_`` of the held-out classes.
    loss : tuple of float
        Mean loss of the training images in each epoch of the last training.
    """

    used: bool
    layers: tuple[str, ...]
    n_epochs: int
    frozen_score: float | None = None
    tuned_score: float | None = None
    standard_error: float | None = None
    held_out: tuple[int, ...] = field(default=(), repr=False)
    loss: tuple[float, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """Return one sentence."""
        scores = ""
        if self.frozen_score is not None:
            scores = (
                f": mean reciprocal rank on held-out classes {self.tuned_score:.3f}, "
                f"frozen {self.frozen_score:.3f}, standard error of the difference "
                f"{self.standard_error:.3f}"
            )
        if self.used:
            return (
                f"Fine-tuned {len(self.layers)} layers, {self.n_epochs} epochs{scores}."
            )
        return f"Fine-tuning did not help; the backbone stays frozen{scores}."

    def to_dict(self) -> dict[str, Any]:
        """Return the content, ready for JSON.

        Returns
        -------
        content : dict
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return the report that `to_dict` made.

        Parameters
        ----------
        content : dict

        Returns
        -------
        report : FineTuningReport
        """
        lists = {name: tuple(content[name]) for name in ("layers", "held_out", "loss")}
        return cls(**(content | lists))


def check_fine_tuning(
    settings: FineTuning, backbone: object, projection: object, n_classes: int
) -> None:
    """Refuse, before any image is read, what cannot be fine-tuned.

    Parameters
    ----------
    settings : FineTuning
    backbone : Backbone or None
        None for features that were given.
    projection : Projection
    n_classes : int
        Seen classes.

    Raises
    ------
    PluginContractError
        If the backbone is no Keras network, or the projection is not DeViSE.
    LabelError
        If there are too few classes to hold out two and train on two.
    ValueError
        If there are no images.
    """
    if backbone is None:
        raise ValueError(
            "Expected images and a backbone to fine-tune. Got features. Give images, "
            "or fine_tune=None."
        )
    if not isinstance(backbone, SupportsFineTuning):
        raise PluginContractError(
            f"Expected a backbone whose layers can be trained: a network of "
            f"keras.applications ('mobilenet-v2', ...) or a Keras model ('keras:...'). "
            f"Got '{getattr(backbone, 'name', backbone)}'. Use one of those, or "
            f"fine_tune=None."
        )
    if not isinstance(projection, DeViSE):
        raise PluginContractError(
            f"Expected the projection 'devise' for fine-tuning, whose loss can be "
            f"propagated back into the network. Got '{type(projection).__name__}'. Use "
            f"projection='devise', or fine_tune=None."
        )
    n_held_out = round(settings.validation_fraction * n_classes)
    if settings.validation_fraction and not 2 <= n_held_out <= n_classes - 2:
        raise LabelError(
            f"Expected enough seen classes to hold out two for validation and train on "
            f"two. Got {n_classes} classes and validation_fraction="
            f"{settings.validation_fraction}. Give more classes, another fraction, or "
            f"0 to fine-tune unseen."
        )


def fine_tune(
    backbone: Backbone,
    projection: DeViSE,
    images: Sequence[ImageSource],
    features: NDArray[np.float32],
    index: NDArray[np.integer[Any]],
    class_embeddings: NDArray[np.float32],
    settings: FineTuning,
) -> tuple[Backbone, DeViSE, FineTuningReport]:
    """Train the last layers of a backbone together with the map.

    A share of the seen classes is held out first: the map and then the layers are
    trained on the others. Only if the best epoch ranks the held-out classes better than
    the frozen backbone, by more than the standard error of the difference over these
    classes, are layers and map trained on all classes, for that many epochs.

    Parameters
    ----------
    backbone : Backbone
        Supports fine-tuning; not changed.
    projection : DeViSE
        Fitted to ``features``; not changed. Its losses and its ``random_state`` are
        used.
    images : sequence of ImageSource
        n readable images.
    features : ndarray of shape (n, dim_visual), float32
        What the backbone gives for them.
    index : ndarray of shape (n,), int
        For each image its row of ``class_embeddings``.
    class_embeddings : ndarray of shape (n_classes, dim_text), float32
        Of unit length.
    settings : FineTuning

    Returns
    -------
    backbone : Backbone
        A tuned one, or the same where fine-tuning does not help; a warning says so.
    projection : DeViSE
        Trained with it, or the same.
    report : FineTuningReport

    Raises
    ------
    ArtifactError
        If the disk is too full for what the frozen layers give.
    PluginContractError
        If there is no such layer, or the network cannot be cut.
    ValueError
        If the loss becomes infinite.
    """
    assert isinstance(backbone, SupportsFineTuning)
    random = check_random_state(projection.random_state)
    seed = int(random.randint(np.iinfo(np.int32).max))
    end = TrainableEnd(*backbone.trainable_copy(), settings.layers)
    y = index.astype(np.int64)
    with _maps(end, backbone, images, settings, seed) as maps:
        n_epochs = settings.epochs
        scores: dict[str, Any] = {}
        loss: tuple[float, ...] = ()
        if settings.validation_fraction:
            classes = np.unique(y)
            n_held_out = round(settings.validation_fraction * len(classes))
            held_out = np.sort(random.permutation(classes)[:n_held_out])
            n_epochs, scores, loss = _validate(
                end, projection, maps, features, y, class_embeddings, held_out,
                settings, seed,
            )  # fmt: skip
        layers = tuple(end.trained)
        if n_epochs == 0:
            report = FineTuningReport(False, layers, 0, **scores, loss=loss)
            warn(str(report), ZeroShotWarning, stacklevel=3)
            return backbone, projection, report
        with progress_bar("fine-tuning", n_epochs) as advance:

            def after_epoch(loss: float, _: DeViSE) -> bool:
                advance(1, f"loss {loss:.3f}")
                return True

            projection, loss = _train(
                end, projection, maps, np.arange(len(y)), y, class_embeddings,
                n_epochs, settings, seed, after_epoch,
            )  # fmt: skip
    tuned = backbone.with_weights(backbone.weights_of(end.model))
    return tuned, projection, FineTuningReport(
        True, layers, n_epochs, **scores, loss=loss
    )  # fmt: skip


def _validate(
    end: TrainableEnd,
    projection: DeViSE,
    maps: NDArray[np.float16],
    features: NDArray[np.float32],
    y: NDArray[np.int64],
    T: NDArray[np.float32],
    held_out: NDArray[np.int64],
    settings: FineTuning,
    seed: int,
) -> tuple[int, dict[str, Any], tuple[float, ...]]:
    """Train without the held-out classes; return the best epoch, or 0 if none helps.

    Second come the scores, third the losses. The end is as it was, afterwards.
    """
    rows = np.flatnonzero(~np.isin(y, held_out))
    kept = np.unique(y[rows])
    wanted = np.searchsorted(kept, y[rows])
    frozen = clone(projection).fit(features[rows], wanted, class_embeddings=T[kept])
    rows_held_out = np.flatnonzero(np.isin(y, held_out))
    y_held_out = np.searchsorted(held_out, y[rows_held_out])
    maps_held_out = maps[rows_held_out, 0]

    def ranks(projection: DeViSE) -> NDArray[np.float64]:
        points = projection.transform(end.features(maps_held_out))
        return reciprocal_ranks(points @ T[held_out].T, y_held_out)

    before = ranks(frozen)
    after: list[NDArray[np.float64]] = []
    with progress_bar("fine-tuning: choosing epochs", settings.epochs) as advance:

        def after_epoch(loss: float, projection: DeViSE) -> bool:
            after.append(ranks(projection))
            advance(1, f"held-out classes: {after[-1].mean():.3f}, frozen "
                    f"{before.mean():.3f}")  # fmt: skip
            best = int(np.argmax([each.mean() for each in after]))
            return len(after) - 1 - best < settings.patience

        _, loss = _train(
            end, frozen, maps, rows, wanted, T[kept], settings.epochs, settings, seed,
            after_epoch,
        )  # fmt: skip
    end.reset()
    best = int(np.argmax([each.mean() for each in after]))
    gain = after[best] - before
    error = float(gain.std(ddof=1) / math.sqrt(len(gain)))
    scores = {
        "frozen_score": float(before.mean()),
        "tuned_score": float(after[best].mean()),
        "standard_error": error,
        "held_out": tuple(held_out.tolist()),
    }
    return (best + 1 if gain.mean() > error else 0), scores, loss


def _train(
    end: TrainableEnd,
    projection: DeViSE,
    maps: NDArray[np.float16],
    rows: NDArray[np.intp],
    wanted: NDArray[np.int64],
    T: NDArray[np.float32],
    epochs: int,
    settings: FineTuning,
    seed: int,
    after_epoch: Callable[[float, DeViSE], bool],
) -> tuple[DeViSE, tuple[float, ...]]:
    """Train end and map until `after_epoch` says False; return the map and losses."""
    step, current = end.training_step(
        list(zip(projection.kernels_, projection.biases_, strict=True)),
        mean=projection.mean_ if projection.normalize else None,
        class_embeddings=T,
        loss=projection.losses,
        penalty=projection.weight_penalty,
        learning_rate=settings.learning_rate,
        train_biases=len(projection.kernels_) > 1,
    )
    random = np.random.default_rng(seed)
    trained = projection
    history: list[float] = []
    n_steps = 0
    for epoch in range(epochs):
        order = random.permutation(len(rows))
        views = random.integers(maps.shape[1], size=len(rows))
        total = 0.0
        for start in range(0, len(rows), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            loss = step(maps[rows[batch], views[batch]], wanted[batch], (seed, n_steps))
            total += loss * len(batch)
            n_steps += 1
        history.append(total / len(rows))
        if not math.isfinite(history[-1]):
            raise ValueError(
                f"Expected a finite loss. Got {history[-1]} in epoch {epoch + 1} of "
                f"fine-tuning. Lower its learning_rate={settings.learning_rate!r}."
            )
        trained = copy.copy(projection)
        trained.kernels_, trained.biases_ = map(list, zip(*current(), strict=True))
        if not after_epoch(history[-1], trained):
            break
    return trained, tuple(history)


@contextmanager
def _maps(
    end: TrainableEnd,
    backbone: Backbone,
    images: Sequence[ImageSource],
    settings: FineTuning,
    seed: int,
) -> Iterator[NDArray[np.float16]]:
    """Give what the frozen layers compute: (n, views, *map_shape), in a file.

    The first view of an image is the image itself.
    """
    shape = (len(images), settings.views, *end.map_shape)
    needed = 2 * math.prod(shape)
    with tempfile.TemporaryDirectory(prefix="zeroshot-") as folder:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ArtifactError(
                f"Expected {needed / 1e9:.1f} GB of free space in '{folder}' for what "
                f"the frozen layers give. Got {free / 1e9:.1f} GB. Train fewer layers, "
                f"take fewer views, or set TMPDIR to a larger disk."
            )
        maps = np.memmap(Path(folder) / "maps", np.float16, "w+", shape=shape)
        random = np.random.default_rng(seed)
        with progress_bar("fine-tuning: frozen layers", len(images)) as advance:
            for start, pixels in _read(images, backbone):
                rows = slice(start, start + len(pixels))
                maps[rows, 0] = end.maps(pixels)
                for view in range(1, settings.views):
                    boxes = _random_boxes(random, len(pixels), settings.smallest_crop)
                    maps[rows, view] = end.maps(pixels, boxes)
                advance(len(pixels))
        try:
            yield maps
        finally:
            del maps


def _read(
    images: Sequence[ImageSource], backbone: Backbone
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield batches of images as the backbone is given them, and where each begins."""
    size, resize = backbone.input_size, card_of(backbone).resize

    def read(source: ImageSource) -> NDArray[np.uint8]:
        return read_fitted(source, size, resize)

    with ThreadPoolExecutor(READERS, thread_name_prefix="zeroshot-images") as pool:
        for start in range(0, len(images), IMAGES_AT_ONCE):
            batch = images[start : start + IMAGES_AT_ONCE]
            yield start, np.stack(list(pool.map(read, batch)))


def _random_boxes(
    random: np.random.Generator, n: int, smallest_crop: float
) -> NDArray[np.float32]:
    """Return crops (top, left, bottom, right) in [0, 1], half of them mirrored."""
    side = np.sqrt(random.uniform(smallest_crop, 1, n))
    top, left = random.random((2, n)) * (1 - side)
    right, mirrored = left + side, random.random(n) < 0.5
    left, right = np.where(mirrored, right, left), np.where(mirrored, left, right)
    boxes: NDArray[np.float32] = np.stack(
        [top, left, top + side, right], axis=1
    ).astype(np.float32)
    return boxes


def _is_count(value: object) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and bool(value >= 1)  # type: ignore[operator]


def _is_layers(value: object) -> bool:
    return _is_count(value) or (isinstance(value, str) and value != "")
