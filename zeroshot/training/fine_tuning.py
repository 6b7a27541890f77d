"""DeViSE's second phase: a backbone's last layers trained together with the map [1]_.

References
----------
.. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013,
   section 3.3: the map is trained first; then the loss is propagated back into the
   visual network.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state, gen_batches

from zeroshot.backbones.base import Backbone, SupportsFineTuning, card_of
from zeroshot.backbones.fine_tuning_settings import FineTuning, FineTuningReport
from zeroshot.backbones.keras.fine_tuning import TrainableEnd
from zeroshot.cores import n_threads
from zeroshot.errors import (
    ArtifactError,
    LabelError,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.images.sources import ImageSource, read_fitted
from zeroshot.progress import progress_bar
from zeroshot.projections.base import Float32, Int64, PretrainedClasses
from zeroshot.projections.devise import DeViSE
from zeroshot.projections.trained import Layers, reciprocal_ranks

__all__ = ["check_fine_tuning", "fine_tune"]

READERS = min(8, n_threads() + 1)
IMAGES_AT_ONCE = 32


def check_fine_tuning(
    settings: FineTuning, backbone: object, projection: object, n_classes: int
) -> None:
    """Refuse, before any image is read, what cannot be fine-tuned.

    ``backbone``: none for features that were given. ``n_classes``: seen classes. Raises
    PluginContractError if the backbone is no Keras network, or the projection is not
    DeViSE; LabelError if there are too few classes to hold out two and train on two;
    ValueError if there are no images.
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
    features: Float32,
    index: NDArray[np.integer[Any]],
    class_embeddings: Float32,
    settings: FineTuning,
    pretrained: PretrainedClasses | None,
) -> tuple[Backbone, DeViSE, FineTuningReport]:
    """Train the last layers of a backbone together with the map.

    A share of the seen classes is held out first: the map and then the layers are
    trained on the others. Only if the best epoch ranks the held-out classes better than
    the frozen backbone, by more than the standard error of the difference over these
    classes, are layers and map trained on all classes, for that many epochs.

    ``backbone``: supports fine-tuning; not changed. ``projection``: fitted to
    ``features``; not changed. Its losses and its ``random_state`` are used. ``images``:
    n readable images. ``features``: (n, dim_visual) float32, what the backbone gives
    for them. ``index``: (n,) int, for each image its row of ``class_embeddings``.
    ``class_embeddings``: (n_classes, dim_text) float32, of unit length. ``pretrained``:
    the backbone's own classes; their rows stay those of the untuned network. Returns
    backbone: A tuned one, or the same where fine-tuning does not help; a warning says
    so; projection: trained with it, or the same. Raises ArtifactError if the disk is
    too full for what the frozen layers give; PluginContractError if there is no such
    layer, or the network cannot be cut; ValueError if the loss becomes infinite.
    """
    assert isinstance(backbone, SupportsFineTuning)
    random = check_random_state(projection.random_state)
    seed = int(random.randint(np.iinfo(np.int32).max))
    end = TrainableEnd(*backbone.trainable_copy(), settings.layers)
    y = index.astype(np.int64)
    report = FineTuningReport(True, tuple(end.trained), settings.epochs)
    with _maps(end, backbone, images, settings, seed) as maps:
        training = _Training(end, maps, settings, seed)
        if settings.validation_fraction:
            classes = np.unique(y)
            n_held_out = round(settings.validation_fraction * len(classes))
            held_out = np.sort(random.permutation(classes)[:n_held_out])
            report = training.validate(
                projection, features, y, class_embeddings, held_out, pretrained
            )
            if not report.used:
                warn(str(report), ZeroShotWarning, stacklevel=3)
                return backbone, projection, report
        epochs = training.epochs(projection, np.arange(len(y)), y, class_embeddings)
        losses = []
        with progress_bar("fine-tuning", report.n_epochs) as advance:
            for loss, trained in islice(epochs, report.n_epochs):
                layers = trained
                losses.append(loss)
                advance(1, f"loss {loss:.3f}")
        tuned_features = end.features(maps[:, 0])
    projection = projection.with_map(
        layers, tuned_features, y, class_embeddings, pretrained
    )
    tuned = backbone.with_weights(backbone.weights_of(end.model))
    return tuned, projection, replace(report, loss=tuple(losses))


@dataclass(frozen=True)
class _Training:
    """A network's end, and what the frozen layers give it: (n, views, *map_shape)."""

    end: TrainableEnd
    maps: NDArray[np.float16]
    settings: FineTuning
    seed: int

    def validate(
        self,
        projection: DeViSE,
        features: Float32,
        y: Int64,
        T: Float32,
        held_out: Int64,
        pretrained: PretrainedClasses | None,
    ) -> FineTuningReport:
        """Train without the held-out classes, and see whether that helps these.

        The end is as it was, afterwards.
        """
        is_held_out = np.isin(y, held_out)
        rows, rows_held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        kept, wanted = np.unique(y[rows], return_inverse=True)
        y_held_out = np.searchsorted(held_out, y[rows_held_out])
        maps_held_out = self.maps[rows_held_out, 0]

        # By the map alone: what is trained with the layers.
        others = None if pretrained is None else pretrained.without(kept)
        frozen = clone(projection).fit(
            features[rows], wanted, class_embeddings=T[kept], pretrained=others
        )

        def ranks(layers: Layers) -> NDArray[np.float64]:
            points = frozen.text_points(self.end.features(maps_held_out), layers)
            return reciprocal_ranks(points @ T[held_out].T, y_held_out)

        before = ranks(frozen.layers)
        after: list[NDArray[np.float64]] = []
        losses = []
        epochs = self.epochs(frozen, rows, wanted, T[kept])
        n_epochs = self.settings.epochs
        with progress_bar("fine-tuning: choosing epochs", n_epochs) as advance:
            for loss, trained in islice(epochs, n_epochs):
                losses.append(loss)
                after.append(ranks(trained))
                scores = f"{after[-1].mean():.3f}, frozen {before.mean():.3f}"
                advance(1, f"held-out classes: {scores}")
                best = int(np.argmax([each.mean() for each in after]))
                if len(after) - 1 - best >= self.settings.patience:
                    break
        self.end.reset()
        gain = after[best] - before
        error = float(gain.std(ddof=1) / math.sqrt(len(gain)))
        helps = bool(gain.mean() > error)
        return FineTuningReport(
            used=helps,
            layers=tuple(self.end.trained),
            n_epochs=best + 1 if helps else 0,
            frozen_score=float(before.mean()),
            tuned_score=float(after[best].mean()),
            standard_error=error,
            held_out=tuple(held_out.tolist()),
            loss=tuple(losses),
        )

    def epochs(
        self, projection: DeViSE, rows: NDArray[np.intp], wanted: Int64, T: Float32
    ) -> Iterator[tuple[float, Layers]]:
        """Train end and map on some rows; yield the loss and the map of each epoch."""
        maps, settings = self.maps, self.settings
        step, current = self.end.training_step(
            projection.layers,
            center=(projection.mean_, projection.scale_)
            if projection.normalize
            else None,
            class_embeddings=T,
            loss=projection.losses,
            penalty=projection.weight_penalty,
            learning_rate=settings.learning_rate,
            train_biases=len(projection.kernels_) > 1,
        )
        random = np.random.default_rng(self.seed)
        n_steps = count()
        for epoch in count(1):
            order = random.permutation(len(rows))
            views = random.integers(maps.shape[1], size=len(rows))
            total = 0.0
            for some in gen_batches(len(rows), settings.batch_size):
                batch = order[some]
                loss = step(
                    maps[rows[batch], views[batch]],
                    wanted[batch],
                    (self.seed, next(n_steps)),
                )
                total += loss * len(batch)
            mean = total / len(rows)
            if not math.isfinite(mean):
                raise ValueError(
                    f"Expected a finite loss. Got {mean} in epoch {epoch} of "
                    f"fine-tuning. Lower its learning_rate={settings.learning_rate!r}."
                )
            yield mean, current()


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
        maps = np.memmap(Path(folder, "maps"), np.float16, "w+", shape=shape)
        random = np.random.default_rng(seed)
        with progress_bar("fine-tuning: frozen layers", len(images)) as advance:
            for start, pixels in _read(images, backbone):
                rows = slice(start, start + len(pixels))
                maps[rows, 0] = end.maps(pixels)
                for view in range(1, settings.views):
                    boxes = _random_boxes(random, len(pixels), settings.smallest_crop)
                    maps[rows, view] = end.maps(pixels, boxes)
                advance(len(pixels))
        yield maps


def _read(
    images: Sequence[ImageSource], backbone: Backbone
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield batches of images as the backbone is given them, and where each begins."""
    size, card = backbone.input_size, card_of(backbone)

    def read(source: ImageSource) -> NDArray[np.uint8]:
        return read_fitted(source, size, card.resize, card.filter)

    with ThreadPoolExecutor(READERS, thread_name_prefix="zeroshot-images") as pool:
        for start in range(0, len(images), IMAGES_AT_ONCE):
            batch = images[start : start + IMAGES_AT_ONCE]
            yield start, np.stack(list(pool.map(read, batch)))


def _random_boxes(random: np.random.Generator, n: int, smallest_crop: float) -> Float32:
    """Return crops (top, left, bottom, right) in [0, 1], half of them mirrored."""
    side = np.sqrt(random.uniform(smallest_crop, 1, n))
    top, left = random.random((2, n)) * (1 - side)
    right, mirrored = left + side, random.random(n) < 0.5
    left, right = np.where(mirrored, (right, left), (left, right))
    boxes = np.stack([top, left, top + side, right], axis=1)
    return boxes.astype(np.float32)
