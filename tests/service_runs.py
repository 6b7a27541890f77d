"""What tests of the HTTP service share: it runs in a thread, or as a process."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import requests
import uvicorn

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import CallableBackbone
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.serving import create_app

LABELS = ["red star", "blue ring", "green square"]


@contextlib.contextmanager
def served(classifier, **settings):
    """Serve a classifier in a thread; give its address."""
    with running(create_app(classifier, **settings)) as address:
        yield address


@contextlib.contextmanager
def running(app):
    config = uvicorn.Config(app, port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def process(*arguments, **variables):
    """Run ``zeroshot serve`` on a free port; give the process and its address."""
    started = subprocess.Popen(
        [sys.executable, "-m", "zeroshot", "serve", "--port=0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    try:
        said = []
        for line in started.stderr:
            said.append(line)
            if found := re.search(r"http://\S+:\d+", line):
                break
        else:
            raise AssertionError("".join(said))
        yield started, found[0], said
    finally:
        started.kill()
        started.communicate()


def wait_until(is_so, seconds=20.0):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def predict(address, images, labels=None, headers=None, **fields):
    """POST images, bytes or (name, bytes), to /predict."""
    named = [one if type(one) is tuple else ("x.png", one) for one in images]
    files = [("files", one) for one in named]
    if labels is not None:
        fields["labels"] = labels
    return requests.post(
        f"{address}/predict", files=files, data=fields, headers=headers, timeout=30
    )


def metric(address, name):
    """Return the sum of a metric over its labels."""
    text = requests.get(f"{address}/metrics", timeout=30).text
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


class Slow:
    """Features of an image, mean colours of a grid, after a while; it counts."""

    def __init__(self):
        self.sizes = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.is_broken = False

    def __call__(self, images):
        self.sizes.append(len(images))
        assert self.go_on.wait(30)
        if self.is_broken:
            raise RuntimeError("no such device: /secret/path")
        n, size = len(images), images.shape[1] // 4
        return images.reshape(n, 4, size, 4, size, 3).mean(axis=(2, 4)).reshape(n, -1)


def slow_classifier(**settings):
    """Return a classifier whose network can be held up, and what holds it up."""
    images, labels = make_shapes(2, random_state=0)
    slow = Slow()
    backbone = CallableBackbone(slow, input_size=32, fingerprint=f"slow {id(slow)}")
    classifier = ZeroShotClassifier(
        backbone, Attributes(*shape_attributes()), projection="ridge", **settings
    )
    classifier.fit(images, labels)
    slow.sizes.clear()
    return classifier, slow


def noise(n, size=32, seed=0):
    """Return n different pictures as PNG files."""
    from io import BytesIO

    from PIL import Image

    made = []
    for pixels in np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)):
        file = BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        made.append(file.getvalue())
    return made
