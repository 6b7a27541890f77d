"""scikit-learn's complete check suite, in feature mode."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from zeroshot import ZeroShotClassifier


@parametrize_with_checks(
    [
        ZeroShotClassifier(None, "random", projection="ridge"),
        ZeroShotClassifier(None, "random", projection="devise"),
    ]
)
def test_sklearn_check(estimator, check):
    check(estimator)
