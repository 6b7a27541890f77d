"""Models of KerasHub against the library itself, on the same random weights.

Skipped where KerasHub is not installed: it brings 220 MB, most of it tensorflow-text.
What is refused before Keras makes anything is tested without it.
"""

import json
import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cli_runs import succeed
from joint_cases import clip_words, photographs, write_siglip_pieces
from PIL import Image

import zeroshot
from zeroshot import ZeroShotClassifier, registry
from zeroshot.errors import ArtifactError, PluginContractError
from zeroshot.testing import check_backbone, check_text_embeddings

pytestmark = [
    # Keras 3.15 with NumPy 2.4, whenever it writes weights.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword"
    ),
    # KerasHub 0.32, whenever it reads a file of SentencePiece.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

SIDE, LABELS = 64, ["cat", "dog", "Red STAR!", "a very long label " * 40]
TEMPLATE = "a photo of the {}."
TEXTS = [TEMPLATE.format(label.strip()) for label in LABELS]
MEAN, DEVIATION = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
PIXELS = {
    "scale": [1 / 255 / each for each in DEVIATION],
    "offset": [-m / d for m, d in zip(MEAN, DEVIATION, strict=True)],
}


@pytest.fixture(scope="module")
def hub():
    if find_spec("keras_hub") is None:
        pytest.skip("needs KerasHub: pip install 'zeroshot[keras-hub]'")
    import keras_hub

    return keras_hub


@pytest.fixture(scope="module")
def clip(hub, tmp_path_factory):
    numbers, merges = clip_words()
    tokenizer = hub.models.CLIPTokenizer(
        numbers, [" ".join(pair) for pair in merges], pad_with_end_token=True
    )
    # As published, but for antialiasing.
    converter = hub.layers.CLIPImageConverter(
        image_size=(SIDE, SIDE), interpolation="bicubic", antialias=True, **PIXELS
    )
    backbone = _backbone(hub, "CLIP", len(numbers), projection_dim=16)
    backbone.clip_head.logit_scale.assign(np.log(20))
    preprocessor = hub.models.CLIPPreprocessor(tokenizer, converter)
    return Preset(tmp_path_factory.mktemp("clip"), backbone, preprocessor)


@pytest.fixture(scope="module")
def siglip(hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    pieces = write_siglip_pieces(folder)
    tokenizer = hub.models.SigLIPTokenizer(str(pieces), add_eos=True)
    converter = hub.layers.SigLIPImageConverter(
        image_size=(SIDE, SIDE),
        scale=1 / 127.5,
        offset=-1,
        interpolation="bicubic",
        antialias=True,
        crop_to_aspect_ratio=False,
    )
    backbone = _backbone(hub, "SigLIP", tokenizer.vocabulary_size())
    backbone.siglip_head.logit_scale.assign(np.log(20))
    backbone.siglip_head.logit_bias.assign(-2)
    preprocessor = hub.models.SigLIPPreprocessor(tokenizer, converter)
    return Preset(folder, backbone, preprocessor)


@pytest.fixture(params=["clip", "siglip"])
def preset(request):
    return request.getfixturevalue(request.param)


class Preset:
    """A folder that KerasHub wrote, and what KerasHub says itself."""

    def __init__(self, folder, backbone, preprocessor):
        self.folder, self.backbone, self.preprocessor = folder, backbone, preprocessor
        backbone.save_to_preset(str(folder))
        preprocessor.tokenizer.save_to_preset(str(folder))
        preprocessor.image_converter.save_to_preset(str(folder))
        self.spec = f"clip:keras_hub:{folder}"

    def said(self, images, texts):
        """Return image vectors, text vectors and logits; as many images as texts."""
        from keras import ops

        pixels = [self.preprocessor.image_converter(np.asarray(i)) for i in images]
        pixels = ops.stack(pixels)
        one = np.asarray(images[0])[None]
        ids = self.preprocessor({"images": one, "prompts": texts})["token_ids"]
        whole = self.backbone({"images": pixels, "token_ids": ids})
        return (
            np.asarray(self.backbone.get_vision_embeddings(pixels)),
            np.asarray(self.backbone.get_text_embeddings(ids)),
            np.asarray(whole["vision_logits"]),
        )


def _backbone(hub, family, n_tokens, **options):
    """Return a small model whose vectors differ: as it is made, they hardly do."""
    import keras

    keras.utils.set_random_seed(0)
    tower = {
        "hidden_dim": 32,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_dim": 64,
    }
    vision = getattr(hub.models, f"{family}VisionEncoder")(
        patch_size=16, image_shape=(SIDE, SIDE, 3), **tower
    )
    text = getattr(hub.models, f"{family}TextEncoder")(
        vocabulary_size=n_tokens, embedding_dim=32, **tower
    )
    made = getattr(hub.models, f"{family}Backbone")(vision, text, **options)
    for weights in made.trainable_weights:
        if "kernel" in weights.path:
            weights.assign(3 * weights)
    return made


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def squares(n):
    """Return images that need no scaling."""
    return [Image.fromarray(np.asarray(i)[:SIDE, :SIDE]) for i in photographs(n)]


def test_model_equals_the_library(preset):
    images = squares(len(TEXTS))
    image, text, logits = preset.said(images, TEXTS)
    clf = ZeroShotClassifier(preset.spec, templates=TEMPLATE)
    labels = [label.strip() for label in LABELS]

    points = clf.transform(images)
    vectors = registry.resolve_embeddings(preset.spec).encode(TEXTS)

    np.testing.assert_allclose(unit(points), unit(image), atol=1e-4)
    np.testing.assert_allclose(unit(vectors), unit(text), atol=1e-4)
    assert np.ptp(unit(vectors), axis=0).max() > 0.1  # they do differ
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(images, labels), shares, atol=1e-4)
    assert shares.std() > 0.05
    if hasattr(preset.backbone, "siglip_head"):
        rated = clf.predict_proba(images, labels, multi_label=True)
        np.testing.assert_allclose(rated, 1 / (1 + np.exp(-logits)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"interpolation": "bilinear"}])
def test_photographs_are_scaled_as_the_folder_says(preset, tmp_path, change):
    # Of even sides: KerasHub crops at whole pixels, we at the centre.
    arrays = [np.asarray(image) for image in photographs(len(TEXTS))]
    images = [a[: len(a) // 2 * 2, : a.shape[1] // 2 * 2] for a in arrays]
    shutil.copytree(preset.folder, tmp_path / "other")
    file = tmp_path / "other" / "image_converter.json"
    described = json.loads(file.read_text())
    described["config"] |= change
    file.write_text(json.dumps(described))

    points = ZeroShotClassifier(f"clip:keras_hub:{tmp_path / 'other'}").transform(
        images
    )

    # A pixel differs by 1 at most, but for those at the edges of what is cropped.
    apart = abs(unit(points) - unit(preset.said(images, TEXTS)[0])).max()
    assert (apart < 0.03) == (not change)


@pytest.mark.slow
def test_model_keeps_the_contracts_of_both_sides(preset):
    check_backbone(registry.resolve_backbone(preset.spec))
    check_text_embeddings(
        registry.resolve_embeddings(preset.spec), known=["cat", "a red star"]
    )


@pytest.mark.slow
def test_saved_model_and_pickle_answer_as_before(clip, tmp_path):
    images = squares(2)
    clf = ZeroShotClassifier(clip.spec, candidate_labels=LABELS[:3])
    wanted = clf.predict_proba(images)

    clf.save(tmp_path / "model")

    for again in (zeroshot.load(tmp_path / "model"), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(again.predict_proba(images), wanted)


def test_command_line_names_a_photograph(siglip, tmp_path):
    photo = tmp_path / "photo.png"
    images = photographs(1)
    images[0].save(photo)
    best = ZeroShotClassifier(siglip.spec).predict(images, LABELS[:3])[0]

    said = succeed(
        *("predict", photo, "-b", siglip.spec, "-l", ",".join(LABELS[:3])),
        *("--format", "json"),
    )

    assert json.loads(said.stdout)[0]["ranked"][0]["label"] == best


def test_tokenizer_of_another_model_is_told(clip, tmp_path):
    shutil.copytree(clip.folder, tmp_path / "clip")
    file = tmp_path / "clip" / "assets" / "tokenizer" / "vocabulary.json"
    words = json.loads(file.read_text())
    words["<|endoftext|>"], words["more"] = len(words), len(words) - 1
    file.write_text(json.dumps(words))

    with pytest.raises(ArtifactError, match="tokenizer of at most"):
        ZeroShotClassifier(f"clip:keras_hub:{tmp_path / 'clip'}").predict(
            squares(1), LABELS
        )


@pytest.mark.parametrize(
    "change", [{"interpolation": "nearest"}, {"scale": [1, 2]}, {"image_size": [9, 9]}]
)
def test_images_that_are_converted_in_another_way_are_told(clip, tmp_path, change):
    shutil.copytree(clip.folder, tmp_path / "clip")
    file = tmp_path / "clip" / "image_converter.json"
    said = json.loads(file.read_text())
    said["config"] |= change
    file.write_text(json.dumps(said))

    with pytest.raises(ArtifactError, match=r"image_converter\.json"):
        registry.resolve_backbone(f"clip:keras_hub:{tmp_path / 'clip'}").dim  # noqa: B018


def described(kind, **config):
    return {
        "module": "keras_hub.src.models",
        "class_name": kind,
        "config": config,
        "registered_name": f"keras_hub>{kind}",
    }


def written(folder: Path, **changes):
    """Write what is looked at before anything is made of it."""
    files = {
        "config": described("CLIPBackbone"),
        "tokenizer": described("CLIPTokenizer"),
        "image_converter": described("CLIPImageConverter"),
    }
    for name, value in (files | changes).items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "model.weights.h5").write_bytes(b"")
    return f"clip:keras_hub:{folder}"


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer": described("Lambda")},
        {"image_converter": described("CLIPImageConverter", x=[described("Lambda")])},
        {"config": described("CLIPBackbone") | {"registered_name": "mine>Class"}},
        {"config": described("CLIPBackbone", y={"class_name": "__lambda__"})},
        {"config": described("CLIPBackbone", y={"registered_name": "mine>Class"})},
        {"tokenizer": described("CLIPTokenizer", config_file="../elsewhere.json")},
        {"preprocessor": described("SigLIPPreprocessor")},
    ],
)
def test_folder_that_names_other_classes_is_refused(tmp_path, changes):
    spec = written(tmp_path, **changes)

    with pytest.raises(ArtifactError, match="which is not run"):
        registry.resolve_backbone(spec).dim  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": described("BertBackbone")}, "BertBackbone"),
        ({"config": {"model_type": "clip"}}, "SigLIPBackbone"),
        ({"config": []}, "no object"),
    ],
)
def test_folder_of_another_form_is_told(tmp_path, changes, said):
    spec = written(tmp_path, **changes)

    with pytest.raises(ArtifactError, match=said):
        registry.resolve_backbone(spec).dim  # noqa: B018


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.weights.h5"])
def test_folder_that_lacks_a_file_is_told(tmp_path, missing):
    spec = written(tmp_path)
    (tmp_path / missing).unlink()

    with pytest.raises(ArtifactError, match=missing):
        registry.resolve_backbone(spec).dim  # noqa: B018


def test_broken_weights_are_told(hub, tmp_path):
    with pytest.raises(ArtifactError, match="cannot load"):
        registry.resolve_backbone(written(tmp_path)).dim  # noqa: B018


def test_offline_no_preset_is_fetched(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    model = registry.resolve_backbone("clip:keras_hub:clip_vit_base_patch32")

    assert model.would_download()
    with pytest.raises(ArtifactError, match="ZEROSHOT_OFFLINE"):
        model.dim  # noqa: B018


def test_preset_that_nobody_publishes_is_told(hub):
    model = registry.resolve_backbone("clip:keras_hub:clip_vit_base_patch23")

    with pytest.raises(ArtifactError, match="'clip_vit_base_patch32'"):
        model.dim  # noqa: B018


@pytest.mark.parametrize("kind", ["backbone", "embeddings"])
def test_bundle_may_name_a_folder_here_and_no_preset(tmp_path, kind):
    spec = written(tmp_path)

    assert registry.why_untrusted(kind, spec) == ""
    for name in ("clip_vit_base_patch32", "hf://someone/model"):
        reason = registry.why_untrusted(kind, f"clip:keras_hub:{name}")
        assert "fetched" in reason


def test_spec_without_a_model_is_told():
    with pytest.raises(PluginContractError, match="/folder"):
        registry.resolve_backbone("clip:keras_hub:")
