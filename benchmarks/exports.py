"""Whether exported files say what the classifier says, of every photograph.

Networks of several families, each in the forms that `zeroshot export` writes, with the
names of the Caltech classes as labels. Every photograph of the Caltech classes goes
through the classifier and through each file, run by its own runtime: how many have
another best label, and the largest difference of a score. How long the files take is
not measured. MobileNetV2 and EfficientNet-Lite0 have their published weights and learn
from no image; the others have random weights, which say little of photographs, and
learn from some of them: only whether files and classifier agree is asked.

    ZEROSHOT_DATA=... python benchmarks/exports.py

With ``--write`` the table goes into results/exports.md too; ``--images 100`` takes
that many photographs, evenly chosen.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pages import RESULTS, markdown_table, new_parser, write_page
from real_tasks import VECTORS, real_data, without_vector

from zeroshot import ZeroShotClassifier
from zeroshot.backbones import KerasApplication
from zeroshot.backbones.keras.network import scale_pixels
from zeroshot.datasets import load_image_folder
from zeroshot.embeddings import open_vectors
from zeroshot.errors import ZeroShotError
from zeroshot.exporting import export_classifier
from zeroshot.exporting.exporting import Form
from zeroshot.images import read_fitted
from zeroshot.tensorflow_import import import_keras

PAGE = RESULTS / "exports.md"
MARK = "<!-- Below: written by benchmarks/exports.py -->"
NETWORKS = (
    "mobilenet-v2",
    "efficientnet-lite0",
    "efficientnet-v2-b0, random",
    "resnet50, random",
)
LITE = (
    "/onnx/efficientnet-lite0.onnx?output=features&scaling=tf"
    "&logits=logits&classes=imagenet-1k"
)
RANDOM = ", random"
# Photographs that its batch norm is fitted to. Keras holds what all layers give out,
# 0.3 GB for an image with ResNet50; with fewer, channels that are still on them jump on
# others.
FITTED = {"efficientnet-v2-b0": 48, "resnet50": 24}
LEARNT = 200  # photographs, of a network with random weights
BATCH = 16
HEADER = (
    *("network", "form", "MB", "photographs"),
    *("another best label", "largest difference of a score"),
)

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def runner_of(path: Path) -> Run:
    """Return what gives the scores of images, by the runtime that a file is for."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(["scores"], {"image": images})[0]
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner("serving_default")
        return lambda images: np.concatenate(
            [runner(image=image[None])["scores"] for image in images]
        )
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = loaded.signatures["serving_default"](image=tf.constant(images))
        return np.asarray(found["scores"].numpy())

    return run


def size_of(path: Path) -> float:
    """Return megabytes of a file or folder."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def main() -> None:
    """Print the table."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--images", type=int, metavar="N")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    given = parser.parse_args()
    data = real_data()
    paths, labels = load_image_folder(data / "images" / "caltech-classes")
    vectors = data / "vectors" / VECTORS
    unknown = without_vector(labels, open_vectors(vectors))
    classes = sorted(set(labels.tolist()) - set(unknown))
    few = np.flatnonzero(~np.isin(labels, unknown))
    few = few[np.linspace(0, len(few) - 1, LEARNT).astype(int)]
    some = np.linspace(0, len(paths) - 1, given.images or len(paths)).astype(int)
    photographs = [paths[i] for i in some]
    rows = []
    for name in given.networks:
        if name.endswith(RANDOM):
            learnt = [paths[i] for i in few]
            backbone = with_statistics(name.removesuffix(RANDOM), learnt)
            clf = ZeroShotClassifier(backbone, vectors, random_state=0)
            clf.fit(learnt, labels[few])
        else:
            spec = f"onnx:{data}{LITE}" if name == "efficientnet-lite0" else name
            clf = ZeroShotClassifier(spec, vectors, random_state=0).fit_pretrained()
        expected = clf.scores(photographs, classes)
        for form in get_args(Form):
            row = compared(clf, form, photographs, classes, expected)
            rows.append((name, form, *row))
            print(*rows[-1], flush=True)
    table = markdown_table(HEADER, rows, "---:")
    print(table)
    if given.write:
        write_page(PAGE, table, below=MARK)


def with_statistics(name: str, paths: list[str]) -> KerasApplication:
    """Return a network of random weights, its batch norm fitted to photographs.

    Without that its layers are far from normalised: what tells images apart is a
    thousandth of each feature, and no two programs agree about it.
    """
    import_keras().utils.set_random_seed(0)
    backbone = KerasApplication(name, weights=None)
    model, scaling = backbone.trainable_copy()
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0  # the statistics of this batch, and no others
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    some = paths[:: len(paths) // FITTED[name]]
    pixels = [read_fitted(path, backbone.input_size) for path in some]
    model(scale_pixels(np.stack(pixels).astype(np.float32), scaling), training=True)
    return backbone.with_weights(backbone.weights_of(model))


def compared(
    clf: ZeroShotClassifier,
    form: Form,
    paths: list[str],
    classes: list[str],
    expected: NDArray[np.float32],
) -> tuple[Any, ...]:
    """Return the rest of a row: an export, compared on all photographs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{form}"
        try:
            export_classifier(clf, path, classes, form=form)
        except ZeroShotError as error:
            print(error, flush=True)
            return "", "", "refused", ""
        run, scores = runner_of(path), []
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            images = [read_fitted(each, clf.backbone_.input_size) for each in batch]
            scores.append(run(np.stack(images)))
        got = np.concatenate(scores)
        n_other = int((got.argmax(axis=1) != expected.argmax(axis=1)).sum())
        largest = f"{np.abs(got - expected).max():.1e}"
        return f"{size_of(path):.0f}", len(paths), n_other, largest


if __name__ == "__main__":
    main()
