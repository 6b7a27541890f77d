import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot.datasets import load_image_csv, load_image_folder, load_images
from zeroshot.errors import ArtifactError, LabelError, PartialCoverageWarning
from zeroshot.images import as_image_list
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


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "test2017", "extra")])
def test_load_image_folder_parts_of_a_data_set_are_refused(tmp_path, parts):
    for part in parts:
        tree(tmp_path, f"{part}/cat/a.png", f"{part}/dog/b.png")
    match = rf"parts of a data set: '{parts[0]}', .* hold 'cat', 'dog'. Give one of"
    with pytest.raises(ArtifactError, match=match):
        load_image_folder(tmp_path)
    assert set(load_image_folder(tmp_path / parts[0])[1]) == {"cat", "dog"}
    names = {part: part for part in parts}
    assert set(load_image_folder(tmp_path, names)[1]) == set(parts)


@pytest.mark.parametrize("parts", [("train", "test"), ("validation",)])
def test_load_image_folder_parts_without_classes_are_refused(tmp_path, parts):
    tree(tmp_path, *(f"{part}/a.png" for part in parts))
    with pytest.raises(ArtifactError, match="which hold no classes"):
        load_image_folder(tmp_path)


def test_load_image_folder_class_named_train_is_a_class(tmp_path):
    tree(tmp_path, "car/a.png", "train/a.png", "train/steam/b.png", "test tube/a.png")
    assert load_image_folder(tmp_path)[1].tolist() == [
        "car",
        "test tube",
        *["train"] * 2,
    ]


def test_load_image_folder_single_folder_around_the_classes_is_refused(tmp_path):
    tree(tmp_path, "photos/cat/a.png", "photos/dog/b.png", "readme.txt")
    with pytest.raises(ArtifactError, match=r"only 'photos', which holds 'cat', 'dog'"):
        load_image_folder(tmp_path)


def test_load_image_folder_folders_of_the_system_are_no_classes(tmp_path):
    tree(tmp_path, "a/x.png", "b/y.png", "@eaDir/x.png", "lost+found/z.png", "c.txt")
    tree(tmp_path, "a/@eaDir/x.png/THUMB.jpg", "b/Thumbs.db", "__MACOSX/a/._x.png")
    assert load_image_folder(tmp_path)[1].tolist() == ["a", "b"]


# What cannot be read, even by root: links that lead nowhere, or in circles.
UNREADABLE = [("gone", "nowhere"), ("circle", "circle")]


@pytest.mark.parametrize(("name", "target"), UNREADABLE)
def test_load_image_folder_unreadable_folder_raises_or_warns(tmp_path, name, target):
    tree(tmp_path, "a/x.png", "b/y.png")
    (tmp_path / "b" / name).symlink_to(target)
    for load in (load_image_folder, load_images, as_image_list):
        with pytest.raises(ArtifactError, match=rf"1 in .*b/{name}'.* hold 2 images"):
            load(tmp_path)
        with pytest.warns(PartialCoverageWarning, match=rf"1 folders .*b/{name}'"):
            assert len(load(tmp_path, on_error="skip")) == 2
    with pytest.warns(PartialCoverageWarning):
        assert len(load_images(tmp_path, on_error="nan")[0]) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_load_image_folder_without_permission_names_the_folder():
    code = (
        "import os, pathlib, tempfile\n"
        "from zeroshot.datasets import load_image_folder\n"
        "from zeroshot.errors import ArtifactError\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "with tempfile.TemporaryDirectory() as name:\n"
        "    for place in ('a/1.png', 'b/2.png', 'b/closed/3.png'):\n"
        "        path = pathlib.Path(name, place)\n"
        "        path.parent.mkdir(exist_ok=True)\n"
        "        path.touch()\n"
        "    path.parent.chmod(0)\n"
        "    try: load_image_folder(name)\n"
        "    except ArtifactError as error: print(error)\n"
        "    path.parent.chmod(0o700)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "b/closed' (Permission denied). The others hold 2 images" in done.stdout, (
        done.stderr
    )


def test_image_files_linked_folders_are_followed_but_not_in_circles(tmp_path):
    tree(tmp_path, "all/cat/a.png", "elsewhere/dog/b.png")
    (tmp_path / "all" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "all" / "cat" / "up").symlink_to(tmp_path / "all")
    (tmp_path / "elsewhere" / "dog" / "back").symlink_to(tmp_path / "all")
    expected = [str(tmp_path / "all" / name) for name in ("cat/a.png", "dog/b.png")]
    assert as_image_list(tmp_path / "all") == expected
    paths, labels = load_image_folder(tmp_path / "all")
    assert (paths, labels.tolist()) == (expected, ["cat", "dog"])


def test_load_image_folder_relative_root_gives_relative_paths(tmp_path, monkeypatch):
    tree(tmp_path, "a/x.png", "b/y.png")
    monkeypatch.chdir(tmp_path)
    assert load_image_folder(".")[0] == [os.path.join("a", "x.png"), "b/y.png"]
    assert load_image_folder(f"../{tmp_path.name}")[1].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing", "No such file"), ("file.txt", "Not a directory")]
)
def test_load_image_folder_no_folder_raises(tmp_path, name, reason):
    with pytest.raises(ArtifactError, match=f"{name}': {reason}"):
        load_image_folder(tree(tmp_path, "file.txt") / name)


def test_load_image_csv_gives_paths_and_labels(tmp_path):
    path = tmp_path / "list.csv"
    tree(tmp_path, "x.png", "y.png")
    absolute = tmp_path / "y.png"
    path.write_text(f'Label,extra,path\n"a, b",1,x.png\ndog,,{absolute}\n')
    for load in (load_image_csv, load_images):
        paths, labels = load(path)
        assert paths == [str(tmp_path / "x.png"), str(absolute)]
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


def test_load_image_csv_of_semicolons_is_read(tmp_path):
    tree(tmp_path, "a.png")
    for text in ("path;label\na.png;cat, wild\n", 'image\tlabel\n"a.png"\tcat, wild'):
        (tmp_path / "list.csv").write_text(text)
        paths, labels = load_image_csv(tmp_path / "list.csv")
        assert paths == [str(tmp_path / "a.png")]
        assert labels.tolist() == ["cat, wild"]


def test_load_image_csv_wrong_separator_is_named(tmp_path):
    (tmp_path / "list.tsv").write_text("path,label\na.png,cat\n")
    with pytest.raises(ArtifactError, match=r"separated by tabs\). Got the first row"):
        load_images(tmp_path / "list.tsv")
    (tmp_path / "list.csv").write_text("path;class, or label\na.png;cat\n")
    with pytest.raises(ArtifactError, match="separated by commas"):
        load_images(tmp_path / "list.csv")


def test_load_image_csv_image_with_two_labels_raises(tmp_path):
    tree(tmp_path, "a.png", "b.png")
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,cat\nb.png,dog\na.png,cat\n")
    assert load_image_csv(path)[1].tolist() == ["cat", "dog", "cat"]
    path.write_text("path,label\na.png,cat\nb.png,dog\na.png,dog\n")
    with pytest.raises(ArtifactError, match=r"'cat' in line 2 and as 'dog' in line 4"):
        load_image_csv(path)


def test_load_image_csv_missing_images_are_named_with_their_lines(tmp_path):
    tree(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.warns(PartialCoverageWarning, match=r"1 of 2.*'b.png' \(line 3\)"):
        paths, _ = load_image_csv(tmp_path / "list.csv")
    assert len(paths) == 2


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip)


@given(rows=st.lists(st.lists(CELL, min_size=1), min_size=1))
def test_read_table_reads_what_csv_writes(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    expected = [row for row in rows if any(row)]
    if not expected:
        with pytest.raises(ArtifactError):
            read_table(path, ",")
        return
    if expected[0][0].startswith("\ufeff") and rows[0] == expected[0]:
        return  # a byte order mark belongs to the file, not to the cell
    assert [row for _, row in read_table(path, ",")] == expected


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
