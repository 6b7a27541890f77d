"""Classifiers in LiteRT files and saved models; the oracle are their arrays."""

from pathlib import Path

import numpy as np
import pytest
from head_cases import (
    BIAS,
    CLASSES,
    EMBED,
    KERAS_WARNINGS,
    KERNEL,
    agrees,
    features_of,
    images_of,
)

from zeroshot import registry
from zeroshot.backbones import LiteRTModel, TFHub
from zeroshot.testing import check_backbone

pytestmark = KERAS_WARNINGS


def two_outputs(*, relu=False):
    """Return a module of TensorFlow with features and logits, and its function."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.embed = tf.Variable(EMBED)
            self.kernel, self.offset = tf.Variable(KERNEL), tf.Variable(BIAS)

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images):
            features = tf.reduce_mean(images, axis=(1, 2)) @ self.embed
            logits = features @ self.kernel + self.offset
            if relu:
                logits = tf.nn.relu(logits) - 1
            return {"features": features, "logits": logits}

    module = Module()
    return module, module.__call__.get_concrete_function()


def save_litert(path: Path, *, relu=False, quantised=False) -> Path:
    import tensorflow as tf

    module, function = two_outputs(relu=relu)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        pixels = images_of(20) / np.float32(255)
        converter.representative_dataset = lambda: ([p[None]] for p in pixels)
    path.write_bytes(converter.convert())
    return path


def litert_model(path, **options):
    """Make the backbone; converted outputs have numbers for names."""
    names = dict(zip((5, 4), litert_outputs(path), strict=True))
    given = {"scaling": "unit", "output": names[5], "logits": names[4]}
    return LiteRTModel(path, **given | {"classes": CLASSES} | options)


def litert_outputs(path) -> list[str]:
    """Return the names of the outputs, that of 5 features first."""
    from zeroshot.backbones.keras.litert_conversion import interpreter_of

    outputs = interpreter_of(path.read_bytes()).get_output_details()
    return [each["name"] for each in sorted(outputs, key=lambda o: -o["shape"][-1])]


def test_litert_dense_layer_is_found_and_its_spec_round_trips(tmp_path):
    path, images = save_litert(tmp_path / "m.tflite"), images_of()
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    backbone = litert_model(path, classes=tmp_path / "names.txt")
    head = backbone.classifier_head()
    np.testing.assert_array_equal(head.weights, KERNEL)
    np.testing.assert_array_equal(head.bias, BIAS)
    logits = backbone.logits(images)
    np.testing.assert_array_equal(logits, backbone.embed(images) @ KERNEL + BIAS)
    agrees(logits, features_of(images) @ KERNEL + BIAS)
    again = registry.resolve_backbone(backbone.spec)
    np.testing.assert_array_equal(again.logits(images), logits)
    check_backbone(backbone)


@pytest.mark.parametrize("options", [{"relu": True}, {"quantised": True}])
def test_litert_of_more_layers_or_of_bytes_has_logits_alone(tmp_path, options):
    backbone = litert_model(save_litert(tmp_path / "m.tflite", **options))
    images = images_of()
    assert backbone.classifier_head().weights is None
    dense = features_of(images) @ KERNEL + BIAS
    expected = np.maximum(dense, 0) - 1 if options.get("relu") else dense
    agrees(backbone.logits(images), expected, 0.05 if "quantised" in options else 1e-5)


def test_saved_model_has_its_classifier(tmp_path):
    import tensorflow as tf

    module, function = two_outputs()
    folder = str(tmp_path / "module")
    tf.saved_model.save(module, folder, signatures=function)
    backbone = TFHub(folder, output="features", logits="logits", classes=CLASSES)
    np.testing.assert_array_equal(backbone.classifier_head().weights, KERNEL)
    agrees(backbone.logits(images_of()), features_of(images_of()) @ KERNEL + BIAS)
    assert "&logits=logits" not in (backbone.spec or "")  # its classes are a list
