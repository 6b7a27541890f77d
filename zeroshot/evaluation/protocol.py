"""The field's protocol: unseen classes alone, and mixed with the seen ones.

Accuracies are means over classes [1]_. In zero-shot learning (ZSL) the candidates are
the unseen classes; in generalised zero-shot learning (GZSL) they are the seen and the
unseen ones together, and what counts is the harmonic mean H of both accuracies.

References
----------
.. [1] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
   Bad and the Ugly", TPAMI 2018, section 4.
"""

import warnings
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from zeroshot import registry
from zeroshot.backbones.base import Backbone, SupportsExactCounterpart, card_of
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.random import RandomEmbeddings
from zeroshot.errors import LabelError, OutOfVocabularyError, ZeroShotWarning
from zeroshot.evaluation.baselines import softmax_baseline
from zeroshot.evaluation.hierarchical_precision import hierarchical_metrics, precisions
from zeroshot.evaluation.result import Evaluation
from zeroshot.evaluation.scored_split import (
    METRICS,
    ScoredSplit,
    chance_of,
    score_split,
)
from zeroshot.features.block import Features, OnError
from zeroshot.features.visual_input import VisualInput
from zeroshot.hierarchy import Hierarchy
from zeroshot.labels.candidates import as_label_array
from zeroshot.labels.cascade import embed_labels
from zeroshot.metrics import harmonic_mean, per_class_accuracy
from zeroshot.progress import progress_bar
from zeroshot.projections.base import Projection
from zeroshot.saving.fitted import Fitted
from zeroshot.splits import ZeroShotSplit, zero_shot_splits
from zeroshot.training.pretrained import warn_if_seen_in_pretraining
from zeroshot.training.targets import check_targets

__all__ = ["METRICS", "Evaluation", "evaluate", "evaluate_model"]

CONTROLS = ("ridge", "random", "softmax")
SOFTMAX = "softmax, seen classes"


def evaluate(
    images: Any,
    labels: Sequence[Any] | NDArray[Any],
    backbone: str | Backbone | None = None,
    embeddings: str | Path | TextEmbeddings | None = None,
    *,
    estimator: ZeroShotClassifier | None = None,
    projection: str | Projection = "eszsl",
    seen_penalty: float | Literal["auto"] = 0.0,
    temperature: float | Literal["auto"] | None = None,
    reject: float | str | None = None,
    hub_correction: float = 0.5,
    n_splits: int = 5,
    unseen: float = 0.2,
    seen_test: float = 0.2,
    splits: Sequence[ZeroShotSplit] | None = None,
    controls: Collection[str] = ("ridge", "random"),
    hierarchy: Hierarchy | None = None,
    random_state: int = 0,
    on_unknown: Literal["raise", "skip"] = "raise",
    batch_size: int = 32,
    cache: bool = True,
    on_error: OnError = "raise",
) -> Evaluation:
    """Measure how well a backbone and word vectors do on classes not trained on.

    Each split holds out classes, trains on the others and tests on both, beside three
    yardsticks: ridge regression, the same projection with random vectors for the labels
    (the control of the DeViSE paper: what it reaches without any meaning of the words),
    and chance.

    Parameters
    ----------
    images : images, or array of shape (n, dim_visual)
        As in `ZeroShotClassifier.fit`.
    labels : array-like of shape (n,)
        Label of each image.
    backbone : str, Backbone or None, default=None
        As for `ZeroShotClassifier`.
    embeddings : str, Path or TextEmbeddings
        As for `ZeroShotClassifier`; needed where there is no ``estimator``.
    estimator : ZeroShotClassifier, optional
        What to evaluate, instead of one made of ``backbone``, ``embeddings``,
        ``projection``, ``seen_penalty``, ``temperature``, ``reject``,
        ``hub_correction``, ``batch_size``, ``cache`` and ``on_error``, which then have
        no effect. Not changed; whether it is fitted does not matter.
    projection : str or Projection, default="eszsl"
        What to evaluate.
    seen_penalty, temperature, reject : float, str or None
        As for `ZeroShotClassifier`; ``"auto"`` is fitted on the seen classes of each
        split. Of all methods.
    hub_correction : float, default=0.5
        As for `ZeroShotClassifier`; 0 ranks by cosine alone.
    n_splits : int, default=5
        Splits to average over, see `zeroshot.splits.zero_shot_splits`.
    unseen : float, default=0.2
        Share of the classes held out, in (0, 1).
    seen_test : float, default=0.2
        Share of each seen class's images kept for testing, in (0, 1).
    splits : sequence of ZeroShotSplit, optional
        Use these, of positions in ``images``, and make none: published ones, such as
        those of `zeroshot.proposed_splits.load_proposed_split`.
    controls : collection of {"ridge", "random", "softmax"}
        Yardsticks beside the method and chance: ridge regression, the same projection
        with random vectors for the labels, and a softmax classifier of the seen classes
        (`zeroshot.evaluation.baselines.softmax_baseline`; slow). Default: the first
        two.
    hierarchy : Hierarchy, optional
        WordNet or a tree of your own that has a node for every label: adds the DeViSE
        paper's hierarchical precision@k, which also credits guesses near the truth.
    random_state : int, default=0
        Seed of splits, training and control.
    on_unknown : {"raise", "skip"}, default="raise"
        What to do about classes that have no word vector: raise, or leave them out and
        say so in the report.
    batch_size : int, default=32
        Images that the backbone is given at once.
    cache : bool, default=True
        Remember features on disk.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What to do about images that cannot be read: raise, leave them out, or leave
        them out of training and count them as wrong answers. A warning and
        ``settings["unreadable"]`` name them.

    Returns
    -------
    evaluation : Evaluation

    Raises
    ------
    ValueError
        If ``on_unknown`` or a control is none of the above.
    LabelError
        If there are too few classes or images for such a split, or classes of a given
        split have no word vector, or labels have no node in the hierarchy.
    OutOfVocabularyError
        If classes have no word vector, under ``on_unknown="raise"``.
    InvalidImageError, ArtifactError, UnknownPluginError
        As `ZeroShotClassifier.fit`.
    """
    if on_unknown not in ("raise", "skip"):
        raise ValueError(f"Expected on_unknown 'raise' or 'skip'. Got {on_unknown!r}.")
    if unknown := set(controls) - set(CONTROLS):
        raise ValueError(
            f"Expected controls among {', '.join(CONTROLS)}. Got {sorted(unknown)}."
        )
    if estimator is None:
        if embeddings is None:
            raise ValueError("Expected embeddings, or an estimator. Got None of both.")
        estimator = ZeroShotClassifier(
            backbone,
            embeddings,
            projection=projection,
            seen_penalty=seen_penalty,
            temperature=temperature,
            reject=reject,
            hub_correction=hub_correction,
            batch_size=batch_size,
            cache=cache,
            on_error=on_error,
        )
    on_error = estimator.on_error
    provider = registry.resolve_embeddings(estimator.embeddings)
    named = registry.resolve_projection(estimator.projection)
    network = None
    if estimator.backbone is not None:
        network = registry.resolve_backbone(estimator.backbone)
    y = check_targets(labels)
    left_out = _unknown_classes(y, provider, on_unknown)
    if hierarchy is not None:  # before any image is read
        hierarchy.find(
            [label for label in np.unique(y).tolist() if label not in left_out]
        )
    warn_if_seen_in_pretraining(network, np.unique(y).tolist())
    visual = _listed(images, network, len(y), on_error)
    sources = visual.shown
    # Skipped ones go below: splits that are given count them.
    on_bad: OnError = "raise" if on_error == "raise" else "nan"
    features = _read(visual, estimator, on_bad)
    matrix = features.matrix
    exact = None
    if isinstance(network, SupportsExactCounterpart) and visual.images is not None:
        counterpart = VisualInput.of(visual.images, network.exact)
        exact = _read(counterpart, estimator, on_bad).matrix
    kept = ~np.isin(y, left_out)
    readable = np.asarray(np.isfinite(matrix).all(axis=1))
    if on_error == "skip":
        kept &= readable
    if splits is None:
        matrix, y = matrix[kept], y[kept]
        exact = None if exact is None else exact[kept]
        if sources is not None:
            sources = [sources[i] for i in np.flatnonzero(kept).tolist()]
        readable = readable[kept]
        splits = list(
            zero_shot_splits(
                y,
                n_splits,
                unseen=unseen,
                seen_test=seen_test,
                random_state=random_state,
            )
        )
    else:
        splits = [_without(split, left_out, kept) for split in splits]
    name = registry.name_of("projections", type(named)) or type(named).__name__
    methods: dict[str, tuple[Any, TextEmbeddings, NDArray[np.float32]]] = {
        name: (named, provider, matrix)
    }
    if exact is not None:
        methods[f"{name}, exact features"] = (named, provider, exact)
    if "ridge" in controls and name != "ridge":
        methods["ridge"] = ("ridge", provider, matrix)
    if "random" in controls:
        control = RandomEmbeddings(provider.dim, seed=random_state)
        methods[f"{name}, random vectors"] = (named, control, matrix)
    rows = [*methods, *([SOFTMAX] if "softmax" in controls else []), "chance"]
    results: dict[str, dict[str, list[float]]] = {method: {} for method in rows}
    scored = None
    with (
        progress_bar("splits", len(splits) * len(methods)) as advance,
        warnings.catch_warnings(),
    ):
        # What is doubtful about the labels was said once, of all of them.
        warnings.simplefilter("ignore", ZeroShotWarning)
        for number, split in enumerate(splits):
            train = split.train[readable[split.train]]
            hops = _hops(hierarchy, split)
            for method, (method_projection, vectors, X) in methods.items():
                classifier = clone(estimator).set_params(
                    backbone=None,
                    embeddings=vectors,
                    projection=method_projection,
                    candidate_labels=None,
                    fine_tune=None,
                    random_state=random_state + number,
                )
                classifier.fit(X[train], y[train])
                answers = score_split(classifier, X, y, split, hops)
                scored = scored or answers
                _append(results[method], answers.metrics())
                advance(1, method)
            if "softmax" in controls:
                _append(results[SOFTMAX], _softmax(matrix, y, train, answers))
            _append(results["chance"], chance_of(answers))
    settings = _settings(network, provider, y, splits[0])
    settings |= {
        "projection": repr(named),
        "n_splits": len(splits),
        "random_state": random_state,
        "left_out": left_out,
        "unreadable": list(features.errors.values()),
    }
    if hierarchy is not None:
        settings["hierarchy_nodes"] = len(hierarchy.nodes)
    if exact is not None:
        settings["cosine_to_exact"] = _cosines(matrix[readable], exact[readable])
    return Evaluation(results, settings, scored, sources)


def evaluate_model(
    classifier: ZeroShotClassifier,
    images: Any,
    labels: Sequence[Any] | NDArray[Any],
    *,
    hierarchy: Hierarchy | None = None,
) -> Evaluation:
    """Measure a fitted classifier on labelled images.

    Classes that it was not trained on are the unseen ones. The images must not have
    been trained on, or the seen accuracy says nothing.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted.
    images : images, or array of shape (n, dim_visual)
        Test images.
    labels : array-like of shape (n,)
        Label of each.
    hierarchy : Hierarchy, optional
        As for `evaluate`; with a node for every class that was trained on, too.

    Returns
    -------
    evaluation : Evaluation
        One method, ``"model"``, beside chance. The generalised figures need images of
        seen and unseen classes; what cannot be measured is NaN.

    Raises
    ------
    NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
        As `ZeroShotClassifier.predict`.
    """
    check_is_fitted(classifier)
    fitted = Fitted.of(classifier)
    y = fitted.seen.named(check_targets(labels).tolist())
    if hierarchy is not None:  # before any image is read
        hierarchy.find([*dict.fromkeys([*fitted.seen_classes.tolist(), *y.tolist()])])
    backbone = fitted.backbone
    visual = _listed(
        images, backbone, len(y), classifier.on_error, fitted.backbone_fingerprint
    )
    features = _read(visual, classifier, classifier.on_error)
    y = y[features.positions]
    is_seen = np.isin(y, fitted.seen_classes.astype(object))
    unseen = sorted(dict.fromkeys(y[~is_seen].tolist()), key=lambda name: (str(name),))
    split = ZeroShotSplit(
        fitted.seen_classes,
        as_label_array(unseen),
        np.array([], dtype=np.intp),
        np.flatnonzero(is_seen),
        np.flatnonzero(~is_seen),
    )
    results: dict[str, dict[str, list[float]]] = {"model": {}, "chance": {}}
    hops = _hops(hierarchy, split)
    scored = score_split(classifier, features.matrix, y, split, hops)
    _append(results["model"], scored.metrics())
    _append(results["chance"], chance_of(scored))
    settings = _settings(backbone, fitted.embeddings, y, split)
    settings |= {
        "projection": repr(fitted.projection),
        "n_splits": 1,
        "random_state": None,
        "left_out": [],
        "unreadable": list(features.errors.values()),
    }
    if hierarchy is not None:
        settings["hierarchy_nodes"] = len(hierarchy.nodes)
    sources = visual.shown
    if sources is not None:
        sources = [sources[i] for i in features.positions.tolist()]
    return Evaluation(results, settings, scored, sources)


def _hops(
    hierarchy: Hierarchy | None, split: ZeroShotSplit
) -> NDArray[np.float64] | None:
    labels = [*split.seen.tolist(), *split.unseen.tolist()]
    return None if hierarchy is None else hierarchy.hops(labels, labels)


def _softmax(
    X: NDArray[np.float32],
    y: NDArray[Any],
    train: NDArray[np.intp],
    scored: ScoredSplit,
) -> dict[str, float]:
    """Measure the softmax classifier, wrong on every image of an unseen class.

    The images and labels are those that another method scored.
    """
    place = {label: j for j, label in enumerate(scored.labels.tolist())}
    columns = np.array([place[label] for label in np.unique(y[train]).tolist()])
    test = X[scored.positions]
    readable = np.asarray(np.isfinite(test).all(axis=1))
    probabilities = np.full((len(test), len(columns)), np.nan, dtype=np.float32)
    probabilities[readable] = softmax_baseline(X[train], y[train], test[readable])
    correct = readable & (columns[probabilities.argmax(axis=1)] == scored.truth)
    of_unseen = scored.of_unseen
    wrong = 0.0 if of_unseen.any() else np.nan
    result = dict.fromkeys(METRICS, np.nan)
    result |= dict.fromkeys(("unseen_top1", "unseen_top5", "gzsl_unseen"), wrong)
    if not of_unseen.all():
        result["gzsl_seen"] = per_class_accuracy(
            scored.truth[~of_unseen], correct[~of_unseen]
        )
    result["gzsl_h"] = harmonic_mean(result["gzsl_seen"], result["gzsl_unseen"])
    if scored.hops is not None:
        near = precisions(probabilities, columns, scored.truth, scored.hops)
        result |= hierarchical_metrics(near, of_unseen)
    return result


def _listed(
    images: Any,
    backbone: Backbone | None,
    n_labels: int,
    on_error: OnError,
    fingerprint: str | None = None,
) -> VisualInput:
    """Return images or features as something that can be read twice."""
    visual = VisualInput.of(
        images, backbone, fingerprint, listed=True, on_error=on_error
    )
    if len(visual) != n_labels:
        raise LabelError(
            f"Expected one label for each image. Got {len(visual)} images and "
            f"{n_labels} labels."
        )
    return visual


def _read(
    visual: VisualInput, estimator: ZeroShotClassifier, on_error: OnError
) -> Features:
    return visual.read(
        batch_size=estimator.batch_size, cache=estimator.cache, on_error=on_error
    )


def _cosines(
    features: NDArray[np.float32], exact: NDArray[np.float32]
) -> dict[str, float]:
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = np.einsum("ij,ij->i", features, exact) / np.maximum(lengths, 1e-30)
    return {"mean": float(cosines.mean()), "lowest": float(cosines.min())}


def _unknown_classes(
    y: NDArray[Any], embeddings: TextEmbeddings, on_unknown: str
) -> list[Any]:
    """Return the classes without a word vector, or raise where that is asked for."""
    classes = np.unique(y).tolist()
    try:
        embed_labels(classes, embeddings)
    except OutOfVocabularyError as error:
        if on_unknown == "raise" or len(error.labels) == len(classes):
            raise
        unknown = [label for label in classes if str(label) in error.labels]
        # Once more, for what there is to warn about in the others.
        embed_labels([label for label in classes if label not in unknown], embeddings)
        return unknown
    return []


def _without(
    split: ZeroShotSplit, left_out: Sequence[Any], kept: NDArray[np.bool_]
) -> ZeroShotSplit:
    """Return a given split without some of its classes; refuse if little remains."""
    parts = split.train, split.seen_test, split.unseen_test
    if any(
        part.size and not 0 <= part.min() <= part.max() < len(kept) for part in parts
    ):
        raise LabelError(
            f"Expected a split of these {len(kept)} images. Got positions beyond them. "
            f"Give the images that the split was made for, all and in order."
        )
    seen, unseen = (
        classes[~np.isin(classes, left_out)] for classes in (split.seen, split.unseen)
    )
    train, seen_test, unseen_test = (part[kept[part]] for part in parts)
    if len(seen) < 2 or len(unseen) == 0:
        raise LabelError(
            f"Expected at least 2 seen and 1 unseen class in each split. Got "
            f"{len(seen)} and {len(unseen)}, those with a word vector."
        )
    return ZeroShotSplit(seen, unseen, train, seen_test, unseen_test)


def _settings(
    backbone: Backbone | None,
    embeddings: TextEmbeddings,
    y: NDArray[Any],
    split: ZeroShotSplit,
) -> dict[str, Any]:
    return {
        "backbone": "given" if backbone is None else backbone.name,
        "backbone_fingerprint": None if backbone is None else backbone.fingerprint,
        "pretraining": "" if backbone is None else card_of(backbone).pretraining,
        # Not the whole path: tables are shown to others.
        "embeddings": Path(registry.spec_of(embeddings) or embeddings.name).name,
        "embeddings_fingerprint": embeddings.fingerprint,
        "n_images": len(y),
        "n_seen": len(split.seen),
        "n_unseen": len(split.unseen),
        "versions": {name: version(name) for name in ("zeroshot", "tensorflow")},
    }


def _append(results: dict[str, list[float]], values: dict[str, float]) -> None:
    for metric, value in values.items():
        results.setdefault(metric, []).append(value)
