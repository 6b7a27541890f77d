"""Sums over labelled images, in parts and from Parquet: as if learnt from at once."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from literal_training import easy_problem, unit
from sklearn.base import clone

from zeroshot import ZeroShotClassifier, load
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    PartialCoverageWarning,
    PluginContractError,
)
from zeroshot.projections import (
    ESZSL,
    SAE,
    ConSE,
    DeViSE,
    PretrainedClasses,
    Ridge,
    SupportsMoments,
    Visual,
)
from zeroshot.projections.moments import Moments
from zeroshot.training.labelled_moments import MomentsSum, moments_of_parquet

FIXED = {"gamma": 2.0, "alpha": 0.1, "pretrained_weight": 1.0}
PROJECTIONS = [
    Ridge(),
    Ridge(normalize=False),
    ESZSL(alpha=0.5, alpha_text=2.0),
    SAE(),
    Visual(**FIXED),
    Visual(),
    DeViSE(epochs=0, **FIXED),
    DeViSE(epochs=0, visual_weight=0),
]
NAMES = np.array([f"class {i:02}" for i in range(16)])


def named(projections):
    return pytest.mark.parametrize("projection", projections, ids=repr)


@pytest.fixture
def pretrained():
    T = unit(np.random.default_rng(7).standard_normal((6, 8))).astype(np.float32)
    weights = np.random.default_rng(8).standard_normal((6, 24)).astype(np.float32)
    twins = np.array([-1, 2, -1, -1, 11, -1])
    return PretrainedClasses(T, weights, np.zeros(6, np.float32), twins)


@pytest.fixture
def problem():
    X, y, T = easy_problem()
    order = np.random.default_rng(3).permutation(len(y))
    return X[order].astype(np.float32), y[order], T


def assert_same_map(got, expected, X, T):
    pairs = [(got.transform(X), expected.transform(X))]
    if hasattr(got, "transform_labels"):
        pairs.append((got.transform_labels(T), expected.transform_labels(T)))
    if hasattr(got, "class_points_"):
        pairs.append((got.class_points_, expected.class_points_))
    for ours, theirs in pairs:
        np.testing.assert_allclose(unit(ours), unit(theirs), atol=2e-5)


@named(PROJECTIONS)
@pytest.mark.parametrize("with_pretrained", [False, True])
def test_fit_moments_is_fit_on_all_images(
    projection, with_pretrained, pretrained, problem
):
    X, y, T = problem
    classes = pretrained if with_pretrained else None
    expected = clone(projection).fit(X, y, class_embeddings=T, pretrained=classes)
    moments = Moments.of(X, y, 16, normalize=projection.normalize)
    ours = clone(projection)
    assert isinstance(ours, SupportsMoments)
    ours.fit_moments(moments, class_embeddings=T, images=(X, y), pretrained=classes)
    assert_same_map(ours, expected, X, T)
    assert getattr(ours, "gamma_", 0) == getattr(expected, "gamma_", 0)


@named([p for p in PROJECTIONS if getattr(p, "gamma", 2.0) != "auto"])
def test_merge_is_fit_on_the_images_of_both(projection, pretrained, problem):
    X, y, T = problem
    places = np.array([1, 4, 5, 9, 12])
    first = np.isin(y, places) & (np.arange(len(y)) % 2 == 0)
    row = np.searchsorted(places, y[first])
    one = clone(projection).fit(X[first], row, class_embeddings=T[places])
    other = clone(projection).fit(X[~first], y[~first], class_embeddings=T)
    one.merge(other, class_embeddings=T, places=places, pretrained=pretrained)
    at_once = clone(projection).fit(X, y, class_embeddings=T, pretrained=pretrained)
    assert_same_map(one, at_once, X, T)


def test_merge_with_another_preparation_is_refused(problem):
    X, y, T = problem
    one = Ridge().fit(X, y, class_embeddings=T)
    other = Ridge(normalize=False).fit(X, y, class_embeddings=T)
    with pytest.raises(ValueError, match=r"normalize=True\. Got one of 24, norm"):
        one.merge(other, class_embeddings=T, places=np.arange(16))


def test_devise_with_hidden_layers_needs_images(problem):
    X, y, T = problem
    moments = Moments.of(X, y, 16, normalize=True)
    with pytest.raises(ValueError, match="Expected a linear map"):
        DeViSE(hidden=(4,)).fit_moments(moments, class_embeddings=T)


def summed(X, labels, **settings):
    total = MomentsSum(**settings)
    total.add(X, labels)
    return total.result()


def test_merged_sums_are_those_of_all(problem):
    X, y, _ = problem
    parts = [np.flatnonzero(y < 5), np.flatnonzero(y >= 11), np.flatnonzero(y % 3 == 0)]
    merged = summed(X[parts[0]], NAMES[y[parts[0]]])
    for part in parts[1:]:
        merged = merged.merge(summed(X[part], NAMES[y[part]]))
    rows = np.concatenate(parts)
    everything = summed(X[rows], NAMES[y[rows]])
    assert merged.classes.tolist() == everything.classes.tolist()
    assert (
        merged.moments.counts.tolist()
        == np.bincount(y[rows])[np.unique(y[rows])].tolist()
    )
    np.testing.assert_allclose(merged.moments.sums, everything.moments.sums, atol=1e-4)
    np.testing.assert_allclose(merged.moments.gram, everything.moments.gram, atol=1e-3)
    np.testing.assert_array_equal(merged.classes[merged.sample_index], NAMES[y[rows]])


def test_sums_grow_by_new_classes_and_leave_bad_rows_out(problem):
    X, y, _ = problem
    total = MomentsSum(sample_every=7)
    for start in range(0, len(y), 10):
        rows = slice(start, start + 10)
        some = X[rows].copy()
        some[3] = np.nan
        labels = NAMES[y[rows]].tolist()
        labels[5] = None
        total.add(some, labels)
    left = np.flatnonzero(~np.isin(np.arange(len(y)) % 10, [3, 5]))
    found, expected = total.result(), summed(X[left], NAMES[y[left]])
    assert found.n_left_out == len(y) // 5
    assert found.classes.tolist() == expected.classes.tolist()
    np.testing.assert_array_equal(found.moments.counts, expected.moments.counts)
    np.testing.assert_allclose(found.moments.sums, expected.moments.sums, atol=1e-4)
    kept = left[left % 7 == 0]
    np.testing.assert_array_equal(found.sample, X[kept])
    np.testing.assert_array_equal(found.classes[found.sample_index], NAMES[y[kept]])


def test_sums_over_nothing_are_refused():
    with pytest.raises(LabelError, match="Got none"):
        MomentsSum().result()


def test_sums_over_other_features_do_not_merge(problem):
    X, y, _ = problem
    one = summed(X, NAMES[y])
    with pytest.raises(PluginContractError, match=r"normalize=True\. Got length 5"):
        one.merge(summed(X[:, :5], NAMES[y]))


# The classifier


@pytest.fixture
def table(problem, tmp_path):
    """Features of 12 classes in three files of several row groups."""
    X, y, T = problem
    X, y = X[y < 12], y[y < 12]
    for i, rows in enumerate(np.array_split(np.arange(len(y)), 3)):
        features = pa.FixedSizeListArray.from_arrays(pa.array(X[rows].ravel()), 24)
        content = {"features": features, "label": NAMES[y[rows]]}
        pq.write_table(pa.table(content), tmp_path / f"{i}.parquet", row_group_size=30)
    return tmp_path, X, y, T


@named([Ridge(), Visual(), DeViSE(epochs=0)])
def test_classifier_learns_from_parquet_as_from_memory(projection, table, problem):
    folder, X, y, T = table
    unseen, labels = problem[0][problem[1] >= 12], NAMES[12:].tolist()
    words = Attributes(NAMES.tolist(), T)
    classifier = ZeroShotClassifier(None, words, projection=projection, random_state=0)
    expected = clone(classifier).fit(X, NAMES[y])
    classifier.fit_moments(moments_of_parquet(folder))
    classifier.save(folder / "model")
    for each in (classifier, load(folder / "model")):
        got = each.scores(unseen, labels)
        np.testing.assert_allclose(got, expected.scores(unseen, labels), atol=1e-3)
        assert each.n_images_ == len(y)
        assert each.classes_.tolist() == NAMES[:12].tolist()


def test_classifier_says_what_needs_images(table):
    folder, _, _, T = table
    words = Attributes(NAMES.tolist(), T)
    sums = moments_of_parquet(folder)
    with pytest.raises(ValueError, match=r"seen_penalty='auto'\. Give a num"):
        ZeroShotClassifier(None, words, seen_penalty="auto").fit_moments(sums)
    with pytest.raises(PluginContractError, match="'ConSE'"):
        ZeroShotClassifier(None, words, projection=ConSE()).fit_moments(sums)
    with pytest.raises(ValueError, match=r"normalize=False.* Got normalize=T"):
        ZeroShotClassifier(None, words, projection=Ridge(normalize=False)).fit_moments(
            sums
        )


def test_parquet_of_another_backbone_is_refused(table):
    folder, _, _, T = table
    content = pq.read_table(folder / "0.parquet")
    for name, fingerprint in (("a", "one"), ("b", "two")):
        about = {b"zeroshot": b'{"fingerprint": "%s"}' % fingerprint.encode()}
        pq.write_table(
            content.replace_schema_metadata(about), folder / f"{name}.parquet"
        )
    with pytest.raises(FingerprintMismatchError, match=r"b\.parquet"):
        moments_of_parquet(folder)
    words = Attributes(NAMES.tolist(), T)
    sums = moments_of_parquet(folder / "a.parquet")
    assert sums.fingerprint == "one"
    with pytest.raises(FingerprintMismatchError, match="color-hog"):
        ZeroShotClassifier("color-hog", words, projection="ridge").fit_moments(sums)


def test_parquet_rows_without_features_or_label_are_told(table):
    folder, *_ = table
    lists = [[1.0] * 24, None, [float("nan")] * 24, [2.0] * 24]
    rows = {"features": lists, "label": ["class 00", "class 00", "class 01", None]}
    pq.write_table(pa.table(rows), folder / "bad.parquet")
    with pytest.warns(PartialCoverageWarning, match="3 of 4 rows"):
        sums = moments_of_parquet(folder / "bad.parquet")
    assert sums.classes.tolist() == ["class 00"]


@pytest.mark.parametrize(
    ("name", "told"),
    [("none", "Check the path"), ("text.parquet", "Check the file"), (".", "'label'")],
)
def test_parquet_that_is_none_is_told(name, told, tmp_path):
    (tmp_path / "text.parquet").write_text("no table")
    if name == ".":
        (tmp_path / "text.parquet").unlink()
        pq.write_table(pa.table({"features": [[1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(ArtifactError, match=told):
        moments_of_parquet(tmp_path / name)
