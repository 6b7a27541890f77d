"""What the tests of classifiers of backbones share: arrays, class names, images."""

import numpy as np
import pytest

# Keras 3.15 with NumPy 2.4, whenever it writes weights; TensorFlow's converter.
KERAS_WARNINGS = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
]

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((5, 4)).astype(np.float32)  # features to logits
BIAS = RANDOM.standard_normal(4).astype(np.float32)
EMBED = RANDOM.standard_normal((3, 5)).astype(np.float32)  # mean colour to features
CLASSES = ["cat, house cat", "dog", "emu", "okapi"]
NAMES = (("cat", "house cat"), ("dog",), ("emu",), ("okapi",))


def images_of(n: int = 3, size=(16, 16)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), np.uint8)


def features_of(images) -> np.ndarray:
    return (images / 255).mean(axis=(1, 2)) @ EMBED


def agrees(got, expected, rtol=1e-5):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.ptp(expected))
