"""A backbone's own classifier as a zero-shot classifier: `fit_pretrained`."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import zeroshot
from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.backbones import ColorHOG, KerasApplication
from zeroshot.backbones.base import BackboneCard, ClassifierHead
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    SeenInPretrainingWarning,
)
from zeroshot.features import extract_features
from zeroshot.projections import Ridge
from zeroshot.shapes import shape_attributes
from zeroshot.training.pretrained import seen_in_pretraining

EMBEDDINGS = Attributes(*shape_attributes())
UNSEEN = ["red star", "blue ring"]


class Pretrained(ColorHOG):
    """A backbone that was trained as a classifier of shapes; one class has no word."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def classifier_head(self):
        return self.head


@pytest.fixture(scope="module")
def task():
    images, labels = make_shapes(
        8, colors=["red", "green", "blue", "yellow"], random_state=0
    )
    X = extract_features(images, ColorHOG(), cache=False).matrix
    seen = ~np.isin(labels, UNSEEN)
    # The rows of a softmax classifier are what the prototypes are learnt from.
    softmax = LogisticRegression(C=10.0, max_iter=500).fit(X[seen], labels[seen])
    names = [(label, f"{label} synonym") for label in softmax.classes_]
    names[0] = ("nothing known", "neither this")
    head = ClassifierHead(
        tuple(names),
        softmax.coef_.T.astype(np.float32),
        softmax.intercept_.astype(np.float32),
    )
    return images[~seen], labels[~seen], head, X[~seen]


def fit(head, method, embeddings=EMBEDDINGS, **parameters):
    clf = ZeroShotClassifier(
        Pretrained(head), embeddings, cache=False, projection=Ridge(), **parameters
    )
    with pytest.warns(PartialCoverageWarning, match=r"1 of the backbone's \d+ classes"):
        return clf.fit_pretrained(method=method)


@pytest.mark.parametrize("method", ["conse", "prototypes"])
def test_unseen_labels_are_named_without_any_image(task, method, tmp_path):
    images, labels, head, _ = task
    clf = fit(head, method)
    assert clf.score(images, labels, candidate_labels=UNSEEN) > 0.8
    assert (clf.n_images_, len(clf.classes_)) == (0, len(head.class_names) - 1)
    assert clf.rank(images[:1], [clf.classes_[0].split(",")[0]])[0][0].seen
    clf.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", backbone=clf.backbone)
    assert loaded.rank(images, UNSEEN) == clf.rank(images, UNSEEN)


def test_conse_is_the_formula_of_the_paper(task):
    images, _, head, X = task
    clf = fit(head, "conse")
    logits = X @ head.weights[:, 1:] + head.bias[1:]  # class 0 has no vector
    points = clf.transform(images)
    names = [f"{a}, {b}" for a, b in head.class_names[1:]]
    vector = dict(zip(clf.classes_.tolist(), clf.class_embeddings_, strict=True))
    for i in range(0, len(X), 5):
        best = sorted(range(len(names)), key=lambda j: -logits[i, j])[:10]
        weights = [np.exp(float(logits[i, j])) for j in best]
        point = sum(w * vector[names[j]] for w, j in zip(weights, best, strict=True))
        np.testing.assert_allclose(points[i], point / sum(weights), atol=1e-5)


def test_prototypes_are_a_fit_on_the_rows_of_the_classifier(task):
    images, _, head, X = task
    clf = fit(head, "prototypes")
    order = np.argsort([f"{a}, {b}" for a, b in head.class_names])
    rows = head.weights.T[order[order != 0]]
    ridge = Ridge().fit(
        rows, np.arange(len(rows)), class_embeddings=clf.class_embeddings_
    )
    np.testing.assert_allclose(clf.transform(images), ridge.transform(X), atol=1e-5)


def test_what_cannot_be_done_is_refused(task):
    head = task[2]
    with pytest.raises(PluginContractError, match=r"'color-hog', which has none"):
        ZeroShotClassifier("color-hog", EMBEDDINGS).fit_pretrained()
    with pytest.raises(ValueError, match="backbone=None"):
        ZeroShotClassifier(None, EMBEDDINGS).fit_pretrained()
    clf = ZeroShotClassifier(Pretrained(head), EMBEDDINGS)
    with pytest.raises(ValueError, match="Got 'devise'"):
        clf.fit_pretrained(method="devise")
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        clf.set_params(temperature="auto").fit_pretrained()
    other = Attributes(["okapi"], np.eye(1))
    with pytest.raises(OutOfVocabularyError):
        ZeroShotClassifier(Pretrained(head), other).fit_pretrained()


@pytest.mark.slow  # 10 s: photographs
def test_mobilenet_names_classes_that_imagenet_has_not(real_data, monkeypatch):
    """Emus and wheelchairs by what ImageNet's classes have in common with them."""
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    candidates = ["emu", "pagoda", "helicopter", "wheelchair", "dolphin"]
    folder = real_data / "images" / "caltech-classes"
    paths = [
        path for c in candidates for path in sorted((folder / c).glob("*.jpg"))[:3]
    ]
    vectors = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    clf = ZeroShotClassifier("mobilenet-v2", vectors)
    with pytest.warns(PartialCoverageWarning, match="of the backbone's 1000 classes"):
        clf.fit_pretrained()
    assert clf.score(paths, np.repeat(candidates, 3), candidate_labels=candidates) > 0.7


def test_classes_of_pretraining_are_found_by_any_name():
    labels = ["King_of-Beasts", "okapi", "lion, something else", "hedgehog", 7]
    network = KerasApplication("mobilenet-v2")
    assert seen_in_pretraining(network, labels) == [labels[0], labels[2], labels[3]]
    random = KerasApplication("mobilenet-v2", weights=None)
    assert seen_in_pretraining(random, labels) == []
    assert seen_in_pretraining(ColorHOG(), labels) == []
    assert seen_in_pretraining(None, labels) == []


class OnImageNet(ColorHOG):
    """A backbone whose card says what it was trained on."""

    card = BackboneCard(pretraining="ImageNet-1k")


def test_evaluation_warns_once_of_classes_seen_in_pretraining():
    labels = np.repeat(["lion", "zebra", "okapi", "gnu", "hedgehog", "bongo"], 4)
    X = np.random.default_rng(0).standard_normal((24, 9)).astype(np.float32)
    with pytest.warns(SeenInPretrainingWarning, match=r"3 of 6 .* 'hedgehog', 'lion'"):
        evaluate(X, labels, OnImageNet(), "random", projection="ridge", n_splits=2)
