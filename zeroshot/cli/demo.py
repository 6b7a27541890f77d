"""The main job on drawn shapes: offline, in seconds, with every yardstick beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.color_hog import ColorHOG
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import make_shapes, shape_attributes
from zeroshot.embeddings.attributes import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.random import RandomEmbeddings
from zeroshot.errors import ArtifactError
from zeroshot.features.pipeline import extract_features
from zeroshot.images.picture_sheet import write_sheet
from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.shapes import COLORS, SHAPES

__all__ = ["DemoResult", "hold_out_combinations", "run_demo"]

N_TRAIN, N_TEST = 1, 10  # images of a class
N_SHOWN = 3  # test images of each held-out class on the sheet
HELD_OUT_PER_COLOR = 2
# One draw of random vectors gets 0 to 0.2 of the held-out classes right by luck alone.
N_CONTROLS = 5


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured: per-class accuracies, in [0, 1].

    Attributes
    ----------
    seen, unseen : tuple of str
        The labels trained on, and those held out.
    unseen_alone : float
        Held-out images, the candidates being the held-out labels (ZSL).
    gzsl_seen, gzsl_unseen, gzsl_h : float
        New images of seen labels, held-out images, and the harmonic mean of the two,
        the candidates being all labels.
    control : tuple of float
        ``unseen_alone`` with a random vector for each label, one number per draw.
    sheet : Path
        Absolute path of the picture.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    unseen_alone: float
    gzsl_seen: float
    gzsl_unseen: float
    gzsl_h: float
    control: tuple[float, ...]
    sheet: Path

    def __str__(self) -> str:
        """Return what was done and what came out, in words."""
        n_seen, n_unseen = len(self.seen), len(self.unseen)
        control = f"{np.mean(self.control):.3f}  (mean of {len(self.control)} draws)"
        return f"""\
Zero-shot demo, a toy task: {n_seen + n_unseen} labels such as "{self.unseen[0]}".
Training: {N_TRAIN} drawn image of each of {n_seen} labels, and none of the other
{n_unseen}: these are colors and shapes that training saw, but never together. What the
model knows of a label are the attributes of its two words.

Share of test images named rightly ({N_TEST} per label):
  held-out labels, among the {n_unseen} held-out    {self.unseen_alone:.3f}
    chance                                {1 / n_unseen:.3f}
    with random vectors for the labels    {control}
  among all {n_seen + n_unseen} labels, seen and held out:
    labels seen in training               {self.gzsl_seen:.3f}
    held-out labels                       {self.gzsl_unseen:.3f}
    harmonic mean H of these two          {self.gzsl_h:.3f}
    chance                                {1 / (n_seen + n_unseen):.3f}

Photographs are harder: there, seen labels win too often when all compete, unless
seen_penalty="auto" is set.
Picture sheet: {self.sheet}"""


def run_demo(out: str | Path = "demo-sheet.png", seed: int = 0) -> DemoResult:
    """Train on some coloured shapes, name others, and write a picture of the result.

    Needs no download: `zeroshot.datasets.make_shapes` draws the images, ``color-hog``
    describes them, `zeroshot.datasets.shape_attributes` describes the labels, and
    the default projection learns the map.

    ``out``: where the picture is written; an older file is replaced. ``seed``: seed of
    images, held-out labels and training, >= 0. Raises ArtifactError if the picture
    cannot be written there.
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
    gzsl_seen = accuracy(classifier, seen_test, everything)
    gzsl_unseen = accuracy(classifier, unseen_test, everything)
    result = DemoResult(
        seen=tuple(label for label in everything if label not in unseen),
        unseen=tuple(unseen),
        unseen_alone=accuracy(classifier, unseen_test, unseen),
        gzsl_seen=gzsl_seen,
        gzsl_unseen=gzsl_unseen,
        gzsl_h=harmonic_mean(gzsl_seen, gzsl_unseen),
        # One vector per whole label: "red star" and "red ring" have nothing in common.
        control=tuple(
            accuracy(fit(RandomEmbeddings(seed=draw)), unseen_test, unseen)
            for draw in range(N_CONTROLS)
        ),
        sheet=sheet,
    )
    shown = np.flatnonzero(unseen_test).reshape(-1, N_TEST)[:, :N_SHOWN].ravel()
    write_sheet(
        sheet,
        images[shown],
        labels[shown],
        classifier.predict(X[shown], everything),
        title=f"Labels without any training image, named among all {len(everything)}",
        subtitle=f"The first {N_SHOWN} test images of each. Green: right. Red: wrong, "
        f"the true label in brackets. All {unseen_test.sum()} test images: "
        f"{gzsl_unseen:.1%} right; among the {len(unseen)} held-out labels only: "
        f"{result.unseen_alone:.1%}.",
    )
    return result


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
