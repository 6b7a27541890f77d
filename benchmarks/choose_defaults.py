"""How the default settings were chosen: on class-disjoint folds of SEEN classes.

For each split of the evaluation protocol the unseen (test) classes are put away first.
A quarter of the seen classes is then held out, and only those are looked at. Prints
mean per-class accuracy among the held-out classes, mean of 5 splits.

    ZEROSHOT_DATA=... python benchmarks/choose_defaults.py

With ``--write`` the tables go into results/choose_defaults.md too. ``--label-space``
measures the correction for hubs alone.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import Task, real_tasks

from zeroshot import ZeroShotClassifier
from zeroshot.backbones.base import ClassifierHead
from zeroshot.embeddings import open_vectors
from zeroshot.errors import ZeroShotWarning
from zeroshot.metrics import hit_at_k, per_class_accuracy
from zeroshot.projections import ESZSL, DeViSE, Ridge, Visual
from zeroshot.splits import hold_out_classes, zero_shot_splits

N_SPLITS = 5
TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
FIXED = {"gamma": 2.0, "alpha": 0.1, "pretrained_weight": 1.0}
SETTINGS: list[Any] = [
    DeViSE(),
    *(DeViSE(visual_weight=weight) for weight in (0.0, 0.5, 0.9)),
    DeViSE(**FIXED),
    DeViSE(**FIXED, epochs=0),
    DeViSE(**FIXED, negatives="first-violator"),
    Visual(),
    *(Visual(**FIXED | {"gamma": gamma}) for gamma in (1.0, 2.0, 4.0)),
    *(Visual(**FIXED | {"alpha": alpha}) for alpha in (0.03, 0.3)),
    *(Visual(**FIXED | {"pretrained_weight": weight}) for weight in (0.1, 10.0)),
    *(Ridge(alpha=alpha) for alpha in (3.0, 10.0, 30.0)),
    Ridge(normalize=False),
    *(ESZSL(alpha_text=alpha_text) for alpha_text in (3.0, 10.0, 30.0)),
]


# Weights of the hub correction.
CORRECTIONS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)
HOLD_OUTS = 2  # of seen classes in each split; closed forms take a second
PAGE = RESULTS / "choose_defaults.md"


def folds(
    task: Task, hold_outs: int = 1
) -> Iterator[tuple[Any, Any, Any, Any, Any, ClassifierHead | None, int]]:
    """Yield for each split X and y to train on, and X, y and labels to test on.

    And the backbone's classifier without these and the test classes, and a seed.
    """
    X, y = task.known()
    for seed, split in enumerate(zero_shot_splits(y, N_SPLITS)):
        is_seen = np.isin(y, split.seen)  # the test classes are never looked at
        X_seen, y_seen = X[is_seen], y[is_seen]
        for number in range(hold_outs):
            train, held_out = hold_out_classes(y_seen, 0.25, seed + number * N_SPLITS)
            fold = np.isin(y_seen, train)
            test = X_seen[~fold], y_seen[~fold], held_out
            head = task.masked(np.concatenate([held_out, split.unseen]))
            yield X_seen[fold], y_seen[fold], *test, head, seed


def label_space_table(task: Task) -> str:
    """Return top-1 among held-out classes for each correction and projection."""
    provider = open_vectors(task.vectors)
    projections: dict[str, Any] = {
        "`DeViSE()`": DeViSE(**FIXED, epochs=0),
        "`Visual()`": Visual(**FIXED),
        "`Ridge()`": Ridge(),
        "`ESZSL()`": ESZSL(),
    }
    rows: dict[float, list[list[float]]] = {
        correction: [[] for _ in projections] for correction in CORRECTIONS
    }
    for X, y, X_test, truth, held_out, head, seed in folds(task, HOLD_OUTS):
        for column, projection in enumerate(projections.values()):
            for correction in CORRECTIONS:
                classifier = ZeroShotClassifier(
                    None,
                    provider,
                    projection=projection,
                    pretrained_classes=head,
                    hub_correction=correction,
                    random_state=seed,
                ).fit(X, y)
                right = classifier.predict(X_test, held_out.tolist()) == truth
                rows[correction][column].append(per_class_accuracy(truth, right))
    return markdown_table(
        ["hub_correction", *projections],
        [[each, *map(mean_and_spread, values)] for each, values in rows.items()],
    )


def measure(task: Task, setting: Any) -> tuple[float, float, list[float]]:
    """Return top-1, top-5 and the negative log likelihood at each temperature."""
    provider = open_vectors(task.vectors)
    results = []
    for X, y, X_test, truth, held_out, head, seed in folds(task):
        classifier = ZeroShotClassifier(
            None,
            provider,
            projection=setting,
            pretrained_classes=head,
            random_state=seed,
        ).fit(X, y)
        scores = classifier.scores(X_test, held_out.tolist())
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


def settings_table(task: Task) -> str:
    """Return the table of all settings, in the default label space."""
    rows = []
    for setting in SETTINGS:
        top1, top5, likelihood = measure(task, setting)
        best = TEMPERATURES[int(np.argmin(likelihood))]
        name = " ".join(repr(setting).split())
        rows.append((f"`{name}`", f"{top1:.3f}", f"{top5:.3f}", best))
    return markdown_table(("setting", "top-1", "top-5", "best temperature"), rows)


def main() -> None:
    """Print the tables, and write them to the page when asked to."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--label-space", action="store_true", help="that table alone")
    parser.add_argument("--caltech", action="store_true", help="the smaller task only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    spaces = f"hub correction, mean of {N_SPLITS * HOLD_OUTS} folds"
    settings = f"held-out seen classes, mean of {N_SPLITS} splits"
    tables = {spaces: label_space_table, settings: settings_table}
    if arguments.label_space:
        del tables[settings]
    for task in real_tasks()[arguments.caltech :]:
        for what, table in tables.items():
            title = f"## {task.name}: {what}"
            text = table(task)
            print(f"{title}\n\n{text}\n", flush=True)
            if arguments.write:
                write_page(PAGE, text, below=title, until="## ")


if __name__ == "__main__":
    main()
