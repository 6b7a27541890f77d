"""What judging a batch together gains or costs, however many of the labels are present.

Seeded, class-disjoint splits of the Caltech classes and of Tiny-ImageNet (128 px). From
the images of the unseen classes batches are drawn: k of the candidates with n images of
each. A cell is the mean of 20 batches; first what ``adapt=True`` gains in points of
per-class accuracy, then the accuracy without it.

    ZEROSHOT_DATA=... python benchmarks/whole_batch.py
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_tasks import real_tasks

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.splits import zero_shot_splits

N_SPLITS, DRAWS_PER_SPLIT = 5, 4
N_PRESENT = (1, 2, 3, 5, 10, "half", "all")
N_IMAGES = (3, 5, 10, 15, 20, 30, 40)

# Called with images and adapt=True or False: the best candidate of each.
Predict = Callable[..., NDArray[Any]]


def batches(
    y: NDArray[Any], n_present: int, n_images: int, n_draws: int
) -> Iterator[NDArray[np.intp]]:
    """Yield rows of batches with ``n_images`` images of ``n_present`` classes."""
    classes = np.unique(y)
    for draw in range(n_draws):
        rng = np.random.default_rng([draw, n_present, n_images])
        yield np.concatenate(
            [
                rng.permutation(np.flatnonzero(y == c))[:n_images]
                for c in rng.permutation(classes)[:n_present]
            ]
        )


def per_class_accuracy(y: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return the mean over classes of the share of images that are right."""
    return float(np.mean([np.mean(predicted[y == c] == c) for c in np.unique(y)]))


def measure(
    X: NDArray[np.float32], y: NDArray[Any], predict: Predict, n_draws: int
) -> dict[tuple[Any, int], list[tuple[float, float]]]:
    """Return, for each cell, accuracy alone and together of every batch."""
    m = len(np.unique(y))
    cells: dict[tuple[Any, int], list[tuple[float, float]]] = {}
    for present in N_PRESENT:
        k = {"half": m // 2, "all": m}.get(present, present)
        if k > m or (k == m and present != "all"):
            continue
        for n_images in N_IMAGES:
            cells[present, n_images] = [
                (
                    per_class_accuracy(y[rows], predict(X[rows], adapt=False)),
                    per_class_accuracy(y[rows], predict(X[rows], adapt=True)),
                )
                for rows in batches(y, k, n_images, n_draws)
            ]
    return cells


def table(cells: dict[tuple[Any, int], list[tuple[float, float]]]) -> str:
    """Return a table in Markdown: a row for each number of classes present."""
    lines = [
        "| present | " + " | ".join(f"{n} images" for n in N_IMAGES) + " |",
        "| --- " * (1 + len(N_IMAGES)) + "|",
    ]
    for present in N_PRESENT:
        if (present, N_IMAGES[0]) in cells:
            means = [np.mean(cells[present, n], axis=0) for n in N_IMAGES]
            row = [f"{100 * (b - a):+.1f} ({a:.2f})" for a, b in means]
            lines.append(f"| {present} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    for task in real_tasks():
        total: dict[tuple[Any, int], list[tuple[float, float]]] = {}
        provider = open_vectors(task.vectors)
        for split in zero_shot_splits(task.labels, N_SPLITS):
            classifier = ZeroShotClassifier(task.backbone, provider)
            classifier.fit(task.features[split.train], task.labels[split.train])

            predict = partial(classifier.predict, candidate_labels=list(split.unseen))
            rows = split.unseen_test
            cells = measure(
                task.features[rows], task.labels[rows], predict, DRAWS_PER_SPLIT
            )
            for key, values in cells.items():
                total.setdefault(key, []).extend(values)
        print(f"\n{task.name}\n\n{table(total)}", flush=True)


if __name__ == "__main__":
    main()
