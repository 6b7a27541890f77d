"""What a classifier is to scikit-learn: checked parameters, plugins, learnt state."""

import warnings
from contextlib import suppress
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from zeroshot import registry
from zeroshot.arrays import validated
from zeroshot.backbones.base import Backbone
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    FingerprintMismatchError,
    LabelError,
    ZeroShotError,
    ZeroShotWarning,
)
from zeroshot.escaping import shown
from zeroshot.features import Features, ImagePoints, VisualInput
from zeroshot.features.block import check_on_error
from zeroshot.labels import (
    Candidates,
    CandidateSet,
    PlacedCandidates,
    Templated,
    Templates,
    with_templates,
)
from zeroshot.per_process import LOADING
from zeroshot.projections.base import Projection
from zeroshot.projections.identity import Identity
from zeroshot.saving.fitted import ATTRIBUTES, Fitted
from zeroshot.scoring import FrozenLabels, Scores, ScoreSettings
from zeroshot.scoring.adaptation import LearntBatch
from zeroshot.scoring.ranking import COLUMNS
from zeroshot.storage.addresses import hide_secrets
from zeroshot.training.pretrained import PretrainedSetting, check_pretrained

__all__ = ["Embeddings", "FittedEstimator", "check_count"]

UNLEARNT = ("auto", "identity")  # projections that a joint model needs no images for

Embeddings: TypeAlias = str | Path | TextEmbeddings


class FittedEstimator(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Holds what `ZeroShotClassifier` has learnt, and answers for it.

    Attributes
    ----------
    seen_classes_, backbone_, ... : object
        The fields of `zeroshot.saving.Fitted`, set by `fit` and `load` and by nothing
        else.
    """

    # Requests by default: Pipelines pass candidate_labels on, routing on or off.
    _REQUESTS: ClassVar = {"candidate_labels": True, "embeddings": True}
    __metadata_request__predict: ClassVar = _REQUESTS | {"adapt": True}
    __metadata_request__predict_proba: ClassVar = _REQUESTS | {"adapt": True}
    __metadata_request__decision_function: ClassVar = _REQUESTS
    __metadata_request__score: ClassVar = {"candidate_labels": True}

    backbone: str | Backbone | None
    embeddings: Embeddings | None
    projection: str | Projection
    pretrained_classes: PretrainedSetting
    candidate_labels: Candidates
    templates: Templates
    hub_correction: float | None
    batch_size: int
    cache: bool
    on_error: Any

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags; points in the text space are always float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        with suppress(ZeroShotError):  # told where it is used
            tags.requires_fit = not self._is_joint()
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether the last `fit` came to its end."""
        return "n_images_" in vars(self)

    def __sklearn_clone__(self) -> Self:
        """Return a clone; clones know which classes the others were trained on."""
        copy: Self = super().__sklearn_clone__()
        # What cross-validation trains are clones of one estimator: see `_candidates`.
        copy.__dict__["_trained_on"] = self.__dict__.setdefault("_trained_on", set())
        return copy

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return scikit-learn's text, without the secrets of an address."""
        return hide_secrets(super().__repr__(N_CHAR_MAX))

    @property
    def classes_(self) -> NDArray[Any]:
        """What columns of scores stand for where a call names no candidates."""
        is_fitted = self.__sklearn_is_fitted__()
        if not is_fitted and (self.candidate_labels is None or not self._is_joint()):
            raise AttributeError(
                f"'{type(self).__name__}' has no 'classes_' before fit"
            )
        if self.candidate_labels is None:
            return self._fitted.seen_classes
        return self._candidates(None).labels

    @property
    def seen_penalty_(self) -> float:
        """Penalty in effect: the parameter's number, or what `fit` found."""
        return float(self._settings_in_effect().seen_penalty)

    @property
    def temperature_(self) -> float:
        """Temperature in effect: the parameter's, what `fit` found, or 0.1."""
        return float(self._settings_in_effect().temperature)

    @property
    def _n_features_out(self) -> int:
        return int(self._fitted.label_space.seen.shape[1])

    @property
    def _fitted(self) -> Fitted:
        fitted = Fitted.of(self) if self.__sklearn_is_fitted__() else self._unfitted()
        if fitted is None:
            check_is_fitted(self, "n_images_")  # its error
        return cast(Fitted, fitted)

    def _unfitted(self) -> Fitted | None:
        """Return what is known before any fit: of a joint model all, else None.

        The model is remembered, with the parameters that it was made of: opening it at
        each prediction would take longer than that.
        """
        given: tuple[Any, ...] = (self.backbone, self.embeddings, self.hub_correction)
        # As text: these objects may have been changed.
        given += (repr(self.projection), repr(self.templates))
        known: Any = vars(self).get("_opened")
        if known is not None and _are_same(known[0], given):
            return cast(Fitted, known[1])
        if not self._is_joint():
            return None
        with LOADING():  # of several threads one makes it
            known = vars(self).get("_opened")
            if known is None or not _are_same(known[0], given):
                self.__dict__["_opened"] = known = given, self._without_images()
        return cast("Fitted | None", known[1])

    def _without_images(self) -> Fitted | None:
        backbone, embeddings = registry.resolve_pair(self.backbone, self.embeddings)
        joint = registry.joint_model(backbone, embeddings)
        if joint is None:
            return None
        for name in self._settings().automatic:
            raise ValueError(
                f"Expected numbers: before a fit there is nothing to calibrate on. Got "
                f"{name}={getattr(self, name)!r}. Give a number, or fit on images."
            )
        spec = "identity" if _is_auto(self.projection) else self.projection
        projection = registry.suited_projection(spec, backbone, embeddings)
        provider = with_templates(embeddings, self.templates)
        return Fitted.without_images(
            joint, backbone, provider, projection, self.hub_correction
        )

    def _is_joint(self) -> bool:
        """Tell whether nothing has to be learnt; nothing is loaded for that."""
        needs_no_fit = isinstance(self.projection, Identity) or (
            isinstance(self.projection, str) and self.projection in UNLEARNT
        )
        return needs_no_fit and registry.may_be_joint(self.backbone, self.embeddings)

    def __getattr__(self, name: str) -> Any:
        """Return what a joint model knows before any fit, such as ``backbone_``."""
        if isinstance(getattr(type(self), name, None), property):
            # Its own error, such as NotFittedError, which is an AttributeError, too.
            return object.__getattribute__(self, name)
        if name in ATTRIBUTES:
            unfitted = self._unfitted()
            if unfitted is not None:
                return getattr(unfitted, name[:-1])
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: not the model that was opened before a fit."""
        state: dict[str, Any] = super().__getstate__()
        return {name: state[name] for name in state if name != "_opened"}

    def points(self, X: Any) -> ImagePoints:
        """Map images once, to be asked about many lists of labels.

        Every method that predicts takes the result instead of images.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.

        Returns
        -------
        points : ImagePoints
            ``matrix``, ``positions`` of the images of its rows, and ``errors``.

        Raises
        ------
        FingerprintMismatchError
            If X holds features of another backbone, or points of another classifier.
        """
        fitted = self._fitted
        self._settings()
        if isinstance(X, ImagePoints):
            if X.projection is not fitted.projection:
                raise FingerprintMismatchError(
                    "Expected points that this classifier made. Got those of another "
                    "one, or of an earlier fit. Call its own points(X)."
                )
            return X
        visual = self._visual(
            X, fitted.backbone, fitted.backbone_fingerprint, fitting=False
        )
        projected = self._read(visual, fitted.projection.transform)
        return ImagePoints(**vars(projected), projection=fitted.projection)

    def candidates(
        self,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> PlacedCandidates:
        """Look labels up once, to be asked about many images.

        Every method that predicts takes the result instead of labels, and answers the
        same, bit for bit.

        Parameters
        ----------
        candidate_labels, embeddings : as in `predict`

        Returns
        -------
        candidates : PlacedCandidates
            ``labels``, their ``class_embeddings``, ``is_seen``, and ``entries``: how
            each vector was made.

        Raises
        ------
        FingerprintMismatchError
            If they are candidates that another classifier looked up.
        """
        found = self._candidates(candidate_labels, embeddings)
        if isinstance(found, PlacedCandidates):
            return found
        space, points = self._fitted.label_space, None
        if len(found.labels) <= COLUMNS:  # more are mapped in blocks, and not kept
            points = space.label_points(found.class_embeddings, found.class_of)
        return PlacedCandidates(**vars(found), points=points, space=space)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the images as points in the space that labels are mapped to.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)

        Returns
        -------
        points : ndarray of shape (n, dim), float32
            Compare by cosine. NaN for an unreadable image under ``on_error="nan"``.
        """
        return self.points(X).matrix

    def label_points(
        self,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Return the candidates as points in the space that `transform` maps to.

        Parameters
        ----------
        candidate_labels, embeddings : as in `predict`

        Returns
        -------
        points : ndarray of shape (n_candidates, dim), float32
            Of unit length, in the order of the candidates.
        """
        found = self._candidates(candidate_labels, embeddings)
        space = self._fitted.label_space
        return space.label_points(found.class_embeddings, found.class_of)[:, :-1]

    def frozen_labels(
        self,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> FrozenLabels:
        """Return all that becomes of labels, for programs that score images themselves.

        Parameters
        ----------
        candidate_labels, embeddings : as in `predict`

        Returns
        -------
        frozen : FrozenLabels
            Points and corrections, temperature, and what rejects an image.
        """
        candidates = self._candidates(candidate_labels, embeddings)
        nothing = np.empty((0, self._n_features_out), np.float32)
        points = ImagePoints(nothing, {}, np.arange(0), projection=self.projection_)
        return self._compared(candidates, points).frozen()

    def scores(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
        adapt: bool = False,
    ) -> NDArray[np.float32]:
        """Return the score of each candidate, also of two, also of a whole batch.

        Parameters
        ----------
        X, candidate_labels, embeddings, adapt : as in `predict`

        Returns
        -------
        scores : ndarray of shape (n, n_candidates), float32
            As in `decision_function`.
        """
        _, scores = self._scores(X, candidate_labels, embeddings, adapt)
        return np.concatenate(list(scores.blocks()))

    def learn_batch(
        self, X: Any, candidate_labels: Candidates = None
    ) -> LearntBatch | None:
        """Learn what a batch says about labels, from a sample of its images.

        For a batch that lies on many machines: `rank` and `predict` take the result as
        ``adapt``, for any part of the batch. Which images to give, and in which order:
        `zeroshot.scoring.adaptation.sampled`.

        Parameters
        ----------
        X, candidate_labels : as in `predict`

        Returns
        -------
        learnt : LearntBatch or None
            None where there are no images.
        """
        _, scores = self._scores(X, candidate_labels, None)
        return scores.learnt_batch()

    def standing(
        self, X: Any, candidate_labels: Candidates = None
    ) -> NDArray[np.float64]:
        """Return how far the candidates stand out from all other known classes.

        What ``reject`` decides by: the log odds of the candidates against the other
        classes of training and of the backbone (`zeroshot.scoring.rejection`).

        Parameters
        ----------
        X, candidate_labels : as in `predict`

        Returns
        -------
        standing : ndarray of shape (n,), float64
            Higher is likelier to be one of the candidates; NaN for an unreadable image.
        """
        _, scores = self._scores(X, candidate_labels, None)
        return scores.standing().of(scores.points)

    def _scores(
        self,
        X: Any,
        labels: Candidates,
        embeddings: Embeddings | None,
        adapt: bool | LearntBatch = False,
    ) -> tuple[CandidateSet, Scores]:
        """Look up the candidates, then map the images: an unknown label costs none."""
        candidates = self._candidates(labels, embeddings)
        return candidates, self._compared(candidates, self.points(X), adapt=adapt)

    def _adopt(self, fitted: Fitted) -> Self:
        trained_on = self.__dict__.setdefault("_trained_on", set())
        if "seen_classes_" in vars(self):  # trained anew
            trained_on.discard(frozenset(vars(self)["seen_classes_"].tolist()))
        trained_on.add(frozenset(fitted.seen_classes.tolist()))
        for name, value in vars(fitted).items():
            setattr(self, f"{name}_", value)
        self.n_features_in_ = fitted.n_features
        return self

    def _begin(self) -> tuple[ScoreSettings, Any, TextEmbeddings, Projection]:
        """Check parameters and make plugins; not fitted until the fit has succeeded."""
        settings = self._settings()
        check_pretrained(self.pretrained_classes)  # before any image is read
        self.__dict__.pop("n_images_", None)
        self.__dict__.pop("_opened", None)
        backbone, embeddings = registry.resolve_pair(self.backbone, self.embeddings)
        projection = registry.suited_projection(self.projection, backbone, embeddings)
        provider = with_templates(embeddings, self.templates)
        return settings, backbone, provider, projection

    def _visual(
        self, X: Any, backbone: Any, fingerprint: str | None = None, *, fitting: bool
    ) -> VisualInput:
        """Decide what X is; in `fit`, images are listed and features remembered."""
        reset = fitting and not self.__sklearn_is_fitted__()
        check = partial(validated, self)
        if fitting:
            check = partial(validate_data, self, dtype=np.float32, reset=reset)
        return VisualInput.of(
            X,
            backbone,
            fingerprint,
            listed=fitting,
            check=check,
            on_error=self.on_error,
        )

    def _read(self, visual: VisualInput, project: Any = None) -> Features:
        return visual.read(
            batch_size=self.batch_size,
            cache=self.cache,
            on_error=self.on_error,
            project=project,
        )

    def _settings(self) -> ScoreSettings:
        """Check all parameters."""
        check_count("batch_size", self.batch_size)
        check_on_error(self.on_error)
        return ScoreSettings.of(self)

    def _settings_in_effect(self) -> ScoreSettings:
        fitted = self._fitted
        return self._settings().in_effect(
            fitted.calibration,
            len(fitted.seen_classes),
            fitted.label_space.temperature,
        )

    def _candidates(
        self, labels: Candidates, embeddings: Embeddings | None = None
    ) -> CandidateSet:
        fitted = self._fitted
        if labels is None:
            labels = fitted.seen.in_order(self.candidate_labels)
            if labels is None and len(fitted.seen_classes) == 0:
                raise LabelError(
                    "Expected candidate_labels: a joint model that was fitted on no "
                    "images has no classes of its own. Got none. Name them, as in "
                    "predict(images, ['a cat', 'a dog'])."
                )
            if labels is None:
                _warn_if_disjoint(fitted.seen_classes, vars(self)["_trained_on"])
        provider = None
        if embeddings is not None:
            provider = self._provider(embeddings)
        return fitted.candidates(labels, provider)

    def _provider(self, embeddings: Embeddings) -> TextEmbeddings:
        """Return where labels' vectors come from, templates included."""
        provider = registry.resolve_embeddings(embeddings)
        if isinstance(provider, Templated):  # given for these labels: it is the nearer
            return provider
        return with_templates(provider, self.templates)

    def _compared(
        self,
        candidates: CandidateSet,
        points: ImagePoints,
        *,
        adapt: bool | LearntBatch = False,
    ) -> Scores:
        fitted = self._fitted
        return Scores(
            labels=candidates.labels,
            class_embeddings=candidates.class_embeddings,
            class_of=candidates.class_of,
            pretrained_of=candidates.pretrained_of,
            twins=fitted.twins,
            points=points.matrix,
            placed=getattr(candidates, "points", None),
            space=fitted.label_space,
            settings=self._settings_in_effect(),
            calibration=fitted.calibration,
            adapt=adapt,
        )


def _is_auto(projection: object) -> bool:
    return isinstance(projection, str) and projection == "auto"


def _are_same(these: tuple[Any, ...], those: tuple[Any, ...]) -> bool:
    """Tell whether parameters are the same objects, or equal texts."""
    return all(
        a is b or (isinstance(a, str | float) and type(a) is type(b) and a == b)
        for a, b in zip(these, those, strict=True)
    )


def _warn_if_disjoint(classes: NDArray[Any], trained_on: set[frozenset[Any]]) -> None:
    """Warn where clones were trained on other classes, as in class-disjoint folds."""
    if classes.dtype.kind not in "UO":  # ids of classes: no folds of names
        return
    ours = set(classes.tolist())
    if any(ours - theirs and theirs - ours for theirs in trained_on):
        warnings.warn(
            f"Without candidate_labels the answer is one of the {len(ours)} classes of "
            f"training, and clones of this classifier were trained on others: in folds "
            f"of ClassDisjointKFold no such answer is right. Instead of a scoring such "
            f"as 'accuracy' give zeroshot.metrics.zero_shot_scorer, or None.",
            ZeroShotWarning,
            stacklevel=5,
        )


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 1.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : object

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Expected {name} >= 1. Got {shown(value)}.")
