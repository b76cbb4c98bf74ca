"""The page of a report: what it says, and what it never does."""

import base64
import io
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchcore import DataError, Detector, ImageError, StoreError
from patchcore.data.resolve import detect
from patchcore.data.sample import Sample
from patchcore.measure.evaluation import evaluate
from patchcore.report import Sources, render, write

VOID = {"meta", "link", "img", "br", "rect", "line", "path", "polyline"}


class Page(HTMLParser):
    """The elements of a page, each as (name, attributes, text inside it)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self._open = [], []
        self.feed(html)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        assert len(element[1]) == len(attributes)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag):
        return [element for element in self.elements if element[0] == tag]

    def names(self):
        """The headings of the cards."""
        return [element for element in self.all("h3") if element[1].get("class") == "name"]

    def text(self):
        return " ".join(self.all("body")[0][2].split())

    def rows(self, caption):
        """The cells of the table whose caption begins so, by row."""
        found = []
        inside = False
        for tag, _, text in self.elements:
            if tag == "table":
                inside = False
            if tag == "caption":
                inside = text.startswith(caption)
            elif inside and tag == "tr":
                found.append([])
            elif inside and tag in ("th", "td"):
                found[-1].append(" ".join(text.split()))
        return found


@pytest.fixture(scope="module")
def samples(hazelnut):
    return detect(hazelnut).test


@pytest.fixture(scope="module")
def evaluation(detector, samples):
    return evaluate(detector, samples)


@pytest.fixture(scope="module")
def sources(hazelnut):
    return Sources.of(detect(hazelnut), hazelnut)


@pytest.fixture(scope="module")
def html(detector, evaluation, sources):
    return render(detector, evaluation, title="Nuts", sources=sources)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))


def test_the_page_holds_the_figures_of_the_evaluation(page, evaluation):
    names = {
        "Image AUROC": "image_auroc",
        "Average precision": "image_ap",
        "Best F1, in hindsight": "image_f1_max",
        "Pixel AUROC": "pixel_auroc",
        "Best pixel F1, in hindsight": "pixel_f1_max",
        "AUPRO up to 0.3": "aupro_30",
        "AUPRO up to 0.05": "aupro_05",
    }
    shown = dict(zip([e[2] for e in page.all("dt")], [e[2] for e in page.all("dd")], strict=True))
    for label, key in names.items():
        assert float(shown[label]) == pytest.approx(evaluation.metrics[key], abs=5e-5)
    assert shown["Images"] == "7"


def test_the_tables_count_verdicts_by_class_and_by_kind(page, evaluation):
    rejected = evaluation.confusion()["good"]["fail"]
    (_, *rows) = page.rows("Confusion")
    assert [row[0] for row in rows] == ["good", "defective"]
    assert [int(re.match(r"\d+", cell)[0]) for cell in rows[0][1:]] == [3 - rejected, 0, rejected]
    assert [int(re.match(r"\d+", cell)[0]) for cell in rows[1][1:]] == [0, 0, 4]
    (_, good, colour) = page.rows("By kind")
    assert good[:5] == ["good", "3", str(3 - rejected), "0", str(rejected)]
    assert good[7] == "\N{EN DASH}"
    assert colour[:6] == ["colour", "4", "0", "0", "4", "100 %"]
    scores = [r.score for s, r in evaluation.results if s.kind == "colour"]
    assert float(colour[6]) == pytest.approx(np.median(scores), rel=1e-3)
    assert colour[7] == "1.0000"


def test_the_page_names_the_detector(page, detector, html):
    text = page.text()
    assert detector.fitted.fingerprint in text
    assert f"{len(detector.fitted.members[0].bank.rows)} patches of 272 values" in text
    recipe = dict(page.rows("Every choice"))
    assert recipe["size"] == "128"
    assert set(recipe) == set(detector.recipe.to_dict())
    assert "a" * 64 in render(detector, evaluate_one(detector), sha256="a" * 64)


def evaluate_one(detector):
    rng = np.random.default_rng(0)
    return evaluate(detector, [Sample("noise", rng.integers(0, 255, (64, 64, 3), np.uint8), "noise")])


def test_there_is_nothing_to_load_and_nothing_to_run(page, html):
    assert not page.all("script")
    assert not [a for _, attributes, _ in page.elements for a in attributes if a.startswith("on")]
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    style = page.all("style")[0][2]
    assert "@import" not in style
    assert re.findall(r"url\((.*?)\)", style) == ["#hatch"]
    (policy,) = (e[1]["content"] for e in page.all("meta") if "http-equiv" in e[1])
    assert policy.startswith("default-src 'none'")


def test_it_can_be_read_by_a_screen_reader(page):
    assert page.all("html")[0][1]["lang"] == "en"
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for image in page.all("img"):
        assert len(image[1]["alt"]) > 10
    for drawing in page.all("svg"):
        assert drawing[1]["role"] == "img"
        assert len(drawing[1]["aria-label"]) > 20
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all("scope" in element[1] for element in page.all("th"))
    identifiers = [e[1]["id"] for e in page.elements if "id" in e[1]]
    assert len(identifiers) == len(set(identifiers))
    targets = [e[1]["href"][1:] for e in page.all("a")]
    assert set(targets) <= set(identifiers)
    assert all(e[1].get("aria-labelledby", "summary-h") in identifiers for e in page.elements)


def test_no_verdict_is_told_by_colour_alone(page, evaluation):
    badges = [" ".join(e[2].split()) for e in page.all("span") if e[1].get("class") == "badge"]
    rejected = evaluation.confusion()["good"]["fail"]
    assert badges == ["✓ found"] * 4 + ["▲ false alarm"] * rejected + ["✓ passed"] * (3 - rejected)
    marked = [e for e in page.all("li") if e[1].get("class") == "is-wrong"]
    assert len(marked) == rejected


def test_galleries_begin_with_the_worst(page, evaluation):
    names = [e[2] for e in page.names()]
    defective = sorted((r.score, r.name) for s, r in evaluation.results if s.kind != "good")
    good = sorted(((r.score, r.name) for s, r in evaluation.results if s.kind == "good"), reverse=True)
    assert names == [name for _, name in (*defective, *good)]


def test_a_missed_defect_is_marked(detector, evaluation):
    results = [(s, replace(r, score=0.5 * r.threshold) if s.name == "test/colour/02.jpg" else r)
               for s, r in evaluation.results]  # fmt: skip
    page = Page(render(detector, replace(evaluation, results=results)))
    first = page.all("li")[7]  # after the links
    assert first[1]["class"] == "is-wrong"
    assert "test/colour/02.jpg" in first[2]
    assert "▼ missed" in first[2]
    assert "Missed defects: 1 of 4 (25 %; 95 % confidence: 4.56 % to 69.9 %)." in page.text()


def test_heat_maps_are_the_library_s_overlays_on_its_fixed_scale(page, evaluation):
    shown = {e[1]["alt"]: decoded(e[1]["src"]) for e in page.all("img")}
    for _, result in evaluation.results:
        (shown_map,) = (image for alt, image in shown.items() if alt.startswith(f"Heat map of {result.name}:"))
        expected = result.overlay()
        expected.thumbnail((320, 320), Image.Resampling.LANCZOS)
        assert shown_map.size == expected.size == (320, 320)
        assert np.abs(np.asarray(shown_map, float) - np.asarray(expected, float)).mean() < 4


def test_a_defect_s_mask_is_outlined_in_its_image(page):
    captions = [e[2] for e in page.all("figcaption")]
    assert captions.count("Image, labelled defect outlined") == 4
    assert captions.count("Image") == 3


def test_the_page_stays_small(detector, evaluation, sources):
    large = len(render(detector, evaluation, sources=sources, limit=24))
    assert large < 1_500_000
    none = render(detector, evaluation, sources=sources, limit=0)
    assert len(none) < 100_000
    assert not Page(none).names()


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7*7 }}.jpg'


def test_names_from_outside_are_text(detector, samples):
    hostile = [replace(samples[0], name=HOSTILE, kind=HOSTILE), *samples[1:3], replace(samples[-1], name=HOSTILE)]
    bad = [ImageError(HOSTILE, HOSTILE)]
    html = render(detector, evaluate(detector, hostile), title=HOSTILE, data=HOSTILE, made=HOSTILE, bad=bad)
    page = Page(html)
    assert not page.all("script")
    assert not [a for _, attributes, _ in page.elements for a in attributes if a.startswith("on")]
    assert all(e[1]["src"].startswith("data:image/jpeg;base64,") for e in page.all("img"))
    assert page.all("h1")[0][2] == HOSTILE
    assert [e[2] for e in page.names()].count(HOSTILE) == 2
    assert page.rows("By kind")[-1][0] == HOSTILE or page.rows("By kind")[-2][0] == HOSTILE
    assert f"The image {HOSTILE}" in "".join(e[1]["alt"] for e in page.all("img"))


def test_a_name_that_is_no_text_can_be_written(detector, samples, tmp_path):
    name = os.fsdecode(b"nut\xff.jpg")
    write(tmp_path / "r.html", render(detector, evaluate(detector, [replace(samples[0], name=name)])))
    assert "nut?.jpg" in (tmp_path / "r.html").read_text("utf-8")


def test_without_defects_there_are_no_curves_and_it_says_why(detector, samples):
    page = Page(render(detector, evaluate(detector, [s for s in samples if s.kind == "good"])))
    assert "No image metrics: they need good and defective images" in page.text()
    assert "No pixel metrics: they need defective images with masks." in page.text()
    assert "There are no defective images." in page.text()
    assert "Missed defects: none of this kind." in page.text()
    assert len(page.all("svg")) == 1
    assert not page.all("polyline")


def test_defects_alone_are_reported_too(detector, samples):
    page = Page(render(detector, evaluate(detector, [s for s in samples if s.kind != "good"])))
    assert "There are no good images." in page.text()
    assert [e[1]["aria-label"][:4] for e in page.all("svg")] == ["Hist", "PRO:"]


def test_without_masks_there_is_no_pro_curve_and_it_says_why(detector, samples):
    page = Page(render(detector, evaluate(detector, [replace(s, mask=None) for s in samples])))
    assert "No pixel metrics: they need a mask for every defective image; 0 of 4 have one." in page.text()
    assert [e[1]["aria-label"].split(":")[0].split(".")[0] for e in page.all("svg")] == [
        "Histogram of image scores",
        "ROC",
        "Precision and recall",
    ]


def test_without_a_threshold_everything_is_unsure_and_it_says_why(hazelnut, small_recipe, samples):
    detector = Detector(small_recipe.replace(calibration_share=0)).fit(hazelnut / "train/good", limit=2)
    html = render(detector, evaluate(detector, samples))
    page = Page(html)
    assert "There is no threshold, so every verdict is unsure." in page.text()
    assert "No good image was left to set a threshold with" in page.text()
    assert {" ".join(e[2].split()) for e in page.all("span") if e[1].get("class") == "badge"} == {"? unsure"}
    assert "no scale for a heat map" in page.text()
    assert not [e for e in page.all("path") if e[1].get("class") == "marker"]
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html).lower()


def test_images_that_could_not_be_read_are_listed(detector, evaluation):
    bad = [ImageError(f"{number}.png", "an empty file") for number in range(501)]
    text = Page(render(detector, evaluation, limit=0, bad=bad)).text()
    assert "501 images could not be read" in text
    assert "0.png: an empty file" in text
    assert "500.png" not in text
    assert "And 1 more." in text


def test_nothing_measured_is_an_error(detector, evaluation):
    with pytest.raises(DataError, match="no labelled image could be read"):
        render(detector, replace(evaluation, results=[]))


def test_an_image_that_has_gone_since_is_said(detector, samples, tmp_path):
    path = tmp_path / "nut.jpg"
    path.write_bytes(Path(samples[0].image).read_bytes())
    evaluation = evaluate(detector, [Sample("nut", path, "colour")])
    path.unlink()
    assert "It can no longer be read" in Page(render(detector, evaluation)).text()


def test_a_crop_is_said(detector, evaluation):
    assert "as little as 64 % of an image" in Page(render(detector, replace(evaluation, coverage=0.64), limit=0)).text()


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(path, "before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"report\.html: cannot be written \(No space left on device\)"):
        write(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreError, match="does not exist"):
        write(tmp_path / "nowhere" / "report.html", "")


def test_the_curves_are_those_of_the_scores(page, detector, evaluation):
    # Back from the drawing to rates; every point of the ROC must be a count of images over a threshold.
    (roc,) = (e for e in page.all("svg") if e[1]["aria-label"].startswith("ROC"))
    lines = page.elements[page.elements.index(roc) :]
    points = next(e[1]["points"] for e in lines if e[1].get("class") == "curve")
    drawn = {tuple(float(v) for v in point.split(",")) for point in points.split()}
    good = np.array([r.score for s, r in evaluation.results if s.kind == "good"])
    bad = np.array([r.score for s, r in evaluation.results if s.kind != "good"])
    limits = [math.inf, *good, *bad]
    expected = {
        (round(46 + 280 * (good >= t).mean(), 1), round(260 - 238 * (bad >= t).mean(), 1)) for t in limits
    }  # the plot is 280 by 238 units, its corner at (46, 260)
    assert drawn <= expected
    assert {(46, 260), (46, 22), (326, 22)} <= drawn
    marker = next(e[1]["d"] for e in lines if e[1].get("class") == "marker")
    x, y = (float(v) for v in re.match(r"M([\d.]+) ([\d.]+)l", marker).groups())
    threshold = detector.fitted.calibration.threshold
    assert x == pytest.approx(46 + 280 * (good > threshold).mean())
    assert y + 7 == pytest.approx(260 - 238 * (bad > threshold).mean())
