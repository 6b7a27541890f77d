"""`explain`: why an image got its label."""

import numpy as np
import pytest

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.features import extract_features
from zeroshot.projections import Ridge
from zeroshot.shapes import shape_attributes

CANDIDATES = ["red star", "blue ring", "green squares"]


@pytest.fixture(scope="module")
def task():
    images, labels = make_shapes(6, colors=["red", "green", "blue"], random_state=0)
    X = extract_features(images, ColorHOG(), cache=False).matrix
    seen = ~np.isin(labels, ["red star", "blue ring"])
    clf = ZeroShotClassifier(
        None, Attributes(*shape_attributes()), projection=Ridge(), random_state=0
    )
    return clf.fit(X[seen], labels[seen]), X[~seen]


def test_explanation_has_what_rank_and_predict_say(task):
    clf, X = task
    explanations = clf.explain(X, CANDIDATES, k=2)
    assert [e.prediction for e in explanations] == clf.predict(X, CANDIDATES).tolist()
    assert [list(e.ranked) for e in explanations] == clf.rank(X, CANDIDATES, k=2)
    for explanation in explanations:
        first, second = explanation.ranked
        assert explanation.margin == first.score - second.score


def test_nearest_seen_classes_have_the_largest_cosines_whatever_is_subtracted(task):
    clf, X = task
    points = clf.transform(X)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cosines = points @ clf.class_embeddings_.T
    expected = [
        [
            (clf.classes_[j], pytest.approx(row[j], abs=1e-6))
            for j in np.argsort(-row)[:3]
        ]
        for row in cosines
    ]
    clf.set_params(seen_penalty=0.5)
    explanations = clf.explain(X, CANDIDATES, k=3)
    clf.set_params(seen_penalty=0.0)
    assert [list(e.nearest_seen) for e in explanations] == expected


def test_text_says_how_vectors_were_made_and_what_the_image_is_near(task):
    clf, X = task
    explanation = clf.explain(X[:1], CANDIDATES)[0]
    entry = explanation.entries[[a.label for a in explanation.ranked].index("red star")]
    assert (entry.how, entry.words) == ("mean", ("red", "star"))
    text = str(explanation)
    assert "vector: mean (red, star)" in text
    assert text.count("vector: mean (") == 3
    assert "nearest seen classes: " in text
    assert text.startswith(f"{explanation.prediction}: {explanation.margin:.3f} before")


def test_rejected_image_is_explained_as_such(task):
    clf, X = task
    clf.set_params(reject=0.999, unknown_label="none of these")
    explanation = clf.explain(X[:1], CANDIDATES, k=1)[0]
    clf.set_params(reject=None, unknown_label="unknown")
    assert explanation.prediction == "none of these"
    assert str(explanation).startswith("none of these: rejected, no candidate fits")
    assert len(explanation.ranked) == 1


def test_one_candidate_has_no_margin_and_words_no_entries(task):
    clf, X = task
    alone = clf.explain(X[:1], ["red star"])[0]
    assert np.isnan(alone.margin)
    assert alone.to_dict()["margin"] is None
    assert clf.explain(X[:1], "vocabulary:20", k=2)[0].entries == (None, None)
    with pytest.raises(ValueError, match="k >= 1"):
        clf.explain(X, k=0)
