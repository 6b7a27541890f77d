import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge

from zeroshot.backbones.base import Backbone, card_of
from zeroshot.backbones.color_hog import ColorHOG
from zeroshot.errors import InvalidImageError, PluginContractError
from zeroshot.images import fit_image, read_image
from zeroshot.registry import resolve_backbone
from zeroshot.shapes import COLORS, SHAPES, make_shapes, shape_attributes


@pytest.fixture(scope="module")
def images():
    return make_shapes(1, random_state=3)[0]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_embed_any_count_keeps_the_contract(images, n):
    backbone = ColorHOG()
    assert isinstance(backbone, Backbone)
    features = backbone.embed(images[:n])
    assert features.shape == (n, backbone.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_embed_a_row_depends_on_its_image_only(images):
    backbone = ColorHOG()
    together = backbone.embed(images)
    np.testing.assert_array_equal(together[::-1], backbone.embed(images[::-1]))
    np.testing.assert_array_equal(together[7:8], backbone.embed(images[7:8]))


def test_embed_leaves_its_input(images):
    before = images.copy()
    before.flags.writeable = False
    ColorHOG().embed(before)
    np.testing.assert_array_equal(before, images)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_embed_flat_image_is_finite(value):
    flat = np.full((1, 64, 64, 3), value, np.uint8)
    assert np.isfinite(ColorHOG().embed(flat)).all()


def test_embed_noise_and_one_pixel_are_finite():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    noise[1] = 0
    noise[1, 30, 30] = 255
    assert np.isfinite(ColorHOG().embed(noise)).all()


def test_embed_sees_color():
    red = np.zeros((64, 64, 3), np.uint8)
    red[20:40, 20:40, 0] = 200
    one, other = ColorHOG().embed(np.stack([red, red[..., ::-1]]))
    assert np.abs(one - other).max() > 0.1


def test_embed_outline_is_the_same_turned_and_moved():
    # The last block is documented to be invariant; a quarter turn is exact.
    image = np.full((64, 64, 3), 90, np.uint8)
    image[12:20, 10:40] = image[12:44, 10:18] = (220, 30, 30)
    moved = np.roll(image, (9, 14), (0, 1))
    turned = np.rot90(image)
    features = ColorHOG().embed(np.stack([image, moved, turned, image[:, ::-1]]))
    np.testing.assert_allclose(features[1:, -90:], features[[0, 0, 0], -90:], atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
    ],
)
def test_embed_wrong_images_raise(wrong):
    with pytest.raises(InvalidImageError, match=r"\(n, 64, 64, 3\)"):
        ColorHOG().embed(wrong)


@pytest.mark.parametrize("size", [0, 40, -16, 64.0, "64", True, 99_984])
def test_embed_wrong_size_raises(size):
    with pytest.raises(PluginContractError, match="multiple of 16"):
        ColorHOG(size).embed(np.zeros((1, 64, 64, 3), np.uint8))


def test_color_hog_spec_makes_an_equal_one():
    backbone = ColorHOG(96)
    again = resolve_backbone(backbone.spec)
    assert again.fingerprint == backbone.fingerprint
    assert again.input_size == (96, 96)
    assert resolve_backbone("color-hog").fingerprint == ColorHOG().fingerprint
    assert ColorHOG(96).fingerprint != ColorHOG().fingerprint


@pytest.mark.parametrize(
    "size", ["big", "", "0", "-16", "40", "99984", "64x32", "9" * 4300, "\u0666\u0664"]
)
def test_color_hog_spec_of_a_wrong_size_raises(size):
    with pytest.raises(PluginContractError, match="Expected"):
        resolve_backbone(f"color-hog:{size}")


def test_color_hog_is_cloned_and_pickled_as_it_is():
    backbone = ColorHOG(96)
    assert clone(backbone) is backbone
    assert pickle.loads(pickle.dumps(backbone)).fingerprint == backbone.fingerprint
    assert card_of(backbone).pretraining == "nothing (no weights)"


def test_color_hog_generalises_to_unseen_combinations():
    # A linear map learnt on 48 of the 64 classes names the other 16. Chance is 1/16.
    images, labels = make_shapes(8)
    words, attributes = shape_attributes()
    row = dict(zip(words, attributes, strict=True))
    classes = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    vectors = np.array([sum(row[word] for word in name.split()) for name in classes])
    held_out = [8 * i + (i + offset) % 8 for i in range(8) for offset in (0, 3)]
    truth = np.array([classes.index(label) for label in labels])
    unseen = np.isin(truth, held_out)
    features = ColorHOG().embed(images)
    ridge = Ridge(1.0).fit(features[~unseen], vectors[truth[~unseen]])
    scores = ridge.predict(features[unseen]) @ vectors.T
    among_unseen = np.array(held_out)[scores[:, held_out].argmax(axis=1)]
    assert (among_unseen == truth[unseen]).mean() > 0.9
    assert (scores.argmax(axis=1) == truth[unseen]).mean() > 0.9


def test_color_hog_tells_photographs_apart_better_than_chance(real_data):
    folder = real_data / "images" / "caltech-classes"
    train, test, truth = [], [], []
    backbone = ColorHOG()
    for number, name in enumerate(["Leopards", "pizza", "schooner", "dolphin"]):
        files = sorted((folder / name).iterdir())[:24]
        batch = np.stack([fit_image(read_image(f), (64, 64)) for f in files])
        features = backbone.embed(batch)
        train.append(features[:16].mean(axis=0))
        test.append(features[16:])
        truth += [number] * len(features[16:])
    distance = np.linalg.norm(np.concatenate(test)[:, None] - np.stack(train), axis=2)
    assert (distance.argmin(axis=1) == truth).mean() > 0.6  # chance: 0.25
