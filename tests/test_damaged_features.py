"""Damaged and hostile files of features: what was written, or an error of ours.

``ZEROSHOT_FUZZ=1 pytest tests/test_damaged_features.py -s`` tries 4,000 and prints what
became of them.
"""

import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import flips, mutations, n_cases
from damage_tally import Tally
from test_features import MeanColor

from zeroshot import export_features, read_features
from zeroshot.errors import ArtifactError, PartialCoverageWarning
from zeroshot.features import extract_features

FORMS = [".npz", ".parquet"]


@pytest.fixture(scope="module", params=FORMS)
def exported(request, tmp_path_factory) -> Path:
    """Features of forty images, one of which could not be read."""
    images = [np.full((8, 8, 3), 5 * i, np.uint8) for i in range(39)]
    labels = [f"class {i % 7}" for i in range(40)]
    out = tmp_path_factory.mktemp("features") / f"features{request.param}"
    with pytest.warns(PartialCoverageWarning):
        export_features(
            [*images, "/no/such.png"],
            MeanColor(),
            out,
            labels=labels,
            cache=False,
            on_error="nan",
        )
    return out


def content_of(path: Path) -> tuple[object, ...]:
    file = read_features(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialCoverageWarning)
        matrix = extract_features(file, MeanColor(), on_error="nan").matrix
    labels = None if file.labels is None else file.labels.tolist()
    facts = file.backbone, file.versions, file.pixels
    return matrix.tobytes(), file.paths, labels, file.errors, facts


@pytest.mark.parametrize("make", [flips, mutations])
def test_file_damaged_anywhere_gives_no_other_answer(make, exported, tmp_path):
    path = tmp_path / exported.name
    content, right = exported.read_bytes(), content_of(exported)
    tally = Tally(f"{path.suffix}, {make.__name__}")
    for case, damaged in enumerate(make(content, n_cases(60, 1_000), seed=1)):
        path.write_bytes(damaged)
        tally.add(lambda: content_of(path), right, case)
    tally.check()


def test_file_whose_rows_or_texts_were_exchanged_is_refused(exported, tmp_path):
    path, content = tmp_path / exported.name, exported.read_bytes()
    if path.suffix == ".npz":
        with np.load(exported) as arrays:
            arrays = dict(arrays)
        for name in ("features", "labels", "paths", "errors"):
            np.savez(path, **arrays | {name: arrays[name][::-1]})
            if not np.array_equal(arrays[name], arrays[name][::-1]):
                with pytest.raises(ArtifactError, match="damaged"):
                    content_of(path)
        np.savez(path, **{k: v for k, v in arrays.items() if k != "labels"})
    else:
        table = pq.read_table(exported)
        about = {"about": pq.ParquetFile(exported).metadata.metadata[b"about"]}
        table = table.replace_schema_metadata(about)
        pq.write_table(table.take(list(range(39, -1, -1))), path)
        with pytest.raises(ArtifactError, match="damaged"):
            content_of(path)
        pq.write_table(table.drop_columns("label"), path)
    with pytest.raises(ArtifactError, match="damaged"):
        content_of(path)
    path.write_bytes(content)
    assert content_of(path) == content_of(exported)


def test_file_replaced_while_it_is_open_is_refused(exported, tmp_path):
    path = tmp_path / exported.name
    path.write_bytes(exported.read_bytes())
    file = read_features(path)
    images = [np.full((8, 8, 3), 9, np.uint8)] * 40
    export_features(images, MeanColor(), path, labels=["x"] * 40, cache=False)
    with pytest.raises(ArtifactError, match="changed since"):
        next(file.blocks(on_error="nan"))


def header(shape: str, kind: str = "<f4", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text.encode()


def forged(path: Path, **members: bytes) -> Path:
    """Write an ``.npz`` of members that are not as NumPy writes them."""
    about = {"format": 1, "versions": {}, "pixels": None}
    about["backbone"] = {"name": "m", "spec": None, "fingerprint": "f"}
    good = {"features": np.zeros((2, 3), "<f4"), "about": np.array(json.dumps(about))}
    good |= {"errors": np.array([], "U1"), "error_rows": np.array([], "<i8")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in good.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", members.pop(name, buffer.getvalue()))
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


MIB = 1 << 20


@pytest.mark.parametrize(
    "members",
    [
        {"features": header("(1000000000000, 1280)")},
        {"features": header("(4000000000, 0)")},
        {"features": header("(-1, 3)") + bytes(12)},
        {"features": header("(2, 3)", version=b"\x02\x00") + bytes(25)},
        {"features": header("(" * 3000 + "2" + ",)" * 3000)},
        {"features": header("(2, 1" + "0" * 5000 + ")")},
        {"features": header("(2, 3)", "|O") + bytes(48)},
        {"features": header("(40000, 1000)") + bytes(160_000_000)},
        {"paths": header("(2,)", "<U1000000000") + bytes(8)},
        {"paths": header("(1000000000000000,)", "<U0")},
        {"paths": header("(2,)", "<U1") + struct.pack("<2I", 1, 0x11FFFF)},
        {"labels": header("(40000000,)", "<U1") + bytes(160_000_000)},
        {"junk": bytes(400 * MIB)},
        {"about": header("()", "<U3") + "[[[".encode("utf-32-le")},
    ],
    ids=lambda members: "".join(members)[:8],
)
def test_npz_that_claims_or_unpacks_to_too_much_is_refused(members, tmp_path):
    path, tally = tmp_path / "features.npz", Tally("forged .npz")
    forged(path)
    read_features(path)
    forged(path, **members)
    tally.add(lambda: content_of(path), None)
    tally.check()
    assert tally.counts["refused"] == 1


def test_npz_with_a_password_or_members_of_one_name_is_refused(tmp_path):
    path = forged(tmp_path / "features.npz")
    content = bytearray(path.read_bytes())
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(sign) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="password"):
        read_features(path)
    forged(path)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr("features.npy", header("(1, 3)") + bytes(12))
    with pytest.raises(ArtifactError, match="own name"):
        read_features(path)


@pytest.mark.parametrize("case", ["rows", "texts", "dictionary"])
def test_parquet_that_unpacks_to_too_much_is_refused(case, tmp_path):
    path = tmp_path / "features.parquet"
    n = 3_000_000 if case == "rows" else 100_000
    about = {"format": 1, "versions": {}}
    about["backbone"] = {"name": "m", "spec": None, "fingerprint": "f"}
    paths = pa.DictionaryArray.from_arrays(np.zeros(n, "i4"), ["x" * 1000])
    if case == "texts":
        paths = paths.cast(pa.string())
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * n, "f4")), 2)
    none = pa.nulls(n, pa.string())
    table = pa.table(
        {"path": none if case == "rows" else paths, "error": none, "features": zeros},
        metadata={"about": json.dumps(about)},
    )
    pq.write_table(table, path, compression="zstd")
    del table, paths, zeros, none
    assert path.stat().st_size < MIB
    tally = Tally(f"forged .parquet, {case}")
    tally.add(lambda: content_of(path), None)
    tally.check()
    assert tally.counts["refused"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_regular_file_is_refused_at_once(form, tmp_path):
    path = tmp_path / f"features{form}"
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="features"):
        read_features(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="features"):
        read_features(path)
