"""The command that writes a model for other programs: export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.label_lists import given_labels
from zeroshot.cli.tables import print_text
from zeroshot.cli.untrained import untrained_classifier
from zeroshot.defaults import BACKBONE
from zeroshot.escaping import escaped

__all__ = ["COMMANDS"]


class To(StrEnum):
    """What the file is for: ONNX Runtime, LiteRT, TensorFlow."""

    onnx = "onnx"
    tflite = "tflite"
    saved_model = "saved-model"


MODEL = options.argument(
    "A folder that 'zeroshot fit' wrote. Without one, as for 'zeroshot predict': a "
    "model that knows the classes of ImageNet that the backbone was trained on.",
    metavar="[MODEL]",
)
LABELS = options.option(
    "--labels -l LABELS",
    "Labels that the file answers with, as for 'zeroshot predict'. Without labels it "
    "gives out points, and the labels of the model lie beside it (.npz).",
)
TO = typer.Option(
    "--to",
    help="onnx is run by ONNX Runtime (needs the extra: pip install "
    "'zeroshot\\[export]'), tflite by LiteRT, on phones too, saved-model by "
    "TensorFlow.",
    show_default=False,
)
OUT = options.option(
    "--out -o FILE", "File to write. Default: the model's name and .onnx, say."
)


def _export(
    to: Annotated[To, TO],
    model: Annotated[Path | None, MODEL] = None,
    labels: Annotated[str | None, LABELS] = None,
    out: Annotated[Path | None, OUT] = None,
    labels_file: Annotated[Path | None, options.LABELS_FILE] = None,
    seen_penalty: Annotated[str | None, options.SEEN_PENALTY] = None,
    temperature: Annotated[str | None, options.TEMPERATURE] = None,
    reject: Annotated[str | None, options.REJECT] = None,
    embeddings: Annotated[str | None, options.EMBEDDINGS_OF_MODEL] = None,
    backbone: Annotated[str | None, options.BACKBONE_OF_MODEL] = None,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Write network and labels into one file, for programs that have no zeroshot.

    The file takes images and gives out scores and probabilities. Beside it lies a
    description (.json): the labels, and how an image is brought to size. Nothing is
    written unless the file, run by its own runtime, says what 'predict' says of
    photographs.

    Networks of Keras can be written, and ONNX files to onnx. Convnext to onnx cannot:
    its operations are lost on the way.
    """
    from zeroshot import load
    from zeroshot.exporting import export_classifier

    candidates = given_labels([] if labels is None else [labels], labels_file)
    settings = options.score_settings(seen_penalty, temperature, reject)
    if model is None:
        classifier = untrained_classifier(
            backbone or BACKBONE, embeddings, "devise", "auto", yes=yes
        )
    else:
        classifier = load(model, backbone=backbone, embeddings=embeddings)
    classifier.set_params(**settings)
    name = "zeroshot" if model is None else model.resolve().name
    with options.wrong_usage():  # an auto that the model was not fitted with
        exported = export_classifier(
            classifier, out or Path(f"{name}.{to.value}"), candidates, form=to.value
        )
    print_text(
        f"Wrote {escaped(exported.path)} (labels: {exported.n_labels}). On "
        f"{exported.n_images} photographs its scores differ from those of 'predict' by "
        f"{exported.difference:.1e} at most."
    )
    beside = [exported.description, *([exported.labels] if exported.labels else [])]
    print_text(f"Beside it: {', '.join(map(escaped, beside))}")


COMMANDS = (
    (_export, 'zeroshot export animals/ --labels "okapi,zebra,horse" --to onnx'),
)
