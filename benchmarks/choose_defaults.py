"""How the default settings were chosen: on class-disjoint folds of SEEN classes.

For each split of the evaluation protocol the unseen (test) classes are put away first.
A quarter of the seen classes is then held out, and only those are looked at. Prints
mean per-class accuracy among the held-out classes, mean of 5 splits.

    ZEROSHOT_DATA=... python benchmarks/choose_defaults.py
"""

import warnings
from typing import Any

import numpy as np
from real_tasks import Task, real_tasks

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.errors import OutOfVocabularyError, ZeroShotWarning
from zeroshot.labels import embed_labels
from zeroshot.metrics import hit_at_k, per_class_accuracy
from zeroshot.projections import DeViSE, Ridge
from zeroshot.splits import hold_out_classes, zero_shot_splits

N_SPLITS = 5
TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
COSINE = {"loss": "cosine"}
SETTINGS: list[Any] = [
    *(Ridge(alpha=alpha) for alpha in (1.0, 3.0, 10.0, 30.0, 100.0)),
    Ridge(normalize=False),
    *(DeViSE(weight_decay=decay) for decay in (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)),
    DeViSE(early_stopping=False),
    DeViSE(negatives="first-violator"),
    DeViSE(**COSINE),
    DeViSE(**COSINE, hidden=(1024,), dropout=0.3),
    DeViSE(**COSINE, hidden=(1024,), dropout=0.3, learning_rate=0.0003),
]


def measure(task: Task, setting: Any) -> tuple[float, float, list[float]]:
    """Return top-1, top-5 and the negative log likelihood at each temperature."""
    provider = open_vectors(task.vectors)
    X, y = task.features, task.labels
    classes = np.unique(y).tolist()
    try:
        embed_labels(classes, provider)
    except OutOfVocabularyError as error:
        kept = ~np.isin(y, error.labels)
        X, y = X[kept], y[kept]
    results = []
    for seed, split in enumerate(zero_shot_splits(y, N_SPLITS)):
        is_seen = np.isin(y, split.seen)  # the test classes are never looked at
        X_seen, y_seen = X[is_seen], y[is_seen]
        train, held_out = hold_out_classes(y_seen, 0.25, seed)
        fold = np.isin(y_seen, train)
        classifier = ZeroShotClassifier(
            None, provider, projection=setting, random_state=seed
        ).fit(X_seen[fold], y_seen[fold])
        truth = y_seen[~fold]
        scores = classifier.decision_function(X_seen[~fold], held_out.tolist())
        column = np.searchsorted(held_out, truth)
        likelihood = []
        for temperature in TEMPERATURES:
            logits = scores.astype(np.float64) / temperature
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            likelihood.append(-logits[np.arange(len(column)), column].mean())
        results.append(
            [
                *(
                    per_class_accuracy(truth, hit_at_k(scores, column, k))
                    for k in (1, 5)
                ),
                *likelihood,
            ]
        )
    top1, top5, *likelihood = np.mean(results, axis=0).tolist()
    return top1, top5, likelihood


def main() -> None:
    """Print a table for each task."""
    warnings.simplefilter("ignore", ZeroShotWarning)
    for task in real_tasks():
        print(f"## {task.name}: held-out seen classes, mean of {N_SPLITS} splits\n")
        print(
            "| setting | top-1 | top-5 | best temperature |\n| --- | --- | --- | --- |"
        )
        for setting in SETTINGS:
            top1, top5, likelihood = measure(task, setting)
            best = TEMPERATURES[int(np.argmin(likelihood))]
            name = " ".join(repr(setting).split())
            print(f"| `{name}` | {top1:.3f} | {top5:.3f} | {best} |", flush=True)
        print()


if __name__ == "__main__":
    main()
