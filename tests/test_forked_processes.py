"""Processes forked after a first use, and many threads, get the features of one thread.

Each test is a program of its own, which is killed where it hangs.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zeroshot.backbones import TFHub

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    # Keras 3.15 with NumPy 2.4, whenever it writes weights.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword"
    ),
]

MAKE = """
import os, sys, threading, warnings
import numpy as np
from zeroshot import registry
from zeroshot.errors import PluginError
warnings.simplefilter("ignore")
backbone = registry.resolve_backbone(sys.argv[1])
size = backbone.input_size
images = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
expected = backbone.embed(images)
"""
THREADS_THEN_FORKS = """
same = []
def embed(i):
    same.append(np.array_equal(backbone.embed(images[i % 3 :]), expected[i % 3 :]))
threads = [threading.Thread(target=embed, args=(i,)) for i in range(64)]
for each in threads: each.start()
for each in threads: each.join()
print(len(same), all(same), flush=True)
# Destructors run as well, but for ONNX Runtime: once it is imported, a forked process
# hangs in its exit handlers, whatever it does.
end = os._exit if backbone.name == "onnx" else sys.exit
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        end(0 if np.array_equal(backbone.embed(images), expected) else 1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children])
print(np.array_equal(backbone.embed(images), expected))
"""
ANSWER = "64 True\n[0, 0, 0, 0]\nTrue\n"
FORK_WHILE_LOADING = """
import time
other = registry.resolve_backbone(sys.argv[1])
thread = threading.Thread(target=other.embed, args=(images,))
thread.start()
time.sleep(0.01)
child = os.fork()
if child == 0:
    os._exit(not np.array_equal(other.embed(images), expected))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
REFUSE = """
child = os.fork()
if child == 0:
    try:
        backbone.embed(images)
    except PluginError as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(program: str, spec: str, **environment: str) -> str:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE + program, spec],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, errors
    return printed


@pytest.fixture
def model(tmp_path) -> Path:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(32, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(8)(x)).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.fixture
def litert(tmp_path, model, cache_folder) -> Path:
    import keras
    import tensorflow as tf

    network = keras.models.load_model(model, compile=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    return tmp_path / "model.tflite"


def test_converted_network_serves_forks_and_threads(model):
    # The first program converts the network, so TensorFlow has run when it forks.
    assert run(THREADS_THEN_FORKS, f"keras:{model}") == ANSWER


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of TensorFlow's converter
def test_litert_file_serves_forks_and_threads(litert):
    assert run(THREADS_THEN_FORKS, f"litert:{litert}?scaling=tf") == ANSWER


def test_onnx_file_serves_forks_and_threads(real_data):
    pytest.importorskip("onnxruntime")
    path = real_data / "onnx" / "efficientnet-lite0.onnx"
    spec = f"onnx:{path}?scaling=tf&output=features"
    assert run(THREADS_THEN_FORKS, spec) == ANSWER


@pytest.mark.slow
def test_mobilenet_serves_forks_and_threads(real_data):
    home = str(real_data / "keras")
    assert run(THREADS_THEN_FORKS, "mobilenet-v2", KERAS_HOME=home) == ANSWER


def test_fork_while_another_thread_loads_a_network_does_not_hang(model):
    # With its size said, a kept conversion is all that the child must open.
    assert run(FORK_WHILE_LOADING, f"keras:{model}?size=64") == "0\n"


@pytest.mark.slow
def test_network_that_tensorflow_runs_says_what_to_do_after_a_fork(tmp_path):
    import tensorflow as tf

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, axis=(1, 2))

    tf.saved_model.save(Mean(), tmp_path / "module")
    assert TFHub(tmp_path / "module").dim == 3
    printed = run(REFUSE, f"tfhub:{tmp_path / 'module'}")
    assert printed.endswith("\n7\n")
    assert "forked after TensorFlow had run" in printed
    assert "'spawn' or 'forkserver'" in printed
