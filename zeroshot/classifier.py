"""`ZeroShotClassifier`: fit on some classes, predict labels never trained on."""

import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_consistent_length, column_or_1d

from zeroshot.backbones.base import Backbone
from zeroshot.backbones.fine_tuning_settings import FineTuning
from zeroshot.defaults import BACKBONE
from zeroshot.errors import (
    ZeroShotWarning,
)
from zeroshot.estimator import Embeddings, FittedEstimator, check_count
from zeroshot.features import OnError
from zeroshot.features.visual_input import check_backbone
from zeroshot.labels import Candidates, Templates, embed_labels
from zeroshot.projections.base import Projection
from zeroshot.saving import Fitted, read_fitted, write_fitted
from zeroshot.scoring import Explanation, RankedLabel
from zeroshot.scoring.adaptation import LearntBatch
from zeroshot.training import (
    LabelledMoments,
    Pretrained,
    PretrainedSetting,
    Targets,
    check_fine_tuning,
    check_known,
    check_targets,
    learn,
    learn_from_moments,
    learn_without_images,
)

__all__ = ["UNKNOWN_LABEL", "RankedLabel", "ZeroShotClassifier", "load"]

UNKNOWN_LABEL = "unknown"
"""What `ZeroShotClassifier.predict` answers where it has no answer."""


class ZeroShotClassifier(FittedEstimator):
    """Classify images into labels that are named only when predicting.

    Training maps the features of images into the space of word vectors (DeViSE [1]_).
    A new image gets the candidate label whose word vector is nearest by cosine, seen in
    training or not. Methods that predict change nothing: many threads may call them.

    Parameters
    ----------
    backbone : str, Backbone or None, default="mobilenet-v2"
        What turns images into features: a registered name (``"mobilenet-v2"``), a spec
        (``"keras:/model.keras"``) or an object. None: ``X`` is a matrix of features.
    embeddings : str, Path, TextEmbeddings or None, default=None
        Where word vectors come from: the path of a vector file, a spec
        (``"glove:/path/file.txt"``), a registered or published name or an object.
        None: ``"numberbatch"``; or the backbone itself, if it encodes texts too.
    projection : str or Projection, default="auto"
        The maps of images and of labels into one space: a registered name or an
        estimator, such as ``DeViSE(margin=0.2)``, whose parameters are searchable as
        ``projection__margin``. ``"auto"``: ``"devise"``; or, where the backbone is a
        joint model (``"clip:/folder"``), which needs no fit, ``"joint"``.
    pretrained_classes : "auto", mapping, ClassifierHead or None, default="auto"
        The classes that the backbone was trained on, to learn from beside those of the
        images: all of them where it has a classifier and they have a word vector;
        ``{class: name or names}``, those alone, by these names; a
        `zeroshot.backbones.ClassifierHead` of your own. They are not among the
        ``classes_``. None leaves them out.
    candidate_labels : sequence, mapping or None, default=None
        What to predict among where a method is given no ``candidate_labels``: labels,
        or ``{label: [alias, ...]}``. None means the seen classes.
    templates : str, list of str or None, default=None
        Texts that a label is put into, for embeddings that encode phrases: one with one
        ``{}`` ("a photo of a {}."), several, whose vectors are averaged, or the name of
        a set, ``"imagenet-7"`` or ``"imagenet-80"``. None is what suits the encoder,
        mostly the bare label, as ``"{}"`` is always. Takes effect in `fit`.
    hub_correction : float or None, default=None
        A label's scores lose this times the mean of its five highest cosines with known
        classes, as in CSLS (`zeroshot.scoring.label_space`). None is what suits the
        projection: 0.25, and 0.5 where images are mapped to words. Takes effect in
        `fit`.
    seen_penalty : float or "auto", default=0.0
        Subtracted from the scores of seen classes (calibrated stacking [2]_). Without
        it an unseen class almost never wins against seen ones. ``"auto"`` takes the
        best on folds of the seen classes (`zeroshot.scoring.calibration`).
    temperature : float, "auto" or None, default=None
        Divides the scores before the softmax of `predict_proba`, > 0. None is what
        suits the projection, not calibrated for your classes; ``"auto"`` is, on folds.
    reject : float, str or None, default=None
        When `predict` answers ``unknown_label``: where no candidate scores this much,
        in [-1, 1]; or, for ``"auto:0.05"``, where none stands out from the seen classes
        so far that only 0.05 of the images whose label is not a candidate would be
        accepted; ``"auto"`` takes the best rate on the folds. None means never.
    unknown_label : hashable, default="unknown"
        What `predict` answers then, and for images that cannot be read.
    batch_size : int, default=32
        Images that the backbone is given at once, at least 1.
    cache : bool, default=True
        Remember the features of images on disk, by the content of the image.
    on_error : {"raise", "skip", "nan"}, default="raise"
        What to do about images that cannot be read: raise the error of the first; let
        results have a row for them, of ``unknown_label`` or NaN; or none. The last two
        leave them out of training, with a warning; `points` tells which and why.
    fine_tune : "auto", int, str, FineTuning or None, default=None
        DeViSE's second phase, with ``projection="devise"``: train the last layers of a
        copy of a Keras backbone too. How many layers, the name of the first one, or
        `zeroshot.FineTuning`; ``"auto"`` is all its defaults. The backbone stays frozen
        where that does not help held-out seen classes, with a warning.
    random_state : int, RandomState instance or None, default=None
        Seeds a projection without a ``random_state`` of its own, and the folds.

    Attributes
    ----------
    seen_classes_ : ndarray of shape (n_classes,)
        The classes of training, sorted.
    classes_ : ndarray
        What columns of scores stand for without ``candidate_labels`` in the call: the
        seen classes; or the constructor's candidates, seen ones first in that order.
    class_embeddings_ : ndarray of shape (n_classes, dim_text), float32
        Vectors of the seen classes, of unit length.
    n_features_in_, n_images_ : int
        Length of a feature vector; images that were trained on.
    seen_penalty_, temperature_ : float
        The values in effect.
    label_report_, projection_, backbone_, calibration_, ... : object
        All else that was learnt: see `zeroshot.saving.Fitted`.

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
    >>> clf = ZeroShotClassifier("color-hog", Attributes(*shape_attributes()))
    >>> clf = clf.fit(images[seen], labels[seen])
    >>> set(clf.predict(images[~seen], ["red star", "blue ring"]).tolist())
    {'red star'}
    """

    def __init__(
        self,
        backbone: str | Backbone | None = BACKBONE,
        embeddings: Embeddings | None = None,
        *,
        projection: str | Projection = "auto",
        pretrained_classes: PretrainedSetting = "auto",
        candidate_labels: Candidates = None,
        templates: Templates = None,
        hub_correction: float | None = None,
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
        self.pretrained_classes = pretrained_classes
        self.candidate_labels = candidate_labels
        self.templates = templates
        self.hub_correction = hub_correction
        self.seen_penalty = seen_penalty
        self.temperature = temperature
        self.reject = reject
        self.unknown_label = unknown_label
        self.batch_size = batch_size
        self.cache = cache
        self.on_error = on_error
        self.fine_tune = fine_tune
        self.random_state = random_state

    def fit(self, X: Any, y: Sequence[Hashable] | NDArray[Any]) -> Self:
        """Learn the map from images (or features) to their labels' word vectors.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            Any form that `zeroshot.images` takes: paths, a folder, bytes, PIL images,
            arrays. A 2-D array or DataFrame of numbers is a matrix of the backbone's
            features; so is a file that ``zeroshot embed`` wrote.
        y : array-like of shape (n,)
            Label of each image; at least 2 different ones.

        Returns
        -------
        self : ZeroShotClassifier

        Raises
        ------
        UnknownPluginError, ArtifactError
            If the backbone, the vector file or the projection cannot be found or read.
        OutOfVocabularyError, LabelError, InvalidImageError, ValueError
            If labels have no word vector, or are not one for each image; an image
            cannot be read; features or parameters are out of range.
        """
        return self._learnt(X, y)

    def _learnt(self, X: Any, y: Any, least: int = 2) -> Self:
        """Fit on images of at least so many classes."""
        settings, backbone, embeddings, projection = self._begin()
        visual = self._visual(X, backbone, fitting=True)
        targets = Targets.of(y, len(visual), self.candidate_labels, least=least)
        tuning = FineTuning.of(self.fine_tune)
        if tuning is not None:
            network = None if visual.images is None else backbone
            check_fine_tuning(tuning, network, projection, len(targets.classes))
        names = targets.classes.tolist()
        class_embeddings, report = embed_labels(names, embeddings)
        images = self._read(visual)
        features, index, positions = targets.readable(images)
        sources = visual.images and [visual.images[i] for i in positions]
        known = (sources, features) if sources else None
        pretrained = Pretrained.of(
            self.pretrained_classes, backbone, embeddings, names, known
        )
        data = features, index, class_embeddings, pretrained
        learnt = learn(projection, *data, settings, self.random_state)
        fitted = Fitted(
            seen_classes=targets.classes,
            class_embeddings=class_embeddings,
            label_report=report,
            backbone=backbone,
            backbone_fingerprint=images.fingerprint,
            embeddings=embeddings,
            n_features=features.shape[1],
            n_images=len(features),
            image_errors=images.errors,
            **learnt._asdict(),
        )
        if tuning is not None and sources is not None:
            fitted = fitted.fine_tuned(sources, features, index, tuning)
        return self._adopt(fitted)

    def partial_fit(
        self,
        X: Any,
        y: Sequence[Hashable] | NDArray[Any],
        classes: Sequence[Hashable] | None = None,
    ) -> Self:
        """Learn from more images, of seen or of new classes; one image will do.

        With a closed form (``"ridge"``, ``"eszsl"``, ``"sae"``, ``"visual"``) and
        numbers for its parameters, the result is that of a fit on all images at once,
        to rounding; ``"devise"`` trains its linear map further on the new ones. What
        was found on folds (``"auto"``) stays what it was. Nothing is changed where an
        error is raised. Before a fit this is `fit`.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`, of the same backbone.
        y : array-like of shape (n,)
            Label of each image. One that names a seen class is of that class; a new one
            without a word vector is known by its images alone, with a warning.
        classes : sequence of hashable or None, default=None
            All labels that may come, where something other than these is a mistake.

        Returns
        -------
        self : ZeroShotClassifier

        Raises
        ------
        PluginContractError
            If the projection cannot learn later.
        LabelError, OutOfVocabularyError, InvalidImageError, FingerprintMismatchError
            As `fit` and `predict`; also for a label that is not among ``classes``.
        """
        if classes is not None:
            check_known(check_targets(y), classes)
        if not self.__sklearn_is_fitted__():
            return self._learnt(X, y, least=1 if self._is_joint() else 2)
        self._settings()
        fitted = self._fitted
        backbone, fingerprint = fitted.backbone, fitted.backbone_fingerprint
        visual = self._visual(X, backbone, fingerprint, fitting=True)
        targets = Targets.of(y, len(visual), self.candidate_labels, least=1)
        more = fitted.more_classes(targets.classes)
        features, index, _ = targets.readable(self._read(visual))
        return self._adopt(fitted.with_more(features, more, index))

    def fit_moments(self, moments: LabelledMoments) -> Self:
        """Learn from sums over images, which may lie on many machines.

        With a closed form (``"ridge"``, ``"eszsl"``, ``"sae"``, ``"visual"``) the
        result is that of `fit` on all these images, to rounding; ``"devise"`` leaves
        its linear map where it starts, as with ``epochs=0``.

        Parameters
        ----------
        moments : LabelledMoments
            From `zeroshot.training.moments_of_parquet`, or ``moments`` of
            `zeroshot.integrations.ray` and `zeroshot.integrations.spark`.

        Returns
        -------
        self : ZeroShotClassifier

        Raises
        ------
        PluginContractError
            If the projection learns from images only.
        UnknownPluginError, ArtifactError, OutOfVocabularyError, LabelError, ValueError
            As `fit`; also if a parameter is ``"auto"``: that needs images.
        FingerprintMismatchError
            If the features are another backbone's.
        """
        settings, backbone, embeddings, projection = self._begin()
        if self.fine_tune is not None:
            got = f"Got fine_tune={self.fine_tune!r}. Use fit."
            raise ValueError(f"Expected fine_tune=None: there are no images. {got}")
        targets = Targets.of(moments.classes, len(moments.classes), None)
        if backbone is not None and moments.fingerprint is not None:
            check_backbone(backbone, moments.fingerprint)
        names = targets.classes.tolist()
        class_embeddings, report = embed_labels(names, embeddings)
        pretrained = Pretrained.of(
            self.pretrained_classes, backbone, embeddings, names, None
        )
        learnt = learn_from_moments(
            projection,
            moments,
            class_embeddings,
            pretrained,
            settings,
            self.random_state,
        )
        fitted = Fitted(
            seen_classes=targets.classes,
            class_embeddings=class_embeddings,
            label_report=report,
            backbone=backbone,
            backbone_fingerprint=moments.fingerprint,
            embeddings=embeddings,
            n_features=len(moments.moments.gram),
            n_images=int(moments.moments.counts.sum()),
            **learnt._asdict(),
        )
        return self._adopt(fitted)

    def fit_pretrained(self) -> Self:
        """Learn from the classes that the backbone was trained with; needs no images.

        They, usually those of ImageNet-1k, become the seen classes, as far as they have
        a word vector.

        Returns
        -------
        self : ZeroShotClassifier

        Raises
        ------
        NoClassifierError
            If the backbone has no classifier of its own.
        UnknownPluginError, ArtifactError, OutOfVocabularyError, ValueError
            As `fit`; also if the classifier's weights cannot be had, the projection
            learns from images only, or a parameter is ``"auto"``: that needs images.
        """
        settings, backbone, embeddings, projection = self._begin()
        if self.fine_tune is not None:
            got = f"Got fine_tune={self.fine_tune!r}. Use fit."
            raise ValueError(f"Expected fine_tune=None: there are no images. {got}")
        setting, seed = self.pretrained_classes, self.random_state
        learnt, classes, report = learn_without_images(
            setting, backbone, embeddings, projection, settings, seed
        )
        fitted = Fitted(
            seen_classes=classes,
            class_embeddings=report.class_embeddings,
            label_report=report,
            backbone=backbone,
            backbone_fingerprint=None if backbone is None else backbone.fingerprint,
            embeddings=embeddings,
            n_features=learnt.projection.n_features_in_,
            n_images=0,
            **learnt._asdict(),
        )
        return self._adopt(fitted)

    def predict(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
        adapt: bool | LearntBatch = False,
    ) -> NDArray[Any]:
        """Return the best candidate label for each image.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
            As in `fit`; or what `points` returned.
        candidate_labels : sequence, mapping or None, default=None
            Labels to choose from, seen in training or not; ``{label: [alias, ...]}``
            gives other names to try. ``"vocabulary"`` means the first 100,000 words
            that the embeddings know, or as many as ``"vocabulary:20000"`` says. None
            means the constructor's, else the seen classes.
        embeddings : str, Path, TextEmbeddings or None, default=None
            Where to look candidates up instead of the embeddings of training, whose
            space they must share: aligned vectors of another language, say.
        adapt : bool, default=False
            Judge all images of this call together (`zeroshot.scoring.adaptation`): more
            are right, but the answer for one then depends on the others. Images that
            belong to no candidate do not come nearer to any. Or what `learn_batch`
            returned: these images are a part of that batch.

        Returns
        -------
        labels : ndarray of shape (n,)
            ``unknown_label`` where ``reject`` says so, and for unreadable images.

        Raises
        ------
        NotFittedError, LabelError, OutOfVocabularyError, InvalidImageError
            Labels are checked before any image is read.
        """
        _, scores = self._scores(X, candidate_labels, embeddings, adapt)
        return scores.names(self.unknown_label)

    def predict_proba(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        embeddings: Embeddings | None = None,
        multi_label: bool = False,
        adapt: bool = False,
    ) -> NDArray[np.float32]:
        """Return the softmax of the scores over the candidates.

        They are probabilities in the sense of being right that often only if
        ``temperature`` was calibrated on classes like yours (``"auto"``).

        Parameters
        ----------
        X, candidate_labels, embeddings : as in `predict`
        multi_label : bool, default=False
            Rate each label by itself, for labels that do not exclude one another, by
            the logistic function that a `fit` with an ``"auto"`` found on folds, or,
            without that, by the sigmoid of a joint model that has one (SigLIP).
        adapt : bool, default=False
            As in `predict`; not with ``multi_label``.

        Returns
        -------
        probabilities : ndarray of shape (n, n_candidates), float32
            In [0, 1], columns in the order of the candidates given here, else of
            ``classes_``; rows sum to 1. With ``multi_label``, 0.5 means as likely as
            not, for a label that applies to half of all images.
        """
        _, scores = self._scores(X, candidate_labels, embeddings, adapt)
        return scores.probabilities(multi_label=multi_label)

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
        X, candidate_labels, embeddings : as in `predict`

        Returns
        -------
        scores : ndarray of shape (n, n_candidates) or (n,), float32
            Columns as in `predict_proba`; of two candidates, as everywhere in
            scikit-learn, the score of the second less that of the first.
        """
        scores = self.scores(X, candidate_labels, embeddings=embeddings)
        is_pair = scores.shape[1] == 2
        return np.asarray(scores[:, 1] - scores[:, 0] if is_pair else scores)

    def rank(
        self,
        X: Any,
        candidate_labels: Candidates = None,
        *,
        k: int = 5,
        embeddings: Embeddings | None = None,
        multi_label: bool = False,
        adapt: bool | LearntBatch = False,
    ) -> list[list[RankedLabel]]:
        """Return the best candidates for each image, best first.

        Parameters
        ----------
        X, candidate_labels : as in `predict`
        k : int, default=5
            How many, at least 1; all candidates where there are fewer.
        embeddings : as in `predict`
        multi_label : bool, default=False
            As in `predict_proba`, and the best by that.
        adapt : bool, default=False
            As in `predict`; not with ``multi_label``.

        Returns
        -------
        ranked : list of list of RankedLabel
            An empty list for an unreadable image under ``on_error="nan"``.
        """
        check_count("k", k)
        _, scores = self._scores(X, candidate_labels, embeddings, adapt)
        return scores.ranked(k, multi_label=multi_label)

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
        X, candidate_labels : as in `predict`
        k : int, default=5
            How many candidates, and how many seen classes, are shown; at least 1.
        embeddings : as in `predict`

        Returns
        -------
        explanations : list of Explanation
            The best candidates, how their vectors were made, their margin, and the seen
            classes that the image is nearest to.
        """
        check_count("k", k)
        candidates, scores = self._scores(X, candidate_labels, embeddings)
        entries = candidates.entries or [None] * len(candidates.labels)
        classes = self._fitted.seen_classes.tolist()
        return scores.explained(k, self.unknown_label, entries, classes)

    def score(
        self,
        X: Any,
        y: Sequence[Hashable] | NDArray[Any],
        sample_weight: Any = None,
        *,
        candidate_labels: Candidates = None,
    ) -> float:
        """Return the accuracy: the share of images whose best candidate is right.

        The field reports `zeroshot.metrics.per_class_accuracy`, the mean over classes.

        Parameters
        ----------
        X : images, or array-like of shape (n, dim_visual)
        y : array-like of shape (n,)
            True labels; ``"lion"`` stands for the candidate ``"lion, king of beasts"``
            unless it is one itself (`zeroshot.labels.seen_class`).
        sample_weight : array-like of shape (n,), default=None
            Weights of the images.
        candidate_labels : sequence, mapping or None, default=None
            As in `predict`; but where there are none, nor any in the constructor,
            labels of ``y`` that were not trained on are candidates: among themselves if
            ``y`` has no seen class, else beside all seen classes.

        Returns
        -------
        accuracy : float
            In [0, 1].
        """
        fitted = self._fitted
        y = np.asarray(y)
        y = y if y.ndim == 1 else np.asarray(column_or_1d(y))
        if candidate_labels is None and self.candidate_labels is None:
            candidate_labels = fitted.seen.beside(y.tolist())
        candidates = self._candidates(candidate_labels)
        if len(candidates.labels) == 1:
            warnings.warn(
                f"There is one candidate, {candidates.labels.tolist()[0]!r}: every "
                f"answer is right. Give more classes, or candidate_labels.",
                ZeroShotWarning,
                stacklevel=2,
            )
        points = self.points(X)
        check_consistent_length(np.empty(points.n_images), y, sample_weight)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)[points.positions]
        truth = candidates.named(y[points.positions].tolist())
        names = self._compared(candidates, points).names(self.unknown_label)
        # As objects: "unknown" may stand beside labels that are numbers.
        is_right = names.astype(object) == truth
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
            Labels whose vectors are kept in the bundle, beside the seen ones and
            ``candidate_labels`` with their aliases. It then needs no vector file, and
            knows those labels only. `Attributes` in memory are always kept, whole.

        Raises
        ------
        OutOfVocabularyError
            If a label of ``vocabulary`` has no vector.
        ArtifactError
            If something else lies at ``path``, or the projection cannot be saved.
        """
        fitted = self._fitted
        parameters = self.get_params(deep=False)
        write_fitted(Path(path), fitted, parameters, vocabulary)


def load(
    path: str | Path,
    *,
    backbone: str | Backbone | None = None,
    embeddings: Embeddings | None = None,
) -> ZeroShotClassifier:
    """Read a fitted classifier from a bundle.

    Nothing in a bundle is run, nothing that it names is fetched: a backbone that is a
    program (``tfhub:``, ``keras:``) or is not on this machine must be named here.

    Parameters
    ----------
    path : str or Path
        A folder that `ZeroShotClassifier.save` made.
    backbone : str, Backbone or None, default=None
        The backbone of training, where the bundle cannot or must not name it.
    embeddings : str, Path, TextEmbeddings or None, default=None
        The vectors of training, where the file lies elsewhere now. None means the
        bundle's own vocabulary if it has one, else the file that it names.

    Returns
    -------
    classifier : ZeroShotClassifier
        Fitted; predicts what the saved one did, bit for bit on the same machine.

    Raises
    ------
    ArtifactError
        If the bundle is broken, or what it names is missing or must be named here.
    FingerprintMismatchError
        If vectors or backbone are not those of training; a backbone that the bundle
        names is loaded and checked when the first images come.
    """
    return read_fitted(Path(path), _build, backbone=backbone, embeddings=embeddings)


def _build(fitted: Fitted, parameters: dict[str, Any]) -> ZeroShotClassifier:
    projection = clone(fitted.projection)
    classifier = ZeroShotClassifier(projection=projection, **parameters)
    classifier._adopt(fitted)._settings_in_effect()
    return classifier
