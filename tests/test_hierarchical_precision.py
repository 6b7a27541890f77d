"""Hierarchical precision in an evaluation, by hand and counted literally."""

import dataclasses
import json

import numpy as np
import pytest
from evaluation_cases import EMBEDDINGS, at, model_by_hand, shape_features

from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.errors import LabelError, ZeroShotWarning
from zeroshot.evaluation import METRICS, evaluate_model
from zeroshot.hierarchy import Hierarchy
from zeroshot.projections import Ridge
from zeroshot.splits import zero_shot_splits


@pytest.fixture(scope="module")
def features():
    return shape_features()


@pytest.fixture
def by_hand():
    return model_by_hand()


def color_and_shape(labels):
    """A tree in which "red star" is a kind of red and of star, these of anything."""
    parents = {str(label): label.split() for label in np.unique(labels)}
    words = {word for above in parents.values() for word in above}
    return Hierarchy(parents | dict.fromkeys(words, "anything"))


def test_hierarchical_precision_equals_the_case_computed_by_hand(by_hand):
    tree = Hierarchy({"east": "x", "low": "x", "north": "y", "high": "y", "x": "y"})
    X, y = at(5, 50, 80, 40), ["east", "high", "high", "low"]

    def measured(result, method):
        values = result.results[method]
        return {
            kind: [values[f"gzsl_{kind}_hp{k}"][0] for k in (1, 2)]
            for kind in ("seen", "unseen")
        }

    # 5 degrees: east, low, both of x. 50: high, low, one of y. 80: north, high.
    # 40: low, high, one of x.
    plain = evaluate_model(by_hand, X, y, hierarchy=tree)
    assert measured(plain, "model") == {
        "seen": [1, 1],
        "unseen": [pytest.approx(2 / 3)] * 2,
    }
    assert measured(plain, "chance") == {"seen": [0.25, 0.5], "unseen": [0.25, 0.5]}
    # 5 and 40 degrees: low, high. 50 and 80: high, low.
    by_hand.set_params(seen_penalty=1.0)
    penalised = evaluate_model(by_hand, X, y, hierarchy=tree)
    assert measured(penalised, "model") == {"seen": [0, 0.5], "unseen": [1, 0.5]}
    assert np.isnan(plain.results["model"]["gzsl_seen_hp5"])  # of 4 candidates
    assert set(evaluate_model(by_hand, X, y).results["model"]) == set(METRICS)


@pytest.fixture(scope="module")
def with_tree(features):
    X, labels = features
    return evaluate(
        X,
        labels,
        None,
        EMBEDDINGS,
        projection=Ridge(alpha=1.0),
        seen_penalty=0.1,
        n_splits=1,
        controls=("softmax",),
        hierarchy=color_and_shape(labels),
    )


@pytest.mark.parametrize("kind", ["seen", "unseen"])
@pytest.mark.parametrize("k", [1, 2, 5, 10, 20])
def test_hierarchical_precision_of_an_evaluation_equals_a_literal_count(
    kind, k, with_tree
):
    scored = with_tree.scored
    labels = scored.labels.tolist()
    found, guessed = [], []
    for row, true in zip(scored.scores.tolist(), scored.truth.tolist(), strict=True):
        if (true < scored.n_seen) != (kind == "seen"):
            continue
        words = set(labels[true].split())
        # The label itself, those with its color or shape, and all the others.
        rings = [
            {label for label in labels if len(words & set(label.split())) >= shared}
            for shared in (2, 1, 0)
        ]
        correct = next(ring for ring in rings if len(ring) >= k)
        penalised = {
            label: score - 0.1 * (j < scored.n_seen)
            for j, (label, score) in enumerate(zip(labels, row, strict=True))
        }
        best = sorted(labels, key=penalised.__getitem__, reverse=True)[:k]
        found.append(len(correct & set(best)) / k)
        guessed.append(len(correct) / len(labels))
    metric = f"gzsl_{kind}_hp{k}"
    assert with_tree.results["ridge"][metric] == [pytest.approx(np.mean(found))]
    assert with_tree.results["chance"][metric] == [pytest.approx(np.mean(guessed))]


def test_the_softmax_classifier_names_seen_classes_near_the_unseen(with_tree):
    softmax = with_tree.results["softmax, seen classes"]
    assert softmax["gzsl_seen_hp1"][0] > 0.9
    assert softmax["gzsl_unseen_hp1"] == [0]
    chance = with_tree.results["chance"]["gzsl_unseen_hp5"][0]
    assert softmax["gzsl_unseen_hp5"][0] > 2 * chance


def test_the_softmax_classifier_does_not_depend_on_the_order_of_a_split(features):
    X, labels = features
    split = next(iter(zero_shot_splits(labels, 1)))
    turned = dataclasses.replace(split, seen=split.seen[::-1])
    first, second = (
        evaluate(
            X,
            labels,
            None,
            EMBEDDINGS,
            projection="ridge",
            splits=[given],
            controls=["softmax"],
            hierarchy=color_and_shape(labels),
        ).results["softmax, seen classes"]
        for given in (split, turned)
    )
    for metric, values in first.items():
        assert second[metric] == pytest.approx(values, nan_ok=True)


def test_hierarchical_precision_of_an_unreadable_image_is_0(tmp_path):
    images, labels = make_shapes(3, colors=["red", "blue"], shapes=["star", "ring"])
    (tmp_path / "broken.png").write_bytes(b"no image")
    clf = ZeroShotClassifier(
        "color-hog", EMBEDDINGS, projection="ridge", on_error="nan"
    ).fit(images, labels)
    tree = color_and_shape(labels)
    star = evaluate_model(clf, list(images[:1]), labels[:1], hierarchy=tree)
    pair = [images[0], tmp_path / "broken.png"]
    with pytest.warns(ZeroShotWarning, match=r"broken\.png"):
        both = evaluate_model(clf, pair, [labels[0]] * 2, hierarchy=tree)
    for metric in ("gzsl_seen_hp1", "gzsl_seen_hp2"):
        assert star.results["model"][metric] == [1]
        assert both.results["model"][metric] == [0.5]


def test_hierarchical_precision_stands_in_every_form(with_tree, tmp_path):
    row = next(row for row in with_tree.rows if row["method"] == "ridge")
    cell = f"{row['gzsl_unseen_hp5']:.3f}"
    text = str(with_tree)
    lines = text[text.index("| images of unseen classes") :].splitlines()
    assert [c.strip() for c in lines[0].split("|")[2:-1]] == [
        *("hp@1", "hp@2", "hp@5", "hp@10", "hp@20")
    ]
    assert lines[2].split("|")[4].strip() == f"{cell} +- 0.000"
    content = json.loads(json.dumps(with_tree.to_dict(), allow_nan=False))
    assert content["rows"][0]["gzsl_unseen_hp5"] == row["gzsl_unseen_hp5"]
    assert content["splits"]["ridge"]["gzsl_unseen_hp5"] == [row["gzsl_unseen_hp5"]]
    assert content["settings"]["hierarchy_nodes"] == 54  # 40, 5 colors, 8 shapes, 1
    with_tree.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    section = page[page.index("How near the answers are") :]
    assert f"<td>{cell}</td>" in section[: section.index("</section>")]


def test_evaluate_names_all_labels_without_a_node_before_reading_images():
    missing, labels = ["/no/such/image.png"] * 4, ["red star", "red ring"] * 2
    tree = Hierarchy({"blue": "color", "red cross": "red"})
    with pytest.raises(LabelError, match="none for 'red ring', 'red star'"):
        evaluate(missing, labels, "color-hog", EMBEDDINGS, hierarchy=tree)
