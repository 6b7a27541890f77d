"""How far candidates stand out from what is known, image by image."""

import math
from dataclasses import replace

import numpy as np
import pytest
from literal_training import unit

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ClassifierHead, ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.features import extract_features
from zeroshot.scoring.rejection import Background, StandOut
from zeroshot.shapes import shape_attributes

DIM = 6
NOBODY = -1


def labels(n, seed):
    """Return points of labels, each with a correction in the last column."""
    random = np.random.default_rng(seed)
    points = unit(random.standard_normal((n, DIM)))
    return np.float32(np.column_stack([points, -0.2 * random.random(n)]))


def images(n):
    return np.random.default_rng(9).standard_normal((n, DIM)).astype(np.float32)


def literal(case, point, hidden=()):
    """Return t times the log odds of the candidates against the mean of the rest."""
    t, penalty = case.temperature, case.penalty

    def score(label):
        return float(label[:DIM] @ point / np.linalg.norm(point) + label[DIM])

    named_seen = set(case.class_of.tolist()) - {NOBODY}
    background = [
        score(label) - penalty
        for c, label in enumerate(case.seen)
        if c not in named_seen and c not in hidden
    ]
    background += [
        score(label)
        for label, candidate, twin in zip(
            case.pretrained, case.pretrained_of, case.twins, strict=True
        )
        if candidate == NOBODY and twin not in hidden
    ]
    candidates = []
    for j, label in enumerate(case.candidates):
        c = case.class_of[j]
        twins = case.twins[case.pretrained_of == j].tolist()
        if c in hidden or (c == NOBODY and set(twins) & set(hidden)):
            candidates.append(-math.inf)
        else:
            candidates.append(score(label) - penalty * (c != NOBODY))
    is_all_known = len(named_seen) == len(case.seen) and NOBODY not in (
        case.pretrained_of.tolist()
    )
    if is_all_known:
        best = case.class_of[int(np.argmax(candidates))]
        background = [
            score(label) - penalty
            for c, label in enumerate(case.seen)
            if c != best and c not in hidden
        ]
    ours = sum(math.exp(s / t) for s in candidates)
    if not background:
        return math.inf
    mean = sum(math.exp(s / t) for s in background) / len(background)
    return t * math.log(ours / mean) if ours else -math.inf


def standing(class_of, pretrained_of=(), twins=(), n_seen=5, **values):
    return StandOut(
        **{
            "candidates": labels(len(class_of), 0),
            "class_of": np.array(class_of),
            "pretrained_of": np.array(pretrained_of, np.intp),
            "seen": labels(n_seen, 1),
            "pretrained": labels(len(pretrained_of), 2),
            "twins": np.array(twins, np.intp),
            "penalty": 0.1,
            "temperature": 0.2,
            **values,
        }
    )


CASES = {
    "new": standing([-1, -1]),
    "seen and new": standing([-1, 3, 1]),
    "named": standing([-1, 3], [0, -1, 1, -1], [-1, -1, 3, 2]),
    "alias": standing([-1, -1], [0, -1, 1], [4, 4, -1]),
    "one": standing([-1], [-1] * 7, [-1] * 7, temperature=0.01),
    "all seen": standing([0, 1, 2, 3, 4]),
    "all seen and new": standing([0, -1, 1, 2, 3, 4]),
    "all known": standing([3, 0, 1, -1, 2, 4], [0, 3], [3, -1]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_standing_is_the_log_odds_written_out(case):
    points = images(8)
    expected = [literal(case, point) for point in points]
    np.testing.assert_allclose(case.of(points), expected, atol=1e-5)
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_hidden_classes_are_met_by_no_name(case):
    points = images(8)
    hidden = np.random.default_rng(1).random((8, 5)) < 0.3
    hidden[0] = False
    hidden[1] = [False, False, False, False, True]
    expected = [
        literal(case, point, np.flatnonzero(row).tolist())
        for point, row in zip(points, hidden, strict=True)
    ]
    np.testing.assert_allclose(case.of(points, hidden), expected, atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_standing_where_nothing_is_left_to_compare_with_is_without_end():
    case = standing([1], n_seen=2)
    hidden = np.array([[True, False], [False, True], [True, True]])
    values = case.of(images(3), hidden)
    assert values[0] == np.inf  # nothing in the background
    assert values[1] == -np.inf  # no candidate


def test_standing_of_an_image_that_could_not_be_read_is_nan():
    points = images(3)
    points[1] = np.nan
    values = CASES["seen and new"].of(points)
    assert np.isnan(values).tolist() == [False, True, False]


def test_threshold_is_passed_by_the_stated_share_of_new_images():
    case = CASES["named"]
    points = images(400)
    classes = np.arange(400) % 5
    background = Background(points, classes, np.array([0, 1, 0, 1, 2]))
    values = []
    for point, c in zip(points, classes, strict=True):
        together = {0: [0, 2], 2: [0, 2], 1: [1, 3], 3: [1, 3], 4: [4]}[int(c)]
        values.append(literal(case, point, together))
    values = np.array(values)
    values = values[np.isfinite(values)]
    assert [c.tolist() for c in background.left_out] == [[0, 2], [1, 3], [4]]
    for rate in (0.1, 0.25):
        found = background.threshold(rate, [case] * 3)
        # Images of other classes are as many for all, and are like these.
        assert (values > found).mean() == pytest.approx(rate, abs=0.01)
        assert np.abs(values - found).min() < 1e-5


def ladder(n_classes, n_images):
    """Return images of classes that stand out one more than the other, and standing.

    The cosine with the only candidate is what differs.
    """
    n = n_classes * n_images
    cosine = (1 + np.arange(n)) / (n + 1)
    points = np.zeros((n, DIM), np.float32)
    points[:, 0], points[:, 1] = cosine, np.sqrt(1 - cosine**2)
    axes = np.eye(DIM, DIM + 1, dtype=np.float32)
    seen = np.repeat(axes[2:3], n_classes, axis=0)
    case = standing([-1], candidates=axes[:1], seen=seen, penalty=0.0)
    classes = np.repeat(np.arange(n_classes), n_images)
    return Background(points, classes, np.arange(n_classes)), case


def test_threshold_counts_classes_where_images_of_a_class_are_alike():
    background, case = ladder(34, n_images=10)
    values = case.of(background.points)
    # Of 34 classes one may pass; a new one would be the first of 35 at 1 / 35.
    found = background.threshold(0.05, [case] * 34)
    assert found == pytest.approx(values[-1], abs=1e-6)
    # Two may; a new one would be among the first two at 2 / 35, less than 0.06.
    found = background.threshold(0.06, [case] * 34)
    assert found == pytest.approx(values[-11], abs=1e-6)


def test_threshold_counts_images_where_classes_are_alike():
    background, case = ladder(34, n_images=10)
    dealt = replace(background, labels=np.arange(340) % 34)
    found = dealt.threshold(0.05, [case] * 34)
    assert (case.of(dealt.points) > found).mean() == pytest.approx(0.05, abs=0.003)


def test_threshold_takes_the_candidates_without_the_classes_of_each_image():
    background, case = ladder(20, n_images=5)
    values = case.of(background.points)
    far = replace(case, candidates=labels(1, 3))
    assert far.of(background.points[-5:]).max() < values[-6]
    found = background.threshold(0.06, [case] * 19 + [far])
    assert found == pytest.approx(values[-6], abs=1e-6)


def test_threshold_without_another_class_accepts_all():
    case = standing([-1], n_seen=1)
    background = Background(images(4), np.zeros(4, int), np.zeros(1, int))
    assert background.threshold(0.1, [case]) == -np.inf


class Headed(ColorHOG):
    """A backbone that was trained to tell shapes apart."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def classifier_head(self):
        return self.head


UNSEEN = ["red star", "blue ring"]


@pytest.fixture(scope="module")
def fitted():
    images, names = make_shapes(
        6, colors=["red", "green", "blue", "yellow"], random_state=0
    )
    seen = ~np.isin(names, UNSEEN)
    features = extract_features(images, ColorHOG(), cache=False).matrix
    classes = np.setdiff1d(names, UNSEEN)[::2]
    rows = np.array([features[names == c].mean(axis=0) for c in classes])
    head = ClassifierHead(
        tuple((f"the {c}", str(c)) for c in classes),
        np.float32(rows.T),
        np.zeros(len(classes), np.float32),
    )
    classifier = ZeroShotClassifier(
        Headed(head),
        Attributes(*shape_attributes()),
        projection="visual",
        reject="auto:0.2",
        cache=False,
        random_state=0,
    )
    return classifier.fit(images[seen], names[seen]), images, names


@pytest.mark.parametrize("which", ["all seen", "all", "new", "one"])
def test_classifier_rejects_among_any_candidates(which, fitted):
    classifier, images, names = fitted
    candidates = {
        "all seen": classifier.seen_classes_.tolist(),
        "all": [*classifier.seen_classes_.tolist(), *UNSEEN],
        "new": UNSEEN,
        "one": UNSEEN[:1],
    }[which]
    values = classifier.standing(images, candidates)
    assert np.isfinite(values).all()
    is_known = np.isin(names, candidates)
    accepted = classifier.predict(images, candidates) != "unknown"
    assert accepted[is_known].mean() > 0.7
    if not is_known.all():
        assert accepted[~is_known].mean() < 0.35
        assert values[is_known].mean() > values[~is_known].mean()
    ranked = classifier.rank(images[:5], candidates)
    assert [not best[0].rejected for best in ranked] == accepted[:5].tolist()


def test_rejection_is_the_same_after_loading(fitted, tmp_path):
    classifier, images, _ = fitted
    classifier.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", backbone=classifier.backbone)
    for candidates in (UNSEEN, classifier.seen_classes_.tolist()):
        np.testing.assert_array_equal(
            loaded.standing(images, candidates),
            classifier.standing(images, candidates),
        )
        assert loaded.rank(images, candidates) == classifier.rank(images, candidates)
