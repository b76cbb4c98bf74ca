"""What a page shows when the station goes and comes back. Times here are what is promised, not what was measured."""

import time
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from serving import Served

from patchcore.station.store.tables import Inspection, now


@pytest.fixture
def restarted(tmp_path, model_file, defects):
    served = Served(tmp_path)
    served.use(model_file)
    served.inspect(defects[0], "before")
    yield served
    served.stop()


def test_an_old_verdict_is_never_shown_as_the_present_one(open_page, restarted, good):
    page = open_page("/inspect", station=restarted)
    panel = page.locator("#panel")
    expect(panel).to_have_attribute("data-state", "live")
    expect(page.locator("#word")).to_have_text("FAIL")
    page.evaluate("""() => {
        const panel = document.getElementById("panel");
        const look = () => panel.dataset.state === "stale" && (window.stale ??= Date.now());
        new MutationObserver(look).observe(panel, {attributes: true});
    }""")
    gone = time.time()
    restarted.stop()
    expect(panel).to_have_attribute("data-state", "stale")
    assert page.evaluate("window.stale") / 1000 - gone < 3 + 1  # 1: the server itself, which lets requests end
    expect(page.locator("#word")).to_have_text("No connection")
    expect(page.locator("#told")).to_contain_text("No connection since")
    expect(panel).to_have_attribute("data-verdict", "none")
    expect(page.locator("#link-state")).to_contain_text("No connection since")

    restarted.begin()
    expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
    expect(page.locator("#word")).to_have_text("FAIL")
    restarted.inspect(good[0], "after")
    expect(page.locator("#told")).to_have_text("after")
    expect(page.locator("#word")).to_have_text("PASS")
    assert page.locator("#thumbs li").count() == 2


def test_a_part_of_some_time_ago_is_called_the_last_one(open_page, restarted):
    with restarted.station.database.begin() as session:
        session.query(Inspection).update({"time": now() - timedelta(minutes=10)})
    page = open_page("/inspect", station=restarted)
    expect(page.locator("#panel")).to_have_attribute("data-state", "old")
    expect(page.locator("#told")).to_have_text("before · Last part, 10 min ago")
