"""`ZeroShotClassifier`, in image and in feature mode, with light plugins."""

import os
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zeroshot import ZeroShotClassifier, load_image_folder, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    InvalidImageError,
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    UnknownPluginError,
)
from zeroshot.features import extract_features
from zeroshot.projections import DeViSE, Ridge
from zeroshot.shapes import shape_attributes
from zeroshot.splits import ClassDisjointKFold

COLORS = ["red", "green", "blue", "yellow"]
SHAPES = ["star", "ring", "square", "heart"]
UNSEEN = ["red star", "blue ring", "green square"]
EMBEDDINGS = Attributes(*shape_attributes())


@pytest.fixture(scope="module")
def shapes():
    """Images of 16 classes, and whether their class is trained on."""
    images, labels = make_shapes(10, colors=COLORS, shapes=SHAPES)
    return images, labels, ~np.isin(labels, UNSEEN)


@pytest.fixture(scope="module")
def features(shapes):
    images, labels, seen = shapes
    return extract_features(images, ColorHOG(), cache=False).matrix, labels, seen


def classifier(**parameters):
    return ZeroShotClassifier(
        **{
            "backbone": "color-hog",
            "embeddings": EMBEDDINGS,
            "projection": Ridge(alpha=1.0),
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted(shapes):
    images, labels, seen = shapes
    return classifier(cache=False).fit(images[seen], labels[seen])


@pytest.fixture
def on_features(features):
    """A fresh classifier, fitted on features of the seen classes."""
    X, labels, seen = features
    return classifier(backbone=None).fit(X[seen], labels[seen])


def files_below(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


# Images in, labels never trained on out.


def test_fit_on_images_predicts_labels_never_trained_on(shapes, fitted):
    images, labels, seen = shapes
    assert not set(UNSEEN) & set(fitted.classes_)
    predicted = fitted.predict(images[~seen], UNSEEN)
    assert (predicted == labels[~seen]).mean() > 0.9  # chance is 1/3
    assert fitted.n_images_ == seen.sum()
    assert fitted.n_features_in_ == ColorHOG().dim
    assert fitted.backbone_fingerprint_ == ColorHOG().fingerprint
    assert [entry.label for entry in fitted.label_report_.entries] == list(
        fitted.classes_
    )


def test_fit_with_devise_predicts_labels_never_trained_on(shapes, features):
    X, labels, seen = features
    clf = classifier(projection="devise", random_state=0).fit(X[seen], labels[seen])
    score = clf.score(shapes[0][~seen], labels[~seen], candidate_labels=UNSEEN)
    assert score > 0.8


def test_images_as_paths_folder_pil_and_arrays_give_the_same(shapes, fitted, tmp_path):
    images, labels, seen = shapes
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if seen[number] or number % 5 == 0:
            folder = tmp_path / ("seen" if seen[number] else "unseen") / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
    paths, folder_labels = load_image_folder(tmp_path / "seen")
    clf = classifier().fit(paths, folder_labels)
    new = [images[i] for i in np.flatnonzero(~seen)[::5]]
    expected = fitted.decision_function(np.stack(new), UNSEEN)
    files, _ = load_image_folder(tmp_path / "unseen")
    order = [
        np.flatnonzero(~seen)[::5].tolist().index(int(Path(f).stem)) for f in files
    ]
    for form, scores in (
        (list(new), expected),
        ([Image.fromarray(image) for image in new], expected),
        (files, expected[order]),
        ([Path(file) for file in files], expected[order]),
        (tmp_path / "unseen", expected[order]),
    ):
        np.testing.assert_allclose(
            clf.decision_function(form, UNSEEN), scores, atol=1e-5
        )


def test_candidates_of_the_constructor_the_call_or_the_seen_classes(
    on_features, features
):
    X, _, seen = features
    new = X[~seen]
    assert set(on_features.predict(new)) <= set(on_features.classes_)
    of_call = on_features.predict(new, UNSEEN)
    on_features.set_params(candidate_labels=UNSEEN)
    np.testing.assert_array_equal(on_features.predict(new), of_call)
    assert on_features.predict_proba(new).shape == (len(new), 3)
    assert set(on_features.predict(new, ["red ring", "blue star"])) == {
        "red ring",
        "blue star",
    }  # the call's win


def test_candidates_as_a_mapping_find_labels_by_their_aliases(on_features, features):
    X, _, seen = features
    aliases = {"ROUGE": ["red star"], "Azul": ["nonsense", "blue ring"]}
    with_aliases = on_features.decision_function(X[~seen], aliases)
    plain = on_features.decision_function(X[~seen], ["red star", "blue ring"])
    np.testing.assert_allclose(with_aliases, plain, atol=1e-6)
    assert set(on_features.predict(X[~seen], aliases)) == {"ROUGE", "Azul"}


def test_a_candidates_score_does_not_depend_on_the_others(on_features, features):
    X = features[0]
    both = on_features.decision_function(X, ["red star", "red ring", "blue heart"])
    turned = on_features.decision_function(X, ["blue heart", "red star", "green star"])
    np.testing.assert_allclose(both[:, [2, 0]], turned[:, :2], atol=1e-6)


def test_integers_as_labels_stay_integers(features):
    X, labels, seen = features
    numbers = np.unique(labels, return_inverse=True)[1]
    clf = ZeroShotClassifier(None, "random:40", projection=Ridge(alpha=0.1))
    clf.fit(X[seen], numbers[seen])
    predicted = clf.predict(X[seen])
    assert predicted.dtype.kind == "i"
    assert (predicted == numbers[seen]).mean() > 0.8
    assert set(clf.predict(X, [3, 777])) <= {3, 777}
    assert set(clf.predict(X, [3, "zebra"])) <= {3, "zebra"}  # kinds are not mixed up


# Numbers.


def test_rank_gives_the_best_first_with_scores_probabilities_and_seen(
    on_features, features
):
    X = features[0]
    candidates = [*UNSEEN, "red ring", "blue heart"]
    scores = on_features.decision_function(X, candidates)
    probabilities = on_features.predict_proba(X, candidates)
    for i, ranked in enumerate(on_features.rank(X, candidates, k=3)):
        assert len(ranked) == 3
        order = np.argsort(-scores[i])[:3]
        assert [entry.label for entry in ranked] == [candidates[j] for j in order]
        for j, (label, score, probability, is_seen, rejected, basis) in zip(
            order, ranked, strict=True
        ):
            assert not rejected
            assert score == scores[i, j]
            assert probability == pytest.approx(probabilities[i, j], rel=1e-5)
            assert is_seen == (label not in UNSEEN)
            assert basis == ("images" if is_seen else "word")
    best = [ranked[0].label for ranked in on_features.rank(X, candidates)]
    assert best == on_features.predict(X, candidates).tolist()
    assert len(on_features.rank(X[:1], candidates, k=99)[0]) == 5


@pytest.mark.parametrize("k", [0, -1])
def test_rank_with_k_below_one_raises(k, on_features, features):
    with pytest.raises(ValueError, match=f"k >= 1. Got {k}"):
        on_features.rank(features[0], k=k)


def test_label_points_and_transform_have_the_scores_as_cosines(features):
    X, labels, seen = features
    clf = classifier(
        backbone=None,
        hub_correction=0,
        seen_penalty=0.1,
    ).fit(X[seen], labels[seen])
    candidates = ["red star", clf.classes_[0], "blue ring"]
    images = clf.transform(X)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    is_seen = np.isin(candidates, clf.classes_)
    expected = images @ clf.label_points(candidates).T - 0.1 * is_seen
    scores = clf.decision_function(X, candidates)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_predict_proba_is_the_softmax_of_the_scores(on_features, features):
    X = features[0]
    on_features.set_params(temperature=0.2)
    scores = on_features.decision_function(X, UNSEEN).astype(float)
    expected = np.exp(scores / 0.2) / np.exp(scores / 0.2).sum(axis=1, keepdims=True)
    probabilities = on_features.predict_proba(X, UNSEEN)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    on_features.set_params(temperature=0.02)
    sharper = on_features.predict_proba(X, UNSEEN)
    assert (sharper.max(axis=1) >= probabilities.max(axis=1)).all()
    assert (sharper.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_decision_function_of_two_candidates_is_their_difference(on_features, features):
    X = features[0]
    three = on_features.decision_function(X, UNSEEN)
    two = on_features.decision_function(X, UNSEEN[:2])
    assert two.shape == (len(X),)
    np.testing.assert_allclose(two, three[:, 1] - three[:, 0], atol=1e-6)
    predicted = on_features.predict(X, UNSEEN[:2])
    np.testing.assert_array_equal(predicted == UNSEEN[1], two > 0)


def test_decision_function_of_one_candidate_has_one_column(on_features, features):
    assert on_features.decision_function(features[0], ["red star"]).shape == (160, 1)


def test_scores_are_cosines_less_the_hub_correction(on_features, features):
    X = features[0]
    points = on_features.transform(X)
    assert points.shape == (len(X), EMBEDDINGS.dim)
    scores = on_features.decision_function(X)
    for i in (0, 77):
        for j in (0, 5):
            a, b = points[i], on_features.class_embeddings_[j]
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            nearest = np.sort(on_features.class_embeddings_ @ b)[-5:].mean()
            expected = cosine - 0.5 * nearest
            assert scores[i, j] == pytest.approx(expected, abs=1e-5)


def test_seen_penalty_lowers_seen_scores_and_raises_unseen_predictions(
    on_features, features
):
    X, labels, _ = features
    everything = np.unique(labels).tolist()
    is_seen = np.isin(everything, on_features.classes_)
    plain = on_features.decision_function(X, everything)
    shares = []
    for penalty in (0.0, 0.1, 0.4, 3.0):
        on_features.set_params(seen_penalty=penalty)
        shares.append(np.isin(on_features.predict(X, everything), UNSEEN).mean())
        np.testing.assert_allclose(
            on_features.decision_function(X, everything),
            plain - penalty * is_seen,
            atol=1e-6,
        )
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] == 1


def test_reject_answers_unknown_where_no_candidate_scores_enough(on_features, features):
    X = features[0]
    scores = on_features.decision_function(X, UNSEEN).max(axis=1)
    threshold = float(np.median(scores))
    plain = on_features.predict(X, UNSEEN)
    on_features.set_params(reject=threshold)
    predicted = on_features.predict(X, UNSEEN)
    np.testing.assert_array_equal(predicted == "unknown", scores < threshold)
    assert predicted.dtype.kind == "U"
    np.testing.assert_array_equal(
        predicted[scores >= threshold], plain[scores >= threshold]
    )


def test_score_is_the_share_of_right_answers_with_weights(on_features, features):
    X, labels, seen = features
    right = on_features.predict(X[~seen], UNSEEN) == labels[~seen]
    weights = np.arange(1, len(right) + 1)
    score = on_features.score(X[~seen], labels[~seen], candidate_labels=UNSEEN)
    assert score == pytest.approx(right.mean())
    assert on_features.score(
        X[~seen], labels[~seen], weights, candidate_labels=UNSEEN
    ) == pytest.approx(np.average(right, weights=weights))
    assert on_features.score(X[seen], labels[seen]) > 0.8


def test_score_counts_unknown_as_wrong_for_integer_labels_too(features):
    X, labels, _ = features
    numbers = np.unique(labels, return_inverse=True)[1]
    clf = ZeroShotClassifier(None, "random", projection="ridge").fit(X, numbers)
    right = clf.predict(X) == numbers
    threshold = float(np.median(clf.decision_function(X).max(axis=1)))
    clf.set_params(reject=threshold)
    kept = clf.predict(X) != "unknown"
    assert 0 < kept.mean() < 1
    assert clf.score(X, numbers) == pytest.approx((right & kept).mean())


# scikit-learn's tools.


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.mark.usefixtures("routing")
def test_pipeline_passes_candidate_labels_on(features):
    X, labels, seen = features
    pipeline = make_pipeline(StandardScaler(), classifier(backbone=None))
    pipeline.fit(X[seen], labels[seen])
    predicted = pipeline.predict(X[~seen], candidate_labels=UNSEEN)
    assert set(predicted) <= set(UNSEEN)
    assert (predicted == labels[~seen]).mean() > 0.6
    assert pipeline.predict_proba(X, candidate_labels=UNSEEN).shape == (160, 3)
    assert set(pipeline.predict(X[~seen])) <= set(pipeline[-1].classes_)


def test_pipeline_with_routing_passes_candidate_labels_to_score(features):
    X, labels, seen = features
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), classifier(backbone=None))
        pipeline.fit(X[seen], labels[seen])
        assert pipeline.decision_function(X, candidate_labels=UNSEEN).shape == (160, 3)
        score = pipeline.score(X[~seen], labels[~seen], candidate_labels=UNSEEN)
    predicted = pipeline.predict(X[~seen], candidate_labels=UNSEEN)
    assert score == (predicted == labels[~seen]).mean()


@pytest.mark.usefixtures("routing")
def test_grid_search_over_the_projection_predicts_constructor_candidates(features):
    X, labels, seen = features
    everything = np.unique(labels).tolist()
    search = GridSearchCV(
        classifier(backbone=None, candidate_labels=everything),
        {"projection__alpha": [1.0, 1e6]},
        cv=3,
    ).fit(X[seen], labels[seen])
    assert search.best_params_ == {"projection__alpha": 1.0}
    assert search.best_estimator_.projection_.alpha == 1.0
    assert set(search.predict(X)) & set(UNSEEN)


def test_grid_search_over_numpy_numbers_can_be_saved(features, tmp_path):
    X, labels, seen = features
    search = GridSearchCV(
        classifier(backbone=None, projection=Ridge()),
        {
            "projection__alpha": np.array([1, 10], np.float32),
            "seen_penalty": np.array([0], np.int64),
        },
        cv=2,
    ).fit(X[seen], labels[seen])
    search.best_estimator_.save(tmp_path / "model", vocabulary=[])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_val_score_works_in_processes_too(n_jobs, features):
    X, labels, seen = features
    clf = classifier(backbone=None)
    scores = cross_val_score(clf, X[seen], labels[seen], cv=3, n_jobs=n_jobs)
    assert scores.min() > 0.7


def test_clone_keeps_parameters_and_plugins_and_is_not_fitted(fitted):
    copy = clone(fitted)
    assert copy.embeddings is EMBEDDINGS  # plugins are immutable, and heavy
    assert copy.projection is not fitted.projection
    assert copy.get_params()["projection__alpha"] == 1.0
    with pytest.raises(NotFittedError):
        copy.predict(np.zeros((1, fitted.n_features_in_)))


def test_joblib_dump_and_load_predict_the_same(fitted, shapes, tmp_path):
    images = shapes[0][::7]
    joblib.dump(fitted, tmp_path / "clf.joblib")
    loaded = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(
        loaded.decision_function(images, UNSEEN),
        fitted.decision_function(images, UNSEEN),
    )


def test_fit_leaves_the_given_projection_unfitted(features):
    X, labels, seen = features
    given = Ridge()
    clf = classifier(backbone=None, projection=given).fit(X[seen], labels[seen])
    assert not hasattr(given, "coef_")
    assert clf.projection is given


def test_random_state_seeds_a_projection_without_its_own(features):
    X, labels, seen = features
    short = DeViSE(hidden=(4,), epochs=1, early_stopping=False)
    points = [
        classifier(backbone=None, projection=projection, random_state=seed)
        .fit(X[seen], labels[seen])
        .transform(X)
        for projection, seed in (
            (short, 0),
            (short, np.random.RandomState(0)),
            (short, 1),
            (clone(short).set_params(random_state=5), 1),
            (clone(short).set_params(random_state=5), 2),
        )
    ]
    np.testing.assert_array_equal(points[0], points[1])
    assert np.abs(points[0] - points[2]).max() > 1e-4
    np.testing.assert_array_equal(points[3], points[4])


# Images that cannot be read.


@pytest.fixture
def partly_broken(shapes, tmp_path):
    """Paths of three classes; those at 2 and 7 are broken."""
    images, labels, _ = shapes
    chosen = [
        i for i in range(160) if labels[i] in ("red ring", "blue star", "red heart")
    ]
    paths = []
    for place, i in enumerate(chosen):
        paths.append(tmp_path / f"{place:02d}.png")
        Image.fromarray(images[i]).save(paths[-1])
    paths[2].write_bytes(b"")
    paths[7].write_bytes(paths[8].read_bytes()[:100])
    return paths, labels[chosen]


def test_unreadable_image_raises_with_its_position(partly_broken, fitted):
    paths, labels = partly_broken
    for call in (
        lambda: classifier().fit(paths, labels),
        lambda: fitted.predict(paths),
        lambda: fitted.transform(paths),
    ):
        with pytest.raises(InvalidImageError, match=r"02\.png") as caught:
            call()
        assert caught.value.index == 2


def test_on_error_nan_leaves_images_out_of_training_with_a_warning(partly_broken):
    paths, labels = partly_broken
    readable = np.ones(len(paths), bool)
    readable[[2, 7]] = False
    for on_error in ("nan", "skip"):
        with pytest.warns(PartialCoverageWarning, match=r"2 of 30 .*02\.png.*07\.png"):
            clf = classifier(on_error=on_error).fit(paths, labels)
        assert clf.n_images_ == 28
        assert sorted(clf.image_errors_) == [2, 7]
    kept = [path for path, ok in zip(paths, readable, strict=True) if ok]
    plain = classifier().fit(kept, labels[readable])
    np.testing.assert_allclose(
        clf.projection_.coef_, plain.projection_.coef_, atol=1e-6
    )


def test_on_error_nan_answers_unknown_in_the_right_rows(partly_broken, shapes):
    paths, labels = partly_broken
    images, all_labels, seen = shapes
    clf = classifier(on_error="nan").fit(images[seen], all_labels[seen])
    assert clf.image_errors_ == {}
    with pytest.warns(PartialCoverageWarning, match=r"2 of 30 .*02\.png.*07\.png"):
        points = clf.points(paths)
    predicted = clf.predict(points)
    assert clf.image_errors_ == {}  # of training
    assert sorted(points.errors) == [2, 7]
    assert "07.png" in points.errors[7]
    bad = np.isin(np.arange(30), [2, 7])
    np.testing.assert_array_equal(predicted == "unknown", bad)
    assert (predicted[~bad] == labels[~bad]).mean() > 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialCoverageWarning)
        for numbers in (
            clf.transform(paths),
            clf.decision_function(paths),
            clf.predict_proba(paths),
        ):
            np.testing.assert_array_equal(np.isnan(numbers).all(axis=1), bad)
            np.testing.assert_array_equal(np.isnan(numbers).any(axis=1), bad)
        ranked = clf.rank(paths, k=2)
        assert [len(row) for row in ranked] == [0 if b else 2 for b in bad]
        assert clf.predict([paths[2]]).tolist() == ["unknown"]
        right = (predicted == labels).mean()
        assert clf.score(paths, labels) == pytest.approx(right)  # "unknown" is wrong


def test_on_error_skip_leaves_rows_out_and_tells_which_are_left(partly_broken, shapes):
    paths, labels = partly_broken
    images, all_labels, seen = shapes
    clf = classifier(on_error="skip").fit(images[seen], all_labels[seen])
    whole = clf.set_params(on_error="nan")
    kept = np.delete(np.arange(30), [2, 7])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialCoverageWarning)
        expected = whole.predict(paths)
        points = whole.transform(paths)
        clf.set_params(on_error="skip")
        accuracy = clf.score(paths, labels, sample_weight=np.arange(30))
        np.testing.assert_array_equal(clf.transform(paths), points[kept])
        assert len(clf.rank(paths)) == 28
    with pytest.warns(PartialCoverageWarning, match="2 of 30 images.*left out"):
        read = clf.points(paths)
    predicted = clf.predict(read)
    np.testing.assert_array_equal(read.positions, kept)
    np.testing.assert_array_equal(predicted, expected[kept])
    is_right = predicted == labels[kept]
    assert accuracy == pytest.approx(np.average(is_right, weights=kept))


def test_on_error_nan_with_a_class_without_readable_images_names_it(partly_broken):
    paths, labels = partly_broken
    for path, label in zip(paths, labels, strict=True):
        if label == "blue star":
            path.write_bytes(b"")
    with (
        pytest.warns(PartialCoverageWarning, match="And 7 more"),
        pytest.raises(InvalidImageError, match="none of 'blue star'"),
    ):
        classifier(on_error="nan").fit(paths, labels)


# What bad input gets. No image is there: were one read, its error would come first.

NO_IMAGES = ["/no/such/image.png"] * 4
PAIRS = ["red star", "red star", "blue ring", "blue ring"]


@pytest.mark.parametrize(
    ("parameters", "y", "error", "message"),
    [
        (
            {"backbone": "colr-hog"},
            PAIRS,
            UnknownPluginError,
            "Did you mean 'color-hog'",
        ),
        ({"embeddings": "glvoe"}, PAIRS, UnknownPluginError, "Did you mean 'glove'"),
        ({"projection": "devize"}, PAIRS, UnknownPluginError, "Did you mean 'devise'"),
        ({"embeddings": "/no/vectors.txt"}, PAIRS, ArtifactError, "/no/vectors.txt"),
        (
            {},
            ["red star", "okapi", "zebra", "blue ring"],
            OutOfVocabularyError,
            "okapi.*zebra",
        ),
        ({}, ["red star"] * 4, LabelError, "one class: .*red star"),
        ({}, PAIRS[:3], LabelError, "4 images and 3 labels"),
        ({}, [], LabelError, "at least 2 different labels. Got none"),
        ({"temperature": 0}, PAIRS, ValueError, "temperature .*Got 0"),
        ({"temperature": "hot"}, PAIRS, ValueError, "temperature .*Got 'hot'"),
        ({"reject": "auto:2"}, PAIRS, ValueError, "reject .*Got 'auto:2'"),
        ({"seen_penalty": None}, PAIRS, ValueError, "seen_penalty .*Got None"),
        ({"seen_penalty": float("nan")}, PAIRS, ValueError, "seen_penalty .*Got nan"),
        ({"reject": 1.5}, PAIRS, ValueError, "reject .*Got 1.5"),
        ({"on_error": "omit"}, PAIRS, ValueError, "on_error .*'omit'"),
        ({"batch_size": 0}, PAIRS, ValueError, "batch_size .*0"),
    ],
)
def test_fit_with_bad_input_names_it_before_reading_images_and_writes_nothing(
    parameters, y, error, message, cache_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        classifier(**parameters).fit(NO_IMAGES, y)
    assert not isinstance(caught.value, InvalidImageError)
    assert os.listdir(tmp_path) == []
    assert files_below(cache_folder) == {}


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "decision_function", "rank"]
)
@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        (["red star", "okapi", "zebra"], OutOfVocabularyError, "okapi.*zebra"),
        (["red star", "blue ring", "red star"], LabelError, r"'red star' \(2 times\)"),
        ([], LabelError, "at least one label"),
        ("red star", LabelError, "single string 'red star'"),
        (["red star", None], LabelError, "position 1"),
        (["red star", ""], LabelError, "position 1"),
        ({"red star": "blue"}, LabelError, "list of aliases"),
    ],
)
def test_bad_candidates_are_named_before_images_are_read(
    method, candidates, error, message, fitted, cache_folder
):
    with pytest.raises(error, match=message):
        getattr(fitted, method)(NO_IMAGES, candidate_labels=candidates)
    assert files_below(cache_folder) == {}


def test_unknown_labels_are_all_in_the_error(fitted):
    with pytest.raises(OutOfVocabularyError) as caught:
        fitted.predict(NO_IMAGES, ["okapi", "red star", "zebra"])
    assert caught.value.labels == ["okapi", "zebra"]


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "decision_function", "rank", "transform", "save"],
)
def test_methods_before_fit_raise_not_fitted(method, tmp_path):
    with pytest.raises(NotFittedError):
        getattr(classifier(), method)(tmp_path / "anything")
    assert os.listdir(tmp_path) == []


def test_fit_that_fails_leaves_the_classifier_not_fitted(features):
    X, labels, seen = features
    clf = classifier(backbone=None)
    for _ in range(2):  # the second time after a fit that succeeded
        with pytest.raises(OutOfVocabularyError):
            clf.fit(X[:, :5], np.where(labels == "red star", "okapi", labels))
        with pytest.raises(NotFittedError):
            clf.predict(X)
        clf.fit(X[seen], labels[seen])
        assert len(clf.predict(X)) == len(X)


def test_features_of_another_width_or_not_finite_raise(on_features, features):
    X, labels, _ = features
    with pytest.raises(ValueError, match=f"expecting {X.shape[1]} features"):
        on_features.predict(X[:, :-1], UNSEEN)
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        on_features.predict(broken, UNSEEN)
    with pytest.raises(ValueError, match="NaN"):
        clone(on_features).fit(broken, labels)


def test_images_without_a_backbone_are_refused(shapes, on_features):
    images, labels, _ = shapes
    with pytest.raises(ValueError, match="dim 4"):
        classifier(backbone=None).fit(images, labels)
    with pytest.raises(ValueError, match="dim 4"):
        on_features.predict(images)


def test_missing_labels_are_refused(features):
    X, labels, _ = features
    for bad in (None, np.nan):
        y = labels.astype(object)
        y[5] = bad
        with pytest.raises(ValueError, match=r"contains NaN|Got 'NoneType', 'str'"):
            classifier(backbone=None).fit(X, y)


def test_backbone_that_changes_after_fit_is_refused(shapes):
    images, labels, seen = shapes
    clf = classifier().fit(images[seen][:40], labels[seen][:40])
    clf.backbone_ = ColorHOG(size=32)
    with pytest.raises(FingerprintMismatchError, match="input size"):
        clf.predict(images[:2])


def test_no_images_give_no_predictions(on_features, fitted, features):
    X = features[0]
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([], UNSEEN).shape == (0, 3)
    assert fitted.rank([], UNSEEN) == []
    with pytest.raises(ValueError, match="0 sample"):
        on_features.predict(X[:0])


def test_score_of_unseen_classes_alone_chooses_among_them(features):
    X, y, seen = features
    clf = classifier(backbone=None).fit(X[seen], y[seen])
    predicted = clf.predict(X[~seen], UNSEEN)
    assert clf.score(X[~seen], y[~seen]) == np.mean(predicted == y[~seen]) > 0.9


def test_score_of_seen_and_unseen_classes_is_generalised(features):
    X, y, seen = features
    clf = classifier(backbone=None).fit(X[seen], y[seen])
    predicted = clf.predict(X, [*clf.classes_, *UNSEEN])
    assert clf.score(X, y) == np.mean(predicted == y)
    # Candidates of the constructor come before those of y.
    clf.set_params(candidate_labels=["red ring", "red star"])
    predicted = clf.predict(X[~seen])
    assert clf.score(X[~seen], y[~seen]) == np.mean(predicted == y[~seen])


def test_grid_search_on_class_disjoint_folds_is_the_loop_over_them(features):
    X, y, _ = features
    folds, alphas = ClassDisjointKFold(4), [0.1, 1.0, 1e6]
    search = GridSearchCV(
        classifier(backbone=None), {"projection__alpha": alphas}, cv=folds, refit=False
    ).fit(X, y)
    for alpha, found in zip(alphas, search.cv_results_["mean_test_score"], strict=True):
        scores = []
        for train, test in folds.split(X, y):
            clf = classifier(backbone=None, projection=Ridge(alpha=alpha))
            clf.fit(X[train], y[train])
            predicted = clf.predict(X[test], np.unique(y[test]))
            scores.append(np.mean(predicted == y[test]))
        assert found == pytest.approx(np.mean(scores))
    assert search.best_score_ > 0.75  # 4 candidates
