"""What images of one's own add to a joint model; on vectors that are drawn here."""

import numpy as np
import pytest
from sklearn.base import clone

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.metrics import per_class_accuracy
from zeroshot.projections import Identity, Joint

DIM, N_CLASSES, PER_CLASS = 24, 30, 12
NAMES = np.array([f"class {i:02d}" for i in range(N_CLASSES)])


class Encoder:
    """The text side of a joint model: a table of drawn vectors."""

    name, dim, logit_bias = "drawn", DIM, None
    input_size = (8, 8)

    def __init__(self, vectors, scale=50.0):
        self.vectors, self.logit_scale = vectors, scale
        self.fingerprint = f"drawn-{vectors.sum():.6f}"

    def encode(self, texts):
        rows = [NAMES.tolist().index(text) for text in texts]
        return self.vectors[rows].astype(np.float32)

    def lookup(self, words):
        return self.encode(words), np.ones(len(words), bool)

    def embed(self, images):
        raise AssertionError("there are features")

    def __sklearn_clone__(self):
        return self


def drawn(*, noise=1.0, gap=2.0, style=0.0, own=0.0, seed=0):
    """Draw texts, and images around them, a gap away.

    ``style``: what images differ in, whatever their class, along three directions.
    ``own``: how far the mean of a class's images is from where its text says.
    """
    rng = np.random.default_rng(seed)
    texts = rng.standard_normal((N_CLASSES, DIM))
    corner = gap * rng.standard_normal(DIM)
    y = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    X = (texts + own * rng.standard_normal(texts.shape))[y] + corner
    X += noise * rng.standard_normal(X.shape)
    X += style * rng.standard_normal((len(y), 3)) @ rng.standard_normal((3, DIM))
    return Encoder(texts), X.astype(np.float32), NAMES[y]


def split(labels):
    unseen = NAMES[::3]
    return ~np.isin(labels, unseen), unseen


def accuracy(classifier, X, labels, candidates):
    return per_class_accuracy(labels, classifier.predict(X, candidates) == labels)


def test_default_of_a_joint_model_is_its_own_projection():
    encoder, X, labels = drawn()
    seen, _ = split(labels)

    fitted = ZeroShotClassifier(None, encoder).fit(X[seen], labels[seen])

    assert isinstance(fitted.projection_, Joint)
    assert fitted.temperature_ == pytest.approx(1 / 50)
    other = ZeroShotClassifier(None, "random:24", projection="auto")
    other.set_params(random_state=0).fit(X[seen], labels[seen])
    assert type(other.projection_).__name__ == "DeViSE"


def test_fit_where_the_model_is_right_already_changes_no_unseen_score():
    encoder, X, labels = drawn(noise=0.5, gap=1.0)
    seen, unseen = split(labels)
    plain = ZeroShotClassifier(None, encoder)

    fitted = ZeroShotClassifier(None, encoder).fit(X[seen], labels[seen])

    assert fitted.projection_.strength_ == 0
    np.testing.assert_allclose(
        fitted.scores(X, unseen.tolist()), plain.scores(X, unseen.tolist()), atol=1e-6
    )


def test_fit_learns_what_images_differ_in_whatever_their_class():
    encoder, X, labels = drawn(noise=0.5, style=2.0)
    seen, unseen = split(labels)
    plain = ZeroShotClassifier(None, encoder)

    fitted = ZeroShotClassifier(None, encoder).fit(X[seen], labels[seen])

    assert fitted.projection_.strength_ > 0
    before = accuracy(plain, X[~seen], labels[~seen], unseen.tolist())
    after = accuracy(fitted, X[~seen], labels[~seen], unseen.tolist())
    assert after > before + 0.05


def test_map_is_the_minimum_that_is_stated():
    encoder, X, labels = drawn(style=1.0)
    index = np.searchsorted(NAMES, labels)
    T = encoder.vectors / np.linalg.norm(encoder.vectors, axis=1, keepdims=True)
    joint = Joint(strength=0.3, image_weight=0).fit(
        X, index, class_embeddings=T.astype(np.float32)
    )
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([unit[index == c].mean(axis=0) for c in range(N_CLASSES)])
    x, t = unit - means.mean(axis=0), T - T.mean(axis=0)
    t *= np.linalg.norm(means - means.mean(axis=0)) / np.linalg.norm(t)

    def cost(D):
        return (D**2).sum() + 0.3 * ((x + x @ D - t[index]) ** 2).sum()

    least = cost(joint.coef_.astype(np.float64))
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert cost(joint.coef_ + 0.01 * rng.standard_normal((DIM, DIM))) > least


def test_images_of_a_class_help_it():
    encoder, X, labels = drawn(noise=1.0, own=1.5)
    first = np.arange(len(labels)) % PER_CLASS < PER_CLASS // 2
    plain = ZeroShotClassifier(None, encoder)

    fitted = ZeroShotClassifier(None, encoder).fit(X[first], labels[first])

    candidates = NAMES.tolist()
    before = accuracy(plain, X[~first], labels[~first], candidates)
    after = accuracy(fitted, X[~first], labels[~first], candidates)
    assert fitted.projection_.image_weight_ > 0
    assert after > before + 0.05


def test_images_that_say_nothing_are_not_believed():
    encoder, X, labels = drawn(noise=0.3, gap=0.5)
    rng = np.random.default_rng(0)
    own = np.searchsorted(NAMES, labels)
    # Each image has the direction of its text and, far more, one of its own.
    X = 0.2 * encoder.vectors[own] + 1.5 * rng.standard_normal(X.shape)

    fitted = ZeroShotClassifier(None, encoder).fit(X, labels)

    assert fitted.projection_.image_weight_ <= 1


def test_partial_fit_learns_one_image_of_a_new_class():
    encoder, X, labels = drawn(noise=2.0, gap=3.0)
    seen, unseen = split(labels)
    fitted = ZeroShotClassifier(None, encoder).fit(X[seen], labels[seen])
    row = int(np.flatnonzero(~seen)[0])
    before = fitted.scores(X[[row]], unseen.tolist())

    fitted.partial_fit(X[[row]], labels[[row]])

    after = fitted.scores(X[[row]], unseen.tolist())
    own = unseen.tolist().index(labels[row])
    assert after[0, own] > before[0, own]
    others = np.arange(len(unseen)) != own
    np.testing.assert_allclose(after[0, others], before[0, others], atol=1e-2)
    assert labels[row] in fitted.classes_


def test_partial_fit_before_any_fit_takes_one_image_of_one_class():
    encoder, X, labels = drawn()
    clf = ZeroShotClassifier(None, encoder)

    clf.partial_fit(X[:1], labels[:1]).partial_fit(X[PER_CLASS:], labels[PER_CLASS:])

    assert clf.classes_.tolist() == NAMES.tolist()
    assert clf.n_images_ == 1 + len(X) - PER_CLASS


def test_parts_are_as_good_as_the_whole():
    encoder, X, labels = drawn(style=1.0)
    own = Joint(strength=0.1, image_weight=1)
    whole = ZeroShotClassifier(None, encoder, projection=own).fit(X, labels)
    half = len(X) // 2
    parts = clone(whole).fit(X[:half], labels[:half])

    parts.partial_fit(X[half:], labels[half:])

    np.testing.assert_allclose(
        parts.scores(X, NAMES.tolist()), whole.scores(X, NAMES.tolist()), atol=1e-4
    )


def test_settings_found_on_folds_take_effect(tmp_path):
    encoder, X, labels = drawn(noise=0.7, own=0.5)
    seen, unseen = split(labels)
    clf = ZeroShotClassifier(
        None,
        encoder,
        seen_penalty="auto",
        temperature="auto",
        reject="auto:0.1",
        random_state=0,
    ).fit(X[seen], labels[seen])

    names = clf.predict(X[~seen], NAMES.tolist())
    alone = clf.predict(X[~seen], clf.classes_.tolist())

    assert np.isfinite(clf.seen_penalty_)
    assert clf.temperature_ != pytest.approx(1 / 50)
    assert np.isin(names, unseen).mean() > 0.3
    assert (alone == "unknown").mean() > 0.5
    assert clf.predict_proba(X[:4], NAMES.tolist(), multi_label=True).shape == (4, 30)


@pytest.mark.parametrize("projection", ["auto", "identity", "ridge", "visual"])
def test_fitted_model_is_saved_and_loaded(tmp_path, projection):
    encoder, X, labels = drawn(style=1.0)
    seen, unseen = split(labels)
    clf = ZeroShotClassifier(None, encoder, projection=projection)
    clf.fit(X[seen], labels[seen])
    clf.save(tmp_path / "model", vocabulary=unseen.tolist())

    loaded = zeroshot.load(tmp_path / "model")

    for candidates in (unseen.tolist(), clf.classes_.tolist()):
        np.testing.assert_array_equal(
            loaded.predict_proba(X, candidates), clf.predict_proba(X, candidates)
        )
    assert loaded.temperature_ == clf.temperature_


def test_fit_with_identity_knows_the_classes_and_learns_nothing():
    encoder, X, labels = drawn()
    seen, _ = split(labels)
    plain = ZeroShotClassifier(None, encoder)

    fitted = ZeroShotClassifier(None, encoder, projection=Identity())
    fitted.fit(X[seen], labels[seen])

    candidates = fitted.classes_.tolist()
    np.testing.assert_array_equal(
        fitted.predict_proba(X, candidates), plain.predict_proba(X, candidates)
    )


def test_one_space_is_refused_where_there_are_two():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((8, 5)), np.repeat(["lion", "zebra"], 4)

    for projection in ("identity", "joint"):
        clf = ZeroShotClassifier(None, "random:7", projection=projection)
        with pytest.raises(ValueError, match="one length"):
            clf.fit(X, labels)


def test_evaluation_shows_the_model_as_it_is_beside_what_is_learnt():
    encoder, X, labels = drawn(noise=1.5)

    found = zeroshot.evaluate(X, labels, None, encoder, n_splits=2)

    assert {"joint", "identity"} <= set(found.results)
