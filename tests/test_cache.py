"""Files and folders are written whole or not at all."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zeroshot.storage.cache import cache_root, replace_directory, replace_file


def test_cache_root_is_the_folder_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.setenv("ZEROSHOT_CACHE", "~/there")
    assert cache_root() == Path.home() / "there"
    assert not (tmp_path / "here").exists()


def test_cache_root_without_environment_ends_in_our_name(monkeypatch):
    monkeypatch.delenv("ZEROSHOT_CACHE")
    assert "zeroshot" in cache_root().parts


def write_file(path, text):
    with replace_file(path) as temporary:
        temporary.write_text(text)


def write_directory(path, text):
    with replace_directory(path) as temporary:
        (temporary / "one").write_text(text)
        (temporary / "two").write_text(text)


def read_file(path):
    return {path.read_text()}


def read_directory(path):
    return {(path / "one").read_text(), (path / "two").read_text()}


FORMS = pytest.mark.parametrize(
    ("replace", "write", "read"),
    [
        (replace_file, write_file, read_file),
        (replace_directory, write_directory, read_directory),
    ],
    ids=["file", "directory"],
)


@FORMS
def test_replace_makes_the_folder_and_leaves_nothing_else(
    replace, write, read, tmp_path
):
    target = tmp_path / "new" / "deep" / "target.x"
    write(target, "first")
    write(target, "second")
    assert read(target) == {"second"}
    assert os.listdir(target.parent) == ["target.x"]


@FORMS
def test_replace_shows_nothing_before_the_block_ends(replace, write, read, tmp_path):
    target = tmp_path / "target.x"
    write(target, "old")
    with replace(target) as temporary:
        assert temporary.parent == target.parent  # renaming works within a disk only
        assert read(target) == {"old"}


@FORMS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replace_with_an_exception_keeps_the_old(replace, write, read, error, tmp_path):
    target = tmp_path / "target.x"
    write(target, "old")

    def fail():
        with replace(target) as temporary:
            if replace is replace_directory:
                (temporary / "one").write_text("half")
            else:
                temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert read(target) == {"old"}
    assert os.listdir(tmp_path) == ["target.x"]


@FORMS
def test_replace_by_concurrent_writers_gives_one_whole_result(
    replace, write, read, tmp_path
):
    target = tmp_path / "target.x"
    errors = []

    def write_often(name):
        try:
            for number in range(25):
                write(target, f"{name} {number}" * 100)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write_often, args=(n,)) for n in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(read(target)) == 1  # both files of a folder are of one writer
    assert read(target).pop()[2:4] == "24"
    assert os.listdir(tmp_path) == ["target.x"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX modes")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_replace_gives_the_mode_of_a_file_written_plainly(mask, tmp_path):
    # In a process of its own: the mask belongs to the whole process.
    code = f"""
import os
from pathlib import Path
from zeroshot.storage.cache import replace_directory, replace_file
os.umask({mask})
with replace_file(Path("file")) as f:
    f.write_text("x")
with replace_directory(Path("folder")) as d:
    (d / "inner").write_text("x")
Path("plain").write_text("x")
Path("plain_folder").mkdir()
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

    def mode(name):
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    assert mode("file") == mode("folder/inner") == mode("plain") == 0o666 & ~mask
    assert mode("folder") == mode("plain_folder") == 0o777 & ~mask


def test_replace_file_keeps_the_ending_for_writers_that_look_at_it(tmp_path):
    with replace_file(tmp_path / "arrays.npz") as temporary:
        assert temporary.suffix == ".npz"
        temporary.touch()


KILLED = """
import os, sys
from pathlib import Path
from zeroshot.storage import cache
with getattr(cache, sys.argv[1])(Path("target.x")) as temporary:
    if temporary.is_dir():
        temporary = temporary / "one"
    temporary.write_text("half")
    os._exit(9)
"""


@FORMS
def test_replace_removes_what_a_killed_process_left_and_nothing_else(
    replace, write, read, tmp_path
):
    command = [sys.executable, "-c", KILLED, replace.__name__]
    others = {tmp_path / ".target-settings.x", tmp_path / ".target-unfinished-work.x"}
    for other in others:
        other.write_text("dear")
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, check=False)
    assert len(set(tmp_path.iterdir())) == 3  # the second has removed the first one's
    with replace(tmp_path / "target.x") as begun:
        if replace is replace_directory:
            (begun / "one").write_text("one")
            (begun / "two").write_text("one")
        else:
            begun.write_text("one")
        assert set(tmp_path.iterdir()) == {*others, begun}
        write(tmp_path / "target.x", "two")  # what a live one writes to is not touched
        assert begun.exists()
    assert read(tmp_path / "target.x") == {"one"}
    assert set(tmp_path.iterdir()) == {tmp_path / "target.x", *others}


@pytest.mark.skipif(sys.platform != "linux", reason="others cannot exchange folders")
def test_replace_directory_leaves_no_instant_without_a_whole_one(tmp_path):
    target = tmp_path / "target"
    write_directory(target, "0")
    code = """
import sys
from pathlib import Path
seen = 0
while not Path("done").exists():
    opened = (Path("target") / "one").open()  # fails where there is none
    seen += 1
print(seen)
"""
    reader = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE
    )
    for number in range(300):
        write_directory(target, str(number))
    (tmp_path / "done").touch()
    assert int(reader.communicate(timeout=30)[0]) > 100
    assert reader.returncode == 0


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused = pytest.raises(OSError, match="Not a regular file")
    with refused, replace_file(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1
