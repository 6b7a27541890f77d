"""Models of open_clip against the library itself, on the same random weights.

Skipped where open_clip cannot be imported: it needs torchvision of the build of PyTorch
that is there, and of the build for the CPU alone there is none on the package index.
"""

import json
import warnings

import numpy as np
import pytest
from joint_cases import photographs

from zeroshot import ZeroShotClassifier, registry
from zeroshot.errors import ArtifactError, PluginContractError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import open_clip
        import torch
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs open_clip: {error}", allow_module_level=True)

SIDE, LABELS = 96, ["cat", "dog", "Red STAR!", "a very long label " * 40]
FAMILIES = {
    "clip": {},
    "clipa": {"interpolation": "bilinear", "resize_mode": "squash"},
    "siglip": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A folder of open_clip's form, of one family's preprocessing."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tower = {"width": 64, "layers": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": {**tower, "image_size": SIDE, "patch_size": 16},
        "text_cfg": {**tower, "heads": 2, "context_length": 77, "vocab_size": 49408},
    }
    if request.param == "siglip":
        config["init_logit_bias"] = -2.0
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                weights.mul_(3)
    root = tmp_path_factory.mktemp(request.param)
    save_file(model.state_dict(), root / "open_clip_model.safetensors")
    size = {"size": [SIDE, SIDE]}
    said = {"model_cfg": config, "preprocess_cfg": size | FAMILIES[request.param]}
    (root / "open_clip_config.json").write_text(json.dumps(said))
    return root


def test_model_equals_the_library(folder):
    images = photographs(8)
    name = f"local-dir:{folder}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _, transform = open_clip.create_model_and_transforms(name)
        tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    texts = [f"a photo of the {label.strip()}." for label in LABELS]
    with torch.no_grad():
        pixels = torch.stack([transform(image) for image in images])
        image = model.encode_image(pixels, normalize=True).numpy()
        text = model.encode_text(tokenizer(texts), normalize=True).numpy()
        logits = model.logit_scale.exp().item() * image @ text.T
    clf = ZeroShotClassifier(f"clip:open_clip:{folder}", templates="a photo of the {}.")

    points = clf.transform(images)
    found = clf.predict_proba(images, [label.strip() for label in LABELS])

    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, image, atol=1e-4)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    if model.logit_bias is not None:
        rated = clf.predict_proba(
            images, [label.strip() for label in LABELS], multi_label=True
        )
        wanted = 1 / (1 + np.exp(-logits - model.logit_bias.item()))
        np.testing.assert_allclose(rated, wanted, atol=1e-4)


def test_model_is_saved_by_its_name_and_found_again(folder, tmp_path):
    import zeroshot

    images = photographs(2)
    clf = ZeroShotClassifier(f"clip:open_clip:{folder}", candidate_labels=LABELS[:3])
    wanted = clf.predict_proba(images)

    clf.save(tmp_path / "model")

    loaded = zeroshot.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(images), wanted)


def test_architecture_without_weights_is_told():
    with pytest.raises(PluginContractError, match="weights"):
        registry.resolve_backbone("clip:open_clip:ViT-B-32").dim  # noqa: B018


def test_offline_no_tag_is_fetched(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    model = registry.resolve_backbone("clip:open_clip:ViT-B-32?weights=openai")

    assert model.would_download()
    with pytest.raises(ArtifactError, match="ZEROSHOT_OFFLINE"):
        model.dim  # noqa: B018
