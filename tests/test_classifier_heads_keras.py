"""Classifiers in Keras models; the oracle is Keras, of whole networks."""

import pickle
import threading

import numpy as np
import pytest
from head_cases import CLASSES, KERAS_WARNINGS, NAMES, RANDOM, agrees, images_of
from scipy.special import log_softmax, softmax

from zeroshot import registry
from zeroshot.backbones import KerasModel, Quantised
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.testing import check_backbone

pytestmark = KERAS_WARNINGS


def make_model(*end, seed=0):
    """Build a small network; ``end`` are its layers after the pooled features."""
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    for layer in end:
        x = layer(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:  # the biases too
        if "variance" not in weight.name:
            weight.assign(RANDOM.standard_normal(weight.shape) / 2)
    return model


def dense_ends():
    from keras import layers

    flat = layers.Flatten()
    last = {"name": "predictions"}
    return {
        "linear": (flat, layers.Dense(4, **last)),
        "softmax": (flat, layers.Dropout(0.5), layers.Dense(4, "softmax", **last)),
        "activation": (flat, layers.Dense(4), layers.Activation("softmax", **last)),
        "no bias": (flat, layers.Dense(4, use_bias=False, **last)),
        "convolution": (
            layers.Dropout(0.1),
            layers.Conv2D(4, 1),
            layers.Reshape((4,)),
            layers.Softmax(**last),
        ),
    }


def keras_model(model, **options):
    given = {"layer": "avg_pool", "logits": "predictions", "classes": CLASSES}
    return KerasModel(model, **given | options)


def raw_logits(model, images):
    """Compute what the layer before the softmax gives, by Keras."""
    output = model(images.astype(np.float32), training=False).numpy()
    return np.log(output) if (abs(output.sum(axis=1) - 1) < 1e-5).all() else output


@pytest.mark.parametrize(
    "way", ["linear", "softmax", "activation", "no bias", "convolution"]
)
@pytest.mark.parametrize("layer", ["avg_pool", "conv"])
def test_keras_dense_layer_is_found(way, layer):
    model, images = make_model(*dense_ends()[way]), images_of()
    backbone = keras_model(model, layer=layer)
    head = backbone.classifier_head()
    assert (head.class_names, head.weights.shape) == (NAMES, (6, 4))
    weights = next(each for each in model.layers[::-1] if each.weights).get_weights()
    np.testing.assert_array_equal(head.weights, weights[0].reshape(6, 4))
    np.testing.assert_array_equal(head.bias, [*weights, np.zeros(4)][1])
    logits, expected = backbone.logits(images), raw_logits(model, images)
    np.testing.assert_allclose(
        log_softmax(logits, axis=1), log_softmax(expected, axis=1), atol=1e-4
    )
    np.testing.assert_array_equal(
        logits, backbone.embed(images) @ head.weights + head.bias
    )


def test_keras_of_more_layers_has_logits_alone():
    from keras import layers

    for activation in ("linear", "softmax"):
        model = make_model(
            layers.Flatten(),
            layers.Dense(6, "relu"),
            layers.Dense(4, activation, name="predictions"),
        )
        backbone, images = keras_model(model), images_of()
        assert backbone.classifier_head().weights is None
        logits = backbone.logits(images)
        np.testing.assert_allclose(logits, raw_logits(model, images), atol=1e-4)
        if activation == "softmax":
            np.testing.assert_allclose(softmax(logits, 1).sum(1), 1, rtol=1e-5)
            check_backbone(backbone)


def test_keras_classifier_that_is_not_dense_on_these_features_is_not_taken_for_it():
    from keras import layers

    model = make_model(
        layers.BatchNormalization(),  # between the features and the dense layer
        layers.Flatten(),
        layers.Dense(4, name="predictions"),
    )
    assert keras_model(model).classifier_head().weights is None
    last = keras_model(model, layer=model.layers[-2].name)
    assert last.classifier_head().weights.shape == (6, 4)


def test_keras_file_with_a_classifier_round_trips_by_its_spec(tmp_path):
    model = make_model(*dense_ends()["softmax"])
    model.save(tmp_path / "m.keras")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    spec = (
        f"keras:{tmp_path}/m.keras?layer=avg_pool&logits=predictions"
        f"&classes={tmp_path}/names.txt"
    )
    backbone = registry.resolve_backbone(spec)
    head = backbone.classifier_head()
    again = registry.resolve_backbone(backbone.spec)
    np.testing.assert_array_equal(again.classifier_head().weights, head.weights)
    plain = registry.resolve_backbone(spec.partition("&")[0])
    assert plain.fingerprint == again.fingerprint == backbone.fingerprint
    with pytest.raises(PluginContractError, match=r"'prediction'.*mean 'predictions'"):
        keras_model(tmp_path / "m.keras", logits="prediction").classifier_head()
    unpickled = pickle.loads(pickle.dumps(backbone))
    np.testing.assert_array_equal(unpickled.classifier_head().bias, head.bias)


def test_fine_tuned_keras_model_keeps_the_classifier():
    from keras import layers

    deep = (
        layers.Flatten(),
        layers.Dense(6, "relu"),
        layers.Dense(4, name="predictions"),
    )
    for end in (dense_ends()["softmax"], deep):
        backbone, images = keras_model(make_model(*end)), images_of()
        copy, _ = backbone.trainable_copy()
        for weight in copy.trainable_weights:
            weight.assign(weight * 1.01)
        tuned = backbone.with_weights(backbone.weights_of(copy))
        assert tuned.fingerprint != backbone.fingerprint
        head, own = tuned.classifier_head(), backbone.classifier_head()
        assert head.class_names == own.class_names
        if own.weights is None:  # then the whole network is the untuned one
            agrees(tuned.logits(images), backbone.logits(images))
        else:
            np.testing.assert_array_equal(head.weights, own.weights)
            agrees(tuned.logits(images), own.logits(tuned.embed(images)))
        # A bundle has the tuned network alone, which ends at the features.
        alone = registry.resolve_backbone(tuned.tuned_weights.spec)
        with pytest.raises(NoClassifierError):
            alone.with_weights(tuned.tuned_weights).classifier_head()


def test_logits_in_threads_open_the_network_once():
    from keras import layers

    model = make_model(
        layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(4, name="predictions")
    )
    backbone, images, results = keras_model(model), images_of(), []
    threads = [
        threading.Thread(target=lambda: results.append(backbone.logits(images)))
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 8
    for each in results:
        np.testing.assert_array_equal(each, results[0])


def test_quantised_backbone_has_the_classifier_of_the_exact_one():
    exact, images = keras_model(make_model(*dense_ends()["linear"])), images_of()
    backbone = Quantised(exact)
    head = backbone.classifier_head()
    np.testing.assert_array_equal(head.weights, exact.classifier_head().weights)
    agrees(backbone.logits(images), head.logits(backbone.embed(images)))
    with pytest.raises(NoClassifierError):
        Quantised(KerasModel(exact.model, layer="avg_pool")).classifier_head()
