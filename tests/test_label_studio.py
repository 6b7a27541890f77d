"""Label Studio: what it asks of its ML backend, and tasks to import into it."""

import base64
import json

import pytest
import requests
from cli_runs import succeed
from flaky_server import FlakyServer, Reply
from service_runs import served

from zeroshot import load

CONFIG = """<View>
  <!-- classification -->
  <Image name="photo" value="$picture"/>
  <Choices name="shape" toName="photo" choice="single">
    <Choice value="red star" alias="star"/><Choice value="blue ring"/>
  </Choices>
</View>"""


@pytest.fixture
def classifier(model):
    return load(model).set_params(cache=False)


def task(image):
    return {"id": 1, "data": {"picture": image}}


def as_address(image):
    return "data:image/png;base64," + base64.b64encode(image).decode()


def ask(address, route, headers=None, **content):
    return requests.post(
        f"{address}/label-studio/{route}", json=content, headers=headers, timeout=30
    )


def test_predictions_are_the_answers_of_the_classifier(classifier, red_star):
    tasks = [
        task(as_address(red_star.read_bytes())),
        task("data:image/png;base64,aGk="),
    ]
    with served(classifier, name="shapes") as address:
        health = requests.get(f"{address}/label-studio/health", timeout=30).json()
        assert health["status"] == "UP"
        found = ask(address, "predict", tasks=tasks, label_config=CONFIG).json()
    (best,) = classifier.rank([str(red_star)], ["red star", "blue ring"], k=1)
    assert found["results"][0] == {
        "model_version": "shapes",
        "score": best[0].probability,
        "result": [
            {
                "from_name": "shape",
                "to_name": "photo",
                "type": "choices",
                "score": best[0].probability,
                "value": {"choices": ["star"]},
            }
        ],
    }
    assert found["results"][1]["result"] == []


def test_picture_that_is_rejected_gets_no_prediction(classifier, red_star):
    classifier.set_params(reject=0.999)
    with served(classifier) as address:
        tasks = [task(as_address(red_star.read_bytes()))]
        found = ask(address, "predict", tasks=tasks, label_config=CONFIG).json()
    assert found["results"][0]["result"] == []


def test_pictures_are_fetched_from_label_studio_with_its_token(classifier, red_star):
    studio, other = FlakyServer(), FlakyServer()
    try:
        away = other.serve("/away.png", Reply(red_star.read_bytes()))
        url = studio.serve("/data/star.png", Reply(red_star.read_bytes()))
        studio.serve("/moved.png", Reply(status=302, headers={"Location": away}))
        hosts = [one.split("/")[2] for one in (url, away)]
        with served(classifier, allow_urls=hosts) as address:
            host = url.removesuffix("/data/star.png")
            ask(address, "setup", hostname=host, access_token="secret")
            tasks = [task("/data/star.png"), task("/moved.png"), task(away)]
            found = ask(address, "predict", tasks=tasks, label_config=CONFIG).json()
        assert [one["score"] > 0.5 for one in found["results"]] == [True] * 3
        assert all(h["Authorization"] == "Token secret" for _, h in studio.requests)
        assert not any("Authorization" in h for _, h in other.requests)
    finally:
        studio.close()
        other.close()


@pytest.mark.parametrize("learn", [False, True])
def test_annotation_is_learnt_from_only_where_that_is_wanted(model, red_star, learn):
    classifier = load(model).set_params(cache=False)
    event = {
        "action": "ANNOTATION_CREATED",
        "task": task(as_address(red_star.read_bytes())),
        "annotation": {"result": [{"value": {"choices": ["star"]}}]},
        "project": {"label_config": CONFIG},
    }
    with served(classifier, learn=learn) as address:
        status = ask(address, "webhook", **event).json()["status"]
        seen = requests.get(f"{address}/labels", timeout=30).json()["seen"]
    assert status == ("learnt" if learn else "ignored")
    assert ("red star" in seen) == learn
    assert "red star" not in classifier.seen_classes_  # ours stays what it was


@pytest.mark.parametrize(
    "config",
    [
        "",
        "<View>",
        "<View/>",
        CONFIG.replace('toName="photo"', 'toName="other"'),
        CONFIG.replace("value=", "text="),
        '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>',
    ],
)
def test_project_of_another_kind_is_told(classifier, config):
    with served(classifier) as address:
        answer = ask(address, "predict", tasks=[task("x")], label_config=config)
    assert answer.status_code == 422
    assert "<Choices" in answer.json()["error"]


def test_key_may_come_as_a_password(classifier):
    with served(classifier, api_key="secret") as address:
        for password, status in (("secret", 200), ("wrong", 401)):
            text = base64.b64encode(f"any:{password}".encode()).decode()
            headers = {"Authorization": f"Basic {text}"}
            answer = ask(address, "setup", headers, project="1.1", hostname="http://x")
            assert answer.status_code == status


def test_predict_command_prints_tasks_to_import(model, red_star):
    arguments = ("--labels", "red star,blue ring", "--format", "label-studio")
    (made,) = json.loads(succeed("predict", model, red_star, *arguments).stdout)
    assert made["data"] == {"image": str(red_star)}
    (prediction,) = made["predictions"]
    assert prediction["result"][0]["value"] == {"choices": ["red star"]}
    assert prediction["score"] > 0.5
