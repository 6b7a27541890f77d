"""The benchmark of Xian et al., from files of exactly the form that they publish."""

import json

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from zeroshot import evaluate
from zeroshot.cli import app
from zeroshot.embeddings.matlab_file import read_matlab
from zeroshot.errors import ArtifactError
from zeroshot.proposed_splits import load_proposed_split

NAMES = ["antelope", "grizzly+bear", "killer+whale", "beaver", "dalmatian"]
PER_CLASS = 12


def cells(texts):
    column = np.empty((len(texts), 1), dtype=object)
    column[:, 0] = texts
    return column


@pytest.fixture
def published():
    """Content of both files: three seen classes, one of them for validation."""
    random = np.random.default_rng(0)
    angle = np.radians([0, 45, 90, 22, 68])  # unseen ones lie between seen ones
    att = np.array([np.cos(angle), np.sin(angle)])
    labels = np.repeat(np.arange(5), PER_CLASS)
    labels = labels[random.permutation(len(labels))]
    noise = 0.05 * random.normal(size=(2048, len(labels)))
    features = np.abs(random.normal(size=(2048, 2))) @ att[:, labels] + noise
    place = np.arange(len(labels)) + 1.0
    by_class = [place[labels == c] for c in range(5)]

    def column(*parts):
        return random.permutation(np.concatenate(parts))[:, None].astype(np.uint16)

    # As published, the images that trainval_loc leaves to test_seen_loc are in
    # train_loc or val_loc too.
    return (
        {
            "features": features,
            "labels": labels[:, None] + 1.0,
            "image_files": cells([f"/BS/JPEGImages/{i}.jpg" for i in place]),
        },
        {
            "att": att,
            "original_att": 100 * att,
            "allclasses_names": cells(NAMES),
            "trainval_loc": column(*(by_class[c][:9] for c in (0, 1, 2))),
            "test_seen_loc": column(*(by_class[c][9:] for c in (0, 1, 2))),
            "test_unseen_loc": column(by_class[3], by_class[4]),
            "train_loc": column(by_class[0], by_class[1]),
            "val_loc": column(by_class[2]),
        },
    )


def write(folder, published, compress=True):
    paths = folder / "res101.mat", folder / "att_splits.mat"
    for path, content in zip(paths, published, strict=True):
        savemat(path, content, do_compression=compress)
    return paths


@pytest.mark.parametrize("compress", [True, False])
def test_loading_gives_what_matlab_holds(tmp_path, published, compress):
    benchmark = load_proposed_split(*write(tmp_path, published, compress))
    images, classes = published
    assert benchmark.features.dtype == np.float32
    assert np.array_equal(benchmark.features, images["features"].T.astype("f4"))
    number = images["labels"].ravel().astype(int) - 1
    assert benchmark.labels.tolist() == [NAMES[i] for i in number]
    assert benchmark.image_files[2] == "/BS/JPEGImages/3.0.jpg"
    vectors, found = benchmark.attributes.lookup(NAMES)
    assert found.all()
    assert np.array_equal(vectors, classes["att"].T.astype("f4"))
    split = benchmark.split
    assert split.seen.tolist() == ["antelope", "grizzly+bear", "killer+whale"]
    assert split.unseen.tolist() == ["beaver", "dalmatian"]
    for part, name in (
        (split.train, "trainval_loc"),
        (split.seen_test, "test_seen_loc"),
        (split.unseen_test, "test_unseen_loc"),
    ):
        assert part.tolist() == sorted(classes[name].ravel().astype(int) - 1)


def test_validation_split_has_no_test_image(tmp_path, published):
    benchmark = load_proposed_split(*write(tmp_path, published))
    validation, split = benchmark.validation, benchmark.split
    assert validation.seen.tolist() == ["antelope", "grizzly+bear"]
    assert validation.unseen.tolist() == ["killer+whale"]
    used = np.concatenate([validation.train, validation.unseen_test])
    assert sorted(used.tolist()) == split.train.tolist()
    assert len(validation.seen_test) == 0


def test_evaluate_runs_the_benchmark_on_the_published_split(tmp_path, published):
    benchmark = load_proposed_split(*write(tmp_path, published))
    evaluation = evaluate(
        benchmark.features,
        benchmark.labels,
        None,
        benchmark.attributes,
        projection="ridge",
        splits=[benchmark.split],
    )
    row = evaluation.rows[0]
    assert row["unseen_top1"] > 0.9  # the features are a linear map of the attributes
    assert evaluation.results["chance"]["unseen_top1"] == [1 / 2]
    settings = evaluation.settings
    assert (settings["n_seen"], settings["n_unseen"]) == (3, 2)
    assert settings["n_splits"] == 1


def test_the_command_runs_the_benchmark(tmp_path, published):
    features, splits = write(tmp_path, published)
    arguments = ["evaluate", str(features), "--proposed-split", str(splits)]
    options = ["--projection", "ridge", "--format", "json"]
    result = CliRunner().invoke(app, arguments + options)
    assert result.exit_code == 0
    ridge, _, chance = json.loads(result.stdout)["rows"]
    assert ridge["unseen_top1"] > 0.9
    assert chance["unseen_top1"] == 1 / 2
    refused = CliRunner().invoke(app, [*arguments, "--backbone", "color-hog"])
    assert refused.exit_code == 2


def broken(published, **changes):
    return tuple(
        {name: changes.get(name, value) for name, value in content.items()}
        for content in published
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", np.full((60, 1), 6.0), "from 1 to 5 in 'labels'"),
        ("labels", np.full((60, 1), 1.5), "from 1 to 5 in 'labels'"),
        ("labels", np.ones((59, 1)), "60 'labels'"),
        ("features", np.full((2048, 60), np.nan), "finite 'features'"),
        ("test_seen_loc", np.array([[61]]), "from 1 to 60 in 'test_seen_loc'"),
        ("trainval_loc", np.zeros((0, 0)), "numbers in 'trainval_loc'"),
    ],
)
def test_files_that_do_not_fit_together_raise(
    tmp_path, published, name, value, message
):
    paths = write(tmp_path, broken(published, **{name: value}))
    with pytest.raises(ArtifactError, match=message):
        load_proposed_split(*paths)


def test_a_class_that_is_seen_and_unseen_raises(tmp_path, published):
    trained = published[1]["trainval_loc"]
    paths = write(tmp_path, broken(published, test_unseen_loc=trained))
    with pytest.raises(ArtifactError, match="seen and unseen classes apart"):
        load_proposed_split(*paths)


def test_a_training_image_among_the_tests_raises(tmp_path, published):
    trained = published[1]["trainval_loc"]
    paths = write(tmp_path, broken(published, test_seen_loc=trained))
    with pytest.raises(ArtifactError, match="training and test images apart"):
        load_proposed_split(*paths)


def test_a_missing_file_or_variable_raises(tmp_path, published):
    features, splits = write(tmp_path, published)
    with pytest.raises(ArtifactError, match="variable 'features'"):
        load_proposed_split(splits, splits)
    with pytest.raises(ArtifactError, match="nothing there"):
        load_proposed_split(features, tmp_path / "absent.mat")


@pytest.mark.parametrize(
    ("name", "n_seen", "n_unseen", "n_train", "n_test"),
    [("AWA2", 40, 10, 23_527, 7_913), ("SUN", 645, 72, 10_320, 1_440)],
)
def test_the_published_splits_are_read(
    real_data, tmp_path, name, n_seen, n_unseen, n_train, n_test
):
    """Their own att_splits.mat; features and labels, which are not here, are made."""
    path = real_data / "zsl" / f"{name}-att_splits.mat"
    keys = ("train_loc", "val_loc", "trainval_loc", "test_unseen_loc")
    numbers = read_matlab(path, keys)
    loc = {key: (numbers[key].ravel() - 1).astype(int) for key in keys}
    n_images = max(value.max() for value in loc.values()) + 1
    # Any classes that agree with the lists will do: the validation and the unseen ones.
    n_val = 13 if name == "AWA2" else 65
    labels = np.arange(n_images) % (n_seen - n_val)
    labels[loc["val_loc"]] = n_seen - n_val + np.arange(len(loc["val_loc"])) % n_val
    unseen = loc["test_unseen_loc"]
    labels[unseen] = n_seen + np.arange(len(unseen)) % n_unseen
    made = {"features": np.ones((2, n_images)), "labels": labels[:, None] + 1.0}
    savemat(tmp_path / "res101.mat", made, do_compression=True)
    benchmark = load_proposed_split(tmp_path / "res101.mat", path)
    split, validation = benchmark.split, benchmark.validation
    assert (len(split.seen), len(split.unseen)) == (n_seen, n_unseen)
    assert (len(split.train), len(split.unseen_test)) == (n_train, n_test)
    assert benchmark.image_files == []
    assert len(validation.unseen) == n_val
    assert len(validation.train) + len(validation.unseen_test) == n_train
