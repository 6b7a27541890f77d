"""Archives: whole, damaged and hostile ones, and processes that die unpacking them."""

import contextlib
import gzip
import io
import random
import stat
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import verify
from zeroshot.storage.unpacking import unpack_folder, unpack_member

CONTENT = random.Random(0).randbytes(1_000_003)
MIB = 1 << 20


def zipped(path: Path, members: dict[str, bytes], method: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tarred(path: Path, *members, form: int = tarfile.PAX_FORMAT) -> Path:
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode, format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def unpack(archive: Path, member: str | None = None) -> Path:
    """Unpack by whichever function is made for it, to a folder of its own."""
    out = archive.parent / "out" / "result"
    if ".tar" in archive.name:
        return unpack_folder(archive, out, origin=str(archive))
    return unpack_member(archive, out, member=member)


def not_unpacked(archive: Path, member: str | None = None) -> str:
    before = set(archive.parent.rglob("*"))
    with pytest.raises(ArtifactError) as caught:
        unpack(archive, member)
    after = {path.name for path in set(archive.parent.rglob("*")) - before}
    assert after <= {"out", ".result.lock"}
    assert str(archive) in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------- what works


@pytest.mark.parametrize("member", ["b.txt", "folder/b.txt"])
def test_unpack_takes_the_wanted_member(tmp_path, member):
    members = {"a.txt": b"A", "folder/b.txt": CONTENT, "c.txt": b"C"}
    path = unpack(zipped(tmp_path / "a.zip", members), member)
    assert path.read_bytes() == CONTENT
    verify(path)


def test_unpack_without_a_name_takes_the_only_file(tmp_path):
    members = {"folder/": b"", "folder/a.txt": CONTENT, "__MACOSX/._a.txt": b"junk"}
    assert unpack(zipped(tmp_path / "a.zip", members)).read_bytes() == CONTENT


def test_unpack_of_gzip_in_several_parts_takes_all(tmp_path):
    archive = tmp_path / "a.gz"
    archive.write_bytes(gzip.compress(CONTENT) + gzip.compress(b"more"))
    assert unpack(archive).read_bytes() == CONTENT + b"more"


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_unpack_of_a_tar_makes_its_folder(tmp_path, name, form):
    long = f"variables/{'x' * 150}"  # a name in a header of its own
    folder = member(".", type=tarfile.DIRTYPE)
    archive = tarred(
        tmp_path / name,
        *(folder, member("./saved_model.pb", b"graph", mode=0o600)),
        *(member(long, CONTENT), member("empty"), member("full", bytes(1024))),
        form=form,
    )
    result = unpack(archive)
    assert files_below(result) == {
        "saved_model.pb": b"graph",
        long: CONTENT,
        "empty": b"",
        "full": bytes(1024),
    }
    plain = tmp_path / "plain"
    plain.mkdir()
    assert result.stat().st_mode == plain.stat().st_mode
    assert (result / "variables").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_unpack_of_what_is_there_does_not_look_at_the_archive(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result").write_bytes(b"mine")
    assert unpack(tmp_path / name).read_bytes() == b"mine"


# ----------------------------------------------------------------------------- hostile

PATHS = ["../evil", "/evil", "a/../../evil", "..\\evil", "C:/evil", "C:\\evil"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_of_a_path_that_leads_out_is_refused(tmp_path, path, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, {path: CONTENT})
    else:
        tarred(archive, member("good", CONTENT), member(path, CONTENT))
    assert "leads out" in not_unpacked(archive)
    assert not list(tmp_path.parent.rglob("evil"))
    assert not Path("/evil").exists()


def test_unpack_of_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("vectors.txt")
    info.create_system = 3  # Unix
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "a link" in not_unpacked(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_unpack_of_a_special_file_in_a_tar_is_refused(tmp_path, kind):
    link = member("link", type=kind, linkname="good")
    archive = tarred(tmp_path / "a.tar", member("good", CONTENT), link)
    assert "a link or another special file" in not_unpacked(archive)


def test_unpack_of_an_encrypted_member_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"a.txt": CONTENT})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert "password" in not_unpacked(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unpack_of_a_rare_packing_is_refused(tmp_path, method):
    archive = zipped(tmp_path / "a.zip", {"a.txt": CONTENT}, method)
    assert "not packed by deflate" in not_unpacked(archive)


@pytest.mark.parametrize("kind", ["zip", "gz", "tar.gz"])
def test_unpack_of_a_bomb_stops_before_it_fills_the_memory(tmp_path, kind):
    archive, zeros = tmp_path / f"a.{kind}", bytes(65 * MIB)
    if kind == "zip":
        zipped(archive, {"a.txt": zeros})
    elif kind == "gz":
        archive.write_bytes(gzip.compress(zeros, 1))
    else:
        tarred(archive, member("a", zeros))
    assert_refused_in_little_memory(archive, "more than 64 MiB")


def assert_refused_in_little_memory(archive: Path, expected: str) -> None:
    tracemalloc.start()
    message = not_unpacked(archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert expected in message
    assert peak < 8 * MIB


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME],
)
def test_unpack_of_a_tar_with_a_long_header_stops_before_it_is_read(tmp_path, kind):
    long = member("header", bytes(32 * MIB), type=kind)
    archive = tarred(tmp_path / "a.tar.gz", long, member("a", CONTENT))
    assert_refused_in_little_memory(archive, "a header of")


def test_unpack_of_a_bomb_that_lies_about_its_size_stops(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"a.txt": bytes(65 * MIB)})
    content = bytearray(archive.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    archive.write_bytes(content)
    not_unpacked(archive)


def test_unpack_of_a_tar_of_countless_files_stops(tmp_path):
    names = (member(f"{number}") for number in range(1_001))
    archive = tarred(tmp_path / "a.tar.gz", *names)
    assert "more than 1000 files" in not_unpacked(archive)


# ----------------------------------------------------------------------------- damaged


def raw_header(name: str, size: int, **fields) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "tail",
    [
        raw_header("a", -1024),
        raw_header("a", 1 << 60),
        raw_header("pax", 512, type=tarfile.XHDTYPE) * 2000,
        raw_header("pax", 12, type=tarfile.XHDTYPE)
        + b"12 path=a\0b\n".ljust(512, b"\0")
        + raw_header("a", 0),
        raw_header("pax", 12, type=tarfile.XHDTYPE)
        + b"12 size=-99\n".ljust(512, b"\0")
        + raw_header("a", 0),
        b"junk" * 128,
        b"junk",
        b"",
    ],
    ids=["negative", "endless", "nested", "nul", "pax-size", "junk", "short", "no-end"],
)
@pytest.mark.parametrize("packed", [True, False])
def test_unpack_of_a_tar_with_a_broken_header_is_refused(tmp_path, tail, packed):
    content = raw_header("good", 512) + bytes(512) + tail
    end = b"" if tail in (b"", b"junk") else bytes(1024)
    archive = tmp_path / ("a.tar.gz" if packed else "a.tar")
    archive.write_bytes(gzip.compress(content + end) if packed else content + end)
    not_unpacked(archive)


@pytest.mark.parametrize("kind", ["zip", "gz", "tar", "tar.gz"])
def test_unpack_of_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, {"a.txt": CONTENT[:2000]})
    elif kind == "gz":
        path.write_bytes(gzip.compress(CONTENT[:2000]))
    else:
        tarred(path, member("a", CONTENT[:2000]), member("b", CONTENT[:1024]))
    # What follows the end of a plain tar is padding.
    end = 512 + 2048 + 512 + 1024 + 512 if kind == "tar" else path.stat().st_size
    whole = path.read_bytes()
    for length in {*range(12), *range(12, end, 97), *range(0, end, 512), end - 1}:
        path.write_bytes(whole[:length])
        not_unpacked(path)


@pytest.mark.parametrize("kind", ["zip", "gz", "tar.gz"])
def test_unpack_of_a_damaged_archive_is_refused(tmp_path, kind):
    archive, content = tmp_path / f"a.{kind}", b"x" + bytes(1000) + CONTENT[:500]
    if kind == "zip":
        zipped(archive, {"a.txt": content})
    elif kind == "gz":
        archive.write_bytes(gzip.compress(content))
    else:
        tarred(archive, member("a", content), member("b", content))
    whole, right = archive.read_bytes(), None
    changed = random.Random(3)
    for place in [None, *range(len(whole) - 8, len(whole)), *[-1] * 200]:
        damaged = bytearray(whole)
        if place is not None:
            at = changed.randrange(len(whole)) if place < 0 else place
            damaged[at] ^= 1 << changed.randrange(8)
        archive.write_bytes(damaged)
        out = tmp_path / "out" / "result"
        # A bit may not matter, as one of the date.
        with contextlib.suppress(ArtifactError):
            unpack(archive)
        assert not out.with_name("result.unpacking").exists()
        if out.exists():
            got = files_below(out) if out.is_dir() else out.read_bytes()
            right = right or got
            assert got == right
            assert place is None or place < 0 or kind == "zip"
            out.rename(tmp_path / f"{random.random()}")
    assert right


@pytest.mark.parametrize("member", ["missing.txt", None])
def test_unpack_without_the_member_lists_what_is_there(tmp_path, member):
    members = {f"{number}.txt": b"" for number in range(20)}
    message = not_unpacked(zipped(tmp_path / "a.zip", members), member)
    assert "'0.txt'" in message
    assert "and more" in message
    assert "19.txt" not in message


def test_unpack_of_an_empty_archive_is_refused(tmp_path):
    assert "no file" in not_unpacked(zipped(tmp_path / "a.zip", {}))


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"<html>", None])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_of_no_archive_is_refused(tmp_path, content, kind):
    archive = tmp_path / f"a.{kind}"
    if content is not None:
        archive.write_bytes(content)
    not_unpacked(archive)


# ------------------------------------------------------------------ processes and disk

CHILD = """
import resource, signal, sys
from pathlib import Path
from zeroshot.storage.unpacking import unpack_folder, unpack_member
archive, out = Path(sys.argv[1]), Path(sys.argv[2])
if limit := int(sys.argv[3]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
if ".tar" in archive.name:
    unpack_folder(archive, out, origin="origin")
else:
    unpack_member(archive, out)
"""
LARGE = 24_000_000


def start(archive: Path, out: Path, limit: int = 0) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, archive, out, str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archive")
    content = random.Random(2).randbytes(LARGE // 6) * 6
    with tarfile.open(folder / "large.tar.gz", "w:gz", compresslevel=1) as archive:
        for name in "ab":
            archive.addfile(member(name, content)[0], io.BytesIO(content))
    with zipfile.ZipFile(folder / "large.zip", "w", 8, compresslevel=1) as archive:
        archive.writestr("vectors.txt", content)
    return {"zip": folder / "large.zip", "tar": folder / "large.tar.gz"}


def size_of(out: Path) -> int:
    files = files_below(out).values() if out.is_dir() else [out.read_bytes()]
    return sum(map(len, files))


def kills(few: int, many: int):
    """Parametrize over seeds of random moments: a few by default, many under slow."""
    rest = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many)]
    return pytest.mark.parametrize("seed", [*range(few), *rest])


@kills(6, 60)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_killed_at_any_moment_succeeds_next_time(tmp_path, large, kind, seed):
    out, whole = tmp_path / "result", LARGE if kind == "zip" else 2 * LARGE
    child = start(large[kind], out)
    time.sleep(random.Random(seed).uniform(0, 0.15))
    child.kill()
    child.communicate()
    assert not out.exists() or size_of(out) == whole
    end = start(large[kind], out)
    assert end.communicate()[1] == ""
    assert size_of(out) == whole
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"result", ".result.lock", "result.sha256"}
    if kind == "zip":
        verify(out)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_on_a_full_disk_says_so_and_leaves_nothing(tmp_path, large, kind):
    out = tmp_path / "result"
    told = start(large[kind], out, limit=1_000_000).communicate()[1]
    assert "ArtifactError: Expected to store" in told
    assert "Make room" in told
    assert {path.name for path in tmp_path.iterdir()} == {".result.lock"}
