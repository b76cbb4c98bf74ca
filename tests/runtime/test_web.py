"""The page in a real browser: the same scores as the library, and no request to anywhere else."""

import functools
import hashlib
import json
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from chromium import FOUND, Chromium
from PIL import Image

WEB = Path(__file__).parents[2] / "runtime" / "web"

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
    pytest.mark.skipif(
        not (WEB / "node_modules" / "onnxruntime-web").is_dir(), reason="onnxruntime-web is not installed (make web)"
    ),
]

# Scores something in the page, with its own modules.
RUN = """(async () => {{
  const {{ load }} = await import('./score.mjs');
  const model = await load('model');
  const bytes = await (await fetch('{name}')).arrayBuffer();
  const {{ score, normalised, decision, map, height, width }} = await model.predict({image});
  return {{ score, normalised, decision, height, width, largest: map.reduce((a, b) => Math.max(a, b)) }};
}})().catch((error) => error.message)"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(exported_onnx, tmp_path_factory):
    """The folder that is served: the page, and a copy of an export under `model`."""
    site = tmp_path_factory.mktemp("site")
    for path in WEB.iterdir():
        (site / path.name).symlink_to(path)
    shutil.copytree(exported_onnx, site / "model")
    return site


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, address):
    browser.open(f"{address}index.html", 1200)
    until(browser, "!document.querySelector('input').disabled")
    return browser


def until(browser, condition):
    for _ in range(600):
        if browser.value(condition):
            return
        time.sleep(0.05)
    pytest.fail(f"not within 30 seconds: {condition}; the page says: {browser.value('document.body.innerText')}")


def score(page, name, image="new Blob([bytes])"):
    return page.value(RUN.format(name=name, image=image))


def same(got, expected):
    assert isinstance(got, dict), got
    assert got["score"] == pytest.approx(expected.score, rel=1e-4)
    assert got["normalised"] == pytest.approx(expected.normalised, rel=1e-4)
    assert got["decision"] == expected.decision
    assert (got["height"], got["width"]) == expected.map.shape
    assert got["largest"] == pytest.approx(expected.map.max(), rel=1e-4)


@pytest.mark.parametrize("name", ["train/good/00.jpg", "test/colour/00.jpg"])
@pytest.mark.parametrize("kind", ["RGB", "L", "P", "turned"])
def test_an_image_has_the_library_s_score(page, site, detector, hazelnut, name, kind):
    path = site / f"{kind}-{Path(name).parent.name}.png"  # a name of its own: the browser may keep what it has read
    with Image.open(hazelnut / name) as image:
        exif = Image.Exif()
        if kind == "turned":
            exif[0x0112] = 6
            image = image.resize((250, 180))
        image.convert("RGB" if kind == "turned" else kind).save(path, exif=exif)
    same(score(page, path.name), detector.predict(path))


def test_it_agrees_on_the_test_vectors(page, site, exported_onnx):
    vectors = exported_onnx / "vectors"
    for case in json.loads((vectors / "vectors.json").read_text("utf-8")):
        pixels = np.load(vectors / case["image"])[0]
        pixels.astype("<f4").tofile(site / f"{case['image']}.f32")
        height, width, channels = pixels.shape
        image = (
            f"{{values: new Float32Array(bytes), height: {height}, width: {width}, channels: {channels}, "
            f"type: '{pixels.dtype}'}}"
        )
        got = score(page, f"{case['image']}.f32", image)
        assert got["score"] == pytest.approx(case["expected"]["score"][0], rel=1e-4)
        assert got["decision"] == ("pass", "unsure", "fail")[case["expected"]["decision"][0]]
        expected = np.load(vectors / case["arrays"]["map"])[0]
        assert got["largest"] == pytest.approx(expected.max(), rel=1e-4)


def test_what_a_browser_would_score_otherwise_is_refused(page, site):
    grey = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    Image.fromarray(grey * 20).save(site / "deep.png")
    assert "a PNG of 16 bits, of which a browser keeps 8" in score(page, "deep.png")
    Image.fromarray(np.full((40, 60, 4), 100, np.uint8)).save(site / "glass.png")
    assert "an image with transparency" in score(page, "glass.png")
    (site / "cut.png").write_bytes((site / "deep.png").read_bytes()[:20] + bytes(20))
    assert "not an image that this browser can read" in score(page, "cut.png")
    (site / "letter.png").write_text("Dear")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(site / "moving.gif")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(site / "sheet.tiff")
    for name in ("letter.png", "moving.gif", "sheet.tiff"):
        assert score(page, name) == "not a PNG, JPEG, BMP or WebP image. Others, such as TIFF, are read by Python."
    for name, options in (("small.bmp", {}), ("small.webp", {"lossless": True}), ("small.jpg", {})):
        Image.fromarray(np.full((40, 60), 90, np.uint8)).convert("RGB").save(site / name, **options)
        assert score(page, name)["width"] == 60
    Image.new("L", (20_000, 5_001)).save(site / "large.png")
    assert score(page, "large.png") == "of 5001 x 20000 pixels; the limit is 100000000 in all."


def test_images_get_cards_and_nothing_is_asked_of_anywhere_else(page, address, hazelnut, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    images = [hazelnut / "train/good/00.jpg", hazelnut / "test/colour/00.jpg", tmp_path / "letter.txt"]
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="input")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in images])
    until(page, "document.querySelectorAll('figcaption').length === 3")
    classes = page.value("[...document.querySelectorAll('figure')].map((one) => one.className)")
    assert classes == ["pass", "fail", "unread"]
    captions = page.value("[...document.querySelectorAll('figcaption')].map((one) => one.innerText)")
    assert captions[0].startswith("pass 00.jpg: score ")
    assert captions[2].startswith("letter.txt: not a PNG, JPEG, BMP or WebP image.")
    canvas = page.value("(({width, height}) => [width, height])(document.querySelector('canvas'))")
    with Image.open(images[0]) as image:
        assert tuple(canvas) == image.size
    assert all(url.startswith(address) for url in page.requests())
    assert page.complaints() == []


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_file_that_was_altered_is_refused(page, site, name):
    altered = shutil.copytree(site / "model", site / f"altered-{name}")
    data = bytearray((altered / name).read_bytes())
    data[len(data) // 2] ^= 1
    (altered / name).write_bytes(data)
    assert f"{name}: altered or damaged (SHA-256)" in said(page, altered.name)


def said(page, folder, then="''"):
    """What loading a folder, and then something else, says."""
    return page.value(f"import('./score.mjs').then((m) => m.load('{folder}')).then((model) => {then})"
                      ".then(String, (error) => error.message)")  # fmt: skip


def test_images_of_another_size_than_the_only_one_are_refused(page, site):
    folder = shutil.copytree(site / "model", site / "static")
    manifest = json.loads((folder / "manifest.json").read_text())
    old = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "static": [40, 60]}))
    new = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text().replace(old, new))
    image = "{values: new Float32Array(40 * %d), height: 40, width: %d, channels: 1, type: 'uint8'}"
    predict = f"model.predict({image}).then((result) => result.width)"
    expected = "of 40 x 61 pixels; this model was exported for 40 x 60 only (--static)."
    assert said(page, "static", predict % (61, 61)) == expected
    assert said(page, "static", predict % (60, 60)) == "60"


def test_a_page_without_a_model_says_so(browser, address):
    browser.open(f"{address}index.html?model=elsewhere", 400)
    until(browser, "document.querySelector('#status').textContent.startsWith('No model: ')")
    assert "elsewhere/SHA256SUMS: 404" in browser.value("document.querySelector('#status').textContent")
    assert browser.value("document.querySelector('input').disabled")
