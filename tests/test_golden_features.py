"""Features of the real backbones are those that were written down once.

They are of plain Keras 3.15 (``Model.predict``), of a drawn pattern and of the
photograph of a cat in scikit-image: the eight largest, and the sum of all.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot.backbones import KerasApplication, KerasModel

GOLDEN = {
    ("mobilenet-v2", "pattern"): (
        [776, 1246, 683, 328, 743, 520, 892, 505],
        [5.0176, 4.6057, 4.3466, 4.2757, 4.0732, 4.0405, 4.0288, 4.0013],
        447.296,
    ),
    ("mobilenet-v2", "cat"): (
        [1039, 832, 1166, 915, 220, 58, 752, 18],
        [3.7226, 3.2664, 3.1081, 3.0916, 2.6274, 2.5364, 2.5047, 2.4152],
        305.426,
    ),
    ("mobilenet-0.75", "pattern"): (
        [68, 267, 765, 542, 35, 140, 167, 264],
        [5.6268, 5.0403, 4.4455, 4.3633, 4.2385, 3.7692, 3.6682, 3.6007],
        229.071,
    ),
    ("mobilenet-0.75", "cat"): (
        [743, 401, 562, 293, 403, 385, 387, 473],
        [4.7116, 4.5744, 4.4265, 4.3702, 4.2756, 4.0231, 3.7798, 3.5958],
        674.551,
    ),
}
NO_TOP = "mobilenet_7_5_224_tf_no_top.h5"


def image_of(name: str) -> np.ndarray:
    if name == "cat":
        image = Image.open(files("skimage.data") / "chelsea.png").convert("RGB")
        return np.asarray(image.resize((224, 224)))
    rows, columns = np.mgrid[0:224, 0:224]
    return np.stack([rows, columns, rows ^ columns], axis=-1).astype(np.uint8)


def backbone_of(name: str, real_data: Path):
    folder = real_data / "keras"
    if name == "mobilenet-v2":
        return KerasApplication()
    weights = folder / "models" / NO_TOP
    if not weights.is_file():
        pytest.skip(f"needs the weights '{NO_TOP}' in {weights.parent}")
    import keras

    model = keras.applications.MobileNet(
        alpha=0.75, include_top=False, pooling="avg", weights=weights
    )
    return KerasModel(model, scaling="tf", input_size=224)


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")  # of Keras, for 224
@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in GOLDEN))
def test_real_backbone_has_golden_features(name, real_data, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    backbone = backbone_of(name, real_data)
    for image in ("pattern", "cat"):
        positions, values, total = GOLDEN[name, image]
        features = backbone.embed(image_of(image)[None])[0]
        best = np.argsort(-features)[: len(positions)]
        np.testing.assert_array_equal(best, positions)
        np.testing.assert_allclose(features[positions], values, rtol=1e-3)
        assert features.sum() == pytest.approx(total, rel=1e-3)
