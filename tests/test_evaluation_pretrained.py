"""The backbone's own classes and whole batches in evaluations: what is masked, said."""

import numpy as np
import pytest
from evaluation_cases import EMBEDDINGS, shape_features

from zeroshot import ZeroShotClassifier, evaluate, load, make_shapes
from zeroshot.backbones import ClassifierHead, ColorHOG
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.errors import ArtifactError, LabelError, PartialCoverageWarning
from zeroshot.evaluation import evaluate_model
from zeroshot.hierarchy import Hierarchy
from zeroshot.training.pretrained import without_classes


def head_of_shapes(X, labels, names=None):
    """A classifier of all the shapes, its rows the centred means of their features."""
    classes = np.unique(labels)
    means = np.array([X[labels == c].mean(axis=0) for c in classes])
    weights = (means - means.mean(axis=0)).T.astype(np.float32)
    names = tuple((str(c),) for c in classes) if names is None else names
    return ClassifierHead(names, weights, np.zeros(len(classes), np.float32))


@pytest.fixture(scope="module")
def shapes():
    return shape_features()


def test_evaluate_masks_the_classes_of_unseen_labels_and_says_how_many(shapes):
    X, labels = shapes
    head = head_of_shapes(X, labels)
    evaluation = evaluate(
        X,
        labels,
        None,
        EMBEDDINGS,
        projection="visual",
        pretrained_classes=head,
        controls=("unmasked", "images"),
        n_splits=2,
    )
    assert evaluation.settings["masked"] == [8, 8]  # of 40 classes a fifth is unseen
    assert evaluation.settings["pretrained_classes"] == 40
    assert "8 to 8" in str(evaluation)
    top1 = {row["method"]: row["unseen_top1"] for row in evaluation.rows}
    # With the rows of the unseen classes themselves there is nothing left to guess.
    assert top1["visual, not masked"] >= max(0.95, top1["visual"])
    assert top1["visual, images alone"] > 3 * top1["chance"]


def test_evaluate_with_all_classes_masked_is_that_of_images_alone(shapes):
    X, labels = shapes
    red = np.char.startswith(labels.astype(str), "red")
    head = head_of_shapes(X[red], labels[red])
    alone, masked = (
        evaluate(
            X[~red],
            labels[~red],
            None,
            EMBEDDINGS,
            projection="ridge",
            pretrained_classes=setting,
            controls=(),
            n_splits=1,
        ).results["ridge"]
        for setting in (None, without_classes(head, np.unique(labels[red])[:-1])[0])
    )
    assert alone == masked


def test_without_classes_goes_by_any_name_and_by_what_is_a_kind_of_a_label():
    names = (("dog", "hound"), ("poodle", "poodle dog"), ("cat",), ("Sea_Lion",))
    head = ClassifierHead(names, np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    kept, gone = without_classes(head, ["Hound"])
    assert gone == 1
    assert kept.class_names == names[1:]
    tree = Hierarchy({"poodle": "dog", "dog": "animal", "cat": "animal"})
    kept, gone = without_classes(head, ["dog"], tree)
    assert gone == 2
    assert kept.class_names == names[2:]
    assert np.array_equal(kept.weights, head.weights[:, 2:])
    assert without_classes(head, ["dog", "cat", "sea lion"]) == (None, 3)


def test_below_follows_edges_from_parent_to_child_only():
    tree = Hierarchy({"poodle": "dog", "dog": ["animal", "pet"], "cat": "animal"})
    assert tree.below(["dog"]) == {"dog", "poodle"}
    assert tree.below(["pet"]) == {"pet", "dog", "poodle"}
    with pytest.raises(LabelError, match="wolf"):
        tree.below(["wolf"])


def test_evaluate_of_random_vectors_with_pretrained_classes_is_chance(shapes):
    X, labels = shapes
    evaluation = evaluate(
        X,
        labels,
        None,
        EMBEDDINGS,
        projection="visual",
        pretrained_classes=head_of_shapes(X, labels),
        controls=("random",),
        n_splits=4,
    )
    rows = {row["method"]: row for row in evaluation.rows}
    chance, control = rows["chance"], rows["visual, random vectors"]
    assert control["unseen_top1"] < 2.5 * chance["unseen_top1"]


def test_evaluate_adapts_to_the_test_images_of_a_split(shapes):
    X, labels = shapes
    noisy = X + np.random.default_rng(0).normal(0, X.std(), X.shape).astype(np.float32)
    alone, together = (
        evaluate(
            noisy,
            labels,
            None,
            EMBEDDINGS,
            projection="visual",
            controls=(),
            n_splits=3,
            adapt=adapt,
        )
        for adapt in (False, True)
    )
    assert together.settings["adapted"]
    assert not alone.settings["adapted"]
    gain = together.rows[0]["unseen_top1"] - alone.rows[0]["unseen_top1"]
    assert gain >= 0
    assert together.rows[0]["unseen_top1"] != alone.rows[0]["unseen_top1"]


def test_evaluate_model_with_adapt_scores_as_predict_does(shapes, tmp_path):
    X, labels = shapes
    unseen = np.unique(labels)[::4]
    train = ~np.isin(labels, unseen)
    clf = ZeroShotClassifier(None, EMBEDDINGS, projection="visual")
    clf.fit(X[train], labels[train]).save(tmp_path / "model")
    model = load(tmp_path / "model")
    evaluation = evaluate_model(model, X[~train], labels[~train], adapt=True)
    answers = model.predict(X[~train], unseen.tolist(), adapt=True)
    truth = labels[~train]
    right = [np.mean(answers[truth == c] == c) for c in unseen]
    assert evaluation.results["model"]["unseen_top1"][0] == pytest.approx(
        np.mean(right)
    )


def test_fit_says_where_the_backbones_classes_come_from(shapes):
    X, labels = shapes
    head = head_of_shapes(X, labels)
    clf = ZeroShotClassifier(None, EMBEDDINGS, pretrained_classes=head)
    seen = ~np.isin(labels, ["red star", "blue ring"])
    clf.fit(X[seen], labels[seen])
    assert len(clf.pretrained_.names) == 40
    assert "red star" not in clf.classes_
    bases = {a.label: a.basis for a in clf.rank(X[:1], ["red star", "red ring"])[0]}
    assert bases == {"red star": "pretrained", "red ring": "images"}
    clf.set_params(pretrained_classes=None).fit(X[seen], labels[seen])
    assert clf.rank(X[:1], ["red star"])[0][0].basis == "word"


def test_classes_without_a_vector_are_left_out_and_counted(shapes):
    X, labels = shapes
    names = [(str(c),) for c in np.unique(labels)]
    names[:3] = [("gerenuk",), ("quokka",), ("okapi",)]
    clf = ZeroShotClassifier(
        None, EMBEDDINGS, pretrained_classes=head_of_shapes(X, labels, tuple(names))
    ).fit(X, labels)
    assert clf.pretrained_.n_left_out == 3
    assert len(clf.pretrained_.names) == 37


def test_random_embeddings_know_every_class(shapes):
    X, labels = shapes
    clf = ZeroShotClassifier(
        None, RandomEmbeddings(30), pretrained_classes=head_of_shapes(X, labels)
    ).fit(X, labels)
    assert clf.pretrained_.n_left_out == 0


class Headless(ColorHOG):
    """A backbone whose file of weights lacks the classifier."""

    def classifier_head(self):
        raise ArtifactError("Expected weights with a classifier. Got 'notop.h5'.")


def test_a_backbone_whose_weights_lack_the_top_is_fitted_with_one_warning():
    images, labels = make_shapes(2, colors=["red", "blue"])
    clf = ZeroShotClassifier(Headless(), EMBEDDINGS, cache=False)
    with pytest.warns(PartialCoverageWarning, match=r"notop\.h5") as caught:
        clf.fit(images, labels)
    assert len(caught) == 1
    assert clf.pretrained_ is None
    with pytest.raises(ArtifactError, match=r"notop\.h5"):
        clf.fit_pretrained()


@pytest.mark.parametrize("setting", ["all", False, ["lion"]])
def test_a_wrong_setting_is_refused_before_any_image_is_read(setting):
    clf = ZeroShotClassifier("color-hog", EMBEDDINGS, pretrained_classes=setting)
    with pytest.raises(ValueError, match="pretrained_classes"):
        clf.fit(["no such file.jpg", "nor this.jpg"], ["red star", "blue ring"])
