"""Labels of providers that encode whole phrases, with templates and without."""

import json
import multiprocessing
import threading
import warnings

import numpy as np
import pytest
from phrase_encoders import DIM, Padded, Prompted, Trigrams, unit

from zeroshot import ZeroShotClassifier, load, make_shapes
from zeroshot.backbones import ClassifierHead
from zeroshot.embeddings import Attributes, RandomEmbeddings
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    LabelError,
    OutOfVocabularyError,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.evaluation import evaluate
from zeroshot.labels import embed_labels, with_templates
from zeroshot.labels.phrases import MOST_REMEMBERED
from zeroshot.labels.templates import template_sets
from zeroshot.saving.bundle import record_digest

PHOTO, DRAWING = "a photo of a {}.", "a drawing of the {}"


@pytest.fixture(scope="module")
def images():
    X, y = make_shapes(4, random_state=0)
    return X[:80], y[:80]


@pytest.fixture(scope="module")
def features(images):
    return np.float32(images[0].reshape(len(images[0]), -1)[:, ::97]), images[1]


# Labels


def test_embed_labels_of_phrases_encodes_each_name_as_it_is():
    encoder = Trigrams()
    labels = ["Zebra", "a dog that runs", "sea-horse", "C++", "what's this?"]
    Y, report = embed_labels(labels, encoder)
    assert Y.dtype == np.float32
    np.testing.assert_allclose(Y, unit([encoder.vector(x) for x in labels]), atol=1e-6)
    assert [(e.how, e.words, e.missing) for e in report.entries] == [
        ("encoded", (label,), ()) for label in labels
    ]
    assert report.coverage == 1


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("lion, king of beasts, Panthera leo", "lion"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02084071-dog", "dog"),
        ("grizzly+bear", "grizzly bear"),
        ("  red \u200b fox ", "red fox"),
        ("3-toed sloth", "3-toed sloth"),
    ],
)
def test_embed_labels_of_phrases_encodes_the_first_name_as_it_is_said(label, name):
    encoder = Trigrams()
    _, report = embed_labels([label, "zebra"], encoder)
    assert encoder.asked == [name, "zebra"]
    assert report.entries[0].words == (name,)


def test_embed_labels_of_phrases_takes_the_mean_of_the_aliases_given():
    encoder = Trigrams()
    labels = {"okapi": ["forest giraffe", "a striped thing, brown"], 7: ["zebra"]}
    Y, report = embed_labels(labels, encoder)
    names = ["okapi", "forest giraffe", "a striped thing, brown"]
    expected = unit(unit([encoder.vector(name) for name in names]).mean(axis=0))
    np.testing.assert_allclose(Y[0], expected, atol=1e-6)
    np.testing.assert_allclose(Y[1], unit(encoder.vector("zebra")), atol=1e-6)
    assert report.entries[0].words == tuple(names)
    assert report.entries[1].words == ("zebra",)


@pytest.mark.parametrize("labels", [[1, 2], ["1", "2"], ["n01440764", "n01443537"]])
def test_embed_labels_of_phrases_refuses_ids_of_classes(labels):
    with pytest.raises(LabelError, match="look like ids"):
        embed_labels(labels, Trigrams())


def test_embed_labels_of_phrases_takes_a_number_among_names_with_a_warning():
    encoder = Trigrams()
    with pytest.warns(ZeroShotWarning, match="'747'"):
        embed_labels(["747", "zebra"], encoder)
    assert encoder.asked == ["747", "zebra"]


def test_embed_labels_of_phrases_reports_same_vectors_and_near_synonyms():
    with pytest.warns(ZeroShotWarning, match="'lion' = 'lion, king of beasts'"):
        _, report = embed_labels(
            ["lion", "lion, king of beasts", "a very long name", "a very long name!"],
            Trigrams(),
        )
    assert report.identical == (("lion", "lion, king of beasts"),)
    assert [pair[:2] for pair in report.near_synonyms] == [
        ("a very long name", "a very long name!")
    ]


def test_embed_labels_of_phrases_warns_of_one_label_that_looks_like_a_list():
    with pytest.warns(ZeroShotWarning, match="For several labels"):
        embed_labels(["zebra, okapi"], Trigrams())


@pytest.mark.parametrize("kind", [Trigrams, Padded])
@pytest.mark.parametrize("templates", [None, [PHOTO, DRAWING]])
def test_embed_labels_of_phrases_never_depend_on_other_labels(kind, templates):
    labels = ["ox", "zebra", "a long name of a thing"]
    alone = [embed_labels([x], with_templates(kind(), templates))[0] for x in labels]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2]):
        encoder = with_templates(kind(), templates)
        Y, _ = embed_labels([labels[i] for i in order], encoder)
        for row, i in zip(Y, order, strict=True):
            assert row.tobytes() == alone[i].tobytes()  # to the last bit


@pytest.mark.parametrize("kept", [True, False])
def test_embed_labels_of_phrases_that_become_zeros_are_named(kept):
    class Zeros(Trigrams):
        def vector(self, text):
            return super().vector(text) * ("q" not in text)

    with pytest.raises(OutOfVocabularyError, match="2 of 3 labels") as caught:
        embed_labels(["zebra", "qa", "qb"], Zeros())
    assert caught.value.labels == ["qa", "qb"]
    # One name that says something is enough.
    embed_labels({"qa": ["okapi"]}, Zeros())


class Returns(Trigrams):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def encode(self, texts):
        return self.answer


@pytest.mark.parametrize("templates", [None, PHOTO])
@pytest.mark.parametrize(
    "answer",
    [
        np.full((1, DIM), np.nan, np.float32),
        np.full((1, DIM), np.inf, np.float32),
        np.ones((1, DIM)),
        np.ones(DIM, np.float32),
        np.ones((1, DIM + 1), np.float32),
        np.ones((2, DIM), np.float32),
        [[1.0] * DIM],
        None,
    ],
)
def test_embed_labels_of_phrases_refuses_what_is_no_vector(answer, templates):
    with pytest.raises(PluginContractError, match="from 'encode' of 'trigrams'"):
        embed_labels(["zebra"], with_templates(Returns(answer), templates))


# Memory


def test_labels_that_were_encoded_once_are_not_encoded_again():
    encoder = Trigrams()
    first, _ = embed_labels(["zebra", "okapi"], encoder)
    assert encoder.asked == ["zebra", "okapi"]
    again, _ = embed_labels(["okapi", "lion", "zebra, the animal"], encoder)
    assert encoder.asked == ["zebra", "okapi", "lion"]
    assert again[[2, 0]].tobytes() == first.tobytes()


def test_labels_are_remembered_by_fingerprint_not_by_object():
    one, same, other = Trigrams("f-1"), Trigrams("f-1"), Trigrams("f-2")
    for encoder in (one, same, other, with_templates(other, PHOTO)):
        embed_labels(["zebra crossing"], encoder)
    assert one.asked == ["zebra crossing"]
    assert same.asked == []
    assert other.asked == ["zebra crossing", "a photo of a zebra crossing."]


def test_labels_that_were_used_last_are_remembered_and_the_room_is_bounded():
    class Wide(Trigrams):
        dim = 1 << 20  # 4 MB

        def vector(self, text):
            row = np.zeros(self.dim, np.float32)
            row[:DIM] = super().vector(text)
            return row

    encoder, n = Wide(), MOST_REMEMBERED // (4 << 20)
    for i in range(n - 1):
        embed_labels([f"name {i}"], encoder)
    embed_labels(["name 0"], encoder)
    for i in range(3):
        embed_labels([f"other {i}"], encoder)
    asked = len(encoder.asked)
    embed_labels(["name 0"], encoder)  # used last before the others
    assert len(encoder.asked) == asked
    embed_labels(["name 1"], encoder)
    assert len(encoder.asked) == asked + 1


def test_labels_may_be_encoded_in_many_threads():
    encoder, labels = Trigrams(), [f"name {i}" for i in range(50)]
    expected, _ = embed_labels(labels, Trigrams())
    results = []

    def work():
        results.append(embed_labels(labels, encoder)[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert {result.tobytes() for result in results} == {expected.tobytes()}


def _embed_and_exit():
    embed_labels(["zebra"], Trigrams())


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork here"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads
def test_labels_may_be_encoded_in_a_forked_process():
    embed_labels(["zebra"], Trigrams())
    process = multiprocessing.get_context("fork").Process(target=_embed_and_exit)
    process.start()
    process.join(60)
    assert process.exitcode == 0


# Templates


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (PHOTO, [PHOTO]),
        ([PHOTO, DRAWING], [PHOTO, DRAWING]),
        ((DRAWING, PHOTO, DRAWING), [DRAWING, PHOTO]),
        ("{}", ["{}"]),
        ("a {c} {} {0}", ["a {c} {} {0}"]),
        ("imagenet-7", template_sets()["imagenet-7"]),
    ],
)
def test_with_templates_averages_the_unit_vectors_of_all(given, texts):
    encoder = Trigrams()
    Y, report = embed_labels(["red fox", "{} zebra"], with_templates(encoder, given))
    for label, row in zip(["red fox", "{} zebra"], Y, strict=True):
        phrases = [label.join(text.split("{}")) for text in texts]
        expected = unit(unit([encoder.vector(text) for text in phrases]).mean(axis=0))
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert report.entries[0].words == ("red fox",)


def test_template_sets_are_those_published():
    sets = template_sets()
    assert {name: len(texts) for name, texts in sets.items()} == {
        "imagenet-7": 7,
        "imagenet-80": 80,
    }
    assert set(sets["imagenet-7"]) < set(sets["imagenet-80"])
    assert len(set(sets["imagenet-80"])) == 80
    assert "a photo of a {}." in sets["imagenet-80"]
    assert all(text.count("{}") == 1 for text in sets["imagenet-80"])


@pytest.mark.parametrize(
    "given",
    [
        *("", "a photo", "{} and {}", "imagenet", "a {c}"),
        *([], (), ["a photo"], [PHOTO, 3], [[PHOTO]], 3, {}, {"{}"}, b"{}"),
        "x" * 1000 + "{}",
        [f"{i} {{}}" for i in range(1001)],
    ],
)
def test_with_templates_that_are_none_is_an_error_that_names_the_sets(given):
    with pytest.raises(LabelError, match=r"Expected templates.*'imagenet-7'"):
        with_templates(Trigrams(), given)


def test_with_templates_of_word_vectors_is_an_error():
    with pytest.raises(LabelError, match="'random', which looks words up"):
        with_templates(RandomEmbeddings(), PHOTO)
    words = RandomEmbeddings()
    assert with_templates(words, None) is words


def test_with_templates_none_takes_those_of_the_encoder():
    bare, prompted = Trigrams(), Prompted()
    assert with_templates(bare, None) is bare
    embed_labels(["fox"], with_templates(prompted, None))
    assert prompted.asked == ["a picture of fox", "fox, a picture"]
    embed_labels(["fox"], with_templates(prompted, "{}"))
    assert prompted.asked[2:] == ["fox"]


def test_with_templates_twice_replaces_them():
    encoder = Trigrams()
    twice = with_templates(with_templates(encoder, PHOTO), DRAWING)
    embed_labels(["fox"], twice)
    assert encoder.asked == ["a drawing of the fox"]
    assert with_templates(twice, None) is twice
    assert twice.fingerprint == with_templates(encoder, [DRAWING]).fingerprint
    assert twice.fingerprint != with_templates(encoder, PHOTO).fingerprint


# The classifier


def expected_rows(encoder, names, *templates):
    return np.stack(
        [
            unit(unit([encoder.vector(t.format(name)) for t in templates]).mean(axis=0))
            for name in names
        ]
    )


def test_classifier_puts_labels_into_templates_wherever_they_become_vectors(features):
    X, y = features
    encoder = Trigrams()
    clf = ZeroShotClassifier(
        None, encoder, projection="ridge", templates=[PHOTO, DRAWING]
    )
    clf.fit(X, y)
    seen = clf.seen_classes_.tolist()
    expected = expected_rows(encoder, seen, PHOTO, DRAWING)
    np.testing.assert_allclose(clf.class_embeddings_, expected, atol=1e-6)
    new = ["red okapi", "blue zebra"]
    wanted = expected_rows(encoder, new, PHOTO, DRAWING)
    # Ridge leaves labels where they are.
    np.testing.assert_allclose(clf.label_points(new), wanted, atol=1e-5)
    asked = len(encoder.asked)
    for method in (clf.predict, clf.predict_proba, clf.rank, clf.explain):
        method(X[:2], new)
    clf.partial_fit(X[:1], ["blue zebra"])
    assert len(encoder.asked) == asked  # all remembered
    where = clf.seen_classes_.tolist().index("blue zebra")
    np.testing.assert_allclose(clf.class_embeddings_[where], wanted[1], atol=1e-6)
    assert "encoded (red okapi)" in str(clf.explain(X[:1], ["red okapi"])[0])


def test_classifier_puts_the_classes_of_the_backbone_into_templates(features):
    X, y = features
    rng = np.random.default_rng(0)
    head = ClassifierHead(
        (("lion", "king of beasts"), ("zebra",)),
        rng.standard_normal((X.shape[1], 2)).astype(np.float32),
        np.zeros(2, np.float32),
    )
    encoder = Trigrams()
    clf = ZeroShotClassifier(
        None,
        encoder,
        projection="visual",
        templates=PHOTO,
        pretrained_classes=head,
    )
    clf.fit(X, y)
    np.testing.assert_allclose(
        clf.pretrained_.classes.class_embeddings,
        expected_rows(encoder, ["lion", "zebra"], PHOTO),
        atol=1e-6,
    )
    alone = ZeroShotClassifier(
        None, encoder, projection="visual", templates=PHOTO, pretrained_classes=head
    ).fit_pretrained()
    np.testing.assert_allclose(
        alone.class_embeddings_,
        expected_rows(encoder, ["lion", "zebra"], PHOTO),
        atol=1e-6,
    )


def test_classifier_with_templates_for_word_vectors_is_an_error(features):
    X, y = features
    clf = ZeroShotClassifier(None, "random:20", templates=PHOTO)
    with pytest.raises(LabelError, match="Leave the templates out"):
        clf.fit(X, y)
    clf = ZeroShotClassifier(None, Trigrams(), templates=PHOTO, projection="ridge")
    clf.fit(X, y)
    with pytest.raises(LabelError, match="Leave the templates out"):
        clf.predict(X, ["fox", "ox"], embeddings=RandomEmbeddings(DIM))


def test_classifier_puts_labels_of_other_embeddings_into_templates_too(features):
    X, y = features
    clf = ZeroShotClassifier(None, Trigrams(), templates=PHOTO, projection="ridge")
    other = Trigrams()
    clf.fit(X, y).predict(X, ["fox", "ox"], embeddings=other)
    assert other.asked == ["a photo of a fox.", "a photo of a ox."]


def test_classifier_of_an_open_vocabulary_needs_words(features):
    X, y = features
    clf = ZeroShotClassifier(None, Trigrams(), projection="ridge").fit(X, y)
    with pytest.raises(PluginContractError, match="which has no vocabulary"):
        clf.predict(X, "vocabulary")


@pytest.mark.parametrize("templates", [None, "imagenet-7", [PHOTO, DRAWING]])
def test_classifier_saved_and_loaded_predicts_the_same(features, templates, tmp_path):
    X, y = features
    encoder = Trigrams("kept")
    clf = ZeroShotClassifier(None, encoder, templates=templates, projection="ridge")
    clf.fit(X, y).save(tmp_path / "model")
    loaded = load(tmp_path / "model", embeddings=encoder)
    assert loaded.templates == templates
    new = ["red okapi", "blue zebra", "ox"]
    assert loaded.scores(X, new).tobytes() == clf.scores(X, new).tobytes()
    # Fitted anew, it is the same again.
    again = loaded.fit(X, y)
    assert again.scores(X, new).tobytes() == clf.scores(X, new).tobytes()


def test_classifier_saves_the_templates_in_effect(features, tmp_path):
    X, y = features
    encoder = Prompted("kept prompted")
    clf = ZeroShotClassifier(None, encoder, projection="ridge").fit(X, y)
    clf.set_params(templates=PHOTO)  # takes effect in fit
    clf.save(tmp_path / "model")
    loaded = load(tmp_path / "model", embeddings=encoder)
    assert loaded.templates == list(Prompted.default_templates)
    new = ["ox", "zebra"]
    assert loaded.scores(X, new).tobytes() == clf.scores(X, new).tobytes()
    # The encoder without its templates is another.
    plain = Trigrams("kept prompted")
    bare = ZeroShotClassifier(None, plain, projection="ridge").fit(X, y)
    bare.save(tmp_path / "bare")
    with pytest.raises(FingerprintMismatchError):
        load(tmp_path / "bare", embeddings=encoder)


def test_classifier_saved_with_its_vocabulary_needs_no_encoder(features, tmp_path):
    X, y = features
    clf = ZeroShotClassifier(None, Trigrams(), templates=PHOTO, projection="ridge")
    new = ["red_okapi, a beast", "blue zebra"]
    clf.fit(X, y).save(tmp_path / "model", vocabulary=new)
    loaded = load(tmp_path / "model")
    assert isinstance(loaded.embeddings_, Attributes)
    assert loaded.scores(X, new).tobytes() == clf.scores(X, new).tobytes()
    loaded.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.scores(X, new).tobytes() == clf.scores(X, new).tobytes()


@pytest.mark.parametrize(
    "templates",
    ["a photo", "", [], ["{} {}"], [3], 3, {}, ["{}" + "x" * 1000], ["{}"] * 1001],
)
def test_load_of_a_bundle_with_forged_templates_is_refused(
    features, templates, tmp_path
):
    X, y = features
    encoder = Trigrams()
    clf = ZeroShotClassifier(None, encoder, templates=PHOTO, projection="ridge")
    clf.fit(X[:8], y[:8]).save(tmp_path / "model")
    file = tmp_path / "model" / "bundle.json"
    record = json.loads(file.read_text())
    record.pop("sha256")
    record["parameters"]["templates"] = templates
    record["sha256"] = record_digest(record)
    file.write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=r"'parameters\.templates' must be"):
        load(tmp_path / "model", embeddings=encoder)


def test_load_of_a_bundle_with_templates_for_word_vectors_is_refused(
    features, tmp_path
):
    X, y = features
    clf = ZeroShotClassifier(None, RandomEmbeddings(8), projection="ridge")
    clf.fit(X, y).save(tmp_path / "model")
    file = tmp_path / "model" / "bundle.json"
    record = json.loads(file.read_text())
    record.pop("sha256")
    record["parameters"]["templates"] = "imagenet-7"
    record["sha256"] = record_digest(record)
    file.write_text(json.dumps(record))
    with pytest.raises(LabelError, match="Leave the templates out"):
        load(tmp_path / "model")


def test_evaluate_of_phrases_has_random_vectors_beside_it(features):
    X, y = features
    encoder = Trigrams()
    found = evaluate(
        *(X, y, None, encoder),
        projection="ridge",
        templates="imagenet-7",
        n_splits=2,
    )
    assert [*found.results] == ["ridge", "ridge, random vectors", "chance"]
    assert found.settings["templates"] == "imagenet-7"
    assert "labels in templates ('imagenet-7')" in str(found)
    names = sorted(set(y.tolist()))
    assert len(encoder.asked) == 7 * len(names)  # once, for all splits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare = evaluate(X, y, None, Trigrams(), projection="ridge", n_splits=2)
    assert bare.settings["templates"] is None
