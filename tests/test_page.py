"""The page at /ui in a real browser, Chromium, as people use it."""

import csv
import shutil

import pytest
import requests
from playwright.sync_api import expect, sync_playwright
from service_runs import LABELS, served

from zeroshot import ZeroShotClassifier, load, make_shapes
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes
from zeroshot.serving.page import Opening

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
PHONE, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="THE PAGE IS NOT TESTED: no Chromium (Debian: apt-get install chromium)",
)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS.split()
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def classifier(model):
    return load(model).set_params(cache=False)


@pytest.fixture(scope="module")
def address(classifier):
    with served(classifier, name="shapes") as address:
        yield address


@pytest.fixture
def opened(browser):
    """Open the page; at the end nothing may have gone wrong in it."""
    contexts, wrong = [], []

    def opening(address, **settings):
        context = browser.new_context(**{"viewport": WIDE, **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("console", lambda m: wrong.append(m.text) if "Content" in m.text else 0)
        ours = (f"{address}/", f"blob:{address}/")
        page.on("request", lambda r: r.url.startswith(ours) or wrong.append(r.url))
        page.goto(f"{address}/ui")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert not wrong


def type_labels(page, *lines):
    page.get_by_role("textbox", name="Labels").fill("\n".join(lines))


def choose(page, *files):
    page.locator("#files").set_input_files(list(files))


def percent(share):
    return f"{100 * share:.{1 if 100 * share < 10 else 0}f} %"


def answers(card):
    names = card.locator(".ranked bdi").all_inner_texts()
    return list(zip(names, card.locator(".percent").all_inner_texts(), strict=True))


def test_page_names_a_picture_by_labels_that_are_typed(
    opened, address, classifier, red_star
):
    page = opened(address)
    type_labels(page, *LABELS)
    choose(page, red_star)
    card = page.locator(".card")
    expect(card.locator("h3")).to_have_text("red star")
    (expected,) = classifier.rank([str(red_star)], LABELS)
    assert [name for name, _ in answers(card)] == [best.label for best in expected]
    assert answers(card)[0][1] == percent(expected[0].probability)
    card.get_by_text("Why").click()
    (why,) = classifier.explain([str(red_star)], LABELS)
    nearest, cosine = why.nearest_seen[0]
    expect(card.locator(".nearest")).to_contain_text(f"{nearest} {cosine:.2f}")
    expect(card.locator(".why")).to_contain_text("the mean of \u201cred\u201d")


def test_page_without_labels_takes_the_model_s_own(
    opened, address, classifier, red_star
):
    page = opened(address)
    choose(page, red_star)
    (label,) = classifier.predict([str(red_star)])
    expect(page.locator("h3")).to_have_text(label)
    expect(page.locator("#labels-note")).to_contain_text("its own 8")


def test_page_tells_how_labels_are_understood_and_corrects_them(
    opened, address, red_star
):
    page = opened(address)
    choose(page, red_star)
    type_labels(page, "# colours", "ruby: red star", "blue rign", "red nothing", "ruby")
    told = page.locator("#understood")
    expect(told).to_contain_text("ruby by its other name, \u201cred\u201d + \u201cstar")
    expect(told).to_contain_text("red nothing unknown")
    expect(told).to_contain_text("ruby is there twice")
    expect(page.locator("h3")).to_have_text("ruby")  # the others do not keep us
    told.get_by_role("button", name="ring").click()
    expect(page.get_by_role("textbox", name="Labels")).to_have_value(
        "# colours\nruby: red star\nblue ring\nred nothing\nruby"
    )
    expect(page.locator(".ranked bdi")).to_have_count(2)


def test_page_says_none_of_these(opened, red_star):
    images, labels = make_shapes(1, random_state=0)
    words = Attributes(*shape_attributes())
    rejecting = ZeroShotClassifier("color-hog", words, reject="auto", cache=False)
    rejecting.fit(images[labels != "red star"], labels[labels != "red star"])
    opening = Opening("blue circle\ncyan cross", {"star.png": red_star.read_bytes()})
    with served(rejecting, opening=opening) as address:
        page = opened(address)
        expect(page.locator("h3")).to_have_text("none of these")
        expect(page.locator(".card .name")).to_contain_text("star.png")


def test_page_shows_names_as_they_are_and_runs_none(
    opened, address, red_star, tmp_path
):
    label = "<img src=x onerror=alert(1)>"
    named = shutil.copy(red_star, tmp_path / "<b>'\"&.png")
    page = opened(address)
    type_labels(
        page, f"{label}: red star", "</textarea><script>alert(2)</script>: ring"
    )
    choose(page, named)
    expect(page.locator("h3")).to_have_text(label)
    expect(page.locator(".card .name bdi")).to_have_text("<b>'\"&.png")
    expect(page.locator("img")).to_have_count(1)
    page.wait_for_timeout(100)


def test_page_judges_all_pictures_together(opened, address, classifier, photos):
    files = [sorted(folder.iterdir())[1] for folder in sorted(photos.iterdir())]
    page = opened(address)
    type_labels(page, *LABELS)
    choose(page, *files)
    page.get_by_label("Judge all pictures together").check()
    paths = [str(file) for file in files]
    best = [ranked[0] for ranked in classifier.rank(paths, LABELS, adapt=True)]
    shares = page.locator(".ranked li:first-child .percent")
    expect(shares).to_have_text([percent(one.probability) for one in best])
    expect(page.locator(".card h3")).to_have_text([one.label for one in best])


def test_page_gives_a_csv_that_no_spreadsheet_runs(
    opened, address, classifier, red_star
):
    page = opened(address)
    type_labels(page, "=1+1: red star", 'blue "ring", a: blue ring')
    choose(page, red_star)
    expect(page.locator("h3")).to_have_text("=1+1")
    with page.expect_download() as download:
        page.get_by_text("Download CSV").click()
    with open(download.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {"=1+1": ["red star"], 'blue "ring", a': ["blue ring"]}
    (expected,) = classifier.rank([str(red_star)], labels)
    assert [row["label"] for row in rows] == ["'=1+1", 'blue "ring", a']
    assert [float(row["score"]) for row in rows] == [best.score for best in expected]
    assert [row["rank"] for row in rows] == ["1", "2"]


DROPPED = """([kind, place, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true });
  document.querySelector(place).dispatchEvent(event);
}"""


def test_page_takes_pictures_that_are_dropped_and_pasted(opened, address, red_star):
    from base64 import b64encode

    page = opened(address)
    content = b64encode(red_star.read_bytes()).decode()
    page.evaluate(DROPPED, ["drop", "#drop", content])
    page.evaluate(DROPPED, ["paste", "#labels", content])
    expect(page.locator(".card .name bdi")).to_have_text(["drop.png", "paste.png"])
    expect(page.locator("#status")).to_have_text("2 pictures")


def test_page_takes_a_picture_with_the_camera(opened, address):
    page = opened(address, permissions=["camera"])
    page.get_by_text("Use the camera").click()
    page.wait_for_timeout(300)
    page.get_by_text("Take the picture").click()
    expect(page.locator(".card .name bdi")).to_contain_text("camera")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(page.locator(".ranked li").first).to_be_visible()


def press_tab_until(page, text):
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.locator(":focus").inner_text() == text:
            return
    raise AssertionError(f"no way to {text!r}")


def test_page_can_be_used_with_the_keyboard_alone(opened, address, red_star):
    page = opened(address)
    expect(page.locator("#labels-note")).not_to_be_empty()
    page.keyboard.press("Tab")
    page.keyboard.type("red star\nblue ring")
    with page.expect_file_chooser() as chooser:
        press_tab_until(page, "Choose files")
        page.keyboard.press("Enter")
    chooser.value.set_files(red_star)
    expect(page.locator("h3")).to_have_text("red star")
    press_tab_until(page, "Remove")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_in_light_and_dark(
    opened, address, red_star, scheme, tmp_path
):
    long = shutil.copy(red_star, tmp_path / ("very-long-name" * 15 + ".png"))
    page = opened(address, viewport=PHONE, color_scheme=scheme, has_touch=True)
    type_labels(page, *LABELS, f"{'x' * 90}: green ring")
    choose(page, long)
    expect(page.locator("h3")).to_have_text("red star")
    page.get_by_text("Why").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (color == "rgb(255, 255, 255)") == (scheme == "light")


def test_page_asks_for_a_key_where_one_is_needed(opened, classifier, red_star):
    with served(classifier, api_key="secret") as address:
        page = opened(address)
        page.get_by_label("This service needs a key").fill("secret")
        page.get_by_text("Use it").click()
        choose(page, red_star)
        expect(page.locator(".ranked li").first).to_be_visible()
        expect(page.locator("#problem")).to_be_hidden()


def test_page_tells_of_a_picture_that_cannot_be_read(
    opened, address, red_star, tmp_path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page = opened(address)
    choose(page, broken, red_star)
    expect(page.locator("h3").first).to_contain_text("Expected a readable image")
    expect(page.locator(".ranked li").first).to_be_visible()


def test_page_is_in_nobody_s_frame_and_loads_from_nowhere_else(address):
    answer = requests.get(f"{address}/", timeout=30)
    assert answer.url == f"{address}/ui/"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert requests.get(f"{address}/ui/../page.py", timeout=30).status_code == 404
    assert requests.get(f"{address}/ui/pictures/0", timeout=30).status_code == 404
