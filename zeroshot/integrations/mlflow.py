"""Classifiers as models of MLflow: saved, logged, loaded and served.

What MLflow keeps is our bundle (`zeroshot.saving`) in the folder of its model: nothing
in it is code. As a pyfunc a model takes a table with a column ``image``, the bytes of
image files (base64 in JSON), and gives the columns label, score and probability. The
labels are the parameter ``candidate_labels``, of every call.
"""

import tempfile
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zeroshot import __version__
from zeroshot.backbones.base import Backbone
from zeroshot.classifier import ZeroShotClassifier, load
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import InvalidImageError, MissingExtraError, ZeroShotError
from zeroshot.escaping import shown
from zeroshot.labels import Labels
from zeroshot.labels.given import check_candidates

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_model", "log_model", "save_model"]

BUNDLE = "bundle"
IN_MODEL = f"data/{BUNDLE}"  # where MLflow puts what a loader of ours is to load
COLUMNS = ["label", "score", "probability"]
FLAVOR = "zeroshot"
# Of `load`. Who loads or serves a model may only change what is here.
SETTINGS = {"backbone": None, "embeddings": None}


def save_model(
    classifier: ZeroShotClassifier,
    path: str | Path,
    *,
    candidate_labels: Labels | None = None,
    vocabulary: Sequence[str] | None = None,
    mlflow_model: Any = None,
    pip_requirements: Sequence[str] | None = None,
    **more: Any,
) -> None:
    """Write a classifier as a model of MLflow, with signature and example.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted.
    path : str or Path
        The folder to make.
    candidate_labels : sequence, mapping or None, default=None
        What a call chooses from that names no labels; None means the classifier's own.
        Of a mapping the labels without their aliases.
    vocabulary : sequence of str or None, default=None
        Labels whose vectors go along, as for `ZeroShotClassifier.save`: then the model
        needs no vector file where it is loaded, and knows these labels only.
    mlflow_model : mlflow.models.Model or None, default=None
        To be written; MLflow gives one for a logged model.
    pip_requirements : sequence of str or None, default=None
        Of MLflow's environment for the model; None is this version of zeroshot.
    **more
        As for ``mlflow.pyfunc.save_model``: ``metadata``, ``extra_pip_requirements``...

    Raises
    ------
    MissingExtraError
        If MLflow is not installed.
    ArtifactError, OutOfVocabularyError
        As `ZeroShotClassifier.save`.
    """
    mlflow = _mlflow()
    model = mlflow.models.Model() if mlflow_model is None else mlflow_model
    model.add_flavor(FLAVOR, zeroshot_version=__version__, data=IN_MODEL)
    if candidate_labels is None:
        candidate_labels = classifier.classes_.tolist()
    labels = [*map(str, check_candidates(candidate_labels))]
    classifier.label_points(labels)  # refuses those that no call could use
    if pip_requirements is None:
        pip_requirements = [f"zeroshot[mlflow]=={__version__}"]
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / BUNDLE
        classifier.save(bundle, vocabulary=vocabulary)
        mlflow.pyfunc.save_model(
            path=str(path),
            loader_module=__name__,
            data_path=str(bundle),
            mlflow_model=model,
            signature=_signature(labels),
            input_example=_example(),
            pip_requirements=[*pip_requirements],
            model_config=dict(SETTINGS),
            **more,
        )


def log_model(classifier: ZeroShotClassifier, name: str, **more: Any) -> Any:
    """Log a classifier to the active run of MLflow, or to a new one.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Fitted.
    name : str
        Of the logged model.
    **more
        As for `save_model`; and what ``mlflow.models.Model.log`` takes, such as
        ``registered_model_name``.

    Returns
    -------
    info : mlflow.models.model.ModelInfo

    Raises
    ------
    MissingExtraError, ArtifactError, OutOfVocabularyError
        As `save_model`.
    """
    from zeroshot.integrations import mlflow as flavor

    log = _mlflow().models.Model.log
    return log(None, flavor, name=name, classifier=classifier, **more)


def load_model(
    model_uri: str,
    *,
    backbone: str | Backbone | None = None,
    embeddings: str | Path | TextEmbeddings | None = None,
) -> ZeroShotClassifier:
    """Return a classifier that `save_model` or `log_model` kept.

    Of the model's folder only the bundle is read. MLflow fetches that folder from where
    the address says; what the bundle names, backbone and vectors, is not fetched.

    Parameters
    ----------
    model_uri : str
        A folder, or an address of MLflow (``"models:/animals/1"``).
    backbone, embeddings : optional
        As for `zeroshot.load`.

    Returns
    -------
    classifier : ZeroShotClassifier

    Raises
    ------
    MissingExtraError
        If MLflow is not installed.
    ArtifactError, FingerprintMismatchError
        As `zeroshot.load`.
    """
    path = _mlflow().artifacts.download_artifacts(artifact_uri=str(model_uri))
    return load(Path(path) / IN_MODEL, backbone=backbone, embeddings=embeddings)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> "_Model":
    """Load the bundle at a path, for ``mlflow.pyfunc.load_model`` and its servers."""
    return _Model(load(path, **(model_config or {})))


class _Model:
    """A classifier as MLflow calls it."""

    def __init__(self, classifier: ZeroShotClassifier) -> None:
        self.classifier = classifier

    def predict(
        self, model_input: "pd.DataFrame", params: Mapping[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Return label, score and probability of each image."""
        import pandas as pd
        from mlflow.exceptions import MlflowException

        given = (params or {}).get("candidate_labels")
        labels = None if given is None else np.asarray(given).tolist()
        classifier, rows = self.classifier, []
        try:
            images = list(_contents(pd.DataFrame(model_input)["image"]))
            answers = classifier.rank(images, labels, k=1)
        except ZeroShotError as error:  # that a client is told, with status 400
            raise MlflowException.invalid_parameter_value(str(error)) from error
        for (best,) in answers:
            label = classifier.unknown_label if best.rejected else best.label
            rows.append((str(label), best.score, best.probability))
        return pd.DataFrame(rows, columns=COLUMNS)


def _contents(images: Iterable[object]) -> Iterator[bytes]:
    """Yield the content of image files; no text is a path on the server's disk.

    MLflow decodes the base64 of a "dataframe", and not that of "inputs" and
    "instances". No image file that is decoded is base64 itself: all begin or go on with
    other bytes.
    """
    for index, image in enumerate(images):
        content = image
        if isinstance(image, str | bytes):
            try:
                content = b64decode(image, validate=True)
            except ValueError:
                content = image
        if not isinstance(content, bytes | bytearray | memoryview):
            raise InvalidImageError(
                f"Expected the bytes of an image file, or their base64, at position "
                f"{index}. Got {shown(image)}. Read the file, and send what is in it.",
                index,
            )
        yield bytes(content)


def _signature(labels: list[str]) -> Any:
    models, types = _mlflow().models, _mlflow().types
    columns = zip(COLUMNS, ("string", "double", "double"), strict=True)
    return models.ModelSignature(
        inputs=types.Schema([types.ColSpec("binary", "image")]),
        outputs=types.Schema([types.ColSpec(kind, name) for name, kind in columns]),
        params=types.ParamSchema(
            [types.ParamSpec("candidate_labels", "string", labels, (-1,))]
        ),
    )


def _example() -> "pd.DataFrame":
    """Return a table of one small image, of grey that becomes lighter."""
    import pandas as pd

    file = BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(file, "PNG")
    return pd.DataFrame({"image": [file.getvalue()]})


def _mlflow() -> Any:
    try:
        import mlflow.artifacts
        import mlflow.models
        import mlflow.pyfunc
        import mlflow.types
    except ImportError as error:
        raise MissingExtraError(
            "Expected MLflow, with pandas. Got no such package. Run: pip install "
            "'zeroshot[mlflow]'"
        ) from error
    return mlflow
