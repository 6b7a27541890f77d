"""Text modules written here, as nnlm: the numbers that they hold are the oracle."""

import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flaky_server import FlakyServer, Reply

import zeroshot
from zeroshot import ZeroShotClassifier, registry
from zeroshot.embeddings import TextEmbeddings, TFHubText
from zeroshot.embeddings.base import SupportsPhrases
from zeroshot.errors import ArtifactError, MissingExtraError, PluginContractError
from zeroshot.testing import check_text_embeddings

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

WORDS = ["zebra", "horse", "okapi", "a", "photo", "of"]
# One row more, for all words that are not listed.
ROWS = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
TEXTS = ["zebra", "a photo of a zebra", "", "quagga", "horse okapi", "zebra"]


def expected_of(texts: list[str]) -> np.ndarray:
    """What every module here computes: the mean of the rows of the words."""
    rows = [
        [ROWS[WORDS.index(word) if word in WORDS else 6] for word in text.split()]
        for text in texts
    ]
    return np.stack([np.mean(each, axis=0) if each else np.zeros(5) for each in rows])


def mean_of_words(tf, texts, table, rows):
    words = tf.strings.split(texts)
    ragged = tf.RaggedTensor.from_row_splits(
        table.lookup(words.values), words.row_splits
    )
    sums = tf.reduce_sum(tf.gather(rows, ragged), axis=1)
    counts = tf.maximum(words.row_lengths(), 1)
    return sums / tf.cast(counts, tf.float32)[:, None]


def table_of(tf, path: Path):
    """Make a table from a file, which becomes an asset of the module."""
    path.write_text("\n".join(WORDS))
    initializer = tf.lookup.TextFileInitializer(
        str(path),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)


def save_tf2(folder: Path, *, shape=(None,), signatures=True) -> Path:
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.rows = tf.Variable(ROWS)
            self.table = table_of(tf, folder.with_name("words.txt"))

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.string)])
        def __call__(self, texts):
            texts = tf.reshape(texts, [-1])
            return mean_of_words(tf, texts, self.table, self.rows)

    module = Module()
    named = {"serving_default": module.__call__} if signatures else {}
    tf.saved_model.save(module, folder, named)
    return folder


def save_tf1(folder: Path) -> Path:
    """Write the hub format: a graph without tags, an asset, a table to initialize."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    with tf.Graph().as_default(), v1.Session() as session:
        texts = v1.placeholder(tf.string, (None,))
        rows = v1.get_variable("rows", initializer=ROWS)
        table = table_of(tf, folder.with_name("words.txt"))
        vectors = mean_of_words(tf, texts, table, rows)
        to_signature = v1.saved_model.signature_def_utils.predict_signature_def
        named = {
            "default": to_signature({"text": texts}, {"default": vectors}),
            "twice": to_signature({"text": texts}, {"default": 2 * vectors}),
        }
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder.add_meta_graph_and_variables(
            session,
            [],
            named,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
    builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


def save_keras(folder: Path) -> Path:
    import keras

    words = keras.layers.TextVectorization(
        standardize=None, output_mode="int", vocabulary=WORDS, output_sequence_length=8
    )
    rows = keras.layers.Embedding(8, 5, mask_zero=True)
    inputs = keras.Input((1,), dtype="string")
    outputs = keras.layers.GlobalAveragePooling1D()(rows(words(inputs)))
    model = keras.Model(inputs, outputs)
    # Rows 0 and 1 are of no word and of an unknown one.
    rows.set_weights([np.concatenate([np.zeros((1, 5)), ROWS[6:], ROWS[:6]])])
    model.export(folder, verbose=False)
    return folder


def save(folder: Path, function, *shapes, dtype="string") -> Path:
    """Write a module of any function, with as many inputs as shapes."""
    import tensorflow as tf

    module = tf.Module()
    specs = [tf.TensorSpec(shape, getattr(tf, dtype)) for shape in shapes]
    module.call = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, folder, {"serving_default": module.call})
    return folder


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, ".")
    return archive


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    return save_tf2(tmp_path_factory.mktemp("text") / "tf2")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    server = FlakyServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    "write",
    [
        save_tf2,
        lambda folder: save_tf2(folder, signatures=False),
        lambda folder: save_tf2(folder, shape=(4,)),
        lambda folder: save_tf2(folder, shape=(None, 1)),
        lambda folder: save_tf2(folder, shape=None),
        save_keras,
        save_tf1,
    ],
    ids=["tf2", "callable", "batch-4", "column", "no-shape", "keras", "tf1-hub"],
)
def test_text_module_of_every_kind_encodes_phrases(tmp_path, write):
    texts = TEXTS[:2] + TEXTS[3:] if write is save_keras else TEXTS
    embeddings = TFHubText(write(tmp_path / "module"))
    vectors = embeddings.encode(texts)
    assert (embeddings.dim, vectors.dtype) == (5, np.float32)
    np.testing.assert_allclose(vectors, expected_of(texts), rtol=1e-5, atol=1e-6)


def test_text_module_keeps_its_contracts(module):
    embeddings = TFHubText(module)
    assert isinstance(embeddings, TextEmbeddings)
    assert isinstance(embeddings, SupportsPhrases)
    check_text_embeddings(embeddings, known=["zebra", "okapi", "never heard of"])
    assert embeddings.encode([]).shape == (0, 5)
    for wrong in ("zebra", ["zebra", 7]):
        with pytest.raises(PluginContractError):
            embeddings.encode(wrong)


def test_many_texts_are_encoded_as_one_by_one(module):
    embeddings = TFHubText(module)
    texts = [" ".join(WORDS[: n % 7]) for n in range(300)]
    vectors, found = embeddings.lookup(texts)
    assert found.all()
    np.testing.assert_allclose(vectors, expected_of(texts), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(embeddings.encode(texts), vectors)


def test_texts_that_are_no_unicode_have_vectors_as_unknown_words(module):
    vectors = TFHubText(module).encode(["\udcff", "a\0b", "\x1b[31m"])
    np.testing.assert_allclose(vectors, ROWS[[6, 6, 6]], rtol=1e-6)


def test_folder_archive_and_address_of_text_are_the_same(module, tmp_path, server):
    archive = pack(module, tmp_path / "module.tar.gz")
    url = server.serve("/m.tar.gz", Reply(archive.read_bytes()))
    folder = TFHubText(module)
    for handle in (archive, str(archive), archive.as_uri(), url):
        same = TFHubText(handle)
        assert same.fingerprint == folder.fingerprint
        np.testing.assert_array_equal(same.encode(TEXTS), folder.encode(TEXTS))
    assert len(server.requests) == 1
    other = save_tf2(tmp_path / "other", shape=(4,))
    assert TFHubText(other).fingerprint != folder.fingerprint


def test_spec_string_of_text_round_trips(module, monkeypatch):
    embeddings = registry.resolve_embeddings(f"tfhub:{module}")
    assert registry.spec_of(embeddings) == f"tfhub:{module}"
    monkeypatch.chdir(module.parent)
    assert TFHubText(module.name).spec == f"tfhub:{module}"
    assert TFHubText("https://tfhub.dev/google/m/1").spec.endswith("/google/m/1")
    assert TFHubText("https://host/m?token=hidden").spec is None
    with pytest.raises(PluginContractError, match="after a colon"):
        registry.resolve_embeddings("tfhub")


def test_unpickled_text_module_encodes_the_same(module):
    embeddings = TFHubText(module)
    vectors = embeddings.encode(TEXTS)
    restored = pickle.loads(pickle.dumps(embeddings))
    np.testing.assert_array_equal(restored.encode(TEXTS), vectors)


def test_classifier_with_a_text_module_is_saved_and_names_no_program(module, tmp_path):
    X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    y = np.array(WORDS[:2])[np.arange(40) % 2]
    clf = ZeroShotClassifier(None, f"tfhub:{module}", projection="ridge").fit(X, y)
    answers = clf.predict(X, ["zebra", "okapi"])
    clf.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"a program \('tfhub:'\).*embeddings="):
        zeroshot.load(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model", embeddings=TFHubText(module))
    assert (loaded.predict(X, ["zebra", "okapi"]) == answers).all()


def test_modules_of_anything_but_texts_to_vectors_are_refused(tmp_path):
    import tensorflow as tf

    def vectors(texts):
        return tf.zeros((tf.size(texts), 5))

    many = (None,)
    cases = {
        "images": (save(tmp_path / "1", vectors, (None, 8, 8, 3), dtype="float32")),
        "two": save(tmp_path / "2", lambda a, b: vectors(a + b), many, many),
        "pairs": save(tmp_path / "3", vectors, (None, 2)),
        "scores": save(tmp_path / "4", lambda t: tf.zeros(tf.size(t)), many),
        "ids": save(tmp_path / "5", tf.strings.length, many),
        "map": save(tmp_path / "6", lambda t: tf.zeros((tf.size(t), 2, 5)), many),
        "ragged": save(
            tmp_path / "9", lambda t: tf.strings.unicode_decode(t, "UTF-8"), many
        ),
        "fewer": save(tmp_path / "7", lambda t: tf.zeros((1, 5)), many),
        "names": save(
            tmp_path / "8", lambda t: {"a": vectors(t), "b": vectors(t)}, many
        ),
    }
    said = {
        "images": "whose inputs are .*float32",
        "two": "one input.*string",
        "pairs": "one input.*string",
        "scores": r"float32 of shape \(2,\)",
        "ids": r"int32 of shape \(2,\)",
        "map": r"float32 of shape \(2, 2, 5\)",
        "ragged": "int32",
        "fewer": r"one for each of 2 texts.*shape \(1, 5\)",
        "names": "has 'a', 'b'",
    }
    for name, folder in cases.items():
        with pytest.raises(PluginContractError, match=said[name]):
            _ = TFHubText(folder).dim


def test_what_a_module_cannot_encode_raises_in_words(tmp_path):
    import tensorflow as tf

    def to_numbers(texts):
        return tf.strings.to_number(texts)[:, None]

    def to_logarithm(texts):
        return tf.math.log(tf.cast(tf.strings.length(texts), tf.float32))[:, None]

    logarithm = TFHubText(save(tmp_path / "logarithm", to_logarithm, (None,)))
    np.testing.assert_allclose(logarithm.encode(["ab"]), [[np.log(2)]], rtol=1e-6)
    with pytest.raises(PluginContractError, match=r"Expected finite vectors.*for ''"):
        logarithm.encode(["ab", ""])
    with pytest.raises(PluginContractError, match="InvalidArgumentError"):
        TFHubText(save(tmp_path / "numbers", to_numbers, (None,))).encode(["1"])


def test_module_that_needs_tensorflow_text_names_the_extra(tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def lowered(texts):
        return tf.zeros((tf.size(tf.strings.lower(texts)), 5))

    folder = save(tmp_path / "module", lowered, (None,))
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "StringLower":
                node.op = "NoSuchOperationOfText"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((MissingExtraError, ArtifactError)) as caught:
        TFHubText(folder).encode(["a"])
    assert "NoSuchOperationOfText" in str(caught.value)
    if isinstance(caught.value, MissingExtraError):  # the package is not here
        assert "pip install 'zeroshot[tfhub-text]'" in str(caught.value)


def test_address_of_text_without_permission_to_download_raises(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ArtifactError, match=r"nnlm-en-dim50/2.*ZEROSHOT_OFFLINE"):
        TFHubText("https://tfhub.dev/google/nnlm-en-dim50/2").encode(["zebra"])
