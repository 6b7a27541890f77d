"""A file of the catalogue is named by its name, so that bundles can travel."""

import numpy as np

import zeroshot
from zeroshot import ZeroShotClassifier
from zeroshot.embeddings.catalogue import catalogue_entry
from zeroshot.registry import resolve_embeddings, spec_of


def test_vectors_from_the_catalogue_are_saved_by_name(tmp_path, monkeypatch):
    file = catalogue_entry("glove.6B.50d").path
    file.parent.mkdir(parents=True)
    words, rows = ["cat", "dog", "emu"], np.eye(3, 50)
    lines = [
        f"{w} {' '.join(map(str, row))}" for w, row in zip(words, rows, strict=True)
    ]
    file.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("ZEROSHOT_OFFLINE", "1")
    vectors = resolve_embeddings("glove.6B.50d")
    assert spec_of(vectors) == "glove.6B.50d"

    X = np.random.default_rng(0).normal(size=(20, 8))
    clf = ZeroShotClassifier(None, "glove.6B.50d", projection="ridge")
    clf.fit(X, ["cat", "dog"] * 10).save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    candidates = ["cat", "emu", "dog"]
    np.testing.assert_array_equal(
        loaded.decision_function(X, candidates), clf.decision_function(X, candidates)
    )
