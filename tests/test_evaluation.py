"""The protocol of the field, against a case computed by hand and its own yardsticks."""

import json
import math

import numpy as np
import pytest
from evaluation_cases import EMBEDDINGS, at, model_by_hand, shape_features
from sklearn.exceptions import NotFittedError

from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.errors import (
    InvalidImageError,
    LabelError,
    OutOfVocabularyError,
    UnknownPluginError,
)
from zeroshot.evaluation import METRICS, evaluate_model
from zeroshot.features import extract_features
from zeroshot.projections import Ridge
from zeroshot.splits import ZeroShotSplit, zero_shot_splits

ACCURACIES = METRICS[:5]


@pytest.fixture(scope="module")
def features():
    return shape_features()


@pytest.fixture(scope="module")
def evaluation(features):
    X, labels = features
    return evaluate(
        X, labels, None, EMBEDDINGS, projection=Ridge(alpha=1.0), n_splits=3
    )


def test_evaluate_has_a_row_for_the_method_its_control_and_chance(evaluation):
    methods = [row["method"] for row in evaluation.rows]
    assert methods == ["ridge", "ridge, random vectors", "chance"]
    for method in methods:
        assert set(evaluation.results[method]) == set(METRICS)
        assert all(len(v) == 3 for v in evaluation.results[method].values())


def test_evaluate_finds_unseen_classes_and_the_control_near_chance(evaluation):
    ours, control, chance = evaluation.rows
    assert chance["unseen_top1"] == pytest.approx(1 / 8)  # 20 % of 40 classes
    assert chance["unseen_top5"] == pytest.approx(5 / 8)
    assert chance["gzsl_h"] == pytest.approx(1 / 40)
    assert ours["unseen_top1"] > 0.6
    assert ours["unseen_top5"] > 0.9
    assert control["unseen_top1"] < 0.3
    assert control["gzsl_unseen"] < 0.3 < ours["gzsl_unseen"]


def test_rows_are_means_and_deviations_over_the_splits(evaluation):
    for row in evaluation.rows:
        for metric in METRICS:
            values = evaluation.results[row["method"]][metric]
            mean = sum(values) / 3
            spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 3)
            assert row[metric] == pytest.approx(mean, nan_ok=True)
            assert row[f"{metric}_std"] == pytest.approx(spread, nan_ok=True)
    values = evaluation.results["ridge"]
    for s, u, h in zip(
        values["gzsl_seen"], values["gzsl_unseen"], values["gzsl_h"], strict=True
    ):
        assert h == pytest.approx(2 * s * u / (s + u) if s + u else 0)


def test_str_is_a_table_with_what_was_evaluated(evaluation):
    lines = str(evaluation).splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:5]]
    assert table[0][:3] == ["method", "ZSL top-1", "ZSL top-5"]
    methods = [row[0] for row in table[2:]]
    assert methods == ["ridge", "ridge, random vectors", "chance"]
    row = evaluation.rows[0]
    cell = f"{row['unseen_top1']:.3f} +- {row['unseen_top1_std']:.3f}"
    assert table[2][1] == cell
    assert "320 images, 32 seen and 8 unseen classes, 3 split(s), seed 0" in lines[-1]
    assert "hp@" not in str(evaluation)  # without a hierarchy


def test_evaluate_same_seed_gives_the_same_figures(features, evaluation):
    X, labels = features
    arguments = (X, labels, None, EMBEDDINGS)
    again = evaluate(*arguments, projection=Ridge(alpha=1.0), n_splits=3)
    assert again.to_dict() == evaluation.to_dict()
    other = evaluate(*arguments, projection="ridge", n_splits=1, random_state=1)
    assert other.results["ridge"] != evaluation.results["ridge"]


def test_evaluate_default_stands_beside_ridge(features):
    X, labels = features
    few = np.array([label.split()[0] in ("red", "green") for label in labels])
    result = evaluate(X[few], labels[few], None, EMBEDDINGS, n_splits=1)
    assert list(result.results) == [
        "devise",
        "ridge",
        "devise, random vectors",
        "chance",
    ]


def test_evaluate_on_images_equals_evaluate_on_their_features():
    images, labels = make_shapes(3, colors=["red", "blue"], shapes=["star", "ring"])
    given = {"projection": "ridge", "n_splits": 2}
    of_images = evaluate(images, labels, "color-hog", EMBEDDINGS, **given)
    matrix = extract_features(images, ColorHOG()).matrix
    of_features = evaluate(matrix, labels, None, EMBEDDINGS, **given)
    assert of_images.results == of_features.results
    assert of_images.settings["backbone"] == "color-hog"
    assert of_images.settings["backbone_fingerprint"] == ColorHOG().fingerprint
    assert of_features.settings["backbone"] == "given"


# Words without a vector.


@pytest.fixture
def with_unknown(features):
    X, labels = features
    labels = labels.astype(object)
    labels[labels == "red star"] = "okapi"
    labels[labels == "blue ring"] = "zebra"
    return X, labels.astype(str)


def test_evaluate_unknown_classes_raise_by_default(with_unknown):
    X, labels = with_unknown
    with pytest.raises(OutOfVocabularyError) as caught:
        evaluate(X, labels, None, EMBEDDINGS, projection="ridge")
    assert caught.value.labels == ["okapi", "zebra"]


def test_evaluate_unknown_classes_are_left_out_under_skip(with_unknown):
    X, labels = with_unknown
    given = {"projection": "ridge", "n_splits": 1}
    result = evaluate(X, labels, None, EMBEDDINGS, on_unknown="skip", **given)
    known = ~np.isin(labels, ["okapi", "zebra"])
    expected = evaluate(X[known], labels[known], None, EMBEDDINGS, **given)
    assert result.results == expected.results
    assert result.settings["left_out"] == ["okapi", "zebra"]
    assert result.settings["n_images"] == known.sum()
    assert str(result).endswith("Left out, without a word vector: okapi; zebra.")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"on_unknown": "ignore"}, ValueError, "on_unknown .*'ignore'"),
        ({"n_splits": 0}, LabelError, "n_splits"),
        ({"unseen": 0.99}, LabelError, "share 0.99 of 40 classes"),
        ({"seen_test": 2}, LabelError, "seen_test"),
        ({"projection": "rigde"}, UnknownPluginError, "Did you mean 'ridge'"),
        ({"labels": ["red star"] * 3}, LabelError, "320 images and 3 labels"),
    ],
)
def test_evaluate_bad_arguments_are_named(changes, error, message, features):
    X, labels = features
    arguments = {"images": X, "labels": labels, "projection": "ridge"} | changes
    with pytest.raises(error, match=message):
        evaluate(**arguments, backbone=None, embeddings=EMBEDDINGS)


def test_evaluate_names_unknown_labels_and_lengths_before_reading_images():
    missing = ["/no/such/image.png"] * 4
    with pytest.raises(OutOfVocabularyError, match="okapi"):
        evaluate(missing, ["okapi"] * 4, "color-hog", EMBEDDINGS)
    with pytest.raises(LabelError, match="4 images and 2 labels"):
        evaluate(missing, ["red star", "red ring"], "color-hog", EMBEDDINGS)
    with pytest.raises(InvalidImageError):
        evaluate(missing, ["red star"] * 4, "color-hog", EMBEDDINGS)


# A fitted model.


@pytest.fixture
def by_hand():
    return model_by_hand()


def test_evaluate_model_equals_the_case_computed_by_hand(by_hand):
    # Among all four the nearest word is: east below 15 degrees, low below 45, high
    # below 75, else north. Among the unseen: low below 45, else high.
    X = at(5, 20, 85, 80, 70, 10, 35, 50, 65)
    y = ["east", "east", "north", "north", "north", "low", "low", "low", "high"]
    result = evaluate_model(by_hand, X, y)
    model = {metric: result.results["model"][metric][0] for metric in ACCURACIES}
    seen = (1 / 2 + 2 / 3) / 2
    unseen = (1 / 3 + 1) / 2  # 10 is east, 50 is high
    assert model == pytest.approx(
        {
            "unseen_top1": (2 / 3 + 1) / 2,
            "unseen_top5": 1.0,
            "gzsl_seen": seen,
            "gzsl_unseen": unseen,
            "gzsl_h": 2 * seen * unseen / (seen + unseen),
        }
    )
    chance = {metric: result.results["chance"][metric][0] for metric in ACCURACIES}
    assert chance == pytest.approx(
        {
            "unseen_top1": 1 / 2,
            "unseen_top5": 1.0,
            "gzsl_seen": 1 / 4,
            "gzsl_unseen": 1 / 4,
            "gzsl_h": 1 / 4,
        }
    )


def test_evaluate_model_applies_the_seen_penalty(by_hand):
    X, y = at(10, 80), ["low", "high"]
    assert evaluate_model(by_hand, X, y).results["model"]["gzsl_unseen"] == [0]
    by_hand.set_params(seen_penalty=1.0)
    assert evaluate_model(by_hand, X, y).results["model"]["gzsl_unseen"] == [1]


def test_evaluate_model_with_one_unseen_class_and_two_candidates(by_hand):
    result = evaluate_model(by_hand, at(10, 35, 5), ["low", "low", "east"])
    model = result.results["model"]
    assert model["unseen_top1"] == [1]  # the only candidate
    assert model["gzsl_unseen"] == [0.5]
    assert model["gzsl_seen"] == [1]


@pytest.mark.parametrize(
    ("y", "measured"),
    [
        (["east", "north"], {"gzsl_seen"}),
        (
            ["low", "high"],
            {"unseen_top1", "unseen_top5", "gzsl_unseen"}
            | {"calibration_error", "rejection_auroc", "rejection_fpr95"},
        ),
    ],
)
def test_evaluate_model_what_cannot_be_measured_is_nan_and_null(y, measured, by_hand):
    result = evaluate_model(by_hand, at(40, 50), y)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    for method, guessed in (("model", set()), ("chance", {"calibration_error"})):
        values = result.results[method]
        expected = measured - guessed
        assert {m for m in METRICS if not np.isnan(values[m][0])} == expected
        splits = content["splits"][method]
        assert {m for m in METRICS if splits[m] != [None]} == expected
    rows = {row["method"]: row for row in content["rows"]}
    assert {m for m in METRICS if rows["model"][m] is not None} == measured
    assert content["settings"]["n_images"] == 2
    cells = str(result).splitlines()[2].split("|")[2:-1]
    shown = [cell.strip() != "-" for cell in cells]
    assert shown == [metric in measured for metric in ACCURACIES]


def test_evaluate_model_on_images_checks_lengths_and_labels(features):
    images, labels = make_shapes(3, colors=["red", "blue"], shapes=["star", "ring"])
    clf = ZeroShotClassifier("color-hog", EMBEDDINGS, projection="ridge")
    with pytest.raises(NotFittedError):
        evaluate_model(clf, images, labels)
    seen = labels != "red star"
    clf.fit(images[seen], labels[seen])
    result = evaluate_model(clf, images, labels)
    assert result.settings["n_seen"] == 3
    assert result.settings["n_unseen"] == 1
    with pytest.raises(LabelError, match="12 images and 2 labels"):
        evaluate_model(clf, images, labels[:2])
    with pytest.raises(OutOfVocabularyError, match="okapi"):
        evaluate_model(clf, images[:1], ["okapi"])


def test_evaluate_on_given_splits_equals_those_it_makes(features, evaluation):
    X, labels = features
    given = list(zero_shot_splits(labels, 3))
    again = evaluate(
        X, labels, None, EMBEDDINGS, projection=Ridge(alpha=1.0), splits=given
    )
    assert again.results == evaluation.results


def test_a_given_split_loses_the_classes_without_a_vector(features):
    X, labels = features
    renamed = np.where(labels == "red star", "zork", labels)
    renamed = np.where(labels == "blue ring", "blork", renamed)
    seen = np.array(["blork", *np.unique(labels)[:4]])
    unseen = np.array(["green ring", "zork"])
    rows = np.arange(len(labels))
    split = ZeroShotSplit(
        seen,
        unseen,
        rows[np.isin(renamed, seen) & (rows % 2 == 0)],
        rows[np.isin(renamed, seen) & (rows % 2 == 1)],
        rows[np.isin(renamed, unseen)],
    )
    given = {"projection": "ridge", "splits": [split], "on_unknown": "skip"}
    result = evaluate(X, renamed, None, EMBEDDINGS, **given)
    assert result.settings["left_out"] == ["blork", "zork"]
    assert result.results["ridge"]["unseen_top1"] == [1.0]  # "green ring" is alone
    with pytest.raises(LabelError, match="split of these 10 images"):
        evaluate(
            X[:10], labels[:10], None, EMBEDDINGS, projection="ridge", splits=[split]
        )


def test_controls_are_those_asked_for(features):
    X, labels = features
    given = {"projection": "ridge", "n_splits": 1}
    alone = evaluate(X, labels, None, EMBEDDINGS, controls=(), **given)
    assert list(alone.results) == ["ridge", "chance"]
    beside = evaluate(X, labels, None, EMBEDDINGS, controls=["softmax"], **given)
    assert list(beside.results) == ["ridge", "softmax, seen classes", "chance"]
    softmax = beside.results["softmax, seen classes"]
    assert softmax["gzsl_seen"][0] > 0.9  # nothing but seen classes competes
    assert softmax["unseen_top1"] == softmax["gzsl_unseen"] == softmax["gzsl_h"] == [0]
    with pytest.raises(ValueError, match=r"Got \['oracle'\]"):
        evaluate(X, labels, None, EMBEDDINGS, controls=["oracle"], **given)
