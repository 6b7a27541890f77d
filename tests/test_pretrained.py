"""A backbone's own classes: learnt from beside the user's, and without any image."""

import numpy as np
import pytest
from literal_training import roots, unit
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

import zeroshot
from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.backbones import ColorHOG, KerasApplication
from zeroshot.backbones.base import BackboneCard, ClassifierHead
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    LabelError,
    NoClassifierError,
    OutOfVocabularyError,
    PluginContractError,
    SeenInPretrainingWarning,
)
from zeroshot.features import extract_features
from zeroshot.labels import embed_labels
from zeroshot.projections import ESZSL, SAE, DeViSE, PretrainedClasses, Ridge
from zeroshot.scoring.folds import Training, train_on_folds
from zeroshot.scoring.label_space import LabelSpace
from zeroshot.shapes import shape_attributes
from zeroshot.training import pretrained as training
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


def fit_pretrained(head, embeddings=EMBEDDINGS, **parameters):
    backbone = parameters.pop("backbone", None) or Pretrained(head)
    parameters = {"projection": Ridge(), **parameters}
    classifier = ZeroShotClassifier(backbone, embeddings, cache=False, **parameters)
    return classifier.fit_pretrained()


LEARNERS = [
    "conse",
    "devise",
    "eszsl",
    "ridge",
    "sae",
    "visual",
    DeViSE(visual_weight=0),
    DeViSE(loss="cosine", hidden=(32,), epochs=20, learning_rate=0.01),
]


@pytest.mark.parametrize("projection", LEARNERS, ids=str)
def test_unseen_labels_are_named_without_any_image(task, projection, tmp_path):
    images, labels, head, _ = task
    clf = fit_pretrained(head, projection=projection, random_state=0)
    assert clf.score(images, labels, candidate_labels=UNSEEN) > 0.8
    assert (clf.n_images_, len(clf.classes_)) == (0, len(head.class_names) - 1)
    best = clf.rank(images[:1], [clf.classes_[0].split(",")[0]])[0][0]
    assert best.seen
    assert np.isfinite(clf.label_points(UNSEEN)).all()
    clf.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", backbone=clf.backbone)
    assert loaded.rank(images, UNSEEN) == clf.rank(images, UNSEEN)
    assert loaded.pretrained_.names == clf.pretrained_.names
    assert loaded.pretrained_.n_left_out == clf.pretrained_.n_left_out == 1


def test_rows_are_learnt_from_as_ten_images_each(task):
    """Ridge on the rows, centred and of unit length: ten copies of each are images."""
    images, _, head, X = task
    clf = fit_pretrained(head)
    texts = [", ".join(names) for names in head.class_names]
    kept = np.array([text in clf.seen_classes_.tolist() for text in texts])
    assert (~kept).nonzero()[0].tolist() == [0]  # class 0 has no vector
    weights = head.weights.T[kept].astype(np.float64)
    rows = unit(weights - weights.mean(axis=0))
    words = clf.class_embeddings_[
        np.searchsorted(clf.seen_classes_, np.array(texts)[kept])
    ]
    theirs = SklearnRidge(alpha=10.0, fit_intercept=False)
    theirs.fit(np.repeat(rows, 10, axis=0), np.repeat(words, 10, axis=0))
    # Without images their centre is unknown: along the diagonal, 0.8 long.
    dim = X.shape[1]
    prepared = (roots(X) - 0.8 / np.sqrt(dim)) / np.sqrt(1 - 0.8**2)
    expected = theirs.predict(prepared)
    np.testing.assert_allclose(clf.transform(images), expected, atol=1e-4)


def test_what_cannot_be_done_is_refused(task):
    head = task[2]
    with pytest.raises(NoClassifierError, match=r"'color-hog', which has none"):
        ZeroShotClassifier("color-hog", EMBEDDINGS).fit_pretrained()
    with pytest.raises(ValueError, match="backbone=None"):
        ZeroShotClassifier(None, EMBEDDINGS).fit_pretrained()
    for needs_images in ("sje", "ale"):
        with pytest.raises(PluginContractError, match="which needs images"):
            fit_pretrained(head, projection=needs_images)
    for name, value in (
        ("temperature", "auto"),
        ("seen_penalty", "auto"),
        ("reject", "auto:0.1"),
    ):
        with pytest.raises(ValueError, match=f"nothing to calibrate on. Got {name}="):
            fit_pretrained(head, **{name: value})
    with pytest.raises(ValueError, match="there are no images"):
        fit_pretrained(head, fine_tune=2)
    other = Attributes(["okapi"], np.eye(1))
    with pytest.raises(OutOfVocabularyError):
        fit_pretrained(head, other)
    with pytest.raises(ValueError, match="Expected a backbone with a classifier"):
        fit_pretrained(head, pretrained_classes=None)


@pytest.fixture(scope="module")
def seen(task):
    images, labels = make_shapes(
        8, colors=["red", "green", "blue", "yellow"], random_state=0
    )
    kept = np.isin(labels, np.setdiff1d(labels, UNSEEN)[::4])
    return images[kept], labels[kept]


def fit(head, seen, **parameters):
    parameters = {"projection": Ridge(), **parameters}
    classifier = ZeroShotClassifier(
        Pretrained(head), EMBEDDINGS, cache=False, **parameters
    )
    return classifier.fit(*seen)


def test_pretrained_classes_help_with_labels_of_no_image(task, seen):
    images, labels, head, _ = task
    for projection in ("devise", "visual", "ridge"):
        options = {"projection": projection, "random_state": 0}
        alone = fit(head, seen, pretrained_classes=None, **options)
        beside = fit(head, seen, **options)
        assert alone.pretrained_ is None
        assert len(beside.pretrained_.names) == len(head.class_names) - 1
        assert beside.seen_classes_.tolist() == np.unique(seen[1]).tolist()
        accuracy = [
            clf.score(images, labels, candidate_labels=UNSEEN)
            for clf in (alone, beside)
        ]
        assert accuracy[1] >= max(0.9, accuracy[0])


def test_a_mapping_takes_those_classes_alone_by_its_names(task, seen):
    head = task[2]
    one, two = (head.class_names[i][0] for i in (3, 5))
    clf = fit(head, seen, pretrained_classes={f"{one} SYNONYM": two, two: [two, one]})
    assert clf.pretrained_.names == ((two,), (two, one))
    np.testing.assert_array_equal(
        clf.pretrained_.classes.weights, head.weights.T[[3, 5]]
    )
    np.testing.assert_array_equal(clf.pretrained_.classes.bias, head.bias[[3, 5]])
    with pytest.raises(LabelError, match="Got 'okapi', which is none of its"):
        fit(head, seen, pretrained_classes={"okapi": "red star"})
    with pytest.raises(NoClassifierError, match="'color-hog', which has none"):
        ZeroShotClassifier(
            "color-hog", EMBEDDINGS, pretrained_classes={"okapi": "red star"}
        ).fit(*seen)
    with pytest.raises(PluginContractError, match="backbone=None"):
        ZeroShotClassifier(
            None, EMBEDDINGS, pretrained_classes={"okapi": "red star"}
        ).fit(np.eye(4), seen[1][[0, 0, -1, -1]])


@pytest.mark.parametrize("setting", ["all", False, ["red star"], 3])
def test_a_setting_that_is_none_is_refused(setting, task, seen):
    with pytest.raises(ValueError, match="Expected pretrained_classes 'auto'"):
        fit(task[2], seen, pretrained_classes=setting)


@pytest.mark.parametrize("names", [3, None, ["red star", 3]])
def test_names_of_a_class_that_are_no_text_are_refused(names, task, seen):
    head = task[2]
    mapping = {head.class_names[2][0]: "red star", head.class_names[3][0]: names}
    with pytest.raises(LabelError, match="Expected a name, or a list of names"):
        fit(head, seen, pretrained_classes=mapping)


@pytest.mark.parametrize("projection", ["devise", "visual", "ridge", "eszsl", "sae"])
def test_a_classifier_of_other_features_is_refused(projection, task, seen):
    X = extract_features(seen[0], ColorHOG(), cache=False).matrix[:, :-1]
    clf = ZeroShotClassifier(
        None, EMBEDDINGS, projection=projection, pretrained_classes=task[2]
    )
    with pytest.raises(ValueError, match="Expected a classifier of the features"):
        clf.fit(X, seen[1])


def test_a_classifier_of_ones_own_needs_no_backbone(task, seen):
    head = task[2]
    X = extract_features(seen[0], ColorHOG(), cache=False).matrix
    own = ZeroShotClassifier(
        None, EMBEDDINGS, projection="ridge", pretrained_classes=head
    ).fit(X, seen[1])
    beside = fit(head, seen)
    np.testing.assert_allclose(own.transform(X), beside.transform(seen[0]), atol=1e-5)


def test_basis_says_what_stands_behind_a_candidate(task, seen):
    head = task[2]
    clf = fit(head, seen)
    is_seen = np.isin([names[0] for names in head.class_names], seen[1])
    other = head.class_names[np.flatnonzero(~is_seen)[1]]
    candidates = [str(seen[1][0]), other[0].upper(), "red star"]
    found = {r.label: r.basis for r in clf.rank(seen[0][:1], candidates, k=3)[0]}
    assert found == dict(zip(candidates, ["images", "pretrained", "word"], strict=True))


class FirstWord(BaseEstimator):
    """A plugin that has `transform` alone and knows nothing of pretrained classes."""

    def fit(self, X, y, *, class_embeddings):
        self.coef_ = np.linalg.lstsq(X, class_embeddings[y], rcond=1e-3)[0]
        return self

    def transform(self, X):
        return (X @ self.coef_).astype(np.float32)


def test_a_plugin_that_has_transform_alone_works_beside_a_classifier(task, seen):
    images, labels, head, _ = task
    clf = fit(head, seen, projection=FirstWord(), reject="auto:0.2", temperature="auto")
    assert clf.pretrained_ is None
    answers = clf.set_params(reject=None).predict(images, UNSEEN)
    assert (answers == labels).mean() > 0.6
    assert clf.rank(images[:2], UNSEEN)[0][0].basis == "word"
    assert np.isfinite(clf.standing(images, UNSEEN)).all()
    vectors, _ = embed_labels(UNSEEN, EMBEDDINGS)
    np.testing.assert_allclose(clf.label_points(UNSEEN), vectors, atol=1e-6)
    with pytest.raises(PluginContractError, match="which needs images"):
        fit_pretrained(head, projection=FirstWord())


# What a projection learns from: `PretrainedClasses`.


@pytest.fixture
def classes():
    random = np.random.default_rng(0)
    T = unit(random.standard_normal((5, 4))).astype(np.float32)
    weights = random.standard_normal((5, 7)).astype(np.float32)
    return PretrainedClasses(
        T, weights, np.arange(5, dtype=np.float32), np.array([2, -1, 0, 2, 3])
    )


def test_rows_are_centred_and_of_unit_length(classes):
    expected = unit(classes.weights - classes.weights.mean(axis=0))
    np.testing.assert_allclose(classes.rows, expected, atol=1e-6)


def test_without_hides_namesakes_of_the_rest_and_numbers_anew(classes):
    rest = classes.without(np.array([0, 3]))
    assert rest.class_of.tolist() == [-1, 0, 1]
    for name in ("class_embeddings", "weights", "bias"):
        np.testing.assert_array_equal(
            getattr(rest, name), getattr(classes, name)[[1, 2, 4]]
        )
    assert classes.without(np.arange(4)).class_of.tolist() == [2, -1, 0, 2, 3]
    assert classes.without(np.array([1])).class_of.tolist() == [-1]
    named = PretrainedClasses(*list(vars(classes).values())[:3], np.zeros(5, int))
    assert named.without(np.array([1, 2])) is None


def test_ridge_on_rows_is_ridge_on_ten_images_of_each(classes):
    random = np.random.default_rng(1)
    T = unit(random.standard_normal((6, 4))).astype(np.float32)
    X, y = random.standard_normal((30, 7)).astype(np.float32), np.arange(30) % 6
    for projection in (Ridge(alpha=2), ESZSL(alpha=2), SAE(alpha=2)):
        ours = clone(projection).set_params(normalize=False)
        ours.fit(X, y, class_embeddings=T, pretrained=classes)
        theirs = clone(projection).set_params(normalize=False)
        theirs.fit(
            np.concatenate([X, np.repeat(classes.rows, 10, axis=0)]),
            np.concatenate([y, 6 + np.repeat(np.arange(5), 10)]),
            class_embeddings=np.concatenate([T, classes.class_embeddings]),
        )
        np.testing.assert_allclose(
            ours.coef_, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max()
        )


def test_pretrained_classes_are_named_by_any_of_their_names(classes):
    names = (
        ("tench", "Tinca tinca"),
        ("goldfish",),
        ("great white shark", "white shark"),
        ("crane",),
        ("crane", "bird"),
    )
    pretrained = training.Pretrained(names, classes)
    labels = ["White-Shark", "tinca_tinca", "CRANE", "okapi", "tench", 7]
    assert pretrained.named_by(labels).tolist() == [4, -1, 0, 2, 2]
    beside = pretrained.beside(labels)
    assert beside.classes.class_of.tolist() == [4, -1, 0, 2, 2]
    assert classes.class_of.tolist() == [2, -1, 0, 2, 3]  # another one


def test_folds_hide_the_classes_of_the_names_that_they_leave_out():
    """Each class is told by its namesake alone: hidden, it is told by chance."""
    random = np.random.default_rng(0)
    n = 40
    T = unit(random.standard_normal((n, 30))).astype(np.float32)
    looks = random.standard_normal((n, 50))  # words say nothing of them
    y = np.repeat(np.arange(n), 4)
    X = np.float32(looks[y] + 0.1 * random.standard_normal((len(y), 50)))
    rows, bias = np.float32(looks), np.zeros(n, np.float32)
    ranks = []
    for class_of in (np.arange(n), np.full(n, -1)):
        pretrained = PretrainedClasses(T, rows, bias, class_of)
        parts = Training(Ridge(normalize=False), X, y, T, pretrained, 0.0)
        folds = train_on_folds(parts, 0, 1000)
        scores = np.stack(
            [
                LabelSpace.scores(point[None], folds.label_points[folds.folds[c]])[0]
                for point, c in zip(folds.new, folds.y, strict=True)
            ]
        )
        own = scores[np.arange(len(scores)), folds.y]
        ranks.append((scores >= own[:, None]).sum(axis=1).mean())
        n_pretrained = [len(labels) for labels in folds.pretrained]
        assert n_pretrained == ([32] * 5 if class_of[0] == 0 else [40] * 5)
    hidden, shown = ranks
    assert shown < 2
    assert hidden > 10


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
    clf = ZeroShotClassifier("mobilenet-v2", vectors).fit_pretrained()
    assert 0 < clf.pretrained_.n_left_out < 100
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
