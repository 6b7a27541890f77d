"""Damaged archives: what was packed, or an error of ours.

``ZEROSHOT_FUZZ=1 pytest tests/test_damaged_archives.py -s`` tries 12,000 and prints
what became of them.
"""

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from damage import flips, mutations, n_cases
from damage_tally import Tally

from zeroshot.errors import ArtifactError
from zeroshot.storage.large_files import verify
from zeroshot.storage.unpacking import recorded_files, unpack_folder, unpack_member

FILES = {
    "saved_model.pb": random.Random(0).randbytes(700) + bytes(900),
    "variables/variables.index": b"index " * 60,
    f"assets/{'long ' * 30}.txt": b"",  # has a header of its own
}


def archive_of(form: str) -> bytes:
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        return out.getvalue()
    if form == "gz":
        return gzip.compress(FILES["saved_model.pb"])
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue()) if form == "tar.gz" else out.getvalue()


class Place:
    """Where archives are put and unpacked."""

    def __init__(self, folder: Path, form: str) -> None:
        self.archive, self.out = folder / "archive", folder / "out" / "result"
        self.form = form

    def unpacked(self, content: bytes) -> object:
        """Unpack an archive; nothing may be left where that fails."""
        self.archive.write_bytes(content)
        try:
            if self.form.startswith("tar"):
                unpack_folder(self.archive, self.out, origin="archive")
                found = {
                    path.relative_to(self.out).as_posix(): path.read_bytes()
                    for path in sorted(self.out.rglob("*"))
                    if path.is_file()
                }
                assert len(recorded_files(self.out)) == len(found)
                return found
            member = "saved_model.pb" if self.form == "zip" else None
            unpack_member(self.archive, self.out, member=member)
            verify(self.out)
            return self.out.read_bytes()
        finally:
            self.clear()

    def clear(self) -> None:
        made = sorted(self.archive.parent.rglob("*"), reverse=True)
        allowed = {"archive", "out", "result", ".result.lock", "result.sha256"}
        for path in made:
            if not path.is_relative_to(self.out):
                assert path.name in allowed, path
            if path.is_dir():
                path.rmdir()
            elif path != self.archive:
                path.unlink()


@pytest.mark.parametrize("make", [flips, mutations])
@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip", "gz"])
def test_archive_damaged_anywhere_gives_no_other_content(form, make, tmp_path):
    content, place = archive_of(form), Place(tmp_path, form)
    right, tally = place.unpacked(content), Tally(f"{form}, {make.__name__}")
    for case, damaged in enumerate(make(content, n_cases(40, 1_500), seed=1)):
        tally.add(lambda damaged=damaged: place.unpacked(damaged), right, case)
    tally.check(may_change=form == "tar")  # of its contents a tar has no checksum


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_tar_header_of_many_digits_is_refused_in_linear_time(kind, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        # A file that looks like the block before a header must not hide one.
        decoy = tarfile.TarInfo("decoy")
        decoy.size = 512
        archive.addfile(decoy, io.BytesIO(b"x" * 512))
        header = tarfile.TarInfo("header")
        header.type, header.size = kind, 60_000
        archive.addfile(header, io.BytesIO(b"1" * 60_000))
    archive_file, tally = tmp_path / "a.tar.gz", Tally("digits")
    archive_file.write_bytes(gzip.compress(out.getvalue()))
    tally.add(
        lambda: unpack_folder(archive_file, tmp_path / "out", origin="archive"), None
    )
    assert tally.counts == {"refused": 1}
    assert tally.slowest < 2


def test_unpacked_module_that_was_changed_is_refused(tmp_path):
    from zeroshot.tfhub.content import folder_sha256

    archive, folder = tmp_path / "a.tar.gz", tmp_path / "module"
    archive.write_bytes(archive_of("tar.gz"))
    unpack_folder(archive, folder, origin="archive")
    assert folder_sha256(folder)
    index = folder / "variables" / "variables.index"
    index.write_bytes(b"Index" + index.read_bytes()[5:])
    with pytest.raises(ArtifactError, match=r"variables\.index.*changed"):
        folder_sha256(folder)
    index.unlink()
    with pytest.raises(ArtifactError, match=r"variables\.index.*changed"):
        folder_sha256(folder)
