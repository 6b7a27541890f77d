import gzip
import hashlib
import os
import random
import shlex
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import time
import traceback
from email.utils import formatdate
from pathlib import Path

import pytest
from flaky_server import FlakyServer, Reply

from zeroshot.errors import ArtifactError
from zeroshot.storage.download import download
from zeroshot.storage.large_files import verify

CONTENT = random.Random(0).randbytes(1_000_003)
OTHER = random.Random(1).randbytes(1_000_003)
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
QUICK = {"pause": 0.01, "timeout": 0.5}


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = FlakyServer()
    yield server
    server.close()


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "folder" / "vectors.bin"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def assert_nothing_usable(destination: Path) -> None:
    """No file of that name, and no hash that a later download would be held to."""
    assert not destination.exists()
    assert not destination.with_name(f"{destination.name}.sha256").exists()


def refused(*arguments, **parameters) -> str:
    with pytest.raises(ArtifactError) as caught:
        download(*arguments, **(QUICK | parameters))
    return str(caught.value)


# ------------------------------------------------------------------------- what works


def test_download_makes_the_file_and_records_its_hash(server, destination):
    url = server.serve("/a", Reply(CONTENT))
    assert download(url, destination, **QUICK) == destination
    assert destination.read_bytes() == CONTENT
    assert server.requests[0][1]["Accept-Encoding"] == "identity"
    assert server.ranges("/a") == [None]
    checked = subprocess.run(
        ["sha256sum", "-c", "vectors.bin.sha256"], cwd=destination.parent
    )
    assert checked.returncode == 0
    left = {path.name for path in destination.parent.iterdir()}
    assert left == {"vectors.bin", "vectors.bin.sha256", ".vectors.bin.lock"}
    assert stat.S_IMODE(destination.stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_download_of_a_file_that_is_there_asks_nobody(server, destination):
    url = server.serve("/a", Reply(CONTENT))
    destination.parent.mkdir()
    destination.write_bytes(b"mine")
    assert download(url, destination, **QUICK).read_bytes() == b"mine"
    assert not server.requests


def test_download_follows_redirects(server, destination):
    url = server.serve("/a", Reply(status=302, headers={"Location": "/b"}))
    server.serve("/b", Reply(CONTENT, cut=300_000), Reply(CONTENT))
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/b")[-1] == "bytes=300000-"


def test_download_without_length_ends_with_the_last_chunk(server, destination):
    url = server.serve("/a", Reply(CONTENT, chunked=True))
    assert download(url, destination, **QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("hashes", [{"sha256": sha256(CONTENT)}, {"md5": "MD5"}])
def test_download_with_published_hash_and_size_accepts_the_file(
    server, destination, hashes
):
    if "md5" in hashes:
        hashes = {"md5": hashlib.md5(CONTENT).hexdigest().upper()}
    url = server.serve("/a", Reply(CONTENT))
    download(url, destination, size=len(CONTENT), **hashes, **QUICK)
    assert destination.read_bytes() == CONTENT


# ------------------------------------------------------------------------ what resumes


@pytest.mark.parametrize("chunked", [False, True])
def test_download_cut_again_and_again_loses_no_byte(server, destination, chunked):
    # 40 cuts, far more than the 5 tries without progress that are allowed.
    url = server.serve("/a", Reply(CONTENT, cut=25_000, chunked=chunked))
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    begins = [int((asked or "bytes=0-")[6:-1]) for asked in server.ranges("/a")]
    assert begins == [25_000 * i for i in range(len(begins))]


def test_download_that_stalls_is_resumed(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=100_000, stall=3.0), Reply(CONTENT))
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=100000-"]


def test_download_by_a_later_process_resumes_what_an_earlier_one_left(
    server, destination
):
    url = server.serve("/a", Reply(CONTENT, cut=400_000), Reply(status=503))
    assert "503" in refused(url, destination, attempts=1)
    server.serve("/a", Reply(CONTENT))
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a")[-1] == "bytes=400000-"
    assert server.requests[-1][1]["If-Range"] == '"one"'


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_download_that_cannot_be_identified_starts_again(server, destination, etag):
    url = server.serve("/a", Reply(CONTENT, etag=etag, cut=400_000), Reply(OTHER))
    download(url, destination, **QUICK)
    assert destination.read_bytes() == OTHER
    assert server.ranges("/a") == [None, None]


def test_download_from_a_server_without_range_starts_again(server, destination):
    reply = {"knows_range": False}
    url = server.serve(
        "/a", Reply(CONTENT, cut=400_000, **reply), Reply(CONTENT, **reply)
    )
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=400000-"]


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("size", [1_000_003, 700_000, 200_000])
def test_download_of_a_file_that_changes_midway_mixes_nothing(
    server, destination, knows_if_range, size
):
    changed = Reply(OTHER[:size], etag='"two"', knows_if_range=knows_if_range)
    url = server.serve("/a", Reply(CONTENT, cut=400_000), changed)
    download(url, destination, **QUICK)
    assert destination.read_bytes() == OTHER[:size]


def test_download_never_resumes_what_came_from_another_address(server, destination):
    first = server.serve("/a", Reply(CONTENT, cut=400_000), Reply(status=404))
    second = server.serve("/b", Reply(OTHER))
    download(first, destination, mirrors=[second], **QUICK)
    assert destination.read_bytes() == OTHER
    assert server.ranges("/b") == [None]


def test_download_whose_old_part_is_not_of_the_file_starts_again(server, destination):
    url = server.serve("/a", Reply(OTHER, cut=400_000), Reply(status=404))
    refused(url, destination)
    # The same ETag for other bytes: only the hash can tell.
    server.serve("/a", Reply(CONTENT))
    download(url, destination, sha256=sha256(CONTENT), **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a")[-2:] == ["bytes=400000-", None]


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"address": 3}',
        b'{"validator": 3}',
        b'{"total": "500"}',
        b'{"total": 500}',
    ],
)
def test_download_with_a_damaged_note_of_an_old_part_starts_again(
    server, destination, state
):
    url = server.serve("/a", Reply(CONTENT))
    destination.parent.mkdir()
    destination.with_name("vectors.bin.part").write_bytes(OTHER[:500])
    destination.with_name("vectors.bin.part.json").write_bytes(state)
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT


def test_download_whose_last_byte_came_before_a_kill_is_only_named(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=400_000), Reply(status=404))
    refused(url, destination)
    asked = len(server.requests)
    destination.with_name("vectors.bin.part").write_bytes(CONTENT)
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert len(server.requests) == asked


# ----------------------------------------------------------------- what is tried again


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_download_tries_again_after_passing_troubles(server, destination, status):
    url = server.serve("/a", Reply(status=status), Reply(status=status), Reply(CONTENT))
    assert download(url, destination, **QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "wish", ["1", lambda: formatdate(time.time() + 2, usegmt=True)], ids=["s", "date"]
)
def test_download_waits_as_long_as_it_is_asked_to(server, destination, wish):
    headers = {"Retry-After": wish if isinstance(wish, str) else wish()}
    url = server.serve("/a", Reply(status=429, headers=headers), Reply(CONTENT))
    begin = time.monotonic()
    download(url, destination, **QUICK)
    assert time.monotonic() - begin >= 0.9


def test_download_asked_to_wait_too_long_gives_the_address_up(server, destination):
    slow = Reply(status=503, headers={"Retry-After": "3600"})
    url = server.serve("/a", slow)
    begin = time.monotonic()
    assert "wait 3600 s" in refused(url, destination)
    assert time.monotonic() - begin < 1
    download(url, destination, mirrors=[server.serve("/b", Reply(CONTENT))], **QUICK)
    assert destination.read_bytes() == CONTENT


def test_download_gives_up_after_some_tries_without_a_byte(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=100_000), Reply(CONTENT, cut=0))
    message = refused(url, destination, attempts=3)
    assert "cut after 98 KiB, 3 times in a row" in message
    assert len(server.requests) == 4
    assert_nothing_usable(destination)


def test_download_that_is_cut_after_every_few_bytes_gives_up(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=10))
    assert "5 times in a row" in refused(url, destination)


def test_download_from_a_server_that_only_ever_starts_gives_up(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=100_000, knows_range=False))
    assert "5 times in a row" in refused(url, destination)
    assert len(server.requests) == 6


def test_download_from_nobody_says_what_the_system_said(server, destination):
    url = server.serve("/a").replace("127.0.0.1", "127.0.0.2")
    message = refused(url, destination, attempts=2)
    assert "refused" in message
    assert url in message
    assert str(destination) in message


def test_download_tries_the_mirrors_in_turn(server, destination):
    urls = [
        server.serve(
            "/a", Reply(PAGE, status=404, headers={"Content-Type": "text/html"})
        ),
        server.serve("/b", Reply(OTHER)),
        server.serve("/c", Reply(CONTENT)),
    ]
    download(urls[0], destination, mirrors=urls[1:], sha256=sha256(CONTENT), **QUICK)
    assert destination.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/a", "/b", "/c"]


@pytest.mark.parametrize("status", [503, 302])
def test_download_never_reads_the_body_of_a_try_again_or_redirect(
    server, destination, status
):
    # 16 pieces, half a second each.
    endless = Reply(CONTENT, status=status, headers={"Location": "/b"}, delay=0.5)
    url = server.serve("/a", endless, Reply(CONTENT))
    server.serve("/b", Reply(CONTENT))
    begin = time.monotonic()
    download(url, destination, pause=0.01)
    assert time.monotonic() - begin < 2
    assert destination.read_bytes() == CONTENT


def test_download_refused_by_a_mirror_keeps_what_came_from_the_first(
    server, destination
):
    first = server.serve("/a", Reply(CONTENT, cut=400_000), Reply(status=404))
    refused(first, destination, mirrors=[server.serve("/b", Reply(status=404))])
    server.serve("/a", Reply(CONTENT))
    download(first, destination, **QUICK)
    assert server.ranges("/a")[-1] == "bytes=400000-"


# ---------------------------------------------------------------------- what is secret


def test_download_tells_nobody_the_secrets_of_an_address(server, destination, capsys):
    def secret(path: str) -> str:
        url = server.serve(f"{path}?token=hidden", *replies[path])
        return url.replace("//", "//me:hidden@")

    replies = {
        "/cut": [Reply(CONTENT, cut=9)] * 3 + [Reply(status=503)],
        "/404": [Reply(status=404)],
        "/moved": [Reply(status=302, headers={"Location": "/to?token=hidden"})],
        "/moved-away": [Reply(status=302, headers={"Location": "ftp://hidden@a/b"})],
        "/moved-in-circles": [Reply(status=302, headers={"Location": "?hidden"})],
    }
    urls = [secret(path) for path in replies]
    urls += [
        "http://me:hidden@127.0.0.2:1/a?token=hidden",
        "http://me:hidden@nowhere.invalid/a?token=hidden",
        "http://me:hidden:hidden@127.0.0.1:hidden/a",
        "http://me:hidden@[/a",
        "me:hidden@127.0.0.1/a",
        "http:/me:hidden@127.0.0.1/a",
    ]
    with pytest.raises(ArtifactError) as caught:
        download(urls[0], destination, mirrors=urls[1:], attempts=2, **QUICK)
    told = "".join(traceback.format_exception(caught.value)) + capsys.readouterr().err
    assert "/404?...: got status 404" in told
    assert "hidden" not in told
    part = destination.with_name("vectors.bin.part.json")
    assert "hidden" not in part.read_text()


def test_download_offline_keeps_the_secrets_of_an_address(destination, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    message = refused("https://me:hidden@host/a?token=hidden", destination)
    assert "https://host/a?..." in message
    assert "hidden" not in message


@pytest.fixture
def https_server(tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    subprocess.run(
        shlex.split(
            "openssl req -x509 -nodes -newkey rsa:2048 -keyout key.pem -out cert.pem "
            "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    server = FlakyServer(tls)
    yield server
    server.close()


def test_download_led_from_https_to_http_is_refused(server, https_server, destination):
    plain = server.serve("/b", Reply(CONTENT))
    moved = Reply(status=302, headers={"Location": plain})
    url = https_server.serve("/a", moved)
    assert f"from https to {plain}" in refused(url, destination)
    assert not server.requests
    https_server.serve("/a", Reply(status=302, headers={"Location": "/c"}))
    https_server.serve("/c", Reply(CONTENT))
    assert download(url, destination, **QUICK).read_bytes() == CONTENT


def test_download_from_a_server_with_a_false_certificate_is_refused_at_once(
    https_server, destination, monkeypatch
):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    url = https_server.serve("/a", Reply(CONTENT))
    assert "CERTIFICATE_VERIFY_FAILED" in refused(url, destination, pause=100.0)


# -------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("status", [401, 403, 404, 410, 204])
def test_download_refused_by_the_server_is_not_asked_for_again(
    server, destination, status
):
    reply = Reply(PAGE, status=status, headers={"Content-Type": "text/html"})
    message = refused(server.serve("/a", reply), destination)
    assert f"status {status}" in message
    assert "text/html" in message
    assert len(server.requests) == 1
    assert_nothing_usable(destination)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(CONTENT, headers={"Content-Type": "text/html; charset=utf-8"}),
        Reply(PAGE),
        Reply(b"\xef\xbb\xbf \n<HTML lang='en'>" + CONTENT),
    ],
    ids=["by type", "by content", "with a byte order mark"],
)
def test_download_of_a_web_page_in_place_of_the_file_is_refused(
    server, destination, reply
):
    assert "web page" in refused(server.serve("/a", reply), destination)
    assert_nothing_usable(destination)
    assert not destination.with_name("vectors.bin.part").exists()


def test_download_redirected_to_a_login_page_names_it(server, destination):
    page = Reply(PAGE, headers={"Content-Type": "text/html"})
    login = server.serve("/login", page)
    url = server.serve("/a", Reply(status=302, headers={"Location": "/login"}))
    assert f"from {login}" in refused(url, destination)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sha256": sha256(OTHER)}, "SHA-256"),
        ({"md5": hashlib.md5(OTHER).hexdigest()}, "MD5"),
        ({"size": 1_000_004}, "1000003 bytes, not 1000004"),
    ],
)
def test_download_of_other_content_is_refused(
    server, destination, parameters, expected
):
    url = server.serve("/a", Reply(CONTENT))
    assert expected in refused(url, destination, **parameters)
    assert_nothing_usable(destination)
    assert not destination.with_name("vectors.bin.part").exists()


def test_download_of_other_content_after_a_cut_ends(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=400_000))
    assert "SHA-256" in refused(url, destination, sha256=sha256(OTHER))


def test_download_of_other_size_is_refused_before_its_first_byte(server, destination):
    url = server.serve("/a", Reply(CONTENT, cut=0))
    assert "bytes, not 5" in refused(url, destination, size=5)
    assert len(server.requests) == 1


def test_download_without_end_stops_at_the_published_size(server, destination):
    url = server.serve("/a", Reply(CONTENT, chunked=True, delay=0.01))
    assert "more than 100000 bytes" in refused(url, destination, size=100_000)
    assert_nothing_usable(destination)


@pytest.mark.parametrize("chunked", [True, False])
def test_download_of_unknown_size_stops_at_a_limit(server, destination, chunked):
    url = server.serve("/a", Reply(CONTENT, chunked=chunked))
    assert "100000" in refused(url, destination, largest=100_000)
    assert_nothing_usable(destination)
    assert not destination.with_name("vectors.bin.part").exists()


def test_download_of_unknown_size_stops_at_the_limit_of_the_environment(
    server, destination, monkeypatch
):
    monkeypatch.setenv("ZEROSHOT_MAX_DOWNLOAD", "100KB")
    url = server.serve("/a", Reply(CONTENT, chunked=True))
    assert "more than 102400 bytes" in refused(url, destination)
    assert not destination.with_name("vectors.bin.part").exists()
    download(url, destination, size=len(CONTENT), **QUICK)  # it is known: no limit
    assert destination.read_bytes() == CONTENT


def test_download_whose_end_nobody_tells_needs_a_check(server, destination):
    url = server.serve("/a", Reply(CONTENT, tells_length=False, cut=400_000))
    assert "neither its size nor where it ends" in refused(url, destination)
    assert "not 1000003" in refused(url, destination, size=len(CONTENT))
    archive = destination.with_name("vectors.zip")  # shows itself whether it is whole
    assert download(url, archive, **QUICK).stat().st_size == 400_000
    server.serve("/a", Reply(CONTENT, tells_length=False))
    download(url, destination, size=len(CONTENT), **QUICK)
    assert destination.read_bytes() == CONTENT


def test_download_that_drips_is_given_up(server, destination):
    url = server.serve("/a", Reply(CONTENT, piece=10, delay=0.05))
    begin = time.monotonic()
    assert "less than 1 KiB a second" in refused(url, destination)
    assert time.monotonic() - begin < 2


def test_download_of_a_part_that_nobody_asked_for_is_refused(server, destination):
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    url = server.serve("/a", Reply(CONTENT, status=206, headers=headers))
    assert "status 206" in refused(url, destination)


@pytest.mark.parametrize("chunked", [False, True])
def test_download_of_an_empty_file_is_refused(server, destination, chunked):
    url = server.serve("/a", Reply(b"", chunked=chunked))
    assert "0 bytes" in refused(url, destination)
    assert_nothing_usable(destination)


def test_download_claimed_too_long_is_never_taken_for_whole(server, destination):
    url = server.serve("/a", Reply(CONTENT, claimed=len(CONTENT) + 1000))
    refused(url, destination)
    assert_nothing_usable(destination)


def test_download_claimed_too_short_is_found_by_its_size(server, destination):
    url = server.serve("/a", Reply(CONTENT, claimed=1000))
    assert "1000 bytes" in refused(url, destination, size=len(CONTENT))
    assert_nothing_usable(destination)


def test_download_packed_unasked_is_refused(server, destination):
    packed = Reply(gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"})
    url = server.serve("/a", packed)
    assert "'gzip' unasked" in refused(url, destination)


def test_download_of_a_packed_file_called_so_is_taken_as_it_is(server, tmp_path):
    content = gzip.compress(CONTENT)
    url = server.serve("/a", Reply(content, headers={"Content-Encoding": "gzip"}))
    path = download(url, tmp_path / "vectors.vec.gz", **QUICK)
    assert path.read_bytes() == content


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "no address", "http://", ""])
def test_download_from_something_that_is_no_address_says_so(destination, url):
    refused(url, destination)
    assert_nothing_usable(destination)


def test_download_that_differs_from_the_first_one_is_refused(server, destination):
    url = server.serve("/a", Reply(CONTENT))
    download(url, destination, **QUICK)
    destination.unlink()
    server.serve("/a", Reply(OTHER))
    message = refused(url, destination)
    record = destination.with_name("vectors.bin.sha256")
    assert str(record) in message
    assert not destination.exists()
    record.unlink()
    assert download(url, destination, **QUICK).read_bytes() == OTHER


def test_download_prefers_the_published_hash_to_the_recorded(server, destination):
    url = server.serve("/a", Reply(CONTENT))
    download(url, destination, **QUICK)
    destination.unlink()
    server.serve("/a", Reply(OTHER))
    download(url, destination, sha256=sha256(OTHER), **QUICK)
    verify(destination)


def test_download_offline_says_what_to_put_where(server, destination, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    url = server.serve("/a", Reply(CONTENT))
    message = refused(url, destination)
    assert url in message
    assert str(destination) in message
    assert not server.requests
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "0")
    download(url, destination, **QUICK)


def test_download_through_the_proxy_of_the_environment(
    server, destination, monkeypatch
):
    proxy = server.serve("http://vectors.invalid/a", Reply(CONTENT))
    monkeypatch.setenv("http_proxy", proxy[: proxy.index("http://v", 1)])
    download("http://vectors.invalid/a", destination, **QUICK)
    assert destination.read_bytes() == CONTENT


# ---------------------------------------------------------------------------- the disk


def test_download_larger_than_the_free_space_is_refused_at_once(server, destination):
    url = server.serve("/a", Reply(b"x" * 9, claimed=1 << 60))
    assert "free space" in refused(url, destination, largest=1 << 61)
    assert len(server.requests) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_download_into_a_folder_without_rights_says_so(server, destination):
    destination.parent.mkdir(mode=0o500)
    url = server.serve("/a", Reply(CONTENT))
    assert "ZEROSHOT_CACHE" in refused(url, destination)


def test_download_below_a_file_says_so(server, tmp_path):
    (tmp_path / "file").write_text("")
    url = server.serve("/a", Reply(CONTENT))
    assert "ZEROSHOT_CACHE" in refused(url, tmp_path / "file" / "a")


@pytest.mark.parametrize("chunked", [False, True], ids=["size", "no size"])
def test_download_on_a_full_disk_keeps_what_can_be_finished(
    chunked, server, destination
):
    url = server.serve("/a", Reply(CONTENT, chunked=chunked))
    code = CHILD.replace("MAIN", "download(sys.argv[1], Path(sys.argv[2]))")
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited + code, url, destination],
        capture_output=True,
        text=True,
    )
    assert "ArtifactError: Expected to store" in done.stderr
    part = destination.with_name("vectors.bin.part")
    if chunked:  # nobody knows how much room it wants
        assert not part.exists()
        return
    assert part.stat().st_size == 500_000
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=500000-"]


def test_download_that_cannot_be_resumed_leaves_no_part(server, destination):
    url = server.serve("/a", Reply(CONTENT, etag=None, cut=400_000), Reply(status=404))
    refused(url, destination)
    assert {path.name for path in destination.parent.iterdir()} == {".vectors.bin.lock"}


@pytest.mark.parametrize("damage", [b"", OTHER])
def test_verify_finds_a_file_that_changed(server, destination, damage):
    download(server.serve("/a", Reply(CONTENT)), destination, **QUICK)
    verify(destination)
    destination.write_bytes(damage)
    with pytest.raises(ArtifactError, match=r"changed or damaged.*Delete it"):
        verify(destination)


def test_verify_without_a_recorded_hash_says_so(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ArtifactError, match="by hand"):
        verify(tmp_path / "a")


def test_verify_of_a_file_that_is_gone_says_so(server, destination):
    download(server.serve("/a", Reply(CONTENT)), destination, **QUICK)
    destination.unlink()
    with pytest.raises(ArtifactError, match="Check the path"):
        verify(destination)


# -------------------------------------------------------------- processes, kill, Ctrl-C

CHILD = """
import sys
import requests, urllib3
from pathlib import Path
from zeroshot.storage.download import download
print("ready", flush=True)
MAIN
"""


def start(main: str, *arguments: object) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.replace("MAIN", main), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def end(child: subprocess.Popen[str]) -> str:
    """Wait for a child; return what it said on stderr."""
    return child.communicate()[1]


FETCH = "download(sys.argv[1], Path(sys.argv[2]))"


def test_download_by_two_processes_at_once_fetches_once(server, destination):
    url = server.serve("/a", Reply(CONTENT, delay=0.03))
    main = f"sys.stdin.readline(); {FETCH}"
    children = [start(main, url, destination) for _ in range(3)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [end(child) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    assert sum("waiting for it" in text for text in said) == 2
    assert destination.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_download_stopped_by_ctrl_c_is_resumed(server, destination):
    url = server.serve("/a", Reply(CONTENT, delay=0.05), Reply(CONTENT))
    child = start(FETCH, url, destination)
    part = destination.with_name("vectors.bin.part")
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in end(child)
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    download(url, destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, f"bytes={kept}-"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kills(few: int, many: int):
    """Parametrize over seeds of random moments: a few by default, many under slow."""
    rest = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many)]
    return pytest.mark.parametrize("seed", [*range(few), *rest])


@kills(10, 100)
def test_download_killed_at_any_moment_succeeds_next_time(server, destination, seed):
    moment = random.Random(seed)
    url = server.serve(
        "/a", Reply(CONTENT, cut=moment.choice([None, 300_000]), delay=0.01)
    )
    child = start(FETCH, url, destination)
    time.sleep(moment.uniform(0, 0.3))
    child.kill()
    end(child)
    assert not destination.exists() or destination.read_bytes() == CONTENT
    download(server.serve("/a", Reply(CONTENT)), destination, **QUICK)
    assert destination.read_bytes() == CONTENT
    verify(destination)
