"""For each check of projections, plugins that break just that promise."""

import numpy as np
import pytest
from kits import Kit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from zeroshot.testing import check_projection, projection_checks


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


BROKEN = [
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

KIT = Kit(check_projection, projection_checks(), BROKEN)


@pytest.mark.parametrize(("check", "plugin"), KIT.cases())
def test_kit_given_a_broken_plugin_names_the_check_and_the_plugin(check, plugin):
    KIT.must_catch(check, plugin)


def test_kit_every_check_has_a_plugin_that_it_catches():
    KIT.must_have_a_plugin_for_every_check()


@pytest.mark.parametrize(
    "plugin", [LeastSquares(), LeastSquares(alpha=0.1, random_state=3), TwoMaps()]
)
def test_kit_given_a_healthy_plugin_passes(plugin):
    KIT.must_pass(plugin)
