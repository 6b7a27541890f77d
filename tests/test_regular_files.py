"""What is opened by a path that somebody gave: regular files of limited size only."""

import os
import socket

import pytest

from zeroshot.errors import ArtifactError
from zeroshot.storage.regular_files import open_regular, read_limited


def test_regular_file_and_a_link_to_one_are_read(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"abc")
    link.symlink_to(file)
    for path in (file, str(file), link):
        with open_regular(path) as opened:
            assert opened.read() == b"abc"
        assert read_limited(path, 3) == b"abc"


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such files")
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder"])
def test_other_kinds_of_files_are_refused_by_name_and_without_waiting(kind, tmp_path):
    place = tmp_path / "place"
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(place))  # such a path must be short
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    with pytest.raises(ArtifactError, match=f"'{place}', which is {kind}"):
        open_regular(place)


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", "x" * 5000, "/no/such", "%s"])
def test_text_that_is_no_path_of_a_file_is_refused(path):
    with pytest.raises(ArtifactError, match="Expected a readable file"):
        read_limited(path, 1)


def test_file_above_the_limit_is_refused_unread(tmp_path):
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(ArtifactError, match=f"at most 10 bytes.*of {1 << 40}"):
        read_limited(file, 10)
