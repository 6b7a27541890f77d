"""Accuracy on unseen classes of real photographs, with real word vectors.

Five seeded, class-disjoint splits of Tiny-ImageNet (128 px) and of the Caltech classes,
in two word spaces: every registered projection and the variants of DeViSE beside plain
ridge, the softmax classifier of the seen classes, random vectors and chance; then the
hierarchical precision of DeViSE beside that of the softmax classifier.

    ZEROSHOT_DATA=... python benchmarks/zero_shot_accuracy.py

With ``--write`` the tables go into results/zero_shot_accuracy.md too; ``--caltech``
leaves the larger task out.
"""

import warnings
from inspect import signature
from pathlib import Path
from typing import Any, Self

import numpy as np
from hierarchical_precision import Setting, report
from numpy.typing import NDArray
from pages import RESULTS, new_parser, write_page
from real_tasks import Task, real_data, real_tasks, without_vector
from sklearn import linear_model
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize

from zeroshot import evaluate, registry
from zeroshot.datasets import read_class_names
from zeroshot.embeddings import Attributes
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import ZeroShotWarning
from zeroshot.evaluation import Evaluation
from zeroshot.hierarchy import Hierarchy
from zeroshot.projections import DeViSE
from zeroshot.projections.base import learns_from_pretrained

PAGE = RESULTS / "zero_shot_accuracy.md"
MARK = "<!-- Below: written by benchmarks/zero_shot_accuracy.py -->"
VARIANTS = {
    "devise, first violator": DeViSE(negatives="first-violator", visual_weight=0),
    "devise, cosine loss": DeViSE(loss="cosine", visual_weight=0),
    "devise, Keras write-up": DeViSE(
        loss="cosine",
        hidden=(1024,),
        dropout=0.3,
        learning_rate=0.0003,
        batch_size=128,
        patience=10,
        visual_weight=0,
    ),
    "devise, M alone": DeViSE(visual_weight=0),
}
TRAINED = ("ale", "sje")
N_SPLITS = 5
DEFAULT = signature(evaluate).parameters["projection"].default


class PlainRidge(BaseEstimator):
    """scikit-learn's Ridge on features of unit length, neither centred nor tuned."""

    def fit(
        self, X: NDArray[Any], y: NDArray[Any], *, class_embeddings: NDArray[Any]
    ) -> Self:
        """Regress the label vectors on the features."""
        self.ridge_ = linear_model.Ridge(alpha=1.0)
        self.ridge_.fit(normalize(X), class_embeddings[y])
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return the predicted vectors."""
        points: NDArray[np.float32] = self.ridge_.predict(normalize(X))
        return points.astype(np.float32)


def wiki2vec(folder: Path) -> Attributes:
    """Return the Wikipedia2Vec vectors of ImageNet's classes, by each of their names.

    Names that two classes have ("crane") are left out.
    """
    with np.load(folder / "vectors" / "wiki2vec-imagenet1k-300d.npz") as file:
        vectors, classes = file["class_vectors"], file["class_names"].tolist()
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(classes):
        names = [name.replace("_", " ") for name in text.split(",")]
        for name in dict.fromkeys([*names, ", ".join(names)]):
            rows.setdefault(name, []).append(row)
    known = {name: found[0] for name, found in rows.items() if len(found) == 1}
    return Attributes(list(known), vectors[list(known.values())])


def measure(
    task: Task, embeddings: TextEmbeddings, space: str, *, whole: bool, trained: bool
) -> Evaluation:
    """Evaluate the projections in the same splits, alone and as a batch.

    ``whole``: all of them and the variants of DeViSE; else the default and ESZSL.
    ``trained``: those too that are trained by gradient steps in TensorFlow.
    """
    names = [DEFAULT, *registry.names("projections")] if whole else [DEFAULT, "eszsl"]
    if not trained:
        names = [name for name in names if name not in TRAINED]
    projections: dict[str, Any] = {name: name for name in dict.fromkeys(names)}
    if whole:
        variants = {} if not trained else VARIANTS
        projections |= variants | {"plain ridge": PlainRidge()}
    results: dict[str, dict[str, list[float]]] = {}
    beside: dict[str, dict[str, list[float]]] = {}
    for method, projection in projections.items():
        is_plain = method == "plain ridge"
        learns = not is_plain and learns_from_pretrained(
            registry.resolve_projection(projection)
        )
        for adapt in (False, True):
            # Those that are trained by steps take minutes, and gain as the others do.
            if adapt and method in (*VARIANTS, "plain ridge", *TRAINED):
                continue
            controls = ["images"] if learns else []
            if method == DEFAULT:
                controls += ["random", "unmasked", *([] if adapt else ["softmax"])]
            evaluation = evaluate(
                task.features,
                task.labels,
                task.backbone,
                embeddings,
                projection=projection,
                # Plain is plain: cosines, without what the defaults add.
                hub_correction=0.0 if is_plain else None,
                n_splits=N_SPLITS,
                on_unknown="skip",
                controls=controls,
                adapt=adapt,
            )
            together = ", whole batch" if adapt else ""
            first, *others = evaluation.results.items()
            results[f"{method}{together}"] = first[1]
            for name, figures in others:
                if name.endswith("images alone"):
                    results[f"{method}, images alone{together}"] = figures
                elif not (adapt and name == "chance"):
                    beside[f"{name}{together}"] = figures
            if not adapt and method == DEFAULT:
                described = evaluation.settings
    beside["chance"] = beside.pop("chance")  # the controls and chance stand last
    return Evaluation(results | beside, described | {"embeddings": space})


def _covered(task: Task, embeddings: TextEmbeddings) -> str:
    n = len(np.unique(task.labels))
    return f"{n - len(without_vector(task.labels, embeddings))} of {n}"


def main() -> None:
    """Print the tables, and write them to the page when asked to."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--caltech", action="store_true", help="the smaller task only")
    parser.add_argument(
        "--trained", action="store_true", help="SJE, ALE and losses of DeViSE too: slow"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    folder = real_data()
    sections: list[str] = []

    def say(text: str) -> None:
        sections.append(text + "\n")
        print(sections[-1], flush=True)

    tasks = real_tasks()
    for task in tasks[arguments.caltech :]:
        numberbatch = registry.resolve_embeddings(task.vectors)
        for name, embeddings in (
            ("Numberbatch", numberbatch),
            ("Wikipedia2Vec", wiki2vec(folder)),
        ):
            whole = name == "Numberbatch"
            evaluation = measure(
                task, embeddings, name, whole=whole, trained=arguments.trained
            )
            say(
                f"## {task.name}, {name}\n\n{_covered(task, embeddings)} classes have "
                f"a vector.\n\n{evaluation}\n\n{_against_plain_ridge(evaluation)}"
            )
    if not arguments.caltech:
        say(f"## Hierarchical precision\n\n{_hierarchical(tasks[0], folder)}")
    if arguments.write:
        write_page(PAGE, "\n".join(sections), below=MARK)


def _against_plain_ridge(evaluation: Evaluation) -> str:
    top1 = {row["method"]: row["unseen_top1"] for row in evaluation.rows}
    if "plain ridge" not in top1:
        return ""
    return (
        f"ZSL top-1 of the default settings ({DEFAULT}) is "
        f"{top1[DEFAULT] / top1['plain ridge']:.2f} times that of plain ridge."
    )


def _hierarchical(task: Task, folder: Path) -> str:
    """Compare on Tiny-ImageNet, whose classes are nodes of WordNet."""
    setting = Setting(
        *task.known(),
        Hierarchy.from_wordnet(folder / "hierarchy").with_labels(
            read_class_names(
                folder / "images" / "tiny-imagenet-val" / "class_names.tsv"
            )
        ),
        registry.resolve_embeddings(task.vectors),
    )
    return f"{task.name}, Numberbatch, {N_SPLITS} splits.\n\n{report(setting)}"


if __name__ == "__main__":
    main()
