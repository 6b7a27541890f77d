"""The fastest route: Keras itself is the oracle, on real photographs."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot.backbones import KerasApplication, KerasModel
from zeroshot.backbones.keras.network import scale_pixels
from zeroshot.backbones.keras.table import applications

# Keras 3.15 with NumPy 2.4, whenever it writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)

FAMILIES = [
    "convnext-tiny",
    "densenet121",
    "efficientnet-b0",
    "efficientnet-v2-b0",
    "inception-resnet-v2",
    "inception-v3",
    "mobilenet",
    "mobilenet-v2",
    "mobilenet-v3-small",
    "nasnet-mobile",
    "resnet50",
    "resnet50-v2",
    "vgg16",
    "vgg19",
    "xception",
]


def photographs(side: int) -> np.ndarray:
    """Others than those with which a conversion is checked."""
    folder = files("skimage.data")
    return np.stack(
        [
            np.asarray(Image.open(folder / name).convert("RGB").resize((side, side)))
            for name in ("ihc.png", "retina.jpg", "hubble_deep_field.jpg")
        ]
    )


def make_model(seed: int = 0, size: int | None = 16):
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))


def conversions(cache: Path) -> list[Path]:
    return sorted((cache / "networks").glob("[!.]*"))


def test_features_of_a_converted_network_equal_those_of_keras(cache_folder, caplog):
    model, images = make_model(), photographs(16)
    backbone = KerasModel(model, scaling="tf")
    assert backbone.route_taken().startswith("not known before the first use")
    assert conversions(cache_folder) == []
    with caplog.at_level(logging.INFO, "zeroshot"):
        features = backbone.embed(images)
    first, last = caplog.messages
    assert "is converted for this machine" in first
    assert last == f"Converted, once for this machine. {backbone.route_taken()}."
    assert backbone.route_taken().startswith("LiteRT: speed ")
    assert len(conversions(cache_folder)) == 1
    expected = model(scale_pixels(images.astype(np.float32), "tf")).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


def test_features_are_the_same_bits_in_any_batch_and_process(tmp_path, cache_folder):
    path, images = tmp_path / "model.keras", photographs(16)
    make_model().save(path)
    features = KerasModel(path).embed(images)
    alone = [KerasModel(path).embed(images[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(alone, features)
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy\n"
        "from zeroshot.backbones import KerasModel\n"
        f"images = numpy.load({str(tmp_path / 'images.npy')!r})\n"
        f"print(KerasModel({str(path)!r}).embed(images).tobytes().hex())\n"
    )
    other = tmp_path / "other"  # so that it converts anew, and with one thread
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ZEROSHOT_CACHE": str(other)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == features.tobytes().hex()
    assert len(conversions(other)) == 1


@pytest.mark.slow
def test_kept_conversion_is_used_without_building_the_network(tmp_path):
    backbone = KerasApplication("mobilenet", weights=None, input_size=32)
    images = photographs(32)
    features = backbone.embed(images)
    np.save(tmp_path / "images.npy", images)
    program = (
        "import numpy\n"
        "from zeroshot.backbones import KerasApplication\n"
        "b = KerasApplication('mobilenet', weights=None, input_size=32)\n"
        f"images = numpy.load({str(tmp_path / 'images.npy')!r})\n"
        "print(b.embed(images).tobytes().hex())\n"
        # Keras counts layers: this is the first one of its kind in the process.
        "import keras\n"
        "print(keras.layers.GlobalAveragePooling2D().name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        features.tobytes().hex(),
        "global_average_pooling2d",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:1000] + b"\xff" + content[1001:],
        lambda content: b"x" * 100,
    ],
)
def test_damaged_conversion_is_made_again(cache_folder, damage):
    model, images = make_model(), photographs(16)
    features = KerasModel(model).embed(images)
    (path,) = conversions(cache_folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(KerasModel(model).embed(images), features)
    assert len(path.read_bytes()) == len(whole)
    assert conversions(cache_folder) == [path]


def test_conversion_of_other_weights_is_another_file(cache_folder):
    images = photographs(16)
    first = KerasModel(make_model(0)).embed(images)
    second = KerasModel(make_model(1)).embed(images)
    assert len(conversions(cache_folder)) == 2
    assert not np.allclose(first, second)


def make_inconvertible():
    """A model with an operation that LiteRT does not have."""
    import keras

    @keras.saving.register_keras_serializable("test_inference_routes")
    class Inverse(keras.layers.Layer):
        def call(self, x):
            square = x[:, :4, :4, 0] + 1000 * keras.ops.eye(4)
            return keras.ops.reshape(keras.ops.inv(square), (-1, 16))

    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, Inverse()(inputs))


def test_network_that_cannot_be_converted_runs_as_a_graph_with_a_reason(
    cache_folder, caplog
):
    model, images = make_inconvertible(), photographs(16)
    expected = model(images.astype(np.float32)).numpy()
    np.testing.assert_allclose(KerasModel(model).embed(images), expected, rtol=1e-5)
    assert "slower than LiteRT: Converter" in caplog.text
    assert KerasModel(model).route_taken().startswith("refused: Converter")
    # The next time it is not tried again, and the reason is still given.
    kept = [path.stat().st_mtime_ns for path in conversions(cache_folder)]
    caplog.clear()
    np.testing.assert_allclose(KerasModel(model).embed(images), expected, rtol=1e-5)
    assert "slower than LiteRT: Converter" in caplog.text
    assert [p.stat().st_mtime_ns for p in conversions(cache_folder)] == kept
    assert len(kept) == 1


def identity(pixels):
    return pixels


def test_network_with_other_features_after_conversion_runs_as_a_graph(
    cache_folder, caplog
):
    """The sine of large numbers shows every rounding, which no two programs share."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 5)(inputs)
    x = keras.ops.sin(1e5 * keras.layers.Flatten()(x))
    model, images = keras.Model(inputs, x), photographs(16)
    features = KerasModel(model).embed(images)
    assert "its features differ by" in caplog.text
    graph = KerasModel(model, scaling=identity)  # which is never converted
    np.testing.assert_allclose(features, graph.embed(images), atol=1e-5)
    caplog.clear()
    KerasModel(model).embed(images)  # remembered: it would be so again
    assert "its features differ by" in caplog.text
    assert len(conversions(cache_folder)) == 1


def test_conversion_that_fails_for_now_is_tried_again(
    tmp_path, cache_folder, monkeypatch, caplog
):
    model, images = make_model(), photographs(16)
    # TensorFlow converts by way of a temporary folder.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    features = KerasModel(model).embed(images)
    assert "slower than LiteRT: FileNotFoundError" in caplog.text
    assert conversions(cache_folder) == []
    monkeypatch.setattr(tempfile, "tempdir", None)
    caplog.clear()
    again = KerasModel(model).embed(images)
    np.testing.assert_allclose(again, features, rtol=1e-4, atol=1e-5 * features.max())
    assert caplog.messages == []
    assert len(conversions(cache_folder)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of Linux")
def test_full_disk_is_not_remembered(cache_folder, caplog):
    import resource

    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dense(900)(keras.layers.Flatten()(inputs))
    model, images = keras.Model(inputs, x), photographs(16)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # no file may be larger than that, and the network has 2.8 MB
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        features = KerasModel(model).embed(images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert conversions(cache_folder) == []
    assert not list((cache_folder / "networks").glob("*"))
    caplog.clear()
    again = KerasModel(model).embed(images)
    np.testing.assert_allclose(again, features, rtol=1e-4, atol=1e-5 * features.max())
    assert caplog.messages == []
    assert len(conversions(cache_folder)) == 1


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from zeroshot.backbones import KerasModel
backbone = KerasModel(sys.argv[1])
backbone.network()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
backbone.embed(np.zeros((1, 16, 16, 3), np.uint8))
"""
INTERRUPTED = """
import signal, sys
import numpy as np
from zeroshot.backbones import KerasModel
backbone = KerasModel(sys.argv[1])
backbone.network()
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
backbone.embed(np.zeros((1, 16, 16, 3), np.uint8))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of Linux")
@pytest.mark.parametrize(
    ("program", "value"),
    [
        *((SHORT_OF_MEMORY, size) for size in (1 << 20, 8 << 20, 64 << 20, 256 << 20)),
        *((INTERRUPTED, seconds) for seconds in (0.01, 0.1, 0.2, 0.3)),
    ],
)
def test_lack_of_memory_and_interruptions_are_not_remembered(
    tmp_path, cache_folder, caplog, program, value
):
    path = tmp_path / "model.keras"
    make_model().save(path)
    subprocess.run(
        [sys.executable, "-c", program, str(path), str(value)], capture_output=True
    )  # it may fail, and it may have been fast enough
    assert not KerasModel(path).route_taken().startswith("refused")
    KerasModel(path).embed(photographs(16))
    assert caplog.messages == []
    assert len(conversions(cache_folder)) == 1


def make_slow_for_litert():
    """A network of an operation for which LiteRT has a plain loop only."""
    import keras

    inputs = keras.Input((128, 128, 3))
    x = inputs
    for _ in range(20):
        x = keras.ops.arctan2(x, x + 1.5)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def test_graph_of_tensorflow_is_kept_where_it_is_faster(cache_folder):
    model, images = make_slow_for_litert(), photographs(128)
    backbone = KerasModel(model, scaling="unit")
    features = backbone.embed(images)
    assert backbone.route_taken().startswith("frozen graph")
    expected = model(images.astype(np.float32) / 255).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())
    if "in batches" not in backbone.route_taken().partition(":")[0]:
        alone = [backbone.embed(images[i : i + 1])[0] for i in range(3)]
        np.testing.assert_array_equal(alone, features)
    (kept,) = conversions(cache_folder)
    before = kept.stat().st_mtime_ns
    again = KerasModel(model, scaling="unit").embed(images)  # neither made nor timed
    np.testing.assert_array_equal(again, features)
    assert kept.stat().st_mtime_ns == before


def scale(pixels):
    return pixels / 255


def test_scaling_function_keeps_the_graph_and_says_so(cache_folder, caplog):
    with caplog.at_level(logging.INFO, "zeroshot"):
        KerasModel(make_model(), scaling=scale).embed(photographs(16))
    assert caplog.messages == ["A plain graph is used: a function scales the pixels."]
    assert conversions(cache_folder) == []


def test_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "file"))
    model, images = make_model(), photographs(16)
    expected = model(images.astype(np.float32)).numpy()
    features = KerasModel(model).embed(images)
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_processes_that_convert_at_once_leave_one_whole_file(tmp_path, cache_folder):
    path = tmp_path / "model.keras"
    make_model().save(path)
    program = (
        "import numpy\n"
        "from zeroshot.backbones import KerasModel\n"
        "images = numpy.zeros((1, 16, 16, 3), 'uint8')\n"
        f"print(KerasModel({str(path)!r}).embed(images).tobytes().hex())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(printed) == 1
    assert len(list((cache_folder / "networks").iterdir())) == 1


def test_threads_share_a_converted_network():
    backbone = KerasModel(make_model())
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    results = {}

    def embed(start: int) -> None:
        results[start] = backbone.embed(images[start : start + 10])

    threads = [threading.Thread(target=embed, args=(i,)) for i in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = np.concatenate([results[start] for start in sorted(results)])
    np.testing.assert_array_equal(together, KerasModel(make_model()).embed(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_features_of_every_family_equal_plain_keras(name, caplog):
    import keras

    backbone, images = (
        KerasApplication(name, weights=None, input_size=96),
        photographs(96),
    )
    features, model = backbone.embed(images), backbone.network().model
    if name != "efficientnet-v2-b0":  # with random weights it magnifies rounding
        assert caplog.messages == []  # it was converted
    row = applications()[name]
    module = getattr(keras.applications, row.module)
    pixels = module.preprocess_input(images.astype(np.float32))
    expected = model.predict(pixels, verbose=0)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(features - expected) / largest).max() <= 1e-4
    keras.backend.clear_session()
