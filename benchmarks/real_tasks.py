"""The two real zero-shot tasks that the benchmarks measure on.

They need the folder of real data in ``ZEROSHOT_DATA``; see CONTRIBUTING.md.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot import registry
from zeroshot.datasets import load_image_folder
from zeroshot.features import extract_features

VECTORS = "numberbatch-en-41k-300d.txt.gz"


@dataclass(frozen=True)
class Task:
    """Images of a task as features, and what is needed to evaluate on them."""

    name: str
    backbone: str
    features: NDArray[np.float32]
    labels: NDArray[Any]
    vectors: str


def real_data() -> Path:
    """Return the folder of real data and let Keras find its weights there."""
    if "ZEROSHOT_DATA" not in os.environ:
        sys.exit("This benchmark needs real data: set ZEROSHOT_DATA to its folder.")
    folder = Path(os.environ["ZEROSHOT_DATA"]).resolve()
    os.environ["KERAS_HOME"] = str(folder / "keras")
    return folder


def real_tasks() -> list[Task]:
    """Return Tiny-ImageNet at 128 px and the Caltech classes."""
    folder = real_data()
    images = folder / "images"
    tiny = images / "tiny-imagenet-val"
    tasks = []
    for name, backbone, root, class_names in (
        ("Tiny-ImageNet, 128 px", "mobilenet-v2:128", tiny, tiny / "class_names.tsv"),
        ("Caltech classes", "mobilenet-v2", images / "caltech-classes", None),
    ):
        paths, labels = load_image_folder(root, class_names)
        features = extract_features(paths, registry.resolve_backbone(backbone)).matrix
        vectors = str(folder / "vectors" / VECTORS)
        tasks.append(Task(name, backbone, features, labels, vectors))
    return tasks
