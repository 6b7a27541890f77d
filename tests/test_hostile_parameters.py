"""Values that nobody means, for every parameter of the estimator and its methods."""

import inspect

import numpy as np
import pytest

from zeroshot import ZeroShotClassifier
from zeroshot.embeddings import RandomEmbeddings
from zeroshot.errors import ZeroShotError

HUGE = 10**5000  # Python refuses to write a number of over 4300 digits
VALUES = (
    *("", " ", "a\0b", "\udcff\x1b[31m", "9" * 4301, "a" * 5000, "nan", "%s%n", "+"),
    *("auto:nan", "auto:" + "9" * 4301, "vocabulary:" + "9" * 4301, "{" * 3000, "::"),
    *("keras:/x?size=" + "9" * 4301, "glove:" + "a" * 5000, "glove:a\0b", "keras:"),
    *("random?seed=" + "9" * 4301, "~nobody/x", "http://[", "onnx:a\0b", "tfhub:a\0b"),
    *(float("nan"), float("inf"), -1, HUGE, 1e308, True, None, b"x", object(), int),
    *([], {}, {"a": 1}, ["x" * 5000], ["a\0b", "\udcff"], {"zebra": ["a" * 5000]}),
    *({"zebra": [HUGE]}, [HUGE], [float("nan")], [["a"]], {None: None}, {1, 2}),
    *(np.array([1 + 2j]), np.array(object()), np.zeros((2, 2))),
)
FITTED = {"backbone": None, "embeddings": RandomEmbeddings(8), "projection": "ridge"}
PARAMETERS = [*inspect.signature(ZeroShotClassifier.__init__).parameters][1:]
X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
y = np.array(["cat", "dog", "okapi", "zebra"])[np.arange(40) % 4]


# What Python and NumPy say where nobody looked first.
RAW = ("4300 digits", "codec", "is ambiguous", "too large to convert")


def refused_or_used(use):
    """Use something; errors are ours, or scikit-learn's of its arguments."""
    told = ""
    try:
        use()
    except (ZeroShotError, TypeError, ValueError) as error:
        told = str(error)
    assert len(told) < 20_000
    assert not any(raw in told for raw in RAW), told


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARAMETERS)
def test_fit_with_a_hostile_parameter_is_refused_in_words_or_works(name):
    def use(value):
        clf = ZeroShotClassifier(**{**FITTED, name: value}).fit(X, y)
        clf.rank(X[:3], ["cat", "dog"])
        clf.explain(X[:2])

    for value in VALUES:
        refused_or_used(lambda value=value: use(value))


@pytest.mark.filterwarnings("ignore")
def test_methods_given_hostile_arguments_refuse_them_in_words():
    clf = ZeroShotClassifier(**FITTED).fit(X, y)
    for value in VALUES:
        for use in (
            lambda v: clf.rank(X[:2], v),
            lambda v: clf.explain(X[:2], v),
            lambda v: clf.label_points(v),
            lambda v: clf.predict(X[:2], ["cat"], embeddings=v),
            lambda v: clf.rank(X[:2], k=v),
            lambda v: ZeroShotClassifier(**FITTED).fit(X, v),
            lambda v: ZeroShotClassifier(**FITTED).fit(X, [v] * 20 + ["cat"] * 20),
            lambda v: clf.partial_fit(X, y, classes=v),
        ):
            refused_or_used(lambda use=use, value=value: use(value))


@pytest.mark.filterwarnings("ignore")
def test_images_that_are_hostile_values_are_refused_in_words():
    clf = ZeroShotClassifier("color-hog", RandomEmbeddings(8), projection="ridge")
    for value in VALUES:
        refused_or_used(lambda value=value: clf.fit(value, ["cat", "dog"]))
        refused_or_used(lambda value=value: clf.fit([value, value], ["cat", "dog"]))
