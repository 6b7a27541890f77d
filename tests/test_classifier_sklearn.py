"""scikit-learn's complete check suite, in feature mode."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from zeroshot import ZeroShotClassifier


@parametrize_with_checks(
    [
        ZeroShotClassifier(None, "random", projection="ridge"),
        ZeroShotClassifier(None, "random", projection="devise"),
        ZeroShotClassifier(
            None,
            "random",
            projection="ridge",
            seen_penalty="auto",
            temperature="auto",
            reject="auto",
            unknown_label=-1,
        ),
    ]
)
# Most checks have too few classes to calibrate on.
@pytest.mark.filterwarnings("ignore::zeroshot.errors.PartialCoverageWarning")
def test_sklearn_check(estimator, check):
    check(estimator)
