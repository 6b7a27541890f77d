"""Joint models against transformers, on the same random weights."""

import base64
import io
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_runs import succeed
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
    return photographs(6)


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


def test_model_keeps_the_contracts_of_both_sides(reference):
    check_backbone(registry.resolve_backbone(spec(reference)))
    check_text_embeddings(
        registry.resolve_embeddings(spec(reference)), known=["cat", "a red star"]
    )


def test_unfitted_model_answers_by_every_method(clip, images):
    clf = ZeroShotClassifier(spec(clip))
    scores = clf.decision_function(images, LABELS)

    logits = clip.logits(images, LABELS)
    np.testing.assert_allclose(100 * scores, logits, atol=1e-2)
    assert clf.temperature_ == pytest.approx(0.01)
    ranked = clf.rank(images, LABELS, k=2)
    explained = clf.explain(images, LABELS, k=2)
    best = clf.predict(images, LABELS)
    assert [r[0].label for r in ranked] == best.tolist()
    assert [e.prediction for e in explained] == best.tolist()
    assert clf.score(images, best) == 1
    assert clf.predict(images, LABELS, adapt=True).shape == (len(images),)
    points = clf.points(images)
    np.testing.assert_array_equal(clf.scores(points, LABELS), scores)
    assert not [name for name in vars(clf) if name.endswith("_")]


def test_unfitted_model_without_candidates_is_told_to_name_some(clip, images):
    clf = ZeroShotClassifier(spec(clip))

    with pytest.raises(LabelError, match="candidate_labels"):
        clf.predict(images)
    with pytest.raises(AttributeError):
        clf.classes_  # noqa: B018
    named = ZeroShotClassifier(spec(clip), candidate_labels=LABELS)
    assert named.classes_.tolist() == LABELS
    np.testing.assert_array_equal(named.predict(images), clf.predict(images, LABELS))


@pytest.mark.parametrize(
    "setting", [{"reject": "auto"}, {"seen_penalty": "auto"}, {"temperature": "auto"}]
)
def test_unfitted_model_refuses_what_only_a_fit_finds(clip, images, setting):
    with pytest.raises(ValueError, match="before a fit"):
        ZeroShotClassifier(spec(clip), **setting).predict(images, LABELS)


def test_unfitted_model_of_a_softmax_rates_no_label_by_itself(clip, images):
    with pytest.raises(ValueError, match="fit that calibrates"):
        ZeroShotClassifier(spec(clip)).predict_proba(images, LABELS, multi_label=True)


def test_unfitted_model_rejects_by_a_number(clip, images):
    clf = ZeroShotClassifier(spec(clip))
    best = clf.scores(images, LABELS).max(axis=1)

    clf.set_params(reject=float(np.median(best)))

    is_known = clf.predict(images, LABELS) != "unknown"
    assert is_known.tolist() == (best >= np.median(best)).tolist()


def test_unfitted_model_follows_parameters_that_change(clip, siglip, images):
    clf = ZeroShotClassifier(spec(clip))
    before = clf.predict_proba(images, LABELS)

    clf.set_params(backbone=spec(siglip))
    other = clf.predict_proba(images, LABELS)
    clf.set_params(backbone=spec(clip), templates="a drawing of the {}")
    drawn = clf.predict_proba(images, LABELS)
    clf.set_params(templates=None, projection=Identity(logit_scale=1))
    flat = clf.predict_proba(images, LABELS)
    clf.set_params(projection__logit_scale=100)

    assert abs(before - other).max() > 0.01
    assert abs(before - drawn).max() > 0.01
    assert flat.max() < 0.5
    np.testing.assert_array_equal(clf.predict_proba(images, LABELS), before)


def test_clones_pickles_and_threads_answer_alike(clip, images):
    clf = ZeroShotClassifier(spec(clip), cache=False)
    wanted = clf.predict_proba(images, LABELS)

    again = [clone(clf), pickle.loads(pickle.dumps(clf))]
    fresh = ZeroShotClassifier(spec(clip), cache=False)
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda _: fresh.predict_proba(images, LABELS), range(8))]

    for found in [*(each.predict_proba(images, LABELS) for each in again), *answers]:
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert len(pickle.dumps(clf)) < 10_000


def test_unfitted_model_predicts_in_a_pipeline(clip, images):
    pipeline = make_pipeline(ZeroShotClassifier(spec(clip)))

    best = pipeline.predict(images, candidate_labels=LABELS)

    assert (
        best.tolist() == ZeroShotClassifier(spec(clip)).predict(images, LABELS).tolist()
    )


def test_features_of_the_model_need_no_backbone(clip, images):
    clf = ZeroShotClassifier(spec(clip))
    features = clf.transform(images)

    found = ZeroShotClassifier(None, spec(clip)).predict_proba(features, LABELS)

    np.testing.assert_allclose(found, clf.predict_proba(images, LABELS), atol=1e-6)


def test_other_projections_need_a_fit(clip, images):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        ZeroShotClassifier(spec(clip), projection="ridge").predict(images, LABELS)
    with pytest.raises(NotFittedError):
        ZeroShotClassifier("color-hog", "random").predict(images, LABELS)
    with pytest.raises(NotFittedError):
        ZeroShotClassifier(None, None).predict(np.ones((2, 3)), LABELS)
    with pytest.raises(NotFittedError):
        ZeroShotClassifier(spec(clip), "random:16").predict(images, LABELS)


def test_saved_unfitted_model_answers_as_before(clip, images, tmp_path):
    import zeroshot

    clf = ZeroShotClassifier(spec(clip), candidate_labels=LABELS, templates="a {}")
    wanted = clf.predict_proba(images)

    clf.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")

    np.testing.assert_array_equal(loaded.predict_proba(images), wanted)
    np.testing.assert_array_equal(
        loaded.predict(images, ["cat", "dog"]), clf.predict(images, ["cat", "dog"])
    )


def test_loaded_model_is_opened_once(clip, images, tmp_path):
    import zeroshot

    labels = np.array(["cat", "dog"] * (len(images) // 2))
    clf = ZeroShotClassifier(spec(clip)).fit(images, labels)
    clf.save(tmp_path / "model")

    loaded = zeroshot.load(tmp_path / "model")

    assert loaded.backbone_ is loaded.embeddings_
    wanted = clf.predict_proba(images, LABELS)
    np.testing.assert_array_equal(loaded.predict_proba(images, LABELS), wanted)
    again = clone(loaded).fit(images, labels)
    assert again.backbone_ is again.embeddings_


def test_bundle_of_a_changed_model_is_refused(clip, images, tmp_path):
    import zeroshot
    from zeroshot.errors import FingerprintMismatchError

    shutil.copytree(clip.folder, tmp_path / "clip")
    clf = ZeroShotClassifier(f"clip:{tmp_path / 'clip'}", candidate_labels=LABELS)
    clf.save(tmp_path / "model")
    file = tmp_path / "clip" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"resample": 2}))

    with pytest.raises(FingerprintMismatchError):
        zeroshot.load(tmp_path / "model").predict(images)


@pytest.mark.parametrize(
    "missing", ["tokenizer.json", "config.json", "text_model.onnx"]
)
def test_folder_that_lacks_a_file_is_told(clip, tmp_path, images, missing):
    shutil.copytree(clip.folder, tmp_path / "clip")
    (tmp_path / "clip" / missing).unlink()

    with pytest.raises(ArtifactError, match=missing):
        ZeroShotClassifier(f"clip:{tmp_path / 'clip'}").predict(images, LABELS)


@pytest.mark.parametrize("kind", ["backbone", "embeddings"])
def test_bundle_may_name_a_folder_here_and_nothing_that_is_fetched(clip, kind):
    tag = "clip:open_clip:ViT-B-32?weights=openai"

    assert registry.why_untrusted(kind, spec(clip)) == ""
    assert "fetched" in registry.why_untrusted(kind, tag)


def test_command_line_needs_neither_model_nor_embeddings(clip, images, tmp_path):
    photo = tmp_path / "photo.png"
    images[0].save(photo)
    labels = ["cat", "dog", "zebra"]
    best = ZeroShotClassifier(spec(clip)).rank(images[:1], labels, k=3)[0]

    said = succeed(
        *("predict", photo, "--backbone", spec(clip), "--labels", ",".join(labels)),
        *("--format", "json"),
    )

    ranked = json.loads(said.stdout)[0]["ranked"]
    assert [each["label"] for each in ranked] == [each.label for each in best]
    assert ranked[0]["probability"] == pytest.approx(best[0].probability, abs=1e-4)
    shown = succeed("backbones", spec(clip)).stdout
    assert "joint partner" in shown
    assert "bicubic" in shown


def test_sigmoid_model_without_its_scale_is_told(siglip, tmp_path, images):
    folder = tmp_path / "siglip"
    shutil.copytree(siglip.folder, folder)
    (folder / "zeroshot.json").unlink()

    with pytest.raises(ArtifactError, match="logit_bias"):
        ZeroShotClassifier(f"clip:{folder}").predict(images, LABELS)
    with pytest.raises(PluginContractError, match="logit_bias"):
        ZeroShotClassifier(f"clip:{folder}?logit_scale=20").predict(images, LABELS)
    named = ZeroShotClassifier(f"clip:{folder}?logit_scale=20&logit_bias=-2")
    np.testing.assert_array_equal(
        named.predict_proba(images, LABELS, multi_label=True),
        ZeroShotClassifier(spec(siglip)).predict_proba(
            images, LABELS, multi_label=True
        ),
    )


def test_unfitted_model_is_served_by_its_attributes_and_over_http(clip, images):
    from fastapi.testclient import TestClient

    from zeroshot.serving import create_app

    clf = ZeroShotClassifier(spec(clip), cache=False)
    assert clf.backbone_.dim == clf.projection_.n_features_in_
    assert clf.seen_classes_.tolist() == []
    assert not hasattr(ZeroShotClassifier("color-hog"), "backbone_")
    labels = ["a cat", "a dog"]
    file = io.BytesIO()
    images[0].save(file, "PNG")
    body = {
        "inputs": base64.b64encode(file.getvalue()).decode(),
        "parameters": {"candidate_labels": labels},
    }
    template = "a drawing of the {}"
    put = body["parameters"] | {"hypothesis_template": template}
    with TestClient(create_app(clf)) as client:
        answers = client.post("/", json=body).json()
        nothing = client.post("/", json=body | {"parameters": {}})
        in_template = client.post("/", json=body | {"parameters": put})
        put["hypothesis_template"] = "a drawing"
        bad = client.post("/", json=body | {"parameters": put})
    expected = clf.predict_proba([file.getvalue()], labels)[0]
    got = {answer["label"]: answer["score"] for answer in answers}
    np.testing.assert_allclose([got[label] for label in labels], expected, rtol=1e-6)
    assert nothing.status_code in (400, 422)
    texts = [template.format(label) for label in labels]
    expected = clf.predict_proba([file.getvalue()], texts)[0]
    got = {answer["label"]: answer["score"] for answer in in_template.json()}
    np.testing.assert_allclose([got[label] for label in labels], expected, rtol=1e-6)
    assert "X-Hypothesis-Template" not in in_template.headers
    assert bad.status_code == 422
    assert "stands once" in bad.json()["error"]
