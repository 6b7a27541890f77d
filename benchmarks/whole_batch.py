"""What judging a batch together gains or costs, however many of the labels are present.

Seeded, class-disjoint splits of the Caltech classes and of Tiny-ImageNet (128 px), for
two networks and both side by side; the backbone's classes of unseen labels are masked.
From the images of the unseen classes batches are drawn: k of the candidates with n
images of each. A cell is the mean of 20 batches; first what ``adapt=True`` gains in
points of per-class accuracy, then the accuracy without it. The last rows are batches of
which a fifth belongs to no candidate; the accuracy is that of the others.

    ZEROSHOT_DATA=... python benchmarks/whole_batch.py

With ``--write`` the tables go into results/whole_batch.md too.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import Task, real_tasks

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.metrics import per_class_accuracy
from zeroshot.splits import zero_shot_splits

PAGE = RESULTS / "whole_batch.md"
MARK = "<!-- Below: written by benchmarks/whole_batch.py -->"
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


def alone_and_together(
    X: NDArray[np.float32], y: NDArray[Any], predict: Predict
) -> tuple[float, float]:
    """Return the accuracy of a batch, whose first images have these labels."""
    alone, together = (
        per_class_accuracy(y, predict(X, adapt=adapt)[: len(y)] == y)
        for adapt in (False, True)
    )
    return alone, together


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
                alone_and_together(X[rows], y[rows], predict)
                for rows in batches(y, k, n_images, n_draws)
            ]
    return cells


def table(cells: dict[tuple[Any, int], list[tuple[float, float]]]) -> str:
    """Return a table in Markdown: a row for each number of classes present."""
    rows = []
    for present in N_PRESENT:
        if (present, N_IMAGES[0]) in cells:
            means = [np.mean(cells[present, n], axis=0) for n in N_IMAGES]
            gains = [f"{100 * (b - a):+.1f} ({a:.2f})" for a, b in means]
            rows.append([present, *gains])
    return markdown_table(["present", *(f"{n} images" for n in N_IMAGES)], rows)


def outsiders(
    X: NDArray[np.float32],
    y: NDArray[Any],
    others: NDArray[np.float32],
    predict: Predict,
    n_draws: int,
) -> list[tuple[float, float]]:
    """Return accuracy alone and together where a fifth belongs to no candidate."""
    found = []
    for rows in batches(y, len(np.unique(y)), 20, n_draws):
        rng = np.random.default_rng(len(found))
        some = others[rng.permutation(len(others))[: len(rows) // 4]]
        batch = np.concatenate([X[rows], some])
        found.append(alone_and_together(batch, y[rows], predict))
    return found


def section(task: Task, network: str) -> str:
    """Return the tables of a task and a network."""
    total: dict[tuple[Any, int], list[tuple[float, float]]] = {}
    fifth: list[tuple[float, float]] = []
    whole: list[tuple[float, float]] = []
    provider = open_vectors(task.vectors)
    X, y = task.known()
    for seed, split in enumerate(zero_shot_splits(y, N_SPLITS)):
        classifier = ZeroShotClassifier(
            None,
            provider,
            pretrained_classes=task.masked(split.unseen),
            random_state=seed,
        ).fit(X[split.train], y[split.train])
        labels = split.unseen.tolist()
        predict = partial(classifier.predict, candidate_labels=labels)
        rows = split.unseen_test
        for key, values in measure(X[rows], y[rows], predict, DRAWS_PER_SPLIT).items():
            total.setdefault(key, []).extend(values)
        fifth += outsiders(
            X[rows], y[rows], X[split.seen_test], predict, DRAWS_PER_SPLIT
        )
        whole.append(alone_and_together(X[rows], y[rows], predict))
    alone, together = map(mean_and_spread, np.transpose(whole))
    gain = 100 * np.diff(np.mean(fifth, axis=0))[0]
    return (
        f"## {task.name}, {network}\n\nAll images of all unseen classes: "
        f"{alone} alone, **{together}** together. A fifth beside them of no candidate, "
        f"20 images of each: {gain:+.1f} points.\n\n{table(total)}\n\n"
    )


def main() -> None:
    """Print the tables, and write them to the page when asked to."""
    arguments = new_parser(__doc__, PAGE).parse_args()
    warnings.simplefilter("ignore")
    text = ""
    for network in ("mobilenet-v2", "efficientnet", "both"):
        for task in real_tasks(network)[::-1]:
            text += section(task, network)
            print(text, flush=True)
    if arguments.write:
        write_page(PAGE, text, below=MARK)


if __name__ == "__main__":
    main()
