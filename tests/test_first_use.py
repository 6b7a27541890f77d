"""Defaults, and what a first use fetches from a local server into an empty cache."""

import gzip
import json
import os
import pty
import re
import subprocess
import sys

import pytest
from cli_runs import error_of, in_shell, run, succeed
from flaky_server import FlakyServer, Reply

from zeroshot import ZeroShotClassifier, evaluate, registry
from zeroshot.defaults import BACKBONE, EMBEDDINGS
from zeroshot.errors import ArtifactError

VECTORS = "numberbatch-en-19.08.txt.gz"
TOP = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
NO_TOP = TOP.replace(".h5", "_no_top.h5")
WORDS = b"3 2\nokapi 1 0\nzebra 0 1\nhorse 1 1\n"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A mirror that serves a few words under the default's name."""
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    mirror = FlakyServer()
    mirror.serve(f"/{VECTORS}", Reply(gzip.compress(WORDS)))
    monkeypatch.setenv("ZEROSHOT_MIRROR", mirror.serve("/"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield mirror
    mirror.close()


def test_default_words_are_fetched_once_and_announced(server, cache_folder):
    first = succeed("labels", "check", "okapi,zebra", "-f", "json")
    for part in ("'numberbatch'", os.environ["ZEROSHOT_MIRROR"], "licence: CC BY-SA"):
        assert part in first.stderr
    assert str(cache_folder / "vectors") in first.stderr
    assert re.search(r"\(\d+ B; ", first.stderr)
    second = succeed("labels", "check", "okapi,zebra", "-f", "json")
    assert second.stderr == ""
    assert second.stdout == first.stdout
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "IMAGE", "-l", "okapi,zebra"),
        ("sort", "IMAGE", "-l", "okapi,zebra", "-o", "sorted"),
        ("fit", "PHOTOS", "-o", "model"),
        ("evaluate", "PHOTOS"),
    ],
)
def test_offline_one_error_names_every_file_and_place(
    server, arguments, red_star, photos, cache_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    given = {"IMAGE": red_star, "PHOTOS": photos}
    message = error_of(*(given.get(argument, argument) for argument in arguments))
    for name, folder in (
        *((weights, tmp_path / "keras" / "models") for weights in (NO_TOP, TOP)),
        (VECTORS, cache_folder / "vectors"),
    ):
        assert re.search(rf"https://[^ ]*/{re.escape(name)} and put it at", message)
        assert f"'{folder / name}'" in message
    assert "numberbatch.vec' (packed or unpacked)" in message
    assert server.requests == []
    assert list(cache_folder.iterdir()) == []


def test_offline_features_need_the_weights_alone(server, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    message = error_of("embed", photos, "-o", tmp_path / "features.npz")
    assert NO_TOP in message
    assert VECTORS not in message
    assert not (tmp_path / "features.npz").exists()


def test_python_has_the_same_defaults_and_never_asks(server, photos, monkeypatch):
    assert (BACKBONE, EMBEDDINGS) == ("mobilenet-v2", "numberbatch")
    network, words = registry.resolve_pair(BACKBONE, None)
    assert network.name == BACKBONE
    assert words.lookup(["okapi", "tapir"])[1].tolist() == [True, False]
    assert ZeroShotClassifier().backbone == BACKBONE
    found = registry.missing_files(BACKBONE, None)
    assert [file.name for file in found] == [NO_TOP, TOP]  # the words are here now
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    with pytest.raises(ArtifactError, match="put it at"):
        evaluate([str(photos / "red star" / "0.png")] * 2, ["okapi", "horse"])


def test_named_parts_are_not_defaults(server, photos, vectors):
    assert registry.missing_files("color-hog", str(vectors)) == []
    assert [f.name for f in registry.missing_files("color-hog", None)] == [
        "numberbatch"
    ]
    both = registry.missing_files("int8:mobilenet-v2+color-hog", str(vectors))
    assert [file.name for file in both] == [NO_TOP, TOP]


def ask(answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what it said."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "zeroshot", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=-3)
    os.close(theirs)
    os.write(ours, answer.encode())
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # Linux' word for the end of a terminal
        pass
    os.close(ours)
    return process.wait(), said.decode()


def test_on_a_terminal_it_asks_first(server, cache_folder):
    check = ("labels", "check", "okapi,zebra")
    code, said = ask("n\n", *check)
    assert code == 1
    for part in (
        "numberbatch (",
        " B; licence: CC BY-SA 4.0)",
        "Fetch?",
        "Nothing was",
    ):
        assert part in said
    assert str(cache_folder / "vectors" / VECTORS) in said
    assert not (cache_folder / "vectors").exists()
    code, said = ask("", *check, "--yes")
    assert code == 0, said
    assert "Fetch?" not in said
    code, said = ask("", *check)  # nothing to ask about
    assert code == 0, said


def test_no_image_and_no_model_is_one_clear_line(tmp_path):
    message = error_of("predict", tmp_path / "nowhere.jpg", "-l", "okapi,zebra")
    assert "nowhere.jpg', and there is no such file or folder" in message


@pytest.mark.slow
def test_from_nothing_to_an_answer_and_warm_the_second_time(
    server, real_data, cache_folder, tmp_path
):
    for name in (TOP, NO_TOP):
        content = (real_data / "keras" / "models" / name).read_bytes()
        server.serve(f"/{name}", Reply(content))
    words = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    server.serve(f"/{VECTORS}", Reply(words.read_bytes()))
    [zebra] = (real_data / "images" / "imagenet-sample").glob("*_zebra.JPEG")
    command = ("predict", zebra, "-l", "okapi,zebra,horse", "-f", "json")
    first = in_shell(*command)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)[0]["prediction"] == "zebra"
    assert first.stderr.count("fetching") == 3
    second = in_shell(*command)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert len(server.requests) == 3
    # A damaged model in the cache is made anew.
    [kept] = (cache_folder / "models").iterdir()
    (kept / "arrays.npz").write_bytes(b"damaged")
    third = in_shell(*command)
    assert (third.stdout, third.stderr) == (first.stdout, "")
    assert (tmp_path / "keras" / "models" / TOP).exists()


def test_help_names_the_defaults():
    for command in ("fit", "predict", "sort", "evaluate"):
        told = " ".join(run(command, "--help").stdout.split())
        assert BACKBONE in told
        assert EMBEDDINGS in told
