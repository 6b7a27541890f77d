"""`zeroshot serve` as a process: started, asked, replaced, stopped, killed."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from cli_runs import in_shell, run, succeed
from service_runs import LABELS, metric, noise, predict, process, wait_until

from zeroshot import ZeroShotClassifier, load


def test_serve_answers_as_the_model_and_ends_once_all_is_answered(model, red_star):
    key = {"Authorization": "Bearer hidden-key"}
    arguments = (model, "--labels", ",".join(LABELS))
    with process(*arguments, ZEROSHOT_API_KEY="hidden-key") as (server, address, said):
        assert said == [f"Serving at {address}; for people: {address}/ui/\n"]
        assert predict(address, [b""]).status_code == 401
        answer = predict(address, [red_star.read_bytes()], top_k=1, headers=key).json()
        expected = load(model).rank([str(red_star)], LABELS, k=1)
        assert answer["results"][0]["ranked"] == [expected[0][0]._asdict()]
        assert answer["model"] == model.name
        finished, cut, accepted = [], [], threading.Event()

        def ask(seed):
            session = requests.Session()
            session.headers.update(key)
            for picture in noise(200, seed=seed):
                try:
                    files = [("files", picture)]
                    answer = session.post(f"{address}/predict", files=files, timeout=30)
                except requests.ConnectionError as error:
                    cut.append(str(error))
                    return
                finished.append(answer.status_code)
                accepted.set()

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, seed) for seed in range(4)]
            assert accepted.wait(30)
            server.send_signal(signal.SIGTERM)
            for each in asked:
                each.result()
        assert server.wait(30) == 0
        assert "hidden-key" not in server.stderr.read()
        assert set(finished) == {200}
        # Refused before a byte was taken; never cut within an answer.
        assert all("Connection refused" in error for error in cut), cut


def test_serve_replaced_model_takes_over_and_a_broken_one_does_not(
    model, photos, options, red_star, tmp_path
):
    place = tmp_path / "model"
    shutil.copytree(model, place)
    image = [red_star.read_bytes()]
    with process(place, "--host", "0.0.0.0") as (_, address, said):
        assert "lets other machines ask" in said[0]
        assert "--api-key" in said[0]

        def labels():
            return requests.get(f"{address}/labels", timeout=30).json()["seen"]

        assert "red star" not in labels()
        asked, failures = [], []

        def ask():
            while not is_done.is_set():
                answer = predict(address, image, ",".join(LABELS))
                (asked if answer.status_code == 200 else failures).append(answer)

        is_done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask)
            try:
                succeed("fit", photos, *options, "--no-cache", "--out", place)
                wait_until(lambda: "red star" in labels())
                record = place / "bundle.json"
                (tmp_path / "broken").write_text("{}")
                (tmp_path / "broken").replace(record)
                failed = 'zeroshot_model_loads_total{outcome="failed"}'
                wait_until(lambda: metric(address, failed) == 1)
            finally:
                is_done.set()
        assert "red star" in labels()
        assert asked
        assert not failures


@pytest.mark.slow
def test_serve_killed_while_it_computes_damages_nothing(model, tmp_path):
    with process(model) as (server, address, _), ThreadPoolExecutor(4) as pool:
        for seed in range(4):
            pool.submit(predict, address, noise(8, seed=seed), ",".join(LABELS))
        wait_until(lambda: metric(address, "zeroshot_images_total") > 0)
        server.kill()
    checked = in_shell("cache", "verify")
    assert checked.returncode == 0, checked.stdout
    with process(model) as (server, address, _):
        for seed in range(4):
            answer = predict(address, noise(8, seed=seed), ",".join(LABELS))
            expected = load(model).rank(noise(8, seed=seed), LABELS)
            assert [each["ranked"] for each in answer.json()["results"]] == [
                [best._asdict() for best in image] for image in expected
            ]


@pytest.mark.slow
def test_serve_head_that_does_not_come_ends_the_connection(model):
    with process(model) as (_, address, _said):
        place = address.removeprefix("http://").split(":")
        with socket.create_connection((place[0], int(place[1]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
            connection.settimeout(20)
            began = time.monotonic()
            assert connection.recv(100) == b""
            assert time.monotonic() - began < 15


@pytest.mark.slow
def test_serve_asked_for_all_that_its_description_allows_never_fails(model, tmp_path):
    with process(model) as (server, address, _):
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "run"),
                *(f"{address}/openapi.json", "--checks=not_a_server_error"),
                *("--max-examples=50", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,  # it writes a folder
        )
        assert done.returncode == 0, done.stdout
        assert "Tested: 19" in done.stdout
        assert server.poll() is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no-such-model"], "Expected a folder that 'zeroshot fit' wrote"),
        (["MODEL", "--labels", "red star,blue rign"], "did you mean 'ring'"),
        (["MODEL", "--port", "1", "--host", "no.such.host.invalid"], "a free port"),
    ],
)
def test_serve_that_cannot_start_says_why(model, arguments, told):
    arguments = [model if each == "MODEL" else each for each in arguments]
    result = run("serve", *arguments)
    assert result.exit_code == 1
    assert told in result.stderr


def test_serve_of_a_model_that_reads_no_images_is_wrong_usage(tmp_path):
    X = np.random.default_rng(0).normal(size=(4, 8))
    ZeroShotClassifier(None, "random").fit(X, ["a", "b"] * 2).save(tmp_path / "model")
    result = run("serve", tmp_path / "model")
    assert result.exit_code == 2
    assert "backbone" in result.stderr


def test_serve_at_a_port_that_is_taken_says_so(model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", model, "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert "Choose another one with --port" in result.stderr


def test_serve_with_wrong_options_is_wrong_usage(model):
    for arguments in (
        ["--projection", "ridge"],
        ["--reject", "auto"],
        ["--max-images", "0"],
    ):
        assert run("serve", model, *arguments).exit_code == 2
    assert run("serve", "--pretrained-classes", "none").exit_code == 2


def test_serving_without_its_packages_says_what_to_install():
    code = """
import sys
sys.modules['fastapi'] = None
import zeroshot.serving
try:
    zeroshot.serving.create_app
except ImportError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("MissingExtraError")
    assert "pip install 'zeroshot[serve]'" in done.stdout
