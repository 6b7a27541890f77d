"""What scores mean on real data: penalty, probabilities, rejection, no images at all.

Seeded, class-disjoint splits of the Caltech classes and of Tiny-ImageNet (128 px): the
first five, and all thirty. Everything that is "auto" is fitted on folds of the seen
classes, within `fit`; the unseen classes only measure it.

    ZEROSHOT_DATA=... python benchmarks/scores.py

With ``--write`` the tables go into results/scores.md too; ``--projection ridge``
measures another projection than the default.
"""

import re
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page
from real_tasks import Task, real_tasks
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zeroshot import ZeroShotClassifier
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.embeddings import open_vectors
from zeroshot.errors import ZeroShotWarning
from zeroshot.metrics import (
    harmonic_mean,
    hit_at_k,
    per_class_accuracy,
    rejection_curve,
    reliability_bins,
)
from zeroshot.splits import ZeroShotSplit, zero_shot_splits

N_SPLITS, FEW_SPLITS = 30, 5
# A fit with "auto" trains 16 times: of the larger task, a minute for each split, so
# that thirty take most of an hour. Take these away for all.
FEWER = {"Tiny-ImageNet, 128 px": 5}
RATES = (0.05, 0.1, 0.2)
PENALTIES = np.linspace(0, 1, 201)  # tried with hindsight
PAGE = RESULTS / "scores.md"
MARK = "<!-- Below: written by benchmarks/scores.py -->"
# ImageNet's "cock": a synonym that no rule on names finds.
SYNONYMS = {"rooster"}


def measure(task: Task, projection: Any) -> dict[str, list[float]]:
    """Return every figure, with one value for each split."""
    provider = open_vectors(task.vectors)
    X, y = task.known()
    figures: dict[str, list[float]] = defaultdict(list)
    n = FEWER.get(task.name, N_SPLITS)
    for seed, split in enumerate(zero_shot_splits(y, n)):
        parameters = {} if projection is None else {"projection": projection}
        classifier = ZeroShotClassifier(
            None,
            provider,
            **parameters,
            pretrained_classes=task.masked(split.unseen),
            seen_penalty="auto",
            temperature="auto",
            reject="auto",
            random_state=seed,
        ).fit(X[split.train], y[split.train])
        for name, value in {
            **generalised(classifier, X, y, split),
            **probabilities(classifier, X, y, split),
            **rejection(classifier, X, y, split, seed),
        }.items():
            figures[name].append(value)
    return figures


def generalised(
    classifier: ZeroShotClassifier, X: Any, y: Any, split: ZeroShotSplit
) -> dict[str, float]:
    """Return S, U and H with and without the penalty, and the best in hindsight."""
    tests = np.concatenate([split.seen_test, split.unseen_test])
    X, y = X[tests], y[tests]
    sides = []
    for labels, penalty in (
        (split.seen, classifier.seen_penalty_),
        (split.unseen, 0.0),
    ):
        scores = classifier.decision_function(X, labels.tolist())
        right = labels[scores.argmax(axis=1)] == y
        sides.append((right, scores.max(axis=1) + penalty))
    (right_seen, best_seen), (right_unseen, best_unseen) = sides
    is_seen = np.isin(y, split.seen)

    def accuracies(penalty: float) -> tuple[float, float, float]:
        seen_wins = best_seen - penalty >= best_unseen
        right = np.where(seen_wins, right_seen, right_unseen)
        seen, unseen = (
            per_class_accuracy(y[part], right[part]) for part in (is_seen, ~is_seen)
        )
        return seen, unseen, harmonic_mean(seen, unseen)

    seen, unseen, h = accuracies(classifier.seen_penalty_)
    return {
        "H, no penalty": accuracies(0.0)[2],
        'H, `seen_penalty="auto"`': h,
        "seen accuracy with it": seen,
        "unseen accuracy with it": unseen,
        "H, best penalty in hindsight": max(accuracies(p)[2] for p in PENALTIES),
        "penalty found": classifier.seen_penalty_,
    }


def probabilities(
    classifier: ZeroShotClassifier, X: Any, y: Any, split: ZeroShotSplit
) -> dict[str, float]:
    """Return calibration errors of the predictions among the unseen classes."""
    X, y = X[split.unseen_test], y[split.unseen_test]
    errors = {}
    for name, temperature in (
        ("ECE, `temperature=None`", None),
        ('ECE, `temperature="auto"`', "auto"),
    ):
        classifier.set_params(temperature=temperature)
        p = classifier.predict_proba(X, split.unseen.tolist())
        right = split.unseen[p.argmax(axis=1)] == y
        errors[name] = reliability_bins(p.max(axis=1), right).error
    errors["temperature found"] = classifier.temperature_
    p = classifier.predict_proba(X, split.unseen.tolist(), multi_label=True)
    applies = y[:, None] == split.unseen[None, :]
    # As many labels that do not apply as labels that do.
    others = np.random.default_rng(0).choice(p[~applies], applies.sum(), replace=False)
    both = np.concatenate([p[applies], others])
    truth = np.arange(len(both)) < applies.sum()
    errors["ECE, `multi_label=True`, labels that apply to half"] = reliability_bins(
        np.maximum(both, 1 - both), (both >= 0.5) == truth
    ).error
    return errors


def rejection(
    classifier: ZeroShotClassifier, X: Any, y: Any, split: ZeroShotSplit, seed: int
) -> dict[str, float]:
    """Return how images whose label is withheld from the candidates are told apart."""
    random = np.random.default_rng(seed)
    halves = defaultdict(list)
    softmax_regression = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-3, max_iter=200)
    ).fit(np.sqrt(X[split.train]), y[split.train])
    unseen, seen = random.permutation(split.unseen), random.permutation(split.seen)
    tests = np.concatenate([split.seen_test, split.unseen_test])
    visual = softmax_regression.predict_log_proba(np.sqrt(X[tests]))
    for first in (0, 1):
        half = unseen[first::2]
        for kind, test, candidates in (
            ("all", tests, np.concatenate([half, seen[first::2]])),
            ("unseen", split.unseen_test, half),
        ):
            is_known = np.isin(y[test], candidates)
            names = candidates.tolist()
            scores = classifier.scores(X[test], names)
            statistic = classifier.standing(X[test], names)
            curve = rejection_curve(statistic, is_known)
            halves[f"AUROC, {kind}"].append(curve.auroc)
            bare = rejection_curve(scores.max(axis=1), is_known)
            halves[f"AUROC of the bare score, {kind}"].append(bare.auroc)
            listed = np.isin(split.seen, candidates)
            halves[f"AUROC fitted to the test images themselves, {kind}"].append(
                fitted_to_the_test(
                    statistic, scores, visual[np.isin(tests, test)], listed, is_known
                )
            )
            halves[f"false accepts at 95 %, {kind}"].append(
                curve.false_accepts_at(0.95)
            )
            for rate in (*RATES, "auto"):
                reject = "auto" if rate == "auto" else f"auto:{rate}"
                classifier.set_params(reject=reject)
                accepted = classifier.predict(X[test], names) != "unknown"
                halves[f"falsely accepted at `{reject}`, {kind}"].append(
                    accepted[~is_known].mean()
                )
                halves[f"rightly accepted at `{reject}`, {kind}"].append(
                    accepted[is_known].mean()
                )
    return {name: float(np.mean(values)) for name, values in halves.items()}


def fitted_to_the_test(
    statistic: Any, scores: Any, visual: Any, listed: Any, is_known: Any
) -> float:
    """Return the AUROC that a classifier trained on the test images' answers reaches.

    Not a method, and no strict limit (with few test images it falls below ours), but a
    hint of what the features hold: logistic regression, cross-validated over the test
    images, of our statistic, the best scores and, from a softmax regression over the
    seen classes (which knows nothing of words), the log probabilities of the listed and
    of the withheld ones. The roots want features >= 0, as MobileNetV2's are.
    """
    first, second = np.sort(scores, axis=1)[:, :-3:-1].T
    columns = [statistic, first, first - second, visual.max(axis=1)]
    columns += [logsumexp(scores / t, axis=1) for t in (0.05, 0.1)]
    if listed.any():
        sides = visual[:, listed], visual[:, ~listed]
        columns += [f(side, axis=1) for side in sides for f in (np.max, logsumexp)]
    answers = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        np.stack(columns, axis=1),
        is_known,
        cv=5,
        method="decision_function",
    )
    return rejection_curve(answers, is_known).auroc


def no_images(task: Task) -> str:
    """Return the table of `fit_pretrained` on classes that ImageNet-1k has not."""
    provider = open_vectors(task.vectors)
    X, y = task.known()
    everything = np.unique(y).tolist()
    outside = [label for label in outside_imagenet(y) if label in set(everything)]
    header = ["no training image"]
    for which in (
        f"all {len(everything)} classes",
        f"the {len(outside)} that ImageNet-1k has not",
    ):
        header += [which, "top-5", "whole batch"]
    rows = []
    for projection in ("devise", "visual", "conse", "eszsl", "ridge"):
        classifier = ZeroShotClassifier(
            task.backbone, provider, projection=projection, random_state=0
        ).fit_pretrained()
        cells = []
        for candidates in (everything, outside):
            test = np.isin(y, candidates)
            truth = np.searchsorted(candidates, y[test])
            for k, adapt in ((1, False), (5, False), (1, True)):
                scores = classifier.scores(X[test], candidates, adapt=adapt)
                right = per_class_accuracy(truth, hit_at_k(scores, truth, k))
                cells.append(f"{right:.3f}")
        rows.append([projection, *cells])
    chance = [k / n for n in (len(everything), len(outside)) for k in (1, 5, 1)]
    rows.append(["chance", *(f"{each:.3f}" for each in chance)])
    return (
        f"{markdown_table(header, rows)}\n\nHead not masked: ImageNet-1k has many of "
        f"the classes. Those that it has not, by name: {', '.join(outside)}. Without a "
        f"word vector: {', '.join(task.without_vector)}.\n"
    )


def outside_imagenet(labels: Any) -> list[str]:
    """Return the classes of which no word is a name in ImageNet-1k."""
    names = {name.lower() for _, names in imagenet_classes() for name in names}
    outside = []
    for label in np.unique(labels).tolist():
        words = re.sub(r"[_-]", " ", label.lower())
        tried = [words, *words.split()]
        tried += [word.removesuffix("s") for word in tried]
        if label not in SYNONYMS and not names.intersection(tried):
            outside.append(label)
    return outside


def table(figures: dict[str, list[float]]) -> str:
    """Return mean and standard deviation over the splits as Markdown."""
    counts = FEW_SPLITS, len(next(iter(figures.values())))
    return markdown_table(
        ["mean of", *(f"{n} splits" for n in counts)],
        [
            [name, *(mean_and_spread(values[:n]) for n in counts)]
            for name, values in figures.items()
        ],
    )


def main() -> None:
    """Print the tables, and write them to the page when asked to."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--projection", help="instead of the default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ZeroShotWarning)
    tasks = real_tasks()[::-1]
    sections = []
    for task in tasks:
        figures = measure(task, arguments.projection)
        sections.append(f"## {task.name}\n\n{table(figures)}\n\n")
        print(sections[-1], flush=True)
    sections.append(f"## No images at all\n\n{no_images(tasks[0])}")
    print(sections[-1])
    if arguments.write:
        write_page(PAGE, "".join(sections), below=MARK)


if __name__ == "__main__":
    main()
