"""The HTTP service, asked as its users ask it."""

import base64
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from fastapi import FastAPI
from huggingface_hub import InferenceClient
from service_runs import (
    LABELS,
    metric,
    noise,
    predict,
    running,
    served,
    slow_classifier,
    wait_until,
)
from tritonclient.utils import InferenceServerException

from zeroshot import ZeroShotClassifier, extract_features, load
from zeroshot.errors import FingerprintMismatchError, LabelError
from zeroshot.serving import Limits, create_app


@pytest.fixture(scope="module")
def classifier(model):
    return load(model).set_params(cache=False)


@pytest.fixture(scope="module")
def address(classifier):
    with served(classifier, name="shapes") as address:
        yield address


@pytest.fixture(scope="module")
def pictures(photos):
    """One of each class, as files."""
    return [
        sorted(folder.iterdir())[0].read_bytes() for folder in sorted(photos.iterdir())
    ]


def as_json(ranked):
    return [[label._asdict() for label in best] for best in ranked]


def ranked_by(answer):
    assert answer.status_code == 200, answer.text
    return [result["ranked"] for result in answer.json()["results"]]


# The schema of Hugging Face, asked by its own client.


@pytest.mark.parametrize("path", ["", "/models/shapes"])
def test_inference_client_gets_the_probabilities_of_the_classifier(
    address, classifier, red_star, path
):
    client = InferenceClient(model=address + path)
    found = client.zero_shot_image_classification(
        red_star.read_bytes(), candidate_labels=LABELS
    )
    (best,) = classifier.rank([str(red_star)], LABELS)
    assert [(each.label, each.score) for each in found] == [
        (each.label, each.probability) for each in best
    ]
    assert found[0].label == "red star"


def ask(address, image, labels=LABELS, path="/", **parameters):
    text = base64.b64encode(image).decode() if isinstance(image, bytes) else image
    task = {"inputs": text, "parameters": {"candidate_labels": labels, **parameters}}
    return requests.post(address + path, json=task, timeout=30)


def test_hugging_face_schema_template_is_ignored_and_says_so(address, pictures):
    answer = ask(address, pictures[0], hypothesis_template="a photo of {}")
    assert "ignored" in answer.headers["X-Hypothesis-Template"]
    assert answer.json() == ask(address, pictures[0]).json()


def test_hugging_face_schema_takes_data_addresses_of_browsers(address, pictures):
    text = "data:image/png;base64," + base64.b64encode(pictures[0]).decode()
    assert ask(address, text).json() == ask(address, pictures[0]).json()


@pytest.mark.parametrize(
    ("image", "labels", "path", "status", "told"),
    [
        (b"no image", LABELS, "/", 422, "readable image"),
        ("%%%", LABELS, "/", 422, "base64"),
        (b"no image", ["red star", "blue rign"], "/", 422, "did you mean 'ring'"),
        (b"no image", [], "/", 422, "candidate_labels"),
        (b"no image", ["red star", "red star"], "/", 422, "every label once"),
        (b"no image", [1, 2], "/", 422, "candidate_labels"),
        (b"no image", LABELS, "/models/other", 404, "'shapes'"),
        ("https://example.org/a.png", LABELS, "/", 422, "fetches none"),
    ],
)
def test_hugging_face_schema_bad_request_is_told_why(
    address, image, labels, path, status, told
):
    answer = ask(address, image, labels, path)
    assert answer.status_code == status
    assert told in answer.json()["error"]


# The Open Inference Protocol, asked by Triton's client.


def tensors(images, labels):
    made = []
    for name, values in (("images", images), ("candidate_labels", labels)):
        tensor = triton.InferInput(name, [len(values)], "BYTES")
        tensor.set_data_from_numpy(np.array(values, dtype=object))
        made.append(tensor)
    return made


@pytest.fixture(scope="module")
def triton_client(address):
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    yield client
    client.close()


def test_triton_client_gets_the_answers_of_the_classifier(
    triton_client, classifier, pictures
):
    expected = classifier.rank(pictures, LABELS)
    found = triton_client.infer("shapes", tensors(pictures, LABELS), request_id="7")
    labels = [[label.decode() for label in row] for row in found.as_numpy("labels")]
    assert labels == [[best.label for best in row] for row in expected]
    for name in ("scores", "probabilities"):
        values = [
            [getattr(best, name.rstrip("s").replace("ie", "y")) for best in row]
            for row in expected
        ]
        np.testing.assert_array_equal(found.as_numpy(name), np.float32(values))
    assert found.get_response()["id"] == "7"


def test_triton_client_asks_in_json_for_one_output_and_the_best(
    triton_client, classifier, pictures
):
    text = [base64.b64encode(picture).decode() for picture in pictures[:2]]
    inputs = tensors(text, LABELS)
    for tensor, values in zip(inputs, (text, LABELS), strict=True):
        tensor.set_data_from_numpy(np.array(values, dtype=object), binary_data=False)
    wanted = triton.InferRequestedOutput("labels", binary_data=False)
    found = triton_client.infer(
        "shapes", inputs, outputs=[wanted], parameters={"top_k": 1}
    )
    assert found.as_numpy("labels").ravel().tolist() == [
        label for label in classifier.predict(pictures[:2], LABELS)
    ]
    assert found.as_numpy("scores") is None


def test_triton_client_sees_health_and_model(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("shapes")
    assert not triton_client.is_model_ready("other")
    assert triton_client.get_server_metadata()["name"] == "zeroshot"
    metadata = triton_client.get_model_metadata("shapes")
    assert [one["name"] for one in metadata["inputs"]] == ["images", "candidate_labels"]


def test_triton_client_is_told_what_is_wrong(triton_client, pictures):
    with pytest.raises(InferenceServerException, match="blue rign"):
        triton_client.infer("shapes", tensors(pictures[:1], ["blue rign"]))
    with pytest.raises(InferenceServerException, match="at position 1"):
        triton_client.infer("shapes", tensors([pictures[0], b"none"], LABELS))


IMAGES = {"name": "images", "shape": [1], "datatype": "BYTES", "data": ["aGk="]}


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "{}",
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [{**IMAGES, "shape": [2]}]},
        {"inputs": [{**IMAGES, "shape": "1"}]},
        {"inputs": [{**IMAGES, "datatype": "FP32"}]},
        {"inputs": [{**IMAGES, "data": [1]}]},
        {"inputs": [{**IMAGES, "data": None}]},
        {"inputs": [{**IMAGES, "name": "pictures"}]},
        {"inputs": [IMAGES, IMAGES]},
        {"inputs": [{**IMAGES, "parameters": {"binary_data_size": 9}}]},
        {"inputs": [IMAGES], "parameters": {"top_k": 0}},
        {"inputs": [IMAGES], "parameters": {"adapt": True, "multi_label": True}},
        {"inputs": [IMAGES], "outputs": [{"name": "logits"}]},
        {"inputs": [IMAGES], "id": 7},
    ],
)
def test_open_inference_malformed_request_is_refused(address, body):
    sent = {"data": body} if isinstance(body, str) else {"json": body}
    answer = requests.post(f"{address}/v2/models/shapes/infer", **sent, timeout=30)
    assert answer.status_code == 400
    assert "Open Inference Protocol" in answer.json()["error"]


# Plain routes.


def test_predict_gives_the_very_bits_of_the_classifier(address, classifier, pictures):
    answer = predict(address, pictures, ", ".join(LABELS), top_k=2)
    assert ranked_by(answer) == as_json(classifier.rank(pictures, LABELS, k=2))
    assert answer.json()["model"] == "shapes"


def test_predict_without_labels_takes_those_of_the_model(address, classifier, pictures):
    answer = predict(address, pictures[:1])
    assert ranked_by(answer) == as_json(classifier.rank(pictures[:1]))


def test_predict_adapts_to_the_images_of_the_request_alone(
    address, classifier, pictures
):
    answer = predict(address, pictures, ";".join(LABELS), top_k=3, adapt="true")
    expected = classifier.rank(pictures, LABELS, k=3, adapt=True)
    assert ranked_by(answer) == as_json(expected)


def test_predict_explains_as_the_classifier_does(address, classifier, pictures):
    answer = predict(address, pictures[:1], "\n".join(LABELS), explain="true")
    (why,) = classifier.explain(pictures[:1], LABELS)
    result = answer.json()["results"][0]
    told = {name: result[name] for name in why.to_dict()}
    assert told == {
        **why.to_dict(),
        "vectors": [
            {**entry, "words": list(entry["words"]), "missing": []}
            for entry in why.to_dict()["vectors"]
        ],
    }


def test_predict_takes_other_names_of_labels(address, classifier, pictures):
    labels = {"ruby": ["red star"], "sky": ["blue ring"]}
    answer = predict(address, pictures[:1], "ruby: red star\nsky: blue ring")
    assert ranked_by(answer) == as_json(classifier.rank(pictures[:1], labels))


def test_predict_bad_file_beside_good_ones_has_its_own_error(address, pictures):
    files = [("good.png", pictures[0]), ("bad.png", b"bad"), ("good.png", pictures[1])]
    answer = predict(address, files, "red star, blue ring")
    assert answer.status_code == 200, answer.text
    good, bad, again = answer.json()["results"]
    assert good["error"] is again["error"] is None
    assert (bad["image"], bad["ranked"], bad["prediction"]) == (
        "bad.png",
        [],
        "unknown",
    )
    assert "at position 1." in bad["error"]


@pytest.mark.parametrize(
    ("images", "fields", "told"),
    [
        ([b"bad"], {}, "at position 0"),
        ([], {}, "at least one image"),
        ([b"bad"], {"labels": "red star, red star"}, "every label once"),
        ([b"bad"], {"labels": "[1"}, "JSON"),
        ([b"bad"], {"top_k": "0"}, "top_k"),
        ([b"bad"], {"top_k": "many"}, "top_k"),
        ([b"bad"], {"adapt": "1", "explain": "1"}, "one of adapt"),
        ([], {"urls": "https://example.org/a.png"}, "fetches none"),
    ],
)
def test_predict_bad_request_is_told_why(address, images, fields, told):
    answer = predict(address, images, **fields)
    assert answer.status_code == 422
    assert told in answer.json()["error"]


def test_predict_multi_label_of_a_model_that_cannot_is_told_so(address, pictures):
    answer = predict(address, pictures[:1], "red star, ring", multi_label="true")
    assert answer.status_code == 422
    assert "multi_label" in answer.json()["error"]


def test_embed_gives_the_very_bits_of_extract_features(address, classifier, pictures):
    files = [("files", one) for one in [*pictures[:2], b"bad"]]
    answer = requests.post(f"{address}/embed", files=files, timeout=30).json()
    features = extract_features(pictures[:2], classifier.backbone_, cache=False)
    np.testing.assert_array_equal(np.float32(answer["features"][:2]), features.matrix)
    assert answer["features"][2] is None
    assert "position 2" in answer["errors"][2]
    assert answer["fingerprint"] == classifier.backbone_.fingerprint


def test_labels_are_those_of_the_model_and_tell_how_they_are_understood(
    address, classifier
):
    known = requests.get(f"{address}/labels", timeout=30).json()
    assert known["labels"] == known["seen"] == classifier.seen_classes_.tolist()
    text = {"labels": "red star, blue ring"}
    found = requests.post(f"{address}/labels", data=text, timeout=30).json()["labels"]
    assert [(one["label"], one["seen"]) for one in found] == [
        ("red star", False),
        ("blue ring", True),
    ]
    assert found[0]["words"] == ["red", "star"]
    wrong = requests.post(f"{address}/labels", data={"labels": "rign"}, timeout=30)
    assert wrong.status_code == 422
    assert wrong.json()["suggestions"] == {"rign": ["ring"]}


def test_health_and_metrics_answer(address):
    for path in ("/health/live", "/health/ready"):
        assert requests.get(address + path, timeout=30).status_code == 200
    assert metric(address, "zeroshot_requests_total") > 0


def test_openapi_describes_every_route(address):
    paths = requests.get(f"{address}/openapi.json", timeout=30).json()["paths"]
    assert {"/", "/predict", "/embed", "/labels", "/v2/models/{name}/infer"} < set(
        paths
    )


@pytest.mark.parametrize("path", ["/nothing", "/predict/more", "/v2/models/other"])
def test_unknown_path_is_an_error_in_json(address, path):
    answer = requests.get(address + path, timeout=30)
    assert answer.status_code == 404
    assert answer.json()["error"]


# What strangers send.


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"a":' * 100_000, "application/json"),
        (b"9" * 100_000, "application/json"),
        (b"NaN", "application/json"),
        (b"null", "application/json"),
        (
            b'{"inputs": "\\ud800", "parameters": {"candidate_labels": ["\\ud800"]}}',
            "application/json",
        ),
        (
            b'{"inputs": "aGk=", "parameters": {"candidate_labels": ["\\u0000", "a"]}}',
            "application/json",
        ),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"nothing", "multipart/form-data"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"", "text/plain"),
        (b"x" * 1000, "application/octet-stream"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/predict", "/embed", "/v2/models/shapes/infer"])
def test_hostile_body_is_refused_and_the_service_lives(address, path, body, kind):
    sent = {"data": body, "headers": {"Content-Type": kind}}
    answer = requests.post(address + path, **sent, timeout=30)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


def test_labels_of_strange_characters_come_back_as_they_are(address, pictures):
    labels = "red star: ring\n<script>: blue ring\n\u202egreen: green square"
    found = ranked_by(predict(address, pictures[:1], labels))[0]
    assert {one["label"] for one in found} == {"red star", "<script>", "\u202egreen"}


# Limits.


def test_limits_that_make_no_sense_are_refused():
    for wrong in ({"body": 0}, {"seconds": float("nan")}, {"queue": 1, "images": 2}):
        with pytest.raises(ValueError, match="Expected"):
            Limits(**wrong)


@pytest.fixture(scope="module")
def tight(classifier):
    limits = Limits(
        body=20_000, images=2, queue=2, labels=5, label_length=20, seconds=0.5
    )
    settings = {"limits": limits, "api_key": "secret \u00e9"}
    with served(classifier, **settings) as address:
        yield address


KEY = {"Authorization": "Bearer secret \u00e9".encode()}


@pytest.mark.parametrize(
    ("fields", "images", "status", "told"),
    [
        ({}, [b"x"] * 3, 413, "at most 2 images"),
        ({"labels": "a,b,c,d,e,f"}, [b"x"], 413, "at most 5 labels"),
        ({"labels": "a: b, c; d: e, f"}, [b"x"], 413, "at most 5 labels"),
        ({"labels": "a" * 21 + ",b"}, [b"x"], 422, "at most 20 characters"),
        ({}, [b"x" * 20_000], 413, "at most 20000 bytes"),
    ],
)
def test_request_over_a_limit_is_told_the_limit(tight, fields, images, status, told):
    files = [("files", image) for image in images]
    answer = requests.post(
        f"{tight}/predict", files=files, data=fields, headers=KEY, timeout=30
    )
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_body_of_no_stated_length_is_counted_while_it_comes(tight):
    sent = []

    def endless():
        for _ in range(10_000):
            sent.append(1)
            yield b"x" * 1000

    answer = requests.post(f"{tight}/", data=endless(), headers=KEY, timeout=30)
    assert answer.status_code == 413


def test_compressed_body_is_refused(tight):
    headers = KEY | {"Content-Encoding": "gzip"}
    answer = requests.post(f"{tight}/", data=b"x", headers=headers, timeout=30)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}],
)
def test_without_the_key_nothing_but_health_answers(tight, headers):
    for path in ("/predict", "/metrics", "/labels", "/v2/models/zeroshot"):
        answer = requests.get(tight + path, headers=headers, timeout=30)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "secret" not in answer.text
    assert requests.get(f"{tight}/health/ready", timeout=30).status_code == 200
    assert requests.get(f"{tight}/labels", headers=KEY, timeout=30).status_code == 200


def test_inference_client_sends_the_key_as_its_token(classifier, pictures):
    with served(classifier, api_key="secret") as address:
        client = InferenceClient(model=address, token="secret")
        found = client.zero_shot_image_classification(
            pictures[0], candidate_labels=LABELS
        )
    assert len(found) == 3


def test_request_that_comes_too_slowly_is_ended(tight):
    host, port = tight.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
        connection.sendall(head + b"Authorization: " + KEY["Authorization"])
        connection.sendall(b"\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error"' in answer


def test_image_of_too_many_pixels_is_refused(address, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_MAX_PIXELS", "1000")
    answer = predict(address, noise(1, size=64, seed=5), "red star, blue ring")
    assert answer.status_code == 422
    assert "over the limit of 1000" in answer.json()["error"]


@pytest.mark.parametrize("is_on", [False, True])
def test_pages_of_other_origins_may_ask_only_where_they_are_listed(classifier, is_on):
    theirs = "https://example.org"
    with served(classifier, cors_origins=[theirs] if is_on else []) as address:
        answer = requests.get(
            f"{address}/labels", headers={"Origin": theirs}, timeout=30
        )
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed == (theirs if is_on else None)


# Batching, and what happens when there is much to do.


@pytest.fixture
def slow():
    classifier, slow = slow_classifier(cache=False)
    limits = Limits(queue=8, images=8)
    with served(classifier, limits=limits) as address:
        yield address, slow, classifier
        slow.go_on.set()


def occupy(pool, address, network, pictures):
    """Ask for two pictures, one after the other, whose passes are held up."""
    network.go_on.clear()
    asked = []
    for i, picture in enumerate(pictures):
        asked.append(pool.submit(predict, address, [picture], "red star, blue ring"))
        wait_until(lambda n=i + 1: network.sizes == [1] * n)
    return asked


def test_requests_that_come_together_share_a_pass(slow):
    address, network, classifier = slow
    pictures = noise(8)
    with ThreadPoolExecutor(8) as pool:
        first = occupy(pool, address, network, pictures[:2])
        others = [
            pool.submit(predict, address, [picture], "red star, blue ring")
            for picture in pictures[2:]
        ]
        wait_until(lambda: metric(address, "zeroshot_images_waiting") == 6)
        network.go_on.set()
        answers = [each.result() for each in (*first, *others)]
    assert network.sizes == [1, 1, 6]
    assert metric(address, "zeroshot_batch_requests_count") == 3
    for answer, picture in zip(answers, pictures, strict=True):
        expected = classifier.rank([picture], ["red star", "blue ring"])
        assert ranked_by(answer) == as_json(expected)


def test_images_are_computed_once_and_labels_looked_up_once(slow):
    address, network, _ = slow
    picture = noise(1)
    for _ in range(3):
        predict(address, picture, "red star, blue ring")
    predict(address, picture * 2, "blue ring, red star")
    assert network.sizes == [1]
    assert metric(address, 'zeroshot_label_lists_total{remembered="no"}') == 2


def test_more_than_may_wait_is_told_to_come_again(slow):
    address, network, _ = slow
    with ThreadPoolExecutor(3) as pool:
        first = occupy(pool, address, network, noise(2))
        full = pool.submit(predict, address, noise(8, seed=1), "red star, blue ring")
        wait_until(lambda: metric(address, "zeroshot_images_waiting") == 8)
        answer = predict(address, noise(1, seed=2), "red star, blue ring")
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert "busy" in answer.json()["error"]
        network.go_on.set()
        answers = [each.result().status_code for each in (*first, full)]
        assert answers == [200] * 3


def test_answer_that_takes_too_long_is_given_up():
    classifier, network = slow_classifier(cache=False)
    with served(classifier, limits=Limits(seconds=0.3)) as address:
        network.go_on.clear()
        answer = predict(address, noise(1), "red star, blue ring")
        network.go_on.set()
        assert answer.status_code == 504
        assert "within 0.3 seconds" in answer.json()["error"]


def test_failure_of_the_network_is_an_error_without_its_secrets(slow):
    address, network, _ = slow
    network.is_broken = True
    answer = predict(address, noise(1), "red star, blue ring")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    network.is_broken = False
    assert predict(address, noise(1), "red star, blue ring").status_code == 200


# As a part of another program.


def test_app_that_is_mounted_answers(classifier, pictures):
    outer = FastAPI()
    outer.mount("/shapes", create_app(classifier))
    with running(outer) as address:
        answer = predict(f"{address}/shapes", pictures[:1], ",".join(LABELS))
        assert ranked_by(answer) == as_json(classifier.rank(pictures[:1], LABELS))


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"name": "a/b"}, "without '/'"), ({"api_key": " "}, "an empty one")],
)
def test_create_app_refuses_what_cannot_be(classifier, settings, told):
    with pytest.raises(ValueError, match=told):
        create_app(classifier, **settings)


def test_create_app_needs_a_backbone():
    X = np.random.default_rng(0).normal(size=(4, 8))
    features = ZeroShotClassifier(None, "random").fit(X, ["a", "b", "a", "b"])
    with pytest.raises(ValueError, match="with a backbone"):
        create_app(features)


# Candidates that are looked up once, in Python.


def test_candidates_looked_up_once_answer_the_same_bits(classifier, pictures):
    for labels in (LABELS, {"ruby": ["red star"], "blue ring": []}, None):
        found = classifier.candidates(labels)
        for method in ("predict", "predict_proba", "rank", "scores"):
            ours = getattr(classifier, method)(pictures, found)
            theirs = getattr(classifier, method)(pictures, labels)
            np.testing.assert_array_equal(ours, theirs)
    assert classifier.candidates(found) is found


def test_candidates_of_another_classifier_are_refused(classifier, model, pictures):
    found = load(model).candidates(LABELS)
    with pytest.raises(FingerprintMismatchError, match="looked up"):
        classifier.predict(pictures, found)


def test_candidates_that_are_unknown_are_an_error(classifier):
    with pytest.raises(LabelError, match="rign"):
        classifier.candidates(["rign"])
