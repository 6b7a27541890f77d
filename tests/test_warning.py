"""Filters of warnings belong to the process: whatever threads do, they stay."""

import sys
import threading
import warnings

import numpy as np
import pytest

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.errors import ZeroShotWarning
from zeroshot.features import extract_features
from zeroshot.shapes import shape_attributes
from zeroshot.warning import quietly, warn

CANDIDATES = ["red star", "blue ring", "green square"]


def test_quietly_drops_warnings_of_its_own_thread_alone():
    inside, outside = threading.Event(), threading.Event()
    caught = []

    def other():
        inside.wait(10)
        try:
            warn("heard", ZeroShotWarning)
        except ZeroShotWarning as warning:  # an error, as pytest has it
            caught.append(str(warning))
        outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    with quietly():
        warn("not heard", ZeroShotWarning)
        inside.set()
        outside.wait(10)
    thread.join()
    assert caught == ["heard"]
    with pytest.warns(ZeroShotWarning, match="again"):
        warn("again", ZeroShotWarning)


@pytest.fixture(scope="module")
def task():
    images, labels = make_shapes(3, colors=["red", "green", "blue"], random_state=0)
    X = extract_features(images, ColorHOG(), cache=False).matrix
    seen = ~np.isin(labels, CANDIDATES[:2])
    clf = ZeroShotClassifier(None, Attributes(*shape_attributes()), projection="ridge")
    return clf.fit(X[seen], labels[seen]), X[~seen]


def test_predictions_in_threads_leave_filters_of_warnings_alone(task):
    clf, X = task
    expected = [str(each) for each in clf.explain(X, CANDIDATES)]
    labels = clf.predict(X, CANDIDATES).tolist()
    answers = []

    def work():
        for _ in range(4):
            answers.append([str(each) for each in clf.explain(X, CANDIDATES)])
            assert clf.predict(X, CANDIDATES).tolist() == labels
            clf.rank(X, CANDIDATES, k=2)
            clf.predict_proba(X, CANDIDATES)
            clf.score(X, labels, candidate_labels=CANDIDATES)

    filters, show = list(warnings.filters), warnings.showwarning
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            threads = [threading.Thread(target=work) for _ in range(8)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == filters
    assert warnings.showwarning is show
    assert len(answers) == 5 * 8 * 4
    assert all(answer == expected for answer in answers)
