"""Vectors trained on one's own text: neighbours, and zero-shot accuracy they give.

Trains with the defaults on the 20 MB of old books among the real data, prints the
neighbours of ten nouns, and evaluates on the classes that these vectors and
Numberbatch both have.

    ZEROSHOT_DATA=... python benchmarks/own_vectors.py

With ``--vectors FILE`` the file is used if it is there, else trained and kept there.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import markdown_table
from real_tasks import Task, real_data, real_tasks, without_vector

from zeroshot import evaluate
from zeroshot.embeddings import TextEmbeddings, Word2Vec
from zeroshot.embeddings.base import SupportsNeighbours
from zeroshot.embeddings.training import train_vectors
from zeroshot.errors import ZeroShotWarning
from zeroshot.evaluation import Evaluation
from zeroshot.labels import embed_labels

CORPUS = Path("text") / "classic-books-20mb.txt.gz"
NOUNS = (
    "horse",
    "dog",
    "lion",
    "ship",
    "sword",
    "river",
    "church",
    "bread",
    "king",
    "laptop",
)
N_NEIGHBOURS = 5


def train(out: Path) -> None:
    """Train on the books with one worker, and say how long it took."""
    started = time.perf_counter()
    trained = train_vectors(real_data() / CORPUS, out)
    took = time.perf_counter() - started
    print(
        f"{trained.n_tokens:,} words of text, {trained.n_words:,} vectors, "
        f"{trained.n_phrases:,} of them of phrases, in {took:.0f} s.\n"
    )


def neighbours(embeddings: TextEmbeddings) -> str:
    """Return a table of the words nearest to the nouns, by cosine."""
    assert isinstance(embeddings, SupportsNeighbours)
    rows = []
    for noun in NOUNS:
        if not embeddings.lookup([noun])[1].all():
            rows.append((noun, "not in the text often enough"))
            continue
        nearest = embeddings.nearest(noun, N_NEIGHBOURS)
        named = ", ".join(f"{word} {cosine:.2f}" for word, cosine in nearest)
        rows.append((noun, named))
    return markdown_table(("noun", "nearest words, with the cosine"), rows)


def known(labels: NDArray[np.str_], embeddings: TextEmbeddings) -> set[str]:
    """Return the labels of which the embeddings have every word."""
    lacking = without_vector(labels, embeddings)
    _, report = embed_labels(np.setdiff1d(labels, lacking).tolist(), embeddings)
    return {entry.label for entry in report.entries if not entry.missing}


def compare(task: Task, own: TextEmbeddings) -> str:
    """Evaluate both files on the classes that both have."""
    files = {"own text": own, "Numberbatch": Word2Vec(task.vectors)}
    have = {name: known(task.labels, file) for name, file in files.items()}
    common = np.isin(task.labels, sorted(set.intersection(*have.values())))
    X, y = task.features[common], task.labels[common]
    results = {}
    for name, file in files.items():
        evaluation = evaluate(X, y, None, file)
        for method in ("eszsl", "ridge"):
            results[f"{method}, {name}"] = evaluation.results[method]
    results |= {"chance": evaluation.results["chance"]}
    described = {"backbone": task.backbone, "pretraining": "ImageNet-1k"}
    described |= {"embeddings": "both files of"}
    counts = ", ".join(f"{name} {len(labels)}" for name, labels in have.items())
    return (
        f"## {task.name}\n\nClasses of {len(np.unique(task.labels))} with every word: "
        f"{counts}, both {len(np.unique(y))}.\n\n"
        f"{Evaluation(results, evaluation.settings | described)}\n"
    )


def main() -> None:
    """Print the figures and the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help="a file to use or to make")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    with tempfile.TemporaryDirectory() as folder:
        vectors = arguments.vectors or Path(folder) / "books.bin"
        if not vectors.exists():
            train(vectors)
        own = Word2Vec(vectors)
        print(f"{neighbours(own)}\n", flush=True)
        for task in real_tasks():
            print(compare(task, own), flush=True)


if __name__ == "__main__":
    main()
