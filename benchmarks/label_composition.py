"""Measure how best to compose the vector of a phrase from those of its words.

Ridge on both real tasks, on class-disjoint folds of SEEN classes only (as in
choose_defaults.py). Only labels that are phrases differ between the rows, so the table
also gives the accuracy of held-out classes whose label is a phrase.

    ZEROSHOT_DATA=... python benchmarks/label_composition.py

With ``--write`` the tables go into results/label_composition.md too.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import Task, real_tasks

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes, open_vectors
from zeroshot.errors import ZeroShotWarning
from zeroshot.labels import embed_labels
from zeroshot.metrics import hit_at_k, per_class_accuracy
from zeroshot.splits import hold_out_classes, zero_shot_splits

PAGE = RESULTS / "label_composition.md"
N_SPLITS = 10
Rows = NDArray[np.float64]


def weighted(head_weight: float) -> Callable[[Rows], Rows]:
    """Return the mean of unit vectors in which the last (head) word counts more."""

    def compose(rows: Rows) -> Rows:
        weights = np.ones(len(rows))
        weights[-1] = head_weight
        return weights @ rows

    return compose


COMPOSITIONS: dict[str, Callable[[Rows], Rows]] = {
    "mean of unit vectors": weighted(1),
    "head word x 1.5": weighted(1.5),
    "head word x 2": weighted(2),
    "head word x 3": weighted(3),
    "head word only": lambda rows: rows[-1],
    "first word only": lambda rows: rows[0],
}


def measure(task: Task) -> str:
    """Return a table: top-1 with its spread, top-1 of phrases, of each composition."""
    provider = open_vectors(task.vectors)
    X, y = task.known()
    classes = np.unique(y).tolist()
    _, report = embed_labels(classes, provider)
    phrases = {e.label for e in report.entries if len(e.words) > 1}
    rows = []
    for name, compose in COMPOSITIONS.items():
        vectors = []
        for entry in report.entries:
            found, _ = provider.lookup(list(entry.words))
            unit = found / np.linalg.norm(found, axis=1, keepdims=True)
            vectors.append(compose(unit.astype(np.float64)))
        table = Attributes(classes, np.array(vectors))
        all_classes, phrase_classes = [], []
        for seed, split in enumerate(zero_shot_splits(y, N_SPLITS)):
            is_seen = np.isin(y, split.seen)  # the test classes are never looked at
            X_seen, y_seen = X[is_seen], y[is_seen]
            train, held_out = hold_out_classes(y_seen, 0.25, seed)
            fold = np.isin(y_seen, train)
            classifier = ZeroShotClassifier(None, table, projection="ridge")
            classifier.fit(X_seen[fold], y_seen[fold])
            truth = y_seen[~fold]
            scores = classifier.decision_function(X_seen[~fold], held_out.tolist())
            hits = hit_at_k(scores, np.searchsorted(held_out, truth), 1)
            all_classes.append(per_class_accuracy(truth, hits))
            is_phrase = np.isin(truth, list(phrases))
            if is_phrase.any():
                phrase_classes.append(
                    per_class_accuracy(truth[is_phrase], hits[is_phrase])
                )
        phrase_mean = f"{np.mean(phrase_classes):.3f}"
        rows.append((name, mean_and_spread(all_classes), phrase_mean))
    results = markdown_table(("composition", "top-1", "top-1 of phrases"), rows)
    counted = f"{len(phrases)} of {len(classes)} labels are phrases without a token."
    return f"{counted}\n\n{results}"


def main() -> None:
    """Print a table for each task, and write them to the page when asked to."""
    arguments = new_parser(__doc__, PAGE).parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    for task in real_tasks():
        title = f"## {task.name}: held-out seen classes, mean of {N_SPLITS} splits"
        text = measure(task)
        print(f"{title}\n\n{text}\n", flush=True)
        if arguments.write:
            write_page(PAGE, text, below=title, until="## ")


if __name__ == "__main__":
    main()
