"""The field's protocol: unseen classes alone, and mixed with the seen ones.

Accuracies are means over classes [1]_. In zero-shot learning (ZSL) the candidates are
the unseen classes; in generalised zero-shot learning (GZSL) they are the seen and the
unseen ones together, and what counts is the harmonic mean H of both accuracies.

References
----------
.. [1] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
   Bad and the Ugly", TPAMI 2018, section 4.
"""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from zeroshot import registry
from zeroshot.backbones.base import (
    Backbone,
    ClassifierHead,
    SupportsExactCounterpart,
    card_of,
)
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.defaults import BACKBONE
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.embeddings.random import RandomEmbeddings
from zeroshot.errors import LabelError, OutOfVocabularyError
from zeroshot.evaluation.baselines import chance_metrics, softmax_metrics
from zeroshot.evaluation.result import Evaluation
from zeroshot.evaluation.scored_split import ScoredSplit, score_split
from zeroshot.features.block import Features, OnError
from zeroshot.features.visual_input import VisualInput
from zeroshot.hierarchy import Hierarchy
from zeroshot.labels.candidates import as_label_array
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.templates import Templates, effective_templates, with_templates
from zeroshot.progress import progress_bar
from zeroshot.projections.base import Projection
from zeroshot.saving.fitted import Fitted
from zeroshot.splits import ZeroShotSplit, zero_shot_splits
from zeroshot.training.pretrained import (
    PretrainedSetting,
    dense_head,
    seen_in_pretraining,
    warn_if_seen_in_pretraining,
    without_classes,
)
from zeroshot.training.targets import check_targets
from zeroshot.warning import quietly

__all__ = ["evaluate", "evaluate_model"]

CONTROLS = ("ridge", "random", "softmax", "images", "unmasked")
SOFTMAX = "softmax, seen classes"

Results = dict[str, dict[str, list[float]]]


def evaluate(
    images: Any,
    labels: Sequence[Any] | NDArray[Any],
    backbone: str | Backbone | None = BACKBONE,
    embeddings: str | Path | TextEmbeddings | None = None,
    *,
    estimator: ZeroShotClassifier | None = None,
    projection: str | Projection = "devise",
    pretrained_classes: PretrainedSetting = "auto",
    adapt: bool = False,
    seen_penalty: float | Literal["auto"] = 0.0,
    temperature: float | Literal["auto"] | None = None,
    reject: float | str | None = None,
    hub_correction: float | None = None,
    templates: Templates = None,
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

    Classes that the backbone was trained on take part as in `ZeroShotClassifier`, but
    for those that a split holds out: these are masked, by any of their names and, where
    a hierarchy is given, with all that is a kind of them. The network itself has been
    trained on them still.

    Parameters
    ----------
    images : images, or array of shape (n, dim_visual)
        As in `ZeroShotClassifier.fit`.
    labels : array-like of shape (n,)
        Label of each image.
    backbone, embeddings : str, Path, Backbone, TextEmbeddings or None
        As for `ZeroShotClassifier`.
    estimator : ZeroShotClassifier, optional
        What to evaluate, instead of one made of ``backbone``, ``embeddings``,
        ``projection``, ``pretrained_classes``, ``seen_penalty``, ``temperature``,
        ``reject``, ``hub_correction``, ``templates``, ``batch_size``, ``cache`` and
        ``on_error``, which then have no effect. Not changed; whether it is fitted does
        not matter.
    projection : str or Projection, default="devise"
        What to evaluate.
    pretrained_classes : "auto", mapping, ClassifierHead or None, default="auto"
        As for `ZeroShotClassifier`.
    adapt : bool, default=False
        Judge the test images of a split together, as `ZeroShotClassifier.predict` does
        with ``adapt=True``. Of all methods.
    seen_penalty, temperature, reject, hub_correction : float, str or None
        As for `ZeroShotClassifier`; ``"auto"`` is fitted on the seen classes of each
        split. Of all methods.
    templates : str, list of str or None, default=None
        As for `ZeroShotClassifier`; the random vectors have none.
    n_splits : int, default=5
        Splits to average over, see `zeroshot.splits.zero_shot_splits`.
    unseen : float, default=0.2
        Share of the classes held out, in (0, 1).
    seen_test : float, default=0.2
        Share of each seen class's images kept for testing, in (0, 1).
    splits : sequence of ZeroShotSplit, optional
        Use these, of positions in ``images``, and make none: published ones, such as
        those of `zeroshot.proposed_splits.load_proposed_split`.
    controls : collection of {"ridge", "random", "softmax", "images", "unmasked"}
        Yardsticks beside the method and chance: ridge regression on the images alone,
        the same projection with random vectors for the labels, and a softmax classifier
        of the seen classes (`zeroshot.evaluation.baselines.softmax_baseline`; slow);
        the method without the backbone's own classes, and with all of them, also those
        of the test labels. Default: the first two.
    hierarchy : Hierarchy, optional
        WordNet or a tree of your own that has a node for every label: adds the DeViSE
        paper's hierarchical precision@k, which also credits guesses near the truth.
    random_state : int, default=0
        Seed of splits, training and control.
    on_unknown : {"raise", "skip"}, default="raise"
        What to do about classes that have no word vector: raise, or leave them out and
        say so in the report.
    batch_size, cache : int and bool
        As for `ZeroShotClassifier`.
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
        estimator = ZeroShotClassifier(
            backbone,
            embeddings,
            projection=projection,
            pretrained_classes=pretrained_classes,
            seen_penalty=seen_penalty,
            temperature=temperature,
            reject=reject,
            hub_correction=hub_correction,
            templates=templates,
            batch_size=batch_size,
            cache=cache,
            on_error=on_error,
        )
    network, provider = registry.resolve_pair(estimator.backbone, estimator.embeddings)
    provider = with_templates(provider, estimator.templates)
    chosen = registry.resolve_projection(estimator.projection)
    y = check_targets(labels)
    classes = np.unique(y).tolist()
    left_out = _unknown_classes(classes, provider, on_unknown)
    if hierarchy is not None:  # before any image is read
        hierarchy.find([label for label in classes if label not in left_out])
    warn_if_seen_in_pretraining(network, classes)
    visual = _listed(images, network, len(y), estimator.on_error)
    # Skipped ones go below: splits that are given count them.
    on_bad: OnError = "raise" if estimator.on_error == "raise" else "nan"
    features = _read(visual, estimator, on_bad)
    matrix, exact, sources = features.matrix, None, visual.shown
    if isinstance(network, SupportsExactCounterpart) and visual.images is not None:
        counterpart = VisualInput.of(visual.images, network.exact)
        exact = _read(counterpart, estimator, on_bad).matrix
    kept = ~np.isin(y, left_out)
    if estimator.on_error == "skip":
        kept &= np.isfinite(matrix).all(axis=1)
    if splits is None:
        rows = np.flatnonzero(kept)
        y, matrix, sources = y[rows], matrix[rows], _shown(sources, rows)
        exact = None if exact is None else exact[rows]
        made = zero_shot_splits(
            y, n_splits, unseen=unseen, seen_test=seen_test, random_state=random_state
        )
        splits = list(made)
    else:
        splits = [_without(split, left_out, kept) for split in splits]
    head = _head(estimator, network, sources, matrix)
    methods = _methods(chosen, provider, matrix, exact, controls, random_state)
    in_pretraining = seen_in_pretraining(network, np.unique(y).tolist())
    results, scored, masked = _measured(
        estimator,
        methods,
        y,
        splits,
        hierarchy,
        random_state,
        head=head,
        in_pretraining=in_pretraining,
        adapt=adapt,
        softmax="softmax" in controls,
    )
    settings = _settings(
        *(network, provider, chosen, y, splits[0], features, hierarchy),
        estimator.templates,
    )
    settings |= {
        "n_splits": len(splits),
        "random_state": random_state,
        "left_out": left_out,
        "adapted": adapt,
        "pretrained_classes": 0 if head is None else len(head.class_names),
        "masked": masked,
    }
    if exact is not None:
        settings["cosine_to_exact"] = _cosines(matrix, exact)
    return Evaluation(results, settings, scored, sources)


class _Method(NamedTuple):
    """What is trained in each split, on features (n, dim_visual) of all images."""

    projection: str | Projection
    embeddings: TextEmbeddings
    features: NDArray[np.float32]
    pretrained: Literal["masked", "all", "none"] = "masked"


def _methods(
    projection: Projection,
    embeddings: TextEmbeddings,
    features: NDArray[np.float32],
    exact: NDArray[np.float32] | None,
    controls: Collection[str],
    random_state: int,
) -> dict[str, _Method]:
    """Return what is compared, by name: what is evaluated, then its yardsticks."""
    kind = type(projection)
    name = registry.name_of("projections", kind) or kind.__name__
    methods = {name: _Method(projection, embeddings, features)}
    if exact is not None:
        methods[f"{name}, exact features"] = _Method(projection, embeddings, exact)
    if "ridge" in controls and name != "ridge":
        methods["ridge"] = _Method("ridge", embeddings, features, "none")
    if "random" in controls:
        control = RandomEmbeddings(embeddings.dim, seed=random_state)
        methods[f"{name}, random vectors"] = _Method(projection, control, features)
    if "images" in controls:
        key = f"{name}, images alone"
        methods[key] = _Method(projection, embeddings, features, "none")
    if "unmasked" in controls:
        key = f"{name}, not masked"
        methods[key] = _Method(projection, embeddings, features, "all")
    return methods


def _head(
    estimator: ZeroShotClassifier,
    backbone: Backbone | None,
    sources: Sequence[Any] | None,
    features: NDArray[np.float32],
) -> ClassifierHead | None:
    """Return the backbone's own classifier, where its classes take part.

    Of one that is no dense layer the rows are learnt from all images: from its logits,
    not from labels.
    """
    images = None
    if sources is not None:
        rows = np.flatnonzero(np.isfinite(features).all(axis=1))
        images = ([sources[i] for i in rows.tolist()], features[rows])
    return dense_head(estimator.pretrained_classes, backbone, images)


def _measured(
    estimator: ZeroShotClassifier,
    methods: dict[str, _Method],
    y: NDArray[Any],
    splits: Sequence[ZeroShotSplit],
    hierarchy: Hierarchy | None,
    random_state: int,
    *,
    head: ClassifierHead | None,
    in_pretraining: Sequence[Any],
    adapt: bool,
    softmax: bool,
) -> tuple[Results, ScoredSplit, list[int]]:
    """Train and test every method in every split.

    Returns the figures of all, chance last, the scores of the first method in the first
    split, and how many of the backbone's classes were masked in each. A softmax
    classifier has the features of the first method.
    """
    masked = []
    rows = [*methods, *([SOFTMAX] if softmax else []), "chance"]
    results: Results = {name: {} for name in rows}
    matrix = next(iter(methods.values())).features
    readable = np.asarray(np.isfinite(matrix).all(axis=1))
    first = None
    # What is doubtful about the labels was said once, of all of them.
    with (
        progress_bar("splits", len(splits) * len(methods)) as advance,
        quietly(),
    ):
        for number, split in enumerate(splits):
            train, hops = split.train[readable[split.train]], _hops(hierarchy, split)
            heads: dict[str, ClassifierHead | None] = {"all": head, "none": None}
            heads["masked"], gone = None, 0
            if head is not None:
                held_out = split.unseen.tolist()
                heads["masked"], gone = without_classes(head, held_out, hierarchy)
            masked.append(gone)
            for name, (projection, embeddings, X, pretrained) in methods.items():
                classifier = clone(estimator).set_params(
                    backbone=None,
                    embeddings=embeddings,
                    projection=projection,
                    pretrained_classes=heads[pretrained],
                    candidate_labels=None,
                    templates=None,  # `embeddings` has them within
                    fine_tune=None,
                    random_state=random_state + number,
                )
                classifier.fit(X[train], y[train])
                scored = score_split(classifier, X, y, split, hops, adapt=adapt)
                first = first or scored
                found = scored.metrics()
                if in_pretraining:
                    found |= scored.by_pretraining(in_pretraining)
                _append(results[name], found)
                advance(1, name)
            if softmax:
                _append(results[SOFTMAX], softmax_metrics(matrix, y, train, scored))
            _append(results["chance"], chance_metrics(scored))
    assert first is not None
    return results, first, masked


def evaluate_model(
    classifier: ZeroShotClassifier,
    images: Any,
    labels: Sequence[Any] | NDArray[Any],
    *,
    hierarchy: Hierarchy | None = None,
    adapt: bool = False,
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
    adapt : bool, default=False
        As for `evaluate`.

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
    hops = _hops(hierarchy, split)
    scored = score_split(classifier, features.matrix, y, split, hops, adapt=adapt)
    results: Results = {"model": {}, "chance": {}}
    _append(results["model"], scored.metrics())
    _append(results["chance"], chance_metrics(scored))
    settings = _settings(
        *(backbone, fitted.embeddings, fitted.projection, y, split, features),
        hierarchy,
        classifier.templates,
    )
    settings["adapted"] = adapt
    sources = _shown(visual.shown, features.positions)
    return Evaluation(results, settings, scored, sources)


def _hops(
    hierarchy: Hierarchy | None, split: ZeroShotSplit
) -> NDArray[np.float64] | None:
    labels = [*split.seen.tolist(), *split.unseen.tolist()]
    return None if hierarchy is None else hierarchy.hops(labels, labels)


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


def _shown(
    sources: Sequence[Any] | None, rows: NDArray[np.intp]
) -> Sequence[Any] | None:
    return None if sources is None else [sources[i] for i in rows.tolist()]


def _cosines(
    features: NDArray[np.float32], exact: NDArray[np.float32]
) -> dict[str, float]:
    readable = np.isfinite(features).all(axis=1)
    features, exact = features[readable], exact[readable]
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = np.einsum("ij,ij->i", features, exact) / np.maximum(lengths, 1e-30)
    return {"mean": float(cosines.mean()), "lowest": float(cosines.min())}


def _unknown_classes(
    classes: list[Any], embeddings: TextEmbeddings, on_unknown: str
) -> list[Any]:
    """Return the classes without a word vector, or raise where that is asked for."""
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
    projection: Projection,
    y: NDArray[Any],
    split: ZeroShotSplit,
    features: Features,
    hierarchy: Hierarchy | None,
    templates: Templates,
) -> dict[str, Any]:
    """Return what is said of an evaluation in one split that left nothing out."""
    settings = {
        "backbone": "given" if backbone is None else backbone.name,
        "backbone_fingerprint": None if backbone is None else backbone.fingerprint,
        "pretraining": "" if backbone is None else card_of(backbone).pretraining,
        # Not the whole path: tables are shown to others.
        "embeddings": Path(registry.spec_of(embeddings) or embeddings.name).name,
        "embeddings_fingerprint": embeddings.fingerprint,
        "templates": effective_templates(embeddings, templates),
        "n_images": len(y),
        "n_seen": len(split.seen),
        "n_unseen": len(split.unseen),
        "versions": {name: version(name) for name in ("zeroshot", "tensorflow")},
        "projection": repr(projection),
        "n_splits": 1,
        "random_state": None,
        "left_out": [],
        "unreadable": list(features.errors.values()),
    }
    if hierarchy is not None:
        settings["hierarchy_nodes"] = len(hierarchy.nodes)
    return settings


def _append(results: dict[str, list[float]], values: dict[str, float]) -> None:
    for metric, value in values.items():
        results.setdefault(metric, []).append(value)
