"""How the default settings were chosen: on class-disjoint folds of SEEN classes.

For each split of the evaluation protocol the unseen (test) classes are put away first.
A quarter of the seen classes is then held out, and only those are looked at. Prints
mean per-class accuracy among the held-out classes, mean of 5 splits.

    ZEROSHOT_DATA=... python benchmarks/choose_defaults.py

With ``--write`` the tables go into docs/defaults.md too. ``--label-space`` measures
centring and the correction for hubs alone.
"""

import argparse
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from real_tasks import Task, real_tasks
from zero_shot_accuracy import PlainRidge

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.errors import OutOfVocabularyError, ZeroShotWarning
from zeroshot.labels import embed_labels
from zeroshot.metrics import hit_at_k, per_class_accuracy
from zeroshot.projections import ESZSL, DeViSE, Ridge
from zeroshot.scoring import label_space
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.splits import hold_out_classes, zero_shot_splits
from zeroshot.storage.cache import replace_file

N_SPLITS = 5
TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
COSINE = {"loss": "cosine"}
SETTINGS: list[Any] = [
    *(Ridge(alpha=alpha) for alpha in (1.0, 3.0, 10.0, 30.0, 100.0)),
    Ridge(normalize=False),
    *(
        ESZSL(alpha=alpha, alpha_text=alpha_text)
        for alpha in (3.0, 10.0, 30.0)
        for alpha_text in (1.0, 3.0, 10.0, 30.0)
    ),
    *(DeViSE(weight_decay=decay) for decay in (0.0, 0.1, 0.3, 1.0, 3.0)),
    DeViSE(margin=0.3),
    DeViSE(early_stopping=False),
    DeViSE(negatives="first-violator"),
    DeViSE(**COSINE),
    DeViSE(**COSINE, hidden=(1024,), dropout=0.3),
    DeViSE(**COSINE, hidden=(1024,), dropout=0.3, learning_rate=0.0003),
]


# The weight of the hub correction, and how many nearest classes it looks at. Centring
# the label vectors was tried too; it added nothing and is gone.
SPACES = [
    (0.0, 5),
    *((weight, 5) for weight in (0.25, 0.5, 0.75, 1.0)),
    *((0.5, neighbours) for neighbours in (1, 3, 10)),
]
HOLD_OUTS = 4  # of seen classes in each split; closed forms take a second
PAGE = Path(__file__).parent.parent / "docs" / "defaults.md"


def folds(task: Task, hold_outs: int = 1) -> Iterator[tuple[Any, ...]]:
    """Yield for each split X and y to train on, X, y and labels to test on, a seed."""
    provider = open_vectors(task.vectors)
    X, y = task.features, task.labels
    classes = np.unique(y).tolist()
    try:
        embed_labels(classes, provider)
    except OutOfVocabularyError as error:
        kept = ~np.isin(y, error.labels)
        X, y = X[kept], y[kept]
    for seed, split in enumerate(zero_shot_splits(y, N_SPLITS)):
        is_seen = np.isin(y, split.seen)  # the test classes are never looked at
        X_seen, y_seen = X[is_seen], y[is_seen]
        for number in range(hold_outs):
            train, held_out = hold_out_classes(y_seen, 0.25, seed + number * N_SPLITS)
            fold = np.isin(y_seen, train)
            test = X_seen[~fold], y_seen[~fold], held_out
            yield X_seen[fold], y_seen[fold], *test, seed


def label_space_table(task: Task) -> str:
    """Return top-1 among held-out classes for each label space and closed form."""
    provider = open_vectors(task.vectors)
    projections: list[Any] = [PlainRidge(), Ridge(), ESZSL()]
    top1: list[list[list[float]]] = [[[] for _ in projections] for _ in SPACES]
    for X, y, X_test, y_test, held_out, _ in folds(task, HOLD_OUTS):
        classes, index = np.unique(y, return_inverse=True)
        _, truth = np.unique(y_test, return_inverse=True)
        vectors, _ = embed_labels(classes.tolist(), provider)
        candidates, _ = embed_labels(held_out.tolist(), provider)
        for column, projection in enumerate(projections):
            # The correction takes no part in training.
            points = projection.fit(X, index, class_embeddings=vectors).transform(
                X_test
            )
            for row, (correction, neighbours) in enumerate(SPACES):
                label_space.N_NEIGHBOURS = neighbours  # no setting, so no parameter
                space = LabelSpace(vectors, correction)
                scores = space.scores(points, space.label_points(candidates))
                hits = scores.argmax(axis=1) == truth
                top1[row][column].append(per_class_accuracy(truth, hits))
    lines = [
        "| hub_correction | nearest classes | plain ridge | `Ridge()` | `ESZSL()` |",
        f"| --- | --- |{' --- |' * len(projections)}",
    ]
    for (correction, neighbours), values in zip(SPACES, top1, strict=True):
        cells = " | ".join(f"{np.mean(v):.3f} +- {np.std(v):.3f}" for v in values)
        k = neighbours if correction else ""
        lines.append(f"| {correction} | {k} | {cells} |")
    return "\n".join(lines)


def measure(task: Task, setting: Any) -> tuple[float, float, list[float]]:
    """Return top-1, top-5 and the negative log likelihood at each temperature."""
    provider = open_vectors(task.vectors)
    results = []
    for X, y, X_test, truth, held_out, seed in folds(task):
        classifier = ZeroShotClassifier(
            None, provider, projection=setting, random_state=seed
        ).fit(X, y)
        scores = classifier.decision_function(X_test, held_out.tolist())
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
    lines = [
        "| setting | top-1 | top-5 | best temperature |",
        "| --- | --- | --- | --- |",
    ]
    for setting in SETTINGS:
        top1, top5, likelihood = measure(task, setting)
        best = TEMPERATURES[int(np.argmin(likelihood))]
        name = " ".join(repr(setting).split())
        lines.append(f"| `{name}` | {top1:.3f} | {top5:.3f} | {best} |")
    return "\n".join(lines)


def write_section(title: str, text: str) -> None:
    """Put a section of the page in the place of the one with this title."""
    page = PAGE.read_text(encoding="utf-8")
    section = re.compile(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", re.M | re.S)
    made = f"{title}\n\n{text}\n\n"
    if section.search(page):
        page = section.sub(lambda _: made, page).rstrip() + "\n"
    else:
        page = f"{page.rstrip()}\n\n{made.rstrip()}\n"
    with replace_file(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


def main() -> None:
    """Print the tables, and write them to the docs when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    parser.add_argument("--label-space", action="store_true", help="that table alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    spaces = f"label space, mean of {N_SPLITS * HOLD_OUTS} folds"
    settings = f"held-out seen classes, mean of {N_SPLITS} splits"
    tables = {spaces: label_space_table, settings: settings_table}
    if arguments.label_space:
        del tables[settings]
    for task in real_tasks():
        for what, table in tables.items():
            title = f"## {task.name}: {what}"
            text = table(task)
            print(f"{title}\n\n{text}\n", flush=True)
            if arguments.write:
                write_section(title, text)


if __name__ == "__main__":
    main()
