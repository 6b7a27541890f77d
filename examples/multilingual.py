# /// script
# requires-python = ">=3.11.4,<3.14"
# dependencies = ["zeroshot"]
# ///
"""Train with English labels, predict with German ones.

The word vectors of two languages can share one space: "Stern" lies where "star" lies.
fastText publishes such aligned files for 44 languages. Here two small ones are made,
with related words for the shapes that are drawn, so the example runs offline and in
seconds. With real files only the two paths change.
"""

import tempfile
from pathlib import Path

import numpy as np

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.datasets import shape_attributes

# German adjectives are inflected, "rot" but "roter Stern": labels must use word forms
# that the file has. Published files have them all; this one has the forms below.
GERMAN = {
    "red": ("rot", "roter", "rotes"),
    "green": ("grün", "grüner", "grünes"),
    "blue": ("blau", "blauer", "blaues"),
    "yellow": ("gelb", "gelber", "gelbes"),
    "circle": ("Kreis",),
    "square": ("Quadrat",),
    "triangle": ("Dreieck",),
    "star": ("Stern",),
    "ring": ("Ring",),
    "cross": ("Kreuz",),
}
# No image of these is trained on.
UNSEEN = {"red star": "roter Stern", "blue ring": "blauer Ring"}
UNSEEN |= {"green cross": "grünes Kreuz", "yellow circle": "gelber Kreis"}


def write_vectors(path: Path, vectors: dict[str, np.ndarray]) -> None:
    """Write a fastText .vec file: a header, then a word and its numbers a line."""
    lines = [f"{len(vectors)} {len(next(iter(vectors.values())))}"]
    for word, vector in vectors.items():
        lines.append(" ".join([word, *(f"{number:.4f}" for number in vector)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_aligned_files(folder: Path) -> tuple[Path, Path]:
    """Write an English and a German file; translations have nearly equal vectors."""
    rng = np.random.default_rng(0)
    words, attributes = shape_attributes()
    known = dict(zip(words, np.asarray(attributes), strict=True))
    # Spread over 50 numbers, as word vectors are: no number has a meaning of its own.
    rotation = rng.normal(size=(len(known["red"]), 50))
    english = {word: known[word] @ rotation for word in GERMAN}
    noise = 0.05 * np.std(list(english.values()))
    german = {
        form: english[word] + rng.normal(scale=noise, size=50)
        for word, forms in GERMAN.items()
        for form in forms
    }
    paths = folder / "wiki.en.align.vec", folder / "wiki.de.align.vec"
    for path, vectors in zip(paths, (english, german), strict=True):
        write_vectors(path, vectors)
    return paths


with tempfile.TemporaryDirectory() as folder:
    english, german = make_aligned_files(Path(folder))

    images, labels = make_shapes(
        10,
        colors=["red", "green", "blue", "yellow"],
        shapes=["circle", "square", "triangle", "star", "ring", "cross"],
    )
    unseen = np.isin(labels, list(UNSEEN))
    clf = ZeroShotClassifier("color-hog", english, random_state=0)
    clf.fit(images[~unseen], labels[~unseen])
    print(f"Trained on {len(clf.classes_)} English labels.")

    in_english = clf.predict(images[unseen], list(UNSEEN))
    in_german = clf.predict(images[unseen], list(UNSEEN.values()), embeddings=german)
    truth = labels[unseen]
    translated = np.array([UNSEEN[label] for label in truth])
    print(f"Right on unseen labels in English: {np.mean(in_english == truth):.2f}")
    print(f"Right on unseen labels in German:  {np.mean(in_german == translated):.2f}")
    for label in UNSEEN:
        image = images[labels == label][:1]
        best = clf.rank(image, list(UNSEEN.values()), k=1, embeddings=german)[0][0]
        print(f"  a {label:14} {best.label:14} {best.score:.3f}")
