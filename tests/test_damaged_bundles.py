"""Bundles that were damaged or forged: the same answers, or an error of ours.

``ZEROSHOT_FUZZ=1 pytest tests/test_damaged_bundles.py -s`` tries 30,000 and prints what
became of them.
"""

import copy
import hashlib
import io
import json
import resource
import shutil
import time
import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest
from damage import flips, mutations, n_cases

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ClassifierHead
from zeroshot.backbones.base import WeightsFile
from zeroshot.embeddings import Attributes
from zeroshot.errors import ArtifactError, ZeroShotError
from zeroshot.saving.bundle import record_digest
from zeroshot.shapes import shape_attributes

CANDIDATES = ["red star", "green ring", "Blue Star"]
SLOWEST = 10.0  # seconds; 2 are promised, this machine may be busy
MOST_MEMORY = 300 << 20


class Tuned:
    """A backbone whose features depend on a file in the bundle."""

    name = "tuned"
    dim = 12
    input_size = (16, 16)

    def __init__(self, content):
        self.tuned_weights = WeightsFile("backbone.weights.h5", None, content)
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def embed(self, images):
        weights = np.frombuffer(self.tuned_weights.content, np.float32)
        pixels = images.reshape(len(images), -1).astype(np.float32)
        return np.maximum(pixels[:, : len(weights) // 12] @ weights.reshape(-1, 12), 0)

    def trainable_copy(self):
        raise NotImplementedError

    def weights_of(self, model):
        raise NotImplementedError

    def with_weights(self, weights):
        return Tuned(weights.content)

    def __sklearn_clone__(self):
        return self


@pytest.fixture(scope="module")
def images():
    return make_shapes(
        3, size=16, colors=["red", "green", "blue"], shapes=["star", "ring"]
    )


@pytest.fixture(scope="module")
def backbone():
    weights = np.random.default_rng(0).normal(size=(768, 12)).astype(np.float32)
    return Tuned(weights.tobytes())


@pytest.fixture(scope="module")
def bundle(images, backbone, tmp_path_factory):
    """A small bundle that has all that can be in one."""
    X, labels = images
    seen = labels != "red star"
    head = ClassifierHead(
        (("green star", "star of green"), ("ring",)),
        np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32),
        np.zeros(2, np.float32),
    )
    clf = ZeroShotClassifier(
        backbone,
        Attributes(*shape_attributes()),
        pretrained_classes=head,
        candidate_labels={"red star": ["scarlet star"], "green ring": []},
        reject="auto",
        temperature="auto",
        cache=False,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(X[seen], labels[seen]).partial_fit(X[:1], ["okapi"])
        path = tmp_path_factory.mktemp("saved") / "model"
        clf.save(path, vocabulary=CANDIDATES)
    return path


def answers(path, backbone, X):
    clf = zeroshot.load(path, backbone=backbone)
    scores = clf.scores(X[:4], CANDIDATES)
    return (
        clf.predict(X[:4]).tolist(),
        clf.rank(X[:2], CANDIDATES),
        scores.tobytes(),
        clf.seen_classes_.tolist(),
        str(clf.label_report_),
        str(clf.label_report_.to_dict()),
    )


def used(path, backbone, X, again):
    """Load a bundle and do all that can be done with what is loaded."""
    clf = zeroshot.load(path, backbone=backbone)
    _ = str(clf), repr(clf.label_report_), str(clf.label_report_), str(clf.calibration_)
    clf.label_report_.to_dict()
    clf.predict(X[:3])
    clf.predict_proba(X[:3])
    clf.predict(X[:3], CANDIDATES)
    clf.rank(X[:2], CANDIDATES, multi_label=clf.calibration_ is not None)
    for each in clf.explain(X[:2]):
        _ = str(each)
    clf.standing(X[:2], CANDIDATES)
    clf.predict(X[:3], CANDIDATES, adapt=True)
    clf.save(again)
    clf.partial_fit(X[:2], clf.seen_classes_[[0, -1]])
    clf.predict(X[:2])


class Tally:
    """Counts what became of the cases, and how long and how large they were."""

    def __init__(self, title):
        self.title, self.counts, self.slowest = title, Counter(), (0.0, "")
        self.memory = memory()

    def tried(self, name, act):
        start = time.perf_counter()
        try:
            outcome = act()
        except ZeroShotError as error:
            outcome = type(error).__name__
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
        self.slowest = max(self.slowest, (time.perf_counter() - start, str(name)))
        self.counts[outcome] += 1
        return outcome

    def close(self):
        risen = memory() - self.memory
        seconds, case = self.slowest
        print(  # noqa: T201 - the counts are what the large run is for
            f"\n{self.title}: {self.counts.total()}: {dict(self.counts)}; slowest "
            f"{seconds:.2f} s ({case[:80]}); memory up by {risen >> 20} MiB"
        )
        assert self.slowest[0] < SLOWEST, self.slowest
        assert risen < MOST_MEMORY


def memory():
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("damage", [flips, mutations])
@pytest.mark.parametrize(
    "name", ["bundle.json", "arrays.npz", "backbone.weights.h5", "README.md"]
)
def test_damaged_file_gives_the_same_answers_or_our_error(
    name, damage, bundle, backbone, images, tmp_path
):
    X, _ = images
    expected = answers(bundle, backbone, X)
    path = shutil.copytree(bundle, tmp_path / "model")
    whole = (path / name).read_bytes()
    tally = Tally(f"{damage.__name__} of {name}")

    def act():
        assert answers(path, backbone, X) == expected
        return "right answers"

    for number, content in enumerate(damage(whole, n_cases(40, 2500), seed=7)):
        (path / name).write_bytes(content)
        outcome = tally.tried(number, act)
        assert outcome in ("right answers", "ArtifactError")
        assert name != "README.md" or outcome == "right answers"
    tally.close()


VALUES = [
    None,
    "",
    [],
    {},
    -1,
    0,
    1,
    2,
    1e308,
    -1e15,
    1e-300,
    2**63,
    10**9,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    True,
    False,
    "x",
    "x" * 5000,
    "a\0b",
    "\ud800",
    "%s%n{0}",
    "auto",
    "<U9",
    "(2,)f4",
    "../other",
    "vocabulary:99999999",
    [None],
    [1, 2],
    ["a", "a"],
    [[]],
    [[[[[[[[[[[[[[1]]]]]]]]]]]]]],
    {"arrays": 2},
    {"arrays": 10**9},
    {"a": 1},
]


def ways(node, way=()):
    """Yield the way to every value of a record."""
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in children:
        yield (*way, key)
        yield from ways(child, (*way, key))


def edit_record(record, random):
    """Change one place of a record, and return what was done."""
    places = [*ways(record)]
    way = places[int(random.integers(len(places)))]
    node = record
    for key in way[:-1]:
        node = node[key]
    old = node[way[-1]]
    doings = ["set"] * 6 + ["delete", "double", "swap", "new key"]
    doing = doings[int(random.integers(len(doings)))]
    if doing == "delete":
        del node[way[-1]]
    elif doing == "double" and isinstance(node, list):
        node.insert(way[-1], copy.deepcopy(old))
    elif doing == "swap" and isinstance(node, list):
        other = int(random.integers(len(node)))
        node[way[-1]], node[other] = node[other], old
    elif doing == "new key" and isinstance(node, dict):
        node["new"] = old
    else:
        node[way[-1]] = doing = VALUES[int(random.integers(len(VALUES)))]
    return way, str(doing)[:30]


def as_objects(array):
    return np.array([None] * len(array), object)


CHANGES = {
    "complex": lambda a: a.astype(complex),
    "NaN": lambda a: np.full(a.shape, np.nan, np.float32),
    "one NaN": lambda a: changed(a, np.nan),
    "one infinity": lambda a: changed(a, np.inf),
    "one huge": lambda a: changed(a, 1e38),
    "objects": as_objects,
    "text": lambda a: a.astype(str),
    "dates": lambda a: a.astype("M8[D]") if a.dtype.kind == "i" else a.astype("m8[s]"),
    "empty": lambda a: a[:0],
    "flat": np.ravel,
    "single": lambda a: a.ravel()[0],
    "one more axis": lambda a: a[..., None],
    "turned": lambda a: a.T,
    "a row less": lambda a: a[:-1],
    "a row more": lambda a: np.concatenate([a, a[:1]]),
    "a column less": lambda a: a[..., :-1],
    "zeros": np.zeros_like,
    "negative": lambda a: -a - 1,
    "shuffled": lambda a: a[::-1],
    "other floats": lambda a: a.astype(np.float64 if a.itemsize == 4 else np.float32),
    "halves": lambda a: a.astype(np.float16),
    "long doubles": lambda a: a.astype(np.longdouble),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "bytes": lambda a: a.astype(np.uint8),
    "truth values": lambda a: a.astype(bool),
    "records": lambda a: np.zeros(len(a), "i4,f4"),
    "huge whole numbers": lambda a: np.full(a.shape, 2**62),
}


def changed(array, value):
    array = array.astype(np.float64 if array.dtype.kind != "f" else array.dtype)
    array.ravel()[:1] = value
    return array


def edit_arrays(arrays, random):
    names = sorted(arrays)
    name = names[int(random.integers(len(names)))]
    how = [*CHANGES, "left out", "new", "renamed"][
        int(random.integers(len(CHANGES) + 3))
    ]
    if how == "left out":
        del arrays[name]
    elif how == "new":
        arrays["projection/transform"] = arrays["projection/more_"] = np.ones(3)
    elif how == "renamed":
        arrays[f"{name}_"] = arrays.pop(name)
    else:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = CHANGES[how](arrays[name])
    return name, how


def sign(path, record, content):
    """Write a record and arrays as somebody would who knows of the digests."""
    (path / "arrays.npz").write_bytes(content)
    record["arrays_sha256"] = hashlib.sha256(content).hexdigest()
    record.pop("sha256", None)
    record["sha256"] = record_digest(record)
    (path / "bundle.json").write_text(json.dumps(record))


@pytest.mark.filterwarnings("ignore")
def test_forged_bundle_works_or_is_refused_with_our_error(
    bundle, backbone, images, tmp_path
):
    X, _ = images
    path = shutil.copytree(bundle, tmp_path / "model")
    whole = json.loads((path / "bundle.json").read_text())
    with np.load(path / "arrays.npz") as file:
        arrays = dict(file)
    stored = (path / "arrays.npz").read_bytes()
    random = np.random.default_rng(3)
    tally = Tally("forged")

    def act():
        used(path, backbone, X, tmp_path / "again")
        return "worked"

    for number in range(n_cases(150, 10_000)):
        record, content = copy.deepcopy(whole), stored
        done = []
        for _ in range(1 + number % 2):
            if random.random() < 0.6:
                done.append(edit_record(record, random))
            else:
                edited = dict(arrays)
                done.append(edit_arrays(edited, random))
                packed = io.BytesIO()
                np.savez(packed, allow_pickle=True, **edited)
                content = packed.getvalue()
        sign(path, record, content)
        tally.tried((number, *done), act)
    tally.close()
    assert tally.counts["worked"] >= 5  # most edits make it unfit


def npy(shape, kind, content=b""):
    header = io.BytesIO()
    declared = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, declared)
    return header.getvalue() + content


def archives(whole):
    """Yield forged archives that are small, and ask for a lot or mislead."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        members = [(one.filename, file.read(one)) for one in file.infolist()]

    def packed(more, method=zipfile.ZIP_STORED):
        out = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as file:
            warnings.simplefilter("ignore")  # of names that are there twice
            for name, content in [*members, *more]:
                file.writestr(name, content)
        return out.getvalue()

    zeros = npy((9 << 20,), "|u1", bytes(9 << 20))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "zeros", packed([("projection/zeros_.npy", zeros)], method)
    yield "extra", packed([("projection/zeros_.npy", npy((3,), "|u1", b"abc"))])
    yield "unused", packed([("more.npy", npy((3,), "|u1", b"abc"))])
    yield "no array", packed([("more.txt", b"abc")])
    yield "twice", packed([members[0]])
    for shape in ((1 << 40,), (0, 1 << 40), (-1, -3), (1 << 62, 1 << 62), (3.0,), ()):
        forged = npy(shape, "<f4", b"x")
        yield f"shape {shape}", packed([("projection/a_.npy", forged)])
    for kind in ("|O", "|V0", "<U0", "<U268435455", "M8[ns]", "<c8", "3f4", "f4,f4"):
        yield (
            f"kind {kind}",
            packed([("projection/a_.npy", npy((3,), kind, bytes(12)))]),
        )
    yield (
        "deep",
        packed([("projection/a_.npy", b"\x93NUMPY\1\0\xff\x7f" + b"(" * 9000)]),
    )
    many = [(f"projection/a{n}_.npy", b"") for n in range(20_000)]
    yield "many", packed(many)


@pytest.mark.filterwarnings("ignore")
def test_forged_archive_of_arrays_is_refused_at_little_cost(bundle, backbone, tmp_path):
    path = shutil.copytree(bundle, tmp_path / "model")
    whole = (path / "arrays.npz").read_bytes()
    record = json.loads((path / "bundle.json").read_text())
    cases = [*archives(whole)]  # made before memory is looked at
    tally = Tally("archives")
    for name, content in cases:
        sign(path, record, content)
        outcome = tally.tried(name, lambda: zeroshot.load(path, backbone=backbone))
        assert outcome == "ArtifactError", name
    tally.close()


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\ufeff{}",
        '"\ud800"',
        "",
    ],
    ids=[
        "twice", "nan", "infinity", "overflow", "digits", "lists", "objects", "bom",
        "surrogate", "empty",
    ],
)  # fmt: skip
def test_record_that_is_no_strict_json_is_refused(text, bundle, tmp_path):
    path = shutil.copytree(bundle, tmp_path / "model")
    (path / "bundle.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArtifactError, match=r"bundle\.json"):
        zeroshot.load(path)
