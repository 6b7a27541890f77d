"""For each check of `zeroshot.testing`, plugins that break just that promise.

A plugin counts only if its check is the first of the kit to fail: so each check catches
something that those before it let through.
"""

import uuid

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from zeroshot.backbones import ClassifierHead
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.testing import (
    backbone_checks,
    check_backbone,
    check_projection,
    check_text_embeddings,
    projection_checks,
    text_embeddings_checks,
)

WORDS = {"known": ["zebra", "okapi", "bear"], "unknown": ["qwxz"]}

# ------------------------------------------------------------------------- backbones


class Means:
    """A healthy backbone: mean colour of the halves of an image."""

    name, dim, input_size, fingerprint = "means", 6, (12, 10), "means-1"

    def embed(self, images):
        halves = images.reshape(len(images), 2, 6, 10, 3).mean(axis=(2, 3))
        return halves.reshape(len(images), self.dim).astype(np.float32)

    def __sklearn_clone__(self):
        return self


class Nameless(Means):
    name = ""


class WithoutFingerprint:
    name, dim, input_size = Means.name, Means.dim, Means.input_size
    embed, __sklearn_clone__ = Means.embed, Means.__sklearn_clone__


class FloatDim(Means):
    dim = 6.0


class OneSide(Means):
    input_size = 12


class Float64(Means):
    def embed(self, images):
        return super().embed(images).astype(np.float64)


class TooWide(Means):
    dim = 7

    def embed(self, images):
        return np.zeros((len(images), 6), np.float32)


class NotANumber(Means):
    def embed(self, images):
        return super().embed(images) * np.float32(np.nan)


class SqueezesOne(Means):
    def embed(self, images):
        return super().embed(images).squeeze()


class CrashesOnNone(Means):
    def embed(self, images):
        images[0]
        return super().embed(images)


class InPlace(Means):
    def embed(self, images):
        features = super().embed(images)
        np.subtract(255, images, out=images)
        return features


class Dropout(Means):
    def embed(self, images):
        features = super().embed(images)
        return features * (np.random.default_rng().random(features.shape) < 0.5)


class TrainingBatchNorm(Means):
    def embed(self, images):
        features = super().embed(images)
        return features - (features.mean(axis=0) if len(images) else 0)


class Reorders(Means):
    def embed(self, images):
        return np.sort(super().embed(images), axis=0)


class ReusesItsResult(Means):
    def embed(self, images):
        if not hasattr(self, "result"):
            self.result = np.empty((8, 6), np.float32)
        self.result[: len(images)] = super().embed(images)
        return self.result[: len(images)]


class Constant(Means):
    def embed(self, images):
        return np.ones((len(images), 6), np.float32)


class Grey(Means):
    def __init__(self, weights):
        self.weights = np.array(weights)

    def embed(self, images):
        grey = (images @ self.weights)[..., None].repeat(3, axis=3)
        return super().embed(grey)


class CopiedByDefault:
    name, dim, input_size, fingerprint = "copied", 6, (12, 10), "copied-1"
    embed = Means.embed


class ChangesFingerprintInUse(Means):
    n_calls = 0

    @property
    def fingerprint(self):
        return f"means-{self.n_calls}"

    def embed(self, images):
        self.n_calls += 1
        return super().embed(images)


class FingerprintOfTheProcess(Means):
    def __init__(self):
        self.key = uuid.uuid4().hex

    @property
    def fingerprint(self):
        return self.key

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()


class LosesWeights(Means):
    def __init__(self):
        self.weight = np.float32(2)

    def embed(self, images):
        return super().embed(images) * getattr(self, "weight", np.float32(1))

    def __getstate__(self):
        return {"weight": np.float32(1)}


class CannotBePickled(Means):
    def __init__(self):
        self.scale = lambda features: features


class Headed(Means):
    """A healthy backbone that knows two classes of its pretraining."""

    names = (("left",), ("right", "other"))

    def classifier_head(self):
        weights = np.eye(6, 2, dtype=np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))

    def logits(self, images):
        return self.classifier_head().logits(self.embed(images))


class HeadOfAnOlderPlugin(Means):
    """Healthy, without a method for logits."""

    names, classifier_head = Headed.names, Headed.classifier_head


class LogitsAlone(Headed):
    """A healthy backbone whose classifier is more than one layer."""

    def classifier_head(self):
        return ClassifierHead(self.names, None, None)

    def logits(self, images):
        return np.maximum(self.embed(images), 100)[:, :2]


class LostItsHead(Headed):
    def classifier_head(self):
        raise NoClassifierError("Expected a classifier. Got random weights.")


class NarrowHead(Headed):
    def classifier_head(self):
        weights = np.eye(5, 2, dtype=np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))


class NamelessClass(Headed):
    names = (("left",), ("",))


class PairOfArrays(Headed):
    def classifier_head(self):
        return np.eye(6, 2, dtype=np.float32), np.ones(2, np.float32)


class NewHeadEachTime(Headed):
    def classifier_head(self):
        weights = np.random.default_rng().random((6, 2), np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))


class OtherNamesEachTime(Headed):
    @property
    def names(self):
        return (("left",), (uuid.uuid4().hex,))


class HeadOnlyOnce(Headed):
    def classifier_head(self):
        if hasattr(self, "asked"):
            raise NoClassifierError("Expected to be asked once. Got twice.")
        self.asked = True
        return super().classifier_head()


class ForgetsTheBias(Headed):
    def logits(self, images):
        return super().logits(images) - 1


class DoubleLogits(Headed):
    def logits(self, images):
        return super().logits(images).astype(float)


class CentredLogits(LogitsAlone):
    def logits(self, images):
        logits = super().logits(images)
        return logits - (logits.mean(axis=0) if len(images) else 0)


class LogitsNeedAnImage(LogitsAlone):
    def logits(self, images):
        return super().logits(images) + 0 * images.max()


class InfiniteLogits(LogitsAlone):
    def logits(self, images):
        return super().logits(images) * np.float32(np.inf)


BACKBONES = [
    ("check_members", Nameless()),
    ("check_members", WithoutFingerprint()),
    ("check_members", FloatDim()),
    ("check_members", OneSide()),
    ("check_features", Float64()),
    ("check_features", TooWide()),
    ("check_features", NotANumber()),
    ("check_features", SqueezesOne()),
    ("check_features", CrashesOnNone()),
    ("check_input_unchanged", InPlace()),
    ("check_deterministic", Dropout()),
    ("check_rows_independent", TrainingBatchNorm()),
    ("check_rows_independent", Reorders()),
    ("check_rows_independent", ReusesItsResult()),
    ("check_sees_color", Constant()),
    ("check_sees_color", Grey([1 / 3, 1 / 3, 1 / 3])),
    ("check_sees_color", Grey([0.299, 0.587, 0.114])),
    ("check_sees_color", Grey([0.2125, 0.7154, 0.0721])),
    ("check_clone", CopiedByDefault()),
    ("check_fingerprint", ChangesFingerprintInUse()),
    ("check_pickle", CannotBePickled()),
    ("check_pickle", FingerprintOfTheProcess()),
    ("check_pickle", LosesWeights()),
    ("check_classifier_head", NarrowHead()),
    ("check_classifier_head", NamelessClass()),
    ("check_classifier_head", PairOfArrays()),
    ("check_classifier_head", NewHeadEachTime()),
    ("check_classifier_head", OtherNamesEachTime()),
    ("check_classifier_head", HeadOnlyOnce()),
    ("check_logits", ForgetsTheBias()),
    ("check_logits", DoubleLogits()),
    ("check_logits", CentredLogits()),
    ("check_logits", LogitsNeedAnImage()),
    ("check_logits", InfiniteLogits()),
]

# ------------------------------------------------------------------- text embeddings


class Letters:
    """Healthy text embeddings: counts of letters, for words without a q."""

    name, dim, fingerprint = "letters", 26, "letters-1"

    def lookup(self, words):
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"Expected words. Got {words!r}.")
        found = np.array(["q" not in word for word in words], dtype=bool)
        vectors = np.array([self.vector(word) for word in words], np.float32)
        vectors = vectors.reshape(len(words), self.dim)
        vectors[~found] = np.nan
        return vectors, found

    def vector(self, word):
        return [word.count(chr(97 + i)) for i in range(26)]

    def __sklearn_clone__(self):
        return self


class Dimless(Letters):
    dim = 0


class Doubles(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors.astype(float), found


class CountsInsteadOfFlags(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found.astype(int)


class FindsNothing(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found & False


class Zeros(Letters):
    def vector(self, word):
        return [0] * 26


class Infinite(Letters):
    def vector(self, word):
        return [np.inf] * 26


class ZerosForUnknown(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return np.nan_to_num(vectors), found


class ClaimsEverything(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors, found | True


class LeavesUnknownOut(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return vectors[found], found[found]


class NeedsAWord(Letters):
    def lookup(self, words):
        return super().lookup([words[0], *words[1:]])


class FlatWithoutWords(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        return (vectors if len(words) else np.zeros(0, np.float32)), found


class Centred(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        if len(words) > 1:
            vectors = vectors - np.nanmean(vectors, axis=0)
        return vectors, found


class SortsWords(Letters):
    def lookup(self, words):
        super().lookup(words)
        vectors, found = super().lookup(sorted(words))
        order = np.argsort(np.argsort(list(words))) if "qwxz" in words else slice(None)
        return vectors[order], found[order]


class DropsRepetition(Letters):
    def lookup(self, words):
        vectors, found = super().lookup(words)
        first = [i for i, word in enumerate(words) if word not in words[:i]]
        return vectors[first], found[first]


class TakesRowNumbers(Letters):
    def lookup(self, words):
        return super().lookup([w if isinstance(w, str) else "okapi" for w in words])


class TakesLetters(Letters):
    def lookup(self, words):
        return super().lookup(list(words))


class CopiedLetters:
    name, dim, fingerprint = "letters", 26, "letters-1"
    lookup, vector = Letters.lookup, Letters.vector


class RandomKey(Letters):
    @property
    def fingerprint(self):
        return uuid.uuid4().hex


class ForgetsItsScale(Letters):
    def __init__(self):
        self.scale = 2

    def vector(self, word):
        return [self.scale * count for count in super().vector(word)]

    def __getstate__(self):
        return {"scale": 1}


EMBEDDINGS = [
    ("check_members", Dimless()),
    ("check_known_words", Doubles()),
    ("check_known_words", CountsInsteadOfFlags()),
    ("check_known_words", FindsNothing()),
    ("check_known_words", Zeros()),
    ("check_known_words", Infinite()),
    ("check_unknown_words", ZerosForUnknown()),
    ("check_unknown_words", ClaimsEverything()),
    ("check_unknown_words", LeavesUnknownOut()),
    ("check_no_words", NeedsAWord()),
    ("check_no_words", FlatWithoutWords()),
    ("check_context_free", Centred()),
    ("check_context_free", SortsWords()),
    ("check_refuses_non_words", TakesRowNumbers()),
    ("check_refuses_non_words", TakesLetters()),
    ("check_clone", CopiedLetters()),
    ("check_fingerprint", RandomKey()),
    ("check_pickle", ForgetsItsScale()),
]

# ----------------------------------------------------------------------- projections


class LeastSquares(BaseEstimator):
    """A healthy projection."""

    def __init__(self, alpha=1e-3, random_state=None):
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X, y, *, class_embeddings):
        X = validate_data(self, X)
        gram = X.T @ X + self.alpha * np.eye(X.shape[1])
        self.coef_ = np.linalg.solve(gram, X.T @ class_embeddings[y])
        return self

    def transform(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_min_samples=0)
        return (X @ self.coef_).astype(np.float32)


class NoTransform(BaseEstimator):
    def fit(self, X, y, *, class_embeddings):
        return self


class NoEstimator:
    fit, transform = LeastSquares.fit, LeastSquares.transform


class Converts(LeastSquares):
    def __init__(self, alpha=1e-3):
        super().__init__(str(alpha))


class ChecksInInit(LeastSquares):
    def __init__(self, alpha=1e-3):
        super().__init__(alpha)
        if alpha <= 0:
            raise ValueError(alpha)


class SetParamsChecks(LeastSquares):
    def set_params(self, **parameters):
        return super().set_params(**{k: str(v) for k, v in parameters.items()})


class CloneIsItself(LeastSquares):
    def __sklearn_clone__(self):
        return self


class ReturnsNothing(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        super().fit(X, y, class_embeddings=class_embeddings)


class TunesItself(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        self.alpha = 0.01
        return super().fit(X, y, class_embeddings=class_embeddings)


class DoublePoints(LeastSquares):
    def transform(self, X):
        return super().transform(X).astype(np.float64)


class NeedsAnImage(LeastSquares):
    def transform(self, X):
        return super().transform(X) + 0 * X.max()


class NaNPoints(LeastSquares):
    def transform(self, X):
        return super().transform(X) * np.float32(np.nan)


class OnlyFloat32(LeastSquares):
    def transform(self, X):
        if X.dtype != np.float32:
            raise TypeError("Expected float32.")
        return super().transform(X)


class OnlyFloat32Training(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        if class_embeddings.dtype != np.float32:
            raise TypeError("Expected float32.")
        return super().fit(X, y, class_embeddings=class_embeddings)


class CentresInPlace(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        X -= X.mean(axis=0)
        return super().fit(X, y, class_embeddings=class_embeddings)


class ScalesTextInPlace(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        class_embeddings *= 2
        return super().fit(X, y, class_embeddings=class_embeddings)


class TransformsInPlace(LeastSquares):
    def transform(self, X):
        points = super().transform(X)
        X *= 2
        return points


class IgnoresSeed(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        super().fit(X, y, class_embeddings=class_embeddings)
        self.coef_ += 0.01 * np.random.default_rng().standard_normal(self.coef_.shape)
        return self


class CentresTheBatch(LeastSquares):
    def transform(self, X):
        points = super().transform(X)
        return points - (points.mean(axis=0) if len(points) else 0)


class UnfittedIsIdentity(LeastSquares):
    def transform(self, X):
        return super().transform(X) if hasattr(self, "coef_") else X


class UnfittedIsAttributeError(LeastSquares):
    def transform(self, X):
        self.coef_  # noqa: B018 - fails where unfitted
        return super().transform(X)


class CutsFeatures(LeastSquares):
    def transform(self, X):
        return super().transform(X[:, :24])


class PadsFeatures(LeastSquares):
    def transform(self, X):
        missing = max(0, 24 - X.shape[1])
        return super().transform(np.pad(X, ((0, 0), (0, missing))))


class LearnsNothing(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        return super().fit(X, np.zeros_like(y), class_embeddings=class_embeddings)


class MixesClasses(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        return super().fit(X, (y + 1) % 12, class_embeddings=class_embeddings)


class LosesItsMap(LeastSquares):
    def __getstate__(self):
        return {**super().__getstate__(), "coef_": self.coef_ + 1}


class KeepsItsFirstMap(LeastSquares):
    def fit(self, X, y, *, class_embeddings):
        if hasattr(self, "coef_"):
            return self
        return super().fit(X, y, class_embeddings=class_embeddings)


class TwoMaps(LeastSquares):
    """A healthy one that has all that is optional: least squares from words."""

    def fit(self, X, y, *, class_embeddings, pretrained=None):
        X = validate_data(self, X, ensure_min_samples=0)
        return self._learn(*self._sums(X, y, class_embeddings), pretrained)

    def partial_fit(self, X, y, *, class_embeddings, places, pretrained=None):
        counts, sums, T = self._sums(X, y, class_embeddings)
        counts[places] += self.counts_
        sums[places] += self.sums_
        return self._learn(counts, sums, T, pretrained)

    def _sums(self, X, y, T):
        own = np.eye(len(T))[y]
        return own.sum(axis=0), own.T @ X, T

    def _learn(self, counts, sums, T, pretrained):
        self.counts_, self.sums_ = counts, sums
        gram, right = T.T @ (counts[:, None] * T), T.T @ sums
        if pretrained is not None:
            gram = gram + pretrained.class_embeddings.T @ pretrained.class_embeddings
            right = right + pretrained.class_embeddings.T @ pretrained.weights
        self.coef_ = np.linalg.solve(gram + self.alpha * np.eye(len(gram)), right)
        self.class_points_ = self.transform_labels(T)
        return self

    def transform(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_min_samples=0)
        return X.astype(np.float32)

    def transform_labels(self, class_embeddings):
        check_is_fitted(self)
        return (class_embeddings @ self.coef_).astype(np.float32)


class LabelsInAnotherSpace(TwoMaps):
    def transform_labels(self, class_embeddings):
        return super().transform_labels(class_embeddings)[:, :5]


class DoubleLabels(TwoMaps):
    def transform_labels(self, class_embeddings):
        return super().transform_labels(class_embeddings).astype(np.float64)


class NeedsALabel(TwoMaps):
    def transform_labels(self, class_embeddings):
        return super().transform_labels(class_embeddings) + 0 * class_embeddings.max()


class UnfittedLabels(TwoMaps):
    def transform_labels(self, class_embeddings):
        if hasattr(self, "coef_"):
            return super().transform_labels(class_embeddings)
        return np.zeros((len(class_embeddings), 24), np.float32)


class ScalesLabelsInPlace(TwoMaps):
    def transform_labels(self, class_embeddings):
        points = super().transform_labels(class_embeddings)
        class_embeddings *= 2
        return points


class CentresTheList(TwoMaps):
    def transform_labels(self, class_embeddings):
        points = super().transform_labels(class_embeddings)
        return points - (points.mean(axis=0) / 2 if len(points) else 0)


class ClassPointsOfWords(TwoMaps):
    def _learn(self, counts, sums, T, pretrained):
        super()._learn(counts, sums, T, pretrained)
        self.class_points_ = T.astype(np.float32)
        return self


class ClassPointsOfImages(TwoMaps):
    def _learn(self, counts, sums, T, pretrained):
        super()._learn(counts, sums, T, pretrained)
        with np.errstate(invalid="ignore"):
            self.class_points_ = (sums / counts[:, None]).astype(np.float32)
        return self


class OnePointTooFew(TwoMaps):
    def _learn(self, counts, sums, T, pretrained):
        super()._learn(counts, sums, T, pretrained)
        self.class_points_ = self.class_points_[1:]
        return self


class NeedsAnImageToLearn(TwoMaps):
    def fit(self, X, y, *, class_embeddings, pretrained=None):
        X = validate_data(self, X)
        return super().fit(
            X, y, class_embeddings=class_embeddings, pretrained=pretrained
        )


class IgnoresPretrained(TwoMaps):
    def _learn(self, counts, sums, T, pretrained):
        return super()._learn(counts, sums, T, None)


class ForgetsTheFirstImages(TwoMaps):
    def partial_fit(self, X, y, *, class_embeddings, places, pretrained=None):
        return self.fit(X, y, class_embeddings=class_embeddings, pretrained=pretrained)


class IgnoresPlaces(TwoMaps):
    def partial_fit(self, X, y, *, class_embeddings, places, pretrained=None):
        return super().partial_fit(
            X,
            y,
            class_embeddings=class_embeddings,
            places=np.arange(len(places)),
            pretrained=pretrained,
        )


class PartialFitReturnsNothing(TwoMaps):
    def partial_fit(self, X, y, *, class_embeddings, places, pretrained=None):
        super().partial_fit(X, y, class_embeddings=class_embeddings, places=places)


PROJECTIONS = [
    ("check_members", NoTransform()),
    ("check_members", NoEstimator()),
    ("check_parameters", Converts()),
    ("check_parameters", ChecksInInit()),
    ("check_parameters", SetParamsChecks()),
    ("check_parameters", CloneIsItself()),
    ("check_fit", ReturnsNothing()),
    ("check_fit", TunesItself()),
    ("check_points", DoublePoints()),
    ("check_points", NeedsAnImage()),
    ("check_points", NaNPoints()),
    ("check_points", LabelsInAnotherSpace()),
    ("check_labels", DoubleLabels()),
    ("check_labels", NeedsALabel()),
    ("check_labels", UnfittedLabels()),
    ("check_labels", ScalesLabelsInPlace()),
    ("check_labels_independent", CentresTheList()),
    ("check_class_points", ClassPointsOfWords()),
    ("check_class_points", OnePointTooFew()),
    ("check_float_types", OnlyFloat32()),
    ("check_float_types", OnlyFloat32Training()),
    ("check_inputs_unchanged", CentresInPlace()),
    ("check_inputs_unchanged", ScalesTextInPlace()),
    ("check_inputs_unchanged", TransformsInPlace()),
    ("check_deterministic", IgnoresSeed()),
    ("check_fit_again", KeepsItsFirstMap()),
    ("check_rows_independent", CentresTheBatch()),
    ("check_not_fitted", UnfittedIsIdentity()),
    ("check_not_fitted", UnfittedIsAttributeError()),
    ("check_wrong_width", CutsFeatures()),
    ("check_wrong_width", PadsFeatures()),
    ("check_learns", LearnsNothing()),
    ("check_learns", MixesClasses()),
    ("check_pretrained", NeedsAnImageToLearn()),
    ("check_pretrained", IgnoresPretrained()),
    ("check_pretrained", ClassPointsOfImages()),
    ("check_partial_fit", ForgetsTheFirstImages()),
    ("check_partial_fit", IgnoresPlaces()),
    ("check_partial_fit", PartialFitReturnsNothing()),
    ("check_pickle", LosesItsMap()),
]

# ----------------------------------------------------------------------------- tests

KITS = {
    "backbones": (check_backbone, backbone_checks(), BACKBONES, {}),
    "embeddings": (
        check_text_embeddings,
        text_embeddings_checks(**WORDS),
        EMBEDDINGS,
        WORDS,
    ),
    "projections": (check_projection, projection_checks(), PROJECTIONS, {}),
}
BROKEN = [
    pytest.param(kit, check, plugin, id=f"{kit}-{check}-{type(plugin).__name__}-{i}")
    for kit, (_, _, broken, _) in KITS.items()
    for i, (check, plugin) in enumerate(broken)
]


@pytest.mark.parametrize(("kit", "check", "plugin"), BROKEN)
def test_kit_given_a_broken_plugin_names_the_check_and_the_plugin(kit, check, plugin):
    run, _, _, words = KITS[kit]
    with pytest.raises(PluginContractError) as caught:
        run(plugin, **words)
    message = str(caught.value)
    assert f"'{type(plugin).__name__}'" in message
    assert f" fails {check}. Expected " in message
    assert " Got " in message


@pytest.mark.parametrize("kit", KITS)
def test_kit_every_check_has_a_plugin_that_it_catches(kit):
    _, checks, broken, _ = KITS[kit]
    names = [check.__name__ for check in checks]
    assert len(set(names)) == len(names)
    assert {check for check, _ in broken} == set(names)


@pytest.mark.parametrize(
    ("kit", "plugin"),
    [
        ("backbones", Means()),
        ("backbones", Headed()),
        ("backbones", HeadOfAnOlderPlugin()),
        ("backbones", LogitsAlone()),
        ("backbones", LostItsHead()),
        ("embeddings", Letters()),
        ("projections", LeastSquares()),
        ("projections", LeastSquares(alpha=0.1, random_state=3)),
        ("projections", TwoMaps()),
    ],
)
def test_kit_given_a_healthy_plugin_passes(kit, plugin):
    run, checks, _, words = KITS[kit]
    run(plugin, **words)
    assert isinstance(checks, tuple)
    for check in checks:
        check(plugin)


def test_kit_given_an_expected_failure_passes():
    reason = {"check_sees_color": "it was trained on grey images"}
    grey = Grey([1 / 3, 1 / 3, 1 / 3])
    check_backbone(grey, expected_failures=reason)


def test_kit_given_an_expected_failure_that_passes_fails():
    with pytest.raises(PluginContractError, match=r"'Means'.*passes check_clone.*soon"):
        check_backbone(Means(), expected_failures={"check_clone": "soon"})


def test_kit_given_an_expected_failure_of_no_check_suggests_the_name():
    with pytest.raises(ValueError, match=r"'check_colour'.*'check_sees_color'"):
        check_backbone(Means(), expected_failures={"check_colour": "grey"})


def test_kit_given_a_crashing_plugin_keeps_the_cause():
    with pytest.raises(PluginContractError, match="IndexError: index 0") as caught:
        check_backbone(CrashesOnNone())
    assert isinstance(caught.value.__cause__, IndexError)


def test_kit_given_a_class_asks_for_an_object():
    with pytest.raises(PluginContractError, match=r"'Means'.*Expected an object"):
        check_backbone(Means)


def test_text_embeddings_checks_without_unknown_words_leave_their_check_out():
    names = [c.__name__ for c in text_embeddings_checks(known=["zebra", "okapi"])]
    assert "check_unknown_words" not in names
    assert "check_known_words" in names


@pytest.mark.parametrize("known", [[], ["zebra"], ["zebra", "zebra"]])
def test_text_embeddings_checks_with_fewer_than_two_known_words_are_refused(known):
    with pytest.raises(ValueError, match="two different known words"):
        text_embeddings_checks(known=known)
