"""A few images of the new classes: word and images together, beside either alone.

A model is fitted on the seen classes of five splits, the backbone's classes of unseen
labels masked; then `partial_fit` adds 1 to 16 images of each unseen class, and the rest
of their images is named among the unseen classes. Beside it: the words alone (the model
before), and the images alone: the nearest class mean and logistic regression, on the
same features, rooted, of unit length and centred.

    ZEROSHOT_DATA=... python benchmarks/few_images.py

With ``--write`` the table goes into results/few_images.md too.
"""

import copy
import warnings
from itertools import product
from typing import Any

import numpy as np
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import Task, real_tasks
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.metrics import per_class_accuracy
from zeroshot.projections.moments import roots
from zeroshot.splits import zero_shot_splits

SHOTS, DRAWS = (1, 2, 4, 8, 16), 2
PAGE = RESULTS / "few_images.md"
MARK = "<!-- Below: written by benchmarks/few_images.py -->"
METHODS = ("word and images", "word alone", "nearest class mean", "logistic regression")


def measure(task: Task) -> dict[str, dict[int, list[float]]]:
    """Return the accuracy of each method, for each number of images and split."""
    provider = open_vectors(task.vectors)
    X, y = task.known()
    found: dict[str, dict[int, list[float]]] = {
        name: {shots: [] for shots in SHOTS} for name in METHODS
    }
    for seed, split in enumerate(zero_shot_splits(y, 5)):
        before = ZeroShotClassifier(
            None,
            provider,
            pretrained_classes=task.masked(split.unseen),
            random_state=seed,
        ).fit(X[split.train], y[split.train])
        candidates = split.unseen.tolist()
        mean = roots(X[split.train]).mean(axis=0)
        for draw, shots in product(range(DRAWS), SHOTS):
            random = np.random.default_rng(100 * seed + draw)
            order = random.permutation(split.unseen_test)
            nth = np.array(
                [(y[order[:i]] == y[row]).sum() for i, row in enumerate(order)]
            )
            few, rest = order[nth < shots], order[nth >= SHOTS[-1]]
            after = copy.deepcopy(before).partial_fit(X[few], y[few])
            Z, Z_rest = (normalize(roots(X[rows]) - mean) for rows in (few, rest))
            for name, answers in (
                (METHODS[0], after.predict(X[rest], candidates)),
                (METHODS[1], before.predict(X[rest], candidates)),
                (METHODS[2], _by_means(Z, y[few], Z_rest)),
                (
                    METHODS[3],
                    LogisticRegression(C=10, max_iter=500)
                    .fit(Z, y[few])
                    .predict(Z_rest),
                ),
            ):
                right = per_class_accuracy(y[rest], answers == y[rest])
                found[name][shots].append(right)
    return found


def _by_means(Z: Any, y: Any, Z_rest: Any) -> Any:
    means = NearestCentroid().fit(Z, y)
    return means.classes_[(Z_rest @ normalize(means.centroids_).T).argmax(axis=1)]


def table(found: dict[str, dict[int, list[float]]]) -> str:
    """Return the table in Markdown."""
    return markdown_table(
        ["images of each class", *SHOTS],
        [[name, *map(mean_and_spread, each.values())] for name, each in found.items()],
    )


def main() -> None:
    """Print the tables, and write the page when asked to."""
    arguments = new_parser(__doc__, PAGE).parse_args()
    warnings.simplefilter("ignore")
    text = ""
    for task in real_tasks()[::-1]:
        text += f"## {task.name}\n\n{table(measure(task))}\n\n"
        print(text, flush=True)
    if arguments.write:
        write_page(PAGE, text, below=MARK)


if __name__ == "__main__":
    main()
