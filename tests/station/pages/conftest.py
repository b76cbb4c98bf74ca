"""A served station with a few results, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import FOUND
from serving import Served

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


@pytest.fixture(scope="session")
def defects(hazelnut: Path) -> list[Path]:
    return sorted((hazelnut / "test" / "colour").iterdir())


@pytest.fixture(scope="session")
def good(hazelnut: Path) -> list[Path]:
    return sorted((hazelnut / "test" / "good").iterdir())


@pytest.fixture(scope="module")
def served(tmp_path_factory, model_file, defects, good) -> Iterator[Served]:
    """With a model, one part that fails and one that passes."""
    served = Served(tmp_path_factory.mktemp("station"), (tmp_path_factory.mktemp("root"),))
    served.use(model_file)
    served.inspect(defects[0], "bad-1")
    served.inspect(good[0], "good-1")
    yield served
    served.stop()


@pytest.fixture(scope="session")
def browser():
    if FOUND is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=OPTIONS)
        yield browser
        browser.close()


class Page:
    """A page whose complaints are kept: whatever the browser writes to its console, and errors of scripts."""

    def __init__(self, browser, served: Served, *, width: int = 1440, dark: bool = False, **given) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=served.url, **given
        )
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.complaints = list[str]()
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture
def open_page(browser, served):
    """Opens a page in a browser of its own; whether it complains is looked at afterwards."""
    opened = list[Page]()

    def open_(path: str = "/", station: Served = served, who: dict | None = None, **given):
        one = Page(browser, station, **given)
        opened.append(one)
        one.context.add_cookies([who or station.person()])
        one.page.goto(path)
        one.page.complaints = one.complaints
        return one.page

    yield open_
    for one in opened:
        one.context.close()
