"""The softmax baseline against scikit-learn's own pipeline."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from zeroshot.evaluation.baselines import softmax_baseline


@pytest.mark.parametrize("n_classes", [2, 4])
def test_softmax_baseline_equals_logistic_regression(n_classes):
    random = np.random.default_rng(0)
    labels = np.array(["dog", "cat", "fox", "emu"])[:n_classes]
    y = np.repeat(labels, 15)
    X = (
        random.normal(size=(len(y), 12))
        + 2 * random.normal(size=(n_classes, 12))[np.repeat(np.arange(n_classes), 15)]
    )
    X, test = X.astype(np.float32), X[::3].astype(np.float32)
    pipeline = make_pipeline(
        FunctionTransformer(lambda X: np.sign(X) * np.sqrt(np.abs(X))),
        Normalizer(),
        StandardScaler(with_std=False),
    )
    # Then scaled, all alike, to a mean square of 1.
    length = np.sqrt((pipeline.fit_transform(X) ** 2).sum(axis=1).mean())
    pipeline.steps += [
        ("scaled", FunctionTransformer(lambda Z: Z / length)),
        ("softmax", LogisticRegression(C=10.0, max_iter=1000)),
    ]
    pipeline.fit(X, y)
    probabilities = softmax_baseline(X, y, test)
    assert pipeline.classes_.tolist() == sorted(labels)
    assert probabilities == pytest.approx(pipeline.predict_proba(test), abs=1e-4)
