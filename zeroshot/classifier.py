"""`ZeroShotClassifier`: fit on some classes, predict labels never trained on."""

import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.utils import Tags, assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from zeroshot import registry
from zeroshot.backbones.base import Backbone
from zeroshot.backbones.fine_tuning_settings import FineTuning, FineTuningReport
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    InvalidImageError,
    LabelError,
    PartialCoverageWarning,
    ZeroShotWarning,
)
from zeroshot.features.block import OnError
from zeroshot.features.file import FeatureFile, open_if_features
from zeroshot.features.pipeline import (
    Features,
    collect_features,
    extract_features,
    listed_images,
)
from zeroshot.labels.candidates import (
    Candidates,
    as_label_array,
    embed_candidates,
    seen_class,
)
from zeroshot.labels.cascade import check_candidates, embed_labels
from zeroshot.labels.report import LabelEntry, LabelReport
from zeroshot.projections.base import Projection
from zeroshot.projections.conse import ConSE
from zeroshot.saving.bundle import read_bundle, write_bundle
from zeroshot.saving.fitted import check_backbone, from_bundle, to_bundle
from zeroshot.saving.model_card import model_card
from zeroshot.scoring.answers import Explanation, RankedLabel
from zeroshot.scoring.calibration import MIN_CLASSES, Calibration, fit_calibration
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.scoring.ranking import Ranking, cosine_scores
from zeroshot.scoring.rejection import false_accept_rate
from zeroshot.scoring.scored_candidates import ScoredCandidates
from zeroshot.training.fine_tuning import check_fine_tuning, fine_tune
from zeroshot.training.pretrained import classifier_head, embed_head_classes
from zeroshot.training.projection_choice import (
    AutoProjection,
    ProjectionChoice,
    choose_projection,
    draw_seed,
)

__all__ = ["UNKNOWN_LABEL", "RankedLabel", "ZeroShotClassifier", "load"]

UNKNOWN_LABEL = "unknown"
"""What `ZeroShotClassifier.predict` answers where it has no answer."""

# Without a temperature of the user's own. Of the values tried it has the least negative
# log likelihood on held-out seen classes of both real tasks (docs/defaults.md).
DEFAULT_TEMPERATURE = 0.1

Embeddings: TypeAlias = str | Path | TextEmbeddings


class ZeroShotClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify images into labels that are named only when predicting.

    Training maps the features of images into the space of word vectors (DeViSE [1]_).
    A new image gets the candidate label whose word vector is nearest by cosine; the
    candidates need not have been in training.

    Parameters
    ----------
    backbone : str, Backbone or None
        What turns images into features: a registered name (``"mobilenet-v2"``), a spec
        (``"keras:/model.keras"``) or an object. None means that ``X`` is a matrix of
        features already.
    embeddings : str or TextEmbeddings
        Where word vectors come from: the path of a vector file, a spec
        (``"glove:/path/file.txt"``), a registered name or an object.
    projection : str or Projection, default="eszsl"
        The map from features to the text space: a registered name (``"eszsl"``,
        ``"devise"``, ...) or an estimator, such as ``DeViSE(margin=0.2)``. ``"auto"``
        takes the best on folds of the seen classes and says so in
        ``projection_choice_``. Parameters are searchable as
        ``projection__margin`` if it is given as an estimator.
    candidate_labels : sequence, mapping or None, default=None
        What to predict among where a method is given no ``candidate_labels``: labels,
        or ``{label: [alias, ...]}``. None means the seen classes.
    hub_correction : float, default=0.5
        A remedy for labels that are near everything: a label's scores lose this times
        the mean of its five highest cosines with seen classes, as in CSLS
        (`zeroshot.scoring.label_space`). 0 means none: scores are cosines.
    center_labels : bool, default=False
        Subtract the mean of the seen classes' vectors from all label vectors, and make
        them unit length again, before training and when predicting.
    seen_penalty : float or "auto", default=0.0
        Subtracted from the scores of seen classes (calibrated stacking [2]_). Without
        it an unseen class almost never wins against seen ones. ``"auto"`` takes the
        best on folds of the seen classes, which `fit` then makes
        (`zeroshot.scoring.calibration`).
    temperature : float, "auto" or None, default=None
        Divides the scores before the softmax of `predict_proba`, > 0. None means 0.1,
        which is not calibrated for your classes; ``"auto"`` is, on the folds.
    reject : float, str or None, default=None
        When `predict` answers ``unknown_label``: where no candidate scores this much,
        in [-1, 1]; or, for ``"auto:0.05"``, where none stands out from the seen classes
        so far that only 0.05 of the images whose label is not a candidate would be
        accepted; ``"auto"`` takes the best rate on the folds. None means never.
    unknown_label : hashable, default="unknown"
        What `predict` answers then, and for images that cannot be read.
    batch_size : int, default=32
        Images that the backbone is given at once.
    cache : bool, default=True
        Remember the features of images on disk, by the content of the image.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What to do about images that cannot be read. ``"raise"``: raise the error of the
        first. ``"nan"``: answer ``unknown_label``, with scores of NaN, so that every
        result has a row for every image. ``"skip"``: results have no row for them;
        ``image_positions_`` says which images the rows belong to. Both leave them out
        of training, and a warning and ``image_errors_`` name them.
    fine_tune : "auto", int, str, FineTuning or None, default=None
        DeViSE's second phase, with ``projection="devise"``: train the last layers of a
        Keras backbone too, after the map, with the same loss; a copy, ``backbone``
        itself is not changed. How many layers, the name of the first one, or
        `zeroshot.FineTuning` for more settings; ``"auto"`` is all its defaults. None
        leaves the backbone frozen; so does fine-tuning that does not help held-out seen
        classes, with a warning.
    random_state : int, RandomState instance or None, default=None
        Seeds a projection that has no ``random_state`` of its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The seen classes, sorted.
    class_embeddings_ : ndarray of shape (n_classes, dim_text), float32
        Their vectors, of unit length.
    label_report_ : LabelReport
        How each of those was found.
    backbone_ : Backbone or None
        The fine-tuned one if ``fine_tune`` made one.
    backbone_fingerprint_ : str or None
        Of the backbone that computed the features; None if features were given.
    embeddings_ : TextEmbeddings
    label_space_ : LabelSpace
        What the points of images are compared with.
    projection_ : Projection
        Fitted.
    projection_choice_ : ProjectionChoice or None
        What ``projection="auto"`` tried, and took.
    calibration_ : Calibration or None
        What `fit` learnt on folds of the seen classes, if a parameter was ``"auto"``.
    seen_penalty_, temperature_ : float
        The values in effect.
    fine_tuning_ : FineTuningReport or None
        What ``fine_tune`` did.
    n_features_in_ : int
        Length of a feature vector.
    n_images_ : int
        Images that were trained on.
    image_errors_ : dict of int to str
        Of the images read last (by whatever method): position of each that cannot be
        read, and the reason. Only once images were read.
    image_positions_ : ndarray of shape (n,), int64
        Of the images read last: position of the image that each row of the result
        belongs to.

    References
    ----------
    .. [1] Frome et al., "DeViSE: A Deep Visual-Semantic Embedding Model", NeurIPS 2013.
    .. [2] Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot
       Learning for Object Recognition in the Wild", ECCV 2016.

    Examples
    --------
    >>> from zeroshot import make_shapes, ZeroShotClassifier
    >>> from zeroshot.embeddings import Attributes
    >>> from zeroshot.shapes import shape_attributes
    >>> images, labels = make_shapes(8, random_state=0)
    >>> seen = labels != "red star"
    >>> clf = ZeroShotClassifier(
    ...     "color-hog", Attributes(*shape_attributes()), projection="ridge"
    ... )
    >>> clf = clf.fit(images[seen], labels[seen])
    >>> clf.score(
    ...     images[~seen], labels[~seen], candidate_labels=["red star", "blue ring"]
    ... )
    1.0
    """

    # Requests by default: Pipelines pass candidate_labels on, routing on or off.
    __metadata_request__predict: ClassVar = {
        "candidate_labels": True,
        "embeddings": True,
    }
    __metadata_request__predict_proba: ClassVar = {
        "candidate_labels": True,
        "embeddings": True,
    }
    __metadata_request__decision_function: ClassVar = {
        "candidate_labels": True,
        "embeddings": True,
    }
    __metadata_request__score: ClassVar = {"candidate_labels": True}

    classes_: NDArray[Any]
    class_embeddings_: NDArray[np.float32]
    label_report_: LabelReport
    backbone_: Backbone | None
    backbone_fingerprint_: str | None
    embeddings_: TextEmbeddings
    label_space_: LabelSpace
    projection_: Projection
    projection_choice_: ProjectionChoice | None
    calibration_: Calibration | None
    fine_tuning_: FineTuningReport | None
    n_features_in_: int
    n_images_: int
    image_errors_: dict[int, str]
    image_positions_: NDArray[np.int64]

    def __init__(
        self,
        backbone: str | Backbone | None,
        embeddings: str | Path | TextEmbeddings,
        *,
        projection: str | Projection = "eszsl",
        candidate_labels: Candidates = None,
        hub_correction: float = 0.5,
        center_labels: bool = False,
        seen_penalty: float | Literal["auto"] = 0.0,
        temperature: float | Literal["auto"] | None = None,
        reject: float | str | None = None,
        unknown_label: Hashable = UNKNOWN_LABEL,
        batch_size: int = 32,
        cache: bool = True,
        on_error: OnError = "raise",
        fine_tune: FineTuning | int | str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.backbone = backbone
        self.embeddings = embeddings
        self.projection = projection
        self.candidate_labels = candidate_labels
        self.hub_correction = hub_correction
        self.center_labels = center_labels
        self.seen_penalty = seen_penalty
        self.temperature = temperature
        self.reject = reject
        self.unknown_label = unknown_label
        self.batch_size = batch_size
        self.cache = cache
        self.on_error = on_error
        self.fine_tune = fine_tune
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags; points in the text space are always float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether the last `fit` came to its end."""
        return hasattr(self, "n_images_")

    def fit(self, X: Any, y: Sequence[Hashable] | NDArray[Any]) -> Self:
        """Learn the map from images (or features) to their labels' word vectors.

        Labels are resolved before any image is read.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            Any form that `zeroshot.images.as_image_list` takes: paths, a folder, bytes,
            PIL images, arrays. A 2-D array of numbers is a matrix of features, which
            must be the backbone's own, as those of a file that ``zeroshot embed`` wrote
            must be (given by its path, or as a `zeroshot.features.file.FeatureFile`).
        y : array-like of shape (n,)
            Label of each image; at least 2 different ones.

        Returns
        -------
        self : ZeroShotClassifier

        Raises
        ------
        UnknownPluginError, ArtifactError
            If the backbone, the vector file or the projection cannot be found or read.
        OutOfVocabularyError
            If labels have no word vector; has all of them.
        LabelError
            If there is one class only, or not one label for each image.
        InvalidImageError
            If an image cannot be read, under ``on_error="raise"``.
        ValueError
            If features or parameters are out of range.
        """
        self._check_parameters()
        self.__dict__.pop("n_images_", None)  # after a fit that fails: not fitted
        y = _checked_labels(y)
        backbone = (
            None if self.backbone is None else registry.resolve_backbone(self.backbone)
        )
        embeddings = registry.resolve_embeddings(self.embeddings)
        projection = clone(registry.resolve_projection(self.projection))
        self.backbone_, self.backbone_fingerprint_ = backbone, None
        X = open_if_features(X)
        if self._is_matrix(X):
            X = validate_data(self, X, dtype=np.float32)
        else:
            X = listed_images(X)
        classes, index = _find_classes(y, len(X))
        settings = FineTuning.of(self.fine_tune)
        if settings is not None:
            network = backbone if isinstance(X, list) else None
            check_fine_tuning(settings, network, projection, len(classes))
        class_embeddings, report = embed_labels(classes.tolist(), embeddings)
        images = self._features(X, reset=True)
        readable = ~np.isin(images.positions, list(images.errors))
        features, index = images.matrix[readable], index[images.positions[readable]]
        if images.errors:
            _check_remaining(classes, index)
        projection = self._choose(projection, features, index, class_embeddings)
        self.calibration_ = self._calibrate(
            projection, features, index, class_embeddings
        )
        space = self._space(class_embeddings)
        projection.fit(features, index, class_embeddings=space.seen)
        self.fine_tuning_ = None
        if settings is not None and backbone is not None:
            self.backbone_, projection, self.fine_tuning_ = fine_tune(
                backbone,
                projection,
                [X[i] for i in images.positions[readable]],
                features,
                index,
                space.seen,
                settings,
            )
            self.backbone_fingerprint_ = self.backbone_.fingerprint

        self.classes_, self.label_space_ = classes, space
        self.class_embeddings_, self.label_report_ = class_embeddings, report
        self.embeddings_, self.projection_ = embeddings, projection
        self.n_images_ = len(features)
        return self

    def fit_pretrained(
        self, *, method: Literal["conse", "prototypes"] = "conse"
    ) -> Self:
        """Use the classifier that the backbone was trained with; needs no images.

        Its classes, usually those of ImageNet-1k, become the seen classes.

        Parameters
        ----------
        method : {"conse", "prototypes"}, default="conse"
            ``"conse"``: an image is the mean of the word vectors of its ten most
            probable ImageNet classes [1]_; ``projection`` is not used.
            ``"prototypes"``: ``projection`` is trained on the rows of the classifier's
            weights, one for each class, as if they were features of images.

        Returns
        -------
        self : ZeroShotClassifier
            ``classes_`` are the classes that have a word vector, each with all its
            names (``"lion, king of beasts, Panthera leo"``); ``n_images_`` is 0.

        Raises
        ------
        PluginContractError
            If the backbone has no classifier of its own.
        UnknownPluginError, ArtifactError
            As `fit`; also if the weights of the classifier cannot be had.
        OutOfVocabularyError
            If none of its classes has a word vector.
        ValueError
            If ``method`` is none of the above, a parameter is out of range, or one is
            ``"auto"``: that needs images.

        References
        ----------
        .. [1] Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic
           Embeddings", ICLR 2014.
        """
        self._check_parameters()
        if method not in ("conse", "prototypes"):
            raise ValueError(
                f"Expected method 'conse' or 'prototypes'. Got {method!r}."
            )
        if wanted := self._automatic():
            raise ValueError(
                f"Expected numbers: without images there is nothing to calibrate on. "
                f"Got {wanted[0]}={getattr(self, wanted[0])!r}. Give a number, or fit "
                f"on images."
            )
        if self.fine_tune is not None:
            raise ValueError(
                "Expected fine_tune=None: fit_pretrained has no images to fine-tune "
                f"on. Got fine_tune={self.fine_tune!r}. Use fit."
            )
        self.__dict__.pop("n_images_", None)  # after a fit that fails: not fitted
        if self.backbone is None:
            raise ValueError(
                "Expected a backbone with a classifier of its own. Got backbone=None."
            )
        backbone = registry.resolve_backbone(self.backbone)
        embeddings = registry.resolve_embeddings(self.embeddings)
        projection = clone(registry.resolve_projection(self.projection))
        head = classifier_head(backbone)
        classes, columns, class_embeddings, report = embed_head_classes(
            head, embeddings
        )
        weights, bias = head.weights[:, columns], head.bias[columns]
        space = self._space(class_embeddings)
        self.projection_choice_ = None
        if method == "conse":
            projection = ConSE.from_classifier(weights, bias, space.seen)
        else:
            index = np.arange(len(classes))
            projection = self._choose(projection, weights.T, index, class_embeddings)
            projection.fit(weights.T, index, class_embeddings=space.seen)
        self.backbone_ = backbone
        self.backbone_fingerprint_ = check_backbone(backbone, None)
        self.n_features_in_ = len(weights)
        self.classes_, self.label_space_ = classes, space
        self.class_embeddings_, self.label_report_ = class_embeddings, report
        self.embeddings_, self.projection_ = embeddings, projection
        self.calibration_ = None
        self.fine_tuning_ = None
        self.n_images_ = 0
        return self

    def predict(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> NDArray[Any]:
        """Return the best candidate label for each image.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        candidate_labels : sequence, mapping or None, default=None
            Labels to choose from, seen in training or not; ``{label: [alias, ...]}``
            gives other names to try. ``"vocabulary"`` means the words that the
            embeddings know: the first 100,000, or as many as ``"vocabulary:20000"``
            says; files of vectors have the most frequent words first. None means the
            constructor's, else the seen classes.
        embeddings : str, Path, TextEmbeddings or None, default=None
            Where to look the candidates up instead of the embeddings of training, whose
            space they must share: the aligned vectors of another language, say.

        Returns
        -------
        labels : ndarray of shape (n,)
            ``unknown_label`` where ``reject`` says so, and for unreadable images under
            ``on_error="nan"``.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            Labels are checked before any image is read.
        """
        scored = self._scored(X, candidate_labels, embeddings)
        best = scored.best(1)
        accepted = self._is_accepted(scored, best)
        return self._named(scored.labels[best.columns[:, 0]], accepted)

    def predict_proba(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
        multi_label: bool = False,
    ) -> NDArray[np.float32]:
        """Return the softmax of the scores over the candidates.

        The numbers say how the candidates compare with each other, given that one of
        them is right. They are probabilities in the sense of being right that often
        only if ``temperature`` was calibrated on classes like yours (``"auto"``).

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`.
        embeddings : str, Path, TextEmbeddings or None, default=None
            As in `predict`.
        multi_label : bool, default=False
            Rate each label by itself, for labels that do not exclude one another: its
            score against those of other images with it, in the logistic function that
            was fitted on folds of the seen classes. Needs a `fit` with an ``"auto"``.

        Returns
        -------
        probabilities : ndarray of shape (n, n_candidates), float32
            In [0, 1], columns in the order of the candidates; rows sum to 1, unless
            ``multi_label``: then 0.5 means that the label applies as likely as not, if
            it applies to half of all images.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            As `predict`.
        ValueError
            If ``multi_label`` and nothing was ``"auto"`` in `fit`.
        """
        scored = self._scored(X, candidate_labels, embeddings)
        if multi_label:
            return scored.independent_probabilities(self._multi_label_calibration())
        return scored.probabilities(self.temperature_)

    def decision_function(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Return the score of each candidate.

        That is the cosine, less ``hub_correction`` times the mean of the label's five
        highest cosines with seen classes, less ``seen_penalty`` if it is a seen class.
        It depends on the image and the label, not on other images or candidates.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`.
        embeddings : str, Path, TextEmbeddings or None, default=None
            As in `predict`.

        Returns
        -------
        scores : ndarray of shape (n, n_candidates) or (n,), float32
            Columns in the order of the candidates, within 1 + ``hub_correction`` of 0
            without the penalty. For two candidates, as everywhere in
            scikit-learn, the score of the second less that of the first.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            As `predict`.
        """
        scored = self._scored(X, candidate_labels, embeddings)
        scores = np.concatenate(list(scored.blocks()))
        if len(scored.labels) == 2:
            difference: NDArray[np.float32] = scores[:, 1] - scores[:, 0]
            return difference
        return scores

    def rank(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        k: int = 5,
        embeddings: Embeddings | None = None,
        multi_label: bool = False,
    ) -> list[list[RankedLabel]]:
        """Return the best candidates for each image, best first.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`.
        k : int, default=5
            How many, at least 1; all candidates where there are fewer.
        embeddings : str, Path, TextEmbeddings or None, default=None
            As in `predict`.
        multi_label : bool, default=False
            As in `predict_proba`; the best are then those of the highest probability.

        Returns
        -------
        ranked : list of list of RankedLabel
            An empty list for an unreadable image under ``on_error="nan"``.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            As `predict`.
        ValueError
            If ``k`` is less than 1, or ``multi_label`` as in `predict_proba`.
        """
        if k < 1:
            raise ValueError(f"Expected k >= 1. Got {k}.")
        scored = self._scored(X, candidate_labels, embeddings)
        return self._rank(scored, k, multi_label)

    def explain(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        k: int = 5,
        embeddings: Embeddings | None = None,
    ) -> list[Explanation]:
        """Say for each image why it gets its label: print what this returns.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`.
        k : int, default=5
            How many candidates, and how many seen classes, are shown; at least 1.
        embeddings : str, Path, TextEmbeddings or None, default=None
            As in `predict`.

        Returns
        -------
        explanations : list of Explanation
            The best candidates, how their vectors were made, the margin between the
            first two, and the seen classes that the image is nearest to.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            As `predict`.
        ValueError
            If ``k`` is less than 1.
        """
        if k < 1:
            raise ValueError(f"Expected k >= 1. Got {k}.")
        scored = self._scored(X, candidate_labels, embeddings)
        ranked = self._rank(scored, max(k, 2), False)
        shown = dict.fromkeys(answer.label for best in ranked for answer in best)
        entries = self._entries([*shown], candidate_labels, embeddings)
        classes = self.classes_.tolist()
        cosines = cosine_scores(scored.points, self.label_space_.seen)
        explanations = []
        for best, near in zip(ranked, cosines, strict=True):
            known = best and not best[0].rejected
            explanations.append(
                Explanation(
                    best[0].label if known else self.unknown_label,
                    tuple(best[:k]),
                    tuple(entries[answer.label] for answer in best[:k]),
                    best[0].score - best[1].score if len(best) > 1 else np.nan,
                    tuple(
                        (classes[j], float(near[j]))
                        for j in np.argsort(-near, kind="stable")[: k if best else 0]
                    ),
                )
            )
        return explanations

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the images as points in the space of word vectors.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.

        Returns
        -------
        points : ndarray of shape (n, dim_text), float32
            Compare by cosine, with ``label_space_.vectors`` of label vectors where
            ``center_labels``. NaN for an unreadable image under ``on_error="nan"``.

        Raises
        ------
        NotFittedError, InvalidImageError
            As `predict`.
        """
        check_is_fitted(self)
        return self._features(X, project=self.projection_.transform).matrix

    def label_points(
        self,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Return the candidates as points in the space that `transform` maps to.

        Parameters
        ----------
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`.
        embeddings : str, Path, TextEmbeddings or None, default=None
            As in `predict`.

        Returns
        -------
        points : ndarray of shape (n_candidates, dim_text), float32
            Of unit length, in the order of the candidates.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError
            As `predict`.
        """
        check_is_fitted(self)
        _, class_embeddings = self._candidates(candidate_labels, embeddings)
        return self.label_space_.vectors(class_embeddings)

    def score(
        self,
        X: Any,
        y: Sequence[Hashable] | NDArray[Any],
        sample_weight: Any = None,
        *,
        candidate_labels: Candidates = None,
    ) -> float:
        """Return the accuracy: the share of images whose best candidate is right.

        The field reports `zeroshot.metrics.per_class_accuracy`, the mean over classes;
        the two agree where classes have the same number of images.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`.
        y : array-like of shape (n,)
            True labels.
        sample_weight : array-like of shape (n,), default=None
            Weights of the images.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`, with one difference: where there are none, nor any in the
            constructor, labels of ``y`` that were not trained on are candidates. Among
            themselves if ``y`` has no seen class (zero-shot, as in the folds of
            `zeroshot.splits.ClassDisjointKFold`), else beside all seen classes
            (generalised).

        Returns
        -------
        accuracy : float
            In [0, 1].

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            As `predict`.
        """
        check_is_fitted(self)
        X = open_if_features(X)
        y = np.asarray(column_or_1d(y))
        if candidate_labels is None and self.candidate_labels is None:
            candidate_labels = self._candidates_of(y)
        predicted = self.predict(X, candidate_labels)
        if self.on_error == "skip" and not self._is_matrix(X):
            y = y[self.image_positions_]
            if sample_weight is not None:
                sample_weight = np.asarray(sample_weight)[self.image_positions_]
        check_consistent_length(predicted, y, sample_weight)
        # As objects: "unknown" may stand beside labels that are numbers.
        is_right = predicted.astype(object) == y.astype(object)
        return float(np.average(is_right, weights=sample_weight))

    def save(
        self, path: str | Path, *, vocabulary: Sequence[str] | None = None
    ) -> None:
        """Write the fitted classifier as a bundle, a folder that `load` reads.

        Parameters
        ----------
        path : str or Path
            The folder to make; an older bundle there is replaced.
        vocabulary : sequence of str or None, default=None
            Labels whose vectors are kept in the bundle (float16), beside the seen ones
            and ``candidate_labels``. The bundle then needs no vector file, and knows
            those labels only. `Attributes` given in memory are always kept, whole.

        Raises
        ------
        NotFittedError
            Before `fit`.
        OutOfVocabularyError
            If a label of ``vocabulary`` has no vector.
        ArtifactError
            If something else lies at ``path``, or the projection cannot be saved.
        """
        check_is_fitted(self)
        bundle = to_bundle(self, vocabulary)
        write_bundle(Path(path), bundle, model_card(bundle.record))

    def _check_parameters(self) -> None:
        for name, (fits, wanted) in PARAMETERS.items():
            value = getattr(self, name)
            if not fits(value):
                raise ValueError(f"Expected {name} to be {wanted}. Got {value!r}.")
        if isinstance(self.reject, str):
            false_accept_rate(self.reject)

    def _choose(
        self,
        projection: Any,
        features: NDArray[np.float32],
        index: NDArray[np.intp],
        class_embeddings: NDArray[np.float32],
    ) -> Any:
        """Return the projection to train, seeded; if it is "auto", the one chosen."""
        if getattr(projection, "random_state", 0) is None:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            projection.set_params(random_state=seed)
        self.projection_choice_ = None
        if isinstance(projection, AutoProjection):
            projection, self.projection_choice_ = choose_projection(
                features,
                index,
                class_embeddings,
                center=self.center_labels,
                hub_correction=self.hub_correction,
                random_state=draw_seed(projection.random_state),
            )
        return projection

    def _space(self, class_embeddings: NDArray[np.float32]) -> LabelSpace:
        return LabelSpace.fit(
            class_embeddings,
            center=self.center_labels,
            hub_correction=self.hub_correction,
        )

    def _is_matrix(self, X: Any) -> bool:
        """Tell features from images: a 2-D array of numbers is no list of images."""
        if isinstance(X, FeatureFile):
            return False
        if self.backbone is None:
            return True
        return isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub"

    def _features(
        self, X: Any, *, reset: bool = False, project: Any = None
    ) -> Features:
        """Return the features of X, or what ``project`` makes of them."""
        X = open_if_features(X)
        if self._is_matrix(X):
            features = validate_data(self, X, dtype=np.float32, reset=reset)
            matrix = features if project is None else project(features)
            return Features(matrix, {}, np.arange(len(matrix)))
        if isinstance(X, FeatureFile):  # needs no weights, and no TensorFlow
            fingerprint = self.backbone_fingerprint_ or X.fingerprint
            if self.backbone_ is not None and self.backbone_fingerprint_ is None:
                fingerprint = self.backbone_.fingerprint
            X.check(fingerprint)
            validate_data(self, np.zeros((1, X.dim), np.float32), reset=reset)
            blocks = X.blocks(self.on_error)
            images = collect_features(
                blocks, len(X), X.dim, on_error=self.on_error, project=project
            )
        elif self.backbone_ is None:
            raise TypeError("Expected a backbone to read images with. Got None.")
        else:
            fingerprint = check_backbone(self.backbone_, self.backbone_fingerprint_)
            row = np.zeros((1, self.backbone_.dim), np.float32)
            validate_data(self, row, reset=reset)
            images = extract_features(
                X,
                self.backbone_,
                batch_size=self.batch_size,
                cache=self.cache,
                on_error=self.on_error,
                project=project,
            )
        self.backbone_fingerprint_ = fingerprint
        self.image_errors_ = images.errors
        self.image_positions_ = images.positions
        return images

    def _scored(
        self, X: Any, labels: Candidates, embeddings: Embeddings | None
    ) -> ScoredCandidates:
        """Look up the candidates, then map the images.

        Labels come first: an unknown one costs no image work.
        """
        check_is_fitted(self)
        self._check_parameters()
        candidates, class_embeddings = self._candidates(labels, embeddings)
        vectors = self.label_space_.vectors(class_embeddings)
        return ScoredCandidates(
            labels=candidates,
            vectors=vectors,
            class_of=seen_class(candidates.tolist(), self.classes_.tolist()),
            hub_penalty=self.label_space_.hub_penalty(vectors),
            seen_penalty=self.seen_penalty_,
            points=self.transform(X),
        )

    def _rank(
        self, scored: ScoredCandidates, k: int, multi_label: bool
    ) -> list[list[RankedLabel]]:
        best = scored.best(1 if multi_label else k, self.temperature_)
        accepted = self._is_accepted(scored, best)
        if multi_label:
            best = scored.best_independent(k, self._multi_label_calibration())
        return scored.answers(best, accepted)

    def _is_accepted(
        self, scored: ScoredCandidates, ranking: Ranking
    ) -> NDArray[np.bool_]:
        """Tell which images the first candidate of the ranking fits."""
        best = ranking.scores[:, 0]
        if isinstance(self.reject, Real):
            return best >= self.reject
        calibration = None if self.reject is None else self._calibrated("reject")
        if calibration is None:
            return np.isfinite(best)
        rate = false_accept_rate(self.reject) or calibration.false_accept_rate
        classes = self.label_space_.rows(self.class_embeddings_)
        return scored.standing_out(ranking, rate, classes, calibration)

    def _named(self, labels: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the labels, with ``unknown_label`` where nothing is known."""
        if not known.all():
            labels = labels.astype(object)
            labels[~known] = self.unknown_label
            if all(isinstance(label, str) for label in labels):
                labels = labels.astype(str)
        return labels

    def _candidates(
        self, labels: Candidates, embeddings: Embeddings | None
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the candidates and their class embeddings; looks up what is new."""
        if labels is None:
            labels = self.candidate_labels
        if labels is None and embeddings is None:
            return self.classes_, self.class_embeddings_
        provider = self._provider(embeddings)
        if not isinstance(labels, str):
            seen = self.classes_.tolist()
            candidates = check_candidates(seen if labels is None else labels)
            row_of = {label: row for row, label in enumerate(seen)}
            if embeddings is None and all(label in row_of for label in candidates):
                rows = [row_of[label] for label in candidates]
                return as_label_array(candidates), self.class_embeddings_[rows]
            labels = labels if isinstance(labels, Mapping) else candidates
        return embed_candidates(labels, provider)[:2]

    def _entries(
        self,
        shown: Sequence[Hashable],
        labels: Candidates,
        embeddings: Embeddings | None,
    ) -> Mapping[Any, LabelEntry | None]:
        """Return for each label that is shown how its vector was made."""
        if labels is None:
            labels = self.candidate_labels
        if labels is None and embeddings is None:
            entries = self.label_report_.entries
            return dict(zip(self.classes_.tolist(), entries, strict=True))
        if isinstance(labels, str) or not shown:
            return dict.fromkeys(shown)
        aliases = labels if isinstance(labels, Mapping) else {}
        named = {label: aliases.get(label, ()) for label in shown}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZeroShotWarning)  # said when looked up
            _, report = embed_labels(named, self._provider(embeddings))
        return dict(zip(shown, report.entries, strict=True))

    def _provider(self, embeddings: Embeddings | None) -> TextEmbeddings:
        """Return where candidates are looked up."""
        if embeddings is None:
            return self.embeddings_
        provider = registry.resolve_embeddings(embeddings)
        dim = self.class_embeddings_.shape[1]
        if provider.dim != dim:
            raise LabelError(
                f"Expected embeddings that share the space of training, of {dim} "
                f"dimensions. Got '{provider.name}' of {provider.dim}. Give vectors "
                f"aligned with those of training."
            )
        return provider

    def _candidates_of(self, y: NDArray[Any]) -> Candidates:
        """Return the candidates for images of these classes; None: the seen classes."""
        seen, labels = self.classes_.tolist(), dict.fromkeys(y.tolist())
        unseen = [label for label in labels if label not in set(seen)]
        if not unseen:
            return None
        return unseen if len(unseen) == len(labels) else [*seen, *unseen]

    @property
    def seen_penalty_(self) -> float:
        """Penalty in effect: the parameter's number, or what `fit` found."""
        if self.seen_penalty != "auto":
            return self.seen_penalty
        calibration = self._calibrated("seen_penalty")
        return 0.0 if calibration is None else calibration.seen_penalty

    @property
    def temperature_(self) -> float:
        """Temperature in effect: the parameter's, what `fit` found, or 0.1."""
        if self.temperature is None:
            return DEFAULT_TEMPERATURE
        if self.temperature != "auto":
            return self.temperature
        calibration = self._calibrated("temperature")
        return DEFAULT_TEMPERATURE if calibration is None else calibration.temperature

    def _automatic(self) -> list[str]:
        """Return the names of the parameters that are fitted on folds."""
        return [
            name
            for name in ("seen_penalty", "temperature", "reject")
            if isinstance(getattr(self, name), str)
        ]

    def _calibrate(
        self,
        projection: Projection,
        features: NDArray[np.float32],
        index: NDArray[np.intp],
        class_embeddings: NDArray[np.float32],
    ) -> Calibration | None:
        wanted = self._automatic()
        if not wanted:
            return None
        if len(class_embeddings) < MIN_CLASSES:
            warnings.warn(
                f"{' and '.join(wanted)} cannot be fitted: that takes at least "
                f"{MIN_CLASSES} seen classes, here are {len(class_embeddings)}. There "
                f"will be no penalty, a temperature of {DEFAULT_TEMPERATURE} and no "
                f"rejection.",
                PartialCoverageWarning,
                stacklevel=3,
            )
            return None
        rate = false_accept_rate(self.reject) if "reject" in wanted else None
        if rate is not None and 1 / rate - 1 > len(class_embeddings):
            warnings.warn(
                f"A false-accept rate of {rate} takes {math.ceil(1 / rate - 1)} seen "
                f"classes to be kept, here are {len(class_embeddings)}. Only what "
                f"stands out more than all of the training images is accepted.",
                PartialCoverageWarning,
                stacklevel=3,
            )
        return fit_calibration(
            projection,
            features,
            index,
            class_embeddings,
            center=self.center_labels,
            hub_correction=self.hub_correction,
            penalty=None if self.seen_penalty == "auto" else self.seen_penalty,
            random_state=check_random_state(self.random_state).randint(2**31 - 1),
        )

    def _calibrated(self, name: str) -> Calibration | None:
        """Return what `fit` learnt; None if there were too few classes for it."""
        check_is_fitted(self)
        if self.calibration_ is None and len(self.classes_) >= MIN_CLASSES:
            raise ValueError(
                f"Expected a fit that calibrates, for {name}. Got one in which nothing "
                f"was 'auto'. Set seen_penalty, temperature or reject to 'auto' and "
                f"fit again."
            )
        return self.calibration_

    def _multi_label_calibration(self) -> Calibration:
        calibration = self._calibrated("multi_label")
        if calibration is None:
            raise ValueError(
                f"Expected {MIN_CLASSES} seen classes or more to rate labels one by "
                f"one. Got {len(self.classes_)}. Train on more classes."
            )
        return calibration


def load(
    path: str | Path,
    *,
    backbone: str | Backbone | None = None,
    embeddings: str | Path | TextEmbeddings | None = None,
) -> ZeroShotClassifier:
    """Read a fitted classifier from a bundle.

    Nothing in a bundle can run code, and no network is loaded before images come.

    Parameters
    ----------
    path : str or Path
        A folder that `ZeroShotClassifier.save` made.
    backbone : str, Backbone or None, default=None
        The backbone of training, where the bundle cannot name it (a Keras model that
        was given as an object). None means the one that the bundle names.
    embeddings : str, Path, TextEmbeddings or None, default=None
        The vectors of training, where the file lies elsewhere now. None means the
        bundle's own vocabulary if it has one, else the file that it names.

    Returns
    -------
    classifier : ZeroShotClassifier
        Fitted; predicts what the saved one did, bit for bit on the same machine (a
        vocabulary rounds the vectors of unseen labels to float16).

    Raises
    ------
    ArtifactError
        If the bundle is broken or of another format, or what it names is missing.
    FingerprintMismatchError
        If the vectors or the backbone are not those of training. A backbone that the
        bundle names is checked when the first images come.
    """
    return from_bundle(
        ZeroShotClassifier,
        read_bundle(Path(path)),
        backbone=backbone,
        embeddings=embeddings,
    )


def _checked_labels(y: Any) -> NDArray[Any]:
    """Return labels of one kind as an array; refuse others, and none."""
    if y is None:
        raise ValueError(
            "This ZeroShotClassifier estimator requires y to be passed, but the "
            "target y is None."
        )
    labels: NDArray[Any] = np.asarray(column_or_1d(y, warn=True))
    assert_all_finite(labels, input_name="y")
    try:
        with warnings.catch_warnings():
            # Taken for a regression, where classes have one image each.
            warnings.filterwarnings("ignore", "The number of unique classes")
            check_classification_targets(labels)
    except TypeError as error:  # they cannot be sorted
        kinds = sorted({f"'{type(label).__name__}'" for label in labels.tolist()})
        raise LabelError(
            f"Expected labels of one kind, all strings or all numbers. Got "
            f"{', '.join(kinds)}. Convert them, and leave out images without one."
        ) from error
    if len(labels) == 0:
        raise LabelError("Expected at least 2 different labels. Got none.")
    return labels


def _find_classes(
    y: NDArray[Any], n_images: int
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes, sorted, and the class of each image."""
    if n_images != len(y):
        raise LabelError(
            f"Expected one label for each image. Got {n_images} images and {len(y)} "
            f"labels: inconsistent numbers of samples."
        )
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise LabelError(
            f"Expected at least 2 different labels. Got one class: {classes[0]!r}. "
            f"Give images of more classes."
        )
    return classes, index


def _check_remaining(classes: NDArray[Any], index: NDArray[np.intp]) -> None:
    """Refuse if a class has no readable image left."""
    lost = np.setdiff1d(np.arange(len(classes)), index)
    if len(lost):
        raise InvalidImageError(
            f"Expected a readable image of every class. Got none of "
            f"{', '.join(repr(label) for label in classes[lost].tolist())}. Give "
            f"other images of them, or leave these classes out."
        )


def _is_number(value: object) -> bool:
    return (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    )


# Name, what a value must pass, and in words.
PARAMETERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "hub_correction": (lambda value: _is_number(value) and value >= 0, "a number >= 0"),
    "center_labels": (lambda value: isinstance(value, bool), "True or False"),
    "seen_penalty": (
        lambda value: value == "auto" or _is_number(value),
        "a number, or 'auto'",
    ),
    "temperature": (
        lambda value: value in (None, "auto") or (_is_number(value) and value > 0),
        "a number > 0, None or 'auto'",
    ),
    "reject": (
        lambda value: (
            value is None
            or isinstance(value, str)
            or (_is_number(value) and -1 <= value <= 1)
        ),
        "a number in [-1, 1], None, 'auto' or 'auto:<rate>'",
    ),
}
