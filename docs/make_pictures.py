"""Make the pictures of docs/gallery.md, and look at the report in a browser.

    ZEROSHOT_DATA=... python docs/make_pictures.py

Needs Chromium.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.cli.demo import run_demo
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.sorting import sort_images

IMAGES = Path(__file__).parent / "images"
# Of scikit-image's pictures those in the public domain or under CC0.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera")
LABELS = ["cat", "coffee", "rocket", "astronaut", "photographer"]
COLORS = 128  # of a PNG, which keeps it small


def main() -> None:
    """Write the pictures."""
    data = Path(os.environ["ZEROSHOT_DATA"])
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_demo(folder / "demo.png")
        shrink(folder / "demo.png", IMAGES / "demo.png")
        photographs = folder / "photographs"
        photographs.mkdir()
        for photograph in PHOTOGRAPHS:
            pixels = getattr(skimage.data, photograph)()
            Image.fromarray(pixels).save(photographs / f"{photograph}.jpg")
        vectors = str(data / "vectors" / "numberbatch-en-41k-300d.txt.gz")
        classifier = ZeroShotClassifier("mobilenet-v2", vectors).fit_pretrained()
        sort_images(classifier, photographs, folder / "sorted", LABELS)
        sheets = [Image.open(p) for p in sorted((folder / "sorted").glob("*.jpg"))]
        width, height = 330, sheets[0].height  # one picture on each
        together = Image.new("RGB", (3 * width, 2 * height), "white")
        for number, sheet in enumerate(sheets):
            place = number % 3 * width, number // 3 * height
            together.paste(sheet.crop((0, 0, width, height)), place)
        together.save(IMAGES / "sorted.jpg", quality=80)
        images, labels = make_shapes(6, random_state=0)
        report = evaluate(
            images,
            labels,
            backbone="color-hog",
            embeddings=Attributes(*shape_attributes()),
            n_splits=2,
        )
        report.save_html(folder / "report.html")
        screenshot(folder / "report.html", folder / "report.png")
        shrink(folder / "report.png", IMAGES / "report.png")


def shrink(picture: Path, target: Path) -> None:
    """Save a picture with few colours."""
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLORS).save(target, optimize=True)


def screenshot(page: Path, picture: Path) -> None:
    """Let a browser show a page and take a picture of its top."""
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--hide-scrollbars"),
            *("--window-size=1100,1500", f"--screenshot={picture}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    main()
