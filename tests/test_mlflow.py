"""Models of MLflow: saved, logged, loaded, and served as `mlflow models serve` does."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from zeroshot import ZeroShotClassifier
from zeroshot.datasets import make_shapes, shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.errors import MissingExtraError
from zeroshot.integrations.mlflow import save_model

HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
LABELS = ["red star", "blue ring"]
# In a process of its own: MLflow takes seconds to import, with warnings of its own, and
# tells its makers that it is used, unless asked not to.
PROGRAM = """
import base64, io, json, socket, sys, threading, time
import mlflow, numpy, pandas, requests, uvicorn
from mlflow.pyfunc import scoring_server
from PIL import Image
from zeroshot import load
from zeroshot.integrations.mlflow import load_model, log_model, save_model

folder, labels = sys.argv[1], json.loads(sys.argv[2])
clf = load(f"{folder}/bundle")
images = numpy.load(f"{folder}/images.npy")
contents = []
for image in images:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    contents.append(file.getvalue())
table = pandas.DataFrame({"image": contents})
save_model(clf, f"{folder}/model", candidate_labels=labels[::-1], metadata={"by": "us"})
model = mlflow.pyfunc.load_model(f"{folder}/model")
told = {"named": model.predict(table, params={"candidate_labels": labels})}
told["default"] = model.predict(table)
told = {name: each.to_dict("list") for name, each in told.items()}
told["schema"] = model.metadata.signature.to_dict()
told["example"] = model.input_example is not None
try:
    model.predict(pandas.DataFrame({"image": [f"{folder}/images.npy"]}))
except Exception as error:
    told["path"] = str(error)

place = f"{folder}/model"
other = mlflow.pyfunc.load_model(place, model_config={"backbone": "color-hog:32"})
try:
    other.predict(table)
except Exception as error:
    told["other backbone"] = str(error)

mlflow.set_tracking_uri(f"file:{folder}/runs")
uri = log_model(clf, "shapes", vocabulary=labels).model_uri
for name, place in (("logged", uri), ("saved", f"{folder}/model")):
    told[name] = load_model(place).scores(list(images), labels).tolist()

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
config = uvicorn.Config(scoring_server.init(model), log_level="error")
server = uvicorn.Server(config)
running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
running.start()
while not server.started:
    time.sleep(0.02)
url = f"http://127.0.0.1:{listening.getsockname()[1]}/invocations"
texts = [base64.b64encode(content).decode() for content in contents]
unknown = {"params": {"candidate_labels": ["x"]}}
chosen = {"params": {"candidate_labels": labels}}
rows = [{"image": text} for text in texts]
split = {"columns": ["image"], "data": [[text] for text in texts]}
for name, body in (
    ("dataframe_split", {"dataframe_split": split}),
    ("dataframe_records", {"dataframe_records": rows}),
    ("instances", {"instances": rows}),
    ("inputs", {"inputs": {"image": texts}}),
    ("no image", {"dataframe_records": [{"image": "bm8gaW1hZ2U="}]}),
    ("unknown label", {"dataframe_records": rows, **unknown}),
):
    answer = requests.post(url, json={**chosen, **body}, timeout=60)
    told[name] = answer.status_code, answer.json()
server.should_exit = True
running.join()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def shapes():
    return make_shapes(2, random_state=0)


@pytest.fixture(scope="module")
def clf(shapes):
    words = Attributes(*shape_attributes())
    return ZeroShotClassifier("color-hog", words, projection="ridge").fit(*shapes)


@pytest.fixture(scope="module")
def images(shapes):
    return shapes[0][:40:8]


@pytest.fixture(scope="module")
def told(tmp_path_factory, clf, images):
    """What a process with MLflow says."""
    if not HAS_MLFLOW:
        pytest.skip("MLflow is not installed: pip install 'zeroshot[mlflow]'")
    folder = tmp_path_factory.mktemp("mlflow")
    clf.save(folder / "bundle")
    np.save(folder / "images.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(LABELS)],
        env={
            **os.environ,
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_pyfunc_answers_as_the_classifier(told, clf, images):
    for answers, labels in (("named", LABELS), ("default", LABELS[::-1])):
        best = [ranked[0] for ranked in clf.rank(list(images), labels, k=1)]
        got = told[answers]
        assert got["label"] == [each.label for each in best]
        np.testing.assert_allclose(got["score"], [each.score for each in best], 1e-5)
        shares = [each.probability for each in best]
        np.testing.assert_allclose(got["probability"], shares, 1e-4)


@pytest.mark.parametrize(
    "form", ["dataframe_split", "dataframe_records", "instances", "inputs"]
)
def test_server_of_mlflow_answers_every_form_of_request(told, form):
    status, body = told[form]
    assert status == 200, body
    got = {
        name: [row[name] for row in body["predictions"]]
        for name in ("label", "score", "probability")
    }
    assert got == told["named"]


def test_server_of_mlflow_tells_a_client_what_is_wrong(told):
    for case, words in (
        ("no image", "no image format that is taken"),
        ("unknown label", "Expected labels that 'attributes' has vectors for"),
    ):
        status, body = told[case]
        assert status == 400
        assert words in body["message"]


def test_path_is_never_read_from_the_disk_of_a_server(told):
    assert "Expected the bytes of an image file, or their base64" in told["path"]


def test_backbone_is_named_by_model_config_and_must_be_that_of_training(told):
    wanted = "Expected the backbone that the model was trained with"
    assert wanted in told["other backbone"]


def test_signature_names_column_answers_and_labels(told):
    schema = {name: json.loads(told["schema"][name]) for name in told["schema"]}
    assert [(each["name"], each["type"]) for each in schema["inputs"]] == [
        ("image", "binary")
    ]
    names = [each["name"] for each in schema["outputs"]]
    assert names == ["label", "score", "probability"]
    (parameter,) = schema["params"]
    assert parameter["name"] == "candidate_labels"
    assert (parameter["type"], parameter["shape"]) == ("string", [-1])
    assert parameter["default"] == LABELS[::-1]
    assert told["example"]


@pytest.mark.parametrize("place", ["saved", "logged"])
def test_model_is_loaded_as_a_classifier_again(told, clf, images, place):
    np.testing.assert_array_equal(told[place], clf.scores(list(images), LABELS))


def test_without_mlflow_its_extra_is_named(tmp_path, clf, monkeypatch):
    for name in ("mlflow", "mlflow.artifacts"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        save_model(clf, tmp_path / "model")
    extra = re.search(r"pip install 'zeroshot\[(\w+)\]'", str(caught.value))[1]
    project = tomllib.loads(
        (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    )["project"]
    assert "mlflow-skinny" in "".join(project["optional-dependencies"][extra])
