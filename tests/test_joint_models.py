"""Joint models against transformers, on the same random weights."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from joint_cases import clip_reference, photographs, siglip_reference
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from zeroshot import ZeroShotClassifier, registry
from zeroshot.errors import ArtifactError, LabelError, PluginContractError
from zeroshot.projections import Identity
from zeroshot.testing import check_backbone, check_text_embeddings

pytest.importorskip("torch")
pytest.importorskip("transformers")

# Upper case, punctuation, words that are cut into pieces, spaces.
TEXTS = [
    "a photo of the cat",
    "A Photo of the CAT!",
    "dog",
    "a drawing of  the zebra, red.",
    "unheard-of thing's",
    "",
]
LONG = "a photo of the cat and the dog " * 20
LABELS = ["cat", "dog", "red star", "zebra", "blue ring", "Picture"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_reference(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return siglip_reference(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory):
    return siglip_reference(tmp_path_factory.mktemp("siglip2"), second=True)


@pytest.fixture(scope="module")
def images():
    return photographs(8)


@pytest.fixture(params=["clip", "siglip", "siglip2"])
def reference(request):
    return request.getfixturevalue(request.param)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def spec(reference):
    return f"clip:{reference.folder}"


def test_features_equal_those_of_transformers(reference, images):
    clf = ZeroShotClassifier(spec(reference), cache=False)

    points = clf.transform(images)

    wanted = unit(reference.image_vectors(images))
    np.testing.assert_allclose(unit(points), wanted, atol=1e-4)


def test_vectors_of_texts_equal_those_of_transformers(reference):
    model = registry.resolve_embeddings(spec(reference))
    texts = [*TEXTS, LONG]

    vectors = model.encode(texts)

    wanted = unit(reference.text_vectors(texts))
    np.testing.assert_allclose(unit(vectors), wanted, atol=1e-4)
    assert np.ptp(vectors, axis=0).max() > 0.1  # they do differ


def test_probabilities_equal_those_of_transformers(reference, images):
    clf = ZeroShotClassifier(spec(reference), templates="a photo of the {}.")
    texts = [f"a photo of the {label}." for label in LABELS]

    found = clf.predict_proba(images, LABELS, multi_label=reference.bias is not None)

    wanted = reference.probabilities(images, texts)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    best = clf.predict(images, LABELS)
    assert best.tolist() == [LABELS[i] for i in wanted.argmax(axis=1)]
    assert wanted.std() > 0.05


def test_softmax_of_a_sigmoid_model_leaves_out_its_bias(siglip, images):
    shares = ZeroShotClassifier(spec(siglip)).predict_proba(images, LABELS)

    logits = siglip.logits(images, LABELS)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "least"),
    [({"resample": 2}, 1e-2), ({"image_mean": [0.5, 0.5, 0.5]}, 1e-2)],
)
def test_pixels_follow_the_folders_settings(clip, images, tmp_path, change, least):
    shutil.copytree(clip.folder, tmp_path / "other")
    file = tmp_path / "other" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    ours, other = (
        registry.resolve_backbone(f"clip:{folder}")
        for folder in (clip.folder, tmp_path / "other")
    )

    assert ours.fingerprint != other.fingerprint
    points = [
        ZeroShotClassifier(model, cache=True).transform(images)
        for model in (ours, other)
    ]
    assert abs(points[0] - points[1]).max() > least


def test_photographs_times_labels_equal_transformers(clip, real_data):
    root = real_data / "images" / "caltech-classes"
    files = sorted(root.glob("*/*"))
    files = files[:: len(files) // 200][:200]
    labels = sorted(folder.name for folder in root.iterdir())
    labels = [*labels, *(f"drawn {label}" for label in labels)][:50]
    templates = ["a photo of a {}.", "a drawing of the {}."]
    clf = ZeroShotClassifier(spec(clip), templates=templates, cache=False)

    found = clf.predict_proba(files, labels)

    names = [label.replace("_", " ") for label in labels]
    per_template = [
        unit(clip.text_vectors([template.format(name) for name in names]))
        for template in templates
    ]
    text = unit(np.mean(per_template, axis=0))
    image = clip.image_vectors([Image.open(file).convert("RGB") for file in files])
    logits = 100 * unit(image) @ text.T
    wanted = np.exp(logits - logits.max(axis=1, keepdims=True))
    wanted /= wanted.sum(axis=1, keepdims=True)
    assert found.shape == (200, 50)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    order = [[each.label for each in best] for best in clf.rank(files, labels, k=50)]
    assert order == [[labels[i] for i in row] for row in np.argsort(-logits, axis=1)]
