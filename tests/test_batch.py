"""The picklable forms: what goes in and out, and that a batch changes no answer."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from job_cases import LABELS, columns, expected, make_job

from zeroshot import ZeroShotClassifier, load
from zeroshot.errors import ArtifactError, InvalidImageError, LabelError
from zeroshot.serving import BatchEmbedder, BatchPredictor

ANSWER = ["label", "score", "probability", "seen", "error"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    make_job(folder)
    return folder


@pytest.fixture(scope="module")
def wanted(job):
    return expected(job)


@pytest.fixture
def content(job):
    return [file.read_bytes() for file in sorted((job / "images").iterdir())]


@pytest.fixture
def predictor(job):
    return BatchPredictor(job / "model", LABELS)


def as_dict(content, name="bytes"):
    cells = np.array([*content, None], object)[:-1]
    cells.flags.writeable = False  # as Ray may give them
    return {name: cells, "id": np.arange(len(content))}


def as_frame(content, name="bytes"):
    return pd.DataFrame({name: content, "id": range(len(content))})


def as_table(content, name="bytes"):
    return pa.table({name: pa.array(content), "id": range(len(content))})


def as_record_batch(content):
    return as_table(content).to_batches()[0]


@pytest.mark.parametrize("form", [as_dict, as_table, as_record_batch])
def test_answers_to_a_batch_are_those_of_one_process(form, predictor, content, wanted):
    answered = predictor(form(content))
    names = getattr(answered, "column_names", None) or list(answered)
    assert names == ["id", *ANSWER]
    cells = {n: np.asarray(answered[n]) for n in names}
    assert cells["id"].tolist() == list(range(320))
    assert cells["label"].tolist() == wanted["label"]
    np.testing.assert_array_equal(cells["score"], np.float32(wanted["score"]))
    np.testing.assert_array_equal(cells["probability"], wanted["probability"])
    assert cells["seen"].tolist() == wanted["seen"]
    is_damaged = [bool(reason) for reason in cells["error"]]
    assert is_damaged == wanted["is_damaged"]


def test_answers_to_a_data_frame_keep_its_index(predictor, content, wanted):
    frame = as_frame(content[:12]).set_index(pd.Index(range(50, 62)))
    answered = predictor(frame)
    assert list(answered.columns) == ["id", *ANSWER]
    assert answered.index.tolist() == list(range(50, 62))
    assert answered["label"].tolist() == wanted["label"][:12]
    assert answered["error"].isna().tolist() == [i != 7 for i in range(12)]
    assert list(frame.columns) == ["bytes", "id"]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_size_of_a_batch_changes_no_bit(size, predictor, content, wanted):
    some = content[:50]
    tables = [as_table(some[i : i + size]) for i in range(0, 50, size)]
    answered = columns(pa.concat_tables(predictor.iterate(tables)))
    for name in ("label", "seen", "is_damaged"):
        assert answered[name] == wanted[name][:50]
    for name in ("score", "probability"):
        np.testing.assert_array_equal(answered[name], wanted[name][:50])


def test_schema_is_the_same_without_rows_and_without_errors(predictor, content):
    of_all, of_one = predictor(as_table(content)), predictor(as_table(content[:1]))
    nothing = pa.table(
        {"bytes": pa.array([], pa.binary()), "id": pa.array([], "int64")}
    )
    assert of_all.schema == of_one.schema == predictor(nothing).schema
    assert pa.schema([of_all.schema.field(n) for n in ANSWER]) == predictor.schema()
    empty = predictor({"bytes": np.array([], object)})
    assert {n: v.dtype.kind for n, v in empty.items()} == dict(
        zip(ANSWER, "UffbU", strict=True)
    )


def test_more_candidates_have_columns_of_their_own(job, content):
    predictor = BatchPredictor(job / "model", LABELS[:2], top_k=3)
    answered = predictor(as_table(content[5:9]))
    classifier = load(job / "model").set_params(cache=False)
    ranked = classifier.rank([content[i] for i in (5, 6, 8)], LABELS[:2])
    assert answered["label_2"].to_pylist() == [
        *(answers[1].label for answers in ranked[:2]),
        None,
        ranked[2][1].label,
    ]
    assert answered["label_3"].null_count == 4  # there are two candidates
    assert np.isnan(answered["score_3"].to_numpy()).all()
    assert predictor.schema().names == answered.column_names[1:]


def test_rejected_image_is_answered_unknown_with_its_score(job, content):
    predictor = BatchPredictor(job / "model", LABELS, settings={"reject": 0.99})
    answered = predictor(as_table(content[:2]))
    assert answered["label"].to_pylist() == ["unknown", "unknown"]
    assert np.isfinite(answered["score"].to_numpy()).all()


def test_settings_may_be_lists(job, predictor, content):
    named = BatchPredictor(job / "model", settings={"candidate_labels": LABELS})
    for name, cells in predictor(as_dict(content[:9])).items():
        np.testing.assert_array_equal(named(as_dict(content[:9]))[name], cells)


def test_paths_stay_and_a_missing_file_has_its_reason(job, predictor, wanted):
    predictor = BatchPredictor(job / "model", LABELS, image_column="file")
    files = [str(job / "images" / "000.png"), str(job / "none.png"), None]
    answered = predictor(as_table(files, "file"))
    assert answered.column_names == ["file", "id", *ANSWER]
    assert answered["label"].to_pylist() == [wanted["label"][0], "unknown", "unknown"]
    reasons = answered["error"].to_pylist()
    assert reasons[0] is None
    assert "none.png': no such file" in reasons[1]
    assert "None" in reasons[2]
    assert not any("position" in reason for reason in reasons[1:])


def test_arrays_of_pixels_are_images(job):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 40, 3), np.uint8)
    predictor = BatchPredictor(job / "model", LABELS, image_column="image")
    pixels.flags.writeable = False
    answered = predictor({"image": pixels})
    classifier = load(job / "model").set_params(cache=False)
    assert answered["label"].tolist() == classifier.predict(pixels, LABELS).tolist()
    assert "image" not in answered


@pytest.mark.parametrize("form", [as_dict, as_frame, as_table])
def test_features_are_answered_as_their_images(form, job, content, wanted):
    embedded = BatchEmbedder("color-hog")(form(content[:12]))
    predictor = BatchPredictor(job / "model", LABELS, image_column="features")
    answered = predictor(embedded)
    names = getattr(answered, "column_names", None) or list(answered)
    assert names == ["id", *ANSWER]
    scores = np.asarray(answered["score"])
    np.testing.assert_array_equal(scores, np.float32(wanted["score"][:12]))
    reasons = [r if isinstance(r, str) else "" for r in np.asarray(answered["error"])]
    assert [bool(reason) for reason in reasons] == [i == 7 for i in range(12)]
    assert "no image format" in reasons[7]


def test_embedded_batch_has_a_row_for_each_image(content):
    embedder = BatchEmbedder("color-hog")
    found = embedder(as_table(content[:9]))
    assert found.schema.field("features").type == pa.list_(pa.float32(), 458)
    matrix = np.stack(found["features"].to_pylist())
    assert np.isnan(matrix).all(axis=1).tolist() == [i == 7 for i in range(9)]
    assert found.column_names == ["id", *embedder.schema().names]


@pytest.mark.parametrize("form", [BatchPredictor, BatchEmbedder])
def test_image_that_cannot_be_read_is_raised_where_asked_for(form, job, content):
    model = job / "model" if form is BatchPredictor else "color-hog"
    with pytest.raises(InvalidImageError, match="no image format"):
        form(model, on_error="raise")(as_table(content[:9]))
    with pytest.raises(ValueError, match="every row of a batch has a row"):
        form(model, on_error="skip")


def test_predictor_is_small_and_holds_no_network(job, content, predictor):
    predictor(as_table(content[:1]))
    assert len(pickle.dumps(predictor)) < 1000
    again = pickle.loads(pickle.dumps(predictor))
    assert again.classifier()[0] is predictor.classifier()[0]  # read once


def test_model_that_is_saved_anew_is_read_anew(job, tmp_path, predictor):
    classifier, _ = predictor.classifier()
    classifier.save(tmp_path / "model")
    moved = BatchPredictor(tmp_path / "model", LABELS)
    first, _ = moved.classifier()
    classifier.save(tmp_path / "model")
    assert moved.classifier()[0] is not first


def test_threads_and_memory_of_a_worker_are_its_share(job):
    code = f"""
import os
os.environ["OMP_NUM_THREADS"] = "1"
from zeroshot.serving import BatchPredictor
BatchPredictor({str(job / "model")!r}, ["red star", "blue ring"]).check()
from zeroshot.cores import n_threads
from zeroshot.features.pipeline import READERS
print(n_threads(), READERS, os.environ["TF_FORCE_GPU_ALLOW_GROWTH"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "TF_FORCE_GPU_ALLOW_GROWTH"},
    )
    assert done.stdout == "1 2 true\n", done.stderr


@pytest.mark.parametrize("column", ["label", "score", "error"])
def test_column_of_the_same_name_is_refused(column, predictor, content):
    batch = as_table(content[:2]).append_column(column, pa.array(["a", "b"]))
    with pytest.raises(LabelError, match=f"Got '{column}'. Rename"):
        predictor(batch)


@pytest.mark.parametrize("batch", [{"id": np.arange(3)}, [1, 2]])
def test_batch_without_images_is_told(batch, predictor):
    with pytest.raises(ArtifactError, match=r"column 'bytes' with|Expected a bat"):
        predictor(batch)


@pytest.mark.parametrize("model", [("a",), ("a", 3), None, ZeroShotClassifier()])
def test_model_that_is_no_name_is_refused(model):
    with pytest.raises(LabelError, match="a network is not sent to workers"):
        BatchPredictor(model)


# Keras 3.15 with NumPy 2.4, whenever it reads weights.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_untrained_pair_knows_the_backbones_own_classes(real_data, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    vectors = real_data / "vectors" / "numberbatch-en-41k-300d.txt.gz"
    pair = ("mobilenet-v2:96", vectors)
    classifier, candidates = BatchPredictor(pair, ["okapi", "zebra"]).classifier()
    assert len(classifier.seen_classes_) > 900
    assert candidates.is_seen.tolist() == [False, True]
    again, _ = BatchPredictor(pair, ["zebra", "okapi"]).classifier()
    assert again is not classifier  # read from the cache: the same bits
    ours, theirs = classifier.projection_.dual_coef_, again.projection_.dual_coef_
    np.testing.assert_array_equal(ours, theirs)
