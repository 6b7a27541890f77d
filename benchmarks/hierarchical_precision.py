"""Flat and hierarchical precision of DeViSE beside those of a softmax classifier.

Made for `zero_shot_accuracy.py`, which prints both. Beside what `zeroshot evaluate
--hierarchy` measures: seen classes among themselves, as in the paper's table 1, and
unseen ones among themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import markdown_table, mean_and_spread

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.evaluation.baselines import softmax_baseline
from zeroshot.evaluation.hierarchical_precision import CUTOFFS, precisions
from zeroshot.hierarchy import Hierarchy
from zeroshot.metrics import hit_at_k
from zeroshot.splits import zero_shot_splits

FLAT = (1, 2, 5, 10)
N_SPLITS = 5

Rows = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Setting:
    """Images with labels that are nodes of a hierarchy."""

    features: NDArray[np.float32]
    labels: NDArray[Any]
    tree: Hierarchy
    embeddings: TextEmbeddings


def compare(setting: Setting) -> tuple[Rows, Rows]:
    """Return for each method the precisions of every split: seen and unseen images."""
    of_seen: Rows = {}
    of_unseen: Rows = {}
    X, y = setting.features, setting.labels
    for number, split in enumerate(zero_shot_splits(y, N_SPLITS)):
        labels = [*split.seen.tolist(), *split.unseen.tolist()]
        n_seen = len(split.seen)
        hops = setting.tree.hops(labels, labels)
        column = {label: j for j, label in enumerate(labels)}
        test = np.concatenate([split.seen_test, split.unseen_test])
        truth = np.array([column[label] for label in y[test].tolist()])
        is_seen = np.arange(len(test)) < len(split.seen_test)
        X_train, y_train = X[split.train], y[split.train]
        scores = {"softmax": softmax_baseline(X_train, y_train, X[test])}
        for name, vectors in (
            ("devise", setting.embeddings),
            (
                "devise, random vectors",
                RandomEmbeddings(setting.embeddings.dim, seed=number),
            ),
        ):
            classifier = ZeroShotClassifier(
                None, vectors, projection="devise", random_state=number
            ).fit(X_train, y_train)
            scores[name] = classifier.decision_function(X[test], labels)
        for name, all_scores in scores.items():
            ours = all_scores[is_seen][:, :n_seen]
            own = truth[is_seen]
            row = [hit_at_k(ours, own, k).mean() for k in FLAT]
            row += _near(ours, own, hops[:n_seen, :n_seen])
            of_seen.setdefault(name, []).append(row)
            theirs, own = all_scores[~is_seen], truth[~is_seen]
            row = _near(theirs, own, hops)
            of_unseen.setdefault(name, []).append(row)
            if all_scores.shape[1] > n_seen:
                row = _near(theirs[:, n_seen:], own, hops, n_seen)
                among = f"{name}, unseen candidates only"
                of_unseen.setdefault(among, []).append(row)
    return of_seen, of_unseen


def _near(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.intp],
    hops: NDArray[np.float64],
    first: int = 0,
) -> list[float]:
    """Return hierarchical precision at each k; the scores' columns begin at first."""
    columns = np.arange(scores.shape[1]) + first
    means: list[float] = precisions(scores, columns, truth, hops).mean(axis=0).tolist()
    return means


def table(rows: Rows, titles: list[str]) -> str:
    """Return mean and spread over splits in Markdown."""
    return markdown_table(
        ["method", *titles],
        [
            [name, *map(mean_and_spread, np.transpose(values))]
            for name, values in rows.items()
        ],
    )


def report(setting: Setting) -> str:
    """Return both tables, with what the paper found and whether it is so here."""
    of_seen, of_unseen = compare(setting)
    near = [f"hp@{k}" for k in CUTOFFS]
    flat = [f"hit@{k}" for k in FLAT]
    means = {
        kind: {name: np.mean(values, axis=0) for name, values in rows.items()}
        for kind, rows in (("seen", of_seen), ("unseen", of_unseen))
    }
    seen, unseen = means["seen"], means["unseen"]
    at5, at20 = len(FLAT) + CUTOFFS.index(5), len(FLAT) + CUTOFFS.index(20)
    return "\n".join(
        [
            "Test images of seen classes, candidates the seen classes (the paper's "
            "table 1):\n",
            table(of_seen, flat + near),
            "",
            "Images of unseen classes (its table 3). The softmax classifier can name "
            "seen classes only; correct lists are made of all classes:\n",
            table(of_unseen, near),
            "",
            "The paper found DeViSE a little worse than the softmax classifier flat, "
            "and better in hierarchical precision from k = 5. Here, on seen classes: "
            f"flat hit@1 {seen['devise'][0]:.3f} against {seen['softmax'][0]:.3f}, "
            f"hp@5 {seen['devise'][at5]:.3f} against {seen['softmax'][at5]:.3f}, "
            f"hp@20 {seen['devise'][at20]:.3f} against {seen['softmax'][at20]:.3f}. "
            "On unseen classes, with all candidates: hp@5 "
            f"{unseen['devise'][2]:.3f} against {unseen['softmax'][2]:.3f}, hp@20 "
            f"{unseen['devise'][4]:.3f} against {unseen['softmax'][4]:.3f}.",
        ]
    )
