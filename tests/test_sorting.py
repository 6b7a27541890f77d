"""Sorting photographs into folders: nothing is lost, whatever happens."""

import csv
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run, succeed
from PIL import Image

from zeroshot import ZeroShotClassifier
from zeroshot.datasets import make_shapes, shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.errors import (
    ArtifactError,
    InvalidImageError,
    OutOfVocabularyError,
    PartialCoverageWarning,
)
from zeroshot.sorting import sort_images, undo_sorting
from zeroshot.sorting.plan import folder_name

LABELS = ["red star", "blue ring", "green square"]


@pytest.fixture(scope="module")
def clf():
    images, labels = make_shapes(2, random_state=0)
    return ZeroShotClassifier("color-hog", Attributes(*shape_attributes())).fit(
        images, labels
    )


@pytest.fixture(scope="module")
def drawn():
    images, labels = make_shapes(4, random_state=1)
    return {label: images[labels == label] for label in LABELS}


@pytest.fixture
def photos(tmp_path, drawn):
    """Four photographs of each label, in two folders, some of one name."""
    folder = tmp_path / "photos"
    for label, images in drawn.items():
        for n, image in enumerate(images):
            inside = folder / ("a" if n % 2 else "b")
            inside.mkdir(parents=True, exist_ok=True)
            name = f"{n // 2}.png" if label == LABELS[0] else f"{label} {n}.png"
            Image.fromarray(image).save(inside / name)
    return folder


def contents(*folders: Path) -> dict[str, int]:
    """Digests of all images below, and how often each is there."""
    found: dict[str, int] = {}
    for folder in folders:
        for file in folder.rglob("*.png"):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            found[digest] = found.get(digest, 0) + 1
    return found


def tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("action", ["link", "copy", "move"])
def test_sort_puts_each_image_into_its_label_and_undo_takes_it_back(
    clf, photos, tmp_path, action
):
    before, out = tree(photos), tmp_path / "sorted"
    done = sort_images(clf, photos, out, LABELS, action=action)
    assert done.counts == dict.fromkeys(LABELS, 4)
    digests = {hashlib.sha256(content).hexdigest() for content in before.values()}
    assert contents(out).keys() == digests
    assert tree(photos) == ({} if action == "move" else before)
    names = sorted(p.name for p in (out / "red star").iterdir())
    assert names == ["0 (2).png", "0.png", "1 (2).png", "1.png"]
    some = done.images[0]
    was = before[str(some.file.relative_to(photos))]
    assert (out / some.sorted).read_bytes() == was
    if action != "move":
        assert os.path.samefile(out / some.sorted, some.file) is (action == "link")
    for label in LABELS:
        with Image.open(out / f"{label}.sheet.jpg") as sheet:
            assert min(sheet.size) > 100
    undone = undo_sorting(out)
    assert (undone.n_images, undone.left, undone.gone) == (12, (), ())
    assert tree(photos) == before
    assert not out.exists()


def test_manifest_tells_what_was_decided(clf, photos, tmp_path):
    done = sort_images(clf, photos, tmp_path / "out", LABELS, adapt=True)
    with done.manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = sorted(str(p) for p in photos.rglob("*.png"))
    ranked = clf.rank(images, LABELS, k=2, adapt=True)
    assert [row["file"] for row in rows] == images
    for row, (first, second) in zip(rows, ranked, strict=True):
        assert (row["label"], row["runner_up"]) == (first.label, second.label)
        assert float(row["score"]) == pytest.approx(first.score)
        assert float(row["probability"]) == pytest.approx(first.probability)
        assert (tmp_path / "out" / row["sorted"]).is_file()


def test_rejected_images_go_to_unknown_beside_a_label_of_that_name(photos, tmp_path):
    images, labels = make_shapes(2, random_state=0)
    aliases = {"unknown": ["red star"], "blue ring": []}
    clf = ZeroShotClassifier("color-hog", Attributes(*shape_attributes()), reject=0.99)
    done = sort_images(clf.fit(images, labels), photos, tmp_path / "out", aliases)
    assert done.counts == {"unknown": 12}
    assert {image.runner_up for image in done.images} == {"unknown", "blue ring"}
    clf.set_params(reject=-1.0)
    counts = sort_images(clf, photos, tmp_path / "out", aliases).counts
    assert counts.keys() == {"unknown (2)", "blue ring"}


def test_sorting_again_is_as_sorting_once(clf, photos, tmp_path):
    out = tmp_path / "out"
    sort_images(clf, photos, out, LABELS, action="move")
    done = sort_images(clf, photos, out, LABELS[:2], action="link")
    assert done.undone.n_images == 12
    once = tree(out)
    sort_images(clf, photos, tmp_path / "anew", LABELS[:2], action="link")
    anew = tree(tmp_path / "anew")
    assert once.pop("manifest.csv") == anew.pop("manifest.csv")
    assert once == anew


def test_results_inside_the_images_are_not_sorted_again(clf, photos):
    for _ in range(2):
        done = sort_images(clf, photos, photos / "sorted", LABELS)
        assert len(done.images) == 12


@pytest.mark.parametrize("out", [".", "..", "a", "a/../../photos"])
def test_results_around_the_images_are_refused(clf, photos, out):
    before = tree(photos)
    given = photos / "a" if out == "a" else photos
    with pytest.raises(ArtifactError, match="does not hold the images"):
        sort_images(clf, given, photos / out, LABELS)
    assert tree(photos) == before


def test_dry_run_changes_nothing(clf, photos, tmp_path):
    done = sort_images(clf, photos, tmp_path / "out", LABELS, dry_run=True)
    assert done.counts == dict.fromkeys(LABELS, 4)
    assert not (tmp_path / "out").exists()


def test_unreadable_images_stay_and_are_named(clf, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "link.png").symlink_to(photos / "a" / "0.png")
    with pytest.warns(PartialCoverageWarning, match="1 of 14"):
        done = sort_images(clf, photos, tmp_path / "out", LABELS, action="move")
    assert [file.name for file in done.errors] == ["broken.png", "link.png"]
    assert sorted(p.name for p in photos.iterdir() if not p.is_dir()) == [
        "broken.png",
        "link.png",
    ]
    undo_sorting(tmp_path / "out")
    assert (photos / "link.png").read_bytes() == (photos / "a" / "0.png").read_bytes()


def test_wrong_input_is_refused_before_anything_changes(clf, photos, tmp_path):
    out, before = tmp_path / "out", tree(photos)
    for error, arguments, more in (
        (OutOfVocabularyError, (photos, out, ["okapi"]), {}),
        (ArtifactError, (photos / "typo", out, LABELS), {}),
        (InvalidImageError, (np.zeros((1, 8, 8, 3), np.uint8), out, LABELS), {}),
        (ValueError, (photos, out, LABELS), {"action": "delete"}),
    ):
        with pytest.raises(error):
            sort_images(clf, *arguments, **more)
    with pytest.raises(ArtifactError, match=r"manifest\.csv"):
        undo_sorting(photos)
    assert tree(photos) == before
    assert not out.exists()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("okapi", "okapi"),
        ("AC/DC", "AC_DC"),
        ("..", "_"),
        ("", "_"),
        (" a. ", "a"),
        ("CON", "CON_"),
        ("nul.txt", "nul.txt_"),
        ("a\0b\x1b[2J", "a_b_[2J"),
        ("a\ud800", "a_"),
        ("C:\\x", "C__x"),
        ("@eaDir", "@eaDir_"),
        ("é" * 200, "é" * 75),
    ],
)
def test_folder_name_is_a_name_on_any_system(label, name):
    assert folder_name(label) == name


def test_labels_that_are_alike_as_names_get_folders_of_their_own(clf, photos, tmp_path):
    aliases = {"x/y": ["red star"], "X_Y": ["blue ring"], "x:y": ["green square"]}
    done = sort_images(clf, photos, tmp_path / "out", aliases)
    assert sorted(done.counts) == ["X_Y (2)", "x_y", "x_y (3)"]


def test_files_of_others_are_not_touched(clf, photos, tmp_path):
    out = tmp_path / "out"
    (out / "red star").mkdir(parents=True)
    for name in ("red star/0.png", "red star/note.txt", "blue ring.sheet.jpg"):
        (out / name).write_text("mine")
    (out / "green square").write_text("a file")
    others = tree(out)
    done = sort_images(clf, photos, out, LABELS)
    assert sorted(done.counts) == ["blue ring (2)", "green square (2)", "red star"]
    assert others.items() <= tree(out).items()
    undo_sorting(out)
    assert tree(out) == others


def test_undo_leaves_what_would_be_lost(clf, photos, tmp_path):
    out = tmp_path / "out"
    done = sort_images(clf, photos, out, LABELS, action="copy")
    deleted, changed = done.images[0], done.images[1]
    deleted.file.unlink()
    changed.file.write_bytes(b"another one")
    undone = undo_sorting(out)
    assert set(undone.left) == {out / deleted.sorted, out / changed.sorted}
    assert len(tree(out)) == 2
    done = sort_images(clf, photos / "b", tmp_path / "moved", LABELS, action="move")
    by_hand, in_the_way = done.images[0], done.images[1]
    (tmp_path / "moved" / by_hand.sorted).rename(tmp_path / "by hand.png")
    in_the_way.file.write_bytes(b"new")
    undone = undo_sorting(tmp_path / "moved")
    assert undone.gone == (by_hand.file,)
    assert undone.left == (tmp_path / "moved" / in_the_way.sorted,)
    assert in_the_way.file.read_bytes() == b"new"


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row | {"sorted": "../photos/x.png"},
        lambda row: row | {"sorted": "/etc/x.png"},
        lambda row: row | {"sorted": "a/../b.png"},
        lambda row: row | {"file": "relative.png"},
        lambda row: row | {"file": row["file"] + ".sh"},
        lambda row: row | {"action": "delete"},
        lambda row: {"file": row["file"]},
    ],
)
def test_manifest_that_was_changed_moves_nothing(clf, photos, tmp_path, change):
    out = tmp_path / "out"
    done = sort_images(clf, photos, out, LABELS, action="move")
    with done.manifest.open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    first = change(first)
    with done.manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
    before = tree(tmp_path)
    with pytest.raises(ArtifactError, match="Expected a manifest"):
        undo_sorting(out)
    assert tree(tmp_path) == before


def test_hostile_file_names_come_back(clf, photos, tmp_path):
    files = sorted(photos.rglob("*.png"))
    names = ["=1+1.png", "a\nb.png", "\x1b[2J.png", 'q",.png', "é.png", b"\xff.png"]
    for file, name in zip(files, names, strict=False):
        file.rename(file.with_name(os.fsdecode(name)))
    before = tree(photos)
    sort_images(clf, photos, tmp_path / "out", LABELS, action="move")
    undo_sorting(tmp_path / "out")
    assert tree(photos) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_images_are_not_moved(clf, photos, tmp_path):
    before = tree(photos)
    (photos / "a").chmod(0o500)
    try:
        with pytest.raises(ArtifactError, match="nothing is lost"):
            sort_images(clf, photos / "a", tmp_path / "out", LABELS, action="move")
    finally:
        (photos / "a").chmod(0o700)
    assert tree(photos) == before


FULL = """
    import resource, signal, sys
    from zeroshot import load
    from zeroshot.errors import ArtifactError
    from zeroshot.sorting import sort_images

    clf = load(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        sort_images(clf, *sys.argv[2:4], ["red star"], action=sys.argv[4])
    except ArtifactError as error:
        print(error)
"""


def test_full_disk_loses_nothing(clf, photos, tmp_path):
    clf.save(tmp_path / "model")
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(photos / "b" / "z.png")  # 120 kB
    before, out = tree(photos), tmp_path / "out"
    arguments = [tmp_path / "model", photos, out, "copy"]
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ZEROSHOT_CACHE": str(tmp_path / "cache")},
    )
    assert "z.png" in ended.stdout
    assert "12 of 13 images are done and nothing is lost" in ended.stdout
    assert tree(photos) == before
    assert len(list(out.rglob("*.png"))) == 12
    undo_sorting(out)
    assert not out.exists()


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    from zeroshot import load
    from zeroshot.sorting import sort_images, undo_sorting
    sys.path.insert(0, sys.argv[1])
    from test_sorting import LABELS, contents, tree

    clf, photos, out = load(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    before, files = contents(photos), tree(photos)
    whole = sort_images(clf, photos, out, LABELS)  # also warms the store of features
    undo_sorting(out)
    start = time.monotonic()
    sort_images(clf, photos, out, LABELS, action="move")
    sort_images(clf, photos, out, LABELS, action="move")
    span = time.monotonic() - start  # of what is killed below
    undo_sorting(out)
    random.seed(0)
    cut = 0
    for turn in range(int(sys.argv[5])):
        action = ("move", "copy", "link")[turn % 3]
        child = os.fork()
        if child == 0:
            # Half of them are killed while they take back what was sorted before.
            sort_images(clf, photos, out, LABELS, action=action)
            sort_images(clf, photos, out, LABELS, action=action)
            os._exit(0)
        time.sleep(random.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        cut += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        there = contents(photos, out)
        assert there.keys() == before.keys(), (turn, len(there))
        done = sort_images(clf, photos, out, LABELS, action=action)
        assert done.counts == whole.counts, (turn, done.counts)
        assert contents(out).keys() == before.keys(), turn
        hidden = [p for p in out.rglob(".*") if ".part" in p.name]
        assert not hidden, (turn, hidden)
        undo_sorting(out)
        assert tree(photos) == files, turn
    print(cut)
"""


@pytest.mark.parametrize("turns", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_sort_loses_nothing_and_a_second_run_completes(
    clf, photos, tmp_path, turns
):
    clf.save(tmp_path / "model")
    script = textwrap.dedent(KILLED)
    here = str(Path(__file__).parent)
    paths = [here, tmp_path / "model", photos, tmp_path / "out", turns]
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        env=os.environ | {"ZEROSHOT_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout) > turns / 2


def test_command_sorts_and_takes_back(clf, photos, tmp_path):
    clf.save(tmp_path / "model")
    before, out = tree(photos), str(tmp_path / "out")
    arguments = ["sort", str(tmp_path / "model"), str(photos), "-l", ",".join(LABELS)]
    plan = succeed(*arguments, "--out", out, "--dry-run", "--format", "csv")
    assert plan.stdout.count("\n") == 13
    assert not Path(out).exists()
    done = succeed(*arguments, "--out", out, "--move")
    assert "red star" in done.stdout
    assert f"zeroshot sort --undo '{out}'" in done.stderr
    assert tree(photos) == {}
    assert "12 images" in succeed("sort", "--undo", out).stderr
    assert tree(photos) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--out FOLDER"),
        (("--undo", "x", "photos"), "--undo"),
        (("photos", "--out", "x", "--copy", "--move"), "--move"),
    ],
)
def test_command_with_wrong_usage_says_so(arguments, said):
    ended = run("sort", *arguments)
    assert ended.exit_code == 2
    assert said in ended.stderr
