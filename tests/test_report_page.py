"""The report as a page: complete, self-contained, and with the numbers in it."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.embeddings import Attributes
from zeroshot.embeddings.random import RandomEmbeddings
from zeroshot.errors import ArtifactError
from zeroshot.escaping import for_json
from zeroshot.evaluation import evaluate_model
from zeroshot.evaluation.displays import (
    ConfusionDisplay,
    HitCurveDisplay,
    LabelMapDisplay,
    LabelSimilarityDisplay,
    MethodsDisplay,
    RejectionDisplay,
    ReliabilityDisplay,
    SeenUnseenDisplay,
)
from zeroshot.evaluation.svg import svg_of
from zeroshot.labels import embed_labels
from zeroshot.metrics import hit_curve, seen_unseen_curve
from zeroshot.projections import Ridge
from zeroshot.shapes import shape_attributes

EMBEDDINGS = Attributes(*shape_attributes())
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that elements are closed in order; collects text and attributes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.text, self.attributes, self.names = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def __str__(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def written(evaluation, folder):
    evaluation.save_html(folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def photos():
    return make_shapes(8, colors=["red", "green", "blue", "yellow"])


@pytest.fixture(scope="module")
def evaluation(photos):
    return evaluate(
        *photos,
        "color-hog",
        RandomEmbeddings(16),  # some answers are right, and some are not
        projection=Ridge(alpha=1.0),
        seen_penalty=0.05,
        n_splits=2,
        cache=False,
    )


@pytest.fixture(scope="module")
def page(evaluation, tmp_path_factory):
    return written(evaluation, tmp_path_factory.mktemp("report"))


def test_the_page_has_every_figure_and_closes_every_element(page):
    parsed = Page(page)
    said = str(parsed)
    for title in (
        "Methods and yardsticks",
        "Every class",
        "Most frequent confusions",
        "Confusion among the candidates",
        "Seen-unseen curve",
        "Reliability",
        "Rejection",
        "Images and labels in the text space",
        "Best predictions",
        "What was evaluated",
    ):
        assert title in said
    svgs = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(svgs) == 9
    for svg in svgs:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")


def test_the_page_tells_what_was_evaluated(page, evaluation):
    said = str(Page(page))
    settings = evaluation.settings
    assert settings["backbone_fingerprint"] in said
    assert settings["embeddings_fingerprint"] in said
    assert f"zeroshot {settings['versions']['zeroshot']}" in said
    assert "Ridge(alpha=1.0)" in said
    for row in evaluation.rows:
        assert str(row["method"]) in said
        assert f"{row['unseen_top1']:.3f}" in said
    assert "in use: H" in said
    assert "0.050" in said  # the penalty


def test_the_page_refers_to_nothing_outside(page):
    assert "//" not in re.sub(r"base64,[^\"]+", "", page)
    for tag, name, value in Page(page).attributes:
        if name in ("src", "href", "srcset", "data", "action"):
            inside = ("data:image/jpeg;base64,", "#")
            assert value.startswith(inside), tag
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "@import" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_pictures_are_small_and_those_that_were_judged(page, evaluation):
    sources = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert 0 < len(sources) <= 24
    for source in sources:
        assert Image.open(io.BytesIO(base64.b64decode(source))).size == (112, 112)
    scored = evaluation.scored
    right = {
        str(label)
        for label, hit in zip(
            scored.labels[scored.truth][scored.of_unseen],
            scored.unseen_hits(),
            strict=True,
        )
        if hit
    }
    shown = re.findall(r'<li class="right"><img [^>]*alt="image of ([^"]+)"', page)
    assert shown
    assert set(shown) <= right


def test_every_class_stands_with_its_accuracy(page, evaluation):
    details = evaluation.to_dict()["details"]["classes"]
    assert len(details) == 32
    for row in details:
        value = row["gzsl"] if row["seen"] else row["zsl"]
        assert re.search(f'title="{row["label"]}: {value:.3f} among', page)


def test_details_equal_what_the_model_answers(photos):
    images, labels = photos
    unseen = np.isin(labels, ["red star", "green ring", "blue star"])
    clf = ZeroShotClassifier(
        "color-hog", EMBEDDINGS, projection="ridge", seen_penalty=0.2, temperature=0.05
    ).fit(images[~unseen][::2], labels[~unseen][::2])
    test = unseen | (np.arange(len(labels)) % 2 == 1)
    X, y = images[test], labels[test]
    details = evaluate_model(clf, X, y).to_dict()["details"]
    everything = [*clf.classes_.tolist(), "blue star", "green ring", "red star"]
    answers = clf.predict(X, everything)
    for row in details["classes"]:
        mine = y == row["label"]
        assert row["images"] == mine.sum()
        assert row["gzsl"] == pytest.approx((answers[mine] == row["label"]).mean())
    probabilities = clf.predict_proba(X[unseen[test]], everything[-3:])
    bins = details["reliability"]
    assert sum(bins["counts"]) == unseen.sum()
    mean = sum(
        count * confidence
        for count, confidence in zip(bins["counts"], bins["confidence"], strict=True)
        if count
    )
    assert mean / unseen.sum() == pytest.approx(probabilities.max(axis=1).mean(), 1e-4)
    plain = clf.set_params(seen_penalty=0.0).decision_function(X, everything)
    truth = np.array([everything.index(label) for label in y])
    curve = seen_unseen_curve(plain, truth, np.arange(len(everything)) < 29)
    assert details["seen_unseen_curve"]["area"] == pytest.approx(curve.area)


def test_the_share_that_a_model_accepts_is_marked(photos, tmp_path):
    images, labels = photos
    unseen = np.isin(labels, ["red star", "green ring", "blue star"])
    clf = ZeroShotClassifier(
        "color-hog", EMBEDDINGS, projection="ridge", reject=0.5
    ).fit(images[~unseen], labels[~unseen])
    result = evaluate_model(clf, images[unseen], labels[unseen])
    kept = ["blue star", "red star"]  # every second of the sorted ones
    accepted = clf.predict(images[unseen], kept) != "unknown"
    known = np.isin(labels[unseen], kept)
    rates = result.to_dict()["details"]["rejection_curve"]["accepts_in_use"]
    assert rates == pytest.approx((accepted[known].mean(), accepted[~known].mean()))
    assert "in use: " in written(result, tmp_path)


def test_labels_are_escaped_everywhere(photos, tmp_path):
    images, labels = photos
    few = np.isin(labels, ["red star", "red ring", "blue star", "blue ring"])
    names = {"red star": '<b>"red" & star</b>', "red ring": "'ring'<script>"}
    kept = np.unique(labels[few]).tolist()
    vectors, _ = embed_labels(kept, EMBEDDINGS)
    provider = Attributes([names.get(label, label) for label in kept], vectors)
    y = np.array([names.get(label, label) for label in labels[few]])
    clf = ZeroShotClassifier("color-hog", provider, projection="ridge")
    clf.fit(
        images[few][~np.isin(y, list(names.values()))],
        y[~np.isin(y, list(names.values()))],
    )
    page = written(evaluate_model(clf, images[few], y), tmp_path)
    Page(page)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    assert "<b>" + '"red"' not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_evaluation_with_labels_that_are_numbers_is_printed_and_drawn(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 8)
    X = np.eye(6)[y] + 0.1 * rng.normal(size=(48, 6))
    words = Attributes(["0", "1", "2", "3", "4"], np.eye(5))  # none of 5
    result = evaluate(
        X, y, None, words, projection="ridge", n_splits=2, on_unknown="skip"
    )
    assert "Left out, without a word vector: 5." in str(result)
    assert json.loads(for_json(result.to_dict()))["settings"]["left_out"] == [5]
    Page(written(result, tmp_path))


def test_names_that_are_no_utf8_or_hold_controls_are_drawn_escaped(tmp_path):
    names = ["\udcff", "a\x1b[31m|b", "<c>", "d\ne", "=f", "`g`"]
    y = np.repeat(names, 6)
    X = np.eye(6)[np.repeat(np.arange(6), 6)]
    result = evaluate(
        X,
        y,
        None,
        Attributes(names, np.eye(6)),
        projection="ridge",
        n_splits=1,
        unseen=0.5,
    )
    page = written(result, tmp_path)
    Page(page)
    assert "\x1b" not in page + str(result)
    assert "\\udcff" in page


def test_a_page_of_features_has_no_pictures_and_one_of_seen_classes_no_curve(
    photos, tmp_path
):
    rows = np.random.default_rng(0).normal(size=(20, 4))
    y = np.array(["red star", "red ring"] * 10)
    clf = ZeroShotClassifier(None, EMBEDDINGS, projection="ridge").fit(rows, y)
    said = str(Page(written(evaluate_model(clf, rows, y), tmp_path)))
    assert "Every seen class" in said
    for missing in ("Pictures", "Seen-unseen curve", "Reliability", "Rejection"):
        assert missing not in said


def test_hundreds_of_classes_make_a_page_of_bounded_size(tmp_path):
    random = np.random.default_rng(0)
    labels = [f"class number {i}" for i in range(400)]
    vectors = random.normal(size=(400, 20))
    y = np.repeat(np.arange(400), 4)
    X = vectors[y] + random.normal(size=(1600, 20))
    result = evaluate(
        X,
        np.array(labels)[y],
        None,
        Attributes(labels, vectors),
        projection="ridge",
        n_splits=1,
        unseen=0.5,
    )
    page = written(result, tmp_path)
    assert "The 40 of 200 labels with most mistakes" in str(Page(page))
    assert len(page) < 1_000_000


def test_a_page_that_cannot_be_written_is_an_error_with_its_path(evaluation, tmp_path):
    with pytest.raises(ArtifactError, match="a place to write the report"):
        evaluation.save_html(tmp_path)


# The plots by themselves.

DISPLAYS = [
    ConfusionDisplay,
    HitCurveDisplay,
    LabelMapDisplay,
    LabelSimilarityDisplay,
    RejectionDisplay,
    ReliabilityDisplay,
    SeenUnseenDisplay,
]


@pytest.mark.parametrize("kind", DISPLAYS)
def test_display_draws_on_the_axes_that_it_is_given(kind, evaluation):
    figure = Figure()
    ax = figure.subplots()
    display = kind.from_evaluation(evaluation).plot(ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert ax.lines or ax.collections
    assert display.description


def test_display_without_axes_makes_a_figure(evaluation, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    plt.switch_backend("agg")
    display = ReliabilityDisplay.from_evaluation(evaluation).plot()
    assert display.ax_ in display.figure_.axes
    plt.close(display.figure_)


@pytest.mark.parametrize("kind", DISPLAYS)
def test_display_of_an_evaluation_without_unseen_classes_raises(kind, photos):
    rows = np.random.default_rng(0).normal(size=(20, 4))
    y = np.array(["red star", "red ring"] * 10)
    clf = ZeroShotClassifier(None, EMBEDDINGS, projection="ridge").fit(rows, y)
    with pytest.raises(ValueError, match=kind.__name__):
        kind.from_evaluation(evaluate_model(clf, rows, y))


def test_lines_are_drawn_where_their_numbers_are(evaluation):
    scored = evaluation.scored
    ax = Figure().subplots()
    HitCurveDisplay.from_evaluation(evaluation).plot(ax)
    hits = hit_curve(scored.unseen_scores, scored.unseen_truth)
    assert ax.lines[1].get_ydata() == pytest.approx(hits)
    ax = Figure().subplots()
    SeenUnseenDisplay.from_evaluation(evaluation).plot(ax)
    curve = scored.curve()
    assert ax.lines[0].get_xdata() == pytest.approx(curve.unseen)
    assert ax.lines[0].get_ydata() == pytest.approx(curve.seen)
    in_use = curve.at(scored.penalty)[::-1]
    assert [line.get_xydata()[0].tolist() for line in ax.lines][-1] == list(in_use)


def test_bars_of_reliability_are_as_high_as_predictions_are_right(evaluation):
    bins = evaluation.scored.reliability()
    ax = Figure().subplots()
    ReliabilityDisplay(bins).plot(ax)
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert heights == pytest.approx(bins.accuracy[bins.counts > 0].tolist())


def test_similar_labels_are_named():
    display = LabelSimilarityDisplay(
        np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]]), ["cat", "lynx", "cup"]
    )
    assert "cat and lynx, 0.90" in display.description


def test_names_that_look_like_formulas_are_drawn_as_they_are():
    names = ["$\\alpha$", "a_b^c$", "cash $5", "\x1b[31m"]
    svg = svg_of(MethodsDisplay(names, [[0.1]] * 4, "top-1"))
    ElementTree.fromstring(svg)
    assert "cash $5" in svg
    assert "\x1b" not in svg
