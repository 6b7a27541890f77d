"""Make the pictures of docs/, and look at the report and the page in a browser.

    ZEROSHOT_DATA=... python docs/make_pictures.py

Needs Chromium.
"""

import io
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import skimage.data
import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from zeroshot import ZeroShotClassifier, evaluate, make_shapes
from zeroshot.cli.demo import run_demo
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.serving import create_app
from zeroshot.serving.page import Opening
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
        show_page(classifier.set_params(reject=-0.08), photographs, folder / "page.png")
        shrink(folder / "page.png", IMAGES / "page.png")
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


def show_page(classifier: ZeroShotClassifier, photographs: Path, picture: Path) -> None:
    """Serve a classifier, and take a picture of its page with some photographs."""
    pictures = {}
    for file in sorted(photographs.iterdir()):
        content = io.BytesIO()
        Image.open(file).convert("RGB").resize((360, 360)).save(content, "PNG")
        pictures[file.name] = content.getvalue()
    labels = "\n".join([LABELS[0], *LABELS[2:-1], "my uncle: photographer"])
    app = create_app(classifier, opening=Opening(labels, pictures))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.1)
    port = server.servers[0].sockets[0].getsockname()[1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"]
        )
        shown = browser.new_page(viewport={"width": 1240, "height": 830})
        shown.goto(f"http://127.0.0.1:{port}/ui/")
        shown.locator(".card:last-child .ranked li").first.wait_for()
        shown.wait_for_timeout(2000)
        shown.screenshot(path=picture)
        browser.close()
    server.should_exit = True
    thread.join()


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
