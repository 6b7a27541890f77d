"""The two real zero-shot tasks that the benchmarks measure on.

They need the folder of real data in ``ZEROSHOT_DATA``; see CONTRIBUTING.md.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroshot import registry
from zeroshot.backbones.base import ClassifierHead, head_of
from zeroshot.datasets import load_image_folder
from zeroshot.embeddings import TextEmbeddings, open_vectors
from zeroshot.errors import OutOfVocabularyError
from zeroshot.features import extract_features
from zeroshot.labels import embed_labels
from zeroshot.training.pretrained import without_classes

VECTORS = "numberbatch-en-41k-300d.txt.gz"


@dataclass(frozen=True)
class Task:
    """Images of a task as features, and what is needed to evaluate on them."""

    name: str
    backbone: str
    features: NDArray[np.float32]
    labels: NDArray[Any]
    vectors: str
    head: ClassifierHead

    @property
    def without_vector(self) -> list[str]:
        """Classes that the vectors cannot represent."""
        return without_vector(self.labels, open_vectors(self.vectors))

    def known(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return features and labels of the classes that have a vector."""
        known = ~np.isin(self.labels, self.without_vector)
        return self.features[known], self.labels[known]

    def masked(self, unseen: NDArray[Any]) -> ClassifierHead | None:
        """Return the backbone's classifier without the classes of these names."""
        return without_classes(self.head, unseen.tolist())[0]


def without_vector(labels: ArrayLike, embeddings: TextEmbeddings) -> list[str]:
    """Return the labels that embeddings cannot represent."""
    try:
        embed_labels(np.unique(labels).tolist(), embeddings)
    except OutOfVocabularyError as error:
        return error.labels
    return []


def real_data() -> Path:
    """Return the folder of real data and let Keras find its weights there."""
    if "ZEROSHOT_DATA" not in os.environ:
        sys.exit("This benchmark needs real data: set ZEROSHOT_DATA to its folder.")
    folder = Path(os.environ["ZEROSHOT_DATA"]).resolve()
    os.environ["KERAS_HOME"] = str(folder / "keras")
    return folder


def real_tasks(network: str = "mobilenet-v2") -> list[Task]:
    """Return Tiny-ImageNet and the Caltech classes, as features of a network.

    ``network``: ``"mobilenet-v2"`` (at 128 px for Tiny-ImageNet), ``"efficientnet"`` or
    ``"both"``, side by side.
    """
    folder = real_data()
    images = folder / "images"
    tiny = images / "tiny-imagenet-val"
    other = (
        f"onnx:{folder / 'onnx' / 'efficientnet-lite0.onnx'}"
        f"?output=features&logits=logits&classes=imagenet-1k&scaling=tf"
    )
    tasks = []
    for name, backbone, root, class_names in (
        ("Tiny-ImageNet, 128 px", "mobilenet-v2:128", tiny, tiny / "class_names.tsv"),
        ("Caltech classes", "mobilenet-v2", images / "caltech-classes", None),
    ):
        spec = {"efficientnet": other, "both": f"mobilenet-v2+{other}"}
        chosen = registry.resolve_backbone(spec.get(network, backbone))
        paths, labels = load_image_folder(root, class_names)
        features = extract_features(paths, chosen).matrix
        vectors = str(folder / "vectors" / VECTORS)
        head = head_of(chosen)
        tasks.append(Task(name, backbone, features, labels, vectors, head))
    return tasks
