import csv
import enum
import json
import subprocess
import sys
import unicodedata
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.multiclass import OneVsRestClassifier

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import Attributes, RandomEmbeddings
from zeroshot.embeddings.base import (
    SupportsSubwords,
    SupportsVocabulary,
    TextEmbeddings,
)
from zeroshot.errors import (
    LabelError,
    OutOfVocabularyError,
    PartialCoverageWarning,
    PluginContractError,
    ZeroShotWarning,
)
from zeroshot.labels import (
    check_candidates,
    embed_labels,
)
from zeroshot.labels.report import LabelEntry, LabelReport
from zeroshot.labels.spelling import label_key


class Words:
    """Word vectors in memory, and a record of what was asked."""

    name = "words"
    fingerprint = "words"

    def __init__(self, words, dim=8):
        if not isinstance(words, dict):
            words = {w: direction(w, dim) for w in words}
        self.words = {w: np.asarray(v, np.float32) for w, v in words.items()}
        self.dim = len(next(iter(self.words.values()))) if words else dim
        self.lookups = []

    def lookup(self, words):
        self.lookups.append(list(words))
        found = np.array([word in self.words for word in words], bool)
        vectors = np.full((len(words), self.dim), np.nan, np.float32)
        for i in np.flatnonzero(found):
            vectors[i] = self.words[words[i]]
        return vectors, found


class ListedWords(Words):
    def vocabulary(self):
        return iter(self.words)


class ComposingWords(Words):
    """Also composes every word that begins with 'z', like fastText from n-grams."""

    def in_vocabulary(self, words):
        return np.array([word in self.words for word in words], bool)

    def lookup(self, words):
        vectors, found = super().lookup(words)
        for i, word in enumerate(words):
            if not found[i] and word.startswith("z"):
                vectors[i], found[i] = direction(word, self.dim), True
        return vectors, found


def direction(word, dim=8):
    seed = int.from_bytes(word.encode("utf-8"), "big")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def unit(vector):
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)


def resolve(label, words):
    """Return the vector and the entry of one label."""
    provider = words if isinstance(words, Words) else Words(words)
    vectors, report = embed_labels([label], provider)
    return vectors[0], report.entries[0]


def test_providers_of_these_tests_keep_the_contract():
    assert isinstance(Words(["a"]), TextEmbeddings)
    assert isinstance(ListedWords(["a"]), SupportsVocabulary)
    assert isinstance(ComposingWords(["a"]), SupportsSubwords)
    assert not isinstance(Words(["a"]), SupportsSubwords)


# --- the cascade


@pytest.mark.parametrize(
    ("label", "known", "how"),
    [
        ("zebra", "zebra", "exact"),
        ("polar bear", "polar bear", "exact"),
        (" zebra ", "zebra", "exact"),
        ("Zebra", "zebra", "variant"),
        ("\ufeffze\u00adbra\u200b", "zebra", "exact"),
        ("\uff5a\uff45\uff42\uff52\uff41", "zebra", "variant"),
        ("zebra", "Zebra", "variant"),
        ("atm", "ATM", "variant"),
        ("Chihuahua", "chihuahua", "variant"),
        ("iPod", "ipod", "variant"),
        ("consommé", "consomme", "variant"),
        ("jack’s", "jack's", "variant"),  # noqa: RUF001 - the curly one is the point
        ("Polar_Bear", "polar_bear", "variant"),
        ("polar bear", "polar_bear", "phrase"),
        ("polar bear", "polar-bear", "phrase"),
        ("polar bear", "Polar_Bear", "phrase"),
        ("polar bear", "Polar_bear", "phrase"),
        ("grizzly bear", "grizzly+bear", "phrase"),
        ("grizzly+bear", "grizzly_bear", "phrase"),
        ("sea_horse", "seahorse", "phrase"),
        ("T-shirt", "tshirt", "phrase"),
        ("go-kart", "go_kart", "phrase"),
        ("GoldenRetriever", "golden_retriever", "phrase"),
        ("Granny Smith", "Granny_Smith", "phrase"),
        ("leopards", "leopard", "number"),
        ("Faces", "face", "number"),
        ("okapi", "okapis", "number"),
        ("boxes", "box", "number"),
        ("berries", "berry", "number"),
        ("movies", "movie", "number"),
        ("knives", "knife", "number"),
        ("leaf", "leaves", "number"),
        ("wolves", "wolf", "number"),
        ("gloves", "glove", "number"),
        ("geese", "goose", "number"),
        ("dormouse", "dormice", "number"),
        ("firemen", "fireman", "number"),
        ("child", "children", "number"),
        ("potter's", "potter", "number"),
        ("polar bears", "polar_bear", "number"),
        ("man of war", "men_of_war", "number"),
    ],
)
def test_embed_labels_one_known_word_is_used_as_it_is(label, known, how):
    vector, entry = resolve(label, [known, "unrelated"])
    assert entry == LabelEntry(label, how, (known,), ())
    np.testing.assert_allclose(vector, unit(direction(known)), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("lens", "len"),
        ("glass", "glas"),
        ("bus", "bu"),
        ("iris", "iri"),
        ("okapi", "okap"),
        ("tench", "ten"),
    ],
)
def test_embed_labels_similar_but_other_word_is_not_used(label, known):
    with pytest.raises(OutOfVocabularyError):
        resolve(label, [known])


@pytest.mark.parametrize(
    ("label", "words", "chosen"),
    [
        ("Turkey", ["turkey", "Turkey"], ("exact", ("Turkey",))),
        ("polar bear", ["polarbear", "polar-bear", "polar_bear"], None),
        ("sea horses", ["sea_horse", "sea", "horses"], ("number", ("sea_horse",))),
        ("hot dog", ["hot", "dog", "hotdog"], ("phrase", ("hotdog",))),
        ("dogs", ["dog", "Dogs"], ("variant", ("Dogs",))),
    ],
)
def test_embed_labels_earlier_step_wins(label, words, chosen):
    _, entry = resolve(label, words)
    assert (entry.how, entry.words) == (chosen or ("phrase", ("polar_bear",)))


def test_embed_labels_phrase_is_the_mean_of_unit_word_vectors():
    words = {"polar": [10.0, 0, 0], "bears": [0, 0.5, 0]}
    vector, entry = resolve("Polar bear", Words(words))
    assert entry == LabelEntry("Polar bear", "mean", ("polar", "bears"), ())
    np.testing.assert_allclose(vector, np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("hen of the woods", ("hen", "woods")),
        ("the hen", ("hen",)),
        ("jack-o'-lantern", ("jack", "lantern")),
        ("potter's wheel", ("potter", "wheel")),
        ("Egyptian cat", ("egyptian", "cat")),
        ("crane (bird)", ("crane", "bird")),
        ("black and gold spider", ("black", "gold", "spider")),
    ],
)
def test_embed_labels_stop_words_are_skipped_and_not_missing(label, words):
    _, entry = resolve(label, words)
    assert (entry.how, entry.words, entry.missing) == ("mean", words, ())


def test_embed_labels_only_stop_words_are_looked_up():
    _, entry = resolve("to be at", ["to", "be", "at"])
    assert entry.words == ("be",)
    _, entry = resolve("on the", ["on", "the"])
    assert entry.words == ("on", "the")


@pytest.mark.parametrize(
    ("label", "known", "missing"),
    [
        ("Egyptian cat", "cat", ("Egyptian",)),
        ("horse of Troy", "horse", ("Troy",)),
        ("crane (bird)", "crane", ("bird",)),
        ("European fire salamander", "salamander", ("European", "fire")),
    ],
)
def test_embed_labels_modifier_missing_warns_and_is_recorded(label, known, missing):
    with pytest.warns(PartialCoverageWarning, match="1 of 1 labels.*" + missing[0]):
        vector, entry = resolve(label, [known])
    assert entry == LabelEntry(label, "mean", (known,), missing)
    np.testing.assert_allclose(vector, unit(direction(known)), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("Egyptian cat", "Egyptian"),
        ("horse of Troy", "Troy"),
        ("crane (bird)", "bird"),
        ("bicycle for two", "two"),
    ],
)
def test_embed_labels_head_word_missing_is_out_of_vocabulary(label, known):
    with pytest.raises(OutOfVocabularyError):
        resolve(label, [known])


# --- ids of classes

NUMBERS = ["0", "1", "2", "10", "17", "747", "3.0", "True", "true", "zebra", "jet"]


class Animal(enum.StrEnum):
    ZEBRA = "zebra"


class Named(str, enum.Enum):  # noqa: UP042 - str() of its members is another text
    ZEBRA = "zebra"


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1],
        [0, "zebra"],
        np.array([0, 1]),
        [np.int64(0), np.int64(1)],
        [True, False],
        [np.True_],
        [1.0, 3.0],
        [np.float32(1)],
        [Decimal("3.0")],
        ["0", "1", "17"],
        np.array(["0", "1"]),
        ["1.0", "3.0"],
        ["n02084071", "n01440764"],
        {0: [], 1: ["zebra"]},
        {"0": [], "1": []},
    ],
)
@pytest.mark.parametrize("provider", [Words, ListedWords, ComposingWords])
def test_embed_labels_ids_of_classes_are_refused(labels, provider):
    with pytest.raises(LabelError, match=r"look like ids of classes: .*aliases"):
        embed_labels(labels, provider(NUMBERS))


def test_embed_labels_categories_of_ints_are_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(LabelError, match="ids of classes: 0, 1"):
        embed_labels(pandas.Series([0, 1]).astype("category"), Words(NUMBERS))


@pytest.mark.parametrize(
    "ensemble",
    [
        lambda model: VotingClassifier([("a", model), ("b", model)], voting="soft"),
        lambda model: StackingClassifier([("a", model), ("b", model)], cv=2),
        lambda model: BaggingClassifier(model, n_estimators=2, random_state=0),
        OneVsRestClassifier,
    ],
    ids=["voting", "stacking", "bagging", "one-vs-rest"],
)
def test_fit_in_an_ensemble_that_numbers_labels_says_so(ensemble):
    X, y = np.eye(12, 4), np.repeat(["zebra", "jet", "okapi"], 4)
    model = ZeroShotClassifier(None, Words([*NUMBERS, "okapi"]), projection="ridge")
    with pytest.raises(LabelError, match="VotingClassifier, number the labels"):
        ensemble(model).fit(X, y)


@pytest.mark.parametrize("label", [0, 17, 1.0, True, "0", "17", "n02084071"])
def test_embed_labels_id_with_aliases_is_its_alias(label):
    vectors, report = embed_labels({label: ["zebra"]}, Words(NUMBERS))
    assert report.entries == (LabelEntry(str(label), "alias", ("zebra",)),)
    np.testing.assert_allclose(vectors[0], unit(direction("zebra")), atol=1e-6)


def test_embed_labels_number_that_is_given_as_an_alias_is_a_word():
    entry = resolve_alias({"747": ["747"]}, NUMBERS)
    assert entry.words == ("747",)


def test_embed_labels_one_label_with_commas_warns_of_a_list():
    with pytest.warns(ZeroShotWarning, match=r"write \['okapi', 'zebra'\]"):
        embed_labels(["okapi, zebra"], Words(["okapi", "zebra"]))


def test_embed_labels_number_before_its_names_stands_for_them():
    entry = resolve_alias(["17, zebra"], NUMBERS)
    assert (entry.how, entry.words) == ("alias", ("zebra",))


def test_embed_labels_number_among_names_is_a_word_with_a_warning():
    with pytest.warns(ZeroShotWarning, match="looked up as numbers.*'747'"):
        _, report = embed_labels(["zebra", "747"], Words(NUMBERS))
    assert report.entries[1] == LabelEntry("747", "exact", ("747",))


@pytest.mark.parametrize(
    "number", ["1.0", "1-0", "1 0", "1_0", "-10", "0017", "n02084071"]
)
def test_embed_labels_digits_are_never_joined(number):
    with pytest.raises(OutOfVocabularyError) as caught:
        embed_labels(["zebra", number], ComposingWords(NUMBERS))
    assert caught.value.labels == [number]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("7up", ("7up",)),
        ("4x4", ("4x4",)),
        ("2 door coupe", ("2", "door", "coupe")),
        ("Boeing 747 400", ("boeing", "747", "400")),
        ("windows 3.1", ("windows", "3.1")),
        ("3-toed sloth", ("3", "toed", "sloth")),
    ],
)
def test_embed_labels_number_in_a_name_is_a_word(label, words):
    known = [
        *[
            "7up",
            "4x4",
            "2",
            "3",
            "door",
            "coupe",
            "boeing",
            "747",
            "400",
            "747400",
            "windows",
            "3.1",
        ]
    ]
    _, entry = resolve(label, [*known, "toed", "sloth", "31", "1"])
    assert entry.words == words


@pytest.mark.parametrize(
    "label",
    [
        "001.Black_footed_Albatross",
        "01_black_footed_albatross",
        "7_black footed albatross",
        "12 - black-footed albatross",
        "12. black footed albatross",
        "n02084071-black_footed_albatross",
    ],
)
def test_embed_labels_number_in_front_is_dropped(label):
    words = ["001", "01", "7", "12", "n02084071", "black_footed_albatross"]
    _, entry = resolve(label, [*words, "black", "footed", "albatross"])
    assert entry == LabelEntry(label, "phrase", ("black_footed_albatross",))
    _, entry = resolve(label, [*words[:5], "black", "footed", "albatross"])
    assert entry.words == ("black", "footed", "albatross")


@pytest.mark.parametrize("label", [np.str_("zebra"), Animal.ZEBRA, Named.ZEBRA])
def test_embed_labels_any_kind_of_string_is_its_text(label):
    _, report = embed_labels([label], Words(["zebra", "named"]))
    assert report.entries == (LabelEntry("zebra", "exact", ("zebra",)),)


@pytest.mark.parametrize("label", [7, np.int64(7), "7"])
def test_embed_labels_table_of_attributes_may_be_keyed_by_ids(label):
    table = Attributes(["7", "17"], [[1, 0], [0, 1]])
    vectors, report = embed_labels([label], table)
    assert report.entries == (LabelEntry("7", "exact", ("7",)),)
    assert vectors.tolist() == [[1, 0]]


@pytest.mark.parametrize("label", [1.0, True, Decimal(2), "1.0"])
def test_embed_labels_random_vectors_are_for_any_id(label):
    _, report = embed_labels([label, "zebra"], RandomEmbeddings(4))
    assert report.entries[0] == LabelEntry(str(label), "exact", (str(label),))


@pytest.mark.parametrize("label", [10, 1.0, "1.0"])
def test_embed_labels_id_that_a_table_lacks_names_those_it_has(label):
    table = Attributes(["1", "zebra"], np.eye(2))
    with pytest.raises(OutOfVocabularyError, match="It has '1', 'zebra'"):
        embed_labels([label], table)


# --- punctuation

SIGNS = [
    *[
        "u.s.",
        "us",
        "c++",
        "c",
        "c#",
        ".net",
        "net",
        "r&b",
        "rb",
        "at&t",
        "att",
        "a+",
        "a",
    ]
]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("U.S.", "u.s."),
        ("C++", "c++"),
        ("C#", "c#"),
        (".NET", ".net"),
        ("R&B", "r&b"),
        ("At&T", "at&t"),
        ("US", "us"),
        ("C", "c"),
    ],
)
def test_embed_labels_case_is_tried_before_punctuation_is_dropped(label, word):
    assert resolve(label, SIGNS)[1] == LabelEntry(label, "variant", (word,))


@pytest.mark.parametrize("label", ["U.S.", "C++", "C#", "R&B", "AT&T", "A+", "R & B"])
def test_embed_labels_letters_that_are_left_are_no_word(label):
    with pytest.raises(OutOfVocabularyError):
        resolve(label, ["us", "c", "rb", "r", "b", "att", "at", "t", "a", "u", "s"])


def test_embed_labels_letters_that_are_left_are_suggested():
    with pytest.raises(OutOfVocabularyError) as caught:
        embed_labels(["U.S.", "IPOD"], ListedWords(["us", "iPod"]))
    assert caught.value.suggestions == {"U.S.": ["us"], "IPOD": ["iPod"]}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("U.S. dollar", ("u.s.", "dollar")),
        ("C++ book", ("c++", "book")),
        ("St. Bernard", ("st", "bernard")),
        ("(zebra)", ("zebra",)),
        ("zebra.", ("zebra",)),
        ("node.js", ("nodejs",)),
    ],
)
def test_embed_labels_words_keep_punctuation_that_tells_them_apart(label, words):
    known = ["dollar", "book", "st", "bernard", "zebra", "nodejs", "dollars"]
    assert resolve(label, [*SIGNS, *known])[1].words == words


TOKENS = st.text(st.sampled_from("abcé.+&#'-_"), min_size=1, max_size=6).filter(
    lambda token: any(map(str.isalpha, token))
)


@given(
    st.sets(TOKENS, min_size=1, max_size=8),
    st.sampled_from([str.lower, str.upper, str.title, str.capitalize, str.casefold]),
    st.sampled_from(["NFC", "NFD", "NFKC"]),
)
def test_embed_labels_variant_of_a_word_is_that_word_or_its_equal(tokens, case, form):
    provider = Words(sorted(tokens))
    for token in tokens:
        label = unicodedata.normalize(form, case(token))
        _, entry = resolve(label, provider)
        assert [word.casefold() for word in entry.words] == [token.casefold()]


@pytest.mark.parametrize(
    "label", ["café crème", "CAFÉ CRÈME", "cafe\u0301 cre\u0300me", "Café_Crème"]
)
def test_embed_labels_decomposed_and_capital_letters_give_the_same_vector(label):
    for words in (["café", "crème"], ["café_crème"], ["cafe", "creme"]):
        plain, _ = resolve("café crème", words)
        assert resolve(label, words)[0].tobytes() == plain.tobytes()
    assert label_key(label) == label_key("café crème")


@given(st.text(max_size=12).filter(lambda text: any(map(str.isalnum, text))))
def test_label_key_case_and_composition_make_no_difference(label):
    key = label_key(label)
    assert key
    assert label_key(unicodedata.normalize("NFD", label)) == key
    assert label_key(label.casefold()) == key


# --- aliases


ONE_OF_SEVERAL_NAMES = pytest.mark.filterwarnings(
    "ignore:One label:zeroshot.errors.ZeroShotWarning"
)


def resolve_alias(labels, words):
    return embed_labels(labels, Words(words))[1].entries[0]


def test_embed_labels_alias_is_used_before_a_mean():
    words = ["water", "ouzel", "dipper"]
    entry = resolve_alias({"water ouzel": ["nothing", "Dipper"]}, words)
    assert entry == LabelEntry("water ouzel", "alias", ("dipper",), ())


def test_embed_labels_own_word_is_used_before_an_alias():
    assert resolve_alias({"Puma": ["cougar"]}, ["puma", "cougar"]).how == "variant"


def test_embed_labels_alias_of_several_words_is_a_mean_where_nothing_else_is_known():
    entry = resolve_alias({"okapi": ["forest giraffes"]}, ["forest", "giraffe"])
    assert entry == LabelEntry("okapi", "alias", ("forest", "giraffe"), ())


@ONE_OF_SEVERAL_NAMES
def test_embed_labels_comma_label_is_read_as_synonyms():
    words = ["lesser", "red", "panda"]
    entry = resolve_alias(["lesser panda, red panda, panda"], words)
    assert (entry.how, entry.words) == ("mean", ("lesser", "panda"))
    entry = resolve_alias(["lesser panda,red panda,panda"], words[1:])
    assert (entry.how, entry.words) == ("alias", ("red", "panda"))
    entry = resolve_alias(["lion, king of beasts"], ["lion"])
    assert (entry.how, entry.words) == ("exact", ("lion",))


@ONE_OF_SEVERAL_NAMES
def test_embed_labels_comma_synonym_does_not_beat_a_complete_mean():
    entry = resolve_alias(["bullet train, bullet"], ["bullet", "train"])
    assert entry.words == ("bullet", "train")


@ONE_OF_SEVERAL_NAMES
def test_embed_labels_of_partial_names_the_most_complete_is_used():
    with pytest.warns(PartialCoverageWarning, match="tailed"):
        entry = resolve_alias(
            ["Madagascar cat, ring-tailed lemur"], ["cat", "ring", "lemur"]
        )
    assert entry == LabelEntry(
        "Madagascar cat, ring-tailed lemur", "alias", ("ring", "lemur"), ("tailed",)
    )


@pytest.mark.parametrize(
    "aliases", ["hound", None, 3, {"hound", "cur"}, ["hound", 3], [""], [" "]]
)
def test_embed_labels_unusable_aliases_name_the_label(aliases):
    with pytest.raises(LabelError, match="label 'dog'"):
        embed_labels({"dog": aliases}, Words(["dog"]))


# --- subwords


def test_embed_labels_word_composed_by_the_provider_is_subwords():
    vector, entry = resolve("Zorse", ComposingWords(["horse"]))
    assert entry == LabelEntry("Zorse", "subwords", ("zorse",), ())
    np.testing.assert_allclose(vector, unit(direction("zorse")), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "words", "how"),
    [("zebras", ("zebra",), "number"), ("z-axis", ("zaxis",), "phrase")],
)
def test_embed_labels_stored_form_is_used_before_a_composed_word(label, words, how):
    _, entry = resolve(label, ComposingWords(words))
    assert (entry.how, entry.words) == (how, words)


def test_embed_labels_phrase_is_composed_word_by_word_not_as_one_string():
    vector, entry = resolve("zebroid bear", ComposingWords(["bear"]))
    assert entry == LabelEntry("zebroid bear", "subwords", ("zebroid", "bear"), ())
    mean = unit(direction("zebroid")) + unit(direction("bear"))
    np.testing.assert_allclose(vector, unit(mean), atol=1e-6)


def test_embed_labels_composer_is_not_asked_to_compose_spelling_variants():
    provider = ComposingWords(["bear"])
    embed_labels(["zorse", "zebroid bear"], provider)
    assert len(provider.lookups) == 1
    assert set(provider.lookups[0]) == {"bear", "zorse", "zebroid"}


# --- what cannot be represented


def test_embed_labels_unknown_labels_come_all_at_once_with_suggestions():
    provider = ListedWords(["Elephant", "zebra", "waterlily", "water", "lily"])
    with pytest.raises(OutOfVocabularyError) as caught:
        embed_labels(["zebra", "elephnt", "water_lilly", "qqq"], provider)
    assert caught.value.labels == ["elephnt", "water_lilly", "qqq"]
    assert caught.value.suggestions == {
        "elephnt": ["Elephant"],
        "water_lilly": ["waterlily", "lily"],
    }
    message = str(caught.value)
    assert "Got 3 of 4 labels" in message
    assert "'elephnt' (did you mean 'Elephant'?)" in message
    assert "unknown: 'lilly'" in message
    assert "\n" not in message


def test_embed_labels_thirty_unknown_labels_make_a_readable_message():
    labels = [f"unknown{i}" for i in range(30)]
    with pytest.raises(OutOfVocabularyError, match="and 20 more") as caught:
        embed_labels(labels, ListedWords(["zebra"]))
    assert caught.value.labels == labels
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "known",
    ["/c/en/zebra", "zebra_NOUN", "ENTITY/Zebra", "zebra|n", "zebra#1", "wn:zebra"],
)
def test_embed_labels_decorated_word_is_suggested(known):
    words = ["/c/en/zebra_crossing", known, "zebraic", "zebroid", "azebra"]
    with pytest.raises(OutOfVocabularyError) as caught:
        resolve("Zebra", ListedWords(words))
    assert caught.value.suggestions["Zebra"][0] == known
    assert "azebra" not in caught.value.suggestions["Zebra"][:1]


def test_embed_labels_word_with_a_line_break_does_not_shift_suggestions():
    words = ["one\ntwo", "\n", "elephant", "x\nelephants"]
    with pytest.raises(OutOfVocabularyError) as caught:
        resolve("elephnt", ListedWords(words))
    assert caught.value.suggestions == {"elephnt": ["elephant"]}


def test_embed_labels_provider_without_vocabulary_gives_no_suggestions():
    with pytest.raises(OutOfVocabularyError) as caught:
        resolve("zebar", ["zebra"])
    assert caught.value.suggestions == {}


@pytest.mark.parametrize("label", ["---", "+", "…", "日本"])
def test_embed_labels_text_without_known_words_is_out_of_vocabulary(label):
    with pytest.raises(OutOfVocabularyError) as caught:
        resolve(label, ListedWords(["zebra"]))
    assert caught.value.labels == [label]


def test_embed_labels_zero_vector_counts_as_unknown_and_is_named():
    with pytest.raises(OutOfVocabularyError, match="vector of zeros: 'okapi'"):
        resolve("Okapi", Words({"okapi": [0, 0], "zebra": [0, 1]}))


def test_embed_labels_zero_vector_gives_way_to_the_next_step():
    _, entry = resolve("okapi", Words({"okapi": [0, 0], "okapis": [0, 1]}))
    assert (entry.how, entry.words) == ("number", ("okapis",))


def test_embed_labels_words_that_cancel_are_out_of_vocabulary():
    with pytest.raises(OutOfVocabularyError, match="cancel"):
        resolve("hot cold", Words({"hot": [0, 2], "cold": [0, -1]}))


def test_embed_labels_suggestions_come_from_a_large_vocabulary():
    rng = np.random.default_rng(0)
    letters = rng.choice(list("etaoinshrdlucmfw"), (400_000, 9))
    lengths = rng.integers(4, 10, 400_000)
    words = ["".join(row[:n]) for row, n in zip(letters, lengths, strict=True)]

    class Large(Words):
        def vocabulary(self):
            return iter([*words, "elephant"])

    labels = ["elephnt", "screwdrivr", "stethoscpe", "sandwhich", "tarantla"]
    with pytest.raises(OutOfVocabularyError) as caught:
        embed_labels(labels, Large(["zebra"]))
    assert "elephant" in caught.value.suggestions["elephnt"]


# --- providers that break the contract


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embed_labels_found_vector_not_finite_names_the_word(value):
    with pytest.raises(PluginContractError, match=r"'words' finds.*'okapi'"):
        resolve("okapi", Words({"okapi": [0, value]}))


def test_embed_labels_wrong_shape_names_the_method():
    class Flat(Words):
        def lookup(self, words):
            vectors, found = super().lookup(words)
            return vectors[:, :1], found

    with pytest.raises(PluginContractError, match="'lookup' of 'words'"):
        resolve("okapi", Flat(["okapi"]))


# --- properties of the whole


LABELS = ["Zebra", "sea horse", "polar bear", "ice cream", "leopards", "bear", "dogs"]
WORDS = ["zebra", "seahorse", "polar", "bear", "ice", "cream", "leopard", "dog"]


@given(st.permutations(LABELS))
def test_embed_labels_order_of_labels_does_not_matter(labels):
    vectors, report = embed_labels(labels, Words(WORDS))
    for label, vector, entry in zip(labels, vectors, report.entries, strict=True):
        alone, alone_entry = resolve(label, WORDS)
        assert vector.tobytes() == alone.tobytes()
        assert entry == alone_entry


@given(
    st.lists(
        st.text(st.sampled_from("abAB _-'+.,()sé"), min_size=1, max_size=8).filter(
            str.strip
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
@example(["'s_A"])
@example(["AA.AA(A"])
def test_embed_labels_any_text_gives_unit_rows_or_a_named_error(labels):
    known = ["a", "b", "ab", "ba", "a_b", "bab"]
    provider = ListedWords(known)
    unknown = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroShotWarning)
        try:
            vectors, report = embed_labels(labels, provider)
        except OutOfVocabularyError as error:
            unknown = error.labels
    if unknown:
        assert set(unknown) <= set(labels)
        return
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(labels), provider.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for entry in report.entries:
        assert entry.words
        assert set(entry.words) <= set(known)


@given(
    st.lists(st.sampled_from(["polar", "bear", "café"]), min_size=2, max_size=3),
    st.sampled_from([" ", "_", "-", "+", " - ", "  "]),
    st.sampled_from([str, str.upper, str.title, str.capitalize]),
)
def test_embed_labels_every_spelling_of_a_phrase_gives_the_same_vector(
    words, separator, case
):
    provider = Words(["polar", "bear", "cafe", "polar_bear", "bear_cafe"])
    plain, _ = resolve(" ".join(words), provider)
    spelt, _ = resolve(case(separator.join(words)), provider)
    assert plain.tobytes() == spelt.tobytes()


def test_embed_labels_asks_for_labels_and_then_for_spellings_of_the_others():
    provider = Words(WORDS)
    embed_labels(LABELS, provider)
    first, second = provider.lookups
    assert list(first) == list(LABELS)
    assert len(second) == len(set(second))
    provider = Words(WORDS)
    embed_labels(WORDS[:3], provider)
    assert len(provider.lookups) == 1


def test_embed_labels_many_labels_are_asked_in_portions():
    provider = Words([f"w{i}" for i in range(12_000)], dim=2)
    embed_labels([f"W{i}" for i in range(12_000)], provider)
    assert len(provider.lookups) <= 2
    assert max(map(len, provider.lookups)) <= 200_000


# --- the report


def test_report_identical_vectors_are_grouped_and_warned_of():
    labels = ["sea horse", "zebra", "sea_horse", "bear polar", "polar bear"]
    axes = dict(zip(["seahorse", "zebra", "polar", "bear"], np.eye(4), strict=True))
    with pytest.warns(ZeroShotWarning, match="'sea horse' = 'sea_horse'"):
        vectors, report = embed_labels(labels, Words(axes))
    assert report.identical == (
        ("sea horse", "sea_horse"),
        ("bear polar", "polar bear"),
    )
    assert report.near_synonyms == ()
    assert vectors[0].tobytes() == vectors[2].tobytes()


def test_report_near_synonyms_are_pairs_above_the_threshold_closest_first():
    angles = {"a": 0.0, "b": 0.3, "c": 0.5, "d": 2.0}
    words = {w: [np.cos(t), np.sin(t)] for w, t in angles.items()}
    _, report = embed_labels(list("abcd"), Words(words))
    pairs = [(a, b) for a, b, _ in report.near_synonyms]
    assert pairs == [("b", "c"), ("a", "b"), ("a", "c")]
    np.testing.assert_allclose(
        [cosine for _, _, cosine in report.near_synonyms],
        np.cos([0.2, 0.3, 0.5]),
        atol=1e-6,
    )


def test_report_hub_is_the_nearest_of_six_others():
    words = {f"spoke{i}": ray for i, ray in enumerate(np.eye(6))}
    words["hub"] = np.ones(6)
    _, report = embed_labels(list(words), Words(words))
    assert report.hubs == (("hub", 6),)
    _, report = embed_labels(list(words)[1:], Words(words))
    assert report.hubs == ()


def test_report_of_many_labels_agrees_with_all_cosines_at_once():
    rng = np.random.default_rng(1)
    words = {f"w{i}": v for i, v in enumerate(rng.normal(size=(1500, 4)))}
    vectors, report = embed_labels(list(words), Words(words))
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosines, -1)
    counts = np.bincount(cosines.argmax(1), minlength=1500)
    assert dict(report.hubs) == {f"w{i}": n for i, n in enumerate(counts) if n >= 6}
    expected = {(f"w{i}", f"w{j}") for i, j in np.argwhere(np.triu(cosines >= 0.8001))}
    lenient = {(f"w{i}", f"w{j}") for i, j in np.argwhere(np.triu(cosines >= 0.7999))}
    pairs = {(a, b) for a, b, _ in report.near_synonyms}
    assert expected <= pairs <= lenient


def test_report_coverage_is_the_share_of_complete_labels():
    labels = ["zebra", "Egyptian cat", "cow", "dog"]
    with pytest.warns(PartialCoverageWarning, match="1 of 4"):
        _, report = embed_labels(labels, Words(["zebra", "cat", "cow", "dog"]))
    assert report.coverage == 0.75


def test_report_text_is_a_table_with_what_to_beware_of():
    with pytest.warns(ZeroShotWarning):
        _, report = embed_labels(
            ["sea horse", "sea_horse", "Egyptian cat"], Words(["seahorse", "cat"])
        )
    assert str(report).splitlines() == [
        "label         how     words     left out",
        "sea horse     phrase  seahorse",
        "sea_horse     phrase  seahorse",
        "Egyptian cat  mean    cat       Egyptian",
        "",
        "2 of 3 labels with no word left out",
        "Same vector: sea horse = sea_horse",
    ]


def test_report_to_dict_survives_json():
    _, report = embed_labels(["polar bear", "Zebra"], Words(["polar", "bear", "zebra"]))
    assert json.loads(json.dumps(report.to_dict())) == {
        "coverage": 1.0,
        "entries": [
            {
                "label": "polar bear",
                "how": "mean",
                "words": ["polar", "bear"],
                "missing": [],
            },
            {"label": "Zebra", "how": "variant", "words": ["zebra"], "missing": []},
        ],
        "identical": [],
        "near_synonyms": [],
        "hubs": [],
    }


def test_report_of_equal_content_is_equal():
    first, second = (embed_labels(LABELS, Words(WORDS))[1] for _ in range(2))
    assert first == second
    assert isinstance(first, LabelReport)


def test_report_single_label_has_no_neighbours():
    _, report = embed_labels(["zebra"], Words(["zebra"]))
    assert (report.near_synonyms, report.hubs, report.coverage) == ((), (), 1.0)


def test_import_labels_loads_neither_tensorflow_nor_sklearn():
    code = (
        "import sys, zeroshot.labels; "
        "print({'tensorflow', 'sklearn', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# --- real names and real vectors


@pytest.fixture(scope="module")
def numberbatch(real_data):
    from zeroshot.embeddings.vectors.word_vectors import WordVectors

    return WordVectors(real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz")


def embed_known(labels, embeddings):
    """Embed what can be embedded; return the entries by label, and the rest."""
    unknown = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroShotWarning)
        try:
            _, report = embed_labels(labels, embeddings)
        except OutOfVocabularyError as error:
            unknown = error.labels
            known = [label for label in labels if label not in unknown]
            _, report = embed_labels(known, embeddings)
    return {entry.label.split(",")[0]: entry for entry in report.entries}, unknown


def test_embed_labels_tiny_imagenet_names(real_data, numberbatch):
    table = real_data / "images" / "tiny-imagenet-val" / "class_names.tsv"
    with table.open(newline="", encoding="utf-8") as file:
        names = [row[1] for row in csv.reader(file, delimiter="\t")]
    assert len(names) == 200
    entries, unknown = embed_known(names, numberbatch)
    assert unknown == ["iPod", "dugong, Dugong dugon"]
    assert sum(bool(entry.missing) for entry in entries.values()) == 14
    assert {
        name: entries[name].words
        for name in (
            "Chihuahua",
            "spider web",
            "lesser panda",
            "sunglasses",
            "potter's wheel",
            "bullet train",
            "Arabian camel",
            "walking stick",
        )
    } == {
        "Chihuahua": ("chihuahua",),
        "spider web": ("spiderweb",),
        "lesser panda": ("red", "panda"),
        "sunglasses": ("sunglass",),
        "potter's wheel": ("potter", "wheel"),
        "bullet train": ("bullet", "train"),
        "Arabian camel": ("dromedary",),
        "walking stick": ("stick", "insect"),
    }
    assert entries["Egyptian cat"].missing == ("Egyptian",)


def test_embed_labels_caltech_folder_names(real_data, numberbatch):
    folder = real_data / "images" / "caltech-classes"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert len(names) == 45
    with pytest.raises(OutOfVocabularyError) as caught:
        embed_labels(names, numberbatch)
    assert caught.value.labels == ["gerenuk", "water_lilly"]
    assert caught.value.suggestions["water_lilly"][0] == "waterlily"
    aliases = {"gerenuk": ["gazelle"], "water_lilly": ["water lily"]}
    _, report = embed_labels({n: aliases.get(n, []) for n in names}, numberbatch)
    entries = {entry.label: entry for entry in report.entries}
    assert report.coverage == 1
    assert entries["sea_horse"].words == ("seahorse",)
    assert entries["Leopards"].words == ("leopard",)
    assert entries["cougar_body"].words == ("cougar", "body")
    assert entries["water_lilly"].words == ("waterlily",)


def test_embed_labels_imagenet_names(real_data, numberbatch):
    archive = real_data / "vectors" / "wiki2vec-imagenet1k-300d.npz"
    with np.load(archive, allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["class_names"]]
    with pytest.raises(LabelError, match=r"'crane' \(2 times\)"):
        check_candidates(names)
    entries, unknown = embed_known(list(dict.fromkeys(names)), numberbatch)
    assert len(unknown) == 75
    assert sum(bool(entry.missing) for entry in entries.values()) == 94
    assert entries["jack-o-lantern"].words == ("jack", "lantern")
    assert entries["lens_cap"].words == ("cap",)
