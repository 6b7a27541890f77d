"""Lists of the classes of a backbone's pretraining."""

import numpy as np
import pytest
from head_cases import CLASSES, NAMES

from zeroshot.backbones.class_list import class_names
from zeroshot.backbones.imagenet_classes import imagenet_classes
from zeroshot.errors import ArtifactError, PluginContractError


def test_class_names_of_imagenet_are_in_the_order_of_keras():
    names = class_names("imagenet-1k")
    assert names == tuple(names for _, names in imagenet_classes())
    assert (len(names), names[291][0]) == (1000, "lion")


@pytest.mark.parametrize(
    "content",
    [
        b"cat, house cat\ndog\nemu\nokapi\n",
        b"\xef\xbb\xbfcat,house cat\r\ndog\r\n emu \r\nokapi",
    ],
)
def test_class_names_of_a_file_are_its_lines(tmp_path, content):
    path = tmp_path / "imagenet-1k.txt"
    path.write_bytes(content)
    assert class_names(path) == class_names(str(path)) == class_names(CLASSES) == NAMES
    assert class_names(np.array(CLASSES)) == NAMES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\n\ndog\n", r"Got '\\n' in line 2 of .*no blank ones"),
        (b"cat\ndog\n\n", "in line 3 of"),
        (b"cat\ndog,, hound\n", "in line 2 of"),
        (
            b"cat\ndog\ncat\n",
            "each class once. Got 'cat' in line 1 of .*, and in line 3",
        ),
        (b"cat\nd\0g\n", "in line 2 of"),
        (b"cat\nd\xffg\n", "UTF-8 text.* Got line 2 of"),
        ("cat\ndog\n".encode("utf-16"), "UTF-8 text.* Got line 1 of"),
    ],
)
def test_class_names_of_a_broken_file_name_the_line(tmp_path, content, said):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ArtifactError, match=said):
        class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["cat", "dog", "cat"], "Got 'cat' in item 1 of classes, and in item 3 of"),
        (["cat", ""], "in item 2"),
        (["cat", 7], "Got 7 in item 2"),
        ({"cat", "dog"}, "Got set"),
        (7, "Got int"),
    ],
)
def test_class_names_that_are_no_list_raise(classes, said):
    with pytest.raises(PluginContractError, match=said):
        class_names(classes)


@pytest.mark.parametrize("path", ["imagenet", ".", "/nowhere/names.txt", "a\0b"])
def test_class_names_of_no_file_raise(path):
    with pytest.raises(ArtifactError, match="'imagenet-1k' or a file"):
        class_names(path)
