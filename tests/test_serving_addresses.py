"""Images by address: fetched from listed hosts, and from nowhere else."""

import pytest
import requests
from flaky_server import FlakyServer, Reply
from service_runs import LABELS, served

from zeroshot import load
from zeroshot.serving import Limits


@pytest.fixture
def server():
    server = FlakyServer()
    yield server
    server.close()


def asked(address, url, field="urls"):
    data = {field: url, "labels": ",".join(LABELS)}
    files = [("nothing", b"")]
    return requests.post(f"{address}/predict", data=data, files=files, timeout=30)


def host_of(url):
    return url.split("/")[2]


@pytest.fixture
def allowing(model):
    classifier = load(model).set_params(cache=False)

    def allowed(*hosts, **limits):
        return served(classifier, allow_urls=hosts, limits=Limits(**limits))

    return allowed


def test_image_of_a_listed_address_is_fetched(allowing, server, red_star):
    url = server.serve("/star.png?size=1", Reply(red_star.read_bytes()))
    with allowing(host_of(url)) as address:
        answer = asked(address, url).json()["results"][0]
        task = {"inputs": url, "parameters": {"candidate_labels": LABELS}}
        again = requests.post(f"{address}/", json=task, timeout=30).json()
    assert answer["prediction"] == again[0]["label"] == "red star"
    _, headers = server.requests[0]
    assert headers["Host"] == host_of(url)


@pytest.mark.parametrize("listed", ["example.org", "localhost", "127.0.0.1"])
def test_address_that_is_not_listed_is_not_asked(allowing, server, listed):
    url = server.serve("/star.png", Reply(b"x"))  # of another port than the listed one
    with allowing(listed) as address:
        answer = asked(address, url)
    assert answer.status_code == 422
    assert "may ask" in answer.json()["error"]
    assert not server.requests


def test_name_of_a_private_address_is_refused_unless_that_is_listed_too(
    allowing, server, red_star
):
    url = server.serve("/star.png", Reply(red_star.read_bytes()))
    named = url.replace("127.0.0.1", "localhost")
    with allowing(host_of(named)) as address:
        assert asked(address, named).status_code == 422
    assert not server.requests
    with allowing(host_of(named), "127.0.0.1", "::1") as address:
        assert asked(address, named).status_code == 200


def test_redirect_to_another_host_is_refused(allowing, server):
    other = FlakyServer()
    try:
        secret = other.serve("/secret", Reply(b"x"))
        url = server.serve("/a", Reply(status=302, headers={"Location": secret}))
        with allowing(host_of(url)) as address:
            answer = asked(address, url)
        assert answer.status_code == 422
        assert not other.requests
    finally:
        other.close()


def test_redirects_within_a_host_are_followed_but_not_for_ever(
    allowing, server, red_star
):
    star = server.serve("/star", Reply(red_star.read_bytes()))
    url = server.serve("/a", Reply(status=301, headers={"Location": "/star"}))
    circle = server.serve("/b", Reply(status=302, headers={"Location": "/b"}))
    with allowing(host_of(star)) as address:
        assert asked(address, url).status_code == 200
        answer = asked(address, circle)
    assert answer.status_code == 422
    assert "redirects" in answer.json()["error"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(b"<html>"), "readable image"),
        (Reply(b"x", status=404), "status 404"),
        (Reply(b"x" * 5000), "more than 2000 bytes"),
        (Reply(b"x" * 1000, cut=10), "does not answer as it should"),
    ],
)
def test_address_that_gives_no_image_is_told(allowing, server, reply, told):
    url = server.serve("/a", reply)
    with allowing(host_of(url), body=2000) as address:
        answer = asked(address, url)
    assert answer.status_code == 422
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://user:secret@127.0.0.1/a",
        "gopher://127.0.0.1/",
        "/etc/passwd",
        "http://169.254.169.254/latest",
    ],
)
def test_strange_address_is_refused(allowing, url):
    with allowing("example.org") as address:
        answer = asked(address, url)
    assert answer.status_code == 422
    assert "secret" not in answer.text
