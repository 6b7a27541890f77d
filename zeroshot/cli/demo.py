"""The main job on drawn shapes: offline, in seconds, with every yardstick beside it."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.color_hog import ColorHOG
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import make_shapes, shape_attributes
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.random import RandomEmbeddings
from zeroshot.errors import ArtifactError
from zeroshot.features.pipeline import extract_features
from zeroshot.images.picture_sheet import write_result_sheet
from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.shapes import COLORS, SHAPES

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["hold_out_combinations", "run_demo", "show_demo"]

N_TRAIN, N_TEST = 1, 10  # images of a class
N_SHOWN = 3  # test images of each held-out class on the sheet
HELD_OUT_PER_COLOR = 2
# One draw of random vectors gets 0 to 0.2 of the held-out classes right by luck alone.
N_CONTROLS = 5


def run_demo(out: str | Path = "demo-sheet.png", seed: int = 0) -> str:
    """Train on some coloured shapes, name others, and write a picture of the result.

    Needs no download: `zeroshot.datasets.make_shapes` draws the images, ``color-hog``
    describes them, `zeroshot.datasets.shape_attributes` describes the labels, and
    the default projection learns the map.

    ``out``: where the picture is written; an older file is replaced. ``seed``: seed of
    images, held-out labels and training, >= 0. Returns what was done and measured, in
    words. Raises ArtifactError if the picture cannot be written there.
    """
    sheet = Path(out).absolute()
    if sheet.is_dir():
        raise ArtifactError(
            f"Expected the path of a picture to write. Got the folder '{out}'. Add a "
            f"file name, such as '{Path(out) / 'demo-sheet.png'}'."
        )
    images, labels = make_shapes(N_TRAIN + N_TEST, random_state=seed)
    unseen = hold_out_combinations(seed)
    is_unseen = np.isin(labels, unseen)
    is_training = np.arange(len(labels)) % (N_TRAIN + N_TEST) < N_TRAIN
    train = is_training & ~is_unseen
    seen_test, unseen_test = ~is_training & ~is_unseen, ~is_training & is_unseen
    # Once for all: the control trains on the same features.
    X = extract_features(images, ColorHOG(), cache=False).matrix

    def fit(embeddings: TextEmbeddings) -> ZeroShotClassifier:
        classifier = ZeroShotClassifier("color-hog", embeddings, random_state=seed)
        return classifier.fit(X[train], labels[train])

    def accuracy(
        classifier: ZeroShotClassifier, part: NDArray[np.bool_], candidates: list[str]
    ) -> float:
        hits = classifier.predict(X[part], candidates) == labels[part]
        return per_class_accuracy(labels[part], hits)

    classifier = fit(Attributes(*shape_attributes()))
    everything = sorted(set(labels.tolist()))
    unseen_alone = accuracy(classifier, unseen_test, unseen)
    gzsl_seen = accuracy(classifier, seen_test, everything)
    gzsl_unseen = accuracy(classifier, unseen_test, everything)
    gzsl_h = harmonic_mean(gzsl_seen, gzsl_unseen)
    # One vector per whole label: "red star" and "red ring" have nothing in common.
    control = [
        accuracy(fit(RandomEmbeddings(seed=draw)), unseen_test, unseen)
        for draw in range(N_CONTROLS)
    ]
    shown = np.flatnonzero(unseen_test).reshape(-1, N_TEST)[:, :N_SHOWN].ravel()
    write_result_sheet(
        sheet,
        images[shown],
        labels[shown],
        classifier.predict(X[shown], everything),
        title=f"Labels without any training image, named among all {len(everything)}",
        subtitle=f"The first {N_SHOWN} test images of each. Green: right. Red: wrong, "
        f"the true label in brackets. All {unseen_test.sum()} test images: "
        f"{gzsl_unseen:.1%} right; among the {len(unseen)} held-out labels only: "
        f"{unseen_alone:.1%}.",
    )
    n_all, n_unseen = len(everything), len(unseen)
    n_seen = n_all - n_unseen
    with_random = f"{np.mean(control):.3f}  (mean of {N_CONTROLS} draws)"
    return f"""\
Zero-shot demo, a toy task: {n_all} labels such as "{unseen[0]}".
Training: {N_TRAIN} drawn image of each of {n_seen} labels, and none of the other
{n_unseen}: these are colors and shapes that training saw, but never together. What the
model knows of a label are the attributes of its two words.

Share of test images named rightly ({N_TEST} per label):
  held-out labels, among the {n_unseen} held-out    {unseen_alone:.3f}
    chance                                {1 / n_unseen:.3f}
    with random vectors for the labels    {with_random}
  among all {n_all} labels, seen and held out:
    labels seen in training               {gzsl_seen:.3f}
    held-out labels                       {gzsl_unseen:.3f}
    harmonic mean H of these two          {gzsl_h:.3f}
    chance                                {1 / n_all:.3f}

Photographs are harder: there, seen labels win too often when all compete, unless
seen_penalty="auto" is set.
Picture sheet: {sheet}"""


def show_demo(
    serve: "Callable[[FastAPI], None]", seed: int = 0, *, n_labels: int = 6
) -> None:
    """Give ``serve`` the page, opened on drawn shapes.

    The labels on it are some of those that training saw no image of; so are most of the
    pictures, and two are of a label that is not among them: none of these.
    """
    from zeroshot.serving import create_app
    from zeroshot.serving.page import Opening

    images, labels = make_shapes(N_TRAIN + 1, random_state=seed)
    unseen = hold_out_combinations(seed)
    is_training = (np.arange(len(labels)) % (N_TRAIN + 1) < N_TRAIN) & ~np.isin(
        labels, unseen
    )
    words = Attributes(*shape_attributes())
    classifier = ZeroShotClassifier("color-hog", words, reject="auto", cache=False)
    classifier.fit(images[is_training], labels[is_training])
    named = unseen[-n_labels:]
    pictures = {}
    for label in [*named, *unseen[:2]]:
        at = np.flatnonzero(labels == label)[-1]
        pictures[f"{label}.png"] = _as_png(images[at])
    lines = [f"my favourite: {named[0]}", *named[1:]]
    opening = Opening("\n".join(lines), pictures)
    serve(create_app(classifier, name="drawn shapes", opening=opening))


def _as_png(image: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def hold_out_combinations(seed: int) -> list[str]:
    """Choose labels to leave out: two of every color, and two of every shape.

    So training sees each color with six shapes, and each shape in six colors.

    ``seed``: at least 0. Returns labels: 16 of the 64, sorted.
    """
    shapes = np.random.default_rng(seed).permutation(list(SHAPES))
    return sorted(
        f"{color} {shapes[(row + step) % len(shapes)]}"
        for row, color in enumerate(COLORS)
        for step in range(HELD_OUT_PER_COLOR)
    )
