"""Thousands of labels: photographs among ImageNet's 2-hop, 3-hop and whole lists.

The Caltech photographs of classes that ImageNet-1k does not have by name, among all
labels of a list and their own. Nothing is trained but on the classes of MobileNetV2's
own classifier (`fit_pretrained`), as in the paper. Beside it ConSE on the same network.

    ZEROSHOT_DATA=... python benchmarks/large_label_sets.py

With ``--write`` the table goes into results/large_label_sets.md too.
"""

import time
import warnings

import numpy as np
from pages import RESULTS, markdown_table, new_parser, write_page
from real_tasks import Task, real_data, real_tasks, without_vector
from scores import outside_imagenet

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import open_vectors
from zeroshot.hierarchy import HOP_LISTS, Hierarchy, read_hop_list
from zeroshot.labels.candidates import seen_class
from zeroshot.metrics import hit_at_k, per_class_accuracy

KS = (1, 5, 20)
PAGE = RESULTS / "large_label_sets.md"
MARK = "<!-- Below: written by benchmarks/large_label_sets.py -->"
# Flat hit@1, @5 and @20 on ImageNet's own images of the same lists, in per cent.
PUBLISHED = {
    "DeViSE (Frome et al. 2013)": (
        (6.0, 18.1, 36.4),
        (1.7, 5.3, 12.5),
        (0.8, 2.5, 6.0),
    ),
    "ConSE(10) (Norouzi et al. 2014)": (
        (9.4, 24.7, 41.8),
        (2.7, 7.8, 16.1),
        (1.4, 3.9, 8.3),
    ),
}


def candidates(task: Task, name: str, own: list[str]) -> list[str]:
    """Return the labels of a list that have a vector, and our own."""
    folder = real_data() / "hierarchy"
    tree = Hierarchy.from_wordnet(folder)
    ids = [node for node in read_hop_list(folder, name) if node in set(tree.nodes)]
    names = dict.fromkeys(", ".join(tree.names(node)) for node in ids)
    unknown = set(without_vector([*names], open_vectors(task.vectors)))
    kept = [label for label in names if label not in unknown]
    return [*own, *(np.array(kept)[seen_class(kept, own) < 0].tolist())]


def measure(task: Task) -> str:
    """Return the table in Markdown."""
    X, y = task.known()
    own = outside_imagenet(y)
    rows = np.isin(y, own)
    X, truth = X[rows], np.array([own.index(label) for label in y[rows]])
    names = [name for name in HOP_LISTS if name != "1k"]
    lists = {name: candidates(task, name, own) for name in names}
    head = [f"{name}: {len(labels)} labels" for name, labels in lists.items()]
    lines = []
    for title, projection, adapt in (
        ("default (DeViSE and visual prototypes)", "devise", False),
        ("the same, whole batch", "devise", True),
        ("ConSE", "conse", False),
    ):
        classifier = ZeroShotClassifier(
            task.backbone, open_vectors(task.vectors), projection=projection
        ).fit_pretrained()
        cells = []
        for labels in lists.values():
            start = time.perf_counter()
            scores = classifier.scores(X, labels, adapt=adapt)
            seconds = time.perf_counter() - start
            hits = (
                100 * per_class_accuracy(truth, hit_at_k(scores, truth, k)) for k in KS
            )
            cells.append(
                " / ".join(f"{hit:.1f}" for hit in hits) + f" ({seconds:.1f} s)"
            )
        lines.append([title, *cells])
    for title, figures in PUBLISHED.items():
        cells = [" / ".join(map(str, each)) for each in figures]
        lines.append([f"{title}, published", *cells])
    chance = [f"{100 / len(labels):.2f}" for labels in lists.values()]
    lines.append(["chance, hit@1", *chance])
    return (
        f"{markdown_table(['hit@1 / @5 / @20, %', *head], lines)}\n\n"
        f"{len(X)} photographs of {len(own)} classes: {', '.join(own)}. Labels without "
        f"a word vector are left out. Published figures are of ImageNet's images of "
        f"the lists, with another network and other word vectors: not to be compared "
        f"digit by digit.\n"
    )


def main() -> None:
    """Print the table, and write it to the page when asked to."""
    arguments = new_parser(__doc__, PAGE).parse_args()
    warnings.simplefilter("ignore")
    text = measure(real_tasks()[1])
    print(text)
    if arguments.write:
        write_page(PAGE, text, below=MARK)


if __name__ == "__main__":
    main()
