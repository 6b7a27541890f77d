import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot.datasets import load_image_csv, load_image_folder, load_images
from zeroshot.errors import ArtifactError, LabelError, PartialCoverageWarning
from zeroshot.images.files import read_table
from zeroshot.shapes import COLORS, SHAPES, make_shapes, shape_attributes


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_load_image_folder_lists_images_with_their_class(tmp_path):
    root = tree(
        tmp_path,
        *("polar bear/2.jpg", "polar bear/deep/1.PNG", "polar bear/._2.jpg"),
        *("ant/9.webp", "ant/readme.txt", ".git/x.png", "class_names.tsv"),
    )
    paths, labels = load_image_folder(root)
    expected = ["ant/9.webp", "polar bear/2.jpg", "polar bear/deep/1.PNG"]
    assert paths == [str(root / name) for name in expected]
    assert labels.tolist() == ["ant", "polar bear", "polar bear"]
    assert labels.dtype.kind == "U"


def test_load_image_folder_class_names_replace_folder_names(tmp_path):
    root = tree(tmp_path / "images", "n1/a.png", "n2/b.png", "n3/c.png")
    names = {"n1": "cat", "n2": "cat", "n3": "Egyptian cat, Mau", "n4": "dog"}
    tsv = tmp_path / "names.tsv"
    tsv.write_text("".join(f"{k}\t{v}\n" for k, v in names.items()))
    table = tmp_path / "names.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(names.items())
    for given_names in (names, tsv, str(tsv), table):
        labels = load_image_folder(root, given_names)[1]
        assert labels.tolist() == ["cat", "cat", "Egyptian cat, Mau"]


def test_load_image_folder_missing_class_names_are_all_named(tmp_path):
    root = tree(tmp_path, "n1/a.png", "n2/b.png", "n3/c.png")
    with pytest.raises(LabelError, match="'n1', 'n3'"):
        load_image_folder(root, {"n2": "cat"})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("n1\tcat\nn1\tdog\n", "'n1' again in line 2"),
        ("n1\tcat\nn2 dog\n", "line 2"),
        ("n1\t\n", "line 1"),
        ("n1\ta\tb\n", "line 1"),
        ("", r"names\.tsv"),
    ],
)
def test_load_image_folder_bad_class_names_file_raises(tmp_path, text, match):
    root = tree(tmp_path, "n1/a.png")
    (tmp_path / "names.tsv").write_text(text)
    with pytest.raises(ArtifactError, match=match):
        load_image_folder(root, tmp_path / "names.tsv")


def test_load_image_folder_without_sub_folders_counts_images(tmp_path):
    with pytest.raises(ArtifactError, match="no sub-folder and 2 images"):
        load_image_folder(tree(tmp_path, "a.png", "b.png", "c.txt"))


def test_load_image_folder_empty_classes_are_named(tmp_path):
    root = tree(tmp_path, "a/x.txt", "b/x.png", "c/.x.png")
    with pytest.raises(ArtifactError, match="'a', 'c'"):
        load_image_folder(root)


def test_load_image_folder_loose_images_warn(tmp_path):
    root = tree(tmp_path, "a/x.png", "b/x.png", "y.png")
    with pytest.warns(PartialCoverageWarning, match="1 images directly"):
        paths, _ = load_image_folder(root)
    assert len(paths) == 2


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing", "No such file"), ("file.txt", "Not a directory")]
)
def test_load_image_folder_no_folder_raises(tmp_path, name, reason):
    with pytest.raises(ArtifactError, match=f"{name}': {reason}"):
        load_image_folder(tree(tmp_path, "file.txt") / name)


def test_load_image_csv_gives_paths_and_labels(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('Label,extra,path\n"a, b",1,x.png\ndog,,/y.png\n')
    for load in (load_image_csv, load_images):
        paths, labels = load(path)
        assert paths == [str(tmp_path / "x.png"), "/y.png"]
        assert labels.tolist() == ["a, b", "dog"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,class\na,b\n", "one column 'label'.*line 1.*'path', 'class'"),
        ("path,label,label\na,b,c\n", "one column 'label'"),
        ("path,label\n", "rows below the header"),
        ("path,label\na.png,x\n\nb.png\n", "line 4"),
        ("path,label\na.png,x\nb.png,\n", "line 3"),
        ("path,label\na.png,x,y\n", "line 2.*double quotes"),
        ("", "rows"),
    ],
)
def test_load_image_csv_bad_table_names_the_line(tmp_path, text, match):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=match):
        load_image_csv(path)


def test_load_images_csv_with_class_names_raises(tmp_path):
    with pytest.raises(LabelError, match="folder of images only"):
        load_images(tmp_path / "list.csv", {"a": "b"})


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip)


@given(rows=st.lists(st.lists(CELL, min_size=1), min_size=1))
def test_read_table_reads_what_csv_writes(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    expected = [row for row in rows if any(row)]
    if not expected:
        with pytest.raises(ArtifactError):
            read_table(path)
        return
    if expected[0][0].startswith("\ufeff") and rows[0] == expected[0]:
        return  # a byte order mark belongs to the file, not to the cell
    assert [row for _, row in read_table(path)] == expected


@given(content=st.binary())
def test_read_table_any_bytes_raise_only_our_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(content)
    try:
        rows = read_table(path)
    except ArtifactError:
        return
    assert rows
    assert all(line >= 1 for line, _ in rows)


def test_load_image_folder_real_photographs(real_data):
    root = real_data / "images" / "tiny-imagenet-val"
    paths, labels = load_images(root, root / "class_names.tsv")
    assert len(paths) == 200 * 50
    names, counts = np.unique(labels, return_counts=True)
    assert len(names) == 200
    assert set(counts) == {50}
    assert labels[[Path(p).parent.name == "n02124075" for p in paths]][0] == (
        "Egyptian cat"
    )


def test_make_shapes_gives_every_class():
    images, labels = make_shapes(2)
    assert images.shape == (128, 64, 64, 3)
    assert images.dtype == np.uint8
    names, counts = np.unique(labels, return_counts=True)
    assert set(names) == {f"{color} {shape}" for color in COLORS for shape in SHAPES}
    assert set(counts) == {2}
    assert len(np.unique(images.reshape(128, -1), axis=0)) == 128


def test_make_shapes_same_seed_same_images_other_seed_others():
    first, again, other = (
        make_shapes(1, shapes=["star"], random_state=seed)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_make_shapes_class_does_not_depend_on_the_others():
    images, labels = make_shapes(2)
    few, _ = make_shapes(3, colors=["pink", "red"], shapes=["heart", "ring"])
    np.testing.assert_array_equal(few[9:11], images[labels == "red ring"])


@pytest.mark.parametrize("size", [16, 40, 96])
def test_make_shapes_color_and_area_are_right(size):
    # Oracle: the pixels nearest the color's RGB among all colors and greys.
    images, labels = make_shapes(3, size=size, shapes=["circle"])
    assert images.shape[1:] == (size, size, 3)
    for image, label in zip(images, labels, strict=True):
        color = label.split()[0]
        pixels = image.reshape(-1, 3).astype(float)
        colorful = np.ptp(pixels, axis=1) > 75
        nearest = [
            list(COLORS)[np.argmin([np.linalg.norm(p - c) for c in COLORS.values()])]
            for p in pixels[colorful]
        ]
        assert np.mean([name == color for name in nearest]) > 0.8
        assert 0.1 < colorful.mean() < 0.65


def test_make_shapes_shapes_have_their_holes():
    for shape, hole in (("circle", False), ("ring", True)):
        images, _ = make_shapes(6, colors=["red"], shapes=[shape])
        for image in images:
            red = np.ptp(image.astype(int), axis=2) > 75
            rows, columns = np.nonzero(red)
            centre = red[round(rows.mean()), round(columns.mean())]
            assert centre != hole


@pytest.mark.parametrize(
    "wrong",
    [{"colors": ["mauve"]}, {"colors": []}, {"shapes": ["star", "star"]}],
)
def test_make_shapes_wrong_words_raise(wrong):
    with pytest.raises(LabelError, match=f"Expected {next(iter(wrong))}"):
        make_shapes(1, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"n_per_class": 0}, {"size": 8}, {"random_state": -1}]
)
def test_make_shapes_wrong_numbers_raise(wrong):
    with pytest.raises(ValueError, match="Expected n_per_class >= 1"):
        make_shapes(**wrong)


def test_shape_attributes_compose_every_class_apart():
    words, matrix = shape_attributes()
    assert words == [*COLORS, *SHAPES]
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-6)
    colors, shapes = matrix[:8], matrix[8:]
    assert (colors @ shapes.T == 0).all()
    pairs = (colors[:, None] + shapes).reshape(64, -1) / np.sqrt(2)
    likeness = pairs @ pairs.T - np.eye(64)
    assert likeness.max() < 0.98


def test_make_shapes_can_be_saved(tmp_path):
    images, _ = make_shapes(1, colors=["red"], shapes=["cross"])
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), images[0])
