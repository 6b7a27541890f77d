"""`save` in place, killed at any moment, under the eyes of readers.

``ZEROSHOT_FUZZ=1 pytest tests/test_killed_saves.py -s`` kills 60 beside 8 readers.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from damage import n_cases

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.backbones import ColorHOG
from zeroshot.embeddings import Attributes
from zeroshot.features import extract_features
from zeroshot.projections import Ridge
from zeroshot.shapes import shape_attributes

# A process for each kill, forked: what is imported takes longer than the saves.
WRITE = """
import itertools, os, sys
import zeroshot
clf = zeroshot.load("model")
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        for number in itertools.count(1):
            clf.set_params(temperature=float(number), unknown_label=f"{number} times")
            clf.save("model")
    print(child, flush=True)
    os.waitpid(child, 0)
"""

READ = """
import collections, os
import zeroshot
print("ready", flush=True)
seen = collections.Counter()
while not os.path.exists("done"):
    try:
        clf = zeroshot.load("model")
    except Exception as error:
        seen[f"{type(error).__name__}: {error}"] += 1
    else:
        whole = clf.unknown_label == f"{int(clf.temperature)} times"
        seen["whole" if whole else "mixed"] += 1
print(dict(seen))
"""


def started(code, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="others cannot exchange folders")
def test_save_killed_at_any_moment_shows_readers_whole_bundles_only(tmp_path):
    images, labels = make_shapes(4, colors=["red", "green"], shapes=["star", "ring"])
    X = extract_features(images, ColorHOG(), cache=False).matrix
    table = Attributes(*shape_attributes())
    clf = ZeroShotClassifier(None, table, projection=Ridge(), temperature=1.0)
    clf.set_params(unknown_label="1 times").fit(X, labels).save(tmp_path / "model")
    readers = [started(READ, tmp_path) for _ in range(n_cases(1, 8))]
    seeded = random.Random(4)
    writer = started(WRITE, tmp_path)
    for _ in range(n_cases(5, 60)):
        writer.stdin.write("\n")
        writer.stdin.flush()
        child = int(writer.stdout.readline())
        time.sleep(seeded.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
    writer.communicate(timeout=60)
    (tmp_path / "done").touch()
    told = [reader.communicate(timeout=60)[0] for reader in readers]
    print("\n".join(told))  # noqa: T201 - the counts are what the large run is for
    for each in told:
        assert each.startswith("{'whole': ")
        assert each.count(":") == 1
    clf.save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path)) == ["done", "model"]
    assert zeroshot.load(tmp_path / "model").predict(X).tolist() == (
        clf.predict(X).tolist()
    )
