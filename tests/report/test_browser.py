"""A report in a real browser, of the sizes of a phone and of a desk, by day and by night."""

from dataclasses import replace

import pytest
from chromium import FOUND, Chromium

from patchcore.data.resolve import detect
from patchcore.measure.evaluation import evaluate
from patchcore.report import Sources, render, write

pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(detector, hazelnut, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "nuts & bolts #1.html"
    found = detect(hazelnut)
    sources = Sources.of(found, hazelnut)
    write(path, render(detector, evaluate(detector, found.test), title="nuts.patchcore on hazelnut", sources=sources))
    return path


def columns(browser, selector):
    """How many columns the first grid of a class has."""
    return browser.value(
        f"getComputedStyle(document.querySelector('{selector}')).gridTemplateColumns.split(' ').length"
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_alone_fits_and_complains_of_nothing(browser, report, width, dark, tmp_path):
    browser.open(report, width, dark=dark)
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.complaints() == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("innerWidth") == width
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 50)")
    # The image, its map, a patch and the good one; of an image that fails up to three pairs of patches.
    assert browser.value("document.images.length") == report.read_text("utf-8").count("<img ")
    assert browser.value("Math.min(...[...document.querySelectorAll('.views')].map(v => v.children.length))") >= 4
    assert browser.value("Math.max(...[...document.querySelectorAll('.views')].map(v => v.children.length))") == 8
    assert columns(browser, ".views") == (1 if width < 600 else 4)
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)")
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 100_000


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_cut_on_a_phone_not_even_beside_long_words(browser, detector, hazelnut, width, tmp_path):
    found = [replace(s, kind=s.kind if s.kind == "good" else "scratched_" * 9) for s in detect(hazelnut).test]
    write(tmp_path / "page.html", render(detector, evaluate(detector, found), title="a" * 90, data="b" * 90))
    browser.open(tmp_path / "page.html", width)
    assert browser.value("document.documentElement.scrollWidth") == width
    cut = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert browser.value(f"{cut}.map(e => e.outerHTML.slice(0, 80))") == []
    assert browser.value("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    values = "[...document.querySelectorAll('.kinds td')].map(e => e.innerText)"
    names = "[...document.querySelectorAll('.kinds td')].slice(0, 7).map(e => getComputedStyle(e, '::before').content)"
    assert len(browser.value(values)) == 2 * 7
    assert browser.value(names) == [
        f'"{name}"' for name in ("images", "pass", "unsure", "fail", "right", "median score", "AUROC")
    ]


def test_a_number_and_its_percent_sign_stay_on_one_line(browser, report):
    browser.open(report, 390)
    lonely = "[...document.querySelectorAll('p, td, dd, figcaption')].map(e => e.textContent).filter(t => / %/.test(t))"
    assert browser.value(lonely) == []


CONTRAST = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const ground = e => { while (e) { const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c; e = e.parentElement } return 'rgb(255, 255, 255)' };
  let least = 99;
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(e);
    const a = light(e.closest('svg') ? style.fill : style.color), b = light(ground(e));
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_the_contrast_that_wcag_asks_for(browser, report, dark):
    browser.open(report, 1280, dark=dark)
    assert browser.value(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3


def test_text_in_charts_is_large_enough_on_a_phone(browser, report):
    browser.open(report, 390)
    heights = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    assert browser.value(f"Math.min(...{heights}.filter(h => h > 0))") > 8


def test_text_of_a_chart_stays_inside_it(browser, report):
    browser.open(report, 1280)
    outside = """[...document.querySelectorAll('svg')].flatMap(s => { const o = s.getBoundingClientRect();
      return [...s.querySelectorAll('text')].filter(t => { const i = t.getBoundingClientRect();
        return i.left < o.left - 1 || i.right > o.right + 1 || i.top < o.top - 1 || i.bottom > o.bottom + 1 })
        .map(t => t.textContent) })"""
    assert browser.value(outside) == []


def test_a_page_that_loads_something_would_be_caught(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<link rel=icon href='data:,'><img src='missing.png'><script>console.error('no')</script>", "utf-8")
    browser.open(path, 390)
    assert browser.requests() == [path.resolve().as_uri(), (tmp_path / "missing.png").resolve().as_uri()]
    assert len(browser.complaints()) == 2
