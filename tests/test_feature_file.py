import csv
import io
import json
import re
import subprocess
import sys
import tomllib
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import zeroshot
from tests.test_features import MeanColor
from zeroshot import ZeroShotClassifier, evaluate, export_features, read_features
from zeroshot.backbones import ColorHOG, KerasApplication
from zeroshot.cli import app
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    FingerprintMismatchError,
    InvalidImageError,
    LabelError,
    MissingExtraError,
    PartialCoverageWarning,
    ZeroShotWarning,
)
from zeroshot.features import extract_features, iter_features
from zeroshot.shapes import make_shapes, shape_attributes

ROOT = Path(__file__).parents[1]
FORMS = [".npz", ".parquet"]
COLORS, SHAPES = ["red", "blue", "green"], ["ring", "star", "heart"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Nine classes of six drawings, one sub-folder each."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = make_shapes(6, colors=COLORS, shapes=SHAPES, random_state=0)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{i:02}.png")
    return folder


@pytest.fixture
def vectors(tmp_path) -> Path:
    names, table = shape_attributes()
    file = tmp_path / "attributes.csv"
    rows = (",".join([n, *map(str, r)]) for n, r in zip(names, table, strict=True))
    header = ",".join(["class", *(f"a{i}" for i in range(table.shape[1]))])
    file.write_text("\n".join([header, *rows]))
    return file


@pytest.fixture(params=FORMS)
def exported(request, photos, tmp_path) -> Path:
    paths, labels = zeroshot.load_image_folder(photos)
    out = tmp_path / f"features{request.param}"
    result = export_features(paths, "color-hog", out, labels=labels)
    assert (result.n_rows, result.errors) == (54, {})
    return out


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def test_file_holds_what_was_computed(exported, photos):
    paths, labels = zeroshot.load_image_folder(photos)
    file = read_features(exported)
    assert (len(file), file.dim, file.paths) == (54, ColorHOG().dim, paths)
    assert file.labels.tolist() == labels.tolist()
    assert file.fingerprint == ColorHOG().fingerprint
    assert file.backbone["spec"] == "color-hog:64"
    assert file.versions["zeroshot"] == zeroshot.__version__
    expected = extract_features(paths, ColorHOG(), cache=False).matrix
    stored = extract_features(exported, ColorHOG()).matrix
    np.testing.assert_array_equal(stored, expected)


def test_file_is_read_by_others_and_holds_no_pickle(photos, tmp_path):
    paths, labels = zeroshot.load_image_folder(photos)
    for form in FORMS:
        export_features(paths, "color-hog", tmp_path / f"f{form}", labels=labels)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as arrays:
        arrays = dict(arrays)
    assert arrays["paths"].tolist() == paths
    about = json.loads(arrays["about"].item())
    assert about["backbone"]["name"] == "color-hog"
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["label"].to_pylist() == labels.tolist()
    np.testing.assert_array_equal(
        np.array(table["features"].to_pylist(), np.float32), arrays["features"]
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [0, 1, 1024, 2500])
def test_file_of_any_length_gives_its_rows_in_blocks(form, n, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(n)]
    out = tmp_path / f"features{form}"
    export_features(iter(images), MeanColor(), out, cache=False)
    expected = extract_features(images, MeanColor(), cache=False).matrix
    file = read_features(out)
    assert (len(file), file.paths, file.labels) == (n, [], None)
    blocks = list(iter_features(file, MeanColor()))
    assert all(len(block.matrix) <= 1024 for block in blocks)
    stored = np.concatenate([np.empty((0, 3)), *(block.matrix for block in blocks)])
    np.testing.assert_array_equal(stored, expected)
    chosen = np.flatnonzero(rng.random(n) < 0.3)
    part = extract_features(file.take(chosen), MeanColor())
    np.testing.assert_array_equal(part.matrix, expected[chosen])


@pytest.mark.parametrize("form", FORMS)
def test_file_keeps_rows_of_unreadable_images_in_line(form, photos, tmp_path):
    paths, labels = zeroshot.load_image_folder(photos)
    paths[5] = str(tmp_path / "missing.png")
    out = tmp_path / f"features{form}"
    with pytest.raises(InvalidImageError, match="missing"):
        export_features(paths, "color-hog", out, labels=labels)
    assert not list(tmp_path.glob("*features*"))
    with pytest.warns(PartialCoverageWarning, match="1 of 54.*missing"):
        result = export_features(paths, "color-hog", out, labels=labels, on_error="nan")
    assert (result.n_rows, list(result.errors)) == (54, [5])
    file = read_features(out)
    assert "missing.png" in file.errors[5]
    with pytest.raises(InvalidImageError, match="missing") as caught:
        extract_features(file, ColorHOG())
    assert caught.value.index == 5
    assert file.take([2, 5, 7]).errors == {1: file.errors[5]}
    for on_error, positions in (
        ("nan", np.arange(54)),
        ("skip", np.delete(np.arange(54), 5)),
    ):
        with pytest.warns(PartialCoverageWarning, match="1 of 54"):
            stored = extract_features(out, ColorHOG(), on_error=on_error)
        with pytest.warns(PartialCoverageWarning, match="1 of 54"):
            direct = extract_features(paths, ColorHOG(), on_error=on_error)
        np.testing.assert_array_equal(stored.positions, positions)
        np.testing.assert_array_equal(stored.matrix, direct.matrix)
    with pytest.warns(PartialCoverageWarning, match="left out"):
        export_features(paths, "color-hog", out, labels=labels, on_error="skip")
    file = read_features(out)
    assert file.paths == [*paths[:5], *paths[6:]]
    assert file.labels.tolist() == [*labels[:5], *labels[6:]]
    assert file.errors == {}


def test_file_is_taken_where_images_are(exported, photos):
    paths, labels = zeroshot.load_image_folder(photos)
    embeddings = Attributes(*shape_attributes())
    unseen = ["red ring", "blue star"]
    seen = np.flatnonzero(~np.isin(labels, unseen))
    file = read_features(exported)

    def fitted(X, y):
        return ZeroShotClassifier("color-hog", embeddings, projection="ridge").fit(X, y)

    direct = fitted([paths[i] for i in seen], labels[seen])
    stored = fitted(file.take(seen), labels[seen])
    assert stored.n_images_ == direct.n_images_ == 42
    assert stored.backbone_fingerprint_ == direct.backbone_fingerprint_
    for X in (exported, str(exported), file):
        np.testing.assert_array_equal(
            stored.predict(X, unseen), direct.predict(paths, unseen)
        )
    np.testing.assert_allclose(
        stored.transform(exported), direct.transform(paths), atol=1e-5
    )
    assert stored.score(exported, labels) == direct.score(paths, labels)
    ranked = [[r.label for r in row] for row in direct.rank(paths, k=3)]
    assert [[r.label for r in row] for row in stored.rank(exported, k=3)] == ranked
    tables = [
        str(
            evaluate(X, labels, "color-hog", embeddings, projection="ridge", n_splits=1)
        )
        for X in (exported, paths)
    ]
    assert tables[0] == tables[1]
    plain = ZeroShotClassifier(None, embeddings, projection="ridge").fit(file, labels)
    np.testing.assert_array_equal(
        plain.predict(file), fitted(file, labels).predict(file)
    )


def test_file_of_another_backbone_is_refused(exported, photos, tmp_path):
    embeddings = Attributes(*shape_attributes())
    labels = read_features(exported).labels
    clf = ZeroShotClassifier("color-hog:32", embeddings, projection="ridge")
    for call in (
        lambda: clf.fit(exported, labels),
        lambda: extract_features(exported, ColorHOG(32)),
        lambda: evaluate(exported, labels, "color-hog:32", embeddings),
        lambda: clf.fit(photos, labels).predict(exported),
    ):
        with pytest.raises(FingerprintMismatchError, match="features of 'color-hog'"):
            call()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "one byte", "missing"])
def test_file_that_is_damaged_is_named(form, damage, photos, tmp_path):
    out = tmp_path / f"features{form}"
    export_features(photos, "color-hog", out)
    content = bytearray(out.read_bytes())
    if damage == "cut":
        out.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        out.write_bytes(b"")
    elif damage == "missing":
        out.unlink()
    elif damage == "foreign" and form == ".npz":
        np.savez(out, rows=np.zeros(3))
    elif damage == "foreign":
        pq.write_table(pq.read_table(out, columns=["path"]), out)
        table = pq.read_table(out)
        pq.write_table(table.replace_schema_metadata({}), out)
    else:
        content[2000] ^= 1  # among the features
        out.write_bytes(content)
    with pytest.raises(ArtifactError, match=re.escape(str(out))):
        extract_features(out, ColorHOG())


@pytest.mark.parametrize("out", ["features.csv", "features", "nowhere/features.npz"])
def test_export_to_a_wrong_place_is_refused_before_any_work(out, tmp_path):
    with pytest.raises(ArtifactError, match=re.escape(out)):
        export_features(["/no/such.png"], "color-hog", tmp_path / out)
    with pytest.raises(LabelError, match="1 images and 2 labels"):
        export_features(["a.png"], "color-hog", tmp_path / "a.npz", labels=["a", "b"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_labels", [0, 1, 3])
def test_export_with_a_wrong_number_of_labels_says_so(form, n_labels, tmp_path):
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(2)]
    counting, out = MeanColor(), tmp_path / f"features{form}"
    for given, wrong in (
        (images, f"2 images and {n_labels} labels"),
        (iter(images), f"{min(2, n_labels + 1)} images and {n_labels} labels"),
    ):
        with pytest.raises(LabelError, match=wrong):
            export_features(
                given, counting, out, labels=["okapi"] * n_labels, cache=False
            )
    assert not list(tmp_path.iterdir())
    if n_labels < 2:  # nobody knows that labels are left over before the last image
        assert counting.batches == []


@pytest.mark.parametrize("form", FORMS)
def test_names_that_are_no_text_are_kept(form, tmp_path):
    names = ["\udcff.png", "a\nb\x1b[31m.png", "=1+1.png", "\\x41.png", "ordinary.png"]
    paths = [str(tmp_path / name) for name in names]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path, "PNG")
    paths.append(str(tmp_path / "missing\udcff.png"))
    out = tmp_path / f"features{form}"
    with pytest.warns(PartialCoverageWarning):
        export_features(
            paths, MeanColor(), out, labels=[*names, ""], cache=False, on_error="nan"
        )
    file = read_features(out)
    assert file.paths == paths
    assert file.labels.tolist() == [*names, ""]
    assert list(file.errors) == [5]
    assert Path(file.paths[0]).is_file()


@pytest.mark.parametrize("pixels", ["1", None])
def test_file_of_images_decoded_otherwise_is_used_with_a_warning(pixels, tmp_path):
    out = tmp_path / "features.npz"
    image = np.zeros((8, 8, 3), np.uint8)
    export_features([image], MeanColor(), out, cache=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = extract_features(out, MeanColor()).matrix
    with np.load(out) as arrays:
        arrays = dict(arrays)
    about = json.loads(arrays["about"].item())
    assert about["pixels"] == read_features(out).pixels
    about |= {"pixels": pixels, "format": 1}
    del about["sha256"]  # files of format 1 had none
    np.savez(out, **arrays | {"about": json.dumps(about)})
    with pytest.warns(ZeroShotWarning, match="decoded otherwise"):
        np.testing.assert_array_equal(extract_features(out, MeanColor()).matrix, rows)


def test_blocks_with_an_unknown_on_error_are_refused(tmp_path):
    out = tmp_path / "features.npz"
    export_features([np.zeros((8, 8, 3), np.uint8)], MeanColor(), out, cache=False)
    with pytest.raises(ValueError, match="'bananas'"):
        next(read_features(out).blocks("bananas"))


@pytest.mark.parametrize("positions", [[1, 0], [0, 0], [-1], [2], [True, True]])
def test_take_of_positions_that_are_no_rows_is_refused(positions, tmp_path):
    out = tmp_path / "features.npz"
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    export_features(images, MeanColor(), out, cache=False)
    with pytest.raises(ValueError, match="from 0 to 1"):
        read_features(out).take(positions)


@pytest.mark.parametrize(
    "wrong", [{"labels": np.zeros(2)}, {"paths": np.array(["a"])}, {"about": "3"}]
)
def test_file_with_parts_that_do_not_fit_is_refused(wrong, tmp_path):
    out = tmp_path / "features.npz"
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    export_features(images, MeanColor(), out, labels=["a", "b"], cache=False)
    with np.load(out) as arrays:
        arrays = dict(arrays)
    np.savez(out, **arrays | wrong)
    with pytest.raises(ArtifactError, match="damaged or something else"):
        read_features(out)


def test_export_that_fails_keeps_the_older_file(photos, tmp_path):
    out = tmp_path / "features.npz"
    export_features(photos, "color-hog", out)
    before = out.read_bytes()
    with pytest.raises(InvalidImageError):
        export_features([*photos.rglob("*.png"), b"junk"], "color-hog", out)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["features.npz"]


def test_parquet_without_pyarrow_gives_the_command(photos, tmp_path):
    code = """
import sys
sys.modules["pyarrow"] = sys.modules["pyarrow.parquet"] = None
from zeroshot import export_features
from zeroshot.errors import MissingExtraError
try:
    export_features(sys.argv[1], "color-hog", sys.argv[2])
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(photos), str(tmp_path / "f.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    command = re.search(r'pip install "zeroshot\[(\w+)\]"', done.stdout)
    assert command, done.stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["optional-dependencies"][command[1]]
    assert any(need.startswith("pyarrow") for need in needs)
    assert issubclass(MissingExtraError, ImportError)


# The command line.


def test_embed_writes_labels_where_a_folder_or_table_has_them(photos, tmp_path):
    out = tmp_path / "features.npz"
    result = succeed("embed", photos, "-b", "color-hog", "-o", out)
    assert "54 rows of" in result.stdout
    assert set(read_features(out).labels) == {p.name for p in photos.iterdir()}
    succeed("embed", photos / "red star", "-b", "color-hog", "-o", out)
    assert read_features(out).labels is None
    table = tmp_path / "table.csv"
    image = next(photos.rglob("*.png"))
    table.write_text(f"path,label\n{image},okapi\n")
    succeed("embed", table, "-b", "color-hog", "-o", out)
    assert read_features(out).labels.tolist() == ["okapi"]
    table.write_text(f"path\n{image}\n")
    succeed("embed", table, "-b", "color-hog", "-o", out)
    assert read_features(out).labels is None
    assert read_features(out).paths == [str(image)]


def test_embed_names_unreadable_images_and_chooses_the_exit_code(photos, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes(next(photos.rglob("*.png")).read_bytes())
    (folder / "b.png").write_text("no image")
    out = tmp_path / "features.npz"
    args = ("embed", folder, "-b", "color-hog", "-o", out)
    failed = run(*args)
    assert failed.exit_code == 1
    assert "b.png" in failed.stderr
    assert not out.exists()
    result = succeed(*args, "--on-error", "nan")
    assert "b.png" in result.stderr
    assert len(read_features(out)) == 2
    assert run(*args, "--on-error", "skip", "--fail-on-error").exit_code == 3
    assert len(read_features(out)) == 1


def test_commands_take_the_file_in_place_of_images(exported, photos, vectors, tmp_path):
    options = ("-b", "color-hog", "-e", vectors, "-p", "ridge")
    for images, model in ((photos, "direct"), (exported, "stored")):
        out = tmp_path / model
        fitted = succeed("fit", images, *options, "--hold-out", 0.3, "-o", out)
        assert "Trained ridge on 36 images" in fitted.stdout
    direct, stored = (
        succeed(
            "predict", tmp_path / model, images, "-l", "red ring,blue star", "-f", "csv"
        )
        for model, images in (("direct", photos), ("stored", exported))
    )
    rows = [list(csv.DictReader(io.StringIO(r.stdout))) for r in (direct, stored)]
    for one, other in zip(*rows, strict=True):
        assert (one["image"], one["label"]) == (other["image"], other["label"])
    tables = [
        succeed("evaluate", images, *options, "--splits", 1).stdout
        for images in (photos, exported)
    ]
    assert tables[0] == tables[1]
    both = run("predict", tmp_path / "direct", exported, photos)
    assert both.exit_code == 1
    assert "one file of features" in both.stderr
    bare = tmp_path / "bare.npz"
    export_features(photos, "color-hog", bare)
    assert "has none" in run("fit", bare, *options, "-o", tmp_path / "m").stderr


class Features576:
    """Stands for a network when features are made; its own is not needed then."""

    name, dim, input_size = "mobilenet-v3-small", 576, (32, 32)
    fingerprint = KerasApplication(name, weights=None, input_size=32).fingerprint

    def embed(self, images):
        return images.reshape(len(images), -1)[:, :576].astype(np.float32)


def test_fit_and_predict_from_a_file_import_no_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), np.uint8)
    out, model = tmp_path / "features.npz", tmp_path / "model"
    export_features(images, Features576(), out)
    code = """
import sys
import zeroshot
from zeroshot.embeddings import Attributes
from zeroshot.shapes import shape_attributes
labels = ["red star"] * 10 + ["blue ring"] * 10
words = Attributes(*shape_attributes())
network = "mobilenet-v3-small:32,none"
clf = zeroshot.ZeroShotClassifier(network, words, projection="ridge")
clf.fit(sys.argv[1], labels).save(sys.argv[2])
loaded = zeroshot.load(sys.argv[2])
print((loaded.predict(sys.argv[1]) == clf.predict(sys.argv[1])).sum())
sys.exit("tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(model)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr


def test_npz_is_a_plain_archive(photos, tmp_path):
    out = tmp_path / "features.npz"
    export_features(photos, "color-hog", out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
