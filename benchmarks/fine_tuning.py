"""Does fine-tuning the backbone help classes never trained on? Real photographs.

Five seeded, class-disjoint splits, as in zero_shot_accuracy.py: DeViSE with the frozen
backbone, and with its last layers fine-tuned (``fine_tune="auto"``: early stopping on
held-out seen classes).
Accuracies on unseen and seen classes, and the differences split by split.

    ZEROSHOT_DATA=... python benchmarks/fine_tuning.py [--task caltech] [--splits 5]

``--choose`` prints instead how the defaults were chosen: learning rates and numbers of
layers on held-out SEEN classes. ``--write`` puts the table into results/fine_tuning.md.
"""

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import VECTORS, real_data, without_vector

from zeroshot import FineTuning, ZeroShotClassifier
from zeroshot.datasets import load_image_folder
from zeroshot.embeddings import open_vectors
from zeroshot.errors import ZeroShotWarning
from zeroshot.metrics import harmonic_mean, hit_at_k, per_class_accuracy
from zeroshot.splits import hold_out_classes, zero_shot_splits

PAGE = RESULTS / "fine_tuning.md"
MARKS = "<!-- table -->", "<!-- end of table -->"
TASKS = {
    "caltech": ("Caltech classes", "mobilenet-v2", "caltech-classes", None),
    "tiny": (
        "Tiny-ImageNet, 128 px",
        "mobilenet-v2:128",
        "tiny-imagenet-val",
        "class_names.tsv",
    ),
}
METRICS = ("ZSL top-1", "GZSL seen", "GZSL unseen", "H")
GRID = [
    FineTuning(layers=layers, learning_rate=rate)
    for layers in (1, 4, 10)
    for rate in (1e-5, 1e-4)
]


def load_task(key: str) -> tuple[str, str, NDArray[Any], NDArray[Any], Any]:
    """Return name, backbone, paths, labels, vectors; only classes that have one."""
    name, backbone, folder, class_names = TASKS[key]
    root = real_data() / "images" / folder
    paths, labels = load_image_folder(root, class_names and root / class_names)
    vectors = open_vectors(real_data() / "vectors" / VECTORS)
    kept = ~np.isin(labels, without_vector(labels, vectors))
    return name, backbone, np.array(paths)[kept], labels[kept], vectors


def top1(classifier: Any, X: Any, y: NDArray[Any], candidates: NDArray[Any]) -> float:
    """Return mean per-class accuracy among the candidates."""
    scores = classifier.decision_function(list(X), candidates.tolist())
    column = {label: j for j, label in enumerate(candidates.tolist())}
    true_column = np.array([column[label] for label in y.tolist()])
    return float(per_class_accuracy(y, hit_at_k(scores, true_column, 1)))


def fit(backbone: str, vectors: Any, X: Any, y: Any, settings: Any, seed: int) -> Any:
    """Return a fitted classifier, with the default projection."""
    return ZeroShotClassifier(
        backbone, vectors, projection="devise", fine_tune=settings, random_state=seed
    ).fit(list(X), y)


def measure(key: str, n_splits: int, best: FineTuning) -> str:
    """Return a section: accuracies of each method, and paired differences."""
    name, backbone, paths, labels, vectors = load_task(key)
    methods: dict[str, FineTuning | None] = {
        "frozen": None,
        "fine-tuned (`auto`)": best,
    }
    results: dict[str, list[list[float]]] = {method: [] for method in methods}
    used, n_unseen = 0, 0
    for seed, split in enumerate(zero_shot_splits(labels, n_splits)):
        everything = np.concatenate([split.seen, split.unseen])
        n_unseen = len(split.unseen)
        for method, settings in methods.items():
            start = time.perf_counter()
            clf = fit(
                backbone,
                vectors,
                paths[split.train],
                labels[split.train],
                settings,
                seed,
            )
            seconds = time.perf_counter() - start
            rows = split.unseen_test, split.seen_test
            zsl = top1(clf, paths[rows[0]], labels[rows[0]], split.unseen)
            unseen = top1(clf, paths[rows[0]], labels[rows[0]], everything)
            seen = top1(clf, paths[rows[1]], labels[rows[1]], everything)
            row = [zsl, seen, unseen, harmonic_mean(seen, unseen)]
            results[method].append(row)
            report = clf.fine_tuning_
            used += bool(settings and report.used)
            print(f"split {seed} {method}: {np.round(row, 3)} {seconds:.0f} s {report}",
                  flush=True)  # fmt: skip
    lines = []
    frozen = np.array(results["frozen"])
    for method, values in results.items():
        lines.append([method, *map(mean_and_spread, np.transpose(values))])
    for method in list(methods)[1:]:
        difference = np.array(results[method]) - frozen
        cells = [
            f"{d.mean():+.3f} ({', '.join(f'{v:+.3f}' for v in d)})"
            for d in difference.T
        ]
        lines.append([f"{method}: difference, by split", *cells])
    chance = [1 / n_unseen, *[1 / len(everything)] * 3]
    lines.append(["chance", *(f"{value:.3f}" for value in chance)])
    return (
        f"### {name}\n\n{markdown_table(['method', *METRICS], lines)}\n\n"
        f"{len(labels)} images, "
        f"{len(everything) - n_unseen} seen and {n_unseen} unseen classes, {n_splits} "
        f"splits; mean per-class accuracy +- standard deviation over splits. The check "
        f"kept the tuned layers in {used} of {n_splits} splits."
    )


def choose(key: str, n_splits: int) -> None:
    """Print, for each setting, the accuracy on held-out seen classes."""
    name, backbone, paths, labels, vectors = load_task(key)
    print(f"{name}: top-1 on held-out seen classes, by split; no check, 5 epochs")
    settings = [None, *(replace(s, validation_fraction=0, epochs=5) for s in GRID)]
    for setting in settings:
        values = []
        for seed, split in enumerate(zero_shot_splits(labels, n_splits)):
            is_seen = np.isin(labels, split.seen)  # the test classes are put away
            X, y = paths[is_seen], labels[is_seen]
            train, held_out = hold_out_classes(y, 0.25, seed)
            fold = np.isin(y, train)
            clf = fit(backbone, vectors, X[fold], y[fold], setting, seed)
            values.append(top1(clf, X[~fold], y[~fold], held_out))
        what = setting and f"layers={setting.layers}, rate={setting.learning_rate}"
        print(f"{what or 'frozen'}: {np.mean(values):.3f} {np.round(values, 3)}",
              flush=True)  # fmt: skip


def main() -> None:
    """Print the tables, and write them to the page when asked to."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--task", choices=[*TASKS], action="append")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--choose", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    sections = []
    for key in arguments.task or list(TASKS):
        if arguments.choose:
            choose(key, arguments.splits)
        else:
            sections.append(measure(key, arguments.splits, FineTuning()))
            print(f"\n{sections[-1]}\n", flush=True)
    if arguments.write and sections:
        write_page(PAGE, "\n\n".join(sections), below=MARKS[0], until=MARKS[1])


if __name__ == "__main__":
    main()
