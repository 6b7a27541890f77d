"""The commands `zeroshot embeddings`, `labels` and `cache`."""

import csv
import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import closing

import numpy as np
import pytest
from cli_runs import run, succeed

from zeroshot.embeddings import open_vectors
from zeroshot.embeddings.catalogue import catalogue_entry, catalogue_names
from zeroshot.embeddings.vectors.neighbours import nearest
from zeroshot.features.store import FeatureStore
from zeroshot.storage.large_files import readable_size
from zeroshot.storage.unpacking import unpack_folder

NAME = "glove.6B.50d"
WORDS = {
    "okapi": [1.0, 0.0, 0.0],
    "giraffe": [0.9, 0.1, 0.0],
    "zebra": [0.6, 0.4, 0.0],
    "violin": [0.0, 0.0, 2.0],
    "cello": [0.0, 0.1, 2.0],
}


def error_of(*arguments):
    """Run a command that fails; return the one line that it says."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def rows_of(*arguments):
    return list(csv.DictReader(io.StringIO(succeed(*arguments, "-f", "csv").stdout)))


def write_text_vectors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (f"{word} {' '.join(map(str, row))}\n" for word, row in WORDS.items())
    path.write_text("".join(rows))
    return path


@pytest.fixture
def vectors(tmp_path):
    return write_text_vectors(tmp_path / "words.txt")


@pytest.fixture
def by_hand():
    """A file where the catalogue looks for it, put there by hand."""
    return write_text_vectors(catalogue_entry(NAME).path)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")


# embeddings list


def test_list_has_every_kind_and_every_published_name():
    content = json.loads(succeed("embeddings", "list", "-f", "json").stdout)
    glove = {"name": "glove", "distribution": "zeroshot", "backbone too": None}
    assert glove in content["kinds"]
    assert [row["name"] for row in content["published"]] == catalogue_names()
    rows = rows_of("embeddings", "list")
    assert [r["name"] for r in rows if not r["distribution"]] == catalogue_names()
    assert [r["name"] for r in rows if r["distribution"]] == [
        row["name"] for row in content["kinds"]
    ]


def test_list_tells_what_is_known_and_what_is_in_the_cache(by_hand):
    content = json.loads(succeed("embeddings", "list", "-f", "json").stdout)
    rows = {row["name"]: row for row in content["published"]}
    assert rows[NAME] == {
        "name": NAME,
        "language": None,
        "form": "glove-text",
        "dim": 50,
        "words": 400_000,
        "size": 862182613,
        "licence": "ODC PDDL 1.0",
        "cached": True,
    }
    assert not rows["glove.6B.100d"]["cached"]
    assert rows["fasttext.cc.de.300"]["language"] == "de"


def test_list_shows_languages_as_one_line_unless_filtered():
    table = succeed("embeddings", "list").stdout
    assert "fasttext.cc.LANG.300 " in table
    assert "fasttext.cc.de.300" not in table
    assert "822 MiB" in table
    assert len(table.splitlines()) < 60
    table = succeed("embeddings", "list", "--filter", ".DE.").stdout
    assert "fasttext.cc.de.300 " in table
    assert "fasttext.cc.fr.300" not in table
    assert "glove" not in table


def test_list_with_a_filter_that_nothing_holds_says_so():
    result = succeed("embeddings", "list", "--filter", "okapi")
    assert result.stdout == ""
    assert "'okapi'" in result.stderr
    assert rows_of("embeddings", "list", "--filter", "okapi") == []


# embeddings info


def test_info_of_a_published_name_fetches_nothing(cache_folder):
    text = succeed("embeddings", "info", "glove.6B.300d").stdout
    entry = catalogue_entry("glove.6B.300d")
    for fact in (entry.url, entry.sha256, entry.licence, entry.citation, "822 MiB"):
        assert fact in text
    assert str(entry.path) in text
    content = json.loads(
        succeed("embeddings", "info", "glove.6B.300d", "-f", "json").stdout
    )
    assert content["cached"] is False
    assert content["bytes"] == entry.size
    assert list(cache_folder.rglob("*")) == []


def test_info_of_a_published_name_tells_where_it_lies(by_hand):
    content = json.loads(succeed("embeddings", "info", NAME, "-f", "json").stdout)
    assert content["cached"] is True
    assert content["file"] == str(by_hand)


def test_info_prefers_a_file_to_the_published_name(tmp_path, monkeypatch):
    write_text_vectors(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    content = json.loads(succeed("embeddings", "info", NAME, "-f", "json").stdout)
    assert content["vector length"] == 3
    assert content["first words"] == list(WORDS)


# embeddings download


def test_download_of_what_is_there_prints_where(by_hand, offline):
    assert succeed("embeddings", "download", NAME).stdout == f"{by_hand}\n"


def test_download_offline_says_what_to_put_where(offline, cache_folder):
    message = error_of("embeddings", "download", NAME)
    entry = catalogue_entry(NAME)
    assert "ZEROSHOT_OFFLINE" in message
    assert entry.url in message
    assert str(entry.path) in message
    assert str(entry.archive) in message


def test_published_name_is_used_by_its_name(by_hand, offline):
    (row,) = rows_of("embeddings", "lookup", "okapi", "-e", NAME)
    assert row["found"] == "yes"
    assert "glove.6B.100d" in error_of(
        *("embeddings", "lookup", "okapi", "-e", "glove.6B.100d")
    )


# embeddings lookup


def test_lookup_gives_the_vectors_of_the_file(vectors):
    args = ("embeddings", "lookup", "violin", "okapy", "okapi", "-e", vectors)
    rows = json.loads(succeed(*args, "-f", "json").stdout)
    assert rows == [
        {"word": "violin", "found": "yes", "norm": 2.0, "vector": WORDS["violin"]},
        {"word": "okapy", "found": "no", "norm": None, "vector": None},
        {"word": "okapi", "found": "yes", "norm": 1.0, "vector": WORDS["okapi"]},
    ]
    first, second, _ = rows_of(*args)
    assert np.array_equal(np.fromstring(first["vector"], sep=" "), WORDS["violin"])
    assert second == {"word": "okapy", "found": "no", "norm": "", "vector": ""}
    assert "2.000" in succeed(*args).stdout


def test_lookup_shows_only_the_first_numbers_in_a_table():
    table = succeed("embeddings", "lookup", "okapi", "-e", "random:40").stdout
    assert table.count("0.") <= 6
    assert "..." in table


def test_lookup_tells_composed_words_from_stored_ones(tmp_path):
    fasttext = pytest.importorskip("fasttext")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the okapi and the zebra saw the giraffe\n" * 50)
    # Each thread initialises a tenth of the n-grams, so ten do all of them.
    model = fasttext.train_unsupervised(
        str(corpus), dim=10, minCount=1, epoch=1, bucket=1000, thread=10, verbose=0
    )
    model.save_model(str(tmp_path / "words.bin"))
    rows = json.loads(
        succeed(
            *("embeddings", "lookup", "okapi", "okapis", "-f", "json"),
            *("-e", tmp_path / "words.bin"),
        ).stdout
    )
    assert [row["found"] for row in rows] == ["yes", "composed"]
    assert np.allclose(rows[1]["vector"], model.get_word_vector("okapis"), atol=1e-6)


# embeddings nearest


def test_nearest_gives_words_by_cosine(vectors):
    args = ("embeddings", "nearest", "okapi", "-e", vectors)
    rows = json.loads(succeed(*args, "--k", "2", "-f", "json").stdout)
    assert [row["word"] for row in rows] == ["giraffe", "zebra"]
    for row in rows:
        vector = np.array(WORDS[row["word"]])
        assert row["cosine"] == pytest.approx(vector[0] / np.linalg.norm(vector))
    assert [row["word"] for row in rows_of(*args)[:2]] == ["giraffe", "zebra"]
    assert "0.994" in succeed(*args).stdout


def test_nearest_of_an_unknown_word_names_it(vectors):
    assert "'okapy'" in error_of("embeddings", "nearest", "okapy", "-e", vectors)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_words_that_cannot_be_printed_are_escaped(tmp_path, encoding, form):
    file = tmp_path / "words.txt"
    file.write_bytes(b"okapi 1 0\nb\xffd 1 0.1\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "zeroshot", "embeddings", "nearest", "okapi"),
            *("-e", str(file), "-f", form),
        ],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr
    # With ASCII, click writes a question mark itself.
    assert re.search(rb"\bb(\\udcff|\?)d\b", done.stdout)


# embeddings train


CORPUS = "the okapi eats green leaves\nthe polar bear eats red fish\n" * 40


@pytest.mark.skipif(not importlib.util.find_spec("gensim"), reason="needs gensim")
def test_train_writes_vectors_that_are_used_like_any_other(tmp_path):
    with gzip.open(tmp_path / "corpus.txt.gz", "wt") as file:
        file.write(CORPUS)
    out = tmp_path / "vectors.bin"
    result = succeed(
        *("embeddings", "train", tmp_path / "corpus.txt.gz", "--out", out),
        *("--dim", "7", "--epochs", "1", "--no-phrases", "--seed", "3"),
    )
    assert f"Trained on {len(CORPUS.split())} words of text" in result.stdout
    assert f"Saved: {out}" in result.stdout
    content = json.loads(succeed("embeddings", "info", out, "-f", "json").stdout)
    assert content["vector length"] == 7
    assert set(content["first words"]) <= set(CORPUS.split())
    again = tmp_path / "again.bin"
    succeed(
        *("embeddings", "train", tmp_path / "corpus.txt.gz", "--out", again),
        *("--dim", "7", "--epochs", "1", "--no-phrases", "--seed", "3"),
    )
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.skipif(not importlib.util.find_spec("gensim"), reason="needs gensim")
def test_train_on_a_missing_corpus_names_it_and_writes_nothing(tmp_path):
    message = error_of(
        *("embeddings", "train", tmp_path / "none.txt", "-o", tmp_path / "out.bin")
    )
    assert "none.txt" in message
    assert list(tmp_path.iterdir()) == []


# labels check


@pytest.mark.parametrize("given", [[], ["--labels-file"]])
def test_labels_check_reads_a_file(vectors, tmp_path, given):
    file = tmp_path / "labels.txt"
    file.write_text("# animals\nOkapi\nforest horse: zebra\n")
    result = succeed("labels", "check", *given, file, "-e", vectors, "-f", "json")
    entries = json.loads(result.stdout)["entries"]
    assert [entry["label"] for entry in entries] == ["Okapi", "forest horse"]


def test_labels_check_names_same_vectors_and_near_synonyms(vectors):
    result = succeed("labels", "check", "okapi", "Okapi", "giraffe", "-e", vectors)
    assert "Same vector: okapi = Okapi" in result.stdout
    assert "okapi ~ giraffe (0.99)" in result.stdout


def test_labels_check_takes_one_label_that_is_no_file_as_a_label(vectors):
    assert "'labels.txt'" in error_of("labels", "check", "labels.txt", "-e", vectors)


@pytest.mark.parametrize(
    "given",
    [
        ("okapi", "zebra"),
        ("okapi, zebra",),
        ("okapi; zebra",),
        ("nothing: okapi; zebra",),
        ('{"okapi": [], "zebra": ["horse"]}',),
        (f"okapi: {'x.y' * 200}; zebra",),  # longer than a file's name may be
    ],
)
def test_labels_check_takes_a_list_in_any_form(vectors, given):
    result = succeed("labels", "check", *given, "-e", vectors, "-f", "json")
    words = [entry["words"] for entry in json.loads(result.stdout)["entries"]]
    assert words == [["okapi"], ["zebra"]]


def test_labels_check_of_class_ids_says_what_to_give(vectors):
    message = error_of("labels", "check", "0", "1", "-e", vectors)
    assert "look like ids of classes: '0', '1'" in message


# cache


@pytest.fixture
def filled(cache_folder, by_hand):
    """A cache of two images' features, a download with and one without its hash."""
    path = cache_folder / "features" / f"color-hog-{'0f' * 16}.sqlite"
    with closing(FeatureStore(path, 4)) as store:
        for number in range(2):
            store.add(bytes([number]) * 32, np.full(4, number, np.float32))
    recorded = write_text_vectors(catalogue_entry("glove.6B.100d").path)
    digest = hashlib.sha256(recorded.read_bytes()).hexdigest()
    recorded.with_name(f"{recorded.name}.sha256").write_text(f"{digest} *words\n")
    return cache_folder


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_cache_list_tells_what_lies_where(filled):
    content = json.loads(succeed("cache", "list", "-f", "json").stdout)
    assert content["folder"] == str(filled)
    assert content["size"] == size_of(filled)
    assert [(f["kind"], f["name"], f["images"]) for f in content["files"]] == [
        ("features", "color-hog.sqlite", 2),
        ("vectors", "glove.6B.100d.txt", None),
        ("other", f"vectors/{NAME}.txt", None),
    ]
    assert [int(row["size"]) for row in rows_of("cache", "list")] == [
        file["size"] for file in content["files"]
    ]
    table = succeed("cache", "list").stdout
    assert NAME in table
    assert str(filled) in table


def test_cache_list_of_nothing_is_no_table(cache_folder):
    said = succeed("cache", "list").stdout
    assert said.startswith(f"0 B in {cache_folder} (features: at most 10 GiB; free on")
    assert succeed("cache", "verify").stdout == "Nothing to verify.\n"


def test_cache_verify_of_whole_files_succeeds(filled):
    states = [row["state"] for row in rows_of("cache", "verify")]
    assert sorted(states) == ["ok", "ok", "unrecorded"]


def test_cache_verify_names_damaged_files_and_exits_1(filled):
    damaged = catalogue_entry("glove.6B.100d").path
    damaged.write_text("okapi 1 2 4\n")
    (database,) = filled.glob("features/*")
    content = bytearray(database.read_bytes())
    content[content.index(np.ones(4, np.float32).tobytes())] ^= 1
    database.write_bytes(content)
    message = error_of("cache", "verify")
    assert "2 damaged" in message
    assert f"'{damaged}'" in message
    assert f"'{database}'" in message
    table = run("cache", "verify").stdout
    assert table.count("damaged") >= 2


def test_cache_verify_names_damaged_copies_indexes_and_modules(cache_folder, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(10**8, 10**9, (1000, 600))
    text = "\n".join(f"w{i} {' '.join(map(str, row))}" for i, row in enumerate(rows))
    packed = tmp_path / "vectors.gz"
    packed.write_bytes(gzip.compress(text.encode(), 1))
    nearest(open_vectors(packed), "w1", 1)
    with tarfile.open(tmp_path / "module.tar", "w") as archive:
        archive.add(packed, "saved_model.pb")
    module = cache_folder / "tfhub" / ("0f" * 20)
    unpack_folder(tmp_path / "module.tar", module, origin="module")
    kept = [*cache_folder.rglob("*.index"), *cache_folder.rglob("*.un[!i]*ed")]
    kept += [*cache_folder.rglob("*.units"), module / "saved_model.pb"]
    assert len(kept) == 4
    assert [row["state"] for row in rows_of("cache", "verify")] == ["ok"] * 4
    for file in kept:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    message = error_of("cache", "verify")
    assert "4 damaged" in message
    assert all(f"'{file}'" in message for file in kept)


@pytest.mark.parametrize("kind", ["features", "vectors"])
def test_cache_clear_deletes_one_kind_and_tells_how_much(filled, by_hand, kind):
    (other,) = {"features", "vectors"} - {kind}
    kept = by_hand.stat().st_size if kind == "vectors" else 0
    before, gone = size_of(filled / other), size_of(filled / kind) - kept
    result = succeed("cache", "clear", f"--{kind}", "--yes")
    assert result.stdout == f"Freed {readable_size(gone)}.\n"
    assert size_of(filled / kind) == kept
    assert size_of(filled / other) == before


def test_cache_clear_asks_before_it_deletes(filled, by_hand):
    before = size_of(filled)
    for answer in ("n\n", ""):
        result = run("cache", "clear", "--all", input=answer)
        assert result.exit_code == 1
        assert "Delete 3 files" in result.stderr
        assert str(filled) in result.stderr
        assert size_of(filled) == before
    result = succeed("cache", "clear", "--all", input="y\n")
    assert "Freed " in result.stdout
    assert size_of(filled) == by_hand.stat().st_size


def test_cache_clear_of_nothing_does_not_ask(cache_folder):
    assert succeed("cache", "clear", "--all").stdout == "Freed 0 B.\n"
